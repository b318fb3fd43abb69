/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal and the signals of "weir run": the command must feel as if Weir were not there. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#include "base/cleanup.h"

/* The terminal's foreground group at the start, to be put back when the command is gone. */
struct weir_terminal {
        int fd; /* -1 if there is no controlling terminal */
        pid_t foreground;
};

void weir_terminal_open(struct weir_terminal *terminal);
/* Gives the foreground back to the group that had it, if that was Weir's own; closes. */
void weir_terminal_restore(struct weir_terminal *terminal);
/* Whether standard error is a terminal in raw mode: a full-screen program would be disturbed by a line. */
bool weir_terminal_raw(void);

/* Blocks what "weir run" handles itself, before the command starts: a stop of both must not stop Weir alone.
 * @ret_before: the mask as it was, which is the command's. 0 or -errno */
WEIR_MUST int weir_signals_block(sigset_t *ret_before);
/* Once the command has started: what it would inherit is ignored here, and a signalfd for the rest is returned, or
 * -errno. */
WEIR_MUST int weir_signals_open(void);

enum weir_signal_act {
        WEIR_SIGNAL_IGNORE,  /* the terminal gave it to the command itself, or it is nobody's */
        WEIR_SIGNAL_PASS_ON, /* a process sent it to Weir and means the command */
};
enum weir_signal_act weir_signal_act(const struct signalfd_siginfo *info);
