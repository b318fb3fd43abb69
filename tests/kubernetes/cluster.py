#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes of one node, routed to the lab's internet.

    with Cluster("page") as cluster:
        cluster.kubectl("get", "nodes")
        cluster.weir("get", "externalservice")          # on the node, as uid 1234, with the administrator's kubeconfig
        cluster.lab.packets("203.0.113.66")             # what the pods sent there
    shared()                                            # one for all tests of a program, removed at its end

    tests/kubernetes/cluster.py                         # by hand: a shell on the node with kubectl and weir; exit ends it

The node lives in the lab's `app` namespace and in mount, pid and cgroup namespaces of its own, whose pid 1 is this file
(`cluster.py node FOLDER`): end that one process and all of it is gone. Pods get 10.88.0.0/16 and fd88::/64 on a bridge;
whatever else they ask for is routed to the lab, whose counters see the pods' own addresses. The programs come from the
folder that build.sh filled: $WEIR_CACHE/kubernetes, else ~/.cache/weir/kubernetes.

The node sees a pure cgroup v2 without controllers: paths as on today's nodes, limits not enforced. On the machine itself
a pod's cgroup is below TAG, e.g. /sys/fs/cgroup/unified/TAG/kubepods/besteffort/podUID.
"""
import atexit
import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "lab")]

import images
from lab import PATH, TAG, Lab, LabError, command, wait_until

CACHE = pathlib.Path(os.environ.get("WEIR_CACHE") or pathlib.Path.home() / ".cache/weir") / "kubernetes"
API, NODE4, NODE6, DNS = "https://127.0.0.1:6443", "10.77.0.2", "fd77::2", "10.96.0.10"
PODS4, PODS6, SERVICES4 = "10.88.0.0/16", "fd88::/64", "10.96.0.0/16"
# The user of each part, and its group. Everybody has a token; the administrator's is the first line.
USERS = {"admin": "system:masters", "system:kube-controller-manager": "", "system:kube-scheduler": "",
         "system:kube-proxy": "", "system:node:node": "system:nodes", "alice": "", "bob": ""}
# What the kubelet insists on writing: it is shown files that say so already, and the machine keeps its own.
TUNABLES = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1,
            "kernel/keys/root_maxkeys": 1000000, "kernel/keys/root_maxbytes": 25000000}
NODE_SECONDS = 120

# runc on a cgroup v2 without controllers must not be asked for limits.
RUNC = """#!/usr/bin/python3 -I
import sys, os, json
argv = sys.argv
if "create" in argv:
    path = argv[argv.index("--bundle") + 1] + "/config.json"
    config = json.load(open(path))
    config["linux"]["resources"] = {"devices": config["linux"].get("resources", {}).get("devices", [])}
    json.dump(config, open(path, "w"))
os.execv("{runc}", argv)
"""

CONTAINERD = """version = 3
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "docker.io/lab/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{folder}/cni"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
      BinaryName = "{folder}/runc"
