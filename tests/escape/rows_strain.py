# SPDX-License-Identifier: Apache-2.0
"""Ways out by strain: what a workload does to its supervisor so that a rule, a record or a revocation comes too late."""
import os
import signal

from frame import need, row, want
from lab import ECHO_PORT, OTHER4, wait_until
from rows_policy import established, weir_pids

# Holds as many descriptors as it may, in several processes, and is refused as fast as it can; N connections live beside that.
STRAIN = """
import os, resource, socket, sys, threading
live, port, denied, n, holders = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
flows = [socket.create_connection((live, port), 10) for _ in range(n)]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
def hold():
    null = os.open("/dev/null", os.O_RDONLY)
    while os.dup(null) < min(hard - 500, 19000):
        pass
def refused():
    while True:
        try:
            with socket.socket() as sock:
                sock.settimeout(5)
                sock.connect((denied, 443))
                sock.recv(1)
        except OSError:
            pass
for _ in range(holders):
    if os.fork() == 0:
        hold()
        for _ in range(30):
            threading.Thread(target=refused, daemon=True).start()
        print("up", flush=True)
        threading.Event().wait(60)
        os._exit(0)
sys.stdin.readline()
"""


# The command stops itself; a child of it goes on sending on a connection that was allowed.
STOPPED = """
import os, signal, socket, sys, time
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
if os.fork() == 0:
    while True:
        try:
            sock.send(b"x")
        except OSError:
            os._exit(0)
        time.sleep(0.02)
print("open", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
time.sleep(60)
"""


@row("X9", "Stopping the command, so that Weir stops with it, while a connection goes on", gates=["REVOCATION"])
def stopped(t):
    """Weir and its command are one job to a terminal. What is open moves no byte while Weir is stopped, and what lost its
    rule meanwhile is cut as soon as Weir goes on."""
    t.allow(OTHER4 + "/32", port=ECHO_PORT, name="lost")
    process = t.start_inside(["python3", "-c", STOPPED, OTHER4, ECHO_PORT], options=["-q"])
    need(process.stdout.readline() == "open\n", "the connection was not made")
    pid = weir_pids(t)[0]

    def state(process):
        try:
            with open(f"/proc/{process}/stat", encoding="ascii") as stat:
                return stat.read().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return "?"
    need(wait_until(lambda: state(pid) == "T", 5), "Weir does not stop with its command")
    t.forget("lost")
    last = [-1]

    def still():
        before, last[0] = last[0], t.lab.packets(OTHER4)
        return before == last[0]
    want(wait_until(still, 2, 0.1), "bytes move although Weir is stopped and the rule is gone")
    os.kill(pid, signal.SIGCONT)
    want(wait_until(lambda: established(t, OTHER4) == 0, 2), "a connection outlives its rule")
    need(wait_until(lambda: any(record["reason"] == "policy_revoked" for record in t.records()), 5), "no record says that it was cut")


@row("X6", "Keeping the supervisor busy, so that a revocation comes late", gates=["REVOCATION", "OWNER_ALLOWANCE"])
def busy(t):
    """Three processes with 19,000 descriptors each (or what the machine lets them have), refused as fast as Weir can: each denial has to find its process. The
    rule of 10 connections is deleted meanwhile."""
    t.allow(OTHER4 + "/32", port=ECHO_PORT, name="lost")
    process = t.start_inside(["python3", "-c", STRAIN, OTHER4, ECHO_PORT, "203.0.113.66", "10", "3"], options=["-q"], stdin=-1)
    for _ in range(3):
        need(process.stdout.readline() == "up\n", "the load did not start")
    need(wait_until(lambda: established(t, OTHER4) == 10, 10), "the connections were not made")
    with t.silent():
        t.forget("lost")
        want(wait_until(lambda: established(t, OTHER4) == 0, 1), f"{established(t, OTHER4)} connections outlive their rule by a second")
    process.kill()
