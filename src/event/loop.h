/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: epoll, timers, deferred work. One thread. The seam that replay tests replace with virtual time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct weir_loop;

/* @events: EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR, EPOLLRDHUP. @id is what the caller registered: an index, never a
 * pointer into something that may be gone (handlers look {slot, generation} up and ignore stale ones). */
typedef void weir_loop_io(void *context, uint64_t id, uint32_t events);
typedef void weir_loop_call(void *context);

WEIR_MUST int weir_loop_new(struct weir_loop **ret_loop);

/**
 * struct weir_loop_backend - what a loop asks of the machine; replay tests give their own
 * @now:  monotonic ns, never 0
 * @ctl:  as epoll_ctl(2); 0 or -errno. The data in @event is the loop's own and comes back from @wait
 * @wait: as epoll_wait(2), at most @timeout_ns (UINT64_MAX forever); the number of events or -errno
 *
 * A test with virtual time polls real descriptors without waiting and, when none is ready, advances its clock by
 * @timeout_ns: an hour's deadline then passes at once, in the same order as in life.
 */
struct epoll_event;
struct weir_loop_backend {
        uint64_t (*now)(void *context);
        int (*ctl)(void *context, int operation, int fd, struct epoll_event *event);
        int (*wait)(void *context, struct epoll_event *events, int n, uint64_t timeout_ns);
};
/* @backend and @context outlive the loop. */
WEIR_MUST int weir_loop_new_with(const struct weir_loop_backend *backend, void *context, struct weir_loop **ret_loop);

void weir_loop_free(struct weir_loop *loop);
WEIR_DEFINE_CLEANUP(loop, struct weir_loop *, weir_loop_free)

/* @fd is not owned. @events may hold EPOLLET. One registration a descriptor. */
WEIR_MUST int weir_loop_add(struct weir_loop *loop, int fd, uint32_t events, weir_loop_io *io, void *context,
                            uint64_t id);
WEIR_MUST int weir_loop_mod(struct weir_loop *loop, int fd, uint32_t events);
/* To be called before close(). Events already fetched for it are not delivered. */
void weir_loop_del(struct weir_loop *loop, int fd);

struct weir_timer;
/* Nothing is allocated after this, so setting a timer cannot fail. To be freed before the loop. One shot at @at_ns of
 * weir_loop_now(); owned by the caller. */
WEIR_MUST int weir_timer_new(struct weir_loop *loop, weir_loop_call *call, void *context,
                             struct weir_timer **ret_timer);
void weir_timer_set(struct weir_timer *timer, uint64_t at_ns); /* 0 disarms; moves one that is armed */
void weir_timer_free(struct weir_timer *timer);                /* also from its own or another's call */

/* Runs @call at the end of this turn, after all handlers: where slots and descriptors are freed. */
WEIR_MUST int weir_loop_defer(struct weir_loop *loop, weir_loop_call *call, void *context);
/* Forgets every deferred @call with @context that has not run; for those about to free @context. */
void weir_loop_undefer(struct weir_loop *loop, weir_loop_call *call, const void *context);

uint64_t weir_loop_now(const struct weir_loop *loop); /* monotonic ns, read once a turn */
/* Until weir_loop_stop(). 0 or -errno. */
WEIR_MUST int weir_loop_run(struct weir_loop *loop);
/* One turn, waiting at most @timeout_ms (-1 forever). */
WEIR_MUST int weir_loop_once(struct weir_loop *loop, int timeout_ms);
void weir_loop_stop(struct weir_loop *loop);
