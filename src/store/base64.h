/* SPDX-License-Identifier: Apache-2.0 */
/* Base64, RFC 4648 section 4, as kubeconfigs hold certificates. */
#pragma once

#include "base/cleanup.h"

/* Line breaks and blanks are passed over. @ret: heap, NUL-terminated. -EINVAL, also for a NUL inside; -ENOMEM */
WEIR_MUST int weir_base64_decode(const char *text, char **ret);
/* Heap; NULL without memory. */
char *weir_base64_encode(const char *bytes, size_t n);
