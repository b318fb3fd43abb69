// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The gates of the cgroup capture, in the kernel.
 *
 * Theory of operation
 *
 * sock_create     only TCP and UDP sockets come into being. What may send or be sent to gets storage (datagrams here,
 *                 streams at connect() and listen()), which is also the sign of a socket that is the workload's own
 * connect4/6      the verdict on TCP, and where the connection goes: an endpoint, the relay, Weir's resolver
 * sendmsg4/6      the same for datagrams; recvmsg4/6 and getpeername4/6 show the workload the address it asked for
 * egress          every packet, whatever made it: the backstop, and the switch that ends a flow with its policy
 * sockops         when a flow ends, and its bytes
 *
 * A socket belongs to the cgroup in which it was made, wherever it is passed to, and so do the gates. egress believes
 * nothing that the other hooks said but what stands in the storage, and that only for the generation it was said of:
 * the first packet under a new policy is judged anew, all others cost one look at the storage. What has no storage (a
 * socket from before the gates) is judged by where its packet goes.
 *
 * The network is the host's, and so is its loopback: a server there is another's, unless its socket bears the
 * workload's storage. Both ends then are the workload's, and need no rule.
 *
 * Zero is deny: no policy, no header, a socket without storage that cannot be given one.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/judge.h"
#include "bpf/shared.h"
#include "bpf/tell.h"

#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define DNS_PORT 53

char _license[] SEC("license") = "Dual BSD/GPL";

struct {
        __uint(type, BPF_MAP_TYPE_SK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
        __type(key, int);
        __type(value, struct weir_bpf_socket);
} sockets SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_LRU_HASH);
        __uint(max_entries, 16384);
        __type(key, struct weir_bpf_from);
        __type(value, struct weir_bpf_to);
} originals SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, 1);
        __type(key, __u32);
        __type(value, struct weir_bpf_about);
} about SEC(".maps");

/* ---- sock_create ---- */

static __always_inline int plain(const struct bpf_sock *sk)
{
        if (sk->family != AF_INET && sk->family != AF_INET6)
                return 0;
        if (sk->type == SOCK_STREAM)
                return sk->protocol == 0 || sk->protocol == IPPROTO_TCP;
        if (sk->type == SOCK_DGRAM)
                return sk->protocol == 0 || sk->protocol == IPPROTO_UDP;
        return 0;
}

SEC("cgroup/sock_create")
int weir_sock_create(struct bpf_sock *sk)
{
        struct destination none = { 0 };
        struct weir_bpf_socket *s;
        __u16 reason = REASON_REJECTED_OTHER;

        count(WEIR_BPF_SAW_SOCKET);
        if (plain(sk) && sk->type == SOCK_STREAM)
                return 1; /* its storage comes with connect() or listen(): it costs more than all else here */
        if (plain(sk)) {
                s = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
                if (!s)
                        return 0;
                note_process(s);
                return 1;
        }
        if (sk->protocol == IPPROTO_ICMP || sk->protocol == IPPROTO_ICMPV6)
                reason = REASON_REJECTED_ICMP;
        tell_here(0, &none, (__u8)sk->protocol, reason);
        return 0;
}

/* ---- connect and sendmsg ---- */

static __always_inline int ours(struct bpf_sock *sk)
{
        return bpf_sk_storage_get(&sockets, sk, 0, 0) != NULL;
}

