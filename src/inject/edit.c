/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Nothing is printed anew: a list of edits, each at a byte of the original text, is collected while the outline is
 * walked, and applied in order of place at the end. Where two edits stand at one place, the one that was made first
 * comes first; walkers go from the inside out, which is the order in which deeper lines must stand.
 *
 * What is written is YAML in lines, in the indentation of what is there; between brackets, where indentation means
 * nothing and JSON must stay JSON, it is the same as JSON on one line.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inject/internal.h"

int add_edit(struct injection *in, size_t at, size_t remove, char *text)
{
        weir_auto_free char *owned = text;
        size_t capacity = in->capacity ? 2 * in->capacity : 32;
        struct edit *edits;

        if (!owned)
                return -ENOMEM;
        if (in->n_edits == in->capacity) {
                edits = reallocarray(in->edits, capacity, sizeof(*edits));
                if (!edits)
                        return -ENOMEM;
                in->edits = edits;
                in->capacity = capacity;
        }
        in->edits[in->n_edits++] = (struct edit){ .at = at, .remove = remove, .text = TAKE_PTR(owned) };
        return 0;
}

void clear_edits(struct injection *in)
{
        for (size_t i = 0; i < in->n_edits; i++)
                free(in->edits[i].text);
        free(in->edits);
        in->edits = NULL;
        in->n_edits = in->capacity = 0;
}

/* Stable, and short: a pod has few. */
static void sort_edits(struct injection *in)
{
        for (size_t i = 1; i < in->n_edits; i++) {
                struct edit edit = in->edits[i];
                size_t j = i;

                for (; j > 0 && in->edits[j - 1].at > edit.at; j--)
                        in->edits[j] = in->edits[j - 1];
                in->edits[j] = edit;
        }
}

int apply_edits(struct injection *in, struct weir_buf *out)
{
        size_t done = 0;

        sort_edits(in);
        for (size_t i = 0; i < in->n_edits; i++) {
                const struct edit *edit = &in->edits[i];

                if (edit->at < done)
                        return -EINVAL;
                weir_buf_add(out, in->bytes + done, edit->at - done);
                /* Lines behind a last line that lacks its end. */
                if (edit->text[0] == ' ' && edit->at == in->n && in->n > 0 && in->bytes[in->n - 1] != '\n' &&
                    (!out->length || out->data[out->length - 1] != '\n'))
                        weir_buf_putc(out, '\n');
                weir_buf_puts(out, edit->text);
                done = edit->at + edit->remove;
        }
        weir_buf_add(out, in->bytes + done, in->n - done);
        return out->error;
}

static size_t line_start(const struct injection *in, size_t at)
{
        while (at > 0 && in->bytes[at - 1] != '\n')
                at--;
        return at;
}

/* The begin of the line behind the one that ends at @at. */
static size_t line_after(const struct injection *in, size_t at)
{
        const char *end;

        if (at > 0 && in->bytes[at - 1] == '\n')
                return at;
        end = memchr(in->bytes + at, '\n', in->n - at);
        return end ? (size_t)(end - in->bytes) + 1 : in->n;
}

/* Whether only spaces stand before @at in its line: they are its indentation. */
static bool begins_line(const struct injection *in, size_t at)
{
        for (size_t i = line_start(in, at); i < at; i++)
                if (in->bytes[i] != ' ')
                        return false;
        return true;
}

static void put_spaces(struct weir_buf *buf, size_t n)
{
        while (n-- > 0)
                weir_buf_putc(buf, ' ');
}

static void put_lines(struct weir_buf *buf, const char *text, size_t indent)
{
        while (*text) {
                size_t n = strcspn(text, "\n");

                put_spaces(buf, indent);
                weir_buf_add(buf, text, n);
                weir_buf_putc(buf, '\n');
                text += n + (text[n] == '\n');
        }
}

static void put_json(struct weir_json *json, const char *key, const struct weir_node *node)
{
        switch (node->type) {
        case WEIR_NODE_SCALAR:
                if (node->plain && (weir_streq(node->text, "true") || weir_streq(node->text, "false") ||
                                    strspn(node->text, "0123456789") == strlen(node->text)))
                        weir_json_raw(json, key, node->text);
                else
                        weir_json_string(json, key, node->text);
                break;
        case WEIR_NODE_SEQUENCE:
                weir_json_begin_array(json, key);
                for (size_t i = 0; i < node->n; i++)
                        put_json(json, NULL, node->items[i]);
                weir_json_end_array(json);
                break;
        case WEIR_NODE_MAPPING:
                weir_json_begin_object(json, key);
                for (size_t i = 0; i < node->n; i++)
                        put_json(json, node->items[2 * i]->text, node->items[2 * i + 1]);
                weir_json_end_object(json);
                break;
        }
}

