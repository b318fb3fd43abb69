# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: a lab for each class, policies in one line, and a canary that must stay silent."""
import re
import shutil
import unittest

from lab import DENIED4, DENIED6, ECHO_PORT, METADATA, OTHER4, TOOLS4, UID, WIKIPEDIA4, WIKIPEDIA6, Lab, LabError, wait_until

__all__ = ["DENIED4", "DENIED6", "ECHO_PORT", "METADATA", "OTHER4", "TOOLS4", "UID", "WIKIPEDIA4", "WIKIPEDIA6", "Lab",
           "LabCase", "LabError", "Shell", "external_service", "service_entry", "wait_until", "CODE", "SEND", "INET", "INET6", "STREAM",
           "DATAGRAM", "RAW", "ICMP"]

# curl that prints the status code alone, 000 where there was none.
CODE = ["curl", "-o", "/dev/null", "-s", "-w", "%{http_code}", "--max-time", "20"]

# Sends one payload: FAMILY KIND PROTOCOL HOST PORT. Status 1 if it could not.
SEND = """
import socket, sys
family, kind, protocol, host, port = *map(int, sys.argv[1:4]), sys.argv[4], int(sys.argv[5])
sock = socket.socket(family, kind, protocol)
sock.settimeout(2)
payload = b"\\x08\\0\\0\\0\\0\\1\\0\\1" if protocol in (1, 58) else b"out"
if protocol == 58:
    payload = b"\\x80" + payload[1:]
try:
    sock.connect((host, port))
    sock.send(payload)
except OSError as error:
    print(error)
    sys.exit(1)
"""
INET, INET6, STREAM, DATAGRAM, RAW, ICMP = 2, 10, 1, 2, 3, 1


def external_service(name, hosts, port=443, protocol="TCP", extra="  discovery: NONE\n"):
    lines = "".join(f"  - {host}\n" for host in hosts)
    return ("apiVersion: networking.istio.io/v1alpha3\nkind: ExternalService\nmetadata:\n"
            f"  name: {name}\nspec:\n  hosts:\n{lines}  ports:\n  - number: {port}\n    name: tcp\n    protocol: {protocol}\n{extra}")


def service_entry(name, addresses, port=443, protocol="TCP", extra="  resolution: NONE\n"):
    lines = "".join(f"  - '{address}'\n" for address in addresses)
    return ("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n"
            f"  name: {name}\nspec:\n  hosts:\n  - {name}.lab.test\n  addresses:\n{lines}  ports:\n  - number: {port}\n"
            f"    name: tcp\n    protocol: {protocol}\n  location: MESH_EXTERNAL\n{extra}")


class LabCase(unittest.TestCase):
    """Each class has a lab of its own, named after it; each test an empty store and a canary to leave alone."""

    canary_must_be_silent = True

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower())
        cls.lab.__enter__()
        cls.addClassCleanup(cls.lab.close)

    def setUp(self):
        shutil.rmtree(self.lab.home / "store", ignore_errors=True)
        self.canary_before = self.lab.canary()

    def tearDown(self):
        for report in sorted(self.lab.reports.iterdir()):
            text = report.read_text(errors="replace")
            report.unlink()
            self.fail(f"a sanitizer reports:\n{text}")
        if self.canary_must_be_silent:
            self.assertEqual(self.lab.canary() - self.canary_before, 0, "packets arrived at the canary")

    def need(self, *tools):
        missing = [tool for tool in tools if self.lab.run(["which", tool]).returncode]
        if missing:
            self.fail(f"missing: {', '.join(missing)} (tools/install-dependencies test)")

    def weir(self, *argv, status=0, **options):
        done = self.lab.weir(argv, **options)
        self.assertEqual(done.returncode, status, f"weir {' '.join(map(str, argv))}\n{done.stdout}\n{done.stderr}")
        return done

    def weir_run(self, *argv, status=0, options=(), **more):
        return self.weir("run", *options, "--", *argv, status=status, **more)

    def create(self, text, verb="create"):
        return self.weir(verb, "-f", "-", input=text).stdout

    def allow(self, *cidrs, port=443, name="allowed"):
        """An ExternalService or, where an address is IPv6, a ServiceEntry."""
        make = service_entry if any(":" in cidr for cidr in cidrs) else external_service
        return self.create(make(name, cidrs, port), verb="apply")

    def assert_denied(self, stderr, what):
        self.assertRegex(stderr, rf"(?m)^weir: denied {what}")

    def reaches_wikipedia(self, *options):
        """The positive control: what is allowed arrives, through the same kind of run."""
        done = self.weir_run(*CODE, f"https://{WIKIPEDIA4}/wiki/Main_Page", options=options)
        self.assertEqual(done.stdout, "200", done.stderr)


class Shell:
    """`weir run -- bash` kept open; commands are typed into it and answered one by one."""

    def __init__(self, case, options=()):
        self.process = case.lab.start_weir(["run", *options, "--", "bash", "--norc"], stdin=-1, stderr=-2)

    def type(self, line):
        """What the line printed, standard error included; Weir's own lines may come a moment later than the command's."""
        self.process.stdin.write(line + "; sleep 0.2; echo end-of-answer\n")
        self.process.stdin.flush()
        said = ""
        for text in self.process.stdout:
            if text == "end-of-answer\n":
                return said.rstrip("\n")
            said += text
        raise AssertionError("the shell ended: " + said)

    def end(self):
        self.process.stdin.close()
        self.process.stdout.read()
        return self.process.wait(30)
