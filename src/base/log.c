/* SPDX-License-Identifier: Apache-2.0 */
/* Diagnostics: one write(2) a line, so lines of several processes do not mix; what a terminal obeys is escaped. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"

static enum weir_log_level current = WEIR_LOG_WARNING;
static bool never_block;
static int own = -1; /* standard error through an open file description of our own */
static unsigned long lost;

void weir_log_set_level(enum weir_log_level level)
{
        current = level;
}

enum weir_log_level weir_log_get_level(void)
{
        return current;
}

void weir_log_never_block(void)
{
        struct stat st;

        never_block = true;
        if (own < 0 && fstat(STDERR_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
                own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* Whether the whole line was taken. Of one that is shorter than PIPE_BUF a pipe takes all or nothing. */
static bool put(const char *line, size_t n)
{
        struct pollfd ready = { .fd = STDERR_FILENO, .events = POLLOUT };

        if (!never_block)
                return weir_fd_write_all(STDERR_FILENO, line, n) == 0;
        if (own >= 0)
                return write(own, line, n) == (ssize_t)n;
        /* A socket, or a pipe of another user's, which cannot be opened again. */
        if (send(STDERR_FILENO, line, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n)
                return true;
        return errno == ENOTSOCK && poll(&ready, 1, 0) == 1 && write(STDERR_FILENO, line, n) == (ssize_t)n;
}

static void tell_lost(void)
{
        char line[96];
        int n = snprintf(line, sizeof(line), "weir: %lu lines before this one could not be written\n", lost);

        if (lost > 0 && n > 0 && put(line, (size_t)n))
                lost = 0;
}

void weir_log(enum weir_log_level level, const char *format, ...)
{
        weir_auto(buf) struct weir_buf line = { 0 };
        char text[4096];
        va_list args;

        if (level > current)
                return;
        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        weir_buf_puts(&line, "weir: ");
        weir_buf_escape_lines(&line, text);
        weir_buf_putc(&line, '\n');
        tell_lost();
        lost += line.error || !put(line.data, line.length);
}
