/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the relay's tests share: a relay on real loopback sockets, with virtual time, a policy that is one line of this
 * file, and the calls of the machine that a test wants to fail.
 *
 * The workload is a socket of this program that connects to the relay's listener; where it "wanted to go" is
 * @rig.wanted. The policy allows that if @rig.policy.allow is set and dials @rig.policy.endpoints, which are listeners
 * of this program.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "event/loop.h"
#include "relay/internal.h"
#include "telemetry/record.h"

#define UNUSED __attribute__((unused))
#define ENDPOINTS_MAX 4
#define RECORDS_MAX 4096

struct endpoint {
        struct weir_addr addr;
        uint16_t port;
};

/* Stands in for the snapshot. Endpoint 0 with port 0 means NONE: the destination itself. */
struct weir_policy {
        bool allow;
        enum weir_reason reason; /* of a denial */
        struct endpoint endpoints[ENDPOINTS_MAX];
        size_t n_endpoints;
        int references;
};

static struct {
        struct weir_loop *loop;
        int epoll_fd, n_ready;
        uint64_t now, until; /* virtual time goes on by itself up to @until; 0: only when a test says so */
        struct weir_relay *relay;
        struct weir_relay_options options;
        struct weir_relay_sys sys;
        struct endpoint wanted, listener, server;
        int server_fd;
        int original_dst_error;
        bool asked_v4;
        struct weir_policy policy;
        struct weir_record records[RECORDS_MAX];
        char nearest[256], command[16];
        size_t n_records, n_opened, n_owner;
        size_t n_accept, fail_accept;
        int fds_before;
} rig;

static const struct weir_rule rule = { .resource = "default/test", .source = "test.yaml:1" };

void weir_policy_match(const struct weir_policy *policy, const struct weir_query *query, struct weir_decision *ret)
{
        const struct endpoint *e = &policy->endpoints[query->turn % policy->n_endpoints];

        *ret = (struct weir_decision){ .reason = policy->reason };
        if (!policy->allow)
                return;
        *ret = (struct weir_decision){
                .verdict = WEIR_VERDICT_ALLOW,
                .reason = WEIR_REASON_RULE,
                .rule = &rule,
                .addr = e->port ? e->addr : query->addr,
                .port = e->port ? e->port : query->port,
        };
}

void weir_policy_nearest_text(const struct weir_policy *policy, const struct weir_query *query, char *buf, size_t n)
{
        (void)policy;
        (void)query;
        (void)snprintf(buf, n, "default/test");
}

struct weir_policy *weir_policy_ref(struct weir_policy *policy)
{
        policy->references++;
        return policy;
}

void weir_policy_unref(struct weir_policy *policy)
{
        if (policy)
                policy->references--;
}

uint64_t weir_policy_generation(const struct weir_policy *policy)
{
        (void)policy;
        return 7;
}

static uint64_t fake_now(void *context)
{
        (void)context;
        return rig.now;
}

static int fake_ctl(void *context, int operation, int fd, struct epoll_event *event)
{
        (void)context;
        return epoll_ctl(rig.epoll_fd, operation, fd, event) < 0 ? -errno : 0;
}

/* Never waits. Where nothing happens, what the loop would have waited passes at once. */
static int fake_wait(void *context, struct epoll_event *events, int n, uint64_t timeout_ns)
{
        int got = epoll_wait(rig.epoll_fd, events, n, 0);

        (void)context;
        rig.n_ready = got;
        if (got == 0 && rig.now < rig.until) {
                uint64_t left = rig.until - rig.now;

                rig.now += timeout_ns < left ? timeout_ns : left;
        }
        return got < 0 ? -errno : got;
}

static const struct weir_loop_backend fake_backend = { .now = fake_now, .ctl = fake_ctl, .wait = fake_wait };

static struct weir_policy *give_policy(void *context)
{
        (void)context;
        return &rig.policy;
}

static void take_opened(void *context)
{
        (void)context;
        rig.n_opened++;
}