"""

COREFILE = """.:53 {{
 bind {node}
 errors
 kubernetes cluster.local in-addr.arpa ip6.arpa {{
  kubeconfig {folder}/kubeconfig lab
  fallthrough in-addr.arpa ip6.arpa
 }}
 forward . 10.77.0.53
 cache 5
}}
"""


def put(path, content, mode=0o644):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + "~")
    fresh.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    fresh.chmod(mode)
    fresh.rename(path)


def kubeconfig(folder, user, token, **cluster):
    """What a kubeconfig for one user of the cluster holds."""
    return {"apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": API, "certificate-authority": f"{folder}/pki/ca.pem", **cluster}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}]}


def credentials(folder):
    """One CA, one certificate for the API server (to its clients and to the kubelet), a token for everyone."""
    pki = folder / "pki"
    pki.mkdir()

    def openssl(*words):
        command(["openssl", *map(str, words)])
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pki / "ca.key", "-out", pki / "ca.pem", "-days", "9",
            "-subj", "/CN=kubernetes", "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", pki / "api.key", "-out", pki / "api.csr",
            "-subj", "/O=system:masters/CN=kube-apiserver")
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"]
    put(pki / "extensions", f"subjectAltName=IP:127.0.0.1,IP:{NODE4},IP:10.96.0.1," + ",".join("DNS:" + name for name in names) + "\n")
    openssl("x509", "-req", "-in", pki / "api.csr", "-CA", pki / "ca.pem", "-CAkey", pki / "ca.key", "-CAcreateserial", "-days", "9",
            "-extfile", pki / "extensions", "-out", pki / "api.pem")
    openssl("genrsa", "-out", pki / "sa.key", "2048")
    tokens = {user: os.urandom(16).hex() for user in USERS}
    put(pki / "tokens.csv", "".join(f'{token},{user},{user},"{USERS[user]}"\n' for user, token in tokens.items()))
    for user, token in tokens.items():
        put(folder / (user.replace(":", "-") + ".kubeconfig"), kubeconfig(folder, user, token))
    shutil.copy(folder / "admin.kubeconfig", folder / "kubeconfig")


def settings(folder):
    put(folder / "containerd.toml", CONTAINERD.format(folder=folder))
    put(folder / "runc", RUNC.replace("{runc}", str(CACHE / "bin/runc")), 0o755)
    put(folder / "cni/10-lab.conflist", {"cniVersion": "1.0.0", "name": "lab", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": True, "isDefaultGateway": True, "hairpinMode": True, "ipMasq": False,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS4}], [{"subnet": PODS6}]]}},
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}]})
    put(folder / "kubelet.yaml", {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "failCgroupV1": False,
        "cgroupDriver": "cgroupfs", "cgroupRoot": "/", "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "clusterDomain": "cluster.local", "clusterDNS": [DNS], "resolvConf": f"{folder}/resolv.conf",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True},
                           "x509": {"clientCAFile": f"{folder}/pki/ca.pem"}},
        "authorization": {"mode": "Webhook"}, "failSwapOn": False, "oomScoreAdj": 0, "imageGCHighThresholdPercent": 100,
        "evictionHard": {"nodefs.available": "0%", "imagefs.available": "0%", "memory.available": "0%"},
        "volumePluginDir": f"{folder}/volumeplugins", "staticPodPath": f"{folder}/manifests", "syncFrequency": "10s",
        "fileCheckFrequency": "2s"})
    for name in ("manifests", "volumeplugins", "log"):
        (folder / name).mkdir(exist_ok=True)
    put(folder / "resolv.conf", "nameserver 10.77.0.53\n")
    put(folder / "Corefile", COREFILE.format(folder=folder, node=NODE4))
    meta = {"name": "kube-dns", "namespace": "kube-system", "labels": {"kubernetes.io/service-name": "kube-dns"}}
    ports = [{"name": name, "port": 53, "protocol": name.upper()} for name in ("udp", "tcp")]
    # Without a selector: CoreDNS runs on the node, not in a pod.
    put(folder / "dns.json", {"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"clusterIP": DNS, "ports": ports}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4", "ports": ports,
         "endpoints": [{"addresses": [NODE4], "conditions": {"ready": True}}]}]})


def parts(folder):
    """The node's daemons in the order of their start: name, arguments, and what must answer before the next."""
    pki = f"{folder}/pki"

    def config(user):
        return f"--kubeconfig={folder}/{user.replace(':', '-')}.kubeconfig"
    return [
        ("etcd", ["--data-dir", f"{folder}/etcd", "--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls",
                  "http://127.0.0.1:2379", "--listen-peer-urls", "http://127.0.0.1:2380", "--unsafe-no-fsync"], None),
        ("containerd", ["--config", f"{folder}/containerd.toml"], None),
        ("kube-apiserver", [
            "--etcd-servers=http://127.0.0.1:2379", "--advertise-address=" + NODE4, f"--tls-cert-file={pki}/api.pem",
            f"--tls-private-key-file={pki}/api.key", f"--client-ca-file={pki}/ca.pem", f"--token-auth-file={pki}/tokens.csv",
            "--authorization-mode=Node,RBAC", "--allow-privileged=true", f"--kubelet-client-certificate={pki}/api.pem",
            f"--kubelet-client-key={pki}/api.key", "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={pki}/sa.key",
            f"--service-account-signing-key-file={pki}/sa.key", f"--service-cluster-ip-range={SERVICES4},fd96::/112"], "/readyz"),
        ("kube-controller-manager", [
            config("system:kube-controller-manager"), "--leader-elect=false", "--use-service-account-credentials",
            f"--service-account-private-key-file={pki}/sa.key", f"--root-ca-file={pki}/ca.pem",
            f"--cluster-signing-cert-file={pki}/ca.pem", f"--cluster-signing-key-file={pki}/ca.key",
            "--bind-address=127.0.0.1"], None),
        ("kube-scheduler", [config("system:kube-scheduler"), "--leader-elect=false", "--bind-address=127.0.0.1"], None),
        ("kubelet", [config("system:node:node"), f"--config={folder}/kubelet.yaml", f"--root-dir={folder}/kubelet",
                     f"--cert-dir={pki}/kubelet", "--hostname-override=node", f"--node-ip={NODE4},{NODE6}"], None),
        ("kube-proxy", [config("system:kube-proxy"), "--proxy-mode=nftables", "--hostname-override=node",
                        f"--cluster-cidr={PODS4},{PODS6}", "--conntrack-max-per-core=0",
                        "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
                        "--bind-address=127.0.0.1"], None),
        ("coredns", ["-conf", f"{folder}/Corefile"], None)]


