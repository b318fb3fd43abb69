/* SPDX-License-Identifier: Apache-2.0 */
/* The loop on real pipes, with the real clock where nothing waits and a virtual one where something does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/time.h"
#include "event/loop.h"

#define MAX 64

/* Virtual time: real descriptors, polled without waiting; when none is ready the clock jumps. */
static struct {
        int epoll_fd;
        uint64_t now, waits;
} fake;

static uint64_t fake_now(void *context)
{
        (void)context;
        return fake.now;
}

static int fake_ctl(void *context, int operation, int fd, struct epoll_event *event)
{
        (void)context;
        return epoll_ctl(fake.epoll_fd, operation, fd, event) < 0 ? -errno : 0;
}

static int fake_wait(void *context, struct epoll_event *events, int n, uint64_t timeout_ns)
{
        int got = epoll_wait(fake.epoll_fd, events, n, 0);

        (void)context;
        fake.waits++;
        if (got == 0 && timeout_ns != UINT64_MAX)
                fake.now += timeout_ns;
        return got;
}

static const struct weir_loop_backend fake_backend = { .now = fake_now, .ctl = fake_ctl, .wait = fake_wait };

static struct weir_loop *loop;
static int log_[4096];
static size_t n_log;

static int set_up(void **state)
{
        (void)state;
        n_log = 0;
        return weir_loop_new(&loop);
}

static int set_up_fake(void **state)
{
        (void)state;
        n_log = 0;
        fake.now = 1000;
        fake.waits = 0;
        fake.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        return fake.epoll_fd < 0 ? -1 : weir_loop_new_with(&fake_backend, NULL, &loop);
}

static int tear_down(void **state)
{
        (void)state;
        weir_loop_free(loop);
        return 0;
}

static int tear_down_fake(void **state)
{
        (void)close(fake.epoll_fd);
        return tear_down(state);
}

static void note(void *context)
{
        log_[n_log++] = (int)(intptr_t)context;
}

/* Two pipes that are readable. The handler of whichever comes first deletes the other, whose event was fetched
 * already. */
static int pipes[2][2];
static int delivered[MAX];
static bool reuse;

static void count(void *context, uint64_t id, uint32_t events)
{
        (void)context;
        (void)events;
        delivered[id]++;
}

static void delete_other(void *context, uint64_t id, uint32_t events)
{
        int other = pipes[!id][0];

        (void)context;
        (void)events;
        delivered[id]++;
        weir_loop_del(loop, other);
        if (!reuse)
                return;
        /* The number comes back at once, readable too, and is added anew: that is somebody else. */
        assert_int_equal(close(other), 0);
        assert_int_equal(fcntl(pipes[id][1], F_DUPFD_CLOEXEC, other), other);
        assert_int_equal(weir_loop_add(loop, other, EPOLLIN, count, NULL, 10), 0);
}

static void deletion_within_a_batch(bool reuse_number)
{
        reuse = reuse_number;
        memset(delivered, 0, sizeof(delivered));
        for (int i = 0; i < 2; i++) {
                assert_int_equal(pipe2(pipes[i], O_CLOEXEC | O_NONBLOCK), 0);
                assert_int_equal(write(pipes[i][1], "x", 1), 1);
                assert_int_equal(weir_loop_add(loop, pipes[i][0], EPOLLIN, delete_other, NULL, (uint64_t)i), 0);
        }
        assert_int_equal(weir_loop_once(loop, 0), 0);
        assert_int_equal(delivered[0] + delivered[1], 1);
        assert_int_equal(delivered[10], 0);
        for (int i = 0; i < 2; i++) {
                weir_loop_del(loop, pipes[i][0]);
                (void)close(pipes[i][0]);
                (void)close(pipes[i][1]);
        }
}

static void test_deleted_in_the_batch(void **state)
{
        (void)state;
        deletion_within_a_batch(false);
}

