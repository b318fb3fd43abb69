/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resolver on real loopback sockets. The upstream is a socket of this program, served between turns of the loop, so
 * each test says exactly what comes back and when. The policy is stood in for: the resolver asks three questions of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dns/resolver.h"
#include "event/loop.h"
#include "policy/policy.h"
#include "proto/dns.h"
#include "telemetry/record.h"

struct weir_policy {
        enum weir_dns_mode mode;
        const char *allowed;
};

enum weir_dns_mode weir_policy_dns_mode(const struct weir_policy *policy, enum weir_dns_mode mode)
{
        return mode == WEIR_DNS_AUTO ? policy->mode : mode;
}

bool weir_policy_names_host(const struct weir_policy *policy, const char *host)
{
        return strcmp(policy->allowed, host) == 0;
}

uint64_t weir_policy_generation(const struct weir_policy *policy)
{
        (void)policy;
        return 7;
}

#define RECORDS_MAX 256

static unsigned idle_ms; /* of the worlds opened from here on; 0 is the default */

struct world {
        struct weir_loop *loop;
        struct weir_resolver *resolver;
        struct weir_policy policy;
        struct weir_addr upstream;
        uint16_t upstream_port, port;
        int up_udp, up_tcp; /* the upstream's */
        int client;         /* UDP, connected to the resolver */
        size_t n_records;
        struct {
                enum weir_verdict verdict;
                enum weir_reason reason;
                char name[WEIR_DNS_NAME_MAX];
                pid_t pid;
        } records[RECORDS_MAX];
};

static struct weir_policy *get_policy(void *context)
{
        return &((struct world *)context)->policy;
}

static void take_record(void *context, struct weir_record *record)
{
        struct world *w = context;

        assert_true(w->n_records < RECORDS_MAX);
        assert_string_equal(record->protocol, "dns");
        assert_int_equal(record->path, WEIR_PATH_DNS);
        w->records[w->n_records].verdict = record->verdict;
        w->records[w->n_records].reason = record->reason;
        w->records[w->n_records].pid = record->pid;
        (void)strcpy(w->records[w->n_records].name, record->name ? record->name : "");
        w->n_records++;
}

static void get_owner(void *context, enum weir_ip_protocol protocol, const struct weir_addr *from, uint16_t port,
                      const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid, char *command)
{
        (void)context;
        (void)from;
        (void)to;
        (void)to_port;
        assert_true(port > 0 && (protocol == WEIR_IP_UDP || protocol == WEIR_IP_TCP));
        *ret_pid = 4711;
        (void)strcpy(command, "curl");
}

static unsigned upstreams_asked;

/* The host has moved to a network whose resolver is the test's. */
static size_t moved_upstreams(void *context, struct weir_addr *ret, size_t n)
{
        (void)context;
        assert_true(n > 0);
        upstreams_asked++;
        assert_int_equal(weir_addr_parse("127.0.0.1", &ret[0]), 0);
        return 1;
}

static const struct weir_resolver_ops ops = { .policy = get_policy, .record = take_record, .owner = get_owner },
                                      moving_ops = { .policy = get_policy,
                                                     .record = take_record,
                                                     .owner = get_owner,
                                                     .upstreams = moved_upstreams };

static int bound(int family, int type, uint16_t port, uint16_t *ret_port)
{
        int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
        struct sockaddr_in in = { .sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        struct sockaddr_storage sa;
        socklen_t length = sizeof(sa);
        uint16_t got;
        struct weir_addr addr;

        assert_true(fd >= 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
        if (bind(fd, family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&in6,
                 family == AF_INET ? sizeof(in) : sizeof(in6)) < 0) {
                (void)close(fd);
                return -1;
        }
        assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &length), 0);
        assert_int_equal(weir_addr_from_sockaddr((struct sockaddr *)&sa, length, &addr, &got), 0);
        *ret_port = got;
        if (type == SOCK_STREAM)
                assert_int_equal(listen(fd, 128), 0);
        return fd;
}

