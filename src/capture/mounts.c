/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The attacker has the caller's uid and files. A folder is protected by mounting it over itself read-only: a mount
 * point can be neither renamed nor removed. That would be worth nothing if a folder above it could be moved away and
 * another put in its place, so every ancestor that the user could rename is mounted over itself too, from the top down.
 * A symbolic link cannot be mounted on; a path that goes through one which the user could replace is refused.
 *
 * The same at each other place at which the file system is mounted (aliases.c).
 *
 * A descriptor that was opened before a mount was laid over it leads below that mount: no folder is inherited
 * (descriptors.c), and the current folder is entered anew at the end.
 *
 * Folders of sockets are hidden behind empty ones. Folders, never files: a mount on a file is gone when the host
 * replaces the file.
 */
#include "capture/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/gate.h"
#include "base/strutil.h"
#include "capture/aliases.h"
#include "capture/masks.h"

static int fail(struct weir_err *err, const char *what, const char *path)
{
        int error = errno;

        return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot %s %s in the sandbox: %s", what, path, strerror(error));
}

static int bind_over_itself(const char *path)
{
        return mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

/* A mount of the host keeps the flags that it came with, or the kernel refuses the change. */
static unsigned long kept_flags(const char *path)
{
        static const struct {
                unsigned long from, to;
        } flags[] = { { ST_NOSUID, MS_NOSUID },   { ST_NODEV, MS_NODEV },           { ST_NOEXEC, MS_NOEXEC },
                      { ST_NOATIME, MS_NOATIME }, { ST_NODIRATIME, MS_NODIRATIME }, { ST_RELATIME, MS_RELATIME } };
        struct statvfs st;
        unsigned long kept = 0;

        if (statvfs(path, &st) < 0)
                return 0;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(flags); i++)
                if (st.f_flag & flags[i].from)
                        kept |= flags[i].to;
        return kept;
}

static int make_read_only(const char *path)
{
        return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | kept_flags(path), NULL) < 0 ? -errno : 0;
}

/* Whether this user could rename, remove or replace what stands in @folder: may write, or could allow itself to. */
static bool could_change(const char *folder)
{
        struct stat st;

        return access(folder, W_OK) == 0 || (stat(folder, &st) == 0 && st.st_uid == geteuid());
}

/* Mounts each ancestor of @path that could be renamed over itself, the topmost first. @path is real: no links in it. */
static int pin_ancestors(const char *path, struct weir_err *err)
{
        char at[PATH_MAX], above[PATH_MAX] = "/";

        if (strlen(path) >= sizeof(at))
                return weir_err_set(err, WEIR_EINVALID, "the path %.80s... is too long", path);
        for (const char *slash = strchr(path + 1, '/'); slash && WEIR_GATE(HELD_ANCESTORS);
             slash = strchr(slash + 1, '/')) {
                memcpy(at, path, (size_t)(slash - path));
                at[slash - path] = '\0';
                if (could_change(above) && bind_over_itself(at) < 0)
                        return fail(err, "hold", at);
                memcpy(above, at, (size_t)(slash - path) + 1);
        }
        return 0;
}

/* Follows @path link by link; a link that the user could replace is a way to another policy in the next run. */
static int refuse_loose_links(const char *path, struct weir_err *err)
{
        char at[PATH_MAX], above[PATH_MAX] = "/";

        if (geteuid() == 0 || strlen(path) >= sizeof(at) || !WEIR_GATE(LOOSE_LINKS))
                return 0; /* root could replace anything, and is told so */
        for (const char *slash = path; slash;) {
                struct stat st;
                size_t n;

                slash = strchr(slash + 1, '/');
                n = slash ? (size_t)(slash - path) : strlen(path);
                memcpy(at, path, n);
                at[n] = '\0';
                if (lstat(at, &st) == 0 && S_ISLNK(st.st_mode) && could_change(above))
                        return weir_err_set(err, WEIR_EINVALID,
                                            "%s goes through the symbolic link %s, which the command could replace; "
                                            "name the real path",
                                            path, at);
                memcpy(above, at, n + 1);
        }
        return 0;
}

/* @real has no links in it. */
static int hold(const char *real, struct weir_err *err)
{
        struct stat st;
        int r;

        r = pin_ancestors(real, err);
        if (r < 0)
                return r;
        /* On a read-only mount a pipe can be written all the same, so it is covered. */
        if (lstat(real, &st) == 0 && S_ISFIFO(st.st_mode))
                return mount("/dev/null", real, NULL, MS_BIND, NULL) < 0 ? fail(err, "protect", real) : 0;
        if (bind_over_itself(real) < 0 || (WEIR_GATE(READ_ONLY_POLICY) && make_read_only(real) < 0))
                return fail(err, "protect", real);
        return 0;
}

