/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A workload joins the modules below it, which do not know each other: the capture gives descriptors, relay and
 * resolver take them, both ask for the current snapshot through an operations struct, and everything that ends is one
 * record.
 *
 * Order at the start: policy, boundary, relay and resolver. In a pod the boundary stands already, and the policy is
 * read through the door in it that is this process's own. The capture starts the command last of all, behind a boundary
 * that is whole; what it connects before the relay runs waits in the listener's queue, and is judged by the first turn.
 *
 * A policy change: the store's watch wakes the loop; the whole store is read and compiled into a snapshot beside the
 * live one; only if all of it is good does the pointer move and do relay and resolver judge again what they hold.
 * Anything wrong leaves the last good policy in force and is told through notice(), once for each different text.
 */
#include "workload/workload.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"
#include "base/time.h"
#include "dns/resolver.h"
#include "event/loop.h"
#include "model/resource.h"
#include "relay/relay.h"
#include "store/store.h"
#include "telemetry/record.h"
#include "workload/follow.h"
#include "workload/host.h"
#include "workload/published.h"

#define LISTENERS_MAX 4
#define RESOLVERS_MAX 8
/* Of what the boundary rejected, so that a flood cannot hold up the loop: the rest waits for the next turn. */
#define REJECTED_PER_TURN 64
/* How often a log that was full, or a terminal that was raw, is tried again. */
#define EVENTS_PER_TURN 4096
/* How many of a rule's endpoints are looked through, as in the kernel. */
#define EVENT_ENDPOINTS 32
#define FLUSH_NS (100 * WEIR_MS)

struct weir_workload {
        const char *resolv_conf; /* the caller's; NULL for this host's */
        struct weir_loop *loop;
        char *name;
        struct weir_follow *follow;
        const struct weir_capture_ops *ops;
        struct weir_capture *capture;
        struct weir_relay *relay;
        struct weir_resolver *resolver;
        struct weir_policy *policy;
        struct weir_sink *sink;
        struct weir_timer *flush, *again;
        uint64_t again_at, again_ns; /* of looking for events */
        uint64_t generation, flow_id;
        int rejected_fd, events_fd;
        void (*notice)(void *context, bool problem, const char *text);
        void *context;
};

static struct weir_policy *current_policy(void *context)
{
        struct weir_workload *w = context;

        return w->policy;
}

static void hand_on(void *context, struct weir_record *record)
{
        struct weir_workload *w = context;

        record->workload = w->name;
        record->flow_id = ++w->flow_id;
        if (record->generation == 0)
                record->generation = w->generation;
        weir_sink_record(w->sink, record);
        if (weir_sink_pending(w->sink))
                weir_timer_set(w->flush, weir_loop_now(w->loop) + FLUSH_NS);
}

static void on_flush(void *context)
{
        struct weir_workload *w = context;

        weir_sink_flush(w->sink);
        if (weir_sink_pending(w->sink))
                weir_timer_set(w->flush, weir_loop_now(w->loop) + FLUSH_NS);
}

static void opened(void *context)
{
        struct weir_workload *w = context;

        weir_sink_opened(w->sink);
}

static void owner(void *context, enum weir_ip_protocol protocol, const struct weir_addr *from, uint16_t port,
                  const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid, char *command)
{
        struct weir_workload *w = context;

        if (w->ops->owner(w->capture, protocol, from, port, to, to_port, ret_pid, command) < 0) {
                *ret_pid = 0;
                command[0] = '\0';
        }
}

static const struct weir_relay_ops relay_ops = {
        .policy = current_policy,
        .opened = opened,
        .record = hand_on,
        .owner = owner,
};

static int original_dst(void *context, const struct weir_addr *from, uint16_t port, struct weir_addr *ret_addr,
                        uint16_t *ret_port)
{
        struct weir_workload *w = context;

        return w->ops->original_dst(w->capture, from, port, ret_addr, ret_port);
}

/* Of a capture that rewrites destinations itself, so that no connection tracking knows of it. */
static const struct weir_relay_ops rewritten_relay_ops = {
        .policy = current_policy,
        .opened = opened,
        .record = hand_on,
        .owner = owner,
        .original_dst = original_dst,
};

