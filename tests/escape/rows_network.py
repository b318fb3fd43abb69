# SPDX-License-Identifier: Apache-2.0
"""Ways out by the network: protocols, addresses, socket families, options."""
import time

from frame import BLOCKED_IF, Leak, Unproven, need, not_applicable, row, want
from lab import DENIED4, DENIED6, ECHO_PORT, METADATA, OTHER4, WIKIPEDIA4, WIKIPEDIA6, wait_until
from harness import external_service, service_entry

# The whole network, its rules, its judge: what must not be missing for any row of TCP.
TCP = ["NETWORK_NAMESPACE", "REDIRECT_RULES", "VERDICT", "VERDICT_BEFORE_DIAL"]
NO_RULE = {"no_rule"}

SEND = """
import socket, sys
failed = 0
for line in sys.argv[1:]:
    family, kind, protocol, host, port = line.split()
    try:
        with socket.socket(int(family), int(kind), int(protocol)) as sock:
            sock.settimeout(0.2)
            sock.connect((host, int(port)))
            sock.send({"1": b"\\x08\\0\\0\\0\\0\\1\\0\\1", "58": b"\\x80\\0\\0\\0\\0\\1\\0\\1"}.get(protocol, b"out"))
    except OSError as error:
        failed += 1
        print(line, error)
"""


def send(*lines):
    return ["python3", "-c", SEND, *lines]


def tcp(*ends):
    return send(*(f"{10 if ':' in host else 2} 1 0 {host} {port}" for host, port in ends))


def udp(*ends):
    return send(*(f"{10 if ':' in host else 2} 2 0 {host} {port}" for host, port in ends))


@row("E1", "Running under the user id that a proxy would be exempted by (1337)", gates=["NETWORK_NAMESPACE", "VERDICT"])
def proxy_uid(t):
    """Weir exempts nobody by id: run as that user, and become that user inside."""
    home = t.lab.folder / "home-1337"
    home.mkdir(exist_ok=True)
    home.chmod(0o777)
    as_proxy = ["setpriv", "--reuid", "1337", "--regid", "1337", "--clear-groups"]
    clean = ["env", "-i", "-C", home, *t.lab.environment(HOME=str(home), WEIR_STORE=f"dir:{home}/store", **t.environment_only_gate())]
    t.control([*as_proxy, *clean, *tcp((DENIED4, 443))], as_root=True)
    with t.silent():
        t.outside([*as_proxy, *clean, t.binary, "run", *t.capture.options, "--", *tcp((DENIED4, 443))], as_root=True)
    t.attempt(["sh", "-c", "for how in 'setpriv --reuid 1337 --regid 1337 --clear-groups' 'unshare --map-users=1234,1234,1 --map-user=1337'"
               " 'unshare -U --map-user=1337'; do $how curl -s --max-time 3 https://" + DENIED4 + "; done"],
              control=tcp((DENIED4, 443)))


@row("E2", "Setting the firewall mark that would exempt", gates=["NETWORK_NAMESPACE", "VERDICT"])
def marks(t):
    script = f"""
import socket
for mark in (1, 0x539, 1337, 0x1, 0x5, 0x8, 0x100, 0xffffffff):
    for name, option, value in (("mark", 36, mark), ("priority", 12, mark & 7), ("rcvmark", 75, 1)):
        with socket.socket() as sock:
            sock.settimeout(2)
            try:
                sock.setsockopt(socket.SOL_SOCKET, option, value)
            except (OSError, OverflowError):
                pass
            try:
                sock.connect(("{DENIED4}", 443))
                sock.send(b"out")
            except OSError:
                pass
"""
    t.attempt(["python3", "-c", script], reasons=NO_RULE)


