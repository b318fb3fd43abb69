/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox of the sealed capture, for the cgroup capture, which wants all of it but the network. */
#pragma once

#include "base/cleanup.h"
#include "capture/capture.h"

struct weir_err;
struct weir_place;

/**
 * weir_sealed_start_in() - start the command in a sandbox whose network is the host's
 * @place: the cgroup it is born in and whom it becomes; NULL is the sealed capture itself
 *
 * What comes back is driven by the operations of weir_capture_sealed; it has no listeners, no resolver's sockets and no
 * rejected packets.
 * Return: as weir_capture_ops.start
 */
WEIR_MUST int weir_sealed_start_in(const struct weir_capture_options *options, const struct weir_place *place,
                                   struct weir_capture **ret_capture, struct weir_err *err);
