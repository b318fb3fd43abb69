/* SPDX-License-Identifier: Apache-2.0 */
/* Errors for people, and lists of them. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"

int weir_err_set(struct weir_err *err, int code, const char *format, ...)
{
        va_list args;

        if (!err)
                return code;
        err->code = code;
        va_start(args, format);
        (void)vsnprintf(err->text, sizeof(err->text), format, args);
        va_end(args);
        return code;
}

/* Files and what stands in them are anybody's: what does not show as itself would move a terminal or hide a word. */
static void put_visible(struct weir_buf *buf, const char *text)
{
        size_t n = strlen(text), length;

        for (size_t i = 0; i < n; i += length) {
                const unsigned char *p = (const unsigned char *)text + i;
                uint32_t cp = *p;

                length = *p < 0x80 ? 1 : weir_utf8_decode(p, n - i, &cp);
                if (length > 0 && weir_utf8_is_visible(cp)) {
                        weir_buf_add(buf, p, length);
                        continue;
                }
                if (length == 0 || cp < 0x80)
                        weir_buf_printf(buf, "\\x%02x", *p);
                else
                        weir_buf_printf(buf, cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
                length = length ? length : 1;
        }
}

static void format_into(struct weir_buf *buf, const struct weir_err *err)
{
        if (err->path[0]) {
                put_visible(buf, err->path);
                if (err->line)
                        weir_buf_printf(buf, ":%u", err->line);
                if (err->line && err->column)
                        weir_buf_printf(buf, ":%u", err->column);
                weir_buf_puts(buf, ": ");
        }
        if (err->field[0]) {
                put_visible(buf, err->field);
                weir_buf_puts(buf, ": ");
        }
        put_visible(buf, err->text);
}

char *weir_err_format(const struct weir_err *err)
{
        struct weir_buf buf = { 0 };

        format_into(&buf, err);
        return weir_buf_take(&buf);
}

int weir_errs_add(struct weir_errs *errs, const struct weir_err *err)
{
        size_t limit = errs->limit ? errs->limit : 1000;

        errs->total++;
        if (errs->n >= limit)
                return 0;
        if (errs->n == errs->capacity) {
                size_t capacity = errs->capacity ? errs->capacity * 2 : 4;
                struct weir_err *items = reallocarray(errs->items, capacity, sizeof(*items));

                if (!items)
                        return -ENOMEM;
                errs->items = items;
                errs->capacity = capacity;
        }
        errs->items[errs->n++] = *err;
        return 0;
}

void weir_errs_clear(struct weir_errs *errs)
{
        free(errs->items);
        *errs = (struct weir_errs){ .limit = errs->limit };
}

char *weir_errs_format(const struct weir_errs *errs)
{
        struct weir_buf buf = { 0 };

        if (errs->total > 1)
                weir_buf_printf(&buf, "%zu errors occurred:\n\n", errs->total);
        for (size_t i = 0; i < errs->n; i++) {
                if (i)
                        weir_buf_putc(&buf, '\n');
                if (errs->total > 1)
                        weir_buf_puts(&buf, "* ");
                format_into(&buf, &errs->items[i]);
        }
        if (errs->total > errs->n)
                weir_buf_printf(&buf, "\n* and %zu more", errs->total - errs->n);
        if (!buf.data)
                weir_buf_puts(&buf, "");
        return weir_buf_take(&buf);
}