/* A port that is free for both. */
static void bind_pair(int family, int *ret_udp, int *ret_tcp, uint16_t *ret_port)
{
        for (int i = 0; i < 50; i++) {
                uint16_t same;

                *ret_tcp = bound(family, SOCK_STREAM, 0, ret_port);
                *ret_udp = bound(family, SOCK_DGRAM, *ret_port, &same);
                if (*ret_udp >= 0)
                        return;
                (void)close(*ret_tcp);
        }
        fail_msg("no port free for both UDP and TCP");
}

static int connected(const char *address, int type, uint16_t port)
{
        struct weir_addr addr;
        struct sockaddr_storage sa;
        socklen_t length;
        int fd;

        assert_int_equal(weir_addr_parse(address, &addr), 0);
        length = weir_addr_to_sockaddr(&addr, port, &sa);
        fd = socket(sa.ss_family, type | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, length), 0);
        return fd;
}

static void open_world_with(struct world *w, const struct weir_resolver_ops *with, const char *upstream,
                            enum weir_dns_mode mode, unsigned timeout_ms, unsigned queries_max, bool dual)
{
        struct weir_resolver_options options = {
                .mode = mode, .timeout_ms = timeout_ms, .queries_max = queries_max, .n_upstreams = 1, .idle_ms = idle_ms
        };

        memset(w, 0, sizeof(*w));
        w->policy = (struct weir_policy){ .mode = WEIR_DNS_GATED, .allowed = "www.example.org" };
        assert_int_equal(weir_loop_new(&w->loop), 0);
        bind_pair(AF_INET, &w->up_udp, &w->up_tcp, &w->upstream_port);
        bind_pair(dual ? AF_INET6 : AF_INET, &options.udp_fd, &options.tcp_fd, &w->port);
        assert_int_equal(weir_addr_parse(upstream, &w->upstream), 0);
        options.upstreams = &w->upstream;
        options.upstream_port = w->upstream_port;
        assert_int_equal(weir_resolver_new(w->loop, &options, with, w, &w->resolver), 0);
        w->client = connected("127.0.0.1", SOCK_DGRAM, w->port);
}

static void open_world(struct world *w, enum weir_dns_mode mode, unsigned timeout_ms, unsigned queries_max, bool dual)
{
        open_world_with(w, &ops, "127.0.0.1", mode, timeout_ms, queries_max, dual);
}

static void close_world(struct world *w)
{
        weir_resolver_free(w->resolver);
        weir_loop_free(w->loop);
        (void)close(w->up_udp);
        (void)close(w->up_tcp);
        (void)close(w->client);
}

static bool readable(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };

        return poll(&p, 1, 0) == 1;
}

/* Turns the loop until @fd has something; a test that waits in vain fails after ten seconds. */
static void turn_until(struct world *w, int fd)
{
        for (int i = 0; i < 2000 && !readable(fd); i++)
                assert_int_equal(weir_loop_once(w->loop, 5), 0);
        assert_true(readable(fd));
}

static void turn(struct world *w)
{
        for (int i = 0; i < 10; i++)
                assert_int_equal(weir_loop_once(w->loop, 2), 0);
}

static size_t make_query(uint8_t *out, uint16_t id, const char *name, uint16_t type)
{
        size_t n = 12;

        memcpy(out, (uint8_t[]){ (uint8_t)(id >> 8), (uint8_t)id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 }, 12);
        while (*name) {
                size_t label = strcspn(name, ".");

                out[n++] = (uint8_t)label;
                memcpy(out + n, name, label);
                n += label;
                name += label + (name[label] == '.');
        }
        out[n++] = 0;
        out[n++] = (uint8_t)(type >> 8);
        out[n++] = (uint8_t)type;
        out[n++] = 0;
        out[n++] = 1;
        return n;
}

