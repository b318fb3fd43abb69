/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox's packet rules, read back and applied to packets: where each of them ends. */
#include "help.h"

#include <jansson.h>

#include "base/addr.h"
#include "capture/nft_rules.h"

static const struct weir_nft_ports ports = { .relay = 15001, .dns_udp = 15053, .dns_tcp = 15054, .log_group = 77 };

/* What the rules look at. */
struct packet {
        const char *protocol; /* "tcp", "udp", "icmp", "icmpv6", "sctp" */
        const char *to;
        unsigned port;
        const char *state;  /* of conntrack: "new", "established", "related", "invalid" */
        const char *status; /* "dnat" or "" */
        const char *icmp;   /* its type, or "" */
};

static bool is_in(const json_t *right, const char *value)
{
        size_t i;
        const json_t *one;

        if (json_is_string(right))
                return weir_streq(json_string_value(right), value);
        assert_true(json_is_array(right));
        json_array_foreach(right, i, one) if (weir_streq(json_string_value(one), value)) return true;
        return false;
}

/* An address or {"prefix": {"addr", "len"}}. */
static bool is_address(const json_t *right, const char *to)
{
        const json_t *prefix = json_object_get(right, "prefix");
        const char *text = json_string_value(prefix ? json_object_get(prefix, "addr") : right);
        struct weir_addr wanted, got;
        unsigned length, least;

        assert_int_equal(weir_addr_parse(text, &wanted), 0);
        assert_int_equal(weir_addr_parse(to, &got), 0);
        if (weir_addr_is_v4(&wanted) != weir_addr_is_v4(&got))
                return false;
        least = weir_addr_is_v4(&wanted) ? 96 : 0;
        length = prefix ? least + (unsigned)json_integer_value(json_object_get(prefix, "len")) : 128;
        for (unsigned bit = least; bit < length; bit++)
                if ((wanted.bytes[bit / 8] ^ got.bytes[bit / 8]) & (0x80 >> bit % 8))
                        return false;
        return true;
}

static bool is_field(const json_t *payload, const json_t *right, const struct packet *p)
{
        const char *protocol = json_string_value(json_object_get(payload, "protocol"));
        const char *field = json_string_value(json_object_get(payload, "field"));

        if (weir_streq(field, "daddr"))
                return (strchr(p->to, ':') != NULL) == weir_streq(protocol, "ip6") && is_address(right, p->to);
        if (weir_streq(field, "dport"))
                return weir_streq(protocol, p->protocol) && p->port == json_integer_value(right);
        assert_string_equal(field, "type");
        return weir_streq(protocol, p->protocol) && is_in(right, p->icmp);
}

static bool matches(const json_t *match, const struct packet *p)
{
        const json_t *left = json_object_get(match, "left"), *right = json_object_get(match, "right"), *key;
        const char *op = json_string_value(json_object_get(match, "op"));

        assert_true(weir_streq(op, "==") || weir_streq(op, "in"));
        key = json_object_get(json_object_get(left, "meta"), "key");
        if (key) {
                assert_string_equal(json_string_value(key), "l4proto");
                return is_in(right, p->protocol);
        }
        key = json_object_get(json_object_get(left, "ct"), "key");
        if (key)
                return is_in(right, weir_streq(json_string_value(key), "state") ? p->state : p->status);
        return is_field(json_object_get(left, "payload"), right, p);
}

/* A statement's words, or NULL if the packet goes on. @log is set by one that logs. */
static const char *apply(const json_t *statement, bool *log)
{
        static char text[64];
        const json_t *redirect = json_object_get(statement, "redirect"), *reject = json_object_get(statement, "reject");

        if (redirect) {
                (void)snprintf(text, sizeof(text), "redirect %d",
                               (int)json_integer_value(json_object_get(redirect, "port")));
                return text;
        }
        if (reject) {
                const char *with = json_string_value(json_object_get(reject, "expr"));

                return with ? with : json_string_value(json_object_get(reject, "type"));
        }
        if (json_object_get(statement, "log")) {
                const json_t *group = json_object_get(json_object_get(statement, "log"), "group");

                assert_int_equal(json_integer_value(group), ports.log_group);
                *log = true;
                return NULL;
        }
        if (json_object_get(statement, "accept"))
                return "accept";
        return json_object_get(statement, "drop") ? "drop" : NULL;
}

