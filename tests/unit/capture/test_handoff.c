/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handoff's table of flows, by itself and with threads that begin and end flows while the policy changes: every
 * flow is told once, none lives on that the policy in force does not allow. And the copying of socket options.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/err.h"
#include "capture/handoff_internal.h"
#include "model/resource.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define THREADS 4
#define FLOWS 20000

static struct weir_policy *compile(const char *hosts)
{
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        struct weir_err err = { 0 };
        struct weir_policy *policy;
        char yaml[512];

        (void)snprintf(yaml, sizeof(yaml),
                       "kind: ExternalService\nmetadata: {name: one}\nspec:\n  hosts: [%s]\n"
                       "  ports: [{number: 443, name: tls, protocol: TCP}]\n  discovery: NONE\n",
                       hosts);
        assert_int_equal(weir_resources_read(yaml, strlen(yaml), "t.yaml", &list, &errors, NULL), 0);
        assert_int_equal(weir_policy_compile(&list, &(struct weir_policy_options){ 0 }, &policy, &err), 0);
        weir_resources_clear(&list);
        return policy;
}

static struct weir_handoff *table(struct weir_policy *policy)
{
        struct weir_handoff *h = calloc(1, sizeof(*h));

        assert_non_null(h);
        h->policy = policy;
        h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        assert_int_equal(pthread_mutex_init(&h->lock, NULL), 0);
        assert_int_equal(weir_flows_init(h), 0);
        return h;
}

static void drop(struct weir_handoff *h)
{
        weir_flows_clear(h);
        weir_policy_unref(h->policy);
        assert_int_equal(pthread_mutex_destroy(&h->lock), 0);
        assert_int_equal(close(h->wake), 0);
        free(h);
}

/* What the notification thread knows of a connection to @address. */
static struct weir_capture_event about(struct weir_policy *policy, const char *address)
{
        struct weir_capture_event about = {
                .protocol = WEIR_IP_TCP, .port = 443, .has_dialled = true, .policy = policy
        };
        struct weir_query query = { .protocol = WEIR_IP_TCP, .port = 443 };
        struct weir_decision decision;

        assert_int_equal(weir_addr_parse(address, &query.addr), 0);
        weir_policy_match(policy, &query, &decision);
        about.destination = about.dialled = query.addr;
        about.dialled_port = 443;
        about.reason = decision.reason;
        about.by = decision.rule;
        return about;
}

static struct weir_capture_event told(struct weir_handoff *h)
{
        struct weir_capture_event event;

        assert_int_equal(weir_handoff_next_told(h, &event), 1);
        weir_policy_unref(event.policy);
        return event;
}

static void a_flow_is_told_once(void **state)
{
        struct weir_handoff *h = table(compile("10.0.0.0/8"));
        struct weir_capture_event flow = about(h->policy, "10.1.2.3"), event;

        (void)state;
        assert_int_equal(weir_flows_begin(h, 7, 100, 5, 0, &flow), 0);
        assert_true(weir_flows_installed(h, 7));
        assert_true(weir_flows_has(h, 7));
        weir_flows_end(h, 7, WEIR_REASON_FINISHED, &(struct weir_flow_figures){ .sent = 3, .received = 4 });
        weir_flows_end(h, 7, WEIR_REASON_SHUTDOWN, NULL);
        event = told(h);
        assert_true(event.ended);
        assert_int_equal(event.reason, WEIR_REASON_FINISHED);
        assert_int_equal(event.bytes_sent, 3);
        assert_int_equal(event.bytes_received, 4);
        assert_false(event.uncounted);
        assert_int_equal(weir_handoff_next_told(h, &event), 0);
        drop(h);
}

static void a_policy_that_came_between_has_to_be_asked(void **state)
{
        struct weir_policy *old = compile("10.0.0.0/8");
        struct weir_handoff *h = table(compile("10.1.0.0/16"));
        struct weir_capture_event flow = about(old, "10.1.2.3");

        (void)state;
        assert_int_equal(weir_flows_begin(h, 7, 100, 5, 0, &flow), -ESTALE);
        assert_false(weir_flows_has(h, 7));
        weir_policy_unref(old);
        drop(h);
}

