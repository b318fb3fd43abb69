# SPDX-License-Identifier: Apache-2.0
"""What is measured of each column, a line each in ROWS, and the figures to hold.

A row is asked of every column in turn, round after round, so that what changes on the machine meanwhile meets all alike.
A value is compared with the direct one of the same round; what is reported is the median over the rounds.
"""
import dataclasses
import os
import statistics
import typing

from network import BenchError, children, cpu_ns, memory, pin, raise_descriptors

# A relay holds two descriptors for each.
IDLE = min(10000, (raise_descriptors() - 200) // 2)


@dataclasses.dataclass
class Row:
    """@measure(column, session) gives one value or None; @compare: "ratio", "added" or "" (the value itself)."""
    key: str
    title: str
    unit: str
    compare: str
    measure: typing.Callable
    scale: float = 1.0
    once: bool = False  # measured once a bench, not in every round


def _cpu(column, session):
    server = column.network.server.pid
    return cpu_ns([server]) + cpu_ns(column.between(session))


def throughput(way, streams):
    def measure(column, session):
        before = _cpu(column, session)
        said = session.ask(f"{way} {streams} {column.ms}")
        column.cpu[way, streams] = (said["cpu_ns"] + _cpu(column, session) - before) / said["bytes"]
        return said["bytes"] / said["ns"]
    return measure


def processor(way):
    """Of client, server and what stands between, during the throughput of eight streams: seconds a gigabyte."""
    return lambda column, session: column.cpu.get((way, 8))


def pingpong(column, session):
    pids = {column.network.server.pid, *children(session.process.pid), *column.between(session)}
    cores = os.sched_getaffinity(0)
    pin(pids, {min(cores)})
    try:
        return session.ask("pingpong 3000")["median_ns"]
    finally:
        pin(pids, cores)


def connects(parallel):
    def measure(column, session):
        said = session.ask(f"connects {parallel} {column.ms // 2}")
        column.connect[parallel] = said
        return said["n"] / said["ns"] * 1e9
    return measure


def connect_latency(which):
    return lambda column, session: column.connect[1][which]


def refused(column, session):
    """The direct column has the kernel's own refusal of a closed port."""
    if column.key in ("direct", "again"):
        said = session.ask("closed 200")
    elif column.has_policy:
        said = session.ask("refused 200")
        if said["how"] == "not refused":
            raise BenchError(f"{column.title} let a denied destination through")
    else:
        return None
    column.how = said["how"]
    return said["median_ns"]


def start_up(column, session):
    return column.start_up_ns()


def resident(column, session):
    return column.resident()[0] or None


def proportional(column, session):
    return column.resident()[1] or None


def idle(column, session):
    """What each of many idle connections takes in the processes between."""
    column.resident()
    fresh = column.session()
    try:
        fresh.ask("pingpong 1")
        before = memory(column.between(fresh))[0]
        if before == 0:
            return None
        fresh.ask(f"idle {IDLE}")
        after = memory(column.between(fresh))[0]
        fresh.ask("release")
        return (after - before) / IDLE
    finally:
        fresh.close()


ROWS = [
    Row("up8", "throughput, eight streams, up", "GB/s", "ratio", throughput("up", 8)),
    Row("down8", "throughput, eight streams, down", "GB/s", "ratio", throughput("down", 8)),
    Row("up1", "throughput, one stream, up", "GB/s", "ratio", throughput("up", 1)),
    Row("down1", "throughput, one stream, down", "GB/s", "ratio", throughput("down", 1)),
    Row("cpu_up", "processor time a GB, up", "s", "ratio", processor("up")),
    Row("cpu_down", "processor time a GB, down", "s", "ratio", processor("down")),
    Row("pingpong", "one-byte ping-pong, all on one core", "us", "ratio", pingpong, 1e-3),
    Row("rate1", "connections a second, one after another", "/s", "ratio", connects(1)),
    Row("rate32", "connections a second, 32 at once", "/s", "ratio", connects(32)),
    Row("connect", "connect()", "us", "added", connect_latency("connect_ns"), 1e-3),
    Row("first", "connect() to the first byte", "us", "added", connect_latency("first_ns"), 1e-3),
    Row("refused", "a refused connection", "us", "", refused, 1e-3),
    Row("start", "start until a byte is back", "ms", "", start_up, 1e-6),
    Row("resident", "resident memory, no flow", "MiB", "", resident, 1 / (1 << 20), once=True),
    Row("proportional", "the same, shared pages shared out", "MiB", "", proportional, 1 / (1 << 20), once=True),
    Row("idle", f"memory an idle flow, of {IDLE:,}", "B", "", idle, once=True),
]

# The figures to hold, by row and column: at least for throughput and rates, at most for everything else.
TARGETS = {
    "up8": {"relay": 0.70, "handoff": 0.97, "cgroup": 0.97},
    "down8": {"relay": 0.70, "handoff": 0.97, "cgroup": 0.97},
    "cpu_up": {"relay": 1.2, "handoff": 1.03, "cgroup": 1.03},
    "cpu_down": {"relay": 1.2, "handoff": 1.03, "cgroup": 1.03},
    "pingpong": {"relay": 2.3, "handoff": 1.03, "cgroup": 1.03},
    "rate1": {"relay": 0.45, "handoff": 0.70, "cgroup": 0.97},
    "rate32": {"relay": 0.45, "handoff": 0.5, "cgroup": 0.90},
    "connect": {"relay": 16, "handoff": 40, "cgroup": 1},
    "first": {"relay": 120, "handoff": 40, "cgroup": 2},
    "refused": {"relay": 100, "handoff": 25, "cgroup": 3},
    "resident": {"relay": 6, "handoff": 6, "cgroup": 6},
    "idle": {"relay": 1024, "handoff": 0, "cgroup": 200},
}
MORE_IS_BETTER = {"up8", "down8", "up1", "down1", "rate1", "rate32"}


def holds(row, column, figure):
    """True or False against the figure to hold, None where there is none."""
    target = TARGETS.get(row, {}).get(column)
    if target is None or figure is None:
        return None
    return figure >= target if row in MORE_IS_BETTER else figure <= target


def figure(row, values, direct):
    """The median over the rounds of what the row reports, with its smallest and largest; None if nothing was measured."""
    if row.compare == "ratio":
        found = [value / base for value, base in zip(values, direct) if value is not None and base]
    elif row.compare == "added":
        found = [(value - base) * row.scale for value, base in zip(values, direct) if value is not None and base]
    else:
        found = [value * row.scale for value in values if value is not None]
    if not found:
        return None
    return {"median": statistics.median(found), "least": min(found), "most": max(found), "rounds": len(found)}


def measure(columns, rounds, only=None, say=lambda text: None):
    """{row: {column: {"value", "figure", "holds"}}}"""
    rows = [row for row in ROWS if not only or row.key in only]
    values = {(row.key, column.key): [] for row in rows for column in columns}
    sessions = {}
    try:
        for column in columns:
            column.cpu, column.connect, column.how = {}, {}, None
            sessions[column.key] = column.session()
            sessions[column.key].ask("pingpong 100")
        for n in range(rounds):
            say(f"round {n + 1} of {rounds}")
            for row in rows:
                if row.once or row.key == "start":
                    continue
                # Who comes first changes, so that warming up favours none.
                for column in columns[n % len(columns):] + columns[:n % len(columns)]:
                    values[row.key, column.key].append(row.measure(column, sessions[column.key]))
    finally:
        for session in sessions.values():
            session.close()
    for row in rows:
        if row.once or row.key == "start":
            say(row.title)
            for column in columns:
                for _ in range(1 if row.once else rounds):
                    values[row.key, column.key].append(row.measure(column, None))
    result = {}
    for row in rows:
        direct = values[row.key, "direct"]
        result[row.key] = {}
        for column in columns:
            found = figure(row, values[row.key, column.key], direct)
            if found is None:
                continue
            known = [value * row.scale for value in values[row.key, column.key] if value is not None]
            result[row.key][column.key] = {"value": statistics.median(known), "figure": found,
                                           "holds": holds(row.key, column.key, found["median"])}
            if row.key == "refused":
                result[row.key][column.key]["how"] = column.how
    return result
