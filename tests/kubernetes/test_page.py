# SPDX-License-Identifier: Apache-2.0
"""The page as written, on a real cluster: inject, create, exec, curl, delete; and pods that try to get out."""
import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

from cluster import CACHE, shared
from lab import DENIED4, DENIED6, PATH, ROOT, TOOLS4, WIKIPEDIA4, WIKIPEDIA6, build_folder, wait_until

RULE = """apiVersion: networking.istio.io/v1alpha3
kind: ExternalService
metadata:
  name: wikipedia-ext
spec:
  hosts:
  - 91.198.174.192/27
  - 103.102.166.224/27
  - 198.35.26.96/27
  - 208.80.153.224/27
  - 208.80.154.224/27
  ports:
  - number: 443
    name: tcp
    protocol: TCP
  discovery: NONE
"""
CODE = "curl -o /dev/null -s -m 20 -w '%{http_code}\\n'"
# One try by each protocol that a shell and curl can speak; nothing here may reach the canary.
TRIES = (f"curl -sk -m 3 -o /dev/null https://{DENIED4}; curl -sk -m 3 -o /dev/null https://[{DENIED6}];"
         f" curl -s -m 3 -o /dev/null http://169.254.169.254/; echo x > /dev/udp/{DENIED4}/443; echo x > /dev/udp/{DENIED6}/53;"
         f" echo x > /dev/tcp/{DENIED4}/7777; true")


