/* SPDX-License-Identifier: Apache-2.0 */
/* Where a redirected connection wanted to go, and the other calls of the machine that tests answer themselves. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

#include <linux/netfilter_ipv4.h> /* after netinet/in.h, whose types it would define again */

#include "relay/internal.h"

/* The same number for both families, at SOL_IP and SOL_IPV6; <linux/netfilter_ipv6/ip6_tables.h> gives it the name
 * IP6T_SO_ORIGINAL_DST. An IPv4 connection on an IPv6 listener has its entry in the IPv4 table. */
int weir_original_dst(int fd, bool v4, struct weir_addr *ret_addr, uint16_t *ret_port)
{
        struct sockaddr_storage sa = { .ss_family = AF_UNSPEC };
        socklen_t length = v4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);

        if (getsockopt(fd, v4 ? SOL_IP : SOL_IPV6, SO_ORIGINAL_DST, &sa, &length) < 0)
                return -errno;
        return weir_addr_from_sockaddr((const struct sockaddr *)&sa, length, ret_addr, ret_port);
}

int weir_local_address(int fd, struct weir_addr *ret_addr, uint16_t *ret_port)
{
        struct sockaddr_storage sa;
        socklen_t length = sizeof(sa);

        if (getsockname(fd, (struct sockaddr *)&sa, &length) < 0)
                return -errno;
        return weir_addr_from_sockaddr((const struct sockaddr *)&sa, length, ret_addr, ret_port);
}

bool weir_is_transparent(int fd)
{
        int domain = 0, on = 0;
        socklen_t length = sizeof(domain);

        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0)
                return false;
        length = sizeof(on);
        if (domain == AF_INET6)
                return getsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &on, &length) == 0 && on;
        return getsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, &length) == 0 && on;
}

static int real_accept(int listener, struct sockaddr *sa, socklen_t *length)
{
        int fd = accept4(listener, sa, length, SOCK_NONBLOCK | SOCK_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

static int real_socket(int family)
{
        int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        return fd < 0 ? -errno : fd;
}

static int real_connect(int fd, const struct sockaddr *sa, socklen_t length)
{
        return connect(fd, sa, length) < 0 ? -errno : 0;
}

static int real_pipe(int fds[2])
{
        return pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0 ? -errno : 0;
}

static ssize_t real_splice(int from, int to, size_t n)
{
        ssize_t moved = splice(from, NULL, to, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

        return moved < 0 ? -errno : moved;
}

const struct weir_relay_sys weir_relay_sys_real = {
        .accept = real_accept,
        .original_dst = weir_original_dst,
        .socket = real_socket,
        .connect = real_connect,
        .pipe = real_pipe,
        .splice = real_splice,
};