static size_t upstreams(void *context, struct weir_addr *ret, size_t n)
{
        const struct weir_workload *w = context;

        return weir_host_resolvers(w->resolv_conf, ret, n);
}

static const struct weir_resolver_ops resolver_ops = {
        .policy = current_policy,
        .record = hand_on,
        .owner = owner,
        .upstreams = upstreams,
};

static void take_policy(struct weir_workload *w, struct weir_policy *policy)
{
        weir_policy_unref(w->policy);
        w->policy = policy;
        w->generation = weir_policy_generation(policy);
}

/* What the kernel does not take is not in force, so it is not the policy. */
static int take_newer(void *context, struct weir_policy *policy, struct weir_err *err)
{
        struct weir_workload *w = context;
        int r = w->ops->set_policy ? w->ops->set_policy(w->capture, policy, err) : 0;

        if (r < 0) {
                weir_policy_unref(policy);
                return r;
        }
        take_policy(w, policy);
        weir_relay_policy_changed(w->relay);
        weir_resolver_policy_changed(w->resolver);
        return 0;
}

/* The mount that kept the workload out lay on the folder that is gone. What it may have written in the meantime would
 * be the policy of the next run, so it ends, and whoever did this is told to look. */
static void store_replaced(void *context, const char *path)
{
        struct weir_workload *w = context;
        weir_auto_free char *text =
                weir_asprintf("%s was moved or replaced while the command ran, so the command could write "
                              "the new one: the command is ended; look at the store before you use it",
                              path);

        if (w->notice)
                w->notice(w->context, true, text ? text : "the store was replaced: the command is ended");
        (void)w->ops->kill(w->capture, SIGKILL);
}

static void record_rejected(struct weir_workload *w, const struct weir_rejected *rejected)
{
        char command[16] = "", number[4];
        struct weir_record record = {
                .protocol = weir_ip_protocol_name(rejected->protocol),
                .has_destination = true,
                .destination = rejected->destination,
                .port = rejected->port,
                .verdict = WEIR_VERDICT_DENY,
                .reason = weir_ip_protocol_refused(rejected->protocol),
                .path = WEIR_PATH_KERNEL,
        };

        if (rejected->protocol == WEIR_IP_OTHER) {
                (void)snprintf(number, sizeof(number), "%u", rejected->ip_protocol);
                record.protocol = number;
        }
        owner(w, rejected->protocol, &rejected->source, rejected->source_port, &rejected->destination, rejected->port,
              &record.pid, command);
        record.command = command[0] ? command : NULL;
        hand_on(w, &record);
}

static void on_rejected(void *context, uint64_t id, uint32_t events)
{
        struct weir_workload *w = context;
        struct weir_rejected rejected;

        (void)id;
        (void)events;
        for (unsigned i = 0; i < REJECTED_PER_TURN; i++) {
                int r = w->ops->next_rejected(w->capture, &rejected);

                if (r == -ENOBUFS)
                        continue;
                if (r < 0)
                        weir_loop_del(w->loop, w->rejected_fd);
                if (r <= 0)
                        return;
                record_rejected(w, &rejected);
        }
}

/*
 * The end of a flow that the kernel let through. If another policy came after the one that did, it is asked: a flow
 * that it does not allow was cut for it.
 */
static void explain_end(struct weir_workload *w, const struct weir_capture_event *event, struct weir_record *record)
{
        const struct weir_query query = { .protocol = WEIR_IP_TCP, .addr = event->destination, .port = event->port };
        struct weir_decision decision;

        record->verdict = WEIR_VERDICT_ALLOW;
        record->has_bytes = true;
        record->bytes_sent = event->bytes_sent;
        record->bytes_received = event->bytes_received;
        record->duration_ns = event->duration_ns;
        record->has_dialled = true;
        record->dialled = event->dialled;
        record->dialled_port = event->dialled_port;
        if (event->audit) {
                record->verdict = WEIR_VERDICT_DENY;
                record->reason = WEIR_REASON_AUDIT;
                return;
        }
        if (event->generation == w->generation && event->rule < weir_policy_n_rules(w->policy)) {
                record->rule = weir_policy_rule(w->policy, event->rule)->resource;
                return;
        }
        if (weir_policy_still_allows(w->policy, &query, &event->dialled, event->dialled_port, EVENT_ENDPOINTS,
                                     &decision))
                record->rule = decision.rule->resource;
        else {
                record->verdict = WEIR_VERDICT_DENY;
                record->reason = WEIR_REASON_POLICY_REVOKED;
        }
}