static int protect(const char *path, struct weir_err *err)
{
        struct weir_strv aliases __attribute__((cleanup(weir_strv_clear))) = { 0 };
        weir_auto_free char *absolute = NULL, *real = NULL, *here = NULL;
        int r;

        if (path[0] != '/') {
                here = getcwd(NULL, 0);
                absolute = here ? weir_asprintf("%s/%s", here, path) : NULL;
        } else
                absolute = strdup(path);
        real = absolute ? realpath(absolute, NULL) : NULL;
        if (!real)
                return fail(err, "find", path);
        r = refuse_loose_links(absolute, err);
        if (r < 0)
                return r;
        /* Before the first mount of our own, which would be found too. */
        r = WEIR_GATE(ALIASES) ? weir_aliases_of(real, &aliases) : 0;
        if (r < 0)
                return weir_err_set(err, r, "cannot read /proc/self/mountinfo: %s", strerror(-r));
        r = hold(real, err);
        for (size_t i = 0; i < aliases.n && r == 0; i++)
                r = hold(aliases.items[i], err);
        return r;
}

static int protect_all(const char *const *paths, struct weir_err *err)
{
        int r = 0;

        for (; paths && *paths && r == 0; paths++)
                r = protect(*paths, err);
        return r;
}

static int mount_proc(struct weir_err *err)
{
        if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0)
                return 0;
        (void)weir_err_set(err, WEIR_ELIMIT,
                           "cannot mount /proc in the sandbox: %s; in a container parts of it are masked",
                           strerror(errno));
        return WEIR_ELIMIT;
}

/* \040 and the like, as mountinfo writes what would end a word. */
static void undo_escapes(char *text)
{
        char *to = text;

        for (const char *at = text; *at; at++) {
                if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] && at[3]) {
                        *to++ = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
                        at += 3;
                } else
                        *to++ = *at;
        }
        *to = '\0';
}

/* Every mount of a file system by which the kernel is told what to do, wherever it is. */
static int hold_mounts(bool kernel, struct weir_err *err)
{
        /* The first three of these in any case. */
        static const char *const held[] = { "cgroup", "cgroup2", "bpf", "sysfs", "debugfs", "tracefs", "securityfs" };
        const size_t n_held = kernel ? WEIR_ARRAY_SIZE(held) : 3;
        weir_auto_free char *text = NULL;
        char *rest, *line;
        size_t n;
        int r = weir_file_slurp(AT_FDCWD, "/proc/self/mountinfo", 4 * 1024 * 1024, &text, &n);

        if (r < 0)
                return weir_err_set(err, r, "cannot read /proc/self/mountinfo: %s", strerror(-r));
        for (rest = text; (line = strsep(&rest, "\n"));) {
                char point[PATH_MAX], type[32];
                const char *dash = strstr(line, " - ");

                if (!dash || sscanf(line, "%*s %*s %*s %*s %4095s", point) != 1 || sscanf(dash + 3, "%31s", type) != 1)
                        continue;
                undo_escapes(point);
                for (size_t i = 0; i < n_held; i++)
                        /* One that another is mounted over cannot be reached by anybody. */
                        if (weir_streq(type, held[i]) && make_read_only(point) < 0 && errno != EINVAL &&
                            errno != ENOENT)
                                return fail(err, "hold", point);
        }
        return 0;
}

/*
 * Root owns these files, with capabilities or without. A workload that could write them would leave its cgroup, or have
 * the kernel start a program outside of it (core_pattern, hotplug).
 */
static int hold_kernel(struct weir_err *err)
{
        static const char *const held[] = { "/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus" };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(held); i++) {
                if (access(held[i], F_OK) < 0)
                        continue;
                if (bind_over_itself(held[i]) < 0 || make_read_only(held[i]) < 0)
                        return fail(err, "hold", held[i]);
        }
        return 0;
}

/* Below /proc, over which the sandbox's own is mounted next: there is no path to it. */
static int hide(int mount, struct weir_err *err)
{
        if (syscall(SYS_move_mount, mount, "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) < 0)
                return fail(err, "hold the gates below", "/proc");
        return 0;
}

int weir_mounts_setup(const struct weir_mounts *mounts, struct weir_err *err)
{
        const struct weir_masks masks = { .unix_paths = mounts->unix_paths, .listening = mounts->listening };
        weir_auto_free char *here = getcwd(NULL, 0);
        int r;

        /* Nothing that is mounted here reaches the host, and nothing that the host mounts later comes in. */
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return fail(err, "detach the mounts below", "/");
        /* By the host's /proc, and before anything is mounted there: what is held is found by its path. */
        r = mounts->hold_groups ? hold_mounts(mounts->hold_kernel, err) : 0;
        if (r < 0)
                return r;
        if (mounts->own_pids) {
                r = mounts->hold >= 0 ? hide(mounts->hold, err) : 0;
                if (r == 0)
                        r = mount_proc(err);
                if (r < 0)
                        return r;
        }
        if (mounts->hold_kernel)
                r = hold_kernel(err);
        if (r == 0)
                r = protect_all(mounts->protect, err);
        if (r == 0)
                r = weir_masks_setup(&masks, err);
        if (r < 0)
                return r;
        if (!here || chdir(here) < 0) {
                /* A folder that is gone or masked: as a shell would say it. */
                if (chdir("/") < 0)
                        return fail(err, "enter", "/");
        }
        return 0;
}
