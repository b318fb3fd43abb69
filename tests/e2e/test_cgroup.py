# SPDX-License-Identifier: Apache-2.0
"""The cgroup capture: the verdict in the kernel. Weir runs as root, the command as uid 1234 unless a test says otherwise."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time

from harness import (CODE, DENIED4, DENIED6, ECHO_PORT, METADATA, OTHER4, TOOLS4, UID, WIKIPEDIA4, WIKIPEDIA6, LabCase, LabError,
                     service_entry, wait_until)
from lab import TAG

CGROUPS = [pathlib.Path(path) for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified") if (pathlib.Path(path) / "cgroup.procs").exists()
           and (pathlib.Path(path) / "cgroup.controllers").exists()]

# Connects, then for each line of input says whether a byte still comes back.
FLOW = """
import socket, sys
flow = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
print("open", flow.getpeername()[0], flow.getpeername()[1], flush=True)
for line in sys.stdin:
    try:
        flow.settimeout(10)
        flow.sendall(b"x")
        print("alive" if flow.recv(1) == b"x" else "closed", flush=True)
    except OSError as error:
        print("dead", type(error).__name__, flush=True)
"""
SEND = """
import socket, sys
family, kind, protocol, host, port = *map(int, sys.argv[1:4]), sys.argv[4], int(sys.argv[5])
sock = socket.socket(family, kind, protocol)
sock.settimeout(2)
payload = b"\\x08\\0\\0\\0\\0\\1\\0\\1" if protocol in (1, 58) else b"out"
if protocol == 58:
    payload = b"\\x80" + payload[1:]
if len(sys.argv) > 6:
    sock.sendto(payload, (host, port))
else:
    sock.connect((host, port))
    sock.send(payload)