static void ask(int fd, uint16_t id, const char *name, uint16_t type)
{
        uint8_t bytes[300];
        size_t n = make_query(bytes, id, name, type);

        assert_int_equal(send(fd, bytes, n, 0), (ssize_t)n);
}

static void ask_tcp(int fd, uint16_t id, const char *name, uint16_t type)
{
        uint8_t bytes[302];
        size_t n = make_query(bytes + 2, id, name, type);

        bytes[0] = 0;
        bytes[1] = (uint8_t)n;
        assert_int_equal(send(fd, bytes, n + 2, MSG_NOSIGNAL), (ssize_t)n + 2);
}

/* One answer at the client: its rcode; the id must be the one asked with. */
static unsigned rcode_of(struct world *w, int fd, uint16_t id, uint8_t *bytes, size_t room, size_t *ret_n)
{
        ssize_t n;

        turn_until(w, fd);
        n = recv(fd, bytes, room, 0);
        assert_true(n >= 12);
        assert_int_equal(bytes[0] << 8 | bytes[1], id);
        assert_true(bytes[2] & 0x80);
        *ret_n = (size_t)n;
        return bytes[3] & 0xf;
}

static unsigned rcode_udp(struct world *w, uint16_t id)
{
        uint8_t bytes[2048];
        size_t n;

        return rcode_of(w, w->client, id, bytes, sizeof(bytes), &n);
}

static void read_exactly(struct world *w, int fd, uint8_t *bytes, size_t n)
{
        for (size_t got = 0; got < n;) {
                ssize_t r;

                turn_until(w, fd);
                r = recv(fd, bytes + got, n - got, 0);
                assert_true(r > 0);
                got += (size_t)r;
        }
}

static size_t read_frame(struct world *w, int fd, uint8_t *bytes)
{
        uint8_t prefix[2];
        size_t n;

        read_exactly(w, fd, prefix, 2);
        n = (size_t)(prefix[0] << 8 | prefix[1]);
        read_exactly(w, fd, bytes, n);
        return n;
}

struct seen {
        uint8_t bytes[600];
        size_t n;
        struct sockaddr_in from;
};

/* What the upstream got. */
static void serve(struct world *w, struct seen *seen)
{
        socklen_t length = sizeof(seen->from);
        ssize_t n;

        turn_until(w, w->up_udp);
        n = recvfrom(w->up_udp, seen->bytes, sizeof(seen->bytes), 0, (struct sockaddr *)&seen->from, &length);
        assert_true(n > 12);
        seen->n = (size_t)n;
}

/* A reply to @bytes with one address, 192.0.2.1; returns its length. */
static size_t make_reply(const uint8_t *bytes, size_t n, uint8_t *out, size_t room)
{
        struct weir_dns_query query;
        enum weir_dns_rcode rcode;
        struct weir_addr addr;

        assert_int_equal(weir_dns_parse_query(bytes, n, &query, &rcode), WEIR_PASS);
        assert_int_equal(weir_addr_parse("192.0.2.1", &addr), 0);
        return weir_dns_write_address(bytes, n, query.question_end, &addr, 60, out, room);
}

static void reply_to(struct world *w, const struct seen *seen, const uint8_t *bytes, size_t n)
{
        assert_int_equal(sendto(w->up_udp, bytes, n, 0, (const struct sockaddr *)&seen->from, sizeof(seen->from)),
                         (ssize_t)n);
}

