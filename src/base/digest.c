/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 by libmd. */
#include "base/digest.h"

#include <sys/types.h>

#include <sha2.h>

void weir_sha256_hex(const void *bytes, size_t n, char ret_hex[static WEIR_SHA256_STRLEN])
{
        SHA256Data(bytes, n, ret_hex);
}