"""
INET, INET6, STREAM, DATAGRAM, RAW = 2, 10, 1, 2, 3


class CgroupCase(LabCase):
    """Weir as root, in a cgroup of this test's own, with a store that the command does not own."""

    @classmethod
    def setUpClass(cls):
        if not CGROUPS:
            raise LabError("these tests need cgroup v2 at /sys/fs/cgroup or /sys/fs/cgroup/unified")
        super().setUpClass()
        cls.group = CGROUPS[0] / f"weir-{TAG}-{cls.lab.name}"
        cls.group.mkdir(exist_ok=True)
        cls.addClassCleanup(cls.remove_group)
        cls.pins = cls.lab.folder / "bpf"
        cls.pins.mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", cls.pins], check=True)
        cls.addClassCleanup(lambda: subprocess.run(["umount", cls.pins], check=False))

    @classmethod
    def remove_group(cls):
        if (cls.group / "cgroup.kill").exists():
            (cls.group / "cgroup.kill").write_text("1")
        for path in sorted(cls.group.rglob("*/"), reverse=True):
            if path.is_dir():
                wait_until(lambda path=path: cls.rmdir(path), 5)
        wait_until(lambda: cls.rmdir(cls.group), 5)

    @staticmethod
    def rmdir(path):
        try:
            path.rmdir()
        except OSError:
            return not path.exists()
        return True

    def setUp(self):
        self.store = self.lab.folder / f"store-{self.id().rpartition('.')[2]}"
        self.canary_before = self.lab.canary()

    def enter(self):
        (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def root(self, argv, env=()):
        words = dict(word.split("=", 1) for word in self.lab.environment())
        words |= {"WEIR_STORE": f"dir:{self.store}", "WEIR_BPFFS": str(self.pins), "HOME": "/root", "USER": "root"}
        words |= dict(env)
        return ["env", "-i", "-C", str(self.lab.home), *(f"{key}={value}" for key, value in words.items()), *map(str, argv)]

    def weir(self, *argv, status=0, env=(), **options):
        done = self.lab.run(self.root([self.lab.binary, *argv], env), as_root=True, preexec_fn=self.enter, **options)
        self.assertEqual(done.returncode, status, f"weir {' '.join(map(str, argv))}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *argv, options=(), **more):
        user = more.pop("user", UID)
        flags = ["--user", str(user)] if user else []
        more = {"stdin": subprocess.PIPE} | more
        return self.lab.start(self.root([self.lab.binary, "run", "--capture", "cgroup", *flags, *options, "--", *argv]), as_root=True,
                              preexec_fn=self.enter, **more)

    def weir_run(self, *argv, status=0, options=(), user=UID, **more):
        flags = ["--user", str(user)] if user else []
        return self.weir("run", "--capture", "cgroup", *flags, *options, "--", *argv, status=status, **more)

    def any_run(self, *argv, **more):
        """Whatever its exit status."""
        flags = ["--user", str(more.pop("user", UID))]
        return self.lab.run(self.root([self.lab.binary, "run", "--capture", "cgroup", *flags, *more.pop("options", ()), "--", *argv]),
                            as_root=True, preexec_fn=self.enter, **more)

    def records(self, path):
        return [json.loads(line) for line in path.read_text().splitlines()]


class CgroupStory(CgroupCase):
    def test_story(self):
        done = self.any_run(*CODE, "https://www.wikipedia.org")
        self.assertEqual(done.stdout, "000")
        self.assertRegex(done.stderr, r"(?m)^weir: denied dns www\.wikipedia\.org \(no rule\) curl\[\d+\]$")
        for address in (WIKIPEDIA4, f"[{WIKIPEDIA6}]", f"[::ffff:{WIKIPEDIA4}]"):
            before = self.lab.packets(WIKIPEDIA4, WIKIPEDIA6)
            done = self.any_run(*CODE, f"https://{address}")
            self.assertEqual(done.stdout, "000")
            self.assertRegex(done.stderr, r"(?m)^weir: denied tcp \S+:443 \(no rule\) curl\[\d+\]$")
            self.assertEqual(self.lab.packets(WIKIPEDIA4, WIKIPEDIA6), before)
        self.weir("create", "-f", self.lab.samples / "wikipedia-ext.yaml")
        self.assertEqual(self.weir_run(*CODE, "https://www.wikipedia.org").stdout, "200")
        self.reaches_wikipedia()
        self.assertEqual(self.weir_run(*CODE, "-k", f"https://[::ffff:{WIKIPEDIA4}]", options=["-q"]).stdout, "200")
        self.weir("delete", "externalservice", "wikipedia-ext")
        self.assertEqual(self.any_run(*CODE, f"https://{WIKIPEDIA4}").stdout, "000")

    def test_refused_with_eperm(self):
        """connect() itself says no, and so do send() and sendto(); socket() for what is neither TCP nor UDP."""
        script = SEND + "\nprint('sent')"
        for words in ((INET, STREAM, 0, DENIED4, 443), (INET6, STREAM, 0, DENIED6, 443), (INET6, STREAM, 0, f"::ffff:{DENIED4}", 443),
                      (INET, DATAGRAM, 0, DENIED4, 123), (INET6, DATAGRAM, 0, DENIED6, 123), (INET, DATAGRAM, 0, DENIED4, 123, "to"),
                      (INET6, DATAGRAM, 0, f"::ffff:{DENIED4}", 123, "to"), (INET, STREAM, 0, METADATA, 80)):
            with self.subTest(words):
                done = self.any_run("python3", "-c", script, *words)
                self.assertIn("PermissionError: [Errno 1]", done.stderr)
                self.assertNotIn("sent", done.stdout)
                self.assert_denied(done.stderr, "tcp|udp")

    def test_ipv6_service_entry(self):
        self.create(service_entry("wiki6", ["2620:0:861:ed1a::/64"]))
        self.assertEqual(self.weir_run(*CODE, f"https://[{WIKIPEDIA6}]").stdout, "200")
        self.assertEqual(self.any_run(*CODE, f"https://{WIKIPEDIA4}").stdout, "000")

    def test_another_port_is_denied_and_the_nearest_rule_named(self):
        self.allow(WIKIPEDIA4 + "/27", name="wiki")
        done = self.any_run(*CODE, f"http://{WIKIPEDIA4}:80")
        self.assert_denied(done.stderr, rf"tcp {WIKIPEDIA4}:80 \(no rule.*default/wiki")

    def test_static_endpoints_are_dialled_instead(self):
        """By rewriting: the workload sees the address it asked for, what answers is the endpoint, and that is no destination."""
        self.create(service_entry("moved", ["192.0.2.7"], extra=(
            f"  resolution: STATIC\n  endpoints:\n  - address: {TOOLS4}\n    ports:\n      tcp: 8443\n")))
        before = self.lab.packets(TOOLS4)
        script = ("import socket\ns = socket.create_connection(('192.0.2.7', 443), 10)\nprint(*s.getpeername())\n")
        done = self.weir_run("python3", "-c", script)
        self.assertEqual(done.stdout, "192.0.2.7 443\n")
        self.assertEqual(self.weir_run(*CODE, "-k", "https://192.0.2.7/wiki/Main_Page").stdout, "200")
        self.assertGreater(self.lab.packets(TOOLS4), before)
        self.assertEqual(self.any_run(*CODE, "-k", f"https://{TOOLS4}:8443").stdout, "000", "an endpoint is no destination")

    def test_static_endpoint_of_the_other_family_goes_through_the_relay(self):
        self.create(service_entry("six", ["192.0.2.8"], extra=f"  resolution: STATIC\n  endpoints:\n  - address: '{WIKIPEDIA6}'\n"))
        log = self.lab.folder / "relay.log"
        done = self.weir_run(*CODE, "-k", "https://192.0.2.8/wiki/Main_Page", options=["--log", log])
        self.assertEqual(done.stdout, "200")
        record, = [r for r in self.records(log) if r["protocol"] == "tcp"]
        self.assertEqual((record["path"], record["destination"], record["dialled"], record["command"]),
                         ("relay", "192.0.2.8", WIKIPEDIA6, "curl"))

    def test_dns_is_brought_to_weir_whatever_server_is_asked(self):
        self.allow(WIKIPEDIA4 + "/32")
        for transport in ("+notcp", "+tcp"):
            for server in ("10.77.0.53", "192.0.2.1", DENIED4, "127.0.0.53", DENIED6):
                with self.subTest(server=server, transport=transport):
                    done = self.weir_run("dig", "+short", "+tries=1", "+time=3", transport, f"@{server}", "www.wikipedia.org")
                    self.assertIn(OTHER4 if OTHER4 in done.stdout else WIKIPEDIA4, done.stdout)

    def test_nobody_else_reaches_the_resolver_or_the_relay(self):
        """Weir's sockets are on the host's loopback, and take no packet that did not come through the gates."""
        self.allow(WIKIPEDIA4 + "/32")
        run = self.start("sleep", "60")
        listing = ["ss", "-Hnltup"]
        self.assertTrue(wait_until(lambda: "weir" in self.lab.run(listing, as_root=True).stdout, 10))
        ports = {line.split()[0]: line.split()[4].rpartition(":")[2] for line in self.lab.run(listing, as_root=True).stdout.splitlines()
                 if '"weir"' in line}
        self.assertEqual(set(ports), {"tcp", "udp"})
        done = self.lab.run(["dig", "+tries=1", "+time=1", "-p", ports["udp"], "@127.0.0.1", "www.wikipedia.org"])
        self.assertNotEqual(done.returncode, 0)
        for line in self.lab.run(listing, as_root=True).stdout.splitlines():
            if '"weir"' in line and line.startswith("tcp"):
                port = line.split()[4].rpartition(":")[2]
                ask = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
                self.assertIn("timed out", self.lab.run(["python3", "-c", ask]).stderr)
        run.kill()

    def test_its_own_loopback(self):
        """A server of the workload needs no rule, one of the host's does; nobody of the host comes in but by --publish."""
        server = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=%d, bind='%s')"
        outside = self.lab.start(["python3", "-c", server % (8081, "127.0.0.1")])
        self.assertTrue(wait_until(lambda: self.lab.run([*CODE, "http://127.0.0.1:8081"]).stdout == "200", 10))
        inside = ("python3 -c \"" + server % (8082, "0.0.0.0") + "\" >/dev/null 2>&1 & for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do "
                  "[ $(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8082) = 200 ] && break; sleep 0.1; done;"
                  "for host in 127.0.0.1:8082 10.77.0.2:8082 127.0.0.1:8081; do curl -s -o /dev/null -w '%{http_code} ' --max-time 3 http://$host; done; echo; read line")
        run = self.start("sh", "-c", inside)
        self.assertEqual(run.stdout.readline().split(), ["200", "200", "000"])
        self.assertEqual(self.lab.run([*CODE[:-1], "1", "http://127.0.0.1:8082"]).stdout, "000", "nothing comes in")
        run.stdin.close()
        run.wait(20)
        self.assertRegex(run.stderr.read(), r"denied tcp 127\.0\.0\.1:8081 \(loopback needs a rule")
        run = self.start("sh", "-c", inside, options=["--publish", "8082"])
        run.stdout.readline()
        self.assertEqual(self.lab.run([*CODE, "http://127.0.0.1:8082"]).stdout, "200")
        run.stdin.close()
        run.wait(20)
        run = self.start("sh", "-c", inside, options=["--publish", "8090:8082"])
        run.stdout.readline()
        self.assertEqual(self.lab.run([*CODE, "http://127.0.0.1:8090"]).stdout, "200")
        run.stdin.close()
        run.wait(20)
        outside.kill()

    def test_loopback_of_the_host_by_a_rule(self):
        outside = self.lab.start(["python3", "-m", "http.server", "8085", "--bind", "127.0.0.1"])
        self.assertTrue(wait_until(lambda: self.lab.run([*CODE, "http://127.0.0.1:8085"]).stdout == "200", 10))
        self.allow("0.0.0.0/0", port=8085)
        self.assertEqual(self.any_run(*CODE, "http://127.0.0.1:8085").stdout, "000")
        self.allow("127.0.0.1/32", port=8085)
        self.assertEqual(self.weir_run(*CODE, "http://127.0.0.1:8085").stdout, "200")
        outside.kill()

    def test_signals_reach_a_command_that_is_another_user(self):
        process = self.start("bash", "-c", "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.05; done")
        self.assertEqual(process.stdout.readline(), "ready\n")
        process.terminate()
        self.assertEqual(process.stdout.readline(), "got it\n")
        self.assertEqual(process.wait(20), 9)

    def test_audit(self):
        self.canary_must_be_silent = False
        log = self.lab.folder / "audit.log"
        done = self.weir_run(*CODE, "-k", f"https://{OTHER4}", options=["--audit", "--log", log])
        self.assertEqual(done.stdout, "200")
        record, = [r for r in self.records(log) if r["protocol"] == "tcp"]
        self.assertEqual((record["reason"], record["audit"]), ("audit", True))
        self.assertIn("000", self.any_run(*CODE, "http://127.0.0.1:9", options=["--audit"]).stdout)
        self.assertIn("PermissionError", self.any_run("python3", "-c", SEND, INET, DATAGRAM, 0, DENIED4, 123, options=["--audit"]).stderr)


class CgroupRecords(CgroupCase):
    def test_a_flow_has_its_record(self):
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT)
        script = ("import socket, time\ns = socket.create_connection(('%s', %d), 10)\nfor i in range(10):\n    s.sendall(b'x' * 1000)\n"
                  "    n = 0\n    while n < 1000: n += len(s.recv(1000))\n%s\n")
        endings = {"closed": "s.close()", "shut down": "s.shutdown(1); assert s.recv(1) == b''; s.close()",
                   "reset": "import struct; s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()"}
        for name, ending in endings.items():
            with self.subTest(name):
                log = self.lab.folder / "flow.log"
                log.unlink(missing_ok=True)
                self.weir_run("python3", "-c", script % (WIKIPEDIA4, ECHO_PORT, ending + "; time.sleep(0.3)"), options=["--log", log])
                record, = self.records(log)
                self.assertEqual((record["bytes_sent"], record["bytes_received"]), (10000, 10000), record)
                self.assertEqual((record["verdict"], record["reason"], record["rule"], record["path"], record["command"]),
                                 ("allow", "reset" if name == "reset" else "finished", "default/allowed", "kernel", "python3"))
                self.assertRegex(record["cgroup"], rf"^/weir-{TAG}-cgroup-records/weir-run-\d+$")
                self.assertGreater(record["pid"], 1)

    def test_a_denial_is_told_within_ten_milliseconds(self):
        """The time between the refusal and the line, as the workload sees it. The bound is generous against a busy machine."""
        script = (f"import socket, time\nfor i in range(20):\n    s = socket.socket()\n    try: s.connect(('{DENIED4}', 2000 + i))\n"
                  "    except PermissionError: print(2000 + i, time.time(), flush=True)\n    time.sleep(0.02)\n")
        log = self.lab.folder / "denials.log"
        done = self.weir_run("python3", "-c", script, options=["--log", log])
        from datetime import datetime
        refused = dict(line.split() for line in done.stdout.splitlines())
        late = sorted(datetime.fromisoformat(r["time"].replace("Z", "+00:00")).timestamp() - float(refused[str(r["port"])])
                      for r in self.records(log))
        self.assertEqual(len(late), 20)
        self.assertLess(late[10], 0.010)

    def test_many_flows_have_many_records(self):
        """Ends that come in a burst wake nobody one by one; none is lost, and none is counted twice."""
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT)
        script = (f"import socket\nfor i in range(500):\n    s = socket.create_connection(('{WIKIPEDIA4}', {ECHO_PORT}), 10)\n"
                  "    s.sendall(b'y'); assert s.recv(1) == b'y'; s.close()\n")
        log = self.lab.folder / "many.log"
        done = self.weir_run("python3", "-c", script, options=["--log", log, "--stats"])
        records = self.records(log)
        self.assertEqual(len(records), 500)
        self.assertEqual({(r["bytes_sent"], r["bytes_received"]) for r in records}, {(1, 1)})
        self.assertIn("500 connections allowed, 0 denied", done.stderr)

    def test_a_flood_of_denials_is_counted(self):
        script = (f"import socket\nfor i in range(20000):\n    s = socket.socket()\n    try: s.connect(('{DENIED4}', 100 + i))\n"
                  "    except PermissionError: pass\n    s.close()\n")
        done = self.weir_run("python3", "-c", script, options=["--stats"])
        counted = int(re.search(r"0 connections allowed, (\d+) denied", done.stderr).group(1))
        lost = re.search(r"(\d+) events lost", done.stderr)
        self.assertEqual(counted + (int(lost.group(1)) if lost else 0), 20000)


