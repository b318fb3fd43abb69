/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The pod's namespace has a way out, so these rules are the boundary. What passes is named; the rest is logged to NFLOG
 * and rejected. Chains of table "inet weir":
 *
 *   bring (nat, output)       what is the proxy's            -> untouched
 *                             port 53, UDP and TCP           -> the resolver
 *                             the pod's own addresses        -> untouched
 *                             exclusions (chain bypass)      -> untouched
 *                             every other TCP connection     -> the relay
 *   leave (filter, output)    the proxy's connections (known by their conntrack mark, which only nft can set), the
 *                             pod's own addresses, answers to connections that came in, what is excluded, the kernel's
 *                             own neighbour discovery and errors -> accept; all else -> log, reject
 *   last (filter, postrouting) nothing for an address of the pod's own may leave it, whatever device a socket is bound
 *                             to; what is left has passed, and gets the egress mark
 *   arrive (filter, input)    the relay's and resolver's ports serve this pod alone; the admin port serves those named
 *   forward                   drop: a pod is no router
 *   proxy                     empty until `weir proxy` puts its own door here: closed if it never comes
 *
 * Table "netdev weir" drops at each device what does not carry the egress mark. Frames of packet sockets pass no other
 * hook; they cannot carry it, for nobody in the pod knows it.
 *
 * Answers are accepted by direction, not as "established": a connection of the workload's own that was open before the
 * rules does not go on.
 */
#include <stdio.h>

#include "base/buf.h"
#include "capture/nflog.h"
#include "capture/redirect.h"

/* Conntrack mark of what the proxy began. */
#define PROXY_CT "0x77656972"

static void put_ports(struct weir_buf *buf, const struct weir_redirect_ports *ports, const char *verdict)
{
        if (ports->n == 0)
                return;
        weir_buf_puts(buf, "    tcp dport { ");
        for (size_t i = 0; i < ports->n; i++)
                weir_buf_printf(buf, "%s%u", i ? ", " : "", ports->items[i]);
        weir_buf_printf(buf, " } %s\n", verdict);
}

/* One rule a prefix: intervals of a set may not overlap, and lists that people write do. */
static void put_ranges(struct weir_buf *buf, const struct weir_redirect_ranges *ranges, const char *key,
                       const char *verdict)
{
        char text[WEIR_PREFIX_STRLEN];

        for (size_t i = 0; i < ranges->n; i++)
                weir_buf_printf(buf, "    %s %s %s %s\n", weir_addr_is_v4(&ranges->items[i].addr) ? "ip" : "ip6", key,
                                weir_prefix_format(&ranges->items[i], text), verdict);
}

/* "accept" is TCP that nobody judges; "return" goes on to be captured. */
static void put_bypass(struct weir_buf *buf, const struct weir_redirect_layout *layout)
{
        weir_buf_puts(buf, "  chain bypass {\n    meta l4proto != tcp return\n");
        put_ports(buf, &layout->exclude_ports, "accept");
        put_ports(buf, &layout->include_ports, "return");
        put_ranges(buf, &layout->exclude, "daddr", "accept");
        put_ranges(buf, &layout->include, "daddr", "return");
        weir_buf_printf(buf, "    %s\n  }\n", layout->include_all ? "return" : "accept");
}

static void put_redirect(struct weir_buf *buf, const struct weir_redirect_layout *layout)
{
        weir_buf_puts(buf, "  chain bring {\n    type nat hook output priority -100; policy accept;\n");
        weir_buf_puts(buf, "    jump proxy\n");
        weir_buf_printf(buf, "    udp dport 53 redirect to :%u\n", layout->dns_port);
        weir_buf_printf(buf, "    tcp dport 53 redirect to :%u\n", layout->dns_port);
        weir_buf_puts(buf, "    fib daddr type local accept\n    jump bypass\n");
        weir_buf_printf(buf, "    meta l4proto tcp redirect to :%u\n  }\n", layout->relay_port);
}

/* By number: an image from scratch has no /etc/protocols in which nft would find the names. */
#define ICMP "{ 1, 58 }"
/* Packets of the kernel's own have no user: skuid matches those of sockets alone. */
#define OF_A_SOCKET "meta skuid 0-4294967295"

