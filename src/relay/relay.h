/* SPDX-License-Identifier: Apache-2.0 */
/* The relay: accept in the workload's namespace, decide, dial from the host's, move bytes with splice(2). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "policy/policy.h"

struct weir_loop;
struct weir_record;
struct weir_relay;

struct weir_relay_ops {
        struct weir_policy *(*policy)(void *context); /* current snapshot, borrowed */
        void (*opened)(void *context);
        void (*record)(void *context, struct weir_record *record); /* once a flow, at its end or denial */
        /* pid and command of the socket with this local address inside the workload, connected to @to (NULL: not
         * known); 0 and "" if unknown. @command has 16 bytes */
        void (*owner)(void *context, enum weir_ip_protocol protocol, const struct weir_addr *from, uint16_t port,
                      const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid, char *command);
        /* Where the connection from this local address wanted to go; -ENOENT. NULL: the kernel's connection tracking
         * knows (SO_ORIGINAL_DST). */
        int (*original_dst)(void *context, const struct weir_addr *from, uint16_t port, struct weir_addr *ret_addr,
                            uint16_t *ret_port);
};

struct weir_relay_options {
        const int *listeners; /* TCP listeners inside the workload's namespace, non-blocking; owned by the relay from
                                 here */
        size_t n_listeners;   /* one a family */
        unsigned connections_max;       /* 0 means 16384; over it: reset, LIMIT_CONNECTIONS */
        unsigned connect_timeout_ms;    /* 0 means 30000 */
        unsigned half_close_timeout_ms; /* idle time allowed once one side is closed; 0 means 3600000 */
        bool audit;                     /* dial denied TCP too, and record it with reason AUDIT; never to loopback */
        uint32_t mark; /* SO_MARK of every upstream socket; 0 for none. A socket that cannot get it is not used */
        bool owners;   /* ask owner() for allowed flows too, which costs each of them a search; denials always ask */
};

/* SIGPIPE of the process, if it is still SIG_DFL, gets a handler that does nothing: splice(2) raises it, and exec
 * undoes it. The relay is freed before @loop. On failure the listeners stay the caller's. */
WEIR_MUST int weir_relay_new(struct weir_loop *loop, const struct weir_relay_options *options,
                             const struct weir_relay_ops *ops, void *context, struct weir_relay **ret_relay);
void weir_relay_free(struct weir_relay *relay); /* resets what is live, each with a record (SHUTDOWN) */
/* Judges every live flow by the current snapshot and resets those it no longer allows, with a record each
 * (POLICY_REVOKED). */
void weir_relay_policy_changed(struct weir_relay *relay);
size_t weir_relay_n_flows(const struct weir_relay *relay);
/* Accepts nothing new: listeners are closed, live flows go on. */
void weir_relay_stop_listening(struct weir_relay *relay);

/**
 * weir_relay_publish() - bring connections from the host to a port of the workload
 * @listener: non-blocking, listening on the host's loopback; owned by the relay from here, unless this fails
 * @connect:  gives a non-blocking socket inside the workload's namespace that is connecting to @inner_port on its
 * loopback
 */
WEIR_MUST int weir_relay_publish(struct weir_relay *relay, int listener, uint16_t inner_port,
                                 int (*connect)(void *context, uint16_t inner_port), void *context);
