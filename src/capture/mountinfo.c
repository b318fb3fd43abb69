/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

#define TABLE_BYTES_MAX (16 * 1024 * 1024)

/* "\040" and its kind, in place. */
static void unescape(char *text)
{
        char *to = text;

        for (const char *at = text; *at; to++) {
                if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' && at[3] >= '0' &&
                    at[3] <= '7') {
                        *to = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
                        at += 4;
                } else
                        *to = *at++;
        }
        *to = '\0';
}

/* "36 35 98:0 /root /point options tags... - type source options": false if the line is not that. */
static bool read_line(char *line, struct weir_mount *ret)
{
        char *fields[5] = { NULL }, *type = strstr(line, " - ");

        if (!type)
                return false;
        type += strlen(" - ");
        type[strcspn(type, " ")] = '\0';
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(fields); i++) {
                fields[i] = strsep(&line, " ");
                if (!fields[i])
                        return false;
        }
        unescape(fields[3]);
        unescape(fields[4]);
        *ret = (struct weir_mount){ .device = fields[2], .type = type, .root = fields[3], .point = fields[4] };
        return true;
}

static size_t count_lines(const char *text)
{
        size_t n = 1;

        for (; *text; text++)
                n += *text == '\n';
        return n;
}

int weir_mountinfo_read(struct weir_mountinfo *ret)
{
        weir_auto_free char *text = NULL;
        weir_auto_free struct weir_mount *mounts = NULL;
        char *rest, *line;
        size_t length, n = 0;
        int r;

        r = weir_file_slurp(AT_FDCWD, "/proc/self/mountinfo", TABLE_BYTES_MAX, &text, &length);
        if (r < 0)
                return r;
        mounts = calloc(count_lines(text), sizeof(*mounts));
        if (!mounts)
                return -ENOMEM;
        rest = text;
        while ((line = strsep(&rest, "\n")))
                n += read_line(line, &mounts[n]);
        *ret = (struct weir_mountinfo){ .mounts = TAKE_PTR(mounts), .n = n, .text = TAKE_PTR(text) };
        return 0;
}

void weir_mountinfo_clear(struct weir_mountinfo *info)
{
        free(info->mounts);
        free(info->text);
        *info = (struct weir_mountinfo){ .mounts = NULL };
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

int weir_mountinfo_points(const char *const *types, struct weir_strv *points)
{
        struct weir_mountinfo info = { .mounts = NULL };
        int r = weir_mountinfo_read(&info);

        for (size_t i = 0; i < info.n && r == 0; i++)
                if (is_one_of(types, info.mounts[i].type))
                        r = weir_strv_add(points, info.mounts[i].point);
        weir_mountinfo_clear(&info);
        return r;
}
