/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The decision, from the map in force: what is asked, what is answered, and how the tables of shared.h are searched.
 *
 * Functions without "static" are global ones: the verifier looks at each once for each program, not once for each way
 * to it, and that is what keeps loading short. They take pointers to structs of their own and read the live policy
 * themselves; search() says STALE if that is not the caller's any more, and then judge() begins anew.
 */
#pragma once

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "bpf/shared.h"

/* base/reason.def by number; its X-list needs nothing. */
enum {
#define X(number, name, log, words) REASON_##name = number,
#include "base/reason.def"
#undef X
};

#define V4_PREFIX 0x0000ffff00000000ULL

struct policy_map {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, 2);
        __uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
        __uint(key_size, sizeof(__u32));
        __uint(value_size, sizeof(struct weir_bpf_cell));
};

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
        __uint(max_entries, 1);
        __type(key, __u32);
        __array(values, struct policy_map);
} live SEC(".maps");

struct address {
        __u64 hi, lo;
};

struct destination {
        struct address at;
        __u16 port;
};

/*
 * What is asked of the policy, and its answer. All of it comes from one policy, the one of @generation.
 *
 * @dial: for a live flow, where it goes: the rule must still lead there (@kept)
 * @from_port: of a packet; whether it is a published one
 */
struct question {
        struct destination to, dial;
        __u16 from_port;
        __u8 kept, unused;
};

struct answer {
        __u64 generation;
        struct destination dial;
        __u32 rule, mark;
        __u16 reason;  /* RULE, or why not */
        __u16 builtin; /* the reason of a built-in range that @to lies in, else 0 */
        __u16 dns_udp, dns_tcp, relay;
        __u8 over_relay, audit, published, serve;
};

static __always_inline void *live_policy(void)
{
        __u32 zero = 0;

        return bpf_map_lookup_elem(&live, &zero);
}

static __always_inline void *cell(void *policy, __u32 i)
{
        return bpf_map_lookup_elem(policy, &i);
}

static __always_inline int is_v4(const struct address *a)
{
        return a->hi == 0 && (a->lo >> 32) == 0xffff;
}

static __always_inline int behind(const struct weir_bpf_interval *i, const struct address *a)
{
        return i->hi > a->hi || (i->hi == a->hi && i->lo > a->lo);
}

/* A table of @n cells from @first on in the policy of @generation, sorted by their first two words. */
struct table {
        struct address wanted;
        __u64 generation;
        __u32 first, n;
};

#define NOT_FOUND (-1)
#define STALE (-2)

/*
 * The last cell that is not behind what is wanted. Global functions are looked at by the verifier once for each
 * program, not once for each way to them; for that they cannot be handed a policy, and read the live one: STALE if it
 * is not that of the caller any more.
 */
__noinline int search(const struct table *t)
{
        void *policy = live_policy();
        struct weir_bpf_header *header = policy ? cell(policy, 0) : NULL;
        __u32 low = 0, high;

        if (!t || !header || header->generation != t->generation)
                return STALE;
        high = t->n;
        for (int step = 0; step < WEIR_BPF_STEPS; step++) {
                __u32 middle = low + (high - low) / 2;
                struct weir_bpf_interval *at;

                if (low >= high)
                        break;
                at = cell(policy, t->first + middle);
                if (!at)
                        return NOT_FOUND;
                if (behind(at, &t->wanted))
                        high = middle;
                else
                        low = middle + 1;
        }
        return low ? (int)(t->first + low - 1) : NOT_FOUND;
}

/* 0.0.0.0 is 127.0.0.1 and :: is ::1, as the kernel connects them. */
static __always_inline void canonical(struct address *a)
{
        if (a->hi == 0 && a->lo == V4_PREFIX)
                a->lo = V4_PREFIX | 0x7f000001;
        else if (a->hi == 0 && a->lo == 0)
                a->lo = 1;
}

static __always_inline int search_builtin(const struct weir_bpf_header *header, const struct address *a)
{
        struct table t = {
                .wanted = *a,
                .generation = header->generation,
                .first = WEIR_BPF_FIRST_BUILTIN,
                .n = header->n_builtins,
        };

        return search(&t);
}