static const char *run_rule(const json_t *rule, const struct packet *p, bool *log)
{
        const json_t *statement;
        const char *verdict = NULL;
        size_t i;

        json_array_foreach(json_object_get(rule, "expr"), i, statement)
        {
                const json_t *match = json_object_get(statement, "match");

                if (match && !matches(match, p))
                        return NULL;
                if (!match)
                        verdict = apply(statement, log);
        }
        return verdict;
}

static json_t *load(void)
{
        weir_auto_free char *text = weir_nft_ruleset(&ports);
        json_error_t error;
        json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);

        assert_non_null(root);
        return root;
}

static const json_t *added(const json_t *command, const char *what)
{
        const json_t *object = json_object_get(json_object_get(command, "add"), what);

        if (object) {
                assert_string_equal(json_string_value(json_object_get(object, "family")), "inet");
                assert_string_equal(
                        json_string_value(json_object_get(object, weir_streq(what, "table") ? "name" : "table")),
                        "weir");
        }
        return object;
}

/* Through the rules of one chain, in order; at their end its policy. */
static const char *run_chain(const json_t *root, const char *chain, const struct packet *p, bool *log)
{
        const char *policy = NULL;
        const json_t *command;
        size_t i;

        json_array_foreach(json_object_get(root, "nftables"), i, command)
        {
                const json_t *rule = added(command, "rule"), *own = added(command, "chain");
                const char *verdict = NULL;

                if (own && weir_streq(json_string_value(json_object_get(own, "name")), chain))
                        policy = json_string_value(json_object_get(own, "policy"));
                if (rule && weir_streq(json_string_value(json_object_get(rule, "chain")), chain)) {
                        assert_non_null(policy);
                        verdict = run_rule(rule, p, log);
                }
                if (verdict)
                        return verdict;
        }
        assert_non_null(policy);
        return policy;
}

struct expectation {
        struct packet packet;
        const char *nat, *filter; /* NULL: not asked */
        bool log;
};

#define NEW "new", "", ""

static void packets_end_where_they_should(void **state)
{
        static const struct expectation all[] = {
                /* DNS, whatever the address, over UDP and TCP. */
                { { "udp", "8.8.8.8", 53, NEW }, "redirect 15053", NULL, false },
                { { "udp", "127.0.0.53", 53, NEW }, "redirect 15053", NULL, false },
                { { "udp", "2001:4860:4860::8888", 53, NEW }, "redirect 15053", NULL, false },
                { { "udp", "::1", 53, NEW }, "redirect 15053", NULL, false },
                { { "tcp", "8.8.8.8", 53, NEW }, "redirect 15054", NULL, false },
                { { "tcp", "127.0.0.1", 53, NEW }, "redirect 15054", NULL, false },
                /* TCP to the relay, but for the workload's own loopback. */
                { { "tcp", "198.35.26.96", 443, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "198.35.26.96", 22, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "2620:0:861:ed1a::1", 443, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "169.254.169.254", 80, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "0.0.0.0", 80, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "128.0.0.0", 80, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "126.255.255.255", 80, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "::2", 80, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "127.0.0.1", 8080, NEW }, "accept", "accept", false },
                { { "tcp", "127.255.255.255", 8080, NEW }, "accept", "accept", false },
                { { "tcp", "::1", 8080, NEW }, "accept", "accept", false },
                { { "udp", "127.0.0.1", 5000, NEW }, "accept", "accept", false },
                /* What was redirected, and answers to it. */
                { { "tcp", "127.0.0.1", 15001, "new", "dnat", "" }, NULL, "accept", false },
                { { "tcp", "198.35.26.96", 443, "new", "dnat", "" }, NULL, "accept", false },
                { { "tcp", "198.35.26.96", 443, "established", "", "" }, NULL, "accept", false },
                { { "icmp", "100.64.0.1", 0, "related", "", "destination-unreachable" }, NULL, "accept", false },
                { { "icmp", "100.64.0.1", 0, "new", "", "destination-unreachable" }, NULL, "accept", false },
                { { "icmpv6", "fe80::1", 0, "new", "", "destination-unreachable" }, NULL, "accept", false },
                /* Everything else is told to Weir and refused at once. */
                { { "udp", "8.8.8.8", 443, NEW }, "accept", "admin-prohibited", true },
                { { "udp", "198.35.26.96", 123, NEW }, "accept", "admin-prohibited", true },
                { { "udp", "2001:4860:4860::8888", 443, NEW }, "accept", "admin-prohibited", true },
                { { "udp", "::ffff:1.2.3.4", 443, NEW }, "accept", "admin-prohibited", true },
                { { "icmp", "8.8.8.8", 0, "new", "", "echo-request" }, "accept", "admin-prohibited", true },
                { { "icmpv6", "2001:db8::1", 0, "new", "", "echo-request" }, "accept", "admin-prohibited", true },
                { { "icmpv6", "ff02::2", 0, "new", "", "nd-router-solicit" }, "accept", "admin-prohibited", true },
                { { "sctp", "8.8.8.8", 53, NEW }, "accept", "admin-prohibited", true },
                { { "dccp", "8.8.8.8", 53, NEW }, "accept", "admin-prohibited", true },
                { { "udp", "8.8.8.8", 443, "invalid", "", "" }, "accept", "admin-prohibited", true },
                /* TCP that nobody redirected; but its forgotten tail is nobody's attempt. */
                { { "tcp", "8.8.8.8", 443, NEW }, NULL, "tcp reset", true },
                { { "tcp", "8.8.8.8", 443, "untracked", "", "" }, NULL, "tcp reset", true },
                { { "tcp", "8.8.8.8", 443, "invalid", "", "" }, NULL, "drop", false },
        };
        json_t *root = load();

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(all); i++) {
                const struct expectation *e = &all[i];
                bool log = false;

                print_message("%s %s:%u %s\n", e->packet.protocol, e->packet.to, e->packet.port, e->packet.state);
                if (e->nat)
                        assert_string_equal(run_chain(root, "redirect", &e->packet, &log), e->nat);
                assert_false(log);
                if (e->filter)
                        assert_string_equal(run_chain(root, "reject", &e->packet, &log), e->filter);
                assert_int_equal(log, e->log);
        }
        json_decref(root);
}

