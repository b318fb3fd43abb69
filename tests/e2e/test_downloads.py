# SPDX-License-Identifier: Apache-2.0
"""The tools people run under Weir, each against a server of the lab: git over https and ssh, pip, npm, go."""
import base64
import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import tarfile
import zipfile

from harness import TOOLS4, LabCase, external_service

GIT = ["git", "-c", "user.name=lab", "-c", "user.email=lab@lab.test", "-c", "init.defaultBranch=main"]


class Downloads(LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.make_repository()
        cls.make_wheel()
        cls.make_npm_package()
        cls.make_go_module()

    @classmethod
    def make_repository(cls):
        if not shutil.which("git"):
            return
        tree, bare = cls.lab.folder / "tree", cls.lab.web / "project.git"
        subprocess.run([*GIT, "init", "-q", str(tree)], check=True)
        (tree / "README").write_text("from the lab\n")
        subprocess.run([*GIT, "-C", str(tree), "add", "README"], check=True)
        subprocess.run([*GIT, "-C", str(tree), "commit", "-q", "-m", "first"], check=True)
        subprocess.run([*GIT, "clone", "-q", "--bare", str(tree), str(bare)], check=True)
        subprocess.run([*GIT, "-C", str(bare), "update-server-info"], check=True)
        subprocess.run(["chown", "-R", "1234:1234", str(bare)], check=True)

    @classmethod
    def make_wheel(cls):
        """A wheel of one module, and the index of PEP 503."""
        folder = cls.lab.web / "simple" / "tiny-lab"
        folder.mkdir(parents=True)
        files = {"tiny_lab.py": "ANSWER = 42\n",
                 "tiny_lab-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-lab\nVersion: 1.0\n",
                 "tiny_lab-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
        record = "".join(f"{name},,\n" for name in [*files, "tiny_lab-1.0.dist-info/RECORD"])
        name = "tiny_lab-1.0-py3-none-any.whl"
        with zipfile.ZipFile(folder / name, "w") as wheel:
            for path, text in {**files, "tiny_lab-1.0.dist-info/RECORD": record}.items():
                wheel.writestr(path, text)
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        (folder / "index.html").write_text(f'<!DOCTYPE html><html><body><a href="{name}#sha256={digest}">{name}</a></body></html>\n')

    @classmethod
    def make_npm_package(cls):
        manifest = {"name": "tiny-lab", "version": "1.0.0", "main": "index.js"}
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for name, text in (("package.json", json.dumps(manifest)), ("index.js", "module.exports = 42\n")):
                entry = tarfile.TarInfo("package/" + name)
                entry.size = len(text)
                tar.addfile(entry, io.BytesIO(text.encode()))
        (cls.lab.web / "tiny-lab-1.0.0.tgz").write_bytes(archive.getvalue())
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive.getvalue()).digest()).decode()
        manifest["dist"] = {"tarball": "https://npm.lab.test/tiny-lab-1.0.0.tgz", "integrity": integrity}
        (cls.lab.web / "tiny-lab").write_text(json.dumps(
            {"name": "tiny-lab", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": manifest}}))

    @classmethod
    def make_go_module(cls):
        folder = cls.lab.web / "lab.test" / "tiny" / "@v"
        folder.mkdir(parents=True)
        module = "module lab.test/tiny\n\ngo 1.18\n"
        (folder / "list").write_text("v1.0.0\n")
        (folder / "v1.0.0.info").write_text('{"Version":"v1.0.0","Time":"2024-01-01T00:00:00Z"}\n')
        (folder / "v1.0.0.mod").write_text(module)
        with zipfile.ZipFile(folder / "v1.0.0.zip", "w") as archive:
            archive.writestr("lab.test/tiny@v1.0.0/go.mod", module)
            archive.writestr("lab.test/tiny@v1.0.0/tiny.go", "package tiny\n\nconst Answer = 42\n")

    def both_ways(self, script, env=None):
        """Denied without a rule and nothing arrives; with the rule it works, as it does without Weir."""
        before = self.lab.packets(TOOLS4)
        done = self.lab.weir(["run", "--", "bash", "-ec", script], env=env, timeout=120)
        self.assertNotEqual(done.returncode, 0, "it worked without a rule")
        self.assertEqual(self.lab.packets(TOOLS4), before)
        self.create(external_service("tools", [TOOLS4 + "/27"]) + "---\n" + external_service("ssh", [TOOLS4 + "/27"], 22))
        done = self.lab.weir(["run", "--", "bash", "-ec", script], env=env, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertGreater(self.lab.packets(TOOLS4), before)
        return done.stdout

    def test_git_over_https(self):
        self.need("git")
        self.assertIn("from the lab", self.both_ways(
            "rm -rf copy; git clone -q https://git.lab.test/project.git copy; cat copy/README"))

    def test_git_over_ssh(self):
        self.need("git", "ssh", "sshd", "ssh-keygen")
        folder = self.lab.folder / "sshd"
        folder.mkdir()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        key = self.lab.user_file(".ssh/id_ed25519", (folder / "user").read_text(), 0o600)
        host = (folder / "host.pub").read_text().split()
        known = self.lab.user_file(".ssh/known_hosts", f"git.lab.test {host[0]} {host[1]}\n", 0o600)
        shutil.copy(folder / "user.pub", folder / "authorized")
        (folder / "config").write_text(
            f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\nPidFile none\n"
            "PasswordAuthentication no\nListenAddress 0.0.0.0\n")
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        sshd = self.lab.start([shutil.which("sshd", path="/usr/sbin:/sbin"), "-D", "-e", "-f", folder / "config"],
                              namespace=self.lab.internet, as_root=True)
        ssh = f"ssh -o UserKnownHostsFile={known} -i {key} -o BatchMode=yes -o ConnectTimeout=10"
        script = f"rm -rf copy; git clone -q lab@git.lab.test:{self.lab.web}/project.git copy; cat copy/README"
        # The control, once more often than needed: sshd takes a moment to listen.
        for _ in range(50):
            done = self.lab.run(["bash", "-ec", script], env={"GIT_SSH_COMMAND": ssh})
            if done.returncode == 0:
                break
        self.assertEqual(done.returncode, 0, f"sshd of the lab does not answer: {done.stderr}")
        self.assertIn("from the lab", self.both_ways(script, env={"GIT_SSH_COMMAND": ssh}))
        # Without -F or -o on the line, ssh reads its configuration below /etc: "Bad owner" would show here.
        self.assertEqual(self.lab.weir(["run", "--", "ssh", "-G", "git.lab.test"]).returncode, 0)
        sshd.kill()

    def test_pip(self):
        self.need("python3")
        self.assertIn("tiny_lab-1.0", self.both_ways(
            "rm -rf wheels; /usr/bin/python3 -m pip download -q --disable-pip-version-check --no-cache-dir --retries 0 "
            "--index-url https://pip.lab.test/simple/ -d wheels tiny-lab; ls wheels"))

    def test_npm(self):
        self.need("npm")
        self.assertIn("42", self.both_ways(
            "rm -rf app; mkdir app; cd app; npm init -y >/dev/null; npm install --loglevel=error --no-audit --no-fund --no-update-notifier "
            "--fetch-retries=0 --registry https://npm.lab.test/ tiny-lab; node -p 'require(\"tiny-lab\")'"))

    def test_go(self):
        self.need("go")
        env = {"GOPROXY": "https://go.lab.test", "GOSUMDB": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "-modcacherw",
               "GOPATH": f"{self.lab.home}/go", "GOCACHE": f"{self.lab.home}/go-cache"}
        self.assertIn("const Answer = 42", self.both_ways(
            "rm -rf use go/pkg; mkdir use; cd use; printf 'module use\\n\\ngo 1.18\\n' >go.mod; go mod download lab.test/tiny@v1.0.0; "
            "cat ../go/pkg/mod/lab.test/tiny@v1.0.0/tiny.go", env=env))
