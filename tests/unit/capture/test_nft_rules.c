/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox's packet rules, read back and applied to packets: where each of them ends. */
#include "help.h"

#include <jansson.h>

#include "base/addr.h"
#include "capture/nft_rules.h"

static const struct weir_nft_ports ports = { .relay = 15001, .log_group = 77 };

/* What the rules look at. */
struct packet {
        const char *protocol; /* "tcp", "udp", "icmp", "icmpv6", "sctp" */
        const char *to;
        unsigned port;
        const char *state;  /* of conntrack: "new", "established", "related", "invalid" */
        const char *status; /* "dnat" or "" */
        const char *icmp;   /* its type, or "" */
        unsigned from_port;
        bool old; /* TCP: not the SYN of a new connection */
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
        if (weir_streq(field, "sport"))
                return weir_streq(protocol, p->protocol) && p->from_port == json_integer_value(right);
        assert_string_equal(field, "type");
        return weir_streq(protocol, p->protocol) && is_in(right, p->icmp);
}

/* "tcp flags & (syn | ack) != syn" */
static bool is_not_new(const json_t *left, const json_t *right, const struct packet *p)
{
        weir_auto_free char *text = json_dumps(left, JSON_COMPACT | JSON_SORT_KEYS);

        assert_string_equal(text,
                            "{\"&\":[{\"payload\":{\"field\":\"flags\",\"protocol\":\"tcp\"}},[\"syn\",\"ack\"]]}");
        assert_string_equal(json_string_value(right), "syn");
        return weir_streq(p->protocol, "tcp") && p->old;
}

static bool matches(const json_t *match, const struct packet *p)
{
        const json_t *left = json_object_get(match, "left"), *right = json_object_get(match, "right"), *key;
        const char *op = json_string_value(json_object_get(match, "op"));

        if (weir_streq(op, "!="))
                return is_not_new(left, right, p);
        assert_true(weir_streq(op, "==") || weir_streq(op, "in"));
        key = json_object_get(json_object_get(left, "meta"), "key");
        if (key && weir_streq(json_string_value(key), "nfproto"))
                return is_in(right, strchr(p->to, ':') ? "ipv6" : "ipv4");
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
        const json_t *tproxy = json_object_get(statement, "tproxy");

        if (tproxy) {
                (void)snprintf(text, sizeof(text), "tproxy %s %d", json_string_value(json_object_get(tproxy, "addr")),
                               (int)json_integer_value(json_object_get(tproxy, "port")));
                return text;
        }
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
                if (!match && !verdict)
                        verdict = apply(statement, log);
        }
        return verdict;
}

static json_t *load(enum weir_nft_way way)
{
        weir_auto_free char *text = weir_nft_ruleset(&ports, way);
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
        const char *first, *last; /* what the chain that moves it says, and the one that judges; NULL: not asked */
        bool log;
};

#define NEW "new", "", "", 0, false
#define OLD "new", "", "", 0, true
#define V4 "tproxy 127.0.0.1 15001"
#define V6 "tproxy ::1 15001"

static void check(enum weir_nft_way way, const char *first, const struct expectation *all, size_t n)
{
        json_t *root = load(way);

        for (size_t i = 0; i < n; i++) {
                const struct expectation *e = &all[i];
                bool log = false;

                print_message("%s %s:%u %s\n", e->packet.protocol, e->packet.to, e->packet.port, e->packet.state);
                if (e->first)
                        assert_string_equal(run_chain(root, first, &e->packet, &log), e->first);
                assert_false(log);
                if (e->last)
                        assert_string_equal(run_chain(root, "reject", &e->packet, &log), e->last);
                assert_int_equal(log, e->log);
        }
        json_decref(root);
}

