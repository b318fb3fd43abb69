/* SPDX-License-Identifier: Apache-2.0 */
/* The rules nearest to a denied destination: what a person most likely meant, or mistyped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/snapshot.h"

/* A rule is near if it covers the address and has another port, or shares at least this much of it. */
#define NEAR_V4_BITS 8
#define NEAR_V6_BITS 16

static unsigned common_bits(const struct weir_addr *a, const struct weir_addr *b)
{
        for (unsigned i = 0; i < 16; i++) {
                uint8_t x = a->bytes[i] ^ b->bytes[i];

                if (x)
                        return i * 8 + (unsigned)__builtin_clz(x) - 24;
        }
        return 128;
}

/* Bits of the prefix that agree with @addr, counted in the address's own family; 0 across families. */
static unsigned closeness(const struct weir_prefix *prefix, const struct weir_addr *addr)
{
        bool v4 = weir_addr_is_v4(addr);
        unsigned bits = common_bits(&prefix->addr, addr);

        if (v4 != (prefix->bits >= 96 && weir_addr_is_v4(&prefix->addr)))
                return 0;
        if (bits > prefix->bits)
                bits = prefix->bits;
        return v4 ? bits - 96 : bits;
}

static size_t add(const struct weir_rule **ret, size_t have, size_t n, const struct rule *rule)
{
        for (size_t i = 0; i < have; i++)
                if (ret[i] == &rule->rule)
                        return have;
        if (have < n)
                ret[have++] = &rule->rule;
        return have;
}

/* Of one node: the rule whose port is nearest in number. */
static const struct rule *nearest_port(const struct weir_policy *policy, const struct node *node, uint16_t port)
{
        const struct rule *best = &policy->rules[node->first_rule];

        for (uint32_t i = 0; i < node->n_rules; i++) {
                const struct rule *rule = &policy->rules[node->first_rule + i];

                if (abs((int)rule->rule.port - (int)port) < abs((int)best->rule.port - (int)port))
                        best = rule;
        }
        return best;
}

/* In the order of addresses the closest prefixes stand beside the place where the address would stand. */
static size_t add_neighbours(const struct weir_policy *policy, const struct weir_query *query,
                             const struct weir_rule **ret, size_t have, size_t n)
{
        size_t low = 0, high = policy->n_nodes;
        const struct node *sides[2] = { NULL, NULL };
        unsigned least = weir_addr_is_v4(&query->addr) ? NEAR_V4_BITS : NEAR_V6_BITS;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (memcmp(policy->nodes[middle].prefix.addr.bytes, query->addr.bytes, 16) <= 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        if (low > 0)
                sides[0] = &policy->nodes[low - 1];
        if (low < policy->n_nodes)
                sides[1] = &policy->nodes[low];
        if (sides[0] && sides[1] &&
            closeness(&sides[1]->prefix, &query->addr) > closeness(&sides[0]->prefix, &query->addr)) {
                const struct node *swap = sides[0];

                sides[0] = sides[1];
                sides[1] = swap;
        }
        for (size_t i = 0; i < 2; i++)
                if (sides[i] && closeness(&sides[i]->prefix, &query->addr) >= least) {
                        const struct rule *rule = weir_policy_port(policy, sides[i], query->port);

                        have = add(ret, have, n, rule ? rule : nearest_port(policy, sides[i], query->port));
                }
        return have;
}

size_t weir_policy_nearest(const struct weir_policy *policy, const struct weir_query *asked,
                           const struct weir_rule **ret, size_t n)
{
        struct weir_query query = *asked;
        unsigned least;
        size_t have = 0;

        weir_addr_canonical(&query.addr);
        /* As in a match: ::/0 is no neighbour of an IPv4 address. */
        least = weir_addr_is_v4(&query.addr) ? 96 : 0;
        for (uint32_t i = weir_policy_longest(policy, &query.addr, least);
             i != WEIR_NO_NODE && have < n && policy->nodes[i].prefix.bits >= least; i = policy->nodes[i].parent) {
                const struct rule *rule = weir_policy_port(policy, &policy->nodes[i], query.port);

                have = add(ret, have, n, rule ? rule : nearest_port(policy, &policy->nodes[i], query.port));
        }
        return add_neighbours(policy, &query, ret, have, n);
}

void weir_policy_nearest_text(const struct weir_policy *policy, const struct weir_query *query, char *buf, size_t n)
{
        const struct weir_rule *rule;
        char prefix[WEIR_PREFIX_STRLEN];

        if (n > 0)
                buf[0] = '\0';
        if (weir_policy_nearest(policy, query, &rule, 1) == 1)
                (void)snprintf(buf, n, weir_addr_is_v4(&rule->prefix.addr) ? "%s %s:%u" : "%s [%s]:%u", rule->resource,
                               weir_prefix_format(&rule->prefix, prefix), rule->port);
}
