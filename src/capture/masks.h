/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of sockets that are hidden from the workload, and copies of what is needed from them. */
#pragma once

#include "base/cleanup.h"

struct weir_err;

/* @unix_paths: what stays reachable although it stands in a hidden folder. NULL-terminated, may be NULL. */
WEIR_MUST int weir_masks_setup(const char *const *unix_paths, struct weir_err *err);
