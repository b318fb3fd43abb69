/* SPDX-License-Identifier: Apache-2.0 */
/* What the command inherits: its standard streams, pipes and files it can only read. */
#pragma once

#include "base/cleanup.h"

struct weir_err;

/* Refuses standard streams that are a way out by themselves. 0; WEIR_EINVALID with @err. */
WEIR_MUST int weir_descriptors_check(struct weir_err *err);
/* Marks everything above 2 close-on-exec but pipes and read-only regular files that are to be inherited. 0 or -errno. */
WEIR_MUST int weir_descriptors_limit(void);
