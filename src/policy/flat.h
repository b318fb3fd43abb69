/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot as plain sorted tables, for a matcher that can do nothing but search an array: the kernel's. Nested
 * prefixes are laid side by side, so that the interval in which an address lies names the one rule with the longest
 * prefix.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "policy/policy.h"

#define WEIR_FLAT_NO_RULE UINT32_MAX

/* From @first up to the next interval of the same table. */
struct weir_flat_interval {
        struct weir_addr first;
        uint32_t value; /* number of the rule in the snapshot, WEIR_FLAT_NO_RULE; in the built-in table a reason */
        uint8_t bits;   /* of the rule's prefix; in the built-in table how many a rule must have at least */
};

struct weir_flat_port {
        uint16_t port;
        size_t first, n; /* of @intervals */
};

/**
 * struct weir_flat - the tables
 * @builtins:  over all addresses, the first at ::
 * @ports:     sorted; only ports that some rule names
 * @intervals: sorted by address within each port; what lies before the first has no rule
 */
struct weir_flat {
        struct weir_flat_interval *builtins, *intervals;
        struct weir_flat_port *ports;
        size_t n_builtins, n_intervals, n_ports;
};

/**
 * weir_policy_flatten() - the tables of a snapshot; O(rules)
 * With them goes one more rule of weir_policy_match(): an IPv4 address asks for 96 bits at least.
 *
 * Return: 0 or -ENOMEM
 */
WEIR_MUST int weir_policy_flatten(const struct weir_policy *policy, struct weir_flat *ret_flat);
void weir_flat_clear(struct weir_flat *flat);

/* All endpoints of the snapshot, and those of one rule: *ret_n of them from *ret_first on, 0 for a rule that dials the
 * original destination. */
size_t weir_policy_n_endpoints(const struct weir_policy *policy);
/* false: it is an address that may never be dialled (a built-in one in disguise), and a rule that leads there denies.
 */
bool weir_policy_endpoint(const struct weir_policy *policy, size_t i, struct weir_addr *ret_addr, uint16_t *ret_port);
void weir_policy_rule_endpoints(const struct weir_policy *policy, size_t rule, size_t *ret_first, size_t *ret_n);
