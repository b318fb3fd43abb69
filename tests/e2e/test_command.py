# SPDX-License-Identifier: Apache-2.0
"""What a command sees of being run by Weir: exit statuses, signals, terminal, children, and its own servers."""
import json
import os
import pty
import re
import select
import signal
import time

from harness import CODE, DENIED4, ECHO_PORT, OTHER4, UID, WIKIPEDIA4, LabCase, external_service, wait_until

SERVE_ITSELF = """
import http.server, socket, sys, threading, urllib.request
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = Server((sys.argv[1], 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
host = f"[{sys.argv[1]}]" if ":" in sys.argv[1] else sys.argv[1]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open(f"http://{host}:{server.server_port}/", timeout=10).status)
"""
# Runs a command as uid 1234 in a user namespace that allows no more of them.
FORBID = """
import ctypes, os, sys
asked, answered = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    assert ctypes.CDLL(None, use_errno=True).unshare(0x10000000) == 0
    os.write(asked[1], b"x")
    os.read(answered[0], 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    with open("/proc/sys/user/max_user_namespaces", "w") as setting:
        setting.write("0")
    os.setgroups([])
    os.setresgid(1234, 1234, 1234)
    os.setresuid(1234, 1234, 1234)
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(asked[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{pid}/{name}", "w") as ids:
        ids.write("0 0 65536")
os.write(answered[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
# Types a newline into the terminal by each request that does so; the last differs only above bit 31, which the kernel ignores.
TYPE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p]
for request in (0x5412, 0x541C, 0x5412 | 1 << 32):
    done = libc.ioctl(0, request, b"\\n")
    print(hex(request), "typed" if done == 0 else os.strerror(ctypes.get_errno()))
print("end of " + "probe")
"""


