# SPDX-License-Identifier: Apache-2.0
"""Ways out by the policy: what it says, when it begins, when it changes, when its keeper dies."""
import os
import signal
import threading
import time

from frame import BLOCKED_IF, need, row, want
from harness import external_service, service_entry
from lab import DENIED4, DENIED6, ECHO_PORT, OTHER4, UID, WIKIPEDIA4, wait_until
from rows_network import NO_RULE, tcp

HEAD = "apiVersion: networking.istio.io/v1alpha3\nkind: ExternalService\nmetadata:\n  name: x\n"
ENTRY = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: x\n"
PORT = "  ports:\n  - number: 443\n    name: tcp\n    protocol: TCP\n"
EMPTY = {
    "no document": "", "comments only": "# nothing\n---\n# more\n", "null": "null\n", "braces": "{}\n", "brackets": "[]\n",
    "no spec": HEAD, "spec null": HEAD + "spec:\n", "spec empty": HEAD + "spec: {}\n",
    "hosts empty": HEAD + "spec:\n  hosts: []\n" + PORT, "hosts null": HEAD + "spec:\n  hosts:\n" + PORT, "hosts missing": HEAD + "spec:\n" + PORT,
    "host empty": HEAD + "spec:\n  hosts:\n  - ''\n" + PORT, "ports empty": HEAD + "spec:\n  hosts:\n  - 203.0.113.0/24\n  ports: []\n",
    "ports missing": HEAD + "spec:\n  hosts:\n  - 203.0.113.0/24\n", "port zero": HEAD + "spec:\n  hosts:\n  - 203.0.113.0/24\n" + PORT.replace("443", "0"),
    "entry, no addresses": ENTRY + "spec:\n  hosts:\n  - x.lab.test\n" + PORT + "  resolution: NONE\n",
    "entry, addresses empty": ENTRY + "spec:\n  hosts:\n  - x.lab.test\n  addresses: []\n" + PORT + "  resolution: NONE\n",
    "entry, address zero": ENTRY + "spec:\n  hosts:\n  - x.lab.test\n  addresses: ['']\n" + PORT + "  resolution: NONE\n",
    "entry, endpoints empty": ENTRY + "spec:\n  hosts:\n  - x.lab.test\n  addresses: ['203.0.113.66']\n" + PORT + "  resolution: STATIC\n  endpoints: []\n",
    "entry, ports empty": ENTRY + "spec:\n  hosts:\n  - x.lab.test\n  addresses: ['203.0.113.66']\n  ports: []\n  resolution: NONE\n",
    "exported to nobody": ENTRY + "spec:\n  hosts:\n  - x.lab.test\n  addresses: ['203.0.113.66']\n  exportTo: ['~']\n" + PORT + "  resolution: NONE\n",
    "list of none": "apiVersion: v1\nkind: List\nitems: []\n", "list, items null": "apiVersion: v1\nkind: List\n",
}


@row("E57", "An empty list that means all", gates=["NETWORK_NAMESPACE", "VERDICT"])
def empty_lists(t):
    """Refused whole, or it allows nothing; never a connection."""
    ends = ((DENIED4, 443), (DENIED6, 443), (WIKIPEDIA4, 443))
    t.control(tcp(*ends))
    with t.silent(t.lab.every_packet, "packets at addresses that no rule names"):
        for name, text in EMPTY.items():
            path = t.lab.user_file("empty.yaml", text)
            done = t.inside(tcp(*ends), options=["-f", path])
            want(done.status in (0, 125), f"{name}: status {done.status}")
            need(done.status == 125 or done.denied(NO_RULE | {"not_enforced"}), f"{name}: no record: {done.stderr}")