static __always_inline __u32 tuple_of(struct bpf_sock_tuple *tuple, const struct address *from, __u16 from_port,
                                      const struct address *to, __u16 to_port)
{
        __builtin_memset(tuple, 0, sizeof(*tuple));
        if (is_v4(to)) {
                tuple->ipv4.saddr = bpf_htonl((__u32)from->lo);
                tuple->ipv4.daddr = bpf_htonl((__u32)to->lo);
                tuple->ipv4.sport = bpf_htons(from_port);
                tuple->ipv4.dport = bpf_htons(to_port);
                return sizeof(tuple->ipv4);
        }
        tuple->ipv6.saddr[0] = bpf_htonl((__u32)(from->hi >> 32));
        tuple->ipv6.saddr[1] = bpf_htonl((__u32)from->hi);
        tuple->ipv6.saddr[2] = bpf_htonl((__u32)(from->lo >> 32));
        tuple->ipv6.saddr[3] = bpf_htonl((__u32)from->lo);
        tuple->ipv6.daddr[0] = bpf_htonl((__u32)(to->hi >> 32));
        tuple->ipv6.daddr[1] = bpf_htonl((__u32)to->hi);
        tuple->ipv6.daddr[2] = bpf_htonl((__u32)(to->lo >> 32));
        tuple->ipv6.daddr[3] = bpf_htonl((__u32)to->lo);
        tuple->ipv6.sport = bpf_htons(from_port);
        tuple->ipv6.dport = bpf_htons(to_port);
        return sizeof(tuple->ipv6);
}

/* Whether the socket that a packet from @from to @to would reach is the workload's own. */
static __always_inline int reaches_ours(void *ctx, __u8 protocol, const struct address *from, __u16 from_port,
                                        const struct address *to, __u16 to_port)
{
        struct bpf_sock_tuple tuple;
        struct bpf_sock *peer;
        int is_ours;

        if (is_v4(to)) {
                (void)tuple_of(&tuple, from, from_port, to, to_port);
                peer = protocol == IPPROTO_TCP ?
                               bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0) :
                               bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
        } else {
                (void)tuple_of(&tuple, from, from_port, to, to_port);
                peer = protocol == IPPROTO_TCP ?
                               bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0) :
                               bpf_sk_lookup_udp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
        }
        if (!peer)
                return 0;
        is_ours = ours(peer);
        bpf_sk_release(peer);
        return is_ours;
}

static __always_inline void read_user4(const struct bpf_sock_addr *ctx, struct destination *ret)
{
        ret->at.hi = 0;
        ret->at.lo = V4_PREFIX | bpf_ntohl(ctx->user_ip4);
        ret->port = bpf_ntohs((__u16)ctx->user_port);
}

static __always_inline void read_user6(const struct bpf_sock_addr *ctx, struct destination *ret)
{
        ret->at.hi = ((__u64)bpf_ntohl(ctx->user_ip6[0]) << 32) | bpf_ntohl(ctx->user_ip6[1]);
        ret->at.lo = ((__u64)bpf_ntohl(ctx->user_ip6[2]) << 32) | bpf_ntohl(ctx->user_ip6[3]);
        ret->port = bpf_ntohs((__u16)ctx->user_port);
}

static __always_inline void write_user(struct bpf_sock_addr *ctx, int six, const struct destination *to)
{
        if (six) {
                ctx->user_ip6[0] = bpf_htonl((__u32)(to->at.hi >> 32));
                ctx->user_ip6[1] = bpf_htonl((__u32)to->at.hi);
                ctx->user_ip6[2] = bpf_htonl((__u32)(to->at.lo >> 32));
                ctx->user_ip6[3] = bpf_htonl((__u32)to->at.lo);
        } else
                ctx->user_ip4 = bpf_htonl((__u32)to->at.lo);
        ctx->user_port = bpf_htons(to->port);
}

/* Weir's own loopback address of the family that @like speaks. */
static __always_inline void door(struct destination *ret, const struct address *like, __u16 port)
{
        ret->at.hi = 0;
        ret->at.lo = is_v4(like) ? V4_PREFIX | 0x7f000001 : 1;
        ret->port = port;
}

static __always_inline void keep(struct weir_bpf_socket *s, __u64 generation, __u8 kind, __u32 rule,
                                 const struct destination *original, const struct destination *dial)
{
        s->hi = original->at.hi;
        s->lo = original->at.lo;
        s->port = original->port;
        s->dial_hi = dial->at.hi;
        s->dial_lo = dial->at.lo;
        s->dial_port = dial->port;
        s->rule = rule;
        s->kind = kind;
        s->generation = generation;
}

