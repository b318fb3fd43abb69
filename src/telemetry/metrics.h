/* SPDX-License-Identifier: Apache-2.0 */
/* The counters of a sink in Prometheus' text form, version 0.0.4. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct weir_buf;
struct weir_counters;

/* What is measured rather than counted. */
struct weir_gauges {
        const char *version; /* of Weir */
        size_t flows, rules;
        uint64_t generation;
};

/* Names are Istio's where Istio has one; the order and the HELP lines are stable. */
void weir_metrics_write(const struct weir_counters *counters, const struct weir_gauges *gauges, struct weir_buf *buf);