@row("E59", "Edges of prefixes and ports, order, host bits", gates=["NETWORK_NAMESPACE", "VERDICT"])
def prefixes(t):
    """The neighbours of what is allowed, on each side; the same with the rules in another order. (Ten million random
    answers are compared with a reference in tests/unit/policy.)"""
    a = external_service("a", ["198.35.26.99/27"], 443)  # host bits set: .96 to .127
    b = external_service("b", ["198.35.26.0/30"], 80)
    c = service_entry("c", ["2620:0:861:ed1a::/127"], 443)
    outside = [("198.35.26.95", 443), ("198.35.26.128", 443), ("198.35.26.96", 442), ("198.35.26.96", 444), ("198.35.26.96", 80), ("198.35.26.4", 80),
               ("198.35.25.255", 80), ("2620:0:861:ed1a::2", 443), ("2620:0:861:ed19:ffff:ffff:ffff:ffff", 443), ("2620:0:861:ed1a::1", 80),
               ("91.198.174.192", 443), ("::ffff:198.35.26.95", 443), ("198.35.154.96", 443), ("70.35.26.96", 443)]
    counter = t.lab.every_packet
    t.control(tcp(*outside), counter=counter)
    for order in ((a, b, c), (c, b, a)):
        path = t.lab.user_file("rules.yaml", "---\n".join(order))
        with t.silent(counter, "packets beside what is allowed"):
            done = t.inside(tcp(*outside), options=["-f", path])
        need(len(done.denied(NO_RULE)) == len(outside), f"{len(done.denied(NO_RULE))} records for {len(outside)} denials: {done.stderr}")
        before = counter()
        done = t.inside(tcp((WIKIPEDIA4, 443), ("2620:0:861:ed1a::1", 443)), options=["-f", path])
        need(counter() > before and not done.stdout, "what is allowed does not arrive: " + done.stdout)


@row("E60", "An unknown field, a misspelt one, a rejected object that is ignored in silence", gates=["UNKNOWN_FIELDS"])
def unknown_fields(t):
    good = external_service("x", [WIKIPEDIA4 + "/32"])
    bad = {"misspelt": good.replace("hosts:", "hsots:"), "at the top": good + "egres: all\n", "in the port": good.replace("    name: tcp", "    nmae: tcp"),
           "twice": good.replace("  hosts:", "  hosts: []\n  hosts:"), "case": good.replace("hosts:", "Hosts:"), "kind": good.replace("ExternalService", "ExternalServise"),
           "version": good.replace("v1alpha3", "v1alpha9"), "anchor": good.replace("  hosts:", "  hosts: &all"), "tag": good.replace("name: x", "name: !!str x"),
           "second document": good + "---\nkind: ServiceEntry\nspec: [\n", "metadata": good.replace("  name: x", "  name: x\n  naem: y")}
    for name, text in bad.items():
        path = t.lab.user_file("bad.yaml", text)
        done = t.inside(["echo", "started"], options=["-f", path])
        want(done.status == 125 and "started" not in done.stdout, f"{name}: the command was started: {done.stderr}")
        need("Error:" in done.stderr, f"{name}: nothing was said")
        done = t.command("create", "-f", path)
        want(done.returncode != 0, f"{name}: was created: {done.stdout}")
    done = t.inside(["echo", "started"], options=["-f", t.lab.user_file("good.yaml", good)])
    need(done.stdout == "started\n", "the control is refused too: " + done.stderr)


@row("E61", "Implicit exceptions: private ranges, link-local, DNS to anywhere", gates=["NETWORK_NAMESPACE", "VERDICT"])
def no_exceptions(t):
    t.forget()
    said = t.command("explain").stdout
    need("0 rules" in said, "explain does not count the rules: " + said)
    want("allow tcp" not in said, "an implicit rule: " + said)
    ends = [(host, port) for host in ("10.77.0.1", "10.77.0.53", "10.96.0.1", "172.17.0.1", "192.168.0.1", "169.254.1.1", "fd77::1", "fd77::53", "fe80::1", "8.8.8.8")
            for port in (53, 80, 443, 853)]
    t.control(tcp(*ends[:8]), counter=t.lab.every_packet)
    with t.silent(t.lab.every_packet, "packets although the policy is empty"):
        done = t.inside(tcp(*ends))
    need(len(done.denied({*NO_RULE, "builtin_metadata", "builtin_self", "dns_malformed"})) >= 27, f"denials without a record: {done.records}")


