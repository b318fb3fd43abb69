/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel tells of TCP sockets: their ends, and which there are.
 *
 * Theory of operation
 *
 * sock_diag(7) has a multicast group that reports every TCP socket of the network namespace when it is destroyed, with
 * its cookie and its tcp_info; an ordinary user may join. So no duplicate has to be kept to learn of a flow's end,
 * which would keep the peer from seeing one. What a socket counted is gone if it was closed with SO_LINGER 0 or
 * disconnected: then the figures are not known, which is not the same as none. Messages can be lost (ENOBUFS): a dump
 * then tells which flows are still there.
 *
 * Payload out is what was sent less what was sent again. Payload in counts the peer's FIN as a byte if it came, which
 * the message does not tell: it did, as a rule, if our own FIN was acknowledged (both sides closed), and it is then
 * taken off. A peer that acknowledges the FIN and sends its own later still is one byte too few.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "capture/handoff_internal.h"

#define RECEIVE_BUFFER (4 << 20)
/* Of a burst, so that one turn of the loop has an end. */
#define MESSAGES_MAX 4096
/* Each takes one of the sequence numbers that are acknowledged. */
#define SYN_AND_FIN 2
#define SOCKETS_MAX ((size_t)1 << 22)
/* The fields of tcp_info up to bytes_retrans (Linux 4.19). */
#define INFO_NEEDED (offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof(uint64_t))

/* By bind(2): membership alone does not bring the messages of this family. */
static int join(int fd, unsigned groups)
{
        const struct sockaddr_nl sa = { .nl_family = AF_NETLINK, .nl_groups = groups };

        return bind(fd, (const struct sockaddr *)&sa, sizeof(sa));
}

int weir_diag_open(void)
{
        weir_auto_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);
        const unsigned v4 = 1U << (SKNLGRP_INET_TCP_DESTROY - 1), v6 = 1U << (SKNLGRP_INET6_TCP_DESTROY - 1);
        const int size = RECEIVE_BUFFER;

        /* A kernel without IPv6 has no such group, and no such flows. */
        if (fd < 0 || (join(fd, v4 | v6) < 0 && join(fd, v4) < 0))
                return -errno;
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
        return TAKE_FD(fd);
}

void weir_diag_figures(const struct tcp_info *info, struct weir_flow_figures *ret)
{
        ret->sent = info->tcpi_bytes_sent - info->tcpi_bytes_retrans;
        ret->received = info->tcpi_bytes_received;
}

struct message {
        uint64_t cookie;
        uint32_t inode;
        bool has_info;
        struct tcp_info info;
};

static int parse(const struct nlmsghdr *h, struct message *ret)
{
        const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
        const struct nlattr *attr;

        if (mnl_nlmsg_get_payload_len(h) < sizeof(*m))
                return -EBADMSG;
        *ret = (struct message){
                .cookie = (uint64_t)m->id.idiag_cookie[1] << 32 | m->id.idiag_cookie[0],
                .inode = m->idiag_inode,
        };
        mnl_attr_for_each(attr, h, sizeof(*m))
        {
                uint16_t n = mnl_attr_get_payload_len(attr);

                if (mnl_attr_get_type(attr) != INET_DIAG_INFO || n < INFO_NEEDED)
                        continue;
                memcpy(&ret->info, mnl_attr_get_payload(attr), n < sizeof(ret->info) ? n : sizeof(ret->info));
                ret->has_info = true;
        }
        return 0;
}

static uint64_t payload_out(const struct message *m)
{
        return m->info.tcpi_bytes_sent - m->info.tcpi_bytes_retrans;
}

/* How a flow ended, as far as its counters tell. */
static enum weir_reason reason_of(const struct message *m)
{
        /* Nothing was ever acknowledged, the SYN included: there was no connection. */
        if (m->has_info && m->info.tcpi_segs_out > 0 && m->info.tcpi_bytes_acked == 0)
                return m->info.tcpi_segs_in > 0 ? WEIR_REASON_UPSTREAM_REFUSED : WEIR_REASON_UPSTREAM_TIMEOUT;
        if (m->has_info && m->info.tcpi_segs_out == 0)
                return WEIR_REASON_RESET_BY_WORKLOAD;
        /* Our FIN was acknowledged, or one side did without: which, only a sniffer could say. */
        return m->has_info && m->info.tcpi_bytes_acked < payload_out(m) + SYN_AND_FIN ? WEIR_REASON_RESET :
                                                                                        WEIR_REASON_FINISHED;
}

