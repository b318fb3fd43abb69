/* SPDX-License-Identifier: Apache-2.0 */
/* Whom a command becomes that root starts, and what it keeps of root's. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct weir_err;

#define WEIR_GROUPS_MAX 256

/* @uid 0: root, with what WEIR_KEPT of become.c lists. Else nothing is kept. */
struct weir_become {
        uid_t uid;
        gid_t gid, groups[WEIR_GROUPS_MAX];
        size_t n_groups;
        char name[64], home[256];
};

/* @user: name or number; NULL is root as it stands. -ENOENT with @err if there is none. */
WEIR_MUST int weir_become_find(const char *user, struct weir_become *ret, struct weir_err *err);
/* HOME, USER and LOGNAME of whom it becomes, in this process. */
WEIR_MUST int weir_become_environment(const struct weir_become *become, struct weir_err *err);
/* In the new process, for good: groups, ids, capabilities. */
WEIR_MUST int weir_become(const struct weir_become *become, struct weir_err *err);
