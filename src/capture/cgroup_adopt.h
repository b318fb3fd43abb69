/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a cgroup that has processes in it already can be governed: what they hold must be under its gates. */
#pragma once

#include "base/cleanup.h"

struct weir_err;

/**
 * weir_adopt_check() - look through what the processes of a cgroup hold open
 * A socket belongs to the cgroup in which it was made, for good: one from elsewhere would pass every gate, and
 * resetting it would not change that, for it can be connected again. So such a process is refused, not repaired.
 *
 * @cgroup: its folder; its gates are in force already, so that nothing new slips by
 * Return: 0; WEIR_EUNSUPPORTED with @err naming the process and what to do; -errno
 */
WEIR_MUST int weir_adopt_check(int cgroup, struct weir_err *err);
