/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only way a parser of hostile bytes reads: bounds-checked, with a sticky error. After the first read past the end
 * every read gives 0 and weir_cursor_ok() is false, so a parser checks once, at its end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What a parser says: PASS complete and well-formed; MISS more bytes are needed; FAIL never valid, whatever follows. */
enum weir_match { WEIR_FAIL = 0, WEIR_MISS, WEIR_PASS };

struct weir_cursor {
        const uint8_t *begin, *at, *end;
        bool failed;
};

static inline struct weir_cursor weir_cursor(const void *bytes, size_t n)
{
        const uint8_t *b = bytes;

        /* No bytes may be nowhere, and to nowhere nothing can be added. */
        return (struct weir_cursor){ .begin = b, .at = b, .end = n > 0 ? b + n : b };
}
static inline size_t weir_cursor_left(const struct weir_cursor *c)
{
        return c->failed ? 0 : (size_t)(c->end - c->at);
}
static inline size_t weir_cursor_offset(const struct weir_cursor *c)
{
        return (size_t)(c->at - c->begin);
}
static inline bool weir_cursor_ok(const struct weir_cursor *c)
{
        return !c->failed;
}
/* @n bytes, or NULL and failed. */
static inline const uint8_t *weir_cursor_take(struct weir_cursor *c, size_t n)
{
        const uint8_t *p = c->at;

        if (c->failed || (size_t)(c->end - c->at) < n) {
                c->failed = true;
                return NULL;
        }
        c->at += n;
        return p;
}
static inline uint8_t weir_cursor_u8(struct weir_cursor *c)
{
        const uint8_t *p = weir_cursor_take(c, 1);
        return p ? p[0] : 0;
}
static inline uint16_t weir_cursor_be16(struct weir_cursor *c)
{
        const uint8_t *p = weir_cursor_take(c, 2);
        return p ? (uint16_t)(p[0] << 8 | p[1]) : 0;
}
static inline uint32_t weir_cursor_be32(struct weir_cursor *c)
{
        const uint8_t *p = weir_cursor_take(c, 4);
        return p ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}
/* Goes to @offset from the beginning (backwards too: DNS compression); failed if outside. */
static inline void weir_cursor_seek(struct weir_cursor *c, size_t offset)
{
        if (offset > (size_t)(c->end - c->begin))
                c->failed = true;
        else
                c->at = c->begin + offset;
}
/* The next @n bytes as a cursor of their own; an empty failed one if there are fewer. */
static inline struct weir_cursor weir_cursor_sub(struct weir_cursor *c, size_t n)
{
        const uint8_t *p = weir_cursor_take(c, n);
        struct weir_cursor sub = weir_cursor(p, p ? n : 0);

        sub.failed = !p;
        return sub;
}
