/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel side and the user side of the cgroup capture share: the form of a policy in maps, and of what the
 * kernel tells. Free of libc.
 *
 * Theory of operation
 *
 * A policy is ONE map: an array of cells of 32 bytes, built whole in user space beside the live one, and put in force
 * by one write into slot 0 of the map of maps "live". A program reads slot 0 once at its entry, so it decides by one
 * policy from beginning to end. No slot filled: nothing is known, and everything is denied.
 *
 *      cell 0            struct weir_bpf_header      generation, where the tables begin, flags
 *      cell 1            struct weir_bpf_doors       Weir's own sockets
 *      cell 2 ..         struct weir_bpf_interval    what no broad rule opens, over all addresses
 *      first_port ..     struct weir_bpf_port        sorted by port: a table of intervals for each
 *      first_interval .. struct weir_bpf_interval    sorted by address within each port
 *      first_endpoint .. struct weir_bpf_endpoint    of STATIC rules
 *      first_publish ..  struct weir_bpf_port        local ports that may be connected to
 *
 * An interval reaches from its address to that of the next one. Of the rules that cover an address, the longest prefix
 * alone decides (the compiler has laid nested prefixes side by side), so one binary search answers; no rule's interval
 * has WEIR_BPF_NO_RULE. The built-in table says how many bits of prefix an address asks of a rule at least: 8 for
 * 127.0.0.1 (as 104 of 128), 128 for the host's own addresses. The rule that decides is the longest, so if it is too
 * short no other will do either.
 *
 *      10.0.0.0/8:443 by rule 1, 10.1.0.0/16:443 by rule 2      port 443:  10.0.0.0 -> 1
 *                                                                          10.1.0.0 -> 2
 *                                                                          10.2.0.0 -> 1
 *                                                                          11.0.0.0 -> none
 *
 * Addresses are 128 bits for both families, IPv4 as ::ffff:a.b.c.d, in two words of host order: hi, lo.
 * Reasons and verdicts are the numbers of base/reason.def.
 */
#pragma once

#include <linux/types.h>

/* Raised with every change to a struct below, to the names or types of maps, or to what a program expects of them:
 * a Weir that finds pins of another layout replaces programs and maps together. */
#define WEIR_BPF_LAYOUT 1

#define WEIR_BPF_NO_RULE 0xffffffffU
/* Steps of a binary search: tables of up to 2^23 cells. */
#define WEIR_BPF_STEPS 23
/* How many endpoints of a rule are looked through to see whether a live flow still goes to one of them. */
#define WEIR_BPF_ENDPOINTS_MAX 32

struct weir_bpf_cell {
        __u64 words[4];
};

#define WEIR_BPF_PUBLISH_MAX 64

enum weir_bpf_flag {
        WEIR_BPF_AUDIT = 1, /* let denied TCP through, and say so; never to this host */
        WEIR_BPF_SERVE = 2, /* published ports are for everybody, not for this host alone */
};

#define WEIR_BPF_FIRST_BUILTIN 2

struct weir_bpf_header {
        __u64 generation; /* never 0 */
        __u32 flags;
        __u16 n_builtins, n_publish;
        __u32 first_port, n_ports;
        __u32 first_endpoint;
        __u32 first_publish;
};

/* Where Weir listens on the loopback of the workload's network, the same port for both families; 0: nowhere. Every
 * packet that goes there bears the mark, and Weir's sockets take no packet without it. */
struct weir_bpf_doors {
        __u16 dns_udp, dns_tcp, relay, unused;
        __u32 mark, unused2;
        __u64 unused3[2];
};

struct weir_bpf_interval {
        __u64 hi, lo;         /* the first address */
        __u32 rule;           /* built-in: the reason. Else the rule's number in the snapshot, or WEIR_BPF_NO_RULE */
        __u32 first_endpoint; /* from the header's first_endpoint on */
        __u32 n_endpoints;    /* 0: dial the original destination */
        __u8 bits;            /* built-in: at least so many. Else the rule's prefix */
        __u8 relay;           /* what to dial is of another family: only the relay can */
        __u16 unused;
};

