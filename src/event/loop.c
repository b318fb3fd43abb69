/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop.
 *
 * Theory of operation
 *
 * One turn: wait for events until the next timer is due; read the clock once; run the handlers of the events fetched,
 * then the timers that are due, then the calls that were deferred. A call deferred by a deferred call runs in the next
 * turn, which then does not wait: work that was cut short for fairness goes on without starving the descriptors.
 *
 * Watches stand in an array indexed by descriptor number. Each has a generation, which goes into the epoll data beside
 * the number and is raised by weir_loop_add(). An event fetched in this turn for a descriptor that a handler deleted
 * since, even if the number was reused and added again, has an old generation and is dropped.
 */
#include "event/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/time.h"
#include "event/timer.h"

#define EVENTS_PER_TURN 256

struct watch {
        weir_loop_io *io; /* NULL: not watched */
        void *context;
        uint64_t id;
        uint32_t generation;
};

struct deferred {
        weir_loop_call *call; /* NULL: forgotten */
        void *context;
};

struct weir_loop {
        const struct weir_loop_backend *backend;
        void *backend_context;
        int epoll_fd; /* of the built-in backend; else -1 */
        uint64_t now;
        bool stop;
        struct watch *watches;
        size_t n_watches;
        struct weir_timers timers;
        struct deferred *deferred;
        size_t n_deferred, deferred_capacity;
};

static uint64_t real_now(void *context)
{
        (void)context;
        return weir_time_ns();
}

static int real_ctl(void *context, int operation, int fd, struct epoll_event *event)
{
        const struct weir_loop *loop = context;

        return epoll_ctl(loop->epoll_fd, operation, fd, event) < 0 ? -errno : 0;
}

/* Rounded up: a timer that is due in half a millisecond must not make the loop spin until then. */
static int timeout_ms(uint64_t ns)
{
        uint64_t ms = ns / WEIR_MS + (ns % WEIR_MS != 0);

        if (ns == UINT64_MAX)
                return -1;
        return ms > INT_MAX ? INT_MAX : (int)ms;
}

static int real_wait(void *context, struct epoll_event *events, int n, uint64_t timeout_ns)
{
        const struct weir_loop *loop = context;
        int got = epoll_wait(loop->epoll_fd, events, n, timeout_ms(timeout_ns));

        return got < 0 ? -errno : got;
}

static const struct weir_loop_backend real_backend = { .now = real_now, .ctl = real_ctl, .wait = real_wait };

int weir_loop_new_with(const struct weir_loop_backend *backend, void *context, struct weir_loop **ret_loop)
{
        weir_auto(loop) struct weir_loop *loop = calloc(1, sizeof(*loop));

        if (!loop)
                return -ENOMEM;
        loop->epoll_fd = -1;
        loop->backend = backend;
        loop->backend_context = context;
        loop->deferred_capacity = 16;
        loop->deferred = calloc(loop->deferred_capacity, sizeof(*loop->deferred));
        if (!loop->deferred)
                return -ENOMEM;
        loop->now = backend->now(context);
        *ret_loop = TAKE_PTR(loop);
        return 0;
}

int weir_loop_new(struct weir_loop **ret_loop)
{
        weir_auto(loop) struct weir_loop *loop = NULL;
        int r;

        r = weir_loop_new_with(&real_backend, NULL, &loop);
        if (r < 0)
                return r;
        loop->backend_context = loop;
        loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (loop->epoll_fd < 0)
                return -errno;
        *ret_loop = TAKE_PTR(loop);
        return 0;
}

void weir_loop_free(struct weir_loop *loop)
{
        if (!loop)
                return;
        if (loop->epoll_fd >= 0)
                (void)close(loop->epoll_fd);
        weir_timers_clear(&loop->timers);
        free(loop->watches);
        free(loop->deferred);
        free(loop);
}

static struct watch *find_watch(struct weir_loop *loop, int fd)
{
        if (fd < 0 || (size_t)fd >= loop->n_watches || !loop->watches[fd].io)
                return NULL;
        return &loop->watches[fd];
}

static int reserve_watches(struct weir_loop *loop, size_t n)
{
        size_t capacity = loop->n_watches ? loop->n_watches : 64;
        struct watch *watches;

        if (n <= loop->n_watches)
                return 0;
        while (capacity < n)
                capacity *= 2;
        watches = reallocarray(loop->watches, capacity, sizeof(*watches));
        if (!watches)
                return -ENOMEM;
        memset(watches + loop->n_watches, 0, (capacity - loop->n_watches) * sizeof(*watches));
        loop->watches = watches;
        loop->n_watches = capacity;
        return 0;
}

