/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world in which the resolver is played: a loop whose time is virtual, two servers, 127.0.0.1 and 127.0.0.2 ("1"
 * and "2"), and one client over UDP and one over TCP, all on real loopback sockets. The policy is stood in for.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dns/internal.h"
#include "script.h"
#include "telemetry/record.h"

#include "base/strutil.h"
#include "base/time.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#define SERVERS 2
#define FILLERS 4
#define RECORDS_MAX 64
#define MESSAGE_MAX 4096
#define QUIET_TURNS 4

struct weir_policy {
        bool allow;
};

enum weir_dns_mode weir_policy_dns_mode(const struct weir_policy *policy, enum weir_dns_mode mode)
{
        (void)policy;
        return mode == WEIR_DNS_AUTO ? WEIR_DNS_GATED : mode;
}

bool weir_policy_names_host(const struct weir_policy *policy, const char *host)
{
        return policy->allow && weir_streq(host, "www.example.org");
}

uint64_t weir_policy_generation(const struct weir_policy *policy)
{
        return policy->allow ? 2 : 1;
}

/* One server: what it was asked last over UDP, and its one TCP connection. */
struct server {
        int udp, tcp, conn;
        uint8_t query[MESSAGE_MAX];
        size_t n;
        struct sockaddr_in from;
};

static struct {
        struct weir_loop *loop;
        struct weir_resolver *resolver;
        struct weir_policy policy;
        int epoll_fd, n_ready;
        uint64_t now, until;
        struct server servers[SERVERS];
        int fillers[FILLERS];
        int udp, tcp; /* the clients' */
        uint16_t port, up_port, next_id, udp_id, tcp_id;
        enum weir_reason records[RECORDS_MAX];
        size_t n_records, n_asked_about;
        struct rlimit limit;
        bool limited, connected;
        int fds_before;
} play;

/* --- the machine --- */

static uint64_t fake_now(void *context)
{
        (void)context;
        return play.now;
}

static int fake_ctl(void *context, int operation, int fd, struct epoll_event *event)
{
        (void)context;
        return epoll_ctl(play.epoll_fd, operation, fd, event) < 0 ? -errno : 0;
}

/* Where nothing happens, what the loop would have waited passes at once. */
static int fake_wait(void *context, struct epoll_event *events, int n, uint64_t timeout_ns)
{
        int got = epoll_wait(play.epoll_fd, events, n, 0);

        (void)context;
        play.n_ready = got;
        if (got == 0 && play.now < play.until)
                play.now += timeout_ns < play.until - play.now ? timeout_ns : play.until - play.now;
        return got < 0 ? -errno : got;
}

static const struct weir_loop_backend backend = { .now = fake_now, .ctl = fake_ctl, .wait = fake_wait };

static struct weir_policy *get_policy(void *context)
{
        (void)context;
        return &play.policy;
}

static void take_record(void *context, struct weir_record *record)
{
        (void)context;
        play.records[play.n_records++ % RECORDS_MAX] = record->reason;
}

static const struct weir_resolver_ops ops = { .policy = get_policy, .record = take_record };

/* --- helpers --- */

static struct sockaddr_in loopback(unsigned host, uint16_t port)
{
        return (struct sockaddr_in){ .sin_family = AF_INET,
                                     .sin_port = htons(port),
                                     .sin_addr.s_addr = htonl(0x7f000000 + host) };
}

/* -1 if the port is taken. */
static int bound(unsigned host, int type, uint16_t port, int backlog)
{
        struct sockaddr_in sin = loopback(host, port);
        int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0 && (type == SOCK_DGRAM || listen(fd, backlog) == 0))
                return fd;
        (void)close(fd);
        return -1;
}

static uint16_t port_of(int fd)
{
        struct sockaddr_in sin;
        socklen_t length = sizeof(sin);

        assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &length), 0);
        return ntohs(sin.sin_port);
}

static void close_fd(int *fd)
{
        if (*fd >= 0)
                (void)close(*fd);
        *fd = -1;
}

static int count_fds(void)
{
        DIR *dir = opendir("/proc/self/fd");
        int n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        (void)closedir(dir);
        return n;
}

static void settle(void)
{
        int quiet = 0;

        for (int i = 0; i < 5000 && quiet < QUIET_TURNS; i++) {
                assert_int_equal(weir_loop_once(play.loop, 0), 0);
                quiet = play.n_ready == 0 ? quiet + 1 : 0;
                if (play.n_ready == 0)
                        (void)usleep(50);
        }
}

static struct server *server_of(const char *name)
{
        uint64_t number = script_number(name);

        assert_true(number >= 1 && number <= SERVERS);
        return &play.servers[number - 1];
}

/* A query for "www" or "denied" of example.org. */
static size_t write_query(const char *name, uint16_t id, uint8_t *out)
{
        size_t label = strlen(name), n = 12;

        memcpy(out, (uint8_t[]){ (uint8_t)(id >> 8), (uint8_t)id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 }, n);
        out[n++] = (uint8_t)label;
        memcpy(out + n, name, label);
        n += label;
        memcpy(out + n, "\7example\3org\0\0\1\0\1", 17);
        return n + 17;
}

