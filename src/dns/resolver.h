/* SPDX-License-Identifier: Apache-2.0 */
/* The workload's only resolver: takes its queries over UDP and TCP, asks the policy, forwards what is allowed to the
 * host's resolvers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "base/reason.h"
#include "policy/policy.h"

struct weir_loop;
struct weir_record;
struct weir_resolver;

/* What the resolver asks of whoever owns the policy; @context comes first. */
struct weir_resolver_ops {
        struct weir_policy *(*policy)(void *context);              /* the current snapshot, borrowed */
        void (*record)(void *context, struct weir_record *record); /* denials and, with allowed ones, their end */
        /* pid and command of who sent from this address and port inside the workload; 0 and "" if not known. @command
         * has 16 bytes. @to: as in capture.h */
        void (*owner)(void *context, enum weir_ip_protocol protocol, const struct weir_addr *from, uint16_t port,
                      const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid, char *command);
        /* Today's upstreams, at most @n, asked for at most once a second: the host may have moved to another network. 0
         * keeps those there are. May be NULL. */
        size_t (*upstreams)(void *context, struct weir_addr *ret, size_t n);
};

struct weir_resolver_options {
        int udp_fd; /* bound inside the workload's namespace, non-blocking, with packet info on; owned by the resolver
                       from here */
        int tcp_fd; /* listening there; likewise */
        enum weir_dns_mode mode;
        const struct weir_addr *upstreams; /* copied; port 53; asked in order */
        size_t n_upstreams;
        unsigned timeout_ms;    /* a try; 0 means 2000; two tries over all upstreams */
        unsigned queries_max;   /* at once; 0 means 512; over it SERVFAIL */
        uint32_t mark;          /* SO_MARK of sockets to upstreams; 0 for none */
        bool log_answers;       /* ask owner() for allowed queries too, because a log names them; denials always are */
        uint16_t upstream_port; /* 0 means 53; for tests */
        unsigned idle_ms;       /* TCP: time for one message to arrive, and for a reply to be taken; 0 means 10000 */
};

WEIR_MUST int weir_resolver_new(struct weir_loop *loop, const struct weir_resolver_options *options,
                                const struct weir_resolver_ops *ops, void *context,
                                struct weir_resolver **ret_resolver);
void weir_resolver_free(struct weir_resolver *resolver); /* pending queries end with a record (SHUTDOWN), unanswered */
WEIR_DEFINE_CLEANUP(resolver, struct weir_resolver *, weir_resolver_free)
/* Pending queries the new policy does not allow are answered REFUSED. */
void weir_resolver_policy_changed(struct weir_resolver *resolver);
/* nameserver lines of a resolv.conf text; at most @n. One with a zone (fe80::1%eth0) is left out: weir_addr has
 * none. */
size_t weir_resolver_read_conf(const char *text, size_t length, struct weir_addr *ret, size_t n);
