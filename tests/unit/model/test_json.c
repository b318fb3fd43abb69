/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: all that RFC 8259 allows is read, nothing else, with its places; held against another reader of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "model/resource.h"

#include "same_json.h"

#include <stdio.h>
#include <string.h>

struct result {
        struct weir_node *roots[8];
        size_t n;
        struct weir_errs errors;
};

static int take_root(void *context, struct weir_node *root)
{
        struct result *result = context;

        assert_true(result->n < WEIR_ARRAY_SIZE(result->roots));
        result->roots[result->n++] = root;
        return 0;
}

static void read_all(struct result *result, const char *bytes, size_t n)
{
        *result = (struct result){ 0 };
        assert_int_equal(weir_node_read(bytes, n, "t.json", take_root, result, &result->errors), 0);
}

static void done(struct result *result)
{
        for (size_t i = 0; i < result->n; i++)
                weir_node_free(result->roots[i]);
        weir_errs_clear(&result->errors);
}

static void read_text(struct result *result, const char *text)
{
        read_all(result, text, strlen(text));
        if (result->errors.n)
                fail_msg("%s: %s", text, result->errors.items[0].text);
}

/* The value of "a" in the one document. */
static void gives(const char *text, const char *value)
{
        struct result got;

        read_text(&got, text);
        assert_int_equal(got.n, 1);
        assert_string_equal(weir_node_get(got.roots[0], "a")->text, value);
        done(&got);
}

static void refused(const char *text, const char *line)
{
        struct result got;
        char *said;

        read_all(&got, text, strlen(text));
        assert_true(got.errors.n > 0);
        said = weir_err_format(&got.errors.items[0]);
        if (strncmp(said + strlen("t.json:"), line, strlen(line)) != 0)
                fail_msg("%s: said \"%s\", not \"%s\"", text, said, line);
        free(said);
        done(&got);
}

static void every_escape_is_read(void **state)
{
        (void)state;
        gives("{\"a\": \"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "\"\\/\b\f\n\r\t");
        gives("{\"a\": \"\\u0041\\u00e9\\u20AC\"}", "A\xc3\xa9\xe2\x82\xac");
        gives("{\"a\": \"\\ud83d\\ude00\"}", "\xf0\x9f\x98\x80");
        gives("{\"a\": \"\\uD800\\uDC00\\udbff\\udfff\"}", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
        gives("{\"\\u0061\": \"b\"}", "b");
        gives("{\"a\": \"\x7f\xc2\x85\xe2\x80\xa8\xef\xbb\xbf\xef\xbf\xbf\"}",
              "\x7f\xc2\x85\xe2\x80\xa8\xef\xbb\xbf\xef\xbf\xbf");
        gives("{\"a\": \"\"}", "");
}

static void what_yaml_cannot_is_read(void **state)
{
        struct weir_buf text = { 0 };

        (void)state;
        gives("{\"a\"\n:\n\t\"b\"\n}", "b");
        gives("\t{\"a\":\"b\"}", "b");
        weir_buf_puts(&text, "{\"");
        for (int i = 0; i < 5000; i++)
                weir_buf_putc(&text, 'k');
        weir_buf_puts(&text, "\": 1, \"a\": \"b\"}");
        gives(text.data, "b");
        weir_buf_clear(&text);
}

/* Numbers and words are kept as written and not in quotes; the schema says later what it wants. */
static void literals_are_plain(void **state)
{
        static const char *const literals[] = { "0", "-0", "12", "-1.5", "1e5", "1.25E-3", "2e+10", "true", "false" };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(literals); i++) {
                weir_auto_free char *text = weir_asprintf("{\"a\":%s}", literals[i]);
                struct result got;

                gives(text, literals[i]);
                read_text(&got, text);
                assert_true(weir_node_get(got.roots[0], "a")->plain);
                done(&got);
        }
}

