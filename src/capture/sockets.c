/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/sockets.h"

#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "capture/nflog.h"

#define BACKLOG 4096

bool weir_have_ipv6(void)
{
        weir_auto_close int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        return fd >= 0;
}

static int set(int fd, int level, int name)
{
        return setsockopt(fd, level, name, &(int){ 1 }, sizeof(int));
}

static int bound_port(int fd, uint16_t *ret_port)
{
        struct sockaddr_in6 sa = { 0 };
        socklen_t length = sizeof(sa);

        if (getsockname(fd, (struct sockaddr *)&sa, &length) < 0)
                return -errno;
        *ret_port = ntohs(sa.sin6_port); /* at the same offset in sockaddr_in */
        return 0;
}

/* The loopback address of one family. Return: its length */
static socklen_t loopback(int family, uint16_t port, struct sockaddr_storage *ret)
{
        const struct sockaddr_in in = { .sin_family = AF_INET,
                                        .sin_port = htons(port),
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        const struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
                                          .sin6_port = htons(port),
                                          .sin6_addr = IN6ADDR_LOOPBACK_INIT };
        bool v4 = family == AF_INET;

        memcpy(ret, v4 ? (const void *)&in : (const void *)&in6, v4 ? sizeof(in) : sizeof(in6));
        return v4 ? sizeof(in) : sizeof(in6);
}

/* On the loopback address of one family. @port: 0 to be given one. */
static int open_listener(int family, uint16_t port)
{
        struct sockaddr_storage sa;
        socklen_t length = loopback(family, port, &sa);
        weir_auto_close int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        /* On a port that was named, what is left of an earlier proxy's connections must not stand in the way. */
        if (fd < 0 || (port && set(fd, SOL_SOCKET, SO_REUSEADDR) < 0) ||
            (family == AF_INET6 && set(fd, IPPROTO_IPV6, IPV6_V6ONLY) < 0) ||
            bind(fd, (const struct sockaddr *)&sa, length) < 0 || listen(fd, BACKLOG) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* For the resolver: every address, both families in one socket, and each datagram tells where it was sent to. */
static int open_dns(bool ipv6, int type, uint16_t port)
{
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        weir_auto_close int fd = socket(ipv6 ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0 || (port && type == SOCK_STREAM && set(fd, SOL_SOCKET, SO_REUSEADDR) < 0))
                return -errno;
        if (ipv6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 0 }, sizeof(int)) < 0)
                return -errno;
        if (type == SOCK_DGRAM &&
            (set(fd, IPPROTO_IP, IP_PKTINFO) < 0 || (ipv6 && set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO) < 0)))
                return -errno;
        if (bind(fd, ipv6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in, ipv6 ? sizeof(in6) : sizeof(in)) < 0)
                return -errno;
        if (type == SOCK_STREAM && listen(fd, BACKLOG) < 0)
                return -errno;
        return TAKE_FD(fd);
}

static int open_diag(void)
{
        int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

        return fd < 0 ? -errno : fd;
}

static int open_all(bool ipv6, int fds[static WEIR_BOX_FD_COUNT], struct weir_nft_ports *ports)
{
        int r = 0;

        fds[WEIR_BOX_FD_DNS_UDP] = open_dns(ipv6, SOCK_DGRAM, ports->dns_udp);
        fds[WEIR_BOX_FD_DNS_TCP] = open_dns(ipv6, SOCK_STREAM, ports->dns_tcp);
        fds[WEIR_BOX_FD_NFLOG] = weir_nflog_open(WEIR_NFLOG_GROUP);
        fds[WEIR_BOX_FD_DIAG] = open_diag();
        fds[WEIR_BOX_FD_LISTENER_V4] = open_listener(AF_INET, ports->relay);
        for (size_t i = 0; i <= WEIR_BOX_FD_LISTENER_V4 && r == 0; i++)
                r = fds[i] < 0 ? fds[i] : 0;
        if (r == 0)
                r = bound_port(fds[WEIR_BOX_FD_LISTENER_V4], &ports->relay);
        if (r == 0 && ipv6) {
                fds[WEIR_BOX_FD_LISTENER_V6] = open_listener(AF_INET6, ports->relay);
                r = fds[WEIR_BOX_FD_LISTENER_V6] < 0 ? fds[WEIR_BOX_FD_LISTENER_V6] : 0;
        }
        return r;
}

int weir_sockets_open(bool ipv6, int ret_fds[static WEIR_BOX_FD_COUNT], size_t *ret_n, struct weir_nft_ports *ports,
                      struct weir_err *err)
{
        int r;

        for (size_t i = 0; i < WEIR_BOX_FD_COUNT; i++)
                ret_fds[i] = -1;
        ports->log_group = WEIR_NFLOG_GROUP;
        r = open_all(ipv6, ret_fds, ports);
        *ret_n = ipv6 ? WEIR_BOX_FD_COUNT : WEIR_BOX_FD_LISTENER_V6;
        if (r == 0)
                return 0;
        for (size_t i = 0; i < WEIR_BOX_FD_COUNT; i++)
                if (ret_fds[i] >= 0)
                        (void)close(TAKE_FD(ret_fds[i]));
        return weir_err_set(err, WEIR_EUNSUPPORTED,
                            "cannot open Weir's sockets in the workload's network (the kernel needs nfnetlink_log and "
                            "inet_diag): %s",
                            strerror(-r));
}

int weir_sockets_transparent(const int fds[static WEIR_BOX_FD_COUNT], struct weir_err *err)
{
        int v4 = fds[WEIR_BOX_FD_LISTENER_V4], v6 = fds[WEIR_BOX_FD_LISTENER_V6];

        if (set(v4, IPPROTO_IP, IP_TRANSPARENT) < 0 || (v6 >= 0 && set(v6, IPPROTO_IPV6, IPV6_TRANSPARENT) < 0))
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot make the relay's listeners transparent: %s",
                                    strerror(errno));
        return 0;
}

static int connect_to(int family, uint16_t port)
{
        struct sockaddr_storage sa;
        socklen_t length = loopback(family, port, &sa);
        weir_auto_close int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0 || (connect(fd, (const struct sockaddr *)&sa, length) < 0 && errno != EINPROGRESS))
                return -errno;
        return TAKE_FD(fd);
}

int weir_sockets_connect(uint16_t port)
{
        int fd = connect_to(AF_INET, port);

        /* Over loopback a refusal comes at once, so this tells which family the server listens on. */
        return fd == -ECONNREFUSED ? connect_to(AF_INET6, port) : fd;
}