# --- inside the node ---

def answers(folder, path):
    token = (folder / "pki/tokens.csv").read_text().split(",")[0]
    request = urllib.request.Request(API + path, headers={"Authorization": "Bearer " + token})
    trust = ssl.create_default_context(cafile=folder / "pki/ca.pem")
    try:
        with urllib.request.urlopen(request, timeout=5, context=trust):
            return True
    except OSError:
        return False


def mounts(folder, tag):
    """The node's own view: /sys of its network, a pure cgroup v2, /run, /var/log and the like of its own."""
    def mount(*words):
        command(["mount", *map(str, words)])
    groups = "/sys/fs/cgroup"
    mount("--make-rshared", "/")
    mount("-t", "sysfs", "sysfs", "/sys")
    mount("-t", "bpf", "bpf", "/sys/fs/bpf")
    mount("-t", "cgroup2", "cgroup2", groups)
    os.makedirs(f"{groups}/{tag}", exist_ok=True)
    pathlib.Path(f"{groups}/{tag}/cgroup.procs").write_text("0")
    clone_newcgroup = 0x02000000
    if ctypes.CDLL(None).unshare(clone_newcgroup):
        raise OSError("unshare(CLONE_NEWCGROUP)")
    command(["umount", groups])
    mount("-t", "cgroup2", "cgroup2", groups)
    mount("-t", "tmpfs", "tmpfs", "/run")
    for path in ("/run/netns", "/run/lock"):
        os.makedirs(path)
    for own, place in (("log", "/var/log"), ("cni-state", "/var/lib/cni"), ("opt", "/opt")):
        (folder / own).mkdir(exist_ok=True)
        os.makedirs(place, exist_ok=True)
        mount("--bind", folder / own, place)
    # A user namespace may mount /proc only where one is seen whole, and what follows covers parts of the node's.
    (folder / "proc").mkdir()
    mount("-t", "proc", "proc", folder / "proc")
    for name, value in TUNABLES.items():
        put(folder / "sys" / name, f"{value}\n")
        mount("--bind", folder / "sys" / name, "/proc/sys/" + name)