/* Of a socket that was handed over: the capture knows which policy decided, and why the flow ended. */
static void record_handed(struct weir_workload *w, const struct weir_capture_event *event)
{
        bool allowed =
                event->ended && event->reason != WEIR_REASON_POLICY_REVOKED && event->reason != WEIR_REASON_HIDDEN;
        const struct weir_query query = { .protocol = WEIR_IP_TCP, .addr = event->destination, .port = event->port };
        char nearest[256] = "";
        struct weir_record record = {
                .pid = event->pid,
                .command = event->command[0] ? event->command : NULL,
                .protocol = weir_ip_protocol_name(event->protocol),
                .has_destination = true,
                .destination = event->destination,
                .port = event->port,
                .has_dialled = event->has_dialled,
                .dialled = event->dialled,
                .dialled_port = event->dialled_port,
                .verdict = allowed ? WEIR_VERDICT_ALLOW : WEIR_VERDICT_DENY,
                .reason = event->reason,
                .rule = event->by ? event->by->resource : NULL,
                .nearest = nearest,
                .path = WEIR_PATH_HANDOFF,
                .has_bytes = !event->uncounted,
                .bytes_sent = event->bytes_sent,
                .bytes_received = event->bytes_received,
                .duration_ns = event->duration_ns,
                .generation = weir_policy_generation(event->policy),
        };

        if (event->ended)
                weir_sink_opened(w->sink);
        if (!allowed)
                weir_policy_denial_text(event->policy, &query, event->reason, nearest, sizeof(nearest));
        hand_on(w, &record);
        weir_policy_unref(event->policy);
}

static void record_event(struct weir_workload *w, const struct weir_capture_event *event)
{
        char nearest[256] = "", number[4];
        struct weir_record record = {
                .protocol = weir_ip_protocol_name(event->protocol),
                .has_destination = event->has_destination,
                .destination = event->destination,
                .port = event->port,
                .verdict = WEIR_VERDICT_DENY,
                .reason = event->reason,
                .path = WEIR_PATH_KERNEL,
                .pid = event->pid,
                .command = event->command[0] ? event->command : NULL,
                .cgroup = event->cgroup,
                .generation = event->generation,
                .audit = event->audit,
        };

        if (event->again_ns && event->again_ns < w->again_ns)
                w->again_ns = event->again_ns;
        if (event->protocol == WEIR_IP_OTHER) {
                (void)snprintf(number, sizeof(number), "%u", event->ip_protocol);
                record.protocol = number;
        }
        if (event->ended) {
                weir_sink_opened(w->sink);
                explain_end(w, event, &record);
        } else if (event->protocol == WEIR_IP_TCP) {
                const struct weir_query query = { .protocol = WEIR_IP_TCP,
                                                  .addr = event->destination,
                                                  .port = event->port };

                weir_policy_nearest_text(w->policy, &query, nearest, sizeof(nearest));
                record.nearest = nearest;
        }
        hand_on(w, &record);
}

/* Returns whether there was any. */
static bool drain_events(struct weir_workload *w, unsigned most)
{
        struct weir_capture_event event;
        bool any = false;

        for (unsigned i = 0; i < most; i++) {
                int r = w->ops->next_event(w->capture, &event);

                if (r == -ENOBUFS) {
                        weir_sink_lost(w->sink, event.lost);
                        continue;
                }
                if (r <= 0)
                        break;
                any = true;
                if (event.policy)
                        record_handed(w, &event);
                else
                        record_event(w, &event);
        }
        return any;
}

/* The kernel wakes nobody for an event that comes soon after another: one more look finds it. */
static void look_again(void *context)
{
        struct weir_workload *w = context;
        uint64_t now = weir_loop_now(w->loop);

        w->again_ns = WEIR_EVENTS_AGAIN_NS;
        if (!drain_events(w, EVENTS_PER_TURN))
                return;
        /* An earlier look that is due stays so. */
        if (w->again_at <= now || now + w->again_ns < w->again_at)
                w->again_at = now + w->again_ns;
        weir_timer_set(w->again, w->again_at);
}

