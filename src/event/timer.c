/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timers: a binary heap, made for tens of thousands of deadlines that nearly always move later and seldom pass.
 *
 * A timer has two times: @at, when it should run, and @key, where it stands in the heap; key <= at always. Moving it
 * later only writes @at; when its turn at the top comes too early, it sinks to its place. So pushing a deadline back,
 * which a busy flow does all the time, costs one store, and the heap is touched once per original deadline at most.
 */
#include "event/timer.h"

#include <errno.h>
#include <stdlib.h>

#define NOT_ARMED SIZE_MAX

struct weir_timer {
        struct weir_timers *timers;
        weir_loop_call *call;
        void *context;
        uint64_t at, key;
        size_t place; /* in the heap, or NOT_ARMED */
};

static void put(struct weir_timers *timers, size_t place, struct weir_timer *timer)
{
        timers->heap[place] = timer;
        timer->place = place;
}

static void sift_up(struct weir_timers *timers, size_t place, struct weir_timer *timer)
{
        while (place > 0 && timers->heap[(place - 1) / 2]->key > timer->key) {
                put(timers, place, timers->heap[(place - 1) / 2]);
                place = (place - 1) / 2;
        }
        put(timers, place, timer);
}

static void sift_down(struct weir_timers *timers, size_t place, struct weir_timer *timer)
{
        for (;;) {
                size_t child = 2 * place + 1;

                if (child + 1 < timers->n && timers->heap[child + 1]->key < timers->heap[child]->key)
                        child++;
                if (child >= timers->n || timers->heap[child]->key >= timer->key)
                        break;
                put(timers, place, timers->heap[child]);
                place = child;
        }
        put(timers, place, timer);
}

/* Places @timer, whose key changed, at or below @place or above it. */
static void settle(struct weir_timers *timers, size_t place, struct weir_timer *timer)
{
        if (place > 0 && timers->heap[(place - 1) / 2]->key > timer->key)
                sift_up(timers, place, timer);
        else
                sift_down(timers, place, timer);
}

static void disarm(struct weir_timer *timer)
{
        struct weir_timers *timers = timer->timers;
        size_t place = timer->place;
        struct weir_timer *last;

        if (place == NOT_ARMED)
                return;
        timer->place = NOT_ARMED;
        last = timers->heap[--timers->n];
        if (last != timer)
                settle(timers, place, last);
}

static int reserve(struct weir_timers *timers, size_t n)
{
        size_t capacity = timers->capacity ? timers->capacity : 64;
        struct weir_timer **heap;

        if (n <= timers->capacity)
                return 0;
        while (capacity < n)
                capacity *= 2;
        heap = reallocarray(timers->heap, capacity, sizeof(struct weir_timer *));
        if (!heap)
                return -ENOMEM;
        timers->heap = heap;
        timers->capacity = capacity;
        return 0;
}

int weir_timers_new_timer(struct weir_timers *timers, weir_loop_call *call, void *context,
                          struct weir_timer **ret_timer)
{
        weir_auto_free struct weir_timer *timer = calloc(1, sizeof(*timer));
        int r;

        if (!timer)
                return -ENOMEM;
        r = reserve(timers, timers->n_timers + 1);
        if (r < 0)
                return r;
        *timer = (struct weir_timer){ .timers = timers, .call = call, .context = context, .place = NOT_ARMED };
        timers->n_timers++;
        *ret_timer = TAKE_PTR(timer);
        return 0;
}

void weir_timer_set(struct weir_timer *timer, uint64_t at_ns)
{
        struct weir_timers *timers = timer->timers;

        timer->at = at_ns;
        if (at_ns == 0) {
                disarm(timer);
        } else if (timer->place == NOT_ARMED) {
                timer->key = at_ns;
                sift_up(timers, timers->n++, timer);
        } else if (at_ns < timer->key) {
                timer->key = at_ns;
                sift_up(timers, timer->place, timer);
        }
}

void weir_timer_free(struct weir_timer *timer)
{
        if (!timer)
                return;
        disarm(timer);
        timer->timers->n_timers--;
        free(timer);
}

uint64_t weir_timers_next(struct weir_timers *timers)
{
        while (timers->n > 0) {
                struct weir_timer *top = timers->heap[0];

                if (top->key == top->at)
                        return top->at;
                top->key = top->at;
                sift_down(timers, 0, top);
        }
        return UINT64_MAX;
}

void weir_timers_run(struct weir_timers *timers, uint64_t now)
{
        for (size_t left = timers->n; left > 0 && weir_timers_next(timers) <= now; left--) {
                struct weir_timer *timer = timers->heap[0];

                disarm(timer);
                timer->call(timer->context);
        }
}

void weir_timers_clear(struct weir_timers *timers)
{
        free(timers->heap);
        *timers = (struct weir_timers){ 0 };
}
