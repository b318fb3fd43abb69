# SPDX-License-Identifier: Apache-2.0
"""Where the bench runs: an internet with the load's server, and one host for each thing that is measured.

Every host is a network namespace with a veth pair of its own to the internet, so that what is laid into one (a redirect,
connection tracking) costs the others nothing. All have cubic, whatever the machine prefers: bbr over a veth pair moves a
third of what cubic does and hides everything else.
"""
import contextlib
import hashlib
import json
import os
import pathlib
import re
import resource
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TAG = hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:4]
ALLOWED, DENIED = "198.51.100.10", "203.0.113.66"
UID = 1234
DESCRIPTORS = 65536


def raise_descriptors():
    """For all that is started from here; returns how many one process may have open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        return DESCRIPTORS
    except ValueError:  # not even for root, in some containers
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard


SYSCTLS = ["net.ipv4.tcp_congestion_control=cubic", "net.ipv4.ip_local_port_range=2048 65000",
           # What closes first waits; with this its port can be used again, or a relay runs out of them.
           "net.ipv4.tcp_tw_reuse=1"]


class BenchError(Exception):
    """The bench cannot go on; the text says why."""


def command(argv, **options):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise BenchError(f"{' '.join(map(str, argv))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait_until(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"waited {seconds} seconds for {what}")
        time.sleep(0.01)


def allow_cubic():
    """Another namespace than the first may choose only what the first allows it."""
    path = pathlib.Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    allowed = path.read_text().split()
    if "cubic" not in allowed:
        path.write_text(" ".join([*allowed, "cubic"]))


class Host:
    """A network namespace; close() removes it."""

    def __init__(self, name):
        self.name = f"weir-{TAG}-bench-{name}"
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)
        command(["ip", "netns", "add", self.name])
        self.run("ip", "link", "set", "lo", "up")
        for setting in SYSCTLS:
            self.run("sysctl", "-qw", setting)

    def argv(self, argv, user=None):
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        return ["ip", "netns", "exec", self.name, *become, *map(str, argv)]

    def run(self, *argv, **options):
        return command(self.argv(argv), **options)

    def close(self):
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)
        # The group of a sidecar, if there was one; its processes are gone by now.
        for group in [*pathlib.Path("/sys/fs/cgroup").glob(self.name), *pathlib.Path("/sys/fs/cgroup").glob("*/" + self.name)]:
            with contextlib.suppress(OSError):
                group.rmdir()


class Network:
    def __init__(self, load):
        self.load = load
        self.hosts, self.processes = [], []
        allow_cubic()
        try:
            self.internet = self._add(Host("internet"))
            for address in (ALLOWED, DENIED):
                self.internet.run("ip", "address", "add", f"{address}/32", "dev", "lo")
            self.server = self.start(self.internet.argv([load, "serve", "0.0.0.0"]))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _add(self, host):
        self.hosts.append(host)
        return host

    def host(self, name):
        host, n = Host(name), len(self.hosts)
        self._add(host)
        host.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", f"down{n}", "netns", self.internet.name)
        host.run("ip", "address", "add", f"10.78.{n}.2/24", "dev", "up0")
        host.run("ip", "link", "set", "up0", "up")
        self.internet.run("ip", "address", "add", f"10.78.{n}.1/24", "dev", f"down{n}")
        self.internet.run("ip", "link", "set", f"down{n}", "up")
        host.run("ip", "route", "add", "default", "via", f"10.78.{n}.1")
        return host

    def start(self, argv, **options):
        process = subprocess.Popen([str(word) for word in argv], **options)
        self.processes.append(process)
        return process

    def stop(self, process):
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def close(self):
        for process in reversed(self.processes[:]):
            self.stop(process)
        for host in self.hosts:
            host.close()


def children(pid):
    """@pid and everything below it."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += children(int(child))
        except OSError:
            pass  # it ended meanwhile
    return found


def cpu_ns(pids):
    """Processor time of all threads of these processes."""
    total = 0
    for pid in pids:
        for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(path.read_text().split()[0])
    return total


def memory(pids):
    """(resident, proportional) bytes: shared pages counted each time, and shared out."""
    total = [0, 0]
    for pid in pids:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        for i, name in enumerate(("Rss", "Pss")):
            total[i] += int(re.search(rf"^{name}:\s+(\d+) kB", text, re.M)[1]) * 1024
    return tuple(total)


def pin(pids, cores):
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
            try:
                os.sched_setaffinity(int(task.name), cores)
            except ProcessLookupError:
                pass


class Session:
    """A client of the load that takes one command a line."""

    def __init__(self, network, argv):
        self.network = network
        self.process = network.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def send(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"the client ended: {' '.join(map(str, self.process.args))}")
        return json.loads(line)

    def ask(self, line):
        self.send(line)
        return self.answer()

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        self.network.stop(self.process)