static void answers_what_a_rule_names(void **state)
{
        struct world w;
        struct seen seen;
        uint8_t out[600], in[600], asked[300];
        size_t n;

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, false);
        n = make_query(asked, 0x4242, "WWW.Example.ORG", WEIR_DNS_A);
        assert_int_equal(send(w.client, asked, n, 0), (ssize_t)n);
        serve(&w, &seen);
        assert_memory_equal(seen.bytes + 12, "\3www\7example\3org", 16); /* spelling stays home */
        reply_to(&w, &seen, out, make_reply(seen.bytes, seen.n, out, sizeof(out)));
        assert_int_equal(rcode_of(&w, w.client, 0x4242, in, sizeof(in), &n), WEIR_DNS_NOERROR);
        assert_memory_equal(in + 12, asked + 12, 17); /* and comes back as asked */
        assert_memory_equal(in + n - 4, "\300\0\2\1", 4);
        assert_int_equal(w.n_records, 1);
        assert_int_equal(w.records[0].verdict, WEIR_VERDICT_ALLOW);
        assert_int_equal(w.records[0].reason, WEIR_REASON_RULE);
        close_world(&w);
}

static void refuses_and_forwards_nothing(void **state)
{
        static const struct {
                const char *name;
                uint16_t type;
                unsigned rcode;
                enum weir_reason reason; /* UNKNOWN: no record */
        } cases[] = {
                { "www.wikipedia.org", WEIR_DNS_A, WEIR_DNS_REFUSED, WEIR_REASON_DNS_NO_RULE },
                { "x.www.example.org", WEIR_DNS_A, WEIR_DNS_REFUSED, WEIR_REASON_DNS_NO_RULE },
                { "example.org", WEIR_DNS_AAAA, WEIR_DNS_REFUSED, WEIR_REASON_DNS_NO_RULE },
                { "", WEIR_DNS_NS, WEIR_DNS_REFUSED, WEIR_REASON_DNS_NO_RULE },
                { "www.example.org", WEIR_DNS_TXT, WEIR_DNS_REFUSED, WEIR_REASON_DNS_TYPE },
                { "www.example.org", 10 /* NULL */, WEIR_DNS_REFUSED, WEIR_REASON_DNS_TYPE },
                { "www.example.org", WEIR_DNS_ANY, WEIR_DNS_REFUSED, WEIR_REASON_DNS_TYPE },
                { "www.example.org", WEIR_DNS_HTTPS, WEIR_DNS_NOERROR, WEIR_REASON_UNKNOWN },
                { "www.example.org", WEIR_DNS_SVCB, WEIR_DNS_NOERROR, WEIR_REASON_UNKNOWN },
                { "localhost", WEIR_DNS_A, WEIR_DNS_NOERROR, WEIR_REASON_UNKNOWN },
                { "a.LocalHost", WEIR_DNS_AAAA, WEIR_DNS_NOERROR, WEIR_REASON_UNKNOWN },
                { "notlocalhost", WEIR_DNS_A, WEIR_DNS_REFUSED, WEIR_REASON_DNS_NO_RULE },
        };
        struct world w;

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, false);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(cases); i++) {
                w.n_records = 0;
                ask(w.client, (uint16_t)i, cases[i].name, cases[i].type);
                assert_int_equal(rcode_udp(&w, (uint16_t)i), cases[i].rcode);
                assert_int_equal(w.n_records, cases[i].reason != WEIR_REASON_UNKNOWN);
                if (w.n_records) {
                        assert_int_equal(w.records[0].reason, cases[i].reason);
                        assert_int_equal(w.records[0].verdict, WEIR_VERDICT_DENY);
                        assert_int_equal(w.records[0].pid, 4711);
                        assert_string_equal(w.records[0].name, cases[i].name);
                }
        }
        turn(&w);
        assert_false(readable(w.up_udp));                 /* the canary */
        ask(w.client, 99, "www.example.org", WEIR_DNS_A); /* and its positive control */
        turn_until(&w, w.up_udp);
        close_world(&w);
}

