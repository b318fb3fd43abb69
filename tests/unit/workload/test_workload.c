/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A workload over a capture that is not there: the policy follows the store, a broken file keeps the last good one and
 * is told once, what the boundary rejected becomes a record, and a start that fails leaves nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/fd.h"
#include "event/loop.h"
#include "model/resource.h"
#include "policy/policy.h"
#include "store/store.h"
#include "telemetry/record.h"
#include "workload/workload.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct weir_capture {
        int rejected[2]; /* one byte waits for each rejected packet */
};

static unsigned captures_alive;
static struct weir_capture *current;
static int start_result;

static int bound_socket(int type)
{
        struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        if (type == SOCK_STREAM)
                assert_int_equal(listen(fd, 8), 0);
        return fd;
}

static int fake_start(const struct weir_capture_options *options, struct weir_capture **ret, struct weir_err *err)
{
        struct weir_capture *c;

        (void)options;
        if (start_result < 0)
                return weir_err_set(err, start_result, "user namespaces are forbidden");
        c = calloc(1, sizeof(*c));
        assert_non_null(c);
        assert_int_equal(pipe2(c->rejected, O_NONBLOCK | O_CLOEXEC), 0);
        captures_alive++;
        current = c;
        *ret = c;
        return 0;
}

static size_t fake_listeners(struct weir_capture *c, int *ret, size_t n)
{
        (void)c;
        (void)n;
        ret[0] = bound_socket(SOCK_STREAM);
        return 1;
}

static int fake_udp(struct weir_capture *c)
{
        (void)c;
        return bound_socket(SOCK_DGRAM);
}

static int fake_tcp(struct weir_capture *c)
{
        (void)c;
        return bound_socket(SOCK_STREAM);
}

static int fake_rejected_fd(struct weir_capture *c)
{
        return c->rejected[0];
}

static int fake_next_rejected(struct weir_capture *c, struct weir_rejected *ret)
{
        char byte;

        if (read(c->rejected[0], &byte, 1) != 1)
                return 0;
        *ret = (struct weir_rejected){ .protocol = WEIR_IP_UDP, .ip_protocol = IPPROTO_UDP, .port = 123 };
        assert_int_equal(weir_addr_parse("203.0.113.66", &ret->destination), 0);
        return 1;
}

static int fake_owner(struct weir_capture *c, enum weir_ip_protocol protocol, const struct weir_addr *from,
                      uint16_t port, const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid, char *command)
{
        (void)c;
        (void)protocol;
        (void)from;
        (void)port;
        (void)to;
        (void)to_port;
        *ret_pid = 42;
        (void)snprintf(command, 16, "ntpdate");
        return 0;
}

static void fake_free(struct weir_capture *c)
{
        if (!c)
                return;
        (void)close(c->rejected[0]);
        (void)close(c->rejected[1]);
        free(c);
        captures_alive--;
}

static const struct weir_capture_ops fake = {
        .name = "fake",
        .start = fake_start,
        .take_listeners = fake_listeners,
        .take_dns_udp = fake_udp,
        .take_dns_tcp = fake_tcp,
        .rejected_fd = fake_rejected_fd,
        .next_rejected = fake_next_rejected,
        .owner = fake_owner,
        .free = fake_free,
};

/* A capture that judges by itself: it takes policies, or says that it has no room, and tells events. */
static int policy_result;
static unsigned policies_taken;
static struct weir_capture_event events[4];
static size_t n_events;

static int fake_set_policy(struct weir_capture *c, struct weir_policy *policy, struct weir_err *err)
{
        (void)c;
        (void)policy;
        if (policy_result < 0)
                return weir_err_set(err, policy_result, "the kernel has no room for a policy of 7 entries");
        policies_taken++;
        return 0;
}

static int fake_no_fd(struct weir_capture *c)
{
        (void)c;
        return -1;
}

static int fake_next_event(struct weir_capture *c, struct weir_capture_event *ret)
{
        char byte;

        if (read(c->rejected[0], &byte, 1) != 1 || n_events == 0)
                return 0;
        *ret = events[--n_events];
        return ret->lost ? -ENOBUFS : 1;
}

