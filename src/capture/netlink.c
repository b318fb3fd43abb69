/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

#include "base/err.h"

/* The first interface of every network namespace. */
#define LO_INDEX 1

/*
 * What getsockname() shows inside. 100.64.0.0/10 (RFC 6598) is nobody's destination on the internet; the IPv6 one is a
 * unique local address (RFC 4193), so that address selection (RFC 6724) prefers IPv4 where a name has both.
 */
static const uint8_t source_v4[4] = { 100, 64, 0, 1 };
static const uint8_t source_v6[16] = { 0xfd, 0x77, 0x65, 0x69, 0x00, 0x72, [15] = 1 };

static struct mnl_socket *open_socket(void)
{
        struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);

        if (socket && mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
                (void)mnl_socket_close(socket);
                return NULL;
        }
        return socket;
}

int weir_netlink_ask(struct mnl_socket *socket, struct nlmsghdr *request)
{
        static unsigned sequence;
        char answer[4096];
        ssize_t n;

        request->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
        request->nlmsg_seq = ++sequence;
        if (mnl_socket_sendto(socket, request, request->nlmsg_len) < 0)
                return -errno;
        n = mnl_socket_recvfrom(socket, answer, sizeof(answer));
        if (n < 0)
                return -errno;
        return mnl_cb_run(answer, (size_t)n, request->nlmsg_seq, mnl_socket_get_portid(socket), NULL, NULL) < 0 ?
                       -errno :
                       0;
}

static int bring_up(struct mnl_socket *socket)
{
        char buf[256];
        struct nlmsghdr *request = mnl_nlmsg_put_header(buf);
        struct ifinfomsg *link;

        request->nlmsg_type = RTM_NEWLINK;
        link = mnl_nlmsg_put_extra_header(request, sizeof(*link));
        link->ifi_family = AF_UNSPEC;
        link->ifi_index = LO_INDEX;
        link->ifi_flags = link->ifi_change = IFF_UP;
        return weir_netlink_ask(socket, request);
}

/* Begins in @buf the request for something that is not there yet. */
static struct nlmsghdr *put_new(char *buf, uint16_t type)
{
        struct nlmsghdr *request = mnl_nlmsg_put_header(buf);

        request->nlmsg_type = type;
        request->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
        return request;
}

static int add_address(struct mnl_socket *socket, int family, const void *address, size_t n)
{
        char buf[256];
        struct nlmsghdr *request = put_new(buf, RTM_NEWADDR);
        struct ifaddrmsg *message;

        message = mnl_nlmsg_put_extra_header(request, sizeof(*message));
        message->ifa_family = (uint8_t)family;
        message->ifa_prefixlen = (uint8_t)(n * 8);
        message->ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0;
        message->ifa_scope = RT_SCOPE_UNIVERSE;
        message->ifa_index = LO_INDEX;
        mnl_attr_put(request, IFA_LOCAL, n, address);
        mnl_attr_put(request, IFA_ADDRESS, n, address);
        return weir_netlink_ask(socket, request);
}

/* "local default dev lo src @source": whatever the destination, the packet comes back in here. */
static int add_route(struct mnl_socket *socket, int family, const void *source, size_t n)
{
        char buf[256];
        struct nlmsghdr *request = put_new(buf, RTM_NEWROUTE);
        struct rtmsg *route;

        route = mnl_nlmsg_put_extra_header(request, sizeof(*route));
        route->rtm_family = (uint8_t)family;
        route->rtm_table = RT_TABLE_LOCAL;
        route->rtm_protocol = RTPROT_STATIC;
        route->rtm_scope = RT_SCOPE_HOST;
        route->rtm_type = RTN_LOCAL;
        mnl_attr_put_u32(request, RTA_OIF, LO_INDEX);
        mnl_attr_put(request, RTA_PREFSRC, n, source);
        return weir_netlink_ask(socket, request);
}

static int setup(struct mnl_socket *socket, bool ipv6, struct weir_err *err)
{
        int r;

        r = bring_up(socket);
        if (r < 0)
                return weir_err_set(err, r, "cannot bring up the sandbox's loopback interface: %s", strerror(-r));
        r = add_address(socket, AF_INET, source_v4, sizeof(source_v4));
        if (r == 0)
                r = add_route(socket, AF_INET, source_v4, sizeof(source_v4));
        if (r < 0)
                return weir_err_set(err, r, "cannot route IPv4 in the sandbox: %s", strerror(-r));
        if (!ipv6)
                return 0;
        r = add_address(socket, AF_INET6, source_v6, sizeof(source_v6));
        if (r == 0)
                r = add_route(socket, AF_INET6, source_v6, sizeof(source_v6));
        if (r < 0)
                return weir_err_set(err, r, "cannot route IPv6 in the sandbox: %s", strerror(-r));
        return 0;
}

/*
 * The loopback loses and delays nothing. Where the machine prefers bbr, which paces and probes, the way from the
 * workload to the relay would be several times slower than the way out. Every user may choose reno; without it, it is
 * only slower.
 */
static void calm_congestion(void)
{
        static const char algorithm[] = "reno";
        weir_auto_close int fd = open("/proc/sys/net/ipv4/tcp_congestion_control", O_WRONLY | O_CLOEXEC);

        if (fd >= 0)
                (void)!write(fd, algorithm, strlen(algorithm));
}

int weir_netlink_setup(bool ipv6, struct weir_err *err)
{
        struct mnl_socket *socket = open_socket();
        int r;

        calm_congestion();
        if (!socket)
                return weir_err_set(err, -errno, "cannot open a netlink socket: %s", strerror(errno));
        r = setup(socket, ipv6, err);
        (void)mnl_socket_close(socket);
        return r;
}
