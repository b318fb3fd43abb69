/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"

#define CLOSE_RANGE_CLOEXEC_FLAG (1U << 2)

static const char *const stream_names[] = { "standard input", "standard output", "standard error" };

/* A socket of the host's network outlives every namespace: only AF_UNIX, as sshd and service managers give, may stay. */
static int check_stream(int fd, struct weir_err *err)
{
        struct stat st;
        int domain = -1;
        socklen_t length = sizeof(domain);

        if (fstat(fd, &st) < 0)
                return errno == EBADF ? 0 : -errno;
        if (S_ISDIR(st.st_mode))
                return weir_err_set(err, WEIR_EINVALID, "%s is a folder: it would lead past the sandbox's mounts", stream_names[fd]);
        if (!S_ISSOCK(st.st_mode))
                return 0;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX)
                return 0;
        return weir_err_set(err, WEIR_EINVALID, "%s is a network socket of the host: the command could send through it past every rule; use a pipe",
                            stream_names[fd]);
}

int weir_descriptors_check(struct weir_err *err)
{
        int r = 0;

        for (int fd = 0; fd <= STDERR_FILENO && r == 0; fd++)
                r = check_stream(fd, err);
        return r;
}

static bool may_stay(int fd)
{
        struct stat st;
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0 || flags & O_PATH || fstat(fd, &st) < 0)
                return false;
        return S_ISFIFO(st.st_mode) || (S_ISREG(st.st_mode) && (flags & O_ACCMODE) == O_RDONLY);
}

static int limit_one(const char *name, int skip)
{
        uint64_t fd;

        if (weir_parse_uint(name, INT32_MAX, &fd) < 0 || (int)fd <= STDERR_FILENO || (int)fd == skip || may_stay((int)fd))
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
