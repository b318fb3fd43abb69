# SPDX-License-Identifier: Apache-2.0
"""What is measured, a line each in COLUMNS.

A column gives clients of the load a way to the destination and names the processes that stand in that way. To measure
another capture of Weir, add a line with the options of `weir run` that choose it, and, where DESIGN names figures to
hold, put them into TARGETS of rows.py.
"""
import json
import os
import pathlib
import shutil
import time

from network import ALLOWED, DENIED, ROOT, UID, BenchError, Session, children, command, memory, wait_until

HERE = pathlib.Path(__file__).resolve().parent
CORES = len(os.sched_getaffinity(0))
# What the client sends goes to the proxy; what the proxy sends is not tracked, so that it pays for one conntrack entry
# a connection, as Weir does.
REDIRECT = """table inet bench {{
  chain untracked_out {{ type filter hook output priority raw; oifname "up0" meta skuid != {uid} notrack; }}
  chain untracked_in {{ type filter hook prerouting priority raw; iifname "up0" notrack; }}
  chain to_the_proxy {{ type nat hook output priority -100; meta skuid {uid} meta l4proto tcp redirect {port}; }}
}}
"""


class Column:
    """Direct: nothing stands between. Each kind below changes what differs."""

    has_policy = False

    def __init__(self, key, title, host):
        self.key, self.title, self.host_name = key, title, host
        self.network = self.host = None

    def missing(self):
        """The text says what is not there, None if it can be measured."""

    def begin(self, network, folder):
        self.network, self.folder = network, folder
        found = [host for host in network.hosts if host.name.endswith(f"-bench-{self.host_name}")]
        self.host = found[0] if found else network.host(self.host_name)

    def argv(self, argv):
        """The command line that runs @argv as the client."""
        return self.host.argv(argv, user=UID)

    def session(self):
        return Session(self.network, self.argv([self.network.load, "client", ALLOWED, DENIED]))

    def between(self, session):
        """The processes that stand between client and destination."""
        return []

    def start_up_ns(self):
        """From nothing until a byte has come back through it; None where nothing has to start."""
        return None

    def _once(self):
        """Runs a client that tries until a byte came back, and returns the monotonic time at which it did."""
        done = command(self.argv([self.network.load, "once", ALLOWED]))
        return json.loads(done)["at_ns"]

    def resident(self):
        """(resident, proportional) bytes of what stands between, after one connection."""
        session = self.session()
        try:
            session.ask("pingpong 1")
            return memory(self.between(session))
        finally:
            session.close()


class Weir(Column):
    has_policy = True

    def __init__(self, key, title, options=("--handoff=off",), user=UID, program="weir"):
        super().__init__(key, title, "app")
        self.options, self.user, self.program = list(options), user, program

    def argv(self, argv):
        policy = self.folder / "policy.yaml"
        return self.host.argv([self.folder / self.program, "run", "-q", "-f", policy, *self.options, "--", *argv], user=self.user)

    def between(self, session):
        # The supervisor and the first process of the sandbox; the client is below that.
        return [pid for pid in children(session.process.pid) if pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("weir")]

    def start_up_ns(self):
        began = time.monotonic_ns()
        return self._once() - began


