# SPDX-License-Identifier: Apache-2.0
"""Ways out by other processes: the supervisor, the terminal, the record of what happened."""
import contextlib
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import time

from frame import need, row, want
from lab import DENIED4, UID, WIKIPEDIA4, wait_until
from rows_policy import weir_pids


@row("E74", "Forged and flooded records: names and commands with control bytes", gates=["ESCAPES"])
def records(t):
    """A command's name and a name that is asked hold newlines, escapes, quotes, bytes that are no text; the log stays JSON
    in ASCII with one line a record, and nothing but printable text reaches the terminal."""
    evil = "\\x1b]0;x\\x07\\r\\n{}\\\"\\xff\\xe2\\x80\\xae'"
    script = f"""
import ctypes, socket, struct
libc = ctypes.CDLL(None)
names = [b"\\x1b[2J\\nweir: ok", b'"}}\\n{{"verdict":"', b"\\xff\\xfe\\xe2\\x80\\xae", b"a\\rb\\tc\\x7f", b"{evil}"[:15]]
for name in names:
    libc.prctl(15, name, 0, 0, 0)
    try:
        # Until the answer, which comes after Weir has looked for the process: the name must still be this one.
        socket.create_connection(("{DENIED4}", 443), 5).recv(1)
    except OSError:
        pass
    label = (name * 4)[:60]
    with socket.socket(2, 2) as sock:
        sock.settimeout(0.2)
        sock.sendto(struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + bytes([len(label)]) + label + b"\\4test\\0" + struct.pack("!HH", 1, 1), ("10.77.0.53", 53))
        try:
            sock.recv(100)
        except OSError:
            pass
    try:
        socket.socket(2, 2).sendto(b"x", ("{DENIED4}", 443))
    except OSError:
        pass
"""
    t.forget()
    with t.silent():
        done = t.inside(["python3", "-c", script])
    raw = t.log.read_bytes()
    want(all(32 <= byte < 127 or byte == 10 for byte in raw), "bytes that are not printable reached the log")
    want(all(32 <= byte < 127 or byte == 10 for byte in done.stderr.encode()), f"bytes that are not printable reached the terminal: {done.stderr!r}")
    want(all(line.startswith("weir: denied ") for line in done.stderr.splitlines()), f"a line was forged: {done.stderr!r}")
    lines = [json.loads(line) for line in raw.decode("ascii").splitlines()]
    need(len(lines) >= 15 and all(record["verdict"] == "deny" for record in lines), f"{len(lines)} records for 15 denials")
    need(any("\x1b[2J" in (record["command"] or "") or "\\x1b" in (record["command"] or "") for record in lines), "the command's name is not told")
    flood(t)


def flood(t):
    """Far more denials than a terminal takes: what is left out is counted, and the log has every one of them."""
    n = 20000 if t.long else 2000
    script = f"""
import socket
for i in range({n}):
    with socket.socket() as sock:
        sock.settimeout(2)
        try:
            sock.connect(("203.0.113." + str(i % 200), 1000 + i % 60000))
            sock.recv(1)
        except OSError:
            pass
"""
    with t.silent():
        done = t.inside(["python3", "-c", script])
    found = len(done.denied({"no_rule"}))
    want(found == n, f"{found} records for {n} denials")
    lines = done.stderr.splitlines()
    told = sum(line.startswith("weir: denied ") for line in lines) + sum(int(m) for m in re.findall(r"and (\d+) more like it", done.stderr))
    told += sum(int(m) for m in re.findall(r"(\d+) more denials were not printed", done.stderr))
    want(told == n, f"{told} of {n} denials were printed or counted")
    want(len(lines) < n, "every denial was printed")


