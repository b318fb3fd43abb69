/* SPDX-License-Identifier: Apache-2.0 */
/* Positions, by libyaml's events. Its marks count characters; byte_at() turns them into bytes. */
#include "model/outline.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "base/err.h"
#include "base/strutil.h"

#define DEPTH_MAX 64
#define NODES_MAX 2000000
/* A byte offset is kept for each so many characters. */
#define STEP 256

struct reader {
        yaml_parser_t parser;
        const char *path, *bytes;
        size_t n_bytes, bom;
        size_t *steps; /* NULL if every character is a byte */
        size_t n_steps;
        struct weir_errs *errors;
        size_t n_nodes;
        bool stopped;
};

static void outline_free(struct weir_outline *node)
{
        if (!node)
                return;
        for (size_t i = 0; i < (node->type == WEIR_NODE_MAPPING ? 2 * node->n : node->n); i++)
                outline_free(node->items[i]);
        free(node->items);
        free(node->text);
        free(node);
}
WEIR_DEFINE_CLEANUP(outline, struct weir_outline *, outline_free)

static int stop(struct reader *r, const yaml_mark_t *mark, const char *text)
{
        struct weir_err err = { .code = WEIR_EINVALID,
                                .line = (unsigned)mark->line + 1,
                                .column = (unsigned)mark->column + 1 };

        (void)snprintf(err.path, sizeof(err.path), "%s", r->path);
        (void)snprintf(err.text, sizeof(err.text), "%s", text);
        r->stopped = true;
        return weir_errs_add(r->errors, &err);
}

static bool continues(char c)
{
        return ((unsigned char)c & 0xc0) == 0x80;
}

/* Offsets of every STEP-th character. */
static int index_characters(struct reader *r)
{
        size_t characters = 0, ascii = r->bom;

        for (size_t i = r->bom; i < r->n_bytes; i++)
                ascii += (unsigned char)r->bytes[i] < 0x80;
        if (ascii == r->n_bytes)
                return 0;
        r->steps = calloc(r->n_bytes / STEP + 2, sizeof(*r->steps));
        if (!r->steps)
                return -ENOMEM;
        for (size_t i = r->bom; i < r->n_bytes; i++) {
                if (continues(r->bytes[i]))
                        continue;
                if (characters % STEP == 0)
                        r->steps[r->n_steps++] = i;
                characters++;
        }
        return 0;
}

static size_t byte_at(const struct reader *r, size_t character)
{
        size_t at, left = character % STEP;

        if (!r->steps)
                return character + r->bom < r->n_bytes ? character + r->bom : r->n_bytes;
        if (character / STEP >= r->n_steps)
                return r->n_bytes;
        for (at = r->steps[character / STEP]; left > 0 && at < r->n_bytes; left--)
                do {
                        at++;
                } while (at < r->n_bytes && continues(r->bytes[at]));
        return at;
}

static int next(struct reader *r, yaml_event_t *event)
{
        const yaml_parser_t *p = &r->parser;
        char text[512];

        if (yaml_parser_parse(&r->parser, event))
                return 0;
        *event = (yaml_event_t){ 0 };
        if (p->error == YAML_MEMORY_ERROR)
                return -ENOMEM;
        (void)snprintf(text, sizeof(text), "not YAML: %s%s%s", p->context ? p->context : "", p->context ? " " : "",
                       p->problem ? p->problem : "cannot be read");
        return stop(r, &p->problem_mark, text);
}

static struct weir_outline *node_new(struct reader *r, const yaml_event_t *event, enum weir_node_type type)
{
        struct weir_outline *node = calloc(1, sizeof(*node));

        if (!node)
                return NULL;
        node->type = type;
        node->start = byte_at(r, event->start_mark.index);
        node->end = byte_at(r, event->end_mark.index);
        node->line = (unsigned)event->start_mark.line + 1;
        node->column = (unsigned)event->start_mark.column + 1;
        r->n_nodes++;
        return node;
}

/* Room for @each more items. */
static int reserve(struct weir_outline *node, size_t each)
{
        size_t capacity = node->capacity ? 2 * node->capacity : 8;
        struct weir_outline **items;

        if (each * (node->n + 1) <= node->capacity)
                return 0;
        items = reallocarray(node->items, capacity, sizeof(struct weir_outline *));
        if (!items)
                return -ENOMEM;
        node->items = items;
        node->capacity = capacity;
        return 0;
}

