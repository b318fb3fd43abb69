/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the handoff share. Which thread may do what is told in handoff.c. Private to capture/handoff*.c. */
#pragma once

#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/addr.h"
#include "base/reason.h"
#include "capture/capture.h"
#include "capture/handoff.h"
#include "policy/policy.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* Who a thread of the sandbox is, and what is kept open of it; see handoff_task.c. */
struct weir_task {
        pid_t tid, tgid;
        int pidfd, fdinfo, comm;
};

/* A kept fdinfo file of descriptor @fd; @pidfd tells for which task it was opened. */
struct weir_fdinfo {
        pid_t tid;
        int fd, file, pidfd;
};

/* What one setsockopt(2) can change; see handoff_options.c. */
#define WEIR_SOCKET_OPTIONS_MAX 64
#define WEIR_SOCKET_OPTION_SIZE 16
struct weir_socket_options {
        char values[WEIR_SOCKET_OPTIONS_MAX][WEIR_SOCKET_OPTION_SIZE];
        uint64_t known; /* which rows of @values were read */
};

/* One flow of the table; see handoff_flows.c. */
struct weir_handed;

/* What a revocation needs to know about a flow that has to be cut. */
struct weir_condemned {
        uint64_t cookie, since_ns;
        pid_t tgid;
        int fd;
        bool done;
        uint32_t inode; /* 0: not known */
};

struct weir_handoff {
        struct weir_handoff_options options;

        /* Written by weir_handoff_begin() before the notification thread serves, then only read. */
        int notify;
        uint64_t box_cookie, host_cookie;
        bool v6;

        pthread_t notify_thread, slow_thread;
        bool notify_runs, slow_runs;
        atomic_bool stop;
        int pair[2]; /* the listener reaches the notification thread's own descriptor table through this */

        /* Under @lock: the policy, the flows, and what waits to be told. */
        pthread_mutex_t lock;
        struct weir_policy *policy;
        struct weir_handed **buckets;
        size_t n_flows, n_condemned;
        struct weir_told *told, **told_end;
        size_t n_told;
        uint64_t lost;

        /* The owner's thread alone. */
        int wake, timer, diag, epoll;
        bool diag_paused;
        uint64_t reconcile_ns; /* not 0: the destroy group lost messages; flows older than this are looked up */

        /* The notification thread's own: see handoff_task.c, handoff_options.c, handoff_epoll.c. */
        struct weir_task *tasks;
        struct weir_fdinfo *fdinfos;
        size_t n_slots; /* of both, a power of two */
        int base;       /* descriptors that are kept have this number or a higher one */
        bool own_table;
        struct seccomp_notif *call; /* the call under work */
        size_t call_size;
        uint64_t options_seen;
        struct weir_socket_options defaults[2];
        int pool[32];
        size_t n_pool;
        struct weir_epoll_sets *sets;
        uint32_t turn;

        /* Under @slow_lock. */
        pthread_mutex_t slow_lock;
        int slow_epoll, slow_wake;
        struct weir_slow *slow;
        size_t n_slow;
        struct {
                pid_t tid;
                int fd;
        } outrun[256];
};

/* handoff.c: whether this process may do with @other what a handoff needs; @other is still a copy of this one and has a
 * descriptor @other_fd. 0, or WEIR_EUNSUPPORTED with @err. */
WEIR_MUST int weir_handoff_try_on(pid_t other, int other_fd, struct weir_err *err);

/* handoff_notify.c: the notification thread */
void *weir_handoff_notify_main(void *handoff);
/* Ends a call with 0 or a positive errno. 0, or -ENOENT if the caller is not waiting any more. */
int weir_handoff_answer(const struct weir_handoff *handoff, uint64_t id, int error);
void weir_handoff_continue(const struct weir_handoff *handoff, uint64_t id);
uint64_t weir_netns_cookie(int fd); /* 0 if it has none */

/* handoff_connect.c */
void weir_handoff_connect(struct weir_handoff *handoff, const struct seccomp_notif *call);
void weir_handoff_fill_pool(struct weir_handoff *handoff);

/* handoff_task.c; a task stays valid until the next call with another thread */
WEIR_MUST int weir_task_fd(struct weir_handoff *handoff, pid_t tid, int fd, struct weir_task **ret_task);
struct weir_task *weir_task_find(struct weir_handoff *handoff, pid_t tid); /* NULL: gone, or no descriptors */
WEIR_MUST int weir_task_read(pid_t tid, void *to, uint64_t from, size_t n);
WEIR_MUST int weir_task_fd_flags(struct weir_handoff *handoff, const struct weir_task *task, int fd);
pid_t weir_task_tgid(struct weir_task *task);
void weir_task_command(struct weir_handoff *handoff, struct weir_task *task, char command[static 16]);
void weir_task_forget_all(struct weir_handoff *handoff);
/* The same descriptor with a number that no workload's is likely to have; @fd is taken, also on failure. */
int weir_handoff_keep(const struct weir_handoff *handoff, int fd);

