/* SPDX-License-Identifier: Apache-2.0 */
/* The first process of a sandbox: it builds the inside, starts the command, reaps and passes signals. */
#pragma once

#include <stdbool.h>

#include "capture/capture.h"

struct weir_strv;

struct weir_sandbox {
        const struct weir_capture_options *options;
        int events, service;               /* its ends, see protocol.h */
        bool own_pids;                     /* it is PID 1 of its own namespace */
        const struct weir_strv *listening; /* told if they can be reached; see reachable.h */
};

/* Never returns. The process ends when the command has ended or the supervisor is gone. */
void weir_sandbox_init(const struct weir_sandbox *sandbox) __attribute__((noreturn));
