/* SPDX-License-Identifier: Apache-2.0 */
/* The way to the destination: a socket in the host's namespace, connecting until a deadline. Only after the verdict. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "event/loop.h"
#include "relay/internal.h"

/* SO_OOBINLINE keeps the urgent byte in its place in the stream, whichever call meets it. */
void weir_dial_prepare(int fd)
{
        const int on = 1;

        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
}

/* The workload's own keep-alives end at this relay, so the way beyond has its own: an idle connection outlives NAT, and
 * a dead peer ends. */
static void keep_alive(int fd)
{
        const int on = 1, idle = 60, interval = 30, probes = 8; /* seconds */

        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

/* Both sockets are watched from here on, once for life: edges say what each can do. */
static void await_connect(struct weir_flow *flow)
{
        struct weir_relay *relay = flow->relay;

        flow->state = WEIR_FLOW_DIAL;
        weir_timer_set(flow->timer, weir_loop_now(relay->loop) + relay->options.connect_timeout_ms * UINT64_C(1000000));
        if (weir_flow_watch(flow, WEIR_DOWN) < 0 || weir_flow_watch(flow, WEIR_UP) < 0)
                weir_flow_close(flow, WEIR_REASON_LIMIT_MEMORY);
}

void weir_dial_adopt(struct weir_flow *flow, int fd)
{
        flow->half[WEIR_UP].fd = fd;
        weir_dial_prepare(fd);
        keep_alive(fd);
        await_connect(flow);
}

/* Without the mark the connection would come back to the relay as the workload's own. */
static int set_mark(const struct weir_relay *relay, int fd)
{
        uint32_t mark = relay->options.mark;

        return mark && setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0 ? -errno : 0;
}

void weir_dial(struct weir_flow *flow)
{
        struct weir_relay *relay = flow->relay;
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(&flow->dialled, flow->dialled_port, &sa);
        int fd, r;

        fd = relay->sys->socket(sa.ss_family);
        if ((fd == -EMFILE || fd == -ENFILE) && relay->reserve >= 0) {
                /* accept(2) took the last one: this flow has the one in reserve, and nobody is let in until it is back.
                 */
                (void)close(TAKE_FD(relay->reserve));
                fd = relay->sys->socket(sa.ss_family);
                weir_relay_pause(relay);
        }
        if (fd < 0) {
                flow->verdict = WEIR_VERDICT_DENY;
                flow->audit = false;
                weir_flow_close(flow,
                                fd == -EAFNOSUPPORT ? WEIR_REASON_UPSTREAM_UNREACHABLE : weir_reason_of_connect(-fd));
                return;
        }
        if (set_mark(relay, fd) < 0) {
                flow->half[WEIR_UP].fd = fd;
                flow->verdict = WEIR_VERDICT_DENY;
                flow->audit = false;
                weir_flow_close(flow, WEIR_REASON_INTERNAL);
                return;
        }
        relay->ops.opened(relay->context);
        r = relay->sys->connect(fd, (const struct sockaddr *)&sa, length);
        if (r < 0 && r != -EINPROGRESS) {
                flow->half[WEIR_UP].fd = fd;
                weir_flow_close(flow, weir_reason_of_connect(-r));
                return;
        }
        weir_dial_adopt(flow, fd);
}

void weir_dial_event(struct weir_flow *flow)
{
        struct weir_half *up = &flow->half[WEIR_UP];
        int error = 0;
        socklen_t length = sizeof(error);

        if (getsockopt(up->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
                error = errno;
        if (error != 0) {
                weir_flow_close(flow, weir_reason_of_connect(error));
                return;
        }
        /* Watching a socket that is connecting may report EPOLLHUP early; only EPOLLOUT says that it is connected. */
        if (!up->writable)
                return;
        weir_timer_set(flow->timer, 0);
        flow->state = WEIR_FLOW_MOVE;
        weir_move(flow);
}
