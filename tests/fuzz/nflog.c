/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel tells of a packet that was rejected: the message around it, and the workload's own bytes in it. The
 * first byte says whether the rest is a message or only the packet.
 */
#include "fuzz.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_log.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "capture/capture.h"
#include "capture/nflog.h"

#define PACKET_MAX 256
#define MESSAGE_MAX 2048

static size_t wrap(const uint8_t *packet, size_t n, uint8_t *out)
{
        struct nlmsghdr header = { .nlmsg_type = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET };
        struct nfgenmsg general = { .nfgen_family = AF_UNSPEC };
        struct nlattr attribute = { .nla_type = NFULA_PAYLOAD };
        size_t at = 0;

        attribute.nla_len = (uint16_t)(sizeof(attribute) + n);
        header.nlmsg_len = (uint32_t)(sizeof(header) + sizeof(general) + NLMSG_ALIGN(attribute.nla_len));
        memset(out, 0, header.nlmsg_len);
        memcpy(out, &header, sizeof(header));
        at += sizeof(header);
        memcpy(out + at, &general, sizeof(general));
        at += sizeof(general);
        memcpy(out + at, &attribute, sizeof(attribute));
        if (n > 0)
                memcpy(out + at + sizeof(attribute), packet, n);
        return header.nlmsg_len;
}

static void check(const uint8_t *message, size_t n, bool is_packet)
{
        struct weir_rejected rejected = { 0 };
        int pair[2], r;

        CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        CHECK(send(pair[0], message, n, 0) == (ssize_t)n);
        r = weir_nflog_next(pair[1], &rejected);
        CHECK(r == 0 || r == 1);
        if (r == 1) {
                const uint8_t *packet =
                        message + sizeof(struct nlmsghdr) + sizeof(struct nfgenmsg) + sizeof(struct nlattr);
                bool v4 = is_packet && packet[0] >> 4 == 4;

                CHECK(rejected.protocol < WEIR_IP_COUNT);
                CHECK(rejected.protocol == WEIR_IP_TCP || rejected.protocol == WEIR_IP_UDP ||
                      (rejected.port == 0 && rejected.source_port == 0));
                if (v4)
                        CHECK(weir_addr_is_v4(&rejected.destination) && rejected.ip_protocol == packet[9] &&
                              memcmp(rejected.destination.bytes + 12, packet + 16, 4) == 0);
                else if (is_packet)
                        CHECK(memcmp(rejected.destination.bytes, packet + 24, 16) == 0);
        }
        (void)close(pair[0]);
        (void)close(pair[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        uint8_t message[MESSAGE_MAX];

        if (n < 2)
                return 0;
        if (bytes[0] % 2 == 0) {
                check(message, wrap(bytes + 1, n - 1 < PACKET_MAX ? n - 1 : PACKET_MAX, message), true);
        } else {
                /* An end of the messages would be an empty one. */
                n = n - 1 < MESSAGE_MAX ? n - 1 : MESSAGE_MAX;
                memcpy(message, bytes + 1, n);
                check(message, n, false);
        }
        return 0;
}