static __always_inline int connect_tcp(struct bpf_sock_addr *ctx, int six, const struct destination *to)
{
        struct question q = { .to = *to };
        struct bpf_sock *sk = ctx->sk;
        struct weir_bpf_socket *s;
        struct answer a;
        __u8 kind;

        count(WEIR_BPF_SAW_CONNECT);
        canonical(&q.to.at);
        if (!judge(&q, &a)) {
                tell_here(a.generation, &q.to, IPPROTO_TCP, REASON_INTERNAL);
                return 0;
        }
        if (to->port == DNS_PORT && a.dns_tcp) {
                kind = WEIR_BPF_DNS;
                q.to = *to;
                door(&a.dial, &to->at, a.dns_tcp);
                a.rule = WEIR_BPF_NO_RULE;
        } else if (a.reason == REASON_RULE && a.over_relay && a.relay && (!six || is_v4(&to->at))) {
                kind = WEIR_BPF_RELAYED;
                door(&a.dial, &to->at, a.relay);
        } else if (a.reason == REASON_RULE && (six || is_v4(&a.dial.at)))
                kind = WEIR_BPF_FLOW;
        else if (is_local(a.builtin) && reaches_ours(ctx, IPPROTO_TCP, &q.to.at, 0, &q.to.at, q.to.port)) {
                kind = WEIR_BPF_INSIDE;
                a.dial = q.to;
        } else if (a.audit && a.reason != REASON_RULE && !is_local(a.builtin)) {
                kind = WEIR_BPF_AUDITED;
                a.dial = q.to;
        } else {
                __u16 reason = a.reason == REASON_RULE ? REASON_INTERNAL : a.reason;

                if (is_local(a.builtin) && (q.to.port == a.relay || q.to.port == a.dns_tcp))
                        reason = REASON_NOT_REDIRECTED;
                tell_here(a.generation, &q.to, IPPROTO_TCP, reason);
                return 0;
        }
        s = sk ? bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
        if (!s) {
                tell_here(a.generation, &q.to, IPPROTO_TCP, REASON_LIMIT_MEMORY);
                return 0;
        }
        if (a.dial.port != to->port || a.dial.at.lo != to->at.lo || a.dial.at.hi != to->at.hi)
                write_user(ctx, six, &a.dial);
        note_process(s);
        s->started = bpf_ktime_get_ns();
        s->ended = s->established = 0;
        s->protocol = IPPROTO_TCP;
        keep(s, a.generation, kind, a.rule, &q.to, &a.dial);
        return 1;
}

/*
 * A datagram socket. connect() sends nothing and is how getaddrinfo(3) sorts addresses, so it is let be, and the packet
 * is judged; sendmsg() with an address sends.
 */
static __always_inline int to_datagram(struct bpf_sock_addr *ctx, int six, const struct destination *to, int sends)
{
        struct question q = { .to = *to };
        struct bpf_sock *sk = ctx->sk;
        struct weir_bpf_socket *s = sk ? bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : NULL;
        struct answer a;
        int known;

        count(sends ? WEIR_BPF_SAW_SENDMSG : WEIR_BPF_SAW_CONNECT);
        canonical(&q.to.at);
        known = locate(&q.to.at, &a);
        if (!s || !known) {
                tell_here(a.generation, &q.to, IPPROTO_UDP, REASON_INTERNAL);
                return 0;
        }
        if (to->port == DNS_PORT && a.dns_udp) {
                door(&a.dial, &to->at, a.dns_udp);
                write_user(ctx, six, &a.dial);
                note_process(s);
                s->protocol = IPPROTO_UDP;
                keep(s, a.generation, WEIR_BPF_DNS, WEIR_BPF_NO_RULE, to, &a.dial);
                return 1;
        }
        if (!sends || (is_local(a.builtin) && reaches_ours(ctx, IPPROTO_UDP, &q.to.at, 0, &q.to.at, q.to.port)))
                return 1;
        tell_here(a.generation, &q.to, IPPROTO_UDP, REASON_REJECTED_UDP);
        return 0;
}