static void take_record(void *context, struct weir_record *record)
{
        (void)context;
        assert_true(rig.n_records < RECORDS_MAX);
        rig.records[rig.n_records++] = *record;
        (void)snprintf(rig.nearest, sizeof(rig.nearest), "%s", record->nearest);
        (void)snprintf(rig.command, sizeof(rig.command), "%s", record->command ? record->command : "");
}

static void give_owner(void *context, enum weir_ip_protocol protocol, const struct weir_addr *from, uint16_t port,
                       const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid, char *command)
{
        (void)context;
        assert_int_equal(protocol, WEIR_IP_TCP);
        assert_true(!to || to_port != 0);
        assert_true(port != 0 && (weir_addr_is_v4(from) || from->bytes[15] == 1));
        rig.n_owner++;
        *ret_pid = 4711;
        (void)snprintf(command, 16, "curl");
}

static int fake_original_dst(int fd, bool v4, struct weir_addr *ret_addr, uint16_t *ret_port)
{
        (void)fd;
        rig.asked_v4 = v4;
        if (rig.original_dst_error)
                return rig.original_dst_error;
        *ret_addr = rig.wanted.addr;
        *ret_port = rig.wanted.port;
        return 0;
}

static int fake_accept(int fd, struct sockaddr *sa, socklen_t *length)
{
        rig.n_accept++;
        if (rig.fail_accept > 0) {
                rig.fail_accept--;
                return -EMFILE;
        }
        return weir_relay_sys_real.accept(fd, sa, length);
}

static struct endpoint endpoint_of(int fd)
{
        struct sockaddr_storage sa;
        socklen_t length = sizeof(sa);
        struct endpoint e;

        assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &length), 0);
        assert_int_equal(weir_addr_from_sockaddr((struct sockaddr *)&sa, length, &e.addr, &e.port), 0);
        return e;
}

static struct endpoint endpoint(const char *address, uint16_t port)
{
        struct endpoint e = { .port = port };

        assert_int_equal(weir_addr_parse(address, &e.addr), 0);
        return e;
}

static int listen_on(const char *address, int backlog)
{
        struct endpoint e = endpoint(address, 0);
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(&e.addr, 0, &sa);
        int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        const int off = 0;

        assert_true(fd >= 0);
        if (sa.ss_family == AF_INET6)
                assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)), 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, length), 0);
        assert_int_equal(listen(fd, backlog), 0);
        return fd;
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

static const struct weir_relay_ops relay_ops = {
        .policy = give_policy,
        .opened = take_opened,
        .record = take_record,
        .owner = give_owner,
};

/* To be called by each test, after it has set what it wants in rig.options and rig.sys. */
static void start_relay_on(const char *address)
{
        int fd = listen_on(address, 4096);

        rig.listener = endpoint_of(fd);
        rig.options.listeners = &fd;
        rig.options.n_listeners = 1;
        assert_int_equal(weir_relay_new_with(rig.loop, &rig.options, &relay_ops, &rig, &rig.sys, &rig.relay), 0);
}

static UNUSED void start_relay(void)
{
        start_relay_on("127.0.0.1");
}

static int set_up(void **state)
{
        (void)state;
        memset(&rig, 0, sizeof(rig));
        rig.fds_before = count_fds();
        rig.now = WEIR_SEC;
        rig.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        rig.server_fd = listen_on("127.0.0.1", 4096);
        rig.server = endpoint_of(rig.server_fd);
        rig.wanted = endpoint("198.51.100.7", 443);
        rig.policy = (struct weir_policy){ .allow = true, .reason = WEIR_REASON_NO_RULE, .n_endpoints = 1 };
        rig.policy.endpoints[0] = rig.server;
        rig.sys = weir_relay_sys_real;
        rig.sys.original_dst = fake_original_dst;
        rig.sys.accept = fake_accept;
        return weir_loop_new_with(&fake_backend, NULL, &rig.loop);
}

/* Whatever a test did: no descriptor and no reference to a policy is left. */
static int tear_down(void **state)
{
        (void)state;
        weir_relay_free(rig.relay);
        weir_loop_free(rig.loop);
        (void)close(rig.server_fd);
        (void)close(rig.epoll_fd);
        assert_int_equal(count_fds(), rig.fds_before);
        assert_int_equal(rig.policy.references, 0);
        return 0;
}

