/* SPDX-License-Identifier: Apache-2.0 */
/* Live flows of a workload, found by their sockets' storage, and ended where the policy no longer allows them. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct weir_policy;

/* NETLINK_SOCK_DIAG of the network namespace that the caller is in; -errno. */
WEIR_MUST int weir_flows_open(void);

/**
 * weir_flows_revoke() - reset every flow that @policy does not allow
 * @diag:    of the network namespace whose sockets are looked through
 * @sockets: the map of sockets' storage
 * @policy:  NULL resets all
 *
 * The peer gets a reset; queued bytes are not delivered. What cannot be reset (a kernel without INET_DIAG_DESTROY) is
 * cut all the same: the gates let none of its packets out. Return: how many were reset; -errno
 */
WEIR_MUST int weir_flows_revoke(int diag, int sockets, const struct weir_policy *policy);
