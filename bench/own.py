# SPDX-License-Identifier: Apache-2.0
"""Weir's own figures, which have no peer: starting a command, large policies, and how soon a change is felt."""
import json
import os
import shutil
import statistics
import subprocess
import time

from columns import Weir
from network import ALLOWED, UID, BenchError, command

CHANGES = 1000
PREFIXES = [10, 100, 1000, 10000, 100000, 1000000]
PER_FILE = 20000
OTHERS = 1000


def entry(name, addresses, ports=(7001,)):
    return ("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n"
            f"  name: {name}\n  namespace: default\n  resourceVersion: \"1\"\nspec:\n  hosts:\n  - {name}.test\n  addresses:\n"
            + "".join(f"  - {address}\n" for address in addresses) + "  ports:\n"
            + "".join(f"  - number: {port}\n    name: tcp-{port}\n    protocol: TCP\n" for port in ports)
            + "  resolution: NONE\n")


class Store:
    """A folder that Weir reads, changed as an editor or a git checkout changes it: by one rename."""

    def __init__(self, folder, name):
        self.path = folder / name
        self.folder = self.path / "service-entry" / "default"
        shutil.rmtree(self.path, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for path in (self.path, self.path / "service-entry", self.folder):
            os.chown(path, UID, UID)

    def put(self, name, text):
        """Returns the time just before the change became visible."""
        fresh = self.folder / ".fresh"
        fresh.write_text(text)
        os.chown(fresh, UID, UID)
        at = time.monotonic_ns()
        fresh.rename(self.folder / f"{name}.yaml")
        return at

    def remove(self, name):
        at = time.monotonic_ns()
        (self.folder / f"{name}.yaml").unlink()
        return at


class Stored(Weir):
    """Weir on a store instead of a file."""

    def __init__(self, weir, network, folder, store):
        super().__init__(weir.key, weir.title, weir.options, weir.user, weir.program)
        self.store = store
        self.begin(network, folder)

    def argv(self, argv):
        return self.host.argv([self.folder / self.program, "run", "-q", "--store", f"dir:{self.store.path}", *self.options,
                               "--", *argv], user=self.user)


def spread(samples, scale):
    samples = sorted(samples)
    return {"median": statistics.median(samples) * scale, "p99": samples[int(len(samples) * 0.99)] * scale,
            "most": samples[-1] * scale, "n": len(samples)}


def run_true(weir, _say):
    """`weir run -- true` and `true`, in turn."""
    alone, governed = [], []
    for _ in range(60):
        for samples, argv in ((alone, weir.host.argv(["true"], user=weir.user)), (governed, weir.argv(["true"]))):
            began = time.monotonic_ns()
            subprocess.run(argv, check=True)
            samples.append(time.monotonic_ns() - began)
    added = statistics.median(governed) / 1e6 - statistics.median(alone) / 1e6
    return {"title": "`weir run -- true`, more than `true` alone", "added_ms": added, "governed": spread(governed, 1e-6),
            "text": f"{added:.1f} ms", "target": "<= 30 ms", "holds": added <= 30}


def prefixes(weir, say):
    """Reading, compiling, memory and match by the number of prefixes."""
    found = []
    for count in PREFIXES:
        say(f"{count} prefixes")
        runs = [json.loads(command([str(weir.folder / "bench-prefixes"), str(count)])) for _ in range(3)]
        found.append({key: statistics.median(run[key] for run in runs) for key in runs[0]})
    lines = []
    for one in found:
        both = (one["read_ns"] + one["compile_ns"]) / 1e6
        held = both <= 500 if one["count"] == 100000 else None
        lines.append({"title": f"a policy of {one['count']:,} prefixes", "measured": one, "holds": held,
                      "target": "read and compiled <= 500 ms" if held is not None else "",
                      "text": f"read {one['read_ns'] / 1e6:.2f} ms, compiled {one['compile_ns'] / 1e6:.2f} ms, "
                              f"{one['policy_bytes'] / 1e6:.2f} MB, a decision {one['match_ns']:.0f} ns"})
    return lines


def large(weir, network, folder, say):
    """The latency of a connection under 1,000,000 prefixes against 10."""
    sessions, samples = {}, {10: [], 1000000: []}
    for count in samples:
        say(f"connections under {count} prefixes")
        store = Store(folder, f"store-{count}")
        for start in range(0, count, PER_FILE):
            numbers = range(start, min(count, start + PER_FILE))
            store.put(f"p{start}", entry(f"p{start}", [f"{11 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.7/32" for n in numbers]))
        store.put("bench", entry("bench", [f"{ALLOWED}/32"], (7001, 7002, 7003)))
        sessions[count] = Stored(weir, network, folder, store).session()
        sessions[count].ask("connects 1 100")
    for _ in range(9):
        for count, session in sessions.items():
            samples[count].append(session.ask("connects 1 300")["first_ns"])
    for session in sessions.values():
        session.close()
    ratio = statistics.median(b / a for a, b in zip(samples[10], samples[1000000]))
    return {"title": "a connection under 1,000,000 prefixes against 10", "ratio": ratio, "text": f"{ratio:.2f}",
            "target": "<= 1.10", "holds": ratio <= 1.1}


def changes(weir, network, folder, say, others):
    """A rule appears: until a connection is let through. It goes: until a live connection is cut."""
    store = Store(folder, f"changes-{others}")
    for n in range(others):
        store.put(f"other-{n}", entry(f"other-{n}", [f"192.0.2.{n % 250}/32"], (1000 + n,)))
    session = Stored(weir, network, folder, store).session()
    text = entry("bench", [f"{ALLOWED}/32"])
    opened, cut = [], []
    try:
        for n in range(CHANGES):
            if n % 250 == 0:
                say(f"change {n} of {CHANGES}, beside {others} other files")
            session.ask("allow")
            at = store.put("bench", text)
            opened.append(session.answer()["at_ns"] - at)
            session.ask("deny")
            at = store.remove("bench")
            cut.append(session.answer()["at_ns"] - at)
    finally:
        session.close()
    beside = f", beside {others:,} other files" if others else ""
    lines = []
    for title, samples, bound in (("a rule is added until a connection passes", opened, 10),
                                  ("a rule is removed until a live connection is cut", cut, 10)):
        one = spread(samples, 1e-6)
        lines.append({"title": title + beside, "measured": one, "holds": one["p99"] <= bound,
                      "target": f"p99 <= {bound} ms",
                      "text": f"median {one['median']:.2f}, p99 {one['p99']:.2f}, maximum {one['most']:.2f} ms of {one['n']:,}"})
    return lines


ROWS = {"true", "prefixes", "large", "changes", "many"}


def measure(network, columns, folder, only, say):
    weir = next((column for column in columns if isinstance(column, Weir)), None)
    if not weir:
        raise BenchError("Weir's own figures need a column of Weir")
    result = []
    if not only or "true" in only:
        say("weir run -- true")
        result.append(run_true(weir, say))
    if not only or "prefixes" in only:
        result += prefixes(weir, say)
    if not only or "large" in only:
        result.append(large(weir, network, folder, say))
    if not only or "changes" in only:
        result += changes(weir, network, folder, say, 0)
    if not only or "many" in only:
        result += changes(weir, network, folder, say, OTHERS)
    return result
