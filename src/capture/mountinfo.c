/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fd.h"

#define TABLE_BYTES_MAX (16 * 1024 * 1024)
#define POINT_FIELD 4 /* counted from 0 */

/* A blank, a tab, a newline and a backslash are written as \ooo. */
static void undo_escapes(char *text)
{
        char *to = text;

        for (const char *at = text; *at; at++)
                if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' && at[3] >= '0' &&
                    at[3] <= '7') {
                        *to++ = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
                        at += 3;
                } else
                        *to++ = *at;
        *to = '\0';
}

static bool is_one_of(const char *const *types, const char *type)
{
        if (!types)
                return true;
        for (; *types; types++)
                if (weir_streq(*types, type))
                        return true;
        return false;
}

/* "36 35 98:0 /root /point options tags... - type source options" */
static int add_line(char *line, const char *const *types, struct weir_strv *points)
{
        char *point = NULL, *type = strstr(line, " - ");

        if (!type)
                return 0;
        type += strlen(" - ");
        type[strcspn(type, " ")] = '\0';
        for (size_t i = 0; i <= POINT_FIELD; i++)
                point = strsep(&line, " ");
        if (!point || !is_one_of(types, type))
                return 0;
        undo_escapes(point);
        return weir_strv_add(points, point);
}

int weir_mountinfo_points(const char *const *types, struct weir_strv *points)
{
        weir_auto_free char *table = NULL;
        char *rest, *line;
        size_t n;
        int r = weir_file_slurp(AT_FDCWD, "/proc/self/mountinfo", TABLE_BYTES_MAX, &table, &n);

        rest = table;
        while (r == 0 && (line = strsep(&rest, "\n")))
                r = add_line(line, types, points);
        return r;
}
