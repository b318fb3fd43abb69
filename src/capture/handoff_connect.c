/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect(2) of the sandbox, made by the supervisor.
 *
 * Theory of operation
 *
 * The workload can change the memory the address stands in and what the descriptor means while its call waits. So both
 * are taken once: the address is copied, the socket duplicated, and everything that follows is done with these two. The
 * call is never let go on for an internet socket. What kind of socket it is decides:
 *
 *   not of the internet     an address of AF_UNIX or AF_NETLINK goes on in the kernel, for it has to be seen with the
 *                           caller's eyes; Landlock keeps the socket that may have been put there from connecting
 *   made inside             its own loopback, UDP, the resolver's port, and everything that cannot be handed off:
 *                           connected in place, inside, where the relay accepts it. Denied: EPERM. Allowed: dialled
 *   of the host's network   handed off before. A second call is judged by today's policy, then the kernel answers
 *   of another namespace    an inner sandbox's or what a daemon gave: in place; never handed off
 *
 * In place means on the duplicate: the workload's own socket connects, wherever it belongs.
 *
 * A dialled socket carries the options of the one it replaces, is entered in the table of flows before its first
 * packet, and is put over the workload's descriptor before the call is answered. If it blocks and is not connected at
 * once, the second thread answers.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/time.h"
#include "capture/handoff_internal.h"

#define DNS_PORT 53

/* One call under way. @dup is owned. */
struct attempt {
        struct weir_handoff *h;
        const struct seccomp_notif *call;
        struct weir_task *task;
        int fd, dup;
        struct sockaddr_storage sa;
        socklen_t length;
        struct sockaddr_storage local; /* of the socket as it was taken */
        uint64_t netns;
        uint8_t state; /* TCP_ESTABLISHED... ; 0: no TCP */
        struct weir_policy *policy;
        uint32_t turn;
        struct weir_capture_event about;
        enum weir_verdict verdict;
};

static void answer(struct attempt *a, int error)
{
        (void)weir_handoff_answer(a->h, a->call->id, error);
}

static bool is_v6(const struct attempt *a)
{
        return a->local.ss_family == AF_INET6;
}

static bool is_disconnect(const struct attempt *a)
{
        return a->length >= sizeof(sa_family_t) && a->sa.ss_family == AF_UNSPEC;
}

/* Copies the address; false if the call has been answered. */
static bool take_address(struct attempt *a)
{
        uint32_t length = (uint32_t)a->call->data.args[2];

        if (length > sizeof(a->sa)) {
                answer(a, EINVAL);
                return false;
        }
        a->length = length;
        if (length > 0 && weir_task_read((pid_t)a->call->pid, &a->sa, a->call->data.args[1], length) < 0) {
                answer(a, EFAULT);
                return false;
        }
        if (length >= sizeof(sa_family_t) && (a->sa.ss_family == AF_UNIX || a->sa.ss_family == AF_NETLINK)) {
                weir_handoff_continue(a->h, a->call->id);
                return false;
        }
        return true;
}

/* Duplicates the socket and asks what it is; false if the call has been answered. */
static bool take_socket(struct attempt *a)
{
        socklen_t length = sizeof(a->local);
        struct tcp_info info;
        socklen_t one = 1;

        a->dup = weir_task_fd(a->h, (pid_t)a->call->pid, a->fd, &a->task);
        if (a->dup < 0) {
                answer(a, -a->dup);
                return false;
        }
        if (getsockname(a->dup, (struct sockaddr *)&a->local, &length) < 0) {
                answer(a, errno);
                return false;
        }
        if (a->local.ss_family != AF_INET && a->local.ss_family != AF_INET6) {
                /* Its kernel would refuse this address; AF_UNSPEC alone means something to it. */
                if (is_disconnect(a))
                        answer(a, connect(a->dup, (struct sockaddr *)&a->sa, a->length) < 0 ? errno : 0);
                else
                        answer(a, EINVAL);
                return false;
        }
        /* The state is the first byte, and only a TCP socket has one. */
        if (getsockopt(a->dup, IPPROTO_TCP, TCP_INFO, &info, &one) == 0)
                a->state = info.tcpi_state;
        a->netns = weir_netns_cookie(a->dup);
        return true;
}

static uint64_t send_timeout_ns(int fd)
{
        struct timeval timeout = { 0 };
        socklen_t length = sizeof(timeout);

        if (getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, &length) < 0)
                return 0;
        return (uint64_t)timeout.tv_sec * WEIR_SEC + (uint64_t)timeout.tv_usec * 1000;
}

