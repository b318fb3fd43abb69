# SPDX-License-Identifier: Apache-2.0
"""The store in a real API server: definitions, verbs, following, faults, status."""
import base64
import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import unittest

from cluster import API, kubeconfig, put, shared
from lab import DENIED4, DENIED6, OTHER4, ROOT, WIKIPEDIA4, build_folder, command, wait_until

CODE = ["curl", "-o", "/dev/null", "-s", "-w", "%{http_code}", "--max-time", "20"]
WIKIPEDIA = f"https://{WIKIPEDIA4}/wiki/Main_Page"
ISTIO = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: serviceentries.networking.istio.io
  labels: {app: istio-pilot, chart: istio}
spec:
  group: networking.istio.io
  scope: Namespaced
  names: {kind: ServiceEntry, listKind: ServiceEntryList, plural: serviceentries, singular: serviceentry, shortNames: [se]}
  versions:
  - &version
    name: v1beta1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true},
                               status: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}
  - {<<: *version, name: v1alpha3, storage: false}
"""


def rule(name, *hosts, port=443, namespace=None, extra=""):
    lines = "".join(f"  - {host}\n" for host in hosts)
    where = f"  namespace: {namespace}\n" if namespace else ""
    return (f"apiVersion: networking.istio.io/v1alpha3\nkind: ExternalService\nmetadata:\n  name: {name}\n{where}spec:\n"
            f"  hosts:\n{lines}  ports:\n  - number: {port}\n    name: tcp\n    protocol: TCP\n{extra}")


class Base(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = shared()
        cls.install()

    @classmethod
    def install(cls):
        cls.cluster.lab.weir(["install", "--image", "weir:none"], env=cls.cluster.environment())
        # The tests start controllers of their own.
        cls.cluster.kubectl("-n", "weir-system", "scale", "deployment/weir-controller", "--replicas=0")

    def setUp(self):
        # In one request; kubectl would send one for each object.
        self.kubectl("delete", "--raw", "/apis/networking.istio.io/v1alpha3/namespaces/default/externalservices", check=False)
        self.kubectl("delete", "externalservices,serviceentries", "--all", "-A")
        self.denied = self.cluster.lab.packets(DENIED4, DENIED6)

    def tearDown(self):
        self.assertEqual(self.cluster.lab.packets(DENIED4, DENIED6), self.denied, "packets arrived at the canary")

    def kubectl(self, *words, **options):
        return self.cluster.kubectl(*words, **options).stdout

    def weir(self, *words, status=0, **options):
        done = self.cluster.weir(*words, **options)
        self.assertEqual(done.returncode, status, f"weir {' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}")
        return done

    def create(self, text, verb="create", **options):
        return self.weir(verb, "-f", "-", input=text, **options)

    def refused(self, *words, **options):
        """The one line that a failed command says."""
        done = self.weir(*words, status=1, **options)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        return lines[0]

    def config(self, name, user, token, **cluster):
        """A kubeconfig of its own, as an environment."""
        path = self.cluster.folder / name
        put(path, kubeconfig(self.cluster.folder, user, token, **cluster))
        return {"KUBECONFIG": str(path)}

    def condition(self, name, kind, namespace="default", resource="es"):
        text = self.kubectl("-n", namespace, "get", resource, name, "-o",
                            f"jsonpath={{.status.conditions[?(@.type=='{kind}')]}}", check=False)
        return json.loads(text) if text else {}


class Verbs(Base):
    def test_the_pages_verbs(self):
        sample = str(self.cluster.lab.samples / "wikipedia-ext.yaml")
        created = self.weir("create", "-f", sample).stdout
        self.assertRegex(created, r"\ACreated config external-service/default/wikipedia-ext at revision \d+\n\Z")
        self.assertEqual(self.refused("create", "-f", sample),
                         'Error: externalservices.networking.istio.io "wikipedia-ext" already exists')
        shown = self.weir("get", "externalservice").stdout.splitlines()
        self.assertEqual(shown[0].split(), ["NAME", "KIND", "NAMESPACE", "AGE"])
        self.assertEqual(shown[1].split()[:3], ["wikipedia-ext", "ExternalService.networking.istio.io.v1alpha3", "default"])
        self.assertRegex(shown[1].split()[3], r"\A\d+s\Z")
        self.assertRegex(self.weir("replace", "-f", sample).stdout, r"\AUpdated config external-service/default/wikipedia-ext to revision \d+\n\Z")
        self.assertRegex(self.weir("apply", "-f", sample).stdout, r"\AUpdated config ")
        self.assertEqual(self.weir("delete", "externalservice", "wikipedia-ext").stdout,
                         "Deleted config: externalservice wikipedia-ext\n")
        self.assertEqual(self.weir("get", "externalservice").stdout, "No resources found.\n")
        self.assertIn('cannot delete wikipedia-ext: externalservices.networking.istio.io "wikipedia-ext" not found',
                      self.weir("delete", "externalservice", "wikipedia-ext", status=1).stderr)
        self.assertIn("revision is required", self.refused("replace", "-f", sample))
        self.assertRegex(self.weir("apply", "-f", sample).stdout, r"\ACreated config ")

    def test_a_stale_version_is_a_conflict(self):
        self.create(rule("a", "10.0.0.0/24"))
        old = self.weir("get", "externalservice", "a", "-o", "json").stdout
        self.create(rule("a", "10.0.1.0/24"), verb="replace")
        self.assertIn("the object has been modified", self.refused("replace", "-f", "-", input=old))
        self.assertEqual(self.kubectl("get", "es", "a", "-o", "jsonpath={.spec.hosts[0]}"), "10.0.1.0/24")

    def test_a_conflict_names_the_other_manager(self):
        self.kubectl("apply", "--server-side", "--field-manager=gitops", "-f", "-", input=rule("a", "10.0.0.0/24"))
        said = self.refused("apply", "-f", "-", input=rule("a", "10.9.0.0/24"))
        self.assertIn('conflict with "gitops"', said)
        self.assertIn(".spec.hosts", said)
        self.assertEqual(self.kubectl("get", "es", "a", "-o", "jsonpath={.spec.hosts[0]}"), "10.0.0.0/24")

    def test_it_is_the_manager_of_what_it_applies(self):
        self.create(rule("a", "10.0.0.0/24"), verb="apply")
        managers = json.loads(self.kubectl("get", "es", "a", "-o", "json", "--show-managed-fields"))["metadata"]["managedFields"]
        self.assertEqual([(entry["manager"], entry["operation"]) for entry in managers], [("weir", "Apply")])

    def test_a_round_trip_leaves_no_difference(self):
        self.create(rule("a", "10.0.0.0/24", "10.1.0.0/24", extra="  discovery: NONE\n"))
        shown = self.weir("get", "externalservice", "a", "-o", "yaml").stdout
        self.assertEqual(self.cluster.kubectl("diff", "-f", "-", input=shown).stdout, "")
        before = self.kubectl("get", "es", "a", "-o", "jsonpath={.metadata.generation} {.spec}")
        self.create(shown, verb="apply")
        self.create(self.weir("get", "externalservice", "a", "-o", "json").stdout, verb="replace")
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=re.sub(r"  (uid|resourceVersion|creationTimestamp|generation): .*\n", "", shown))
        self.assertEqual(self.kubectl("get", "es", "a", "-o", "jsonpath={.metadata.generation} {.spec}"), before)
        self.kubectl("apply", "--dry-run=server", "-f", str(self.cluster.lab.samples / "wikipedia-ext.yaml"))
        self.assertEqual(self.kubectl("get", "es", "wikipedia-ext", "--ignore-not-found"), "")

    def test_kubectl_knows_the_kind(self):
        self.create(rule("a", "10.0.0.0/24"))
        self.assertIn("Where connections go with STATIC and DNS", self.kubectl("explain", "externalservice.spec"))
        self.assertIn("-required-", self.kubectl("explain", "es.spec.hosts") + self.kubectl("explain", "es.spec"))
        header, row = self.kubectl("get", "es", "-A").splitlines()
        self.assertEqual(header.split(), ["NAMESPACE", "NAME", "HOSTS", "PORTS", "ACCEPTED", "PROGRAMMED", "AGE"])
        self.assertIn("10.0.0.0/24", row)
        self.assertIn("externalservice.networking.istio.io/a", self.kubectl("get", "weir", "-o", "name"))
        self.assertIn("DNS_ROUND_ROBIN", self.kubectl("explain", "serviceentry.spec.resolution"))

    def test_namespaces(self):
        self.kubectl("create", "namespace", "team", check=False)
        self.addCleanup(self.kubectl, "delete", "namespace", "team", "--wait=false")
        self.create(rule("a", "10.0.0.0/24"), env=self.in_namespace("team"))
        self.assertEqual(self.kubectl("-n", "team", "get", "es", "-o", "name"), "externalservice.networking.istio.io/a\n")
        self.assertIn("team", self.weir("get", "externalservice").stdout)
        self.weir("get", "externalservice", "a", env=self.in_namespace("team"))
        self.refused("get", "externalservice", "a")
        self.assertEqual(self.refused("create", "-n", "nowhere", "-f", "-", input=rule("a", "10.0.0.0/24")),
                         'Error: namespaces "nowhere" not found')

    def in_namespace(self, namespace):
        token = (self.cluster.folder / "pki/tokens.csv").read_text().split(",")[0]
        text = kubeconfig(self.cluster.folder, "admin", token)
        text["contexts"][0]["context"]["namespace"] = namespace
        put(self.cluster.folder / "namespaced", text)
        return {"KUBECONFIG": str(self.cluster.folder / "namespaced")}


class Credentials(Base):
    """The ways of a kubeconfig that need a server to be believed."""

    def written(self, name, user, **cluster):
        path = self.cluster.folder / name
        text = kubeconfig(self.cluster.folder, "u", "unused", **cluster)
        text["users"][0]["user"] = user
        put(path, text)
        return {"KUBECONFIG": str(path)}

    def token(self, user="admin"):
        lines = (self.cluster.folder / "pki/tokens.csv").read_text().splitlines()
        return next(line.split(",")[0] for line in lines if line.split(",")[1] == user)

    def data(self, path):
        return base64.b64encode((self.cluster.folder / path).read_bytes()).decode()

    def test_a_client_certificate(self):
        user = {"client-certificate-data": self.data("pki/api.pem"), "client-key-data": self.data("pki/api.key")}
        self.assertEqual(self.weir("get", "externalservice", env=self.written("by-certificate", user)).stdout, "No resources found.\n")

    def test_authority_data_and_another_name_in_the_certificate(self):
        env = self.written("by-name", {"token": self.token()}, **{
            "certificate-authority-data": self.data("pki/ca.pem"), "tls-server-name": "kubernetes.default.svc"})
        self.weir("get", "externalservice", env=env)
        done = self.weir("run", "--", "true", env=env)
        self.assertEqual(done.stderr, "")
        env = self.written("by-wrong-name", {"token": self.token()}, **{"tls-server-name": "elsewhere.test"})
        self.assertIn("is not the cluster's", self.refused("get", "externalservice", env=env))

    def test_the_clusters_authority_alone_is_trusted(self):
        """Where the kubeconfig names one, the system's certificates are not asked as well."""
        folder = self.cluster.folder / "certificates"
        folder.mkdir()
        (folder / "ca.pem").write_bytes((self.cluster.folder / "pki/ca.pem").read_bytes())
        command(["openssl", "rehash", str(folder)])
        (folder / "ca-certificates.crt").write_bytes((self.cluster.folder / "pki/ca.pem").read_bytes())

        def get(**cluster):
            env = self.written("by-system", {"token": self.token()}, **cluster)
            script = f"mount --bind {folder} /etc/ssl/certs && KUBECONFIG={env['KUBECONFIG']} {self.cluster.lab.binary} get externalservice --store kubernetes"
            return self.cluster.lab.run(["unshare", "-m", "sh", "-c", script], as_root=True)
        self.assertEqual(get(**{"certificate-authority": ""}).stdout, "No resources found.\n")  # the control: the system trusts it
        self.assertIn("is not the cluster's", get(**{"certificate-authority": str(self.cluster.lab.ca)}).stderr)

    def test_impersonation(self):
        said = self.refused("get", "externalservice", env=self.written("as-bob", {"token": self.token(), "as": "bob", "as-groups": ["g"]}))
        self.assertIn('User "bob" cannot list resource "externalservices"', said)

    def test_a_plugin(self):
        credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": self.token()}}
        plugin = self.cluster.lab.user_file("plugin", f"#!/bin/sh\ncat <<'E'\n{json.dumps(credential)}\nE\n", 0o755)
        user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}}
        env = self.written("by-plugin", user)
        self.create(rule("a", WIKIPEDIA4), env=env)
        done = self.weir("run", "--", *CODE, WIKIPEDIA, env=env)
        self.assertEqual(done.stdout, "200", done.stderr)


