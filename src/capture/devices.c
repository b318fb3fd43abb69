/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * What stands in /dev goes out too: the socket of a syslog that forwards, the ends of virtual machines, modems, cards;
 * and the other terminals of the same user, which can be read and written by their names. So /dev is a tmpfs with what
 * programs need to run, and graphics and compute; all else is left out, whatever is plugged in later. Terminals and
 * shared memory are instances of their own.
 *
 * The caller's terminal keeps its name, /dev/pts/N, which ttyname(3), $SSH_TTY and $GPG_TTY rely on: it is mounted on
 * the terminal of that number of the new instance, which must be there for that and is held for as long as the sandbox
 * is. A number that is too high for that becomes /dev/console.
 *
 * Not while nft runs, which opens /dev/stdin.
 */
#include "capture/devices.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/gate.h"
#include "base/strutil.h"

#define KEPT_MAX 64
#define DEV "/dev/"
#define PTS "/dev/pts/"
/* Terminals are numbered from 0 in each instance, so as many are opened for a moment. */
#define TERMINALS_MAX 256

/* Nodes and folders below /dev that stay. Virtual machines and tunnels inside have the sandbox's network and no other.
 */
static const char *const patterns[] = {
        "null",    "zero", "full", "random", "urandom", "tty", "fuse",  "kvm",
        "net/tun", "dri",  "kfd",  "accel",  "nvidia*", "dxg", "mali*", "davinci*",
};

static const struct {
        const char *name, *target;
} links[] = {
        { "fd", "/proc/self/fd" },       { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
        { "stderr", "/proc/self/fd/2" }, { "ptmx", "pts/ptmx" },
};

/* What stays: its name below the /dev that is covered, and where it goes. */
struct kept {
        char name[128], path[128];
};

static int fail(struct weir_err *err, const char *what, const char *path)
{
        int error = errno;

        return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot %s %s in the sandbox: %s", what, path, strerror(error));
}

static size_t keep(struct kept *kept, size_t n, const char *path)
{
        const char *name = path + strlen(DEV);

        if (n == KEPT_MAX || strlen(path) >= sizeof(kept[n].path) || access(path, F_OK) < 0)
                return n;
        (void)snprintf(kept[n].name, sizeof(kept[n].name), "%s", name);
        (void)snprintf(kept[n].path, sizeof(kept[n].path), "%s", path);
        return n + 1;
}

static size_t keep_patterns(struct kept *kept, size_t n)
{
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(patterns); i++) {
                char pattern[64];
                glob_t found = { 0 };

                (void)snprintf(pattern, sizeof(pattern), "/dev/%s", patterns[i]);
                if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0)
                        for (size_t k = 0; k < found.gl_pathc; k++)
                                n = keep(kept, n, found.gl_pathv[k]);
                globfree(&found);
        }
        return n;
}

/* The terminal that the command has as a standard stream. */
static size_t keep_terminal(struct kept *kept, size_t n)
{
        for (int fd = 0; fd <= STDERR_FILENO; fd++) {
                char path[PATH_MAX];
                struct stat here, there;

                if (isatty(fd) && ttyname_r(fd, path, sizeof(path)) == 0 && fstat(fd, &here) == 0 &&
                    stat(path, &there) == 0 && here.st_rdev == there.st_rdev && weir_starts_with(path, DEV))
                        return keep(kept, n, path);
        }
        return n;
}

/* Makes the folders between /dev and @path. */
static void make_above(const char *path)
{
        char at[sizeof(((struct kept *)0)->path)];

        for (const char *slash = strchr(path + strlen("/dev/"), '/'); slash; slash = strchr(slash + 1, '/')) {
                memcpy(at, path, (size_t)(slash - path));
                at[slash - path] = '\0';
                (void)mkdir(at, 0755);
        }
}

/* Opens terminals of the new instance up to that of @path and keeps its other end open, for @path to be there. -1 if
 * there would be too many. */
static int hold_number(const char *path)
{
        int fds[TERMINALS_MAX], held = -1;
        uint64_t number;
        size_t n = 0;

        if (weir_parse_uint(path + strlen(PTS), TERMINALS_MAX - 1, &number) < 0)
                return -1;
        while (n <= number && (fds[n] = open(PTS "ptmx", O_RDWR | O_CLOEXEC | O_NOCTTY)) >= 0)
                n++;
        if (n > number)
                held = fds[--n];
        while (n > 0)
                (void)close(fds[--n]);
        return held;
}

/* @old: the /dev that is covered. A descriptor for each node would be more than a low limit allows. */
static int bring_back(int old, const struct kept *kept, struct weir_err *err)
{
        char from[sizeof(kept->name) + 32];
        struct stat st;
        int fd;

        make_above(kept->path);
        (void)snprintf(from, sizeof(from), "/proc/self/fd/%d/%s", old, kept->name);
        if (stat(from, &st) < 0)
                return fail(err, "keep", kept->path);
        if (S_ISDIR(st.st_mode)) {
                if (mkdir(kept->path, 0755) < 0 && errno != EEXIST)
                        return fail(err, "keep", kept->path);
        } else if (access(kept->path, F_OK) < 0) {
                fd = open(kept->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
                if (fd < 0)
                        return fail(err, "keep", kept->path);
                (void)close(fd);
        }
        return mount(from, kept->path, NULL, MS_BIND | MS_REC, NULL) < 0 ? fail(err, "keep", kept->path) : 0;
}

static int make_own(struct weir_err *err)
{
        if (mkdir("/dev/pts", 0755) < 0 ||
            mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620") < 0)
                return fail(err, "mount", "/dev/pts");
        /* As large as the host's: half of the memory. */
        if (mkdir("/dev/shm", 01777) < 0 || mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777") < 0)
                return fail(err, "mount", "/dev/shm");
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(links); i++) {
                char path[32];

                (void)snprintf(path, sizeof(path), "/dev/%s", links[i].name);
                if (symlink(links[i].target, path) < 0)
                        return fail(err, "make", path);
        }
        return 0;
}

/* Nodes first, and the terminal once there is an instance for it. */
static int bring_all_back(int old, struct kept *kept, size_t n, int *ret_held, struct weir_err *err)
{
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++)
                if (!weir_starts_with(kept[i].path, PTS))
                        r = bring_back(old, &kept[i], err);
        if (r == 0)
                r = make_own(err);
        for (size_t i = 0; i < n && r == 0; i++)
                if (weir_starts_with(kept[i].path, PTS)) {
                        *ret_held = hold_number(kept[i].path);
                        if (*ret_held < 0)
                                (void)snprintf(kept[i].path, sizeof(kept[i].path), "/dev/console");
                        r = bring_back(old, &kept[i], err);
                }
        return r;
}

int weir_devices_setup(const char *const *unix_paths, int *ret_held, struct weir_err *err)
{
        weir_auto_close int old = -1;
        struct kept kept[KEPT_MAX];
        size_t n = 0;

        if (!WEIR_GATE(PRIVATE_DEVICES))
                return 0;
        n = keep_patterns(kept, n);
        n = keep_terminal(kept, n);
        for (; unix_paths && *unix_paths; unix_paths++)
                if (weir_starts_with(*unix_paths, DEV))
                        n = keep(kept, n, *unix_paths);
        old = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (old < 0 || mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=1m,nr_inodes=4096") < 0)
                return fail(err, "cover", "/dev");
        return bring_all_back(old, kept, n, ret_held, err);
}