/* handoff_options.c */
struct weir_socket_option {
        int level, name;
        socklen_t size;
        enum { WEIR_OPTION_ALWAYS, WEIR_OPTION_WITH_KEEPALIVE, WEIR_OPTION_RARE, WEIR_OPTION_RELAY } kind;
        bool v6;
};
extern const struct weir_socket_option weir_socket_options[];
extern const size_t weir_socket_options_n;
void weir_options_note(struct weir_handoff *handoff, int level, int name); /* somebody in the sandbox sets this one */
/* 0, or -ENOTSUP if the socket has one that is not copied: it goes to the relay. */
WEIR_MUST int weir_options_read(struct weir_handoff *handoff, int fd, bool v6, struct weir_socket_options *ret);
void weir_options_defaults(int fd, bool v6, struct weir_socket_options *ret);
void weir_options_apply(const struct weir_handoff *handoff, int fd, bool v6, const struct weir_socket_options *options);
uint64_t weir_options_send_timeout_ns(const struct weir_socket_options *options); /* 0: none */

/* handoff_epoll.c */
void weir_handoff_epoll_create(struct weir_handoff *handoff, const struct seccomp_notif *call);
/* The number of the set that watches the socket, -ENOENT if none does, -E2BIG if it is watched but cannot be moved. */
WEIR_MUST int weir_epoll_watching(struct weir_handoff *handoff, struct weir_task *task, int dup, int fd);
/* Moves the entry of @old in set number @set to @new, both under the workload's number @fd. 0 or -errno. */
WEIR_MUST int weir_epoll_move(struct weir_handoff *handoff, const struct weir_task *task, int set, int old, int new,
                              int fd);
void weir_epoll_free(struct weir_handoff *handoff);

/* handoff_slow.c: connects that take time */
void *weir_handoff_slow_main(void *handoff);
/* @socket is taken: its connect is under way. @again: a second call of the same connection. */
void weir_slow_add(struct weir_handoff *handoff, const struct seccomp_notif *call, int socket, uint64_t timeout_ns,
                   bool again, uint64_t cookie);
void weir_slow_wake(struct weir_handoff *handoff);
/* An answer that a signal outran: the restarted call of that thread on that descriptor must still get it. */
void weir_outrun_note(struct weir_handoff *handoff, pid_t tid, int fd);
bool weir_outrun_take(struct weir_handoff *handoff, pid_t tid, int fd);

/* handoff_flows.c: the table, from any thread */
WEIR_MUST int weir_flows_init(struct weir_handoff *handoff);
void weir_flows_clear(struct weir_handoff *handoff);
/* Before the first packet. @about: policy (a reference is taken), rule, destination, dialled, pid, command. 0;
 * -ESTALE if @about was judged by a policy that is not in force any more; -EMFILE if the table is full; -ENOMEM. */
WEIR_MUST int weir_flows_begin(struct weir_handoff *handoff, uint64_t cookie, pid_t tgid, int fd, uint32_t turn,
                               const struct weir_capture_event *about);
/* The workload has it: false if a policy that came between no longer allows it (then it is told, and gone). */
WEIR_MUST bool weir_flows_installed(struct weir_handoff *handoff, uint64_t cookie);
/* The end of a flow, once: later calls for the same one do nothing. @figures: bytes are set; NULL: not known. */
struct weir_flow_figures {
        uint64_t sent, received;
};
void weir_flows_end(struct weir_handoff *handoff, uint64_t cookie, enum weir_reason reason,
                    const struct weir_flow_figures *figures);
void weir_flows_deny(struct weir_handoff *handoff, const struct weir_capture_event *about);
/* What has to be cut, heap list. @judge: first marks what the policy in force no longer allows. 0 or -ENOMEM. */
WEIR_MUST int weir_flows_condemned(struct weir_handoff *handoff, bool judge, struct weir_condemned **ret,
                                   size_t *ret_n);
int weir_handoff_next_told(struct weir_handoff *handoff, struct weir_capture_event *ret); /* 1; 0; -ENOBUFS */
bool weir_flows_has(struct weir_handoff *handoff, uint64_t cookie);
/* Every flow begun before @before_ns whose cookie is not in the sorted list ends, with figures unknown. */
void weir_flows_reconcile(struct weir_handoff *handoff, uint64_t before_ns, const uint64_t *alive, size_t n);
struct weir_policy *weir_handoff_policy(struct weir_handoff *handoff); /* a reference */

/* handoff_diag.c: what the kernel knows of the flows; the owner's thread */
WEIR_MUST int weir_diag_open(void);
/* Reads ends until none waits: how many were ours, or -ENOBUFS if some were lost. */
WEIR_MUST int weir_diag_read(struct weir_handoff *handoff);
struct weir_diag_socket {
        uint64_t cookie;
        uint32_t inode;
        bool has_figures;
        struct weir_flow_figures figures;
};
/* Every TCP socket of this network namespace, sorted by cookie; heap. */
WEIR_MUST int weir_diag_dump(struct weir_diag_socket **ret, size_t *ret_n);
struct tcp_info;
void weir_diag_figures(const struct tcp_info *info, struct weir_flow_figures *ret);

/* handoff_revoke.c: the owner's thread */
/* One pass over what has to be cut; true if something is left for another. */
bool weir_revoke_pass(struct weir_handoff *handoff, bool judge);
