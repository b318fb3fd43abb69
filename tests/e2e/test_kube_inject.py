# SPDX-License-Identifier: Apache-2.0
"""weir kube-inject as a command: what it writes where, what it says, and that it writes nothing where it refuses."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from lab import ROOT, build_folder

POD = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\nspec:\n  containers:\n  - name: a\n    image: b\n"


class KubeInject(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-inject-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def inject(self, *argv, status=0, text=None):
        done = subprocess.run([str(build_folder() / "weir"), "kube-inject", *map(str, argv)], input=text, capture_output=True, text=True,
                              check=False, cwd=self.folder)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stderr.count("Error:"), 1 if status else 0, done.stderr)
        if status:
            self.assertEqual(done.stdout, "", "nothing is written where something is refused")
        return done

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def test_the_sample(self):
        sample = (ROOT / "samples/sleep/sleep.yaml").read_text()
        said = self.inject("-f", ROOT / "samples/sleep/sleep.yaml").stdout
        kept = said.splitlines()
        for line in sample.splitlines():
            kept = kept[kept.index(line) + 1:]
        self.assertEqual(self.inject("-f", "-", text=said).stdout, said)
        self.assertIn('image: "weir:', said)

    def test_output_and_options(self):
        self.inject("-f", self.file("pod.yaml", POD), "-o", "out.yaml", "--image", "registry.test/weir:9", "--imagePullPolicy", "Always",
                    "--sidecarProxyUID", "4242")
        said = (self.folder / "out.yaml").read_text()
        self.assertEqual(said.count('image: "registry.test/weir:9"'), 2)
        self.assertEqual(said.count("runAsUser: 4242"), 2)
        self.assertEqual(said.count("imagePullPolicy: Always"), 2)

    def test_ranges_of_the_command_line(self):
        said = self.inject("-f", "-", "--includeIPRanges=10.0.0.1/24", text=POD)
        self.assertIn('    - --include-ranges\n    - "10.0.0.1/24"\n', said.stdout)
        self.assertIn("leaves unchecked", said.stderr)
        self.assertNotIn("include-ranges", self.inject("-f", "-", "--includeIPRanges=*", text=POD).stdout)
        for option in ("--includeIPRanges=bad", "--excludeIPRanges=*", "--excludeOutboundPorts=http"):
            self.assertIn(option.partition("=")[0] + ":", self.inject("-f", "-", option, text=POD, status=64).stderr)

    def test_what_is_wrong_is_said_in_one_line_and_writes_nothing(self):
        out = self.file("out.yaml", "before\n")
        for text, wanted in (("hostNetwork: true", "pod.yaml:9:16: spec.hostNetwork: "), ("os: {name: windows}", "Weir is for Linux"),
                             ("containers: [", "not YAML"), ("dnsPolicy: *x", "")):
            with self.subTest(text):
                done = self.inject("-f", self.file("pod.yaml", POD + "  " + text + "\n"), "-o", out, status=1)
                self.assertIn(wanted, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertEqual(out.read_text(), "before\n")
        self.assertIn("cannot read missing.yaml", self.inject("-f", "missing.yaml", status=1).stderr)
        self.assertIn("cannot read", self.inject("-f", self.folder, status=1).stderr)
        self.assertIn("cannot write", self.inject("-f", self.file("pod.yaml", POD), "-o", "no/such/folder", status=1).stderr)
        self.assertIn("-f FILE is needed", self.inject(status=64).stderr)

    def test_all_refusals_of_a_stream_are_named_at_once(self):
        text = POD + "  hostNetwork: true\n---\n" + POD + "    securityContext: {privileged: true}\n"
        said = self.inject("-f", "-", text=text, status=1).stderr
        self.assertIn("2 errors occurred", said)
        self.assertIn("-:9:", said)
        self.assertIn("-:19:", said)

    def test_standard_output_that_is_full(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([str(build_folder() / "weir"), "kube-inject", "-f", "-"], input=POD, stdout=full, stderr=subprocess.PIPE,
                                  text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot write standard output", done.stderr)

    def test_a_skipped_pod_is_named(self):
        text = POD.replace("  name: p\n", "  name: p\n  annotations: {sidecar.istio.io/inject: 'false'}\n")
        done = self.inject("-f", "-", text=text)
        self.assertEqual(done.stdout, text)
        self.assertEqual(done.stderr, '===> Skipping injection because Pod "p" has sidecar injection disabled\n')


class Image(unittest.TestCase):
    def test_an_image_holds_what_it_needs_and_nobody_elses(self):
        """Built twice, the same; the programs' libraries are in it, each with its licence; weir has its one capability."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, name) for name in ("1.tar", "2.tar")]
            for path in paths:
                done = subprocess.run([str(ROOT / "tools/make-image"), str(build_folder()), "weir", "--output", path], capture_output=True,
                                      text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertRegex(done.stdout, r"weir:\d+\.\d+\.\d+, \d+\.\d MB\n$")
            first, second = (pathlib.Path(path).read_bytes() for path in paths)
            self.assertEqual(first, second)
            self.check(paths[0], folder)

    def check(self, path, folder):
        names = subprocess.run(["tar", "-xvf", path, "-C", folder], capture_output=True, text=True, check=True).stdout.split()
        layer = next(name for name in names if name.endswith(".tar"))
        root = os.path.join(folder, "root")
        os.mkdir(root)
        subprocess.run(["tar", "--xattrs", "--xattrs-include=security.capability", "-xf", os.path.join(folder, layer), "-C", root], check=True,
                       capture_output=True)
        said = subprocess.run(["chroot", root, "/usr/bin/weir", "version"], capture_output=True, text=True, check=False)
        self.assertRegex(said.stdout, r"^weir ", said.stderr)
        said = subprocess.run(["chroot", root, "/usr/sbin/nft", "--version"], capture_output=True, text=True, check=False)
        self.assertRegex(said.stdout, r"^nftables ", said.stderr)
        value = os.getxattr(os.path.join(root, "usr/bin/weir"), "security.capability")
        self.assertEqual(value, bytes([0, 0, 0, 2, 0, 0x10, 0, 0]) + bytes(12), "CAP_NET_ADMIN, permitted, not effective")
        for path in pathlib.Path(root).rglob("*"):
            if path.is_file() and not path.is_symlink():
                self.assertFalse(path.stat().st_mode & 0o6022, path)
        for package in ("weir", "nftables", "libc6", "libyaml-0-2"):
            self.assertTrue((pathlib.Path(root) / "usr/share/doc" / package / "copyright").exists(), package)
