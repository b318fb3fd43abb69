/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Captures: how a workload's connections come under the policy, behind one struct of operations. A capture builds the
 * boundary, starts the command behind it, and hands out the descriptors through which relay and resolver see the
 * workload.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "policy/policy.h"

struct weir_capture;
struct weir_err;
struct weir_policy;

/* Whether connections may leave as sockets that Weir connected; REQUIRE: else nothing is started. */
enum weir_handoff_mode { WEIR_HANDOFF_AUTO, WEIR_HANDOFF_OFF, WEIR_HANDOFF_REQUIRE };

/* How a proxy is told from the workload beside it: by its cgroup, or by its user and a random mark on its sockets. AUTO
 * takes the cgroup if the kernel can tell it. */
enum weir_exempt { WEIR_EXEMPT_AUTO, WEIR_EXEMPT_CGROUP, WEIR_EXEMPT_MARK };

/* What to start and what it may not touch. Everything is borrowed for the call of start(). */
struct weir_capture_options {
        char *const *argv; /* NULL-terminated, argv[0] searched in PATH */
        const char *const
                *protect; /* paths of the store: bound read-only over themselves, ancestors pinned. NULL-terminated */
        const char *const *unix_paths; /* --unix: kept visible although masked. NULL-terminated */
        const sigset_t *signal_mask;   /* the command's; NULL: as this process has it */
        bool verbose;
        /* For redirect: where the rules of `weir init` bring connections and queries. */
        uint16_t relay_port, dns_port;
        enum weir_exempt exempt;

        enum weir_handoff_mode handoff;
        bool owners; /* events of flows that were allowed name their process too, which costs each a search */

        /* For captures that judge by themselves: what is in force before the command starts. */
        struct weir_policy *policy;
        const char *user;          /* whom the command becomes, by name or number; NULL: stay */
        const uint16_t *published; /* ports of the command that this host may connect to; if attached, anybody */
        size_t n_published;
        bool audit;
        const char *version; /* of Weir, for who finds the pins */
        const char *attach;  /* a cgroup that is there already, governed instead of a command; NULL: argv */
};

/* A datagram or packet that the boundary rejected. */
struct weir_rejected {
        enum weir_ip_protocol protocol;
        uint8_t ip_protocol; /* IANA number */
        struct weir_addr source, destination;
        uint16_t source_port, port; /* 0 where the protocol has none */
};

/* What a boundary that judges by itself tells: a denial, or the end of a flow that it had let through. */
struct weir_capture_event {
        bool ended; /* else: denied */
        bool audit; /* denied by policy, let through */
        enum weir_ip_protocol protocol;
        uint8_t ip_protocol;  /* IANA number */
        bool has_destination; /* not where a socket was refused */
        struct weir_addr destination, dialled;
        uint16_t port, dialled_port;
        /* How soon another like it may be found; 0: WEIR_EVENTS_AGAIN_NS. */
        uint64_t again_ns;
        enum weir_reason reason;
        uint64_t generation; /* of the policy that decided */
        uint32_t rule;       /* its number in that policy; UINT32_MAX: none */
        pid_t pid;           /* 0: not known */
        char command[16];
        const char *cgroup; /* path below the root; NULL: not known. Lives until the next event */
        uint64_t bytes_sent, bytes_received, duration_ns;
        uint64_t lost; /* filled with -ENOBUFS alone: how many */

        /* Of the handoff: the snapshot that decided, a reference which the receiver gives back, and its rule, which
         * lives in it. NULL elsewhere, where @generation and @rule name them. */
        struct weir_policy *policy;
        const struct weir_rule *by;
        bool has_dialled, uncounted; /* the bytes are not known */
};

/* How the command ended, as waitpid(2) reports. @exec_errno is not 0 if it never started: ENOENT (127), EACCES and
 * others (126). */
struct weir_exit {
        int status;
        int exec_errno;
};

struct weir_capture_ops {
        const char *name; /* "sealed" */
        /* start() starts no command: it opens the way by which this process itself gets out, the store included, so it
         * comes before the policy is read. */
        bool opens_own_way;

        /**
         * start() - build the boundary and start the command behind it
         * Nothing of the command has run before the boundary is complete; on failure nothing is left.
         * Return: 0; WEIR_EUNSUPPORTED or -errno with @err saying what is missing and how to get it
         */
        int (*start)(const struct weir_capture_options *options, struct weir_capture **ret_capture,
                     struct weir_err *err);

