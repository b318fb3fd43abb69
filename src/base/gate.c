/* SPDX-License-Identifier: Apache-2.0 */
#include "base/gate.h"

#include <stdlib.h>

#include "base/strutil.h"

bool weir_gate_stands(const char *name)
{
        const char *removed = getenv("WEIR_TEST_GATE_REMOVED");

        return !removed || !weir_streq(removed, name);
}
