/* SPDX-License-Identifier: Apache-2.0 */
/* Denials as lines for people: one per destination and second, none while the terminal is raw. */
/*
 * Theory of operation
 *
 * A workload decides how often it is refused, so nothing here may grow with it. Destinations printed lately stand in a
 * table of fixed size, DENIAL_WAYS to a set; when a set is full the oldest makes room, which at worst prints a line
 * twice. A workload that tries one destination after another is held by DENIAL_LINES_PER_SECOND for all together. What
 * is left out is counted, and the count is told with the next line. The flow log has every one of them.
 */
#include "telemetry/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/strutil.h"
#include "base/time.h"

#define HELD_MAX ((size_t)64 * 1024)

int denials_open(struct denials *denials, int fd)
{
        memset(denials, 0, sizeof(*denials));
        if (getrandom(&denials->key, sizeof(denials->key), 0) != (ssize_t)sizeof(denials->key))
                return -EIO;
        output_open(&denials->out, fd, HELD_MAX);
        return 0;
}

/* FNV-1a from a random start, with a final mix: cheap, and not to be aimed at without the key. */
static uint64_t hash_add(uint64_t hash, const void *bytes, size_t n)
{
        const unsigned char *p = bytes;

        for (size_t i = 0; i < n; i++)
                hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
        return hash;
}

static uint64_t hash_record(uint64_t key, const struct weir_record *record)
{
        uint64_t hash = hash_add(key ^ UINT64_C(0xcbf29ce484222325), &record->port, sizeof(record->port));

        if (record->protocol)
                hash = hash_add(hash, record->protocol, strlen(record->protocol));
        if (record->has_destination)
                hash = hash_add(hash, record->destination.bytes, sizeof(record->destination.bytes));
        if (record->name)
                hash = hash_add(hash, record->name, strlen(record->name));
        hash ^= hash >> 32;
        return hash * UINT64_C(0x9e3779b97f4a7c15);
}

/* The entry of @hash, or the one that makes room for it. */
static struct denial *find(struct denials *denials, uint64_t hash)
{
        struct denial *set = denials->table[hash >> 56 & (DENIAL_SETS - 1)], *oldest = set;

        for (size_t i = 0; i < DENIAL_WAYS; i++) {
                if (set[i].hash == hash)
                        return &set[i];
                if (set[i].at_ns < oldest->at_ns)
                        oldest = &set[i];
        }
        *oldest = (struct denial){ .hash = hash };
        return oldest;
}

/* Whether this line may be printed now; @ret_before: how many like it were left out since the last. */
static bool admit(struct denials *denials, const struct weir_record *record, uint64_t now_ns, uint64_t *ret_before)
{
        struct denial *entry = find(denials, hash_record(denials->key, record));

        if (entry->at_ns && now_ns - entry->at_ns < WEIR_SEC) {
                entry->suppressed++;
                return false;
        }
        if (now_ns - denials->second_ns >= WEIR_SEC || !denials->second_ns) {
                denials->second_ns = now_ns;
                denials->lines = 0;
        }
        if (denials->lines >= DENIAL_LINES_PER_SECOND) {
                denials->unsaid++;
                return false;
        }
        denials->lines++;
        *ret_before = entry->suppressed;
        *entry = (struct denial){ .hash = entry->hash, .at_ns = now_ns };
        return true;
}

static const char *verb(const struct weir_record *record)
{
        if (record->audit)
                return "audit";
        /* A name that waited for its answer was never open, so it is denied like any other. */
        if (record->reason == WEIR_REASON_POLICY_REVOKED && record->path != WEIR_PATH_DNS)
                return "cut";
        return "denied";
}

/* On a line that says dns and names the host, "no rule" says it all. */
static const char *words(enum weir_reason reason)
{
        return weir_reason_words(reason == WEIR_REASON_DNS_NO_RULE ? WEIR_REASON_NO_RULE : reason);
}

static void put_destination(struct weir_buf *buf, const struct weir_record *record)
{
        char text[WEIR_ENDPOINT_STRLEN];
        bool dns = record->path == WEIR_PATH_DNS;

        if (record->name && (dns || !record->has_destination))
                weir_buf_escape(buf, record->name[0] ? record->name : ".",
                                strlen(record->name[0] ? record->name : "."));
        else if (record->has_destination && record->port)
                weir_buf_puts(buf, weir_endpoint_format(&record->destination, record->port, text));
        else if (record->has_destination)
                weir_buf_puts(buf, weir_addr_format(&record->destination, text));
        else
                weir_buf_puts(buf, "?");
}

/* weir: denied tcp 198.35.26.96:80 (no rule; nearest: default/wikipedia-ext 198.35.26.96/27:443) curl[4712] */
static void format(struct weir_buf *buf, const struct weir_record *record, uint64_t before)
{
        weir_buf_printf(buf, "weir: %s ", verb(record));
        if (record->protocol)
                weir_buf_escape(buf, record->protocol, strlen(record->protocol));
        weir_buf_putc(buf, ' ');
        put_destination(buf, record);
        weir_buf_printf(buf, " (%s", words(record->reason));
        if (record->nearest && record->nearest[0]) {
                weir_buf_puts(buf, "; nearest: ");
                weir_buf_escape(buf, record->nearest, strlen(record->nearest));
        }
        weir_buf_putc(buf, ')');
        if (record->pid > 0) {
                weir_buf_putc(buf, ' ');
                if (record->command)
                        weir_buf_escape(buf, record->command, strlen(record->command));
                weir_buf_printf(buf, "[%d]", (int)record->pid);
        }
        if (before > 0)
                weir_buf_printf(buf, " and %llu more like it", (unsigned long long)before);
        weir_buf_putc(buf, '\n');
}

/* What was left out for want of room or lines, told once there is room. */
static void tell_unsaid(struct denials *denials)
{
        weir_auto(buf) struct weir_buf line = { 0 };
        uint64_t n = denials->unsaid + denials->dropped;

        if (n == 0)
                return;
        weir_buf_printf(&line, "weir: %llu more denials were not printed\n", (unsigned long long)n);
        if (line.error || !output_hold(&denials->out, line.data, line.length))
                return;
        denials->unsaid = 0;
        denials->dropped = 0;
}

bool denials_print(struct denials *denials, const struct weir_record *record, uint64_t now_ns, bool hold)
{
        weir_auto(buf) struct weir_buf line = { 0 };
        uint64_t before = 0;

        if (denials->out.fd < 0)
                return true;
        if (!admit(denials, record, now_ns, &before))
                return false;
        format(&line, record, before);
        if (!hold && denials->lines < DENIAL_LINES_PER_SECOND)
                tell_unsaid(denials);
        if (line.error || !output_hold(&denials->out, line.data, line.length))
                denials->dropped++;
        if (!hold)
                output_flush(&denials->out);
        return true;
}

void denials_flush(struct denials *denials)
{
        output_flush(&denials->out);
        tell_unsaid(denials);
        output_flush(&denials->out);
}
