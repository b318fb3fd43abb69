# SPDX-License-Identifier: Apache-2.0
"""What a release must be: hardened, named after its commit, and with a bill of what it is linked to."""
import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from hardening import lacking
from lab import ROOT, build_folder

WEAK = ["-no-pie", "-fno-pie", "-Wl,-z,norelro", "-Wl,-z,lazy", "-Wl,-z,execstack", "-fno-stack-protector", "-fcf-protection=none",
        "-U_FORTIFY_SOURCE", "-Wl,-rpath,/tmp"]


def output(*argv, **options):
    return subprocess.run(list(map(str, argv)), check=True, capture_output=True, text=True, **options).stdout


class Release(unittest.TestCase):
    binary = build_folder() / "src/cli/weir"

    def test_hardening(self):
        """In a build with sanitizers their own library stands in for some of it, and none of them is released."""
        if "libasan" in output("readelf", "-dW", self.binary):
            return
        self.assertEqual(lacking(self.binary), [])

    def test_a_program_that_is_not_hardened_is_noticed(self):
        with tempfile.TemporaryDirectory() as folder:
            source, weak = pathlib.Path(folder, "weak.c"), pathlib.Path(folder, "weak")
            source.write_text("#include <stdio.h>\nint main(void) { char b[64]; return scanf(\"%63s\", b) + puts(b); }\n")
            output("gcc", *WEAK, "-o", weak, source)
            found = lacking(weak)
        for word in ("PIE", "RELRO", "BIND_NOW", "a stack that", "libraries", "stack protector", "fortified", "control flow"):
            self.assertTrue(any(word in line for line in found), f"{word} is missing, and it is not told: {found}")

    def test_the_version_names_the_commit(self):
        commit = output("git", "-C", ROOT, "describe", "--always", "--abbrev=12").strip()
        said = re.fullmatch(r"weir \d+\.\d+\.\d+ \((\S+?)(-dirty)?\)\n", output(self.binary, "version"))
        self.assertTrue(said, "the form of weir version")
        self.assertEqual(said[1], commit)

    def test_the_bill_of_materials(self):
        document = json.loads(output(ROOT / "tools/sbom", self.binary, env=dict(os.environ, SOURCE_DATE_EPOCH="1")))
        linked = set(re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-dW", self.binary)))
        self.assertIn("libc.so.6", linked)
        # Thirty libraries behind it would be loaded at every start: store/curl.c opens it where a cluster is talked to.
        self.assertNotIn("libcurl.so.4", linked)
        self.assertEqual({package["name"] for package in document["packages"]}, linked | {"weir", "libcurl.so.4"})
        self.assertEqual(document["creationInfo"]["created"], "1970-01-01T00:00:01Z")
        for package in document["packages"]:
            self.assertTrue(package["versionInfo"], package["name"])

    def test_nothing_tells_where_it_was_built(self):
        """Else two builds of one source differ."""
        if "libasan" in output("readelf", "-dW", self.binary):
            return
        self.assertNotIn(os.fsencode(ROOT) + b"/", self.binary.read_bytes())
