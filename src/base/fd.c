/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors. */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

int weir_fd_write_all(int fd, const void *bytes, size_t n)
{
        const char *p = bytes;

        while (n > 0) {
                ssize_t done = write(fd, p, n);

                if (done < 0 && errno == EINTR)
                        continue;
                if (done < 0)
                        return -errno;
                p += done;
                n -= (size_t)done;
        }
        return 0;
}

int weir_fd_read_all(int fd, void *bytes, size_t n)
{
        char *p = bytes;

        while (n > 0) {
                ssize_t got = read(fd, p, n);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        return -ENODATA;
                p += got;
                n -= (size_t)got;
        }
        return 0;
}

int weir_fd_slurp(int fd, size_t limit, char **ret, size_t *ret_n)
{
        struct weir_buf buf __attribute__((cleanup(weir_buf_cleanup))) = { .limit = limit };
        char chunk[16384];

        for (;;) {
                ssize_t got = read(fd, chunk, sizeof(chunk));

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                weir_buf_add(&buf, chunk, (size_t)got);
                if (buf.error)
                        return buf.error == -E2BIG ? -EFBIG : buf.error;
                if (got == 0)
                        break;
        }
        *ret_n = buf.length;
        *ret = weir_buf_take(&buf);
        return 0;
}

int weir_file_slurp(int dirfd, const char *path, size_t limit, char **ret, size_t *ret_n)
{
        weir_auto_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        return weir_fd_slurp(fd, limit, ret, ret_n);
}

int weir_fd_send(int socket, const void *bytes, size_t n, const int *fds, size_t n_fds)
{
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int) * WEIR_FDS_MAX)];
        } control;
        struct iovec iov = { .iov_base = (void *)bytes, .iov_len = n };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t sent;

        if (n == 0 || n_fds > WEIR_FDS_MAX)
                return -EINVAL;
        if (n_fds > 0) {
                struct cmsghdr *c;

                memset(&control, 0, sizeof(control));
                msg.msg_control = &control;
                msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                c = CMSG_FIRSTHDR(&msg);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
        }
        do
                sent = sendmsg(socket, &msg, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent < 0)
                return -errno;
        return (size_t)sent == n ? 0 : -EIO;
}

/* Keeps descriptors while there is room, closes the rest. Returns whether all found room. */
static bool keep_fds(const struct msghdr *msg, int *fds, size_t room, size_t *ret_n)
{
        size_t n = 0;
        bool all = true;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
                size_t count;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < count; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
                        if (n < room) {
                                fds[n++] = fd;
                                continue;
                        }
                        (void)close(fd);
                        all = false;
                }
        }
        *ret_n = n;
        return all;
}

ssize_t weir_fd_recv(int socket, void *bytes, size_t n, int *fds, size_t *n_fds)
{
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int) * WEIR_FDS_MAX)];
        } control;
        struct iovec iov = { .iov_base = bytes, .iov_len = n };
        struct msghdr msg = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        size_t kept;
        ssize_t got;
        bool all;

        do
                got = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC);
        while (got < 0 && errno == EINTR);
        if (got < 0)
                return -errno;
        all = keep_fds(&msg, fds, *n_fds, &kept);
        if (!all || (msg.msg_flags & MSG_CTRUNC)) {
                for (size_t i = 0; i < kept; i++)
                        (void)close(fds[i]);
                *n_fds = 0;
                return -EPROTO;
        }
        *n_fds = kept;
        return got;
}

static int set_flag(int fd, int get, int set, int flag, bool on)
{
        int flags = fcntl(fd, get);
        int wanted;

        if (flags < 0)
                return -errno;
        wanted = on ? flags | flag : flags & ~flag;
        if (wanted != flags && fcntl(fd, set, wanted) < 0)
                return -errno;
        return 0;
}

int weir_fd_set_nonblock(int fd, bool on)
{
        return set_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int weir_fd_set_cloexec(int fd, bool on)
{
        return set_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}
