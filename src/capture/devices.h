/* SPDX-License-Identifier: Apache-2.0 */
/* A /dev of the sandbox's own. */
#pragma once

#include "base/cleanup.h"

struct weir_err;

/**
 * weir_devices_setup() - replace /dev in this mount namespace
 * @unix_paths: of --unix; those below /dev stay. NULL-terminated, or NULL
 * @ret_held:   to be kept open for as long as the sandbox is: its terminal's place; untouched if there is none
 *
 * Return: 0; WEIR_EUNSUPPORTED with @err filled
 */
WEIR_MUST int weir_devices_setup(const char *const *unix_paths, int *ret_held, struct weir_err *err);