/* A connection to the relay has the pod's own address here. So TCP that is left is excluded, or was not redirected. */
static void put_leave(struct weir_buf *buf)
{
        weir_buf_puts(buf, "  chain leave {\n    type filter hook output priority 0; policy drop;\n");
        weir_buf_puts(buf, "    ct mark " PROXY_CT " accept\n    jump proxy\n");
        weir_buf_puts(buf, "    ip daddr " WEIR_REDIRECT_TRIAL " drop\n");
        weir_buf_puts(buf, "    fib daddr type local accept\n");
        weir_buf_puts(buf, "    meta l4proto { tcp, udp } ct direction reply ct state established,related accept\n");
        weir_buf_puts(buf, "    meta l4proto " ICMP " " OF_A_SOCKET " goto refuse\n");
        weir_buf_puts(buf, "    meta l4proto " ICMP " ct direction reply accept\n");
        weir_buf_puts(buf, "    icmp type { destination-unreachable, time-exceeded } accept\n");
        weir_buf_puts(buf, "    icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, "
                           "nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-report, "
                           "mld2-listener-report } accept\n");
        weir_buf_puts(buf, "    jump bypass\n    meta l4proto tcp ct state invalid drop\n    goto refuse\n  }\n");
        weir_buf_puts(buf, "  chain refuse {\n");
        weir_buf_printf(buf, "    log group %u snaplen 128 queue-threshold 1\n", WEIR_NFLOG_GROUP);
        weir_buf_puts(buf, "    meta l4proto tcp reject with tcp reset\n");
        weir_buf_puts(buf, "    reject with icmpx admin-prohibited\n  }\n");
}

static void put_last(struct weir_buf *buf, const struct weir_redirect_layout *layout)
{
        weir_buf_puts(buf, "  chain last {\n    type filter hook postrouting priority 300; policy accept;\n");
        weir_buf_puts(buf, "    oif \"lo\" accept\n    fib daddr type local drop\n    ip daddr 127.0.0.0/8 drop\n");
        weir_buf_printf(buf, "    meta mark set 0x%08x\n  }\n", layout->egress_mark);
        weir_buf_puts(buf, "  chain forward {\n    type filter hook forward priority 0; policy drop;\n  }\n");
}

static void put_arrive(struct weir_buf *buf, const struct weir_redirect_layout *layout)
{
        char port[48];

        weir_buf_puts(buf, "  chain arrive {\n    type filter hook input priority 0; policy accept;\n");
        weir_buf_printf(buf, "    iif != \"lo\" tcp dport { %u, %u } drop\n", layout->relay_port, layout->dns_port);
        weir_buf_printf(buf, "    iif != \"lo\" udp dport %u drop\n", layout->dns_port);
        (void)snprintf(port, sizeof(port), "tcp dport %u accept", layout->admin_port);
        put_ranges(buf, &layout->admit, "saddr", port);
        weir_buf_printf(buf, "    tcp dport %u reject with tcp reset\n  }\n", layout->admin_port);
}

char *weir_redirect_ruleset(const struct weir_redirect_layout *layout)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        weir_buf_puts(&buf, "table inet weir\ndelete table inet weir\ntable inet weir {\n  chain proxy {\n  }\n");
        put_bypass(&buf, layout);
        put_redirect(&buf, layout);
        put_leave(&buf);
        put_last(&buf, layout);
        put_arrive(&buf, layout);
        weir_buf_puts(&buf, "}\n");
        return weir_buf_take(&buf);
}

char *weir_redirect_egress_ruleset(const struct weir_redirect_layout *layout)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        weir_buf_puts(&buf, "table netdev weir\ndelete table netdev weir\ntable netdev weir {\n");
        for (size_t i = 0; layout->devices[i]; i++) {
                weir_buf_printf(&buf,
                                "  chain device%zu {\n    type filter hook egress device \"%s\" priority 0; policy "
                                "drop;\n",
                                i, layout->devices[i]);
                weir_buf_printf(&buf, "    ether type arp accept\n    meta mark 0x%08x accept\n  }\n",
                                layout->egress_mark);
        }
        weir_buf_puts(&buf, "}\n");
        return weir_buf_take(&buf);
}

char *weir_redirect_door(uint32_t uid, uint32_t mark)
{
        static const char *const traffic[] = { "meta l4proto tcp", "udp dport 53",
                                               "ip daddr " WEIR_REDIRECT_TRIAL " udp dport 9" };
        weir_auto(buf) struct weir_buf buf = { 0 };

        weir_buf_puts(&buf, "flush chain inet weir proxy\n");
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(traffic); i++) {
                weir_buf_puts(&buf, "add rule inet weir proxy ");
                if (mark)
                        weir_buf_printf(&buf, "meta skuid %u meta mark 0x%08x", uid, mark);
                else
                        weir_buf_puts(&buf, "socket cgroupv2 level 0 \".\"");
                weir_buf_printf(&buf, " %s ct mark set " PROXY_CT " accept\n", traffic[i]);
        }
        return weir_buf_take(&buf);
}
