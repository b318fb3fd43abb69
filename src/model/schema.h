/* SPDX-License-Identifier: Apache-2.0 */
/* The shape of each kind as tables: which fields there are and what may stand in them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "model/resource.h"

struct weir_errs;
struct weir_node;
struct weir_message;

enum weir_field_type {
        WEIR_FIELD_TEXT,
        WEIR_FIELD_TEXTS, /* a list */
        WEIR_FIELD_NUMBER,
        WEIR_FIELD_ENUM, /* a name of @values, or its number */
        WEIR_FIELD_MESSAGE,
        WEIR_FIELD_MESSAGES, /* a list */
        WEIR_FIELD_TEXT_MAP,
        WEIR_FIELD_NUMBER_MAP,
        WEIR_FIELD_ANY, /* kept, not looked into */
};

/* @alias: proto's own spelling, which its JSON form takes too. The last row has no name. */
struct weir_field {
        const char *name, *alias;
        enum weir_field_type type;
        const struct weir_message *message;
        const char *const *values; /* NULL-terminated, by number */
        const char *enum_name;
};

/* @name: as Istio's messages have it, e.g. "v1alpha3.ExternalService". */
struct weir_message {
        const char *name;
        const struct weir_field *fields;
};

extern const struct weir_message weir_schema_resource; /* apiVersion, kind, metadata, spec, status */
const struct weir_message *weir_schema_spec(enum weir_kind kind);

/* Where a value stands: for messages. */
struct weir_place {
        const char *path; /* file */
        char field[160];
};

/**
 * weir_schema_check() - whether @node has the shape of @message
 * Adds every unknown field, wrong type and unknown name of an enum to @errors, and quoted numbers to @warnings (may be
 * NULL).
 * @ret_sound: whether every value that the tables know has its type, so that it may be read: unknown fields leave that
 * true Return: 0 (look at @errors); -ENOMEM
 */
WEIR_MUST int weir_schema_check(const struct weir_message *message, const struct weir_node *node,
                                const struct weir_place *place, struct weir_errs *errors, struct weir_errs *warnings,
                                bool *ret_sound);

/* The value of a field under its name or its alias; NULL if absent or null. */
const struct weir_node *weir_schema_get(const struct weir_message *message, const struct weir_node *node,
                                        const char *name);
/* Of a checked NUMBER; 0 for NULL. Beyond 64 bits it saturates. */
int64_t weir_schema_number(const struct weir_node *node);
/* Of a checked ENUM; 0 for NULL. A number that @values lacks comes back as it is. */
int64_t weir_schema_enum(const struct weir_message *message, const struct weir_node *node, const char *name);

/* Adds "@text" at @node to @list. @suffix goes behind the field path of @place: ".number", "[3]"; may be NULL. */
WEIR_MUST int weir_place_add(struct weir_errs *list, const struct weir_place *place, const struct weir_node *node,
                             const char *suffix, const char *format, ...) WEIR_PRINTF(5, 6);