static void turn(void)
{
        assert_int_equal(weir_loop_once(rig.loop, 0), 0);
}

static UNUSED void jump(uint64_t ns)
{
        rig.now += ns;
        turn();
}

/* Turns until @condition; loopback needs few, but the kernel may hand a packet to another thread. */
#define UNTIL(condition)                                                       \
        do {                                                                   \
                bool done_ = false;                                            \
                for (int i_ = 0; i_ < 20000 && !(done_ = (condition)); i_++) { \
                        turn();                                                \
                        if (i_ > 100)                                          \
                                (void)usleep(200);                             \
                }                                                              \
                assert_true(done_);                                            \
        } while (0)

static int connect_to(const char *address, uint16_t port)
{
        struct endpoint e = endpoint(address, port);
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(&e.addr, port, &sa);
        int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, length), 0);
        assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        return fd;
}

static int connect_client(void)
{
        return connect_to("127.0.0.1", rig.listener.port);
}

static int accept_from(int listener)
{
        int fd = -1;

        UNTIL((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0);
        return fd;
}

struct pair {
        int client, server;
};

static UNUSED struct pair open_flow(void)
{
        struct pair p = { .client = connect_client() };

        p.server = accept_from(rig.server_fd);
        return p;
}

static UNUSED void close_pair(struct pair *p)
{
        (void)close(p->client);
        (void)close(p->server);
}

static UNUSED void reset(int fd)
{
        const struct linger now = { .l_onoff = 1 };

        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
        assert_int_equal(close(fd), 0);
}

/* What reading says next: bytes, 0 at the end, -errno. */
static UNUSED ssize_t next_read(int fd, void *bytes, size_t n)
{
        ssize_t got = -1;

        UNTIL((got = read(fd, bytes, n)) >= 0 || errno != EAGAIN);
        return got < 0 ? -errno : got;
}

static UNUSED void assert_reset(int fd)
{
        char byte;

        assert_int_equal(next_read(fd, &byte, 1), -ECONNRESET);
}

static UNUSED void assert_end(int fd)
{
        char byte;

        assert_int_equal(next_read(fd, &byte, 1), 0);
}

static UNUSED void assert_passes(int from, int to, const char *text)
{
        char got[64];

        assert_int_equal(write(from, text, strlen(text)), (ssize_t)strlen(text));
        assert_int_equal(next_read(to, got, sizeof(got)), (ssize_t)strlen(text));
        assert_memory_equal(got, text, strlen(text));
}

/* Exactly one record so far, ending thus, and the slot is free again. */
static UNUSED const struct weir_record *assert_one_record(enum weir_reason reason)
{
        UNTIL(rig.n_records > 0);
        turn();
        turn();
        assert_int_equal(rig.n_records, 1);
        assert_string_equal(weir_reason_name(rig.records[0].reason), weir_reason_name(reason));
        assert_int_equal(weir_relay_n_flows(rig.relay), 0);
        assert_null(rig.relay->closing);
        return &rig.records[0];
}

/* A listener whose queue is full: a connect to it stays in SYN_SENT. */
struct full {
        int listener, filler[4];
};

static UNUSED struct full make_full(void)
{
        struct full full = { .listener = listen_on("127.0.0.1", 0) };
        struct endpoint e = endpoint_of(full.listener);
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(&e.addr, e.port, &sa);

        for (size_t i = 0; i < 4; i++) {
                full.filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                (void)connect(full.filler[i], (struct sockaddr *)&sa, length);
        }
        (void)usleep(20000);
        rig.policy.endpoints[0] = e;
        return full;
}

static UNUSED void close_full(struct full *full)
{
        for (size_t i = 0; i < 4; i++)
                (void)close(full->filler[i]);
        (void)close(full->listener);
}

static UNUSED void allow_many_descriptors(void)
{
        struct rlimit limit;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
        limit.rlim_cur = limit.rlim_max < 20000 ? limit.rlim_max : 20000;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