def images(cluster):
    """Weir's image as it is built, and the sample's, which trusts the lab's certificates too."""
    def make(*words):
        done = subprocess.run([sys.executable, str(ROOT / "tools/make-image"), str(build_folder()), *map(str, words)],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(done.stderr)
    weir, sleep = cluster.folder / "weir.tar", cluster.folder / "sleep.tar"
    make("weir", "--output", weir)
    make("sleep", "--trust", cluster.lab.ca, "--output", sleep)
    cluster.load(weir, sleep)


def pod(name, spec="", containers="", namespace="default"):
    return (f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n"
            f"  terminationGracePeriodSeconds: 0\n{spec}  containers:\n  - name: app\n    image: weir-sleep:1\n"
            f"    command: [/bin/sleep, infinity]\n{containers}")


class PageCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = shared()
        cls.lab = cls.cluster.lab
        if not getattr(cls.cluster, "has_weir", False):
            images(cls.cluster)
            cls.weir("install")
            cls.cluster.has_weir = True

    def setUp(self):
        self.canary_before = self.lab.canary()

    def tearDown(self):
        self.assertEqual(self.lab.canary() - self.canary_before, 0, "packets arrived at the canary")

    @classmethod
    def weir(cls, *words, **options):
        done = cls.cluster.weir(*words, **options)
        if done.returncode:
            raise AssertionError(f"weir {' '.join(map(str, words))}: {done.stdout}{done.stderr}")
        return done.stdout

    def bash(self, script, check=True):
        """A script on the node, by someone who has kubectl and weir and reads the page."""
        env = {"PATH": f"{CACHE}/bin:{self.lab.folder}:{PATH}", "HOME": str(self.lab.folder), "WEIR_STORE": "kubernetes",
               "KUBECONFIG": str(self.cluster.folder / "kubeconfig")}
        done = subprocess.run(["nsenter", f"--net=/run/netns/{self.lab.app}", "bash", "-c", script], cwd=self.lab.folder, env=env,
                              capture_output=True, text=True, timeout=150, check=False, stdin=subprocess.DEVNULL)
        if check:
            self.assertEqual(done.returncode, 0, f"{script}\n{done.stdout}{done.stderr}")
        return done

    def inject(self, text, *options):
        done = subprocess.run([str(build_folder() / "weir"), "kube-inject", "-f", "-", *options], input=text, capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def start(self, text, name, namespace="default"):
        """Applies a pod that is injected, and waits for it."""
        self.cluster.kubectl("apply", "-f", "-", input=text)
        self.addCleanup(self.cluster.kubectl, "delete", "pod", name, "-n", namespace, "--now", check=False)
        done = self.cluster.kubectl("wait", "-n", namespace, "--for=condition=Ready", "--timeout=60s", "pod/" + name, check=False)
        self.assertEqual(done.returncode, 0, done.stderr + self.describe(name, namespace))

    def describe(self, name, namespace="default"):
        said = self.cluster.kubectl("describe", "pod", name, "-n", namespace, check=False).stdout.partition("Events:")[2]
        for container in ("weir-init", "weir-proxy"):
            said += self.cluster.kubectl("logs", name, "-n", namespace, "-c", container, check=False).stdout
        return said

    def logs(self, name, container="weir-proxy"):
        return self.cluster.kubectl("logs", name, "-c", container, check=False).stdout

    def code(self, name, url, *words, namespace="default"):
        return self.cluster.kubectl("exec", "-n", namespace, name, "-c", "app", "--", "curl", "-o", "/dev/null", "-s", "-m", "10", "-w",
                                    "%{http_code}", *words, url, check=False).stdout.strip()

    def becomes(self, wanted, *words, **options):
        self.assertTrue(wait_until(lambda: self.code(*words, **options) == wanted, 20, 0.2), f"{words} is not {wanted}")

    def create(self, text, *options):
        self.weir("apply", "-f", "-", *options, input=text)
        name = re.search(r"(?m)^  name: (\S+)", text)[1]
        kind = re.search(r"(?m)^kind: (\S+)", text)[1].lower()
        self.addCleanup(self.cluster.weir, "delete", kind, name, *options)

    def pid(self, name, container):
        """A container's first process as the machine numbers it."""
        status = json.loads(self.cluster.kubectl("get", "pod", name, "-o", "json").stdout)["status"]
        states = {state["name"]: state for kind in ("containerStatuses", "initContainerStatuses") for state in status.get(kind, [])}
        found = states[container]["containerID"].partition("//")[2]
        for path in pathlib.Path("/proc").glob("[0-9]*/cgroup"):
            try:
                if found in path.read_text():
                    return int(path.parent.name)
            except OSError:
                continue
        return None


class Page(PageCase):
    def test_the_page(self):
        exec_sleep = "kubectl exec $(kubectl get pod -l app=sleep -o jsonpath={.items..metadata.name}) -c sleep -- "
        self.bash("kubectl apply -f <(weir kube-inject -f samples/sleep/sleep.yaml)")
        self.addCleanup(self.bash, "kubectl delete --ignore-not-found --now -f samples/sleep/sleep.yaml", False)
        self.bash("kubectl wait --for=condition=Available --timeout=90s deploy/sleep")
        self.assertEqual(self.bash(exec_sleep + CODE + " https://www.wikipedia.org", check=False).stdout, "000\n")
        self.assertIn("denied dns www.wikipedia.org", self.bash("kubectl logs deploy/sleep -c weir-proxy").stdout)

        said = self.bash(f"cat <<EOF | weir create -f -\n{RULE}EOF").stdout
        self.assertRegex(said, r"^Created config external-service/default/wikipedia-ext at revision \d+\n$")
        self.assertTrue(wait_until(lambda: self.bash(exec_sleep + CODE + " https://www.wikipedia.org", check=False).stdout == "200\n", 20, 0.2),
                        self.bash("kubectl logs deploy/sleep -c weir-proxy").stdout)
        said = self.bash(exec_sleep + "curl -s https://en.wikipedia.org/wiki/Main_Page | grep articlecount | grep 'Special:Statistics'").stdout
        self.assertIn("6,000,000", said)

        # A live connection, which says a word when it is open and another when it is cut.
        held = subprocess.Popen(self.cluster.argv(["exec", "deploy/sleep", "-c", "sleep", "--", "bash", "-c",
                                                   f"exec 3<>/dev/tcp/{WIKIPEDIA4}/443; echo open; read -t 60 -r x <&3; echo cut"]),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(held.communicate)
        self.addCleanup(held.kill)
        self.assertEqual(held.stdout.readline(), "open\n")
        address = self.bash("kubectl get pod -l app=sleep -o jsonpath={.items..status.podIP}").stdout
        flows = ["curl", "-s", "-m", "5", f"http://{address}:15020/metrics"]
        self.assertTrue(wait_until(lambda: "\nweir_connections 1\n" in self.lab.run(flows, as_root=True).stdout, 10))
        said = self.bash("weir delete externalservice wikipedia-ext").stdout
        self.assertEqual(said, "Deleted config: externalservice wikipedia-ext\n")
        self.assertTrue(wait_until(lambda: "\nweir_connections 0\n" in self.lab.run(flows, as_root=True).stdout, 10))
        self.assertEqual(held.stdout.readline(), "cut\n")
        self.assertEqual(self.bash(exec_sleep + CODE + " https://www.wikipedia.org", check=False).stdout, "000\n")
        self.bash("kubectl delete -f samples/sleep/sleep.yaml")
        self.bash("kubectl wait --for=delete pod -l app=sleep --timeout=60s")

    def test_verbatim_with_istioctl(self):
        """The same words where the program is called by its other name."""
        self.bash("ln -sf weir istioctl")
        said = self.bash("env -u WEIR_STORE bash -c 'istioctl kube-inject -f samples/sleep/sleep.yaml | kubectl apply --dry-run=server -f -'").stdout
        self.assertIn("deployment.apps/sleep created", said)
        self.bash(f"cat <<EOF | env -u WEIR_STORE istioctl create -f -\n{RULE}EOF")
        self.assertIn("wikipedia-ext", self.bash("env -u WEIR_STORE istioctl get externalservices").stdout)
        self.bash("env -u WEIR_STORE istioctl delete externalservice wikipedia-ext")

    def test_what_is_injected_is_what_the_server_takes(self):
        """Every field is known to the API server, which is asked strictly, and nothing is left to a default it changes."""
        text = self.inject(pod("strict"))
        done = self.cluster.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=text)
        self.assertIn("created", done.stdout)
        self.assertEqual(done.stderr, "")

    def test_a_namespace_that_enforces_pod_security(self):
        self.cluster.kubectl("create", "namespace", "secured")
        self.addCleanup(self.cluster.kubectl, "delete", "namespace", "secured", "--wait=false", check=False)
        self.cluster.kubectl("label", "namespace", "secured", "pod-security.kubernetes.io/enforce=baseline")
        done = self.cluster.kubectl("apply", "-f", "-", input=self.inject(pod("p", namespace="secured")), check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("NET_ADMIN", done.stderr)


class Ways(PageCase):
    """Pods that try to get out, beside the control that what is allowed arrives."""

    def test_the_tries_reach_the_canary_without_weir(self):
        """The control of all others: each of the tries, from a pod that is not injected."""
        self.start(pod("plain"), "plain")
        for attempt in TRIES.split(";"):
            if attempt.strip() == "true":
                continue
            with self.subTest(attempt):
                before = self.lab.canary()
                self.cluster.exec("plain", "bash", "-c", attempt, container="app")
                self.assertTrue(wait_until(lambda before=before: self.lab.canary() > before, 3), attempt)
        self.canary_before = self.lab.canary()

    def test_every_container_of_a_pod(self):
        self.create(RULE)
        early = ("  initContainers:\n  - name: early\n    image: weir-sleep:1\n"
                 f"    command: [bash, -c, \"{TRIES}; {CODE.replace(chr(92), chr(92) * 2)} https://www.wikipedia.org\"]\n")
        text = self.inject(pod("all", early, "  - name: second\n    image: weir-sleep:1\n    command: [/bin/sleep, infinity]\n"))
        self.start(text, "all")
        self.assertRegex(self.logs("all", "early"), r"(?m)^200$", "an init container has what the policy allows")
        for container in ("app", "second"):
            self.cluster.exec("all", "bash", "-c", TRIES, container=container)
        self.becomes("200", "all", "https://www.wikipedia.org")
        said = self.logs("all")
        for wanted in (f"denied tcp {DENIED4}:443", rf"denied tcp \[{DENIED6}\]:443", f"denied udp {DENIED4}:443", "denied tcp 169.254.169.254"):
            self.assertRegex(said, wanted)

    def test_ephemeral_containers(self):
        """A debug container has what its user may give it: by default the runtime's capabilities, NET_RAW among them."""
        self.start(self.inject(pod("debugged")), "debugged")
        tries = TRIES + f"; ping -c1 -W1 {DENIED4}; ping6 -c1 -W1 {DENIED6}; su nobody -s /bin/sh -c id"
        for profile in ("general", "legacy", "baseline"):
            with self.subTest(profile):
                done = self.cluster.kubectl("debug", "debugged", "--image=lab/tools:1", "--image-pull-policy=IfNotPresent",
                                            f"--profile={profile}", f"--container=debug-{profile}", "--", "bash", "-c", tries + "; echo tried")
                self.assertEqual(done.returncode, 0)
                self.assertTrue(wait_until(lambda profile=profile: "tried" in self.logs("debugged", "debug-" + profile), 40, 0.3),
                                self.describe("debugged"))

    def test_a_pod_that_runs_as_the_proxys_user(self):
        refused = subprocess.run([str(build_folder() / "weir"), "kube-inject", "-f", "-"], capture_output=True, text=True, check=False,
                                 input=pod("same", containers="    securityContext: {runAsUser: 1337}\n"))
        self.assertEqual(refused.returncode, 1)
        self.assertIn("weir-proxy's own user", refused.stderr)
        text = self.inject(pod("same"))
        context = "    securityContext:\n      capabilities:\n        drop:\n        - NET_RAW\n"
        self.assertEqual(text.count(context), 1)
        self.start(text.replace(context, context.replace(":\n", ":\n      runAsUser: 1337\n", 1)), "same")
        self.assertEqual(self.cluster.exec("same", "id", "-u", container="app").stdout.strip(), "1337")
        self.cluster.exec("same", "bash", "-c", TRIES, container="app")

    def test_the_pod_cannot_choose_the_name_servers(self):
        """/etc/resolv.conf is one file for all containers of a pod, and this one may write it; a proxy that starts anew too
        asks whom the cluster named."""
        self.create(RULE)
        self.start(self.inject(pod("named")), "named")
        self.becomes("200", "named", "https://www.wikipedia.org")
        self.cluster.exec("named", "sh", "-c", f"echo nameserver {DENIED4} > /etc/resolv.conf", container="app")
        proxy = self.pid("named", "weir-proxy")
        said = pathlib.Path(f"/proc/{proxy}/root/etc/resolv.conf").read_text()
        self.assertIn(DENIED4, said, "the probe proves nothing: the proxy does not see what the application wrote")
        self.becomes("200", "named", "https://www.wikipedia.org")
        os.kill(proxy, 9)
        self.becomes("200", "named", "https://www.wikipedia.org")
        self.assertNotEqual(self.pid("named", "weir-proxy"), proxy)

    def test_a_shared_pid_namespace(self):
        self.start(self.inject(pod("shared", "  shareProcessNamespace: true\n")), "shared")
        said = self.cluster.exec("shared", "bash", "-c", "for p in /proc/[0-9]*; do [ -r $p/environ ] && tr '\\0' ' ' <$p/environ; "
                                 "ls $p/root/ >/dev/null 2>&1 && cat $p/root/var/run/secrets/kubernetes.io/serviceaccount/token; done; " + TRIES,
                                 container="app").stdout
        self.assertNotIn("POD_NAMESPACE", said)
        self.becomes("000", "shared", "https://" + WIKIPEDIA4)

    def test_a_user_namespace(self):
        """hostUsers: false: the one capability is over the pod's own namespaces, and the door opens as ever."""
        self.create(RULE)
        self.start(self.inject(pod("mapped", "  hostUsers: false\n")), "mapped")
        said = self.cluster.exec("mapped", "cat", "/proc/self/uid_map", container="app").stdout.split()
        self.assertNotEqual(said[1], "0", "the pod is not in a user namespace of its own")
        self.becomes("200", "mapped", "https://www.wikipedia.org")
        self.cluster.exec("mapped", "bash", "-c", TRIES, container="app")

    def test_two_namespaces(self):
        self.cluster.kubectl("create", "namespace", "tenant")
        self.addCleanup(self.cluster.kubectl, "delete", "namespace", "tenant", "--wait=false", check=False)
        self.cluster.kubectl("wait", "--for=create", "--timeout=30s", "-n", "tenant", "serviceaccount/default")
        self.start(self.inject(pod("one")), "one")
        self.start(self.inject(pod("two", namespace="tenant")), "two", "tenant")
        self.create(RULE.replace("91.198.174.192/27", TOOLS4 + "/32").replace("198.35.26.96/27", TOOLS4 + "/32"), "-n", "tenant")
        self.becomes("200", "two", f"https://{TOOLS4}", namespace="tenant")
        before = self.lab.packets(TOOLS4)
        self.assertEqual(self.code("one", f"https://{TOOLS4}"), "000")
        self.assertEqual(self.lab.packets(TOOLS4), before)

    def test_ipv6(self):
        self.start(self.inject(pod("six")), "six")
        self.assertEqual(self.code("six", f"https://[{WIKIPEDIA6}]", "-g"), "000")
        self.create("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: six\nspec:\n  hosts: [six.lab.test]\n"
                    f"  addresses: ['{WIKIPEDIA6}']\n  ports:\n  - {{number: 443, name: tcp, protocol: TCP}}\n"
                    "  location: MESH_EXTERNAL\n  resolution: NONE\n")
        self.becomes("200", "six", f"https://[{WIKIPEDIA6}]", "-g")
        self.assertEqual(self.code("six", f"https://[{DENIED6}]", "-g", "-k"), "000")

    def test_other_pods_and_the_cluster(self):
        """A pod beside it, a service and the API server are destinations like any other."""
        self.start(self.inject(pod("alone")), "alone")
        for url in ("https://10.96.0.1", "https://10.77.0.2:6443", "http://10.77.0.2:10249"):
            self.assertEqual(self.code("alone", url, "-k"), "000", url)
        status = pathlib.Path(f"/proc/{self.pid('alone', 'weir-proxy')}/status").read_text()
        self.assertRegex(status, r"(?m)^Uid:\t1337\t")
        self.assertRegex(status, r"(?m)^CapEff:\t0+$", "the proxy keeps no capability where its cgroup tells it")
        address = json.loads(self.cluster.kubectl("get", "pod", "alone", "-o", "json").stdout)["status"]["podIP"]
        self.start(pod("peer"), "peer")
        for port in (15001, 15020, 15053):
            done = self.cluster.exec("peer", "curl", "-s", "-m", "2", "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}:{port}/metrics",
                                     container="app")
            self.assertEqual(done.stdout, "000", port)
        self.assertEqual(self.code("alone", f"http://{address}:15020/metrics"), "000")
        self.assertEqual(self.code("alone", "http://127.0.0.1:15020/metrics"), "000")
        metrics = self.lab.run(["curl", "-s", "-m", "5", f"http://{address}:15020/metrics"], as_root=True).stdout
        self.assertIn("weir_policy_rules", metrics)
        done = subprocess.run(["promtool", "check", "metrics"], input=metrics, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))


class Faults(PageCase):
    def inside(self, pid, *words):
        """A command in a container without the API server's help."""
        return subprocess.run(["nsenter", "-t", str(pid), "-n", "-m", "--", *words], capture_output=True, text=True, timeout=60, check=False)

    def test_the_api_server_dies_and_comes_back(self):
        self.create(RULE)
        self.start(self.inject(pod("steady")), "steady")
        self.becomes("200", "steady", "https://" + WIKIPEDIA4)
        pid = self.pid("steady", "app")
        curl = ["curl", "-o", "/dev/null", "-s", "-m", "10", "-w", "%{http_code}"]
        self.cluster.stop("kube-apiserver")
        try:
            for _ in range(3):
                self.assertEqual(self.inside(pid, *curl, "https://" + WIKIPEDIA4).stdout, "200", "the policy in force stays")
                self.assertEqual(self.inside(pid, *curl, "-k", "https://" + DENIED4).stdout, "000")
        finally:
            self.cluster.start("kube-apiserver")
        self.weir("delete", "externalservice", "wikipedia-ext")
        self.assertTrue(wait_until(lambda: self.inside(pid, *curl, "https://" + WIKIPEDIA4).stdout == "000", 60, 0.3))

    def test_the_proxy_dies_and_comes_back(self):
        self.create(RULE)
        self.start(self.inject(pod("killed")), "killed")
        self.becomes("200", "killed", "https://" + WIKIPEDIA4)
        app, proxy = self.pid("killed", "app"), self.pid("killed", "weir-proxy")
        os.kill(proxy, 9)
        for _ in range(5):
            self.inside(app, "curl", "-sk", "-m", "2", "-o", "/dev/null", f"https://{DENIED4}")
        self.becomes("200", "killed", "https://" + WIKIPEDIA4)
        self.assertNotEqual(self.pid("killed", "weir-proxy"), proxy)
        self.inside(app, "curl", "-sk", "-m", "2", "-o", "/dev/null", f"https://{DENIED4}")