static void on_events(void *context, uint64_t id, uint32_t events)
{
        (void)id;
        (void)events;
        look_again(context);
}

static uint32_t mark_of(const struct weir_workload *w)
{
        return w->ops->mark ? w->ops->mark(w->capture) : 0;
}

static int start_relay(struct weir_workload *w, const struct weir_workload_options *options)
{
        int listeners[LISTENERS_MAX];
        struct weir_relay_options relay = {
                .listeners = listeners,
                .n_listeners = w->ops->take_listeners(w->capture, listeners, LISTENERS_MAX),
                .audit = options->audit,
                .mark = mark_of(w),
                .owners = options->log_answers,
        };

        return weir_relay_new(w->loop, &relay, w->ops->original_dst ? &rewritten_relay_ops : &relay_ops, w, &w->relay);
}

static int start_resolver(struct weir_workload *w, const struct weir_workload_options *options,
                          const struct weir_addr *upstreams, size_t n)
{
        struct weir_resolver_options resolver = {
                .udp_fd = w->ops->take_dns_udp(w->capture),
                .tcp_fd = w->ops->take_dns_tcp(w->capture),
                .mode = options->dns,
                .upstreams = upstreams,
                .n_upstreams = n,
                .mark = mark_of(w),
                .log_answers = options->log_answers,
        };

        return weir_resolver_new(w->loop, &resolver, &resolver_ops, w, &w->resolver);
}

static int connect_inside(void *context, uint16_t port)
{
        struct weir_workload *w = context;

        return w->ops->connect_inside(w->capture, port);
}

