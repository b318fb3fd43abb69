/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gates send the workload's queries and relayed connections here, and mark each packet that they send. A filter on
 * the sockets takes nothing else: no other process of the host can ask through the workload's resolver, and none can be
 * taken for the workload. Of a connection only the SYN must bear the mark; what follows belongs to one that did, and
 * some of it (an acknowledgement after the socket is gone) is made by the kernel, past the gates.
 */
#include "capture/cgroup_doors.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "capture/sockets.h"

#define BACKLOG 4096
#define TCP_FLAGS_AT 13
#define TCP_SYN 0x02

static int only_marked(int fd, uint32_t mark, bool tcp)
{
        struct sock_filter code[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_MARK)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, mark, 2, 0),
                BPF_STMT(BPF_LD | BPF_B | BPF_ABS, TCP_FLAGS_AT),
                BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, tcp ? TCP_SYN : 0xffffffff, 1, 0),
                BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
                BPF_STMT(BPF_RET | BPF_K, 0),
        };
        struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

        if (!tcp)
                code[2] = code[3] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
        return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno : 0;
}

static int set(int fd, int level, int name)
{
        return setsockopt(fd, level, name, &(int){ 1 }, sizeof(int));
}

static int bound_port(int fd, uint16_t *ret_port)
{
        struct sockaddr_in6 sa;
        socklen_t length = sizeof(sa);

        if (getsockname(fd, (struct sockaddr *)&sa, &length) < 0)
                return -errno;
        *ret_port = ntohs(sa.sin6_port); /* at the same offset in sockaddr_in */
        return 0;
}

static int bind_to(int fd, bool v4, bool any, uint16_t port)
{
        struct sockaddr_in in = { .sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = any ? 0 : htonl(INADDR_LOOPBACK) };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

        if (!any)
                in6.sin6_addr = in6addr_loopback;
        return bind(fd, v4 ? (struct sockaddr *)&in : (struct sockaddr *)&in6, v4 ? sizeof(in) : sizeof(in6)) < 0 ?
                       -errno :
                       0;
}

/* Every address, both families in one socket, but on the loopback device alone: a query may come from any address of
 * the host that the workload's socket is bound to. */
static int open_dns(bool ipv6, int type, uint32_t mark)
{
        weir_auto_close int fd = socket(ipv6 ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int r;

        if (fd < 0)
                return -errno;
        if ((ipv6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 0 }, sizeof(int)) < 0) ||
            setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) < 0)
                return -errno;
        if (type == SOCK_DGRAM &&
            (set(fd, IPPROTO_IP, IP_PKTINFO) < 0 || (ipv6 && set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO) < 0)))
                return -errno;
        r = only_marked(fd, mark, type == SOCK_STREAM);
        if (r == 0)
                r = bind_to(fd, !ipv6, true, 0);
        if (r == 0 && type == SOCK_STREAM && listen(fd, BACKLOG) < 0)
                r = -errno;
        return r < 0 ? r : TAKE_FD(fd);
}

static int open_relay(bool v4, uint16_t port, uint32_t mark)
{
        weir_auto_close int fd = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int r;

        if (fd < 0 || (!v4 && set(fd, IPPROTO_IPV6, IPV6_V6ONLY) < 0))
                return -errno;
        r = only_marked(fd, mark, true);
        if (r == 0)
                r = bind_to(fd, v4, false, port);
        if (r == 0 && listen(fd, BACKLOG) < 0)
                r = -errno;
        return r < 0 ? r : TAKE_FD(fd);
}

/* One port for both families. The second may be another's, so a few are tried. */
static int open_relays(bool ipv6, struct weir_doors *doors)
{
        int r = 0;

        for (int i = 0; i < 16; i++) {
                doors->relay[0] = open_relay(true, 0, doors->mark);
                r = doors->relay[0] < 0 ? doors->relay[0] : bound_port(doors->relay[0], &doors->relay_port);
                if (r < 0 || !ipv6)
                        return r;
                doors->relay[1] = open_relay(false, doors->relay_port, doors->mark);
                if (doors->relay[1] >= 0)
                        return 0;
                r = doors->relay[1];
                weir_close_cleanup(&doors->relay[0]);
                doors->relay[0] = -1;
        }
        return r;
}

int weir_doors_open(struct weir_doors *ret, struct weir_err *err)
{
        struct weir_doors doors = { .dns_udp = -1, .dns_tcp = -1, .relay = { -1, -1 } };
        bool ipv6 = weir_have_ipv6();
        int r = 0;

        while (r == 0 && doors.mark == 0)
                r = getrandom(&doors.mark, sizeof(doors.mark), 0) == (ssize_t)sizeof(doors.mark) ? 0 : -errno;
        if (r == 0) {
                doors.dns_udp = open_dns(ipv6, SOCK_DGRAM, doors.mark);
                r = doors.dns_udp < 0 ? doors.dns_udp : bound_port(doors.dns_udp, &doors.dns_udp_port);
        }
        if (r == 0) {
                doors.dns_tcp = open_dns(ipv6, SOCK_STREAM, doors.mark);
                r = doors.dns_tcp < 0 ? doors.dns_tcp : bound_port(doors.dns_tcp, &doors.dns_tcp_port);
        }
        if (r == 0)
                r = open_relays(ipv6, &doors);
        if (r < 0) {
                weir_doors_close(&doors);
                return weir_err_set(err, r, "cannot open Weir's sockets on the loopback: %s (is lo up?)", strerror(-r));
        }
        *ret = doors;
        return 0;
}

void weir_doors_close(struct weir_doors *doors)
{
        int *all[] = { &doors->dns_udp, &doors->dns_tcp, &doors->relay[0], &doors->relay[1] };

        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
                weir_close_cleanup(all[i]);
                *all[i] = -1;
        }
}