@row("E63", "Traffic before the policy is in force", gates=["NETWORK_NAMESPACE", "VERDICT", "REDIRECT_RULES"])
def first_call(t):
    """A static program whose first call is socket() and whose second is connect()."""
    program = t.program("connect_first", DENIED4, 443)
    t.control(program)
    with t.silent():
        for _ in range(1000 if t.long else 5):
            done = t.inside(program)
            need(done.denied(NO_RULE), "no record of the first call: " + done.stderr)


# Sends a counted line on each of N connections until its peer is gone, and says how many still answer when asked.
LIVE = """
import select, socket, sys
flows = [socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) for _ in range(int(sys.argv[3]))]
print("open", flush=True)
sys.stdin.readline()
alive = 0
for flow in flows:
    try:
        flow.settimeout(5)
        flow.sendall(b"x")
        alive += flow.recv(1) == b"x"
    except OSError:
        pass
print("alive", alive, flush=True)
"""


def established(t, host, port=ECHO_PORT):
    return len(t.outside(["ss", "-Htn", "state", "established", "dst", host, "dport", f"= :{port}"]).stdout.splitlines())


@row("E64", "A connection that outlives its rule", gates=["REVOCATION", "STORE_WATCH"])
def revocation(t):
    """20 connections; their rule is deleted; all are gone within the bound, and not one byte arrives afterwards."""
    t.allow(OTHER4 + "/32", port=ECHO_PORT, name="lost")
    process = t.start_inside(["python3", "-c", LIVE, OTHER4, ECHO_PORT, "20"], stdin=-1)
    need(process.stdout.readline() == "open\n", "the connections were not made")
    need(wait_until(lambda: established(t, OTHER4) == 20, 5), "they are not seen from outside")
    t.forget("lost")
    want(wait_until(lambda: established(t, OTHER4) == 0, 2), f"{established(t, OTHER4)} connections outlive their rule")
    with t.silent(lambda: t.lab.packets(OTHER4), "packets after the rule was deleted"):
        process.stdin.write("?\n")
        process.stdin.flush()
        said = process.stdout.readline()
    want(said == "alive 0\n", said)
    process.wait(20)
    cut = [record for record in t.records() if record["reason"] == "policy_revoked"]
    need(len(cut) == 20, f"{len(cut)} records say that they were cut")


# Tries the denied address for as long as it lives, and an allowed one beside it.
HAMMER = """
import socket, sys, threading, time
def dial(host, port):
    while True:
        try:
            with socket.create_connection((host, port), 1) as sock:
                sock.send(b"x")
        except OSError:
            pass
        time.sleep(0.005)
for host in sys.argv[1].split(","):
    for _ in range(2):
        threading.Thread(target=dial, args=(host, int(sys.argv[2])), daemon=True).start()
print("up", flush=True)
time.sleep(60)
"""


def weir_pids(t):
    """The processes of the binary in the lab: the supervisor, then the first of the sandbox."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/exe") == str(t.binary):
                found.append(int(pid))
        except OSError:
            pass
    return sorted(found)


def inside_pids(t, word):
    """Processes of the workload, wherever they are now."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as line:
                if entry.isdigit() and word.encode() in line.read() and os.stat(f"/proc/{entry}").st_uid == UID:
                    found.append(int(entry))
        except OSError:
            pass
    return found


@row("E65", "The supervisor dies or hangs", gates=["SUPERVISOR_DEATH", "NETWORK_NAMESPACE"])
def supervisor_dies(t):
    """Killed or stopped, each of Weir's processes, under load: nothing leaves, and a workload never outlives its
    supervisor."""
    for number, which in ((signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGSTOP, 0), (signal.SIGSTOP, 1), (signal.SIGSEGV, 0), (signal.SIGABRT, 0)):
        word = f"hammer-{number}-{which}"
        process = t.start_inside(["python3", "-c", HAMMER + "# " + word, f"{DENIED4},{DENIED6},{WIKIPEDIA4}", "443"], options=["-q"], start_new_session=True)
        need(process.stdout.readline() == "up\n", "the load did not start")
        need(wait_until(lambda: t.records(), 10), "the load does nothing")
        pids = weir_pids(t)
        need(len(pids) == 2, f"there are {len(pids)} processes of Weir's")
        with t.silent():
            os.kill(pids[which], number)
            if number == signal.SIGSTOP:
                # What is stopped moves nothing; a new connection waits, and goes on when it goes on.
                time.sleep(0.2)
                if which == 0:
                    os.kill(pids[which], signal.SIGCONT)
                seen = t.lab.packets(WIKIPEDIA4)
                need(wait_until(lambda seen=seen: t.lab.packets(WIKIPEDIA4) > seen, 10), "it does not go on")
                # The sandbox's first process is still stopped, and ends all the same.
                os.kill(pids[0], signal.SIGKILL)
            want(wait_until(lambda word=word: not inside_pids(t, word), 5), f"the workload outlives signal {number} to process {which}: {[open(f'/proc/{p}/status').read()[:120] for p in inside_pids(t, word)]}")
        process.wait(10)
    t.control(tcp((DENIED4, 443)))


