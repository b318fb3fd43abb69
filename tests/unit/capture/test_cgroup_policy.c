/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel decides as weir_policy_match() does: random policies are put in force, and the egress program is run on
 * packets that this test makes (BPF_PROG_TEST_RUN, which sends nothing). And a policy for which there is no room leaves
 * the old one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <bpf/bpf.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "capture/cgroup_gates.h"
#include "capture/cgroup_policy.h"
#include "model/resource.h"
#include "policy/policy.h"

#define WORLDS 150
#define QUESTIONS 300

static uint64_t seed = 7;

/* xorshift64*: the same cases every time. */
static uint32_t draw(uint32_t below)
{
        seed ^= seed >> 12;
        seed ^= seed << 25;
        seed ^= seed >> 27;
        return (uint32_t)((seed * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % below;
}

static const char *const edges[] = {
        "127.0.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "0.0.0.0",
        "::1",
        "::",
        "fe80::1",
        "fd00:ec2::254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2002:a00:1::",
        "2001:0:a9fe:a9fe::",
        "2001::5601:5601",
        "::127.0.0.1",
        "64:ff9b:1::7f00:1",
        "64:ff9b::a00:1",
        "10.9.8.7",
        "2001:db8:9::9",
        "255.255.255.255",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
};

static void draw_address(struct weir_addr *ret)
{
        if (draw(4) == 0) {
                assert_int_equal(weir_addr_parse(edges[draw(WEIR_ARRAY_SIZE(edges))], ret), 0);
                return;
        }
        *ret = (struct weir_addr){ 0 };
        if (draw(2)) {
                ret->bytes[10] = ret->bytes[11] = 0xff;
                ret->bytes[12] = 10;
        } else
                memcpy(ret->bytes, "\x20\x01\x0d\xb8", 4);
        for (size_t i = 13; i < 16; i++)
                ret->bytes[i] = (uint8_t)draw(4);
}

/* One ServiceEntry after another, of prefixes around the addresses that are asked for. */
static struct weir_policy *draw_policy(uint64_t generation)
{
        weir_auto(buf) struct weir_buf text = { 0 };
        struct weir_resources resources = { 0 };
        struct weir_errs errors = { 0 };
        struct weir_err err = { 0 };
        struct weir_addr self[2];
        struct weir_policy *policy;

        for (size_t i = 0, n = draw(6); i < n; i++) {
                weir_buf_printf(&text,
                                "---\nkind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {name: r%zu, "
                                "namespace: default}\n"
                                "spec:\n  hosts: [r%zu.test]\n  resolution: NONE\n  addresses:\n",
                                i, i);
                for (size_t k = 0, blocks = 1 + draw(5); k < blocks; k++) {
                        struct weir_addr addr;
                        char name[WEIR_ADDR_STRLEN];

                        draw_address(&addr);
                        weir_buf_printf(&text, "  - '%s/%u'\n", weir_addr_format(&addr, name),
                                        weir_addr_is_v4(&addr) ? draw(33) : draw(129));
                }
                weir_buf_puts(&text, "  ports:\n");
                for (unsigned port = 440 + draw(3); port < 444; port += 1 + draw(2))
                        weir_buf_printf(&text, "  - {number: %u, name: p%u, protocol: TCP}\n", port, port);
        }
        draw_address(&self[0]);
        draw_address(&self[1]);
        if (text.length > 0 && weir_resources_read(text.data, text.length, "test", &resources, &errors, NULL) < 0)
                fail_msg("%s\n%s", errors.items[0].text, text.data);
        const struct weir_policy_options options = { .generation = generation, .self = self, .n_self = draw(3) };
        assert_int_equal(weir_policy_compile(&resources, &options, &policy, &err), 0);
        weir_resources_clear(&resources);
        weir_errs_clear(&errors);
        return policy;
}

static size_t make_packet(const struct weir_addr *to, uint16_t port, uint8_t *packet)
{
        struct ethhdr eth = { .h_proto = htons(weir_addr_is_v4(to) ? ETH_P_IP : ETH_P_IPV6) };
        struct tcphdr tcp = { .source = htons(40000), .dest = htons(port), .doff = 5, .syn = 1 };
        size_t n = sizeof(eth);

        memcpy(packet, &eth, sizeof(eth));
        if (weir_addr_is_v4(to)) {
                struct iphdr ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .tot_len = htons(40) };

                memcpy(&ip.daddr, to->bytes + 12, 4);
                memcpy(packet + n, &ip, sizeof(ip));
                n += sizeof(ip);
        } else {
                struct ip6_hdr ip = { .ip6_vfc = 0x60, .ip6_plen = htons(20), .ip6_nxt = IPPROTO_TCP, .ip6_hlim = 64 };

                memcpy(&ip.ip6_dst, to->bytes, 16);
                memcpy(packet + n, &ip, sizeof(ip));
                n += sizeof(ip);
        }
        memcpy(packet + n, &tcp, sizeof(tcp));
        return n + sizeof(tcp);
}

static bool leaves(int program, const struct weir_addr *to, uint16_t port)
{
        uint8_t packet[128];
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet,
                    .data_size_in = (uint32_t)make_packet(to, port, packet));

        assert_int_equal(bpf_prog_test_run_opts(program, &options), 0);
        return options.retval == 1;
}

