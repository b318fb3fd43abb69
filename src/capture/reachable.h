/* SPDX-License-Identifier: Apache-2.0 */
/* Listening AF_UNIX sockets of the host that the workload can still reach by their path: told by "run -v". */
#pragma once

#include "base/cleanup.h"
#include "base/strutil.h"

/* Every path somebody listens on, of the caller's network namespace (/proc/net/unix, proc(5)). 0 or -errno. */
WEIR_MUST int weir_reachable_list(struct weir_strv *paths);
/* Inside the sandbox: one line on standard error for each that this user may still connect to. */
void weir_reachable_tell(const struct weir_strv *paths);
