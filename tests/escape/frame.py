# SPDX-License-Identifier: Apache-2.0
"""What the rows of the table share: rows, captures as columns, a trial in the lab, and how a result is judged.

A row is one way out. Its function tries it as the workload, uid 1234 inside `weir run`, and says what it found:

    @row("E6", "UDP that nobody captures", gates=["NETWORK_NAMESPACE", "REJECT_RECORDS"])
    def udp(t):
        t.attempt(send_udp(DENIED4, 123), protocol="udp", reasons={"protocol"})

It returns if the way is closed, raises Leak if something got out, and Unproven if it cannot tell: the same attempt failed
without Weir too, or the denial has no record. `gates` names the gates without which this row must turn red.
"""
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [path for path in (str(ROOT / "tests" / "lab"), str(ROOT / "tests" / "e2e")) if path not in sys.path]

from harness import CODE, external_service, service_entry  # noqa: E402
from lab import TAG, UID, WIKIPEDIA4, Lab, LabError, build_folder, wait_until  # noqa: E402

BLOCKED, BLOCKED_IF, OPEN, NOT_APPLICABLE = "blocked", "blocked if", "open by design", "not applicable"
LEAKED, UNPROVEN, BROKEN = "LEAKED", "UNPROVEN", "BROKEN"
ROW_SECONDS = 90
ROWS = []


class Leak(Exception):
    """Something left that no rule names, or the boundary moved."""


class Unproven(Exception):
    """The probe cannot tell: its control failed, or a denial has no record."""


@dataclasses.dataclass(frozen=True)
class Capture:
    """A column: how `weir run` is told to take connections. Not ready: the column is shown, and stays empty."""
    key: str
    title: str
    options: tuple
    ready: bool = True
    trial: str = "Trial"  # the class below that knows how to start Weir so


CAPTURES = [
    Capture("relay", "sealed, relay", ("--capture", "sealed", "--handoff", "off")),
    Capture("handoff", "sealed, handoff", ("--capture", "sealed", "--handoff", "require"), ready=False),
    Capture("cgroup", "cgroup", ("--capture", "cgroup", "--user", str(UID)), ready=False, trial="CgroupTrial"),
    Capture("redirect", "redirect", (), ready=False),
]


@dataclasses.dataclass(frozen=True)
class Row:
    """`why` is for a person: the condition, the reason it is open, or why it does not apply. `captures` holds what
    differs for one of them: {"cgroup": {"verdict": ..., "why": ...}}. `security` is text that SECURITY.md must hold. `proof`
    says how a row without gates shows that it would turn red. `slow` rows take many seconds and are left to `make escape`.
    `plain` ones look at memory or at how Weir dies, which a sanitizer changes: they are for ordinary builds."""
    id: str
    title: str
    function: object
    verdict: str = BLOCKED
    why: str = ""
    gates: tuple = ()
    proof: str = ""
    slow: bool = False
    plain: bool = False
    security: str = ""
    captures: dict = dataclasses.field(default_factory=dict)

    def expected(self, capture):
        return self.captures.get(capture.key, {}).get("verdict", self.verdict)

    def reason(self, capture):
        return self.captures.get(capture.key, {}).get("why", self.why)


def row(identity, title, **more):
    more["gates"] = tuple(more.get("gates", ()))

    def register(function):
        ROWS.append(Row(identity, title, function, **more))
        return function
    return register


def not_applicable(identity, title, why):
    ROWS.append(Row(identity, title, None, verdict=NOT_APPLICABLE, why=why))


@dataclasses.dataclass
class Done:
    status: int
    stdout: str
    stderr: str
    records: list

    def denied(self, reasons, protocol=None):
        return [record for record in self.records if record["verdict"] == "deny" and record["reason"] in reasons
                and protocol in (None, record["protocol"])]


def compile_programs():
    """The C programs of programs/, built into the build folder where they are older than their source."""
    folder = build_folder() / "escape"
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted((HERE / "programs").glob("*.c")):
        library = source.stem.startswith("lib")
        target = folder / (source.stem + (".so" if library else ""))
        if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
            continue
        kind = ["-shared", "-fPIC"] if library else ["-static", "-pthread"]
        done = subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", *kind, "-o", str(target), str(source), "-ldl"],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"{source.name} does not compile:\n{done.stderr}")
    return folder