static bool is_connected_now(int fd, int *ret_error)
{
        struct pollfd polled = { .fd = fd, .events = POLLOUT };
        socklen_t length = sizeof(*ret_error);

        if (poll(&polled, 1, 0) != 1)
                return false;
        *ret_error = 0;
        if (polled.revents & (POLLERR | POLLHUP) && getsockopt(fd, SOL_SOCKET, SO_ERROR, ret_error, &length) < 0)
                *ret_error = errno;
        return true;
}

static void answer_connected(struct attempt *a, int error)
{
        if (weir_handoff_answer(a->h, a->call->id, error) < 0 && error == 0)
                weir_outrun_note(a->h, (pid_t)a->call->pid, a->fd);
}

static int connect_later(struct attempt *a, bool again, uint64_t cookie)
{
        uint64_t timeout_ns = send_timeout_ns(a->dup);

        weir_slow_add(a->h, a->call, weir_handoff_keep(a->h, TAKE_FD(a->dup)), timeout_ns, again, cookie);
        return -1;
}

/*
 * connect() on the workload's own socket. This thread may not wait: a blocking socket is made non-blocking for the
 * length of the call, which all who share it can see, and what takes time is waited for by the other thread.
 * Return: the error, or -1 if the other thread answers.
 */
static int connect_on(struct attempt *a, const struct sockaddr_storage *sa, socklen_t length, uint64_t cookie)
{
        int flags = fcntl(a->dup, F_GETFL), error;

        if (a->state == 0 || flags < 0 || flags & O_NONBLOCK)
                return connect(a->dup, (const struct sockaddr *)sa, length) < 0 ? errno : 0;
        if (a->state == TCP_SYN_SENT && !is_disconnect(a))
                return connect_later(a, true, cookie);
        (void)fcntl(a->dup, F_SETFL, flags | O_NONBLOCK);
        error = connect(a->dup, (const struct sockaddr *)sa, length) < 0 ? errno : 0;
        (void)fcntl(a->dup, F_SETFL, flags);
        if (error != EINPROGRESS || is_connected_now(a->dup, &error))
                return error;
        return connect_later(a, false, cookie);
}

static void connect_in_place(struct attempt *a)
{
        int error = connect_on(a, &a->sa, a->length, 0);

        if (error >= 0)
                answer_connected(a, error);
}

/* Fills destination and verdict by the policy in force. false: no address that could be judged. */
static bool judge(struct attempt *a)
{
        struct weir_query query = { .protocol = WEIR_IP_TCP };
        struct weir_decision decision;

        if (weir_addr_from_sockaddr((const struct sockaddr *)&a->sa, a->length, &query.addr, &query.port) < 0)
                return false;
        weir_policy_unref(a->policy);
        a->policy = weir_handoff_policy(a->h);
        query.turn = a->turn = a->h->turn;
        weir_policy_match(a->policy, &query, &decision);
        a->verdict = decision.verdict;
        a->about = (struct weir_capture_event){
                .protocol = WEIR_IP_TCP,
                .has_destination = true,
                .destination = query.addr,
                .port = query.port,
                .reason = decision.reason,
                .policy = a->policy,
                .by = decision.rule,
                .has_dialled = decision.verdict == WEIR_VERDICT_ALLOW,
                .dialled = decision.addr,
                .dialled_port = decision.port,
        };
        return true;
}

static void name_process(struct attempt *a)
{
        a->about.pid = weir_task_tgid(a->task);
        weir_task_command(a->h, a->task, a->about.command);
}

static void deny(struct attempt *a)
{
        name_process(a);
        answer(a, EPERM);
        weir_flows_deny(a->h, &a->about);
}

/* The workload's own, which nft leaves alone: loopback, and the addresses that mean it. */
static bool is_own(const struct weir_addr *addr)
{
        static const struct weir_addr loopback6 = { .bytes = { [15] = 1 } }, any6 = { 0 };
        static const uint8_t any4[4];

        if (weir_addr_is_v4(addr))
                return addr->bytes[12] == 127 || memcmp(addr->bytes + 12, any4, sizeof(any4)) == 0;
        return weir_addr_equal(addr, &loopback6) || weir_addr_equal(addr, &any6);
}

static bool is_bound(const struct attempt *a)
{
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)&a->local;
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)&a->local;

        if (is_v6(a))
                return in6->sin6_port || !IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
        return in->sin_port || in->sin_addr.s_addr != htonl(INADDR_ANY);
}

/* What is dialled as a socket of the workload's family says it; 0 if it cannot. */
static socklen_t dialled_sockaddr(const struct attempt *a, struct sockaddr_storage *ret)
{
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)ret;

        if (!is_v6(a))
                return weir_addr_is_v4(&a->about.dialled) ?
                               weir_addr_to_sockaddr(&a->about.dialled, a->about.dialled_port, ret) :
                               0;
        memset(ret, 0, sizeof(*ret));
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(a->about.dialled_port);
        memcpy(&in6->sin6_addr, a->about.dialled.bytes, sizeof(in6->sin6_addr));
        return sizeof(*in6);
}

