/* SPDX-License-Identifier: Apache-2.0 */
/* Strings. */
#include "base/strutil.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

bool weir_starts_with(const char *text, const char *prefix)
{
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

int weir_parse_uint(const char *text, uint64_t max, uint64_t *ret)
{
        uint64_t value = 0;

        if (*text == '\0' || (text[0] == '0' && text[1] != '\0'))
                return -EINVAL;
        for (const char *p = text; *p != '\0'; p++) {
                if (*p < '0' || *p > '9')
                        return -EINVAL;
                if (__builtin_mul_overflow(value, 10u, &value) ||
                    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
                        value = UINT64_MAX; /* keep looking: letters behind are EINVAL, not ERANGE */
        }
        if (value > max)
                return -ERANGE;
        *ret = value;
        return 0;
}

char *weir_asprintf(const char *format, ...)
{
        va_list args;
        char *text;
        int n;

        va_start(args, format);
        n = vasprintf(&text, format, args);
        va_end(args);
        return n < 0 ? NULL : text;
}

/* Room for one more. */
static int grow(struct weir_strv *v)
{
        size_t capacity = v->capacity ? v->capacity * 2 : 8;
        char **items;

        if (v->n < v->capacity)
                return 0;
        items = reallocarray(v->items, capacity, sizeof(*items));
        if (!items)
                return -ENOMEM;
        v->items = items;
        v->capacity = capacity;
        return 0;
}

int weir_strv_add(struct weir_strv *v, const char *text)
{
        weir_auto_free char *copy = strdup(text);

        if (!copy || grow(v) < 0)
                return -ENOMEM;
        v->items[v->n++] = TAKE_PTR(copy);
        return 0;
}

int weir_strv_terminate(struct weir_strv *v)
{
        if (grow(v) < 0)
                return -ENOMEM;
        v->items[v->n] = NULL;
        return 0;
}

void weir_strv_clear(struct weir_strv *v)
{
        for (size_t i = 0; i < v->n; i++)
                free(v->items[i]);
        free(v->items);
        *v = (struct weir_strv){ 0 };
}

bool weir_strv_has(const struct weir_strv *v, const char *text)
{
        for (size_t i = 0; i < v->n; i++)
                if (weir_streq(v->items[i], text))
                        return true;
        return false;
}
