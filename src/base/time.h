/* SPDX-License-Identifier: Apache-2.0 */
/* Time: monotonic for everything that waits or measures, wall clock for records only. */
#pragma once

#include <stdint.h>

#define WEIR_MS UINT64_C(1000000)
#define WEIR_SEC UINT64_C(1000000000)

uint64_t weir_time_ns(void); /* CLOCK_MONOTONIC, nanoseconds */

#define WEIR_TIME_STRLEN 32
/* Wall clock now as RFC 3339 in UTC with microseconds; returns @buf. */
char *weir_time_rfc3339(char buf[static WEIR_TIME_STRLEN]);
