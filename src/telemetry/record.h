/* SPDX-License-Identifier: Apache-2.0 */
/* One record a flow: filled by who holds the flow, formatted here and nowhere else. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "base/reason.h"

struct weir_sink;

enum weir_path { WEIR_PATH_RELAY, WEIR_PATH_HANDOFF, WEIR_PATH_KERNEL, WEIR_PATH_DNS, WEIR_PATH_COUNT };

/* Strings are borrowed for the call. Hostile text is welcome: the formatter escapes. */
struct weir_record {
        uint64_t flow_id;
        const char *workload; /* e.g. "run-4711" */
        pid_t pid;            /* 0 if not known; in the host's PID namespace */
        const char *command;  /* comm of the process; NULL if not known */
        const char *cgroup;   /* the process's, below the root; NULL if not known */
        const char *protocol; /* "tcp", "udp", "icmp", "dns", or a number */
        bool has_destination;
        struct weir_addr destination; /* original destination */
        uint16_t port;
        const char *name; /* DNS name if known */
        bool has_dialled;
        struct weir_addr dialled;
        uint16_t dialled_port;
        enum weir_verdict verdict;
        enum weir_reason reason;
        bool audit;          /* denied by policy, let through by --audit */
        const char *rule;    /* "namespace/name"; NULL if none */
        const char *nearest; /* clause of weir_policy_nearest_text(); NULL or "" if none */
        enum weir_path path;
        bool has_bytes;                      /* false writes null */
        uint64_t bytes_sent, bytes_received; /* by the workload */
        uint64_t duration_ns;
        uint64_t generation;
};

/**
 * struct weir_sink_options - where records go
 * @log_fd:     JSON lines; -1 for none. Not owned. Set non-blocking by the sink if it is a pipe or socket
 * @denials_fd: one line a denial for people, at most one per destination and second; -1 for none (-q)
 * @held:       asked before a denial line is printed; true keeps it until weir_sink_release() (terminal in raw mode).
 * May be NULL
 */
struct weir_sink_options {
        int log_fd;
        int denials_fd;
        bool (*held)(void *context);
        void *context;
};

struct weir_counters {
        uint64_t opened, closed, denied, dns_answered, dns_denied, rejected;
        uint64_t bytes_sent, bytes_received;
        uint64_t events_lost;        /* the kernel could not keep them until they were read */
        uint64_t records_dropped;    /* the log could not take them */
        uint64_t denials_suppressed; /* same destination within a second */
        uint64_t by_reason[WEIR_REASON_COUNT];
};

WEIR_MUST int weir_sink_new(const struct weir_sink_options *options, struct weir_sink **ret_sink);
void weir_sink_free(struct weir_sink *sink); /* flushes what a regular file takes at once */
/* Never blocks: what the log cannot take at once is queued up to 1 MiB, then dropped and counted. */
void weir_sink_record(struct weir_sink *sink, const struct weir_record *record);
/* Counts what the kernel could not hand over: no record tells of it. */
void weir_sink_lost(struct weir_sink *sink, uint64_t n);
/* Counts a flow that began (its record comes at its end). */
void weir_sink_opened(struct weir_sink *sink);
void weir_sink_flush(struct weir_sink *sink); /* tries the queue again, and held lines if they may go now */
bool weir_sink_pending(
        const struct weir_sink *sink); /* whether anything is queued or held: flush again after a while */
/* The end: prints held denial lines, writes what can be written, and counts the rest as lost. */
void weir_sink_release(struct weir_sink *sink);
const struct weir_counters *weir_sink_counters(const struct weir_sink *sink);
/* "--stats": the counters as lines for people. */
void weir_sink_print_stats(const struct weir_sink *sink, int fd);