SEC("cgroup/connect4")
int weir_connect4(struct bpf_sock_addr *ctx)
{
        struct destination to;

        read_user4(ctx, &to);
        if (ctx->protocol == IPPROTO_TCP)
                return connect_tcp(ctx, 0, &to);
        return ctx->protocol == IPPROTO_UDP ? to_datagram(ctx, 0, &to, 0) : 0;
}

SEC("cgroup/connect6")
int weir_connect6(struct bpf_sock_addr *ctx)
{
        struct destination to;

        read_user6(ctx, &to);
        if (ctx->protocol == IPPROTO_TCP)
                return connect_tcp(ctx, 1, &to);
        return ctx->protocol == IPPROTO_UDP ? to_datagram(ctx, 1, &to, 0) : 0;
}

SEC("cgroup/sendmsg4")
int weir_sendmsg4(struct bpf_sock_addr *ctx)
{
        struct destination to;

        read_user4(ctx, &to);
        return ctx->protocol == IPPROTO_UDP ? to_datagram(ctx, 0, &to, 1) : 0;
}

SEC("cgroup/sendmsg6")
int weir_sendmsg6(struct bpf_sock_addr *ctx)
{
        struct destination to;

        read_user6(ctx, &to);
        return ctx->protocol == IPPROTO_UDP ? to_datagram(ctx, 1, &to, 1) : 0;
}

/* The workload sees the address that it asked for, not where it was brought. */
static __always_inline void show_original(struct bpf_sock_addr *ctx, int six, int any_kind)
{
        struct bpf_sock *sk = ctx->sk;
        struct destination seen, original;
        struct weir_bpf_socket *s = sk ? bpf_sk_storage_get(&sockets, sk, 0, 0) : NULL;

        if (!s || s->kind == WEIR_BPF_QUIET || (!any_kind && s->kind != WEIR_BPF_DNS))
                return;
        if (six)
                read_user6(ctx, &seen);
        else
                read_user4(ctx, &seen);
        if (seen.at.hi != s->dial_hi || seen.at.lo != s->dial_lo || seen.port != s->dial_port)
                return;
        original.at.hi = s->hi;
        original.at.lo = s->lo;
        original.port = s->port;
        if (six || is_v4(&original.at))
                write_user(ctx, six, &original);
}

SEC("cgroup/recvmsg4")
int weir_recvmsg4(struct bpf_sock_addr *ctx)
{
        show_original(ctx, 0, 0);
        return 1;
}

SEC("cgroup/recvmsg6")
int weir_recvmsg6(struct bpf_sock_addr *ctx)
{
        show_original(ctx, 1, 0);
        return 1;
}

SEC("cgroup/getpeername4")
int weir_getpeername4(struct bpf_sock_addr *ctx)
{
        show_original(ctx, 0, 1);
        return 1;
}

SEC("cgroup/getpeername6")
int weir_getpeername6(struct bpf_sock_addr *ctx)
{
        show_original(ctx, 1, 1);
        return 1;
}

/* ---- egress ---- */

struct packet {
        struct address from;
        struct destination to;
        __u16 from_port;
        __u8 protocol, syn, ack, rst;
};

/*
 * IPv4, RFC 791; IPv6, RFC 8200. No options, no fragments, no extension headers: where the port does not stand right
 * behind the fixed header, nothing leaves.
 *
 * Return: 0, or why the packet is refused
 */
