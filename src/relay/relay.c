/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay: listeners and what is decided when a connection is accepted.
 *
 * Theory of operation
 *
 * A listener stands in the workload's namespace (or, for --publish, on the host) and is polled out here. Each accepted
 * connection becomes a flow in state NEW and leaves the accept handler in DIAL or CLOSING; nothing waits for a verdict.
 * From there on the flow's own events drive it: dial.c, then splice.c; flow.c holds the table and the one end of every
 * flow.
 *
 * Out of descriptors or memory, accepting again at once would spin: the listeners are taken off the loop and put back
 * when a flow has ended, or after 100 ms, for others may have freed what was missing. What waits meanwhile waits in the
 * backlog.
 */
#include "relay/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/gate.h"
#include "base/time.h"
#include "event/loop.h"
#include "relay/internal.h"
#include "telemetry/record.h"

#define ACCEPT_BATCH 64
#define PAUSE_NS (100 * WEIR_MS)

void weir_relay_pause(struct weir_relay *relay)
{
        for (struct weir_listener *l = relay->listeners; l; l = l->next) {
                if (l->watched)
                        weir_loop_del(relay->loop, l->fd);
                l->watched = false;
        }
        relay->paused = true;
        weir_timer_set(relay->resume, weir_loop_now(relay->loop) + PAUSE_NS);
}

static bool over_limit(const struct weir_relay *relay)
{
        return relay->n_live > relay->options.connections_max;
}

static void deny(struct weir_flow *flow, enum weir_reason reason)
{
        weir_judge_owner(flow);
        weir_flow_close(flow, reason);
}

/* A connection that nobody redirected was made to the relay's own port: its "original" destination is the listener. */
static bool is_own_address(const struct weir_listener *listener, const struct weir_flow *flow)
{
        struct weir_addr own = listener->addr;
        uint16_t port = listener->port;

        if (flow->port != listener->port)
                return false;
        /* A listener on every address is known by the address it was reached at. */
        if (!listener->transparent && weir_local_address(flow->half[WEIR_DOWN].fd, &own, &port) < 0)
                return true;
        return port == flow->port && weir_addr_equal(&own, &flow->destination);
}

static int find_destination(const struct weir_listener *listener, struct weir_flow *flow)
{
        const struct weir_relay *relay = listener->relay;
        int fd = flow->half[WEIR_DOWN].fd;

        if (relay->ops.original_dst)
                return relay->ops.original_dst(relay->context, &flow->from, flow->from_port, &flow->destination,
                                               &flow->port);
        if (listener->transparent)
                return weir_local_address(fd, &flow->destination, &flow->port);
        return relay->sys->original_dst(fd, weir_addr_is_v4(&flow->from), &flow->destination, &flow->port);
}
#ifdef WEIR_TEST_GATES
/* What a relay that dials first and judges second would do. */
static void dial_early(const struct weir_flow *flow)
{
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(&flow->destination, flow->port, &sa);
        int fd = flow->relay->sys->socket(sa.ss_family);

        if (fd < 0)
                return;
        (void)!flow->relay->sys->connect(fd, (const struct sockaddr *)&sa, length);
        (void)close(fd);
}
#endif

static void take_outbound(struct weir_listener *listener, struct weir_flow *flow)
{
        struct weir_relay *relay = listener->relay;
        enum weir_reason reason;
        int r;

        r = find_destination(listener, flow);
        flow->has_destination = r == 0;
        if (r < 0 || (WEIR_GATE(OWN_PORT) && is_own_address(listener, flow))) {
                deny(flow, r == -ENOMEM || r == -ENOBUFS ? WEIR_REASON_LIMIT_MEMORY : WEIR_REASON_NOT_REDIRECTED);
                return;
        }
        if (flow == &relay->spare) {
                weir_flow_close(flow, WEIR_REASON_LIMIT_MEMORY);
                return;
        }
        if (over_limit(relay)) {
                weir_flow_close(flow, WEIR_REASON_LIMIT_CONNECTIONS);
                return;
        }
#ifdef WEIR_TEST_GATES
        if (!WEIR_GATE(VERDICT_BEFORE_DIAL))
                dial_early(flow);
#endif
        weir_judge(flow, &reason);
        if (flow->verdict != WEIR_VERDICT_ALLOW || relay->options.owners)
                weir_judge_owner(flow);
        if (flow->verdict == WEIR_VERDICT_ALLOW || flow->audit)
                weir_dial(flow);
        else
                weir_flow_close(flow, reason);
}

