/* SPDX-License-Identifier: Apache-2.0 */
/* A tree of ours against one of jansson's. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/strutil.h"
#include "model/node.h"

static inline bool is_same_json(const struct weir_node *node, const json_t *json)
{
        const char *key;
        json_t *value;
        bool equal = true;

        if (json_is_object(json)) {
                equal = node->type == WEIR_NODE_MAPPING && node->n == json_object_size(json);
                json_object_foreach((json_t *)(uintptr_t)json, key, value)
                {
                        size_t i = 0;

                        while (equal && i < node->n && !weir_streq(node->items[2 * i]->text, key))
                                i++;
                        equal = equal && i < node->n && is_same_json(node->items[2 * i + 1], value);
                }
                return equal;
        }
        if (json_is_array(json)) {
                equal = node->type == WEIR_NODE_SEQUENCE && node->n == json_array_size(json);
                for (size_t i = 0; equal && i < node->n; i++)
                        equal = is_same_json(node->items[i], json_array_get(json, i));
                return equal;
        }
        if (node->type != WEIR_NODE_SCALAR || node->plain == json_is_string(json))
                return false;
        if (json_is_string(json))
                return weir_streq(node->text, json_string_value(json));
        if (json_is_number(json))
                return strtod(node->text, NULL) == json_number_value(json);
        return weir_streq(node->text, json_is_true(json) ? "true" : json_is_false(json) ? "false" : "null");
}
