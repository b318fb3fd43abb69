/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON to trees, RFC 8259.
 *
 * Theory of operation
 *
 * JSON is nearly YAML, and what is nearly so is worse than what is not at all: libyaml refuses the surrogate pairs in
 * which JSON writes all characters above U+FFFF, keys of more than 1024 characters, a colon on the next line and some
 * characters unescaped. A JSON library would read these but says no places, and a mistake without its place is hard to
 * find. So JSON has its reader here, of the grammar and nothing else.
 *
 * A stream is read twice: first to see whether it is JSON from end to end, with no memory of it, then to build the
 * trees. What is not JSON may still be YAML, which starts with a brace as well ({hosts: [a.b]}); if it is neither,
 * the complaint of the reading that came further is the one that helps. Hence the place where the first reading ended.
 *
 * Within a stream the texts follow one another, as jq writes them, or are parted by lines of "---", as the documents of
 * YAML are. Recursion is bounded by the limit of depth.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/cursor.h"
#include "base/err.h"
#include "base/utf8.h"
#include "model/node.h"
#include "model/resource.h"

/* What ends a reading that is not to go on; never seen outside. */
#define STOPPED 1

struct reader {
        struct weir_cursor c;
        struct weir_node_place at; /* of the next byte */
        struct weir_errs *errors;  /* NULL in the first reading, which builds nothing */
        const char *path;
        const char *problem; /* why this is no JSON */
        size_t start;        /* of the document */
        size_t n_nodes;
        bool wrong; /* this document has errors */
};

static int next_byte(const struct reader *r)
{
        return weir_cursor_left(&r->c) ? *r->c.at : -1;
}

/* The column counts characters: what continues one does not move it. */
static void take(struct reader *r)
{
        uint8_t byte = weir_cursor_u8(&r->c);

        if (byte == '\n' || (byte == '\r' && next_byte(r) != '\n')) {
                r->at.line++;
                r->at.column = 1;
        } else if ((byte & 0xc0) != 0x80) {
                r->at.column++;
        }
}

static bool take_if(struct reader *r, char byte)
{
        if (next_byte(r) != byte)
                return false;
        take(r);
        return true;
}

