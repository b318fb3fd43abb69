/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities: all gone for good, or one handed to a helper program. */
#pragma once

#include "base/cleanup.h"

struct weir_err;

/* No capability in any set, the bounding set included, and no way for uid 0 to regain one by exec. */
WEIR_MUST int weir_caps_drop_all(struct weir_err *err);
/* Keeps one capability over the next exec of this thread, through the ambient set. -1 with errno. */
WEIR_MUST int weir_caps_pass_on(int capability);
