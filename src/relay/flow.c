/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow table: slots, the events that reach them, their one end.
 *
 * Theory of operation
 *
 * A slot is named in epoll data by {generation, index, side}; its generation rises when it is freed, so an event for a
 * flow that is gone finds nobody. A closed flow keeps its slot until the deferred pass at the end of the turn: handlers
 * further up the stack may still look at its state. The pass first goes on with the flows that were cut short, then
 * frees the closed ones; one that is on the ready list again waits for the next pass.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "event/loop.h"
#include "relay/internal.h"
#include "telemetry/record.h"

static uint64_t flow_event_id(const struct weir_flow *flow, enum weir_side side)
{
        return (uint64_t)flow->generation << 32 | (uint64_t)flow->index << 1 | side;
}

static struct weir_flow *find_flow(const struct weir_relay *relay, uint64_t id)
{
        uint32_t index = (uint32_t)id >> 1;
        struct weir_flow *flow;

        if (index / WEIR_FLOWS_PER_CHUNK >= relay->n_chunks)
                return NULL;
        flow = &relay->chunks[index / WEIR_FLOWS_PER_CHUNK][index % WEIR_FLOWS_PER_CHUNK];
        return flow->generation == (uint32_t)(id >> 32) ? flow : NULL;
}

enum weir_reason weir_flow_broken(const struct weir_flow *flow, enum weir_side side)
{
        bool workload = (side == WEIR_DOWN) != flow->published;
        int error = 0;
        socklen_t length = sizeof(error);

        (void)getsockopt(flow->half[side].fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (side == WEIR_UP && error == ETIMEDOUT)
                return WEIR_REASON_UPSTREAM_TIMEOUT;
        if (side == WEIR_UP && (error == EHOSTUNREACH || error == ENETUNREACH))
                return WEIR_REASON_UPSTREAM_UNREACHABLE;
        return workload ? WEIR_REASON_RESET_BY_WORKLOAD : WEIR_REASON_RESET_BY_DESTINATION;
}

static void note_events(struct weir_half *half, uint32_t events)
{
        if (events & (EPOLLIN | EPOLLRDHUP))
                half->readable = true;
        if (events & EPOLLOUT)
                half->writable = true;
        if (events & EPOLLRDHUP)
                half->hung_up = true;
        if (events & EPOLLPRI)
                half->urgent = true;
}

/* What arrived before the reset is still to be read, as it would be without Weir in between: an early answer to a
 * request that is too large, for one. */
static void note_reset(struct weir_flow *flow, enum weir_side side)
{
        struct weir_half *half = &flow->half[side];

        if (half->reset)
                return;
        half->reset_reason = weir_flow_broken(flow, side);
        half->reset = half->readable = half->hung_up = true;
}

static void on_flow_event(void *context, uint64_t id, uint32_t events)
{
        struct weir_flow *flow = find_flow(context, id);
        enum weir_side side = id & 1 ? WEIR_UP : WEIR_DOWN;

        if (!flow)
                return;
        switch (flow->state) {
        case WEIR_FLOW_DIAL:
                note_events(&flow->half[side], events);
                if (side == WEIR_UP)
                        weir_dial_event(flow);
                else if (events & (EPOLLERR | EPOLLHUP))
                        weir_flow_close(flow, weir_flow_broken(flow, side));
                break;
        case WEIR_FLOW_MOVE:
                note_events(&flow->half[side], events);
                if (events & EPOLLERR)
                        note_reset(flow, side);
                weir_move(flow);
                break;
        case WEIR_FLOW_FREE:
        case WEIR_FLOW_NEW:
        case WEIR_FLOW_CLOSING:
        case WEIR_FLOW_STATE_COUNT:
                break;
        }
}

int weir_flow_watch(struct weir_flow *flow, enum weir_side side)
{
        return weir_loop_add(flow->relay->loop, flow->half[side].fd,
                             EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET, on_flow_event, flow->relay,
                             flow_event_id(flow, side));
}

static void on_deadline(void *context)
{
        struct weir_flow *flow = context;
        struct weir_relay *relay = flow->relay;

        if (flow->state == WEIR_FLOW_DIAL) {
                weir_flow_close(flow, WEIR_REASON_UPSTREAM_TIMEOUT);
        } else if (flow->state == WEIR_FLOW_MOVE) {
                uint64_t at = flow->active_ns + relay->options.half_close_timeout_ms * UINT64_C(1000000);

                if (at <= weir_loop_now(relay->loop))
                        weir_flow_close(flow, WEIR_REASON_DEADLINE);
                else
                        weir_timer_set(flow->timer, at);
        }
}

static void init_slot(struct weir_relay *relay, struct weir_flow *flow, uint32_t index)
{
        *flow = (struct weir_flow){ .relay = relay, .index = index, .next_closing = relay->free };
        relay->free = flow;
}

static void free_chunk(struct weir_flow *chunk)
{
        for (size_t i = 0; chunk && i < WEIR_FLOWS_PER_CHUNK; i++)
                weir_timer_free(chunk[i].timer);
        free(chunk);
}

int weir_flow_reserve(struct weir_relay *relay)
{
        struct weir_flow *chunk, **chunks;

        if (relay->free)
                return 0;
        chunks = reallocarray(relay->chunks, relay->n_chunks + 1, sizeof(struct weir_flow *));
        if (!chunks)
                return -ENOMEM;
        relay->chunks = chunks;
        chunk = calloc(WEIR_FLOWS_PER_CHUNK, sizeof(*chunk));
        if (!chunk)
                return -ENOMEM;
        for (size_t i = WEIR_FLOWS_PER_CHUNK; i-- > 0;)
                init_slot(relay, &chunk[i], (uint32_t)(relay->n_chunks * WEIR_FLOWS_PER_CHUNK + i));
        relay->chunks[relay->n_chunks++] = chunk;
        return 0;
}

struct weir_flow *weir_flow_alloc(struct weir_relay *relay)
{
        struct weir_flow *flow = &relay->spare;
        struct weir_flow fresh;