FRAME = """
import socket, struct, sys
sent = 0
for bypass in (0, 1):
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
        for device in ("up0", "lo"):
            try:
                sock = socket.socket(socket.AF_PACKET, kind, socket.htons(0x0800))
                sock.setsockopt(263, 20, bypass)
                head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 1, 0, 64, 17, 0, socket.inet_aton("10.77.0.2"), socket.inet_aton(sys.argv[1]))
                total = sum(struct.unpack("!10H", head))
                total = (total & 0xffff) + (total >> 16)
                packet = head[:10] + struct.pack("!H", ~total & 0xffff) + head[12:]
                packet += struct.pack("!HHHH", 1111, 443, 12, 0) + b"out!"
                with open(f"/sys/class/net/{device}/address") as text:
                    own = bytes.fromhex(text.read().strip().replace(":", ""))
                if kind == socket.SOCK_RAW:
                    sock.bind((device, 0))
                    sock.send(b"\\xff" * 6 + own + b"\\x08\\0" + packet)
                else:
                    sock.sendto(packet, (device, 0x0800, 0, 0, b"\\xff" * 6))
                sent += 1
            except OSError as error:
                print(error)
print("opened" if sent else "refused")
"""


@row("E3", "Frames of one's own (AF_PACKET, with and without the queueing layer)", gates=["FAMILIES"])
def frames(t):
    """Control as root: an ordinary user may not make such a socket anyway. Inside also with the rights of a new namespace."""
    t.control(["python3", "-c", FRAME, DENIED4], as_root=True)
    with t.silent():
        plain = t.inside(["python3", "-c", FRAME, DENIED4])
        mine = t.inside(["unshare", "-Urn", "python3", "-c", FRAME, DENIED4])
    want("opened" not in plain.stdout and "refused" in plain.stdout, "a packet socket was opened: " + plain.stdout)
    probe = "import socket; socket.socket(17, 3, 3); print('opened')"
    inner = t.inside(["unshare", "-Urn", "python3", "-c", probe])
    want("opened" not in inner.stdout, "a packet socket was opened in a namespace of the workload's own")
    need("opened" in t.outside(["unshare", "-Urn", "python3", "-c", probe]).stdout, "without Weir it is refused too")
    want("opened" not in mine.stdout, mine.stdout)


@row("E4", "Raw IP and other protocols (IPIP, IPv6 in IP, GRE, ESP, OSPF, SCTP, own numbers)", gates=["PROTOCOLS"])
def raw_protocols(t):
    numbers = (1, 2, 4, 6, 17, 33, 41, 47, 50, 51, 58, 89, 108, 132, 136, 143, 253, 255)
    raw = f"""
import socket
for number in {numbers}:
    for family, host in ((2, "{DENIED4}"), (10, "{DENIED6}")):
        for kind in (3, 1, 2, 4, 5, 6):
            if kind in (1, 2) and number in (0, 1, 6, 17, 58):
                continue
            try:
                with socket.socket(family, kind, number) as sock:
                    print("opened", family, kind, number)
                    sock.settimeout(0.1)
                    sock.sendto(b"out!out!", (host, 0))
            except OSError:
                pass
"""
    t.control(["python3", "-c", raw], as_root=True)
    with t.silent():
        plain = t.inside(["python3", "-c", raw])
        inner = t.inside(["unshare", "-Urn", "python3", "-c", raw])
    want("opened" not in plain.stdout + inner.stdout, "sockets were opened: " + plain.stdout + inner.stdout)
    need("opened" in t.outside(["unshare", "-Urn", "python3", "-c", raw]).stdout, "without Weir they are refused too")


@row("E5", "ICMP and ICMPv6 echo, ping sockets", gates=["NETWORK_NAMESPACE"])
def echo(t):
    """The kernel refuses ping sockets in a new network namespace, at socket(): no record is owed."""
    t.attempt(send(f"2 2 1 {DENIED4} 0", f"10 2 58 {DENIED6} 0"))
    for host in (DENIED4, DENIED6):
        t.attempt(["ping", "-c", "1", "-W", "1", "-p", "6f7574", host])