static int publish_all(struct weir_workload *w, const struct weir_workload_options *options, int *listeners)
{
        for (size_t i = 0; i < options->n_publish; i++) {
                int r = weir_relay_publish(w->relay, TAKE_FD(listeners[i]), options->publish[i].inner_port,
                                           connect_inside, w);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int watch(struct weir_workload *w)
{
        int r;

        w->rejected_fd = w->ops->rejected_fd(w->capture);
        if (w->rejected_fd >= 0) {
                r = weir_loop_add(w->loop, w->rejected_fd, EPOLLIN, on_rejected, w, 0);
                if (r < 0)
                        return r;
        }
        w->events_fd = w->ops->events_fd ? w->ops->events_fd(w->capture) : -1;
        if (w->events_fd >= 0) {
                r = weir_loop_add(w->loop, w->events_fd, EPOLLIN, on_events, w, 0);
                if (r < 0)
                        return r;
        }
        return weir_follow_start(w->follow);
}

static int first_policy(struct weir_workload *w, const struct weir_workload_options *options, struct weir_err *err)
{
        const struct weir_follow_options follow = {
                .namespace_ = options->namespace_,
                .store = options->store,
                .resources = options->resources,
                .take = take_newer,
                .replaced = store_replaced,
                .notice = options->notice,
                .context = w,
                .notice_context = options->context,
        };
        struct weir_policy *policy = NULL;
        int r;

        r = weir_follow_new(w->loop, &follow, &w->follow);
        if (r < 0)
                return weir_err_set(err, r, "out of memory");
        r = weir_follow_first(w->follow, &policy, err);
        if (r < 0)
                return r;
        take_policy(w, policy);
        return 0;
}

static struct weir_workload *workload_new(struct weir_loop *loop, const struct weir_workload_options *options)
{
        struct weir_workload *w = calloc(1, sizeof(*w));

        if (!w)
                return NULL;
        w->loop = loop;
        w->name = strdup(options->name);
        w->resolv_conf = options->resolv_conf;
        w->ops = options->capture;
        w->sink = options->sink;
        w->notice = options->notice;
        w->context = options->context;
        w->rejected_fd = w->events_fd = -1;
        if (!w->name || weir_timer_new(loop, on_flush, w, &w->flush) < 0 ||
            weir_timer_new(loop, look_again, w, &w->again) < 0) {
                weir_workload_free(w);
                return NULL;
        }
        return w;
}

/* Everything between the policy and the running command. @listeners are the host's ends of --publish. */
static int start_behind_boundary(struct weir_workload *w, const struct weir_workload_options *options, int *listeners,
                                 struct weir_err *err)
{
        struct weir_addr upstreams[RESOLVERS_MAX];
        size_t n_upstreams = weir_host_resolvers(w->resolv_conf, upstreams, RESOLVERS_MAX);
        struct weir_capture_options capture = options->capture_options;
        int r;

        capture.policy = w->policy;
        capture.audit = options->audit;
        capture.owners = options->log_answers;
        r = w->capture ? 0 : w->ops->start(&capture, &w->capture, err);
        if (r < 0)
                return r;
        r = start_relay(w, options);
        if (r == 0)
                r = start_resolver(w, options, upstreams, n_upstreams);
        if (r == 0)
                r = publish_all(w, options, listeners);
        if (r == 0)
                r = watch(w);
        if (r < 0)
                return weir_err_set(err, r, "cannot start the relay and the resolver: %s", strerror(-r));
        return 0;
}

int weir_workload_start(struct weir_loop *loop, const struct weir_workload_options *options,
                        struct weir_workload **ret_workload, struct weir_err *err)
{
        weir_auto(workload) struct weir_workload *w = workload_new(loop, options);
        int listeners[WEIR_PUBLISH_MAX];
        int r;

        if (!w)
                return weir_err_set(err, -ENOMEM, "out of memory");
        if (w->ops->opens_own_way) {
                r = w->ops->start(&options->capture_options, &w->capture, err);
                if (r < 0)
                        return r;
                if (options->store)
                        weir_store_set_mark(options->store, mark_of(w));
        }
        r = first_policy(w, options, err);
        if (r < 0)
                return r;
        r = weir_published_listen(options->publish, options->n_publish, listeners, err);
        if (r < 0)
                return r;
        r = start_behind_boundary(w, options, listeners, err);
        weir_published_close(listeners, options->n_publish);
        if (r < 0)
                return r;
        *ret_workload = TAKE_PTR(w);
        return 0;
}

void weir_workload_free(struct weir_workload *w)
{
        if (!w)
                return;
        weir_follow_free(w->follow);
        if (w->rejected_fd >= 0) {
                /* Denials of the command's last moments still have their records. */
                on_rejected(w, 0, 0);
                weir_loop_del(w->loop, w->rejected_fd);
        }
        weir_relay_free(w->relay);
        weir_resolver_free(w->resolver);
        if (w->events_fd >= 0) {
                w->ops->stop(w->capture);
                (void)drain_events(w, UINT_MAX);
                weir_loop_del(w->loop, w->events_fd);
        }
        if (w->ops)
                w->ops->free(w->capture);
        weir_timer_free(w->flush);
        weir_timer_free(w->again);
        weir_policy_unref(w->policy);
        free(w->name);
        free(w);
}

struct weir_policy *weir_workload_policy(const struct weir_workload *w)
{
        return w->policy;
}

void weir_workload_pause(struct weir_workload *w, void (*stop)(void))
{
        if (w->ops->freeze)
                w->ops->freeze(w->capture, true);
        stop();
        /* What changed meanwhile comes first. */
        weir_follow_now(w->follow);
        if (w->ops->freeze)
                w->ops->freeze(w->capture, false);
}

const char *weir_workload_path(const struct weir_workload *w, const char **ret_why)
{
        *ret_why = "every connection is accepted, judged and dialled";
        return w->ops->path ? w->ops->path(w->capture, ret_why) : "relay";
}

int weir_workload_exit_fd(const struct weir_workload *w)
{
        return w->ops->exit_fd(w->capture);
}

int weir_workload_wait_exit(struct weir_workload *w, struct weir_exit *ret)
{
        return w->ops->wait_exit(w->capture, ret);
}

int weir_workload_kill(struct weir_workload *w, int signal)
{
        return w->ops->kill(w->capture, signal);
}

void weir_workload_drain(struct weir_workload *w)
{
        weir_relay_stop_listening(w->relay);
}

size_t weir_workload_n_flows(const struct weir_workload *w)
{
        return weir_relay_n_flows(w->relay);
}