        /* Descriptors, each handed over once (then -1): TCP listeners for the relay, UDP and TCP sockets for the
         * resolver. */
        size_t (*take_listeners)(struct weir_capture *capture, int *ret_fds, size_t n);
        int (*take_dns_udp)(struct weir_capture *capture);
        int (*take_dns_tcp)(struct weir_capture *capture);

        /* Readable when rejected packets wait; -1 if the capture has none. */
        int (*rejected_fd)(struct weir_capture *capture);
        /* Next one: 1, or 0 when none waits, -ENOBUFS when some were lost (go on). */
        int (*next_rejected)(struct weir_capture *capture, struct weir_rejected *ret);

        /* Who owns the socket with this local address inside: 0 and filled (pid of the host's namespace), or -ENOENT,
         * -EBUSY when asked too often. @to: what it is connected to, NULL if not known; it makes the search short.
         * @command: 16 bytes. */
        int (*owner)(struct weir_capture *capture, enum weir_ip_protocol protocol, const struct weir_addr *from,
                     uint16_t port, const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid, char *command);

        /* A non-blocking TCP socket inside the boundary, connecting to the workload's loopback; >= 0 or -errno. For
         * --publish. */
        int (*connect_inside)(struct weir_capture *capture, uint16_t port);

        /* What sockets that leave must carry as SO_MARK; 0 for none. NULL if the capture never asks for one. */
        uint32_t (*mark)(const struct weir_capture *capture);

        /* Readable when the command has started or ended; then wait_exit(). */
        int (*exit_fd)(struct weir_capture *capture);
        /* 1 and filled once the command ended; 0 not yet. Stops (WIFSTOPPED) are reported too, each once. */
        int (*wait_exit)(struct weir_capture *capture, struct weir_exit *ret);

        /*
         * Of captures that judge by themselves, in the kernel or by the handoff; NULL elsewhere.
         *
         * set_policy() puts a snapshot in force, whole, and ends the flows that it does not allow. On failure the old
         * one stays, and @err says why.
         */
        int (*set_policy)(struct weir_capture *capture, struct weir_policy *policy, struct weir_err *err);
        /* Readable when events wait; but the kernel wakes nobody for one that follows another closely. So it is looked
         * at once more WEIR_EVENTS_AGAIN_NS after the last one was read, or sooner if that one says so. */
        int (*events_fd)(struct weir_capture *capture);
        /* Next one: 1, or 0 when none waits, -ENOBUFS when some were lost (go on). */
        int (*next_event)(struct weir_capture *capture, struct weir_capture_event *ret);
        /* Where a connection that came to the relay from @from wanted to go; -ENOENT. */
        int (*original_dst)(struct weir_capture *capture, const struct weir_addr *from, uint16_t port,
                            struct weir_addr *ret_addr, uint16_t *ret_port);
        /* Kills everything that is left inside and ends its flows; their events can still be read. */
        void (*stop)(struct weir_capture *capture);
        /* By which path allowed connections go, "handoff", "kernel" or "relay", and why in words; NULL: relay. */
        const char *(*path)(struct weir_capture *capture, const char **ret_why);
        /* The same without running anything: the path that a run would have here. @why is filled. NULL: not known. */
        const char *(*try_path)(char *why, size_t n);
        /* Stops everything inside for as long as the supervisor itself is stopped, and lets go on what ran before. */
        void (*freeze)(struct weir_capture *capture, bool on);

        /* Sends a signal to the command. */
        int (*kill)(struct weir_capture *capture, int signal);

        /* Kills everything that is left inside and frees. NULL is fine. */
        void (*free)(struct weir_capture *capture);
};

#define WEIR_EVENTS_AGAIN_NS UINT64_C(100000000)
#define WEIR_PUBLISHED_MAX 64

extern const struct weir_capture_ops weir_capture_sealed;
/* A pod: no command is started, for the workload stands beside. See capture/redirect.h. */
extern const struct weir_capture_ops weir_capture_redirect;
extern const struct weir_capture_ops weir_capture_cgroup;
/* Ends what weir_capture_cgroup left in force on a cgroup. -ENOENT: nothing; -EBUSY: a Weir drives it; with @err. */
WEIR_MUST int weir_cgroup_detach(const char *name, struct weir_err *err);
/* Whether this process may use the cgroup capture: it is root, and the kernel lets it. */
bool weir_cgroup_permitted(void);