@row("E6", "UDP that nobody captures", gates=["NETWORK_NAMESPACE", "REJECT_RECORDS", "REJECT_RULES"])
def datagrams(t):
    ends = [(host, port) for host in (DENIED4, DENIED6, METADATA) for port in (123, 443, 853, 33434)]
    done = t.attempt(udp(*ends), reasons={"rejected_udp"}, protocol="udp")
    told = {(record["destination"], record["port"]) for record in done.denied({"rejected_udp"})}
    need(told == set(ends), f"denials without a record: {set(ends) - told}")
    odd = f"""
import socket, struct
def attempt(*args, family=2, host="{DENIED4}"):
    with socket.socket(family, 2) as sock:
        for act in args:
            try:
                act(sock, host)
            except OSError:
                pass
attempt(lambda s, h: s.bind(("{DENIED4}", 53)), lambda s, h: s.sendto(b"out", (h, 443)))
attempt(lambda s, h: s.bind(("10.77.0.2", 0)), lambda s, h: s.sendto(b"out", (h, 443)))
attempt(lambda s, h: s.setsockopt(1, 6, 1), lambda s, h: s.sendto(b"out", ("255.255.255.255", 443)))
attempt(lambda s, h: s.sendto(b"out", ("224.0.0.251", 5353)))
attempt(lambda s, h: s.sendto(b"out", ("ff02::fb", 5353, 0, 1)), family=10)
attempt(lambda s, h: s.setsockopt(17, 103, 500), lambda s, h: s.sendto(b"x" * 4000, (h, 443)))
attempt(lambda s, h: s.setsockopt(17, 100, 1), lambda s, h: s.sendto(b"esp in udp", (h, 4500)))
attempt(lambda s, h: s.setsockopt(0, 15, 1), lambda s, h: s.setsockopt(0, 19, 1), lambda s, h: s.sendto(b"freebind", (h, 443)))
attempt(lambda s, h: s.setsockopt(1, 25, b"lo"), lambda s, h: s.sendto(b"bound", (h, 443)))
attempt(lambda s, h: s.sendmsg([b"out"], [(0, 8, struct.pack("=I4s4s", 1, socket.inet_aton("10.77.0.2"), socket.inet_aton("0.0.0.0")))], 0, (h, 443)))
attempt(lambda s, h: s.connect((h, 443)), lambda s, h: s.send(b"1"), lambda s, h: s.send(b"2"), lambda s, h: s.send(b"3"))
"""
    t.attempt(["python3", "-c", odd], reasons={"rejected_udp"})


@row("E7", "IPv6 without rules, link-local scopes", gates=[*TCP])
def ipv6(t):
    done = t.attempt(tcp((DENIED6, 443), (DENIED6, ECHO_PORT)), reasons=NO_RULE, protocol="tcp")
    want(len(done.denied(NO_RULE)) == 2, "a denial has no record")
    linked = f"""
import socket
for index in range(1, 4):
    for host in ("fe80::1", "fe80::ffff:fe00:1"):
        for kind in (1, 2):
            try:
                with socket.socket(10, kind) as sock:
                    sock.settimeout(1)
                    sock.connect((host, 443, 0, index))
                    sock.send(b"out")
            except OSError:
                pass
"""
    with t.silent():
        t.inside(["python3", "-c", linked])
    t.attempt(["curl", "-s", "--max-time", "3", "-6", f"https://[{DENIED6}]/"], reasons=NO_RULE)
    with t.silent():
        t.inside(["curl", "-s", "--max-time", "3", "-6", "https://denied.lab.test/"], options=["--dns=open"])


@row("E8", "IPv4 inside IPv6: mapped, compatible, NAT64, 6to4, Teredo",
     gates=[*TCP, "BUILTIN_RANGES", "EMBEDDED_ADDRESSES"])
