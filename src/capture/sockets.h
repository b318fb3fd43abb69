/* SPDX-License-Identifier: Apache-2.0 */
/* The sockets that are made inside the sandbox's network and passed out: through them Weir sees the workload. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "capture/nft_rules.h"
#include "capture/protocol.h"

struct weir_err;

/* Whether this kernel has IPv6 at all. */
bool weir_have_ipv6(void);

/**
 * weir_sockets_open() - everything of enum weir_box_fd
 * @ret_fds: owned by the caller; -1 behind *ret_n
 * @ports: in: where to listen, 0 for any port; out: where they listen
 */
WEIR_MUST int weir_sockets_open(bool ipv6, int ret_fds[static WEIR_BOX_FD_COUNT], size_t *ret_n,
                                struct weir_nft_ports *ports, struct weir_err *err);
/* Makes the listeners of weir_sockets_open() take connections to any address: for WEIR_NFT_TPROXY. Needs CAP_NET_ADMIN.
 */
WEIR_MUST int weir_sockets_transparent(const int fds[static WEIR_BOX_FD_COUNT], struct weir_err *err);
/* A non-blocking socket that is connecting to the workload's loopback, ::1 only if 127.0.0.1 refuses; >= 0 or -errno.
 */
WEIR_MUST int weir_sockets_connect(uint16_t port);
