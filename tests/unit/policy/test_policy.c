/* SPDX-License-Identifier: Apache-2.0 */
/* Policy as a person meets it: what is explained, what is nearest, which names are answered, what an empty policy
 * opens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/resource.h"
#include "policy/policy.h"

#include <stdio.h>
#include <string.h>

static struct weir_policy *compile(const char *yaml, const struct weir_policy_options *options)
{
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        struct weir_err err = { 0 };
        struct weir_policy *policy;

        assert_int_equal(weir_resources_read(yaml, strlen(yaml), "t.yaml", &list, &errors, NULL), 0);
        assert_int_equal(
                weir_policy_compile(&list, options ? options : &(struct weir_policy_options){ 0 }, &policy, &err), 0);
        weir_resources_clear(&list);
        return policy;
}

static struct weir_query to(const char *address, uint16_t port)
{
        struct weir_query query = { .protocol = WEIR_IP_TCP, .port = port };

        assert_int_equal(weir_addr_parse(address, &query.addr), 0);
        return query;
}

static bool allows(const struct weir_policy *policy, const char *address, uint16_t port)
{
        struct weir_query query = to(address, port);
        struct weir_decision decision;

        weir_policy_match(policy, &query, &decision);
        return decision.verdict == WEIR_VERDICT_ALLOW;
}

static enum weir_reason reason(const struct weir_policy *policy, const char *address, uint16_t port)
{
        struct weir_query query = to(address, port);
        struct weir_decision decision;

        weir_policy_match(policy, &query, &decision);
        assert_int_equal(decision.verdict, WEIR_VERDICT_DENY);
        return decision.reason;
}

#define SERVICE(name, hosts, ports) \
        "---\nkind: ExternalService\nmetadata: {name: " name "}\nspec:\n  hosts: [" hosts "]\n  ports: [" ports "]\n"
#define PORT(number, name, protocol) "{number: " number ", name: " name ", protocol: " protocol "}"
#define TLS PORT("443", "tls", "TCP")

static void an_empty_policy_opens_nothing(void **state)
{
        struct weir_policy *policy = compile("", NULL);
        struct weir_buf buf = { 0 };

        (void)state;
        assert_int_equal(weir_policy_n_rules(policy), 0);
        assert_int_equal(reason(policy, "198.35.26.96", 443), WEIR_REASON_NO_RULE);
        weir_policy_explain_all(policy, WEIR_DNS_AUTO, &buf);
        assert_non_null(strstr(buf.data, "0 rules"));
        assert_null(strstr(buf.data, "allow tcp"));
        weir_buf_clear(&buf);
        weir_policy_unref(policy);
}

static void broad_rules_open_nothing_built_in(void **state)
{
        struct weir_addr self;
        struct weir_policy_options options = { .self = &self, .n_self = 1 };
        struct weir_policy *policy;

        (void)state;
        assert_int_equal(weir_addr_parse("192.0.2.7", &self), 0);
        policy = compile(
                SERVICE("all", "0.0.0.0/0",
                        TLS) "---\nkind: ServiceEntry\nmetadata: {name: six}\nspec: {hosts: [x.example], addresses: "
                             "['::/0'], ports: [" TLS "]}\n",
                &options);
        assert_true(allows(policy, "198.35.26.96", 443));
        assert_true(allows(policy, "2620:0:861:ed1a::1", 443));
        assert_int_equal(reason(policy, "127.0.0.1", 443), WEIR_REASON_BUILTIN_LOOPBACK);
        assert_int_equal(reason(policy, "0.0.0.0", 443), WEIR_REASON_BUILTIN_LOOPBACK);
        assert_int_equal(reason(policy, "::", 443), WEIR_REASON_BUILTIN_LOOPBACK);
        assert_int_equal(reason(policy, "169.254.169.254", 443), WEIR_REASON_BUILTIN_METADATA);
        assert_int_equal(reason(policy, "::ffff:169.254.169.254", 443), WEIR_REASON_BUILTIN_METADATA);
        assert_int_equal(reason(policy, "64:ff9b::a9fe:a9fe", 443), WEIR_REASON_EMBEDDED_ADDRESS);
        assert_int_equal(reason(policy, "192.0.2.7", 443), WEIR_REASON_BUILTIN_SELF);
        weir_policy_unref(policy);
        policy = compile(SERVICE("own", "192.0.2.7, 169.254.169.254/32, 127.0.0.1/32", TLS), &options);
        assert_true(allows(policy, "192.0.2.7", 443));
        assert_true(allows(policy, "169.254.169.254", 443));
        assert_true(allows(policy, "127.0.0.1", 443));
        weir_policy_unref(policy);
        /* An IPv6 block, however broad, names no IPv4 address. */
        policy = compile("kind: ServiceEntry\nmetadata: {name: six}\nspec: {hosts: [x.example], addresses: ['::/0'], "
                         "ports: [" TLS "]}\n",
                         NULL);
        assert_false(allows(policy, "198.35.26.96", 443));
        weir_policy_unref(policy);
}