static bool is_blank(int byte)
{
        return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static void skip_blanks(struct reader *r)
{
        while (is_blank(next_byte(r)))
                take(r);
}

static int no_json(struct reader *r, const char *problem)
{
        r->problem = problem;
        return STOPPED;
}

static int complain(struct reader *r, struct weir_node_place at, const char *text)
{
        r->wrong = true;
        return r->errors ? weir_node_complain(r->errors, r->path, at, text) : 0;
}

static int over_limit(struct reader *r, const char *before, int limit, const char *after)
{
        char text[96];
        int e;

        (void)snprintf(text, sizeof(text), "%s %d %s", before, limit, after);
        e = complain(r, r->at, text);
        return e < 0 ? e : STOPPED;
}

/* Four hex digits behind \u, or -1. */
static int32_t hex4(struct reader *r)
{
        int32_t value = 0;

        for (int i = 0; i < 4; i++) {
                static const char digits[] = "0123456789abcdef";
                int byte = next_byte(r);
                const char *digit =
                        byte > 0 ? strchr(digits, byte >= 'A' && byte <= 'F' ? byte + 'a' - 'A' : byte) : NULL;

                if (!digit)
                        return -1;
                value = value << 4 | (int32_t)(digit - digits);
                take(r);
        }
        return value;
}

/*
 * Behind "\u". Section 7: a character above U+FFFF is a pair of surrogates, D800 to DBFF and DC00 to DFFF. One of them
 * alone fits the grammar but names no character, and text without meaning is no name of anything.
 */
static int read_unicode(struct reader *r, struct weir_node_place at, struct weir_buf *text)
{
        int32_t first = hex4(r), second;
        struct reader before = *r;
        char bytes[4];

        if (first < 0)
                return no_json(r, "four hexadecimal digits must follow \\u");
        if (first >= 0xd800 && first <= 0xdbff && take_if(r, '\\') && take_if(r, 'u')) {
                second = hex4(r);
                if (second >= 0xdc00 && second <= 0xdfff)
                        first = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        }
        if (first >= 0xd800 && first <= 0xdfff) {
                *r = before;
                return complain(r, at, "half of a surrogate pair names no character");
        }
        if (first == 0)
                return complain(r, at, "a zero byte is not allowed");
        weir_buf_add(text, bytes, weir_utf8_encode((uint32_t)first, bytes));
        return 0;
}

static int read_escape(struct reader *r, struct weir_node_place at, struct weir_buf *text)
{
        static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
        int byte = next_byte(r);
        const char *name = byte > 0 ? strchr(names, byte) : NULL;

        if (take_if(r, 'u'))
                return read_unicode(r, at, text);
        if (!name)
                return no_json(r, "no such escape: \\ is followed by one of \" \\ / b f n r t u");
        take(r);
        weir_buf_putc(text, meanings[name - names]);
        return 0;
}

/* Characters that stand for themselves. */
static int read_character(struct reader *r, struct weir_buf *text)
{
        const uint8_t *p = r->c.at;
        size_t n = 1;
        uint32_t cp;

        if (*p < 0x20)
                return no_json(r,
                               "text goes over the end of the line, or holds a control character that is not escaped");
        if (*p >= 0x80)
                n = weir_utf8_decode(p, weir_cursor_left(&r->c), &cp);
        if (n == 0)
                return no_json(r, "the bytes are not UTF-8");
        weir_buf_add(text, p, n);
        for (size_t i = 0; i < n; i++)
                take(r);
        return 0;
}

/* Section 7: quotation-mark *char quotation-mark */
static int read_text(struct reader *r, struct weir_buf *text)
{
        int e = 0;

        if (!take_if(r, '"'))
                return no_json(r, "text in double quotes is missing");
        while (e == 0 && !take_if(r, '"')) {
                struct weir_node_place at = r->at;

                if (next_byte(r) < 0)
                        return no_json(r, "the closing quote is missing");
                e = take_if(r, '\\') ? read_escape(r, at, text) : read_character(r, text);
        }
        return e == 0 ? text->error : e;
}

static bool is_digit(int byte)
{
        return byte >= '0' && byte <= '9';
}

static bool take_digits(struct reader *r)
{
        if (!is_digit(next_byte(r)))
                return false;
        while (is_digit(next_byte(r)))
                take(r);
        return true;
}

/* Section 6: [ minus ] int [ frac ] [ exp ]. A value is behind this only if a comma, a bracket or a blank comes. */
static int skip_number(struct reader *r)
{
        (void)take_if(r, '-');
        if (!take_if(r, '0') && !take_digits(r))
                return no_json(r, "a value is missing");
        if (take_if(r, '.') && !take_digits(r))
                return no_json(r, "digits must follow the point of a number");
        if (take_if(r, 'e') || take_if(r, 'E')) {
                if (!take_if(r, '+'))
                        (void)take_if(r, '-');
                if (!take_digits(r))
                        return no_json(r, "digits must follow the exponent of a number");
        }
        return 0;
}

/* A number, true, false or null: kept as it is written. */
static int read_literal(struct reader *r, struct weir_buf *text)
{
        static const char *const words[] = { "true", "false", "null" };
        const uint8_t *begin = r->c.at;
        int e;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(words); i++) {
                size_t n = strlen(words[i]);

                if (weir_cursor_left(&r->c) < n || memcmp(begin, words[i], n) != 0)
                        continue;
                for (; n > 0; n--)
                        take(r);
                weir_buf_puts(text, words[i]);
                return text->error;
        }
        e = skip_number(r);
        if (e != 0)
                return e;
        weir_buf_add(text, begin, (size_t)(r->c.at - begin));
        return text->error;
}

static int read_value(struct reader *r, unsigned depth, struct weir_node **ret);

static struct weir_node *node_at(const struct reader *r, enum weir_node_type type)
{
        return weir_node_new(type, r->at.line, r->at.column);
}

static int check_size(struct reader *r)
{
        if (weir_cursor_offset(&r->c) - r->start <= WEIR_DOCUMENT_BYTES_MAX)
                return 0;
        return over_limit(r, "the document is larger than", WEIR_DOCUMENT_BYTES_MAX, "bytes");
}

/* The first reading has to end somewhere too, and leaves the complaint to the second. */
static int check_limits(struct reader *r)
{
        if (++r->n_nodes > WEIR_DOCUMENT_NODES_MAX)
                return over_limit(r, "more than", WEIR_DOCUMENT_NODES_MAX, "values in one document");
        return check_size(r);
}

static int read_scalar(struct reader *r, struct weir_node **ret)
{
        weir_auto(node) struct weir_node *node = node_at(r, WEIR_NODE_SCALAR);
        weir_auto(buf) struct weir_buf text = { 0 };
        int e;

        if (!node)
                return -ENOMEM;
        node->plain = next_byte(r) != '"';
        e = node->plain ? read_literal(r, &text) : read_text(r, &text);
        if (e != 0)
                return e;
        node->text = text.data ? weir_buf_take(&text) : strdup("");
        if (!node->text)
                return -ENOMEM;
        *ret = TAKE_PTR(node);
        return 0;
}

/* Behind an item: a comma, or the end. */
static int read_comma(struct reader *r, char end, bool *ret_end)
{
        skip_blanks(r);
        *ret_end = take_if(r, end);
        if (*ret_end || take_if(r, ','))
                return 0;
        return no_json(r, end == ']' ? "a comma or ] is missing" : "a comma or } is missing");
}