@row("E66", "A reload that loses the filter or keeps an old one", gates=["STORE_WATCH"])
def reloads(t):
    """The policy changes back and forth under load. What is never allowed never arrives; what is always allowed is never
    cut; the last policy is the one in force."""
    t.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT, name="kept")
    live = t.start_inside(["python3", "-c", LIVE, WIKIPEDIA4, ECHO_PORT, "5"], stdin=-1, options=["-q"])
    need(live.stdout.readline() == "open\n", "the connections were not made")
    process = t.start_inside(["python3", "-c", HAMMER, f"{DENIED4},{OTHER4}", "443"], options=["-q"])
    need(process.stdout.readline() == "up\n", "the load did not start")
    with t.silent():
        for turn in range(5000 if t.long else 12):
            t.allow(OTHER4 + "/32", port=443 if turn % 2 else 80, name="turning")
    with t.silent():
        t.allow(OTHER4 + "/32", port=443, name="turning")
        seen = t.lab.packets(OTHER4)
        want(wait_until(lambda: t.lab.packets(OTHER4) > seen, 5), "the last policy is not in force")
        t.forget("turning")
        before = [0]

        def still():
            last, before[0] = before[0], t.lab.packets(OTHER4)
            time.sleep(0.1)
            return last == t.lab.packets(OTHER4)
        want(wait_until(still, 5), "a deleted rule is still in force")
    live.stdin.write("?\n")
    live.stdin.flush()
    need(live.stdout.readline() == "alive 5\n", "a connection whose rule never changed was cut")


@row("E80", "Processes that outlive the command", gates=["LEFTOVERS"])
def leftovers(t):
    """In sessions of their own, orphaned twice, deaf to signals, in namespaces of their own: gone when the command is."""
    late = "import socket, sys, time\nfor _ in range(100):\n    time.sleep(0.1)\n    try:\n        socket.create_connection((sys.argv[1], 443), 0.3)\n    except OSError:\n        pass\n# left-behind"
    script = ("for how in setsid 'setsid setsid' nohup 'unshare -Urpf' 'unshare -Urpf --kill-child=KILL' 'env'; do"
              f" (trap '' HUP TERM INT; $how python3 -c '{late}' {DENIED4} >/dev/null 2>&1 </dev/null & ) ; done; sleep 0.3; echo left")
    done = t.outside(["bash", "-c", script])
    need(done.stdout == "left\n" and len(inside_pids(t, "left-behind")) >= 6, "the control leaves nothing behind")
    need(wait_until(lambda: t.lab.canary() > 0, 5), "the control reaches nothing")
    for pid in inside_pids(t, "left-behind"):
        os.kill(pid, signal.SIGKILL)
    need(wait_until(lambda: not inside_pids(t, "left-behind"), 5), "the control cannot be ended")
    with t.silent():
        done = t.inside(["bash", "-c", script], options=["-q"])
        need(done.stdout == "left\n", done.stderr)
        left = not wait_until(lambda: not inside_pids(t, "left-behind"), 3)
    for pid in inside_pids(t, "left-behind"):
        os.kill(pid, signal.SIGKILL)
    want(not left, "processes outlive the command")


__all__ = ["BLOCKED_IF", "HAMMER", "LIVE", "established", "inside_pids", "threading", "weir_pids"]
