/* SPDX-License-Identifier: Apache-2.0 */
/* Clients on UDP: a reply leaves from the address its query came to. */
#include "dns/internal.h"

#include <errno.h>
#include <stdalign.h>
#include <string.h>

/*
 * The query was redirected to this socket, and the kernel turns the addresses of the reply back only if the reply's
 * source is the address the query arrived at. On a socket for both families a query over IPv4 brings a mapped
 * IPV6_PKTINFO or an IP_PKTINFO, depending on the options set; both are taken back by sendmsg().
 */
static void read_packet_info(struct msghdr *message, struct udp_peer *peer)
{
        for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
                if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
                        memcpy(&peer->v4, CMSG_DATA(c), sizeof(peer->v4));
                        peer->v4.ipi_ifindex = 0;
                        peer->has_v4 = true;
                } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
                        memcpy(&peer->v6, CMSG_DATA(c), sizeof(peer->v6));
                        if (!IN6_IS_ADDR_LINKLOCAL(&peer->v6.ipi6_addr))
                                peer->v6.ipi6_ifindex = 0;
                        peer->has_v6 = true;
                }
        }
}

static ssize_t receive(struct weir_resolver *resolver, struct udp_peer *ret_peer, bool *ret_whole)
{
        struct udp_peer peer = { .addr_length = sizeof(peer.addr) };
        alignas(struct cmsghdr) char control[256];
        struct iovec io = { .iov_base = resolver->datagram, .iov_len = CLIENT_MESSAGE_MAX };
        struct msghdr message = { .msg_name = &peer.addr,
                                  .msg_namelen = sizeof(peer.addr),
                                  .msg_iov = &io,
                                  .msg_iovlen = 1,
                                  .msg_control = control,
                                  .msg_controllen = sizeof(control) };
        ssize_t n = recvmsg(resolver->udp_fd, &message, MSG_DONTWAIT);

        if (n < 0)
                return -errno;
        peer.addr_length = message.msg_namelen;
        read_packet_info(&message, &peer);
        *ret_whole = !(message.msg_flags & MSG_TRUNC);
        *ret_peer = peer;
        return n;
}

void udp_io(void *context, uint64_t id, uint32_t events)
{
        struct weir_resolver *resolver = context;

        (void)id;
        (void)events;
        for (unsigned i = 0; i < BATCH; i++) {
                struct client client = { .tcp = false };
                bool whole = false;
                ssize_t n = receive(resolver, &client.udp, &whole);

                if (n == -EAGAIN || n == -EWOULDBLOCK)
                        return;
                /* Any other error belongs to an earlier reply (its client's port is closed) and is read away. */
                if (n < 0 || !whole)
                        continue;
                if (weir_addr_from_sockaddr((struct sockaddr *)&client.udp.addr, client.udp.addr_length, &client.from,
                                            &client.port) < 0)
                        continue;
                (void)resolver_take(resolver, &client, resolver->datagram, (size_t)n);
        }
}

static void add_control(struct msghdr *message, struct cmsghdr *at, int level, int type, const void *data, size_t n)
{
        at->cmsg_level = level;
        at->cmsg_type = type;
        at->cmsg_len = CMSG_LEN(n);
        memcpy(CMSG_DATA(at), data, n);
        message->msg_controllen = CMSG_SPACE(n);
}

void udp_send(struct weir_resolver *resolver, const struct udp_peer *peer, const uint8_t *bytes, size_t n)
{
        struct udp_peer to = *peer;
        alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct in6_pktinfo))] = { 0 };
        struct iovec io = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = n };
        struct msghdr message = {
                .msg_name = &to.addr, .msg_namelen = to.addr_length, .msg_iov = &io, .msg_iovlen = 1
        };

        message.msg_control = control;
        /* One of them only: with both the kernel would take the later one. */
        if (peer->has_v6)
                add_control(&message, (struct cmsghdr *)(void *)control, IPPROTO_IPV6, IPV6_PKTINFO, &peer->v6,
                            sizeof(peer->v6));
        else if (peer->has_v4)
                add_control(&message, (struct cmsghdr *)(void *)control, IPPROTO_IP, IP_PKTINFO, &peer->v4,
                            sizeof(peer->v4));
        if (!message.msg_controllen)
                message.msg_control = NULL;
        /* A reply that cannot be sent is a reply lost on the way: the client asks again. */
        if (sendmsg(resolver->udp_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                return;
}
