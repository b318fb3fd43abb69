/* SPDX-License-Identifier: Apache-2.0 */
/* A growing byte buffer with a sticky error, and JSON and escaped text written into it. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

/* @error is 0, -ENOMEM or -E2BIG (over @limit, 0 means 64 MiB); once set, further writes do nothing. */
struct weir_buf {
        char *data; /* NUL-terminated when not NULL */
        size_t length, capacity, limit;
        int error;
};

void weir_buf_clear(struct weir_buf *buf); /* frees, ready for use again */
void weir_buf_add(struct weir_buf *buf, const void *bytes, size_t n);
void weir_buf_puts(struct weir_buf *buf, const char *text);
void weir_buf_putc(struct weir_buf *buf, char c);
void weir_buf_printf(struct weir_buf *buf, const char *format, ...) WEIR_PRINTF(2, 3);
/* Takes the string out (NULL on error); the buffer is then empty. */
char *weir_buf_take(struct weir_buf *buf);
static inline void weir_buf_cleanup(struct weir_buf *buf)
{
        weir_buf_clear(buf);
}

/* Hostile text for people: every byte outside printable ASCII as \xNN, backslash doubled. */
void weir_buf_escape(struct weir_buf *buf, const char *bytes, size_t n);
/* Text of several lines for a terminal: newlines and visible characters stay, everything else becomes \xNN. */
void weir_buf_escape_lines(struct weir_buf *buf, const char *text);

/*
 * JSON, RFC 8259. The writer puts commas by itself. Every byte that is not printable ASCII is escaped:
 * valid UTF-8 as \uXXXX (surrogate pairs), a stray byte as \udcNN (lone surrogate, as Python's surrogateescape).
 * @key is NULL inside arrays.
 */
struct weir_json {
        struct weir_buf *buf;
        bool comma;
};
void weir_json_begin_object(struct weir_json *json, const char *key);
void weir_json_end_object(struct weir_json *json);
void weir_json_begin_array(struct weir_json *json, const char *key);
void weir_json_end_array(struct weir_json *json);
void weir_json_string(struct weir_json *json, const char *key, const char *text); /* NULL writes null */
void weir_json_string_n(struct weir_json *json, const char *key, const char *bytes, size_t n);
void weir_json_int(struct weir_json *json, const char *key, int64_t value);
void weir_json_bool(struct weir_json *json, const char *key, bool value);
void weir_json_null(struct weir_json *json, const char *key);
void weir_json_raw(struct weir_json *json, const char *key, const char *literal); /* a number or literal as it stands */
