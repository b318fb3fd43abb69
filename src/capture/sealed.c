/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sealed capture: namespaces with no way out, for any user.
 *
 * Theory of operation
 *
 * The supervisor forks a process into new namespaces (namespaces.c), which builds the inside (sandbox_init.c) and hands
 * out the sockets it made there. The supervisor stays in the host's namespaces, so what it dials through relay and
 * resolver goes out; the workload holds no descriptor of the host's network. The supervisor makes itself not dumpable
 * first: the workload has its uid.
 *
 * The socket handoff (handoff.c) stands beside this, behind the same operations: it adds a fast path, not another
 * boundary. Where the machine does not let it, the reason is kept for who asks, and everything goes through the relay.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/gate.h"
#include "base/log.h"
#include "capture/capture.h"
#include "capture/descriptors.h"
#include "capture/handoff.h"
#include "capture/namespaces.h"
#include "capture/nflog.h"
#include "capture/owner.h"
#include "capture/protocol.h"
#include "capture/reachable.h"
#include "capture/sandbox_init.h"
#include "capture/sealed.h"

/* How long a sandbox without a PID namespace may take to end its processes. */
#define END_MS 5000

struct weir_capture {
        pid_t init;
        int pidfd, events, service;
        int fds[WEIR_BOX_FD_COUNT];
        struct weir_owner owner;
        struct weir_exit exit; /* of a command that never ran */
        bool exit_known, exit_told, own_pids;
        struct weir_handoff *handoff; /* NULL: relay only */
        char why[512];
};

#define WHY_HANDOFF \
        "allowed connections are sockets that Weir connected; what cannot be handed over goes through the relay"

static bool ends_by_itself(const struct weir_capture *c)
{
        struct pollfd polled = { .fd = c->pidfd, .events = POLLIN };

        return poll(&polled, 1, END_MS) == 1;
}

/* Its end is the end of everything in its PID namespace; without one it ends everything when this side is closed. */
static void kill_all(void *context)
{
        struct weir_capture *c = context;

        weir_close_cleanup(&c->service);
        if (c->own_pids || !ends_by_itself(c))
                (void)kill(c->init, SIGKILL);
}

static void end_all(struct weir_capture *c)
{
        if (c->init <= 0)
                return;
        kill_all(c);
        while (waitpid(c->init, NULL, 0) < 0 && errno == EINTR)
                ;
        c->init = 0;
}

static void sealed_free(struct weir_capture *c)
{
        if (!c)
                return;
        end_all(c);
        weir_handoff_free(c->handoff);
        for (size_t i = 0; i < WEIR_BOX_FD_COUNT; i++)
                weir_close_cleanup(&c->fds[i]);
        weir_close_cleanup(&c->pidfd);
        weir_close_cleanup(&c->events);
        weir_close_cleanup(&c->service);
        free(c);
}
WEIR_DEFINE_CLEANUP(capture, struct weir_capture *, sealed_free)

static struct weir_capture *capture_new(void)
{
        struct weir_capture *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->pidfd = c->events = c->service = -1;
        for (size_t i = 0; i < WEIR_BOX_FD_COUNT; i++)
                c->fds[i] = -1;
        return c;
}

static int say(const struct weir_capture *c, uint32_t verb, int32_t value, struct weir_err *err)
{
        const struct weir_box_message message = { .verb = verb, .value = value };
        int r = weir_fd_send(c->events, &message, sizeof(message), NULL, 0);

        return r < 0 ? weir_err_set(err, r, "the sandbox ended before it was built") : 0;
}

/* What the sandbox says next, with at most *@n descriptors. */
static int hear(struct weir_capture *c, struct weir_box_message *ret, int *fds, size_t *n, struct weir_err *err)
{
        ssize_t got = weir_fd_recv(c->events, ret, sizeof(*ret), fds, n);

        if (got != (ssize_t)sizeof(*ret))
                return weir_err_set(err, WEIR_EUNSUPPORTED, "the sandbox ended before it was built");
        ret->text[sizeof(ret->text) - 1] = '\0';
        if (ret->verb == WEIR_BOX_FAILED)
                return weir_err_set(err, ret->code < 0 ? ret->code : -EIO, "%s", ret->text);
        return 0;
}