static void test_number_reused_in_the_batch(void **state)
{
        (void)state;
        deletion_within_a_batch(true);
}

static void test_add_errors(void **state)
{
        int fds[2];

        (void)state;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(weir_loop_add(loop, -1, EPOLLIN, count, NULL, 0), -EBADF);
        assert_int_equal(weir_loop_add(loop, fds[0], EPOLLIN, count, NULL, 0), 0);
        assert_int_equal(weir_loop_add(loop, fds[0], EPOLLIN, count, NULL, 0), -EEXIST);
        assert_int_equal(weir_loop_mod(loop, fds[1], EPOLLIN), -ENOENT);
        weir_loop_del(loop, fds[0]);
        weir_loop_del(loop, fds[0]);
        assert_int_equal(weir_loop_mod(loop, fds[0], EPOLLIN), -ENOENT);
        assert_int_equal(weir_loop_add(loop, fds[0], EPOLLIN, count, NULL, 0), 0);
        weir_loop_del(loop, fds[0]);
        (void)close(fds[0]);
        /* epoll's own refusal leaves nothing behind. */
        assert_int_equal(weir_loop_add(loop, fds[0], EPOLLIN, count, NULL, 0), -EBADF);
        assert_int_equal(weir_loop_mod(loop, fds[0], EPOLLIN), -ENOENT);
        (void)close(fds[1]);
}

static void test_timers_in_order(void **state)
{
        struct weir_timer *timers[5];
        const uint64_t at[5] = { 50, 10, 40, 20, 30 };

        (void)state;
        for (intptr_t i = 0; i < 5; i++) {
                assert_int_equal(weir_timer_new(loop, note, (void *)i, &timers[i]), 0);
                weir_timer_set(timers[i], 1000 + at[i] * WEIR_SEC);
        }
        weir_timer_set(timers[1], 1000 + 45 * WEIR_SEC); /* later */
        weir_timer_set(timers[0], 1000 + 5 * WEIR_SEC);  /* sooner */
        weir_timer_set(timers[3], 0);
        while (n_log < 4)
                assert_int_equal(weir_loop_once(loop, -1), 0);
        assert_int_equal(log_[0], 0);
        assert_int_equal(log_[1], 4);
        assert_int_equal(log_[2], 2);
        assert_int_equal(log_[3], 1);
        assert_int_equal(fake.now, 1000 + 45 * WEIR_SEC);
        assert_int_equal(fake.waits, 4); /* the one that moved later cost no turn */
        for (int i = 0; i < 5; i++)
                weir_timer_free(timers[i]);
}

/* Against a plain array: thousands of random settings, and each turn runs exactly those that are due, in order of
 * time. */
#define TIMERS 300
static uint64_t expected[TIMERS];
static uint64_t last_run;

static void run_expected(void *context)
{
        uint64_t *at = context;

        assert_int_not_equal(*at, 0);
        assert_true(*at <= fake.now);
        assert_true(*at >= last_run);
        last_run = *at;
        *at = 0;
        n_log++;
}

static void set_some(struct weir_timer **timers, unsigned *seed)
{
        for (int i = 0; i < 50; i++) {
                int which = rand_r(seed) % TIMERS;
                uint64_t at = rand_r(seed) % 4 == 0 ? 0 : fake.now + 1 + (uint64_t)(rand_r(seed) % 1000);

                expected[which] = at;
                weir_timer_set(timers[which], at);
        }
}

static void test_timers_random(void **state)
{
        struct weir_timer *timers[TIMERS];
        unsigned seed = 4711;

        (void)state;
        for (int i = 0; i < TIMERS; i++)
                assert_int_equal(weir_timer_new(loop, run_expected, &expected[i], &timers[i]), 0);
        for (int turn = 0; turn < 2000; turn++) {
                set_some(timers, &seed);
                last_run = 0;
                fake.now += (uint64_t)(rand_r(&seed) % 100);
                assert_int_equal(weir_loop_once(loop, 0), 0);
                for (int i = 0; i < TIMERS; i++)
                        assert_true(expected[i] == 0 || expected[i] > fake.now);
        }
        assert_true(n_log > 1000);
        for (int i = 0; i < TIMERS; i++)
                weir_timer_free(timers[i]);
}

