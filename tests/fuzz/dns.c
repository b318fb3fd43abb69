/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS messages. The first byte says whether the rest is a query alone, or a query of so many bytes and a reply behind
 * it. What is written of a query is a query, and a reply to it.
 */
#include "fuzz.h"

#include "base/strutil.h"
#include "proto/dns.h"

static void check_query_upstream(const uint8_t *bytes, size_t n, const struct weir_dns_query *query)
{
        uint8_t out[WEIR_DNS_QUERY_MAX];
        struct weir_dns_query again;
        enum weir_dns_rcode rcode;
        size_t length = weir_dns_write_query(bytes, n, query, out, sizeof(out));

        CHECK(length > 0 && length <= sizeof(out));
        CHECK(weir_dns_parse_query(out, length, &again, &rcode) == WEIR_PASS);
        CHECK(weir_streq(again.name, query->name) && again.type == query->type && again.id == query->id);
        CHECK(again.recursion_desired && again.edns == query->edns && again.dnssec_ok == query->dnssec_ok);
        CHECK(weir_dns_write_query(bytes, n, query, out, sizeof(out) - 1) == 0);
}

/* @out holds what was written for @query: a reply to it and to nothing else. */
static void check_is_reply(uint8_t *out, size_t length, size_t room, const struct weir_dns_query *query, bool truncated)
{
        struct weir_dns_query other = *query;
        bool tc = !truncated;

        CHECK(length >= WEIR_DNS_HEADER && length <= room);
        CHECK(weir_dns_check_reply(out, length, query, &tc) == WEIR_PASS && tc == truncated);
        other.id ^= 1;
        CHECK(weir_dns_check_reply(out, length, &other, &tc) != WEIR_PASS);
        other = *query;
        other.type ^= 1;
        CHECK(weir_dns_check_reply(out, length, &other, &tc) != WEIR_PASS);
        if (!truncated)
                for (size_t n = 0; n < length; n++)
                        CHECK(weir_dns_check_reply(out, n, query, &tc) != WEIR_PASS);
        length = weir_dns_write_opt(out, length, room, WEIR_DNS_UDP_SIZE, query->dnssec_ok);
        CHECK(weir_dns_check_reply(out, length, query, &tc) == WEIR_PASS);
}

static void check_replies(const uint8_t *bytes, size_t n, const struct weir_dns_query *query)
{
        static const char *const addresses[] = { "192.0.2.1", "2001:db8::1" };
        uint8_t out[600];

        for (int rcode = WEIR_DNS_NOERROR; rcode <= WEIR_DNS_REFUSED; rcode++)
                for (int truncated = 0; truncated < 2; truncated++) {
                        size_t length = weir_dns_write_error(bytes, n, query->question_end, (enum weir_dns_rcode)rcode,
                                                             truncated, out, sizeof(out));

                        CHECK(weir_dns_rcode(out, length) == (enum weir_dns_rcode)rcode);
                        check_is_reply(out, length, sizeof(out), query, truncated);
                }
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(addresses); i++) {
                struct weir_addr addr;

                CHECK(weir_addr_parse(addresses[i], &addr) == 0);
                check_is_reply(out, weir_dns_write_address(bytes, n, query->question_end, &addr, 60, out, sizeof(out)),
                               sizeof(out), query, false);
        }
}

static bool check_query(const uint8_t *bytes, size_t n, struct weir_dns_query *query)
{
        enum weir_dns_rcode rcode = WEIR_DNS_REFUSED;
        uint8_t out[600];

        if (weir_dns_parse_query(bytes, n, query, &rcode) != WEIR_PASS) {
                CHECK(rcode == WEIR_DNS_NOERROR || rcode == WEIR_DNS_FORMERR || rcode == WEIR_DNS_NOTIMP);
                CHECK(rcode == WEIR_DNS_NOERROR || n >= WEIR_DNS_HEADER);
                if (rcode != WEIR_DNS_NOERROR)
                        CHECK(weir_dns_write_error(bytes, n, 0, rcode, false, out, sizeof(out)) == WEIR_DNS_HEADER);
                return false;
        }
        CHECK(strlen(query->name) < WEIR_DNS_NAME_MAX && query->question_end <= n && query->udp_size >= 512);
        for (const char *c = query->name; *c; c++)
                CHECK(*c > ' ' && *c < 0x7f && !(*c >= 'A' && *c <= 'Z'));
        check_query_upstream(bytes, n, query);
        check_replies(bytes, n, query);
        return true;
}

/* A reply that passes can be given on: with the client's id it answers the client's question. */
static void check_reply(const uint8_t *query_bytes, struct weir_dns_query *query, const uint8_t *bytes, size_t n)
{
        bool truncated, again;
        uint8_t *copy;

        query->id = n >= 2 ? (uint16_t)(bytes[0] << 8 | bytes[1]) : 0;
        if (weir_dns_check_reply(bytes, n, query, &truncated) != WEIR_PASS)
                return;
        copy = (uint8_t *)exact_copy(bytes, n);
        weir_dns_restore(copy, n, query_bytes, query->question_end);
        query->id = (uint16_t)(query_bytes[0] << 8 | query_bytes[1]);
        CHECK(weir_dns_check_reply(copy, n, query, &again) == WEIR_PASS && again == truncated);
        CHECK(memcmp(copy + WEIR_DNS_HEADER, query_bytes + WEIR_DNS_HEADER, query->question_end - WEIR_DNS_HEADER) ==
              0);
        free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        struct weir_cursor feed = weir_cursor(bytes, n);
        bool with_reply = feed_below(&feed, 2);
        struct weir_dns_query query;
        uint8_t *first, *rest;
        size_t n_first, n_rest;

        if (with_reply) {
                first = feed_block(&feed, &n_first);
        } else {
                n_first = weir_cursor_left(&feed);
                first = (uint8_t *)exact_copy(feed.at, n_first);
        }
        n_rest = with_reply ? weir_cursor_left(&feed) : 0;
        rest = (uint8_t *)exact_copy(feed.at, n_rest);
        if (check_query(first, n_first, &query))
                check_reply(first, &query, rest, n_rest);
        free(first);
        free(rest);
        return 0;
}