static void localhost_has_addresses(void **state)
{
        struct world w;
        uint8_t in[600];
        size_t n;

        (void)state;
        open_world(&w, WEIR_DNS_OPEN, 5000, 0, false);
        ask(w.client, 1, "localhost", WEIR_DNS_A);
        assert_int_equal(rcode_of(&w, w.client, 1, in, sizeof(in), &n), 0);
        assert_memory_equal(in + n - 6, "\0\4\177\0\0\1", 6);
        ask(w.client, 2, "localhost", WEIR_DNS_AAAA);
        assert_int_equal(rcode_of(&w, w.client, 2, in, sizeof(in), &n), 0);
        assert_memory_equal(in + n - 18, "\0\20\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 18);
        close_world(&w);
}

static void open_forwards_off_refuses(void **state)
{
        struct world w;
        struct seen seen;

        (void)state;
        open_world(&w, WEIR_DNS_OPEN, 5000, 0, false);
        ask(w.client, 1, "any.name.test", WEIR_DNS_TXT);
        serve(&w, &seen);
        ask(w.client, 2, "any.name.test", 252); /* AXFR */
        assert_int_equal(rcode_udp(&w, 2), WEIR_DNS_REFUSED);
        close_world(&w);

        open_world(&w, WEIR_DNS_OFF, 5000, 0, false);
        ask(w.client, 3, "www.example.org", WEIR_DNS_A);
        assert_int_equal(rcode_udp(&w, 3), WEIR_DNS_REFUSED);
        assert_false(readable(w.up_udp));
        close_world(&w);
}

static void ignores_a_lying_server(void **state)
{
        struct world w;
        struct seen seen;
        uint8_t out[600], other[300];
        size_t n;

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, false);
        ask(w.client, 5, "www.example.org", WEIR_DNS_A);
        serve(&w, &seen);
        n = make_reply(seen.bytes, seen.n, out, sizeof(out));
        out[0] ^= 0xff; /* another id */
        reply_to(&w, &seen, out, n);
        n = make_query(other, (uint16_t)(seen.bytes[0] << 8 | seen.bytes[1]), "www.example.com", WEIR_DNS_A);
        reply_to(&w, &seen, out, make_reply(other, n, out, sizeof(out))); /* another question */
        reply_to(&w, &seen, (const uint8_t *)"short", 5);
        reply_to(&w, &seen, seen.bytes, seen.n); /* our own query back */
        turn(&w);
        assert_false(readable(w.client));
        n = make_reply(seen.bytes, seen.n, out, sizeof(out));
        reply_to(&w, &seen, out, n);
        assert_int_equal(rcode_udp(&w, 5), WEIR_DNS_NOERROR);
        close_world(&w);
}

static void gives_up_on_a_silent_server(void **state)
{
        struct world w;
        struct seen first, second;

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 30, 0, false);
        ask(w.client, 6, "www.example.org", WEIR_DNS_A);
        serve(&w, &first);
        serve(&w, &second);
        assert_int_equal(rcode_udp(&w, 6), WEIR_DNS_SERVFAIL);
        assert_int_equal(w.n_records, 1);
        assert_int_equal(w.records[0].reason, WEIR_REASON_DNS_UPSTREAM);
        /* Another socket, so another port; the id is drawn anew (equal once in 65536, the port then still differs). */
        assert_true(first.from.sin_port != second.from.sin_port || memcmp(first.bytes, second.bytes, 2) != 0);
        assert_false(readable(w.up_udp));
        close_world(&w);
}

static void goes_on_when_nobody_listens(void **state)
{
        struct world w;

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, false);
        (void)close(w.up_udp);
        w.up_udp = -1;
        ask(w.client, 6, "www.example.org", WEIR_DNS_A);
        assert_int_equal(rcode_udp(&w, 6), WEIR_DNS_SERVFAIL); /* at once, by ICMP: no timeout of five seconds */
        close_world(&w);
}

static void the_hosts_list_is_asked_for_again(void **state)
{
        struct world w;
        struct seen seen;
        uint8_t out[600];

        (void)state;
        upstreams_asked = 0;
        open_world_with(&w, &moving_ops, "127.0.0.9", WEIR_DNS_AUTO, 5000, 0, false);
        for (uint16_t id = 1; id <= 3; id++) {
                ask(w.client, id, "www.example.org", WEIR_DNS_A);
                serve(&w, &seen);
                reply_to(&w, &seen, out, make_reply(seen.bytes, seen.n, out, sizeof(out)));
                assert_int_equal(rcode_udp(&w, id), WEIR_DNS_NOERROR);
        }
        assert_true(upstreams_asked >= 1 && upstreams_asked <= 3); /* a slow machine may need more than a second */
        close_world(&w);
}

