/* SPDX-License-Identifier: Apache-2.0 */
/* "weir explain": what happens to a connection, which rule decides, and what to do about it. */
#include <string.h>

#include "base/buf.h"
#include "policy/snapshot.h"

#define NEAREST_SHOWN 3

static const char *const scope_words[] = {
        [WEIR_SCOPE_OWN] = "a rule of the workload's own namespace",
        [WEIR_SCOPE_ROOT] = "a rule of a root namespace, which applies to all",
        [WEIR_SCOPE_EXPORTED] = "a rule of another namespace, exported to this one by the store's setting",
};
_Static_assert(WEIR_ARRAY_SIZE(scope_words) == WEIR_SCOPE_COUNT, "words for each scope");

/* What would open it, if anything can. */
static void advise(const struct weir_query *query, enum weir_reason reason, struct weir_buf *buf)
{
        struct weir_addr canonical = query->addr;
        char addr[WEIR_ADDR_STRLEN];
        bool v4;

        weir_addr_canonical(&canonical);
        v4 = weir_addr_is_v4(&canonical);
        (void)weir_addr_format(&canonical, addr);
        if (query->protocol != WEIR_IP_TCP) {
                weir_buf_puts(buf, "  to do: nothing can open it: rules name TCP destinations only\n");
                return;
        }
        if (reason == WEIR_REASON_EMBEDDED_ADDRESS) {
                weir_buf_puts(buf, "  to do: connect to the IPv4 address itself, and name that\n");
                return;
        }
        weir_buf_printf(buf, "  to do: weir create an %s with %s [\"%s/%u\"] and port number %u, protocol TCP\n",
                        v4 ? "ExternalService" : "entry (kind ServiceEntry)", v4 ? "hosts" : "addresses", addr,
                        v4 ? 32 : 128, query->port);
}

static void print_rule(const struct weir_rule *rule, struct weir_buf *buf)
{
        char prefix[WEIR_PREFIX_STRLEN];

        weir_buf_printf(buf, "%s (%s port %u \"%s\", %s)", rule->resource, weir_prefix_format(&rule->prefix, prefix),
                        rule->port, rule->port_name, rule->source);
}

static void print_destination(const struct weir_query *query, struct weir_buf *buf)
{
        char to[WEIR_ENDPOINT_STRLEN];

        weir_buf_printf(buf, "%s %s", weir_ip_protocol_name(query->protocol),
                        weir_endpoint_format(&query->addr, query->port, to));
}

static void print_dialled(const struct weir_policy *policy, const struct rule *rule, struct weir_buf *buf)
{
        char to[WEIR_ENDPOINT_STRLEN];

        if (rule->n_endpoints == 0) {
                weir_buf_puts(buf, "  dials: the original destination\n");
                return;
        }
        weir_buf_puts(buf, "  dials:");
        for (uint32_t i = 0; i < rule->n_endpoints; i++) {
                const struct endpoint *e = &policy->endpoints[rule->first_endpoint + i];

                weir_buf_printf(buf, "%s %s", i ? "," : "", weir_endpoint_format(&e->addr, e->port, to));
        }
        weir_buf_puts(buf, rule->n_endpoints > 1 ? " (round robin)\n" : "\n");
}

void weir_policy_explain(const struct weir_policy *policy, const struct weir_query *query, struct weir_buf *buf)
{
        const struct weir_rule *near[NEAREST_SHOWN];
        struct weir_decision decision;
        size_t n;

        weir_policy_match(policy, query, &decision);
        weir_buf_printf(buf, "%s ", decision.verdict == WEIR_VERDICT_ALLOW ? "allow" : "deny");
        print_destination(query, buf);
        if (decision.verdict == WEIR_VERDICT_ALLOW) {
                const struct rule *rule = weir_rule_inside(decision.rule);

                weir_buf_puts(buf, " by ");
                print_rule(decision.rule, buf);
                weir_buf_printf(buf, "\n  scope: %s\n", scope_words[policy->origins[rule->origin].scope]);
                print_dialled(policy, rule, buf);
                return;
        }
        weir_buf_printf(buf, " (%s)\n", weir_reason_words(decision.reason));
        n = weir_policy_nearest(policy, query, near, NEAREST_SHOWN);
        for (size_t i = 0; i < n; i++) {
                weir_buf_puts(buf, "  nearest: ");
                print_rule(near[i], buf);
                weir_buf_putc(buf, '\n');
        }
        advise(query, decision.reason, buf);
}

