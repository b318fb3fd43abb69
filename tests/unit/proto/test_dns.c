/* SPDX-License-Identifier: Apache-2.0 */
/* DNS messages: what is read, what is refused, and that no input makes a reader leave its bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/dns.h"

#define MESSAGE_MAX 512

struct message {
        uint8_t bytes[MESSAGE_MAX];
        size_t n;
};

static void put(struct message *m, const void *bytes, size_t n)
{
        assert_true(m->n + n <= sizeof(m->bytes));
        memcpy(m->bytes + m->n, bytes, n);
        m->n += n;
}

static void put16(struct message *m, unsigned v)
{
        put(m, (uint8_t[]){ (uint8_t)(v >> 8), (uint8_t)v }, 2);
}

static void put_header(struct message *m, unsigned id, unsigned flags, unsigned qd, unsigned an, unsigned ns,
                       unsigned ar)
{
        put16(m, id);
        put16(m, flags);
        put16(m, qd);
        put16(m, an);
        put16(m, ns);
        put16(m, ar);
}

/* "www.example.org" as labels. */
static void put_name(struct message *m, const char *name)
{
        while (*name) {
                size_t n = strcspn(name, ".");

                put(m, (uint8_t[]){ (uint8_t)n }, 1);
                put(m, name, n);
                name += n + (name[n] == '.');
        }
        put(m, "", 1);
}

static void put_question(struct message *m, const char *name, unsigned type, unsigned class)
{
        put_name(m, name);
        put16(m, type);
        put16(m, class);
}

static void put_opt(struct message *m, unsigned size, unsigned version, const void *options, size_t n)
{
        put(m, "", 1);
        put16(m, WEIR_DNS_OPT);
        put16(m, size);
        put16(m, version);
        put16(m, 0x8000);
        put16(m, (unsigned)n);
        put(m, options, n);
}

static void put_record(struct message *m, unsigned pointer, unsigned type, const void *data, size_t n)
{
        put16(m, 0xc000 | pointer);
        put16(m, type);
        put16(m, 1);
        put16(m, 0);
        put16(m, 60);
        put16(m, (unsigned)n);
        put(m, data, n);
}

static struct message query_message(const char *name, unsigned type)
{
        struct message m = { .n = 0 };

        put_header(&m, 0x1234, 0x0100, 1, 0, 0, 0);
        put_question(&m, name, type, 1);
        return m;
}

/* A copy of exactly @n heap bytes, so that one byte too far is seen by the address sanitizer. */
static enum weir_match parse(const uint8_t *bytes, size_t n, struct weir_dns_query *query, enum weir_dns_rcode *rcode)
{
        uint8_t *copy = malloc(n ? n : 1);
        enum weir_match match;

        assert_non_null(copy);
        memcpy(copy, bytes, n);
        match = weir_dns_parse_query(copy, n, query, rcode);
        free(copy);
        return match;
}

static enum weir_match check(const uint8_t *bytes, size_t n, const struct weir_dns_query *query, bool *truncated)
{
        uint8_t *copy = malloc(n ? n : 1);
        enum weir_match match;

        assert_non_null(copy);
        memcpy(copy, bytes, n);
        match = weir_dns_check_reply(copy, n, query, truncated);
        free(copy);
        return match;
}

static struct weir_dns_query must_parse(const struct message *m)
{
        struct weir_dns_query query;
        enum weir_dns_rcode rcode;

        assert_int_equal(parse(m->bytes, m->n, &query, &rcode), WEIR_PASS);
        return query;
}

static void must_fail(const struct message *m, enum weir_dns_rcode want)
{
        struct weir_dns_query query;
        enum weir_dns_rcode rcode;

        assert_int_equal(parse(m->bytes, m->n, &query, &rcode), WEIR_FAIL);
        assert_int_equal(rcode, want);
}

static void reads_a_query(void **state)
{
        struct message m = query_message("WWW.Example_1.org", WEIR_DNS_AAAA);
        struct weir_dns_query query = must_parse(&m);

        (void)state;
        assert_string_equal(query.name, "www.example_1.org");
        assert_int_equal(query.id, 0x1234);
        assert_int_equal(query.type, WEIR_DNS_AAAA);
        assert_int_equal(query.question_end, m.n);
        assert_int_equal(query.udp_size, 512);
        assert_true(query.recursion_desired);
        assert_false(query.edns);
}

