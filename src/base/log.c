/* SPDX-License-Identifier: Apache-2.0 */
/* Diagnostics: one write(2) a line, so lines of several processes do not mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fd.h"

static enum weir_log_level current = WEIR_LOG_WARNING;

void weir_log_set_level(enum weir_log_level level)
{
        current = level;
}

enum weir_log_level weir_log_get_level(void)
{
        return current;
}

void weir_log(enum weir_log_level level, const char *format, ...)
{
        char line[2048] = "weir: ";
        size_t used = 6;
        va_list args;
        int n;

        if (level > current)
                return;
        va_start(args, format);
        n = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
        va_end(args);
        if (n < 0)
                return;
        used += (size_t)n < sizeof(line) - used - 1 ? (size_t)n : sizeof(line) - used - 2;
        line[used++] = '\n';
        if (weir_fd_write_all(STDERR_FILENO, line, used) < 0)
                return; /* there is nowhere left to say so */
}
