/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities: all gone for good, or one handed to a helper program. */
#pragma once

#include "base/cleanup.h"

struct weir_err;

/* No capability in any set, the bounding set included, and no way for uid 0 to regain one by exec. */
WEIR_MUST int weir_caps_drop_all(struct weir_err *err);
/* Keeps one capability over the next exec of this thread, through the ambient set. -1 with errno. */
WEIR_MUST int weir_caps_pass_on(int capability);
/* Puts one capability of the permitted set into the effective one: file capabilities need not be effective by
 * themselves. -EPERM if it is not permitted. */
WEIR_MUST int weir_caps_raise(int capability);
/* Keeps one capability, or none with -1, in this process for good: all others and the bounding set go, and programs it
 * starts gain nothing. */
WEIR_MUST int weir_caps_keep_only(int capability, struct weir_err *err);
