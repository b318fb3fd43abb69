/* SPDX-License-Identifier: Apache-2.0 */
/* The sink of flow records: counters, the log of JSON lines, denial lines, and the figures of --stats. */
#include "telemetry/record.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/time.h"
#include "telemetry/internal.h"

#define LOG_QUEUE_MAX ((size_t)1024 * 1024)

/* What a denial is counted as. */
enum class { CLASS_CONNECTION, CLASS_NAME, CLASS_PACKET, CLASS_COUNT };

struct weir_sink {
        struct output log;
        struct denials denials;
        bool (*held)(void *context);
        void *context;
        struct weir_counters counters;
        uint64_t denied_by_reason[CLASS_COUNT][WEIR_REASON_COUNT];
};

static const char *path_name(enum weir_path path)
{
        static const char *const names[] = { "relay", "handoff", "kernel", "dns" };

        static_assert(WEIR_ARRAY_SIZE(names) == WEIR_PATH_COUNT, "a name for each path");
        return (unsigned)path < WEIR_PATH_COUNT ? names[path] : "unknown";
}

int weir_sink_new(const struct weir_sink_options *options, struct weir_sink **ret_sink)
{
        weir_auto_free struct weir_sink *sink = calloc(1, sizeof(*sink));
        int r;

        if (!sink)
                return -ENOMEM;
        r = denials_open(&sink->denials, options->denials_fd);
        if (r < 0)
                return r;
        output_open(&sink->log, options->log_fd, LOG_QUEUE_MAX);
        sink->held = options->held;
        sink->context = options->context;
        *ret_sink = TAKE_PTR(sink);
        return 0;
}

void weir_sink_free(struct weir_sink *sink)
{
        if (!sink)
                return;
        weir_sink_flush(sink);
        weir_sink_release(sink);
        output_close(&sink->log);
        output_close(&sink->denials.out);
        free(sink);
}

/* The endpoint's two fields, null where it is not known. A port of 0 is no port (ICMP). */
static void put_endpoint(struct weir_json *json, const char *addr_key, const char *port_key, bool has,
                         const struct weir_addr *addr, uint16_t port)
{
        char text[WEIR_ADDR_STRLEN];

        weir_json_string(json, addr_key, has ? weir_addr_format(addr, text) : NULL);
        if (has && port)
                weir_json_int(json, port_key, port);
        else
                weir_json_null(json, port_key);
}

static void put_count(struct weir_json *json, const char *key, bool known, uint64_t n)
{
        if (known && n <= INT64_MAX)
                weir_json_int(json, key, (int64_t)n);
        else
                weir_json_null(json, key);
}

/* Every field is there in every record, in this order; what is not known is null, never 0. duration_ms has three
 * decimals. */
void record_format_json(const struct weir_record *record, struct weir_buf *buf)
{
        struct weir_json json = { .buf = buf };
        char text[WEIR_TIME_STRLEN];

        weir_json_begin_object(&json, NULL);
        weir_json_string(&json, "time", weir_time_rfc3339(text));
        put_count(&json, "flow", true, record->flow_id);
        weir_json_string(&json, "workload", record->workload);
        put_count(&json, "pid", record->pid > 0, (uint64_t)record->pid);
        weir_json_string(&json, "command", record->command && record->command[0] ? record->command : NULL);
        weir_json_string(&json, "cgroup", record->cgroup && record->cgroup[0] ? record->cgroup : NULL);
        weir_json_string(&json, "protocol", record->protocol);
        put_endpoint(&json, "destination", "port", record->has_destination, &record->destination, record->port);
        weir_json_string(&json, "name", record->name);
        put_endpoint(&json, "dialled", "dialled_port", record->has_dialled, &record->dialled, record->dialled_port);
        weir_json_string(&json, "verdict", weir_verdict_name(record->verdict));
        weir_json_string(&json, "reason", weir_reason_name(record->reason));
        weir_json_string(&json, "rule", record->rule);
        weir_json_string(&json, "nearest", record->nearest && record->nearest[0] ? record->nearest : NULL);
        weir_json_string(&json, "path", path_name(record->path));
        put_count(&json, "bytes_sent", record->has_bytes, record->bytes_sent);
        put_count(&json, "bytes_received", record->has_bytes, record->bytes_received);
        (void)snprintf(text, sizeof(text), "%" PRIu64 ".%03u", record->duration_ns / WEIR_MS,
                       (unsigned)(record->duration_ns % WEIR_MS / 1000));
        weir_json_raw(&json, "duration_ms", text);
        put_count(&json, "generation", true, record->generation);
        weir_json_bool(&json, "audit", record->audit);
        weir_json_end_object(&json);
        weir_buf_putc(buf, '\n');
}

static void write_log(struct weir_sink *sink, const struct weir_record *record)
{
        weir_auto(buf) struct weir_buf line = { 0 };

        if (sink->log.fd < 0)
                return;
        record_format_json(record, &line);
        if (line.error)
                sink->log.lost++;
        else
                output_line(&sink->log, line.data, line.length);
        sink->counters.records_dropped = sink->log.lost;
}

static bool is_denial(const struct weir_record *record)
{
        return record->verdict != WEIR_VERDICT_ALLOW && !record->audit;
}