static const char *rcode_name(const uint8_t *bytes)
{
        static const char *const names[] = { "noerror", "formerr", "servfail", "nxdomain", "notimp", "refused" };

        if (bytes[2] & 2)
                return "truncated";
        return (bytes[3] & 0xf) < WEIR_ARRAY_SIZE(names) ? names[bytes[3] & 0xf] : "another";
}

static void expect_reply(const uint8_t *bytes, ssize_t n, uint16_t id, const char *rcode)
{
        if (n < WEIR_DNS_HEADER)
                fail_msg("%s: nothing came", script_step());
        assert_int_equal(bytes[0] << 8 | bytes[1], id);
        assert_true(bytes[2] & 0x80);
        if (!weir_streq(rcode_name(bytes), rcode))
                fail_msg("%s: it is %s", script_step(), rcode_name(bytes));
}

/* What a server makes of @query: "ok", "servfail", "nxdomain", "truncated", "other-id", "junk". */
static size_t write_reply(const char *kind, const uint8_t *query, size_t n, uint8_t *out, size_t room)
{
        struct weir_dns_query asked;
        enum weir_dns_rcode rcode;
        struct weir_addr addr;
        size_t length;

        assert_int_equal(weir_dns_parse_query(query, n, &asked, &rcode), WEIR_PASS);
        assert_string_equal(asked.name, "www.example.org");
        assert_int_equal(weir_addr_parse("192.0.2.1", &addr), 0);
        length = weir_dns_write_address(query, n, asked.question_end, &addr, 60, out, room);
        if (weir_streq(kind, "servfail") || weir_streq(kind, "nxdomain") || weir_streq(kind, "truncated"))
                length = weir_dns_write_error(query, n, asked.question_end,
                                              weir_streq(kind, "servfail") ? WEIR_DNS_SERVFAIL :
                                              weir_streq(kind, "nxdomain") ? WEIR_DNS_NXDOMAIN :
                                                                             WEIR_DNS_NOERROR,
                                              weir_streq(kind, "truncated"), out, room);
        else if (weir_streq(kind, "other-id"))
                out[0] ^= 0xff;
        else if (weir_streq(kind, "junk"))
                memset(out, 0xc0, length);
        else if (!weir_streq(kind, "ok"))
                fail_msg("%s: no such reply", script_step());
        return length;
}

/* --- its beginning and end --- */

static int set_up(void **state)
{
        struct weir_resolver_options options = { .queries_max = 8 };
        struct weir_addr upstreams[SERVERS];
        struct sockaddr_in sin;

        (void)state;
        memset(&play, 0, sizeof(play));
        play.fds_before = count_fds();
        play.now = WEIR_SEC;
        play.policy.allow = true;
        play.tcp = play.udp = -1;
        for (size_t i = 0; i < FILLERS; i++)
                play.fillers[i] = -1;
        play.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        assert_int_equal(weir_loop_new_with(&backend, NULL, &play.loop), 0);
        for (int tries = 0; tries < 100; tries++) {
                bool taken = false;

                for (unsigned i = 0; i < SERVERS; i++) {
                        struct server *server = &play.servers[i];

                        server->conn = -1;
                        server->tcp = bound(i + 1, SOCK_STREAM, i ? play.up_port : 0, 16);
                        if (i == 0)
                                play.up_port = port_of(server->tcp);
                        server->udp = bound(i + 1, SOCK_DGRAM, play.up_port, 0);
                        taken = taken || server->tcp < 0 || server->udp < 0;
                }
                if (!taken)
                        break;
                for (unsigned i = 0; i < SERVERS; i++) {
                        close_fd(&play.servers[i].tcp);
                        close_fd(&play.servers[i].udp);
                }
        }
        assert_true(play.servers[0].udp >= 0);
        do {
                options.tcp_fd = bound(1, SOCK_STREAM, 0, 16);
                play.port = port_of(options.tcp_fd);
                options.udp_fd = bound(1, SOCK_DGRAM, play.port, 0);
                if (options.udp_fd < 0)
                        (void)close(options.tcp_fd);
        } while (options.udp_fd < 0);
        assert_int_equal(weir_addr_parse("127.0.0.1", &upstreams[0]), 0);
        assert_int_equal(weir_addr_parse("127.0.0.2", &upstreams[1]), 0);
        options.upstreams = upstreams;
        options.n_upstreams = SERVERS;
        options.upstream_port = play.up_port;
        assert_int_equal(weir_resolver_new(play.loop, &options, &ops, NULL, &play.resolver), 0);
        sin = loopback(1, play.port);
        play.udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        return connect(play.udp, (struct sockaddr *)&sin, sizeof(sin));
}

static int tear_down(void **state)
{
        (void)state;
        if (play.limited)
                (void)setrlimit(RLIMIT_NOFILE, &play.limit);
        weir_resolver_free(play.resolver);
        weir_loop_free(play.loop);
        for (unsigned i = 0; i < SERVERS; i++) {
                close_fd(&play.servers[i].udp);
                close_fd(&play.servers[i].tcp);
                close_fd(&play.servers[i].conn);
        }
        for (size_t i = 0; i < FILLERS; i++)
                close_fd(&play.fillers[i]);
        close_fd(&play.udp);
        close_fd(&play.tcp);
        close_fd(&play.epoll_fd);
        assert_int_equal(count_fds(), play.fds_before);
        return 0;
}