static __always_inline __u16 read_packet(struct __sk_buff *skb, struct packet *ret)
{
        __u32 at;
        __u8 version;

        if (bpf_skb_load_bytes(skb, 0, &version, 1))
                return REASON_REJECTED_OTHER;
        if (version >> 4 == 4) {
                struct iphdr ip;

                if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
                        return REASON_REJECTED_OTHER;
                ret->from = (struct address){ 0, V4_PREFIX | bpf_ntohl(ip.saddr) };
                ret->to.at = (struct address){ 0, V4_PREFIX | bpf_ntohl(ip.daddr) };
                ret->protocol = ip.protocol;
                at = sizeof(ip);
                if (ip.ihl != 5 || ip.frag_off & bpf_htons(0x3fff))
                        return REASON_REJECTED_OTHER;
        } else {
                struct ipv6hdr ip;

                if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
                        return REASON_REJECTED_OTHER;
                ret->from.hi =
                        ((__u64)bpf_ntohl(ip.saddr.in6_u.u6_addr32[0]) << 32) | bpf_ntohl(ip.saddr.in6_u.u6_addr32[1]);
                ret->from.lo =
                        ((__u64)bpf_ntohl(ip.saddr.in6_u.u6_addr32[2]) << 32) | bpf_ntohl(ip.saddr.in6_u.u6_addr32[3]);
                ret->to.at.hi =
                        ((__u64)bpf_ntohl(ip.daddr.in6_u.u6_addr32[0]) << 32) | bpf_ntohl(ip.daddr.in6_u.u6_addr32[1]);
                ret->to.at.lo =
                        ((__u64)bpf_ntohl(ip.daddr.in6_u.u6_addr32[2]) << 32) | bpf_ntohl(ip.daddr.in6_u.u6_addr32[3]);
                ret->protocol = ip.nexthdr;
                at = sizeof(ip);
        }
        if (ret->protocol == IPPROTO_TCP) {
                struct tcphdr tcp;

                if (bpf_skb_load_bytes(skb, at, &tcp, sizeof(tcp)))
                        return REASON_REJECTED_OTHER;
                ret->from_port = bpf_ntohs(tcp.source);
                ret->to.port = bpf_ntohs(tcp.dest);
                ret->syn = tcp.syn;
                ret->ack = tcp.ack;
                ret->rst = tcp.rst;
                return 0;
        }
        if (ret->protocol == IPPROTO_UDP) {
                struct udphdr udp;

                if (bpf_skb_load_bytes(skb, at, &udp, sizeof(udp)))
                        return REASON_REJECTED_OTHER;
                ret->from_port = bpf_ntohs(udp.source);
                ret->to.port = bpf_ntohs(udp.dest);
                return 0;
        }
        return ret->protocol == IPPROTO_ICMP || ret->protocol == IPPROTO_ICMPV6 ? REASON_REJECTED_ICMP :
                                                                                  REASON_REJECTED_OTHER;
}

static __always_inline int goes_where_it_was_sent(const struct weir_bpf_socket *s, const struct packet *p)
{
        return p->to.at.lo == s->dial_lo && p->to.at.hi == s->dial_hi && p->to.port == s->dial_port;
}

/* Whether this is one of Weir's own doors, to which the hooks have sent the socket. */
static __always_inline int to_door(const struct answer *a, const struct weir_bpf_socket *s, const struct packet *p)
{
        struct destination own;
        __u16 port;

        if (p->protocol == IPPROTO_UDP)
                port = a->dns_udp;
        else if (s && s->kind == WEIR_BPF_DNS)
                port = a->dns_tcp;
        else if (s && s->kind == WEIR_BPF_RELAYED)
                port = a->relay;
        else
                return 0;
        door(&own, &p->to.at, port);
        return own.port != 0 && own.port == p->to.port && own.at.hi == p->to.at.hi && own.at.lo == p->to.at.lo;
}

static __always_inline void remember_original(const struct weir_bpf_socket *s, const struct packet *p)
{
        struct weir_bpf_from from = { .hi = p->from.hi, .lo = p->from.lo, .port = p->from_port };
        struct weir_bpf_to to = { .hi = s->hi, .lo = s->lo, .port = s->port, .pid = s->pid };

        __builtin_memcpy(to.command, s->command, sizeof(to.command));
        bpf_map_update_elem(&originals, &from, &to, BPF_ANY);
}

/*
 * The first packet of a flow under a policy, and every SYN.
 *
 * Return: RULE to let it through, else why not. What was found stands in @s for the packets to come; not in that of a
 * listener, which speaks for many.
 */
