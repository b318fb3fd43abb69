/* SPDX-License-Identifier: Apache-2.0 */
/* Outputs that never block: what a reader does not take at once is queued within a limit, then dropped by the line. */
#include "telemetry/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void output_open(struct output *out, int fd, size_t limit)
{
        char path[32];
        struct stat st;
        int own;

        *out = (struct output){ .fd = fd, .limit = limit };
        if (fd < 0)
                return;
        if (fstat(fd, &st) < 0) {
                out->dead = true;
                return;
        }
        out->regular = S_ISREG(st.st_mode);
        out->socket = S_ISSOCK(st.st_mode);
        if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode))
                return;
        /* The same pipe or terminal through an open file description of our own, which may be non-blocking. Where that
         * is refused (another user's), poll before each write of at most PIPE_BUF. */
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (own >= 0) {
                out->fd = own;
                out->owned = true;
        }
}

void output_close(struct output *out)
{
        if (out->owned)
                (void)close(out->fd);
        weir_buf_clear(&out->queue);
        out->fd = -1;
}

/* What the descriptor takes now; 0 if nothing; -1 if it never will again. */
static ssize_t write_some(struct output *out, const char *bytes, size_t n)
{
        struct pollfd poll_fd = { .fd = out->fd, .events = POLLOUT };
        ssize_t r;

        if (!out->owned && !out->regular && !out->socket) {
                if (poll(&poll_fd, 1, 0) != 1 || !(poll_fd.revents & (POLLOUT | POLLERR)))
                        return 0;
                n = n < PIPE_BUF ? n : PIPE_BUF;
        }
        do
                r = out->socket ? send(out->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(out->fd, bytes, n);
        while (r < 0 && errno == EINTR);
        if (r >= 0)
                return r;
        /* A full disk may have room again; a pipe without a reader stays so. */
        if (errno == EAGAIN || errno == ENOSPC || errno == EDQUOT || errno == ENOBUFS)
                return 0;
        return -1;
}

void output_give_up(struct output *out)
{
        for (size_t i = out->done; i < out->queue.length; i++)
                out->lost += out->queue.data[i] == '\n';
        weir_buf_clear(&out->queue);
        out->done = 0;
}

void output_flush(struct output *out)
{
        while (out->fd >= 0 && !out->dead && out->done < out->queue.length) {
                ssize_t r = write_some(out, out->queue.data + out->done, out->queue.length - out->done);

                if (r < 0)
                        out->dead = true;
                if (r <= 0)
                        break;
                out->done += (size_t)r;
        }
        if (out->dead || out->done == out->queue.length)
                output_give_up(out);
}

/* Moves what is left to the front once the written part is the larger one, so that moving costs no more than writing
 * did. */
static void compact(struct output *out)
{
        if (out->done == 0 || out->done < out->queue.length / 2)
                return;
        memmove(out->queue.data, out->queue.data + out->done, out->queue.length - out->done);
        out->queue.length -= out->done;
        out->done = 0;
}

bool output_hold(struct output *out, const char *line, size_t n)
{
        bool room = out->fd >= 0 && !out->dead && out->queue.length - out->done + n <= out->limit;

        if (room) {
                compact(out);
                weir_buf_add(&out->queue, line, n);
        }
        if (room && !out->queue.error)
                return true;
        /* Without memory what is queued stands; only this line is lost. */
        out->queue.error = 0;
        out->lost++;
        return false;
}

void output_line(struct output *out, const char *line, size_t n)
{
        output_flush(out);
        if (output_hold(out, line, n))
                output_flush(out);
}
