/* SPDX-License-Identifier: Apache-2.0 */
/* What fuzz targets share. A target is one function of bytes; what must hold is checked and, if it does not, ends it.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"

#ifndef FUZZ_NAME
#define FUZZ_NAME "fuzz"
#endif

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define CHECK(condition)                                                                                     \
        do {                                                                                                 \
                if (!(condition)) {                                                                          \
                        (void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
                        abort();                                                                             \
                }                                                                                            \
        } while (0)

/* Decisions out of the input: past its end all are 0. */
static inline uint32_t feed_below(struct weir_cursor *feed, uint32_t n)
{
        return weir_cursor_u8(feed) % n;
}

/* Up to 255 bytes of the input, in a block of their own, so that a sanitizer sees who reads on. To be freed. */
static inline uint8_t *feed_block(struct weir_cursor *feed, size_t *ret_n)
{
        size_t wanted = weir_cursor_u8(feed), left = weir_cursor_left(feed), n = wanted < left ? wanted : left;
        const uint8_t *bytes = weir_cursor_take(feed, n);
        uint8_t *block = malloc(n ? n : 1);

        CHECK(block);
        if (bytes && n > 0)
                memcpy(block, bytes, n);
        *ret_n = bytes ? n : 0;
        return block;
}

/* The same for all that is left. */
static inline char *exact_copy(const uint8_t *bytes, size_t n)
{
        char *copy = malloc(n ? n : 1);

        CHECK(copy);
        if (n > 0)
                memcpy(copy, bytes, n);
        return copy;
}