class Peer(Column):
    """A proxy that runs through the whole bench in a host of its own."""

    def __init__(self, key, title, start, port=":15001", has_policy=True, needs=()):
        super().__init__(key, title, key)
        self.start, self.port, self.has_policy, self.needs = start, port, has_policy, needs
        self.process = None

    def missing(self):
        gone = [need for need in self.needs if not shutil.which(need, path=os.environ["PATH"] + ":/usr/sbin")
                and not pathlib.Path(need).exists()]
        return f"{', '.join(gone)} is missing" if gone else None

    def begin(self, network, folder):
        super().begin(network, folder)
        self.host.run("nft", "-f", "-", input=REDIRECT.format(uid=UID, port=f"to {self.port}" if self.port else ""))
        self.run()

    def command(self):
        return self.host.argv(self.start(self.folder))

    def run(self):
        self.process = self.network.start(self.command())
        wait_until(f"{self.title} to listen", self._listens)

    def _listens(self):
        if self.process.poll() is not None:
            raise BenchError(f"{self.title} ended")
        return any(f":{port} " in self.host.run("ss", "-ltn") for port in (15001, 7001))

    def between(self, session):
        return children(self.process.pid)

    def start_up_ns(self):
        self.network.stop(self.process)
        began = time.monotonic_ns()
        self.process = self.network.start(self.command())
        return self._once() - began

    def resident(self):
        """A fresh one, for memory that was used is seldom given back."""
        self.network.stop(self.process)
        self.run()
        return super().resident()


def cgroup_root():
    mounts = (line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines())
    return next((pathlib.Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2"), None)


class Sidecar(Peer):
    """`weir init` and `weir proxy` in a host, as they stand in a pod: the proxy in a cgroup of its own, as user 1337."""

    USER = 1337

    def __init__(self, key, title):
        super().__init__(key, title, None)

    def missing(self):
        return None if cgroup_root() else "a cgroup v2 hierarchy is missing"

    def begin(self, network, folder):
        Column.begin(self, network, folder)
        self.host.run(str(folder / "weir"), "init")
        self.run()

    def command(self):
        group = cgroup_root() / self.host.name
        group.mkdir(exist_ok=True)
        proxy = (f"setpriv --reuid={self.USER} --regid={self.USER} --clear-groups --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin "
                 f"{self.folder}/weir proxy -q -f {self.folder}/policy.yaml")
        inner = f"mount -t cgroup2 none /sys/fs/cgroup && exec {proxy}"
        return ["sh", "-c", f"echo $$ > {group}/cgroup.procs && exec ip netns exec {self.host.name} unshare -m -C sh -c '{inner}'"]


def fill(name, folder, **values):
    """A configuration with its @NAMES@ replaced, in @folder."""
    text = (HERE / "peers" / name).read_text()
    for key, value in dict(values, ALLOWED=ALLOWED, CORES=CORES, FOLDER=folder).items():
        text = text.replace(f"@{key}@", str(value))
    path = folder / name
    path.write_text(text)
    return path


def haproxy(folder):
    return ["/usr/sbin/haproxy", "-q", "-db", "-f", fill("haproxy.cfg", folder)]


def nginx(folder):
    return ["/usr/sbin/nginx", "-c", fill("nginx.conf", folder, MODULES="/usr/lib/nginx/modules"), "-p", folder]


def envoy_program():
    build = ROOT / os.environ.get("WEIR_BUILD", "build")
    found = sorted(build.glob("bench-venv/lib/python*/site-packages/envoy/_bin/envoy"))
    return str(found[0]) if found else str(build / "bench-venv" / "envoy")


def envoy(folder):
    return [envoy_program(), "-c", fill("envoy.yaml", folder), "--concurrency", CORES, "--log-level", "error",
            "--disable-hot-restart"]


COLUMNS = [
    Column("direct", "direct", "app"),
    Weir("handoff", "Weir, handoff", ["--handoff=require"]),
    Column("again", "direct again", "app"),
    Weir("relay", "Weir, relay", ["--capture", "sealed", "--handoff", "off"]),
    Sidecar("sidecar", "Weir, sidecar"),
    Weir("cgroup", "Weir, cgroup", ["--capture", "cgroup", "--user", "nobody"], user=None),
    Peer("haproxy", "HAProxy", haproxy, needs=["haproxy"]),
    Peer("nginx", "nginx", nginx, port="", has_policy=False,
         needs=["nginx", "/usr/lib/nginx/modules/ngx_stream_module.so"]),
    Peer("envoy", "Envoy", envoy, needs=[envoy_program()]),
]