static int build(struct reader *r, const yaml_event_t *event, unsigned depth, struct weir_outline **ret);

static int build_scalar(struct reader *r, const yaml_event_t *event, struct weir_outline **ret)
{
        weir_auto(outline) struct weir_outline *node = node_new(r, event, WEIR_NODE_SCALAR);

        if (!node)
                return -ENOMEM;
        node->alias = event->type == YAML_ALIAS_EVENT;
        node->plain = !node->alias && event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        node->text = strdup(node->alias ? "" : (const char *)event->data.scalar.value);
        if (!node->text)
                return -ENOMEM;
        *ret = TAKE_PTR(node);
        return 0;
}

static int build_child(struct reader *r, unsigned depth, struct weir_outline **ret, bool *ret_end, size_t *ret_end_at)
{
        yaml_event_t event;
        int e = next(r, &event);

        if (e == 0 && !r->stopped) {
                *ret_end = event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT;
                *ret_end_at = byte_at(r, event.end_mark.index);
                if (!*ret_end)
                        e = build(r, &event, depth + 1, ret);
        }
        yaml_event_delete(&event);
        return e;
}

/* Items until the end event; of a mapping two at a time, so that none is left without its value. */
static int build_items(struct reader *r, struct weir_outline *node, unsigned depth)
{
        size_t each = node->type == WEIR_NODE_MAPPING ? 2 : 1;
        bool end = false;
        int e = 0;

        while (e == 0 && !r->stopped && !end) {
                weir_auto(outline) struct weir_outline *first = NULL;
                weir_auto(outline) struct weir_outline *second = NULL;

                e = build_child(r, depth, &first, &end, &node->end);
                if (e == 0 && !end && !r->stopped && each == 2)
                        e = build_child(r, depth, &second, &end, &node->end);
                if (e < 0 || end || r->stopped)
                        continue;
                e = reserve(node, each);
                if (e < 0)
                        continue;
                node->items[each * node->n] = TAKE_PTR(first);
                if (each == 2)
                        node->items[2 * node->n + 1] = TAKE_PTR(second);
                node->n++;
        }
        return e;
}

static int build_collection(struct reader *r, const yaml_event_t *event, unsigned depth, struct weir_outline **ret)
{
        bool mapping = event->type == YAML_MAPPING_START_EVENT;
        weir_auto(outline) struct weir_outline *node =
                node_new(r, event, mapping ? WEIR_NODE_MAPPING : WEIR_NODE_SEQUENCE);
        int e;

        if (!node)
                return -ENOMEM;
        node->flow = mapping ? event->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE :
                               event->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
        if (depth >= DEPTH_MAX)
                return stop(r, &event->start_mark, "nested too deeply");
        e = build_items(r, node, depth);
        if (e < 0)
                return e;
        *ret = TAKE_PTR(node);
        return 0;
}

static int build(struct reader *r, const yaml_event_t *event, unsigned depth, struct weir_outline **ret)
{
        if (r->n_nodes >= NODES_MAX)
                return stop(r, &event->start_mark, "too many values");
        if (event->type == YAML_SEQUENCE_START_EVENT || event->type == YAML_MAPPING_START_EVENT)
                return build_collection(r, event, depth, ret);
        return build_scalar(r, event, ret);
}

static int read_all(struct reader *r, int (*document)(void *context, const struct weir_outline *root), void *context)
{
        bool end = false;
        int e = 0;

        while (e == 0 && !r->stopped && !end) {
                weir_auto(outline) struct weir_outline *root = NULL;
                yaml_event_t event;

                e = next(r, &event);
                end = event.type == YAML_STREAM_END_EVENT;
                if (e == 0 && !r->stopped &&
                    (event.type == YAML_SCALAR_EVENT || event.type == YAML_ALIAS_EVENT ||
                     event.type == YAML_SEQUENCE_START_EVENT || event.type == YAML_MAPPING_START_EVENT))
                        e = build(r, &event, 0, &root);
                yaml_event_delete(&event);
                if (e == 0 && root && !r->stopped)
                        e = document(context, root);
        }
        return e;
}