static __always_inline __u16 judge_tcp(struct __sk_buff *skb, struct weir_bpf_socket *s, int listening,
                                       const struct packet *p, struct answer *a)
{
        struct question q = { .to = p->to, .dial = p->to, .from_port = p->from_port };
        __u8 kind;

        if (s && !listening && (s->kind == WEIR_BPF_FLOW || s->kind == WEIR_BPF_AUDITED) &&
            goes_where_it_was_sent(s, p)) {
                q.to.at.hi = s->hi;
                q.to.at.lo = s->lo;
                q.to.port = s->port;
                q.kept = 1;
        }
        if (!q.kept)
                canonical(&q.to.at);
        if (!judge(&q, a))
                return REASON_INTERNAL;
        if (to_door(a, s, p)) {
                if (s && p->syn)
                        remember_original(s, p);
                skb->mark = a->mark;
                return REASON_RULE;
        }
        /* An endpoint is no destination: only the flow that was led there may go there. */
        if (a->reason == REASON_RULE &&
            (q.kept || (a->dial.port == p->to.port && a->dial.at.lo == p->to.at.lo && a->dial.at.hi == p->to.at.hi)))
                kind = WEIR_BPF_FLOW;
        else if (a->published && (p->ack || !p->syn) && (a->serve || is_local(a->builtin)))
                kind = WEIR_BPF_PUBLISHED;
        else if (is_local(a->builtin) && reaches_ours(skb, IPPROTO_TCP, &p->from, p->from_port, &p->to.at, p->to.port))
                kind = WEIR_BPF_INSIDE;
        else if (a->audit && !is_local(a->builtin))
                kind = WEIR_BPF_AUDITED;
        else if (q.kept && s && s->generation != a->generation)
                return REASON_POLICY_REVOKED;
        else
                return a->reason == REASON_RULE ? REASON_NO_RULE : a->reason;
        if (s && !listening)
                keep(s, a->generation, kind, kind == WEIR_BPF_FLOW ? a->rule : WEIR_BPF_NO_RULE, &q.to, &p->to);
        return REASON_RULE;
}

static __always_inline __u16 judge_udp(struct __sk_buff *skb, struct weir_bpf_socket *s, const struct packet *p,
                                       struct answer *a)
{
        struct address to = p->to.at;

        canonical(&to);
        if (!locate(&to, a))
                return REASON_INTERNAL;
        if (to_door(a, s, p)) {
                if (s)
                        remember_original(s, p);
                skb->mark = a->mark;
                return REASON_RULE;
        }
        if (is_local(a->builtin) && reaches_ours(skb, IPPROTO_UDP, &p->from, p->from_port, &p->to.at, p->to.port))
                return REASON_RULE;
        return REASON_REJECTED_UDP;
}

SEC("cgroup_skb/egress")
int weir_egress(struct __sk_buff *skb)
{
        struct weir_bpf_socket *s = NULL;
        struct packet p = { 0 };
        struct bpf_sock *sk = skb->sk;
        struct answer a;
        int listening = 0;
        __u16 reason;

        if (sk)
                sk = bpf_sk_fullsock(sk);
        if (sk) {
                listening = sk->state == BPF_TCP_LISTEN;
                s = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
        }
        a.generation = 0;
        reason = read_packet(skb, &p);
        if (!reason && p.protocol == IPPROTO_TCP) {
                /* Doors are judged each time, for their packets bear the mark; and a SYN within this host, for who
                 * would take it may have changed since. */
                if (s && (!p.syn || s->kind == WEIR_BPF_FLOW) && !listening && s->kind <= WEIR_BPF_PUBLISHED &&
                    s->generation && goes_where_it_was_sent(s, &p) && s->generation == generation_now())
                        return 1;
                reason = judge_tcp(skb, s, listening, &p, &a);
        } else if (!reason)
                reason = judge_udp(skb, s, &p, &a);
        count(WEIR_BPF_SAW_PACKET);
        if (reason == REASON_RULE)
                return 1;
        /* A reset carries nothing, and the other end should know. A revoked flow has its record at its end. */
        if (reason == REASON_POLICY_REVOKED)
                return p.rst;
        tell_packet(a.generation, s, &p.to, p.protocol, reason);
        return 0;
}