class CgroupRevocation(CgroupCase):
    def flow(self, address=WIKIPEDIA4, options=()):
        run = self.start("python3", "-c", FLOW, address, str(ECHO_PORT), options=options)
        self.assertIn("open", run.stdout.readline())
        self.assertEqual(self.ask(run), "alive")
        return run

    @staticmethod
    def ask(run):
        run.stdin.write("\n")
        run.stdin.flush()
        return run.stdout.readline().split()[0]

    def test_a_live_flow_is_cut_and_the_peer_knows(self):
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT)
        log = self.lab.folder / "cut.log"
        run = self.flow(options=["--log", log])
        self.weir("delete", "externalservice", "allowed")
        self.assertTrue(wait_until(lambda: log.exists() and log.read_text(), 10))
        record, = self.records(log)
        self.assertEqual((record["verdict"], record["reason"], record["bytes_sent"]), ("deny", "policy_revoked", 1))
        before = self.lab.packets(WIKIPEDIA4)
        self.assertEqual(self.ask(run), "dead")
        self.assertEqual(self.lab.packets(WIKIPEDIA4), before)
        run.stdin.close()
        run.wait(20)

    def test_another_rule_keeps_it(self):
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT)
        self.allow(WIKIPEDIA4 + "/27", port=ECHO_PORT, name="wider")
        run = self.flow()
        self.weir("delete", "externalservice", "allowed")
        time.sleep(0.3)
        self.assertEqual(self.ask(run), "alive")
        self.weir("delete", "externalservice", "wider")
        self.assertTrue(wait_until(lambda: self.ask(run) == "dead", 10))
        run.stdin.close()
        run.wait(20)

    def test_the_endpoint_is_what_must_stay(self):
        self.create(service_entry("moved", ["192.0.2.7"], port=ECHO_PORT,
                                  extra=f"  resolution: STATIC\n  endpoints:\n  - address: {WIKIPEDIA4}\n"))
        run = self.flow("192.0.2.7")
        self.create(service_entry("other", ["198.51.100.1"], port=ECHO_PORT))
        time.sleep(0.3)
        self.assertEqual(self.ask(run), "alive")
        self.create(service_entry("moved", ["192.0.2.7"], port=ECHO_PORT,
                                  extra=f"  resolution: STATIC\n  endpoints:\n  - address: {OTHER4}\n"), verb="apply")
        self.assertTrue(wait_until(lambda: self.ask(run) == "dead", 10))
        run.stdin.close()
        run.wait(20)

    def test_a_broken_store_keeps_the_last_policy(self):
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT)
        run = self.flow()
        broken = next(self.store.rglob("allowed.yaml"))
        kept = broken.read_text()
        broken.write_text("kind: [")
        time.sleep(0.3)
        self.assertEqual(self.ask(run), "alive")
        broken.write_text(kept)
        run.stdin.close()
        run.wait(20)
        self.assertIn("the last good policy stays in force", run.stderr.read())


