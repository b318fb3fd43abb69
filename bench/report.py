# SPDX-License-Identifier: Apache-2.0
"""The tables of a bench, for a terminal and for doc/performance.md (both are Markdown)."""
import os
import pathlib
import re
import subprocess
import time

from rows import MORE_IS_BETTER, ROWS, TARGETS

BEGIN, END = "<!-- figures: written by bench/run --document -->", "<!-- end of the figures -->"


def _first(path, pattern):
    found = re.search(pattern, pathlib.Path(path).read_text(), re.M)
    return found[1] if found else "unknown"


def _version(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return (done.stdout or done.stderr).strip().splitlines()[0] if done.stdout or done.stderr else None


def machine(build):
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "kernel": os.uname().release.split("-")[0],
        "processor": _first("/proc/cpuinfo", r"^model name\s*: (.*)$"),
        "cores": len(os.sched_getaffinity(0)),
        "weir": _version(build / "src/cli/weir", "version"),
        "haproxy": _version("/usr/sbin/haproxy", "-v"),
        "nginx": _version("/usr/sbin/nginx", "-v"),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def number(value):
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cell(row, column, cell):
    if cell is None:
        return "-"
    figure = number(cell["figure"]["median"])
    if row.compare == "added":
        figure = "+" + figure if cell["figure"]["median"] >= 0 else figure
    if column in ("direct",) and row.compare:
        figure = f"{number(cell['value'])} {row.unit}"
    if cell["holds"] is False:
        figure += " !"
    return figure


def _target(row, keys):
    found = [f"{'>=' if row.key in MORE_IS_BETTER else '<='} {number(TARGETS[row.key][key])}"
             for key in keys if key in TARGETS.get(row.key, {})]
    return ", ".join(found)


def _meaning(row):
    return {"ratio": "of direct", "added": f"{row.unit} more than direct", "": row.unit}[row.compare]


def _table(header, lines):
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    def one(line):
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
    return "\n".join([one(header), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(one, lines)])


def columns_table(result):
    keys = list(result["columns"])
    weirs = [key for key in keys if any(key in targets for targets in TARGETS.values())]
    lines = []
    for row in ROWS:
        cells = result["rows"].get(row.key)
        if not cells:
            continue
        lines.append([f"{row.title} ({_meaning(row)})", *(_cell(row, key, cells.get(key)) for key in keys),
                      _target(row, weirs)])
    return _table(["", *(result["columns"][key] for key in keys), "to hold: " + ", ".join(weirs)], lines)


def own_table(result):
    lines = []
    for row in result["own"]:
        mark = " !" if row.get("holds") is False else ""
        lines.append([row["title"], row["text"] + mark, row.get("target", "")])
    return _table(["Weir's own", "", "to hold"], lines)


def text(result):
    m = result["machine"]
    parts = [f"{m['date']}, {m['weir']}, Linux {m['kernel']}, {m['cores']} cores of {m['processor']}, "
             f"load {m['load'][0]} before the start."]
    if result.get("rows"):
        parts += [columns_table(result)]
    if result.get("own"):
        parts += [own_table(result)]
    parts.append("! is a figure that is not held.")
    return "\n\n".join(parts) + "\n"


def write(path, result):
    page = path.read_text()
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(before + BEGIN + "\n\n" + text(result) + "\n" + END + after)
