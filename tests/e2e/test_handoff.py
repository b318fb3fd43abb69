# SPDX-License-Identifier: Apache-2.0
"""The socket handoff: what is allowed is connected by Weir and handed over, what is denied gets EPERM, what a rule no
longer allows is reset wherever it is, and where the machine lacks something the relay does it."""
import json
import pathlib
import shutil
import threading
import time

from harness import (DENIED4, ECHO_PORT, OTHER4, TOOLS4, WIKIPEDIA4, WIKIPEDIA6, LabCase, external_service,
                     service_entry, wait_until)
from lab import build_folder, command

HOLE_PORT, REFUSED_PORT = 9, 4444
CONNECT = """
import errno, socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
try:
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.sendall(b"hello")
    print("connected", s.recv(5).decode(), s.getpeername()[0], s.getpeername()[1])
except OSError as error:
    print(errno.errorcode[error.errno])
"""
# Opens a flow and hides its socket as told; then says whether it is still alive for each line of input.
HOLD = """
import array, os, signal, socket, sys, time
how, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
if how in ("stopped", "stop-only") and os.fork():
    os.wait(); sys.exit()
s = socket.create_connection((host, port))
s.sendall(b"x"); assert s.recv(1) == b"x"
if how == "dup":
    t = os.dup(s.fileno()); s.close(); s = socket.socket(fileno=t)
if how == "fork" and os.fork():
    s.close(); os.wait(); sys.exit()
if how in ("pass", "flight", "stopped"):
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    def put(sock):
        a.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sock.fileno()]))])
        sock.close()
    def get():
        _, extra, _, _ = b.recvmsg(1, socket.CMSG_SPACE(4))
        return socket.socket(fileno=array.array("i", extra[0][2])[0])
    if how == "pass" and os.fork():
        put(s); os.wait(); sys.exit()
    if how == "pass":
        s = get()
print("open", flush=True)
if how == "stopped":
    put(s); os.kill(os.getpid(), signal.SIGSTOP)
if how == "flight":
    put(s)
    while True:
        # Out of its hiding place for a moment at a time.
        s = get()
        try:
            s.send(b"y", socket.MSG_DONTWAIT)
        except OSError as error:
            print("dead", error, flush=True); sys.exit()
        put(s)
        time.sleep(0.0005)
if how == "stop-only":
    os.kill(os.getpid(), signal.SIGSTOP)
sys.stdin.readline()
try:
    s.sendall(b"x"); print("alive" if s.recv(1) == b"x" else "ended", flush=True)
except OSError as error:
    print("dead", error, flush=True)
"""


