/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/reachable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"

#define TABLE_BYTES_MAX (16 * 1024 * 1024)
#define ACCEPTING 0x10000u /* __SO_ACCEPTCON */
#define DATAGRAM 2u        /* has no such flag: whoever has a path hears what is sent to it */

/* "Num: RefCount Protocol Flags Type St Inode Path", numbers in hex but for the inode. */
static int add_line(const char *line, struct weir_strv *paths)
{
        unsigned flags, type;
        int at = 0;

        /* NOLINTNEXTLINE(cert-err34-c): the kernel writes these columns, eight and four hex digits wide */
        if (sscanf(line, "%*s %*x %*x %x %x %*x %*u %n", &flags, &type, &at) != 2 || at == 0)
                return 0;
        /* Abstract names ("@...") are of the network namespace, and out of reach. */
        return (flags & ACCEPTING || type == DATAGRAM) && line[at] == '/' ? weir_strv_add(paths, line + at) : 0;
}

int weir_reachable_list(struct weir_strv *paths)
{
        weir_auto_free char *table = NULL;
        char *rest, *line;
        size_t n;
        int r;

        r = weir_file_slurp(AT_FDCWD, "/proc/net/unix", TABLE_BYTES_MAX, &table, &n);
        rest = table;
        while (r == 0 && (line = strsep(&rest, "\n")))
                r = add_line(line, paths);
        return r;
}

void weir_reachable_tell(const struct weir_strv *paths)
{
        for (size_t i = 0; i < paths->n; i++) {
                weir_auto(buf) struct weir_buf path = { 0 };
                struct stat st;

                if (stat(paths->items[i], &st) < 0 || !S_ISSOCK(st.st_mode) || access(paths->items[i], W_OK) < 0)
                        continue;
                weir_buf_escape(&path, paths->items[i], strlen(paths->items[i]));
                weir_log(WEIR_LOG_INFO, "a daemon outside can be reached at %s", path.data ? path.data : "?");
        }
}
