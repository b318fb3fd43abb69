/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resolver's states: the input is a script of what a workload, a server and the clock do. Sockets are real ones on
 * loopback; time moves only by the script. Whatever happens, nothing goes out but queries for the name that is allowed,
 * nobody gets more replies than it sent queries, and in the end everything is closed.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/strutil.h"
#include "base/time.h"
#include "dns/resolver.h"
#include "event/loop.h"
#include "proto/dns.h"
#include "telemetry/record.h"

#define ALLOWED "www.example.org"
#define STEPS_MAX 64
#define CLIENTS 3

struct weir_policy {
        bool allow;
};

/* The policy is stood in for: one name, or none. */
enum weir_dns_mode weir_policy_dns_mode(const struct weir_policy *policy, enum weir_dns_mode mode)
{
        (void)policy;
        return mode == WEIR_DNS_AUTO ? WEIR_DNS_GATED : mode;
}

bool weir_policy_names_host(const struct weir_policy *policy, const char *host)
{
        return policy->allow && weir_streq(host, ALLOWED);
}

uint64_t weir_policy_generation(const struct weir_policy *policy)
{
        return policy->allow ? 2 : 1;
}

static struct {
        struct weir_loop *loop;
        struct weir_resolver *resolver;
        struct weir_policy policy;
        int epoll_fd;
        uint64_t now;
        int up_udp, up_tcp, up_conn; /* the server's */
        int udp;                     /* the workload's, connected to the resolver */
        int tcp[CLIENTS];
        uint16_t port, up_port;
        uint64_t asked, answered;
        uint8_t last[512]; /* what the server was asked last, over UDP, and by whom */
        size_t n_last;
        struct sockaddr_in last_from;
} world;

static uint64_t fake_now(void *context)
{
        (void)context;
        return world.now;
}

static int fake_ctl(void *context, int operation, int fd, struct epoll_event *event)
{
        (void)context;
        return epoll_ctl(world.epoll_fd, operation, fd, event) < 0 ? -errno : 0;
}

static int fake_wait(void *context, struct epoll_event *events, int n, uint64_t timeout_ns)
{
        int got = epoll_wait(world.epoll_fd, events, n, 0);

        (void)context;
        (void)timeout_ns;
        return got < 0 ? -errno : got;
}

static const struct weir_loop_backend backend = { .now = fake_now, .ctl = fake_ctl, .wait = fake_wait };

static struct weir_policy *get_policy(void *context)
{
        (void)context;
        return &world.policy;
}

static void take_record(void *context, struct weir_record *record)
{
        (void)context;
        CHECK(record->reason < WEIR_REASON_COUNT && weir_streq(record->protocol, "dns"));
        CHECK(record->verdict != WEIR_VERDICT_ALLOW || !record->name || weir_streq(record->name, ALLOWED) ||
              weir_streq(record->name, "localhost"));
}

static const struct weir_resolver_ops ops = { .policy = get_policy, .record = take_record };

static int bound(int type, uint16_t port, uint16_t *ret_port)
{
        struct sockaddr_in sin = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t length = sizeof(sin);
        int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        CHECK(fd >= 0);
        if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0) {
                (void)close(fd);
                return -1;
        }
        CHECK(getsockname(fd, (struct sockaddr *)&sin, &length) == 0);
        CHECK(type != SOCK_STREAM || listen(fd, 16) == 0);
        *ret_port = ntohs(sin.sin_port);
        return fd;
}

static void bind_pair(int *ret_udp, int *ret_tcp, uint16_t *ret_port)
{
        for (int i = 0; i < 100; i++) {
                uint16_t same;

                *ret_tcp = bound(SOCK_STREAM, 0, ret_port);
                *ret_udp = bound(SOCK_DGRAM, *ret_port, &same);
                if (*ret_udp >= 0)
                        return;
                (void)close(*ret_tcp);
        }
        CHECK(!"a free port");
}

