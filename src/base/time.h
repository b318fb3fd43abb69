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
/* The same in whole seconds, as Kubernetes writes metadata.creationTimestamp. */
char *weir_time_rfc3339_seconds(char buf[static WEIR_TIME_STRLEN]);

#define WEIR_AGE_STRLEN 48
/* How long ago an RFC 3339 time was, in the words of kubectl ("90s", "5m30s", "3d2h"); "<unknown>" if it is none. */
char *weir_time_age(const char *rfc3339, char buf[static WEIR_AGE_STRLEN]);
