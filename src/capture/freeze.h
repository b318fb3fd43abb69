/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything in a sandbox stopped and continued, for the time in which its supervisor is stopped: sockets that were
 * handed over need no supervisor to send, and nobody could cut them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

/* Who was stopped already and stays so afterwards. */
struct weir_frozen {
        pid_t *stopped;
        size_t n;
};

/* In the sandbox's first process. @own_pids: it is PID 1 of its own namespace. 0, or -EAGAIN if one still ran. */
WEIR_MUST int weir_freeze(bool own_pids, struct weir_frozen *ret);
void weir_thaw(struct weir_frozen *frozen);