static void reads_edns(void **state)
{
        struct message m = { .n = 0 };
        struct weir_dns_query query;

        (void)state;
        put_header(&m, 1, 0x0130, 1, 0, 0, 1);
        put_question(&m, "", WEIR_DNS_NS, 1);
        put_opt(&m, 4096, 0, "\0\012\0\010abcdefgh", 12);
        query = must_parse(&m);
        assert_string_equal(query.name, "");
        assert_int_equal(query.udp_size, 4096);
        assert_true(query.edns && query.dnssec_ok && query.checking_disabled && query.authentic_data);

        m.n = 0; /* less than 512 means 512, RFC 6891 6.2.3 */
        put_header(&m, 1, 0x0100, 1, 0, 0, 1);
        put_question(&m, "a", WEIR_DNS_A, 1);
        put_opt(&m, 3, 0, "", 0);
        assert_int_equal(must_parse(&m).udp_size, 512);
}

static void refuses_malformed_queries(void **state)
{
        static const struct {
                unsigned flags, qd, an, ns, ar;
                enum weir_dns_rcode rcode;
        } headers[] = {
                { 0x8100, 1, 0, 0, 0, WEIR_DNS_NOERROR }, /* a response is never answered */
                { 0x2100, 1, 0, 0, 0, WEIR_DNS_NOTIMP },  /* NOTIFY */
                { 0x2800, 1, 0, 0, 0, WEIR_DNS_NOTIMP },  /* UPDATE */
                { 0x0300, 1, 0, 0, 0, WEIR_DNS_FORMERR }, /* TC */
                { 0x0101, 1, 0, 0, 0, WEIR_DNS_FORMERR }, /* an rcode */
                { 0x0100, 0, 0, 0, 0, WEIR_DNS_FORMERR }, { 0x0100, 2, 0, 0, 0, WEIR_DNS_FORMERR },
                { 0x0100, 1, 1, 0, 0, WEIR_DNS_FORMERR }, { 0x0100, 1, 0, 1, 0, WEIR_DNS_FORMERR },
                { 0x0100, 1, 0, 0, 1, WEIR_DNS_FORMERR }, /* no OPT behind it */
                { 0x0100, 1, 0, 0, 2, WEIR_DNS_FORMERR },
        };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(headers); i++) {
                struct message m = { .n = 0 };

                put_header(&m, 7, headers[i].flags, headers[i].qd, headers[i].an, headers[i].ns, headers[i].ar);
                put_question(&m, "a.example", WEIR_DNS_A, 1);
                must_fail(&m, headers[i].rcode);
        }
}

static void refuses_malformed_questions(void **state)
{
        struct message m = query_message("a.example", WEIR_DNS_A);

        (void)state;
        put(&m, "x", 1); /* a trailing byte */
        must_fail(&m, WEIR_DNS_FORMERR);

        m.n = 0; /* class CH */
        put_header(&m, 7, 0x0100, 1, 0, 0, 0);
        put_question(&m, "version.bind", WEIR_DNS_TXT, 3);
        must_fail(&m, WEIR_DNS_NOTIMP);

        m.n = 0; /* compression in a question */
        put_header(&m, 7, 0x0100, 1, 0, 0, 0);
        put(&m, "\1a\300\014\0\1\0\1", 8);
        must_fail(&m, WEIR_DNS_FORMERR);

        m.n = 0; /* a label of 64 */
        put_header(&m, 7, 0x0100, 1, 0, 0, 0);
        put(&m, "\100", 1);
        for (int i = 0; i < 64; i++)
                put(&m, "a", 1);
        put(&m, "\0\0\1\0\1", 5);
        must_fail(&m, WEIR_DNS_FORMERR);

        m.n = 0; /* an EDNS version that is not ours, and an option longer than its record */
        put_header(&m, 7, 0x0100, 1, 0, 0, 1);
        put_question(&m, "a", WEIR_DNS_A, 1);
        put_opt(&m, 512, 1, "", 0);
        must_fail(&m, WEIR_DNS_FORMERR);
        m.n = 0;
        put_header(&m, 7, 0x0100, 1, 0, 0, 1);
        put_question(&m, "a", WEIR_DNS_A, 1);
        put_opt(&m, 512, 0, "\0\012\0\5abcd", 8);
        must_fail(&m, WEIR_DNS_FORMERR);
}

