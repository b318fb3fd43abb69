/* SPDX-License-Identifier: Apache-2.0 */
/* The mounts of this process's namespace: /proc/self/mountinfo, proc_pid_mountinfo(5). */
#pragma once

#include "base/cleanup.h"
#include "base/strutil.h"

/**
 * weir_mountinfo_points() - where file systems are mounted, in the order of the table
 * @types:  names of file system types ("cgroup2"), NULL-terminated; NULL for all
 * @points: paths are added; they may be covered by other mounts meanwhile
 *
 * Return: 0 or -errno
 */
WEIR_MUST int weir_mountinfo_points(const char *const *types, struct weir_strv *points);