static void several_texts_in_a_stream(void **state)
{
        static const char *const streams[] = {
                "{\"a\":1}{\"a\":2}",
                "{\"a\":1}\n[]",
                "---\n{\"a\":1}\n---\n---\n{}\n---\n",
                "\xef\xbb\xbf{\"a\":\"\\ud83d\\ude00\"} \r\n--- \r\n{}",
        };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(streams); i++) {
                struct result got;

                read_text(&got, streams[i]);
                assert_int_equal(got.n, 2);
                done(&got);
        }
}

static void places_count_lines_and_characters(void **state)
{
        const char text[] = "{\r\n \"\xc3\xa9\": [1,\r  {\"b\": \"\\ud83d\\ude00\"}, \"c\"]}";
        const struct weir_node *list, *map;
        struct result got;

        (void)state;
        read_text(&got, text);
        list = weir_node_get(got.roots[0], "\xc3\xa9");
        map = list->items[1];
        assert_int_equal(got.roots[0]->line, 1);
        assert_int_equal(got.roots[0]->column, 1);
        assert_int_equal(got.roots[0]->items[0]->line, 2);
        assert_int_equal(got.roots[0]->items[0]->column, 2);
        assert_int_equal(list->column, 7);
        assert_int_equal(map->line, 3);
        assert_int_equal(map->column, 3);
        assert_int_equal(map->items[1]->column, 9);
        assert_int_equal(list->items[2]->line, 3);
        assert_int_equal(list->items[2]->column, 26);
        done(&got);
}

static void mistakes_are_told_with_their_place(void **state)
{
        (void)state;
        refused("{\"a\": 1,\n \"b\": 2,\n \"a\": 3}", "3:2: key \"a\" is here twice, first in line 1");
        refused("{\"a\": 1, \"\\u0061\": 2}", "1:10: key \"a\" is here twice, first in line 1");
        refused("{\"a\": \"x\\u0000\"}", "1:9: a zero byte is not allowed");
        refused("{\"a\": \"\\ud83d!\"}", "1:8: half of a surrogate pair names no character");
        refused("{\"a\": \"\\ud83d\\u0041\"}", "1:8: half of a surrogate pair names no character");
        refused("{\"a\": \"\\ude00\"}", "1:8: half of a surrogate pair names no character");
        refused("{\"a\": \"\\ud83d\\ude00\" \"b\": 1}", "1:22: not JSON: a comma or } is missing");
        refused("{\"a\": \"\\ud83d\\ude00\", \"b\" 1}", "1:27: not JSON: a colon is missing");
        refused("{\"a\": \"\\ud83d\\ude00\", b: 1}", "1:23: not JSON: a key in double quotes is missing");
        refused("{\"a\": \"\\ud83d\\ude00\", \"b\": +1}", "1:28: not JSON: a value is missing");
        refused("{\"a\": \"\\ud83d\\ude00\"} x", "1:23: not JSON: a document must begin with { or [");
        refused("{\"a\": \"\\ud83d\\ude00\xff\"}", "1:20: not JSON: the bytes are not UTF-8");
        refused("{\"a\": \"\\ud83d\\ude0g\"}", "1:19: not JSON: four hexadecimal digits must follow \\u");
        /* Told of one document, and the next is read. */
        refused("{\"a\": 1, \"a\": 2}\n{\"b\": 1, \"b\": 2}", "1:10: key \"a\" is here twice");
}

/* What begins with a brace and is no JSON is YAML as ever. */
static void flow_yaml_is_still_yaml(void **state)
{
        (void)state;
        gives("{a: b}", "b");
        gives("{\"a\": b}", "b");
        gives("{\"a\": \"b\", } # said so", "b");
        gives("{\"a\": \"\\x41\\U0001f600\"}", "A\xf0\x9f\x98\x80");
        refused("{a: [b}", "1:7: not YAML:");
        refused("{a: *b}", "1:5: aliases are not allowed");
}