static void big_replies_are_truncated(void **state)
{
        struct world w;
        struct seen seen;
        uint8_t out[2048] = { 0 }, in[2048];
        size_t n;

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, false);
        ask(w.client, 8, "www.example.org", WEIR_DNS_A);
        serve(&w, &seen);
        n = make_reply(seen.bytes, seen.n, out, sizeof(out));
        while (n + 16 <= 700) { /* more addresses than 512 bytes hold */
                memcpy(out + n, out + seen.n, 16);
                n += 16;
                out[7]++;
        }
        reply_to(&w, &seen, out, n);
        assert_int_equal(rcode_of(&w, w.client, 8, in, sizeof(in), &n), WEIR_DNS_NOERROR);
        assert_true(n <= 512 && (in[2] & 2));

        ask(w.client, 9, "www.example.org", WEIR_DNS_A); /* TC from upstream is passed on, without the cut records */
        serve(&w, &seen);
        n = make_reply(seen.bytes, seen.n, out, sizeof(out));
        out[2] |= 2;
        reply_to(&w, &seen, out, n - 3);
        assert_int_equal(rcode_of(&w, w.client, 9, in, sizeof(in), &n), WEIR_DNS_NOERROR);
        assert_true((in[2] & 2) && n == seen.n);
        close_world(&w);
}

static void malformed_floods_are_answered_and_recorded(void **state)
{
        struct world w;
        uint8_t bytes[300];
        size_t n = make_query(bytes, 3, "www.example.org", WEIR_DNS_A);

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, false);
        for (int i = 0; i < 100; i++) {
                assert_int_equal(send(w.client, bytes, n - 1, 0), (ssize_t)n - 1);
                assert_int_equal(rcode_udp(&w, 3), WEIR_DNS_FORMERR);
        }
        assert_int_equal(send(w.client, "x", 1, 0), 1);
        bytes[2] |= 0x80; /* a response: silence */
        assert_int_equal(send(w.client, bytes, n, 0), (ssize_t)n);
        turn(&w);
        assert_false(readable(w.client));
        assert_false(readable(w.up_udp));
        assert_int_equal(w.n_records, 102);
        assert_int_equal(w.records[0].reason, WEIR_REASON_DNS_MALFORMED);
        close_world(&w);
}

static void a_full_table_says_servfail(void **state)
{
        struct world w;
        struct seen seen;
        uint8_t out[600];

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 2, false);
        ask(w.client, 1, "www.example.org", WEIR_DNS_A);
        serve(&w, &seen);
        ask(w.client, 2, "www.example.org", WEIR_DNS_A);
        ask(w.client, 3, "www.example.org", WEIR_DNS_A);
        assert_int_equal(rcode_udp(&w, 3), WEIR_DNS_SERVFAIL);
        assert_int_equal(w.records[0].reason, WEIR_REASON_LIMIT_CONNECTIONS);
        reply_to(&w, &seen, out, make_reply(seen.bytes, seen.n, out, sizeof(out)));
        assert_int_equal(rcode_udp(&w, 1), WEIR_DNS_NOERROR);
        serve(&w, &seen);                                /* of query 2 */
        ask(w.client, 4, "www.example.org", WEIR_DNS_A); /* a slot is free again */
        serve(&w, &seen);
        close_world(&w);
}