def embedded(t):
    """First with a rule for one address, then with rules for every address: those never open what is built in."""
    forms = ["::ffff:{0}", "::{0}", "64:ff9b::{0}", "64:ff9b:1::{0}"]
    denied = [(form.format(DENIED4), 443) for form in forms] + [("2002:cb00:7142::1", 443), ("2001:0:cb00:7142::", 443)]
    done = t.attempt(tcp(*denied), reasons=NO_RULE)
    need(len(done.denied(NO_RULE)) >= len(denied) - 1, "a denial has no record")
    t.create(external_service("four", ["0.0.0.0/0"], 80))
    t.create(service_entry("six", ["::/0"], 80))
    metadata = [(form.format(METADATA), 80) for form in forms] + [("2002:a9fe:a9fe::1", 80), ("2001:0:a9fe:a9fe::", 80),
                                                                  ("2001:0:1:2:3:4:5601:5601", 80)]
    done = t.attempt(tcp(*metadata), reasons={"builtin_metadata"})
    need(len(done.denied({"builtin_metadata", "embedded_address"})) >= len(metadata) - 1, f"a denial has no record: {done.stderr}")
    need(done.denied({"embedded_address"}), "no record says embedded_address")


@row("E9", "Zero, loopback and number spellings of the host's own services", gates=["NETWORK_NAMESPACE"])
def literals(t):
    server = t.lab.start(["python3", "-m", "http.server", "--bind", "::", "8097"])
    need(wait_until(lambda: t.outside(["curl", "-s", "--max-time", "2", "http://127.0.0.1:8097/"]).returncode == 0, 10), "no server outside")
    names = ["127.0.0.1", "127.1", "127.0.1.1", "0.0.0.0", "0", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "017700000001",
             "[::]", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "localhost", "10.77.0.2", "[fd77::2]"]
    script = "; ".join(f"curl -g -s -o /dev/null --max-time 2 -w '{name} %{{http_code}}\\n' 'http://{name}:8097/'" for name in names)
    need(t.outside(["sh", "-c", script]).stdout.count(" 200") >= len(names) - 2, "without Weir they are no ways either")
    # Rules for everything: loopback and the host's own addresses are not opened by them.
    t.create(external_service("four", ["0.0.0.0/0"], 8097))
    t.create(service_entry("six", ["::/0"], 8097))
    done = t.inside(["sh", "-c", script])
    want(" 200" not in done.stdout, "a service of the host was reached: " + done.stdout)
    server.kill()


FORWARD = """
import socket, sys, threading
listener = socket.create_server(("", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
print("up", flush=True)
while True:
    peer = listener.accept()[0]
    try:
        with socket.create_connection((sys.argv[2], 443), 2) as way:
            way.sendall(peer.recv(100) or b"out")
    except OSError:
        pass
    peer.close()
"""


@row("E10", "A relay on the host's loopback or own addresses",
     gates=["NETWORK_NAMESPACE", "VERDICT", "HOST_ADDRESSES"])
def deputy(t):
    """A program on the host forwards to the canary. Rules for the blocks around its addresses do not open the host."""
    relay = t.lab.start(["python3", "-c", FORWARD, "8096", DENIED4])
    need(relay.stdout.readline() == "up\n", "the relay did not start")
    t.create(external_service("four", ["0.0.0.0/0"], 8096))
    t.create(service_entry("six", ["::/0"], 8096))
    ends = [("127.0.0.1", 8096), ("127.8.8.8", 8096), ("10.77.0.2", 8096), ("::1", 8096), ("fd77::2", 8096), ("::ffff:10.77.0.2", 8096)]
    t.attempt(tcp(*ends), reasons={"builtin_self"})