static int on_document(void *context, struct weir_node *root)
{
        struct weir_json json = { .buf = context };

        put_json(&json, NULL, root);
        weir_node_free(root);
        return 0;
}

/* Our own YAML as JSON. Heap, NULL without memory. */
static char *as_json(const char *yaml)
{
        weir_auto(buf) struct weir_buf buf = { 0 };
        struct weir_errs errors = { 0 };
        int r = weir_node_read(yaml, strlen(yaml), "", on_document, &buf, &errors);

        weir_errs_clear(&errors);
        return r == 0 ? weir_buf_take(&buf) : NULL;
}

static int add_flow_key(struct injection *in, const struct weir_outline *mapping, const char *key, const char *value)
{
        weir_auto_free char *json = as_json(value);

        return add_edit(in, mapping->start + 1, 0,
                        json ? weir_asprintf("\"%s\": %s%s", key, json, mapping->n ? ", " : "") : NULL);
}

/* Whether lists stand in the column of their key, as kubectl writes them, or further in: as those that are there do. */
static void put_value(struct weir_buf *buf, const char *key, const char *value, size_t indent)
{
        put_spaces(buf, indent);
        weir_buf_printf(buf, "%s:\n", key);
        put_lines(buf, value, value[0] == '-' ? indent : indent + 2);
}

int add_key(struct injection *in, const struct weir_outline *mapping, size_t after, const char *key, const char *value)
{
        weir_auto(buf) struct weir_buf buf = { 0 };
        const struct weir_outline *last, *first;

        /* Only one in brackets can be empty. */
        if (mapping->flow || mapping->n == 0)
                return add_flow_key(in, mapping, key, value);
        last = mapping->items[2 * after + 1];
        first = mapping->items[0];
        put_value(&buf, key, value, first->start - line_start(in, first->start));
        return add_edit(in, line_after(in, weir_outline_end(last)), 0, weir_buf_take(&buf));
}

/* How many of the first items are named by @names. */
static size_t named_front(const struct weir_outline *list, const char *const names[2])
{
        size_t n = 0;

        for (; n < list->n && n < 2; n++) {
                const struct weir_outline *name = weir_outline_get(list->items[n], "name");

                if (!name || name->type != WEIR_NODE_SCALAR ||
                    (!weir_streq(name->text, names[0]) && !weir_streq(name->text, names[1])))
                        break;
        }
        return n;
}

static int put_flow_front(struct injection *in, const struct weir_outline *list, const char *items, size_t replaced)
{
        weir_auto_free char *json = as_json(items);
        size_t n = json ? strlen(json) : 0;

        if (!json)
                return -ENOMEM;
        json[n - 1] = '\0'; /* without its brackets */
        if (replaced > 0)
                return add_edit(in, list->items[0]->start, list->items[replaced - 1]->end - list->items[0]->start,
                                strdup(json + 1));
        return add_edit(in, list->start + 1, 0, weir_asprintf("%s%s", json + 1, list->n ? ", " : ""));
}

int put_front(struct injection *in, const struct weir_outline *list, const char *items, const char *const names[2])
{
        size_t replaced = named_front(list, names), start, end;
        weir_auto(buf) struct weir_buf buf = { 0 };

        if (list->flow)
                return put_flow_front(in, list, items, replaced);
        if (!begins_line(in, list->start))
                return complain(in, list, "", "cannot be edited here; begin the list in a line of its own");
        start = end = line_start(in, list->start);
        put_lines(&buf, items, list->start - start);
        if (replaced > 0)
                end = line_after(in, weir_outline_end(list->items[replaced - 1]));
        return add_edit(in, start, end - start, weir_buf_take(&buf));
}

int set_value(struct injection *in, const struct weir_outline *node, const char *value)
{
        weir_auto_free char *json = as_json(value);
        bool empty = node->end == node->start;

        return add_edit(in, node->start, node->end - node->start,
                        json ? weir_asprintf("%s%s", empty ? " " : "", json) : NULL);
}

int add_words(struct injection *in, const struct weir_outline *list, const struct weir_strv *words)
{
        weir_auto(buf) struct weir_buf buf = { 0 };
        const struct weir_outline *last = list->items[list->n - 1];

        for (size_t i = 0; i < words->n; i++) {
                if (list->flow) {
                        weir_buf_printf(&buf, ", \"%s\"", words->items[i]);
                        continue;
                }
                put_spaces(&buf, list->start - line_start(in, list->start));
                weir_buf_printf(&buf, "- %s\n", words->items[i]);
        }
        return add_edit(in, list->flow ? last->end : line_after(in, weir_outline_end(last)), 0, weir_buf_take(&buf));
}
