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
 * The socket handoff will stand beside this, behind the same operations: it adds a fast path, not another boundary.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "capture/capture.h"
#include "capture/descriptors.h"
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
};

static bool ends_by_itself(const struct weir_capture *c)
{
        struct pollfd polled = { .fd = c->pidfd, .events = POLLIN };

        return poll(&polled, 1, END_MS) == 1;
}

static void sealed_free(struct weir_capture *c)
{
        if (!c)
                return;
        if (c->init > 0) {
                /* Its end is the end of everything in its PID namespace; without one it ends everything when this side
                 * is closed. */
                weir_close_cleanup(&c->service);
                if (c->own_pids || !ends_by_itself(c))
                        (void)kill(c->init, SIGKILL);
                while (waitpid(c->init, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
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

static int say(const struct weir_capture *c, uint32_t verb, struct weir_err *err)
{
        const struct weir_box_message message = { .verb = verb };
        int r = weir_fd_send(c->events, &message, sizeof(message), NULL, 0);

        return r < 0 ? weir_err_set(err, r, "the sandbox ended before it was built") : 0;
}

/* What the sandbox says next, descriptors into c->fds. */
static int hear(struct weir_capture *c, struct weir_box_message *ret, struct weir_err *err)
{
        size_t n = WEIR_BOX_FD_COUNT;
        ssize_t got = weir_fd_recv(c->events, ret, sizeof(*ret), c->fds, &n);

        if (got != (ssize_t)sizeof(*ret))
                return weir_err_set(err, WEIR_EUNSUPPORTED, "the sandbox ended before it was built");
        ret->text[sizeof(ret->text) - 1] = '\0';
        if (ret->verb == WEIR_BOX_FAILED)
                return weir_err_set(err, ret->code < 0 ? ret->code : -EIO, "%s", ret->text);
        return 0;
}

/* The parent's side of the building, up to the running command. */
static int raise_sandbox(struct weir_capture *c, const struct weir_place *place, struct weir_err *err)
{
        struct weir_box_message message;
        int r;

        r = place ? 0 : weir_namespaces_map(c->init, err);
        if (r == 0)
                r = say(c, WEIR_BOX_MAPPED, err);
        if (r == 0 && place)
                r = place->complete(place->context, err);
        if (r == 0)
                r = hear(c, &message, err);
        if (r < 0)
                return r;
        /* From here on the workload exists; it has our uid and must not trace us or read our memory. */
        if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                return weir_err_set(err, -errno, "cannot protect Weir's memory: %s", strerror(errno));
        r = say(c, WEIR_BOX_GO, err);
        if (r == 0)
                r = hear(c, &message, err);
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
        int events[2] = { -1, -1 }, service[2] = { -1, -1 };
        int r;

        if (!c)
                return weir_err_set(err, -ENOMEM, "out of memory");
        c->own_pids = own_pids;
        r = make_pairs(events, service, err);
        /* A table that cannot be read tells nothing; it opens nothing either. */
        if (r == 0 && options->verbose && weir_reachable_list(&listening) < 0)
                weir_strv_clear(&listening);
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
        weir_close_cleanup(&events[1]);
        weir_close_cleanup(&service[1]);
        if (r == 0)
                r = raise_sandbox(c, place, err);
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
        r = build(options, place, true, ret_capture, err);
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

const struct weir_capture_ops weir_capture_sealed = {
        .name = "sealed",
        .start = sealed_start,
        .take_listeners = sealed_take_listeners,
        .take_dns_udp = sealed_take_dns_udp,
        .take_dns_tcp = sealed_take_dns_tcp,
        .rejected_fd = sealed_rejected_fd,
        .next_rejected = sealed_next_rejected,
        .owner = sealed_owner,
        .connect_inside = sealed_connect_inside,
        .exit_fd = sealed_exit_fd,
        .wait_exit = sealed_wait_exit,
        .kill = sealed_kill,
        .free = sealed_free,
};