class Trial:
    """One row under one capture: a lab, a binary, perhaps a gate that was taken away."""

    def __init__(self, lab, capture, binary=None, removed=None, long=False):
        self.lab, self.capture, self.removed, self.long = lab, capture, removed, long
        self.binary = binary or lab.binary
        self.programs = lab.folder / "programs"
        self.log = lab.home / "flows.json"

    def turns(self, quick, share):
        """Numbers from 0: @quick of them, or with --long as many as fit into that share of an hour."""
        end, turn = time.monotonic() + 3600 * share, 0
        signal.alarm(ROW_SECONDS + (int(3600 * share) if self.long else 0))
        while turn < quick or (self.long and time.monotonic() < end):
            yield turn
            turn += 1

    def fresh(self):
        """The state each row begins with: a policy that allows one address, and nothing left over."""
        shutil.rmtree(self.lab.home, ignore_errors=True)
        self.lab.home.mkdir()
        os.chown(self.lab.home, UID, UID)
        self.allow(WIKIPEDIA4 + "/32")

    def program(self, name, *argv):
        return [str(self.programs / name), *map(str, argv)]

    def environment(self, env=None):
        more = {"PATH": f"{self.binary.parent}:{os.environ['PATH']}"} | (env or {})
        if self.removed:
            more["WEIR_TEST_GATE_REMOVED"] = self.removed
        return more

    def environment_only_gate(self):
        return {"WEIR_TEST_GATE_REMOVED": self.removed} if self.removed else {}

    def command(self, *argv, env=None, **options):
        """A command of Weir's, as the user, outside."""
        return self.lab.run([self.binary, *argv], env=self.environment(env), **options)

    def create(self, text, verb="apply"):
        done = self.command(verb, "-f", "-", input=text)
        if done.returncode:
            raise Unproven("the policy was refused: " + done.stderr)

    def allow(self, *cidrs, port=443, name="allowed"):
        make = service_entry if any(":" in cidr for cidr in cidrs) else external_service
        self.create(make(name, cidrs, port))

    def forget(self, name="allowed", kind="externalservice"):
        done = self.command("delete", kind, name)
        if done.returncode:
            raise Unproven("the policy could not be deleted: " + done.stderr)

    def run_argv(self, argv, options=()):
        return [self.binary, "run", *self.capture.options, "--log", self.log, *map(str, options), "--", *map(str, argv)]

    def records(self):
        """What the log says so far, but for a line that is being written."""
        if not self.log.exists():
            return []
        whole = self.log.read_text(encoding="ascii").rpartition("\n")[0]
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except json.JSONDecodeError as error:
            raise Leak(f"the log holds a line that is no record: {error}") from None

    def inside(self, argv, options=(), env=None, timeout=40, **more):
        """Run as the workload; what arrived meanwhile is for the caller to count."""
        more.setdefault("errors", "backslashreplace")
        self.log.unlink(missing_ok=True)
        done = self.launch(self.run_argv(argv, options), env, timeout=timeout, **more)
        return Done(done.returncode, done.stdout, done.stderr, self.records())

    def launch(self, argv, env=None, **more):
        """A command line of `weir run`, as whoever starts it under this capture, to its end."""
        return self.lab.run(argv, env=self.environment(env), **more)

    def launch_and_leave(self, argv, env=None, **more):
        return self.lab.start(argv, env=self.environment(env), **more)

    def inside_as_root(self, argv, options=()):
        """The same by root, in a store of root's own."""
        self.log.unlink(missing_ok=True)
        store = self.lab.folder / "store-of-root"
        clean = ["env", "-i", "-C", self.lab.folder, *self.lab.environment(**self.environment({"WEIR_STORE": f"dir:{store}", "HOME": "/root"}))]
        done = self.lab.run([*clean, *self.run_argv(argv, options)], as_root=True)
        return Done(done.returncode, done.stdout, done.stderr, self.records())

    def start_inside(self, argv, options=(), env=None, **more):
        self.log.unlink(missing_ok=True)
        return self.launch_and_leave(self.run_argv(argv, options), env, **more)

    def outside(self, argv, **options):
        return self.lab.run(argv, timeout=options.pop("timeout", 20), **options)

    def control(self, argv, counter=None, **options):
        """The same attempt without Weir must arrive, or it proves nothing."""
        count = counter or self.lab.canary
        before = count()
        done = self.outside(argv, **options)
        # What goes round by a helper of the test arrives a moment later.
        if not wait_until(lambda: count() != before, 3):
            raise Unproven(f"without Weir nothing arrived either: {done.stdout}{done.stderr}")
        self.settle(count)
        return done

    def settle(self, count):
        """What a control left under way has arrived: no connection is open any more, and two looks see the same."""
        busy = ["ss", "-HtnO", "state", "connected", "exclude", "time-wait"]
        seen = [-1]

        def quiet():
            last, seen[0] = seen[0], count()
            return last == seen[0] and not self.lab.run(busy, as_root=True).stdout
        if not wait_until(quiet, 10, 0.02):
            raise Unproven("the control's packets do not end")

    @contextlib.contextmanager
    def silent(self, counter=None, what="packets at the canary"):
        """Nothing may arrive while this is open."""
        count = counter or self.lab.canary
        before = count()
        yield
        arrived = count() - before
        if arrived:
            raise Leak(f"{arrived} {what}")

    def attempt(self, argv, reasons=(), protocol=None, control=None, options=(), counter=None, as_root=False, **more):
        """Control outside, then the try inside: zero packets, and a record if one is owed."""
        if control is not False:
            self.control(control or argv, counter=counter, as_root=as_root)
        with self.silent(counter):
            done = self.inside(argv, options, **more)
        if reasons and not done.denied(reasons, protocol):
            found = sorted({f"{record['protocol']} {record['verdict']} {record['reason']}" for record in done.records})
            raise Unproven(f"no record of a denial by {' or '.join(sorted(reasons))}; found {found or 'none'}; {done.stderr}")
        return done

    def works(self, options=()):
        """The positive control: what is allowed still arrives through the same kind of run."""
        done = self.inside([*CODE, f"https://{WIKIPEDIA4}/wiki/Main_Page"], options)
        if done.stdout != "200":
            raise Unproven(f"what is allowed does not arrive any more: {done.stdout} {done.stderr}")


