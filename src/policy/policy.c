/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's life, and the questions about it that need no search. */
#include "policy/policy.h"

#include <stdlib.h>
#include <string.h>

#include "policy/snapshot.h"

static const char *const protocol_names[] = {
        [WEIR_IP_TCP] = "tcp",
        [WEIR_IP_UDP] = "udp",
        [WEIR_IP_ICMP] = "icmp",
        [WEIR_IP_OTHER] = "other",
};
_Static_assert(WEIR_ARRAY_SIZE(protocol_names) == WEIR_IP_COUNT, "a name for each protocol");

const char *weir_ip_protocol_name(enum weir_ip_protocol protocol)
{
        return (unsigned)protocol < WEIR_IP_COUNT ? protocol_names[protocol] : "other";
}

enum weir_reason weir_ip_protocol_refused(enum weir_ip_protocol protocol)
{
        switch (protocol) {
        case WEIR_IP_UDP:
                return WEIR_REASON_REJECTED_UDP;
        case WEIR_IP_ICMP:
                return WEIR_REASON_REJECTED_ICMP;
        case WEIR_IP_TCP:
        case WEIR_IP_OTHER:
        case WEIR_IP_COUNT:
                break;
        }
        return WEIR_REASON_REJECTED_OTHER;
}

struct weir_policy *weir_policy_ref(struct weir_policy *policy)
{
        (void)atomic_fetch_add_explicit(&policy->refs, 1, memory_order_relaxed);
        return policy;
}

void weir_policy_unref(struct weir_policy *policy)
{
        if (!policy || atomic_fetch_sub_explicit(&policy->refs, 1, memory_order_acq_rel) > 1)
                return;
        for (size_t i = 0; i < policy->n_origins; i++) {
                free(policy->origins[i].resource);
                free(policy->origins[i].source);
        }
        weir_builtin_set_clear(&policy->builtins);
        weir_strv_clear(&policy->texts);
        weir_strv_clear(&policy->hosts);
        weir_strv_clear(&policy->gaps);
        free(policy->origins);
        free(policy->endpoints);
        free(policy->nodes);
        free(policy->rules);
        free(policy);
}

uint64_t weir_policy_generation(const struct weir_policy *policy)
{
        return policy->generation;
}

const char *weir_policy_digest(const struct weir_policy *policy)
{
        return policy->digest;
}

size_t weir_policy_n_rules(const struct weir_policy *policy)
{
        return policy->n_rules;
}

const struct weir_rule *weir_policy_rule(const struct weir_policy *policy, size_t i)
{
        return &policy->rules[i].rule;
}

enum weir_dns_mode weir_policy_dns_mode(const struct weir_policy *policy, enum weir_dns_mode mode)
{
        if (mode != WEIR_DNS_AUTO)
                return mode;
        return policy->n_rules > 0 ? WEIR_DNS_OPEN : WEIR_DNS_GATED;
}

static int by_name(const void *key, const void *item)
{
        return strcmp(key, *(char *const *)item);
}

static bool has_host(const struct weir_policy *policy, const char *text)
{
        return policy->hosts.n > 0 &&
               bsearch(text, policy->hosts.items, policy->hosts.n, sizeof(*policy->hosts.items), by_name);
}

bool weir_policy_names_host(const struct weir_policy *policy, const char *host)
{
        char wildcard[260] = "*";

        if (has_host(policy, host) || (host[0] != '\0' && has_host(policy, "*")))
                return true;
        /* "*.b.c" names a.b.c and x.a.b.c, not b.c: the star stands for at least one whole label. */
        for (const char *dot = strchr(host, '.'); dot; dot = strchr(dot + 1, '.')) {
                size_t n = strlen(dot);

                if (dot == host || n + 2 > sizeof(wildcard))
                        continue;
                memcpy(wildcard + 1, dot, n + 1);
                if (has_host(policy, wildcard))
                        return true;
        }
        return false;
}
