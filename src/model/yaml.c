/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From bytes to trees, by libyaml's events; JSON has its own reader in json.c.
 *
 * Theory of operation
 *
 * Only what can be said without surprises is taken: no anchors and aliases (a few hundred bytes of them make
 * gigabytes), no tags, no key twice. These are errors of their document, and reading goes on so that all are told at
 * once. A stream over a limit, or that is no YAML, cannot be followed further: one error, and the end. Recursion is
 * bounded by the limit of depth.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "base/err.h"
#include "base/gate.h"
#include "base/strutil.h"
#include "model/node.h"
#include "model/resource.h"

struct reader {
        yaml_parser_t parser;
        const char *path, *bytes;
        size_t n_bytes;
        struct weir_errs *errors;
        size_t n_nodes, start;
        struct weir_node_place json_end; /* how far the stream is JSON */
        const char *json_problem;        /* NULL if it is nothing like it */
        bool wrong;                      /* this document has errors */
        bool stopped;                    /* the stream cannot be followed */
};

static struct weir_node_place place_of(const yaml_mark_t *mark)
{
        return (struct weir_node_place){ (unsigned)mark->line + 1, (unsigned)mark->column + 1 };
}

static int complain(struct reader *r, const yaml_mark_t *mark, const char *text)
{
        r->wrong = true;
        return weir_node_complain(r->errors, r->path, place_of(mark), text);
}

static int stop(struct reader *r, const yaml_mark_t *mark, const char *text)
{
        r->stopped = true;
        return complain(r, mark, text);
}

static bool is_tab(const struct reader *r, const yaml_mark_t *mark)
{
        const char *line = r->bytes, *end = r->bytes + r->n_bytes;

        for (size_t i = 0; i < mark->line && line; i++) {
                line = memchr(line, '\n', (size_t)(end - line));
                line = line ? line + 1 : NULL;
        }
        /* Columns count characters; before a tab that indents there are only spaces and tabs. */
        return line && (size_t)(end - line) > mark->column && line[mark->column] == '\t';
}

static bool is_further(struct weir_node_place a, struct weir_node_place b)
{
        return a.line > b.line || (a.line == b.line && a.column >= b.column);
}

/* What was meant as JSON, and is so beyond the place where YAML gave up. */
static int json_error(struct reader *r)
{
        char text[160];

        (void)snprintf(text, sizeof(text), "not JSON: %s", r->json_problem);
        r->stopped = true;
        return weir_node_complain(r->errors, r->path, r->json_end, text);
}

/* The parser's own complaint, in one line. */
static int parser_error(struct reader *r)
{
        const yaml_parser_t *p = &r->parser;
        yaml_mark_t mark = p->problem_mark;
        char text[512];

        switch (p->error) {
        case YAML_MEMORY_ERROR:
                return -ENOMEM;
        case YAML_READER_ERROR:
                (void)snprintf(text, sizeof(text), "not YAML: %s", p->problem);
                mark = p->mark;
                break;
        case YAML_SCANNER_ERROR:
        case YAML_PARSER_ERROR:
                if (is_tab(r, &mark))
                        (void)snprintf(text, sizeof(text), "not YAML: a tab cannot indent; use spaces");
                else if (p->context)
                        (void)snprintf(text, sizeof(text), "not YAML: %s %s", p->context, p->problem);
                else
                        (void)snprintf(text, sizeof(text), "not YAML: %s", p->problem);
                break;
        case YAML_NO_ERROR:
        case YAML_COMPOSER_ERROR:
        case YAML_WRITER_ERROR:
        case YAML_EMITTER_ERROR:
                (void)snprintf(text, sizeof(text), "not YAML");
                break;
        }
        if (r->json_problem && is_further(r->json_end, place_of(&mark)))
                return json_error(r);
        return stop(r, &mark, text);
}

/* The next event, or r->stopped. */
static int next(struct reader *r, yaml_event_t *event)
{
        char text[96];

        if (!yaml_parser_parse(&r->parser, event)) {
                *event = (yaml_event_t){ 0 };
                return parser_error(r);
        }
        if (event->end_mark.index - r->start <= WEIR_DOCUMENT_BYTES_MAX || event->type == YAML_STREAM_END_EVENT)
                return 0;
        (void)snprintf(text, sizeof(text), "the document is larger than %d bytes", WEIR_DOCUMENT_BYTES_MAX);
        return stop(r, &event->start_mark, text);
}

