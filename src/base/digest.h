/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 as text, for telling whether two things are the same. */
#pragma once

#include <stddef.h>

#define WEIR_SHA256_STRLEN 65

void weir_sha256_hex(const void *bytes, size_t n, char ret_hex[static WEIR_SHA256_STRLEN]);