static __always_inline int search_port(const struct weir_bpf_header *header, __u32 first, __u32 n, __u16 port)
{
        struct table t = { .wanted = { 0, port }, .generation = header->generation, .first = first, .n = n };

        return search(&t);
}

/* 1: something built in; 0: not; STALE. */
static __always_inline int hidden(void *policy, const struct weir_bpf_header *header, __u32 inner)
{
        struct address a = { .hi = 0, .lo = V4_PREFIX | inner };
        struct weir_bpf_interval *builtin;
        int i;

        canonical(&a);
        i = search_builtin(header, &a);
        if (i == STALE)
                return STALE;
        builtin = i < 0 ? NULL : cell(policy, (__u32)i);
        return !builtin || builtin->bits > 0;
}

/*
 * Whether @a is an IPv6 form of an IPv4 address that is built in: the forms are drawn in policy/builtin.c. Two looks at
 * most, for Teredo has two addresses in it. 1, 0 or STALE.
 */
static __always_inline int embedded(void *policy, const struct weir_bpf_header *header, const struct address *a)
{
        __u32 first = (__u32)a->lo, second = 0;
        int two = 0, r;

        if (is_v4(a) || (a->hi == 0 && a->lo == 1))
                return 0;
        if (a->hi == 0 && (a->lo >> 32) == 0)
                ; /* ::/96 */
        else if (a->hi == 0x0064ff9b00000000ULL && (a->lo >> 32) == 0)
                ; /* 64:ff9b::/96 */
        else if ((a->hi >> 16) == 0x0064ff9b0001ULL)
                ; /* 64:ff9b:1::/48 */
        else if ((a->hi >> 48) == 0x2002)
                first = (__u32)(a->hi >> 16);
        else if ((a->hi >> 32) == 0x20010000) {
                first = ~first;
                second = (__u32)a->hi;
                two = 1;
        } else
                return 0;
        r = hidden(policy, header, first);
        return r || !two ? r : hidden(policy, header, second);
}

static __always_inline int same(const struct destination *a, const struct destination *b)
{
        return a->at.lo == b->at.lo && a->at.hi == b->at.hi && a->port == b->port;
}

/* Whether the rule leads to where a live flow goes: to one of its first endpoints. */
static __always_inline int still_leads(void *policy, __u32 first, __u32 n, const struct destination *dial)
{
        for (__u32 i = 0; i < WEIR_BPF_ENDPOINTS_MAX; i++) {
                struct weir_bpf_endpoint *at = i < n ? cell(policy, first + i) : NULL;

                if (!at)
                        break;
                /* One branch: the verifier follows each. */
                if (((at->lo ^ dial->at.lo) | (at->hi ^ dial->at.hi) | (__u64)(at->port ^ dial->port)) == 0)
                        return 1;
        }
        return 0;
}

/* Where the rule leads: for a new flow any of its endpoints, for connections do not know of each other. */
static __always_inline int lead(void *policy, __u32 first, __u32 n, const struct question *q, struct destination *ret)
{
        struct weir_bpf_endpoint *at;

        *ret = q->kept ? q->dial : q->to;
        if (n == 0)
                return !q->kept || same(&q->to, &q->dial);
        if (q->kept)
                return still_leads(policy, first, n, &q->dial);
        at = cell(policy, first + bpf_get_prandom_u32() % n);
        /* Port 0: one that may not be dialled. */
        if (!at || at->port == 0)
                return 0;
        ret->at.hi = at->hi;
        ret->at.lo = at->lo;
        ret->port = at->port;
        return 1;
}

static __always_inline int is_published(void *policy, const struct weir_bpf_header *header, __u16 port)
{
        int i = port ? search_port(header, header->first_publish, header->n_publish, port) : NOT_FOUND;
        struct weir_bpf_port *at = i < 0 ? NULL : cell(policy, (__u32)i);

        return at && at->port == port;
}

/* The rule that decides, as weir_policy_match() finds it. Return: 0 or STALE */
static __always_inline int decide(void *policy, const struct weir_bpf_header *header, const struct question *q,
                                  struct answer *ret)
{
        struct table t = { .wanted = q->to.at, .generation = header->generation };
        struct weir_bpf_interval *at;
        struct weir_bpf_port *port;
        __u8 least;
        int i;