/* What no rule opens is told to Weir and refused at once, however TCP gets there. */
static const struct expectation refused[] = {
        { { "udp", "8.8.8.8", 443, NEW }, "accept", "admin-prohibited", true },
        { { "udp", "198.35.26.96", 123, NEW }, "accept", "admin-prohibited", true },
        { { "udp", "2001:4860:4860::8888", 443, NEW }, "accept", "admin-prohibited", true },
        { { "udp", "::ffff:1.2.3.4", 443, NEW }, "accept", "admin-prohibited", true },
        { { "icmp", "8.8.8.8", 0, "new", "", "echo-request", 0, false }, "accept", "admin-prohibited", true },
        { { "icmpv6", "2001:db8::1", 0, "new", "", "echo-request", 0, false }, "accept", "admin-prohibited", true },
        { { "icmpv6", "ff02::2", 0, "new", "", "nd-router-solicit", 0, false }, "accept", "admin-prohibited", true },
        { { "sctp", "8.8.8.8", 53, NEW }, "accept", "admin-prohibited", true },
        { { "dccp", "8.8.8.8", 53, NEW }, "accept", "admin-prohibited", true },
        { { "udp", "8.8.8.8", 443, "invalid", "", "", 0, false }, "accept", "admin-prohibited", true },
        /* DNS, whatever the address, and its answers; the workload's own loopback; the kernel's errors. */
        { { "udp", "8.8.8.8", 53, NEW }, "accept", "accept", false },
        { { "udp", "127.0.0.53", 53, NEW }, "accept", "accept", false },
        { { "udp", "2001:4860:4860::8888", 53, NEW }, "accept", "accept", false },
        { { "udp", "::1", 53, NEW }, "accept", "accept", false },
        { { "udp", "100.64.0.1", 40000, "new", "", "", 53, false }, "accept", "accept", false },
        { { "udp", "127.0.0.1", 5000, NEW }, "accept", "accept", false },
        { { "tcp", "8.8.8.8", 53, NEW }, "accept", "accept", false },
        { { "tcp", "127.0.0.1", 53, NEW }, "accept", "accept", false },
        { { "tcp", "127.0.0.1", 8080, NEW }, "accept", "accept", false },
        { { "tcp", "127.255.255.255", 8080, NEW }, "accept", "accept", false },
        { { "tcp", "::1", 8080, NEW }, "accept", "accept", false },
        { { "icmp", "100.64.0.1", 0, "new", "", "destination-unreachable", 0, false }, NULL, "accept", false },
        { { "icmpv6", "fe80::1", 0, "new", "", "destination-unreachable", 0, false }, NULL, "accept", false },
};

static void diverted_packets_end_where_they_should(void **state)
{
        static const struct expectation tcp[] = {
                { { "tcp", "198.35.26.96", 443, NEW }, V4, "accept", false },
                { { "tcp", "198.35.26.96", 22, NEW }, V4, "accept", false },
                { { "tcp", "2620:0:861:ed1a::1", 443, NEW }, V6, "accept", false },
                { { "tcp", "169.254.169.254", 80, NEW }, V4, "accept", false },
                { { "tcp", "0.0.0.0", 80, NEW }, V4, "accept", false },
                { { "tcp", "128.0.0.0", 80, NEW }, V4, "accept", false },
                { { "tcp", "126.255.255.255", 80, NEW }, V4, "accept", false },
                { { "tcp", "::2", 80, NEW }, V6, "accept", false },
                /* What has its socket already. */
                { { "tcp", "198.35.26.96", 443, OLD }, "accept", "accept", false },
                { { "tcp", "100.64.0.1", 40000, OLD }, "accept", "accept", false },
        };

        (void)state;
        check(WEIR_NFT_TPROXY, "divert", tcp, WEIR_ARRAY_SIZE(tcp));
        check(WEIR_NFT_TPROXY, "divert", refused, WEIR_ARRAY_SIZE(refused));
}