@row("E10.later", "An address of the host that comes later, or that stands on its loopback interface", gates=["NEW_HOST_ADDRESSES", "HOST_ADDRESSES"])
def later_addresses(t):
    """A rule for the block around it is older than the address."""
    relay = t.lab.start(["python3", "-c", FORWARD, "8096", DENIED4])
    need(relay.stdout.readline() == "up\n", "the relay did not start")
    t.create(external_service("four", ["10.0.0.0/8"], 8096))
    t.create(service_entry("six", ["fd00::/8"], 8096))
    added = [("10.99.1.1/32", "lo"), ("fd99::1/128", "lo"), ("10.99.2.2/32", "up0"), ("fd99::2/128", "up0")]
    dial = ("import socket, sys\nfor line in sys.stdin:\n    try:\n        with socket.create_connection((line.strip(), 8096), 3) as sock:\n"
            "            sock.send(b'out')\n            sock.recv(1)\n    except OSError as error:\n        print(error)\n    print('tried', flush=True)\n")
    try:
        for address, device in added[:2]:
            t.lab.ip(t.lab.app, "address", "add", address, "dev", device)
        process = t.start_inside(["python3", "-u", "-c", dial], stdin=-1)
        for number, (address, device) in enumerate(added):
            host = address.partition("/")[0]
            if number >= 2:
                t.lab.ip(t.lab.app, "address", "add", address, "dev", device, *(["nodad"] if ":" in host else []))
            t.control(tcp((host, 8096)))
            with t.silent(what=f"packets of the host's relay at {host}"):
                process.stdin.write(host + "\n")
                process.stdin.flush()
                while "tried" not in (line := process.stdout.readline()):
                    need(line, "the command ended")
        process.stdin.close()
        process.wait(10)
        found = len([record for record in t.records() if record["reason"] == "builtin_self"])
        need(found == len(added), f"{found} of {len(added)} denials have a record")
    finally:
        for address, device in added:
            t.outside(["ip", "address", "delete", address, "dev", device], as_root=True)


@row("E11", "The metadata service of a cloud", gates=[*TCP, "BUILTIN_RANGES"])
def metadata(t):
    """A rule for every address does not open it; one inside the range does, and that is the positive control."""
    t.create(external_service("four", ["0.0.0.0/0"], 80))
    t.create(service_entry("six", ["::/0"], 80))
    ends = [(METADATA, 80), (f"::ffff:{METADATA}", 80), ("169.254.170.2", 80), ("fd00:ec2::254", 80), ("fd00:ec2::23", 80),
            ("fd20:ce::254", 80), ("100.100.100.200", 80), ("168.63.129.16", 80), ("192.0.0.192", 80)]
    done = t.attempt(tcp(*ends), reasons={"builtin_metadata"})
    told = len(done.denied({"builtin_metadata"}))
    need(told == len(ends), f"{told} of {len(ends)} denials have a record")
    t.attempt(["curl", "-s", "--max-time", "3", f"http://{METADATA}/latest/meta-data/"], reasons={"builtin_metadata"})
    before = t.lab.packets(METADATA)
    t.create(external_service("named", [METADATA + "/32"], 80))
    t.inside(tcp((METADATA, 80)))
    need(t.lab.packets(METADATA) > before, "a rule for the address itself does not open it")


@row("E12", "Data with the SYN (TCP Fast Open), before any connect() is judged", gates=["FAST_OPEN", "SOCKET_OPTIONS"])
def fast_open(t):
    program = t.program("fast_open", DENIED4, DENIED6, 443)
    done = t.attempt(program)
    want("accepted" not in done.stdout, "a fast open was accepted: " + done.stdout)
    need("accepted" in t.outside(program).stdout, "without Weir it is refused too")


@row("E13", "io_uring: sockets without the system calls", gates=["IO_URING"])
def io_uring(t):
    program = t.program("io_uring", DENIED4, 443)
    done = t.attempt(program)
    want("set up" not in done.stdout, "a ring could be made: " + done.stdout)


SWEEP = """
import socket
allowed = {1, 2, 10, 16}
for family in range(64):
    for kind in range(1, 12):
        try:
            socket.socket(family, kind, 0).close()
        except OSError:
            continue
        if family not in allowed or (family in (2, 10) and kind not in (1, 2)):
            print("opened", family, kind)
for family, kind, protocol in ((2, 1, 262), (10, 1, 262), (2, 1, 132), (2, 5, 132), (2, 6, 33), (2, 2, 136), (40, 1, 0), (40, 2, 0)):
    try:
        socket.socket(family, kind, protocol).close()
        print("opened", family, kind, protocol)
    except OSError:
        pass
for family in range(2, 64):
    try:
        [end.close() for end in socket.socketpair(family, 1, 0)]
        print("opened pair", family)
    except OSError:
        pass
socket.socket(1, 1).close(), socket.socket(2, 1).close(), socket.socket(10, 2).close(), socket.socket(16, 3, 0).close()
print("ordinary ones work")
"""


