/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * No table of flows is kept: the kernel has one. A dump of sock_diag(7) that asks for the storage of one map
 * (INET_DIAG_REQ_SK_BPF_STORAGES, Linux 5.7) shows the TCP sockets of the namespace and, for those of the workload,
 * what the gates know of them. Each is judged by the new policy as the gates judge its next packet, and what is not
 * allowed any more is destroyed (SOCK_DESTROY, Linux 4.9), which tells both ends at once.
 *
 * The dump is read to its end before the first socket is destroyed, for both go over one socket.
 */
#include "capture/cgroup_flows.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/addr.h"
#include "bpf/shared.h"
#include "policy/policy.h"

#define DUMP_BYTES 32768

struct victim {
        struct inet_diag_sockid id;
        uint8_t family;
};

struct search {
        const struct weir_policy *policy;
        struct victim *victims;
        size_t n, capacity;
        int error;
};

int weir_flows_open(void)
{
        int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

        return fd < 0 ? -errno : fd;
}

static struct weir_addr address(uint64_t hi, uint64_t lo)
{
        struct weir_addr addr;

        for (size_t i = 0; i < 8; i++) {
                addr.bytes[i] = (uint8_t)(hi >> (56 - 8 * i));
                addr.bytes[8 + i] = (uint8_t)(lo >> (56 - 8 * i));
        }
        return addr;
}

static bool allowed(const struct weir_policy *policy, const struct weir_bpf_socket *s)
{
        struct weir_addr dialled = address(s->dial_hi, s->dial_lo);
        struct weir_query query = { .protocol = WEIR_IP_TCP, .addr = address(s->hi, s->lo), .port = s->port };
        struct weir_decision decision;

        return weir_policy_still_allows(policy, &query, &dialled, s->dial_port, WEIR_BPF_ENDPOINTS_MAX, &decision);
}

static void add_victim(struct search *search, const struct inet_diag_msg *m)
{
        if (search->n == search->capacity) {
                size_t capacity = search->capacity ? 2 * search->capacity : 64;
                struct victim *moved = reallocarray(search->victims, capacity, sizeof(*moved));

                if (!moved) {
                        search->error = -ENOMEM;
                        return;
                }
                search->victims = moved;
                search->capacity = capacity;
        }
        search->victims[search->n++] = (struct victim){ .id = m->id, .family = m->idiag_family };
}

/* The value of our map among a socket's attributes; NULL if it has none. */
static const struct weir_bpf_socket *storage_of(const struct nlmsghdr *h)
{
        const struct nlattr *outer, *inner, *leaf;

        mnl_attr_for_each(outer, h, sizeof(struct inet_diag_msg))
        {
                if (mnl_attr_get_type(outer) != INET_DIAG_SK_BPF_STORAGES)
                        continue;
                mnl_attr_for_each_nested(inner, outer) mnl_attr_for_each_nested(
                        leaf, inner) if (mnl_attr_get_type(leaf) == SK_DIAG_BPF_STORAGE_MAP_VALUE &&
                                         mnl_attr_get_payload_len(leaf) >=
                                                 sizeof(struct weir_bpf_socket)) return mnl_attr_get_payload(leaf);
        }
        return NULL;
}

static int on_socket(const struct nlmsghdr *h, void *data)
{
        const struct weir_bpf_socket *found;
        struct weir_bpf_socket s;
        struct search *search = data;

        if (mnl_nlmsg_get_payload_len(h) < sizeof(struct inet_diag_msg))
                return MNL_CB_ERROR;
        found = storage_of(h);
        if (!found)
                return MNL_CB_OK;
        memcpy(&s, found, sizeof(s)); /* attributes are aligned to 4 */
        if (s.kind == WEIR_BPF_FLOW && (!search->policy || !allowed(search->policy, &s)))
                add_victim(search, mnl_nlmsg_get_payload(h));
        else if (!search->policy && (s.kind == WEIR_BPF_AUDITED || s.kind == WEIR_BPF_RELAYED))
                add_victim(search, mnl_nlmsg_get_payload(h));
        return MNL_CB_OK;
}

static int dump(int diag, int sockets, uint8_t family, struct search *search)
{
        char *buf = malloc(DUMP_BYTES);
        struct nlmsghdr *h;
        struct inet_diag_req_v2 *request;
        struct nlattr *nest;
        int r = MNL_CB_OK;

        if (!buf)
                return -ENOMEM;
        h = mnl_nlmsg_put_header(buf);
        h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        request = mnl_nlmsg_put_extra_header(h, sizeof(*request));
        request->sdiag_family = family;
        request->sdiag_protocol = IPPROTO_TCP;
        request->idiag_states = ~0U;
        nest = mnl_attr_nest_start(h, INET_DIAG_REQ_SK_BPF_STORAGES);
        mnl_attr_put_u32(h, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, (uint32_t)sockets);
        mnl_attr_nest_end(h, nest);
        if (send(diag, h, h->nlmsg_len, 0) < 0)
                r = -errno;
        while (r == MNL_CB_OK) {
                ssize_t n = recv(diag, buf, DUMP_BYTES, 0);

                r = n < 0 ? -errno : mnl_cb_run(buf, (size_t)n, 0, 0, on_socket, search);
                if (r == MNL_CB_ERROR)
                        r = -errno;
        }
        free(buf);
        return r < 0 ? r : search->error;
}

static int destroy(int diag, const struct victim *victim)
{
        char buf[256] __attribute__((aligned(8)));
        struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
        struct inet_diag_req_v2 *request;
        ssize_t n;

        h->nlmsg_type = SOCK_DESTROY;
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
        request = mnl_nlmsg_put_extra_header(h, sizeof(*request));
        request->sdiag_family = victim->family;
        request->sdiag_protocol = IPPROTO_TCP;
        request->idiag_states = ~0U;
        request->id = victim->id;
        if (send(diag, h, h->nlmsg_len, 0) < 0)
                return -errno;
        n = recv(diag, buf, sizeof(buf), 0);
        return n < 0 || mnl_cb_run(buf, (size_t)n, 0, 0, NULL, NULL) < 0 ? -errno : 0;
}

int weir_flows_revoke(int diag, int sockets, const struct weir_policy *policy)
{
        struct search search = { .policy = policy };
        int r, done = 0;

        r = dump(diag, sockets, AF_INET, &search);
        if (r == 0)
                r = dump(diag, sockets, AF_INET6, &search);
        for (size_t i = 0; i < search.n; i++)
                done += destroy(diag, &search.victims[i]) == 0; /* one that ended meanwhile is ended */
        free(search.victims);
        return r < 0 ? r : done;
}