static int control(struct weir_loop *loop, int operation, int fd, uint32_t events)
{
        struct epoll_event event = {
                .events = events,
                .data.u64 = (uint64_t)loop->watches[fd].generation << 32 | (uint32_t)fd,
        };

        return loop->backend->ctl(loop->backend_context, operation, fd, &event);
}

int weir_loop_add(struct weir_loop *loop, int fd, uint32_t events, weir_loop_io *io, void *context, uint64_t id)
{
        struct watch *watch;
        int r;

        if (fd < 0 || !io)
                return -EBADF;
        r = reserve_watches(loop, (size_t)fd + 1);
        if (r < 0)
                return r;
        watch = &loop->watches[fd];
        if (watch->io)
                return -EEXIST;
        watch->generation++;
        r = control(loop, EPOLL_CTL_ADD, fd, events);
        if (r < 0)
                return r;
        watch->io = io;
        watch->context = context;
        watch->id = id;
        return 0;
}

int weir_loop_mod(struct weir_loop *loop, int fd, uint32_t events)
{
        return find_watch(loop, fd) ? control(loop, EPOLL_CTL_MOD, fd, events) : -ENOENT;
}

void weir_loop_del(struct weir_loop *loop, int fd)
{
        struct watch *watch = find_watch(loop, fd);

        if (!watch)
                return;
        watch->io = NULL;
        (void)control(loop, EPOLL_CTL_DEL, fd, 0);
}

int weir_timer_new(struct weir_loop *loop, weir_loop_call *call, void *context, struct weir_timer **ret_timer)
{
        return weir_timers_new_timer(&loop->timers, call, context, ret_timer);
}

int weir_loop_defer(struct weir_loop *loop, weir_loop_call *call, void *context)
{
        if (loop->n_deferred == loop->deferred_capacity) {
                struct deferred *deferred =
                        reallocarray(loop->deferred, 2 * loop->deferred_capacity, sizeof(*deferred));

                if (!deferred)
                        return -ENOMEM;
                loop->deferred = deferred;
                loop->deferred_capacity *= 2;
        }
        loop->deferred[loop->n_deferred++] = (struct deferred){ .call = call, .context = context };
        return 0;
}

void weir_loop_undefer(struct weir_loop *loop, weir_loop_call *call, const void *context)
{
        for (size_t i = 0; i < loop->n_deferred; i++)
                if (loop->deferred[i].call == call && loop->deferred[i].context == context)
                        loop->deferred[i].call = NULL;
}

/* Those deferred meanwhile are kept for the next turn. The array may move under the calls: index, never point. */
static void run_deferred(struct weir_loop *loop)
{
        size_t n = loop->n_deferred;

        for (size_t i = 0; i < n; i++) {
                struct deferred deferred = loop->deferred[i];

                loop->deferred[i].call = NULL;
                if (deferred.call)
                        deferred.call(deferred.context);
        }
        loop->n_deferred -= n;
        memmove(loop->deferred, loop->deferred + n, loop->n_deferred * sizeof(*loop->deferred));
}

static void deliver(struct weir_loop *loop, const struct epoll_event *event)
{
        struct watch *watch = find_watch(loop, (int)(uint32_t)event->data.u64);

        if (watch && watch->generation == (uint32_t)(event->data.u64 >> 32))
                watch->io(watch->context, watch->id, event->events);
}

static uint64_t wait_ns(struct weir_loop *loop, int ms)
{
        uint64_t next = weir_timers_next(&loop->timers);
        uint64_t wait = ms < 0 ? UINT64_MAX : (uint64_t)ms * WEIR_MS;
        uint64_t now;

        if (loop->n_deferred > 0)
                return 0;
        if (next == UINT64_MAX || wait == 0)
                return wait;
        /* Handlers took time since the clock was read. */
        now = loop->backend->now(loop->backend_context);
        if (next <= now)
                return 0;
        return next - now < wait ? next - now : wait;
}

uint64_t weir_loop_now(const struct weir_loop *loop)
{
        return loop->now;
}

int weir_loop_once(struct weir_loop *loop, int timeout)
{
        struct epoll_event events[EVENTS_PER_TURN];
        int n;

        n = loop->backend->wait(loop->backend_context, events, EVENTS_PER_TURN, wait_ns(loop, timeout));
        if (n < 0 && n != -EINTR)
                return n;
        loop->now = loop->backend->now(loop->backend_context);
        for (int i = 0; i < n; i++)
                deliver(loop, &events[i]);
        weir_timers_run(&loop->timers, loop->now);
        run_deferred(loop);
        return 0;
}

int weir_loop_run(struct weir_loop *loop)
{
        int r = 0;

        while (!loop->stop && r >= 0)
                r = weir_loop_once(loop, -1);
        loop->stop = false;
        return r < 0 ? r : 0;
}

void weir_loop_stop(struct weir_loop *loop)
{
        loop->stop = true;
}