/* Before the sandbox hides its memory. Without a handoff the reason is kept; only where it is required it is @err. */
static int prepare_handoff(struct weir_capture *c, const struct weir_capture_options *options, int init_fd,
                           struct weir_err *err)
{
        struct weir_handoff_options handoff = {
                .policy = options->policy,
                .audit = options->audit,
                .owners = options->owners,
                .init = c->init,
                .init_fd = init_fd,
                .kill = kill_all,
                .context = c,
        };
        struct weir_err reason = { 0 };
        int r;

        if (options->handoff == WEIR_HANDOFF_OFF || !options->policy) {
                (void)snprintf(c->why, sizeof(c->why), "--handoff=off");
                return 0;
        }
        r = weir_handoff_new(&handoff, &c->handoff, &reason);
        if (r < 0)
                (void)snprintf(c->why, sizeof(c->why), "%.500s", reason.text);
        if (r < 0 && options->handoff == WEIR_HANDOFF_REQUIRE)
                return weir_err_set(err, r, "--handoff=require: %.900s", reason.text);
        return 0;
}

static enum weir_box_handoff wanted(const struct weir_capture *c, const struct weir_capture_options *options)
{
        if (!c->handoff)
                return WEIR_BOX_HANDOFF_NONE;
        return options->handoff == WEIR_HANDOFF_REQUIRE ? WEIR_BOX_HANDOFF_NEED : WEIR_BOX_HANDOFF_TRY;
}

/* What the command's process says of its filter. */
static int hear_handoff(struct weir_capture *c, struct weir_err *err)
{
        int fds[WEIR_BOX_NOTIFY_COUNT] = { -1, -1, -1 };
        struct weir_box_message message;
        size_t n = WEIR_BOX_NOTIFY_COUNT;
        int r = hear(c, &message, fds, &n, err);

        if (r < 0)
                return r;
        if (message.verb == WEIR_BOX_NOTIFY && n >= WEIR_BOX_NOTIFY_V6) {
                r = weir_handoff_begin(c->handoff, fds, n);
                return r < 0 ? weir_err_set(err, r, "cannot start the handoff: %s", strerror(-r)) : 0;
        }
        (void)snprintf(c->why, sizeof(c->why), "%.500s", message.text);
        weir_handoff_free(TAKE_PTR(c->handoff));
        return 0;
}

/* The parent's side of the building, up to the running command. @init_fd: the sandbox's end of the events. */
static int raise_sandbox(struct weir_capture *c, const struct weir_capture_options *options,
                         const struct weir_place *place, int init_fd, struct weir_err *err)
{
        struct weir_box_message message;
        size_t n = WEIR_BOX_FD_COUNT;
        int r;

        r = place ? 0 : weir_namespaces_map(c->init, err);
        if (r == 0)
                r = place ? 0 : prepare_handoff(c, options, init_fd, err);
        if (r == 0)
                r = say(c, WEIR_BOX_MAPPED, 0, err);
        if (r == 0 && place)
                r = place->complete(place->context, err);
        if (r == 0)
                r = hear(c, &message, c->fds, &n, err);
        if (r < 0)
                return r;
        /* From here on the workload exists; it has our uid and must not trace us or read our memory. */
        if (WEIR_GATE(SUPERVISOR_MEMORY) && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                return weir_err_set(err, -errno, "cannot protect Weir's memory: %s", strerror(errno));
        r = say(c, WEIR_BOX_GO, wanted(c, options), err);
        if (r == 0 && c->handoff)
                r = hear_handoff(c, err);
        n = 0;
        if (r == 0)
                r = hear(c, &message, NULL, &n, err);
        if (r == 0 && message.verb == WEIR_BOX_EXEC_FAILED) {
                c->exit.exec_errno = message.value;
                c->exit_known = true;
        }
        return r;
}

static int make_pairs(int events[2], int service[2], struct weir_err *err)
{
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, events) < 0 ||
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, service) < 0)
                return weir_err_set(err, -errno, "cannot make a socket pair: %s", strerror(errno));
        return 0;
}

static int build(const struct weir_capture_options *options, const struct weir_place *place, bool own_pids,
                 struct weir_capture **ret_capture, struct weir_err *err)
{
        weir_auto(capture) struct weir_capture *c = capture_new();
        struct weir_strv listening __attribute__((cleanup(weir_strv_clear))) = { 0 };
        int events[2] = { -1, -1 }, service[2] = { -1, -1 }, init_fd;
        int r;