/* Section 5: begin-array [ value *( value-separator value ) ] end-array */
static int read_array(struct reader *r, unsigned depth, struct weir_node **ret)
{
        weir_auto(node) struct weir_node *node = node_at(r, WEIR_NODE_SEQUENCE);
        bool end;
        int e = 0;

        if (!node)
                return -ENOMEM;
        take(r);
        skip_blanks(r);
        end = take_if(r, ']');
        while (e == 0 && !end) {
                struct weir_node *child = NULL;

                skip_blanks(r);
                e = read_value(r, depth + 1, &child);
                if (e == 0 && child)
                        e = weir_node_append(node, child);
                if (e == 0)
                        e = read_comma(r, ']', &end);
        }
        if (e == 0)
                *ret = TAKE_PTR(node);
        return e;
}

/* Section 4: member = string name-separator value */
static int read_member(struct reader *r, unsigned depth, struct weir_node *mapping)
{
        weir_auto(node) struct weir_node *key = NULL;
        struct weir_node *value = NULL;
        int e;

        skip_blanks(r);
        if (next_byte(r) != '"')
                return no_json(r, "a key in double quotes is missing");
        e = check_limits(r);
        if (e == 0)
                e = read_scalar(r, &key);
        if (e != 0)
                return e;
        skip_blanks(r);
        if (!take_if(r, ':'))
                return no_json(r, "a colon is missing");
        skip_blanks(r);
        e = read_value(r, depth + 1, &value);
        if (e != 0 || !value)
                return e;
        return weir_node_put(mapping, TAKE_PTR(key), value);
}

static int read_object(struct reader *r, unsigned depth, struct weir_node **ret)
{
        weir_auto(node) struct weir_node *node = node_at(r, WEIR_NODE_MAPPING);
        bool end;
        int e = 0;

        if (!node)
                return -ENOMEM;
        take(r);
        skip_blanks(r);
        end = take_if(r, '}');
        while (e == 0 && !end) {
                e = read_member(r, depth, node);
                if (e == 0)
                        e = read_comma(r, '}', &end);
        }
        if (e == 0 && r->errors)
                e = weir_node_refuse_twins(node, r->path, r->errors, &r->wrong);
        if (e == 0)
                *ret = TAKE_PTR(node);
        return e;
}

/* In the first reading a scalar is forgotten at once, and with it all that would hold it. */
static int read_value(struct reader *r, unsigned depth, struct weir_node **ret)
{
        weir_auto(node) struct weir_node *node = NULL;
        int e;

        if (depth > WEIR_DOCUMENT_DEPTH_MAX)
                return over_limit(r, "nested deeper than", WEIR_DOCUMENT_DEPTH_MAX, "levels");
        e = check_limits(r);
        if (e != 0)
                return e;
        if (next_byte(r) == '{')
                e = read_object(r, depth, &node);
        else if (next_byte(r) == '[')
                e = read_array(r, depth, &node);
        else
                e = read_scalar(r, &node);
        if (e == 0 && r->errors)
                *ret = TAKE_PTR(node);
        return e;
}

/* Blanks and lines of "---". */
static void skip_to_document(struct reader *r)
{
        for (skip_blanks(r); r->at.column == 1 && weir_cursor_left(&r->c) >= 3; skip_blanks(r)) {
                struct reader before = *r;

                for (int i = 0; i < 3; i++)
                        take(r);
                if (memcmp(before.c.at, "---", 3) != 0 || (next_byte(r) >= 0 && !is_blank(next_byte(r)))) {
                        *r = before;
                        return;
                }
        }
}

static int read_stream(struct reader *r, int (*document)(void *context, struct weir_node *root), void *context)
{
        int e = 0;

        skip_to_document(r);
        while (e == 0 && next_byte(r) >= 0) {
                weir_auto(node) struct weir_node *root = NULL;

                r->start = weir_cursor_offset(&r->c);
                r->n_nodes = 0;
                r->wrong = false;
                e = next_byte(r) == '{' || next_byte(r) == '[' ? read_value(r, 1, &root) :
                                                                 no_json(r, "a document must begin with { or [");
                if (e == 0)
                        e = check_size(r);
                if (e == 0 && document && root && !r->wrong)
                        e = document(context, TAKE_PTR(root));
                skip_to_document(r);
        }
        return e;
}

static struct reader reader_of(const char *bytes, size_t n)
{
        return (struct reader){ .c = weir_cursor(bytes, n), .at = { 1, 1 } };
}

bool weir_node_is_json(const char *bytes, size_t n, struct weir_node_place *ret_at, const char **ret_problem)
{
        struct reader r = reader_of(bytes, n);

        skip_to_document(&r);
        if (next_byte(&r) != '{' && next_byte(&r) != '[')
                return false;
        r = reader_of(bytes, n);
        (void)read_stream(&r, NULL, NULL);
        *ret_at = r.at;
        *ret_problem = r.problem;
        return !r.problem;
}

int weir_node_read_json(const char *bytes, size_t n, const char *path,
                        int (*document)(void *context, struct weir_node *root), void *context, struct weir_errs *errors)
{
        struct reader r = reader_of(bytes, n);
        int e;

        r.path = path;
        r.errors = errors;
        e = read_stream(&r, document, context);
        return e == STOPPED ? 0 : e;
}