/* @n labels of one byte: 2n+1 bytes on the wire. */
static struct message many_labels(unsigned n, const char *label)
{
        struct message m = { .n = 0 };

        put_header(&m, 7, 0x0100, 1, 0, 0, 0);
        for (unsigned i = 0; i < n; i++) {
                put(&m, "\1", 1);
                put(&m, label, 1);
        }
        put(&m, "\0\0\1\0\1", 5);
        return m;
}

static void bounds_the_name(void **state)
{
        struct message longest = many_labels(127, "a"), longer = many_labels(128, "a"), escaped = many_labels(60, "\1");

        (void)state;
        assert_int_equal(strlen(must_parse(&longest).name), 253);
        must_fail(&longer, WEIR_DNS_FORMERR);
        must_fail(&escaped, WEIR_DNS_FORMERR); /* fits the wire, not the presentation form: refused, never cut */
}

static void escapes_what_is_no_host_name(void **state)
{
        struct message m = { .n = 0 };

        (void)state;
        put_header(&m, 7, 0x0100, 1, 0, 0, 0);
        put(&m, "\3a.b\2\0\377\0\0\1\0\1",
            12); /* a dot and a NUL inside labels must not look like separators or ends */
        assert_string_equal(must_parse(&m).name, "a\\046b.\\000\\255");
}

static void every_truncation_fails(void **state)
{
        struct message m = { .n = 0 };
        struct weir_dns_query query;
        enum weir_dns_rcode rcode;

        (void)state;
        put_header(&m, 1, 0x0100, 1, 0, 0, 1);
        put_question(&m, "www.example.org", WEIR_DNS_A, 1);
        put_opt(&m, 1232, 0, "\0\012\0\010abcdefgh", 12);
        assert_int_equal(parse(m.bytes, m.n, &query, &rcode), WEIR_PASS);
        for (size_t n = 0; n < m.n; n++) {
                assert_int_equal(parse(m.bytes, n, &query, &rcode), WEIR_FAIL);
                assert_int_equal(rcode, n < WEIR_DNS_HEADER ? WEIR_DNS_NOERROR : WEIR_DNS_FORMERR);
        }
}

/* A chain of CNAME, A, AAAA, SOA, MX, SRV and OPT, with pointers into earlier names. */
static struct message reply_message(void)
{
        struct message m = { .n = 0 };

        put_header(&m, 0x1234, 0x8180, 1, 3, 1, 3);
        put_question(&m, "WwW.example.ORG", WEIR_DNS_A, 1);
        put_record(&m, 12, WEIR_DNS_CNAME, "\3cdn\300\020", 6);
        put_record(&m, 45, WEIR_DNS_A, "\306\43\32\140", 4);
        put_record(&m, 12, WEIR_DNS_AAAA, "0123456789abcdef", 16);
        put_record(&m, 16, WEIR_DNS_SOA, "\2ns\300\020\4mail\300\02001234567890123456789", 32);
        put_record(&m, 12, WEIR_DNS_MX, "\0\12\300\020", 4);
        put_record(&m, 12, WEIR_DNS_SRV, "\0\1\0\2\0\3\300\020", 8);
        put_opt(&m, 1232, 0, "", 0);
        return m;
}

static void checks_a_reply(void **state)
{
        struct message q = query_message("www.EXAMPLE.org", WEIR_DNS_A), m = reply_message();
        struct weir_dns_query query = must_parse(&q), other;
        bool truncated = true;

        (void)state;
        assert_int_equal(check(m.bytes, m.n, &query, &truncated), WEIR_PASS);
        assert_false(truncated);
        for (size_t n = 0; n < m.n; n++)
                assert_int_equal(check(m.bytes, n, &query, &truncated), WEIR_FAIL);
        put(&m, "x", 1);
        assert_int_equal(check(m.bytes, m.n, &query, &truncated), WEIR_FAIL);
        m.n--;
        other = query;
        other.id++;
        assert_int_equal(check(m.bytes, m.n, &other, &truncated), WEIR_FAIL);
        other = query;
        other.type = WEIR_DNS_AAAA;
        assert_int_equal(check(m.bytes, m.n, &other, &truncated), WEIR_FAIL);
        other = query;
        other.name[0] = 'v';
        assert_int_equal(check(m.bytes, m.n, &other, &truncated), WEIR_FAIL);
        m.bytes[2] &= 0x7f; /* not a response */
        assert_int_equal(check(m.bytes, m.n, &query, &truncated), WEIR_FAIL);
}

