/* SPDX-License-Identifier: Apache-2.0 */
/* The tree. */
#include "model/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strutil.h"
#include "model/names.h"

struct weir_node *weir_node_new(enum weir_node_type type, unsigned line, unsigned column)
{
        struct weir_node *node = calloc(1, sizeof(*node));

        if (!node)
                return NULL;
        node->type = type;
        node->line = line;
        node->column = column;
        return node;
}

struct weir_node *weir_node_scalar(const char *text, bool plain)
{
        weir_auto(node) struct weir_node *node = weir_node_new(WEIR_NODE_SCALAR, 0, 0);

        if (!node)
                return NULL;
        node->plain = plain;
        node->text = strdup(text);
        return node->text ? TAKE_PTR(node) : NULL;
}

/* How many pointers items holds. */
static size_t n_items(const struct weir_node *node)
{
        return node->type == WEIR_NODE_MAPPING ? 2 * node->n : node->n;
}

void weir_node_free(struct weir_node *node)
{
        if (!node)
                return;
        for (size_t i = 0; i < n_items(node); i++)
                weir_node_free(node->items[i]);
        free(node->items);
        free(node->text);
        free(node);
}

static int reserve(struct weir_node *node, size_t more)
{
        size_t capacity = node->capacity ? node->capacity * 2 : 4;
        struct weir_node **items;

        if (n_items(node) + more <= node->capacity)
                return 0;
        items = reallocarray(node->items, capacity, sizeof(*items));
        if (!items)
                return -ENOMEM;
        node->items = items;
        node->capacity = capacity;
        return 0;
}

int weir_node_append(struct weir_node *sequence, struct weir_node *child)
{
        if (!child || reserve(sequence, 1) < 0 || !sequence->items) {
                weir_node_free(child);
                return -ENOMEM;
        }
        sequence->items[sequence->n++] = child;
        return 0;
}

int weir_node_put(struct weir_node *mapping, struct weir_node *key, struct weir_node *value)
{
        if (!key || !value || reserve(mapping, 2) < 0 || !mapping->items) {
                weir_node_free(key);
                weir_node_free(value);
                return -ENOMEM;
        }
        mapping->items[2 * mapping->n] = key;
        mapping->items[2 * mapping->n + 1] = value;
        mapping->n++;
        return 0;
}

struct weir_node *weir_node_copy(const struct weir_node *node)
{
        weir_auto(node) struct weir_node *copy = weir_node_new(node->type, node->line, node->column);

        if (!copy)
                return NULL;
        copy->plain = node->plain;
        if (node->text) {
                copy->text = strdup(node->text);
                if (!copy->text)
                        return NULL;
        }
        for (size_t i = 0; i < node->n; i++) {
                int r = node->type == WEIR_NODE_MAPPING ? weir_node_put(copy, weir_node_copy(node->items[2 * i]),
                                                                        weir_node_copy(node->items[2 * i + 1])) :
                                                          weir_node_append(copy, weir_node_copy(node->items[i]));

                if (r < 0)
                        return NULL;
        }
        return TAKE_PTR(copy);
}

bool weir_node_is_null(const struct weir_node *node)
{
        static const char *const nulls[] = { "", "~", "null", "Null", "NULL" };

        if (node->type != WEIR_NODE_SCALAR || !node->plain)
                return false;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(nulls); i++)
                if (weir_streq(node->text, nulls[i]))
                        return true;
        return false;
}

static size_t find(const struct weir_node *mapping, const char *key)
{
        size_t i = 0;

        while (i < mapping->n && !weir_streq(mapping->items[2 * i]->text, key))
                i++;
        return i;
}

struct weir_node *weir_node_get(const struct weir_node *mapping, const char *key)
{
        struct weir_node *value;
        size_t i;

        if (!mapping || mapping->type != WEIR_NODE_MAPPING)
                return NULL;
        i = find(mapping, key);
        value = i < mapping->n ? mapping->items[2 * i + 1] : NULL;
        return value && !weir_node_is_null(value) ? value : NULL;
}

int weir_node_set_text(struct weir_node *mapping, const char *key, const char *text)
{
        size_t i = find(mapping, key);
        struct weir_node *value;

        if (!text) {
                if (i == mapping->n)
                        return 0;
                weir_node_free(mapping->items[2 * i]);
                weir_node_free(mapping->items[2 * i + 1]);
                memmove(&mapping->items[2 * i], &mapping->items[2 * i + 2],
                        2 * (mapping->n - i - 1) * sizeof(*mapping->items));
                mapping->n--;
                return 0;
        }
        value = weir_node_scalar(text, false);
        if (i == mapping->n)
                return weir_node_put(mapping, weir_node_scalar(key, true), value);
        if (!value)
                return -ENOMEM;
        weir_node_free(mapping->items[2 * i + 1]);
        mapping->items[2 * i + 1] = value;
        return 0;
}

int weir_node_complain(struct weir_errs *errors, const char *path, struct weir_node_place at, const char *text)
{
        struct weir_err err = { .code = WEIR_EINVALID, .line = at.line, .column = at.column };

        (void)snprintf(err.path, sizeof(err.path), "%s", path);
        (void)snprintf(err.text, sizeof(err.text), "%s", text);
        return weir_errs_add(errors, &err);
}

static int by_key(const void *left, const void *right)
{
        const struct weir_node *a = *(struct weir_node *const *)left, *b = *(struct weir_node *const *)right;
        int order = strcmp(a->text, b->text);

        if (order == 0)
                order = a->line < b->line ? -1 : a->line > b->line;
        if (order == 0)
                order = a->column < b->column ? -1 : a->column > b->column;
        return order;
}

int weir_node_refuse_twins(const struct weir_node *mapping, const char *path, struct weir_errs *errors, bool *wrong)
{
        weir_auto_free struct weir_node **keys = NULL;
        int r = 0;

        if (mapping->n < 2)
                return 0;
        keys = calloc(mapping->n, sizeof(*keys));
        if (!keys)
                return -ENOMEM;
        for (size_t i = 0; i < mapping->n; i++)
                keys[i] = mapping->items[2 * i];
        qsort(keys, mapping->n, sizeof(*keys), by_key);
        for (size_t i = 1; i < mapping->n && r == 0; i++) {
                struct weir_node_place at = { keys[i]->line, keys[i]->column };
                char text[256], quoted[160];

                if (!weir_streq(keys[i - 1]->text, keys[i]->text))
                        continue;
                (void)snprintf(text, sizeof(text), "key %s is here twice, first in line %u",
                               weir_go_quote(keys[i]->text, quoted, sizeof(quoted)), keys[i - 1]->line);
                *wrong = true;
                r = weir_node_complain(errors, path, at, text);
        }
        return r;
}
