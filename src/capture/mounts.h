/* SPDX-License-Identifier: Apache-2.0 */
/* What the workload sees of the file system: its policy cannot be changed, and daemons that would go out for it are not
 * there. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"

struct weir_err;
struct weir_strv;

struct weir_mounts {
        const char *const *protect;        /* NULL-terminated */
        const char *const *unix_paths;     /* NULL-terminated */
        const struct weir_strv *listening; /* sockets of the host with a path, see masks.h; or NULL */
        bool own_pids;                     /* mount a /proc of the new PID namespace */
        int hold;         /* a mount that is put where nothing shows it, and lives with the sandbox; -1 */
        bool hold_groups; /* control groups and pins cannot be written */
        bool hold_kernel; /* as root of the host: nor can settings of the kernel */
};

/**
 * weir_mounts_setup() - in the new mount namespace, with capabilities over it
 * The current folder is entered anew, through the mounts.
 *
 * Return: 0; WEIR_EUNSUPPORTED (WEIR_ELIMIT where it is /proc alone that cannot be mounted) or WEIR_EINVALID with @err
 */
WEIR_MUST int weir_mounts_setup(const struct weir_mounts *mounts, struct weir_err *err);

/**
 * weir_mounts_loose_link() - outside the sandbox: whether a protected path goes through a link that stays replaceable
 * @path:     as in weir_mounts.protect, and it exists
 * @ret_link: the first such link, on the heap; NULL if there is none
 *
 * The target is protected all the same; it is a later run that might find another.
 * Return: 0; WEIR_EINVALID, WEIR_EUNSUPPORTED or -ENOMEM with @err
 */
WEIR_MUST int weir_mounts_loose_link(const char *path, char **ret_link, struct weir_err *err);
