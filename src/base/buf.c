/* SPDX-License-Identifier: Apache-2.0 */
/* The growing buffer, escaped text, and JSON. */
#include "base/buf.h"
#include "base/gate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define DEFAULT_LIMIT ((size_t)64 * 1024 * 1024)

void weir_buf_clear(struct weir_buf *buf)
{
        free(buf->data);
        *buf = (struct weir_buf){ .limit = buf->limit };
}

/* Room for @n more bytes and a NUL. */
static bool reserve(struct weir_buf *buf, size_t n)
{
        size_t limit = buf->limit ? buf->limit : DEFAULT_LIMIT;
        size_t capacity = buf->capacity ? buf->capacity : 64;
        char *data;

        if (buf->error)
                return false;
        if (n > limit || buf->length > limit - n) {
                buf->error = -E2BIG;
                return false;
        }
        if (buf->data && buf->length + n < buf->capacity)
                return true;
        while (capacity <= buf->length + n)
                capacity *= 2;
        data = realloc(buf->data, capacity);
        if (!data) {
                buf->error = -ENOMEM;
                return false;
        }
        buf->data = data;
        buf->capacity = capacity;
        return true;
}

void weir_buf_add(struct weir_buf *buf, const void *bytes, size_t n)
{
        if (!reserve(buf, n))
                return;
        if (n)
                memcpy(buf->data + buf->length, bytes, n);
        buf->length += n;
        buf->data[buf->length] = '\0';
}

void weir_buf_puts(struct weir_buf *buf, const char *text)
{
        weir_buf_add(buf, text, strlen(text));
}

void weir_buf_putc(struct weir_buf *buf, char c)
{
        weir_buf_add(buf, &c, 1);
}

void weir_buf_printf(struct weir_buf *buf, const char *format, ...)
{
        va_list args, again;
        int n;

        va_start(args, format);
        va_copy(again, args);
        n = vsnprintf(NULL, 0, format, args);
        va_end(args);
        if (n < 0)
                buf->error = buf->error ? buf->error : -EINVAL;
        else if (reserve(buf, (size_t)n)) {
                (void)vsnprintf(buf->data + buf->length, (size_t)n + 1, format, again);
                buf->length += (size_t)n;
        }
        va_end(again);
}

char *weir_buf_take(struct weir_buf *buf)
{
        char *data = NULL;

        if (!buf->error)
                data = TAKE_PTR(buf->data);
        weir_buf_clear(buf);
        return data;
}

void weir_buf_escape(struct weir_buf *buf, const char *bytes, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)bytes[i];

                if (c == '\\')
                        weir_buf_puts(buf, "\\\\");
                else if ((c >= 0x20 && c < 0x7f) || !WEIR_GATE(ESCAPES))
                        weir_buf_putc(buf, (char)c);
                else
                        weir_buf_printf(buf, "\\x%02x", c);
        }
}

void weir_buf_escape_lines(struct weir_buf *buf, const char *text)
{
        const unsigned char *p = (const unsigned char *)text;

        while (*p) {
                uint32_t cp = *p;
                size_t length = *p < 0x80 ? 1 : weir_utf8_decode(p, strnlen((const char *)p, 4), &cp);

                if (length > 0 && (cp == '\n' || weir_utf8_is_visible(cp)))
                        weir_buf_add(buf, (const char *)p, length);
                else
                        for (size_t i = 0; i < (length ? length : 1); i++)
                                weir_buf_printf(buf, "\\x%02x", p[i]);
                p += length ? length : 1;
        }
}

/* One character of JSON text; returns how many bytes it used. */
static size_t json_char(struct weir_buf *buf, const unsigned char *p, size_t n)
{
        uint32_t cp;
        size_t length;

        if (p[0] == '"' || p[0] == '\\') {
                weir_buf_putc(buf, '\\');
                weir_buf_putc(buf, (char)p[0]);
                return 1;
        }
        if (p[0] >= 0x20 && p[0] < 0x7f) {
                weir_buf_putc(buf, (char)p[0]);
                return 1;
        }
        if (p[0] < 0x80) {
                weir_buf_printf(buf, "\\u%04x", p[0]);
                return 1;
        }
        length = weir_utf8_decode(p, n, &cp);
        if (length == 0) {
                weir_buf_printf(buf, "\\udc%02x", p[0]);
                return 1;
        }
        if (cp < 0x10000)
                weir_buf_printf(buf, "\\u%04x", cp);
        else
                weir_buf_printf(buf, "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
                                0xdc00 + ((cp - 0x10000) & 0x3ff));
        return length;
}

static void json_text(struct weir_buf *buf, const char *bytes, size_t n)
{
        weir_buf_putc(buf, '"');
        for (size_t i = 0; i < n;)
                i += json_char(buf, (const unsigned char *)bytes + i, n - i);
        weir_buf_putc(buf, '"');
}

static void json_lead(struct weir_json *json, const char *key)
{
        if (json->comma)
                weir_buf_putc(json->buf, ',');
        json->comma = true;
        if (key) {
                json_text(json->buf, key, strlen(key));
                weir_buf_putc(json->buf, ':');
        }
}

static void json_open(struct weir_json *json, const char *key, char bracket)
{
        json_lead(json, key);
        weir_buf_putc(json->buf, bracket);
        json->comma = false;
}

static void json_close(struct weir_json *json, char bracket)
{
        weir_buf_putc(json->buf, bracket);
        json->comma = true;
}

void weir_json_begin_object(struct weir_json *json, const char *key)
{
        json_open(json, key, '{');
}

void weir_json_end_object(struct weir_json *json)
{
        json_close(json, '}');
}

void weir_json_begin_array(struct weir_json *json, const char *key)
{
        json_open(json, key, '[');
}

void weir_json_end_array(struct weir_json *json)
{
        json_close(json, ']');
}

void weir_json_string(struct weir_json *json, const char *key, const char *text)
{
        if (!text)
                weir_json_null(json, key);
        else
                weir_json_string_n(json, key, text, strlen(text));
}

void weir_json_string_n(struct weir_json *json, const char *key, const char *bytes, size_t n)
{
        json_lead(json, key);
        json_text(json->buf, bytes, n);
}

void weir_json_int(struct weir_json *json, const char *key, int64_t value)
{
        json_lead(json, key);
        weir_buf_printf(json->buf, "%" PRId64, value);
}

void weir_json_bool(struct weir_json *json, const char *key, bool value)
{
        weir_json_raw(json, key, value ? "true" : "false");
}

void weir_json_null(struct weir_json *json, const char *key)
{
        weir_json_raw(json, key, "null");
}

void weir_json_raw(struct weir_json *json, const char *key, const char *literal)
{
        json_lead(json, key);
        weir_buf_puts(json->buf, literal);
}
