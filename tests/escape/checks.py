# SPDX-License-Identifier: Apache-2.0
"""What must hold of the table itself, of its documents, and of the switch that takes gates away."""
import difflib

import table
from frame import CAPTURES, ROOT, ROWS, build_folder, in_order, trial_of, try_row, weak_binary
from gates import GATES, in_source, unproven

SWITCH = (b"WEIR_TEST_GATE_REMOVED", b"weir_gate_stands", b"dial_early", b"build_elsewhere")
WANTED = [*range(1, 19), *range(20, 25), *range(57, 62), *range(63, 67), *range(70, 73), *range(74, 77), *range(79, 82)]
FAULTS = [*range(1, 10), 13, 16, 18, *range(21, 25), 27, 30, 32]


def listed():
    """Every gate of the source is in the list, and every one of the list in the source; every row has what proves it."""
    both = in_source() ^ {gate.name for gate in GATES}
    without = [gate.name for gate in GATES if not any(gate.name in entry.gates for entry in ROWS)]
    missing = [f"{letter}{number}" for letter, numbers in (("E", WANTED), ("F", FAULTS)) for number in numbers
               if not any(entry.id.partition(".")[0] == f"{letter}{number}" for entry in ROWS)]
    strange = {name for entry in ROWS for name in entry.gates} - {gate.name for gate in GATES}
    said = [f"not both in src and in tests/escape/gates.py: {sorted(both)}" if both else "", f"no row turns red without {without}" if without else "",
            f"rows that nothing turns red: {unproven()}" if unproven() else "", f"ways out without a row: {missing}" if missing else "",
            f"rows name gates that are none: {sorted(strange)}" if strange else ""]
    return "\n".join(filter(None, said)) or None


def documents():
    path = ROOT / "doc" / "escapes.md"
    before, now = path.read_text() if path.exists() else "", table.markdown()
    if before != now:
        return "doc/escapes.md is out of date, run make escape:\n" + "\n".join(difflib.unified_diff(before.splitlines(), now.splitlines(), lineterm=""))
    missing = table.not_in_security((ROOT / "SECURITY.md").read_text())
    return f"open by design, but not in SECURITY.md: {missing}" if missing else None


def release_has_no_switch(lab):
    """The words of the switch are in the weak program and not in the other, which does not listen to it either."""
    release, weak = (build_folder() / "src/cli/weir").read_bytes(), weak_binary().read_bytes()
    if not all(word in weak for word in SWITCH):
        return "the control: the test build has no such words either"
    found = [word.decode() for word in SWITCH if word in release]
    if found:
        return f"the program has the switch of the test builds: {found}"
    for name, identity in (("NETWORK_NAMESPACE", "E20"), ("VERDICT", "E20"), ("FAMILIES", "E14")):
        entry = next(entry for entry in in_order(ROWS) if entry.id == identity)
        result = try_row(entry, trial_of(lab, CAPTURES[0], removed=name))
        if result.red:
            return f"with the switch at {name} {identity} turns red: {result.text}"
    return None
