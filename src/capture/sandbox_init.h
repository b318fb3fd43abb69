/* SPDX-License-Identifier: Apache-2.0 */
/* The first process of a sandbox: it builds the inside, starts the command, reaps and passes signals. */
#pragma once

#include <stdbool.h>

#include "capture/capture.h"

struct weir_become;
struct weir_err;
struct weir_strv;

/* A sandbox whose network is the host's: the boundary stands on its cgroup. */
struct weir_place {
        int cgroup;
        /* A BPF file system mounted nowhere yet: the sandbox mounts it where nobody can see it, so that what is pinned
         * in it stays as long as anything lives in there. -1: none. */
        int hold;
        const struct weir_become *become;
        /* Completes the boundary while the sandbox is being built; before it is well, nothing of the command runs. */
        int (*complete)(void *context, struct weir_err *err);
        void *context;
};

struct weir_sandbox {
        const struct weir_capture_options *options;
        int events, service;               /* its ends, see protocol.h */
        bool own_pids;                     /* it is PID 1 of its own namespace */
        const struct weir_strv *listening; /* the host's sockets with a path; see reachable.h */
        const struct weir_place *place;    /* NULL: sealed */
};

/* Never returns. The process ends when the command has ended or the supervisor is gone. */
void weir_sandbox_init(const struct weir_sandbox *sandbox) __attribute__((noreturn));