static int refuse_properties(struct reader *r, const yaml_event_t *event, const yaml_char_t *anchor,
                             const yaml_char_t *tag)
{
        int e = 0;

        if (anchor && WEIR_GATE(ANCHORS_AND_TAGS))
                e = complain(r, &event->start_mark, "anchors are not allowed; write the value out");
        if (e == 0 && tag && WEIR_GATE(ANCHORS_AND_TAGS))
                e = complain(r, &event->start_mark, "tags are not allowed");
        return e;
}

static int build(struct reader *r, const yaml_event_t *event, unsigned depth, struct weir_node **ret);

static struct weir_node *node_at(const yaml_event_t *event, enum weir_node_type type)
{
        return weir_node_new(type, (unsigned)event->start_mark.line + 1, (unsigned)event->start_mark.column + 1);
}

static int build_scalar(struct reader *r, const yaml_event_t *event, struct weir_node **ret)
{
        weir_auto(node) struct weir_node *node = node_at(event, WEIR_NODE_SCALAR);
        const char *text = (const char *)event->data.scalar.value;
        int e;

        if (!node)
                return -ENOMEM;
        e = refuse_properties(r, event, event->data.scalar.anchor, event->data.scalar.tag);
        if (e == 0 && strlen(text) != event->data.scalar.length)
                e = complain(r, &event->start_mark, "a zero byte is not allowed");
        if (e < 0)
                return e;
        node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        node->text = strdup(text);
        if (!node->text)
                return -ENOMEM;
        *ret = TAKE_PTR(node);
        return 0;
}

static int build_sequence(struct reader *r, const yaml_event_t *start, unsigned depth, struct weir_node **ret)
{
        weir_auto(node) struct weir_node *node = node_at(start, WEIR_NODE_SEQUENCE);
        int e;

        if (!node)
                return -ENOMEM;
        e = refuse_properties(r, start, start->data.sequence_start.anchor, start->data.sequence_start.tag);
        while (e == 0 && !r->stopped) {
                struct weir_node *child = NULL;
                yaml_event_t event;
                bool end;

                e = next(r, &event);
                end = event.type == YAML_SEQUENCE_END_EVENT;
                if (e == 0 && !end && !r->stopped)
                        e = build(r, &event, depth + 1, &child);
                yaml_event_delete(&event);
                if (end)
                        break;
                if (e == 0 && child)
                        e = weir_node_append(node, child);
        }
        if (e < 0)
                return e;
        *ret = TAKE_PTR(node);
        return 0;
}

/* One key and its value. @ret_end: the mapping ended instead. */
static int build_pair(struct reader *r, struct weir_node *mapping, unsigned depth, bool *ret_end)
{
        weir_auto(node) struct weir_node *key = NULL;
        struct weir_node *value = NULL;
        yaml_event_t event;
        int e;

        e = next(r, &event);
        *ret_end = event.type == YAML_MAPPING_END_EVENT;
        if (e == 0 && !*ret_end && !r->stopped)
                e = build(r, &event, depth + 1, &key);
        if (e == 0 && key && key->type != WEIR_NODE_SCALAR)
                e = complain(r, &event.start_mark, "a key must be text");
        yaml_event_delete(&event);
        if (e < 0 || *ret_end || r->stopped)
                return e;
        e = next(r, &event);
        if (e == 0 && !r->stopped)
                e = build(r, &event, depth + 1, &value);
        yaml_event_delete(&event);
        if (e < 0 || !key || !value || key->type != WEIR_NODE_SCALAR) {
                weir_node_free(value);
                return e;
        }
        return weir_node_put(mapping, TAKE_PTR(key), value);
}

static int build_mapping(struct reader *r, const yaml_event_t *start, unsigned depth, struct weir_node **ret)
{
        weir_auto(node) struct weir_node *node = node_at(start, WEIR_NODE_MAPPING);
        bool end = false;
        int e;

        if (!node)
                return -ENOMEM;
        e = refuse_properties(r, start, start->data.mapping_start.anchor, start->data.mapping_start.tag);
        while (e == 0 && !end && !r->stopped)
                e = build_pair(r, node, depth, &end);
        if (e == 0)
                e = weir_node_refuse_twins(node, r->path, r->errors, &r->wrong);
        if (e < 0)
                return e;
        *ret = TAKE_PTR(node);
        return 0;
}