static void take_published(struct weir_listener *listener, struct weir_flow *flow)
{
        struct weir_relay *relay = listener->relay;
        int fd;

        flow->published = true;
        flow->has_destination = weir_addr_parse("127.0.0.1", &flow->destination) == 0;
        flow->port = listener->inner_port;
        if (over_limit(relay) || flow == &relay->spare) {
                weir_flow_close(flow, flow == &relay->spare ? WEIR_REASON_LIMIT_MEMORY : WEIR_REASON_LIMIT_CONNECTIONS);
                return;
        }
        fd = listener->connect(listener->context, listener->inner_port);
        if (fd < 0) {
                weir_flow_close(flow,
                                fd == -ECONNREFUSED ? WEIR_REASON_UPSTREAM_REFUSED : WEIR_REASON_UPSTREAM_UNREACHABLE);
                return;
        }
        flow->verdict = WEIR_VERDICT_ALLOW;
        relay->ops.opened(relay->context);
        weir_dial_adopt(flow, fd);
}

/* Whether another may be waiting. */
static bool accept_one(struct weir_listener *listener)
{
        struct weir_relay *relay = listener->relay;
        struct sockaddr_storage sa;
        socklen_t length = sizeof(sa);
        struct weir_flow *flow;
        int fd;

        fd = relay->sys->accept(listener->fd, (struct sockaddr *)&sa, &length);
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
                weir_relay_pause(relay);
                return false;
        }
        /* The rest are errors of that one connection (accept(2)) and the next may be fine. */
        if (fd < 0)
                return fd != -EAGAIN && fd != -EBADF && fd != -EINVAL && fd != -ENOTSOCK;
        flow = weir_flow_alloc(relay);
        flow->half[WEIR_DOWN].fd = fd;
        if (weir_addr_from_sockaddr((const struct sockaddr *)&sa, length, &flow->from, &flow->from_port) < 0)
                weir_flow_close(flow, WEIR_REASON_INTERNAL);
        else if (listener->connect)
                take_published(listener, flow);
        else
                take_outbound(listener, flow);
        return true;
}

static void on_listener(void *context, uint64_t id, uint32_t events)
{
        (void)id;
        (void)events;
        for (int i = 0; i < ACCEPT_BATCH && accept_one(context); i++)
                ;
}

static int watch_listener(struct weir_listener *listener)
{
        int r = weir_loop_add(listener->relay->loop, listener->fd, EPOLLIN, on_listener, listener, 0);

        listener->watched = r == 0;
        return r;
}

static void resume_listeners(void *context)
{
        struct weir_relay *relay = context;

        if (relay->reserve < 0)
                relay->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (relay->reserve < 0) {
                weir_timer_set(relay->resume, weir_loop_now(relay->loop) + PAUSE_NS);
                return;
        }
        relay->paused = false;
        weir_timer_set(relay->resume, 0);
        for (struct weir_listener *l = relay->listeners; l; l = l->next) {
                if (l->watched || watch_listener(l) == 0)
                        continue;
                relay->paused = true;
                weir_timer_set(relay->resume, weir_loop_now(relay->loop) + PAUSE_NS);
        }
}

void weir_relay_resume(struct weir_relay *relay)
{
        if (relay->paused)
                resume_listeners(relay);
}

/* On failure @fd is still the caller's. */
static int add_listener(struct weir_relay *relay, const struct weir_listener *like)
{
        weir_auto_free struct weir_listener *listener = calloc(1, sizeof(*listener));
        int r;

        if (!listener)
                return -ENOMEM;
        *listener = *like;
        listener->relay = relay;
        r = weir_local_address(listener->fd, &listener->addr, &listener->port);
        if (r < 0)
                return r;
        r = watch_listener(listener);
        if (r < 0)
                return r;
        weir_dial_prepare(listener->fd);
        listener->transparent = weir_is_transparent(listener->fd);
        listener->next = relay->listeners;
        relay->listeners = TAKE_PTR(listener);
        return 0;
}

/* splice(2) into a socket whose peer is gone raises SIGPIPE and knows no MSG_NOSIGNAL. A handler, not SIG_IGN: exec
 * undoes it, so commands start as the caller would have started them. Whoever set a disposition of their own keeps it.
 */
