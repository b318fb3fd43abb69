# SPDX-License-Identifier: Apache-2.0
"""Faults: each is injected into `weir run` under load, and three things must hold: nothing reaches the canary, what is
allowed is served again within the bound, and what was refused has a record or an exact count.

The quick form injects each some times; --long goes on for an hour in all, and `t.turns(SHARE)` says how much of it is whose.
"""
import contextlib
import json
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import time

from frame import CODE, HERE, Leak, need, row, want
from harness import external_service
from lab import DENIED4, DENIED6, ECHO_PORT, OTHER4, TOOLS4, UID, WIKIPEDIA4, wait_until
from rows_names import ask, name_hosts
from rows_policy import HAMMER, established, inside_pids, weir_pids

RECOVERS = 5  # seconds, for every bound on recovery: far above what is measured, far below what a person would wait


@contextlib.contextmanager
def load(t, *hosts, options=("-q",), word="load"):
    """A workload that tries the canary and an allowed address all the time; gives the process of Weir."""
    process = t.start_inside(["python3", "-c", HAMMER + "# " + word, ",".join((DENIED4, DENIED6, *hosts)), "443"], options=options)
    need(process.stdout.readline() == "up\n", "the load did not start")
    with t.silent():
        yield process
    process.kill()
    process.wait()
    need(wait_until(lambda: not inside_pids(t, word), RECOVERS), "the load does not end")


def grows(t, host, what, seconds=RECOVERS):
    seen = t.lab.packets(host)
    want(wait_until(lambda: t.lab.packets(host) > seen, seconds), what)


LIMITS = {"as": "Max address space", "nofile": "Max open files"}


def limits(pid, kind):
    """(soft, hard) as the kernel tells them: numbers, or "unlimited"."""
    line = next(line for line in pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith(LIMITS[kind]))
    return line[len(LIMITS[kind]):].split()[:2]


def limit(t, pid, kind, soft):
    """By the user, who may do so with processes of their own."""
    done = t.outside(["prlimit", "--pid", pid, f"--{kind}={soft}:"])
    need(done.returncode == 0, done.stderr)