class Node:
    """pid 1 of the node: starts the daemons, starts again what ends unless it is held, reaps."""

    def __init__(self, folder):
        self.folder = folder
        self.running = {}
        self.waiting = []
        self.environment = {"PATH": f"{CACHE}/bin:{PATH}", "HOME": str(folder), "GOMAXPROCS": "2"}

    def start(self, name, argv):
        log = os.open(self.folder / "log" / (name + ".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        # posix_spawn, not subprocess: whoever collects the exits of adopted orphans must be the only one to collect any.
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        pid = os.posix_spawn(f"{CACHE}/bin/{name}", [name, *argv], self.environment, file_actions=actions, setsid=True)
        os.close(log)
        self.running[pid] = name, argv
        put(self.folder / "pids" / name, str(pid))

    def turn(self):
        while self.running:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            if pid in self.running:
                name, argv = self.running.pop(pid)
                (self.folder / "pids" / name).unlink(missing_ok=True)
                print(name, "ended", status, flush=True)
                self.waiting.append((time.monotonic() + 0.5, name, argv))
        for entry in list(self.waiting):
            when, name, argv = entry
            if time.monotonic() >= when and not (self.folder / "held" / name).exists():
                self.waiting.remove(entry)
                self.start(name, argv)
        time.sleep(0.05)

    def run(self):
        for name, argv, ready in parts(self.folder):
            self.start(name, argv)
            while ready and not answers(self.folder, ready):
                self.turn()
        while True:
            self.turn()


def node(folder):
    mounts(folder, json.loads((folder / "state").read_text())["tag"])
    Node(folder).run()


# --- outside ---

class Cluster:
    def __init__(self, name="kubernetes"):
        self.lab = Lab(name)
        self.tag = f"weir-{TAG}-{name}"
        self.folder = self.process = self.init = None

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def _build(self):
        if not (CACHE / "bin/kubelet").exists():
            raise LabError(f"no Kubernetes in {CACHE}: run tests/kubernetes/build.sh {CACHE}")
        self._remove_cgroups()
        self.lab.__enter__()
        atexit.register(self.close)
        self.folder = self.lab.folder / "cluster"
        self.folder.mkdir()
        for name in ("held", "pids"):
            (self.folder / name).mkdir()
        put(self.folder / "state", {"tag": self.tag})
        self._route()
        credentials(self.folder)
        settings(self.folder)
        # For the lab's user; the users of the cluster are told apart by their tokens, not by who may read this.
        for path in [*self.folder.glob("*kubeconfig"), self.folder / "pki/ca.pem"]:
            path.chmod(0o644)
        self._start()
        self._images()

    def _route(self):
        lab = self.lab
        lab.ip(lab.internet, "route", "add", PODS4, "via", NODE4)
        lab.ip(lab.internet, "-6", "route", "add", PODS6, "via", NODE6)
        command(["ip", "netns", "exec", lab.app, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        # Forwarding switches off what a host learns of its neighbours, so the default route is set again.
        lab.ip(lab.app, "-6", "route", "replace", "default", "via", "fd77::1")

    def _start(self):
        log = (self.folder / "node.log").open("w")
        # nsenter, not "ip netns exec": that one hides /sys/fs/cgroup.
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.lab.app}", "unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc",
             sys.executable, str(HERE / "cluster.py"), "node", str(self.folder)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        log.close()
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        if not wait_until(lambda: self.process.poll() is not None or children.read_text().split(), 10) or self.process.poll() is not None:
            raise LabError("the node did not start: " + (self.folder / "node.log").read_text())
        self.init = int(children.read_text().split()[0])
        ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        if not wait_until(lambda: self._ended() or self.kubectl("get", "node", "node", "-o", ready, check=False).stdout == "True",
                          NODE_SECONDS, 0.3) or self._ended():
            raise LabError(f"the node is not ready: {(self.folder / 'node.log').read_text()}\n{self.logs()}")
        self.kubectl("apply", "-f", str(self.folder / "dns.json"))
        self.kubectl("wait", "--for=create", "--timeout=30s", "serviceaccount/default")

    def _ended(self):
        return self.process.poll() is not None

    def _images(self):
        tools = (CACHE / "images/tools.layer").read_bytes()
        trust = pathlib.Path("/etc/ssl/certs/ca-certificates.crt").read_text() + self.lab.ca.read_text()
        images.pack(self.folder / "tools.tar", images.NAMES,
                    [tools, images.layer(texts={"etc/ssl/certs/ca-certificates.crt": trust})], cmd=["sh"])
        self.load(CACHE / "images/pause.tar", self.folder / "tools.tar")

    def logs(self, lines=5):
        """The last lines of every daemon."""
        return "\n".join(f"{path.name}: {line}" for path in sorted((self.folder / "log").glob("*.log"))
                         for line in path.read_text(errors="replace").splitlines()[-lines:])

    def load(self, *archives):
        """Images out of archives into the node's containerd."""
        for archive in archives:
            command(["nsenter", "-t", str(self.init), "-n", "-m", "-p", "--", f"{CACHE}/bin/ctr", "-n", "k8s.io", "images",
                     "import", "--snapshotter", "overlayfs", str(archive)])

    def argv(self, words, user="admin"):
        """kubectl on the node."""
        config = self.folder / (user.replace(":", "-") + ".kubeconfig")
        return ["nsenter", f"--net=/run/netns/{self.lab.app}", f"{CACHE}/bin/kubectl", "--kubeconfig", str(config), *map(str, words)]

    def kubectl(self, *words, check=True, user="admin", timeout=120, **options):
        options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
        if "input" in options:
            options.pop("stdin")
        done = subprocess.run(self.argv(words, user), capture_output=True, text=True, check=False, timeout=timeout, **options)
        if check and done.returncode:
            raise LabError(f"kubectl {' '.join(map(str, words))}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def exec(self, pod, *words, container=None, **options):
        """A command in a pod ("deploy/sleep" too), whatever its exit status."""
        where = ["-c", container] if container else []
        return self.kubectl("exec", pod, *where, "--", *words, check=False, **options)

    def environment(self, user="admin", **more):
        config = self.folder / (user.replace(":", "-") + ".kubeconfig")
        return {"KUBECONFIG": str(config), "WEIR_STORE": "kubernetes", **more}

    def weir(self, *words, user="admin", env=None, **options):
        """weir on the node as the lab's user, with the kubeconfig of a user of the cluster; see Lab.run()."""
        return self.lab.weir(words, env=self.environment(user, **(env or {})), **options)

    def start_weir(self, *words, user="admin", env=None, **options):
        return self.lab.start_weir(words, env=self.environment(user, **(env or {})), **options)

    def pid(self, part):
        """A daemon's process as the machine numbers it; None while it is down."""
        try:
            inner = (self.folder / "pids" / part).read_text()
        except FileNotFoundError:
            return None
        for pid in pathlib.Path(f"/proc/{self.init}/task/{self.init}/children").read_text().split():
            with contextlib.suppress(OSError):
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
                if any(line.startswith("NSpid:") and line.split()[-1] == inner for line in status.splitlines()):
                    return int(pid)
        return None

    def stop(self, part):
        """Ends a daemon at once (SIGKILL), and keeps it down."""
        (self.folder / "held" / part).touch()
        pid = self.pid(part)
        if pid:
            os.kill(pid, signal.SIGKILL)
        if not wait_until(lambda: self.pid(part) is None, 10):
            raise LabError(f"{part} does not end")

    def start(self, part):
        """Starts what was stopped; the API server answers afterwards."""
        (self.folder / "held" / part).unlink(missing_ok=True)
        if part == "kube-apiserver" and not wait_until(lambda: self.kubectl("get", "--raw", "/readyz", check=False).returncode == 0, 60, 0.2):
            raise LabError("the API server does not come back: " + self.logs())

    def _remove_cgroups(self):
        for top, folders, _ in os.walk("/sys/fs/cgroup"):
            if self.tag in folders:
                subprocess.run(["find", f"{top}/{self.tag}", "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], capture_output=True,
                               check=False)
            if top.count("/") >= 4:
                folders[:] = []

    def close(self):
        if self.process:
            # unshare ends its child with itself, and with pid 1 everything in the node is gone.
            self.process.kill()
            self.process.wait()
            wait_until(lambda: not pathlib.Path(f"/proc/{self.init}").exists(), 10)
            self.process = None
        self.lab.close()
        self._remove_cgroups()
        atexit.unregister(self.close)


_shared = None


def shared():
    """The cluster that all tests of one program use: starting it takes about ten seconds."""
    global _shared
    if _shared is None:
        cluster = Cluster()
        cluster.__enter__()
        _shared = cluster
    return _shared


def by_hand():
    from lab import clean_up_on_signals
    clean_up_on_signals()
    with Cluster("by-hand") as cluster:
        print(f"The node is ready. Logs: {cluster.folder}/log. KUBECONFIG is set; exit to end it.", file=sys.stderr)
        binaries = cluster.folder / "bin"
        binaries.mkdir()
        (binaries / "kubectl").symlink_to(CACHE / "bin/kubectl")
        (binaries / "weir").symlink_to(cluster.lab.binary)
        (binaries / "istioctl").symlink_to(cluster.lab.binary)
        environment = {**os.environ, **cluster.environment(), "PATH": f"{binaries}:{PATH}"}
        subprocess.run(["nsenter", f"--net=/run/netns/{cluster.lab.app}", *(sys.argv[1:] or ["bash"])], env=environment, check=False)


if __name__ == "__main__":
    if sys.argv[1:2] == ["node"]:
        node(pathlib.Path(sys.argv[2]))
    else:
        by_hand()
