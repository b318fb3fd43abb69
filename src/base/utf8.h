/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8, RFC 3629. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

/*
 * The length of the sequence of two to four bytes at @p, and its code point; 0 if there is none: ASCII, an overlong
 * form, a surrogate, a code point over U+10FFFF, or bytes missing. @n is not 0.
 */
size_t weir_utf8_decode(const unsigned char *p, size_t n, uint32_t *ret);

/* The bytes of a code point up to U+10FFFF; returns how many. */
size_t weir_utf8_encode(uint32_t cp, char out[4]);

/*
 * Whether a character shows as itself wherever it is printed: no control of any range, no line break, no mark that
 * turns the direction of text or has no width, nothing that Unicode has no character for.
 */
bool weir_utf8_is_visible(uint32_t cp);