@row("E14", "Odd socket families and protocols (vsock, packet, alg, MPTCP, SCTP, ...), and another ABI",
     gates=["FAMILIES", "PROTOCOLS", "FOREIGN_ABI"])
def families(t):
    need("opened" in t.outside(["python3", "-c", SWEEP]).stdout, "without Weir they are refused too")
    done = t.inside(["python3", "-c", SWEEP])
    need("ordinary ones work" in done.stdout, "ordinary sockets are refused: " + done.stderr)
    want("opened" not in done.stdout, done.stdout)
    foreign = t.program("foreign_abi")
    need("native works" in t.outside(foreign).stdout, "the program does not run")
    done = t.inside(foreign)
    need("native works" in done.stdout, "the program does not run: " + done.stderr)
    want("opened" not in done.stdout, "another ABI has its way: " + done.stdout)
    need("foreign passes" in t.outside(foreign).stdout, "the control: this kernel has no other ABI, so nothing is proved")
    want("foreign passes" not in done.stdout, "calls of another ABI pass the filter")


not_applicable("E18", "Init, debug and host-network containers of a pod", "a sealed workload is one command and what it starts; every process below it "
               "is in the same namespaces (E80)")


@row("E20", "Ignoring the proxy settings", gates=["NETWORK_NAMESPACE", "VERDICT"])
def no_environment(t):
    t.attempt(["env", "-i", "curl", "-k", "-s", "--max-time", "3", "--noproxy", "*", f"https://{DENIED4}/"], reasons=NO_RULE)
    t.attempt(["env", "-i", "HTTPS_PROXY=http://127.0.0.1:1", "curl", "-k", "-s", "--max-time", "3", f"https://{DENIED4}/"],
              control=tcp((DENIED4, 443)))


@row("E21", "Removing the rules from inside (nft, ip, routes)", gates=["CAPABILITIES", "NETWORK_NAMESPACE"])
def remove_rules(t):
    script = ("PATH=$PATH:/usr/sbin:/sbin; for in in '' 'unshare -Ur'; do $in nft flush ruleset && echo flushed; $in nft list ruleset | grep -q redirect && echo seen;"
              " $in ip route flush table local && echo unrouted; $in ip link set lo down && echo down; $in ip link add d0 type dummy && echo added;"
              " $in ip link add v0 type veth peer name v1 && echo added; $in sysctl -w net.ipv4.ip_forward=1 && echo written; done;"
              f" curl -k -s --max-time 3 https://{DENIED4}; true")
    done = t.attempt(["sh", "-c", script], reasons=NO_RULE)
    # Root keeps its capabilities over exec, if they are not taken away; what it loses here is the sandbox's own network.
    done.stdout += t.inside_as_root(["sh", "-c", script]).stdout
    for word in ("flushed", "unrouted", "down", "added", "seen", "written"):
        want(word not in done.stdout.split(), f"the sandbox's network could be changed: {done.stdout}")


@row("E22", "Fragments, datagrams over the MTU, options in the header", gates=["NETWORK_NAMESPACE", "SOCKET_OPTIONS"])
def fragments(t):
    script = f"""
import socket
for size in (1, 1472, 1473, 9000, 65507):
    for host, family in (("{DENIED4}", 2), ("{DENIED6}", 10)):
        with socket.socket(family, 2) as sock:
            try:
                sock.sendto(b"x" * size, (host, 443))
            except OSError:
                pass
with socket.socket() as sock:
    sock.settimeout(2)
    try:
        sock.setsockopt(0, 4, bytes([7, 7, 4, 0, 0, 0, 0, 0]))
        print("option taken")
    except OSError:
        pass
    try:
        sock.connect(("{DENIED4}", 443))
    except OSError:
        pass
"""
    need("option taken" in t.outside(["python3", "-c", script]).stdout, "without Weir the option is refused too")
    done = t.attempt(["python3", "-c", script], reasons={"rejected_udp"})
    want("option taken" not in done.stdout, "an option was taken")