static void put_in_force(const struct weir_gates *gates, const struct weir_policy *policy)
{
        const struct weir_cgroup_doors doors = { .mark = 1 };
        struct weir_err err = { 0 };
        int map = weir_cgroup_policy_build(policy, &doors, weir_policy_generation(policy), 0, &err);

        if (map < 0)
                fail_msg("%s", err.text);
        assert_int_equal(weir_cgroup_policy_switch(weir_gates_live(gates), map, &err), 0);
        (void)close(map);
}

static struct weir_gates *load(void)
{
        struct weir_gates *gates = NULL;
        struct weir_err err = { 0 };

        if (weir_gates_load(&gates, &err) < 0)
                fail_msg("this test needs root: %s", err.text);
        return gates;
}

static void the_kernel_decides_as_the_snapshot_does(void **state)
{
        weir_auto(gates) struct weir_gates *gates = load();
        int program = weir_gates_program(gates, "weir_egress");
        unsigned allowed = 0;

        (void)state;
        for (uint64_t world = 1; world <= WORLDS; world++) {
                struct weir_policy *policy = draw_policy(world);

                put_in_force(gates, policy);
                assert_int_equal(weir_gates_generation(gates), world);
                for (unsigned i = 0; i < QUESTIONS; i++) {
                        struct weir_query query = { .protocol = WEIR_IP_TCP, .port = (uint16_t)(440 + draw(5)) };
                        struct weir_decision decision;
                        char to[WEIR_ENDPOINT_STRLEN];

                        draw_address(&query.addr);
                        weir_policy_match(policy, &query, &decision);
                        allowed += decision.verdict == WEIR_VERDICT_ALLOW;
                        /* 0.0.0.0 and :: are where connect() can go, and no packet. */
                        if (decision.verdict == WEIR_VERDICT_ALLOW && !weir_addr_equal(&decision.addr, &query.addr))
                                continue;
                        if (leaves(program, &query.addr, query.port) != (decision.verdict == WEIR_VERDICT_ALLOW))
                                fail_msg("%s: the snapshot says %s (%s), the kernel does not",
                                         weir_endpoint_format(&query.addr, query.port, to),
                                         weir_verdict_name(decision.verdict), weir_reason_name(decision.reason));
                }
                weir_policy_unref(policy);
        }
        print_message("%u of %u were allowed\n", allowed, WORLDS * QUESTIONS);
        assert_true(allowed > WORLDS * QUESTIONS / 50);
}

static void without_a_policy_nothing_leaves(void **state)
{
        weir_auto(gates) struct weir_gates *gates = load();
        struct weir_addr to;

        (void)state;
        assert_int_equal(weir_addr_parse("10.0.0.1", &to), 0);
        assert_false(leaves(weir_gates_program(gates, "weir_egress"), &to, 443));
        assert_int_equal(weir_gates_generation(gates), 0);
}

static struct weir_policy *of_prefixes(unsigned n, uint64_t generation)
{
        weir_auto(buf) struct weir_buf text = { .limit = (size_t)256 * 1024 * 1024 };
        struct weir_resources resources = { 0 };
        struct weir_errs errors = { 0 };
        struct weir_err err = { 0 };
        struct weir_policy *policy;
        const struct weir_policy_options options = { .generation = generation };