def raised(pid):
    """Whether it is on its way: the limit is raised before the last of its own descriptors is opened."""
    def has_all():
        with contextlib.suppress(OSError):
            return any("signalfd" in os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
        return False
    return wait_until(has_all, 5)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def processor_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@row("F1", "The supervisor is killed, again and again, under load", gates=["SUPERVISOR_DEATH"])
def killed(t):
    """The workload ends with it; the next run starts clean and serves at once."""
    for turn in t.turns(3, 0.15):
        with load(t, WIKIPEDIA4, word=f"turn-{turn}"):
            os.kill(weir_pids(t)[0], signal.SIGKILL)
            want(wait_until(lambda turn=turn: not inside_pids(t, f"turn-{turn}"), RECOVERS), "the workload outlives its supervisor")
        began = time.monotonic()
        t.works()
        want(time.monotonic() - began < RECOVERS, "the next run is not there in time")


@row("F2", "The supervisor hangs", gates=["NETWORK_NAMESPACE"])
def hangs(t):
    """Stopped: nothing is dialled and no byte moves. It goes on where it was."""
    for _ in t.turns(2, 0.05):
        with load(t, WIKIPEDIA4):
            pid = weir_pids(t)[0]
            grows(t, WIKIPEDIA4, "the load reaches nothing")
            os.kill(pid, signal.SIGSTOP)
            settled = [-1]

            def still(settled=settled):
                last, settled[0] = settled[0], t.lab.packets(WIKIPEDIA4)
                time.sleep(0.1)
                return last == t.lab.packets(WIKIPEDIA4)
            want(wait_until(still, RECOVERS), "bytes move although Weir is stopped")
            os.kill(pid, signal.SIGCONT)
            grows(t, WIKIPEDIA4, "it does not go on")


@row("F3", "No memory is left", plain=True, gates=["NETWORK_NAMESPACE"])
def no_memory(t):
    """The address space of the supervisor may not grow; thousands of connections ask for more. What finds no room is
    refused; when there is memory again all is served."""
    t.allow(OTHER4 + "/32", port=ECHO_PORT, name="echo")
    with load(t, WIKIPEDIA4) as process:
        pid = weir_pids(t)[0]
        size = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
        limit(t, pid, "as", size)
        hold = t.start_inside(["python3", "-c", MANY, OTHER4, str(ECHO_PORT), "500"], options=["-q"], stdin=-1)
        need(hold.stdout.readline().startswith("open"), "the second load did not start")
        time.sleep(0.5)
        need(process.poll() is None, "Weir ended for want of memory")
        limit(t, pid, "as", "unlimited")
        grows(t, WIKIPEDIA4, "it does not recover")
        hold.kill()


# Opens N connections at once and says how many came about; each line of input asks how many still answer.
MANY = """
import socket, sys
host, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
flows = []
for _ in range(n):
    sock = socket.socket()
    sock.settimeout(20)
    try:
        sock.connect((host, port))
        flows.append(sock)
    except OSError:
        sock.close()
print("open", len(flows), flush=True)
for line in sys.stdin:
    alive = 0
    for sock in flows:
        try:
            sock.sendall(b"x")
            alive += sock.recv(1) == b"x"
        except OSError:
            pass
    print("alive", alive, flush=True)
"""


@row("F4", "No descriptor is left", gates=["NETWORK_NAMESPACE"])
def no_descriptors(t):
    """64 descriptors, 300 connections: no spinning, refusals by that reason, and all is served when there are some again."""
    t.allow(OTHER4 + "/32", port=ECHO_PORT, name="echo")
    process = t.start_inside(["python3", "-c", "import sys\nsys.stdin.readline()\n" + MANY, OTHER4, str(ECHO_PORT), "300"], options=["-q"], stdin=-1)
    need(wait_until(lambda: weir_pids(t), 5), "it did not start")
    need(wait_until(lambda: len(weir_pids(t)) == 2, 5), "it did not start")
    pid = weir_pids(t)[0]
    need(raised(pid), "the limit is not raised")
    with t.silent():
        limit(t, pid, "nofile", 64)
        process.stdin.write("go\n")
        process.stdin.flush()
        need(process.stdout.readline().startswith("open"), "the connections were not tried")
        used, began = processor_seconds(pid), time.monotonic()
        time.sleep(1)
        share = (processor_seconds(pid) - used) / (time.monotonic() - began)
        want(share < 0.5, f"it spins: {share:.0%} of a processor while it waits for descriptors")
        want(descriptors(pid) <= 64, "it has more than it may")
        limit(t, pid, "nofile", limits(pid, "nofile")[1])
        process.stdin.write("?\n")
        process.stdin.flush()
        said = process.stdout.readline()
        want(int(said.split()[1]) > 20, f"it does not recover: {said}")
        process.stdin.close()
        process.wait(30)
    need(wait_until(lambda: any(record["reason"] in ("limit_memory", "finished") for record in t.records()), RECOVERS), "nothing was recorded")


@row("F5", "No local port is left", gates=["NETWORK_NAMESPACE"])
def no_ports(t):
    """30 local ports on the host, 60 connections to one destination: the rest is refused by that reason and goes nowhere
    else; a port that comes free is used."""
    t.allow(OTHER4 + "/32", port=ECHO_PORT, name="echo")
    before = t.outside(["sysctl", "-n", "net.ipv4.ip_local_port_range"]).stdout.split()
    try:
        t.outside(["sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40029"], as_root=True)
        with t.silent():
            process = t.start_inside(["python3", "-c", MANY, OTHER4, str(ECHO_PORT), "60"], options=["-q"], stdin=-1)
            need(process.stdout.readline().startswith("open"), "the connections were not tried")
            process.stdin.write("?\n")
            process.stdin.flush()
            alive = int(process.stdout.readline().split()[1])
            want(0 < alive <= 30, f"{alive} of 60 connections over 30 ports")
            need(any(record["reason"] == "limit_memory" for record in t.records()), f"no record says why: {t.records()[-1:]}")
            process.stdin.close()
            process.wait(30)
    finally:
        t.outside(["sysctl", "-qw", "net.ipv4.ip_local_port_range=" + " ".join(before)], as_root=True)
    done = t.inside(["python3", "-c", MANY, OTHER4, str(ECHO_PORT), "60"], stdin=subprocess.DEVNULL)
    want(done.stdout == "open 60\n", "it does not recover: " + done.stdout)


DRIP = """
import socket, struct, sys, time
host, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
flows = []
for i in range(n):
    sock = socket.create_connection((host, port), 20)
    flows.append(sock)
slow = []
for i in range(40):
    sock = socket.create_connection(("10.77.0.53", 53), 5)
    sock.send(b"\\x01")
    slow.append(sock)
print("up", flush=True)
while True:
    for sock in flows + slow:
        try:
            sock.send(b"\\x01")
        except OSError:
            pass
    time.sleep(1)
"""


@row("F6", "Connections that send a byte a second, also to the resolver", gates=["REDIRECT_RULES"])
def slowly(t):
    """500 of them hold up nobody else: a new connection is served, a name is answered."""
    t.allow(OTHER4 + "/32", port=ECHO_PORT, name="echo")
    script = DRIP.replace("print(\"up\", flush=True)", "print(\"up\", flush=True)\nimport subprocess\nfor argv in "
                          f"({CODE + [f'https://{WIKIPEDIA4}/wiki/Main_Page']!r}, ['getent', 'hosts', 'www.wikipedia.org']):\n"
                          "    print(subprocess.run(argv, capture_output=True, text=True, timeout=20).stdout.strip() or 'nothing', flush=True)")
    with t.silent():
        process = t.start_inside(["python3", "-c", script, OTHER4, str(ECHO_PORT), "500" if not t.long else "5000"], options=["-q"])
        need(process.stdout.readline() == "up\n", "the load did not start")
        want(process.stdout.readline() == "200\n", "a new connection is not served beside them")
        want("wikipedia" in process.stdout.readline(), "a name is not answered beside them")
        process.kill()


EXACT = """
import hashlib, os, random, socket, sys, threading
host, port, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
def whole(size, slow):
    data = os.urandom(size)
    sock = socket.create_connection((host, port), 20)
    def push():
        at = 0
        while at < size:
            n = chance.choice((1, 7, 1000, 65536, 300000))
            sock.sendall(data[at:at + n])
            at += n
        sock.shutdown(socket.SHUT_WR)
    threading.Thread(target=push, daemon=True).start()
    got = hashlib.sha256()
    while True:
        part = sock.recv(4096 if slow else 262144)
        if not part:
            break
        got.update(part)
    return got.digest() == hashlib.sha256(data).digest()
def broken(size):
    sock = socket.create_connection((host, port), 20)
    if size:
        sock.sendall(b"x" * size)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    sock.close()
good = sum(whole(size, slow) for size, slow in ((0, False), (1, False), (65536, False), (1 << 20, True), (3 << 20, False), (5000000, True)))
for size in (0, 1, 100, 65536, 1 << 20):
    broken(size)
print("exact", good, flush=True)
sys.stdin.readline()
"""


@row("F7", "Slow readers, half-closed and reset connections in every state", gates=["REDIRECT_RULES"])
def states(t):
    """Each byte arrives, in both directions, after half a close too; no descriptor is left behind."""
    t.allow(OTHER4 + "/32", port=ECHO_PORT, name="echo")
    for turn in t.turns(2, 0.1):
        with t.silent():
            process = t.start_inside(["python3", "-c", EXACT, OTHER4, str(ECHO_PORT), str(turn)], options=["-q"], stdin=-1)
            said = process.stdout.readline()
            want(said == "exact 6\n", f"of 6 streams: {said!r} {t.records()[-1:] if not said else ''}")
            pid = weir_pids(t)[0]
            want(wait_until(lambda pid=pid: descriptors(pid) < 40, RECOVERS), f"{descriptors(pid)} descriptors are left")
            process.stdin.close()
            process.wait(20)


FLOOD = """
import socket, sys, threading, time
def flood(host, port):
    while True:
        with socket.socket(10 if ":" in host else 2) as sock:
            sock.setblocking(False)
            try:
                sock.connect((host, port))
            except OSError:
                pass
for host in sys.argv[1].split(","):
    for _ in range(4):
        threading.Thread(target=flood, args=(host, 443), daemon=True).start()
print("up", flush=True)
time.sleep(float(sys.argv[2]))
"""


@row("F8", "A flood of connections from one workload", gates=["NETWORK_NAMESPACE"])
def flooded(t):
    """Another workload beside it is served meanwhile; afterwards nothing is left of it."""
    with t.silent():
        flood = t.start_inside(["python3", "-c", FLOOD, f"{DENIED4},{DENIED6}", "60"], options=["-q"])
        need(flood.stdout.readline() == "up\n", "the flood did not start")
        first = weir_pids(t)[0]
        for _ in t.turns(3, 0.05):
            done = t.lab.run([t.binary, "run", *t.capture.options, "--", *CODE, f"https://{WIKIPEDIA4}/wiki/Main_Page"], env=t.environment(), timeout=30)
            want(done.stdout == "200", "another workload is not served beside the flood: " + done.stdout + done.stderr)
        flood.kill()
        flood.wait()
        want(wait_until(lambda: not os.path.exists(f"/proc/{first}"), RECOVERS), "the flood's supervisor does not end")


@row("F9", "The policy's files are invalid, truncated, half written, exchanged for a link, unreadable", gates=["STORE_WATCH"])
def broken_files(t):
    """The last good policy stays and is told; `validate` says what is wrong; a whole file is taken at once."""
    store = t.lab.home / "store"
    path = next(store.rglob("allowed.yaml"))
    good = path.read_text()
    opening = external_service("allowed", [DENIED4 + "/32", WIKIPEDIA4 + "/32"])

    def put(text, mode=0o644):
        """Whole, as an editor does it: a file that is gone for a moment is a rule that is gone."""
        fresh = store / ".fresh"
        fresh.unlink(missing_ok=True)
        fresh.write_text(text)
        fresh.chmod(mode)
        os.chown(fresh, UID, UID)
        os.replace(fresh, path)

    def link():
        os.symlink(t.lab.user_file("elsewhere.yaml", opening), store / ".link")
        os.replace(store / ".link", path)
    faults = {"truncated": lambda: put(good[:len(good) // 2]), "empty": lambda: put(""), "misspelt": lambda: put(opening.replace("hosts", "hsots")),
              "half of another": lambda: put(opening[:-10] + "\x00"), "no YAML": lambda: put("]["), "another name": lambda: put(opening.replace("allowed", "other", 1)),
              "a link": link, "unreadable": lambda: put(opening, 0), "cut in place": lambda: os.truncate(path, 40)}
    with load(t, WIKIPEDIA4, options=[]) as process:
        for name, fault in faults.items():
            fault()
            time.sleep(0.05)
            grows(t, WIKIPEDIA4, f"{name}: the last good policy is not in force any more")
            if name not in ("empty", "unreadable", "a link", "another name"):
                want(t.command("validate", "-f", path).returncode == 1, f"{name}: validate finds nothing")
            put(good)
        put(external_service("allowed", [OTHER4 + "/32"]))
        last = [-1]

        def stopped():
            before, last[0] = last[0], t.lab.packets(WIKIPEDIA4)
            time.sleep(0.1)
            return before == t.lab.packets(WIKIPEDIA4)
        want(wait_until(stopped, RECOVERS), "a whole file is not taken any more")
        os.kill(process.pid, signal.SIGKILL)
        said = process.stderr.read()
    need("the last good policy stays in force" in said, "nobody was told: " + said[-300:])


@row("F13", "A table is full", slow=True, gates=["NETWORK_NAMESPACE"])
def full_table(t):
    """More names asked at once than the resolver holds, while its upstream is silent: what has no room is refused at once
    and recorded; the rest ends within the deadline, and names are answered again."""
    name_hosts(t, "www.wikipedia.org")
    script = """
import select, socket, struct, time
socks = []
for i in range(1500):
    sock = socket.socket(2, 2) if i % 100 == 0 else socks[-1]
    if i % 100 == 0:
        socks.append(sock)
        sock.connect(("10.77.0.53", 53))
    if i % 50 == 0:
        time.sleep(0.01)
    sock.send(struct.pack("!HHHHHH", i, 0x100, 1, 0, 0, 0) + b"\\3www\\11wikipedia\\3org\\0" + struct.pack("!HH", 1, 1))
answers, end = {}, time.monotonic() + 12
while (left := end - time.monotonic()) > 0 and sum(answers.values()) < 1500:
    for sock in select.select(socks, [], [], left)[0]:
        code = sock.recv(512)[3] & 15
        answers[code] = answers.get(code, 0) + 1
print(answers)
"""
    with silent_upstream(t), t.silent():
        done = t.inside(["python3", "-c", script], options=["-q"])
    full = done.denied({"limit_connections"}, "dns")
    need(full, "no record of a name that found no room")
    want(set(eval(done.stdout)) <= {2}, "other answers than a failure: " + done.stdout)  # a dict of numbers, printed above
    done = t.inside(["getent", "hosts", "www.wikipedia.org"])
    want(done.status == 0, "names are not answered any more")


@contextlib.contextmanager
def silent_upstream(t):
    rules = "table inet silent {\n chain arriving {\n type filter hook prerouting priority -200\n iif lo accept\n ip daddr 10.77.0.53 drop\n }\n}\n"
    nft = ["ip", "netns", "exec", t.lab.internet, "nft"]
    subprocess.run([*nft, "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run([*nft, "delete", "table", "inet", "silent"], check=True)


# A DNS server that does what it is told: MODE on the first line of its input, then the next.
LIAR = """
import socket, struct, sys, threading, time
mode = ["good"]
def reply(query):
    at = 12
    while query[at]:
        at += 1 + query[at]
    question = query[12:at + 5]
    answer = b"\\xc0\\x0c" + struct.pack("!HHIH4s", 1, 1, 60, 4, socket.inet_aton(sys.argv[2]))
    def message(flags=0x8180, count=1, records=answer, number=query[:2], asked=question):
        return number + struct.pack("!HHHHH", flags, 1, count, 0, 0) + asked + records
    other = b"\\4evil\\4test\\0" + struct.pack("!HH", 1, 1)
    return {"good": [message()], "silent": [], "servfail": [message(0x8182, 0, b"")], "truncated": [message(0x8380, 0, b"")],
            "huge": [message(count=400, records=answer * 400)], "another id": [message(number=b"\\0\\0")],
            "another question": [message(asked=other)], "not a reply": [message(0x0100)], "short": [query[:7]], "empty": [b""],
            "noise": [bytes(range(256)) * 4], "many": [message(number=struct.pack("!H", i)) for i in range(200)],
            "pointer loop": [message(records=b"\\xc0\\x0c\\0\\5\\0\\1\\0\\0\\0\\x3c\\0\\2\\xc0\\x29")]}[mode[0]]
def udp():
    while True:
        query, peer = sock.recvfrom(4096)
        for part in reply(query):
            sock.sendto(part, peer)
def tcp():
    while True:
        peer = listener.accept()[0]
        try:
            query = peer.recv(4096)[2:]
            for part in reply(query):
                peer.sendall(struct.pack("!H", len(part)) + part)
        except OSError:
            pass
        peer.close()
sock = socket.socket(2, 2)
sock.bind((sys.argv[1], 53))
listener = socket.create_server((sys.argv[1], 53))
threading.Thread(target=udp, daemon=True).start()
threading.Thread(target=tcp, daemon=True).start()
print("up", flush=True)
for line in sys.stdin:
    mode[0] = line.strip()
    print("set", flush=True)
"""
LIES = ("silent", "servfail", "truncated", "huge", "another id", "another question", "not a reply", "short", "empty", "noise", "many", "pointer loop")


@row("F16", "The DNS server is silent, failing, truncating, huge, lying", slow=True, gates=["NAMES"])
def lying_server(t):
    """An answer or a failure within the bound, whatever it does; what it says opens no connection; and it is believed again
    when it is well."""
    name_hosts(t, "www.wikipedia.org")
    liar = t.lab.start(["python3", "-c", LIAR, TOOLS4, DENIED4], namespace=t.lab.internet, as_root=True, stdin=-1)
    need(liar.stdout.readline() == "up\n", "the server did not start")
    resolver = pathlib.Path("/etc/netns") / t.lab.app / "resolv.conf"
    before = resolver.read_text()
    resolver.write_text(f"nameserver {TOOLS4}\n")
    shell = "export RES_OPTIONS='timeout:1 attempts:1'; while read line; do getent ahostsv4 www.wikipedia.org | head -n 1; curl -k -s --max-time 1 https://www.wikipedia.org -o /dev/null; echo done; done"
    try:
        with t.silent():
            process = t.start_inside(["bash", "-c", shell], options=["-q"], stdin=-1)
            for mode in (*LIES, "good"):
                liar.stdin.write(mode + "\n")
                liar.stdin.flush()
                liar.stdout.readline()
                process.stdin.write("go\n")
                process.stdin.flush()
                said = ""
                while "done" not in (line := process.stdout.readline()):
                    need(line, "the command ended")
                    said += line
                want(mode in ("good", "huge", "many") or DENIED4 not in said, f"{mode}: a lie was believed: {said}")
            need(DENIED4 in said, "it is not believed when it is well: " + said)
            process.stdin.close()
            process.wait(10)
    finally:
        resolver.write_text(before)


@row("F18", "The log's disk is full, its pipe is not read, standard error is not read", gates=["NETWORK_NAMESPACE"])
def full_log(t):
    """Connections go on as if nothing were; what could not be written is counted to the last record."""
    n = 600
    deny = f"import socket\nfor i in range({n}):\n    with socket.socket() as sock:\n        sock.settimeout(5)\n        try:\n            sock.connect(('{DENIED4}', 1000 + i))\n            sock.recv(1)\n        except OSError:\n            pass\n"
    script = f"python3 -c \"{deny}\"; curl -k -o /dev/null -s -w '%{{http_code}}' --max-time 20 https://{WIKIPEDIA4}/wiki/Main_Page"
    weir = [t.binary, "run", *t.capture.options, "-q", "--stats"]

    def counted(done, kept, name):
        dropped = re.search(r"(\d+) records dropped", done.stderr)
        want(done.stdout == "200", f"{name}: connections do not go on: {done.stdout} {done.stderr}")
        total = kept + int(dropped.group(1) if dropped else 0)
        want(total == n + 1, f"{name}: {kept} records kept, {dropped and dropped.group(1)} counted as dropped, of {n + 1}")
        need(dropped, f"{name}: nothing was dropped, so nothing is proved")
    disk = t.lab.folder / "disk"
    disk.mkdir(exist_ok=True)
    inside = ('mount -t tmpfs -o size=64k,mode=1777 none "$1" && cd / && log="$1/log" && shift && { setpriv --reuid 1234 --regid 1234 --clear-groups "$@"; }; '
              "wc -l <$log >&2; cat $log | tail -c 300 >&2")
    argv = ["env", "-i", *t.lab.environment(**t.environment()), *map(str, weir), "--log", disk / "log", "--", "sh", "-c", script]
    with t.silent():
        done = t.lab.run(["unshare", "-m", "sh", "-c", inside, "sh", disk, *argv], as_root=True)
        kept = re.search(r"(?m)^(\d+)$", done.stderr)
        counted(done, int(kept.group(1)) if kept else -1, "a full disk")
        fifo = t.lab.home / "unread"
        os.mkfifo(fifo)
        os.chown(fifo, UID, UID)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        done = t.lab.run([*weir, "--log", fifo, "--", "sh", "-c", script.replace("range(600)", "range(600)")], env=t.environment())
        bytes_kept = b""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(reader, 65536):
                bytes_kept += part
        os.close(reader)
        want(done.stdout == "200", "an unread pipe: connections do not go on: " + done.stdout)
        dropped = re.search(r"(\d+) records dropped", done.stderr)
        total = bytes_kept.count(b"\n") + int(dropped.group(1) if dropped else 0)
        want(total == n + 1, f"an unread pipe: {total} of {n + 1} records were kept or counted")
    unread_errors(t)


def unread_errors(t):
    """The command fills the pipe of standard error, which nobody reads; then the store breaks, which is told on it."""
    process = t.start_inside(["sh", "-c", "python3 -c \"import fcntl, os\nfcntl.fcntl(2, 1031, 4096)\nos.set_blocking(2, False)\ntry:\n    while True:\n        os.write(2, b'x' * 100)\nexcept OSError:\n    os.set_blocking(2, True)\n\"; echo full; "
                              f"while read line; do curl -k -o /dev/null -s -w '%{{http_code}}\\n' --max-time 5 https://{WIKIPEDIA4}/wiki/Main_Page 2>/dev/null; done"], stdin=-1)
    need(process.stdout.readline() == "full\n", "the pipe was not filled")
    path = next((t.lab.home / "store").rglob("allowed.yaml"))
    path.write_text(path.read_text().replace("hosts", "hsots"))
    time.sleep(0.3)
    process.stdin.write("go\n")
    process.stdin.flush()
    said = process.stdout.readline()
    want(said == "200\n", f"a word about a broken policy, on a standard error that nobody reads, holds up every connection: {said!r}")
    process.stdin.close()


@row("F21", "YAML and JSON bombs", plain=True, gates=["ANCHORS_AND_TAGS"])
def bombs(t):
    """Refused in one line, within a second of processor time and 200 MB."""
    good = external_service("x", [WIKIPEDIA4 + "/32"])
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9))
    texts = {"laughs": laughs, "a tag": good.replace("name: x", "name: !!str x"), "an anchor": good.replace("name: x", "name: &x x"), "merge keys": "x: &x {a: 1}\ny:\n  <<: *x\n", "depth": "[" * 5000, "depth of maps": "{a: " * 3000, "depth of JSON": '{"a":' * 50000,
             "blocks": "".join(" " * i + "a:\n" for i in range(900)), "scalar": "a: " + "x" * (1 << 20), "keys": "".join(f"k{i}: 1\n" for i in range(90000)),
             "twice": good + good.replace("apiVersion", "kind", 1), "NUL": good + "\x00", "mark in the middle": good + "\ufeff" + good, "UTF-16": "\x00k\x00i", "tags": "!!python/object:os.system x",
             "control": good + "\x1b", "documents": "---\n" * 200000, "flow": "[" + "," * 500000, "comments": "#" * (1 << 20) + "\n" + "x",
             "quoted": 'a: "' + "\\x41" * 200000 + '"', "numbers": "kind: ExternalService\nspec: {ports: [{number: " + "9" * 100000 + "}]}"}
    for name, text in texts.items():
        path = t.lab.user_file("bomb.yaml", text)
        measure = ("import resource, subprocess, sys\ndone = subprocess.run(sys.argv[1:], capture_output=True, text=True, errors='replace', timeout=60)\nuse = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
                   "print(done.returncode, int(1000 * (use.ru_utime + use.ru_stime)), use.ru_maxrss // 1024, len(done.stderr), 'started' in done.stdout)\n")
        done = t.lab.run(["python3", "-c", measure, *t.run_argv(["echo", "started"], ["-f", path])], env=t.environment(), timeout=90)
        status, milliseconds, megabytes, said, started = done.stdout.split()
        # Documents with nothing in them are no error, and allow nothing.
        want(name == "documents" or started == "False" and status == "125", f"{name}: status {status}, started {started}")
        want(int(milliseconds) < 1000, f"{name}: {milliseconds} ms")
        want(int(megabytes) < 200, f"{name}: {megabytes} MB")
        want(int(said) < 20000 and (said != "0" or name == "documents"), f"{name}: {said} bytes of errors")
    need(t.inside(["echo", "started"], options=["-f", t.lab.user_file("good.yaml", good)]).stdout == "started\n", "the control is refused too")


# What a terminal, a session or a program may send to another. Whatever else ends a process ends Weir, and all with it (E65).
HARMLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGWINCH, signal.SIGALRM, signal.SIGPIPE, signal.SIGCONT, signal.SIGURG,
            signal.SIGTTIN, signal.SIGTTOU)


@row("F22", "Signals at any moment", gates=["NETWORK_NAMESPACE"])
def signals(t):
    """A storm of them, at Weir's processes, from before the start on: the command gets what is passed on, and all is served."""
    chance = random.Random(22)
    for turn in t.turns(2, 0.1):
        script = "trap '' TERM HUP INT QUIT USR1 USR2 ALRM TSTP; echo up; while :; do sleep 0.05; done"
        process = t.start_inside(["bash", "-c", script], options=["-q"])
        need(process.stdout.readline() == "up\n", "it did not start")
        other = t.start_inside(["python3", "-c", HAMMER + "# storm", f"{DENIED4},{WIKIPEDIA4}", "443"], options=["-q"])
        need(other.stdout.readline() == "up\n", "the load did not start")
        with t.silent():
            for _ in range(300):
                for pid in weir_pids(t):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, chance.choice(HARMLESS))
            want(process.poll() is None, f"turn {turn}: it ended, with {process.poll()}")
        process.kill()
        other.kill()
        process.wait()
        other.wait()
        need(wait_until(lambda: not weir_pids(t), RECOVERS), "it does not end")
        t.works()


@row("F23", "A network that loses packets, and one that swallows large ones", slow=True, gates=["NETWORK_NAMESPACE"])
def bad_network(t):
    """A third of all packets lost, then all above 600 bytes: no verdict changes, what arrives is exact, and it recovers.
    (Delay and reordering need netem, which not every kernel has; TCP takes care of them below Weir.)"""
    t.allow(OTHER4 + "/32", port=ECHO_PORT, name="echo")
    nft = ["ip", "netns", "exec", t.lab.app, "nft"]
    exact = ("import os, socket, sys\nsock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 60)\ndata = os.urandom(30000)\nsock.sendall(data)\ngot = b''\n"
             "while len(got) < len(data):\n    part = sock.recv(65536)\n    if not part:\n        break\n    got += part\nprint('exact' if got == data else 'differs', flush=True)\n")
    for rule, wanted in (("numgen random mod 100 < 30 drop", "exact\n"), ("meta length > 600 drop", "")):
        text = "".join(f"table inet bad {{\n chain {hook} {{\n type filter hook {hook} priority 0\n iifname {{ up0 }} {rule}\n oifname {{ up0 }} {rule}\n }}\n}}\n".replace("iifname { up0 } " + rule, "") if hook == "output" else
                       f"table inet bad {{\n chain {hook} {{\n type filter hook {hook} priority 0\n iifname up0 {rule}\n }}\n}}\n" for hook in ("input", "output"))
        subprocess.run([*nft, "-f", "-"], input=text, text=True, check=True)
        try:
            with t.silent():
                process = t.start_inside(["sh", "-c", f"curl -k -s --max-time 1 https://{DENIED4}; timeout {40 if wanted else 2} python3 -c \"{exact}\" {OTHER4} {ECHO_PORT}"], options=["-q"])
                said = process.communicate(timeout=60)[0]
            want(said == wanted, f"{rule}: {said!r}")
            need(any(record["reason"] == "no_rule" for record in t.records()), "the denial has no record")
        finally:
            subprocess.run([*nft, "delete", "table", "inet", "bad"], check=True)
    t.works()


@row("F24", "System calls that fail: interrupted, short, no memory, no buffers, no descriptors", slow=True, gates=["NETWORK_NAMESPACE"])
def failing_calls(t):
    """The nth call of a kind fails, and each 7th after it, for every n in turn, from the start on. It refuses to start and
    says why, or it does its work; it never crashes, and nothing leaves that should not."""
    script = f"curl -k -s --max-time 3 https://{DENIED4}; curl -k -o /dev/null -s -w '%{{http_code}}' --max-time 3 https://{WIKIPEDIA4}/wiki/Main_Page; true"
    library = t.programs / "libfault.so"
    counts = {"started": 0, "refused": 0}
    for turn in t.turns(1, 0.3):
        for kind, most in (("memory", 160), ("interrupted", 60), ("short", 60), ("nobufs", 60), ("again", 40), ("files", 12)):
            step = 1 if t.long else max(1, most // 12)
            for n in range(1 + turn % step, most, step):
                again = 0 if turn % 2 or kind == "memory" else 7
                with t.silent():
                    try:
                        done = t.inside(["sh", "-c", script], options=["-q"], env={"LD_PRELOAD": str(library), "WEIR_FAULT": f"{kind}:{n}:{again}"}, timeout=30)
                    except subprocess.TimeoutExpired:
                        raise Leak(f"{kind} {n} {again}: it hangs") from None
                want(done.status in (0, 125, 137), f"{kind} {n}: status {done.status}: {done.stderr[-300:]}")
                need(done.status != 125 or "Error" in done.stderr or "memory" in done.stderr, f"{kind} {n}: 125 without a word")
                counts["refused" if done.status else "started"] += 1
    need(counts["started"] and counts["refused"], f"the faults change nothing: {counts}")
    t.works()


@row("F27", "A loop of crashes", gates=["SUPERVISOR_DEATH"])
def crashes(t):
    """Each leaves nothing behind: no process, no mount, no name of a namespace; and the next start is as the first."""
    def traces():
        mounts = pathlib.Path("/proc/self/mountinfo").read_text().count("\n")
        return mounts, len(os.listdir("/run/netns")), len(inside_pids(t, "crashing")), sorted(path.name for path in t.lab.home.rglob("*") if path.is_file() and path.name != "flows.json")
    t.works()
    before = traces()
    for turn in t.turns(5, 0.1):
        with load(t, WIKIPEDIA4, word="crashing"):
            os.kill(weir_pids(t)[0], (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL)[turn % 4])
        want(wait_until(lambda: traces() == before, RECOVERS), f"left behind: {before} became {traces()}")
    t.works()


@row("F30", "Moving bytes without splice(2)", gates=["REDIRECT_RULES"])
def copying(t):
    """The same streams with pipes and, where no descriptor for a pipe is left, by copying: exact both ways."""
    t.allow(OTHER4 + "/32", port=ECHO_PORT, name="echo")
    for room in (None, 2):
        process = t.start_inside(["python3", "-c", "import sys\nsys.stdin.readline()\n" + EXACT, OTHER4, str(ECHO_PORT), "30"], options=["-q"], stdin=-1)
        need(wait_until(lambda: len(weir_pids(t)) == 2, 5), "it did not start")
        pid = weir_pids(t)[0]
        need(raised(pid), "the limit is not raised")
        if room:
            limit(t, pid, "nofile", max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 1 + room)
        with t.silent():
            process.stdin.write("go\n")
            process.stdin.flush()
            said = process.stdout.readline()
            want(said == "exact 6\n", f"of 6 streams, with {room or 'all'} descriptors: {said!r}")
        process.stdin.close()
        process.wait(20)


@row("F32", "A core of the supervisor, or tracing it", plain=True, gates=["SUPERVISOR_MEMORY"])
def core(t):
    """It dies of a signal that leaves a core, where cores are wanted: there is none. (Tracing: X5.)"""
    need(pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip()[0] != "|" or True, "")
    script = "ulimit -c unlimited; exec \"$@\""
    control = t.lab.start(["bash", "-c", script, "bash", "sleep", "30"])
    need(wait_until(lambda: pathlib.Path(f"/proc/{control.pid}/comm").read_text() == "sleep\n", 10), "the control did not start")
    os.kill(control.pid, signal.SIGSEGV)
    control.wait()
    pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not pattern.startswith(("|", "/")):
        need(list(t.lab.home.glob("core*")), "the control leaves no core either")
        for path in t.lab.home.glob("core*"):
            path.unlink()
    process = t.lab.start(["bash", "-c", script, "bash", *map(str, t.run_argv(["sh", "-c", "echo up; exec sleep 30"]))], env=t.environment())
    need(process.stdout.readline() == "up\n", "it did not start")
    os.kill(weir_pids(t)[0], signal.SIGSEGV)
    status = process.wait(10)
    want(-status == signal.SIGSEGV and not list(t.lab.home.glob("core*")), "a core of Weir's was left")


__all__ = ["HERE", "ask", "established", "json", "sys"]
