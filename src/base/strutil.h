/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: comparison, duplication, lists. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"

static inline bool weir_streq(const char *a, const char *b)
{
        return strcmp(a, b) == 0;
}
bool weir_starts_with(const char *text, const char *prefix);
/* Decimal digits only, no sign, no leading zeros but "0" itself; -EINVAL, or -ERANGE above @max. */
WEIR_MUST int weir_parse_uint(const char *text, uint64_t max, uint64_t *ret);
/* printf to a heap string; NULL without memory. */
char *weir_asprintf(const char *format, ...) WEIR_PRINTF(1, 2);

/* A list of owned strings, bounded by memory only. */
struct weir_strv {
        char **items;
        size_t n, capacity;
};
WEIR_MUST int weir_strv_add(struct weir_strv *v, const char *text);
/* Puts a NULL behind the last item, which is not counted; items is then never NULL. */
WEIR_MUST int weir_strv_terminate(struct weir_strv *v);
void weir_strv_clear(struct weir_strv *v);
bool weir_strv_has(const struct weir_strv *v, const char *text);
