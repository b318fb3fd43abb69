/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The attacker has the caller's uid and files. A folder is protected by mounting it over itself read-only: a mount
 * point can be neither renamed nor removed. That would be worth nothing if a folder above it could be moved away and
 * another put in its place, so every ancestor that the user could rename is mounted over itself too, from the top down.
 * A symbolic link cannot be mounted on. Where a path goes through one, the link's folder is mounted over itself and
 * takes no new entry, while all that stands in it stays as it was; of a home, or of the folder the command works in,
 * that cannot be asked, and the link stays loose: the caller is told before the start (weir_mounts_loose_link()).
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

#include <dirent.h>
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
#include "base/gate.h"
#include "base/strutil.h"
#include "capture/aliases.h"
#include "capture/masks.h"
#include "capture/mountinfo.h"
#include "capture/veil.h"

#define LINKS_MAX 40 /* as the kernel follows */

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

/* The path of @path from the root; NULL without memory or current folder. */
static char *make_absolute(const char *path)
{
        weir_auto_free char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);

        return path[0] == '/' ? strdup(path) : here ? weir_asprintf("%s/%s", here, path) : NULL;
}

struct walk {
        int (*found)(struct walk *walk, const char *link, const char *folder);
        const char *home;
        char *loose; /* the first link that nothing holds */
        bool file;
        struct weir_err *err;
};

static int walk_links(struct walk *walk, const char *path, unsigned depth);

/* @at is a link in @above: for it, and for what it points to. */
static int walk_link(struct walk *walk, const char *at, const char *above, unsigned depth)
{
        weir_auto_free char *folder = realpath(above, NULL), *next = NULL;
        char target[PATH_MAX];
        ssize_t n = readlink(at, target, sizeof(target) - 1);
        int r;

        if (!folder || n <= 0)
                return fail(walk->err, "follow", at);
        /* /dev/stdin and its kind lead to what is open already; nobody can put another link there. */
        if (weir_starts_with(folder, "/proc/"))
                return 0;
        target[n] = '\0';
        next = target[0] == '/' ? strdup(target) : weir_asprintf("%s/%s", folder, target);
        if (!next)
                return weir_err_set(walk->err, -ENOMEM, "out of memory");
        r = walk->found(walk, at, folder);
        return r < 0 ? r : walk_links(walk, next, depth + 1);
}

/* Calls found() for each symbolic link on the way to @path, and on the way to where these point. */
static int walk_links(struct walk *walk, const char *path, unsigned depth)
{
        char at[PATH_MAX], above[PATH_MAX] = "/";
        int r = 0;

        if (depth > LINKS_MAX || strlen(path) >= sizeof(at))
                return weir_err_set(walk->err, WEIR_EINVALID,
                                    "the path %.80s is too long, or goes through too many links", path);
        for (const char *slash = path; slash && r == 0;) {
                struct stat st;
                size_t n;

                slash = strchr(slash + 1, '/');
                n = slash ? (size_t)(slash - path) : strlen(path);
                memcpy(at, path, n);
                at[n] = '\0';
                if (lstat(at, &st) == 0 && S_ISLNK(st.st_mode))
                        r = walk_link(walk, at, above, depth);
                memcpy(above, at, n + 1);
        }
        return r;
}

/* Whether the links of a folder can be held. Files are named anywhere, also where work goes on: that is not stopped for
 * them. */
static bool can_hold(const struct walk *walk, const char *folder)
{
        return !walk->file && !weir_veil_too_much(folder, walk->home);
}

/* Nothing can be made, renamed or removed in @folder, and what stands in it is as it was. */
static int hold_folder(const char *folder, struct weir_err *err)
{
        const struct dirent *entry;
        DIR *dir = opendir(folder);
        int r = 0;

        if (!dir || bind_over_itself(folder) < 0)
                r = fail(err, "hold", folder);
        while (r == 0 && (entry = readdir(dir))) {
                weir_auto_free char *path = weir_asprintf("%s/%s", folder, entry->d_name);
                struct stat st;

                if (!path)
                        r = weir_err_set(err, -ENOMEM, "out of memory");
                else if (!weir_streq(entry->d_name, ".") && !weir_streq(entry->d_name, "..") && lstat(path, &st) == 0 &&
                         (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) && bind_over_itself(path) < 0)
                        r = fail(err, "keep", path);
        }
        if (dir)
                (void)closedir(dir);
        return r == 0 && make_read_only(folder) < 0 ? fail(err, "hold", folder) : r;
}

