/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ten million random (rules, address, port) against the reference. Addresses are drawn where mistakes live: at the
 * edges of the blocks in force, in built-in ranges, and in IPv6 forms of IPv4. A difference is shrunk to its smallest
 * case and printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "policy/builtin.h"
#include "policy/flat.h"
#include "reference.h"

#include <stdio.h>
#include <string.h>

#define RESOURCES_MAX 8
#define BLOCKS_MAX 4
#define PORTS_MAX 3
#define ENDPOINTS_MAX 3
#define COMPARISONS 10000000u
#define QUESTIONS_PER_WORLD 400u

/* One resource with everything that it points to. */
struct thing {
        struct weir_resource r;
        char name[16], blocks[BLOCKS_MAX][64], addresses[ENDPOINTS_MAX][64];
        const char *block_texts[BLOCKS_MAX], *exports[2];
        struct weir_port ports[PORTS_MAX];
        struct weir_endpoint endpoints[ENDPOINTS_MAX];
        struct weir_endpoint_port endpoint_ports[ENDPOINTS_MAX][1];
};

struct world {
        struct thing things[RESOURCES_MAX];
        struct weir_resource *items[RESOURCES_MAX];
        struct weir_resources list;
        struct weir_addr self[2];
        struct weir_policy_options options;
        struct weir_query query;
};

static uint64_t seed = 1;

