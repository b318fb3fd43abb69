/* SPDX-License-Identifier: Apache-2.0 */
/* Weir's own sockets for a workload that shares the host's network: reachable over loopback, by the workload alone. */
#pragma once

#include <stdint.h>

#include "base/cleanup.h"

struct weir_err;

struct weir_doors {
        int dns_udp, dns_tcp, relay[2]; /* relay: IPv4, IPv6; -1 without */
        uint16_t dns_udp_port, dns_tcp_port, relay_port;
        uint32_t mark; /* what a packet must bear to begin anything here; drawn anew each time */
};

WEIR_MUST int weir_doors_open(struct weir_doors *ret, struct weir_err *err);
void weir_doors_close(struct weir_doors *doors);