        ret->reason = REASON_EMBEDDED_ADDRESS;
        i = embedded(policy, header, &q->to.at);
        if (i)
                return i == STALE ? STALE : 0;
        ret->reason = REASON_INTERNAL;
        i = search_builtin(header, &q->to.at);
        at = i < 0 ? NULL : cell(policy, (__u32)i);
        if (!at)
                return i == STALE ? STALE : 0;
        least = at->bits;
        ret->reason = REASON_NO_RULE;
        if (least)
                ret->reason = ret->builtin = (__u16)at->rule;
        /* ::/0 names every IPv6 address, and no IPv4 address. */
        if (least < 96 && is_v4(&q->to.at))
                least = 96;
        i = search_port(header, header->first_port, header->n_ports, q->to.port);
        port = i < 0 ? NULL : cell(policy, (__u32)i);
        if (!port || port->port != q->to.port)
                return i == STALE ? STALE : 0;
        t.first = port->first;
        t.n = port->n;
        i = search(&t);
        at = i < 0 ? NULL : cell(policy, (__u32)i);
        if (!at || at->rule == WEIR_BPF_NO_RULE || at->bits < least)
                return i == STALE ? STALE : 0;
        ret->over_relay = at->relay;
        if (!lead(policy, header->first_endpoint + at->first_endpoint, at->n_endpoints, q, &ret->dial)) {
                ret->reason = REASON_EMBEDDED_ADDRESS;
                return 0;
        }
        ret->reason = REASON_RULE;
        ret->rule = at->rule;
        return 0;
}

static __always_inline int begin(void *policy, struct answer *a)
{
        struct weir_bpf_header *header = policy ? cell(policy, 0) : NULL;
        struct weir_bpf_doors *doors = policy ? cell(policy, 1) : NULL;

        *a = (struct answer){ .rule = WEIR_BPF_NO_RULE, .reason = REASON_INTERNAL };
        if (!header || !doors)
                return 0;
        a->generation = header->generation;
        a->audit = (header->flags & WEIR_BPF_AUDIT) != 0;
        a->serve = (header->flags & WEIR_BPF_SERVE) != 0;
        a->mark = doors->mark;
        a->dns_udp = doors->dns_udp;
        a->dns_tcp = doors->dns_tcp;
        a->relay = doors->relay;
        return 1;
}

/* By the live policy. 1; 0 if there is none; STALE */
__noinline int answer_once(const struct question *q, struct answer *a)
{
        void *policy = live_policy();
        struct weir_bpf_header *header = policy ? cell(policy, 0) : NULL;

        if (!q || !a || !begin(policy, a) || !header)
                return 0;
        a->published = is_published(policy, header, q->from_port);
        return decide(policy, header, q, a) == STALE ? STALE : 1;
}

/*
 * The one decision, by one policy: again if another took its place meanwhile, which cannot go on for long.
 *
 * Return: 1 if @a was filled from a policy; 0 if there is none, and then nothing may pass
 */
__noinline int judge(const struct question *q, struct answer *a)
{
        if (!q || !a)
                return 0;
        for (int try = 0; try < 3; try++) {
                int r = answer_once(q, a);

                if (r != STALE)
                        return r;
        }
        a->reason = REASON_INTERNAL;
        return 0;
}

/* For datagrams, which no rule can open: only whether the address is this host's. Return: as judge() */
__noinline int locate(const struct address *to, struct answer *a)
{
        void *policy = live_policy();
        struct weir_bpf_header *header = policy ? cell(policy, 0) : NULL;
        struct weir_bpf_interval *at;
        int i;

        if (!to || !a || !begin(policy, a) || !header)
                return 0;
        i = search_builtin(header, to);
        at = i < 0 ? NULL : cell(policy, (__u32)i);
        if (at && at->bits)
                a->builtin = (__u16)at->rule;
        a->reason = REASON_REJECTED_UDP;
        return 1;
}

/* An address of this host: whether the other end is the workload's own has to be seen. */
static __always_inline int is_local(__u16 reason)
{
        return reason == REASON_BUILTIN_LOOPBACK || reason == REASON_BUILTIN_SELF;
}

/* The generation that is in force, 0 if none. */
static __always_inline __u64 generation_now(void)
{
        void *policy = live_policy();
        struct weir_bpf_header *header = policy ? cell(policy, 0) : NULL;

        return header ? header->generation : 0;
}