static void fake_stop(struct weir_capture *c)
{
        (void)c;
}

static const struct weir_capture_ops fake_kernel = {
        .name = "fake kernel",
        .start = fake_start,
        .take_listeners = fake_listeners,
        .take_dns_udp = fake_udp,
        .take_dns_tcp = fake_tcp,
        .rejected_fd = fake_no_fd,
        .owner = fake_owner,
        .set_policy = fake_set_policy,
        .events_fd = fake_rejected_fd,
        .next_event = fake_next_event,
        .stop = fake_stop,
        .free = fake_free,
};

struct bench {
        const struct weir_capture_ops *capture;
        char folder[64], spec[80];
        struct weir_store *store;
        struct weir_loop *loop;
        struct weir_sink *sink;
        struct weir_workload *workload;
        int log[2];
        unsigned problems, recoveries;
        char text[512];
};

static void on_notice(void *context, bool problem, const char *text)
{
        struct bench *b = context;

        *(problem ? &b->problems : &b->recoveries) += 1;
        (void)snprintf(b->text, sizeof(b->text), "%s", text);
}

static void open_bench(struct bench *b)
{
        struct weir_sink_options sink = { .denials_fd = -1 };
        struct weir_err err = { 0 };

        *b = (struct bench){ .capture = &fake, .folder = "/tmp/weir-test-XXXXXX" };
        assert_non_null(mkdtemp(b->folder));
        (void)snprintf(b->spec, sizeof(b->spec), "dir:%s", b->folder);
        assert_int_equal(weir_store_open(b->spec, true, &b->store, &err), 0);
        assert_int_equal(weir_loop_new(&b->loop), 0);
        assert_int_equal(pipe2(b->log, O_NONBLOCK | O_CLOEXEC), 0);
        sink.log_fd = b->log[1];
        assert_int_equal(weir_sink_new(&sink, &b->sink), 0);
        start_result = 0;
}

static int start(struct bench *b, struct weir_err *err)
{
        struct weir_workload_options options = {
                .name = "test",
                .capture = b->capture,
                .store = b->store,
                .sink = b->sink,
                .notice = on_notice,
                .context = b,
        };

        return weir_workload_start(b->loop, &options, &b->workload, err);
}

static void close_bench(struct bench *b)
{
        char command[128];

        weir_workload_free(b->workload);
        weir_sink_free(b->sink);
        weir_loop_free(b->loop);
        weir_store_close(b->store);
        (void)close(b->log[0]);
        (void)close(b->log[1]);
        (void)snprintf(command, sizeof(command), "rm -rf %s", b->folder);
        assert_int_equal(system(command), 0);
        assert_int_equal(captures_alive, 0);
}

static void put(struct bench *b, const char *name, const char *cidr)
{
        char text[512];
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        struct weir_resource *with;
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)snprintf(text, sizeof(text),
                       "kind: ExternalService\nmetadata:\n  name: %s\nspec:\n  hosts: [%s]\n  ports:\n  - {number: "
                       "443, name: tcp, protocol: TCP}\n",
                       name, cidr);
        assert_int_equal(weir_resources_read(text, strlen(text), "-", &list, &errors, NULL), 0);
        assert_int_equal(
                weir_resource_with(list.items[0], &(struct weir_resource_change){ .namespace_ = "default" }, &with), 0);
        assert_int_equal(weir_store_apply(b->store, with, &revision, NULL, &err), 0);
        weir_resource_unref(with);
        weir_resources_clear(&list);
}

static void write_file(struct bench *b, const char *name, const char *text)
{
        char path[160];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/external-service/default/%s.yaml", b->folder, name);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
        assert_int_equal(weir_fd_write_all(fd, text, strlen(text)), 0);
        assert_int_equal(close(fd), 0);
}

static void turn(struct bench *b)
{
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(weir_loop_once(b->loop, 20), 0);
}