static int connected(int type)
{
        struct sockaddr_in sin = { .sin_family = AF_INET,
                                   .sin_port = htons(world.port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

        CHECK(fd >= 0);
        if (connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0)
                return fd;
        (void)close(fd);
        return -1;
}

static void close_fd(int *fd)
{
        if (*fd >= 0)
                (void)close(*fd);
        *fd = -1;
}

/* A socket that leaves no TIME_WAIT behind: thousands a second would use up the ports. */
static void reset_fd(int *fd)
{
        const struct linger now = { .l_onoff = 1 };

        if (*fd >= 0)
                (void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close_fd(fd);
}

static void open_world(void)
{
        struct weir_resolver_options options = { .n_upstreams = 1, .queries_max = 8 };
        struct weir_addr upstream;

        memset(&world, 0, sizeof(world));
        world.now = WEIR_SEC;
        world.policy.allow = true;
        world.up_conn = -1;
        for (int i = 0; i < CLIENTS; i++)
                world.tcp[i] = -1;
        world.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        CHECK(world.epoll_fd >= 0 && weir_loop_new_with(&backend, NULL, &world.loop) == 0);
        bind_pair(&world.up_udp, &world.up_tcp, &world.up_port);
        bind_pair(&options.udp_fd, &options.tcp_fd, &world.port);
        CHECK(weir_addr_parse("127.0.0.1", &upstream) == 0);
        options.upstreams = &upstream;
        options.upstream_port = world.up_port;
        CHECK(weir_resolver_new(world.loop, &options, &ops, NULL, &world.resolver) == 0);
        world.udp = connected(SOCK_DGRAM);
}

static void close_world(void)
{
        for (int i = 0; i < CLIENTS; i++)
                reset_fd(&world.tcp[i]);
        reset_fd(&world.up_conn);
        weir_resolver_free(world.resolver);
        weir_loop_free(world.loop);
        close_fd(&world.up_udp);
        close_fd(&world.up_tcp);
        close_fd(&world.udp);
        close_fd(&world.epoll_fd);
}

/* Nothing else ever leaves. */
static void check_upstream(const uint8_t *bytes, size_t n)
{
        struct weir_dns_query query;
        enum weir_dns_rcode rcode;

        CHECK(weir_dns_parse_query(bytes, n, &query, &rcode) == WEIR_PASS);
        CHECK(weir_streq(query.name, ALLOWED));
}

static void take_replies(void)
{
        uint8_t bytes[2048];
        ssize_t n;

        while ((n = recv(world.udp, bytes, sizeof(bytes), MSG_DONTWAIT)) >= 0) {
                CHECK(n >= WEIR_DNS_HEADER && bytes[2] & 0x80);
                world.answered++;
        }
        CHECK(world.answered <= world.asked);
        for (int i = 0; i < CLIENTS; i++)
                while (world.tcp[i] >= 0 && recv(world.tcp[i], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
                        ;
}

static void serve_udp(void)
{
        socklen_t length = sizeof(world.last_from);
        ssize_t n;

        while ((n = recvfrom(world.up_udp, world.last, sizeof(world.last), MSG_DONTWAIT,
                             (struct sockaddr *)&world.last_from, &length)) >= 0) {
                check_upstream(world.last, (size_t)n);
                world.n_last = (size_t)n;
        }
}

static void turn(void)
{
        for (int i = 0; i < 3; i++)
                CHECK(weir_loop_once(world.loop, 0) == 0);
        serve_udp();
        take_replies();
}

static size_t write_query(struct weir_cursor *feed, uint8_t *out)
{
        static const char *const names[] = {
                "\3www\7example\3org", "\3wWw\7eXample\3org", "\6denied\7example", "\11localhost", "", "\3a\\.\3org"
        };
        const char *name = names[feed_below(feed, WEIR_ARRAY_SIZE(names))];
        const uint8_t types[] = { 1, 28, 255, 16, 65 };
        size_t n = 12, length = strlen(name) + 1;

        memcpy(out, (uint8_t[]){ 0x12, weir_cursor_u8(feed), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0 }, n);
        memcpy(out + n, name, length);
        n += length;
        memcpy(out + n, (uint8_t[]){ 0, types[feed_below(feed, sizeof(types))], 0, 1 }, 4);
        n += 4;
        if (feed_below(feed, 3) == 1) {
                out[11] = 1;
                memcpy(out + n, (uint8_t[]){ 0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0 }, 11);
                n += 11;
        }
        return n;
}

static void ask_udp(const uint8_t *bytes, size_t n)
{
        if (send(world.udp, bytes, n, MSG_DONTWAIT) >= 0)
                world.asked++;
}

static void send_tcp(struct weir_cursor *feed, const uint8_t *bytes, size_t n)
{
        int *fd = &world.tcp[feed_below(feed, CLIENTS)];

        if (*fd < 0)
                *fd = connected(SOCK_STREAM);
        if (*fd >= 0 && send(*fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                reset_fd(fd);
}

/* A reply to @query, right or spoilt. Its length. */
static size_t write_reply(struct weir_cursor *feed, const uint8_t *query, size_t n, uint8_t *out, size_t room)
{
        struct weir_dns_query asked;
        enum weir_dns_rcode rcode;
        struct weir_addr addr;
        uint32_t kind = feed_below(feed, 7);
        size_t length;

        CHECK(weir_addr_parse("192.0.2.1", &addr) == 0);
        if (weir_dns_parse_query(query, n, &asked, &rcode) != WEIR_PASS)
                return 0;
        if (kind < 3)
                length = weir_dns_write_address(query, n, asked.question_end, &addr, 60, out, room);
        else
                length = weir_dns_write_error(query, n, asked.question_end, (enum weir_dns_rcode)(kind - 1), kind == 3,
                                              out, room);
        if (kind == 1) /* bytes of the input over it */
                for (size_t i = feed_below(feed, 255); i < length && weir_cursor_left(feed) > 0; i++)
                        out[i] = weir_cursor_u8(feed);
        return length;
}

static void reply_udp(struct weir_cursor *feed)
{
        uint8_t out[700];
        size_t n;

        if (world.n_last == 0)
                return;
        n = write_reply(feed, world.last, world.n_last, out, sizeof(out));
        (void)sendto(world.up_udp, out, n, MSG_DONTWAIT, (const struct sockaddr *)&world.last_from,
                     sizeof(world.last_from));
}

/* The server's side of one connection: a whole or half a frame, or an end. */
static void reply_tcp(struct weir_cursor *feed)
{
        uint8_t in[1024], out[702];
        uint32_t kind = feed_below(feed, 4);
        ssize_t got;
        size_t n;

        if (world.up_conn < 0)
                world.up_conn = accept4(world.up_tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (world.up_conn < 0)
                return;
        got = recv(world.up_conn, in, sizeof(in), MSG_DONTWAIT);
        if (got > 2)
                check_upstream(in + 2, (size_t)got - 2);
        n = got > 2 ? write_reply(feed, in + 2, (size_t)got - 2, out + 2, sizeof(out) - 2) : 0;
        out[0] = (uint8_t)(n >> 8);
        out[1] = (uint8_t)n;
        if (n > 0 && send(world.up_conn, out, kind == 1 ? (n + 2) / 2 : n + 2, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                reset_fd(&world.up_conn);
        if (kind == 2)
                reset_fd(&world.up_conn);
        else if (kind == 3)
                close_fd(&world.up_conn);
}

static void change_policy(bool allow)
{
        world.policy.allow = allow;
        weir_resolver_policy_changed(world.resolver);
}

static void end_client(struct weir_cursor *feed)
{
        int *fd = &world.tcp[feed_below(feed, CLIENTS)];

        if (*fd >= 0 && feed_below(feed, 2))
                (void)shutdown(*fd, SHUT_WR);
        else
                reset_fd(fd);
}

static void step(struct weir_cursor *feed)
{
        uint8_t bytes[2 + 300], *block;
        size_t n;

        switch (feed_below(feed, 10)) {
        case 0:
                block = feed_block(feed, &n);
                ask_udp(block, n);
                free(block);
                break;
        case 1:
        case 2:
                ask_udp(bytes, write_query(feed, bytes));
                break;
        case 3:
                block = feed_block(feed, &n);
                send_tcp(feed, block, n);
                free(block);
                break;
        case 4:
                n = write_query(feed, bytes + 2);
                bytes[0] = 0;
                bytes[1] = (uint8_t)n;
                send_tcp(feed, bytes, feed_below(feed, 4) ? n + 2 : feed_below(feed, (uint32_t)n + 2));
                break;
        case 5:
                end_client(feed);
                break;
        case 6:
                reply_udp(feed);
                break;
        case 7:
                reply_tcp(feed);
                break;
        case 8:
                world.now += (uint64_t)weir_cursor_u8(feed) * 100 * WEIR_MS;
                break;
        case 9:
                change_policy(feed_below(feed, 2));
                break;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        struct weir_cursor feed = weir_cursor(bytes, n);
        int before = dup(0), after;

        (void)close(before);
        open_world();
        for (unsigned i = 0; i < STEPS_MAX && weir_cursor_left(&feed) > 0; i++) {
                step(&feed);
                turn();
        }
        close_world();
        after = dup(0);
        (void)close(after);
        CHECK(before == after);
        return 0;
}
