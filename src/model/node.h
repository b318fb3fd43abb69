/* SPDX-License-Identifier: Apache-2.0 */
/* A document as a tree: what the YAML says and where it says it, before anybody asks what it means. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

enum weir_node_type { WEIR_NODE_SCALAR, WEIR_NODE_SEQUENCE, WEIR_NODE_MAPPING };

/**
 * struct weir_node - one value
 * @plain: a scalar without quotes, which may be a number, a bool or null
 * @items: of a sequence its @n values; of a mapping 2 * @n: key, value, key, value. Owned, as is @text
 */
struct weir_node {
        enum weir_node_type type;
        bool plain;
        unsigned line, column; /* 1-based */
        char *text;
        struct weir_node **items;
        size_t n, capacity;
};

struct weir_node *weir_node_new(enum weir_node_type type, unsigned line, unsigned column);
struct weir_node *weir_node_scalar(const char *text, bool plain); /* without a place */
void weir_node_free(struct weir_node *node);
WEIR_DEFINE_CLEANUP(node, struct weir_node *, weir_node_free)
struct weir_node *weir_node_copy(const struct weir_node *node);

/* Takes @child over, also on failure. */
WEIR_MUST int weir_node_append(struct weir_node *sequence, struct weir_node *child);
WEIR_MUST int weir_node_put(struct weir_node *mapping, struct weir_node *key, struct weir_node *value);

/* The value of @key; NULL if it is absent or null. */
struct weir_node *weir_node_get(const struct weir_node *mapping, const char *key);
/* Sets, replaces, or with NULL removes the text of @key. */
WEIR_MUST int weir_node_set_text(struct weir_node *mapping, const char *key, const char *text);

/* Whether a scalar is null as YAML and JSON write it: empty, ~, null. */
bool weir_node_is_null(const struct weir_node *node);

struct weir_errs;

struct weir_node_place {
        unsigned line, column; /* 1-based, in characters */
};

/* Adds one error of the document itself. 0; -ENOMEM */
WEIR_MUST int weir_node_complain(struct weir_errs *errors, const char *path, struct weir_node_place at,
                                 const char *text);
/* Complains of each key of @mapping that is there a second time, and sets @wrong if there is one. 0; -ENOMEM */
WEIR_MUST int weir_node_refuse_twins(const struct weir_node *mapping, const char *path, struct weir_errs *errors,
                                     bool *wrong);

/**
 * weir_node_read() - the documents of a YAML or JSON stream, one after the other
 * @document: takes over the root of each that is not empty; what it returns below 0 stops the reading
 * @errors:   what is no YAML, or YAML of a kind that is refused: anchors, aliases, tags, a key twice, over the limits
 *
 * A document with errors is not handed on; the ones behind it are, unless the stream cannot be followed any more.
 * Return: 0 (look at @errors); -ENOMEM; what @document returned
 */
WEIR_MUST int weir_node_read(const char *bytes, size_t n, const char *path,
                             int (*document)(void *context, struct weir_node *root), void *context,
                             struct weir_errs *errors);

/**
 * weir_node_is_json() - whether a stream is JSON, RFC 8259, from end to end; private to model/
 * @ret_at:      if it only begins like it: how far it is JSON
 * @ret_problem: and what is wrong there; NULL if nothing is. Both are untouched if it does not even begin like it
 */
bool weir_node_is_json(const char *bytes, size_t n, struct weir_node_place *ret_at, const char **ret_problem);
/* As weir_node_read(), of what weir_node_is_json(). */
WEIR_MUST int weir_node_read_json(const char *bytes, size_t n, const char *path,
                                  int (*document)(void *context, struct weir_node *root), void *context,
                                  struct weir_errs *errors);
