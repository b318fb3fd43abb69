/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file system can be mounted at several places, whole or in part: /sysroot beside /var of an image-based system, a
 * bind mount of /home for a container. A path that is protected at one of them must be so at all. The kernel's table
 * says of each mount which part of which file system it shows, so the part of another that shows the same file is found
 * by comparing prefixes; whether it is really the same, and not covered by something else, is asked of the file itself.
 */
#include "capture/aliases.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/strutil.h"

#define TABLE_BYTES_MAX (16 * 1024 * 1024)

/* Borrowed from the table. */
struct entry {
        const char *device, *root, *point;
};

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

/* "36 35 98:0 /root /point options ...": false if the line is not that. */
static bool read_entry(char *line, struct entry *ret)
{
        char *fields[5] = { NULL };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(fields); i++) {
                fields[i] = strsep(&line, " ");
                if (!fields[i])
                        return false;
        }
        unescape(fields[3]);
        unescape(fields[4]);
        *ret = (struct entry){ .device = fields[2], .root = fields[3], .point = fields[4] };
        return true;
}

/* What follows @folder in @path, "" or "/..."; NULL if it is not inside. */
static const char *below(const char *path, const char *folder)
{
        size_t n = strlen(folder);

        if (weir_streq(folder, "/"))
                return path[1] ? path : "";
        if (strncmp(path, folder, n) != 0 || (path[n] != '\0' && path[n] != '/'))
                return NULL;
        return path + n;
}

/* The mount that shows @path: the innermost, and of several at one place the last. */
static const struct entry *mount_of(const char *path, const struct entry *entries, size_t n)
{
        const struct entry *found = NULL;

        for (size_t i = 0; i < n; i++)
                if (below(path, entries[i].point) && (!found || strlen(entries[i].point) >= strlen(found->point)))
                        found = &entries[i];
        return found;
}

static bool same_file(const char *a, const char *b)
{
        struct stat one, other;

        return lstat(a, &one) == 0 && lstat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

static int add_aliases(const char *path, const struct entry *entries, size_t n, struct weir_strv *ret)
{
        const struct entry *own = mount_of(path, entries, n);
        weir_auto_free char *inner = NULL;
        int r = 0;

        if (!own)
                return 0;
        /* Its name within the file system. */
        inner = weir_asprintf("%s%s", weir_streq(own->root, "/") ? "" : own->root, below(path, own->point));
        if (!inner)
                return -ENOMEM;
        for (size_t i = 0; i < n && r == 0; i++) {
                weir_auto_free char *alias = NULL;
                const char *rest = weir_streq(entries[i].device, own->device) ? below(inner, entries[i].root) : NULL;

                if (!rest)
                        continue;
                alias = weir_asprintf("%s%s", weir_streq(entries[i].point, "/") ? "" : entries[i].point, rest);
                if (!alias)
                        return -ENOMEM;
                if (alias[0] && !weir_streq(alias, path) && !weir_strv_has(ret, alias) && same_file(alias, path))
                        r = weir_strv_add(ret, alias);
        }
        return r;
}

static size_t count_lines(const char *text)
{
        size_t n = 1;

        for (; *text; text++)
                n += *text == '\n';
        return n;
}

int weir_aliases_of(const char *path, struct weir_strv *ret)
{
        weir_auto_free char *table = NULL;
        weir_auto_free struct entry *entries = NULL;
        char *rest, *line;
        size_t length, n = 0;
        int r;

        r = weir_file_slurp(AT_FDCWD, "/proc/self/mountinfo", TABLE_BYTES_MAX, &table, &length);
        if (r < 0)
                return r;
        entries = calloc(count_lines(table), sizeof(*entries));
        if (!entries)
                return -ENOMEM;
        rest = table;
        while ((line = strsep(&rest, "\n")))
                n += read_entry(line, &entries[n]);
        return add_aliases(path, entries, n, ret);
}