# What each gate of the kernel sees of a way to send, as root with every capability and without Weir's other gates (no seccomp,
# no dropped capability): the matrix of HACKING.md, for Linux 6.18. Name: (code, gates that were asked, whether it leaves).
PROBES = {
    "tcp": ("s = socket.socket(); s.connect((host, 443))", "socket connect", False),
    "tcp mapped": ("s = socket.socket(socket.AF_INET6); s.connect(('::ffff:' + host, 443))", "socket connect", False),
    "fast open": ("s = socket.socket(); s.sendto(b'x', socket.MSG_FASTOPEN, (host, 443))", "socket connect", False),
    "fast open connect": ("s = socket.socket(); s.setsockopt(6, 30, 1); s.connect((host, 443)); s.send(b'x')", "socket connect", False),
    "udp connected": ("s = socket.socket(2, 2); s.connect((host, 123)); s.send(b'x')", "socket connect packet", False),
    "udp sendto": ("s = socket.socket(2, 2); s.sendto(b'x', (host, 123))", "socket sendmsg", False),
    "udp mapped": ("s = socket.socket(10, 2); s.sendto(b'x', ('::ffff:' + host, 123))", "socket sendmsg", False),
    "udp-lite": ("s = socket.socket(2, 2, 136); s.sendto(b'x', (host, 123))", "socket", False),
    "mptcp": ("s = socket.socket(2, 1, 262); s.connect((host, 443))", "socket", False),
    "raw": ("s = socket.socket(2, 3, 253); s.sendto(b'x', (host, 0))", "socket", False),
    "raw with its own header": ("s = socket.socket(2, 3, 255); s.sendto(b'E' + bytes(19), (host, 0))", "socket", False),
    "ping": ("s = socket.socket(2, 2, 1); s.sendto(b'\\x08' + bytes(7), (host, 0))", "socket", False),
    "ip options": ("s = socket.socket(); s.setsockopt(0, 4, b'\\x07\\x07\\x04' + bytes(5)); s.settimeout(1); s.connect((host, 8443))",
                   "socket connect packet", False),
    "allowed": ("s = socket.socket(); s.connect((host, 8443))", "socket connect", True),
    "packet socket": ("s = socket.socket(17, 2, 0x800); s.sendto(datagram(), ('up0', 0x800, 0, 0, mac))", "", True),
    "a socket from before": ("s = early; s.sendto(b'x', (host, 123))", "", True),
}
PROBE = """
import os, socket, struct, sys
host, procs = sys.argv[2], int(sys.argv[3])
mac = bytes.fromhex(sys.argv[4].replace(":", ""))
early = socket.socket(2, 2) if "early" in sys.argv[1] else None
os.write(procs, b"0")
def datagram():
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 1, 0, 64, 17, 0, socket.inet_aton("10.77.0.2"), socket.inet_aton(host))
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xffff) + (total >> 16)
    return head[:10] + struct.pack("!H", ~(total + (total >> 16)) & 0xffff) + head[12:] + struct.pack("!HHHH", 9, 9, 8, 0)
try:
    exec(sys.argv[1])
except OSError as error:
    print(type(error).__name__, error.errno)
"""