        if (!c)
                return weir_err_set(err, -ENOMEM, "out of memory");
        c->own_pids = own_pids;
        r = make_pairs(events, service, err);
        if (r == 0) {
                r = weir_reachable_list(&listening);
                if (r < 0)
                        r = weir_err_set(err, WEIR_EUNSUPPORTED,
                                         "cannot read /proc/net/unix to hide the host's sockets: %s", strerror(-r));
        }
        if (r == 0) {
                c->init = weir_namespaces_clone(own_pids, place ? place->cgroup : -1, &c->pidfd, err);
                r = c->init < 0 ? (int)c->init : 0;
        }
        if (r == 0 && c->init == 0) {
                const struct weir_sandbox sandbox = {
                        .options = options,
                        .events = events[1],
                        .service = service[1],
                        .own_pids = own_pids,
                        .listening = &listening,
                        .place = place,
                };

                (void)close(events[0]);
                (void)close(service[0]);
                weir_sandbox_init(&sandbox);
        }
        c->events = TAKE_FD(events[0]);
        c->service = TAKE_FD(service[0]);
        init_fd = events[1];
        weir_close_cleanup(&events[1]);
        weir_close_cleanup(&service[1]);
        if (r == 0)
                r = raise_sandbox(c, options, place, init_fd, err);
        if (r < 0)
                return r;
        *ret_capture = TAKE_PTR(c);
        return 0;
}

int weir_sealed_start_in(const struct weir_capture_options *options, const struct weir_place *place,
                         struct weir_capture **ret_capture, struct weir_err *err)
{
        int r;

        r = weir_descriptors_check(err);
        if (r < 0)
                return r;
        r = WEIR_GATE(PID_NAMESPACE) && WEIR_GATE(LEFTOVERS) ? build(options, place, true, ret_capture, err) :
                                                               WEIR_ELIMIT;
        if (r != WEIR_ELIMIT)
                return r < 0 ? weir_namespaces_explain(r, err) : r;
        /* Only /proc stood in the way: all else holds without a PID namespace. */
        weir_log(options->verbose ? WEIR_LOG_WARNING : WEIR_LOG_DEBUG, "%s; going on without a PID namespace",
                 err->text);
        *err = (struct weir_err){ 0 };
        return build(options, place, false, ret_capture, err);
}

static int sealed_start(const struct weir_capture_options *options, struct weir_capture **ret_capture,
                        struct weir_err *err)
{
        return weir_sealed_start_in(options, NULL, ret_capture, err);
}

static size_t sealed_take_listeners(struct weir_capture *c, int *ret_fds, size_t n)
{
        size_t taken = 0;

        for (size_t i = WEIR_BOX_FD_LISTENER_V4; i < WEIR_BOX_FD_COUNT && taken < n; i++)
                if (c->fds[i] >= 0)
                        ret_fds[taken++] = TAKE_FD(c->fds[i]);
        return taken;
}

static int sealed_take_dns_udp(struct weir_capture *c)
{
        return TAKE_FD(c->fds[WEIR_BOX_FD_DNS_UDP]);
}

static int sealed_take_dns_tcp(struct weir_capture *c)
{
        return TAKE_FD(c->fds[WEIR_BOX_FD_DNS_TCP]);
}

static int sealed_rejected_fd(struct weir_capture *c)
{
        return c->fds[WEIR_BOX_FD_NFLOG];
}

static int sealed_next_rejected(struct weir_capture *c, struct weir_rejected *ret)
{
        return weir_nflog_next(c->fds[WEIR_BOX_FD_NFLOG], ret);
}

static int sealed_owner(struct weir_capture *c, enum weir_ip_protocol protocol, const struct weir_addr *from,
                        uint16_t port, const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid, char *command)
{
        c->owner.diag = c->fds[WEIR_BOX_FD_DIAG];
        c->owner.init = c->init;
        return weir_owner_find(&c->owner, protocol, from, port, to, to_port, ret_pid, command);
}

static int sealed_connect_inside(struct weir_capture *c, uint16_t port)
{
        struct weir_box_message message = { .verb = WEIR_BOX_CONNECT, .value = port };
        size_t n = 1;
        int fd = -1;

        if (weir_fd_send(c->service, &message, sizeof(message), NULL, 0) < 0)
                return -EPIPE;
        if (weir_fd_recv(c->service, &message, sizeof(message), &fd, &n) != (ssize_t)sizeof(message) ||
            message.verb != WEIR_BOX_CONNECTED)
                return -EPIPE;
        return n == 1 ? fd : message.value > 0 ? -message.value : -EPROTO;
}