/* xorshift64*: the same cases every time. */
static uint32_t draw(uint32_t below)
{
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        return (uint32_t)((seed * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % below;
}

static const char *const known_addresses[] = {
        "127.0.0.1",
        "127.255.255.255",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "10.9.8.7",
        "0.0.0.0",
        "::1",
        "::",
        "fe80::1",
        "febf::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:a00:1::",
        "2001:0:a9fe:a9fe::",
        "2001::5601:5601",
        "::127.0.0.1",
        "::10.0.0.1",
        "64:ff9b::a00:1",
        "2001:db8::1",
        "128.0.0.0",
        "126.255.255.255",
        "169.253.255.255",
        "169.255.0.0",
        "64:ff9b:1::7f00:1",
        "2001:db8:9::9",
};

static void draw_address(struct weir_addr *ret)
{
        if (draw(3) == 0) {
                assert_int_equal(weir_addr_parse(known_addresses[draw(WEIR_ARRAY_SIZE(known_addresses))], ret), 0);
                return;
        }
        memset(ret, 0, sizeof(*ret));
        if (draw(3) > 0) {
                ret->bytes[10] = ret->bytes[11] = 0xff;
                ret->bytes[12] = (uint8_t)(10 + draw(2));
        } else {
                ret->bytes[0] = 0x20;
                ret->bytes[1] = 0x01;
                ret->bytes[2] = 0x0d;
                ret->bytes[3] = (uint8_t)(0xb8 + draw(2));
        }
        for (unsigned i = 13; i < 16; i++)
                ret->bytes[i] = (uint8_t)draw(4);
}

static void draw_block(char *text, size_t n, bool v4_only)
{
        struct weir_addr addr;
        char buf[WEIR_ADDR_STRLEN];
        bool v4;

        do
                draw_address(&addr);
        while (v4_only && !weir_addr_is_v4(&addr));
        v4 = weir_addr_is_v4(&addr);
        if (draw(4) == 0)
                (void)snprintf(text, n, "%s", weir_addr_format(&addr, buf));
        else
                (void)snprintf(text, n, "%s/%u", weir_addr_format(&addr, buf),
                               draw(3) ? (v4 ? 24 : 120) + draw(9) : draw(v4 ? 33 : 129));
}

static void draw_ports(struct thing *t)
{
        static const enum weir_protocol protocols[] = { WEIR_PROTOCOL_TCP,   WEIR_PROTOCOL_TCP,  WEIR_PROTOCOL_MONGO,
                                                        WEIR_PROTOCOL_HTTPS, WEIR_PROTOCOL_HTTP, WEIR_PROTOCOL_UDP,
                                                        WEIR_PROTOCOL_MYSQL, WEIR_PROTOCOL_REDIS };
        static const char *const names[] = { "a", "b", "c" };

        t->r.n_ports = draw(PORTS_MAX + 1);
        for (size_t i = 0; i < t->r.n_ports; i++)
                t->ports[i] = (struct weir_port){ .name = names[i],
                                                  .protocol = protocols[draw(WEIR_ARRAY_SIZE(protocols))],
                                                  .number = (uint16_t)(440 + i * 2 + draw(2)),
                                                  .target_port = draw(5) ? 0 : 9000 };
}

static void draw_endpoints(struct thing *t)
{
        static const char *const names[] = { "a", "b", "z" };

        t->r.n_endpoints = t->r.resolution == WEIR_RESOLUTION_STATIC ? draw(ENDPOINTS_MAX + 1) : 0;
        for (size_t i = 0; i < t->r.n_endpoints; i++) {
                struct weir_addr addr;

                draw_address(&addr);
                (void)weir_addr_format(&addr, t->addresses[i]);
                if (draw(6) == 0)
                        (void)snprintf(t->addresses[i], sizeof(t->addresses[i]), "unix:///run/x");
                t->endpoint_ports[i][0] = (struct weir_endpoint_port){ names[draw(3)], (uint16_t)(7000 + i) };
                t->endpoints[i] = (struct weir_endpoint){ t->addresses[i], t->endpoint_ports[i], draw(2) };
        }
}

static void draw_thing(struct thing *t, size_t i)
{
        static const char *const namespaces[] = { "default", "", "other", "weir-system", "istio-system" };
        static const char *const exports[] = { ".", "*", "default", "other", "~" };
        static const enum weir_resolution resolutions[] = { WEIR_RESOLUTION_NONE, WEIR_RESOLUTION_NONE,
                                                            WEIR_RESOLUTION_STATIC, WEIR_RESOLUTION_DNS };
        size_t n = 1 + draw(BLOCKS_MAX);

        memset(t, 0, sizeof(*t));
        t->r.kind = draw(2) ? WEIR_KIND_EXTERNAL_SERVICE : WEIR_KIND_SERVICE_ENTRY;
        (void)snprintf(t->name, sizeof(t->name), "r%zu", (i * 5 + 3) % RESOURCES_MAX);
        t->r.name = t->name;
        t->r.namespace_ = namespaces[draw(3) ? draw(2) : draw(WEIR_ARRAY_SIZE(namespaces))];
        t->r.path = "t.yaml";
        t->r.api_version = t->r.resource_version = "";
        t->r.resolution = resolutions[draw(WEIR_ARRAY_SIZE(resolutions))];
        t->r.has_workload_selector = t->r.kind == WEIR_KIND_SERVICE_ENTRY && draw(10) == 0;
        for (size_t b = 0; b < n; b++) {
                draw_block(t->blocks[b], sizeof(t->blocks[b]), t->r.kind == WEIR_KIND_EXTERNAL_SERVICE);
                t->block_texts[b] = t->blocks[b];
        }
        if (t->r.kind == WEIR_KIND_EXTERNAL_SERVICE) {
                t->r.hosts = t->block_texts;
                t->r.n_hosts = n;
        } else {
                t->r.addresses = t->block_texts;
                t->r.n_addresses = draw(8) ? n : 0;
                t->r.n_export_to = draw(3) ? 0 : 1;
                t->exports[0] = exports[draw(WEIR_ARRAY_SIZE(exports))];
        }
        draw_ports(t);
        draw_endpoints(t);
        t->r.export_to = t->exports;
        t->r.ports = t->ports;
        t->r.endpoints = t->endpoints;
}

static void draw_world(struct world *w)
{
        w->list.n = 1 + draw(RESOURCES_MAX);
        w->list.items = w->items;
        for (size_t i = 0; i < w->list.n; i++) {
                draw_thing(&w->things[i], i);
                w->items[i] = &w->things[i].r;
        }
        draw_address(&w->self[0]);
        draw_address(&w->self[1]);
        w->options =
                (struct weir_policy_options){ .self = w->self, .n_self = draw(3), .widen_export_to = draw(4) == 0 };
}

/* The first or last address of some block, one before or behind it, or any other. */
static void draw_question(struct world *w)
{
        const struct thing *t = &w->things[draw((uint32_t)w->list.n)];
        size_t n = t->r.kind == WEIR_KIND_EXTERNAL_SERVICE ? t->r.n_hosts : t->r.n_addresses;
        struct weir_prefix prefix;
        int carry = (int)draw(3) - 1;
        bool last;

        w->query = (struct weir_query){ .protocol = draw(50) ? WEIR_IP_TCP : (enum weir_ip_protocol)draw(WEIR_IP_COUNT),
                                        .port = (uint16_t)(440 + draw(6)),
                                        .turn = draw(7) };
        draw_address(&w->query.addr);
        if (n == 0 || draw(4) == 0 || weir_prefix_parse(t->block_texts[draw((uint32_t)n)], &prefix, NULL) < 0)
                return;
        last = draw(2);
        for (unsigned i = prefix.bits; last && i < 128; i++)
                prefix.addr.bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
        for (int i = 15; i >= 0 && carry != 0; i--) {
                int sum = prefix.addr.bytes[i] + carry;

                prefix.addr.bytes[i] = (uint8_t)sum;
                carry = sum > 255 ? 1 : sum < 0 ? -1 : 0;
        }
        w->query.addr = prefix.addr;
}

static struct weir_policy *compile(const struct world *w)
{
        struct weir_policy *policy;
        struct weir_err err = { 0 };

        assert_int_equal(weir_policy_compile(&w->list, &w->options, &policy, &err), 0);
        return policy;
}

static bool differs_under(const struct world *w, const struct weir_policy *policy, enum reference_fault fault)
{
        struct weir_decision ours, theirs;
        const char *resource;

        weir_policy_match(policy, &w->query, &ours);
        reference_match(&w->list, &w->options, &w->query, fault, &theirs, &resource);
        if (ours.verdict != theirs.verdict)
                return true;
        if (ours.verdict != WEIR_VERDICT_ALLOW)
                return ours.rule != NULL;
        return !weir_addr_equal(&ours.addr, &theirs.addr) || ours.port != theirs.port ||
               !strstr(ours.rule->resource, resource);
}

static const struct weir_flat_interval *interval_of(const struct weir_flat_interval *table, size_t n,
                                                    const struct weir_addr *addr)
{
        const struct weir_flat_interval *found = NULL;

        /* From one end to the other, so that a table out of order is found out. */
        for (size_t i = 0; i < n; i++) {
                assert_true(i == 0 || memcmp(&table[i - 1].first, &table[i].first, sizeof(*addr)) < 0);
                if (memcmp(&table[i].first, addr, sizeof(*addr)) <= 0)
                        found = &table[i];
        }
        return found;
}

/* The rule that the flat tables name for the question; NULL is deny. As src/bpf/weir.bpf.c reads them. */
static const struct weir_rule *flat_rule(const struct world *w, const struct weir_policy *policy,
                                         const struct weir_flat *flat, enum weir_reason *ret_reason)
{
        const struct weir_flat_interval *builtin, *found = NULL;
        struct weir_addr addr = w->query.addr;
        unsigned least;

        weir_addr_canonical(&addr);
        builtin = interval_of(flat->builtins, flat->n_builtins, &addr);
        assert_non_null(builtin);
        least = builtin->bits;
        *ret_reason = least ? (enum weir_reason)builtin->value : WEIR_REASON_NO_RULE;
        if (least < 96 && weir_addr_is_v4(&addr))
                least = 96;
        for (size_t i = 0; i < flat->n_ports; i++)
                if (flat->ports[i].port == w->query.port)
                        found = interval_of(flat->intervals + flat->ports[i].first, flat->ports[i].n, &addr);
        return found && found->value != WEIR_FLAT_NO_RULE && found->bits >= least ?
                       weir_policy_rule(policy, found->value) :
                       NULL;
}

/* Embedded addresses and endpoints are told apart by code of their own on the kernel's side; here only rules are. */
static bool flat_differs(const struct world *w, const struct weir_policy *policy, const struct weir_flat *flat)
{
        const struct weir_rule *rule;
        struct weir_decision decision;
        enum weir_reason reason;

        weir_policy_match(policy, &w->query, &decision);
        if (w->query.protocol != WEIR_IP_TCP || decision.reason == WEIR_REASON_EMBEDDED_ADDRESS)
                return false;
        rule = flat_rule(w, policy, flat, &reason);
        return rule != decision.rule || (!rule && reason != decision.reason);
}

static bool differs(const struct world *w, enum reference_fault fault)
{
        struct weir_policy *policy = compile(w);
        bool d = differs_under(w, policy, fault);

        weir_policy_unref(policy);
        return d;
}

/* One step smaller that still differs; false if there is none. Things are copied whole: what they point to is inside
 * them. */
static bool shrink_step(struct world *w, enum reference_fault fault)
{
        for (size_t i = 0; i < w->list.n; i++) {
                struct weir_resource *gone = w->items[i];

                w->items[i] = w->items[w->list.n - 1];
                w->list.n--;
                if (differs(w, fault))
                        return true;
                w->list.n++;
                w->items[w->list.n - 1] = w->items[i];
                w->items[i] = gone;
        }
        for (size_t i = 0; i < w->list.n; i++) {
                struct weir_resource *r = w->items[i];
                size_t *counts[] = { &r->n_hosts, &r->n_addresses, &r->n_ports, &r->n_endpoints, &r->n_export_to };
                struct thing *t = (struct thing *)(void *)r;

                for (size_t c = 0; c < WEIR_ARRAY_SIZE(counts); c++) {
                        if (*counts[c] == 0)
                                continue;
                        --*counts[c];
                        if (differs(w, fault))
                                return true;
                        ++*counts[c];
                }
                /* The last of each may be the one that matters: bring it to the front. */
                if (r->n_hosts > 1 || r->n_addresses > 1) {
                        size_t last = (r->n_hosts > 1 ? r->n_hosts : r->n_addresses) - 1;
                        const char *first = t->block_texts[0];

                        t->block_texts[0] = t->block_texts[last];
                        r->n_hosts = r->n_hosts ? 1 : 0;
                        r->n_addresses = r->n_addresses ? 1 : 0;
                        if (differs(w, fault))
                                return true;
                        t->block_texts[0] = first;
                        r->n_hosts = r->n_hosts ? last + 1 : 0;
                        r->n_addresses = r->n_addresses ? last + 1 : 0;
                }
                if (r->n_ports > 1) {
                        size_t n = r->n_ports;
                        struct weir_port first = t->ports[0];

                        for (size_t p = 1; p < n; p++) {
                                t->ports[0] = t->ports[p];
                                r->n_ports = 1;
                                if (differs(w, fault))
                                        return true;
                        }
                        t->ports[0] = first;
                        r->n_ports = n;
                }
        }
        return false;
}

static void print_case(const struct world *w)
{
        char to[WEIR_ENDPOINT_STRLEN];

        print_message("protocol %d to %s, turn %u, %zu own addresses\n", w->query.protocol,
                      weir_endpoint_format(&w->query.addr, w->query.port, to), w->query.turn, w->options.n_self);
        for (size_t i = 0; i < w->list.n; i++) {
                const struct weir_resource *r = w->items[i];

                print_message("  %s %s/%s resolution %d selector %d\n", weir_kind_info(r->kind)->kind, r->namespace_,
                              r->name, r->resolution, r->has_workload_selector);
                for (size_t b = 0; b < r->n_hosts + r->n_addresses; b++)
                        print_message("    block %s\n", (r->n_hosts ? r->hosts : r->addresses)[b]);
                for (size_t p = 0; p < r->n_ports; p++)
                        print_message("    port %u %s\n", r->ports[p].number, weir_protocol_name(r->ports[p].protocol));
                for (size_t e = 0; e < r->n_endpoints; e++)
                        print_message("    endpoint %s\n", r->endpoints[e].address);
                for (size_t e = 0; e < r->n_export_to; e++)
                        print_message("    exportTo %s\n", r->export_to[e]);
        }
}

/* Up to @n comparisons; true if one differs, which *w then holds. @ret_allowed counts what was allowed: a test of
 * denials proves little. */
static bool search(struct world *w, unsigned n, enum reference_fault fault, unsigned *ret_allowed)
{
        *ret_allowed = 0;
        for (unsigned done = 0; done < n;) {
                struct weir_policy *policy;
                struct weir_flat flat;
                bool found = false;

                draw_world(w);
                policy = compile(w);
                assert_int_equal(weir_policy_flatten(policy, &flat), 0);
                for (unsigned q = 0; q < QUESTIONS_PER_WORLD && !found; q++, done++) {
                        struct weir_decision d;

                        draw_question(w);
                        found = differs_under(w, policy, fault);
                        if (flat_differs(w, policy, &flat)) {
                                print_case(w);
                                fail_msg("the flat tables and the snapshot differ");
                        }
                        weir_policy_match(policy, &w->query, &d);
                        *ret_allowed += d.verdict == WEIR_VERDICT_ALLOW;
                }
                weir_flat_clear(&flat);
                weir_policy_unref(policy);
                if (found)
                        return true;
        }
        return false;
}

static void ten_million_answers_agree(void **state)
{
        /* A tool that makes all slow by itself may ask for less. */
        const char *fewer = getenv("WEIR_TEST_COMPARISONS");
        unsigned n = fewer ? (unsigned)atoi(fewer) : COMPARISONS, allowed;
        static struct world w;

        (void)state;
        if (search(&w, n, FAULT_NONE, &allowed)) {
                while (shrink_step(&w, FAULT_NONE))
                        ;
                print_case(&w);
                fail_msg("the code and the reference differ");
        }
        print_message("%u of %u were allowed\n", allowed, n);
        assert_true(n > 0 && allowed > n / 50);
}

static void a_planted_fault_is_found_and_shrunk(void **state)
{
        static const enum reference_fault faults[] = { FAULT_LOOPBACK_OPEN, FAULT_LAST_NAME_WINS };
        static struct world w;
        unsigned allowed;

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(faults); i++) {
                size_t blocks = 0, ports = 0;

                assert_true(search(&w, COMPARISONS, faults[i], &allowed));
                while (shrink_step(&w, faults[i]))
                        ;
                /* Loopback needs one rule; who wins needs two. */
                assert_int_equal(w.list.n, i + 1);
                for (size_t k = 0; k < w.list.n; k++) {
                        blocks += w.items[k]->n_hosts + w.items[k]->n_addresses;
                        ports += w.items[k]->n_ports;
                }
                assert_int_equal(blocks, i + 1);
                assert_int_equal(ports, i + 1);
        }
}

static void order_never_matters(void **state)
{
        static struct world w;

        (void)state;
        for (unsigned i = 0; i < 2000; i++) {
                struct weir_policy *one, *two;

                draw_world(&w);
                one = compile(&w);
                for (size_t k = w.list.n; k > 1; k--) {
                        size_t other = draw((uint32_t)k);
                        struct weir_resource *swap = w.items[other];

                        w.items[other] = w.items[k - 1];
                        w.items[k - 1] = swap;
                }
                two = compile(&w);
                assert_string_equal(weir_policy_digest(one), weir_policy_digest(two));
                weir_policy_unref(one);
                weir_policy_unref(two);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ten_million_answers_agree),
                cmocka_unit_test(a_planted_fault_is_found_and_shrunk),
                cmocka_unit_test(order_never_matters),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
