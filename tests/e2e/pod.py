# SPDX-License-Identifier: Apache-2.0
"""A pod without Kubernetes: the lab's app host, whose rules are laid by `weir init` and whose proxy runs as uid 1337.

    with Pod(lab, exempt="cgroup") as pod:
        pod.run(["curl", "https://www.wikipedia.org"])      # the application, as uid 1234, beside the proxy

The proxy has a cgroup v2 and a cgroup namespace of its own, as in a container, and CAP_NET_ADMIN at its start alone.
"""
import contextlib
import os
import pathlib
import shutil
import subprocess

from lab import LabError, wait_until

PROXY_UID = 1337
NODE = "10.77.0.1"  # the gateway, from which a kubelet probes
ADMIN, RELAY, DNS = 15020, 15001, 15053


def cgroup_root():
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(where)
    raise LabError("no cgroup v2 hierarchy is mounted")


class Pod:
    def __init__(self, lab, exempt="auto", init=(), proxy=(), own_cgroup=True):
        self.lab, self.exempt, self.init_options, self.own_cgroup = lab, exempt, list(init), own_cgroup
        # As a container has it: of the proxy's own user, which the application is not.
        self.folder = lab.folder / "pod-store"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        os.chown(self.folder, PROXY_UID, PROXY_UID)
        self.store = f"dir:{self.folder}"
        self.proxy_options = ["--store", self.store, "--exempt", exempt, *proxy]
        self.cgroup = cgroup_root() / f"weir-{lab.app}-proxy"
        self.log = lab.folder / "proxy.log"
        self.log.unlink(missing_ok=True)
        self.process = None

    def __enter__(self):
        done = self.init()
        if done.returncode:
            raise LabError("weir init: " + done.stderr)
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        for family in ("inet", "netdev"):
            self.lab.run(["nft", "delete", "table", family, "weir"], as_root=True)
        with contextlib.suppress(OSError):
            self.cgroup.rmdir()

    def init(self, *more):
        return self.lab.run([self.lab.binary, "init", *self.init_options, *more], as_root=True)

    def proxy_argv(self, *more):
        command = ["setpriv", "--reuid", PROXY_UID, "--regid", PROXY_UID, "--clear-groups", "--inh-caps", "-all,+net_admin",
                   "--ambient-caps", "-all,+net_admin", "--bounding-set", "-all,+net_admin,+setpcap", self.lab.binary, "proxy",
                   *self.proxy_options, *more]
        text = " ".join(map(str, command))
        if not self.own_cgroup:
            return ["ip", "netns", "exec", self.lab.app, "sh", "-c", "exec " + text]
        inner = f"mount -t cgroup2 none /sys/fs/cgroup && exec {text}"
        self.cgroup.mkdir(exist_ok=True)
        return ["sh", "-c", f"echo $$ > {self.cgroup}/cgroup.procs && exec ip netns exec {self.lab.app} "
                            f"unshare -m -C sh -c '{inner}'"]

    def start(self):
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(self.proxy_argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.lab.started.append(self.process)
        if not wait_until(lambda: self.process.poll() is not None or self.get("/ready")[0] == "200", 20):
            raise LabError("the proxy does not become ready: " + self.said())
        if self.process.poll() is not None:
            raise LabError("the proxy ended: " + self.said())

    def stop(self, number=15):
        if self.process and self.process.poll() is None:
            os.kill(self.process.pid, number)
            self.process.wait(30)

    def said(self):
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def get(self, path, namespace=None, host=None):
        """(status, body) of the admin port, asked from the node unless told otherwise; status 000 if out of reach."""
        host = host or "10.77.0.2"
        done = self.lab.run(["curl", "-s", "-g", "--max-time", "5", "-w", "\n%{http_code}", f"http://{host}:{ADMIN}{path}"],
                            namespace=namespace or self.lab.internet, as_root=True)
        body, _, status = done.stdout.rpartition("\n")
        return status, body

    @contextlib.contextmanager
    def without_rules(self):
        """The tables sleep meanwhile, with all that is in them."""
        for flags in ("dormant", ""):
            text = "".join(f"table {family} weir {{ {'flags ' + flags + ';' if flags else ''} }}\n" for family in ("inet", "netdev"))
            done = self.lab.run(["nft", "-f", "-"], input=text, as_root=True)
            if done.returncode:
                raise LabError(done.stderr)
            if flags:
                try:
                    yield
                except BaseException:
                    self.lab.run(["nft", "delete", "table", "inet", "weir"], as_root=True)
                    raise

    def run(self, argv, **options):
        return self.lab.run(argv, **options)

    def write(self, *argv, **options):
        """A verb of weir upon the pod's store, from outside the pod."""
        user = ["setpriv", "--reuid", PROXY_UID, "--regid", PROXY_UID, "--clear-groups"]
        done = self.lab.run([*user, self.lab.binary, *argv, "--store", self.store], as_root=True, **options)
        if done.returncode:
            raise LabError(f"weir {argv}: {done.stderr}")
        return done