static int sealed_exit_fd(struct weir_capture *c)
{
        return c->events;
}

/* 1: @ret is filled; 0: nothing waits. */
static int next_event(struct weir_capture *c, struct weir_exit *ret)
{
        struct pollfd polled = { .fd = c->events, .events = POLLIN };
        struct weir_box_message message;
        size_t n = 0;

        if (poll(&polled, 1, 0) != 1)
                return 0;
        *ret = (struct weir_exit){ 0 };
        if (weir_fd_recv(c->events, &message, sizeof(message), NULL, &n) == (ssize_t)sizeof(message) &&
            message.verb == WEIR_BOX_STATUS)
                ret->status = message.value;
        else
                ret->status = SIGKILL; /* the sandbox's first process is gone, and everything with it */
        return 1;
}

static int sealed_wait_exit(struct weir_capture *c, struct weir_exit *ret)
{
        int r = 1;

        if (c->exit_told)
                return 0;
        if (c->exit_known)
                *ret = c->exit;
        else
                r = next_event(c, ret);
        if (r == 1 && (c->exit_known || !WIFSTOPPED(ret->status)))
                c->exit_told = true;
        return r;
}

static int sealed_kill(struct weir_capture *c, int signal)
{
        const struct weir_box_message message = { .verb = WEIR_BOX_KILL, .value = signal };

        return weir_fd_send(c->service, &message, sizeof(message), NULL, 0);
}

static int sealed_set_policy(struct weir_capture *c, struct weir_policy *policy, struct weir_err *err)
{
        (void)err;
        if (c->handoff)
                weir_handoff_policy_changed(c->handoff, policy);
        return 0;
}

static int sealed_events_fd(struct weir_capture *c)
{
        return c->handoff ? weir_handoff_events_fd(c->handoff) : -1;
}

static int sealed_next_event(struct weir_capture *c, struct weir_capture_event *ret)
{
        return c->handoff ? weir_handoff_next_event(c->handoff, ret) : 0;
}

static const char *sealed_path(struct weir_capture *c, const char **ret_why)
{
        *ret_why = c->handoff ? WHY_HANDOFF : c->why;
        return c->handoff ? "handoff" : "relay";
}

static const char *sealed_try_path(char *why, size_t n)
{
        struct weir_err err = { 0 };
        int r = weir_handoff_probe(&err);

        (void)snprintf(why, n, "%s", r < 0 ? err.text : WHY_HANDOFF);
        return r < 0 ? "relay" : "handoff";
}

static void sealed_stop(struct weir_capture *c)
{
        if (!c->handoff)
                return;
        end_all(c);
        weir_handoff_settle(c->handoff);
}

/* Where it cannot be known that all stand still, none may go on alone: the sandbox ends. */
static void sealed_freeze(struct weir_capture *c, bool on)
{
        struct weir_box_message message = { .verb = on ? WEIR_BOX_FREEZE : WEIR_BOX_THAW };
        size_t n = 0;

        if (!c->handoff || weir_fd_send(c->service, &message, sizeof(message), NULL, 0) < 0 || !on)
                return;
        if (weir_fd_recv(c->service, &message, sizeof(message), NULL, &n) != (ssize_t)sizeof(message) ||
            message.verb != WEIR_BOX_FROZEN || message.value != 0)
                kill_all(c);
}

const struct weir_capture_ops weir_capture_sealed = {
        .name = "sealed",
        .start = sealed_start,
        .take_listeners = sealed_take_listeners,
        .take_dns_udp = sealed_take_dns_udp,
        .take_dns_tcp = sealed_take_dns_tcp,
        .rejected_fd = sealed_rejected_fd,
        .next_rejected = sealed_next_rejected,
        .set_policy = sealed_set_policy,
        .events_fd = sealed_events_fd,
        .next_event = sealed_next_event,
        .stop = sealed_stop,
        .path = sealed_path,
        .try_path = sealed_try_path,
        .freeze = sealed_freeze,
        .owner = sealed_owner,
        .connect_inside = sealed_connect_inside,
        .exit_fd = sealed_exit_fd,
        .wait_exit = sealed_wait_exit,
        .kill = sealed_kill,
        .free = sealed_free,
};