static void checks_truncated_and_wrong_data(void **state)
{
        struct message q = query_message("a", WEIR_DNS_A), m = { .n = 0 };
        struct weir_dns_query query = must_parse(&q);
        bool truncated = false;

        (void)state;
        put_header(&m, 0x1234, 0x8380, 1, 9, 0, 0); /* cut in the middle of its records */
        put_question(&m, "a", WEIR_DNS_A, 1);
        put(&m, "\300", 1);
        assert_int_equal(check(m.bytes, m.n, &query, &truncated), WEIR_PASS);
        assert_true(truncated);

        m.n = 0; /* an address of three bytes */
        put_header(&m, 0x1234, 0x8180, 1, 1, 0, 0);
        put_question(&m, "a", WEIR_DNS_A, 1);
        put_record(&m, 12, WEIR_DNS_A, "abc", 3);
        assert_int_equal(check(m.bytes, m.n, &query, &truncated), WEIR_FAIL);

        m.n = 0; /* OPT among the answers */
        put_header(&m, 0x1234, 0x8180, 1, 1, 0, 0);
        put_question(&m, "a", WEIR_DNS_A, 1);
        put_opt(&m, 512, 0, "", 0);
        assert_int_equal(check(m.bytes, m.n, &query, &truncated), WEIR_FAIL);
}

static void refuses_pointer_loops(void **state)
{
        struct message q = query_message("a", WEIR_DNS_A);
        struct weir_dns_query query = must_parse(&q);
        /* The record's name stands at 19: itself, ahead, into the header, and past the end. */
        static const unsigned targets[] = { 19, 21, 5, 0x3fff };
        bool truncated;

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(targets); i++) {
                struct message m = { .n = 0 };

                put_header(&m, 0x1234, 0x8180, 1, 1, 0, 0);
                put_question(&m, "a", WEIR_DNS_A, 1);
                assert_int_equal(m.n, 19);
                put_record(&m, targets[i], WEIR_DNS_A, "abcd", 4);
                assert_int_equal(check(m.bytes, m.n, &query, &truncated), WEIR_FAIL);
        }
}

static uint64_t next_random(uint64_t *seed)
{
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        return *seed;
}

/* Whatever passes keeps its promises; whatever fails, fails inside its bytes (seen by the address sanitizer). */
static void survives_mutations(void **state)
{
        struct message q = query_message("www.example.org", WEIR_DNS_A), r = reply_message();
        struct weir_dns_query query = must_parse(&q);
        uint64_t seed = UINT64_C(0x2545f4914f6cdd1d);
        unsigned passed = 0;

        (void)state;
        for (unsigned i = 0; i < 200000; i++) {
                struct message m = i % 2 ? q : r;
                struct weir_dns_query got;
                enum weir_dns_rcode rcode;
                bool truncated;

                for (unsigned k = (unsigned)(next_random(&seed) % 4); k > 0; k--)
                        m.bytes[next_random(&seed) % m.n] = (uint8_t)next_random(&seed);
                if (next_random(&seed) % 4 == 0)
                        m.n = next_random(&seed) % (m.n + 1);
                if (parse(m.bytes, m.n, &got, &rcode) == WEIR_PASS) {
                        passed++;
                        assert_true(strlen(got.name) < WEIR_DNS_NAME_MAX);
                        assert_true(got.question_end <= m.n && got.udp_size >= 512);
                }
                if (check(m.bytes, m.n, &query, &truncated) == WEIR_PASS)
                        passed++;
        }
        assert_true(passed > 1000); /* the mutations are not all hopeless */
}

static void survives_noise(void **state)
{
        uint64_t seed = 42;

        (void)state;
        for (unsigned i = 0; i < 50000; i++) {
                uint8_t bytes[128];
                size_t n = next_random(&seed) % sizeof(bytes);
                struct weir_dns_query query;
                enum weir_dns_rcode rcode;

                for (size_t k = 0; k < n; k++)
                        bytes[k] = (uint8_t)next_random(&seed);
                if (n >= 12) /* let half of it come past the header */
                        memcpy(bytes + 2, "\1\0\0\1\0\0\0\0\0", 9);
                if (parse(bytes, n, &query, &rcode) == WEIR_PASS)
                        assert_true(query.question_end <= n);
        }
}