static int on_destroyed(const struct nlmsghdr *h, void *data)
{
        struct weir_handoff *handoff = data;
        struct weir_flow_figures figures = { 0 };
        struct message m;

        if (parse(h, &m) == 0) {
                weir_diag_figures(&m.info, &figures);
                if (figures.received > 0 && m.info.tcpi_bytes_acked == figures.sent + SYN_AND_FIN)
                        figures.received--;
                /* A socket that sent not even a SYN has forgotten what it sent. */
                weir_flows_end(handoff, m.cookie, reason_of(&m), m.has_info && m.info.tcpi_segs_out ? &figures : NULL);
        }
        return MNL_CB_OK;
}

int weir_diag_read(struct weir_handoff *h)
{
        char buf[8192] __attribute__((aligned(8)));
        int n = 0;

        while (n < MESSAGES_MAX) {
                ssize_t got = recv(h->diag, buf, sizeof(buf), MSG_DONTWAIT);

                if (got < 0)
                        return errno == EAGAIN || errno == EINTR ? n : -errno;
                (void)mnl_cb_run(buf, (size_t)got, 0, 0, on_destroyed, h);
                n++;
        }
        return n;
}

struct list {
        struct weir_diag_socket *items;
        size_t n, capacity;
};

static int on_socket(const struct nlmsghdr *h, void *data)
{
        struct list *list = data;
        struct message m;

        if (parse(h, &m) < 0)
                return MNL_CB_OK;
        if (list->n == list->capacity) {
                size_t capacity = list->capacity ? list->capacity * 2 : 256;
                struct weir_diag_socket *items =
                        capacity > SOCKETS_MAX ? NULL : reallocarray(list->items, capacity, sizeof(*items));

                if (!items)
                        return MNL_CB_ERROR;
                list->items = items;
                list->capacity = capacity;
        }
        list->items[list->n] = (struct weir_diag_socket){ .cookie = m.cookie,
                                                          .inode = m.inode,
                                                          .has_figures = m.has_info && m.info.tcpi_segs_out > 0 };
        weir_diag_figures(&m.info, &list->items[list->n++].figures);
        return MNL_CB_OK;
}

static int dump_family(int fd, uint8_t family, struct list *list)
{
        char buf[32768] __attribute__((aligned(8)));
        struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
        struct inet_diag_req_v2 *request;
        int r = MNL_CB_OK;

        h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        request = mnl_nlmsg_put_extra_header(h, sizeof(*request));
        request->sdiag_family = family;
        request->sdiag_protocol = IPPROTO_TCP;
        request->idiag_states = ~0U;
        request->idiag_ext = 1U << (INET_DIAG_INFO - 1);
        if (send(fd, h, h->nlmsg_len, 0) < 0)
                return -errno;
        while (r == MNL_CB_OK) {
                ssize_t n = recv(fd, buf, sizeof(buf), 0);

                if (n <= 0)
                        return n < 0 ? -errno : -EPIPE;
                r = mnl_cb_run(buf, (size_t)n, 0, 0, on_socket, list);
        }
        return r == MNL_CB_STOP ? 0 : -errno;
}

static int by_cookie(const void *a, const void *b)
{
        uint64_t x = ((const struct weir_diag_socket *)a)->cookie, y = ((const struct weir_diag_socket *)b)->cookie;

        return (x > y) - (x < y);
}

int weir_diag_dump(struct weir_diag_socket **ret, size_t *ret_n)
{
        weir_auto_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
        struct list list = { 0 };
        int r;

        if (fd < 0)
                return -errno;
        r = dump_family(fd, AF_INET, &list);
        /* Without IPv6 the kernel says ENOENT. */
        if (r == 0)
                (void)dump_family(fd, AF_INET6, &list);
        if (r < 0) {
                free(list.items);
                return r;
        }
        if (list.n > 0)
                qsort(list.items, list.n, sizeof(*list.items), by_cookie);
        *ret = list.items;
        *ret_n = list.n;
        return 0;
}
