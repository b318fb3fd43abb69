# SPDX-License-Identifier: Apache-2.0
"""Ways out, tried as the workload. Each probe first reaches the canary without Weir, then must not through it."""
import os
import shutil
import socket
import threading

from harness import (CODE, DENIED4, DENIED6, ECHO_PORT, METADATA, OTHER4, WIKIPEDIA4, LabCase, external_service, wait_until)

SEND = """
import socket, sys
family, kind, protocol, host, port = *map(int, sys.argv[1:4]), sys.argv[4], int(sys.argv[5])
sock = socket.socket(family, kind, protocol)
sock.settimeout(2)
payload = b"\\x08\\0\\0\\0\\0\\1\\0\\1" if protocol in (1, 58) else b"out"
if protocol == 58:
    payload = b"\\x80" + payload[1:]
try:
    sock.connect((host, port))
    sock.send(payload)
except OSError as error:
    print(error)
    sys.exit(1)
"""
INET, INET6, STREAM, DATAGRAM, RAW = 2, 10, 1, 2, 3
ICMP, ICMP6 = 1, 58


LISTEN = """
import socket, sys, time
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("up", flush=True)
    time.sleep(60)
"""


class Escape(LabCase):
    def setUp(self):
        super().setUp()
        # A policy that allows something, so that the run is not merely broken; each test ends with this control.
        self.allow(WIKIPEDIA4 + "/32")

    def probe(self, *argv, control=True):
        """Counts at the canary: more than none without Weir (if a control is to be had), none with it."""
        if control:
            before = self.lab.canary()
            self.lab.run(argv, timeout=30)
            self.assertGreater(self.lab.canary(), before, f"the probe proves nothing, it fails without Weir too: {argv}")
            # The control's own connections end with packets of their own: they are no part of what follows.
            self.assertTrue(wait_until(lambda: not self.open_connections(), 30), "the control's connections do not end")
        before = self.lab.canary()
        done = self.lab.weir(["run", "--", *argv], timeout=60)
        self.assertEqual(self.lab.canary() - before, 0, f"packets at the canary: {argv}\n{done.stderr}")
        self.canary_before = self.lab.canary()
        self.reaches_wikipedia()
        return done

    def open_connections(self):
        """To addresses that nothing may reach."""
        said = self.lab.run(["ss", "-Htan", "state", "all", "exclude", "time-wait"]).stdout
        return any(address in said for address in (DENIED4, DENIED6, METADATA))

    def send(self, family, kind, protocol, host, port=ECHO_PORT, **more):
        return self.probe("python3", "-c", SEND, family, kind, protocol, host, port, **more)

    def test_tcp(self):
        for host in (DENIED4, DENIED6, METADATA):
            with self.subTest(host):
                family = INET6 if ":" in host else INET
                done = self.send(family, STREAM, 0, host)
                self.assert_denied(done.stderr, "tcp ")

    def test_udp(self):
        for host in (DENIED4, DENIED6):
            for port in (123, 443, 33434):
                with self.subTest(host=host, port=port):
                    done = self.send(INET6 if ":" in host else INET, DATAGRAM, 0, host, port)
                    self.assert_denied(done.stderr, "udp ")

    def test_icmp(self):
        for host in (DENIED4, DENIED6):
            with self.subTest(host):
                done = self.probe("ping", "-c", "1", "-W", "1", host)
                self.assertNotEqual(done.returncode, 0)

    def test_ping_sockets(self):
        self.send(INET, DATAGRAM, ICMP, DENIED4, 0)
        self.send(INET6, DATAGRAM, ICMP6, DENIED6, 0)

    def test_mapped_addresses(self):
        self.send(INET6, STREAM, 0, f"::ffff:{DENIED4}")
        self.send(INET6, STREAM, 0, f"::ffff:{METADATA}", 80)

    def test_dns_to_a_server_of_its_own_choice(self):
        for host in (DENIED4, DENIED6):
            for transport in ("+notcp", "+tcp"):
                with self.subTest(host=host, transport=transport):
                    self.probe("dig", "+tries=1", "+time=2", transport, f"@{host}", "leak.lab.test")

    def test_sockets_of_other_kinds(self):
        """Refused at socket(); as an ordinary user raw sockets are refused without Weir too, so there is no control."""
        script = ("import socket\n"
                  "for name, args in (('raw', (2, 3, 1)), ('raw6', (10, 3, 58)), ('packet', (17, 3, 0x300)), ('vsock', (40, 1, 0)),\n"
                  "                   ('sctp', (2, 1, 132)), ('mptcp', (2, 1, 262)), ('alg', (38, 5, 0)), ('xdp', (44, 3, 0))):\n"
                  "    try:\n        socket.socket(*args); print('open', name)\n"
                  "    except OSError as error: print('refused', name, error.errno)\n"
                  "socket.socket(2, 1, 0); socket.socket(10, 2, 0); socket.socket(1, 1, 0); print('ordinary ones work')\n")
        done = self.weir_run("python3", "-c", script)
        self.assertNotIn("open", done.stdout)
        self.assertIn("ordinary ones work", done.stdout)

    def test_namespaces_of_its_own(self):
        """An inner network namespace has no way out that the outer one has not."""
        script = f"unshare -Urn sh -c 'ip link set lo up; curl -s --max-time 3 https://{DENIED4}'; curl -s --max-time 3 https://{DENIED4}"
        self.probe("sh", "-c", script)

    def test_flushing_the_rules(self):
        script = ("nft flush ruleset; ip route flush table local; ip link delete lo; ip link add d0 type dummy;"
                  f"unshare -Ur nft flush ruleset; curl -s --max-time 3 https://{DENIED4}")
        self.probe("sh", "-c", script)

    def test_the_store_cannot_be_changed_from_inside(self):
        store = self.lab.home / "store"
        rule = self.lab.user_file("open.yaml", external_service("open", [DENIED4 + "/32"]))
        kept = next(store.rglob("allowed.yaml"))
        content = kept.read_text()
        attempts = {
            "write": f"cp {rule} {store}/external-service/default/open.yaml",
            "overwrite": f"cat {rule} > {kept}",
            "remove": f"rm -rf {store}",
            "rename the file": f"mv {kept} {kept}.old",
            "rename the store": f"mv {store} {store}.old",
            "rename its parent": f"mv {self.lab.home} {self.lab.home}.old",
            "replace the parent": f"mv {self.lab.home} /tmp/gone && mkdir -p {store}",
            "hard link": f"ln {kept} {self.lab.home}/link && cat {rule} > {self.lab.home}/link",
            "unmount": f"umount -l {store}",
            "remount": f"unshare -Urm sh -c 'umount -l {store}; mount -o remount,bind,rw {store}; cp {rule} {store}/external-service/default/'",
            "weir create": f"weir create -f {rule}",
            "another process's root": f"for p in /proc/[0-9]*; do cp {rule} $p/root{store}/external-service/default/open.yaml; done",
        }
        for name, script in attempts.items():
            with self.subTest(name):
                done = self.lab.weir(["run", "--", "sh", "-c", f"({script}) 2>/dev/null; {' '.join(CODE)} https://{DENIED4}"])
                self.assertTrue(done.stdout.endswith("000"), done.stdout)
                self.assertTrue(kept.exists(), "the store is gone")
                self.assertEqual(kept.read_text(), content)
                self.assertEqual([path.name for path in store.rglob("*.yaml")], ["allowed.yaml"])
                # What a second run obeys is what counts.
                self.assertEqual(self.lab.weir(["run", "--", *CODE, f"https://{DENIED4}"]).stdout, "000")
        self.reaches_wikipedia()

    def test_the_store_of_a_run_without_options_is_protected_in_any_run(self):
        """With --store or WEIR_STORE another store is obeyed; the next run may obey this one."""
        standard, evil = self.lab.home / ".local/state/weir", self.lab.user_file("evil.yaml", external_service("evil", [f"{DENIED4}/32"]))
        self.addCleanup(shutil.rmtree, standard, ignore_errors=True)
        for options in (["--store", f"dir:{self.lab.home}/other"], ["-f", evil]):
            for write in ({}, {"WEIR_STORE": ""}):
                with self.subTest(f"{options} {write}"):
                    inner = ["env", *[f"{key}={value}" for key, value in write.items()], "weir", "apply", "-f", evil]
                    done = self.lab.weir(["run", *options, "--", *inner])
                    self.assertNotEqual(done.returncode, 0, done.stdout)
                    self.assertIn("ead-only", done.stderr)
        self.assertEqual(self.weir("get", "externalservice", "--store", f"dir:{standard}").stdout, "No resources found.\n")

    def test_a_store_that_does_not_exist_yet_cannot_be_made_from_inside(self):
        fresh = f"{self.lab.home}/not/yet"
        rule = self.lab.user_file("open.yaml", external_service("open", [DENIED4 + "/32"]))
        script = f"mkdir -p {fresh}/external-service/default; cp {rule} {fresh}/external-service/default/open.yaml; true"
        env = {"WEIR_STORE": f"dir:{fresh}"}
        self.weir_run("sh", "-c", script, env=env)
        self.assertEqual(self.lab.weir(["run", "--", *CODE, f"https://{DENIED4}"], env=env).stdout, "000")

    def test_an_inherited_file_of_the_policy_cannot_be_opened_for_writing(self):
        """A descriptor from before the mounts leads below them, and /proc/self/fd opens it anew."""
        text = external_service("fixed", [WIKIPEDIA4 + "/32"])
        policy = self.lab.user_file("fixed.yaml", text)
        for number in (0, 5):
            with self.subTest(number):
                script = f"echo evil > /proc/self/fd/{number}; head -c 4 <&{number}"
                control = self.lab.run(["bash", "-c", f"bash -c '{script}' {number}< {policy}"])
                self.assertIn("evil", policy.read_text(), "the control did not write")
                self.assertEqual(control.returncode, 0)
                policy.write_text(text)
                inside = f"{self.lab.binary} run -f {policy} -- bash -c '{script}' {number}< {policy}"
                done = self.lab.run(["bash", "-c", inside])
                self.assertEqual(policy.read_text(), text)
                self.assertEqual(done.stdout, text[:4], done.stderr)
        done = self.lab.run(["bash", "-c", f"{self.lab.binary} run -f {policy} -- true >> {policy}"])
        self.assertEqual(done.returncode, 125)
        self.assertIn("would let the command write", done.stderr)
        self.assertEqual(policy.read_text(), text)

    def test_agents_in_the_home_folder_are_hidden_and_keys_are_not(self):
        self.lab.user_file(".gnupg/pubring.kbx", "a ring")
        path = f"{self.lab.home}/.gnupg/S.gpg-agent"
        agent = self.lab.start(["python3", "-c", LISTEN, path])
        self.assertEqual(agent.stdout.readline(), "up\n")
        reach = f"import socket; socket.socket(socket.AF_UNIX).connect('{path}'); print('reached')"
        self.assertEqual(self.lab.run(["python3", "-c", reach]).stdout, "reached\n")
        self.assertNotIn("reached", self.lab.weir(["run", "--", "python3", "-c", reach]).stdout)
        self.assertEqual(self.weir_run("cat", f"{self.lab.home}/.gnupg/pubring.kbx").stdout, "a ring")
        agent.kill()
        agent.wait()

    def test_the_log_cannot_be_rewritten(self):
        log = self.lab.home / "flows.json"
        script = f"curl -s https://{OTHER4}; (: > {log}); rm -f {log}; mv {log} {log}.old; true"
        self.weir_run("sh", "-c", script, options=["--log", log])
        self.assertIn(OTHER4, log.read_text())

    def test_verbose_names_the_sockets_that_stay_reachable(self):
        path = f"{self.lab.home}/own-daemon.sock"
        daemon = self.lab.start(["python3", "-c", LISTEN, path])
        self.assertEqual(daemon.stdout.readline(), "up\n")
        done = self.weir_run("true", options=["-v"])
        daemon.kill()
        daemon.wait()
        self.assertIn(f"weir: a daemon outside can be reached at {path}\n", done.stderr)
        self.assertNotIn("/run/", done.stderr)

    def test_daemons_of_the_host_are_out_of_reach(self):
        """A socket in /run, as docker's is, that would go out for whoever asks."""
        folder = f"/run/weir-lab-{os.getpid()}"
        os.mkdir(folder, 0o755)
        path = folder + "/daemon.sock"
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(path)
            os.chmod(path, 0o777)
            listener.listen()
            threading.Thread(target=self.accept, args=(listener,), daemon=True).start()
            ask = ["curl", "-s", "--max-time", "5", "--unix-socket", path, "http://daemon/"]
            self.assertEqual(self.lab.run(ask).stdout, "the daemon answers")
            self.assertEqual(self.lab.weir(["run", "--", *ask]).stdout, "")
            self.assertEqual(self.weir_run(*ask, options=["--unix", path]).stdout, "the daemon answers")
        finally:
            listener.close()
            os.unlink(path)
            os.rmdir(folder)

    @staticmethod
    def accept(listener):
        while True:
            try:
                peer = listener.accept()[0]
            except OSError:
                return
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.0 200 OK\r\n\r\nthe daemon answers")

    def test_an_inherited_socket_is_refused(self):
        script = (f"exec 7<>/dev/tcp/{OTHER4}/{ECHO_PORT}; {self.lab.binary} run -- bash -c "
                  "'echo out >&7 && echo sent'; echo status $?")
        before = self.lab.run(["bash", "-c", f"exec 7<>/dev/tcp/{OTHER4}/{ECHO_PORT}; bash -c 'echo out >&7 && echo sent'"])
        self.assertIn("sent", before.stdout)
        done = self.lab.run(["bash", "-c", script])
        self.assertNotIn("sent", done.stdout)

    def test_processes_outside_are_hidden(self):
        outside = self.lab.start(["sleep", "2718"])
        done = self.weir_run("sh", "-c", "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done; for p in 3 4 5 6 7 8; do [ $p = $$ ] || kill -KILL $p 2>/dev/null; done; true")
        self.assertNotIn("2718", done.stdout)
        self.assertIsNone(outside.poll(), "a process outside was killed")
        outside.kill()