class BadSituations(Base):
    def test_what_the_schema_refuses(self):
        for text, expected in (
                (rule("a", "10.0.0.0/24", port=0), "should be greater than or equal to 1"),
                (rule("a", "10.0.0.0/24", extra="  discovery: STATIC\n"), "endpoints must be provided if external service discovery mode is static"),
                (rule("a", "10.0.0.0/24", extra="  endpoints:\n  - address: 1.2.3.4\n"), "no endpoints should be provided for discovery type none"),
                (rule("a", "10.0.0.0/24").replace("TCP", "QUIC"), "unsupported protocol"),
                (rule("a", "10.0.0.0/24") + "  - number: 443\n    name: more\n    protocol: TCP\n", "external service port number already defined"),
                (rule("a", "10.0.0.0/24").replace("  hosts:\n  - 10.0.0.0/24\n", ""), "spec.hosts: Required value"),
                (rule("a", "10.0.0.0/24") + "  colour: red\n", 'unknown field "spec.colour"')):
            done = self.cluster.kubectl("apply", "--validate=strict", "-f", "-", input=text, check=False)
            self.assertNotEqual(done.returncode, 0, text)
            self.assertIn(expected, done.stderr)

    def test_no_kubeconfig_and_no_context(self):
        said = self.refused("get", "externalservice", env={"KUBECONFIG": "/nowhere"})
        self.assertEqual(said, "Error: no kubeconfig: none of the files in KUBECONFIG (/nowhere) exists")
        said = self.refused("get", "externalservice", "--store", "kubernetes:elsewhere")
        self.assertRegex(said, r'\AError: there is no context "elsewhere" in .*; there are: lab\Z')

    def test_an_expired_token(self):
        said = self.refused("get", "externalservice", env=self.config("expired", "carol", "0" * 32))
        self.assertIn('refuses the credentials of the user "carol" (expired or unknown): log in again', said)

    def test_no_permission_names_verb_and_resource(self):
        said = self.refused("get", "externalservice", user="alice")
        self.assertIn('no permission: externalservices.networking.istio.io is forbidden: User "alice" cannot list resource '
                      '"externalservices"', said)
        said = self.refused("create", "-f", "-", input=rule("a", "10.0.0.0/24"), user="alice")
        self.assertIn('cannot create resource "externalservices"', said)
        self.assertIn('in the namespace "default"', said)

    def test_the_wrong_certificate(self):
        token = (self.cluster.folder / "pki/tokens.csv").read_text().split(",")[0]
        said = self.refused("get", "externalservice", env=self.config(
            "distrust", "admin", token, **{"certificate-authority": str(self.cluster.lab.ca)}))
        self.assertIn(f"the certificate of the API server {API} is not the cluster's", said)

    def test_a_definition_that_is_missing(self):
        self.kubectl("delete", "crd", "externalservices.networking.istio.io")
        self.addCleanup(self.install)
        said = self.refused("get", "externalservice")
        self.assertIn("has no externalservices.networking.istio.io (the CRD is not installed): run 'weir install' first", said)
        self.assertIn("run 'weir install' first", self.refused("create", "-f", "-", input=rule("a", "10.0.0.0/24")))
        done = self.weir("run", "--", "true", status=125)
        self.assertIn("run 'weir install' first", done.stderr)

    def test_the_api_server_is_away(self):
        self.cluster.stop("kube-apiserver")
        try:
            said = self.refused("get", "externalservice")
        finally:
            self.cluster.start("kube-apiserver")
        self.assertIn(f"cannot reach the API server {API}: ", said)

    def test_istios_own_definition_is_used_and_never_overwritten(self):
        self.kubectl("delete", "crd", "serviceentries.networking.istio.io")
        self.kubectl("apply", "-f", "-", input=self.expanded(ISTIO))
        self.addCleanup(self.install)
        self.addCleanup(self.kubectl, "delete", "crd", "serviceentries.networking.istio.io")
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/serviceentries.networking.istio.io")
        before = self.kubectl("get", "crd", "serviceentries.networking.istio.io", "-o", "jsonpath={.metadata.resourceVersion} {.spec}")
        said = self.weir("install", "--image", "weir:none").stdout
        self.assertIn("CustomResourceDefinition serviceentries.networking.istio.io: left as it is, for it is not Weir's", said)
        self.assertEqual(self.kubectl("get", "crd", "serviceentries.networking.istio.io", "-o",
                                      "jsonpath={.metadata.resourceVersion} {.spec}"), before)
        entry = {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "wiki"},
                 "spec": {"hosts": ["wikipedia.org"], "addresses": [WIKIPEDIA4], "resolution": "NONE",
                          "ports": [{"number": 443, "name": "tcp", "protocol": "TCP"}]}}
        self.create(json.dumps(entry))  # this server does not know v1
        self.assertIn("ServiceEntry.networking.istio.io.v1beta1", self.weir("get", "serviceentry").stdout)
        self.assertTrue(self.weir("explain", WIKIPEDIA4, "443").stdout.startswith("allow "))
        done = self.weir("run", "--", *CODE, WIKIPEDIA)
        self.assertEqual(done.stdout, "200", done.stderr)
        self.create(rule("ours", "10.0.0.0/24"))
        with controller(self):
            self.assertTrue(wait_until(lambda: self.condition("ours", "Accepted"), 20))
            self.assertEqual(self.kubectl("get", "serviceentries.v1beta1.networking.istio.io", "wiki", "-o", "jsonpath={.status}"), "")

    @staticmethod
    def expanded(text):
        """kubectl reads no anchors: the second version is written out."""
        head, _, tail = text.partition("  - &version\n")
        version, _, _ = tail.partition("  - {<<")
        return head + "  - " + version.lstrip() + "  - " + version.lstrip().replace("v1beta1", "v1alpha3").replace("storage: true", "storage: false")


