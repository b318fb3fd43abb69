/* SPDX-License-Identifier: Apache-2.0 */
/* The host's resolvers; its addresses are in workload.h, for explain needs them too. */
#pragma once

#include <stddef.h>

struct weir_addr;

/* Name servers of @path, NULL for /etc/resolv.conf, in order, at most @n, which is not 0; where none is named,
 * 127.0.0.1 as libc has it. 0 if the file cannot be read. */
size_t weir_host_resolvers(const char *path, struct weir_addr *ret, size_t n);

/* A descriptor that is readable when an address of this host came or went, rtnetlink(7); -errno. Drain it, then read
 * the addresses again. */
int weir_host_watch(void);
void weir_host_watch_drain(int fd);
