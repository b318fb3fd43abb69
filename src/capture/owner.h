/* SPDX-License-Identifier: Apache-2.0 */
/* Which process of the sandbox holds a socket. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "policy/policy.h"

/**
 * weir_owner_find() - by the socket's local address inside the sandbox
 * @diag: NETLINK_SOCK_DIAG, opened inside
 * @init: the sandbox's first process, as the caller's /proc numbers it
 * @ret_pid: as the caller's /proc numbers it
 *
 * Bounded: it looks at OWNER_PROCESSES_MAX processes at most.
 * Return: 0 with both filled; -ENOENT
 */
WEIR_MUST int weir_owner_find(int diag, pid_t init, enum weir_ip_protocol protocol, const struct weir_addr *from,
                              uint16_t port, pid_t *ret_pid, char command[static 16]);
