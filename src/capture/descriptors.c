/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/gate.h"
#include "base/strutil.h"

#define CLOSE_RANGE_CLOEXEC_FLAG (1U << 2)

static const char *const stream_names[] = { "standard input", "standard output", "standard error" };

/* Whether a socket of AF_UNIX speaks to the peer it has and can be turned to no other: names without a path belong to
 * the network namespace in which the socket was made, the host's. */
static bool is_settled(int fd)
{
        struct sockaddr_storage sa;
        socklen_t length = sizeof(sa), size = sizeof(int);
        int type = SOCK_DGRAM;

        return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type != SOCK_DGRAM &&
               getpeername(fd, (struct sockaddr *)&sa, &length) == 0;
}

/* A socket of the host's network outlives every namespace: only AF_UNIX, as sshd and service managers give, may stay.
 */
static int check_stream(int fd, struct weir_err *err)
{
        struct stat st;
        int domain = -1;
        socklen_t length = sizeof(domain);

        if (fstat(fd, &st) < 0)
                return errno == EBADF ? 0 : -errno;
        if (S_ISDIR(st.st_mode))
                return weir_err_set(err, WEIR_EINVALID, "%s is a folder: it would lead past the sandbox's mounts",
                                    stream_names[fd]);
        if (!S_ISSOCK(st.st_mode))
                return 0;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX) {
                if (is_settled(fd))
                        return 0;
                return weir_err_set(err, WEIR_EINVALID,
                                    "%s is a Unix socket that can still be connected: the command could reach daemons "
                                    "of the host through it; use a pipe",
                                    stream_names[fd]);
        }
        return weir_err_set(
                err, WEIR_EINVALID,
                "%s is a network socket of the host: the command could send through it past every rule; use a pipe",
                stream_names[fd]);
}

int weir_descriptors_check(struct weir_err *err)
{
        int r = 0;

        for (int fd = 0; fd <= STDERR_FILENO && r == 0 && WEIR_GATE(STANDARD_STREAMS); fd++)
                r = check_stream(fd, err);
        return r;
}

/* Whether @path is @st, on a mount that cannot be written although @fd's can. */
static bool is_covered(int fd, const char *path, const struct stat *st)
{
        struct statvfs below, above;
        struct stat now;

        return stat(path, &now) == 0 && now.st_dev == st->st_dev && now.st_ino == st->st_ino &&
               fstatvfs(fd, &below) == 0 && statvfs(path, &above) == 0 && (above.f_flag & ST_RDONLY) &&
               !(below.f_flag & ST_RDONLY);
}

static int reopen(int fd, const char *path, struct weir_err *err)
{
        weir_auto_close int fresh = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
        off_t at = lseek(fd, 0, SEEK_CUR);

        if (fresh < 0 || (at > 0 && lseek(fresh, at, SEEK_SET) < 0) || dup2(fresh, fd) < 0)
                return weir_err_set(err, WEIR_EINVALID, "cannot open %s again through the sandbox's mounts: %s", path,
                                    strerror(errno));
        return 0;
}

static int cover_one(int fd, struct weir_err *err)
{
        char proc[48], named[PATH_MAX];
        struct stat st;
        int flags = fcntl(fd, F_GETFL), own = fcntl(fd, F_GETFD);
        ssize_t n;

        /* What closes on exec is Weir's own: the log, for one. */
        if (flags < 0 || own < 0 || own & FD_CLOEXEC || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return 0;
        (void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
        n = readlink(proc, named, sizeof(named) - 1);
        if (n <= 0)
                return weir_err_set(err, WEIR_EINVALID, "cannot tell which file descriptor %d is: %s", fd,
                                    strerror(errno));
        named[n] = '\0';
        if (!is_covered(fd, named, &st))
                return 0;
        if ((flags & O_ACCMODE) != O_RDONLY || flags & O_PATH)
                return weir_err_set(err, WEIR_EINVALID,
                                    "descriptor %d would let the command write %s, which it must not change", fd,
                                    named);
        return reopen(fd, named, err);
}

int weir_descriptors_cover(struct weir_err *err)
{
        DIR *dir = opendir("/proc/self/fd");
        const struct dirent *entry;
        int r = 0;

        if (!WEIR_GATE(INHERITED_FILES))
                return 0;
        if (!dir)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot list inherited descriptors: %s", strerror(errno));
        while (r == 0 && (entry = readdir(dir))) {
                uint64_t fd;

                if (weir_parse_uint(entry->d_name, INT32_MAX, &fd) == 0 && (int)fd != dirfd(dir))
                        r = cover_one((int)fd, err);
        }
        (void)closedir(dir);
        return r;
}

static bool may_stay(int fd)
{
        struct stat st;
        int flags = fcntl(fd, F_GETFL);

        if (!WEIR_GATE(INHERITED_DESCRIPTORS))
                return true;
        if (flags < 0 || flags & O_PATH || fstat(fd, &st) < 0)
                return false;
        return S_ISFIFO(st.st_mode) || (S_ISREG(st.st_mode) && (flags & O_ACCMODE) == O_RDONLY);
}

static int limit_one(const char *name, int skip)
{
        uint64_t fd;

        if (weir_parse_uint(name, INT32_MAX, &fd) < 0 || (int)fd <= STDERR_FILENO || (int)fd == skip ||
            may_stay((int)fd))
                return 0;
        return weir_fd_set_cloexec((int)fd, true);
}

int weir_descriptors_limit(void)
{
        DIR *dir = opendir("/proc/self/fd");
        const struct dirent *entry;
        int r = 0;

        /* Without a list nothing stays. */
        if (!dir)
                return syscall(SYS_close_range, STDERR_FILENO + 1U, ~0U, CLOSE_RANGE_CLOEXEC_FLAG) < 0 ? -errno : 0;
        errno = 0;
        while (r == 0 && (entry = readdir(dir)))
                r = limit_one(entry->d_name, dirfd(dir));
        if (r == 0 && errno)
                r = -errno;
        (void)closedir(dir);
        return r;
}
