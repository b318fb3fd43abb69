/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks. */
#include "base/time.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define MINUTE INT64_C(60)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define YEAR (365 * DAY)

uint64_t weir_time_ns(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * WEIR_SEC + (uint64_t)ts.tv_nsec;
}

char *weir_time_rfc3339_seconds(char buf[static WEIR_TIME_STRLEN])
{
        time_t now = time(NULL);
        struct tm tm;

        (void)strftime(buf, WEIR_TIME_STRLEN, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
        return buf;
}

/* Two units while the first is a small number, one after that; @below, @unit and @rest in seconds, @rest 0 for none. */
static const struct {
        int64_t below, unit, rest;
        char unit_word, rest_word;
} ages[] = {
        { 2 * MINUTE, 1, 0, 's', 0 },         { 10 * MINUTE, MINUTE, 1, 'm', 's' }, { 3 * HOUR, MINUTE, 0, 'm', 0 },
        { 8 * HOUR, HOUR, MINUTE, 'h', 'm' }, { 48 * HOUR, HOUR, 0, 'h', 0 },       { 8 * DAY, DAY, HOUR, 'd', 'h' },
        { 2 * YEAR, DAY, 0, 'd', 0 },         { 8 * YEAR, YEAR, DAY, 'y', 'd' },    { INT64_MAX, YEAR, 0, 'y', 0 },
};

char *weir_time_age(const char *rfc3339, char buf[static WEIR_AGE_STRLEN])
{
        struct tm tm = { 0 };
        const char *end = strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &tm);
        int64_t seconds, rest;
        size_t i = 0;

        (void)snprintf(buf, WEIR_AGE_STRLEN, "<unknown>");
        if (!end || (*end != 'Z' && *end != '.'))
                return buf;
        seconds = (int64_t)time(NULL) - (int64_t)timegm(&tm);
        if (seconds < 0)
                seconds = 0; /* another machine's clock */
        while (seconds >= ages[i].below)
                i++;
        rest = ages[i].rest ? seconds % ages[i].unit / ages[i].rest : 0;
        if (rest)
                (void)snprintf(buf, WEIR_AGE_STRLEN, "%" PRId64 "%c%" PRId64 "%c", seconds / ages[i].unit,
                               ages[i].unit_word, rest, ages[i].rest_word);
        else
                (void)snprintf(buf, WEIR_AGE_STRLEN, "%" PRId64 "%c", seconds / ages[i].unit, ages[i].unit_word);
        return buf;
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
