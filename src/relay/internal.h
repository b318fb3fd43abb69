/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the relay share, and the seam at which its tests stand in for the machine. Private to relay/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/reason.h"
#include "policy/policy.h"
#include "relay/pipe_pool.h"
#include "relay/relay.h"

struct weir_loop;
struct weir_timer;

/**
 * struct weir_relay_sys - the calls that tests answer themselves; all return -errno on failure
 * @original_dst: where the peer of an accepted socket wanted to go; -ENOENT if the connection was not redirected
 */
struct weir_relay_sys {
        int (*accept)(int listener, struct sockaddr *sa, socklen_t *length);
        int (*original_dst)(int fd, bool v4, struct weir_addr *ret_addr, uint16_t *ret_port);
        int (*socket)(int family);
        int (*connect)(int fd, const struct sockaddr *sa, socklen_t length);
        int (*pipe)(int fds[2]);
        ssize_t (*splice)(int from, int to, size_t n);
};
extern const struct weir_relay_sys weir_relay_sys_real;

int weir_original_dst(int fd, bool v4, struct weir_addr *ret_addr, uint16_t *ret_port);
/* The local address of a socket: of a connection that came by TPROXY, where its peer wanted to go. */
WEIR_MUST int weir_local_address(int fd, struct weir_addr *ret_addr, uint16_t *ret_port);
/* Whether a socket takes connections to addresses that are not its own. */
bool weir_is_transparent(int fd);

/*
 * Flow states
 *
 * FREE    not in use. Only weir_flow_alloc() may touch it.
 * NEW     accepted; being judged within the accept handler. No upstream, nothing watched.
 *         Allowed: weir_dial(), weir_flow_close().
 * DIAL    allowed; the upstream socket is connecting until the deadline. Both sockets are watched.
 *         Allowed: weir_dial_event(), weir_flow_close().
 *         Caveat: downstream is not read, only what epoll says of it is noted; no byte has been sent anywhere.
 * MOVE    both sides connected; bytes are spliced. Half-closes are kept; a deadline runs once one side is closed.
 *         Allowed: weir_move(), weir_flow_close().
 * CLOSING weir_flow_close() has run: sockets closed, record written. Freed by the deferred pass, never in a handler.
 */
enum weir_flow_state {
        WEIR_FLOW_FREE = 0,
        WEIR_FLOW_NEW,
        WEIR_FLOW_DIAL,
        WEIR_FLOW_MOVE,
        WEIR_FLOW_CLOSING,
        WEIR_FLOW_STATE_COUNT,
};

/* DOWN is who connected to the relay, UP is whom the relay dialled. A way is named after the side it reads from. */
enum weir_side { WEIR_DOWN, WEIR_UP, WEIR_SIDE_COUNT };

struct weir_half {
        int fd;
        bool readable, writable; /* as far as the edges tell; cleared by EAGAIN only */
        bool hung_up;            /* EPOLLRDHUP was seen: read on until the end, however little comes */
        bool urgent;             /* EPOLLPRI was seen: splice(2) stops at the mark */
        bool copying;            /* past the mark, or to tell it from the end: no splice(2) any more */
        bool few;                /* last time there were few bytes: copying is tried first */
        bool eof;                /* read to the end */
        bool reset;              /* by its peer: what came before is passed on, then the flow ends for @reset_reason */
        enum weir_reason reset_reason;
        bool finished;          /* and the other side has been told by shutdown(SHUT_WR) */
        struct weir_pipe *pipe; /* held only while bytes wait in it */
        size_t queued;          /* in the pipe */
        uint64_t bytes;         /* handed to the other side */
};

struct weir_flow {
        struct weir_relay *relay;
        uint32_t index, generation;
        enum weir_flow_state state;
        bool published; /* from the host inwards: UP is the workload */
        bool audit;     /* denied by policy, let through */
        bool queued;    /* on the ready list */
        struct weir_half half[WEIR_SIDE_COUNT];
        struct weir_timer *timer;       /* lives as long as the slot */
        struct weir_flow *next_ready;   /* cut short for fairness, goes on in the deferred pass */
        struct weir_flow *next_closing; /* or the next free one */

