/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock's scopes, where the kernel has them: no signal and no abstract socket leaves the sandbox's domain. */
#pragma once

#include "base/cleanup.h"

/* 1 in force; 0 this kernel has no scopes; -errno. no_new_privs must be set. */
WEIR_MUST int weir_landlock_scope(void);