static void a_new_policy_refuses_what_waits(void **state)
{
        struct world w;
        struct seen seen;
        uint8_t out[600];

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, false);
        ask(w.client, 1, "www.example.org", WEIR_DNS_A);
        serve(&w, &seen);
        weir_resolver_policy_changed(w.resolver); /* still allowed */
        turn(&w);
        assert_false(readable(w.client));
        w.policy.allowed = "else.example";
        weir_resolver_policy_changed(w.resolver);
        assert_int_equal(rcode_udp(&w, 1), WEIR_DNS_REFUSED);
        assert_int_equal(w.n_records, 1);
        assert_int_equal(w.records[0].reason, WEIR_REASON_POLICY_REVOKED);
        assert_int_equal(w.records[0].verdict, WEIR_VERDICT_DENY);
        reply_to(&w, &seen, out, make_reply(seen.bytes, seen.n, out, sizeof(out)));
        turn(&w);
        assert_false(readable(w.client)); /* the late answer goes nowhere */
        close_world(&w);
}

static void tcp_pipelines_and_goes_upstream_over_tcp(void **state)
{
        struct world w;
        uint8_t bytes[70000], out[600];
        int fd, up;
        size_t n;

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, false);
        fd = connected("127.0.0.1", SOCK_STREAM, w.port);
        ask_tcp(fd, 1, "www.example.org", WEIR_DNS_A);
        ask_tcp(fd, 2, "no.example.org", WEIR_DNS_A); /* refused at once: overtakes the first */
        ask_tcp(fd, 3, "localhost", WEIR_DNS_A);
        n = read_frame(&w, fd, bytes);
        assert_true(n > 12 && bytes[1] == 2 && (bytes[3] & 0xf) == WEIR_DNS_REFUSED);
        n = read_frame(&w, fd, bytes);
        assert_true(n > 12 && bytes[1] == 3 && (bytes[3] & 0xf) == WEIR_DNS_NOERROR);

        turn_until(&w, w.up_tcp);
        up = accept(w.up_tcp, NULL, NULL);
        assert_true(up >= 0);
        n = read_frame(&w, up, bytes);
        n = make_reply(bytes, n, out + 2, sizeof(out) - 2);
        out[0] = (uint8_t)(n >> 8);
        out[1] = (uint8_t)n;
        for (size_t i = 0; i < n + 2; i++) { /* a byte at a time */
                assert_int_equal(send(up, out + i, 1, 0), 1);
                assert_int_equal(weir_loop_once(w.loop, 0), 0);
        }
        n = read_frame(&w, fd, bytes);
        assert_true(bytes[1] == 1 && (bytes[3] & 0xf) == WEIR_DNS_NOERROR);
        assert_memory_equal(bytes + n - 4, "\300\0\2\1", 4);
        assert_false(readable(w.up_udp));
        (void)close(up);
        (void)close(fd);
        turn(&w);
        close_world(&w);
}

static void tcp_closes_what_dawdles_or_lies(void **state)
{
        static const uint8_t lies[] = { 0, 3, 1, 2, 3 };
        struct world w;
        uint8_t byte;
        int slow, liar;

        (void)state;
        idle_ms = 100;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, false);
        idle_ms = 0;
        slow = connected("127.0.0.1", SOCK_STREAM, w.port);
        assert_int_equal(send(slow, "\0", 1, 0), 1); /* half a length, and then nothing */
        liar = connected("127.0.0.1", SOCK_STREAM, w.port);
        assert_int_equal(send(liar, lies, sizeof(lies), 0), (ssize_t)sizeof(lies));
        turn_until(&w, liar);
        assert_true(recv(liar, &byte, 1, 0) <= 0);
        turn_until(&w, slow);
        assert_true(recv(slow, &byte, 1, 0) <= 0);
        (void)close(slow);
        (void)close(liar);
        close_world(&w);
}

