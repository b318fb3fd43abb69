# SPDX-License-Identifier: Apache-2.0
"""Daemons of the host on sockets with a path: each is reached without Weir, and not through it."""
import contextlib
import os
import pathlib
import shutil

from harness import UID, WIKIPEDIA4, LabCase

LISTEN = """
import os, socket, sys
os.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True)
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("up", flush=True)
    while True:
        listener.accept()[0].close()
"""
REACH = """
import socket, sys
for path in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path)
        print("reached", path)
    except OSError as error:
        print("not", path, error.strerror)
"""
# The same once a line came in: the command is running by then.
LATE = "import sys\nprint('ready', flush=True)\nsys.stdin.readline()\n" + REACH


class Daemons(LabCase):
    def setUp(self):
        super().setUp()
        self.allow(WIKIPEDIA4 + "/32")
        self.outside = pathlib.Path(f"/tmp/weir-daemons-{os.getpid()}")
        self.addCleanup(shutil.rmtree, self.outside, ignore_errors=True)

    @contextlib.contextmanager
    def listening(self, *paths):
        daemons = []
        try:
            for path in paths:
                daemons.append(self.lab.start(["python3", "-c", LISTEN, path]))
                self.assertEqual(daemons[-1].stdout.readline(), "up\n", path)
            yield
        finally:
            for daemon in daemons:
                daemon.kill()
                daemon.wait()
            for path in paths:
                pathlib.Path(path).unlink(missing_ok=True)

    @staticmethod
    def reached(stdout):
        return [line.partition(" ")[2] for line in stdout.splitlines() if line.startswith("reached ")]

    def hidden(self, *paths, env=None, options=(), through=None):
        """Not one of them is reached, nor by the paths of @through, although all of them are there."""
        asked = [*paths, *(through or [])]
        ask = ["python3", "-c", REACH, *asked]
        with self.listening(*paths):
            self.assertEqual(self.reached(self.lab.run(ask, env=env).stdout), asked, "without Weir they are not reached either")
            done = self.weir_run(*ask, env=env, options=options)
            self.assertEqual(self.reached(done.stdout), [], done.stdout)
            return done

    def test_sockets_that_variables_name(self):
        """Where their folder is too much to hide, and by way of a link."""
        home, number = self.lab.home, os.getpid()
        os.makedirs(home / "agents", exist_ok=True)
        os.chown(home / "agents", UID, UID)
        if not (home / "linked").is_symlink():
            os.symlink("agents", home / "linked")
        cases = {"SSH_AUTH_SOCK": (f"/tmp/weir-{number}-agent.sock", ""), "DBUS_SESSION_BUS_ADDRESS": (f"/tmp/weir-{number}-dbus", "unix:path="),
                 "DOCKER_HOST": (f"{home}/d.sock", "unix://"), "VSCODE_IPC_HOOK_CLI": (f"{home}/vscode.sock", "")}
        env = {name: prefix + path for name, (path, prefix) in cases.items()}
        self.hidden(*(path for path, _ in cases.values()), env=env)
        self.hidden(f"{home}/agents/a.sock", env={"SSH_AUTH_SOCK": f"{home}/linked/a.sock"}, through=[f"{home}/linked/a.sock"])

    def test_a_runtime_folder_at_home(self):
        runtime = f"{self.lab.home}/.runtime"
        self.hidden(f"{runtime}/bus", f"{runtime}/podman/podman.sock", env={"XDG_RUNTIME_DIR": runtime})

    def test_editors_and_agents(self):
        home = self.lab.home
        self.hidden(f"/tmp/emacs{UID}/server-{os.getpid()}", f"/tmp/nvim.lab-{os.getpid()}/x/nvim.1.0", f"{home}/.1password/agent.sock", f"{home}/.keys/S.gpg-agent",
                    env={"GNUPGHOME": f"{home}/.keys"})

    def test_whatever_listens(self):
        """Of which no name is known; keys and files beside it stay, and can be changed."""
        project = self.lab.user_file("project/file", "text").parent
        own = f"{self.lab.home}/own.sock"
        self.hidden(f"{project}/ipc", own, f"{self.outside}/only", f"/tmp/.weir-{os.getpid()}.s")
        with self.listening(f"{project}/ipc", own):
            script = f"mv {project}/file {project}/renamed && cat {project}/renamed"
            self.assertEqual(self.weir_run("sh", "-c", script).stdout, "text")
            self.assertTrue((project / "renamed").exists(), "what was done in a folder with a socket is lost")
            done = self.weir_run("python3", "-c", REACH, f"{project}/ipc", own, options=["-v", "--unix", own])
            self.assertEqual(self.reached(done.stdout), [own], done.stdout)
            self.assertIn(f"weir: a daemon outside can be reached at {own}\n", done.stderr)
            self.assertNotIn(f"{project}/ipc", done.stderr)

    def test_an_agent_beside_keys(self):
        home = self.lab.home
        self.lab.user_file(".gnupg/pubring.kbx", "a ring")
        self.hidden(f"{home}/.gnupg/S.gpg-agent")
        with self.listening(f"{home}/.gnupg/S.gpg-agent"):
            self.assertEqual(self.weir_run("cat", f"{home}/.gnupg/pubring.kbx").stdout, "a ring")

    def test_without_a_home_in_the_environment(self):
        """The list of listeners is one gate, the names another: a folder that is there before its daemon shows them alone."""
        folder = self.lab.home / ".colima"
        self.late(f"{folder}/docker.sock", env={"HOME": None}, before=folder)

    def test_what_comes_later_in_a_known_place(self):
        home = self.lab.home
        self.lab.user_file(".ssh/config", "")
        self.lab.user_file(".docker/config.json", "{}")
        self.late(f"{home}/.ssh/agent/s.1")
        self.late(f"{home}/.docker/run/docker.sock")
        self.late(f"/tmp/emacs{UID}/server-{os.getpid()}")
        self.late(f"{home}/.runtime/podman/podman.sock", env={"XDG_RUNTIME_DIR": f"{home}/.runtime"}, before=home / ".runtime")
        self.assertEqual(self.weir_run("cat", f"{home}/.docker/config.json").stdout, "{}")

    def late(self, path, env=None, before=None):
        """A daemon that starts while the command runs; @before: a folder that is there already."""
        if before:
            before.mkdir(exist_ok=True)
            os.chown(before, UID, UID)
        answers = {}
        for name, start in (("without", lambda: self.lab.start(["python3", "-c", LATE, path], env=env, stdin=-1)),
                            ("with", lambda: self.lab.start_weir(["run", "--", "python3", "-c", LATE, path], env=env, stdin=-1))):
            command = start()
            self.assertEqual(command.stdout.readline(), "ready\n")
            with self.listening(path):
                answers[name] = self.reached(command.communicate("\n", timeout=60)[0])
        self.assertEqual(answers, {"without": [path], "with": []})