class CgroupTrial(Trial):
    """Weir as root, in a cgroup of the lab's own; the store is root's, for no mount protects it here."""

    def __init__(self, lab, *rest, **more):
        super().__init__(lab, *rest, **more)
        self.group, self.pins = cgroup_of(lab)
        self.store = lab.folder / "store-of-root"

    def fresh(self):
        shutil.rmtree(self.store, ignore_errors=True)
        super().fresh()

    def by_root(self, argv, env):
        words = {"WEIR_STORE": f"dir:{self.store}", "WEIR_BPFFS": str(self.pins), **self.environment(env)}
        return ["env", "-i", "-C", self.lab.home, *self.lab.environment(**words), *map(str, argv)]

    def enter(self):
        (self.group / "cgroup.procs").write_text(str(os.getpid()))

    def command(self, *argv, env=None, **options):
        return self.lab.run(self.by_root([self.binary, *argv], env), as_root=True, **options)

    def launch(self, argv, env=None, **more):
        return self.lab.run(self.by_root(argv, env), as_root=True, preexec_fn=self.enter, **more)

    def launch_and_leave(self, argv, env=None, **more):
        return self.lab.start(self.by_root(argv, env), as_root=True, preexec_fn=self.enter, **more)


def cgroup_of(lab):
    """A cgroup and a place for pinned maps, made once for a lab and removed with it."""
    if not hasattr(lab, "cgroup"):
        root = next((path for path in map(pathlib.Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")) if (path / "cgroup.controllers").exists()), None)
        if root is None:
            raise LabError("the column cgroup needs cgroup v2 at /sys/fs/cgroup or /sys/fs/cgroup/unified")
        group, pins = root / f"weir-{TAG}-{lab.name}", lab.folder / "bpf"
        group.mkdir(exist_ok=True)
        pins.mkdir()
        subprocess.run(["mount", "-t", "bpf", "bpf", pins], check=True)
        lab.cgroup = (group, pins)
    return lab.cgroup


def remove_cgroup(lab):
    if not hasattr(lab, "cgroup"):
        return
    group, pins = lab.cgroup
    (group / "cgroup.kill").write_text("1")
    subprocess.run(["umount", pins], check=False)

    def gone():
        for path in (*sorted(group.rglob("*/"), reverse=True), group):
            with contextlib.suppress(OSError):
                path.rmdir()
        return not group.exists()
    wait_until(gone, 5)


def trial_of(lab, capture, **more):
    """One cell's trial, under its capture."""
    return {"Trial": Trial, "CgroupTrial": CgroupTrial}[capture.trial](lab, capture, **more)


def want(condition, leak):
    if not condition:
        raise Leak(leak)


def need(condition, missing):
    if not condition:
        raise Unproven(missing)


@dataclasses.dataclass
class Result:
    row: Row
    capture: Capture
    verdict: str
    text: str = ""
    seconds: float = 0

    @property
    def red(self):
        return self.verdict in (LEAKED, UNPROVEN, BROKEN)


def overtime(*_):
    raise Unproven(f"took more than {ROW_SECONDS} seconds")


def try_row(entry, trial):
    """One cell of the table."""
    began = time.monotonic()
    verdict, text = entry.expected(trial.capture), ""
    if verdict != NOT_APPLICABLE:
        before = signal.signal(signal.SIGALRM, overtime)
        signal.alarm(ROW_SECONDS)
        try:
            trial.fresh()
            entry.function(trial)
            trial.fresh()
            trial.works()
        except Leak as leak:
            verdict, text = LEAKED, str(leak)
        except Unproven as unproven:
            verdict, text = UNPROVEN, str(unproven)
        except Exception:  # whatever else stops a probe is red too
            verdict, text = BROKEN, traceback.format_exc()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
            end_started(trial.lab)
    return Result(entry, trial.capture, verdict, text, time.monotonic() - began)


def end_started(lab):
    """What a row left running, but for the lab's own servers."""
    for process in lab.started[1:]:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
    del lab.started[1:]
    # Where a gate was taken away something may have got free of its run: it still carries the lab's folder with it.
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == UID or os.readlink(f"/proc/{pid}/exe").startswith(str(lab.folder)):
                with open(f"/proc/{pid}/environ", "rb") as text:
                    if str(lab.folder).encode() in text.read():
                        os.kill(int(pid), signal.SIGKILL)


@contextlib.contextmanager
def laboratory(name):
    """A lab with the C programs in it and, if it was built, the Weir whose gates can be taken away."""
    folder = compile_programs()
    # Two at once in one checkout would share the names of their namespaces, and see each other's packets.
    with open(folder / ".lock", "w", encoding="ascii") as lock, contextlib.ExitStack() as stack:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lab = stack.enter_context(Lab(name))
        shutil.copytree(folder, lab.folder / "programs", ignore=shutil.ignore_patterns("*.json", ".lock"))
        weak = weak_binary()
        if weak.exists():
            (lab.folder / "weak").mkdir()
            shutil.copy(weak, lab.folder / "weak" / "weir")
        try:
            yield lab
        finally:
            remove_cgroup(lab)


def quick_rows():
    """What `make test` tries."""
    sanitized = b"__asan_init" in (build_folder() / "src/cli/weir").read_bytes()
    return [entry for entry in in_order(ROWS) if not entry.slow and not (entry.plain and sanitized)]


def weak_folder():
    return build_folder().with_name(build_folder().name + "-weak")


def weak_binary():
    return weak_folder() / "src" / "cli" / "weir"


def build_weak():
    """A build whose gates can be removed, beside the ordinary one."""
    folder = weak_folder()
    steps = [] if (folder / "build.ninja").exists() else [["meson", "setup", str(folder), "-Dtest_gates=true"]]
    for step in [*steps, ["ninja", "-C", str(folder), "--quiet", "src/cli/weir"]]:
        done = subprocess.run(step, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"{' '.join(step)}: {done.stdout}{done.stderr}")


def in_order(rows):
    def key(entry):
        letter, rest = entry.id[0], entry.id[1:]
        number, _, part = rest.partition(".")
        return "EFX".index(letter), int(number), part
    return sorted(rows, key=key)
