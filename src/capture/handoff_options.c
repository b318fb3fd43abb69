/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options of a socket that is handed off: what the workload set on its own is set on the one it gets.
 *
 * Theory of operation
 *
 * There is no single test that a socket is as it was born, and twenty getsockopt(2) would cost as much as all the rest
 * of a handoff. So the options are sorted: what programs set on almost every connection is read every time; what few
 * ever set is read only once the filter has seen somebody in the sandbox set it (a notification that is let go on:
 * nothing but this saving rests on it); and what cannot be copied is looked at in the same way and sends the socket to
 * the relay. A value is compared with that of a fresh socket made inside, for the defaults are a namespace's own.
 */
#include <errno.h>
#include <linux/in6.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/time.h>

#include "capture/handoff_internal.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
/* linux/sock_diag.h: indexes of what SO_MEMINFO returns */
#define MEMINFO_RCVBUF 1
#define MEMINFO_SNDBUF 3
#define MEMINFO_VARS 9

#define ROW(level_, name_, size_, kind_)                                             \
        {                                                                            \
                .level = (level_), .name = (name_), .size = (size_), .kind = (kind_) \
        }
#define ROW6(name_, kind_)                                                                     \
        {                                                                                      \
                .level = IPPROTO_IPV6, .name = (name_), .size = 4, .kind = (kind_), .v6 = true \
        }

/* The first two come out of SO_MEMINFO in one call; the send timeout has a place that is known. */
enum { ROW_SNDBUF, ROW_RCVBUF, ROW_KEEPALIVE, ROW_SNDTIMEO };

