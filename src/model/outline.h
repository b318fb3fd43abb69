/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where things stand in a YAML or JSON stream: a tree with the bytes of each value, for who edits by position and
 * leaves everything else as it is. Anything that is YAML is taken, anchors, aliases and tags too; what they mean is
 * not.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "model/node.h"

struct weir_errs;

/**
 * struct weir_outline - one value
 * @flow:   a collection in brackets; all of JSON's are
 * @alias:  "*name": a scalar without text, whose value stands elsewhere
 * @plain:  a scalar without quotes
 * @start, @end: bytes of the stream. Of a collection without brackets @end reaches to the next token, so comments
 *          and blank lines may be in it: see weir_outline_end()
 * @items:  as of struct weir_node
 */
struct weir_outline {
        enum weir_node_type type;
        bool flow, alias, plain;
        size_t start, end;
        unsigned line, column; /* 1-based */
        char *text;
        struct weir_outline **items;
        size_t n, capacity;
};

#define WEIR_OUTLINE_BYTES_MAX (16 * 1024 * 1024)

/**
 * weir_outline_read() - the documents of a stream, one after the other
 * @document: gets the root of each that is not empty, borrowed; what it returns below 0 stops the reading
 * @errors:   what is no YAML, or over the limits of size and depth
 *
 * Return: 0 (look at @errors); -ENOMEM; what @document returned
 */
WEIR_MUST int weir_outline_read(const char *bytes, size_t n, const char *path,
                                int (*document)(void *context, const struct weir_outline *root), void *context,
                                struct weir_errs *errors);

/* The value of @key in a mapping, the last if it is there twice; NULL if it is absent, or @mapping is none. */
const struct weir_outline *weir_outline_get(const struct weir_outline *mapping, const char *key);
/* As weir_outline_get(), and the key's own place. */
const struct weir_outline *weir_outline_key(const struct weir_outline *mapping, const char *key);
/* Absent, or null as YAML writes it: nothing, ~, null. */
bool weir_outline_is_null(const struct weir_outline *node);
/* The byte behind the last one of the value itself. */
size_t weir_outline_end(const struct weir_outline *node);
