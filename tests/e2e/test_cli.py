# SPDX-License-Identifier: Apache-2.0
"""The commands that need no network: create, replace, apply, get, delete, validate, explain, completion.

Istio's own cases come first (tests/conformance/cli.jsonl); where we answer otherwise stands in DIFFERENT, with the reason.
"""
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
USER = ["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups"]
SAMPLE = (ROOT / "samples" / "wikipedia-ext.yaml").read_text(encoding="utf-8")
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

# id: (our stderr, our exit status, why)
FAILED = "exit status 1 for a failed operation, 64 for wrong options and counts of arguments: 255 says nothing"
DIFFERENT = {
    "CL-03": ("Error: configuration is invalid: 2 errors occurred:\n\n* -:10:15: spec.ports[0].protocol: unsupported protocol: TLS\n"
              "* -:8:13: spec.ports[0].number: port number 0 must be in the range 1..65535\n", 1, "errors are located"),
    "CL-07": ("Error: nothing to create\n", 1, FAILED),
    "CL-08": ("Error: nothing to create\n", 1, FAILED),
    "CL-11": ("Error: open /no/such: no such file or directory\n", 1, FAILED),
    "CL-14": ("Error: configuration is invalid: -:11:3: spec.discoveryy: unknown field \"discoveryy\" in v1alpha3.ExternalService\n", 1,
              "located, without the spec printed again"),
    "CL-15": ("Error: configuration is invalid: -:1:7: kind: kind Foo is not known\n", 1, "located, on one line"),
    "CL-19": ("Error: nothing to replace\n", 1, FAILED),
    "CL-22": ("Error: 1 error occurred:\n\n* cannot delete a: externalservices.networking.istio.io \"a\" not found\n", 1, FAILED),
    "CL-24": ("Error: \"external-service\" not recognized. Please use non-hyphenated resource name \"externalservice\"\n", 1, FAILED),
    "CL-28": ("Error: configuration type gateway not found, the types are externalservice, serviceentry\n", 1,
              "0.7 could not name a type without a hyphen; fixed in 0.8"),
    "CL-34": ("Error: specify the type of resource to get. Types are externalservice, serviceentry\ntry 'weir get --help'\n", 64,
              "one line and where help is, not the whole help"),
}


