/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and prefixes: what parses, what does not, and that masking and covering agree with arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static void parses(const char *text, const char *expected)
{
        char buf[WEIR_ADDR_STRLEN];
        struct weir_addr addr;

        assert_int_equal(weir_addr_parse(text, &addr), 0);
        assert_string_equal(weir_addr_format(&addr, buf), expected);
}

static void addresses_parse_strictly(void **state)
{
        static const char *const wrong[] = { "",           "1.2.3",        "01.2.3.4", "1.2.3.4.5", "0x7f.1",
                                             "2130706433", "fe80::1%eth0", "::1::",    "1.2.3.256", " 1.2.3.4",
                                             "1.2.3.4 ",   "localhost",    "[::1]" };
        struct weir_addr addr;

        (void)state;
        parses("10.0.0.1", "10.0.0.1");
        parses("::ffff:10.0.0.1", "10.0.0.1");
        parses("2620:0:861:ed1a:0::1", "2620:0:861:ed1a::1");
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
                assert_int_not_equal(weir_addr_parse(wrong[i], &addr), 0);
}

static void prefixes_are_masked(void **state)
{
        static const struct {
                const char *text, *expected;
                bool host_bits;
        } cases[] = {
                { "91.198.174.200/27", "91.198.174.192/27", true },
                { "10.0.0.0/8", "10.0.0.0/8", false },
                { "0.0.0.0/0", "0.0.0.0/0", false },
                { "1.2.3.4", "1.2.3.4/32", false },
                { "2620:0:861::1/46", "2620:0:860::/46", true },
                { "::/0", "::/0", false },
                { "::ffff:10.1.2.3/104", "10.0.0.0/8", true },
                { "fe80::1", "fe80::1/128", false },
        };
        char buf[WEIR_PREFIX_STRLEN];
        struct weir_prefix prefix;
        bool host_bits;

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                assert_int_equal(weir_prefix_parse(cases[i].text, &prefix, &host_bits), 0);
                assert_string_equal(weir_prefix_format(&prefix, buf), cases[i].expected);
                assert_int_equal(host_bits, cases[i].host_bits);
        }
}

static void wrong_prefixes_are_refused(void **state)
{
        static const char *const wrong[] = { "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "10.0.0.0/08",
                                             "10.0.0.0/-1", "::/129",    "/8",       "1.2.3.4/8/8" };
        struct weir_prefix prefix;

        (void)state;
        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
                assert_int_not_equal(weir_prefix_parse(wrong[i], &prefix, NULL), 0);
}

/* Against 32-bit arithmetic, which shares nothing with the code. */
static void containment_agrees_with_arithmetic(void **state)
{
        (void)state;
        srandom(7);
        for (unsigned i = 0; i < 200000; i++) {
                uint32_t net = (uint32_t)random() ^ (uint32_t)random() << 16,
                         host = net ^ (uint32_t)random() >> (random() % 32);
                unsigned bits = (unsigned)random() % 33;
                uint32_t mask = bits ? UINT32_MAX << (32 - bits) : 0;
                char text[64], dotted[INET_ADDRSTRLEN];
                struct in_addr in = { htonl(net) };
                struct weir_prefix prefix;
                struct weir_addr addr;

                (void)snprintf(text, sizeof(text), "%s/%u", inet_ntop(AF_INET, &in, dotted, sizeof(dotted)), bits);
                assert_int_equal(weir_prefix_parse(text, &prefix, NULL), 0);
                in.s_addr = htonl(host);
                assert_int_equal(weir_addr_parse(inet_ntop(AF_INET, &in, dotted, sizeof(dotted)), &addr), 0);
                assert_int_equal(weir_prefix_contains(&prefix, &addr), (net & mask) == (host & mask));
        }
}

static void sockaddr_round_trips(void **state)
{
        static const char *const texts[] = { "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.9" };

        (void)state;
        for (size_t i = 0; i < 3; i++) {
                struct weir_addr addr, back;
                struct sockaddr_storage sa;
                uint16_t port;
                socklen_t length;

                assert_int_equal(weir_addr_parse(texts[i], &addr), 0);
                length = weir_addr_to_sockaddr(&addr, 8443, &sa);
                assert_int_equal(weir_addr_from_sockaddr((struct sockaddr *)&sa, length, &back, &port), 0);
                assert_true(weir_addr_equal(&addr, &back));
                assert_int_equal(port, 8443);
                assert_int_not_equal(weir_addr_from_sockaddr((struct sockaddr *)&sa, 4, &back, &port), 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(addresses_parse_strictly),   cmocka_unit_test(prefixes_are_masked),
                cmocka_unit_test(wrong_prefixes_are_refused), cmocka_unit_test(containment_agrees_with_arithmetic),
                cmocka_unit_test(sockaddr_round_trips),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
