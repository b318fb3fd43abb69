# SPDX-License-Identifier: Apache-2.0
"""Ways out through the handoff: each kind of tests/handoff/race.c first without Weir, where it reaches the denied address,
then through it, where not one packet may. WEIR_RACE_TRIES says how often; `make escape-handoff` makes it 100,000."""
import os
import re
import shutil

from harness import DENIED4, DENIED6, ECHO_PORT, WIKIPEDIA4, WIKIPEDIA6, LabCase, service_entry, wait_until
from lab import build_folder

TRIES = int(os.environ.get("WEIR_RACE_TRIES", "300"))
# What is slow by its nature is tried less often: a process or two connections each time.
# Each try costs many calls, and none is a race: what is refused is refused the first time.
SLOW = {"routing": 20, "supervisor": 100}
REFUSED_PORT = 4444
# Those of which a socket without Weir would reach the denied address.
REACHING = ("descriptor", "address", "both", "unix", "dead", "child", "exec", "reopen", "namespace", "signals")
QUIET = ("unix-unspec", "fast-open", "listen", "second", "shutdown", "families", "abi", "routing", "supervisor")


class HandoffEscape(LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name in ("race", "without"):
            shutil.copy(build_folder() / "tests" / "handoff" / f"handoff_{name}", cls.lab.folder / name)

    def argv(self, kind, tries):
        return [self.lab.folder / "race", kind, max(1, tries // SLOW.get(kind, 1)), WIKIPEDIA4, ECHO_PORT, REFUSED_PORT, DENIED4,
                ECHO_PORT, WIKIPEDIA6, DENIED6]

    def attack(self, kind):
        if kind in REACHING:
            before = self.lab.canary()
            # Some are races without Weir too.
            for _ in range(50):
                self.lab.run(self.argv(kind, 20000 if kind == "unix" else 400), timeout=100)
                if self.lab.canary() > before:
                    break
            self.assertGreater(self.lab.canary(), before, "the control reached nothing: this proves nothing")
            # Its connections are still ending, with a packet each: until the host knows of none any more.
            gone = ["ss", "-Htan", "state", "all", "exclude", "time-wait", "dst", DENIED4]
            self.assertTrue(wait_until(lambda: self.lab.run(gone).stdout == "", 30), "the control does not end")
        self.canary_before = self.lab.canary()
        self.allow(WIKIPEDIA4 + "/32", port=ECHO_PORT, name="echo")
        self.allow(WIKIPEDIA4 + "/32", port=REFUSED_PORT, name="refused")
        self.create(service_entry("echo6", [WIKIPEDIA6 + "/128"], ECHO_PORT))
        done = self.lab.weir(["run", "-q", "--handoff=require", "--", *self.argv(kind, TRIES)], timeout=900)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, rf"(?m)^{kind}: \d+ tries")
        self.assertIsNone(re.search("LISTENS|DISCONNECTED|TAKEN|taken|FETCHED|TRACED", done.stdout), done.stdout)
        if TRIES > 1000:
            print("   ", done.stdout.strip(), flush=True)


def add(kind):
    def test(self):
        self.attack(kind)
    setattr(HandoffEscape, "test_" + kind.replace("-", "_"), test)


for each in REACHING + QUIET:
    add(each)