static bool allows(struct bench *b, const char *address)
{
        struct weir_query query = { .protocol = WEIR_IP_TCP, .port = 443 };
        struct weir_decision decision;

        assert_int_equal(weir_addr_parse(address, &query.addr), 0);
        weir_policy_match(weir_workload_policy(b->workload), &query, &decision);
        return decision.verdict == WEIR_VERDICT_ALLOW;
}

static void the_policy_follows_the_store(void **state)
{
        struct weir_err err = { 0 };
        struct bench b;

        (void)state;
        open_bench(&b);
        assert_int_equal(start(&b, &err), 0);
        assert_false(allows(&b, "198.35.26.96"));
        put(&b, "wikipedia-ext", "198.35.26.96/27");
        turn(&b);
        assert_true(allows(&b, "198.35.26.96"));
        assert_int_equal(weir_store_delete(b.store, WEIR_KIND_EXTERNAL_SERVICE, "default", "wikipedia-ext", &err), 0);
        turn(&b);
        assert_false(allows(&b, "198.35.26.96"));
        assert_int_equal(b.problems, 0);
        close_bench(&b);
}

static void a_broken_file_keeps_the_last_good_policy(void **state)
{
        struct weir_err err = { 0 };
        struct bench b;

        (void)state;
        open_bench(&b);
        put(&b, "good", "198.35.26.96/27");
        assert_int_equal(start(&b, &err), 0);
        write_file(&b, "broken", "kind: ExternalService\nmetadata: {name: broken}\nspec:\n  hostss: []\n");
        turn(&b);
        assert_true(allows(&b, "198.35.26.96"));
        assert_int_equal(b.problems, 1);
        assert_non_null(strstr(b.text, "hostss"));
        /* A good change beside a broken file does not come into force: the store is taken whole or not at all. */
        put(&b, "another", "203.0.113.0/24");
        turn(&b);
        assert_false(allows(&b, "203.0.113.1"));
        assert_int_equal(b.problems, 1);
        write_file(&b, "broken", "kind: ExternalService\nmetadata: {name: broken}\nspec: {hosts: [192.0.2.1]}\n");
        turn(&b);
        assert_true(allows(&b, "203.0.113.1"));
        assert_int_equal(b.recoveries, 1);
        close_bench(&b);
}

static void what_the_boundary_rejected_is_a_record(void **state)
{
        struct weir_err err = { 0 };
        char lines[4096] = "";
        struct bench b;

        (void)state;
        open_bench(&b);
        assert_int_equal(start(&b, &err), 0);
        assert_int_equal(write(current->rejected[1], "xx", 2), 2);
        turn(&b);
        weir_sink_flush(b.sink);
        assert_true(read(b.log[0], lines, sizeof(lines) - 1) > 0);
        assert_non_null(strstr(lines, "\"rejected_udp\""));
        assert_non_null(strstr(lines, "\"203.0.113.66\""));
        assert_non_null(strstr(lines, "\"ntpdate\""));
        assert_int_equal(weir_sink_counters(b.sink)->by_reason[WEIR_REASON_REJECTED_UDP], 2);
        close_bench(&b);
}

static void a_start_that_fails_says_why_and_leaves_nothing(void **state)
{
        struct weir_err err = { 0 };
        struct bench b;

        (void)state;
        open_bench(&b);
        start_result = WEIR_EUNSUPPORTED;
        assert_int_equal(start(&b, &err), WEIR_EUNSUPPORTED);
        assert_string_equal(err.text, "user namespaces are forbidden");
        start_result = 0;
        put(&b, "good", "198.35.26.96/27");
        write_file(&b, "broken", "kind: ExternalService\nmetadata: {name: broken}\nspec:\n  hostss: []\n");
        assert_int_equal(start(&b, &err), WEIR_EINVALID);
        assert_non_null(strstr(err.text, "broken.yaml"));
        close_bench(&b);
}