static void writes_errors_and_addresses(void **state)
{
        struct message q = query_message("WWW.example.org", WEIR_DNS_A);
        struct weir_dns_query query = must_parse(&q);
        struct weir_addr addr;
        uint8_t out[512];
        bool truncated;
        size_t n;

        (void)state;
        n = weir_dns_write_error(q.bytes, q.n, query.question_end, WEIR_DNS_REFUSED, false, out, sizeof(out));
        assert_int_equal(n, q.n);
        assert_int_equal(check(out, n, &query, &truncated), WEIR_PASS);
        assert_int_equal(weir_dns_rcode(out, n), WEIR_DNS_REFUSED);
        assert_memory_equal(out + 12, q.bytes + 12, n - 12); /* spelt as asked */
        n = weir_dns_write_opt(out, n, sizeof(out), 1232, true);
        assert_int_equal(n, q.n + 11);
        assert_int_equal(check(out, n, &query, &truncated), WEIR_PASS);

        n = weir_dns_write_error(q.bytes, q.n, 0, WEIR_DNS_FORMERR, false, out, sizeof(out));
        assert_int_equal(n, 12);
        assert_int_equal(weir_dns_write_error(q.bytes, 11, 0, WEIR_DNS_FORMERR, false, out, sizeof(out)), 0);
        assert_int_equal(weir_dns_write_error(q.bytes, q.n, q.n, WEIR_DNS_FORMERR, false, out, q.n - 1), 0);
        n = weir_dns_write_error(q.bytes, q.n, q.n, WEIR_DNS_NOERROR, true, out, sizeof(out));
        assert_int_equal(check(out, n, &query, &truncated), WEIR_PASS);
        assert_true(truncated);

        assert_int_equal(weir_addr_parse("127.0.0.1", &addr), 0);
        n = weir_dns_write_address(q.bytes, q.n, query.question_end, &addr, 60, out, sizeof(out));
        assert_int_equal(n, q.n + 16);
        assert_int_equal(check(out, n, &query, &truncated), WEIR_PASS);
        assert_memory_equal(out + n - 4, "\177\0\0\1", 4);
}

/* What goes upstream carries the question and nothing else of the client's. */
static void writes_a_clean_query(void **state)
{
        struct message m = { .n = 0 };
        struct weir_dns_query query, again;
        enum weir_dns_rcode rcode;
        uint8_t out[WEIR_DNS_QUERY_MAX];
        size_t n;

        (void)state;
        put_header(&m, 1, 0x0140, 1, 0, 0, 1); /* a reserved bit */
        put_question(&m, "SeCrEt.example", WEIR_DNS_A, 1);
        put_opt(&m, 4000, 0, "\377\376\0\6secret", 10);
        query = must_parse(&m);
        query.id = 0xbeef;
        n = weir_dns_write_query(m.bytes, m.n, &query, out, sizeof(out));
        assert_int_equal(n, query.question_end + 11);
        assert_int_equal(parse(out, n, &again, &rcode), WEIR_PASS);
        assert_int_equal(again.id, 0xbeef);
        assert_int_equal(again.udp_size, WEIR_DNS_UDP_SIZE);
        assert_memory_equal(out + 12, "\6secret\7example\0", 16);
        assert_int_equal(out[3] & 0x40, 0);

        weir_dns_restore(out, n, m.bytes, query.question_end);
        assert_memory_equal(out, "\0\1", 2);
        assert_memory_equal(out + 12, "\6SeCrEt\7example\0", 16);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(reads_a_query),
                cmocka_unit_test(reads_edns),
                cmocka_unit_test(refuses_malformed_queries),
                cmocka_unit_test(refuses_malformed_questions),
                cmocka_unit_test(bounds_the_name),
                cmocka_unit_test(escapes_what_is_no_host_name),
                cmocka_unit_test(every_truncation_fails),
                cmocka_unit_test(checks_a_reply),
                cmocka_unit_test(checks_truncated_and_wrong_data),
                cmocka_unit_test(refuses_pointer_loops),
                cmocka_unit_test(survives_mutations),
                cmocka_unit_test(survives_noise),
                cmocka_unit_test(writes_errors_and_addresses),
                cmocka_unit_test(writes_a_clean_query),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
