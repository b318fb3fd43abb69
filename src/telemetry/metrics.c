/* SPDX-License-Identifier: Apache-2.0 */
#include "telemetry/metrics.h"

#include <inttypes.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/reason.h"
#include "telemetry/record.h"

struct row {
        const char *name, *help;
        size_t offset;
};

static const struct row rows[] = {
        { "istio_tcp_connections_opened_total", "Connections that were allowed and dialled.",
          offsetof(struct weir_counters, opened) },
        { "istio_tcp_connections_closed_total", "Connections that were allowed and have ended.",
          offsetof(struct weir_counters, closed) },
        { "istio_tcp_sent_bytes_total", "Bytes from the workload, of connections that have ended.",
          offsetof(struct weir_counters, bytes_sent) },
        { "istio_tcp_received_bytes_total", "Bytes to the workload, of connections that have ended.",
          offsetof(struct weir_counters, bytes_received) },
        { "weir_dns_answered_total", "DNS queries that were answered.", offsetof(struct weir_counters, dns_answered) },
        { "weir_dns_denied_total", "DNS queries that were refused.", offsetof(struct weir_counters, dns_denied) },
        { "weir_rejected_packets_total", "Packets that are neither TCP nor DNS, and were refused.",
          offsetof(struct weir_counters, rejected) },
        { "weir_log_records_dropped_total", "Records that the log could not take.",
          offsetof(struct weir_counters, records_dropped) },
};

static void head(struct weir_buf *buf, const char *name, const char *help, const char *type)
{
        weir_buf_printf(buf, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_reasons(struct weir_buf *buf, const struct weir_counters *counters)
{
        head(buf, "weir_flows_ended_total", "Flows and refusals, by the reason of their end.", "counter");
        for (size_t i = 0; i < WEIR_REASON_COUNT; i++)
                weir_buf_printf(buf, "weir_flows_ended_total{reason=\"%s\"} %" PRIu64 "\n",
                                weir_reason_name((enum weir_reason)i), counters->by_reason[i]);
}

static void gauge(struct weir_buf *buf, const char *name, const char *help, uint64_t value)
{
        head(buf, name, help, "gauge");
        weir_buf_printf(buf, "%s %" PRIu64 "\n", name, value);
}

void weir_metrics_write(const struct weir_counters *counters, const struct weir_gauges *gauges, struct weir_buf *buf)
{
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(rows); i++) {
                const uint64_t *value = (const uint64_t *)(const void *)((const char *)counters + rows[i].offset);

                head(buf, rows[i].name, rows[i].help, "counter");
                weir_buf_printf(buf, "%s %" PRIu64 "\n", rows[i].name, *value);
        }
        head(buf, "weir_denied_total", "Connections, packets and queries that were denied.", "counter");
        weir_buf_printf(buf, "weir_denied_total %" PRIu64 "\n", counters->denied);
        put_reasons(buf, counters);
        gauge(buf, "weir_connections", "Connections that are open now.", gauges->flows);
        gauge(buf, "weir_policy_rules", "Rules of the policy in force.", gauges->rules);
        gauge(buf, "weir_policy_generation", "Generation of the policy in force.", gauges->generation);
        head(buf, "weir_build_info", "The version, as a label.", "gauge");
        weir_buf_printf(buf, "weir_build_info{version=\"%s\"} 1\n", gauges->version);
}
