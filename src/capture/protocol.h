/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What supervisor and sandbox say to each other, over two SOCK_SEQPACKET pairs: one message a datagram, a struct of
 * fixed size.
 *
 *   events   sandbox -> supervisor: READY (with descriptors), FAILED, STARTED, EXEC_FAILED, STATUS
 *            supervisor -> sandbox: MAPPED (id maps are written), GO (start the command)
 *   service  supervisor -> sandbox: CONNECT, KILL;  sandbox -> supervisor: CONNECTED (with a descriptor, or an errno)
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
};

/* @value: a wait status, an errno, a port or a signal, by the verb. @text: of FAILED. */
struct weir_box_message {
        uint32_t verb;
        int32_t value;
        int32_t code;
        char text[1024];
};

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
