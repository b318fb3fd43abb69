# SPDX-License-Identifier: Apache-2.0
"""Files of a run behind symbolic links: what the command can change of them."""
import os

from harness import CODE, OTHER4, UID, WIKIPEDIA4, LabCase, external_service


def make_link(link, target):
    link.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, link)
    os.lchown(link, UID, UID)


class Links(LabCase):
    """What dotfile managers make of a home."""

    def setUp(self):
        super().setUp()
        self.lab.run(["sh", "-c", "rm -rf $HOME/.local $HOME/dotfiles $HOME/*.yaml $HOME/*.json"])

    def folder(self, name):
        path = self.lab.home / name
        path.mkdir(parents=True)
        for owned in (path, *path.parents):
            if owned == self.lab.home:
                break
            os.chown(owned, UID, UID)
        return path

    def test_a_linked_local_folder(self):
        """The default store, behind a link in the home, which cannot be held: it works, is protected, and says so."""
        self.folder("dotfiles/local")
        link = self.lab.home / ".local"
        make_link(link, "dotfiles/local")
        env = {"WEIR_STORE": None}
        self.weir("apply", "-f", "-", input=external_service("allowed", [WIKIPEDIA4 + "/32"]), env=env)
        store = self.lab.home / "dotfiles/local/state/weir"
        script = f"rm -rf {store} {link}/state; mv dotfiles other; mv dotfiles/local dotfiles/other; mv {store.parent} {store.parent}.old; " + " ".join(CODE)
        done = self.weir_run("sh", "-c", f"({script} https://{WIKIPEDIA4}/wiki/Main_Page) 2>/dev/null", env=env)
        self.assertEqual(done.stdout, "200", done.stderr)
        self.assertIn(f"weir: {link} is a symbolic link that the command could replace", done.stderr)
        self.assertTrue(list(store.rglob("allowed.yaml")), "the policy behind the link is gone")
        self.assertNotIn("symbolic link", self.weir_run("true", env=env, options=["-q"]).stderr)

    def test_a_link_below_the_home_is_held(self):
        """Its folder takes no new entry and gives none up; what stands in it is as it was."""
        self.folder("dotfiles/state/weir")
        self.folder(".local/share")
        self.lab.user_file(".local/note", "old")
        link = self.lab.home / ".local/state"
        make_link(link, "../dotfiles/state")
        env = {"WEIR_STORE": None}
        script = ("cd $HOME; ln -sfn /tmp .local/state; rm -f .local/state; mv .local/state .local/other; mv .local local; mv dotfiles other; mv dotfiles/state other;"
                  " echo new > .local/share/file && echo new > .local/note && echo works")
        done = self.weir_run("sh", "-c", f"({script}) 2>/dev/null", env=env)
        self.assertEqual(done.stdout, "works\n")
        self.assertNotIn("symbolic link", done.stderr)
        self.assertEqual(os.readlink(link), "../dotfiles/state")
        self.assertTrue((self.lab.home / "dotfiles/state/weir").is_dir())
        self.assertEqual((self.lab.home / ".local/note").read_text(), "new\n")
        self.assertTrue((self.lab.home / ".local/share/file").exists())
        # Without Weir the same words do replace the link.
        self.lab.run(["sh", "-c", "ln -sfn /tmp $HOME/.local/state"])
        self.assertEqual(os.readlink(link), "/tmp")

    def test_descriptors_are_no_links_that_could_be_replaced(self):
        policy = self.lab.user_file("policy.yaml", external_service("linked", [OTHER4 + "/32"]))
        for script in (f"-f /dev/stdin -- echo works <{policy}", f"-f <(cat {policy}) -- echo works", "--log >(cat >/dev/null) -- echo works"):
            done = self.lab.run(["bash", "-c", f"{self.lab.binary} run {script}"])
            self.assertEqual((done.stdout, done.stderr), ("works\n", ""), script)

    def test_policy_files_and_logs_behind_links(self):
        text = external_service("linked", [OTHER4 + "/32"])
        real = self.lab.user_file("dotfiles/real.yaml", text)
        self.lab.user_file("dotfiles/real.json", "")
        policy, log = self.lab.home / "link.yaml", self.lab.home / "link.json"
        make_link(policy, "dotfiles/real.yaml")
        make_link(log, "dotfiles/real.json")
        script = f"echo evil >> {real}; mv {real} {real}.old; echo forged >> {log}; " + " ".join(CODE)
        done = self.weir_run("sh", "-c", f"({script} https://{OTHER4}) 2>/dev/null", options=["-f", policy, "--log", log])
        self.assertEqual(done.stdout, "200", done.stderr)
        self.assertEqual(real.read_text(), text)
        for link in (policy, log):
            self.assertIn(f"weir: {link} is a symbolic link that the command could replace", done.stderr)
        kept = (self.lab.home / "dotfiles/real.json").read_text()
        self.assertIn(OTHER4, kept)
        self.assertNotIn("forged", kept)
