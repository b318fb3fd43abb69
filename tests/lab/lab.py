# SPDX-License-Identifier: Apache-2.0
"""A small internet for tests, in two network namespaces (root needed).

    with Lab("story") as lab:
        lab.run(["curl", "https://www.wikipedia.org"])          # as uid 1234 on the application's host, without Weir
        lab.weir(["run", "--", "curl", ...])                    # the same, through Weir
        lab.packets("203.0.113.66")                             # what arrived there, of any protocol

weir-TAG-NAME-internet owns the addresses and runs the servers of servers.py; weir-TAG-NAME-app is the host that is routed
to it. TAG is made from the checkout's path, so that the tests of two checkouts on one machine leave each other alone.
The counters stand in the internet's namespace, where nothing on the application's side can touch them. Everything is
removed at exit, on failure and on SIGINT and SIGTERM too.
"""
import atexit
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TAG = hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:4]
UID = 1234
DENIED4, DENIED6 = "203.0.113.66", "2001:db8:66::66"
METADATA = "169.254.169.254"
WIKIPEDIA4, WIKIPEDIA6 = "198.35.26.96", "2620:0:861:ed1a::1"
OTHER4 = "91.198.174.192"
TOOLS4 = "208.80.154.224"
ECHO_PORT = 7777
ADDRESSES4 = [OTHER4, WIKIPEDIA4, TOOLS4, DENIED4, METADATA, "10.77.0.53"]
ADDRESSES6 = [WIKIPEDIA6, DENIED6, "fd77::53"]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin"
ARTICLES = ('<div id="articlecount"><a href="/wiki/Special:Statistics">6,000,000</a> articles in '
            '<a href="/wiki/English_language">English</a></div>')
NEEDED = ("ip", "nft", "setpriv", "openssl", "curl", "sysctl")


class LabError(Exception):
    """The lab could not be built; the text says what is missing."""


def build_folder():
    return (ROOT / os.environ.get("WEIR_BUILD", "build")).resolve()


