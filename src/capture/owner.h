/* SPDX-License-Identifier: Apache-2.0 */
/* Which process of the sandbox holds a socket. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "policy/policy.h"

#define WEIR_OWNER_RECENT 8

/**
 * struct weir_owner - where to look, and what was found lately
 * @diag: NETLINK_SOCK_DIAG, opened inside; borrowed
 * @init: the sandbox's first process, as the caller's /proc numbers it
 * @recent: processes that owned a socket lately, and under which number: likely to own the next
 */
struct weir_owner {
        int diag;
        pid_t init;
        struct weir_owner_recent {
                pid_t pid;
                int fd;
        } recent[WEIR_OWNER_RECENT];
        unsigned next_recent;
        uint64_t second_ns, spent_ns;
};

/* Every process of the sandbox below @init, at most @max; how many. The newest stand last. */
size_t weir_owner_processes(pid_t init, pid_t *list, size_t max);

/**
 * weir_owner_find() - by the socket's addresses inside the sandbox
 * @to: where it is connected to; NULL if that is not known or it is not connected
 * @ret_pid: as the caller's /proc numbers it
 *
 * Bounded in processes, and in time: who is refused without end gets no name for some of it.
 * Return: 0 with both filled; -ENOENT, also if more than one socket could be meant; -EBUSY if the time is used up
 */
WEIR_MUST int weir_owner_find(struct weir_owner *owner, enum weir_ip_protocol protocol, const struct weir_addr *from,
                              uint16_t port, const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid,
                              char command[static 16]);
