/* SPDX-License-Identifier: Apache-2.0 */
/* What the sandbox's reject rules refused, by NFLOG. */
#pragma once

#include <stdint.h>

#include "base/cleanup.h"

struct weir_rejected;

#define WEIR_NFLOG_GROUP 53

/* A netlink socket bound to @group of the current network namespace, non-blocking; >= 0 or -errno. */
WEIR_MUST int weir_nflog_open(uint16_t group);
/* The next packet: 1; 0 when none waits; -ENOBUFS when some were lost; -errno. */
WEIR_MUST int weir_nflog_next(int fd, struct weir_rejected *ret);
