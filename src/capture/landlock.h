/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock's domain, as far as the kernel has it: no signal and no abstract socket leaves it, and no TCP socket in it
 * connects or binds by itself if the supervisor does that. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"

/* Whether this kernel has scopes (ABI 6, Linux 6.12). */
bool weir_landlock_can_scope(void);
/* Whether connecting and binding can be forbidden (ABI 4, Linux 6.7). */
bool weir_landlock_has_network(void);
/**
 * weir_landlock_enter() - for this thread and all it starts; no_new_privs must be set
 * @no_tcp: no TCP socket may connect or bind
 *
 * Return: 1 in force; 0 this kernel has nothing of it; -errno
 */
WEIR_MUST int weir_landlock_enter(bool no_tcp);
