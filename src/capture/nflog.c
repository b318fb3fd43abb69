/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/nflog.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/fd.h"
#include "capture/capture.h"

#define SNAPLEN 128
#define RECEIVE_BYTES (256 * 1024)

static struct nlmsghdr *config_header(char *buf, uint16_t group)
{
        struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
        struct nfgenmsg *g;

        h->nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG;
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
        g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
        g->nfgen_family = AF_UNSPEC;
        g->version = NFNETLINK_V0;
        g->res_id = htons(group);
        return h;
}

static int ask(int fd, struct nlmsghdr *h)
{
        char buf[512];
        ssize_t n;

        if (send(fd, h, h->nlmsg_len, 0) < 0)
                return -errno;
        n = recv(fd, buf, sizeof(buf), 0);
        if (n < 0)
                return -errno;
        return mnl_cb_run(buf, (size_t)n, 0, 0, NULL, NULL) < 0 ? -errno : 0;
}

static int configure(int fd, uint16_t group)
{
        struct nfulnl_msg_config_cmd bind_group = { .command = NFULNL_CFG_CMD_BIND };
        struct nfulnl_msg_config_mode mode = { .copy_mode = NFULNL_COPY_PACKET, .copy_range = htonl(SNAPLEN) };
        char buf[512];
        struct nlmsghdr *h = config_header(buf, group);
        int r;

        mnl_attr_put(h, NFULA_CFG_CMD, sizeof(bind_group), &bind_group);
        r = ask(fd, h);
        if (r < 0)
                return r;
        h = config_header(buf, group);
        mnl_attr_put(h, NFULA_CFG_MODE, sizeof(mode), &mode);
        mnl_attr_put_u32(h, NFULA_CFG_QTHRESH, htonl(1));
        mnl_attr_put_u32(h, NFULA_CFG_TIMEOUT, htonl(1)); /* hundredths of a second */
        return ask(fd, h);
}

int weir_nflog_open(uint16_t group)
{
        weir_auto_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
        int bytes = RECEIVE_BYTES, r;

        if (fd < 0)
                return -errno;
        r = configure(fd, group);
        if (r < 0)
                return r;
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
        r = weir_fd_set_nonblock(fd, true);
        return r < 0 ? r : TAKE_FD(fd);
}

static void take_addresses(struct weir_cursor *c, bool v4, struct weir_rejected *ret)
{
        struct weir_addr *both[] = { &ret->source, &ret->destination };

        for (size_t i = 0; i < 2; i++) {
                const uint8_t *bytes = weir_cursor_take(c, v4 ? 4 : 16);

                *both[i] = (struct weir_addr){ 0 };
                if (!bytes)
                        return;
                if (v4)
                        both[i]->bytes[10] = both[i]->bytes[11] = 0xff;
                memcpy(both[i]->bytes + (v4 ? 12 : 0), bytes, v4 ? 4 : 16);
        }
}

static enum weir_ip_protocol protocol_of(uint8_t number)
{
        if (number == IPPROTO_TCP)
                return WEIR_IP_TCP;
        if (number == IPPROTO_UDP)
                return WEIR_IP_UDP;
        return number == IPPROTO_ICMP || number == IPPROTO_ICMPV6 ? WEIR_IP_ICMP : WEIR_IP_OTHER;
}

/* clang-format off */
/*
 * IPv4, RFC 791:   version 4 | header length 4 | 8 bytes | TTL 8 | protocol 8 | checksum 16 | source 32 | destination 32
 * IPv6, RFC 8200:  version 4 | 44 bits | next header 8 | hop limit 8 | source 128 | destination 128
 *
 * Options and extension headers are not followed: the packet is refused whatever they hide, and is named by its first
 * one.
 */
/* clang-format on */
static bool parse_packet(const void *bytes, size_t n, struct weir_rejected *ret)
{
        struct weir_cursor c = weir_cursor(bytes, n);
        uint8_t first = weir_cursor_u8(&c);
        bool v4 = first >> 4 == 4;

        *ret = (struct weir_rejected){ 0 };
        if (!v4 && first >> 4 != 6)
                return false;
        (void)weir_cursor_take(&c, v4 ? 8 : 5);
        ret->ip_protocol = weir_cursor_u8(&c);
        (void)weir_cursor_take(&c, v4 ? 2 : 1);
        take_addresses(&c, v4, ret);
        if (!weir_cursor_ok(&c))
                return false;
        ret->protocol = protocol_of(ret->ip_protocol);
        weir_cursor_seek(&c, v4 ? (size_t)(first & 0xf) * 4 : 40);
        if (ret->protocol != WEIR_IP_TCP && ret->protocol != WEIR_IP_UDP)
                return true;
        ret->source_port = weir_cursor_be16(&c);
        ret->port = weir_cursor_be16(&c);
        return true;
}

static int on_attribute(const struct nlattr *attribute, void *data)
{
        const struct nlattr **payload = data;

        if (mnl_attr_get_type(attribute) == NFULA_PAYLOAD)
                *payload = attribute;
        return MNL_CB_OK;
}

/* With a threshold of one packet a datagram holds one message. */
static bool parse_message(const char *buf, size_t n, struct weir_rejected *ret)
{
        const struct nlmsghdr *h = (const void *)buf;
        const struct nlattr *payload = NULL;

        if (!mnl_nlmsg_ok(h, (int)n) || h->nlmsg_type != (NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET))
                return false;
        if (mnl_attr_parse(h, sizeof(struct nfgenmsg), on_attribute, &payload) < 0 || !payload)
                return false;
        return parse_packet(mnl_attr_get_payload(payload), mnl_attr_get_payload_len(payload), ret);
}

int weir_nflog_next(int fd, struct weir_rejected *ret)
{
        char buf[4096] __attribute__((aligned(8)));

        for (;;) {
                struct sockaddr_nl from = { 0 };
                socklen_t length = sizeof(from);
                ssize_t n = recvfrom(fd, buf, sizeof(buf), MSG_DONTWAIT, (struct sockaddr *)&from, &length);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                /* The socket lives in the workload's network namespace; the kernel alone tells what was rejected. */
                if (from.nl_pid == 0 && parse_message(buf, (size_t)n, ret))
                        return 1;
        }
}