        uint64_t id, opened_ns, active_ns;
        struct weir_addr from, destination, dialled;
        uint16_t from_port, port, dialled_port;
        bool has_destination, has_dialled;
        uint32_t turn;
        enum weir_verdict verdict;
        struct weir_policy *policy; /* a reference: @rule lives in it */
        const struct weir_rule *rule;
        pid_t pid;
        char command[16];
};

/* A listener of the workload's (@connect NULL) or of --publish. */
struct weir_listener {
        struct weir_relay *relay;
        struct weir_listener *next;
        int fd;
        bool watched;
        bool transparent;      /* connections keep their destination as their local address: IP_TRANSPARENT */
        struct weir_addr addr; /* where it listens */
        uint16_t port;
        uint16_t inner_port;
        int (*connect)(void *context, uint16_t inner_port);
        void *context;
};

#define WEIR_FLOWS_PER_CHUNK 64

struct weir_relay {
        struct weir_loop *loop;
        const struct weir_relay_sys *sys;
        struct weir_relay_options options;
        struct weir_relay_ops ops;
        void *context;
        struct weir_listener *listeners;
        struct weir_timer *resume; /* of paused listeners */
        bool paused;
        int reserve; /* a descriptor for a flow that was accepted with the last one; -1 while it is lent */

        /* The flow table. Chunks never move, so a flow has one address for life; the spare one is for denying without
         * memory. */
        struct weir_flow **chunks;
        size_t n_chunks;
        struct weir_flow *free, *closing, *ready;
        struct weir_flow spare;
        size_t n_live;
        bool deferred;

        struct weir_pipe_pool pipes;
        uint64_t last_id;
        uint32_t turn;
};

/* relay.c */
WEIR_MUST int weir_relay_new_with(struct weir_loop *loop, const struct weir_relay_options *options,
                                  const struct weir_relay_ops *ops, void *context, const struct weir_relay_sys *sys,
                                  struct weir_relay **ret_relay);
void weir_relay_pause(struct weir_relay *relay);  /* nobody is accepted until something is free again */
void weir_relay_resume(struct weir_relay *relay); /* descriptors may be free again */

/* flow.c */
WEIR_MUST int weir_flow_reserve(struct weir_relay *relay);   /* room for one more without allocating */
struct weir_flow *weir_flow_alloc(struct weir_relay *relay); /* NEW; never NULL: without memory it is the spare one */
WEIR_MUST int weir_flow_watch(struct weir_flow *flow, enum weir_side side);
/* Why a side that was connected broke: a time-out is the network's word, a reset the peer's. */
enum weir_reason weir_flow_broken(const struct weir_flow *flow, enum weir_side side);
/* The one end of a flow: resets or closes both sides, drops what is queued, writes the record. */
void weir_flow_close(struct weir_flow *flow, enum weir_reason reason);
void weir_flow_later(struct weir_flow *flow); /* weir_move() again in the deferred pass */
void weir_flow_free_all(struct weir_relay *relay);

/* judge.c */
void weir_judge(struct weir_flow *flow, enum weir_reason *ret_reason); /* fills verdict, rule and what to dial */
void weir_judge_again(struct weir_flow *flow);
void weir_judge_owner(struct weir_flow *flow);

/* dial.c */
void weir_dial(struct weir_flow *flow);
void weir_dial_prepare(int fd); /* an upstream socket, or a listener for those it accepts: what all of them have set */
void weir_dial_adopt(struct weir_flow *flow, int fd); /* @fd is connecting already; taken */
void weir_dial_event(struct weir_flow *flow);

/* splice.c */
void weir_move(struct weir_flow *flow);