static void tcp_pending_queries_end_with_their_connection(void **state)
{
        struct world w;
        int fd;

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, false);
        fd = connected("127.0.0.1", SOCK_STREAM, w.port);
        for (uint16_t i = 0; i < 20; i++) /* more than one connection may have upstream at once */
                ask_tcp(fd, i, "www.example.org", WEIR_DNS_A);
        turn_until(&w, w.up_tcp);
        turn(&w);
        assert_int_equal(w.n_records, 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger)),
                         0);
        (void)close(fd);
        turn(&w);
        assert_int_equal(w.n_records, 8);
        assert_int_equal(w.records[0].reason, WEIR_REASON_RESET_BY_WORKLOAD);
        close_world(&w);
}

static void tcp_clients_are_bounded(void **state)
{
        struct world w;
        int fds[65];
        uint8_t byte;

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, false);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(fds); i++)
                fds[i] = connected("127.0.0.1", SOCK_STREAM, w.port);
        turn_until(&w, fds[64]);
        assert_true(recv(fds[64], &byte, 1, 0) <= 0);
        assert_int_equal(w.records[0].reason, WEIR_REASON_LIMIT_CONNECTIONS);
        assert_false(readable(fds[0]));
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(fds); i++)
                (void)close(fds[i]);
        close_world(&w);
}

/* One socket for both families: the reply must come from the address that was asked, or a connected client never sees
 * it. */
static void replies_from_the_address_asked(void **state)
{
        static const char *const addresses[] = { "127.0.0.1", "127.1.2.3", "::1" };
        struct world w;

        (void)state;
        open_world(&w, WEIR_DNS_AUTO, 5000, 0, true);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(addresses); i++) {
                uint8_t in[600];
                size_t n;
                int fd = connected(addresses[i], SOCK_DGRAM, w.port);

                ask(fd, 77, "localhost", WEIR_DNS_A);
                assert_int_equal(rcode_of(&w, fd, 77, in, sizeof(in), &n), WEIR_DNS_NOERROR);
                (void)close(fd);
        }
        close_world(&w);
}

static void reads_resolv_conf(void **state)
{
        static const char text[] =
                "# nameserver 9.9.9.9\nsearch example.org\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # x\r\n"
                " nameserver 192.0.2.9\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\n"
                "nameserverx 1.2.3.4\nnameserver 127.0.0.53";
        struct weir_addr got[4], want[3];

        (void)state;
        assert_int_equal(weir_addr_parse("192.0.2.1", &want[0]), 0);
        assert_int_equal(weir_addr_parse("2001:db8::1", &want[1]), 0);
        assert_int_equal(weir_addr_parse("127.0.0.53", &want[2]), 0);
        assert_int_equal(weir_resolver_read_conf(text, sizeof(text) - 1, got, 4), 3);
        assert_memory_equal(got, want, sizeof(want));
        assert_int_equal(weir_resolver_read_conf(text, sizeof(text) - 1, got, 1), 1);
        assert_int_equal(weir_resolver_read_conf("", 0, got, 4), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answers_what_a_rule_names),
                cmocka_unit_test(refuses_and_forwards_nothing),
                cmocka_unit_test(localhost_has_addresses),
                cmocka_unit_test(open_forwards_off_refuses),
                cmocka_unit_test(ignores_a_lying_server),
                cmocka_unit_test(gives_up_on_a_silent_server),
                cmocka_unit_test(goes_on_when_nobody_listens),
                cmocka_unit_test(the_hosts_list_is_asked_for_again),
                cmocka_unit_test(big_replies_are_truncated),
                cmocka_unit_test(malformed_floods_are_answered_and_recorded),
                cmocka_unit_test(a_full_table_says_servfail),
                cmocka_unit_test(a_new_policy_refuses_what_waits),
                cmocka_unit_test(tcp_pipelines_and_goes_upstream_over_tcp),
                cmocka_unit_test(tcp_closes_what_dawdles_or_lies),
                cmocka_unit_test(tcp_pending_queries_end_with_their_connection),
                cmocka_unit_test(tcp_clients_are_bounded),
                cmocka_unit_test(replies_from_the_address_asked),
                cmocka_unit_test(reads_resolv_conf),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