class Commands(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-cli-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.folder.chmod(0o755)
        self.store = self.folder / "store"

    def weir(self, *argv, stdin="", status=0, user=(), **more):
        env = {"PATH": os.environ["PATH"], "WEIR_STORE": f"dir:{self.store}", "HOME": str(self.folder)}
        done = subprocess.run([*user, str(WEIR), *map(str, argv)], input=stdin, capture_output=True, text=True, check=False, env=env,
                              cwd=self.folder, **more)
        if status is not None:
            self.assertEqual(done.returncode, status, f"weir {argv}\n{done.stdout}{done.stderr}")
        return done

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        return path

    def one_line(self, done, *words):
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("Error: "), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_istioctls_cases(self):
        cases = [json.loads(line) for line in (ROOT / "tests/conformance/cli.jsonl").read_text(encoding="utf-8").splitlines()]
        self.assertEqual(len(cases), 13)
        for case in cases:
            with self.subTest(case["id"]):
                shutil.rmtree(self.store, ignore_errors=True)
                if case["state"] == "exists":
                    self.weir("create", "-f", "-", stdin=GOOD % "wikipedia-ext")
                elif case["state"] == "only b exists":
                    self.weir("create", "-f", "-", stdin=GOOD % "b")
                stderr, status, _ = DIFFERENT.get(case["id"], (case["stderr"], case["exit"], ""))
                done = self.weir(*case["argv"].split(), stdin=case["stdin"], status=status)
                self.assertEqual(re.sub(r"(revision) \d+", r"\1 <N>", done.stdout), case["stdout"])
                self.assertEqual(done.stderr, stderr)

    def test_every_difference_is_one(self):
        """A row of DIFFERENT that says what Istio said is no difference, and is to be taken out."""
        for line in (ROOT / "tests/conformance/cli.jsonl").read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            if case["id"] in DIFFERENT:
                self.assertNotEqual(DIFFERENT[case["id"]][:2], (case["stderr"], case["exit"]))

    def test_the_life_of_a_resource(self):
        sample = self.file("sample.yaml", SAMPLE)
        self.assertEqual(self.weir("create", "-f", sample).stdout, "Created config external-service/default/wikipedia-ext at revision 1\n")
        self.one_line(self.weir("create", "-f", sample, status=1), 'externalservices.networking.istio.io "wikipedia-ext" already exists')
        table = self.weir("get", "externalservices").stdout.splitlines()
        self.assertEqual(table[0].split(), ["NAME", "KIND", "NAMESPACE", "AGE"])
        self.assertEqual(table[1].split()[:3], ["wikipedia-ext", "ExternalService.networking.istio.io.v1alpha3", "default"])
        self.assertEqual(self.weir("get", "externalservice", "wikipedia-ext", "-o", "name").stdout.strip(), "externalservice.networking.istio.io/wikipedia-ext")
        loaded = json.loads(self.weir("get", "externalservice", "wikipedia-ext", "-o", "json").stdout)
        self.assertEqual(loaded["spec"]["hosts"][0], "91.198.174.192/27")
        text = self.weir("get", "externalservice", "wikipedia-ext", "-o", "yaml").stdout
        self.assertEqual(self.weir("replace", "-f", "-", stdin=text).stdout, "Updated config external-service/default/wikipedia-ext to revision 2\n")
        self.one_line(self.weir("replace", "-f", "-", stdin=text, status=1), "the object has been modified")
        # When it was made is kept whatever a later input says, and is what AGE counts from.
        self.assertRegex(table[1].split()[3], r"^\d+s$")
        self.assertRegex(text, r'(?m)^  creationTimestamp: "20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"$')
        stored = next(self.store.glob("external-service/default/*.yaml"))
        stored.write_text(re.sub(r'creationTimestamp: "[^"]*"', 'creationTimestamp: "2018-03-29T10:00:00Z"', stored.read_text()))
        self.weir("replace", "-f", sample)
        self.assertIn('creationTimestamp: "2018-03-29T10:00:00Z"', self.weir("get", "externalservice", "wikipedia-ext", "-o", "yaml").stdout)
        self.assertRegex(self.weir("get", "externalservice").stdout, r"default +\d+y(\d+d)?\n")
        self.weir("apply", "-f", sample)
        self.assertEqual(self.weir("delete", "externalservice", "wikipedia-ext").stdout, "Deleted config: externalservice wikipedia-ext\n")
        self.assertEqual(self.weir("get", "externalservice").stdout, "No resources found.\n")
        self.one_line(self.weir("replace", "-f", sample, status=1), "revision is required")
        self.weir("apply", "-f", sample)
        self.assertEqual(self.weir("delete", "-f", sample).stdout, "Deleted config: external-service/default/wikipedia-ext\n")

    def test_all_or_nothing(self):
        first, bad = self.file("first.yaml", GOOD % "a"), self.file("bad.yaml", (GOOD % "b").replace("443", "70000"))
        self.weir("create", "-f", first, "-f", bad, status=1)
        self.assertEqual(self.weir("get", "externalservice").stdout, "No resources found.\n")
        # While writing it is as Istio's: what came before a failure stays.
        self.weir("create", "-f", "-", stdin=GOOD % "b")
        done = self.weir("create", "-f", "-", stdin=GOOD % "a" + "---\n" + GOOD % "b" + "---\n" + GOOD % "c", status=1)
        self.assertIn("Created config external-service/default/a", done.stdout)
        self.assertIn('"b" already exists', done.stderr)
        self.assertNotIn("/c", done.stdout)

    def test_namespaces(self):
        self.weir("create", "-n", "team", "-f", "-", stdin=GOOD % "a")
        self.assertIn("team", self.weir("get", "externalservice").stdout)
        self.one_line(self.weir("get", "externalservice", "a", status=1), "not found")
        self.weir("get", "externalservice", "a", "-n", "team")
        done = self.weir("create", "-n", "x", "-f", "-", stdin=(GOOD % "b").replace("name: b", "name: b\n  namespace: y"), status=1)
        self.one_line(done, 'the namespace from the provided object "y" does not match the namespace "x". You must pass \'--namespace=y\'')

    def test_bad_documents(self):
        bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [" + ",".join(["*" + chr(97 + i)] * 9) + "]\n" for i in range(8))
        cases = {
            "a tab": (GOOD.replace("  hosts", "\thosts") % "a", "a tab cannot indent"),
            "a key twice": (GOOD % "a" + "kind: ExternalService\n", 'key "kind" is here twice'),
            "port 70000": ((GOOD % "a").replace("443", "70000"), ":8:13: spec.ports[0].number: port number 70000 must be in the range 1..65535"),
            "a misspelt field": ((GOOD % "a").replace("hosts", "hots"), 'unknown field "hots" in v1alpha3.ExternalService'),
            "IPv6": ((GOOD % "a").replace("10.0.0.0/8", "'2001:db8::/32'"), "2001:db8::/32 is not a valid IPv4 address"),
            "10.0.0.0/33": ((GOOD % "a").replace("10.0.0.0/8", "10.0.0.0/33"), "10.0.0.0/33 is not a valid CIDR block"),
            "an alias bomb": (bomb, "aliases are not allowed"),
            "two megabytes": ("# x\n" + "a: " + "x" * 2097152 + "\n", "the document is larger than 1048576 bytes"),
            "no YAML": ("{{{{", "not YAML"),
        }
        for name, (text, words) in cases.items():
            with self.subTest(name):
                done = self.weir("create", "-f", "-", stdin=text, status=1)
                self.assertTrue(done.stderr.replace("Warning: ", "").startswith(("Error: configuration is invalid: ", "-:")), done.stderr[:300])
                self.assertIn(words, done.stderr)
                self.assertLess(len(done.stderr), 8192)
                self.assertFalse((self.store / "external-service").exists())

    def test_bad_places(self):
        self.one_line(self.weir("create", "-f", self.folder, status=1), "is a directory")
        self.one_line(self.weir("create", "-f", self.folder / "none", status=1), "no such file or directory")
        self.weir("create", "-f", "-", stdin=GOOD % "a")
        self.store.chmod(0o700)
        for argv in (["get", "externalservice"], ["create", "-f", "-"], ["delete", "externalservice", "a"], ["explain", "10.0.0.1", "443"]):
            with self.subTest(argv[0]):
                self.one_line(self.weir(*argv, stdin=GOOD % "b", status=1, user=USER), "ermission denied", str(self.store))
        self.one_line(self.weir("get", "externalservice", "--store", "/x", status=1), "dir:/x")
        self.one_line(self.weir("get", "externalservice", "--store", "redis:x", status=1), "dir:")
        with open("/dev/full", "w", encoding="utf-8") as full:
            env = {"WEIR_STORE": f"dir:{self.store}"}
            done = subprocess.run([str(WEIR), "get", "externalservice"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=env)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("o space left", done.stderr)

    def test_a_namespace_is_a_name(self):
        for name in ("Bad Ns", "a.b", "../x", "", "-a", "x" * 64):
            for argv in (["create", "-f", "-"], ["get", "externalservice"], ["explain"], ["delete", "externalservice", "a"]):
                with self.subTest(f"{argv[0]} {name}"):
                    done = self.weir(*argv, "-n", name, stdin=GOOD % "a", status=64)
                    self.assertIn("DNS-1123 label", done.stderr)

    def test_old_forms_of_an_address_are_no_names(self):
        for text, address in (("0x7f.1", "127.0.0.1"), ("017700000001", "127.0.0.1"), ("10.1", "10.0.0.1"), ("2130706433", "127.0.0.1")):
            with self.subTest(text):
                self.one_line(self.weir("explain", text, "80", status=1), f'"{text}"', address)

    def test_usage(self):
        for argv in (["frob"], ["create", "--bad"], ["get"], ["create", "-f"], ["explain", "1.2.3.4"], ["validate"], ["completion"]):
            with self.subTest(" ".join(argv)):
                done = self.weir(*argv, status=None)
                self.assertIn(done.returncode, (1, 64))
                self.assertRegex(done.stderr, r"^Error: .*\n(try 'weir.*--help'\n)?$")
        for command in ("run", "create", "replace", "apply", "get", "delete", "validate", "explain", "version", "completion"):
            done = self.weir(command, "--help")
            self.assertIn("Usage: weir " + command, done.stdout)
            self.assertEqual(done.stderr, "")
        self.assertRegex(self.weir("version").stdout, r"^weir \d+\.\d+\.\d+ \(\S+\)\n$")
        self.assertEqual(self.weir("--version").stdout, self.weir("version").stdout)

    def test_validate(self):
        good, bad = self.file("good.yaml", SAMPLE), self.file("bad.yaml", (GOOD % "a").replace("443", "0"))
        self.assertIn("good.yaml: valid", self.weir("validate", "-f", good).stdout)
        done = self.weir("validate", "-f", good, "-f", bad, status=1)
        self.assertIn("port number 0", done.stderr)
        web = self.file("web.yaml", (GOOD % "a").replace("protocol: TCP", "protocol: HTTP"))
        self.assertIn("not enforced", self.weir("validate", "-f", web).stderr)
        self.assertFalse(self.store.exists(), "validate made a store")
        self.one_line(self.weir("validate", "-f", "/dev/null", status=1), "nothing to validate")
        self.assertEqual(self.weir("validate", "-f", "/dev/null", "-f", good).returncode, 0)

    def test_explain(self):
        sample = self.file("sample.yaml", SAMPLE)
        for argv, word, more in ((["198.35.26.96", "443"], "allow", "default/wikipedia-ext"), (["tcp", "198.35.26.96", "80"], "deny", "nearest"),
                                 (["203.0.113.1", "443"], "deny", "no rule"), (["169.254.169.254", "80"], "deny", "metadata"),
                                 (["udp", "198.35.26.96", "443"], "deny", "UDP"), (["2620:0:861:ed1a::1", "443"], "deny", "no rule"),
                                 (["www.wikipedia.org", "443"], "allow", "address")):
            with self.subTest(" ".join(argv)):
                done = self.weir("explain", "-f", sample, *argv)
                self.assertEqual(done.stdout.split()[0], word, done.stdout)
                self.assertIn(more, done.stdout)
        elsewhere = self.file("elsewhere.yaml", SAMPLE.replace("name: wikipedia-ext", "name: wikipedia-ext\n  namespace: prod"))
        said = self.weir("explain", "-f", elsewhere, "198.35.26.96", "443").stdout
        self.assertEqual(said.split()[0], "deny")
        self.assertIn("in namespace prod it is allowed, by prod/wikipedia-ext", said)
        self.assertEqual(self.weir("explain", "-n", "prod", "-f", elsewhere, "198.35.26.96", "443").stdout.split()[0], "allow")
        self.assertNotIn("no rule names", self.weir("explain", "-f", sample, "www.wikipedia.org", "443").stdout)
        whole = self.weir("explain").stdout
        self.assertNotIn("allow", whole.partition("\ndns")[0])
        self.assertIn("169.254.0.0/16", whole)

    def test_completion_is_shell(self):
        script = self.weir("completion", "bash").stdout
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        asked = script + '\nCOMP_WORDS=(weir cr); COMP_CWORD=1; _weir; echo "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, text=True, check=False)
        self.assertEqual(done.stdout.strip(), "create", done.stderr)
        self.assertIn("#compdef weir", self.weir("completion", "zsh").stdout)


if __name__ == "__main__":
    unittest.main()