static void redirected_packets_end_where_they_should(void **state)
{
        static const struct expectation tcp[] = {
                { { "tcp", "198.35.26.96", 443, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "2620:0:861:ed1a::1", 443, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "169.254.169.254", 80, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "0.0.0.0", 80, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "128.0.0.0", 80, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "126.255.255.255", 80, NEW }, "redirect 15001", NULL, false },
                { { "tcp", "::2", 80, NEW }, "redirect 15001", NULL, false },
                /* What was redirected, and answers to it. */
                { { "tcp", "127.0.0.1", 15001, "new", "dnat", "", 0, false }, NULL, "accept", false },
                { { "tcp", "198.35.26.96", 443, "new", "dnat", "", 0, false }, NULL, "accept", false },
                { { "tcp", "198.35.26.96", 443, "established", "", "", 0, true }, NULL, "accept", false },
                { { "icmp", "100.64.0.1", 0, "related", "", "destination-unreachable", 0, false },
                  NULL,
                  "accept",
                  false },
                /* TCP that nobody redirected; but its forgotten tail is nobody's attempt. */
                { { "tcp", "8.8.8.8", 443, NEW }, NULL, "tcp reset", true },
                { { "tcp", "8.8.8.8", 443, "untracked", "", "", 0, false }, NULL, "tcp reset", true },
                { { "tcp", "8.8.8.8", 443, "invalid", "", "", 0, true }, NULL, "drop", false },
        };

        (void)state;
        check(WEIR_NFT_REDIRECT, "redirect", tcp, WEIR_ARRAY_SIZE(tcp));
        check(WEIR_NFT_REDIRECT, "redirect", refused, WEIR_ARRAY_SIZE(refused));
}

/* One chain brings TCP to Weir; the other sees what leaves, and drops what no rule of it has met. */
static void the_chains_are_hooked(void **state)
{
        static const struct {
                const char *name, *type, *hook, *policy;
        } wanted[WEIR_NFT_WAY_COUNT][2] = {
                { { "divert", "filter", "prerouting", "accept" }, { "reject", "filter", "output", "drop" } },
                { { "redirect", "nat", "output", "accept" }, { "reject", "filter", "output", "drop" } },
        };

        (void)state;
        for (size_t way = 0; way < WEIR_NFT_WAY_COUNT; way++) {
                unsigned tables = 0, chains = 0;
                json_t *root = load((enum weir_nft_way)way);
                const json_t *command;
                size_t i;

                json_array_foreach(json_object_get(root, "nftables"), i, command)
                {
                        const json_t *chain = added(command, "chain");

                        tables += added(command, "table") != NULL;
                        if (!chain)
                                continue;
                        assert_true(chains < 2);
                        assert_string_equal(json_string_value(json_object_get(chain, "name")),
                                            wanted[way][chains].name);
                        assert_string_equal(json_string_value(json_object_get(chain, "type")),
                                            wanted[way][chains].type);
                        assert_string_equal(json_string_value(json_object_get(chain, "hook")),
                                            wanted[way][chains].hook);
                        assert_string_equal(json_string_value(json_object_get(chain, "policy")),
                                            wanted[way][chains].policy);
                        chains++;
                }
                assert_int_equal(tables, 1);
                assert_int_equal(chains, 2);
                json_decref(root);
        }
}

/* nft itself takes them, in a network namespace without a way out. */
static void load_in_child(const char *folder)
{
        struct weir_err err = { 0 };
        struct weir_nft nft;

        (void)folder;
        enter_sandbox();
        for (size_t way = 0; way < WEIR_NFT_WAY_COUNT; way++) {
                weir_auto_free char *text = weir_nft_ruleset(&ports, (enum weir_nft_way)way);

                assert_int_equal(unshare(CLONE_NEWNET), 0);
                assert_int_equal(weir_nft_start(text, &nft, &err), 0);
                if (weir_nft_finish(&nft, &err) < 0)
                        fail_msg("%s", err.text);
        }
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
                cmocka_unit_test(diverted_packets_end_where_they_should),
                cmocka_unit_test(redirected_packets_end_where_they_should),
                cmocka_unit_test(the_chains_are_hooked),
                cmocka_unit_test(nft_takes_them),
        };

        return cmocka_run_group_tests_name("nft_rules", tests, NULL, NULL);
}
