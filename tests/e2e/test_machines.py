# SPDX-License-Identifier: Apache-2.0
"""Machines that lack or refuse something: one clear line, the right exit status, nothing lost; or the same without it."""
import json
import shutil
import subprocess

from harness import CODE, DENIED6, OTHER4, WIKIPEDIA4, LabCase, external_service, wait_until

NAMESPACES = 0x7E020000  # CLONE_NEW*: what Docker's default profile looks for in clone(2)
DOCKER = f"clone3=ENOSYS,clone:{NAMESPACES:#x}=EPERM,unshare=EPERM,setns=EPERM,mount=EPERM,umount2=EPERM"


class Machines(LabCase):
    def setUp(self):
        super().setUp()
        shutil.copy(__file__.replace("e2e/test_machines.py", "lab/refuse.py"), self.lab.folder / "refuse.py")

    def on(self, *argv, refuse=None, root_script=None, status=0, **options):
        """Runs as the user on a machine changed by a script of root's (in a mount namespace) and by refused calls."""
        script = (root_script or "true") + ' && exec setpriv --reuid 1234 --regid 1234 --clear-groups "$@"'
        refusing = ["python3", self.lab.folder / "refuse.py", refuse] if refuse else []
        env = ["env", "-i", "-C", self.lab.home, *self.lab.environment()]
        done = self.lab.run(["unshare", "-m", "sh", "-c", script, "sh", *env, *refusing, *argv], as_root=True, **options)
        if status is not None:
            self.assertEqual(done.returncode, status, f"{argv}\n{done.stdout}\n{done.stderr}")
        return done

    def refused(self, done, *words):
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("Error: "), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)
        self.assertEqual(done.stdout, "")

    def test_dockers_default_seccomp_profile(self):
        self.assertEqual(self.on("unshare", "-U", "true", refuse=DOCKER, status=1).stdout, "")
        done = self.on(self.lab.binary, "run", "--", "echo", "started", refuse=DOCKER, status=125)
        self.refused(done, "user namespaces are refused", "docker run --security-opt seccomp=")

    def test_an_old_profile_that_does_not_know_clone3(self):
        """ENOSYS has programs try clone(2), whose flags a filter can see; where those are allowed all is well."""
        self.allow(WIKIPEDIA4 + "/32")
        done = self.on(self.lab.binary, "run", "--", *CODE, f"https://{WIKIPEDIA4}", refuse="clone3=ENOSYS")
        self.assertEqual(done.stdout, "200", done.stderr)

    def test_apparmor_restricts_user_namespaces(self):
        """Ubuntu: the namespace is made, and nothing can be done in it. The sysctl is faked, for this kernel has none."""
        fake = ("mount -t tmpfs none /proc/sys/kernel && echo 1 >/proc/sys/kernel/apparmor_restrict_unprivileged_userns && "
                "chmod 644 /proc/sys/kernel/*")
        for refuse in ("mount=EACCES", f"clone3=EPERM,clone:{NAMESPACES:#x}=EPERM"):
            with self.subTest(refuse):
                done = self.on(self.lab.binary, "run", "--", "echo", "started", refuse=refuse, root_script=fake, status=125)
                self.refused(done, "AppArmor", "apparmor_parser -r /etc/apparmor.d/weir",
                             "sysctl kernel.apparmor_restrict_unprivileged_userns=0")

    def test_a_kernel_without_landlock_scopes(self):
        """A signal to the process group reaches Weir, which -v says; what ends is the command's own network."""
        weir, refuse = [self.lab.binary, "run"], "landlock_create_ruleset=ENOSYS"
        said = "this kernel has no Landlock scopes"
        self.assertNotIn(said, self.on(*weir, "-v", "--", "true").stderr)
        self.assertIn(said, self.on(*weir, "-v", "--", "true", refuse=refuse).stderr)
        kill = ["sh", "-c", "trap '' TERM; kill -TERM 0; echo still here; kill -KILL 0"]
        ended = self.on(*weir, "--", *kill, status=None, start_new_session=True)
        self.assertEqual((ended.stdout, ended.returncode), ("still here\n", 137), ended.stderr)
        ended = self.on(*weir, "--", *kill, status=None, start_new_session=True, refuse=refuse)
        self.assertEqual(ended.returncode, -9, "without scopes nothing reaches Weir either: " + ended.stdout)

    def test_a_masked_proc(self):
        """Containers mask parts of /proc, and then none can be mounted: Weir goes on without a PID namespace."""
        masked = "mount --bind /dev/null /proc/version"
        self.assertNotEqual(self.on("unshare", "-Urpfm", "mount", "-t", "proc", "proc", "/proc", root_script=masked, status=32).stderr, "",
                            "the control: /proc can be mounted")
        self.allow(WIKIPEDIA4 + "/32")
        weir = [self.lab.binary, "run"]
        self.assertEqual(self.on(*weir, "--", *CODE, f"https://{WIKIPEDIA4}", root_script=masked).stdout, "200")
        done = self.on(*weir, "-v", "--", *CODE, f"https://{OTHER4}", root_script=masked, status=None)
        self.assertIn("going on without a PID namespace", done.stderr)
        self.assert_denied(done.stderr, rf"tcp {OTHER4}:443 \(.*\) curl\[\d+\]")

    def test_without_a_pid_namespace_nothing_outlives_the_command(self):
        masked = "mount --bind /dev/null /proc/version"
        script = "setsid bash -c 'setsid sleep 3142 >/dev/null 2>&1 </dev/null & exec sleep 3142' >/dev/null 2>&1 </dev/null & echo left"
        self.assertEqual(self.on(self.lab.binary, "run", "--", "bash", "-c", script, root_script=masked).stdout, "left\n")
        self.assertTrue(wait_until(lambda: "sleep 3142" not in self.commands(), 5), "a process outlived its run")

    def test_without_a_pid_namespace_processes_outside_stay_out_of_reach(self):
        masked = "mount --bind /dev/null /proc/version"
        outside = self.lab.start(["sleep", "3143"])
        self.assertTrue(wait_until(lambda: "sleep 3143" in self.commands(), 5))
        tries = (f"kill -9 {outside.pid}; for f in root/ mem environ maps fd/0 ns/net; do "
                 f"head -c1 /proc/{outside.pid}/$f >/dev/null 2>&1 && echo $f read; readlink /proc/{outside.pid}/${{f%/}}; done; true")
        done = self.on(self.lab.binary, "run", "--", "bash", "-c", tries, root_script=masked)
        self.assertEqual(done.stdout, "")
        self.assertIsNone(outside.poll(), "the command killed a process outside")

    @staticmethod
    def commands():
        return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout

    def test_a_kernel_without_parts_of_nftables(self):
        """What nft says on such a kernel, said by a stand-in for it."""
        lacking = ("printf '#!/bin/sh\\ncat >/dev/null\\necho \"internal:0:0-0: Error: Could not process rule: No such file or directory\" >&2\\nexit 1\\n' "
                   f"> {self.lab.folder}/nft && chmod 755 {self.lab.folder}/nft && mount --bind {self.lab.folder}/nft $(readlink -f /usr/sbin/nft)")
        done = self.on(self.lab.binary, "run", "--", "echo", "started", root_script=lacking, status=125)
        self.refused(done, "nft cannot load Weir's rules", "modprobe", "No such file or directory")

    def test_a_kernel_without_tproxy(self):
        """A stand-in refuses that rule and hands all else on to nft: then connections are redirected, and tracked."""
        told = self.lab.user_file("told", "")
        stand_in = self.lab.folder / "nft"
        stand_in.write_text("#!/bin/bash\nrules=$(cat)\nif [[ $rules == *tproxy* ]]; then echo no >>" + str(told) + "; "
                            "echo 'Error: Could not process rule: No such file or directory' >&2; exit 1; fi\n"
                            f"exec {self.lab.folder}/nft.real \"$@\" <<<\"$rules\"\n")
        stand_in.chmod(0o755)
        lacking = f"cp /usr/sbin/nft {self.lab.folder}/nft.real && mount --bind {stand_in} $(readlink -f /usr/sbin/nft)"
        self.allow(WIKIPEDIA4 + "/32")
        script = (f"curl -s -o /dev/null -w '%{{http_code}} ' --max-time 20 https://www.wikipedia.org;"
                  f"curl -s --max-time 5 https://{OTHER4}; curl -s --max-time 5 https://[{DENIED6}]; dig +tcp +short www.wikipedia.org;"
                  "echo x >/dev/udp/192.0.2.1/99; true")
        done = self.on(self.lab.binary, "run", "-v", "--", "bash", "-c", script, root_script=lacking)
        self.assertEqual(done.stdout.split(), ["200", WIKIPEDIA4], done.stderr)
        for denied in (rf"tcp {OTHER4}:443 \(.*\) curl\[\d+\]", rf"tcp \[{DENIED6}\]:443 \(.*\) curl\[\d+\]", "udp 192.0.2.1:99"):
            self.assert_denied(done.stderr, denied)
        self.assertEqual(told.read_text(), "no\n", "the control: the rule was tried, and refused")

    def test_an_nft_of_the_users_own_is_not_run(self):
        """A workload could have left it in a folder of PATH, for the next run to start outside its boundary."""
        ran = self.lab.home / "ran"
        self.lab.user_file("bin/nft", f"#!/bin/sh\ntouch {ran}\nexec /usr/sbin/nft \"$@\"\n", 0o755)
        done = self.on("env", f"PATH={self.lab.home}/bin:/usr/bin:/bin", self.lab.binary, "run", "--", "echo", "started",
                       root_script="mount -t tmpfs none /usr/sbin", status=125)
        self.refused(done, "nft is missing")
        self.assertFalse(ran.exists())

    def test_a_full_disk(self):
        """The write fails in one line, what was there stays, and a rule can still be taken back."""
        full = ('store=$1; shift; mount -t tmpfs -o size=64k,mode=755,uid=1234,gid=1234 none "$store" && cp -a "$store.kept/." "$store/" && '
                'chown -R 1234:1234 "$store" && { dd if=/dev/zero of="$store/filler" bs=4k 2>/dev/null; true; }')
        self.allow(WIKIPEDIA4 + "/32")
        store = self.lab.home / "store"
        shutil.copytree(store, self.lab.home / "store.kept", dirs_exist_ok=True)
        self.addCleanup(shutil.rmtree, self.lab.home / "store.kept")
        script = full + (' && setpriv --reuid 1234 --regid 1234 --clear-groups "$@" create -f -; echo "status $?"; '
                         'setpriv --reuid 1234 --regid 1234 --clear-groups "$@" get externalservice -o name; '
                         'setpriv --reuid 1234 --regid 1234 --clear-groups "$@" delete externalservice allowed; '
                         'setpriv --reuid 1234 --regid 1234 --clear-groups "$@" get externalservice')
        env = ["env", "-i", "-C", self.lab.home, *self.lab.environment()]
        done = self.lab.run(["unshare", "-m", "sh", "-c", script, "sh", store, *env, self.lab.binary], as_root=True,
                            input=external_service("more", [f"10.{i}.{j}.0/24" for i in range(8) for j in range(250)]))
        self.assertEqual(done.stdout, "status 1\nexternalservice.networking.istio.io/allowed\n"
                         "Deleted config: externalservice allowed\nNo resources found.\n", done.stderr)
        self.refused(type(done)(done.args, 0, "", done.stderr), "no space left on the file system", "the store is as it was")

    def test_few_descriptors(self):
        """Below what Weir needs itself it says so; the command keeps its limit."""
        self.allow(WIKIPEDIA4 + "/32")
        limited = ["bash", "-c", 'ulimit -n 32; exec "$@"', "bash", self.lab.binary, "run", "--"]
        done = self.on(*limited, "bash", "-c", "ulimit -n; " + " ".join(map(repr, CODE)) + f" https://{WIKIPEDIA4}")
        self.assertEqual(done.stdout, "32\n200", done.stderr)
        done = self.on("bash", "-c", 'ulimit -n 8; exec "$@"', "bash", self.lab.binary, "run", "--", "echo", "started", status=125)
        self.refused(done, "oo many open files")

    def test_a_log_on_a_full_device_holds_nothing_up(self):
        self.allow(WIKIPEDIA4 + "/32")
        done = self.on(self.lab.binary, "run", "--log", "/dev/full", "--stats", "--", *CODE, f"https://{WIKIPEDIA4}")
        self.assertEqual(done.stdout, "200", done.stderr)
        self.assertRegex(done.stderr, r"(?i)drop")

    def test_stats_count_what_happened(self):
        self.allow(WIKIPEDIA4 + "/32")
        log = self.lab.home / "flows.json"
        done = self.on(self.lab.binary, "run", "--log", log, "--stats", "-q", "--", "bash", "-c",
                       " ".join(map(repr, CODE)) + f" https://{WIKIPEDIA4}; " + " ".join(map(repr, CODE)) + f" https://{OTHER4}; true")
        records = [json.loads(line) for line in log.read_text().splitlines()]
        self.assertEqual(len(records), 2, records)
        self.assertRegex(done.stderr, r"1 allowed|allowed 1|allow.*1", done.stderr)
