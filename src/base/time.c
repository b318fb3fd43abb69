/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks. */
#include "base/time.h"

#include <stdio.h>
#include <time.h>

uint64_t weir_time_ns(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * WEIR_SEC + (uint64_t)ts.tv_nsec;
}

char *weir_time_rfc3339(char buf[static WEIR_TIME_STRLEN])
{
        struct timespec ts;
        struct tm tm;
        size_t n;

        (void)clock_gettime(CLOCK_REALTIME, &ts);
        (void)gmtime_r(&ts.tv_sec, &tm);
        n = strftime(buf, WEIR_TIME_STRLEN, "%Y-%m-%dT%H:%M:%S", &tm);
        (void)snprintf(buf + n, WEIR_TIME_STRLEN - n, ".%06uZ", (unsigned)(ts.tv_nsec / 1000) % 1000000u);
        return buf;
}