/* One value from its first event. On errors of the document *ret may stay NULL. */
static int build(struct reader *r, const yaml_event_t *event, unsigned depth, struct weir_node **ret)
{
        char text[96];

        if (depth > WEIR_DOCUMENT_DEPTH_MAX) {
                (void)snprintf(text, sizeof(text), "nested deeper than %d levels", WEIR_DOCUMENT_DEPTH_MAX);
                return stop(r, &event->start_mark, text);
        }
        if (++r->n_nodes > WEIR_DOCUMENT_NODES_MAX) {
                (void)snprintf(text, sizeof(text), "more than %d values in one document", WEIR_DOCUMENT_NODES_MAX);
                return stop(r, &event->start_mark, text);
        }
        if (event->type == YAML_SCALAR_EVENT)
                return build_scalar(r, event, ret);
        if (event->type == YAML_SEQUENCE_START_EVENT)
                return build_sequence(r, event, depth, ret);
        if (event->type == YAML_MAPPING_START_EVENT)
                return build_mapping(r, event, depth, ret);
        if (event->type == YAML_ALIAS_EVENT)
                return complain(r, &event->start_mark, "aliases are not allowed; write the value out");
        return complain(r, &event->start_mark, "not YAML");
}

/* From behind its start event to its end event. */
static int read_document(struct reader *r, int (*document)(void *context, struct weir_node *root), void *context)
{
        weir_auto(node) struct weir_node *root = NULL;
        yaml_event_t event;
        int e;

        r->n_nodes = 0;
        r->wrong = false;
        e = next(r, &event);
        if (e == 0 && !r->stopped)
                e = build(r, &event, 1, &root);
        yaml_event_delete(&event);
        if (e < 0 || r->stopped)
                return e;
        e = next(r, &event);
        yaml_event_delete(&event);
        if (e < 0 || r->wrong || !root || weir_node_is_null(root))
                return e;
        return document(context, TAKE_PTR(root));
}

static int read_stream(struct reader *r, int (*document)(void *context, struct weir_node *root), void *context)
{
        int e = 0;

        while (e == 0 && !r->stopped) {
                yaml_event_t event;
                yaml_event_type_t type;

                r->start = r->parser.mark.index;
                e = next(r, &event);
                type = event.type;
                if (type == YAML_DOCUMENT_START_EVENT) {
                        if (event.data.document_start.tag_directives.start !=
                            event.data.document_start.tag_directives.end)
                                e = complain(r, &event.start_mark, "tags are not allowed");
                        r->start = event.start_mark.index;
                        if (e == 0)
                                e = read_document(r, document, context);
                }
                yaml_event_delete(&event);
                if (type == YAML_STREAM_END_EVENT)
                        break;
        }
        return e;
}

int weir_node_read(const char *bytes, size_t n, const char *path,
                   int (*document)(void *context, struct weir_node *root), void *context, struct weir_errs *errors)
{
        struct reader r = { .path = path, .bytes = bytes, .n_bytes = n, .errors = errors };
        yaml_mark_t begin = { 0 };
        char text[96];
        int e;

        if (n > WEIR_STREAM_BYTES_MAX) {
                (void)snprintf(text, sizeof(text), "larger than %d bytes", WEIR_STREAM_BYTES_MAX);
                return stop(&r, &begin, text);
        }
        /* A byte order mark, as some editors leave; libyaml takes it for text where the encoding is given. */
        if (n >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
                bytes += 3;
                n -= 3;
                r.bytes = bytes;
                r.n_bytes = n;
        }
        if (weir_node_is_json(bytes, n, &r.json_end, &r.json_problem))
                return weir_node_read_json(bytes, n, path, document, context, errors);
        if (!yaml_parser_initialize(&r.parser))
                return -ENOMEM;
        yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&r.parser, (const unsigned char *)bytes, n);
        e = read_stream(&r, document, context);
        yaml_parser_delete(&r.parser);
        return e;
}