@row("E70", "Weir's own ports dialled directly", gates=["OWN_PORT"])
def own_ports(t):
    """Every TCP port that listens inside, by both families and by the forms of loopback; each with and without a spoofed
    source."""
    script = f"""
import socket
def ports(path):
    with open(path) as table:
        return {{int(line.split()[1].split(":")[1], 16) for line in list(table)[1:] if line.split()[3] == "0A"}}
found = ports("/proc/net/tcp") | ports("/proc/net/tcp6")
print("listening", len(found))
for port in found:
    for family, host in ((2, "127.0.0.1"), (10, "::1"), (10, "::ffff:127.0.0.1")):
        for source in (None, "{DENIED4}" if family == 2 else "{DENIED6}"):
            try:
                with socket.socket(family) as sock:
                    sock.settimeout(2)
                    if source:
                        sock.bind((source, 0))
                    sock.connect((host, port))
                    sock.send(b"CONNECT {DENIED4}:443 HTTP/1.1\\r\\nHost: {DENIED4}\\r\\n\\r\\n")
                    answer = sock.recv(100)
                    if answer:
                        print("answered", port, answer)
            except OSError:
                pass
"""
    with t.silent():
        done = t.inside(["python3", "-c", script])
    need("listening 0" not in done.stdout and "listening" in done.stdout, "no port listens: " + done.stdout + done.stderr)
    want("answered" not in done.stdout, done.stdout)
    need(len(done.denied({"not_redirected"})) >= 2, "no record says that Weir's own port was dialled")


@row("E71", "Weir used by somebody else: the host, another workload", proof="a listener of the test's own is seen the same way")
def other_callers(t):
    """Weir listens on the host nowhere; the listeners are inside the namespace they serve."""
    listening = ["ss", "-Hltunp"]
    before = t.outside(listening, as_root=True).stdout
    process = t.start_inside(["sh", "-c", "echo up; exec sleep 30"])
    need(process.stdout.readline() == "up\n", "the command did not start")
    during = t.outside(listening, as_root=True).stdout
    want(during == before, f"Weir listens on the host: {during}")
    server = t.lab.start(["python3", "-m", "http.server", "--bind", "127.0.0.1", "8095"])
    need(wait_until(lambda: ":8095" in t.outside(listening, as_root=True).stdout, 10), "the control listens nowhere either")
    server.kill()


@row("E72", "An administration or metrics interface reached from inside", gates=["NETWORK_NAMESPACE"])
def administration(t):
    """Weir has none in `run`; whatever listens inside answers no HTTP, and the host's ports are out of reach."""
    script = """
import socket
def ports(path):
    with open(path) as table:
        return {int(line.split()[1].split(":")[1], 16) for line in list(table)[1:] if line.split()[3] == "0A"}
for port in ports("/proc/net/tcp") | ports("/proc/net/tcp6") | {8094, 15000, 15001, 15020, 15090, 9090}:
    for path in ("/", "/metrics", "/stats/prometheus", "/quitquitquit", "/config_dump", "/debug/pprof/"):
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as sock:
                sock.settimeout(1)
                sock.send(f"GET {path} HTTP/1.0\\r\\n\\r\\n".encode())
                if sock.recv(100).startswith(b"HTTP"):
                    print("answered", port, path)
        except OSError:
            pass
"""
    server = t.lab.start(["python3", "-m", "http.server", "--bind", "127.0.0.1", "8094"])
    need(wait_until(lambda: "answered" in t.outside(["python3", "-c", script]).stdout, 10), "the control answers nothing either")
    done = t.inside(["python3", "-c", script])
    want("answered" not in done.stdout, done.stdout)
    server.kill()