static const char *dns_words(const struct weir_policy *policy, enum weir_dns_mode mode)
{
        switch (weir_policy_dns_mode(policy, mode)) {
        case WEIR_DNS_OPEN:
                return mode == WEIR_DNS_AUTO ? "open: some rule names addresses only, so every name is resolved and "
                                               "its addresses are judged" :
                                               "open: every name is resolved and its addresses are judged";
        case WEIR_DNS_OFF:
                return "off: no name is resolved";
        case WEIR_DNS_GATED:
        case WEIR_DNS_AUTO:
                break;
        }
        return "gated: only names that a rule names are resolved, the rest is refused and goes nowhere";
}

static const char *name_words(enum weir_dns_mode effective, bool named)
{
        switch (effective) {
        case WEIR_DNS_OPEN:
                return "every name is resolved";
        case WEIR_DNS_OFF:
                return "no name is resolved";
        case WEIR_DNS_GATED:
        case WEIR_DNS_AUTO:
                break;
        }
        return named ? "a rule names this host" : weir_reason_words(WEIR_REASON_DNS_NO_RULE);
}

void weir_policy_explain_name(const struct weir_policy *policy, enum weir_dns_mode mode, const char *host,
                              struct weir_buf *buf)
{
        enum weir_dns_mode effective = weir_policy_dns_mode(policy, mode);
        bool named = weir_policy_names_host(policy, host);
        bool allowed = effective == WEIR_DNS_OPEN || (effective == WEIR_DNS_GATED && named);

        weir_buf_puts(buf, allowed ? "allow dns " : "deny dns ");
        weir_buf_escape(buf, host, strlen(host));
        weir_buf_printf(buf, " (%s)\n  dns is %s\n", name_words(effective, named), dns_words(policy, mode));
        if (allowed)
                weir_buf_puts(
                        buf,
                        "  to do: ask again with each address that the name has: connections are judged by address\n");
}

static void print_rules(const struct weir_policy *policy, struct weir_buf *buf)
{
        weir_buf_printf(buf, "%zu rule%s\n", policy->n_rules, policy->n_rules == 1 ? "" : "s");
        for (size_t i = 0; i < policy->n_rules; i++) {
                weir_buf_puts(buf, "  allow tcp by ");
                print_rule(&policy->rules[i].rule, buf);
                weir_buf_putc(buf, '\n');
        }
        if (policy->hosts.n)
                weir_buf_puts(buf, "names that rules name\n");
        for (size_t i = 0; i < policy->hosts.n; i++)
                weir_buf_printf(buf, "  %s\n", policy->hosts.items[i]);
        if (policy->gaps.n)
                weir_buf_puts(buf, "not enforced by this version, so it allows nothing\n");
        for (size_t i = 0; i < policy->gaps.n; i++)
                weir_buf_printf(buf, "  %s\n", policy->gaps.items[i]);
}

static void print_builtins(const struct weir_policy *policy, struct weir_buf *buf)
{
        char addr[WEIR_ADDR_STRLEN];

        weir_buf_puts(buf, "built in: closed, whatever broader rules say\n");
        for (const struct weir_builtin *b = weir_builtins; b->prefix; b++)
                weir_buf_printf(buf, "  %s (%s): needs a rule that lies inside it\n", b->prefix, b->words);
        for (size_t i = 0; i < policy->builtins.n_self; i++)
                weir_buf_printf(buf, "  %s (this host): needs a rule for this address alone\n",
                                weir_addr_format(&policy->builtins.self[i], addr));
        weir_buf_puts(buf, "  IPv4 inside IPv6 (64:ff9b::/96, 64:ff9b:1::/48, 2002::/16, 2001::/32, ::/96): never "
                           "opened by an IPv4 rule, and\n"
                           "  closed where the inner address is one of the above\n"
                           "  UDP, ICMP and every protocol but TCP: closed\n"
                           "  everything else: closed\n");
}

void weir_policy_explain_all(const struct weir_policy *policy, enum weir_dns_mode mode, struct weir_buf *buf)
{
        print_rules(policy, buf);
        weir_buf_printf(buf, "dns is %s\n", dns_words(policy, mode));
        print_builtins(policy, buf);
        weir_buf_printf(buf, "digest %s\n", policy->digest);
}
