/* SPDX-License-Identifier: Apache-2.0 */
/* The host's resolvers; its addresses are in workload.h, for explain needs them too. */
#pragma once

#include <stddef.h>

struct weir_addr;

/* Name servers of /etc/resolv.conf, in order, at most @n; 0 if there are none or it cannot be read. */
size_t weir_host_resolvers(struct weir_addr *ret, size_t n);
