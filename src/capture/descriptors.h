/* SPDX-License-Identifier: Apache-2.0 */
/* What the command inherits: its standard streams, pipes and files it can only read. */
#pragma once

#include "base/cleanup.h"

struct weir_err;

/* Refuses standard streams that are a way out by themselves. 0; WEIR_EINVALID with @err. */
WEIR_MUST int weir_descriptors_check(struct weir_err *err);
/**
 * weir_descriptors_cover() - see inherited files through the sandbox's mounts
 *
 * A descriptor from before leads below a mount, and /proc/self/fd opens it anew for writing. What now stands read-only
 * is opened again by its path, at the same offset; one that was opened for writing is refused.
 *
 * Return: 0; WEIR_EINVALID with @err
 */
WEIR_MUST int weir_descriptors_cover(struct weir_err *err);
/* Marks everything above 2 close-on-exec but pipes and read-only regular files that are to be inherited. 0 or
 * -errno. */
WEIR_MUST int weir_descriptors_limit(void);