static void swap(struct weir_handoff *h, struct weir_policy *fresh)
{
        struct weir_policy *old;

        assert_int_equal(pthread_mutex_lock(&h->lock), 0);
        old = h->policy;
        h->policy = fresh;
        assert_int_equal(pthread_mutex_unlock(&h->lock), 0);
        weir_policy_unref(old);
}

static void what_is_no_longer_allowed_is_condemned(void **state)
{
        struct weir_handoff *h = table(compile("10.0.0.0/8"));
        struct weir_capture_event kept = about(h->policy, "10.1.2.3"), lost = about(h->policy, "10.2.2.3"), event;
        struct weir_condemned *list;
        size_t n;

        (void)state;
        assert_int_equal(weir_flows_begin(h, 1, 100, 5, 0, &kept), 0);
        assert_true(weir_flows_installed(h, 1));
        assert_int_equal(weir_flows_begin(h, 2, 100, 6, 0, &lost), 0);
        assert_true(weir_flows_installed(h, 2));
        /* This one is still on its way to the workload. */
        assert_int_equal(weir_flows_begin(h, 3, 100, 7, 0, &lost), 0);
        swap(h, compile("10.1.0.0/16"));
        assert_int_equal(weir_flows_condemned(h, true, &list, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(list[0].cookie, 2);
        assert_int_equal(list[0].fd, 6);
        free(list);
        assert_false(weir_flows_installed(h, 3));
        weir_flows_end(h, 2, WEIR_REASON_FINISHED, NULL);
        event = told(h);
        assert_int_equal(event.reason, WEIR_REASON_POLICY_REVOKED);
        event = told(h);
        assert_int_equal(event.reason, WEIR_REASON_POLICY_REVOKED);
        assert_true(event.uncounted);
        assert_true(weir_flows_has(h, 1));
        drop(h);
}

static void lost_ends_are_found_by_what_is_there(void **state)
{
        struct weir_handoff *h = table(compile("10.0.0.0/8"));
        struct weir_capture_event flow = about(h->policy, "10.1.2.3");
        const uint64_t alive[] = { 2, 9 };

        (void)state;
        for (uint64_t cookie = 1; cookie <= 3; cookie++) {
                assert_int_equal(weir_flows_begin(h, cookie, 100, 5, 0, &flow), 0);
                assert_true(weir_flows_installed(h, cookie));
        }
        weir_flows_reconcile(h, UINT64_MAX, alive, 2);
        assert_false(weir_flows_has(h, 1));
        assert_true(weir_flows_has(h, 2));
        assert_false(weir_flows_has(h, 3));
        assert_true(told(h).uncounted);
        drop(h);
}

/* ---- threads */
static struct weir_handoff *shared;
static atomic_uint begun, refused;

static void *connect_and_close(void *number)
{
        uint64_t base = (uint64_t)(uintptr_t)number * FLOWS * 2;

        for (uint64_t i = 1; i <= FLOWS; i++) {
                struct weir_policy *policy = weir_handoff_policy(shared);
                struct weir_capture_event flow = about(policy, "10.2.2.3");
                int r = flow.by ? weir_flows_begin(shared, base + i, 100, 5, 0, &flow) : -EPERM;

                if (r == 0)
                        atomic_fetch_add(&begun, 1);
                else
                        atomic_fetch_add(&refused, 1);
                if (r == 0 && weir_flows_installed(shared, base + i))
                        weir_flows_end(shared, base + i, WEIR_REASON_FINISHED, &(struct weir_flow_figures){ 0 });
                weir_policy_unref(policy);
        }
        return NULL;
}

static unsigned drain(void)
{
        struct weir_capture_event event;
        unsigned n = 0;
        int r;

        while ((r = weir_handoff_next_told(shared, &event)) != 0) {
                n += r == 1 ? 1 : (unsigned)event.lost;
                weir_policy_unref(event.policy);
        }
        return n;
}

static void threads_and_a_changing_policy(void **state)
{
        pthread_t threads[THREADS];
        struct weir_condemned *list;
        unsigned seen = 0;
        size_t n;

        (void)state;
        shared = table(compile("10.0.0.0/8"));
        for (uintptr_t i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, connect_and_close, (void *)i), 0);
        for (unsigned i = 0; i < 200; i++) {
                swap(shared, compile(i & 1 ? "10.0.0.0/8" : "10.1.0.0/16"));
                assert_int_equal(weir_flows_condemned(shared, true, &list, &n), 0);
                for (size_t k = 0; k < n; k++)
                        weir_flows_end(shared, list[k].cookie, WEIR_REASON_POLICY_REVOKED, NULL);
                free(list);
                seen += drain();
        }
        for (unsigned i = 0; i < THREADS; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        seen += drain();
        assert_int_equal(seen, atomic_load(&begun));
        assert_int_equal(atomic_load(&begun) + atomic_load(&refused), THREADS * FLOWS);
        assert_int_equal(shared->n_flows, 0);
        assert_int_equal(shared->n_condemned, 0);
        drop(shared);
}

/* ---- options */
static int fresh(struct weir_handoff *h, bool v6)
{
        int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        weir_options_defaults(fd, v6, &h->defaults[v6]);
        return fd;
}

static int get(int fd, int level, int name)
{
        int value = -1;
        socklen_t length = sizeof(value);

        assert_int_equal(getsockopt(fd, level, name, &value, &length), 0);
        return value;
}

static void set(int fd, int level, int name, int value)
{
        assert_int_equal(setsockopt(fd, level, name, &value, sizeof(value)), 0);
}

static void options_are_copied_once_somebody_sets_them(void **state)
{
        struct weir_handoff h = { 0 };
        struct weir_socket_options options;
        int from = fresh(&h, false), to = fresh(&h, false);

        (void)state;
        set(from, SOL_SOCKET, SO_SNDBUF, 40000);
        set(from, IPPROTO_TCP, TCP_NODELAY, 1);
        set(from, SOL_SOCKET, SO_KEEPALIVE, 1);
        set(from, IPPROTO_TCP, TCP_KEEPCNT, 3);
        set(from, IPPROTO_TCP, TCP_USER_TIMEOUT, 1234);
        assert_int_equal(weir_options_read(&h, from, false, &options), 0);
        weir_options_apply(&h, to, false, &options);
        assert_int_equal(get(to, SOL_SOCKET, SO_SNDBUF), get(from, SOL_SOCKET, SO_SNDBUF));
        assert_int_equal(get(to, IPPROTO_TCP, TCP_NODELAY), 1);
        assert_int_equal(get(to, IPPROTO_TCP, TCP_KEEPCNT), 3);
        /* Nobody was seen to set this one. */
        assert_int_equal(get(to, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
        weir_options_note(&h, IPPROTO_TCP, TCP_USER_TIMEOUT);
        assert_int_equal(weir_options_read(&h, from, false, &options), 0);
        weir_options_apply(&h, to, false, &options);
        assert_int_equal(get(to, IPPROTO_TCP, TCP_USER_TIMEOUT), 1234);
        (void)close(from);
        (void)close(to);
}

static void what_cannot_be_copied_goes_to_the_relay(void **state)
{
        struct weir_handoff h = { 0 };
        struct weir_socket_options options;
        int from = fresh(&h, true);

        (void)state;
        weir_options_note(&h, SOL_SOCKET, SO_TIMESTAMP);
        assert_int_equal(weir_options_read(&h, from, true, &options), 0);
        set(from, SOL_SOCKET, SO_TIMESTAMP, 1);
        assert_int_equal(weir_options_read(&h, from, true, &options), -ENOTSUP);
        (void)close(from);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_flow_is_told_once),
                cmocka_unit_test(a_policy_that_came_between_has_to_be_asked),
                cmocka_unit_test(what_is_no_longer_allowed_is_condemned),
                cmocka_unit_test(lost_ends_are_found_by_what_is_there),
                cmocka_unit_test(threads_and_a_changing_policy),
                cmocka_unit_test(options_are_copied_once_somebody_sets_them),
                cmocka_unit_test(what_cannot_be_copied_goes_to_the_relay),
        };

        return cmocka_run_group_tests_name("handoff", tests, NULL, NULL);
}
