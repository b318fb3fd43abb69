/* SPDX-License-Identifier: Apache-2.0 */
/* The mounts of this process's namespace: /proc/self/mountinfo, proc_pid_mountinfo(5). */
#pragma once

#include "base/cleanup.h"
#include "base/strutil.h"

/* One mount: the file system's device ("98:0") and type ("ext4"), the folder of it that is shown, and where. */
struct weir_mount {
        const char *device, *type, *root, *point;
};

/* In the order of the table: of two at one place the later one covers the other. */
struct weir_mountinfo {
        struct weir_mount *mounts;
        size_t n;
        char *text;
};

/* Return: 0 or -errno. @ret is for the caller to clear. */
WEIR_MUST int weir_mountinfo_read(struct weir_mountinfo *ret);
void weir_mountinfo_clear(struct weir_mountinfo *info);

/**
 * weir_mountinfo_points() - where file systems are mounted
 * @types:  names of file system types, NULL-terminated; NULL for all
 * @points: paths are added; they may be covered by other mounts meanwhile
 *
 * Return: 0 or -errno
 */
WEIR_MUST int weir_mountinfo_points(const char *const *types, struct weir_strv *points);