class Handoff(LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # A port of which nothing ever comes back.
        command(["ip", "netns", "exec", cls.lab.internet, "nft", "-f", "-"],
                input=f"table inet hole {{ chain in {{ type filter hook input priority 0; tcp dport {HOLE_PORT} drop\n }}\n }}\n")
        (cls.lab.web / "large").write_bytes(b"weir" * 1_000_000)
        for name in ("sockets", "without"):
            shutil.copy(build_folder() / "tests" / "handoff" / f"handoff_{name}", cls.lab.folder / name)

    def setUp(self):
        super().setUp()
        self.log = self.lab.home / "flows.json"
        self.log.unlink(missing_ok=True)

    def allow_ports(self, *ports, hosts=(WIKIPEDIA4 + "/32",)):
        for port in ports:
            self.allow(*hosts, port=port, name=f"port-{port}")

    def flows(self, **wanted):
        found = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [flow for flow in found if all(flow[key] == value for key, value in wanted.items())]

    def connect(self, host, port, *options, env=None):
        return self.lab.weir(["run", "--log", self.log, *options, "--", "python3", "-c", CONNECT, host, port], env=env)

    def test_an_allowed_connection_is_handed_over_and_its_bytes_are_counted(self):
        self.allow_ports(80)
        done = self.weir_run("curl", "-s", "-H", "Connection: close", "-w", "%{size_request} %{size_header}", "-o",
                             "/dev/null", f"http://{WIKIPEDIA4}/large", options=["--log", self.log, "--handoff", "require"])
        request, header = map(int, done.stdout.split())
        flow, = self.flows(protocol="tcp")
        self.assertEqual((flow["path"], flow["verdict"], flow["reason"], flow["rule"], flow["command"]),
                         ("handoff", "allow", "finished", "default/port-80", "curl"))
        self.assertEqual((flow["bytes_sent"], flow["bytes_received"]), (request, header + 4_000_000))
        self.assertGreater(flow["duration_ms"], 0)

    def test_a_flow_that_is_reset_by_its_owner_has_no_figures(self):
        self.allow_ports(ECHO_PORT)
        script = ("import socket, struct; s = socket.create_connection(('%s', %d)); s.sendall(b'x'); s.recv(1);"
                  "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()")
        self.weir_run("python3", "-c", script % (WIKIPEDIA4, ECHO_PORT), options=["--log", self.log])
        flow, = self.flows(protocol="tcp")
        self.assertEqual((flow["path"], flow["reason"], flow["bytes_sent"], flow["bytes_received"]),
                         ("handoff", "reset_by_workload", None, None))

    def test_a_denied_connect_is_refused_by_the_call_itself(self):
        self.allow_ports(ECHO_PORT)
        done = self.connect(DENIED4, 443)
        self.assertEqual(done.stdout, "EPERM\n")
        self.assert_denied(done.stderr, rf"tcp {DENIED4}:443 \(no rule\) python3\[\d+\]")
        flow, = self.flows(protocol="tcp")
        self.assertEqual((flow["path"], flow["verdict"], flow["reason"], flow["command"]),
                         ("handoff", "deny", "no_rule", "python3"))
        self.assertEqual(self.connect(WIKIPEDIA4, ECHO_PORT).stdout.split()[:2], ["connected", "hello"])

    def test_off_goes_through_the_relay(self):
        self.allow_ports(ECHO_PORT)
        done = self.connect(WIKIPEDIA4, ECHO_PORT, "--handoff=off", "-v")
        self.assertEqual(done.stdout.split()[:2], ["connected", "hello"])
        self.assertIn("weir: path relay: --handoff=off\n", done.stderr)
        self.assertEqual([flow["path"] for flow in self.flows(protocol="tcp")], ["relay"])
        # There a denied connect() succeeds, for it was accepted, and is then reset.
        self.assertEqual(self.connect(DENIED4, 443, "--handoff=off").stdout, "ECONNRESET\n")

    def test_verbose_says_the_path_once(self):
        done = self.weir_run("true", options=["-v"])
        self.assertEqual(done.stderr.count("weir: path handoff: "), 1, done.stderr)
        said = self.weir("explain", "--capabilities").stdout
        self.assertIn("weir: " + said, done.stderr)
        done = self.lab.run([self.lab.folder / "without", "landlock", self.lab.binary, "explain", "--capabilities"])
        self.assertEqual((done.returncode, done.stdout.split(" ")[:2]), (0, ["path", "relay:"]))
        self.assertIn("Landlock", done.stdout)

    def test_ipv6_mapped_and_static(self):
        self.create(service_entry("six", [f"{WIKIPEDIA6}/128"], ECHO_PORT))
        self.allow_ports(ECHO_PORT)
        self.create(service_entry("moved", ["192.0.2.7"], ECHO_PORT, extra=(
            f"  resolution: STATIC\n  endpoints:\n  - address: {TOOLS4}\n")))
        for host, peer in ((WIKIPEDIA6, WIKIPEDIA6), ("::ffff:" + WIKIPEDIA4, "::ffff:" + WIKIPEDIA4), ("192.0.2.7", TOOLS4)):
            with self.subTest(host):
                done = self.connect(host, ECHO_PORT)
                # getpeername() shows the endpoint, not the address that was asked for.
                self.assertEqual(done.stdout.split(), ["connected", "hello", peer, str(ECHO_PORT)], done.stderr)
        self.assertEqual({flow["path"] for flow in self.flows(protocol="tcp")}, {"handoff"})

    def test_a_program_sees_what_it_sees_without_weir(self):
        """Options, flags, second connects, signals, epoll sets, threads: line for line as without Weir."""
        self.allow_ports(ECHO_PORT, REFUSED_PORT, HOLE_PORT)
        argv = [self.lab.folder / "sockets", WIKIPEDIA4, ECHO_PORT, REFUSED_PORT, HOLE_PORT]
        direct = self.lab.run(argv)
        for mode in ("require", "off"):
            with self.subTest(mode):
                inside = self.lab.weir(["run", "-q", "--log", self.log, "--handoff", mode, "--", *argv])
                self.assertEqual(inside.returncode, 0, inside.stderr)
                expected, got = direct.stdout.splitlines(), inside.stdout.splitlines()
                if mode == "off":  # through the relay a refusal comes after connect(), and nothing is under way
                    keep = ("flags", "options", "families", "storm", "threads", "child", "server", "port 80", "bound")
                    expected, got = ([line for line in lines if line.startswith(keep)] for lines in (expected, got))
                self.assertEqual(got, expected)
        # One socket was bound, and three seconds of everything else were handed over.
        paths = [flow["path"] for flow in self.flows(protocol="tcp", workload=self.flows()[0]["workload"])]
        self.assertEqual(paths.count("relay"), 1)
        self.assertGreater(paths.count("handoff"), 1400)

    def test_a_slow_destination_blocks_nobody(self):
        self.allow_ports(ECHO_PORT, HOLE_PORT)
        script = f"""
import socket, threading, time
def hole():
    s = socket.socket(); s.settimeout(None)
    try: s.connect(("{WIKIPEDIA4}", {HOLE_PORT}))
    except OSError: pass
for _ in range(50): threading.Thread(target=hole, daemon=True).start()
time.sleep(0.3)
for _ in range(200): socket.create_connection(("{WIKIPEDIA4}", {ECHO_PORT}), 5).close()
print("done", flush=True)
import os; os._exit(0)
"""
        self.assertEqual(self.weir_run("python3", "-c", script).stdout, "done\n")

    def test_connect_timeouts_of_programs(self):
        self.need("wget", "curl")
        self.allow_ports(HOLE_PORT)
        for argv in (["wget", "-q", "--tries=1", "--connect-timeout=1", f"http://{WIKIPEDIA4}:{HOLE_PORT}/"],
                     ["curl", "-s", "--connect-timeout", "1", f"http://{WIKIPEDIA4}:{HOLE_PORT}/"],
                     ["timeout", "-s", "INT", "1", "bash", "-c", f"exec 3<>/dev/tcp/{WIKIPEDIA4}/{HOLE_PORT}"]):
            with self.subTest(argv[0]):
                began = time.monotonic()
                done = self.lab.weir(["run", "--", *argv], timeout=20)
                self.assertNotEqual(done.returncode, 0)
                self.assertLess(time.monotonic() - began, 10)

    def test_ten_thousand_threads(self):
        """More threads than Weir keeps descriptors for."""
        self.allow_ports(ECHO_PORT)
        done = self.weir_run(self.lab.folder / "sockets", WIKIPEDIA4, ECHO_PORT, "crowd", 10000, options=["--log", self.log])
        self.assertEqual(done.stdout, "10000 threads: 0 failed\n")
        self.assertEqual(len(self.flows(protocol="tcp", verdict="allow")), 10000)

    def hold(self, how):
        self.allow_ports(ECHO_PORT)
        process = self.lab.start_weir(["run", "--log", self.log, "--", "python3", "-c", HOLD, how, WIKIPEDIA4, ECHO_PORT], stdin=-1)
        self.assertEqual(process.stdout.readline(), "open\n")
        return process

    def established(self):
        return self.lab.run(["ss", "-Htn", "state", "established", "dst", WIKIPEDIA4]).stdout != ""

    def test_revocation_reaches_a_flow_wherever_it_is(self):
        for how in ("plain", "dup", "fork", "pass", "stop-only"):
            with self.subTest(how):
                process = self.hold(how)
                self.assertTrue(self.established())
                self.weir("delete", "externalservice", f"port-{ECHO_PORT}")
                self.assertTrue(wait_until(lambda: not self.established(), 2))
                if how == "stop-only":
                    process.kill()
                else:
                    process.stdin.write("?\n")
                    process.stdin.close()
                    self.assertIn("dead", process.stdout.readline())
                process.wait(30)
                cut = self.flows(reason="policy_revoked")[-1]
                self.assertEqual((cut["path"], cut["verdict"], cut["bytes_sent"], cut["bytes_received"]), ("handoff", "deny", 1, 1))

    def test_a_workload_that_hides_a_flow_is_killed(self):
        for how in ("flight", "stopped"):
            with self.subTest(how):
                process = self.hold(how)
                self.assertTrue(wait_until(self.established, 5))
                self.weir("delete", "externalservice", f"port-{ECHO_PORT}")
                self.assertTrue(wait_until(lambda: not self.established(), 2))
                status = process.wait(30)
                reasons = {flow["reason"] for flow in self.flows(protocol="tcp")}
                # Caught while it was out for a moment, or else all of it ended.
                if status == 137:
                    self.assertIn("hidden", reasons)
                    self.assertIn("hid a connection", process.stderr.read())
                else:
                    self.assertEqual(how, "flight")
                    self.assertIn("policy_revoked", reasons)

    def test_a_command_that_stops_itself_does_not_outrun_its_supervisor(self):
        """Weir stops with the command, as one job: what else runs inside may not go on sending where nobody could cut it."""
        self.allow_ports(ECHO_PORT)
        script = (f"import os, signal, socket, time\ns = socket.create_connection(('{WIKIPEDIA4}', {ECHO_PORT}))\n"
                  "if os.fork():\n    print('open', flush=True); os.kill(os.getpid(), signal.SIGSTOP); os.wait()\nelse:\n"
                  "    try:\n        while True: s.send(b'z'); time.sleep(0.001)\n    except OSError as error: print('dead', flush=True)")
        process = self.lab.start_weir(["run", "--log", self.log, "--", "python3", "-c", script])
        self.assertEqual(process.stdout.readline(), "open\n")

        def stopped():
            return pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        self.assertTrue(wait_until(stopped, 10))
        self.weir("delete", "externalservice", f"port-{ECHO_PORT}")
        before = self.lab.packets(WIKIPEDIA4)
        self.assertFalse(wait_until(lambda: self.lab.packets(WIKIPEDIA4) != before, 0.5), "it went on sending")
        self.lab.run(["kill", "-CONT", process.pid], as_root=True)
        self.assertEqual(process.stdout.readline(), "dead\n")
        self.assertEqual(process.wait(30), 0)
        self.assertEqual(len(self.flows(reason="policy_revoked")), 1)

    def test_no_queued_byte_arrives_after_a_revocation(self):
        """A send queue full to the brim, to a peer that does not read: what was not acknowledged before is never sent."""
        self.allow("0.0.0.0/0", port=9999, name="slow")
        reader = ("import socket, sys, time; l = socket.create_server(('', 9999)); print('up', flush=True); c = l.accept()[0];"
                  "sys.stdin.readline(); n = 0\n"
                  "try:\n    while d := c.recv(1 << 20): n += len(d)\n    print('end', n)\nexcept OSError: print('reset', n)")
        server = self.lab.start(["python3", "-c", reader], namespace=self.lab.internet, as_root=True, stdin=-1)
        self.assertEqual(server.stdout.readline(), "up\n")
        writer = (f"import socket, sys, time; s = socket.create_connection(('{OTHER4}', 9999)); s.settimeout(1)\n"
                  "n = 0\ntry:\n    while True: n += s.send(b'z' * 65536)\nexcept TimeoutError: print(n, flush=True)\n"
                  "time.sleep(30)")
        process = self.lab.start_weir(["run", "--log", self.log, "--", "python3", "-c", writer])
        queued = int(process.stdout.readline())
        self.weir("delete", "externalservice", "slow")
        self.assertTrue(wait_until(lambda: self.flows(reason="policy_revoked"), 5))
        server.stdin.write("read\n")
        server.stdin.flush()
        how, arrived = server.stdout.readline().split()
        self.assertEqual(how, "reset")
        self.assertLess(int(arrived), queued)
        process.kill()

    def test_where_the_machine_lacks_something_the_relay_does_it(self):
        self.allow_ports(ECHO_PORT)
        without = self.lab.folder / "without"
        for lack, word in (("landlock", "Landlock"), ("notify", "notification is refused"), ("ptrace", "ptrace_scope"),
                           ("kcmp", "kcmp"), ("listener", "listener is there already"), ("descriptors", "open files")):
            with self.subTest(lack):
                around = ["prlimit", "--nofile=128:128"] if lack == "descriptors" else [without, lack]
                run = [*around, self.lab.binary, "run", "-v", "--log", self.log]
                done = self.lab.run([*run, "--", "python3", "-c", CONNECT, WIKIPEDIA4, ECHO_PORT])
                self.assertEqual(done.stdout.split()[:2], ["connected", "hello"], done.stderr)
                self.assertEqual(len([line for line in done.stderr.splitlines() if line.startswith("weir: path relay: ") and word in line]), 1, done.stderr)
                self.assertEqual(self.flows(protocol="tcp")[-1]["path"], "relay")
                self.assertNotIn("connected", self.lab.run([*run, "--", "python3", "-c", CONNECT, DENIED4, 443]).stdout)
                done = self.lab.run([*around, self.lab.binary, "run", "--handoff=require", "--", "true"])
                self.assertEqual(done.returncode, 125)
                self.assertRegex(done.stderr, rf"^Error: --handoff=require: .*{word}")

    def test_without_a_table_of_its_own_watched_sockets_go_to_the_relay(self):
        self.allow_ports(ECHO_PORT, REFUSED_PORT, HOLE_PORT)
        argv = [self.lab.folder / "sockets", WIKIPEDIA4, ECHO_PORT, REFUSED_PORT, HOLE_PORT]
        direct = self.lab.run(argv)
        inside = self.lab.run([self.lab.folder / "without", "table", self.lab.binary, "run", "--log", self.log,
                               "--handoff=require", "--", *argv])
        self.assertEqual(inside.stdout, direct.stdout, inside.stderr)
        # One is bound, two are watched.
        self.assertEqual(len(self.flows(path="relay", protocol="tcp")), 3)

    def test_weir_inside_weir_and_an_inner_network(self):
        """Only sockets of the sandbox's own network are handed off: an inner run judges by its own policy, and its relay's
        connections are the outer one's business."""
        self.allow_ports(ECHO_PORT)
        self.allow(OTHER4 + "/32", port=ECHO_PORT, name="other")
        inner = self.lab.user_file("inner.yaml", external_service("inner", [WIKIPEDIA4 + "/32"], ECHO_PORT))
        run = ["weir", "run", "-v", "-f", inner, "--", "python3", "-c", CONNECT]
        done = self.weir_run(*run, WIKIPEDIA4, ECHO_PORT, options=["--log", self.log])
        self.assertEqual(done.stdout.split()[:2], ["connected", "hello"])
        self.assertIn("weir: path relay: a filter with a listener is there already", done.stderr)
        self.assertNotIn("connected", self.weir_run(*run, OTHER4, ECHO_PORT).stdout)
        self.assertNotIn("connected", self.weir_run(*run, DENIED4, 443).stdout)
        done = self.lab.weir(["run", "--", "unshare", "-Urn", "python3", "-c", CONNECT, WIKIPEDIA4, ECHO_PORT])
        self.assertEqual(done.stdout, "ENETUNREACH\n")

    def test_audit_lets_through_by_the_relay(self):
        done = self.connect(OTHER4, ECHO_PORT, "--audit")
        self.assertEqual(done.stdout.split()[:2], ["connected", "hello"])
        flow, = self.flows(protocol="tcp")
        self.assertEqual((flow["path"], flow["audit"]), ("relay", True))

    def test_a_burst_has_a_record_each(self):
        """Thousands of connects a second, four processes at once: none fails, none is lost from the log."""
        self.allow_ports(ECHO_PORT)
        script = f"""
import os, socket
children = []
for _ in range(4):
    pid = os.fork()
    if pid:
        children.append(pid)
        continue
    for _ in range(1000):
        with socket.create_connection(("{WIKIPEDIA4}", {ECHO_PORT})) as s:
            s.sendall(b"x")
            assert s.recv(1) == b"x"
            # The peer's end is waited for, for what it sends after this socket is gone is not counted any more.
            s.shutdown(socket.SHUT_WR)
            assert s.recv(1) == b""
    os._exit(0)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
"""
        self.weir_run("python3", "-c", script, options=["--log", self.log])
        flows = self.flows(path="handoff")
        self.assertEqual(len(flows), 4000)
        self.assertEqual({(flow["bytes_sent"], flow["bytes_received"]) for flow in flows}, {(1, 1)})

    def test_a_supervisor_that_is_stopped_or_killed_lets_nothing_out(self):
        self.allow_ports(ECHO_PORT)
        script = CONNECT.replace("import errno", "import time\nprint('up', flush=True); sys.stdin.readline()\nimport errno") \
            .replace("import errno, socket, sys", "import errno, socket").replace("import time", "import time, sys")
        for number in ("STOP", "KILL"):
            with self.subTest(number):
                before = self.lab.packets(WIKIPEDIA4)
                process = self.lab.start_weir(["run", "--", "python3", "-c", script, WIKIPEDIA4, ECHO_PORT], stdin=-1)
                self.assertEqual(process.stdout.readline(), "up\n")
                self.lab.run(["kill", "-" + number, process.pid], as_root=True)
                if number == "STOP":
                    process.stdin.write("go\n")
                    process.stdin.flush()
                    seen = []
                    reader = threading.Thread(target=lambda p=process, s=seen: s.append(p.stdout.readline()))
                    reader.start()
                    reader.join(0.5)
                    self.assertEqual(seen, [], "it went on without its supervisor")
                    self.lab.run(["kill", "-CONT", process.pid], as_root=True)
                    reader.join(10)
                    self.assertEqual(seen[0].split()[:2], ["connected", "hello"])
                else:
                    self.assertEqual(process.stdout.readline(), "", "the command outlived its supervisor")
                    self.assertEqual(self.lab.packets(WIKIPEDIA4), before)
                process.wait(30)