@row("E76", "Typing into the caller's terminal; signalling, stopping, tracing processes outside", gates=["TERMINAL", "PID_NAMESPACE", "SIGNAL_SCOPE"])
def others(t):
    sleeper = t.lab.start(["sleep", "2718"])
    # Until it has become the user and the program, nobody of the user's may signal it.
    need(wait_until(lambda: pathlib.Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n", 10), "nothing to reach")
    program = t.program("outside")
    outside = t.outside([*program, str(sleeper.pid)]).stdout
    need("reached a signal" in outside, "without Weir it reaches nothing either: " + outside)
    for how in ([], ["unshare", "-Ur"], ["unshare", "-Urpf", "--mount-proc"]):
        done = t.inside([*how, *program])
        need("done" in done.stdout, "the program did not run: " + done.stderr)
        # A program in an inner PID namespace is its own PID 1, and may do with itself what it likes.
        want("reached" not in done.stdout or how and "-Urpf" in how, f"{how}: {done.stdout}")
        pids = [str(sleeper.pid), *map(str, weir_pids(t)), str(os.getpid()), "1"]
        want("reached" not in t.inside([*how, *program, *pids[:-1]]).stdout, "a process outside was reached by its number")
    listed = t.inside(["sh", "-c", "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done; for p in $(seq 2 400) -1; do [ $p = $$ ] || kill -KILL $p 2>/dev/null; done; true"]).stdout
    want("2718" not in listed, "processes outside are visible")
    need(sleeper.poll() is None, "a process outside was killed")
    terminal(t)


def on_terminal(t, argv, wanted, seconds=15):
    """An interactive shell of the user's on a terminal of its own, @argv typed into it; what it showed up to @wanted."""
    pid, fd = pty.fork()
    if pid == 0:
        line = t.lab.argv(["bash", "--norc", "--noprofile", "-i"], env=t.environment({"PS1": "outer> ", "HISTFILE": ""}))
        os.execvp(line[0], line)
    said, end = "", time.monotonic() + seconds
    typed = False
    try:
        while time.monotonic() < end and not (typed and re.search(wanted, said)):
            if select.select([fd], [], [], 0.2)[0]:
                said += os.read(fd, 65536).decode("utf-8", "replace")
            if not typed and "outer> " in said:
                os.write(fd, (" ".join(map(str, argv)) + "\n").encode())
                typed, said = True, ""
        return said
    finally:
        os.close(fd)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def terminal(t):
    """On a kernel that still has TIOCSTI the control types a command into the shell that started it."""
    program = t.program("type_into", "echo ty''ped-in")
    quoted = [program[0], "'echo ty\"\"ped-in'"]
    outside = on_terminal(t, quoted, "\ntyped-in\r")
    need("typed-in\r" in outside, "without Weir nothing is typed either (sysctl dev.tty.legacy_tiocsti=1): " + outside)
    said = on_terminal(t, [*t.run_argv(quoted), "; echo after", "; sleep 0.3; echo at the end"], "\nat the end")
    need("end of probe" in said, "the program did not run: " + said)
    want(": typed" not in said and "\ntyped-in" not in said, "a line was typed into the terminal: " + said)


@row("X8", "Privileges that are left: capabilities of every set, new privileges, a program with set-user-ID", gates=["CAPABILITIES"])
def privileges(t):
    show = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; id -u"
    need("CapBnd:\t0000000000000000" not in t.outside(["sh", "-c", show]).stdout, "the control has none either")
    for done in (t.inside(["sh", "-c", show]), t.inside_as_root(["sh", "-c", show])):
        fields = dict(line.split(":\t") for line in done.stdout.splitlines() if ":" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            want(fields.get(name) == "0" * 16, f"{name} is {fields.get(name)}")
        want(fields.get("NoNewPrivs") == "1" and fields.get("Seccomp") == "2", done.stdout)
    program = t.lab.folder / "set-user-id"
    shutil.copy(shutil.which("id", path="/usr/bin:/bin"), program)
    program.chmod(0o4755)
    need(t.outside([program, "-u"]).stdout == "0\n", "without Weir the program does not become root either")
    want(t.inside([program, "-u"]).stdout == f"{UID}\n", "a program became another user")


@contextlib.contextmanager
def handed_over():
    """A cgroup of the user's, as a service manager makes it, with one for the workload and one for what is outside."""
    mounts = re.findall(r"(?m)^\S+ (\S+) cgroup2 ", pathlib.Path("/proc/mounts").read_text())
    need(mounts, "this machine has no cgroup v2")
    top = pathlib.Path(mounts[0]) / f"weir-lab-{os.getpid()}"
    folders = [top, top / "own", top / "other"]
    try:
        for folder in folders:
            folder.mkdir()
            for path in (folder, folder / "cgroup.procs", folder / "cgroup.kill", folder / "cgroup.freeze"):
                os.chown(path, UID, UID)
        yield top
    finally:
        (top / "cgroup.kill").write_text("1")
        wait_until(lambda: "populated 0" in (top / "cgroup.events").read_text(), 10)
        for folder in reversed(folders):
            folder.rmdir()


def in_cgroup(t, cgroup, argv):
    """As the user in that cgroup. The lab's /sys is one without cgroups, so they are mounted there."""
    user = t.lab.argv(argv, env=t.environment())[4:]
    script = f"mount -t cgroup2 none /sys/fs/cgroup && echo 0 >/sys/fs/cgroup/{cgroup.parent.name}/own/cgroup.procs && exec \"$@\""
    return t.lab.run(["sh", "-c", script, "sh", *user], as_root=True)


@row("E16.cgroup", "Cgroups that the user owns: leaving, killing others, mounting them anew", gates=["READ_ONLY_CGROUPS"])
def cgroups(t):
    with handed_over() as top:
        folder = f"/sys/fs/cgroup/{top.name}"
        script = (f"exec 2>/dev/null; sh -c 'echo 0 >{folder}/other/cgroup.procs && echo left'; echo 1 >{folder}/other/cgroup.kill && echo killed;"
                  " unshare -UrmC sh -c 'mount -t cgroup2 none /mnt && echo 0 >/mnt/cgroup.freeze && echo anew'; echo end")
        for inside in (True, False):
            outside = t.lab.start(["sleep", "300"])
            (top / "other" / "cgroup.procs").write_text(str(outside.pid))
            argv = ["sh", "-c", script]
            done = in_cgroup(t, top / "own", t.run_argv(argv) if inside else argv)
            if inside:
                need(done.stdout.endswith("end\n"), "the workload did not run: " + done.stderr)
                want(done.stdout == "end\n" and outside.poll() is None, "the workload changed cgroups: " + done.stdout)
            else:
                need(done.stdout == "left\nkilled\nanew\nend\n", "without Weir it cannot be done either: " + done.stdout)


@row("X5", "The supervisor as a process: memory, core, tracing, by the user's other programs", gates=["SUPERVISOR_MEMORY"])
def supervisor(t):
    """It is not dumpable: no program of the same user reads its memory or takes its descriptors, and it leaves no core."""
    process = t.start_inside(["sh", "-c", "echo up; exec sleep 30"])
    need(process.stdout.readline() == "up\n", "the command did not start")
    program = t.program("outside")
    done = t.outside([*program, str(weir_pids(t)[0])]).stdout
    want(all(line in ("done", f"reached a signal {weir_pids(t)[0]}") for line in done.splitlines()), "Weir's memory can be reached: " + done)
    plain = t.lab.start(["sleep", "30"])
    need(wait_until(lambda: pathlib.Path(f"/proc/{plain.pid}/comm").read_text() == "sleep\n", 10), "nothing to reach")
    need("reached mem" in t.outside([*program, str(plain.pid)]).stdout or "reached ptrace" in t.outside([*program, str(plain.pid)]).stdout,
         "an ordinary process cannot be reached either")


__all__ = ["WIKIPEDIA4"]