static void limits_hold(void **state)
{
        struct weir_buf text = { 0 };

        (void)state;
        for (int i = 0; i < 100000; i++)
                weir_buf_puts(&text, "{\"a\":");
        refused(text.data, "1:161: nested deeper than 32 levels");
        weir_buf_clear(&text);
        weir_buf_putc(&text, '[');
        for (int i = 0; i < 100001; i++)
                weir_buf_puts(&text, "0,\n");
        refused(text.data, "100000:1: more than 100000 values in one document");
        weir_buf_clear(&text);
        weir_buf_puts(&text, "[\"");
        for (int i = 0; i < 1024 * 1024; i++)
                weir_buf_putc(&text, 'a');
        weir_buf_puts(&text, "\"]");
        refused(text.data, "1:1048581: the document is larger than 1048576 bytes");
        weir_buf_clear(&text);
}

/* --- against jansson --- */

static uint32_t roll(uint32_t *seed, uint32_t n)
{
        *seed = *seed * 1664525 + 1013904223;
        return (*seed >> 8) % n;
}

/* Pieces of JSON put together at random: mostly wrong, often nearly right, sometimes right. */
static void write_random(uint32_t *seed, struct weir_buf *text)
{
        static const char *const pieces[] = {
                "{",    "}",     "[",    "]",      ":",       ",",         "\"a\"",   "\"b\"", "1",     "-",
                ".5",   "e3",    "true", "null",   "\"\\u00", "41\"",      "\\ud8",   "3d",    "\\ude", "00",
                "\"",   "\\",    "\n",   " ",      "\t",      "\\n",       "\\/",     "01",    "\xc3",  "\xa9",
                "\x01", "false", "\x7f", "\"c\":", "\"d\":[", "{\"e\":1}", ",\"f\":", "\\\"",  "E+1",
        };

        weir_buf_puts(text, roll(seed, 2) ? "{\"x\":[" : "[");
        for (uint32_t n = roll(seed, 14); n > 0; n--)
                weir_buf_puts(text, pieces[roll(seed, WEIR_ARRAY_SIZE(pieces))]);
        weir_buf_puts(text, roll(seed, 2) ? "]}" : "]");
}

static void another_reader_says_the_same(void **state)
{
        unsigned right = 0, rounds = 200000;

        (void)state;
        for (uint32_t seed = 1, i = 0; i < rounds; i++) {
                struct weir_buf text = { 0 };
                struct weir_node_place at;
                const char *problem = NULL;
                struct result got;
                json_error_t error;
                json_t *json;
                bool is_json;

                write_random(&seed, &text);
                json = json_loadb(text.data, text.length, JSON_REJECT_DUPLICATES, &error);
                is_json = weir_node_is_json(text.data, text.length, &at, &problem);
                if (json) {
                        right++;
                        assert_true(is_json);
                        read_all(&got, text.data, text.length);
                        if (got.errors.n || got.n != 1 || !is_same_json(got.roots[0], json))
                                fail_msg("read otherwise: %s", text.data);
                        done(&got);
                } else if (is_json) {
                        /* Only what is JSON by its grammar and refused for its meaning, or several texts. */
                        read_all(&got, text.data, text.length);
                        if (!got.errors.n && got.n == 1 && json_error_code(&error) != json_error_numeric_overflow)
                                fail_msg("taken, but %s: %s", error.text, text.data);
                        done(&got);
                }
                json_decref(json);
                weir_buf_clear(&text);
        }
        assert_true(right > 1000);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_escape_is_read),
                cmocka_unit_test(what_yaml_cannot_is_read),
                cmocka_unit_test(literals_are_plain),
                cmocka_unit_test(several_texts_in_a_stream),
                cmocka_unit_test(places_count_lines_and_characters),
                cmocka_unit_test(mistakes_are_told_with_their_place),
                cmocka_unit_test(flow_yaml_is_still_yaml),
                cmocka_unit_test(limits_hold),
                cmocka_unit_test(another_reader_says_the_same),
        };

        return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
