/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a snapshot, shared by the files of policy/ alone.
 *
 * Theory of operation
 *
 * @rules stand sorted by prefix (address, then length), port, and resource. All rules of one prefix are a node; @nodes
 * stand in the same order, and each knows its parent: the longest other prefix that covers it. The last node that is
 * not behind an address in that order is either its longest match or lies below it, so a match is one binary search and
 * a walk up the parents, at most one for each bit of the address. On the way, the first node with the port decides:
 * that is what copying the ports of covering prefixes down into every prefix would give, without the copies, which for
 * a prefix of 65,535 ports over 100,000 others would be 6.5 thousand million.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/strutil.h"
#include "policy/builtin.h"
#include "policy/policy.h"

#define WEIR_NO_NODE UINT32_MAX

/* Why a resource applies to the workload. */
enum weir_scope { WEIR_SCOPE_OWN, WEIR_SCOPE_ROOT, WEIR_SCOPE_EXPORTED, WEIR_SCOPE_COUNT };

struct origin {
        char *resource, *source;
        enum weir_scope scope;
};

/* The public part comes first: a pointer to it is a pointer to the whole. */
struct rule {
        struct weir_rule rule;
        uint32_t origin;
        uint32_t first_endpoint, n_endpoints; /* 0 of them: dial the original destination */
};

struct node {
        struct weir_prefix prefix;
        uint32_t parent;
        uint32_t first_rule, n_rules;
};

struct endpoint {
        struct weir_addr addr;
        uint16_t port;
};

struct weir_policy {
        atomic_uint refs;
        uint64_t generation;
        char digest[WEIR_SHA256_STRLEN];
        struct weir_builtin_set builtins;
        struct origin *origins;
        struct rule *rules;
        struct node *nodes;
        struct endpoint *endpoints;
        size_t n_origins, n_rules, n_nodes, n_endpoints;
        size_t origins_capacity, rules_capacity, endpoints_capacity;
        struct weir_strv texts; /* port names, owned */
        struct weir_strv hosts; /* names of resources in scope, lower case, sorted */
        struct weir_strv gaps;  /* "source: text" of what is in scope and not enforced */
};

/* The node with the longest prefix that covers @addr and has at least @least_bits; WEIR_NO_NODE if there is none. */
uint32_t weir_policy_longest(const struct weir_policy *policy, const struct weir_addr *addr, unsigned least_bits);
/* The rule of @node for @port; NULL if it has none. */
const struct rule *weir_policy_port(const struct weir_policy *policy, const struct node *node, uint16_t port);

static inline const struct rule *weir_rule_inside(const struct weir_rule *rule)
{
        return (const struct rule *)(const void *)rule;
}