static int hold_link(struct walk *walk, const char *link, const char *folder)
{
        const char *name = strrchr(link, '/');
        weir_auto_free char *real = weir_asprintf("%s%s", weir_streq(folder, "/") ? "" : folder, name);
        int r;

        if (!real)
                return weir_err_set(walk->err, -ENOMEM, "out of memory");
        r = pin_ancestors(real, walk->err);
        return r == 0 && could_change(folder) && can_hold(walk, folder) ? hold_folder(folder, walk->err) : r;
}

static int note_loose(struct walk *walk, const char *link, const char *folder)
{
        if (!walk->loose && could_change(folder) && !can_hold(walk, folder))
                walk->loose = strdup(link);
        return 0;
}

static int walk_from(const char *path, int (*found)(struct walk *walk, const char *link, const char *folder),
                     char **ret_loose, struct weir_err *err)
{
        weir_auto_free char *home = weir_veil_home(), *absolute = make_absolute(path);
        struct walk walk = { .found = found, .home = home, .err = err };
        struct stat st;
        int r;

        if (geteuid() == 0)
                return 0; /* root could replace anything, and is told so */
        if (!absolute)
                return weir_err_set(err, -ENOMEM, "out of memory");
        walk.file = stat(absolute, &st) < 0 || !S_ISDIR(st.st_mode);
        r = walk_links(&walk, absolute, 0);
        if (r == 0 && ret_loose)
                *ret_loose = TAKE_PTR(walk.loose);
        free(walk.loose);
        return r;
}

int weir_mounts_loose_link(const char *path, char **ret_link, struct weir_err *err)
{
        char *link = NULL;
        int r = walk_from(path, note_loose, &link, err);

        if (r == 0)
                *ret_link = link;
        return r;
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
        weir_auto_free char *absolute = make_absolute(path), *real = absolute ? realpath(absolute, NULL) : NULL;
        int r;

        if (!real)
                return fail(err, "find", path);
        /* Before the first mount of our own, which would be found too. */
        r = WEIR_GATE(ALIASES) ? weir_aliases_of(real, &aliases) : 0;
        if (r < 0)
                return weir_err_set(err, r, "cannot read /proc/self/mountinfo: %s", strerror(-r));
        r = WEIR_GATE(LOOSE_LINKS) ? walk_from(absolute, hold_link, NULL, err) : 0;
        if (r < 0)
                return r;
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

/*
 * Every mount of a file system by which control groups and pins are changed becomes read-only, wherever it is; @kernel:
 * by which the kernel is told what to do. A workload that can write into the cgroups of its user, which service
 * managers hand over, would leave its own, and kill or freeze what is outside. What is mounted later is a matter of
 * weir_namespaces_forbid_cgroups().
 */
static int hold_mounts(bool kernel, struct weir_err *err)
{
        static const char *const groups[] = { "cgroup", "cgroup2", "bpf", NULL };
        static const char *const all[] = {
                "cgroup", "cgroup2", "bpf", "sysfs", "debugfs", "tracefs", "securityfs", NULL
        };
        struct weir_strv points __attribute__((cleanup(weir_strv_clear))) = { 0 };
        int r = weir_mountinfo_points(kernel ? all : groups, &points);

        if (r < 0)
                return weir_err_set(err, r, "cannot read /proc/self/mountinfo: %s", strerror(-r));
        for (size_t i = 0; i < points.n; i++)
                /* One that another is mounted over cannot be reached by anybody. */
                if (make_read_only(points.items[i]) < 0 && errno != EINVAL && errno != ENOENT)
                        return fail(err, "hold", points.items[i]);
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
        r = mounts->hold_groups || WEIR_GATE(READ_ONLY_CGROUPS) ? hold_mounts(mounts->hold_kernel, err) : 0;
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