/* The number in "\uXXXX" if it lies from @first on, within 0x400; else -1. */
static int surrogate(const char *p, unsigned first)
{
        unsigned value = 0;

        if (p[0] != '\\' || p[1] != 'u')
                return -1;
        for (size_t i = 2; i < 6; i++) {
                if (!isxdigit((unsigned char)p[i]))
                        return -1;
                value = value << 4 | (unsigned)(isdigit((unsigned char)p[i]) ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
        }
        return value >= first && value < first + 0x400 ? (int)(value - first) : -1;
}

/*
 * JSON writes a character above U+FFFF as two surrogates, RFC 8259 section 7, and libyaml refuses them. Here only
 * places matter: each half becomes a character of its own from the private area, as long as it was, and no two alike.
 */
static void tame_surrogates(char *bytes, size_t n)
{
        for (size_t i = 0; i + 1 < n; i++) {
                int high = i + 12 <= n ? surrogate(bytes + i, 0xd800) : -1;
                int low = high >= 0 ? surrogate(bytes + i + 6, 0xdc00) : -1;
                char text[32];

                if (low >= 0) {
                        (void)snprintf(text, sizeof(text), "\\u%04x\\u%04x", 0xe000U + (unsigned)high,
                                       0xe400U + (unsigned)low);
                        memcpy(bytes + i, text, 12);
                }
                /* What is escaped begins no escape. */
                i += low >= 0 ? 11 : bytes[i] == '\\';
        }
}

/* What libyaml is to read; NULL without memory. */
static char *readable(const char *bytes, size_t n)
{
        struct weir_node_place at;
        const char *problem;
        char *copy = malloc(n + 1);

        if (!copy)
                return NULL;
        if (n > 0)
                memcpy(copy, bytes, n);
        copy[n] = '\0';
        if (weir_node_is_json(copy, n, &at, &problem))
                tame_surrogates(copy, n);
        return copy;
}

int weir_outline_read(const char *bytes, size_t n, const char *path,
                      int (*document)(void *context, const struct weir_outline *root), void *context,
                      struct weir_errs *errors)
{
        struct reader r = { .path = path, .bytes = bytes, .n_bytes = n, .errors = errors };
        yaml_mark_t start = { 0 };
        weir_auto_free char *text = NULL;
        int e;

        if (n > WEIR_OUTLINE_BYTES_MAX)
                return stop(&r, &start, "the file is larger than 16 MiB");
        /* libyaml leaves a mark of UTF-8 at the beginning out of its count, and takes UTF-16 by its own mark. */
        if (n >= 2 && ((unsigned char)bytes[0] >= 0xfe || (unsigned char)bytes[1] >= 0xfe || !bytes[0] || !bytes[1]))
                return stop(&r, &start, "not UTF-8");
        if (n >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0)
                r.bom = 3;
        e = index_characters(&r);
        if (e < 0)
                return e;
        text = readable(bytes + r.bom, n - r.bom);
        if (!text || !yaml_parser_initialize(&r.parser)) {
                free(r.steps);
                return -ENOMEM;
        }
        yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n - r.bom);
        e = read_all(&r, document, context);
        yaml_parser_delete(&r.parser);
        free(r.steps);
        return e;
}

static size_t find(const struct weir_outline *mapping, const char *key)
{
        if (!mapping || mapping->type != WEIR_NODE_MAPPING)
                return SIZE_MAX;
        for (size_t i = mapping->n; i-- > 0;)
                if (mapping->items[2 * i]->type == WEIR_NODE_SCALAR && weir_streq(mapping->items[2 * i]->text, key))
                        return i;
        return SIZE_MAX;
}

const struct weir_outline *weir_outline_get(const struct weir_outline *mapping, const char *key)
{
        size_t i = find(mapping, key);

        return i == SIZE_MAX ? NULL : mapping->items[2 * i + 1];
}

const struct weir_outline *weir_outline_key(const struct weir_outline *mapping, const char *key)
{
        size_t i = find(mapping, key);

        return i == SIZE_MAX ? NULL : mapping->items[2 * i];
}

bool weir_outline_is_null(const struct weir_outline *node)
{
        static const char *const words[] = { "", "~", "null", "Null", "NULL" };

        if (!node)
                return true;
        if (node->type != WEIR_NODE_SCALAR || !node->plain)
                return false;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(words); i++)
                if (weir_streq(node->text, words[i]))
                        return true;
        return false;
}

size_t weir_outline_end(const struct weir_outline *node)
{
        size_t n = node->type == WEIR_NODE_MAPPING ? 2 * node->n : node->n;

        return node->type == WEIR_NODE_SCALAR || node->flow || n == 0 ? node->end :
                                                                        weir_outline_end(node->items[n - 1]);
}