void weir_handoff_fill_pool(struct weir_handoff *h)
{
        while (h->n_pool < WEIR_ARRAY_SIZE(h->pool)) {
                int fd = weir_handoff_keep(h, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

                if (fd < 0)
                        return;
                h->pool[h->n_pool++] = fd;
        }
}

static int fresh_socket(struct attempt *a)
{
        struct weir_handoff *h = a->h;
        int fd;

        if (!is_v6(a) && h->n_pool > 0)
                return h->pool[--h->n_pool];
        fd = socket(a->local.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
                weir_task_forget_all(h);
                /* It was forgotten too; the caller of this one needs it no more. */
                a->task = NULL;
        }
        return fd;
}

static uint64_t socket_cookie(int fd)
{
        uint64_t cookie = 0;
        socklen_t length = sizeof(cookie);

        return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0 ? 0 : cookie;
}

static int install(const struct attempt *a, int socket, bool cloexec)
{
        struct seccomp_notif_addfd give = {
                .id = a->call->id,
                .flags = SECCOMP_ADDFD_FLAG_SETFD,
                .srcfd = (uint32_t)socket,
                .newfd = (uint32_t)a->fd,
                .newfd_flags = cloexec ? O_CLOEXEC : 0,
        };

        return ioctl(a->h->notify, SECCOMP_IOCTL_NOTIF_ADDFD, &give) < 0 ? -errno : 0;
}

/* A connection that was made and cannot be given: reset, so that nothing lives that nobody holds. */
static void undo(int socket)
{
        const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

        (void)connect(socket, &nowhere, sizeof(nowhere));
}

/* Enters the flow, by the policy that is in force now: one that came since is asked. 0; -EPERM; or a reason to leave it
 * to the relay. */
static int begin(struct attempt *a, uint64_t cookie)
{
        int r;

        if (cookie == 0)
                return -ENOTSUP;
        for (;;) {
                r = weir_flows_begin(a->h, cookie, weir_task_tgid(a->task), a->fd, a->turn, &a->about);
                if (r != -ESTALE)
                        return r;
                if (!judge(a) || a->verdict != WEIR_VERDICT_ALLOW)
                        return -EPERM;
                if (a->h->options.owners)
                        name_process(a);
        }
}

/* @socket is connected or connecting: over the workload's descriptor with it, into @set too if one watches. -1 if the
 * other thread answers or nobody waits; else the answer. */
static int hand_over(struct attempt *a, int *socket, int flags, int set, int error, uint64_t timeout_ns,
                     uint64_t cookie)
{
        bool later = false;
        int r;

        if (!(flags & O_NONBLOCK)) {
                later = error == EINPROGRESS && !is_connected_now(*socket, &error);
                if (error && !later) {
                        weir_flows_end(a->h, cookie, weir_reason_of_connect(error), &(struct weir_flow_figures){ 0 });
                        return error;
                }
                (void)fcntl(*socket, F_SETFL, 0);
        }
        if (set >= 0 && weir_epoll_move(a->h, a->task, set, a->dup, *socket, a->fd) < 0) {
                weir_flows_end(a->h, cookie, WEIR_REASON_INTERNAL, &(struct weir_flow_figures){ 0 });
                undo(*socket);
                return ENOBUFS;
        }
        r = install(a, *socket, flags & O_CLOEXEC);
        if (r < 0 || !weir_flows_installed(a->h, cookie)) {
                /* The call is over, or the policy has changed under it. */
                if (set >= 0 && r < 0 && weir_epoll_move(a->h, a->task, set, *socket, a->dup, a->fd) < 0)
                        r = -EIO;
                undo(*socket);
                weir_flows_end(a->h, cookie, WEIR_REASON_RESET_BY_WORKLOAD, &(struct weir_flow_figures){ 0 });
                return r == -ENOENT ? -1 : r < 0 ? ENOBUFS : EPERM;
        }
        if (!later)
                return error;
        weir_slow_add(a->h, a->call, weir_handoff_keep(a->h, TAKE_FD(*socket)), timeout_ns, false, cookie);
        return -1;
}

/* true: answered, by this thread or the other. false: as if nobody had tried, for the relay. */
static bool dial(struct attempt *a)
{
        struct weir_socket_options options;
        struct sockaddr_storage sa;
        socklen_t length = dialled_sockaddr(a, &sa);
        weir_auto_close int fresh = -1;
        int flags, set, r, error;
        uint64_t cookie;

        if (length == 0 || a->state != TCP_CLOSE || is_bound(a))
                return false;
        flags = weir_task_fd_flags(a->h, a->task, a->fd);
        if (flags < 0 || flags & O_ASYNC)
                return false;
        set = weir_epoll_watching(a->h, a->task, a->dup, a->fd);
        if ((set < 0 && set != -ENOENT) || weir_options_read(a->h, a->dup, is_v6(a), &options) < 0)
                return false;
        if (a->h->options.owners)
                name_process(a);
        (void)weir_task_tgid(a->task);
        fresh = fresh_socket(a);
        if (fresh < 0 || !a->task)
                return false;
        if (set >= 0) {
                /* Out of the way of the workload's own number. */
                a->dup = weir_handoff_keep(a->h, TAKE_FD(a->dup));
                fresh = weir_handoff_keep(a->h, TAKE_FD(fresh));
        }
        weir_options_apply(a->h, fresh, is_v6(a), &options);
        cookie = socket_cookie(fresh);
        r = begin(a, cookie);
        if (r == -EPERM)
                deny(a);
        if (r < 0)
                return r == -EPERM;
        a->h->turn++;
        error = connect(fresh, (struct sockaddr *)&sa, length) < 0 ? errno : 0;
        if (error && error != EINPROGRESS)
                weir_flows_end(a->h, cookie, weir_reason_of_connect(error), &(struct weir_flow_figures){ 0 });
        else
                error = hand_over(a, &fresh, flags, set, error, weir_options_send_timeout_ns(&options), cookie);
        if (error >= 0)
                answer_connected(a, error);
        return true;
}

/* A socket made inside. */
static void connect_inside(struct attempt *a)
{
        if (a->state == 0 || is_disconnect(a) || a->sa.ss_family != a->local.ss_family || !judge(a) ||
            is_own(&a->about.destination) || a->about.port == DNS_PORT) {
                connect_in_place(a);
                return;
        }
        switch (a->verdict) {
        case WEIR_VERDICT_ALLOW:
                if (!dial(a))
                        connect_in_place(a);
                return;
        case WEIR_VERDICT_INSPECT:
                connect_in_place(a);
                return;
        case WEIR_VERDICT_DENY:
        case WEIR_VERDICT_COUNT:
                break;
        }
        if (a->h->options.audit)
                connect_in_place(a);
        else
                deny(a);
}

/* A dead socket may start anew with this call, a live one only if it was disconnected behind our back. */
static void reconnect(struct attempt *a)
{
        uint64_t cookie = socket_cookie(a->dup);
        bool fresh = a->state == TCP_CLOSE || !weir_flows_has(a->h, cookie);
        weir_auto_close int mine = fresh ? fcntl(a->dup, F_DUPFD_CLOEXEC, a->h->base) : -1;
        struct sockaddr_storage sa;
        socklen_t length = dialled_sockaddr(a, &sa);
        int r = length == 0 || (fresh && mine < 0) ? -ENOBUFS : 0, error;

        if (r == 0 && fresh)
                r = begin(a, cookie);
        if (r < 0) {
                if (r == -EPERM)
                        deny(a);
                else
                        answer(a, ENOBUFS);
                return;
        }
        error = connect_on(a, &sa, length, cookie);
        if (fresh && error > 0 && error != EINPROGRESS) {
                weir_flows_end(a->h, cookie, weir_reason_of_connect(error), &(struct weir_flow_figures){ 0 });
        } else if (fresh && !weir_flows_installed(a->h, cookie)) {
                undo(mine);
                error = error < 0 ? -1 : EPERM;
        }
        if (error >= 0)
                answer_connected(a, error);
}

/*
 * A socket that was handed off before. What it may still do is what the policy allows now; whether that is another
 * connection or the state of the one it has is the kernel's answer. It is always the dialled address that is named, so
 * that a socket which a race has disconnected since can reach nothing else.
 */
static void connect_again(struct attempt *a)
{
        if (a->state == 0 || is_disconnect(a)) {
                answer(a, EPERM);
        } else if (a->sa.ss_family != a->local.ss_family || !judge(a)) {
                answer(a, EINVAL);
        } else if (a->verdict != WEIR_VERDICT_ALLOW) {
                deny(a);
        } else if (a->state == TCP_ESTABLISHED && weir_outrun_take(a->h, (pid_t)a->call->pid, a->fd)) {
                answer_connected(a, 0);
        } else {
                reconnect(a);
        }
}

void weir_handoff_connect(struct weir_handoff *h, const struct seccomp_notif *call)
{
        struct attempt a = { .h = h, .call = call, .fd = (int)call->data.args[0], .dup = -1 };

        if (take_address(&a) && take_socket(&a)) {
                if (a.netns == h->host_cookie)
                        connect_again(&a);
                else if (a.netns == h->box_cookie)
                        connect_inside(&a);
                else
                        connect_in_place(&a);
        }
        weir_policy_unref(a.policy);
        /* After the answer: closing the workload's old socket costs as much as a handoff's other half. */
        weir_close_cleanup(&a.dup);
}
