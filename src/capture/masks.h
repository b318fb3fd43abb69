/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of daemons that are hidden from the workload, and copies of what is needed from the same folders. */
#pragma once

#include "base/cleanup.h"

struct weir_err;
struct weir_strv;

struct weir_masks {
        const char *const *unix_paths; /* what stays reachable although it would be hidden. NULL-terminated, or NULL */
        const struct weir_strv
                *listening; /* paths of the host's sockets, as weir_reachable_list() finds them, or NULL */
};

/* Return: 0; WEIR_EUNSUPPORTED, WEIR_EINVALID (--unix) or -ENOMEM with @err filled */
WEIR_MUST int weir_masks_setup(const struct weir_masks *masks, struct weir_err *err);
