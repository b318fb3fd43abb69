/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket handoff: an allowed connection of the sandbox becomes a socket that Weir connected for it, so that no byte
 * passes through Weir. A fast path beside the sealed boundary, never a part of it; see handoff.c.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "capture/capture.h"
#include "capture/protocol.h"

struct weir_err;
struct weir_handoff;

struct weir_handoff_options {
        struct weir_policy *policy; /* in force at first; a reference is taken */
        bool audit, owners;         /* as in struct weir_capture_options */
        pid_t init;  /* the sandbox's first process, which must still be a copy of this one: it is tried on */
        int init_fd; /* a descriptor that @init has open under this number */
        /* Ends everything in the sandbox: a flow that was to be cut is hidden. */
        void (*kill)(void *context);
        void *context;
};

/**
 * weir_handoff_new() - everything that can fail, before the command exists
 * Tries what the machine lets this process do with the sandbox's, and starts the threads, which wait for the listener.
 * Return: 0; WEIR_EUNSUPPORTED or -errno with @err saying what is missing
 */
WEIR_MUST int weir_handoff_new(const struct weir_handoff_options *options, struct weir_handoff **ret_handoff,
                               struct weir_err *err);
/* Whether a handoff could be had here, tried with a child that is gone afterwards. 0, or negative with @err saying why
 * not. */
WEIR_MUST int weir_handoff_probe(struct weir_err *err);
/* Takes the descriptors of NOTIFY and serves them until it is freed. 0 or -errno. */
WEIR_MUST int weir_handoff_begin(struct weir_handoff *handoff, int fds[static WEIR_BOX_NOTIFY_COUNT], size_t n_fds);
void weir_handoff_free(struct weir_handoff *handoff); /* the sandbox has ended; flows not fetched are forgotten */
WEIR_DEFINE_CLEANUP(handoff, struct weir_handoff *, weir_handoff_free)

/* As set_policy(), events_fd(), next_event() and stop() of struct weir_capture_ops, for the thread that owns the
 * capture. */
void weir_handoff_policy_changed(struct weir_handoff *handoff, struct weir_policy *policy);
int weir_handoff_events_fd(const struct weir_handoff *handoff);
WEIR_MUST int weir_handoff_next_event(struct weir_handoff *handoff, struct weir_capture_event *ret);
void weir_handoff_settle(struct weir_handoff *handoff); /* the sandbox has been killed */

/**
 * weir_handoff_filter() - in the process that becomes the command: load the notification filter, give the listener away
 * @socket: to the supervisor, which hears NOTIFY or NO_NOTIFY
 * @needed: a failure is @err, else it is told and the command goes on with the relay
 *
 * no_new_privs must be set; no Landlock domain may have been entered, for the right one depends on the outcome.
 * Return: 1 in force, 0 not to be had, -errno or WEIR_EUNSUPPORTED with @err
 */
WEIR_MUST int weir_handoff_filter(int socket, bool needed, struct weir_err *err);
