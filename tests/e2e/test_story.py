# SPDX-License-Identifier: Apache-2.0
"""The story, policies of each kind, and policies that change under way."""
import shutil

from harness import (CODE, DENIED4, ECHO_PORT, OTHER4, TOOLS4, WIKIPEDIA4, WIKIPEDIA6, LabCase, external_service,
                     Shell, service_entry, wait_until)

CURL = " ".join(f"'{word}'" for word in CODE).replace("%{http_code}", "%{http_code}\\n")
# Opens N connections to each of two addresses, and for each line of input says how many of them still answer.
LIVE = """
import socket, sys
one, two, port, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def dial(host):
    return [socket.create_connection((host, port), 20) for _ in range(n)]
groups = [dial(one), dial(two)]
def alive(flows):
    count = 0
    for flow in flows:
        try:
            flow.settimeout(10)
            flow.sendall(b"x")
            count += flow.recv(1) == b"x"
        except OSError:
            pass
    return count
print("open", *[len(group) for group in groups], flush=True)
for line in sys.stdin:
    print("alive", *[alive(group) for group in groups], flush=True)
"""


class Story(LabCase):
    def test_story(self):
        before = self.lab.packets(WIKIPEDIA4)
        shell = Shell(self)
        said = shell.type(CURL + " https://www.wikipedia.org")
        self.assertIn("000", said)
        self.assertRegex(said, r"(?m)^weir: denied dns www\.wikipedia\.org \(no rule\) curl\[\d+\]$")
        said = shell.type(CURL + f" --resolve www.wikipedia.org:443:{WIKIPEDIA4} https://www.wikipedia.org")
        self.assertIn("000", said)
        self.assertRegex(said, rf"(?m)^weir: denied tcp {WIKIPEDIA4}:443 \(no rule\) curl\[\d+\]$")
        self.assertEqual(self.lab.packets(WIKIPEDIA4), before)

        done = self.weir("create", "-f", self.lab.samples / "wikipedia-ext.yaml")
        self.assertEqual(done.stdout, "Created config external-service/default/wikipedia-ext at revision 1\n")
        self.assertEqual(shell.type(CURL + " https://www.wikipedia.org"), "200")
        self.assertIn("6,000,000", shell.type("curl -s https://www.wikipedia.org/wiki/Main_Page"))

        done = self.weir("delete", "externalservice", "wikipedia-ext")
        self.assertEqual(done.stdout, "Deleted config: externalservice wikipedia-ext\n")
        after = self.lab.packets(WIKIPEDIA4)
        self.assertIn("000", shell.type(CURL + " https://www.wikipedia.org"))
        self.assertIn("000", shell.type(CURL + f" https://{WIKIPEDIA4}"))
        self.assertEqual(self.lab.packets(WIKIPEDIA4), after)
        self.assertEqual(shell.end(), 0)

    def test_an_empty_store_denies_every_address(self):
        for address in (WIKIPEDIA4, OTHER4, TOOLS4, DENIED4, f"[{WIKIPEDIA6}]"):
            with self.subTest(address):
                before = self.lab.packets(address.strip("[]"))
                done = self.lab.weir(["run", "--", *CODE, f"https://{address}"])
                self.assertEqual(done.stdout, "000")
                self.assert_denied(done.stderr, "tcp " + address.replace("[", r"\[").replace("]", r"\]") + ":443")
                self.assertEqual(self.lab.packets(address.strip("[]")), before)
        self.allow(WIKIPEDIA4 + "/32")
        self.reaches_wikipedia()

    def test_another_port_is_denied_and_the_nearest_rule_named(self):
        self.allow(WIKIPEDIA4 + "/27", name="wiki")
        done = self.lab.weir(["run", "--", *CODE, f"http://{WIKIPEDIA4}:80"])
        self.assertEqual(done.stdout, "000")
        self.assert_denied(done.stderr, rf"tcp {WIKIPEDIA4}:80 \(no rule.*default/wiki")
        self.reaches_wikipedia()

    def test_names_that_no_rule_names_are_not_asked(self):
        before = self.lab.packets("10.77.0.53", "fd77::53")
        done = self.lab.weir(["run", "--", "getent", "hosts", "secret.lab.test"])
        self.assertNotEqual(done.returncode, 0)
        self.assert_denied(done.stderr, r"dns secret\.lab\.test \(no rule\)")
        self.assertEqual(self.lab.packets("10.77.0.53", "fd77::53"), before)

    def test_ipv6_service_entry(self):
        done = self.lab.weir(["run", "--", *CODE, f"https://[{WIKIPEDIA6}]"])
        self.assertEqual(done.stdout, "000")
        self.create(service_entry("wiki6", ["2620:0:861:ed1a::/64"]))
        self.assertEqual(self.weir_run(*CODE, f"https://[{WIKIPEDIA6}]").stdout, "200")
        done = self.lab.weir(["run", "--", *CODE, f"https://{WIKIPEDIA4}"])
        self.assertEqual(done.stdout, "000")

    def test_static_endpoints_are_dialled_instead(self):
        """The workload asks for an address that nobody owns; what answers is the endpoint, at the endpoint's port."""
        self.create(service_entry("moved", ["192.0.2.7"], extra=(
            f"  resolution: STATIC\n  endpoints:\n  - address: {TOOLS4}\n    ports:\n      tcp: 8443\n")))
        before = self.lab.packets(TOOLS4)
        done = self.weir_run(*CODE, "-k", "https://192.0.2.7/wiki/Main_Page")
        self.assertEqual(done.stdout, "200", done.stderr)
        self.assertGreater(self.lab.packets(TOOLS4), before)
        done = self.lab.weir(["run", "--", *CODE, "-k", f"https://{TOOLS4}:8443"])
        self.assertEqual(done.stdout, "000", "an endpoint is no destination")

    def test_two_workloads_with_two_stores(self):
        first, second = (f"dir:{self.lab.home}/store-{n}" for n in (1, 2))
        self.weir("create", "--store", first, "-f", "-", input=external_service("a", [WIKIPEDIA4 + "/32"]))
        self.weir("create", "--store", second, "-f", "-", input=external_service("b", [OTHER4 + "/32"]))
        for store, own, other in ((first, WIKIPEDIA4, OTHER4), (second, OTHER4, WIKIPEDIA4)):
            self.assertEqual(self.weir_run(*CODE, f"https://{own}", options=["--store", store]).stdout, "200")
            done = self.lab.weir(["run", "--store", store, "--", *CODE, f"https://{other}"])
            self.assertEqual(done.stdout, "000")

    def test_a_live_connection_is_cut_by_delete(self):
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT)
        process = self.lab.start_weir(["run", "--", "python3", "-c", LIVE, WIKIPEDIA4, WIKIPEDIA4, ECHO_PORT, "1"], stdin=-1)
        self.assertEqual(process.stdout.readline(), "open 1 1\n")
        self.weir("delete", "externalservice", "allowed")
        self.assertTrue(wait_until(lambda: self.lab.run(
            ["ss", "-Htn", "state", "established", "dport", f"= :{ECHO_PORT}"]).stdout == "", 2))
        process.stdin.write("?\n")
        process.stdin.close()
        self.assertEqual(process.stdout.readline(), "alive 0 0\n")
        process.wait(30)

    def test_a_policy_change_during_a_thousand_live_connections(self):
        """Half of them lose their rule: they are cut and the others never notice."""
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT, name="kept")
        self.allow(OTHER4 + "/32", port=ECHO_PORT, name="lost")
        process = self.lab.start_weir(["run", "-q", "--", "python3", "-c", LIVE, WIKIPEDIA4, OTHER4, ECHO_PORT, "500"], stdin=-1)
        self.assertEqual(process.stdout.readline(), "open 500 500\n")
        process.stdin.write("?\n")
        process.stdin.flush()
        self.assertEqual(process.stdout.readline(), "alive 500 500\n")
        self.allow(TOOLS4 + "/32", name="more")
        self.weir("delete", "externalservice", "lost")
        count = ["ss", "-Htn", "state", "established", "dst", OTHER4]
        self.assertTrue(wait_until(lambda: self.lab.run(count).stdout == "", 2))
        process.stdin.write("?\n")
        process.stdin.close()
        self.assertEqual(process.stdout.readline(), "alive 500 0\n")
        self.assertEqual(process.wait(60), 0)

    def test_a_fixed_policy_ignores_the_store(self):
        path = self.lab.user_file("fixed.yaml", external_service("fixed", [OTHER4 + "/32"]))
        self.allow(WIKIPEDIA4 + "/32")
        self.assertEqual(self.weir_run(*CODE, f"https://{OTHER4}", options=["-f", path]).stdout, "200")
        done = self.lab.weir(["run", "-f", path, "--", *CODE, f"https://{WIKIPEDIA4}"])
        self.assertEqual(done.stdout, "000")

    def test_a_broken_file_keeps_the_last_good_policy(self):
        self.allow(WIKIPEDIA4 + "/32")
        shell = Shell(self)
        self.assertEqual(shell.type(CURL + f" https://{WIKIPEDIA4}"), "200")
        broken = next((self.lab.home / "store").rglob("allowed.yaml"))
        broken.write_text(broken.read_text().replace("hosts:", "hsots:"))
        self.assertIn("200", shell.type("sleep 0.2; " + CURL + f" https://{WIKIPEDIA4}"))
        shell.end()

    def test_an_address_of_the_host_on_loopback_is_the_hosts(self):
        """A service address (anycast, keepalived) lies on lo, and is closed to a broad rule like any other of the host."""
        vip = "198.35.26.99"
        self.lab.ip(self.lab.app, "address", "add", vip + "/32", "dev", "lo")
        self.addCleanup(self.lab.ip, self.lab.app, "address", "del", vip + "/32", "dev", "lo")
        server = self.lab.start(["python3", "-m", "http.server", "--bind", vip, "8098"])
        self.addCleanup(server.kill)
        self.assertTrue(wait_until(lambda: self.lab.run([*CODE, f"http://{vip}:8098/"]).stdout == "200", 10))
        self.allow("198.35.26.96/27", port=8098)
        done = self.lab.weir(["run", "--", *CODE, f"http://{vip}:8098/"])
        self.assertEqual(done.stdout, "000")
        self.assert_denied(done.stderr, rf"tcp {vip}:8098")
        self.allow(f"{vip}/32", port=8098)
        self.assertEqual(self.weir_run(*CODE, f"http://{vip}:8098/").stdout, "200")

    def test_an_address_that_the_host_gets_later_is_the_hosts(self):
        self.allow("198.35.26.96/27", port=8098)
        shell = Shell(self)
        self.assertEqual(shell.type("echo up"), "up")
        self.lab.ip(self.lab.app, "address", "add", "198.35.26.98/32", "dev", "up0")
        self.addCleanup(self.lab.ip, self.lab.app, "address", "del", "198.35.26.98/32", "dev", "up0")
        server = self.lab.start(["python3", "-m", "http.server", "--bind", "198.35.26.98", "8098"])
        self.addCleanup(server.kill)
        self.assertTrue(wait_until(lambda: self.lab.run([*CODE, "http://198.35.26.98:8098/"]).stdout == "200", 10))
        said = shell.type(CURL + " http://198.35.26.98:8098/")
        self.assertIn("denied tcp 198.35.26.98:8098", said)
        self.assertIn("000", said)
        shell.end()

    def test_no_descriptors_left_do_not_keep_a_rule_in_force(self):
        """A workload fills the supervisor's table; the rule is taken back all the same."""
        self.allow(f"{TOOLS4}/32", port=ECHO_PORT)
        script = self.lab.user_file("fill.py", f"""
import resource, socket, sys, time
live, held = [], []
first = socket.create_connection(("{TOOLS4}", {ECHO_PORT}))
first.sendall(b"x"); first.recv(1)
for _ in range(150):
    try:
        s = socket.create_connection(("{TOOLS4}", {ECHO_PORT}), 1)
        s.settimeout(0.2); s.sendall(b"x"); s.recv(1); held.append(s)
    except OSError:
        break
print("full", len(held), flush=True)
first.settimeout(20)
try:
    while True:
        first.sendall(b"x")
        if not first.recv(1):
            break
        time.sleep(0.01)
except OSError as error:
    print("cut", error.strerror, flush=True)
""")
        limited = ["bash", "-c", 'ulimit -n 128; exec "$@"', "bash", self.lab.binary, "run", "--handoff", "off", "--",
                   "bash", "-c", f"exec python3 {script}"]
        process = self.lab.start(limited)
        self.assertRegex(process.stdout.readline(), r"^full [1-9]")
        self.weir("delete", "externalservice", "allowed")
        self.assertRegex(process.stdout.readline(), "^cut")
        process.kill()

    def test_a_store_that_is_replaced_ends_the_run(self):
        """The mount that kept the command out lay on the folder that is gone."""
        for how in ('rm -rf "$1"', 'mv "$1" "$1.old"; mkdir "$1"'):
            with self.subTest(how):
                self.allow(WIKIPEDIA4 + "/32")
                process = self.lab.start_weir(["run", "--", "bash", "-c", "echo up; exec sleep 60"])
                self.assertEqual(process.stdout.readline(), "up\n")
                self.lab.run(["bash", "-c", how, "sh", self.lab.home / "store"])
                self.assertEqual(process.wait(20), 137)
                self.assertIn("was moved or replaced while the command ran", process.stderr.read())
                shutil.rmtree(self.lab.home / "store", ignore_errors=True)
                shutil.rmtree(self.lab.home / "store.old", ignore_errors=True)

    def test_broad_rules_do_not_open_what_is_built_in(self):
        self.canary_must_be_silent = False  # a rule for everything opens the denied address too; not the metadata service
        self.allow("0.0.0.0/0", port=80)
        before = self.lab.packets("169.254.169.254")
        done = self.lab.weir(["run", "--", *CODE, "http://169.254.169.254/"])
        self.assertEqual(done.stdout, "000")
        self.assertEqual(self.lab.packets("169.254.169.254"), before)
        self.assertEqual(self.weir_run(*CODE, f"http://{OTHER4}/").stdout, "200")