static struct weir_timer *again;

static void rearm_in_the_past(void *context)
{
        note(context);
        weir_timer_set(again, 1);
}

static void test_rearmed_in_the_past(void **state)
{
        (void)state;
        assert_int_equal(weir_timer_new(loop, rearm_in_the_past, NULL, &again), 0);
        weir_timer_set(again, 1);
        for (size_t turn = 1; turn <= 3; turn++) {
                assert_int_equal(weir_loop_once(loop, -1), 0);
                assert_int_equal(n_log, turn);
        }
        weir_timer_free(again);
}

static struct weir_timer *victims[2];

static void free_both(void *context)
{
        note(context);
        weir_timer_free(victims[0]);
        weir_timer_free(victims[1]);
}

static void test_freed_in_a_call(void **state)
{
        (void)state;
        for (int i = 0; i < 2; i++) {
                assert_int_equal(weir_timer_new(loop, free_both, NULL, &victims[i]), 0);
                weir_timer_set(victims[i], 1);
        }
        assert_int_equal(weir_loop_once(loop, 0), 0);
        assert_int_equal(n_log, 1);
}

static void defer_again(void *context)
{
        note(context);
        if (n_log < 3)
                assert_int_equal(weir_loop_defer(loop, defer_again, context), 0);
}

static void test_deferred(void **state)
{
        (void)state;
        assert_int_equal(weir_loop_defer(loop, defer_again, NULL), 0);
        /* Each turn runs it once and does not wait for the next, though nothing else is there. */
        for (size_t turn = 1; turn <= 3; turn++) {
                assert_int_equal(weir_loop_once(loop, -1), 0);
                assert_int_equal(n_log, turn);
        }
        assert_int_equal(weir_loop_once(loop, 5), 0);
        assert_int_equal(n_log, 3);
        assert_int_equal(fake.now, 1000 + 5 * WEIR_MS);
}

static void test_undefer(void **state)
{
        (void)state;
        for (intptr_t i = 0; i < 40; i++)
                assert_int_equal(weir_loop_defer(loop, note, (void *)(i % 4)), 0);
        weir_loop_undefer(loop, note, (void *)2);
        assert_int_equal(weir_loop_once(loop, -1), 0);
        assert_int_equal(n_log, 30);
        for (size_t i = 0; i < n_log; i++)
                assert_int_not_equal(log_[i], 2);
}

static void stop(void *context)
{
        note(context);
        weir_loop_stop(loop);
}

static void test_run_until_stop(void **state)
{
        struct weir_timer *timer;

        (void)state;
        assert_int_equal(weir_timer_new(loop, stop, NULL, &timer), 0);
        weir_timer_set(timer, weir_loop_now(loop) + 2 * WEIR_MS);
        assert_int_equal(weir_loop_run(loop), 0);
        assert_int_equal(n_log, 1);
        /* Stopping before it runs is not lost. */
        weir_loop_stop(loop);
        assert_int_equal(weir_loop_run(loop), 0);
        weir_timer_free(timer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define FAKE(name) cmocka_unit_test_setup_teardown(name, set_up_fake, tear_down_fake)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_deleted_in_the_batch),
                TEST(test_number_reused_in_the_batch),
                TEST(test_add_errors),
                TEST(test_run_until_stop),
                FAKE(test_timers_in_order),
                FAKE(test_timers_random),
                FAKE(test_rearmed_in_the_past),
                FAKE(test_freed_in_a_call),
                FAKE(test_deferred),
                FAKE(test_undefer),
        };

        return cmocka_run_group_tests_name("event/loop", tests, NULL, NULL);
}
