/* SPDX-License-Identifier: Apache-2.0 */
/* A resource as YAML or JSON: what was written, keys sorted, in a form that reads back equal and that kubectl reads. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/strutil.h"
#include "base/utf8.h"
#include "model/node.h"
#include "model/resource.h"

#define SIMPLE_KEY_MAX 1000

static int by_key(const void *left, const void *right)
{
        struct weir_node *const *a = left, *const *b = right;

        return strcmp((*a)->text, (*b)->text);
}

/* The pairs of a mapping in the order of their keys; heap, NULL without memory. */
static struct weir_node **sorted(const struct weir_node *mapping)
{
        struct weir_node **pairs = calloc(mapping->n ? 2 * mapping->n : 1, sizeof(*pairs));

        if (!pairs)
                return NULL;
        if (mapping->n) {
                memcpy(pairs, mapping->items, 2 * mapping->n * sizeof(*pairs));
                qsort(pairs, mapping->n, 2 * sizeof(*pairs), by_key);
        }
        return pairs;
}

/* Whether @text, without quotes, is one plain scalar in any place. */
static bool plain_safe(const char *text)
{
        static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./_-";
        static const char rest[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./_-+:@";
        size_t n = strlen(text);

        if (n == 0 || !strchr(first, text[0]) || strspn(text, rest) != n || text[n - 1] == ':')
                return false;
        return !(text[0] == '-' && (n == 1 || text[1] == '-')) && !weir_starts_with(text, "...");
}

/* Whether YAML 1.1 or 1.2 would read @text, without quotes, as something else than text. Rather too much than too
 * little. */
static bool reads_as_other(const char *text)
{
        static const char *const words[] = { "null", "true", "false", "yes",  "no",   "on",    "off",
                                             "y",    "n",    "~",     ".nan", ".inf", "-.inf", "+.inf" };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(words); i++)
                if (strcasecmp(text, words[i]) == 0)
                        return true;
        return strchr("0123456789.+-", text[0]) &&
               strspn(text, "0123456789.+-_:eExXabcdefABCDEFoOTZtz ") == strlen(text) && !strchr(text, '/');
}

