# SPDX-License-Identifier: Apache-2.0
"""The program under the name istioctl: Istio's own cases to the letter, on a folder; on a cluster in tests/kubernetes."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
WEIR = (ROOT / os.environ.get("WEIR_BUILD", "build")).resolve() / "src" / "cli" / "weir"
SAMPLE = ROOT / "samples" / "wikipedia-ext.yaml"
GOOD = """kind: ExternalService
metadata:
  name: %s
spec:
  hosts:
  - 10.0.0.0/8
  ports:
  - number: 443
    name: tcp
    protocol: TCP
  discovery: NONE
"""
# id: (our standard error, why)
DIFFERENT = {
    "CL-14": ('Error: cannot parse proto message: YAML decoding error: unknown field "discoveryy" in v1alpha3.ExternalService\n',
              "the spec is not printed again"),
    "CL-28": ("Error: configuration type gateway not found, the types are externalservice, serviceentry\n",
              "0.7's advice to name a gateway a gateway is not repeated"),
}
TYPES = "externalservice, serviceentry"


class Istioctl(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-istioctl-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.store = self.folder / "store"
        (self.folder / "istioctl").symlink_to(WEIR)

    def istioctl(self, *argv, stdin="", status=0, **env):
        env = {"PATH": os.environ["PATH"], "WEIR_STORE": f"dir:{self.store}", "HOME": str(self.folder)} | env
        done = subprocess.run([str(self.folder / "istioctl"), *map(str, argv)], input=stdin, capture_output=True, text=True, check=False,
                              env={name: value for name, value in env.items() if value is not None})
        self.assertEqual(done.returncode, status, f"istioctl {argv}\n{done.stdout}{done.stderr}")
        return done

    def test_istios_cases(self):
        for line in (ROOT / "tests/conformance/cli.jsonl").read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            with self.subTest(case["id"]):
                shutil.rmtree(self.store, ignore_errors=True)
                if case["state"] == "exists":
                    self.istioctl("create", "-f", "-", stdin=GOOD % "wikipedia-ext")
                elif case["state"] == "only b exists":
                    self.istioctl("create", "-f", "-", stdin=GOOD % "b")
                expected, _ = DIFFERENT.get(case["id"], (case["stderr"], ""))
                done = self.istioctl(*case["argv"].split(), stdin=case["stdin"], status=case["exit"])
                self.assertEqual(re.sub(r"(revision) \d+", r"\1 <N>", done.stdout), case["stdout"])
                pattern = re.escape(expected).replace(re.escape("<usage text>\n"), r"Usage:\n(?:.*\n)+").replace(
                    re.escape("<comma separated list>"), TYPES)
                self.assertRegex(done.stderr, rf"\A{pattern}\Z")

    def test_the_table_is_padded_with_tabs(self):
        self.istioctl("create", "-f", "-", stdin=GOOD % "a")
        self.istioctl("create", "-f", "-", "-n", "team", stdin=GOOD % "of-16-characters")
        self.assertEqual(self.istioctl("get", "externalservices").stdout,
                         "NAME\t\tKIND\t\t\t\t\t\tNAMESPACE\n"
                         "a\t\tExternalService.networking.istio.io.v1alpha3\tdefault\n"
                         # A widest cell that fills its tabs runs into the next column.
                         "of-16-charactersExternalService.networking.istio.io.v1alpha3\tteam\n")
        self.assertEqual(self.istioctl("-n", "team", "get", "externalservice").stdout.count("\n"), 2)
        self.assertEqual(self.istioctl("get", "externalservice", "none").stdout, "No resources found.\n")

    def test_yaml_has_no_zero_values(self):
        self.istioctl("create", "-f", SAMPLE)
        text = self.istioctl("get", "externalservice", "wikipedia-ext", "-o", "yaml").stdout
        self.assertTrue(text.startswith("apiVersion: networking.istio.io/v1alpha3\nkind: ExternalService\nmetadata:\n"
                                        "  creationTimestamp: null\n  name: wikipedia-ext\n  namespace: default\n"
                                        '  resourceVersion: "1"\nspec:\n  hosts:\n'), text)
        self.assertNotIn("discovery", text)
        self.assertTrue(text.endswith("protocol: TCP\n---\n"), text)
        self.assertEqual(self.istioctl("replace", "-f", "-", stdin=text).stdout,
                         "Updated config external-service/default/wikipedia-ext to revision 2\n")

    def test_messages(self):
        two = GOOD % "a" + "---\n" + GOOD % "b" + "  colour: red\n"
        self.istioctl("create", "-f", "-", stdin=two, status=255)
        self.assertEqual(self.istioctl("get", "externalservice").stdout, "No resources found.\n")
        for argv, expected in (
                (("create",), "Error: filename not specified (see --filename or -f)\n"),
                (("create", "x", "-f", SAMPLE), "Error: create takes no arguments\n"),
                (("delete", "externalservice"), "Error: provide configuration type and name or -f option\n"),
                (("delete", "-f", SAMPLE, "a"), "Error: delete takes no arguments when the file option is used\n"),
                (("get", "externalservice", "-o", "json"), "Error: unknown output format json. Types are yaml|short\n"),
                (("get", "foo"), f"Error: configuration type foo not found, the types are {TYPES}\n"),
                (("replace", "-f", SAMPLE), "Error: revision is required\n"),
                (("delete", "-f", "/dev/null"), "Error: nothing to delete\n"),
                (("-p", "kube", "--log_output_level=debug", "bogus"), "Error: unknown command \"bogus\" for \"istioctl\"\nRun 'istioctl --help' for usage.\n"),
                (("get", "externalservice", "--nope"), "Error: unknown flag: --nope\n")):
            with self.subTest(argv):
                self.assertEqual(self.istioctl(*argv, status=255).stderr, expected)
        said = self.istioctl("create", "-f", "-", "-n", "b", stdin=(GOOD % "x").replace("  name: x", "  name: x\n  namespace: a"), status=255).stderr
        self.assertEqual(said, 'Error: the namespace from the provided object "a" does not match the namespace "b". You must pass '
                               "'--namespace=a' to perform this operation\n")

    def test_by_file(self):
        self.istioctl("create", "--file", SAMPLE)
        self.assertEqual(self.istioctl("delete", "-f", SAMPLE).stdout, "Deleted config: external-service/default/wikipedia-ext\n")
        self.assertEqual(self.istioctl("delete", f"--filename={SAMPLE}", status=255).stderr,
                         'Error: 1 error occurred:\n\n* cannot delete external-service/default/wikipedia-ext: '
                         'externalservices.networking.istio.io "wikipedia-ext" not found\n')

    def test_the_store_is_the_cluster(self):
        said = self.istioctl("get", "externalservice", status=255, WEIR_STORE=None).stderr
        self.assertIn("Error: no kubeconfig: neither KUBECONFIG nor ~/.kube/config is there", said)
        said = self.istioctl("-c", "/nowhere", "get", "externalservice", status=255, WEIR_STORE=None).stderr
        self.assertIn("none of the files in KUBECONFIG (/nowhere) exists", said)
        self.assertIn("/elsewhere", self.istioctl("get", "externalservice", "--kubeconfig=/elsewhere", status=255, WEIR_STORE=None).stderr)

    def test_context_create(self):
        said = self.istioctl("context-create", status=255).stderr
        self.assertRegex(said, r"\AUsage:\n(?:.*\n)+Error: specify the the Istio api server IP\n\Z")
        done = self.istioctl("context-create", "--api-server", "http://127.0.0.1:8080")
        self.assertEqual(done.stdout, "Context created\n")
        config = self.folder / ".kube/config"
        self.assertEqual(config.stat().st_mode & 0o777, 0o600)
        said = self.istioctl("get", "externalservice", status=255, WEIR_STORE=None).stderr
        self.assertIn("cannot reach the API server http://127.0.0.1:8080", said)
        config.write_text(config.read_text() + "users:\n- name: me\n  user: {token: abc}\n")
        done = self.istioctl("context-create", "--api-server=http://127.0.0.1:9", "--context", "other")
        self.assertEqual(done.stdout, 'kubeconfig context switched to "other"\nContext created\n')
        text = config.read_text()
        self.assertIn("token: abc", text)
        self.assertIn("current-context: \"other\"" if '"other"' in text else "current-context: other", text)
        self.assertEqual(text.count("server: "), 2)
        self.assertIn(":8080", self.istioctl("get", "externalservice", status=255, WEIR_STORE="kubernetes:istio").stderr)
        self.assertIn(":9: ", self.istioctl("get", "externalservice", status=255, WEIR_STORE=None).stderr)
        config.write_text("clusters: here\n")
        self.assertIn("no kubeconfig that can be added to", self.istioctl("context-create", "--api-server", "http://a", status=255).stderr)
        self.assertEqual(config.read_text(), "clusters: here\n")

    def test_libcurl_is_loaded_for_clusters_only(self):
        """It would take most of the time and memory of a start."""
        self.assertNotIn("libcurl", subprocess.run(["ldd", str(WEIR)], capture_output=True, text=True, check=True).stdout)
        (self.folder / "libcurl.so.4").write_text("no library")
        config = self.folder / "config"
        config.write_text("current-context: a\ncontexts: [{name: a, context: {cluster: a}}]\nclusters: [{name: a, cluster: {server: a}}]\n")
        said = self.istioctl("get", "externalservice", status=255, WEIR_STORE=None, KUBECONFIG=str(config), LD_LIBRARY_PATH=str(self.folder)).stderr
        self.assertIn("a Kubernetes store needs libcurl.so.4: install the package libcurl4", said)
        self.istioctl("get", "externalservice", LD_LIBRARY_PATH=str(self.folder))

    def test_help_and_version(self):
        self.assertIn("istioctl kube-inject -f FILE", self.istioctl("--help").stdout)
        self.assertIn("istioctl create", self.istioctl().stdout)
        self.assertTrue(self.istioctl("version").stdout.startswith("weir "))
