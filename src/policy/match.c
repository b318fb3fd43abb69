/* SPDX-License-Identifier: Apache-2.0 */
/* The one decision, for both families. How the nodes are searched is told in snapshot.h. */
#include <string.h>

#include "policy/snapshot.h"

/* Order of nodes: address, then length. */
static int compare(const struct weir_prefix *prefix, const struct weir_addr *addr)
{
        return memcmp(prefix->addr.bytes, addr->bytes, sizeof(addr->bytes));
}

/* The last node whose address is not behind @addr. */
static uint32_t last_before(const struct weir_policy *policy, const struct weir_addr *addr)
{
        size_t low = 0, high = policy->n_nodes;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (compare(&policy->nodes[middle].prefix, addr) <= 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low == 0 ? WEIR_NO_NODE : (uint32_t)(low - 1);
}

uint32_t weir_policy_longest(const struct weir_policy *policy, const struct weir_addr *addr, unsigned least_bits)
{
        uint32_t i = last_before(policy, addr);

        while (i != WEIR_NO_NODE && policy->nodes[i].prefix.bits >= least_bits) {
                if (weir_prefix_contains(&policy->nodes[i].prefix, addr))
                        return i;
                i = policy->nodes[i].parent;
        }
        return WEIR_NO_NODE;
}

const struct rule *weir_policy_port(const struct weir_policy *policy, const struct node *node, uint16_t port)
{
        size_t low = node->first_rule, high = low + node->n_rules, end = high;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (policy->rules[middle].rule.port < port)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low < end && policy->rules[low].rule.port == port ? &policy->rules[low] : NULL;
}

/* What is dialled is judged too: an endpoint is named in full, so only a built-in address in disguise is refused. */
static void allow(const struct weir_policy *policy, const struct rule *rule, const struct weir_query *query,
                  const struct weir_addr *canonical, struct weir_decision *ret)
{
        struct endpoint to = { .addr = *canonical, .port = query->port };

        if (rule->n_endpoints > 0)
                to = policy->endpoints[rule->first_endpoint + query->turn % rule->n_endpoints];
        if (weir_builtin_embedded(&policy->builtins, &to.addr)) {
                ret->reason = WEIR_REASON_EMBEDDED_ADDRESS;
                return;
        }
        *ret = (struct weir_decision){
                .verdict = WEIR_VERDICT_ALLOW,
                .reason = WEIR_REASON_RULE,
                .rule = &rule->rule,
                .addr = to.addr,
                .port = to.port,
        };
}

void weir_policy_match(const struct weir_policy *policy, const struct weir_query *query, struct weir_decision *ret)
{
        struct weir_addr addr = query->addr;
        enum weir_reason builtin;
        unsigned least;

        *ret = (struct weir_decision){ .verdict = WEIR_VERDICT_DENY, .reason = WEIR_REASON_NO_RULE };
        if (query->protocol != WEIR_IP_TCP) {
                ret->reason = weir_ip_protocol_refused(query->protocol);
                return;
        }
        weir_addr_canonical(&addr);
        if (weir_builtin_embedded(&policy->builtins, &addr)) {
                ret->reason = WEIR_REASON_EMBEDDED_ADDRESS;
                return;
        }
        least = weir_builtin_least_bits(&policy->builtins, &addr, &builtin);
        if (least > 0)
                ret->reason = builtin;
        /* ::/0 names every IPv6 address, and no IPv4 address although that is written ::ffff:a.b.c.d in here. */
        if (least < 96 && weir_addr_is_v4(&addr))
                least = 96;
        for (uint32_t i = weir_policy_longest(policy, &addr, least);
             i != WEIR_NO_NODE && policy->nodes[i].prefix.bits >= least; i = policy->nodes[i].parent) {
                const struct rule *rule = weir_policy_port(policy, &policy->nodes[i], query->port);

                if (rule) {
                        allow(policy, rule, query, &addr, ret);
                        return;
                }
        }
}
