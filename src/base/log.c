/* SPDX-License-Identifier: Apache-2.0 */
/* Diagnostics: one write(2) a line, so lines of several processes do not mix; what a terminal obeys is escaped. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
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
        if (line.error || weir_fd_write_all(STDERR_FILENO, line.data, line.length) < 0)
                return; /* there is nowhere left to say so */
}
