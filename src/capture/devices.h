/* SPDX-License-Identifier: Apache-2.0 */
/* A /dev of the sandbox's own. */
#pragma once

#include "base/cleanup.h"

struct weir_err;

/**
 * weir_devices_setup() - replace /dev in this mount namespace
 * @unix_paths: of --unix; those below /dev stay. NULL-terminated, or NULL
 *
 * Return: 0; WEIR_EUNSUPPORTED with @err filled
 */
WEIR_MUST int weir_devices_setup(const char *const *unix_paths, struct weir_err *err);