class CgroupHooks(CgroupCase):
    GATES = {1: "socket", 2: "connect", 3: "sendmsg", 4: "packet"}

    def setUp(self):
        super().setUp()
        self.need("bpftool")
        self.allow(TOOLS4 + "/32", port=8443)
        self.holder = self.start("sleep", "100", user=None, options=["-q"])
        self.assertTrue(wait_until(lambda: list(self.group.glob("weir-run-*")) and list((self.pins / "weir").glob("*/counts")), 10))
        self.governed, = self.group.glob("weir-run-*")
        self.counts, = (self.pins / "weir").glob("*/counts")
        self.mac = re.search(r"ether (\S+)", self.lab.run(["ip", "-n", self.lab.internet, "link", "show", "down0"],
                                                           as_root=True).stdout).group(1)

    def tearDown(self):
        self.holder.terminate()
        self.holder.wait(20)
        super().tearDown()

    def seen(self):
        dump = json.loads(subprocess.run(["bpftool", "-j", "map", "dump", "pinned", self.counts], check=True, capture_output=True).stdout)
        total = {}
        for entry in dump:
            number = int(entry["key"][0], 16) if isinstance(entry["key"], list) else entry["key"]
            total[number] = sum(int.from_bytes(bytes(int(byte, 16) for byte in value["value"]), "little") for value in entry["values"])
        return total

    def probe(self, code, group=None):
        with open((group or self.governed) / "cgroup.procs", "wb", buffering=0) as procs:
            return self.lab.run(["python3", "-c", PROBE, code, TOOLS4, str(procs.fileno()), self.mac], as_root=True,
                                pass_fds=[procs.fileno()])

    def test_the_coverage_of_the_hooks(self):
        found = {}
        for name, (code, _, _) in PROBES.items():
            before, packets = self.seen(), self.lab.packets(TOOLS4)
            self.probe(code)
            after = self.seen()
            time.sleep(0.1)
            found[name] = (" ".join(gate for number, gate in self.GATES.items() if after[number] > before[number]),
                           self.lab.packets(TOOLS4) > packets)
        expected = {name: (gates, leaves) for name, (_, gates, leaves) in PROBES.items()}
        self.assertEqual(found, expected)

    def test_child_groups_are_governed(self):
        child = self.governed / "child" / "grandchild"
        child.mkdir(parents=True)
        before = self.lab.packets(TOOLS4)
        self.assertIn("PermissionError", self.probe(PROBES["tcp"][0], child).stdout)
        self.assertEqual(self.lab.packets(TOOLS4), before)
        self.assertEqual(self.probe(PROBES["allowed"][0], child).stdout, "")


# A service: for each line of input a connection of its own.
SERVICE = """
import os, socket, sys
os.write(int(sys.argv[1]), b"0")
early = socket.create_connection((sys.argv[2], int(sys.argv[3])), 10) if sys.argv[4:] else None
print("up", flush=True)
for line in sys.stdin:
    host, port = line.split()
    try:
        with socket.create_connection((host, int(port)), 5) as s:
            s.sendall(b"x")
            print("answered" if s.recv(1) == b"x" else "closed", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


HAMMER = """
import os, socket, sys
os.write(int(sys.argv[1]), b"0")
print("up", flush=True)
while True:
    with socket.socket() as s:
        s.settimeout(0.2)
        try:
            s.connect((sys.argv[2], 443))
        except OSError:
            pass