def sleepers(seconds):
    """Processes, anywhere, that are "sleep SECONDS"."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as line:
                    if line.read() == b"sleep\0%d\0" % seconds:
                        found.append(int(entry))
            except OSError:
                pass
    return found


class Command(LabCase):
    def test_exit_statuses(self):
        for script, status in (("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137),
                               ("kill -INT $$", 130), ("kill -SEGV $$", 139)):
            with self.subTest(script):
                self.weir_run("sh", "-c", script, status=status)

    def test_a_command_that_cannot_start(self):
        done = self.weir("run", status=125)
        self.assert_one_line(done)
        done = self.weir_run("no-such-command", status=127)
        # A folder of PATH that may not be entered has execvp() say EACCES.
        closed = self.lab.folder / "closed"
        closed.mkdir(mode=0o700)
        self.assertIn("No such file", self.weir_run("no-such-command", status=127, env={"PATH": f"{closed}:/usr/bin:/bin"}).stderr)
        self.assert_one_line(done, "no-such-command")
        path = self.lab.user_file("not-executable", "#!/bin/sh\n", 0o644)
        done = self.weir_run(path, status=126)
        self.assert_one_line(done, "not-executable")
        self.assert_one_line(self.weir("run", "--no-such-option", "--", "true", status=125), "--no-such-option")

    def assert_one_line(self, done, *words):
        lines = [line for line in done.stderr.splitlines() if not line.startswith("try 'weir")]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith("Error: "), done.stderr)
        for word in words:
            self.assertIn(word, lines[0])
        self.assertEqual(done.stdout, "")

    def test_unix_names_what_is_there(self):
        for path, words in (("/nonexistent/x.sock", "No such file"), ("x.sock", "from /")):
            self.assert_one_line(self.weir("run", "--unix", path, "--", "echo", "started", status=125), path, words)

    def test_a_policy_that_cannot_be_used(self):
        for name, text, wanted in (
                ("port.yaml", external_service("x", ["1.2.3.4/32"], 70000), "70000"),
                ("cidr.yaml", external_service("x", ["10.0.0.0/33"]), "10.0.0.0/33"),
                ("six.yaml", external_service("x", ["2001:db8::/32"]), "ServiceEntry"),
                ("typo.yaml", external_service("x", ["1.2.3.4/32"]).replace("hosts", "hsots"), "hsots"),
                ("tab.yaml", "kind: ExternalService\n\tspec:\n", "tab.yaml:2"),
                ("twice.yaml", "kind: ExternalService\nkind: ExternalService\n", "twice.yaml:2")):
            with self.subTest(name):
                path = self.lab.user_file(name, text)
                done = self.weir("run", "-f", path, "--", "echo", "started", status=125)
                self.assertIn(wanted, done.stderr)
                self.assertEqual(done.stdout, "")
        for path in (self.lab.home, self.lab.home / "missing.yaml"):
            with self.subTest(str(path)):
                done = self.weir("run", "-f", path, "--", "echo", "started", status=125)
                self.assert_one_line(done, str(path))

    def test_a_store_on_a_read_only_file_system(self):
        """It can be read and obeyed; writing to it fails in one line and changes nothing."""
        self.allow(WIKIPEDIA4 + "/32")
        script = f'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec setpriv --reuid 1234 --regid 1234 --clear-groups "$@"'
        env = ["env", "-i", *self.lab.environment(), self.lab.binary]
        inside = ["unshare", "-m", "sh", "-c", script, "sh", self.lab.home / "store", *env]
        done = self.lab.run([*inside, "run", "--", *CODE, f"https://{WIKIPEDIA4}"], as_root=True)
        self.assertEqual(done.stdout, "200", done.stderr)
        done = self.lab.run([*inside, "create", "-f", "-"], as_root=True, input=external_service("more", [OTHER4 + "/32"]))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"^Error: .*[Rr]ead-only")
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_without_nftables(self):
        """Hidden in a mount namespace: nft is looked for in the system's folders before PATH."""
        self.assertEqual(self.weir_run("true").stderr, "")
        script = 'mount -t tmpfs none /usr/sbin && exec setpriv --reuid 1234 --regid 1234 --clear-groups "$@"'
        env = ["env", "-i", *self.lab.environment(), "PATH=/usr/bin:/bin", self.lab.binary]
        done = self.lab.run(["unshare", "-m", "sh", "-c", script, "sh", *env, "run", "--", "true"], as_root=True)
        self.assertEqual(done.returncode, 125, done.stderr)
        self.assert_one_line(done, "nft")

    def test_user_namespaces_forbidden(self):
        """Forbidden in a user namespace of the test's own, so that the machine's setting stays as it is."""
        path = self.lab.user_file("forbid.py", FORBID)
        inside = ["/usr/bin/python3", path, "env", "-i", *self.lab.environment()]
        done = self.lab.run([*inside, "unshare", "-U", "true"], as_root=True)
        self.assertNotEqual(done.returncode, 0, "the control: they are not forbidden here")
        done = self.lab.run([*inside, self.lab.binary, "run", "--", "echo", "started"], as_root=True)
        self.assertEqual(done.returncode, 125, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assert_one_line(done, "user namespaces")

    def test_started_without_streams_or_with_sigchld_ignored(self):
        """By a daemon that closed its standard streams, or by a shell with trap "" CHLD."""
        self.allow(WIKIPEDIA4 + "/32")
        for redirection in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            with self.subTest(redirection):
                out = self.lab.home / "out"
                self.lab.run(["bash", "-c", f"weir run -- sh -c 'readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; echo ok >{out}' {redirection}"])
                self.assertEqual(out.read_text(), "ok\n")
                out.unlink()
        script = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])"
        done = self.lab.run(["python3", "-c", script, "weir", "run", "--", *CODE, f"https://{WIKIPEDIA4}"])
        self.assertEqual((done.returncode, done.stdout), (0, "200"), done.stderr)

    def test_a_policy_from_a_pipe(self):
        policy = self.lab.user_file("piped.yaml", external_service("piped", [WIKIPEDIA4 + "/32"]))
        done = self.lab.run(["bash", "-c", f"weir run -f <(cat {policy}) -- {' '.join(map(repr, CODE))} https://{WIKIPEDIA4}"])
        self.assertEqual(done.stdout, "200", done.stderr)

    def test_names_of_files_cannot_move_the_terminal(self):
        self.allow(WIKIPEDIA4 + "/32")
        folder = self.lab.home / "store" / "external-service" / "default"
        (folder / "\x1b]0;owned\x07\u009bx.yaml").write_text("kind: Foo\n")
        for argv in (["run", "--", "true"], ["run", "-f", "\x1b[31mnope", "--", "true"], ["get", "externalservice"]):
            done = self.lab.weir(argv)
            self.assertNotEqual(done.returncode, 0)
            for c in "\x1b\x07\u009b":
                self.assertNotIn(c, done.stderr)
            self.assertIn("\\x1b", done.stderr)

    def test_signals_sent_to_weir_reach_the_command(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGPWR, signal.SIGRTMIN + 3):
            with self.subTest(number):
                process = self.lab.start_weir(["run", "--", "bash", "-c",
                                               f"trap 'echo got it; exit 9' {int(number)}; echo ready; while :; do sleep 0.05; done"])
                self.assertEqual(process.stdout.readline(), "ready\n")
                self.signal_weir(number)
                self.assertEqual(process.stdout.readline(), "got it\n")
                self.assertEqual(process.wait(20), 9)

    def weir_pids(self):
        """The processes of Weir's binary, the supervisor (the eldest) first."""
        found = []
        for pid in self.lab.run(["ip", "netns", "pids", self.lab.app], as_root=True).stdout.split():
            try:
                if os.readlink(f"/proc/{pid}/exe") == str(self.lab.binary):
                    found.append(int(pid))
            except OSError:
                pass
        return sorted(found)

    def signal_weir(self, number):
        pids = self.weir_pids()
        self.assertTrue(pids, "no supervisor is running")
        os.kill(pids[0], number)

    def test_stops_and_continues_as_one(self):
        process = self.lab.start_weir(["run", "--", "bash", "-c", "echo ready; kill -STOP $$; echo on; exit 4"])
        self.assertEqual(process.stdout.readline(), "ready\n")
        self.assertTrue(wait_until(lambda: any(self.stopped(pid) for pid in self.weir_pids()), 10), "Weir did not stop")
        self.signal_weir(signal.SIGCONT)
        self.assertEqual(process.stdout.readline(), "on\n")
        self.assertEqual(process.wait(20), 4)

    @staticmethod
    def stopped(pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    def test_what_outlives_the_command_is_killed(self):
        script = "setsid bash -c 'setsid sleep 3141 >/dev/null 2>&1 </dev/null & exec sleep 3141' >/dev/null 2>&1 </dev/null & echo left"
        self.assertEqual(self.weir_run("bash", "-c", script).stdout, "left\n")
        self.assertTrue(wait_until(lambda: not sleepers(3141), 5), "a process outlived its run")
        # The control: without Weir the same command leaves them behind, so the search finds them.
        self.lab.run(["bash", "-c", script])
        self.assertTrue(wait_until(lambda: len(sleepers(3141)) == 2, 5), "the control left nothing behind")
        found = sleepers(3141)
        for pid in found:
            os.kill(pid, signal.SIGKILL)

    def test_servers_of_its_own_on_loopback(self):
        for address in ("127.0.0.1", "127.0.0.9", "::1"):
            with self.subTest(address):
                self.assertEqual(self.weir_run("python3", "-c", SERVE_ITSELF, address).stdout, "200\n")

    def test_loopback_is_not_the_hosts(self):
        server = self.lab.start(["python3", "-m", "http.server", "--bind", "127.0.0.1", "8099"])
        self.assertTrue(wait_until(lambda: self.lab.run([*CODE, "http://127.0.0.1:8099/"]).stdout == "200", 10))
        done = self.lab.weir(["run", "--", *CODE, "http://127.0.0.1:8099/"])
        self.assertEqual(done.stdout, "000")
        server.kill()

    def test_publish_lets_the_host_in_at_one_port(self):
        process = self.lab.start_weir(["run", "--publish", "8081:8080", "--", "python3", "-m", "http.server", "--bind", "127.0.0.1", "8080"])
        self.assertTrue(wait_until(lambda: self.lab.run([*CODE, "http://127.0.0.1:8081/"]).stdout == "200", 15))
        self.assertEqual(self.lab.run([*CODE, "http://127.0.0.1:8080/"]).stdout, "000")
        self.signal_weir(signal.SIGTERM)
        self.assertEqual(process.wait(20), 143)

    def test_weir_inside_weir_can_only_narrow(self):
        self.allow(WIKIPEDIA4 + "/32", OTHER4 + "/32")
        inner = self.lab.user_file("inner.yaml", external_service("inner", [WIKIPEDIA4 + "/32", f"{DENIED4}/32"]))
        nested = ["weir", "run", "-f", inner, "--", *CODE]
        self.assertEqual(self.weir_run(*nested, f"https://{WIKIPEDIA4}").stdout, "200")
        self.assertEqual(self.lab.weir(["run", "--", *nested, f"https://{OTHER4}"]).stdout, "000")
        self.assertEqual(self.lab.weir(["run", "--", *nested, f"https://{DENIED4}"]).stdout, "000")

    def test_audit_dials_what_is_denied_and_says_so(self):
        done = self.weir_run(*CODE, f"https://{OTHER4}", options=["--audit"])
        self.assertEqual(done.stdout, "200")
        self.assertRegex(done.stderr, rf"(?m)^weir: audit tcp {OTHER4}:443 \(would have been denied")

    def test_records(self):
        self.allow(WIKIPEDIA4 + "/32")
        log = self.lab.home / "flows.json"
        self.lab.weir(["run", "--log", log, "--", "bash", "-c",
                       f"curl -s -o /dev/null https://{WIKIPEDIA4}/wiki/Main_Page; curl -s https://{OTHER4}; true"])
        records = [json.loads(line) for line in log.read_text().splitlines()]
        self.assertTrue(records)
        text = json.dumps(records)
        self.assertIn(WIKIPEDIA4, text)
        self.assertIn(OTHER4, text)
        by_verdict = {verdict: [r for r in records if r["verdict"] == verdict] for verdict in ("allow", "deny")}
        self.assertEqual([len(found) for found in by_verdict.values()], [1, 1], text)
        for record in records:
            for field in ("time", "workload", "pid", "command", "protocol", "verdict", "reason", "generation"):
                self.assertIn(field, record)
            self.assertEqual(record["command"], "curl")
        self.assertIn("default/allowed", by_verdict["allow"][0]["rule"])

    def test_quiet_says_nothing(self):
        done = self.lab.weir(["run", "-q", "--", *CODE, f"https://{OTHER4}"])
        self.assertEqual((done.stdout, done.stderr), ("000", ""))


class Terminal(LabCase):
    def setUp(self):
        super().setUp()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            argv = self.lab.argv(["bash", "--norc", "--noprofile", "-i"], env={"PS1": "outer> ", "HISTFILE": ""})
            os.execvp(argv[0], argv)
        self.addCleanup(self.hang_up)
        self.expect("outer> ")

    def hang_up(self):
        os.close(self.fd)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def type(self, text):
        os.write(self.fd, text.encode())

    def hears(self, pattern, seconds):
        """What was said until the pattern; None if it did not come, and then self.said is all there was."""
        self.said, end = "", time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self.fd], [], [], 0.2)[0]:
                self.said += os.read(self.fd, 65536).decode("utf-8", "replace")
                if re.search(pattern, self.said):
                    return self.said
        return None

    def expect(self, pattern, seconds=15):
        said = self.hears(pattern, seconds)
        if said is None:
            self.fail(f"wanted {pattern!r} on the terminal, got:\n{self.said}")
        return said

    def test_interrupt_ends_the_command_alone(self):
        self.type("weir run -- sh -c 'exec sleep 2719'\n")
        self.assertTrue(wait_until(lambda: sleepers(2719), 15))
        self.type("\x03")
        self.expect("outer> ")
        self.type("echo status $?\n")
        self.expect("status 130")

    def test_stop_and_foreground(self):
        self.type("weir run -- sh -c 'echo rea''dy; read line; echo got $line; exit 7'\n")
        self.expect("ready\r")
        self.type("\x1a")
        self.expect("Stopped(.|\n)*outer> ")
        self.type("fg\n")
        self.expect("weir run")
        self.type("hello\n")
        self.expect("got hello")
        self.expect("outer> ")
        self.type("echo status $?\n")
        self.expect("status 7")

    def test_an_interactive_shell_with_job_control(self):
        self.type("weir run -- env -u PS1 bash --norc --noprofile -i\n")
        self.expect(r"bash-[0-9.]+\$ ")
        self.type("PS1='inner> '\n")
        self.expect(r"\ninner> ")
        self.type("sleep 2720\n")
        self.assertTrue(wait_until(lambda: sleepers(2720), 15))
        self.type("\x1a")
        self.expect(r"Stopped(.|\n)*inner> ")
        self.type("fg\n")
        said = self.expect("\nsleep 2720\r")
        self.assertNotIn("no job control", said)
        # The shell says the job's name before it hands over the terminal: an interrupt may still be its own.
        self.assertTrue(wait_until(lambda: self.type("\x03") or not sleepers(2720), 15))
        # One interrupt too many takes with it what was typed behind it, so it is typed until it is heard.
        self.assertTrue(wait_until(lambda: self.type("echo ga''ther\n") or self.hears(r"gather\r(.|\n)*inner> ", 2), 15))
        self.type("exit 5\n")
        self.expect("outer> ")
        self.type("echo status $?\n")
        self.expect("status 5")

    def test_typing_into_the_terminal_is_refused(self):
        probe = self.lab.user_file("type.py", TYPE)
        self.type(f"weir run -- python3 {probe}\n")
        said = self.expect("end of probe")
        self.assertEqual(said.count("Operation not permitted"), 3, said)

    def test_the_terminal_keeps_its_name(self):
        """By which it is found, opened and written, although the terminals of the sandbox are others."""
        self.type("tty\n")
        name = re.search(r"\n(/dev/pts/\d+)\r", self.expect(r"\n/dev/pts/\d+\r"))[1]
        os.chown(name, UID, UID)
        self.type("weir run -- sh -c 'tty; python3 -c \"import os; print(os.ttyname(0), os.ttyname(1))\"; echo by na''me >$(tty); echo by t''ty >/dev/tty; echo e''nd'\n")
        said = self.expect("\nend\r")
        self.assertRegex(said, rf"\n{name}\r\n{name} {name}\r")
        self.assertIn("\nby name\r", said)
        self.assertIn("\nby tty\r", said)

    def test_terminals_of_its_own(self):
        """As script, tmux and ssh make them; another terminal of the user's is not among them."""
        self.need("script", "tmux")
        other = self.lab.start(["script", "-qc", "tty; read line", "/dev/null"], stdin=-1)
        name = re.search(r"/dev/pts/\d+", other.stdout.readline())[0]
        script = f"[ -e {name} ] && echo op''en; echo look''ed"
        self.type(f"sh -c '{script}'\n")
        self.expect("\nopen\r")
        self.type(f"weir run -- sh -c '{script}'\n")
        self.assertNotIn("\nopen", self.expect("\nlooked\r"))
        other.communicate("\n", timeout=15)
        self.type("weir run -- script -qc 'test -t 0 && tty && echo in scr''ipt' /dev/null\n")
        self.assertRegex(self.expect("\nin script\r(.|\n)*outer> "), r"\n/dev/pts/\d+\r")
        self.type("weir run -- sh -c 'tmux -L lab new-session -d \"sleep 60\" && tmux -L lab display -p -t 0 \"#{pane_tty} of tmu\"x'\n")
        self.expect(r"\n/dev/pts/\d+ of tmux\r")