/* What does not show as itself is escaped: a terminal may obey it, and YAML refuses or folds much of it unescaped. */
static size_t put_character(struct weir_buf *buf, const unsigned char *p, size_t n)
{
        uint32_t cp = *p;
        size_t length = *p < 0x80 ? 1 : weir_utf8_decode(p, n, &cp);

        if (length == 0)
                length = 1;
        if (cp == '"' || cp == '\\')
                weir_buf_printf(buf, "\\%c", (int)cp);
        else if (cp == '\n')
                weir_buf_puts(buf, "\\n");
        else if (cp == '\t')
                weir_buf_puts(buf, "\\t");
        else if (weir_utf8_is_visible(cp))
                weir_buf_add(buf, p, length);
        else
                weir_buf_printf(buf, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
        return length;
}

static void put_quoted(struct weir_buf *buf, const char *text)
{
        size_t n = strlen(text);

        weir_buf_putc(buf, '"');
        for (size_t i = 0; i < n;)
                i += put_character(buf, (const unsigned char *)text + i, n - i);
        weir_buf_putc(buf, '"');
}

static void put_scalar(struct weir_buf *buf, const struct weir_node *node)
{
        if (weir_node_is_null(node))
                weir_buf_puts(buf, "null");
        else if (plain_safe(node->text) && (node->plain || !reads_as_other(node->text)))
                weir_buf_puts(buf, node->text);
        else
                put_quoted(buf, node->text);
}

static void put_indent(struct weir_buf *buf, unsigned indent)
{
        for (unsigned i = 0; i < indent; i++)
                weir_buf_puts(buf, "  ");
}

/* "? KEY" on a line of its own: YAML 1.2.2 section 7.4.2 lets only a key of up to 1024 characters stand before its
 * colon. */
static void put_key(struct weir_buf *buf, const struct weir_node *key, unsigned indent)
{
        weir_auto(buf) struct weir_buf text = { 0 };

        if (plain_safe(key->text) && !reads_as_other(key->text))
                weir_buf_puts(&text, key->text);
        else
                put_quoted(&text, key->text);
        if (text.length > SIMPLE_KEY_MAX) {
                weir_buf_printf(buf, "? %s\n", text.data);
                put_indent(buf, indent);
        } else if (text.data) {
                weir_buf_puts(buf, text.data);
        }
        weir_buf_putc(buf, ':');
        if (text.error && !buf->error)
                buf->error = text.error;
}

static void put_yaml(struct weir_buf *buf, const struct weir_node *node, unsigned indent);

static void put_mapping(struct weir_buf *buf, const struct weir_node *mapping, unsigned indent, bool first_on_line)
{
        struct weir_node **pairs = sorted(mapping);

        if (!pairs) {
                buf->error = buf->error ? buf->error : -ENOMEM;
                return;
        }
        for (size_t i = 0; i < mapping->n; i++) {
                const struct weir_node *value = pairs[2 * i + 1];

                if (i > 0 || !first_on_line)
                        put_indent(buf, indent);
                put_key(buf, pairs[2 * i], indent);
                if (value->type == WEIR_NODE_SCALAR || value->n == 0)
                        weir_buf_putc(buf, ' ');
                else
                        weir_buf_putc(buf, '\n');
                /* A list stands as deep as its key, as kubectl prints it. */
                put_yaml(buf, value, value->type == WEIR_NODE_SEQUENCE ? indent : indent + 1);
        }
        free(pairs);
}

static void put_yaml(struct weir_buf *buf, const struct weir_node *node, unsigned indent)
{
        if (node->type == WEIR_NODE_SCALAR) {
                put_scalar(buf, node);
                weir_buf_putc(buf, '\n');
        } else if (node->n == 0)
                weir_buf_puts(buf, node->type == WEIR_NODE_MAPPING ? "{}\n" : "[]\n");
        else if (node->type == WEIR_NODE_MAPPING)
                put_mapping(buf, node, indent, false);
        else
                for (size_t i = 0; i < node->n; i++) {
                        const struct weir_node *item = node->items[i];

                        put_indent(buf, indent);
                        weir_buf_puts(buf, "- ");
                        if (item->type == WEIR_NODE_MAPPING && item->n > 0)
                                put_mapping(buf, item, indent + 1, true);
                        else if (item->type == WEIR_NODE_SEQUENCE && item->n > 0) {
                                weir_buf_putc(buf, '\n');
                                put_yaml(buf, item, indent + 1);
                        } else
                                put_yaml(buf, item, indent + 1);
                }
}

void weir_resource_print_yaml(const struct weir_resource *resource, struct weir_buf *buf)
{
        put_yaml(buf, resource->node, 0);
}

/* -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?, RFC 8259 section 6 */
static bool is_json_number(const char *text)
{
        size_t n;

        if (*text == '-')
                text++;
        n = strspn(text, "0123456789");
        if (n == 0 || (text[0] == '0' && n > 1))
                return false;
        text += n;
        if (*text == '.') {
                n = strspn(text + 1, "0123456789");
                if (n == 0)
                        return false;
                text += n + 1;
        }
        if (*text == 'e' || *text == 'E') {
                text++;
                if (*text == '-' || *text == '+')
                        text++;
                n = strspn(text, "0123456789");
                if (n == 0)
                        return false;
                text += n;
        }
        return *text == '\0';
}

static void json_scalar(struct weir_json *json, const struct weir_node *node)
{
        if (weir_node_is_null(node))
                weir_json_null(json, NULL);
        else if (node->plain &&
                 (is_json_number(node->text) || weir_streq(node->text, "true") || weir_streq(node->text, "false")))
                weir_json_raw(json, NULL, node->text);
        else
                weir_json_string(json, NULL, node->text);
}

/* @indent spaces a level; 0 puts all on one line. */
static void put_json(struct weir_buf *buf, const struct weir_node *node, int indent, int depth)
{
        struct weir_json json = { .buf = buf };
        struct weir_node **pairs = NULL;
        bool mapping = node->type == WEIR_NODE_MAPPING;

        if (node->type == WEIR_NODE_SCALAR) {
                json_scalar(&json, node);
                return;
        }
        if (mapping) {
                pairs = sorted(node);
                if (!pairs) {
                        buf->error = buf->error ? buf->error : -ENOMEM;
                        return;
                }
        }
        weir_buf_putc(buf, mapping ? '{' : '[');
        for (size_t i = 0; i < node->n; i++) {
                if (i > 0)
                        weir_buf_putc(buf, ',');
                if (indent)
                        weir_buf_printf(buf, "\n%*s", indent * (depth + 1), "");
                if (mapping) {
                        json.comma = false;
                        weir_json_string(&json, NULL, pairs[2 * i]->text);
                        weir_buf_puts(buf, indent ? ": " : ":");
                }
                put_json(buf, mapping ? pairs[2 * i + 1] : node->items[i], indent, depth + 1);
        }
        if (indent && node->n > 0)
                weir_buf_printf(buf, "\n%*s", indent * depth, "");
        weir_buf_putc(buf, mapping ? '}' : ']');
        free(pairs);
}

void weir_resource_print_json(const struct weir_resource *resource, int indent, struct weir_buf *buf)
{
        put_json(buf, resource->node, indent, 0);
}
