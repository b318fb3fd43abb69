/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Events for the reader in user space. Nothing here waits: what the ring cannot take is counted. */
#pragma once

#include "bpf/judge.h"

/* While more than this waits in the ring the reader is woken in any case. */
#define WAKE_BYTES (64 * 1024)

struct {
        __uint(type, BPF_MAP_TYPE_RINGBUF);
        __uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
        __uint(max_entries, WEIR_BPF_COUNT_COUNT);
        __type(key, __u32);
        __type(value, __u64);
} counts SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, WEIR_BPF_ENDED + 1);
        __type(key, __u32);
        __type(value, __u64);
} last_wake SEC(".maps");

static __always_inline void count(__u32 which)
{
        __u64 *n = bpf_map_lookup_elem(&counts, &which);

        if (n)
                __sync_fetch_and_add(n, 1);
}

/*
 * The reader is woken for the first event of a kind, and not again within the time in which it looks by itself after
 * each that it read: waking costs more than all else here, and a flood would be paid by whoever is refused.
 */
static __always_inline __u64 wake_flags(__u32 kind)
{
        __u64 now, *last = bpf_map_lookup_elem(&last_wake, &kind);

        if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > WAKE_BYTES)
                return BPF_RB_FORCE_WAKEUP;
        now = bpf_ktime_get_ns();
        if (last && now - *last < (kind == WEIR_BPF_DENIED ? WEIR_BPF_DENIED_NS : WEIR_BPF_ENDED_NS))
                return BPF_RB_NO_WAKEUP;
        if (last)
                *last = now;
        return BPF_RB_FORCE_WAKEUP;
}

static __always_inline struct weir_bpf_event *new_event(int kind)
{
        struct weir_bpf_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

        if (!event) {
                count(WEIR_BPF_LOST);
                return NULL;
        }
        __builtin_memset(event, 0, sizeof(*event));
        event->kind = (__u8)kind;
        event->rule = WEIR_BPF_NO_RULE;
        return event;
}

/* A denial that the calling process hears of itself. */
static __always_inline void tell_here(__u64 generation, const struct destination *to, __u8 protocol, __u16 reason)
{
        struct weir_bpf_event *event = new_event(WEIR_BPF_DENIED);

        if (!event)
                return;
        event->generation = generation;
        event->hi = to->at.hi;
        event->lo = to->at.lo;
        event->port = to->port;
        event->protocol = protocol;
        event->reason = reason;
        event->pid = (__u32)(bpf_get_current_pid_tgid() >> 32);
        event->cgroup = bpf_get_current_cgroup_id();
        bpf_get_current_comm(event->command, sizeof(event->command));
        bpf_ringbuf_submit(event, wake_flags(WEIR_BPF_DENIED));
}

/* Once for each socket and policy: a flood of packets is one denial. */
static __always_inline void tell_packet(__u64 generation, struct weir_bpf_socket *s, const struct destination *to,
                                        __u8 protocol, __u16 reason)
{
        struct weir_bpf_event *event;

        if (s && s->told == generation)
                return;
        event = new_event(WEIR_BPF_DENIED);
        if (!event)
                return;
        event->generation = generation;
        event->hi = to->at.hi;
        event->lo = to->at.lo;
        event->port = to->port;
        event->protocol = protocol;
        event->reason = reason;
        if (s) {
                s->told = generation;
                event->pid = s->pid;
                event->cgroup = s->cgroup;
                __builtin_memcpy(event->command, s->command, sizeof(event->command));
        }
        bpf_ringbuf_submit(event, wake_flags(WEIR_BPF_DENIED));
}

static __always_inline void note_process(struct weir_bpf_socket *s)
{
        s->pid = (__u32)(bpf_get_current_pid_tgid() >> 32);
        s->cgroup = bpf_get_current_cgroup_id();
        bpf_get_current_comm(s->command, sizeof(s->command));
}