/* Both chains see what leaves; the one that decides drops what no rule of it has met. */
static void the_chains_are_hooked(void **state)
{
        unsigned tables = 0, chains = 0;
        json_t *root = load();
        const json_t *command;
        size_t i;

        (void)state;
        json_array_foreach(json_object_get(root, "nftables"), i, command)
        {
                const json_t *chain = added(command, "chain");
                const char *name = json_string_value(json_object_get(chain, "name"));

                tables += added(command, "table") != NULL;
                if (!chain)
                        continue;
                assert_string_equal(json_string_value(json_object_get(chain, "hook")), "output");
                if (weir_streq(name, "redirect")) {
                        assert_string_equal(json_string_value(json_object_get(chain, "type")), "nat");
                } else {
                        assert_string_equal(name, "reject");
                        assert_string_equal(json_string_value(json_object_get(chain, "type")), "filter");
                        assert_string_equal(json_string_value(json_object_get(chain, "policy")), "drop");
                }
                chains++;
        }
        assert_int_equal(tables, 1);
        assert_int_equal(chains, 2);
        json_decref(root);
}

/* nft itself takes them, in a network namespace without a way out. */
static void load_in_child(const char *folder)
{
        weir_auto_free char *text = weir_nft_ruleset(&ports);
        struct weir_err err = { 0 };
        struct weir_nft nft;

        (void)folder;
        enter_sandbox();
        assert_int_equal(unshare(CLONE_NEWNET), 0);
        assert_int_equal(weir_nft_start(text, &nft, &err), 0);
        if (weir_nft_finish(&nft, &err) < 0)
                fail_msg("%s", err.text);
        /* What it does not take is told in its own words. */
        assert_int_equal(weir_nft_start("{\"nftables\": [{\"add\": {\"chain\": {}}}]}", &nft, &err), 0);
        assert_int_equal(weir_nft_finish(&nft, &err), WEIR_EUNSUPPORTED);
        assert_non_null(strstr(err.text, "nft cannot load Weir's rules"));
        assert_null(strchr(err.text, '\n'));
}

static void nft_takes_them(void **state)
{
        (void)state;
        in_child(load_in_child, NULL);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(packets_end_where_they_should),
                cmocka_unit_test(the_chains_are_hooked),
                cmocka_unit_test(nft_takes_them),
        };

        return cmocka_run_group_tests_name("nft_rules", tests, NULL, NULL);
}
