/* SPDX-License-Identifier: Apache-2.0 */
/* The filter that is always there: socket families and protocols, the terminal, kernel interfaces a workload has no use
 * for. */
#pragma once

#include "base/cleanup.h"

struct weir_err;
struct weir_seccomp; /* a filter ready to load */

WEIR_MUST int weir_seccomp_build(struct weir_seccomp **ret_filter, struct weir_err *err);
/* Sets no_new_privs and loads it, for this thread and all it starts. */
WEIR_MUST int weir_seccomp_load(struct weir_seccomp *filter, struct weir_err *err);
void weir_seccomp_free(struct weir_seccomp *filter);
WEIR_DEFINE_CLEANUP(seccomp, struct weir_seccomp *, weir_seccomp_free)