"""


class CgroupAttach(CgroupCase):
    """A cgroup that is there already: gates that outlive Weir, and the next Weir that takes over."""

    def setUp(self):
        super().setUp()
        self.unit = self.group / self.id().rpartition(".")[2][:40]
        self.unit.mkdir()
        self.name = str(self.unit.relative_to(CGROUPS[0]))
        self.running = []

    def tearDown(self):
        for attached in self.running:
            attached.kill()
            attached.wait(20)
        self.lab.run(self.root([self.lab.binary, "detach", self.name]), as_root=True)
        (self.unit / "cgroup.kill").write_text("1")
        self.assertTrue(wait_until(lambda: self.rmdir(self.unit), 5))
        super().tearDown()

    def attach(self, *options, binary=None):
        attached = self.lab.start(self.root([binary or self.lab.binary, "attach", *options, self.name]), as_root=True)
        self.running.append(attached)
        line = attached.stdout.readline()
        self.assertEqual(line, f"Attached to cgroup: {self.name}\n", attached.stderr.read() if not line else "")
        return attached

    def service(self, *early):
        with open(self.unit / "cgroup.procs", "wb", buffering=0) as procs:
            service = self.lab.start(["python3", "-c", SERVICE, str(procs.fileno()), *early], as_root=True, stdin=subprocess.PIPE,
                                     pass_fds=[procs.fileno()])
            self.assertEqual(service.stdout.readline(), "up\n")
        return service

    def ask(self, service, host, port=ECHO_PORT):
        service.stdin.write(f"{host} {port}\n")
        service.stdin.flush()
        return service.stdout.readline().strip()

    def links(self):
        """{link: program} of what is pinned, by their numbers in the kernel."""
        found = {}
        for path in (self.pins / "weir").glob("*/weir_*"):
            link = json.loads(subprocess.run(["bpftool", "-j", "link", "show", "pinned", path], check=True, capture_output=True).stdout)
            found[link["id"]] = link["prog_id"]
        return found

    def test_a_service_is_governed_and_let_go(self):
        service = self.service()
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT)
        self.assertEqual(self.ask(service, OTHER4), "answered")
        attached = self.attach()
        self.assertEqual(self.ask(service, WIKIPEDIA4), "answered")
        self.assertEqual(self.ask(service, OTHER4), "PermissionError")
        done = self.weir("detach", self.name, status=1)
        self.assertIn(f"governed by Weir's process {attached.pid}", done.stderr)
        attached.terminate()
        attached.wait(20)
        self.assertRegex(attached.stderr.read(), rf"denied tcp {OTHER4}:{ECHO_PORT} \(no rule.*\) python3\[\d+\]\n(?s:.*)stays in force")
        self.assertEqual(self.ask(service, OTHER4), "PermissionError")
        self.assertEqual(self.ask(service, WIKIPEDIA4), "answered")
        self.assertEqual(self.weir("detach", self.name).stdout, f"Detached from cgroup: {self.name}\n")
        self.assertEqual(self.ask(service, OTHER4), "answered")
        self.assertIn("nothing of Weir's is attached", self.weir("detach", self.name, status=1).stderr)

    def test_killed_the_last_policy_stays_and_the_next_takes_over_without_a_gap(self):
        """A process tries a destination without a rule all the while: not one of its packets arrives."""
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT)
        attached = self.attach()
        service = self.service()
        with open(self.unit / "cgroup.procs", "wb", buffering=0) as procs:
            hammer = self.lab.start(["python3", "-c", HAMMER, str(procs.fileno()), DENIED4], as_root=True, pass_fds=[procs.fileno()])
            self.assertEqual(hammer.stdout.readline(), "up\n")
        before = self.links()
        self.assertEqual(len(before), 11)
        for _ in range(3):
            attached.kill()
            attached.wait(20)
            self.assertEqual(self.ask(service, WIKIPEDIA4), "answered")
            self.assertEqual(self.ask(service, OTHER4), "PermissionError")
            self.assertEqual(self.links().keys(), before.keys())
            attached = self.attach("-q")
            self.assertEqual(self.links().keys(), before.keys(), "a link was made anew")
            self.assertTrue(set(self.links().values()).isdisjoint(before.values()), "a program was not replaced")
        self.allow(OTHER4 + "/32", port=ECHO_PORT, name="later")
        self.assertTrue(wait_until(lambda: self.ask(service, OTHER4) == "answered", 10))
        self.weir("delete", "externalservice", "later")
        self.assertTrue(wait_until(lambda: self.ask(service, OTHER4) == "PermissionError", 10))
        hammer.kill()
        attached.terminate()
        attached.wait(20)

    def test_two_at_once_are_one_too_many(self):
        attached = self.attach("-q")
        done = self.weir("attach", self.name, status=1)
        self.assertIn(f"governed by Weir's process {attached.pid}", done.stderr)

    def test_a_socket_from_elsewhere_is_refused(self):
        """It would pass every gate: its process was moved in with it."""
        with open(self.unit / "cgroup.procs", "wb", buffering=0) as procs:
            moved = self.lab.start(["python3", "-c", "import os, socket, sys\ns = socket.create_connection((sys.argv[2], int(sys.argv[3])), 10)\n"
                                    "os.write(int(sys.argv[1]), b'0')\nprint('up', flush=True)\nsys.stdin.read()",
                                    str(procs.fileno()), WIKIPEDIA4, str(ECHO_PORT)], as_root=True, stdin=subprocess.PIPE,
                                   pass_fds=[procs.fileno()])
            self.assertEqual(moved.stdout.readline(), "up\n")
        done = self.weir("attach", self.name, status=1)
        self.assertRegex(done.stderr, rf"process {moved.pid} \(python3\) holds a network socket \(descriptor \d+\) that was made outside")
        self.assertFalse(list((self.pins / "weir").glob("*/weir_*")), "the gates were left on")
        moved.stdin.close()
        moved.wait(10)
        self.attach("-q")

    def test_a_cgroup_that_goes_away(self):
        attached = self.attach("-q")
        self.assertEqual(len(list((self.pins / "weir").iterdir())), 1)
        self.unit.rmdir()
        self.assertEqual(attached.wait(20), 0)
        self.assertIn("is gone", attached.stderr.read())
        self.assertEqual(list((self.pins / "weir").iterdir()), [])
        self.unit.mkdir()  # for tearDown

    def test_pins_of_a_cgroup_that_is_gone_are_swept(self):
        attached = self.attach("-q")
        attached.kill()
        attached.wait(20)
        self.unit.rmdir()
        stale, = (self.pins / "weir").iterdir()
        self.unit.mkdir()
        again = self.attach("-q")
        self.assertFalse(stale.exists())
        again.terminate()
        again.wait(20)

    def test_pins_that_are_not_weirs_are_left_alone_and_named(self):
        attached = self.attach("-q")
        attached.terminate()
        attached.wait(20)
        folder, = (self.pins / "weir").iterdir()
        for path in folder.iterdir():
            path.unlink()
        done = self.weir("attach", self.name, status=1)
        self.assertIn(f"{folder} holds no pins of Weir's", done.stderr)
        subprocess.run(["bpftool", "map", "create", folder / "about", "type", "array", "key", "4", "value", "4", "entries", "1", "name", "x"], check=True)
        done = self.weir("attach", self.name, status=1)
        self.assertIn(f"{folder} holds no pins of Weir's", done.stderr)
        (folder / "about").unlink()
        folder.rmdir()

    def test_pins_of_another_layout_are_replaced_in_place(self):
        """Programs and maps of a Weir that spoke otherwise: the links stay, everything behind them is new."""
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT)
        attached = self.attach("-q")
        service = self.service()
        attached.kill()
        attached.wait(20)
        folder, = (self.pins / "weir").iterdir()
        dump, = json.loads(subprocess.run(["bpftool", "-j", "map", "dump", "pinned", folder / "about"], check=True, capture_output=True).stdout)
        subprocess.run(["bpftool", "map", "update", "pinned", folder / "about", "key", "0", "0", "0", "0", "value", "hex",
                        "ff", *(byte.removeprefix("0x") for byte in dump["value"][1:])], check=True)
        before = self.links()
        maps = {path.name: json.loads(subprocess.run(["bpftool", "-j", "map", "show", "pinned", path], check=True, capture_output=True).stdout)["id"]
                for path in folder.iterdir() if not path.name.startswith("weir_")}
        self.attach("-q")
        self.assertEqual(self.links().keys(), before.keys())
        for name, number in maps.items():
            now = json.loads(subprocess.run(["bpftool", "-j", "map", "show", "pinned", folder / name], check=True, capture_output=True).stdout)["id"]
            self.assertNotEqual(now, number, name)
        self.assertEqual(self.ask(service, WIKIPEDIA4), "answered")
        self.assertEqual(self.ask(service, OTHER4), "PermissionError")

    def test_a_published_port_serves_others(self):
        with open(self.unit / "cgroup.procs", "wb", buffering=0) as procs:
            self.lab.start(["python3", "-c", "import os, sys, http.server\nos.write(int(sys.argv[1]), b'0')\n"
                            "http.server.test(http.server.SimpleHTTPRequestHandler, port=8088, bind='0.0.0.0')", str(procs.fileno())],
                           as_root=True, pass_fds=[procs.fileno()], cwd=str(self.lab.web))
            ask = [*CODE[:-1], "2", "http://10.77.0.2:8088"]
            self.assertTrue(wait_until(lambda: self.lab.run(ask, namespace=self.lab.internet, as_root=True).stdout == "200", 10))
        attached = self.attach("-q")
        self.assertEqual(self.lab.run(ask, namespace=self.lab.internet, as_root=True).stdout, "000")
        attached.terminate()
        attached.wait(20)
        self.attach("-q", "--publish", "8088")
        self.assertEqual(self.lab.run(ask, namespace=self.lab.internet, as_root=True).stdout, "200")

    def test_what_cannot_be_attached_to(self):
        for name, said in (("/", "the top of the hierarchy"), (str(CGROUPS[0]), "the top of the hierarchy|there is no cgroup"),
                           ("no/such/group", "there is no cgroup no/such/group")):
            with self.subTest(name):
                self.assertRegex(self.weir("attach", name, status=1).stderr, f"^Error: .*({said})")
        done = self.lab.run(self.root([self.lab.binary, "attach", self.name]), as_root=True,
                            preexec_fn=lambda: (self.unit / "cgroup.procs").write_text(str(os.getpid())))
        self.assertIn("Weir itself runs in the cgroup", done.stderr)


class CgroupTrouble(CgroupCase):
    """Machines that will not let Weir, and others on the same cgroup: one line that says what and how, or it holds anyway."""

    def refused(self, *wrap, argv=("run", "--capture", "cgroup", "--", "true"), status=125, env=()):
        done = self.lab.run([*wrap, *self.root([self.lab.binary, *argv], env)], as_root=True, preexec_fn=self.enter)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        error = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        self.assertEqual(len(error), 1, done.stderr)
        self.assertEqual(list(self.group.glob("weir-run-*")), [])
        return error[0]

    def test_not_root(self):
        done = self.lab.weir(["run", "--capture", "cgroup", "--", "true"])
        self.assertEqual(done.returncode, 125)
        self.assertRegex(done.stderr, "(?m)^Error: .*(root|CAP_)")

    def test_bpf_is_refused(self):
        """By a seccomp profile, as a container has it."""
        script = ("import ctypes, os, struct, sys\n"
                  "code = b''.join(struct.pack('HBBI', *row) for row in ((0x20, 0, 0, 0), (0x15, 0, 1, 321), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)))\n"
                  "text = ctypes.create_string_buffer(code)\n"
                  "program = struct.pack('HxxxxxxP', 4, ctypes.addressof(text))\n"
                  "libc = ctypes.CDLL(None, use_errno=True)\n"
                  "assert libc.prctl(22, 2, program) == 0, ctypes.get_errno()\n"
                  "os.execvp(sys.argv[1], sys.argv[1:])")
        self.assertRegex(self.refused("python3", "-c", script), r"bpf\(2\) is refused: .*CAP_BPF.*seccomp.*--capture sealed")

    def test_no_cgroup_of_version_two(self):
        """None is mounted here, and without CAP_SYS_ADMIN none can be."""
        said = self.refused("setpriv", "--bounding-set", "-sys_admin", "sh", "-c", 'exec "$@"', "sh")
        self.assertRegex(said, r"no cgroup v2 .*CONFIG_CGROUP.*--capture sealed")

    def test_no_place_for_pins(self):
        said = self.refused(argv=("attach", str(self.group.relative_to(CGROUPS[0]) / "x")), status=1, env={"WEIR_BPFFS": "/nowhere"})
        self.assertRegex(said, "there is no cgroup")
        (self.group / "x").mkdir()
        said = self.refused(argv=("attach", str(self.group.relative_to(CGROUPS[0]) / "x")), status=1, env={"WEIR_BPFFS": "/nowhere"})
        self.assertIn("WEIR_BPFFS: /nowhere is no mount of the BPF file system", said)
        (self.group / "x").rmdir()
        done = self.weir_run("true", options=["-v"], env={"WEIR_BPFFS": "/nowhere"})
        self.assertIn("nothing is pinned", done.stderr)

    def test_no_memory_may_be_locked(self):
        """Maps of this kernel do not count against the limit; those of an old one do, and then it is raised."""
        done = self.lab.run(["prlimit", "--memlock=0:0", *self.root([self.lab.binary, "run", "--capture", "cgroup", "--", "true"])], as_root=True,
                            preexec_fn=self.enter)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_group_that_cannot_be_made(self):
        (self.group / "cgroup.max.descendants").write_text("0")
        said = self.refused()
        (self.group / "cgroup.max.descendants").write_text("max")
        self.assertIn("cannot make the cgroup", said)

    def foreign(self, name, program, *flags):
        """A program of somebody else's on the group above Weir's."""
        self.need("bpftool")
        folder = self.pins / name
        subprocess.run(["bpftool", "prog", "loadall", self.objects, folder], check=True, capture_output=True)
        subprocess.run(["bpftool", "cgroup", "attach", self.group, program, "pinned", folder / f"weir_{program}", *flags], check=True)
        self.addCleanup(lambda: subprocess.run(["bpftool", "cgroup", "detach", self.group, program, "pinned", folder / f"weir_{program}"], check=False))

    @property
    def objects(self):
        from lab import build_folder
        return build_folder() / "src/bpf/weir.linked.o"

    def test_programs_of_others_stay_in_force_and_are_told(self):
        """Here one that knows no policy and so denies every name's and packet's way: connect4 of another Weir."""
        self.allow(WIKIPEDIA4 + "/32")
        self.reaches_wikipedia()
        self.foreign("beside", "getpeername4", "multi")
        done = self.weir_run(*CODE, f"https://{WIKIPEDIA4}", options=["-v"])
        self.assertEqual(done.stdout, "200")
        self.assertRegex(done.stderr, r"weir: 1 programs? of others .* each must allow")
        self.foreign("strict", "connect4", "multi")
        done = self.any_run(*CODE, f"https://{WIKIPEDIA4}")
        self.assertEqual(done.stdout, "000", "both must say yes")

    def test_a_program_that_allows_none_beside_it(self):
        self.foreign("alone", "connect4")
        said = self.refused()
        self.assertRegex(said, r"cannot attach weir_connect4: a program that allows no others beside it")

    def test_stopped_it_holds_and_continued_it_goes_on(self):
        """SIGSTOP under load: what is allowed goes on, the rest stays denied, names wait; then all is as before."""
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT)
        script = SERVICE.replace('os.write(int(sys.argv[1]), b"0")\n', "")
        run = self.start("python3", "-c", script, "", "", "", options=["-q"])
        self.assertEqual(run.stdout.readline(), "up\n")

        def ask(host):
            run.stdin.write(f"{host} {ECHO_PORT}\n")
            run.stdin.flush()
            return run.stdout.readline().strip()

        self.assertEqual(ask(WIKIPEDIA4), "answered")
        run.send_signal(signal.SIGSTOP)
        for _ in range(300):
            self.assertEqual(ask(OTHER4), "PermissionError")
        self.assertEqual(ask(WIKIPEDIA4), "answered")
        self.allow(OTHER4 + "/32", port=ECHO_PORT, name="later")
        self.assertEqual(ask(OTHER4), "PermissionError")
        run.send_signal(signal.SIGCONT)
        self.assertTrue(wait_until(lambda: ask(OTHER4) == "answered", 10))
        run.stdin.close()
        run.wait(20)

    def test_killed_the_command_goes_with_it_and_what_is_left_is_swept(self):
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT)
        run = self.start("sh", "-c", "setsid sleep 1000 & echo up; wait")
        self.assertEqual(run.stdout.readline(), "up\n")
        governed, = self.group.glob("weir-run-*")
        run.kill()
        run.wait(20)
        self.assertTrue(wait_until(lambda: not (governed / "cgroup.procs").read_text(), 10), "something outlived it")
        self.assertTrue(list((self.pins / "weir").glob("*/weir_egress")), "the gates went before the processes")
        self.assertEqual(self.weir_run("true").returncode, 0)
        self.assertTrue(wait_until(lambda: not governed.exists(), 5), "the group was left")
        self.assertEqual(list((self.pins / "weir").iterdir()), [])

    def test_killed_nothing_leaves_while_the_command_dies(self):
        """There is no place for pins here, so the gates live by the sandbox alone, and longer than all in it."""
        hammers = "for i in 1 2 3 4; do python3 -c '" + HAMMER.replace('os.write(int(sys.argv[1]), b"0")\n', "") + f"' 0 {DENIED4} & done; wait"
        for _ in range(5):
            run = self.lab.start(self.root([self.lab.binary, "run", "-q", "--capture", "cgroup", "--user", str(UID), "--", "sh", "-c", hammers],
                                           {"WEIR_BPFFS": ""}), as_root=True, preexec_fn=self.enter)
            self.assertEqual(run.stdout.readline(), "up\n")
            run.kill()
            run.wait(20)
            self.assertTrue(wait_until(lambda: not self.living(), 10))
        self.assertEqual(self.lab.canary() - self.canary_before, 0)

    def living(self):
        return [pid for path in self.group.glob("weir-run-*") for pid in (path / "cgroup.procs").read_text().split()]

    def test_the_gates_beside_the_command_cannot_be_reached(self):
        script = ("grep ' bpf ' /proc/self/mountinfo; umount /proc 2>/dev/null && echo umounted; ls / /proc/weir_egress /proc/link0 2>/dev/null | grep link;"
                  "unshare -Ur sh -c 'umount -l /proc && ls /proc' 2>/dev/null; echo end")
        for user in (None, UID):
            done = self.weir_run("sh", "-c", script, user=user, options=["-q"], env={"WEIR_BPFFS": ""})
            lines = [line for line in done.stdout.splitlines() if " - bpf " not in line]
            self.assertEqual(lines, ["end"], done.stdout)

    def test_an_ordinary_command_has_namespaces_and_a_proc_of_its_own(self):
        script = "echo 100 >/proc/self/oom_score_adj && unshare -Urpf --mount-proc sh -c 'echo $$ $(id -u)'"
        self.assertEqual(self.weir_run("sh", "-c", script).stdout, "1 0\n")

    def test_what_the_command_is(self):
        """Root without --user keeps what services need, and nothing that leads past the gates; --user keeps nothing."""
        script = "grep -E 'Cap(Eff|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/self/status; id -u; cat /proc/self/cgroup"
        done = self.weir_run("sh", "-c", script, user=None, options=["-q"])
        self.assertEqual(set(re.findall(r"Cap(?:Eff|Bnd):\s(\S+)", done.stdout)), {"00000000a00004fb"}, done.stdout)
        self.assertIn("NoNewPrivs:\t1", done.stdout)
        done = self.weir_run("sh", "-c", script)
        self.assertEqual(set(re.findall(r"Cap(?:Eff|Bnd|Amb):\s(\S+)", done.stdout)), {"0000000000000000"})
        self.assertIn(f"\n{UID}\n", done.stdout)
        self.assertIn("Seccomp:\t2", done.stdout)

    def test_root_cannot_leave_its_cgroup_nor_reach_the_kernel(self):
        script = ("for p in $(grep -E ' cgroup2? | bpf | sysfs ' /proc/self/mountinfo | cut -d' ' -f5); do (echo 0 >$p/cgroup.procs) 2>/dev/null && echo left $p; "
                  "mkdir $p/x 2>/dev/null && echo made $p; done; (echo x >/proc/sys/kernel/core_pattern) 2>/dev/null && echo core; "
                  "(echo 1 >/proc/sysrq-trigger) 2>/dev/null && echo sysrq; mount -t tmpfs x /mnt 2>/dev/null && echo mounted; "
                  "unshare -UrC sh -c 'mkdir -p /tmp/cg$$; mount -t cgroup2 x /tmp/cg$$ 2>/dev/null && ls -d /tmp/cg$$/weir-* 2>/dev/null && echo sees'; echo end")
        done = self.weir_run("sh", "-c", script, user=None, options=["-q"])
        self.assertEqual(done.stdout, "end\n", done.stderr)
