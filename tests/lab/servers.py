#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The servers of the lab's internet: web, DNS and a plain echo, on every address of the namespace they run in.

    servers.py WEBROOT CERTIFICATE KEY [QUERIES]

Every DNS query is appended to the file QUERIES as it came. Prints "ready" when all of them listen. Ends when its standard input is closed.
"""
import asyncio
import functools
import http.server
import ipaddress
import os
import socket
import ssl
import struct
import sys
import threading

DENIED4, DENIED6 = "203.0.113.66", "2001:db8:66::66"
WIKIPEDIA4, WIKIPEDIA6 = "198.35.26.96", "2620:0:861:ed1a::1"
NAMES = {
    "www.wikipedia.org": [WIKIPEDIA4, WIKIPEDIA6],
    "en.wikipedia.org": [WIKIPEDIA4],
    "wikipedia.org": ["91.198.174.192"],
    "denied.lab.test": [DENIED4, DENIED6],
    "git.lab.test": ["208.80.154.224"],
    "pip.lab.test": ["208.80.154.224"],
    "npm.lab.test": ["208.80.154.224"],
    "go.lab.test": ["208.80.154.224"],
}
ECHO_PORT = 7777
TYPE_A, TYPE_AAAA, NXDOMAIN = 1, 28, 3


class Web(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


class WebServer(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port, root, tls=None):
        self.tls = tls
        super().__init__(("::", port), functools.partial(Web, directory=root))

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def finish_request(self, request, client_address):
        # The handshake belongs to the connection's own thread: one silent client must not hold up the others.
        if self.tls:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        pass  # a client that goes away is no news


def note(query):
    if len(sys.argv) > 4:
        with open(sys.argv[4], "ab") as queries:
            queries.write(query)


def answer(query):
    """A DNS reply. The question is copied as it stands."""
    note(query)
    if len(query) < 17:
        return b""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    kind = struct.unpack_from("!H", query, at + 1)[0]
    question = query[12:at + 5]
    addresses = NAMES.get(".".join(labels).lower())
    records = b""
    count = 0
    for text in addresses or []:
        address = ipaddress.ip_address(text)
        if kind == (TYPE_A if address.version == 4 else TYPE_AAAA):
            records += struct.pack("!HHHIH", 0xC00C, kind, 1, 60, len(address.packed)) + address.packed
            count += 1
    flags = 0x8180 | (0 if addresses else NXDOMAIN)
    return query[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0) + question + records


def dns_udp(family, address):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, 53))

    def serve():
        while True:
            query, peer = sock.recvfrom(4096)
            try:
                reply = answer(query)
            except (IndexError, struct.error):
                continue
            if reply:
                sock.sendto(reply, peer)
    threading.Thread(target=serve, daemon=True).start()


async def dns_tcp(reader, writer):
    try:
        while True:
            length = struct.unpack("!H", await reader.readexactly(2))[0]
            reply = answer(await reader.readexactly(length))
            writer.write(struct.pack("!H", len(reply)) + reply)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, IndexError):
        writer.close()


async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
    except ConnectionError:
        writer.close()


async def end_of_input():
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: ended.set() if not os.read(sys.stdin.fileno(), 1) else None)
    await ended.wait()


async def main():
    root, certificate, key = sys.argv[1:4]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    for port, context in ((80, None), (443, tls), (8443, tls)):
        threading.Thread(target=WebServer(port, root, context).serve_forever, daemon=True).start()
    for family, address in ((socket.AF_INET, "10.77.0.53"), (socket.AF_INET, DENIED4), (socket.AF_INET6, "fd77::53"),
                            (socket.AF_INET6, DENIED6)):
        dns_udp(family, address)
        await asyncio.start_server(dns_tcp, address, 53)
    await asyncio.start_server(echo, ["0.0.0.0", "::"], ECHO_PORT, backlog=2048)
    print("ready", flush=True)
    await end_of_input()


if __name__ == "__main__":
    asyncio.run(main())