/* ---- the end of a flow ---- */

static __always_inline __u16 end_reason(__u32 old, const struct weir_bpf_socket *s)
{
        if (!s->established)
                return REASON_UPSTREAM_UNREACHABLE;
        return old == BPF_TCP_ESTABLISHED || old == BPF_TCP_CLOSE_WAIT || old == BPF_TCP_FIN_WAIT1 ? REASON_RESET :
                                                                                                     REASON_FINISHED;
}

/*
 * The kernel's counts hold the SYN and each FIN too. Ours was acknowledged in every state behind FIN_WAIT1 and
 * LAST_ACK; theirs had come if we are past CLOSE_WAIT, or if something came after FIN_WAIT2 was entered.
 */
static __always_inline void count_bytes(struct bpf_sock_ops *ctx, __u32 old, const struct weir_bpf_socket *s,
                                        struct weir_bpf_event *event)
{
        __u64 sent = ctx->bytes_acked, received = ctx->bytes_received;
        int ours_acked = old == BPF_TCP_FIN_WAIT2 || old == BPF_TCP_LAST_ACK || old == BPF_TCP_CLOSING ||
                         old == BPF_TCP_TIME_WAIT;
        int theirs_came = old == BPF_TCP_CLOSE_WAIT || old == BPF_TCP_LAST_ACK || old == BPF_TCP_CLOSING ||
                          (old == BPF_TCP_FIN_WAIT2 && received > s->received);

        if (s->established && sent > 0)
                sent--;
        if (ours_acked && sent > 0)
                sent--;
        if (theirs_came && received > 0)
                received--;
        event->sent = s->established ? sent : 0;
        event->received = received;
}

static __always_inline void tell_end(struct bpf_sock_ops *ctx, __u32 old, struct weir_bpf_socket *s)
{
        struct weir_bpf_event *event = new_event(WEIR_BPF_ENDED);

        if (!event)
                return;
        event->generation = s->generation;
        event->hi = s->hi;
        event->lo = s->lo;
        event->port = s->port;
        event->dial_hi = s->dial_hi;
        event->dial_lo = s->dial_lo;
        event->dial_port = s->dial_port;
        event->duration = bpf_ktime_get_ns() - s->started;
        event->cgroup = s->cgroup;
        event->cookie = bpf_get_socket_cookie(ctx);
        event->rule = s->rule;
        event->pid = s->pid;
        event->reason = end_reason(old, s);
        event->protocol = IPPROTO_TCP;
        event->audit = s->kind == WEIR_BPF_AUDITED;
        __builtin_memcpy(event->command, s->command, sizeof(event->command));
        count_bytes(ctx, old, s, event);
        bpf_ringbuf_submit(event, wake_flags(WEIR_BPF_ENDED));
}

SEC("sockops")
int weir_sockops(struct bpf_sock_ops *ctx)
{
        struct bpf_sock *sk = ctx->sk;
        struct weir_bpf_socket *s;

        if (sk && ctx->op == BPF_SOCK_OPS_TCP_LISTEN_CB) {
                /* The sign that its listener is the workload's own; without it nobody gets in. */
                (void)bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
                return 1;
        }
        if (!sk || (ctx->op != BPF_SOCK_OPS_TCP_CONNECT_CB && ctx->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB &&
                    ctx->op != BPF_SOCK_OPS_STATE_CB))
                return 1;
        s = bpf_sk_storage_get(&sockets, sk, 0, 0);
        if (!s || (s->kind != WEIR_BPF_FLOW && s->kind != WEIR_BPF_AUDITED) || s->started == 0 || s->ended)
                return 1;
        if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
                bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
        else if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
                s->established = 1;
        else if (ctx->args[1] == BPF_TCP_FIN_WAIT2)
                s->received = ctx->bytes_received;
        else if (ctx->args[1] == BPF_TCP_CLOSE) {
                s->ended = 1;
                tell_end(ctx, ctx->args[0], s);
        }
        return 1;
}
