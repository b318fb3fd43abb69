/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What supervisor and sandbox say to each other, over two SOCK_SEQPACKET pairs: one message a datagram, a struct of
 * fixed size.
 *
 *   events   sandbox -> supervisor: READY (with descriptors), FAILED, STARTED, EXEC_FAILED, STATUS
 *            the command's process before it is one: NOTIFY (with descriptors) or NO_NOTIFY (with a text), if GO asked
 *            supervisor -> sandbox: MAPPED (id maps are written), GO (start the command)
 *   service  supervisor -> sandbox: CONNECT, KILL, FREEZE, THAW
 *            sandbox -> supervisor: CONNECTED (with a descriptor, or an errno), FROZEN (with an errno)
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

enum weir_box_verb {
        WEIR_BOX_MAPPED = 1,
        WEIR_BOX_READY,
        WEIR_BOX_FAILED,
        WEIR_BOX_GO,
        WEIR_BOX_STARTED,
        WEIR_BOX_EXEC_FAILED,
        WEIR_BOX_STATUS,
        WEIR_BOX_CONNECT,
        WEIR_BOX_CONNECTED,
        WEIR_BOX_KILL,
        WEIR_BOX_NOTIFY,
        WEIR_BOX_NO_NOTIFY,
        WEIR_BOX_FREEZE,
        WEIR_BOX_FROZEN,
        WEIR_BOX_THAW,
};

/* @value: a wait status, an errno, a port, a signal or (of GO) enum weir_box_handoff, by the verb. @text: of FAILED and
 * NO_NOTIFY. */
struct weir_box_message {
        uint32_t verb;
        int32_t value;
        int32_t code;
        char text[1024];
};

/* What GO asks for: no handoff, one if it can be had, or one or nothing. */
enum weir_box_handoff { WEIR_BOX_HANDOFF_NONE, WEIR_BOX_HANDOFF_TRY, WEIR_BOX_HANDOFF_NEED };

/* Descriptors of NOTIFY, in this order: the filter's listener, then a fresh TCP socket of each family the sandbox has.
 */
enum weir_box_notify_fd { WEIR_BOX_NOTIFY_LISTENER, WEIR_BOX_NOTIFY_V4, WEIR_BOX_NOTIFY_V6, WEIR_BOX_NOTIFY_COUNT };

/* Descriptors of READY, in this order. LISTENER_V6 is left out where the kernel has no IPv6. */
enum weir_box_fd {
        WEIR_BOX_FD_DNS_UDP,
        WEIR_BOX_FD_DNS_TCP,
        WEIR_BOX_FD_NFLOG,
        WEIR_BOX_FD_DIAG,
        WEIR_BOX_FD_LISTENER_V4,
        WEIR_BOX_FD_LISTENER_V6,
        WEIR_BOX_FD_COUNT,
};