@contextlib.contextmanager
def controller(case, **options):
    process = case.cluster.start_weir("controller", **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


class Status(Base):
    def holder(self):
        return self.kubectl("-n", "weir-system", "get", "lease", "weir-controller", "-o", "jsonpath={.spec.holderIdentity}", check=False)

    def test_what_became_of_each(self):
        with controller(self):
            self.create(rule("good", "10.0.0.0/24"))
            self.kubectl("apply", "-f", "-", input=rule("broken", "10.0.0.0/33"))  # the schema takes it
            self.kubectl("apply", "-f", "-", input=rule("name", "www.wikipedia.org"))
            self.assertTrue(wait_until(lambda: all(self.condition(name, "Programmed") for name in ("good", "broken", "name")), 20))
            good, programmed = self.condition("good", "Accepted"), self.condition("good", "Programmed")
            self.assertEqual((good["status"], good["reason"], good["observedGeneration"]), ("True", "Valid", 1))
            self.assertEqual((programmed["status"], programmed["reason"]), ("True", "Enforced"))
            broken = self.condition("broken", "Accepted")
            self.assertEqual((broken["status"], broken["reason"]), ("False", "Invalid"))
            self.assertIn("spec.hosts[0]: ", broken["message"])
            self.assertIn("10.0.0.0/33 is not a valid CIDR block", broken["message"])
            name = self.condition("name", "Programmed")
            self.assertEqual((name["status"], name["reason"]), ("False", "NotEnforced"))
            row = next(line for line in self.kubectl("get", "es", "-A").splitlines() if "broken" in line)
            self.assertRegex(row, r"False\s+False")
            # A mended one, and one that somebody writes over.
            self.kubectl("apply", "-f", "-", input=rule("broken", "10.0.0.0/30"))
            self.assertTrue(wait_until(lambda: self.condition("broken", "Accepted").get("observedGeneration") == 2, 20))
            self.assertEqual(self.condition("broken", "Accepted")["status"], "True")
            self.kubectl("patch", "es", "good", "--subresource=status", "--type=merge", "-p", '{"status":{"conditions":[]}}')
            self.assertTrue(wait_until(lambda: self.condition("good", "Programmed").get("status") == "True", 20))
            # The status does not count as a change of the resource.
            self.assertEqual(self.kubectl("get", "es", "good", "-o", "jsonpath={.metadata.generation}"), "1")
            self.assertEqual(self.kubectl("get", "es", "good", "-o", "jsonpath={.metadata.finalizers}"), "")

    def test_one_elected_writer(self):
        with controller(self) as first:
            self.assertTrue(wait_until(lambda: f"_{self.inner(first)}_" in self.holder(), 20), self.holder())
            with controller(self) as second:
                time.sleep(4)  # longer than it would take to grab what is not held
                self.assertIn(f"_{self.inner(first)}_", self.holder())
                os.kill(self.inner(first), signal.SIGKILL)
                self.create(rule("late", "10.0.0.0/24"))
                self.assertTrue(wait_until(lambda: self.condition("late", "Accepted"), 40, 0.5))
                self.assertIn(f"_{self.inner(second)}_", self.holder())
            # Given up in an orderly way, nobody waits.
            self.assertEqual(self.holder(), "")

    @staticmethod
    def inner(process):
        """The pid of weir: ip and setpriv and env become it."""
        return process.pid

    def test_the_roles_are_enough_and_no_more(self):
        token = self.kubectl("-n", "weir-system", "create", "token", "weir-controller").strip()
        env = self.config("controller.kubeconfig", "controller", token)
        self.create(rule("a", "10.0.0.0/24"))
        with controller(self, env=env):
            self.assertTrue(wait_until(lambda: self.condition("a", "Accepted"), 20))
        self.assertIn("cannot create resource", self.refused("create", "-f", "-", input=rule("b", "10.0.0.0/24"), env=env))
        # Any pod's account reads, and writes neither policy nor status.
        token = self.kubectl("create", "token", "default").strip()
        env = self.config("pod.kubeconfig", "pod", token)
        self.assertIn("a ", self.weir("get", "externalservice", env=env).stdout)
        self.assertIn("cannot delete resource", self.weir("delete", "externalservice", "a", status=1, env=env).stderr)
        self.assertEqual(self.kubectl("auth", "can-i", "patch", "externalservices/status", "--as=system:serviceaccount:default:default",
                                      check=False).strip(), "no")


class Following(Base):
    def start(self, *words, **options):
        return self.cluster.start_weir("run", *words, stderr=subprocess.PIPE, **options)

    def shell(self, *options, **more):
        """A command that prints the code of a request for each line it is given."""
        script = f"while read -r url; do {' '.join(CODE[:-2]).replace('%{', '%{')} --max-time 8 \"$url\" || true; echo; done"
        return self.cluster.start_weir("run", *options, "--", "bash", "-c", script, stdin=subprocess.PIPE, **more)

    @staticmethod
    def ask(shell, url=WIKIPEDIA):
        shell.stdin.write(url + "\n")
        shell.stdin.flush()
        return shell.stdout.readline().strip()

    def becomes(self, shell, code, url=WIKIPEDIA):
        self.assertTrue(wait_until(lambda: self.ask(shell, url) == code, 30, 0.05), f"never {code}")

    def end(self, shell):
        shell.stdin.close()
        shell.wait(20)
        return shell.stderr.read()

    def test_the_story_with_the_api_server_killed_in_the_middle(self):
        shell = self.shell()
        self.assertEqual(self.ask(shell), "000")
        self.weir("create", "-f", str(self.cluster.lab.samples / "wikipedia-ext.yaml"))
        self.becomes(shell, "200")
        self.assertEqual(self.ask(shell, f"https://{DENIED4}/"), "000")
        kept = next((self.cluster.lab.home / ".local/state/weir-kubernetes").glob("*.yaml"))
        self.assertTrue(wait_until(lambda: "wikipedia-ext" in kept.read_text(), 10))
        self.cluster.stop("kube-apiserver")
        try:
            for _ in range(3):
                self.assertEqual(self.ask(shell), "200")  # what is in force stays
            self.assertEqual(self.ask(shell, f"https://{DENIED4}/"), "000")
            self.assertEqual(self.ask(shell, f"https://{WIKIPEDIA4}:444/"), "000")
            # A start without the server: from what was kept.
            done = self.weir("run", "--", *CODE, WIKIPEDIA)
            self.assertEqual(done.stdout, "200", done.stderr)
            self.assertIn("the last good policy stays in force: cannot reach the API server", done.stderr)
            self.assertIn("it is the one kept on disk at 20", done.stderr)
        finally:
            self.cluster.start("kube-apiserver")
        self.weir("delete", "externalservice", "wikipedia-ext")
        self.becomes(shell, "000")
        self.weir("create", "-f", str(self.cluster.lab.samples / "wikipedia-ext.yaml"))
        self.becomes(shell, "200")
        said = self.end(shell)
        # Nobody there, or not ready yet: whatever the first attempt met.
        self.assertRegex(said, r"weir: the last good policy stays in force: (cannot reach )?the API server https://")
        self.assertIn("weir: the policy is whole again", said)

    def test_a_live_connection_is_cut(self):
        self.create(rule("a", WIKIPEDIA4))
        script = f"exec 3<>/dev/tcp/{WIKIPEDIA4}/443; echo open; read -r _ <&3; echo closed"
        run = self.cluster.start_weir("run", "--", "bash", "-c", script)
        self.assertEqual(run.stdout.readline(), "open\n")
        self.weir("delete", "externalservice", "a")
        self.assertEqual(run.stdout.readline(), "closed\n")
        self.assertEqual(run.wait(20), 0)
        self.assertIn(f"weir: cut tcp {WIKIPEDIA4}:443", run.stderr.read())

    def test_a_workload_that_takes_every_descriptor_keeps_no_rule(self):
        """Its flows use up what Weir may open; then the connection to the API server breaks."""
        self.create(rule("a", WIKIPEDIA4))
        script = (f"for i in $(seq 10 90); do eval \"exec $i<>/dev/tcp/{WIKIPEDIA4}/443\" 2>/dev/null; done; echo full; "
                  "read -r _ <&10; echo cut")
        run = self.cluster.lab.start(["bash", "-c", 'ulimit -n 64; exec "$@"', "bash", self.cluster.lab.binary, "run", "-q", "--", "bash", "-c", script],
                                     env=self.cluster.environment())
        self.assertEqual(run.stdout.readline(), "full\n")
        self.cluster.stop("kube-apiserver")
        self.cluster.start("kube-apiserver")
        self.weir("delete", "externalservice", "a")
        self.assertEqual(run.stdout.readline(), "cut\n")
        run.wait(20)

    def test_one_connection_carries_all_streams(self):
        run = self.cluster.start_weir("run", "--", "sleep", "60")
        try:
            seen = "ss -tnpH state established dst 127.0.0.1:6443"

            def connections():
                text = self.cluster.lab.run(["ss", "-tnpH", "state", "established", "dst", "127.0.0.1:6443"], as_root=True).stdout
                return sum(f"pid={run.pid}," in line for line in text.splitlines())
            self.assertTrue(wait_until(lambda: connections() == 1, 20), seen)
            watches = self.kubectl("get", "--raw", "/metrics")
            self.assertRegex(watches, r'apiserver_longrunning_requests\{[^}]*resource="externalservices"[^}]*verb="WATCH"[^}]*\} [1-9]')
            self.assertRegex(watches, r'apiserver_longrunning_requests\{[^}]*resource="serviceentries"[^}]*verb="WATCH"[^}]*\} [1-9]')
            time.sleep(1)
            self.assertEqual(connections(), 1)
        finally:
            run.kill()

    def test_a_connection_that_only_looks_open_is_left(self):
        """Packets to the server vanish, as behind a firewall that forgot the connection; nobody is told."""
        nft = ["ip", "netns", "exec", self.cluster.lab.app, "nft"]
        shell = self.shell()
        self.create(rule("a", WIKIPEDIA4))
        self.becomes(shell, "200")
        lines = self.cluster.lab.run(["ss", "-tnpH", "state", "established", "dst", "127.0.0.1:6443"], as_root=True).stdout.splitlines()
        port = next(line for line in lines if f"pid={shell.pid}," in line).split()[2].rpartition(":")[2]
        command([*nft, "add table inet holes; add chain inet holes out { type filter hook output priority 0; };"
                       "add rule inet holes out meta skuid 1234 tcp dport 6443 drop;"
                       f"add rule inet holes out tcp sport 6443 tcp dport {port} drop"])
        try:
            self.cluster.kubectl("delete", "es", "a")
            # 30 s of silence, then 15 s for an answer, then a new connection that is not made.
            said = []
            reader = threading.Thread(target=lambda: said.extend(iter(shell.stderr.readline, "")), daemon=True)
            reader.start()
            self.assertTrue(wait_until(lambda: any("stays in force" in line for line in said), 90, 0.2), said)
            self.assertEqual(self.ask(shell), "200")
        finally:
            command([*nft, "delete table inet holes"])
        self.becomes(shell, "000")
        # When the other stream is there again, too.
        self.assertTrue(wait_until(lambda: any("the policy is whole again" in line for line in said), 60, 0.2), said)
        shell.stdin.close()
        shell.wait(20)
        reader.join(20)

    def test_two_namespaces_do_not_open_each_others_doors(self):
        for name in ("team-a", "team-b"):
            self.kubectl("create", "namespace", name)
            self.addCleanup(self.kubectl, "delete", "namespace", name, "--wait=false")
        self.create(rule("a", WIKIPEDIA4, namespace="team-a", extra=""))
        a, b = self.shell("-n", "team-a"), self.shell("-n", "team-b")
        self.becomes(a, "200")
        self.assertEqual(self.ask(b), "000")
        self.create(rule("b", OTHER4, namespace="team-b"))
        self.becomes(b, "200", f"https://{OTHER4}/")
        self.assertEqual(self.ask(a, f"https://{OTHER4}/"), "000")
        self.assertEqual(self.ask(b), "000")
        # The root namespace is everybody's.
        self.create(rule("all", WIKIPEDIA4, namespace="weir-system"))
        self.becomes(b, "200")
        self.end(a)
        self.end(b)

    def test_what_only_our_validation_refuses_hurts_nobody_else(self):
        shell = self.shell()
        self.kubectl("apply", "-f", "-", input=rule("broken", "10.0.0.0/33", "0.0.0.0/0"))
        self.create(rule("a", WIKIPEDIA4))
        self.becomes(shell, "200")
        self.assertEqual(self.ask(shell, f"https://{OTHER4}/"), "000")
        self.assertIn("external-service/default/broken allows nothing: spec.hosts[0]: ", self.end(shell))
        self.assertIn("10.0.0.0/33 is not a valid CIDR block", self.weir("get", "externalservice").stderr)

    def test_a_thousand(self):
        rules = "---\n".join(rule(f"r{i}", f"10.{i // 250}.{i % 250}.0/24") for i in range(1000))
        self.kubectl("apply", "--server-side", "-f", "-", input=rules)
        with controller(self):
            shell = self.shell()
            self.assertEqual(self.ask(shell), "000")
            self.create(rule("last", WIKIPEDIA4))
            began = time.monotonic()
            self.becomes(shell, "200")
            print(f"      enforced {time.monotonic() - began:.2f} s after the create returned, among 1000", flush=True)

            def accepted():
                text = self.kubectl("get", "es", "-o", "jsonpath={range .items[*]}{.status.conditions[?(@.type=='Accepted')].status} {end}")
                return text.split().count("True")
            self.assertTrue(wait_until(lambda: accepted() == 1001, 90, 1), accepted())
            self.weir("delete", "externalservice", "last")
            self.becomes(shell, "000")
            self.assertEqual(len(self.weir("get", "externalservice").stdout.splitlines()), 1001)
            self.end(shell)

    def test_the_workload_cannot_touch_what_decides(self):
        self.weir("run", "--", "true")  # keeps a policy
        kept = list((self.cluster.lab.home / ".local/state/weir-kubernetes").glob("*.yaml"))
        self.assertEqual(len(kept), 1)
        config = self.cluster.lab.user_file("kubeconfig", (self.cluster.folder / "admin.kubeconfig").read_text())
        script = f"echo x >>{config}; echo x >>{kept[0]}; touch {kept[0].parent}/new; true"
        done = self.weir("run", "--", "sh", "-c", script, env={"KUBECONFIG": str(config)})
        self.assertEqual(done.stderr.count("Read-only file system"), 3, done.stderr)
        # Nor the connection to the API server.
        self.assertNotIn("socket", self.weir("run", "--", "ls", "-l", "/proc/self/fd").stdout)


class Istioctl(Base):
    def istioctl(self, *words, status=0, **options):
        program = self.cluster.lab.folder / "istioctl"
        if not program.exists():
            program.symlink_to(self.cluster.lab.binary)
        done = self.cluster.lab.run([program, *words], env=self.cluster.environment(WEIR_STORE=None), **options)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def test_the_page(self):
        """Without a word about a store: the cluster of the kubeconfig is meant."""
        sample = (self.cluster.lab.samples / "wikipedia-ext.yaml").read_text()
        self.assertRegex(self.istioctl("create", "-f", "-", input=sample).stdout,
                         r"\ACreated config external-service/default/wikipedia-ext at revision \d+\n\Z")
        self.assertEqual(self.istioctl("create", "-f", "-", input=sample, status=255).stderr,
                         'Error: externalservices.networking.istio.io "wikipedia-ext" already exists\n')
        self.assertEqual(self.istioctl("get", "externalservices").stdout,
                         "NAME\t\tKIND\t\t\t\t\t\tNAMESPACE\n"
                         "wikipedia-ext\tExternalService.networking.istio.io.v1alpha3\tdefault\n")
        shown = self.istioctl("get", "externalservice", "wikipedia-ext", "-o", "yaml").stdout
        self.assertIn("  creationTimestamp: null\n", shown)
        self.assertRegex(self.istioctl("replace", "-f", "-", input=shown).stdout, r"\AUpdated config .* to revision \d+\n\Z")
        self.assertEqual(self.istioctl("delete", "externalservice", "wikipedia-ext").stdout,
                         "Deleted config: externalservice wikipedia-ext\n")
        self.assertEqual(self.istioctl("delete", "externalservice", "wikipedia-ext", status=255).stderr,
                         "Error: 1 error occurred:\n\n* cannot delete wikipedia-ext: "
                         'externalservices.networking.istio.io "wikipedia-ext" not found\n')


class InAPod(Base):
    def test_the_service_account_is_the_default_store(self):
        self.create(rule("a", "10.0.0.0/24"))
        account = self.cluster.folder / "account"
        account.mkdir(exist_ok=True)
        (account / "token").write_text(self.kubectl("create", "token", "default"))
        (account / "namespace").write_text("default")
        (account / "ca.crt").write_text((self.cluster.folder / "pki/ca.pem").read_text())
        place = "/run/secrets/kubernetes.io/serviceaccount"
        script = (f"mount -t tmpfs tmpfs /run && mkdir -p {place} && mount --bind {account} {place} && "
                  f"env -i PATH=$PATH HOME=/nowhere KUBERNETES_SERVICE_HOST=127.0.0.1 KUBERNETES_SERVICE_PORT=6443 "
                  f"{self.cluster.lab.binary} get externalservice")
        done = self.cluster.lab.run(["unshare", "-m", "sh", "-c", script], as_root=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("a ", done.stdout)


class Installed(Base):
    """The controller where weir install puts it: in pods, by its service account."""

    def test_the_controllers_pods_write_the_status(self):
        archive = self.cluster.folder / "controller-image.tar"
        made = subprocess.run([sys.executable, str(ROOT / "tools/make-image"), str(build_folder()), "weir", "--output", str(archive)],
                              capture_output=True, text=True, check=False)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.cluster.load(archive)
        self.addCleanup(self.kubectl, "-n", "weir-system", "scale", "deployment/weir-controller", "--replicas=0")
        self.weir("install")
        self.kubectl("-n", "weir-system", "scale", "deployment/weir-controller", "--replicas=2")
        self.kubectl("-n", "weir-system", "rollout", "status", "deployment/weir-controller", "--timeout=90s")
        self.create(rule("a", "10.0.0.0/24"))
        self.assertTrue(wait_until(lambda: self.condition("a", "Programmed").get("status") == "True", 40, 0.3), self.logs())
        holder = self.kubectl("-n", "weir-system", "get", "lease", "weir-controller", "-o", "jsonpath={.spec.holderIdentity}")
        self.assertTrue(holder.startswith("weir-controller-"), holder)
        # The holder goes in an orderly way: the other one takes over at once.
        self.kubectl("-n", "weir-system", "delete", "pod", holder.rpartition("_")[0].rpartition("_")[0], "--wait=false")
        self.create(rule("b", "10.0.1.0/24"))
        self.assertTrue(wait_until(lambda: self.condition("b", "Accepted").get("status") == "True", 40, 0.3), self.logs())

    def logs(self):
        return self.kubectl("-n", "weir-system", "logs", "-l", "app.kubernetes.io/name=weir-controller", "--prefix", check=False)