static enum class class_of(const struct weir_record *record) {
        switch (record->path){
                case WEIR_PATH_DNS : return CLASS_NAME;
                case WEIR_PATH_KERNEL : return record->protocol && strcmp(record->protocol, "tcp") == 0 ?
                        CLASS_CONNECTION :
                        CLASS_PACKET;
                case WEIR_PATH_RELAY : case WEIR_PATH_HANDOFF : case WEIR_PATH_COUNT : break;
        }
return CLASS_CONNECTION;
}

static void count_denial(struct weir_sink *sink, enum class class, enum weir_reason reason)
{
        struct weir_counters *c = &sink->counters;

        switch (class) {
        case CLASS_CONNECTION:
                c->denied++;
                break;
        case CLASS_NAME:
                c->dns_denied++;
                break;
        case CLASS_PACKET:
        case CLASS_COUNT:
                c->rejected++;
                break;
        }
        if ((unsigned)reason < WEIR_REASON_COUNT)
                sink->denied_by_reason[class][reason]++;
}

static void count(struct weir_sink *sink, const struct weir_record *record)
{
        struct weir_counters *c = &sink->counters;
        enum class class = class_of(record);
        /* A flow that a new policy cut was open before: its end is a close, whatever the verdict is now. */
        bool cut = record->reason == WEIR_REASON_POLICY_REVOKED && class == CLASS_CONNECTION;

        if ((unsigned)record->reason < WEIR_REASON_COUNT)
                c->by_reason[record->reason]++;
        if (record->has_bytes) {
                c->bytes_sent += record->bytes_sent;
                c->bytes_received += record->bytes_received;
        }
        if (is_denial(record) && !cut)
                count_denial(sink, class, record->reason);
        else if (class == CLASS_CONNECTION)
                c->closed++;
        else if (class == CLASS_NAME && record->reason == WEIR_REASON_RULE)
                c->dns_answered++;
}

void weir_sink_record(struct weir_sink *sink, const struct weir_record *record)
{
        bool cut = record->reason == WEIR_REASON_POLICY_REVOKED;

        count(sink, record);
        write_log(sink, record);
        if (!is_denial(record) && !record->audit && !cut)
                return;
        if (!denials_print(&sink->denials, record, weir_time_ns(), sink->held && sink->held(sink->context)))
                sink->counters.denials_suppressed++;
}

void weir_sink_lost(struct weir_sink *sink, uint64_t n)
{
        sink->counters.events_lost += n;
}

void weir_sink_opened(struct weir_sink *sink)
{
        sink->counters.opened++;
}

void weir_sink_flush(struct weir_sink *sink)
{
        output_flush(&sink->log);
        sink->counters.records_dropped = sink->log.lost;
        if (!sink->held || !sink->held(sink->context))
                output_flush(&sink->denials.out);
}

bool weir_sink_pending(const struct weir_sink *sink)
{
        return sink->log.queue.length > sink->log.done || sink->denials.out.queue.length > sink->denials.out.done;
}

void weir_sink_release(struct weir_sink *sink)
{
        output_flush(&sink->log);
        output_give_up(&sink->log);
        sink->counters.records_dropped = sink->log.lost;
        denials_flush(&sink->denials);
}

const struct weir_counters *weir_sink_counters(const struct weir_sink *sink)
{
        return &sink->counters;
}

/* " (no rule 2, UDP is closed 1)", most of it empty. */
static void put_reasons(struct weir_buf *buf, const uint64_t by_reason[static WEIR_REASON_COUNT])
{
        const char *lead = " (";

        for (size_t i = 0; i < WEIR_REASON_COUNT; i++) {
                if (by_reason[i] == 0)
                        continue;
                weir_buf_printf(buf, "%s%s %" PRIu64, lead, weir_reason_words((enum weir_reason)i), by_reason[i]);
                lead = ", ";
        }
        if (lead[0] == ',')
                weir_buf_putc(buf, ')');
}

void weir_sink_print_stats(const struct weir_sink *sink, int fd)
{
        weir_auto(buf) struct weir_buf buf = { 0 };
        const struct weir_counters *c = &sink->counters;

        weir_buf_printf(&buf, "weir: %" PRIu64 " connections allowed, %" PRIu64 " denied", c->opened, c->denied);
        put_reasons(&buf, sink->denied_by_reason[CLASS_CONNECTION]);
        weir_buf_printf(&buf, "\nweir: %" PRIu64 " bytes sent, %" PRIu64 " bytes received", c->bytes_sent,
                        c->bytes_received);
        weir_buf_printf(&buf, "\nweir: %" PRIu64 " names answered, %" PRIu64 " denied", c->dns_answered, c->dns_denied);
        put_reasons(&buf, sink->denied_by_reason[CLASS_NAME]);
        weir_buf_printf(&buf, "\nweir: %" PRIu64 " other packets refused", c->rejected);
        put_reasons(&buf, sink->denied_by_reason[CLASS_PACKET]);
        if (c->events_lost)
                weir_buf_printf(&buf, "\nweir: %" PRIu64 " events lost: they came faster than they could be read",
                                c->events_lost);
        if (c->records_dropped)
                weir_buf_printf(&buf, "\nweir: %" PRIu64 " records dropped: the log could not take them",
                                c->records_dropped);
        if (c->denials_suppressed)
                weir_buf_printf(&buf, "\nweir: %" PRIu64 " denials like others in the same second were not printed",
                                c->denials_suppressed);
        weir_buf_putc(&buf, '\n');
        /* A reader that is gone costs the figures, nothing else. */
        if (!buf.error && weir_fd_write_all(fd, buf.data, buf.length) < 0)
                return;
}
