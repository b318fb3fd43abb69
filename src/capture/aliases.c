/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file system can be mounted at several places, whole or in part: /sysroot beside /var of an image-based system, a
 * bind mount of /home for a container. A path that is protected at one of them must be so at all. The kernel's table
 * says of each mount which part of which file system it shows, so the part of another that shows the same file is found
 * by comparing prefixes; whether it is really the same, and not covered by something else, is asked of the file itself.
 */
#include "capture/aliases.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/strutil.h"
#include "capture/mountinfo.h"

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
static const struct weir_mount *mount_of(const char *path, const struct weir_mount *entries, size_t n)
{
        const struct weir_mount *found = NULL;

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

static int add_aliases(const char *path, const struct weir_mount *entries, size_t n, struct weir_strv *ret)
{
        const struct weir_mount *own = mount_of(path, entries, n);
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

int weir_aliases_of(const char *path, struct weir_strv *ret)
{
        struct weir_mountinfo info __attribute__((cleanup(weir_mountinfo_clear))) = { .mounts = NULL };
        int r = weir_mountinfo_read(&info);

        return r < 0 ? r : add_aliases(path, info.mounts, info.n, ret);
}