/* The host's link-local address is in a built-in range, and a rule for that whole range must not open the host. */
static void a_range_does_not_open_the_host_inside_it(void **state)
{
        struct weir_addr self[2];
        struct weir_policy_options options = { .self = self, .n_self = 2 };
        struct weir_policy *policy;

        (void)state;
        assert_int_equal(weir_addr_parse("169.254.7.7", &self[0]), 0);
        assert_int_equal(weir_addr_parse("fe80::7", &self[1]), 0);
        policy = compile(SERVICE("local", "169.254.0.0/16",
                                 TLS) "---\nkind: ServiceEntry\nmetadata: {name: six}\nspec: {hosts: [x.example], "
                                      "addresses: ['fe80::/10'], ports: [" TLS "]}\n",
                         &options);
        assert_true(allows(policy, "169.254.169.254", 443));
        assert_int_equal(reason(policy, "169.254.7.7", 443), WEIR_REASON_BUILTIN_SELF);
        assert_int_equal(reason(policy, "fe80::7", 443), WEIR_REASON_BUILTIN_SELF);
        weir_policy_unref(policy);
}

/* What explain advises must work when it is done. */
static void advice_for_the_zero_address_names_loopback(void **state)
{
        struct weir_policy *policy = compile("", NULL);
        struct weir_query query = to("0.0.0.0", 443);
        struct weir_buf buf = { 0 };

        (void)state;
        weir_policy_explain(policy, &query, &buf);
        assert_non_null(strstr(buf.data, "127.0.0.1/32"));
        weir_buf_clear(&buf);
        weir_policy_unref(policy);
}

static void ports_of_covering_blocks_count(void **state)
{
        struct weir_policy *policy =
                compile(SERVICE("wide", "10.0.0.0/8", TLS) SERVICE("narrow", "10.1.0.0/16", PORT("80", "web", "TCP"))
                                SERVICE("a-narrow", "10.1.0.0/16", TLS),
                        NULL);
        struct weir_query query = to("10.1.2.3", 443);
        struct weir_decision decision;

        (void)state;
        assert_true(allows(policy, "10.1.2.3", 80));
        assert_true(allows(policy, "10.2.2.3", 443));
        assert_false(allows(policy, "10.2.2.3", 80));
        weir_policy_match(policy, &query, &decision);
        assert_string_equal(decision.rule->resource, "default/a-narrow");
        weir_policy_unref(policy);
}

static void the_nearest_rule_is_named(void **state)
{
        struct weir_policy *policy = compile(SERVICE("wikipedia-ext", "198.35.26.96/27", TLS), NULL);
        struct weir_query query = to("198.35.26.96", 80);
        struct weir_buf buf = { 0 };
        char text[128];

        (void)state;
        weir_policy_nearest_text(policy, &query, text, sizeof(text));
        assert_string_equal(text, "default/wikipedia-ext 198.35.26.96/27:443");
        query = to("198.35.26.128", 443);
        weir_policy_nearest_text(policy, &query, text, sizeof(text));
        assert_string_equal(text, "default/wikipedia-ext 198.35.26.96/27:443");
        query = to("203.0.113.1", 443);
        weir_policy_nearest_text(policy, &query, text, sizeof(text));
        assert_string_equal(text, "");
        query = to("198.35.26.96", 443);
        weir_policy_explain(policy, &query, &buf);
        assert_ptr_equal(strstr(buf.data, "allow tcp 198.35.26.96:443 by default/wikipedia-ext (198.35.26.96/27 port "
                                          "443 \"tls\", t.yaml:2)\n"),
                         buf.data);
        weir_buf_clear(&buf);
        query.port = 80;
        weir_policy_explain(policy, &query, &buf);
        assert_ptr_equal(strstr(buf.data, "deny tcp 198.35.26.96:80 (no rule)\n"), buf.data);
        assert_non_null(strstr(buf.data, "198.35.26.96/32"));
        weir_buf_clear(&buf);
        weir_policy_unref(policy);
}