const struct weir_socket_option weir_socket_options[] = {
        [ROW_SNDBUF] = ROW(SOL_SOCKET, SO_SNDBUF, 4, WEIR_OPTION_ALWAYS),
        [ROW_RCVBUF] = ROW(SOL_SOCKET, SO_RCVBUF, 4, WEIR_OPTION_ALWAYS),
        [ROW_KEEPALIVE] = ROW(SOL_SOCKET, SO_KEEPALIVE, 4, WEIR_OPTION_ALWAYS),
        [ROW_SNDTIMEO] = ROW(SOL_SOCKET, SO_SNDTIMEO, 16, WEIR_OPTION_ALWAYS),
        ROW(SOL_SOCKET, SO_RCVTIMEO, 16, WEIR_OPTION_ALWAYS),
        ROW(SOL_SOCKET, SO_LINGER, 8, WEIR_OPTION_ALWAYS),
        ROW(IPPROTO_TCP, TCP_NODELAY, 4, WEIR_OPTION_ALWAYS),
        ROW(IPPROTO_TCP, TCP_KEEPIDLE, 4, WEIR_OPTION_WITH_KEEPALIVE),
        ROW(IPPROTO_TCP, TCP_KEEPINTVL, 4, WEIR_OPTION_WITH_KEEPALIVE),
        ROW(IPPROTO_TCP, TCP_KEEPCNT, 4, WEIR_OPTION_WITH_KEEPALIVE),
        ROW(SOL_SOCKET, SO_OOBINLINE, 4, WEIR_OPTION_RARE),
        ROW(SOL_SOCKET, SO_RCVLOWAT, 4, WEIR_OPTION_RARE),
        ROW(SOL_SOCKET, SO_BUSY_POLL, 4, WEIR_OPTION_RARE),
        ROW(IPPROTO_IP, IP_TOS, 4, WEIR_OPTION_RARE),
        ROW(IPPROTO_IP, IP_TTL, 4, WEIR_OPTION_RARE),
        ROW(IPPROTO_IP, IP_MTU_DISCOVER, 4, WEIR_OPTION_RARE),
        ROW(IPPROTO_IP, IP_RECVERR, 4, WEIR_OPTION_RARE),
        ROW(IPPROTO_TCP, TCP_USER_TIMEOUT, 4, WEIR_OPTION_RARE),
        ROW(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4, WEIR_OPTION_RARE),
        ROW(IPPROTO_TCP, TCP_MAXSEG, 4, WEIR_OPTION_RARE),
        ROW(IPPROTO_TCP, TCP_SYNCNT, 4, WEIR_OPTION_RARE),
        ROW(IPPROTO_TCP, TCP_WINDOW_CLAMP, 4, WEIR_OPTION_RARE),
        ROW(IPPROTO_TCP, TCP_CONGESTION, 16, WEIR_OPTION_RARE),
        ROW6(IPV6_V6ONLY, WEIR_OPTION_RARE),
        ROW6(IPV6_TCLASS, WEIR_OPTION_RARE),
        ROW6(IPV6_UNICAST_HOPS, WEIR_OPTION_RARE),
        ROW6(IPV6_MTU_DISCOVER, WEIR_OPTION_RARE),
        ROW6(IPV6_RECVERR, WEIR_OPTION_RARE),
        ROW(SOL_SOCKET, SO_PRIORITY, 4, WEIR_OPTION_RARE), /* behind IP_TOS, which sets it too */
        ROW(SOL_SOCKET, SO_MARK, 4, WEIR_OPTION_RELAY),
        ROW(SOL_SOCKET, SO_TIMESTAMP, 4, WEIR_OPTION_RELAY),
        ROW(SOL_SOCKET, SO_TIMESTAMPNS, 4, WEIR_OPTION_RELAY),
        ROW(SOL_SOCKET, SO_TIMESTAMPING, 4, WEIR_OPTION_RELAY),
        ROW(SOL_SOCKET, SO_ZEROCOPY, 4, WEIR_OPTION_RELAY),
        ROW(SOL_SOCKET, SO_DONTROUTE, 4, WEIR_OPTION_RELAY),
        ROW(SOL_SOCKET, SO_GET_FILTER, 0, WEIR_OPTION_RELAY), /* SO_ATTACH_FILTER: the same number */
        ROW(IPPROTO_IP, IP_UNICAST_IF, 4, WEIR_OPTION_RELAY),
        ROW(IPPROTO_IP, IP_PKTINFO, 4, WEIR_OPTION_RELAY),
        ROW(IPPROTO_TCP, TCP_DEFER_ACCEPT, 4, WEIR_OPTION_RELAY),
        ROW(IPPROTO_TCP, TCP_CORK, 4, WEIR_OPTION_RELAY),
        ROW6(IPV6_UNICAST_IF, WEIR_OPTION_RELAY),
        ROW6(IPV6_ADDR_PREFERENCES, WEIR_OPTION_RELAY),
};
const size_t weir_socket_options_n = WEIR_ARRAY_SIZE(weir_socket_options);
_Static_assert(WEIR_ARRAY_SIZE(weir_socket_options) <= WEIR_SOCKET_OPTIONS_MAX, "a bit for each row");

void weir_options_note(struct weir_handoff *h, int level, int name)
{
        for (size_t i = 0; i < weir_socket_options_n; i++)
                if (weir_socket_options[i].level == level && weir_socket_options[i].name == name)
                        h->options_seen |= UINT64_C(1) << i;
}

/* The buffers in one call where the kernel has it (4.12). */
static bool read_buffers(int fd, struct weir_socket_options *ret)
{
        uint32_t info[MEMINFO_VARS];
        socklen_t length = sizeof(info);

        if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) < 0 || length <= MEMINFO_SNDBUF * sizeof(info[0]))
                return false;
        memcpy(ret->values[ROW_SNDBUF], &info[MEMINFO_SNDBUF], sizeof(uint32_t));
        memcpy(ret->values[ROW_RCVBUF], &info[MEMINFO_RCVBUF], sizeof(uint32_t));
        ret->known |= UINT64_C(1) << ROW_SNDBUF | UINT64_C(1) << ROW_RCVBUF;
        return true;
}

