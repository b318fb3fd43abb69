/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One governed workload: owns the current snapshot, joins capture, relay and resolver, publishes policy changes, and
 * hands records on. `run`, and later `proxy` and `agent`, stand on it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "capture/capture.h"
#include "policy/policy.h"

struct weir_err;
struct weir_loop;
struct weir_resources;
struct weir_sink;
struct weir_store;
struct weir_workload;

struct weir_publish {
        uint16_t host_port, inner_port;
};

struct weir_workload_options {
        const char *name; /* in records: "run-4711" */
        const char *namespace_;
        const struct weir_capture_ops *capture;
        struct weir_capture_options capture_options;
        struct weir_store *store; /* followed; NULL if @resources is given */
        const struct weir_resources
                *resources; /* fixed policy (-f), borrowed until the workload is freed; NULL if @store */
        const char
                *resolv_conf; /* whose name servers are asked; NULL for this host's. Borrowed for the workload's life */
        enum weir_dns_mode dns;
        bool audit;
        bool log_answers; /* records of what was allowed name their process too, for a log is kept */
        const struct weir_publish *publish;
        size_t n_publish;
        struct weir_sink *sink; /* borrowed */
        /* One line for a person: a policy that could not be read and was not taken, or that is whole again. May be
         * NULL. */
        void (*notice)(void *context, bool problem, const char *text);
        void *context;
};

/* Compiles the policy, builds the boundary, starts the command. Fails closed: on error nothing runs and @err says
 * why. */
WEIR_MUST int weir_workload_start(struct weir_loop *loop, const struct weir_workload_options *options,
                                  struct weir_workload **ret_workload, struct weir_err *err);
void weir_workload_free(struct weir_workload *workload); /* kills what is left of the command */
WEIR_DEFINE_CLEANUP(workload, struct weir_workload *, weir_workload_free)

/* Addresses of this host on all interfaces, 127.0.0.0/8 and ::1 left out, for weir_policy_options.self; heap, the
 * caller frees. 0 or -errno. */
WEIR_MUST int weir_host_addresses(struct weir_addr **ret, size_t *ret_n);

struct weir_policy *weir_workload_policy(const struct weir_workload *workload); /* borrowed */
/* By which path allowed connections go ("handoff", "kernel", "relay"), and why in words. */
const char *weir_workload_path(const struct weir_workload *workload, const char **ret_why);
/* @stop stops this process and returns when it goes on: what runs inside stands still as long, and goes on under the
 * policy of then. */
void weir_workload_pause(struct weir_workload *workload, void (*stop)(void));
int weir_workload_exit_fd(const struct weir_workload *workload);
int weir_workload_wait_exit(struct weir_workload *workload, struct weir_exit *ret);
int weir_workload_kill(struct weir_workload *workload, int signal);
/* Takes no new connections; those that are live go on until they end or the workload is freed. */
void weir_workload_drain(struct weir_workload *workload);
size_t weir_workload_n_flows(const struct weir_workload *workload);