@row("E79", "An inner sandbox or network namespace whose connections reach the outer supervisor", gates=["NETWORK_NAMESPACE", "VERDICT"])
def nested(t):
    script = (f"for in in '' 'unshare -Ur' 'unshare -Urn' 'unshare -Urnmpf'; do $in sh -c 'ip link set lo up; curl -k -s --max-time 2 https://{DENIED4};"
              f" curl -k -s -g --max-time 2 https://[{DENIED6}]'; done 2>/dev/null; true")
    t.attempt(["sh", "-c", script], reasons=NO_RULE)
    t.allow(WIKIPEDIA4 + "/32", OTHER4 + "/32")
    inner = t.lab.user_file("inner.yaml", external_service("inner", [WIKIPEDIA4 + "/32", DENIED4 + "/32"]))
    code = "curl -k -o /dev/null -s -w '%{http_code} ' --max-time 5 https://"
    script = " && ".join(f"weir run -f {inner} -- {code}{host} || true" for host in (WIKIPEDIA4, OTHER4, DENIED4))
    with t.silent():
        done = t.inside(["sh", "-c", script])
    need(done.stdout.startswith("200"), "what both allow does not arrive: " + done.stdout + done.stderr)
    want(done.stdout.split() == ["200", "000", "000"], "an inner run widened the outer one: " + done.stdout)


@row("E81", "Source routing and extension headers from a connected socket", gates=["SOCKET_OPTIONS"])
def source_routing(t):
    """An unprivileged routing header on a socket to an allowed host sends its packets through a forbidden one. As options
    and as control messages, on TCP and UDP; the relay's own socket never has them."""
    t.allow(WIKIPEDIA6 + "/128", name="six")
    program = t.program("source_route", WIKIPEDIA6, DENIED6, 443)
    done = t.attempt(program)
    want("option taken" not in done.stdout, "an option was taken: " + done.stdout)
    need("option taken" in t.outside(program).stdout, "without Weir it is refused too")


@row("X7", "Each option and call that is refused, also to root of a namespace of one's own", gates=["SOCKET_OPTIONS", "KERNEL_INTERFACES", "IO_URING", "FAMILIES"])
def each_call(t):
    """The kernel would carry them out; that it is the filter which answers shows in the error."""
    wanted = {"io_uring_setup": "ENOSYS", "io_uring_enter": "ENOSYS", "io_uring_register": "ENOSYS", "socketpair": "EAFNOSUPPORT"}
    for how in ([], ["unshare", "-Urn"]):
        outside = t.outside([*how, *t.program("options")]).stdout
        inside = t.inside([*how, *t.program("options")]).stdout
        need(outside.count("taken") >= (12 if how else 8), "without Weir few are taken either: " + outside)
        found = dict(line.split()[1:3] for line in inside.splitlines() if line.startswith("refused"))
        need(len(inside.splitlines()) == len(outside.splitlines()), "the program did not run to its end: " + inside)
        want("taken" not in inside, inside)
        for name, error in found.items():
            want(error == wanted.get(name, "EPERM"), f"{name} answers {error}: it is not the filter that refuses it")


@row("X1", "IPv6 anycast, site-local, unique local and documentation ranges; every private range with an empty policy",
     gates=["NETWORK_NAMESPACE", "VERDICT"])
def ranges(t):
    t.forget()
    ends = [(host, port) for host in ("10.0.0.1", "10.77.0.1", "10.77.0.53", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1",
                                      "fc00::1", "fec0::1", "2001:db8::1", DENIED4, DENIED6) for port in (443, 53, 22)]
    counter = t.lab.every_packet
    t.control(tcp(*ends[:1], (DENIED4, 443)), counter=counter)
    with t.silent(counter, "packets at any address although the policy is empty"):
        t.inside(tcp(*ends))
        t.inside(udp(*ends))


# Imported by the rows that live elsewhere.
__all__ = ["NO_RULE", "TCP", "send", "tcp", "udp", "BLOCKED_IF", "Leak", "Unproven", "time"]