static void read_row(int fd, size_t i, struct weir_socket_options *ret)
{
        const struct weir_socket_option *option = &weir_socket_options[i];
        socklen_t length = option->size;

        /* Of a filter only its length is asked, which the call returns beside its result. */
        if (getsockopt(fd, option->level, option->name, ret->values[i], &length) < 0)
                return;
        if (option->size == 0)
                memcpy(ret->values[i], &length, sizeof(length));
        ret->known |= UINT64_C(1) << i;
}

static void read_rows(int fd, bool v6, uint64_t wanted, struct weir_socket_options *ret)
{
        memset(ret, 0, sizeof(*ret));
        if (read_buffers(fd, ret))
                wanted &= ~ret->known;
        for (size_t i = 0; i < weir_socket_options_n; i++)
                if (wanted & UINT64_C(1) << i && (v6 || !weir_socket_options[i].v6))
                        read_row(fd, i, ret);
}

void weir_options_defaults(int fd, bool v6, struct weir_socket_options *ret)
{
        read_rows(fd, v6, ~UINT64_C(0), ret);
}

static bool differs(const struct weir_handoff *h, bool v6, const struct weir_socket_options *options, size_t i)
{
        return options->known & UINT64_C(1) << i &&
               memcmp(options->values[i], h->defaults[v6].values[i], WEIR_SOCKET_OPTION_SIZE) != 0;
}

/* Whether row @i is asked of every socket. */
static bool is_asked(const struct weir_handoff *h, size_t i)
{
        switch (weir_socket_options[i].kind) {
        case WEIR_OPTION_ALWAYS:
                return true;
        case WEIR_OPTION_WITH_KEEPALIVE:
                return false;
        case WEIR_OPTION_RARE:
        case WEIR_OPTION_RELAY:
                break;
        }
        return h->options_seen & UINT64_C(1) << i;
}

int weir_options_read(struct weir_handoff *h, int fd, bool v6, struct weir_socket_options *ret)
{
        uint64_t wanted = 0;

        for (size_t i = 0; i < weir_socket_options_n; i++)
                if (is_asked(h, i))
                        wanted |= UINT64_C(1) << i;
        read_rows(fd, v6, wanted, ret);
        for (size_t i = 0; i < weir_socket_options_n; i++) {
                if (weir_socket_options[i].kind == WEIR_OPTION_RELAY && differs(h, v6, ret, i))
                        return -ENOTSUP;
                if (weir_socket_options[i].kind == WEIR_OPTION_WITH_KEEPALIVE && differs(h, v6, ret, ROW_KEEPALIVE))
                        read_row(fd, i, ret);
        }
        return 0;
}

/* What the kernel refuses here it would have refused the workload out here too: the connection is made without. */
void weir_options_apply(const struct weir_handoff *h, int fd, bool v6, const struct weir_socket_options *options)
{
        for (size_t i = 0; i < weir_socket_options_n; i++) {
                const struct weir_socket_option *option = &weir_socket_options[i];
                char value[WEIR_SOCKET_OPTION_SIZE];
                int size;

                if (!differs(h, v6, options, i))
                        continue;
                memcpy(value, options->values[i], sizeof(value));
                if (i == ROW_SNDBUF || i == ROW_RCVBUF) {
                        /* The kernel doubles what is set and tells the double. */
                        memcpy(&size, value, sizeof(size));
                        size /= 2;
                        memcpy(value, &size, sizeof(size));
                }
                (void)setsockopt(fd, option->level, option->name, value, option->size);
        }
}

uint64_t weir_options_send_timeout_ns(const struct weir_socket_options *options)
{
        struct timeval timeout;

        memcpy(&timeout, options->values[ROW_SNDTIMEO], sizeof(timeout));
        return (uint64_t)timeout.tv_sec * UINT64_C(1000000000) + (uint64_t)timeout.tv_usec * 1000;
}
