#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An API server that misbehaves on demand: lists and watches of ExternalService and ServiceEntry over plain HTTP/1.1.

Prints its port, then answers each line of standard input with one line:

    put NAMESPACE NAME HOST      make or change an ExternalService, and tell the watches; HOST "bad" is not valid
    drop NAMESPACE NAME
    fault WHAT HOW COUNT         the next COUNT requests of a kind (list, watch, page, version, write, any) fail:
                                 410 (an HTTP status), expired (410 in a stream that began with 200), garbage, html, hang,
                                 close, 429 (with Retry-After: 1), 401, 403, 404, 500, endless
    tell expired|garbage|bookmark|error      into every open watch
    silent on|off                nothing is sent any more, on any connection, and connections stay open
    cut                          closes every open watch
    token TEXT                   only this token is taken from now on
    page N                       lists are cut into pages of N
    forget                       versions that were given out are forgotten: a watch from them gets 410
    count WHAT                   how many requests of a kind came
    watches                      how many watches are open
    last WHAT                    path and query of the last request of a kind
    header NAME                  of the last request
"""
import http.server
import json
import queue
import sys
import threading
import time
import urllib.parse

LOCK = threading.RLock()
OBJECTS = {}
WATCHES = []
FAULTS = []
COUNTS = {}
LAST = {}
HEADERS = {}
SETTINGS = {"version": 10, "oldest": 0, "token": None, "page": None, "silent": False}
SPEAK = threading.Event()
SPEAK.set()


def status(code, reason, message, **details):
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
            "details": details}


def make(namespace, name, host):
    with LOCK:
        SETTINGS["version"] += 1
        old = OBJECTS.get((namespace, name))
        return {"apiVersion": "networking.istio.io/v1alpha3", "kind": "ExternalService",
                "metadata": {"namespace": namespace, "name": name, "resourceVersion": str(SETTINGS["version"]),
                             "generation": (old["metadata"]["generation"] if old else 0) + 1,
                             "managedFields": [{"manager": "somebody"}]},
                "spec": {"hosts": ["10.0.0.0/33" if host == "bad" else host],
                         "ports": [{"number": 443, "name": "tcp", "protocol": "TCP"}]}}


def tell(event):
    for kind, stream in list(WATCHES):
        if kind == "externalservices":
            stream.put(event)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def kind(self):
        parts = self.address.path.split("/")
        return next((part for part in parts if part in ("externalservices", "serviceentries")), "")

    def what(self):
        if self.address.path == "/version":
            return "version"
        if self.command != "GET":
            return "write"
        if self.query.get("watch"):
            return "watch"
        return "page" if self.query.get("continue") else "list"

    def send(self, code, body, kind="application/json", headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        SPEAK.wait()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def fault(self):
        with LOCK:
            for fault in FAULTS:
                if fault[2] > 0 and fault[0] in (self.what(), "any") and self.kind() != "serviceentries":
                    fault[2] -= 1
                    return fault[1]
        return None

    def misbehave(self, how):
        if how == "hang":
            time.sleep(3600)
        elif how == "close":
            self.close_connection = True
        elif how == "garbage":
            self.send(200, b"\x00\xff not json at all")
        elif how == "html":
            self.send(200, b"<html>Sign in to continue</html>", "text/html")
        elif how == "endless":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while True:
                self.chunk(b"x" * 65536)
        elif how == "expired":
            self.stream([{"type": "ERROR", "object": status(410, "Expired", "too old resource version")}], False)
        elif how == "404":
            self.send(404, b"404 page not found\n", "text/plain")
        else:
            code = int(how)
            words = {401: "Unauthorized", 403: "Forbidden", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}
            message = ('externalservices.networking.istio.io is forbidden: User "u" cannot list resource "externalservices"'
                       if code == 403 else words[code])
            self.send(code, status(code, words[code], message), headers=[("Retry-After", "1")] if code == 429 else [])

    def chunk(self, data):
        SPEAK.wait()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def stream(self, events, goes_on):
        mine = queue.Queue()
        with LOCK:
            for event in events:
                mine.put(event)
            entry = (self.kind(), mine)
            WATCHES.append(entry)
        try:
            SPEAK.wait()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.flush()
            while goes_on or not mine.empty():
                event = mine.get()
                if event is None:
                    self.close_connection = True
                    return
                self.chunk(event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        finally:
            with LOCK:
                WATCHES.remove(entry)

    def serve_list(self):
        with LOCK:
            items = [OBJECTS[key] for key in sorted(OBJECTS)] if self.kind() == "externalservices" else []
            begin, size = int(self.query.get("continue", "0").split("!")[0]), SETTINGS["page"] or len(items) or 1
            more = begin + size < len(items) and "limit" in self.query
            if "limit" not in self.query:
                begin, size = 0, len(items)
            metadata = {"resourceVersion": str(SETTINGS["version"])}
            if more:
                metadata["continue"] = f"{begin + size}!&x=/"
            body = {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items[begin:begin + size]}
        self.send(200, body)

    def serve_watch(self):
        asked = int(self.query.get("resourceVersion", "0"))
        with LOCK:
            if asked < SETTINGS["oldest"]:
                events, goes_on = [{"type": "ERROR", "object": status(410, "Expired", "too old resource version")}], False
            else:
                events = [{"type": "MODIFIED", "object": value} for value in OBJECTS.values()
                          if int(value["metadata"]["resourceVersion"]) > asked] if self.kind() == "externalservices" else []
                goes_on = True
        self.stream(events, goes_on)

    def serve(self):
        self.address = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(self.address.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with LOCK:
            what = self.what()
            if self.kind() != "serviceentries":
                COUNTS[what] = COUNTS.get(what, 0) + 1
                LAST[what] = self.path
            HEADERS.clear()
            HEADERS.update(self.headers.items())
        if SETTINGS["token"] and self.headers.get("Authorization") != "Bearer " + SETTINGS["token"]:
            self.send(401, status(401, "Unauthorized", "Unauthorized"))
            return
        how = self.fault()
        if how:
            self.misbehave(how)
        elif what == "version":
            self.send(200, {"gitVersion": "v1.0.0"})
        elif what == "watch":
            self.serve_watch()
        elif what == "write":
            self.send(201 if self.command == "POST" else 200, json.loads(body or b"{}") | {"metadata": {"resourceVersion": "77"}})
        else:
            self.serve_list()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve


def run(words):
    verb, args = words[0], words[1:]
    with LOCK:
        if verb == "put":
            value = make(*args)
            event = "MODIFIED" if tuple(args[:2]) in OBJECTS else "ADDED"
            OBJECTS[tuple(args[:2])] = value
            tell({"type": event, "object": value})
        elif verb == "drop":
            SETTINGS["version"] += 1
            value = OBJECTS.pop(tuple(args[:2]))
            value = value | {"metadata": value["metadata"] | {"resourceVersion": str(SETTINGS["version"])}}
            tell({"type": "DELETED", "object": value})
        elif verb == "fault":
            FAULTS.append([args[0], args[1], int(args[2])])
        elif verb == "tell":
            version = {"metadata": {"resourceVersion": str(SETTINGS["version"])}, "kind": "ExternalService"}
            tell({"expired": {"type": "ERROR", "object": status(410, "Expired", "too old resource version")},
                  "error": {"type": "ERROR", "object": status(500, "InternalError", "etcd is gone")},
                  "garbage": b"{{{ \x00\n", "bookmark": {"type": "BOOKMARK", "object": version}}[args[0]])
        elif verb == "silent":
            (SPEAK.clear if args[0] == "on" else SPEAK.set)()
        elif verb == "cut":
            for _, stream in list(WATCHES):
                stream.put(None)
        elif verb == "token":
            SETTINGS["token"] = args[0]
        elif verb == "page":
            SETTINGS["page"] = int(args[0])
        elif verb == "forget":
            SETTINGS["version"] += 1
            SETTINGS["oldest"] = SETTINGS["version"]
        elif verb == "count":
            return str(COUNTS.get(args[0], 0))
        elif verb == "watches":
            return str(len(WATCHES))
        elif verb == "last":
            return LAST.get(args[0], "-")
        elif verb == "header":
            return HEADERS.get(args[0], "-")
    return "ok"


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """Clients that go away are what this is for."""


def main():
    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    for line in sys.stdin:
        print(run(line.split()), flush=True)


if __name__ == "__main__":
    main()
