/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/namespaces.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/gate.h"
#include "base/strutil.h"

/* A number in a file of /proc/sys; -1 if there is none. */
static long setting(const char *path)
{
        weir_auto_free char *text = NULL;
        uint64_t value;
        size_t n;

        if (weir_file_slurp(AT_FDCWD, path, 64, &text, &n) < 0)
                return -1;
        text[strcspn(text, "\n")] = '\0';
        return weir_parse_uint(text, INT32_MAX, &value) == 0 ? (long)value : -1;
}

/* Ubuntu lets anybody make a user namespace, and takes what it is good for away from programs without a profile. */
static bool apparmor_restricts(void)
{
        return geteuid() != 0 && setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1;
}

static int say_apparmor(const char *what, struct weir_err *err)
{
        return weir_err_set(err, WEIR_EUNSUPPORTED,
                            "AppArmor restricts user namespaces on this machine (%s): as root, load Weir's profile, "
                            "apparmor_parser -r /etc/apparmor.d/weir, or sysctl "
                            "kernel.apparmor_restrict_unprivileged_userns=0",
                            what);
}

int weir_namespaces_explain(int r, struct weir_err *err)
{
        char what[sizeof(err->text) / 2];

        if ((r != -EPERM && r != -EACCES && r != WEIR_EUNSUPPORTED) || !apparmor_restricts())
                return r;
        (void)snprintf(what, sizeof(what), "%.*s", (int)sizeof(what) - 1, err->text);
        return say_apparmor(what, err);
}

/* Which of the known locks is on the door. */
static int forbidden(int error, struct weir_err *err)
{
        if (setting("/proc/sys/kernel/unprivileged_userns_clone") == 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "user namespaces are forbidden on this machine: as root, sysctl "
                                    "kernel.unprivileged_userns_clone=1");
        if (setting("/proc/sys/user/max_user_namespaces") == 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "user namespaces are forbidden on this machine: as root, sysctl "
                                    "user.max_user_namespaces=10000");
        if (error == ENOSPC || error == EUSERS)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "no more namespaces can be made: a limit of /proc/sys/user/max_*_namespaces or of "
                                    "nesting is reached");
        if (error == EINVAL)
                return weir_err_set(
                        err, WEIR_EUNSUPPORTED,
                        "this kernel lacks user, mount, PID or network namespaces (CONFIG_USER_NS, CONFIG_NET_NS)");
        if ((error == EPERM || error == EACCES) && apparmor_restricts())
                return say_apparmor(strerror(error), err);
        if (error == EPERM)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "user namespaces are refused: in a container its seccomp profile does that (docker "
                                    "run --security-opt "
                                    "seccomp=PROFILE with clone allowed); in a chroot they are never allowed");
        return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot make namespaces: %s", strerror(error));
}

/* As root: no user namespace stands in the way, and its owner's capabilities are dropped later. */
static pid_t clone_into(int cgroup, bool with_pids, int *ret_pidfd, struct weir_err *err)
{
        struct clone_args args = {
                .flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_PIDFD | CLONE_INTO_CGROUP | (with_pids ? CLONE_NEWPID : 0),
                .pidfd = (uint64_t)(uintptr_t)ret_pidfd,
                .exit_signal = SIGCHLD,
                .cgroup = (uint64_t)cgroup,
        };
        pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

        return pid < 0 ? weir_err_set(err, WEIR_EUNSUPPORTED, "cannot start a process in the cgroup: %s%s",
                                      strerror(errno), errno == EPERM ? " (Weir needs CAP_SYS_ADMIN)" : "") :
                         pid;
}

pid_t weir_namespaces_clone(bool with_pids, int cgroup, int *ret_pidfd, struct weir_err *err)
{
        struct clone_args args = {
                .flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_PIDFD | (WEIR_GATE(NETWORK_NAMESPACE) ? CLONE_NEWNET : 0) |
                         (WEIR_GATE(IPC_NAMESPACE) ? CLONE_NEWIPC : 0) | (with_pids ? CLONE_NEWPID : 0),
                .pidfd = (uint64_t)(uintptr_t)ret_pidfd,
                .exit_signal = SIGCHLD,
        };
        pid_t pid;

        if (cgroup >= 0)
                return clone_into(cgroup, with_pids, ret_pidfd, err);
        pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
        /* Docker's old profiles answer clone3 with ENOSYS to have clone(2) tried, whose flags they can see. */
        if (pid < 0 && errno == ENOSYS)
                pid = (pid_t)syscall(SYS_clone, (unsigned long)args.flags | SIGCHLD, NULL, ret_pidfd, NULL, 0UL);
        return pid < 0 ? forbidden(errno, err) : pid;
}

static int write_map(pid_t pid, const char *file, const char *text)
{
        char path[64];
        weir_auto_close int fd = -1;

        (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        return fd < 0 ? -errno : weir_fd_write_all(fd, text, strlen(text));
}

int weir_namespaces_map(pid_t pid, struct weir_err *err)
{
        char text[64];
        int r;

        r = write_map(pid, "setgroups", "deny");
        if (r == 0) {
                (void)snprintf(text, sizeof(text), "%u %u 1\n", geteuid(), geteuid());
                r = write_map(pid, "uid_map", text);
        }
        if (r == 0) {
                (void)snprintf(text, sizeof(text), "%u %u 1\n", getegid(), getegid());
                r = write_map(pid, "gid_map", text);
        }
        return r < 0 ? weir_err_set(err, WEIR_EUNSUPPORTED, "cannot write the id maps of the sandbox: %s",
                                    strerror(-r)) :
                       0;
}

/* PROC_USER_INIT_INO of the kernel, which is part of its interface by now: lsns(8) and others compare with it. */
#define HOSTS_USERS 0xEFFFFFFDU

int weir_namespaces_forbid_cgroups(struct weir_err *err)
{
        weir_auto_close int fd = open("/proc/sys/user/max_cgroup_namespaces", O_WRONLY | O_CLOEXEC);
        struct stat st;

        /* The setting is that of the user namespace one is in, and the host's is not to be touched. */
        if (stat("/proc/self/ns/user", &st) == 0 && st.st_ino == HOSTS_USERS)
                return weir_err_set(err, -EINVAL, "the sandbox has no user namespace of its own");
        /* A kernel without cgroups; or a container whose settings are read-only, where they are not ours to make. */
        if (fd < 0 && (errno == ENOENT || errno == EROFS))
                return 0;
        if (fd < 0 || write(fd, "0", 1) < 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot forbid cgroup namespaces in the sandbox: %s",
                                    strerror(errno));
        return 0;
}
