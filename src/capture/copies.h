/* SPDX-License-Identifier: Apache-2.0 */
/* /run and /etc/ssh of the sandbox: hidden, with copies of what is needed from them. */
#pragma once

#include "base/cleanup.h"

struct weir_err;

/* Hides /run. Return: 0; WEIR_EUNSUPPORTED with @err filled */
WEIR_MUST int weir_copies_run(struct weir_err *err);
/* Covers /etc/ssh with copies that this user owns. As above. */
WEIR_MUST int weir_copies_ssh(struct weir_err *err);
/* Makes the folders above @path, which stands in a fresh tmpfs. */
void weir_copies_make_above(const char *path);
