/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving bytes.
 *
 * Theory of operation
 *
 * Each way has a source and a target. A round fills an empty pipe from the source and drains it into the target; a pipe
 * is taken for the round and given back when it is empty, so an idle flow holds none, and a stalled one holds one pipe
 * and reads no more: the sender feels the back-pressure in its window. Reading only into an empty pipe makes EAGAIN say
 * one thing: the source has no more.
 *
 * Descriptors are watched edge-triggered. @readable and @writable hold what the edges said until EAGAIN takes it back.
 * One saving: when fewer bytes came than the pipe has slots, the source is drained for sure, and the read that would
 * say EAGAIN is left out; not once the peer has hung up, for then the end is still to be read.
 *
 * Few bytes are copied: recv(2) and send(2) cost less than two calls of splice(2). Whether they are few is guessed from
 * the last time. What the target does not take goes into the pipe, as if it had been filled.
 *
 * A flow that has moved its share goes on in the deferred pass, so that none starves the others.
 *
 * Where there is no pipe to be had (descriptors, the bound of the pool) bytes are peeked into a buffer on the stack,
 * sent, and only what was sent is taken from the source. That needs no memory of its own, so no flow waits for a pipe.
 * The same way passes TCP's urgent mark, at which splice(2) stops, with 0 if the peer has closed since; so 0 is not
 * believed before recv(2) says it too. The urgent byte goes on in its place, without the mark (SO_OOBINLINE, in
 * dial.c).
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "event/loop.h"
#include "relay/internal.h"

#define SHARE (2 * 1024 * 1024)
#define ROUNDS 16
#define COPY_SIZE (64 * 1024)
#define FEW 4096

enum progress { PROGRESS_BROKEN = -1, PROGRESS_STUCK = 0, PROGRESS_MOVED = 1 };

static enum progress failed(int error, bool *able)
{
        if (error == EINTR)
                return PROGRESS_MOVED;
        *able = false;
        return error == EAGAIN ? PROGRESS_STUCK : PROGRESS_BROKEN;
}

static enum progress fill(struct weir_flow *flow, struct weir_half *source)
{
        ssize_t n = flow->relay->sys->splice(source->fd, source->pipe->fds[1], source->pipe->capacity);

        if (n < 0)
                return failed((int)-n, &source->readable);
        if (n == 0) {
                source->copying = true;
                return PROGRESS_MOVED;
        }
        source->queued = (size_t)n;
        source->few = source->queued < FEW;
        if (source->queued < source->pipe->slots && !source->hung_up)
                source->readable = false;
        return PROGRESS_MOVED;
}

static enum progress drain(struct weir_flow *flow, struct weir_half *source, struct weir_half *target)
{
        ssize_t n = flow->relay->sys->splice(source->pipe->fds[0], target->fd, source->queued);

        if (n <= 0)
                return failed(n == 0 ? EPIPE : (int)-n, &target->writable);
        source->queued -= (size_t)n;
        source->bytes += (uint64_t)n;
        return PROGRESS_MOVED;
}

static enum progress copy(struct weir_half *source, struct weir_half *target)
{
        char bytes[COPY_SIZE];
        ssize_t got, sent;

        got = recv(source->fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
        if (got < 0)
                return failed(errno, &source->readable);
        source->eof = got == 0;
        if (got == 0)
                return PROGRESS_MOVED;
        sent = send(target->fd, bytes, (size_t)got, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0)
                return failed(errno, &target->writable);
        source->bytes += (uint64_t)sent;
        /* MSG_TRUNC takes them without copying again; see tcp(7). */
        return recv(source->fd, NULL, (size_t)sent, MSG_TRUNC | MSG_DONTWAIT) == sent ? PROGRESS_MOVED :
                                                                                        PROGRESS_BROKEN;
}

/* What the target does not take now goes into the pipe, which is empty and has room for far more than FEW. */
static enum progress copy_few(struct weir_half *source, struct weir_half *target)
{
        char bytes[FEW];
        ssize_t got, sent;
        size_t left;