static void a_policy_that_the_kernel_refuses_leaves_the_old_one(void **state)
{
        struct weir_err err = { 0 };
        struct bench b;

        (void)state;
        open_bench(&b);
        b.capture = &fake_kernel;
        policies_taken = 0;
        put(&b, "good", "198.35.26.96/27");
        assert_int_equal(start(&b, &err), 0);
        policy_result = WEIR_ELIMIT;
        put(&b, "more", "203.0.113.0/24");
        turn(&b);
        assert_false(allows(&b, "203.0.113.1"));
        assert_true(allows(&b, "198.35.26.96"));
        assert_int_equal(b.problems, 1);
        assert_non_null(strstr(b.text, "no room"));
        assert_int_equal(policies_taken, 0);
        policy_result = 0;
        put(&b, "again", "192.0.2.0/24");
        turn(&b);
        assert_true(allows(&b, "203.0.113.1"));
        assert_int_equal(policies_taken, 1);
        assert_int_equal(b.recoveries, 1);
        close_bench(&b);
}

static void what_the_kernel_tells_is_a_record(void **state)
{
        struct weir_capture_event ended = { .ended = true,
                                            .protocol = WEIR_IP_TCP,
                                            .has_destination = true,
                                            .port = 443,
                                            .dialled_port = 443,
                                            .reason = WEIR_REASON_FINISHED,
                                            .rule = 0,
                                            .pid = 4711,
                                            .command = "curl",
                                            .cgroup = "/a",
                                            .bytes_sent = 10,
                                            .bytes_received = 20,
                                            .generation = 1,
                                            .again_ns = 1 };
        struct weir_err err = { 0 };
        char lines[8192] = "";
        struct bench b;

        (void)state;
        open_bench(&b);
        b.capture = &fake_kernel;
        put(&b, "good", "198.35.26.96/27");
        assert_int_equal(start(&b, &err), 0);
        assert_int_equal(weir_addr_parse("198.35.26.97", &ended.destination), 0);
        ended.dialled = ended.destination;
        /* Told from the last to the first: lost ones, a denial, one by a rule, and one of a policy that is gone. */
        events[3] = (struct weir_capture_event){ .lost = 3 };
        events[2] = ended;
        events[2].ended = false;
        events[2].reason = WEIR_REASON_NO_RULE;
        events[2].port = 80;
        events[1] = ended;
        events[0] = ended;
        events[0].generation = 0;
        assert_int_equal(weir_addr_parse("203.0.113.1", &events[0].destination), 0);
        events[0].dialled = events[0].destination;
        n_events = 4;
        assert_int_equal(write(current->rejected[1], "xxxx", 4), 4);
        turn(&b);
        weir_sink_flush(b.sink);
        assert_true(read(b.log[0], lines, sizeof(lines) - 1) > 0);
        assert_non_null(
                strstr(lines, "\"verdict\":\"deny\",\"reason\":\"no_rule\",\"rule\":null,\"nearest\":\"default/good"));
        assert_non_null(strstr(lines, "\"verdict\":\"allow\",\"reason\":\"finished\",\"rule\":\"default/good\""));
        assert_non_null(strstr(lines, "\"verdict\":\"deny\",\"reason\":\"policy_revoked\",\"rule\":null"));
        assert_non_null(strstr(lines, "\"cgroup\":\"/a\""));
        assert_non_null(strstr(lines, "\"bytes_sent\":10,\"bytes_received\":20"));
        assert_int_equal(weir_sink_counters(b.sink)->events_lost, 3);
        assert_int_equal(weir_sink_counters(b.sink)->denied, 1);
        assert_int_equal(weir_sink_counters(b.sink)->closed, 2);
        close_bench(&b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_policy_follows_the_store),
                cmocka_unit_test(a_broken_file_keeps_the_last_good_policy),
                cmocka_unit_test(what_the_boundary_rejected_is_a_record),
                cmocka_unit_test(a_start_that_fails_says_why_and_leaves_nothing),
                cmocka_unit_test(a_policy_that_the_kernel_refuses_leaves_the_old_one),
                cmocka_unit_test(what_the_kernel_tells_is_a_record),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