/* Begins like an interval, so that one search serves both. */
struct weir_bpf_port {
        __u64 zero, port;
        __u32 first, n; /* cells */
        __u32 unused[2];
};

struct weir_bpf_endpoint {
        __u64 hi, lo;
        __u16 port, unused[7];
};

/* What a socket is known by, in its own storage: one for each socket that was made inside. */
enum weir_bpf_kind {
        WEIR_BPF_QUIET = 0, /* nothing was allowed yet */
        WEIR_BPF_FLOW,      /* a rule allowed it */
        WEIR_BPF_AUDITED,   /* no rule did; --audit let it through */
        WEIR_BPF_INSIDE,    /* the other end is a socket of the same workload */
        WEIR_BPF_PUBLISHED, /* somebody connected in, to a published port */
        WEIR_BPF_DNS,       /* brought to Weir's resolver */
        WEIR_BPF_RELAYED,   /* brought to Weir's relay, which keeps the record */
};

struct weir_bpf_socket {
        __u64 generation;       /* of the policy that allowed the flow last; 0: none */
        __u64 told;             /* of the policy under which its denial was told, so that each is told once */
        __u64 hi, lo;           /* original destination */
        __u64 dial_hi, dial_lo; /* where packets go */
        __u64 started;          /* monotonic ns */
        __u64 received;         /* bytes so far when our FIN was acknowledged */
        __u64 cgroup;
        __u32 rule;
        __u32 pid; /* the process that connected, else the one that made the socket */
        __u16 port, dial_port;
        __u8 kind, protocol, established, ended;
        char command[16];
};

enum weir_bpf_event_kind {
        WEIR_BPF_DENIED = 1, /* connect(), sendmsg(), socket() or a packet was refused */
        WEIR_BPF_ENDED,      /* a flow that had been let through is over */
};

/* How soon after an event that it has read the reader looks again by itself, by the kind of that event. */
#define WEIR_BPF_DENIED_NS 4000000ULL
#define WEIR_BPF_ENDED_NS 100000000ULL

struct weir_bpf_event {
        __u64 generation; /* of the policy that refused, or that let the flow through last */
        __u64 hi, lo;
        __u64 dial_hi, dial_lo;
        __u64 duration; /* ns */
        __u64 sent, received;
        __u64 cgroup;
        __u64 cookie;
        __u32 rule;
        __u32 pid;
        __u16 port, dial_port;
        __u16 reason;
        __u8 kind, protocol; /* IANA number */
        __u8 audit, unused[7];
        char command[16];
};

/* Where a relayed connection wanted to go, by the local end of it that the relay sees. */
struct weir_bpf_from {
        __u64 hi, lo;
        __u32 port;
        __u32 unused;
};

struct weir_bpf_to {
        __u64 hi, lo;
        __u32 port;
        __u32 pid;
        char command[16];
};

/* Whose the maps and programs are, beside the pins, so that the next Weir knows what it finds. */
struct weir_bpf_about {
        __u32 layout;
        __u32 pid;         /* of the Weir that drives them */
        __u64 pid_started; /* clock ticks since boot, proc_pid_stat(5): with it a pid is one process */
        __u64 cgroup;
        char programs[72]; /* SHA-256 of the object, hex */
        char version[32];
};

/* Counters, one a processor. */
enum weir_bpf_count {
        WEIR_BPF_LOST, /* events that the ring could not take */
        /* What each gate was asked: tests hold against them which of them sees what. */
        WEIR_BPF_SAW_SOCKET,
        WEIR_BPF_SAW_CONNECT,
        WEIR_BPF_SAW_SENDMSG,
        WEIR_BPF_SAW_PACKET, /* but those of a flow that was judged before */
        WEIR_BPF_COUNT_COUNT,
};
