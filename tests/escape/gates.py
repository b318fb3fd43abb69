# SPDX-License-Identifier: Apache-2.0
"""The gates that a test build can leave out (src/base/gate.h), and what each of them holds back.

Each row of the table names the gates without which it must turn red. So the table proves itself: a probe that could not
see a hole would stay green here.
"""
import dataclasses
import re

from frame import LEAKED, NOT_APPLICABLE, OPEN, ROOT, ROWS, UNPROVEN, in_order, trial_of, try_row


@dataclasses.dataclass(frozen=True)
class Gate:
    name: str
    holds: str


GATES = [
    Gate("NETWORK_NAMESPACE", "a network namespace with a loopback and nothing else"),
    Gate("REDIRECT_RULES", "nftables brings TCP and names to Weir"),
    Gate("REJECT_RULES", "nftables rejects everything else"),
    Gate("REJECT_RECORDS", "what is rejected is recorded"),
    Gate("VERDICT", "the policy decides, and zero is deny"),
    Gate("VERDICT_BEFORE_DIAL", "a destination is dialled after the verdict only"),
    Gate("BUILTIN_RANGES", "loopback, link-local and metadata need a rule inside their range"),
    Gate("HOST_ADDRESSES", "the host's own addresses need a rule of their own"),
    Gate("NEW_HOST_ADDRESSES", "an address that the host gets later is one of its own too"),
    Gate("EMBEDDED_ADDRESSES", "an IPv4 address in disguise is no way to what is built in"),
    Gate("OWN_PORT", "a connection to Weir's own port is refused as such"),
    Gate("NAMES", "names that no rule names are not asked"),
    Gate("NAME_TYPES", "of a name that is named, addresses only are asked"),
    Gate("REVOCATION", "live connections are judged again when the policy changes"),
    Gate("STORE_WATCH", "a change of the store is seen"),
    Gate("OWNER_ALLOWANCE", "looking for the process of a denial has a bound"),
    Gate("UNKNOWN_FIELDS", "an unknown field refuses the whole file"),
    Gate("ANCHORS_AND_TAGS", "YAML without anchors and tags"),
    Gate("READ_ONLY_POLICY", "the policy is mounted read-only"),
    Gate("HELD_ANCESTORS", "folders above the policy cannot be renamed"),
    Gate("ALIASES", "the policy is protected at every place where its file system is mounted"),
    Gate("LOOSE_LINKS", "links on the way to the store cannot be replaced"),
    Gate("STORE_MADE", "a store that is missing is made, so that the workload cannot"),
    Gate("OTHER_STORES", "a store that a later run would obey is protected too"),
    Gate("HELD_LOG", "the log takes no line from the workload"),
    Gate("MASKS", "folders of sockets are hidden"),
    Gate("MASK_RUN", "/run is hidden"),
    Gate("MASK_PATTERNS", "well-known folders of sockets are hidden"),
    Gate("MASK_VARIABLES", "sockets named by the environment are hidden"),
    Gate("MASK_LISTENERS", "whatever listens at the start is hidden"),
    Gate("MASK_HOME", "agents in the home folder are hidden"),
    Gate("READ_ONLY_CGROUPS", "cgroups cannot be written, nor mounted anew"),
    Gate("PRIVATE_DEVICES", "/dev is the sandbox's own"),
    Gate("FAMILIES", "seccomp: socket families"),
    Gate("PROTOCOLS", "seccomp: types and protocols of sockets"),
    Gate("FAST_OPEN", "seccomp: data with the SYN"),
    Gate("SOCKET_OPTIONS", "seccomp: routing headers, IP options, fast open options"),
    Gate("TERMINAL", "seccomp: typing into the terminal"),
    Gate("IO_URING", "seccomp: io_uring"),
    Gate("KERNEL_INTERFACES", "seccomp: keys, bpf, perf, userfaultfd"),
    Gate("FOREIGN_ABI", "seccomp: other ABIs of the machine"),
    Gate("SIGNAL_SCOPE", "Landlock: signals stay inside"),
    Gate("CAPABILITIES", "no capability is left"),
    Gate("PID_NAMESPACE", "processes outside are hidden"),
    Gate("IPC_NAMESPACE", "shared memory and queues of System V are its own"),
    Gate("SUPERVISOR_MEMORY", "the supervisor cannot be traced or dumped"),
    Gate("SUPERVISOR_DEATH", "the workload ends with its supervisor"),
    Gate("LEFTOVERS", "what outlives the command is killed"),
    Gate("STANDARD_STREAMS", "a network socket as standard stream is refused"),
    Gate("INHERITED_DESCRIPTORS", "inherited descriptors are sorted out"),
    Gate("INHERITED_FILES", "inherited files are as read-only as their paths"),
    Gate("ESCAPES", "bytes of a workload are escaped before they are printed"),
]


def in_source():
    """The names that stand in the source: a gate that nobody lists is a gate that nobody tries."""
    return {name for path in sorted((ROOT / "src").rglob("*.c")) for name in re.findall(r"WEIR_GATE\((\w+)\)", path.read_text())}


def rows_of(gate, only=()):
    return [entry for entry in in_order(ROWS) if gate.name in entry.gates and (not only or any(entry.id.startswith(word) for word in only))]


def unproven():
    """Rows that no gate turns red."""
    return [entry.id for entry in in_order(ROWS) if not entry.gates and not entry.proof and entry.verdict not in (OPEN, NOT_APPLICABLE)]


def try_gate(lab, gate, capture, only=(), quick=False):
    """Each row that belongs to @gate (quick: the first), without it; and what was wrong, if it did not turn red."""
    for entry in rows_of(gate, only)[:1 if quick else None]:
        result = try_row(entry, trial_of(lab, capture, binary=lab.folder / "weak" / "weir", removed=gate.name))
        yield entry, result, "" if result.verdict in (LEAKED, UNPROVEN) else f"is still {result.verdict} without {gate.name}: {gate.holds}"
