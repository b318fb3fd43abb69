/* SPDX-License-Identifier: Apache-2.0 */
/* Private to dns/: the query table and the TCP clients, and who may call whom. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "dns/resolver.h"
#include "event/loop.h"
#include "proto/dns.h"

#define QUERIES_DEFAULT 512
#define QUERIES_LIMIT 65536
#define TIMEOUT_DEFAULT_MS 2000
#define REFRESH_NS WEIR_SEC /* between two looks at the host's list of resolvers */
#define IDLE_DEFAULT_MS 10000
#define UPSTREAMS_MAX 8
#define ROUNDS 2 /* tries over all upstreams */
#define CONNS_MAX 64
#define CONN_PENDING_MAX 8      /* queries of one connection upstream at once; further ones are not read */
#define CONN_OUT_READ_MAX 16384 /* nor are they while more than this waits to be written */
#define CONN_OUT_MAX ((size_t)1024 * 1024)
#define CLIENT_MESSAGE_MAX 4096 /* a question and its EDNS options; longer is no query */
#define HEAD_MAX (WEIR_DNS_HEADER + 255 + 4)
#define BATCH 64 /* datagrams or connections a wake-up, so that nobody starves the rest of the loop */

/* clang-format off */
/*
 * Query states
 *
 * FREE         not in use. Only query_new() may touch it.
 * UDP          sent to an upstream from a connected socket; waiting for a datagram that answers it. Allowed:
 *              query_answer(), query_fail_try(), query_close(). Caveat: what does not answer it is ignored, not an
 *              error.
 * TCP_CONNECT  the upstream socket is connecting; nothing was sent.
 * TCP_READ     sent; the frame is being read into @reply, allocated once its length is known. Caveat: a wrong reply ends
 *              the try, for nobody else writes into that stream.
 */
/* clang-format on */
enum query_state { QUERY_FREE = 0, QUERY_UDP, QUERY_TCP_CONNECT, QUERY_TCP_READ };

/* Where a datagram came from and what it was sent to, in the form sendmsg(2) takes back. */
struct udp_peer {
        struct sockaddr_storage addr;
        socklen_t addr_length;
        bool has_v4, has_v6;
        struct in_pktinfo v4;
        struct in6_pktinfo v6;
};

/* Who asked. */
struct client {
        bool tcp;
        struct udp_peer udp;
        uint32_t conn, conn_generation;
        struct weir_addr from;
        uint16_t port;
};

struct query {
        enum query_state state;
        uint32_t generation;
        struct weir_dns_query asked; /* its id is the upstream's of this try */
        uint8_t head[HEAD_MAX];      /* header and question as the client sent them */
        struct client client;
        int fd;
        unsigned tries;
        size_t upstream; /* of this try */
        uint64_t deadline_ns, started_ns;
        uint64_t policy_generation;
        pid_t pid;
        char command[16];
        uint8_t *reply; /* TCP only */
        size_t reply_length, reply_got;
        uint8_t prefix[2];
        size_t prefix_got;
};

/* A client's TCP connection; @fd is -1 in a free slot. */
struct conn {
        int fd;
        uint32_t generation;
        uint32_t events;
        bool eof;    /* the client is done asking */
        bool broken; /* to be closed by its own handler, for nobody else may */
        unsigned pending;
        struct weir_addr from;
        uint16_t port;
        uint64_t deadline_ns;
        uint8_t in[2 + CLIENT_MESSAGE_MAX];
        size_t in_length;
        struct weir_buf out;
        size_t out_done;
};

struct weir_resolver {
        struct weir_loop *loop;
        struct weir_timer *timer;
        uint64_t timer_ns; /* when it is set for; 0: not */
        const struct weir_resolver_ops *ops;
        void *context;
        int udp_fd, tcp_fd;
        enum weir_dns_mode mode;
        bool log_answers;
        struct weir_addr upstreams[UPSTREAMS_MAX];
        size_t n_upstreams;
        uint64_t refresh_ns; /* when to ask for them again */
        uint16_t upstream_port;
        uint32_t mark;
        uint64_t timeout_ns, idle_ns;
        struct query *queries;
        size_t n_queries;
        size_t next_query; /* where to look for a free one */
        struct conn *conns;
        uint64_t accept_paused_ns; /* out of descriptors: until when */
        uint8_t datagram[WEIR_DNS_MESSAGE_MAX];
        uint8_t message[WEIR_DNS_MESSAGE_MAX + 16];
};

static inline uint64_t slot_id(size_t index, uint32_t generation)
{
        return (uint64_t)generation << 32 | (uint32_t)index;
}

/* resolver.c: the gate and the table */
/* One message of a client. False if it is nothing to answer: a response, or shorter than a header. */
bool resolver_take(struct weir_resolver *resolver, const struct client *client, const uint8_t *bytes, size_t n);
void resolver_wake_at(struct weir_resolver *resolver, uint64_t at_ns);
void query_answer(struct weir_resolver *resolver, struct query *query, uint8_t *reply, size_t n, bool truncated);
void query_close(struct weir_resolver *resolver, struct query *query, enum weir_verdict verdict,
                 enum weir_reason reason);
void query_give_up(struct weir_resolver *resolver, struct query *query);
void resolver_deny(struct weir_resolver *resolver, const struct client *client, const char *name,
                   enum weir_reason reason);

/* forward.c: one try after another upstream */
void query_forward(struct weir_resolver *resolver, struct query *query);
void query_fail_try(struct weir_resolver *resolver, struct query *query);
void query_end_try(struct weir_resolver *resolver, struct query *query);

/* udp.c, tcp.c: the clients */
void udp_io(void *context, uint64_t id, uint32_t events);
void udp_send(struct weir_resolver *resolver, const struct udp_peer *peer, const uint8_t *bytes, size_t n);
void tcp_accept_io(void *context, uint64_t id, uint32_t events);
void tcp_send(struct weir_resolver *resolver, const struct client *client, const uint8_t *bytes, size_t n);
/* A query of this connection goes upstream; it ended, answered or not. */
void tcp_began(struct weir_resolver *resolver, const struct client *client);
void tcp_done(struct weir_resolver *resolver, const struct client *client);
void tcp_expire(struct weir_resolver *resolver, uint64_t now_ns, uint64_t *next_ns);
void tcp_free(struct weir_resolver *resolver);
