# SPDX-License-Identifier: Apache-2.0
"""The story as `make demo` plays it: each step says whether it went as it should."""
import os
import pathlib
import subprocess
import sys
import unittest

from lab import build_folder

DEMO = pathlib.Path(__file__).resolve().parents[1] / "lab" / "demo"


class Demo(unittest.TestCase):
    def test_every_step_is_as_it_should_be(self):
        done = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True, check=False, timeout=120,
                              env={**os.environ, "WEIR_BUILD": str(build_folder())}, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn("WRONG", done.stdout)
        self.assertRegex(done.stdout, r"\nShown: .*\n$")