        got = recv(source->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (got < 0)
                return failed(errno, &source->readable);
        source->eof = got == 0;
        source->few = got < FEW;
        if (source->few && !source->hung_up)
                source->readable = false;
        if (got == 0)
                return PROGRESS_MOVED;
        sent = send(target->fd, bytes, (size_t)got, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && failed(errno, &target->writable) == PROGRESS_BROKEN)
                return PROGRESS_BROKEN;
        left = (size_t)got - (size_t)(sent > 0 ? sent : 0);
        source->bytes += (size_t)got - left;
        if (left > 0 && write(source->pipe->fds[1], bytes + (size_t)got - left, left) != (ssize_t)left)
                return PROGRESS_BROKEN;
        source->queued = left;
        return PROGRESS_MOVED;
}

static enum progress move_once(struct weir_flow *flow, struct weir_half *source, struct weir_half *target)
{
        if (source->queued > 0)
                return target->writable ? drain(flow, source, target) : PROGRESS_STUCK;
        if (!source->readable || !target->writable)
                return PROGRESS_STUCK;
        if (!source->pipe && !source->copying)
                source->pipe = weir_pipe_take(&flow->relay->pipes);
        if (!source->pipe || source->copying)
                return copy(source, target);
        return source->few ? copy_few(source, target) : fill(flow, source);
}

static void start_half_close_deadline(struct weir_flow *flow)
{
        struct weir_relay *relay = flow->relay;

        weir_timer_set(flow->timer,
                       weir_loop_now(relay->loop) + relay->options.half_close_timeout_ms * UINT64_C(1000000));
}

/* Whether a side that was reset has nothing left to pass on. */
static bool passed_on(const struct weir_half *source)
{
        return source->reset && source->queued == 0 && (source->eof || !source->readable);
}

/* The end of one way, once nothing of it is queued any more. */
static void finish(struct weir_flow *flow, struct weir_half *source, const struct weir_half *target)
{
        if (!source->eof || source->queued > 0 || source->finished || source->reset)
                return;
        source->finished = true;
        (void)shutdown(target->fd, SHUT_WR);
        start_half_close_deadline(flow);
}

/* Moves what can be moved from @side to the other. False if either end is broken; @ret_more if the share is used up. */
static bool move_way(struct weir_flow *flow, enum weir_side side, enum weir_side *ret_broken, bool *ret_more)
{
        struct weir_half *source = &flow->half[side], *target = &flow->half[!side];
        uint64_t before = source->bytes;
        enum progress progress = PROGRESS_MOVED;
        int round = 0;

        if (source->urgent)
                source->copying = true;
        while (progress == PROGRESS_MOVED && !source->finished && !passed_on(source)) {
                if (round++ == ROUNDS || source->bytes - before >= SHARE) {
                        *ret_more = true;
                        break;
                }
                progress = move_once(flow, source, target);
                finish(flow, source, target);
        }
        if (source->pipe && source->queued == 0)
                weir_pipe_give(&flow->relay->pipes, TAKE_PTR(source->pipe), true);
        if (source->bytes != before)
                flow->active_ns = weir_loop_now(flow->relay->loop);
        /* Nothing is tried unless the target is writable, and a failed write takes that back. */
        *ret_broken = target->writable ? side : (enum weir_side) !side;
        return progress != PROGRESS_BROKEN;
}

static void end_broken(struct weir_flow *flow, enum weir_side side)
{
        const struct weir_half *half = &flow->half[side];

        weir_flow_close(flow, half->reset ? half->reset_reason : weir_flow_broken(flow, side));
}

void weir_move(struct weir_flow *flow)
{
        bool more = false;

        for (enum weir_side side = WEIR_DOWN; side < WEIR_SIDE_COUNT; side++) {
                enum weir_side broken;

                if (flow->half[!side].reset)
                        continue; /* nobody is there to take it */
                if (!move_way(flow, side, &broken, &more) || passed_on(&flow->half[side])) {
                        end_broken(flow, passed_on(&flow->half[side]) ? side : broken);
                        return;
                }
                if (flow->half[side].reset)
                        start_half_close_deadline(flow);
        }
        if (flow->half[WEIR_DOWN].reset && flow->half[WEIR_UP].reset)
                end_broken(flow, WEIR_DOWN);
        else if (flow->half[WEIR_DOWN].finished && flow->half[WEIR_UP].finished)
                weir_flow_close(flow, WEIR_REASON_FINISHED);
        else if (more)
                weir_flow_later(flow);
}
