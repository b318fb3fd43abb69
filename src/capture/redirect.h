/* SPDX-License-Identifier: Apache-2.0 */
/* The redirect capture in a pod: the rules that `weir init` lays, and the door that `weir proxy` opens for itself. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "capture/capture.h"

struct weir_err;

#define WEIR_REDIRECT_RELAY_PORT 15001
#define WEIR_REDIRECT_DNS_PORT 15053
#define WEIR_REDIRECT_ADMIN_PORT 15020
#define WEIR_REDIRECT_LIST_MAX 256
#define WEIR_REDIRECT_ADMIT_MAX 16
/* An address of loopback that only who passes the door may reach: how the proxy tries it. */
#define WEIR_REDIRECT_TRIAL "127.0.0.77"

/* A list of prefixes, or of ports; all other members are 0. */
struct weir_redirect_ranges {
        struct weir_prefix *items;
        size_t n;
};
struct weir_redirect_ports {
        uint16_t *items;
        size_t n;
};

/**
 * struct weir_redirect_layout - what the rules are made of
 * @include_all:   capture every address ("*"), else only those of @include
 * @exclude, @exclude_ports: TCP that leaves without being judged
 * @include_ports: captured whatever the address, unless excluded by port
 * @admit:         who may reach @admin_port; nobody else, the workload included
 * @devices:       interfaces that lead out, NULL-terminated: what leaves them must have passed the rules
 * @egress_mark:   random and not 0: how a packet that passed is known again where it leaves
 */
struct weir_redirect_layout {
        uint16_t relay_port, dns_port, admin_port;
        bool include_all;
        struct weir_redirect_ranges include, exclude, admit;
        struct weir_redirect_ports include_ports, exclude_ports;
        const char *const *devices;
        uint32_t egress_mark;
};

/* The rules of the pod's namespace as text for nft; they replace earlier ones in one step. Heap, NULL without memory.
 * The gates at the devices (netdev) are a ruleset of their own, for not every kernel has them. */
char *weir_redirect_ruleset(const struct weir_redirect_layout *layout);
char *weir_redirect_egress_ruleset(const struct weir_redirect_layout *layout);

/**
 * weir_redirect_lay() - lay the rules in this network namespace
 * @layout: @devices and @egress_mark are found here; the default gateways, from which a kubelet may probe, are added
 *          to @admit
 * @ret_warning: heap text if the kernel has no gates at devices, else NULL; the caller frees
 *
 * Return: 0; WEIR_EUNSUPPORTED or -errno with @err
 */
WEIR_MUST int weir_redirect_lay(const struct weir_redirect_layout *layout, char **ret_warning, struct weir_err *err);

/* The proxy's own door, as text for nft: @mark 0 for the cgroup of this process, else @uid and @mark. */
char *weir_redirect_door(uint32_t uid, uint32_t mark);

/**
 * weir_redirect_open_door() - exempt this process from the rules
 * @exempt:   by which means
 * @ret_mark: what its sockets that leave must carry (SO_MARK); 0 if its cgroup is enough
 *
 * Rules that are not laid, or a door that does not open, are an error: never a proxy without a boundary around it.
 * Needs CAP_NET_ADMIN in the effective set. Return: 0; WEIR_EUNSUPPORTED or -errno with @err
 */
WEIR_MUST int weir_redirect_open_door(enum weir_exempt exempt, uint32_t *ret_mark, struct weir_err *err);