static void names_are_matched_by_label(void **state)
{
        struct weir_policy *policy = compile(
                "kind: ExternalService\nmetadata: {name: n}\nspec: {hosts: [a.example, '*.b.example', '*c.example'], "
                "ports: [{number: 80, name: web, protocol: HTTP}]}\n",
                NULL);
        static const char *const named[] = { "a.example", "x.b.example", "y.x.b.example" };
        static const char *const others[] = { "b.example",  "xb.example", "a.example.evil", "evila.example",
                                              "xc.example", "",           "example",        ".b.example" };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(named); i++)
                assert_true(weir_policy_names_host(policy, named[i]));
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(others); i++)
                assert_false(weir_policy_names_host(policy, others[i]));
        assert_int_equal(weir_policy_dns_mode(policy, WEIR_DNS_AUTO), WEIR_DNS_GATED);
        assert_int_equal(weir_policy_dns_mode(policy, WEIR_DNS_OPEN), WEIR_DNS_OPEN);
        weir_policy_unref(policy);
        policy = compile(SERVICE("cidr", "10.0.0.0/8", TLS), NULL);
        assert_int_equal(weir_policy_dns_mode(policy, WEIR_DNS_AUTO), WEIR_DNS_OPEN);
        weir_policy_unref(policy);
}

static void what_cannot_be_enforced_is_told_and_closed(void **state)
{
        struct weir_policy *policy = compile(
                "kind: ServiceEntry\nmetadata: {name: open-door}\nspec: {hosts: [x.example], ports: [" TLS "]}\n",
                NULL);
        struct weir_buf buf = { 0 };

        (void)state;
        assert_false(allows(policy, "198.35.26.96", 443));
        weir_policy_explain_all(policy, WEIR_DNS_AUTO, &buf);
        assert_non_null(strstr(buf.data, "open-door"));
        assert_non_null(strstr(buf.data, "without addresses every address would be open"));
        weir_buf_clear(&buf);
        weir_policy_unref(policy);
}

/* A hundred thousand blocks, and a chain as deep as an address has bits. */
static void large_policies_compile(void **state)
{
        struct weir_buf yaml = { 0 };
        struct weir_policy *policy;

        (void)state;
        for (unsigned i = 0; i < 100; i++) {
                weir_buf_printf(
                        &yaml,
                        "---\nkind: ExternalService\nmetadata: {name: r%u}\nspec:\n  ports: [" TLS "]\n  hosts:\n", i);
                for (unsigned k = 0; k < 1000; k++)
                        weir_buf_printf(&yaml, "  - 10.%u.%u.%u/30\n", i, k / 64, k % 64 * 4);
        }
        weir_buf_puts(&yaml,
                      "---\nkind: ServiceEntry\nmetadata: {name: chain}\nspec:\n  hosts: [x.example]\n  ports: [" TLS
                      "]\n  addresses:\n");
        for (unsigned bits = 16; bits <= 128; bits++)
                weir_buf_printf(&yaml, "  - 2001:db8::/%u\n", bits);
        policy = compile(yaml.data, NULL);
        assert_int_equal(weir_policy_n_rules(policy), 100113);
        assert_true(allows(policy, "10.99.15.39", 443));
        assert_false(allows(policy, "10.99.15.160", 443));
        assert_true(allows(policy, "2001:db8::", 443));
        assert_true(allows(policy, "2001:db8:8000::1", 443));
        assert_false(allows(policy, "2002:db8::", 443));
        weir_policy_unref(policy);
        weir_buf_clear(&yaml);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_empty_policy_opens_nothing),
                cmocka_unit_test(broad_rules_open_nothing_built_in),
                cmocka_unit_test(ports_of_covering_blocks_count),
                cmocka_unit_test(a_range_does_not_open_the_host_inside_it),
                cmocka_unit_test(advice_for_the_zero_address_names_loopback),
                cmocka_unit_test(the_nearest_rule_is_named),
                cmocka_unit_test(names_are_matched_by_label),
                cmocka_unit_test(what_cannot_be_enforced_is_told_and_closed),
                cmocka_unit_test(large_policies_compile),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