        if (weir_flow_reserve(relay) == 0 &&
            (relay->free->timer || weir_timer_new(relay->loop, on_deadline, relay->free, &relay->free->timer) == 0)) {
                flow = relay->free;
                relay->free = flow->next_closing;
        }
        fresh = (struct weir_flow){
                .relay = relay,
                .index = flow->index,
                .generation = flow->generation,
                .state = WEIR_FLOW_NEW,
                .timer = flow->timer,
                .half = { { .fd = -1, .few = true }, { .fd = -1, .few = true } },
                .id = ++relay->last_id,
                .opened_ns = weir_loop_now(relay->loop),
                .turn = relay->turn,
        };
        *flow = fresh;
        relay->n_live++;
        return flow;
}

static void free_slot(struct weir_flow *flow)
{
        struct weir_relay *relay = flow->relay;

        flow->generation++;
        flow->state = WEIR_FLOW_FREE;
        flow->next_closing = relay->free;
        relay->free = flow;
}

static void run_ready(struct weir_relay *relay)
{
        struct weir_flow *flow = relay->ready;

        relay->ready = NULL;
        while (flow) {
                struct weir_flow *next = flow->next_ready;

                flow->queued = false;
                if (flow->state == WEIR_FLOW_MOVE)
                        weir_move(flow);
                flow = next;
        }
}

static void free_closed(struct weir_relay *relay)
{
        struct weir_flow *flow = relay->closing;

        relay->closing = NULL;
        while (flow) {
                struct weir_flow *next = flow->next_closing;

                if (flow->queued) {
                        flow->next_closing = relay->closing;
                        relay->closing = flow;
                } else {
                        free_slot(flow);
                }
                flow = next;
        }
}

static void on_deferred(void *context)
{
        struct weir_relay *relay = context;

        relay->deferred = false;
        run_ready(relay);
        free_closed(relay);
        weir_relay_resume(relay);
}

/* Without memory it stays undone until the next flow asks: slots are lent longer, nothing is lost. */
static void defer(struct weir_relay *relay)
{
        if (!relay->deferred)
                relay->deferred = weir_loop_defer(relay->loop, on_deferred, relay) == 0;
}

void weir_flow_later(struct weir_flow *flow)
{
        if (!flow->queued) {
                flow->queued = true;
                flow->next_ready = flow->relay->ready;
                flow->relay->ready = flow;
        }
        defer(flow->relay);
}

/* How the flow ended, as its record says it: what was special about it outranks how the sockets closed. */
static enum weir_reason final_reason(const struct weir_flow *flow, enum weir_reason reason)
{
        if (flow->audit)
                return WEIR_REASON_AUDIT;
        if (flow->published && reason == WEIR_REASON_FINISHED)
                return WEIR_REASON_PUBLISHED;
        return reason;
}

static void write_record(struct weir_flow *flow, enum weir_reason reason)
{
        struct weir_relay *relay = flow->relay;
        struct weir_policy *policy = relay->ops.policy(relay->context);
        enum weir_side inside = flow->published ? WEIR_UP : WEIR_DOWN;
        char nearest[256] = "";
        struct weir_record record = {
                .flow_id = flow->id,
                .pid = flow->pid,
                .command = flow->command[0] ? flow->command : NULL,
                .protocol = "tcp",
                .has_destination = flow->has_destination,
                .destination = flow->destination,
                .port = flow->port,
                .has_dialled = flow->has_dialled,
                .dialled = flow->dialled,
                .dialled_port = flow->dialled_port,
                .verdict = flow->verdict,
                .reason = final_reason(flow, reason),
                .audit = flow->audit,
                .rule = flow->rule ? flow->rule->resource : NULL,
                .nearest = nearest,
                .path = WEIR_PATH_RELAY,
                .has_bytes = true,
                .bytes_sent = flow->half[inside].bytes,
                .bytes_received = flow->half[!inside].bytes,
                .duration_ns = weir_loop_now(relay->loop) - flow->opened_ns,
                .generation = policy ? weir_policy_generation(policy) : 0,
        };

        if (policy && flow->verdict == WEIR_VERDICT_DENY && flow->has_destination) {
                struct weir_query query = { .protocol = WEIR_IP_TCP, .addr = flow->destination, .port = flow->port };

                weir_policy_denial_text(policy, &query, reason, nearest, sizeof(nearest));
        }
        relay->ops.record(relay->context, &record);
}

/* A reset drops what the socket still holds and leaves no TIME_WAIT behind; a close delivers it. */
static void close_socket(struct weir_relay *relay, int *fd, bool reset)
{
        const struct linger now = { .l_onoff = 1, .l_linger = 0 };

        if (*fd < 0)
                return;
        weir_loop_del(relay->loop, *fd);
        if (reset)
                (void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        (void)close(*fd);
        *fd = -1;
}

void weir_flow_close(struct weir_flow *flow, enum weir_reason reason)
{
        struct weir_relay *relay = flow->relay;

        if (flow->state == WEIR_FLOW_CLOSING || flow->state == WEIR_FLOW_FREE)
                return;
        flow->state = WEIR_FLOW_CLOSING;
        for (int side = 0; side < WEIR_SIDE_COUNT; side++) {
                struct weir_half *half = &flow->half[side];

                close_socket(relay, &half->fd, reason != WEIR_REASON_FINISHED);
                if (half->pipe)
                        weir_pipe_give(&relay->pipes, TAKE_PTR(half->pipe), half->queued == 0);
        }
        if (flow->timer)
                weir_timer_set(flow->timer, 0);
        relay->n_live--;
        write_record(flow, reason);
        weir_policy_unref(TAKE_PTR(flow->policy));
        flow->rule = NULL;
        if (flow == &relay->spare)
                return;
        flow->next_closing = relay->closing;
        relay->closing = flow;
        defer(relay);
}

void weir_flow_free_all(struct weir_relay *relay)
{
        for (size_t c = 0; c < relay->n_chunks; c++)
                for (size_t i = 0; i < WEIR_FLOWS_PER_CHUNK; i++)
                        weir_flow_close(&relay->chunks[c][i], WEIR_REASON_SHUTDOWN);
        weir_loop_undefer(relay->loop, on_deferred, relay);
        for (size_t c = 0; c < relay->n_chunks; c++)
                free_chunk(relay->chunks[c]);
        free(relay->chunks);
}
