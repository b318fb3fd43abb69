/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox's network over rtnetlink: lo, one address a family, and routes that make every address answer locally. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"

struct mnl_socket;
struct nlmsghdr;
struct weir_err;

/* Runs in the new network namespace. @ipv6: whether the kernel has it at all. 0, or -errno with @err saying which step
 * failed. */
WEIR_MUST int weir_netlink_setup(bool ipv6, struct weir_err *err);

/* Sends one request that wants an acknowledgement and waits for it. 0 or -errno. */
WEIR_MUST int weir_netlink_ask(struct mnl_socket *socket, struct nlmsghdr *request);
