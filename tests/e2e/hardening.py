# SPDX-License-Identifier: Apache-2.0
"""What a hardened program has and this one lacks, read from its ELF file."""
import pathlib
import re
import subprocess

ENDBR64 = b"\xf3\x0f\x1e\xfa"
LANDING_PLACES = 100  # the start files bring a few, a program of this size has over a thousand


def _read(binary, *options):
    return subprocess.run(["readelf", "--wide", *options, str(binary)], capture_output=True, text=True, check=True).stdout


def _bytes(binary):
    """All of it: outside of code these four bytes are rare."""
    return pathlib.Path(binary).read_bytes()


def lacking(binary):
    """One line for each that is missing; an empty list is what a release needs."""
    header, segments, dynamic = _read(binary, "-h"), _read(binary, "-l"), _read(binary, "-d")
    symbols, notes = _read(binary, "--dyn-syms"), _read(binary, "-n")
    stack = re.search(r"^\s*GNU_STACK.*", segments, re.M)
    found = {
        "position independent (PIE)": re.search(r"Type:\s+DYN", header) and re.search(r"FLAGS_1\).*\bPIE\b", dynamic),
        "relocations read-only after start (RELRO)": "GNU_RELRO" in segments,
        "all symbols bound at start (BIND_NOW)": re.search(r"\(BIND_NOW\)|FLAGS\).*BIND_NOW|FLAGS_1\).*\bNOW\b", dynamic),
        "a stack that is not executable": stack and "RWE" not in stack[0],
        "no segment writable and executable": not re.search(r"^\s*LOAD.*\bRWE\b", segments, re.M),
        "no relocations in the text": "(TEXTREL)" not in dynamic,
        "no path to libraries of its own": not re.search(r"\((RPATH|RUNPATH)\)", dynamic),
        "stack protector": "__stack_chk_fail" in symbols,
        "fortified calls": re.search(r"__\w+_chk(@|\b)", symbols.replace("__stack_chk_fail", "")),
    }
    if "X86-64" in header:
        # The linker marks the program only if every object is marked, and Debian's own start files are not. So what
        # counts is that its functions begin with a landing place.
        found["control flow enforcement (IBT)"] = "IBT" in notes or _bytes(binary).count(ENDBR64) > LANDING_PLACES
    return [name for name, good in found.items() if not good]