def command(argv, **options):
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def certificates():
    """(CA, certificate, key), made once and kept below the build folder."""
    cache = build_folder() / "lab-certificates"
    names = [cache / name for name in ("ca.pem", "server.pem", "server.key")]
    if all(path.exists() for path in names):
        return names
    shutil.rmtree(cache, ignore_errors=True)
    fresh = pathlib.Path(tempfile.mkdtemp(dir=build_folder(), prefix="lab-certificates-"))
    ca, ca_key, pem, key, request, extension = (
        str(fresh / name) for name in ("ca.pem", "ca.key", "server.pem", "server.key", "server.csr", "server.ext"))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command(["openssl", "req", "-x509", *curve, "-keyout", ca_key, "-out", ca, "-days", "3650", "-subj", "/CN=Weir lab CA",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign"])
    command(["openssl", "req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=*.wikipedia.org"])
    pathlib.Path(extension).write_text(
        "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n"
        "subjectAltName=DNS:*.wikipedia.org,DNS:wikipedia.org,DNS:*.lab.test,"
        + ",".join("IP:" + address for address in ADDRESSES4 + ADDRESSES6) + "\n")
    command(["openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", pem,
             "-days", "3650", "-extfile", extension])
    fresh.chmod(0o755)
    fresh.rename(cache)
    return names


class Lab:
    def __init__(self, name):
        self.name = name
        self.internet, self.app = f"weir-{TAG}-{name}-internet", f"weir-{TAG}-{name}-app"
        self.folder = None
        self.started = []
        self.namespaces = []

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
        if os.geteuid() != 0:
            raise LabError("the lab needs root, for it is made of network namespaces")
        missing = [tool for tool in NEEDED if not shutil.which(tool, path=PATH)]
        if missing:
            raise LabError("the lab needs: " + ", ".join(missing) + " (tools/install-dependencies test)")
        atexit.register(self.close)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"weir-{self.name}-"))
        self.folder.chmod(0o755)
        self.home = self.folder / "home"
        self.home.mkdir()
        os.chown(self.home, UID, UID)
        self.reports = self.folder / "reports"
        self.reports.mkdir()
        self.reports.chmod(0o1777)
        self.web = self.folder / "web"
        self.web.mkdir()
        (self.web / "wiki").mkdir()
        (self.web / "wiki" / "Main_Page").write_text(f"<html><body>{ARTICLES}</body></html>\n")
        (self.web / "index.html").write_text("<html><body>Wikipedia</body></html>\n")
        ca, self.certificate, self.key = certificates()
        # Copies, for a checkout may lie in a folder that only root may enter.
        self.ca = self.folder / "ca.pem"
        shutil.copy(ca, self.ca)
        self.samples = self.folder / "samples"
        shutil.copytree(ROOT / "samples", self.samples)
        self.binary = self.folder / "weir"
        if (build_folder() / "weir").exists():
            shutil.copy(build_folder() / "weir", self.binary)
        elif found := sorted(build_folder().glob("src/cli/weir")):
            shutil.copy(found[0], self.binary)
        self._namespaces()
        self._counters()
        self._serve()

    def _namespaces(self):
        self._remove_namespaces()
        for namespace in (self.internet, self.app):
            command(["ip", "netns", "add", namespace])
            self.namespaces.append(namespace)
            etc = pathlib.Path("/etc/netns") / namespace
            etc.mkdir(parents=True, exist_ok=True)
            (etc / "resolv.conf").write_text("nameserver 10.77.0.53\n")
            # ssh and git ask for the name of their user.
            users = [line for line in pathlib.Path("/etc/passwd").read_text().splitlines() if f":{UID}:" not in line]
            (etc / "passwd").write_text("\n".join([*users, f"lab:*:{UID}:{UID}::{self.home}:/bin/bash"]) + "\n")
            self.ip(namespace, "link", "set", "lo", "up")
        self.ip(self.app, "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", self.internet)
        for namespace, device, four, six in ((self.app, "up0", "10.77.0.2/24", "fd77::2/64"),
                                             (self.internet, "down0", "10.77.0.1/24", "fd77::1/64")):
            self.ip(namespace, "address", "add", four, "dev", device)
            self.ip(namespace, "-6", "address", "add", six, "dev", device, "nodad")
            # Without duplicate address detection, or the first second has no IPv6.
            command(["ip", "netns", "exec", namespace, "sysctl", "-qw", f"net.ipv6.conf.{device}.accept_dad=0"])
            self.ip(namespace, "link", "set", device, "up")
        for address in ADDRESSES4:
            self.ip(self.internet, "address", "add", address + "/32", "dev", "lo")
        for address in ADDRESSES6:
            self.ip(self.internet, "-6", "address", "add", address + "/128", "dev", "lo", "nodad")
        self.ip(self.app, "route", "add", "default", "via", "10.77.0.1")
        self.ip(self.app, "-6", "route", "add", "default", "via", "fd77::1")
        # Unprivileged ping, so that a probe which fails inside Weir is known to work without it.
        command(["ip", "netns", "exec", self.app, "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"])

    def _counters(self):
        rules = ["table inet canary {"]
        for number, address in enumerate(ADDRESSES4 + ADDRESSES6):
            rules.append(f"  counter c{number} {{ }}")
        rules += ["  counter stray { }", "  chain arriving {", "    type filter hook prerouting priority -300",
                  "    iif lo accept",
                  "    ip6 daddr { fe80::/10, ff00::/8 } meta l4proto { tcp, udp } counter name stray accept",
                  "    ip daddr { 224.0.0.0/4, 255.255.255.255, 10.77.0.255 } meta l4proto { tcp, udp } counter name stray accept",
                  "    ip6 daddr { fe80::/10, ff00::/8, fd77::1 } accept",
                  "    ip daddr { 224.0.0.0/4, 10.77.0.1 } accept"]
        for number, address in enumerate(ADDRESSES4 + ADDRESSES6):
            family = "ip6" if ":" in address else "ip"
            rules.append(f"    {family} daddr {address} counter name c{number} accept")
        rules += ["    counter name stray", "  }", "}"]
        command(["ip", "netns", "exec", self.internet, "nft", "-f", "-"], input="\n".join(rules) + "\n")

    def _serve(self):
        self.query_log = self.folder / "queries"
        self.servers = self.start([sys.executable, str(HERE / "servers.py"), str(self.web), str(self.certificate), str(self.key), str(self.query_log)],
                                  namespace=self.internet, as_root=True, stdin=subprocess.PIPE)
        line = self.servers.stdout.readline()
        if line.strip() != "ready":
            self.servers.wait()
            raise LabError("the lab's servers did not start: " + self.servers.stderr.read())
        for address in (OTHER4, WIKIPEDIA6):
            ask = [sys.executable, "-c", f"import socket; socket.create_connection(('{address}', 443), 1)"]
            if not wait_until(lambda ask=ask: self.run(ask, as_root=True).returncode == 0, 20):
                raise LabError(f"{address} cannot be reached in the lab")

    @staticmethod
    def ip(namespace, *words):
        command(["ip", "-n", namespace, *words])

    def packets(self, *addresses):
        """Packets of any protocol that arrived for these addresses; "stray": for an address nobody owns."""
        every = [*ADDRESSES4, *ADDRESSES6]
        names = ["stray" if address == "stray" else f"c{every.index(address)}" for address in addresses]
        text = command(["ip", "netns", "exec", self.internet, "nft", "list", "counters", "table", "inet", "canary"])
        found = dict(re.findall(r"counter (\w+) \{\s*packets (\d+)", text))
        return sum(int(found[name]) for name in names)

    def canary(self):
        """What arrived where no test ever allows anything."""
        return self.packets(DENIED4, DENIED6, METADATA, "stray")

    def every_packet(self):
        """What arrived at any address, allowed or not."""
        return self.packets(*ADDRESSES4, *ADDRESSES6, "stray")

    def queries(self):
        """The bytes of every DNS query that arrived since forget_queries()."""
        return self.query_log.read_bytes() if self.query_log.exists() else b""

    def forget_queries(self):
        self.query_log.write_bytes(b"")

    def environment(self, **more):
        env = {"PATH": f"{self.folder}:{PATH}", "HOME": str(self.home), "USER": "lab", "LOGNAME": "lab", "LANG": "C.UTF-8",
               "TERM": "dumb", "CURL_CA_BUNDLE": str(self.ca), "GIT_SSL_CAINFO": str(self.ca), "SSL_CERT_FILE": str(self.ca),
               "NODE_EXTRA_CA_CERTS": str(self.ca), "npm_config_cafile": str(self.ca), "PIP_CERT": str(self.ca), "WEIR_STORE": f"dir:{self.home}/store"}
        # A sanitized weir writes what it finds here, wherever its standard error goes; see harness.py.
        reports = f"log_path={self.folder}/reports/sanitizer:halt_on_error=1:print_stacktrace=1"
        env |= {"ASAN_OPTIONS": reports, "UBSAN_OPTIONS": reports}
        env.update(more)
        return [f"{key}={value}" for key, value in env.items() if value is not None]

    def argv(self, argv, namespace=None, as_root=False, env=None):
        """How a command is run on a host of the lab, as an ordinary user unless told otherwise."""
        user = [] if as_root else ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"]
        clean = [] if as_root else ["env", "-i", "-C", str(self.home), *self.environment(**(env or {}))]
        return ["ip", "netns", "exec", namespace or self.app, *user, *clean, *map(str, argv)]

    def run(self, argv, timeout=60, env=None, namespace=None, as_root=False, **options):
        """Run to the end; the result has returncode, stdout and stderr."""
        options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
        if "input" in options:
            options.pop("stdin")
        return subprocess.run(self.argv(argv, namespace, as_root, env), capture_output=True, text=True, check=False,
                              timeout=timeout, **options)

    def start(self, argv, env=None, namespace=None, as_root=False, **options):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        process = subprocess.Popen(self.argv(argv, namespace, as_root, env), **options)
        self.started.append(process)
        return process

    def weir(self, argv, **options):
        if not self.binary.exists():
            raise LabError(f"there is no weir in {build_folder()}: run make first")
        return self.run([self.binary, *argv], **options)

    def start_weir(self, argv, **options):
        if not self.binary.exists():
            raise LabError(f"there is no weir in {build_folder()}: run make first")
        return self.start([self.binary, *argv], **options)

    def user_file(self, name, text, mode=0o644):
        """A file in the user's home, and its path."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        for owned in (path, *path.parents):
            if owned == self.home:
                break
            os.chown(owned, UID, UID)
        return path

    def _remove_namespaces(self):
        for namespace in (self.internet, self.app):
            if (pathlib.Path("/run/netns") / namespace).exists():
                for pid in subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True,
                                          check=False).stdout.split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
                subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
            shutil.rmtree(pathlib.Path("/etc/netns") / namespace, ignore_errors=True)

    def close(self):
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    with contextlib.suppress(OSError):
                        stream.close()
        self.started.clear()
        if self.namespaces:
            self._remove_namespaces()
            self.namespaces.clear()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None
        atexit.unregister(self.close)


def clean_up_on_signals():
    """SIGTERM and SIGINT end the program the ordinary way, through every `with`."""
    def end(number, _):
        sys.exit(128 + number)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)


def wait_until(condition, seconds, step=0.01):
    """True as soon as the condition holds, False if it never did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(step)
    return condition()
