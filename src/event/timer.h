/* SPDX-License-Identifier: Apache-2.0 */
/* The loop's timers: a binary heap. Private to event/; others use weir_timer_* of loop.h. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "event/loop.h"

struct weir_timers {
        struct weir_timer **heap;
        size_t n, capacity; /* capacity >= n_timers: arming never allocates */
        size_t n_timers;
};

WEIR_MUST int weir_timers_new_timer(struct weir_timers *timers, weir_loop_call *call, void *context,
                                    struct weir_timer **ret_timer);
/* When the first timer wants to run; UINT64_MAX if none. Settles timers that were moved later since. */
uint64_t weir_timers_next(struct weir_timers *timers);
/* Runs those due at @now; one that re-arms itself in the past runs again in the next turn, not in this. */
void weir_timers_run(struct weir_timers *timers, uint64_t now);
void weir_timers_clear(struct weir_timers *timers);
