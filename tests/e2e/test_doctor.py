# SPDX-License-Identifier: Apache-2.0
"""weir doctor: what this machine can do, and the proof from inside."""
import json
import shutil

from harness import LabCase

WAYS = ["address", "udp", "icmp", "ipv6", "raw socket", "name"]


class Doctor(LabCase):
    def test_an_ordinary_user(self):
        done = self.weir("doctor")
        self.assertRegex(done.stdout, r"(?m)^  yes user namespaces$")
        self.assertRegex(done.stdout, r"(?m)^  yes socket handoff$")
        self.assertRegex(done.stdout, r"(?m)^  NO  root: this is not root; run as root")
        self.assertRegex(done.stdout, r"(?m)^  sealed  address stopped, udp stopped, icmp stopped, ipv6 stopped, raw socket stopped"
                                      r"( \(as without Weir\))?, name stopped, what is allowed arrived$")
        self.assertRegex(done.stdout, r"(?m)^  cgroup  not to be had here: this is not root$")

    def test_root_and_json(self):
        done = self.lab.run([self.lab.binary, "doctor", "-o", "json"], as_root=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        report = json.loads(done.stdout)
        self.assertTrue(report["holds"])
        self.assertEqual([proof["capture"] for proof in report["proofs"]], ["sealed", "cgroup"])
        for proof in report["proofs"]:
            self.assertTrue(proof["started"] and proof["allowed_arrived"] and proof["holds"], proof)
            self.assertEqual([way["name"] for way in proof["ways"]], WAYS)
            # The canary hears what is sent to it: without Weir everything but a name gets there.
            self.assertEqual([way["name"] for way in proof["ways"] if way["open_without_weir"]], WAYS[:-1], proof)
        self.assertEqual({ability["capture"] for ability in report["abilities"]}, {"sealed", "cgroup", "redirect"})
        for ability in report["abilities"]:
            self.assertEqual(ability["has"], ability["missing"] is None, ability)

    def test_what_is_missing_is_named_and_how_to_get_it(self):
        done = self.lab.run(["unshare", "-m", "sh", "-c", f"mount --bind /dev/null /usr/sbin/nft; exec setpriv --reuid 1234 --regid 1234 --clear-groups {self.lab.binary} doctor"],
                            as_root=True)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stdout, r"(?m)^  NO  nftables: there is no nft: install the package nftables; package nftables brings it$")
        self.assertRegex(done.stdout, r"(?m)^  sealed  not to be had here: there is no nft")
        self.assertIn("does NOT hold", done.stdout)

    def test_without_a_handoff_the_relay_is_named(self):
        shutil.copy(__file__.replace("e2e/test_doctor.py", "lab/refuse.py"), self.lab.folder / "refuse.py")
        done = self.lab.run(["python3", self.lab.folder / "refuse.py", "pidfd_getfd=EPERM", self.lab.binary, "doctor"])
        self.assertRegex(done.stdout, r"(?m)^  no  socket handoff: .*; without it every connection goes through the relay$")
        self.assertRegex(done.stdout, r"(?m)^  sealed  address stopped, .*what is allowed arrived$")

    def test_nothing_is_left_behind(self):
        """No mount, no rule, no packet: tearDown counts those."""
        script = f"{self.lab.binary} doctor >&2; grep ' /sys/fs/bpf ' /proc/self/mountinfo; nft list ruleset"
        done = self.lab.run(["sh", "-c", script], as_root=True)
        self.assertIn("What Weir promises holds", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_bad_words(self):
        self.assertIn("unexpected", self.weir("doctor", "x", status=64).stderr)
        self.assertIn("--inside", self.weir("doctor", "--inside", "x", status=64).stderr)
        self.assertIn("text|json", self.weir("doctor", "-o", "yaml", status=64).stderr)
