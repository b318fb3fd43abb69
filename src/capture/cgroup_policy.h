/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot as one map for the kernel: built beside the live one, put in force by one write. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct weir_err;
struct weir_policy;

/* What goes into every policy of a workload besides its rules. */
struct weir_cgroup_doors {
        uint16_t dns_udp, dns_tcp, relay; /* of Weir's sockets on the loopback; 0: none */
        uint32_t mark;
        const uint16_t *published; /* sorted */
        size_t n_published;        /* WEIR_BPF_PUBLISH_MAX at most */
        bool audit, serve;         /* WEIR_BPF_AUDIT, WEIR_BPF_SERVE */
};

/**
 * weir_cgroup_policy_build() - a map that holds @policy
 * @cells_max: refuse a policy that needs more; 0 means what the programs can search
 *
 * Return: descriptor of the map; WEIR_ELIMIT, or -errno where the kernel has no room for it, with @err
 */
WEIR_MUST int weir_cgroup_policy_build(const struct weir_policy *policy, const struct weir_cgroup_doors *doors,
                                       uint64_t generation, size_t cells_max, struct weir_err *err);
/* Puts the policy of @map in force. All programs see the old one or the new one, whole; none the old one on return. */
WEIR_MUST int weir_cgroup_policy_switch(int live, int map, struct weir_err *err);

/**
 * struct weir_cgroup_switch - a switch that is under way
 * The kernel takes the policy at once, and then waits until no program can be in the old one: many milliseconds on a
 * busy machine, in which flows could be cut already. So a thread waits for it.
 */
struct weir_cgroup_switch {
        pthread_t thread;
        bool running;
        int live, map, error; /* error: of the thread, once it has ended */
        atomic_bool ended;
};

/* As weir_cgroup_policy_switch(), but returns as soon as the policy is in force. @map is taken. Waits for the one
 * before that was begun in @s. */
WEIR_MUST int weir_cgroup_policy_switch_soon(struct weir_cgroup_switch *s, int live, int map, struct weir_err *err);
void weir_cgroup_policy_switch_wait(struct weir_cgroup_switch *s);
