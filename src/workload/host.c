/* SPDX-License-Identifier: Apache-2.0 */
/* What the host is: its addresses, which a broad rule never opens, and its resolvers. */
#include "workload/host.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/fd.h"
#include "dns/resolver.h"
#include "workload/workload.h"

#define RESOLV_CONF "/etc/resolv.conf"
#define RESOLV_CONF_BYTES_MAX 65536

static size_t count(const struct ifaddrs *list)
{
        size_t n = 0;

        for (; list; list = list->ifa_next)
                n++;
        return n;
}

/* A range of its own among the built-in ones. Other addresses of the loopback interface are the host's like any. */
static bool is_loopback(const struct weir_addr *addr)
{
        static const struct weir_addr six = { .bytes = { [15] = 1 } };

        return (weir_addr_is_v4(addr) && addr->bytes[12] == 127) || weir_addr_equal(addr, &six);
}

int weir_host_addresses(struct weir_addr **ret, size_t *ret_n)
{
        struct ifaddrs *list;
        struct weir_addr *addrs;
        size_t n = 0;

        if (getifaddrs(&list) < 0)
                return -errno;
        addrs = calloc(count(list) + 1, sizeof(*addrs));
        for (const struct ifaddrs *i = list; addrs && i; i = i->ifa_next) {
                uint16_t port;

                if (!i->ifa_addr)
                        continue;
                if (weir_addr_from_sockaddr(i->ifa_addr,
                                            i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) :
                                                                                sizeof(struct sockaddr_in6),
                                            &addrs[n], &port) == 0 &&
                    !is_loopback(&addrs[n]))
                        n++;
        }
        freeifaddrs(list);
        if (!addrs)
                return -ENOMEM;
        *ret = addrs;
        *ret_n = n;
        return 0;
}

int weir_host_watch(void)
{
        struct sockaddr_nl sa = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR };
        weir_auto_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

        if (fd < 0 || bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* What they say does not matter, nor that some were lost (ENOBUFS). */
void weir_host_watch_drain(int fd)
{
        char bytes[8192];

        while (recv(fd, bytes, sizeof(bytes), 0) >= 0 || errno == EINTR || errno == ENOBUFS)
                ;
}

size_t weir_host_resolvers(const char *path, struct weir_addr *ret, size_t n)
{
        weir_auto_free char *text = NULL;
        size_t length;

        if (weir_file_slurp(AT_FDCWD, path ? path : RESOLV_CONF, RESOLV_CONF_BYTES_MAX, &text, &length) < 0)
                return 0;
        n = weir_resolver_read_conf(text, length, ret, n);
        if (n > 0)
                return n;
        ret[0] = (struct weir_addr){ .bytes = { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1 } };
        return 1;
}