static void ignore(int signal_number)
{
        (void)signal_number;
}

static int tame_sigpipe(void)
{
        struct sigaction old, new = { .sa_handler = ignore, .sa_flags = SA_RESTART };

        if (sigaction(SIGPIPE, NULL, &old) < 0)
                return -errno;
        if (!(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL && sigaction(SIGPIPE, &new, NULL) < 0)
                return -errno;
        return 0;
}

static void set_defaults(struct weir_relay_options *options)
{
        if (options->connections_max == 0)
                options->connections_max = 16384;
        if (options->connect_timeout_ms == 0)
                options->connect_timeout_ms = 30000;
        if (options->half_close_timeout_ms == 0)
                options->half_close_timeout_ms = 3600000;
}

/* Leaves the descriptors of @options to the caller if the relay does not come about. */
static void forget_listeners(struct weir_relay *relay)
{
        for (struct weir_listener *l = relay->listeners; l; l = l->next) {
                weir_loop_del(relay->loop, l->fd);
                l->watched = false;
                l->fd = -1;
        }
}

static int start(struct weir_relay *relay, const struct weir_relay_options *options)
{
        int r;

        r = tame_sigpipe();
        if (r < 0)
                return r;
        relay->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (relay->reserve < 0)
                return -errno;
        r = weir_timer_new(relay->loop, resume_listeners, relay, &relay->resume);
        if (r < 0)
                return r;
        r = weir_flow_reserve(relay);
        for (size_t i = 0; r == 0 && i < options->n_listeners; i++)
                r = add_listener(relay, &(struct weir_listener){ .fd = options->listeners[i] });
        if (r < 0)
                forget_listeners(relay);
        return r;
}

int weir_relay_new_with(struct weir_loop *loop, const struct weir_relay_options *options,
                        const struct weir_relay_ops *ops, void *context, const struct weir_relay_sys *sys,
                        struct weir_relay **ret_relay)
{
        struct weir_relay *relay = calloc(1, sizeof(*relay));
        int r;

        if (!relay)
                return -ENOMEM;
        relay->loop = loop;
        relay->sys = sys;
        relay->ops = *ops;
        relay->context = context;
        relay->options = *options;
        relay->options.listeners = NULL;
        relay->pipes.create = sys->pipe;
        relay->reserve = -1;
        set_defaults(&relay->options);
        r = start(relay, options);
        if (r < 0) {
                weir_relay_free(relay);
                return r;
        }
        *ret_relay = relay;
        return 0;
}

int weir_relay_new(struct weir_loop *loop, const struct weir_relay_options *options, const struct weir_relay_ops *ops,
                   void *context, struct weir_relay **ret_relay)
{
        return weir_relay_new_with(loop, options, ops, context, &weir_relay_sys_real, ret_relay);
}

int weir_relay_publish(struct weir_relay *relay, int listener, uint16_t inner_port,
                       int (*connect)(void *context, uint16_t inner_port), void *context)
{
        return add_listener(relay,
                            &(struct weir_listener){
                                    .fd = listener, .inner_port = inner_port, .connect = connect, .context = context });
}

void weir_relay_stop_listening(struct weir_relay *relay)
{
        while (relay->listeners) {
                struct weir_listener *l = relay->listeners;

                relay->listeners = l->next;
                if (l->watched)
                        weir_loop_del(relay->loop, l->fd);
                if (l->fd >= 0)
                        (void)close(l->fd);
                free(l);
        }
}

void weir_relay_free(struct weir_relay *relay)
{
        if (!relay)
                return;
        weir_flow_free_all(relay);
        weir_relay_stop_listening(relay);
        weir_close_cleanup(&relay->reserve);
        weir_timer_free(relay->resume);
        weir_pipe_pool_clear(&relay->pipes);
        free(relay);
}

void weir_relay_policy_changed(struct weir_relay *relay)
{
        for (size_t c = 0; c < relay->n_chunks; c++)
                for (size_t i = 0; i < WEIR_FLOWS_PER_CHUNK; i++) {
                        struct weir_flow *flow = &relay->chunks[c][i];

                        if (flow->state == WEIR_FLOW_DIAL || flow->state == WEIR_FLOW_MOVE)
                                weir_judge_again(flow);
                }
}

size_t weir_relay_n_flows(const struct weir_relay *relay)
{
        return relay->n_live;
}