        /* A document has 100,000 nodes at most. Every second address, so that none melt together. */
        for (unsigned i = 0; i < n; i++) {
                if (i % 50000 == 0)
                        weir_buf_printf(&text,
                                        "---\nkind: ServiceEntry\napiVersion: networking.istio.io/v1\nmetadata: {name: "
                                        "r%u, namespace: default}\n"
                                        "spec:\n  hosts: [r%u.test]\n  resolution: NONE\n  ports:\n  - {number: 443, "
                                        "name: p, protocol: TCP}\n"
                                        "  addresses:\n",
                                        i, i);
                weir_buf_printf(&text, "  - 11.%u.%u.%u\n", i >> 15, i >> 7 & 255, (i & 127) * 2);
        }
        if (weir_resources_read(text.data, text.length, "test", &resources, &errors, NULL) < 0)
                fail_msg("%s", errors.items[0].text);
        assert_int_equal(weir_policy_compile(&resources, &options, &policy, &err), 0);
        weir_resources_clear(&resources);
        return policy;
}

static double seconds(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The figure is printed, not judged: a timed test would fail on a busy machine. */
static void a_million_prefixes(void **state)
{
        weir_auto(gates) struct weir_gates *gates = load();
        struct weir_policy *policy = of_prefixes(1000000, 1);
        int program = weir_gates_program(gates, "weir_egress");
        double begin = seconds();

        (void)state;
        put_in_force(gates, policy);
        print_message("a million prefixes in force after %.0f ms\n", (seconds() - begin) * 1000);
        for (unsigned i = 0; i < 1000000; i += 997) {
                struct weir_addr to = { .bytes = { [10] = 0xff,
                                                   [11] = 0xff,
                                                   [12] = 11,
                                                   [13] = (uint8_t)(i >> 15),
                                                   [14] = (uint8_t)(i >> 7),
                                                   [15] = (uint8_t)((i & 127) * 2) } };

                assert_true(leaves(program, &to, 443));
                assert_false(leaves(program, &to, 80));
                to.bytes[15]++;
                assert_false(leaves(program, &to, 443));
        }
        weir_policy_unref(policy);
}

static void a_policy_without_room_leaves_the_old_one(void **state)
{
        weir_auto(gates) struct weir_gates *gates = load();
        struct weir_policy *small = of_prefixes(10, 1), *large = of_prefixes(1000, 2);
        int program = weir_gates_program(gates, "weir_egress");
        const struct weir_cgroup_doors doors = { .mark = 1 };
        struct weir_addr old, fresh;
        struct weir_err err = { 0 };

        (void)state;
        assert_int_equal(weir_addr_parse("11.0.0.2", &old), 0);
        assert_int_equal(weir_addr_parse("11.0.2.2", &fresh), 0);
        put_in_force(gates, small);
        assert_int_equal(weir_cgroup_policy_build(large, &doors, 2, 500, &err), WEIR_ELIMIT);
        assert_non_null(strstr(err.text, "entries in the kernel and 500 are the most"));
        assert_true(leaves(program, &old, 443));
        assert_false(leaves(program, &fresh, 443));
        assert_int_equal(weir_gates_generation(gates), 1);
        put_in_force(gates, large);
        assert_true(leaves(program, &fresh, 443));
        weir_policy_unref(small);
        weir_policy_unref(large);
}

static void what_is_no_plain_packet_is_refused(void **state)
{
        weir_auto(gates) struct weir_gates *gates = load();
        struct weir_policy *policy = of_prefixes(10, 1);
        int program = weir_gates_program(gates, "weir_egress");
        struct weir_addr to;
        uint8_t packet[128];
        /* Options, a fragment with more to come, one with an offset, UDP, ICMP, another version. */
        static const struct {
                size_t at;
                uint8_t value;
        } changes[] = { { 14, 0x46 }, { 20, 0x20 }, { 21, 0x01 }, { 23, 17 }, { 23, 1 }, { 14, 0x65 } };
        size_t n;

        (void)state;
        put_in_force(gates, policy);
        assert_int_equal(weir_addr_parse("11.0.0.2", &to), 0);
        assert_true(leaves(program, &to, 443));
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(changes); i++) {
                n = make_packet(&to, 443, packet);
                packet[changes[i].at] = changes[i].value;
                LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = (uint32_t)n);
                assert_int_equal(bpf_prog_test_run_opts(program, &options), 0);
                assert_int_equal(options.retval, 0);
        }
        weir_policy_unref(policy);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(without_a_policy_nothing_leaves),
                cmocka_unit_test(the_kernel_decides_as_the_snapshot_does),
                cmocka_unit_test(a_policy_without_room_leaves_the_old_one),
                cmocka_unit_test(what_is_no_plain_packet_is_refused),
                cmocka_unit_test(a_million_prefixes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
