/* SPDX-License-Identifier: Apache-2.0 */
/* Text that people and machines read: errors, JSON, escaping, numbers, reasons; and descriptors passed along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cursor.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/reason.h"
#include "base/strutil.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void errors_read_as_istio_prints_them(void **state)
{
        struct weir_errs errs = { 0 };
        struct weir_err err = { .path = "a.yaml", .line = 3, .column = 5, .field = "spec.ports[0].number" };
        char *text;

        (void)state;
        assert_int_equal(weir_err_set(&err, WEIR_EINVALID, "port number %d must be in the range 1..65535", 0),
                         WEIR_EINVALID);
        assert_int_equal(weir_errs_add(&errs, &err), 0);
        text = weir_errs_format(&errs);
        assert_string_equal(text, "a.yaml:3:5: spec.ports[0].number: port number 0 must be in the range 1..65535");
        free(text);
        err = (struct weir_err){ .text = "second" };
        assert_int_equal(weir_errs_add(&errs, &err), 0);
        text = weir_errs_format(&errs);
        assert_string_equal(
                text, "2 errors occurred:\n\n* a.yaml:3:5: spec.ports[0].number: port number 0 must be in the range "
                      "1..65535\n* second");
        free(text);
        weir_errs_clear(&errs);
}

/* Files can hold anything, and errors quote them: no terminal obeys, no word hides, nothing breaks the line. */
static void errors_show_what_they_quote(void **state)
{
        struct weir_err err = { .path = "a\nb",
                                .field = "\x1b[2J",
                                .text = "\xc2\x9b x\xe2\x80\xae \xf3\xa0\x80\x81 \xff \xc3\xa9" };
        char *text = weir_err_format(&err);

        (void)state;
        assert_string_equal(text, "a\\x0ab: \\x1b[2J: \\u009b x\\u202e \\U000e0001 \\xff \xc3\xa9");
        free(text);
}

static void lists_of_errors_are_bounded(void **state)
{
        struct weir_errs errs = { .limit = 2 };
        struct weir_err err = { .text = "x" };
        char *text;

        (void)state;
        for (int i = 0; i < 5; i++)
                assert_int_equal(weir_errs_add(&errs, &err), 0);
        assert_int_equal(errs.n, 2);
        text = weir_errs_format(&errs);
        assert_string_equal(text, "5 errors occurred:\n\n* x\n* x\n* and 3 more");
        free(text);
        weir_errs_clear(&errs);
}

static void json_escapes_everything_but_printable_ascii(void **state)
{
        struct weir_buf buf = { 0 };
        struct weir_json json = { .buf = &buf };

        (void)state;
        weir_json_begin_object(&json, NULL);
        weir_json_string(&json, "a", "\"\\\n\x1b[31m");
        weir_json_string(&json, "u", "\xc3\xa9\xf0\x9f\x98\x80");
        weir_json_string(&json, "bad", "\xff\xc0\xaf\xed\xa0\x80");
        weir_json_begin_array(&json, "list");
        weir_json_int(&json, NULL, -1);
        weir_json_bool(&json, NULL, true);
        weir_json_null(&json, NULL);
        weir_json_end_array(&json);
        weir_json_string(&json, "none", NULL);
        weir_json_end_object(&json);
        assert_string_equal(
                buf.data,
                "{\"a\":\"\\\"\\\\\\u000a\\u001b[31m\",\"u\":\"\\u00e9\\ud83d\\ude00\","
                "\"bad\":\"\\udcff\\udcc0\\udcaf\\udced\\udca0\\udc80\",\"list\":[-1,true,null],\"none\":null}");
        weir_buf_clear(&buf);
}

static void buffers_keep_their_first_error(void **state)
{
        struct weir_buf buf = { .limit = 4 };

        (void)state;
        weir_buf_puts(&buf, "abcd");
        assert_int_equal(buf.error, 0);
        weir_buf_putc(&buf, 'e');
        assert_int_equal(buf.error, -E2BIG);
        assert_null(weir_buf_take(&buf));
        weir_buf_escape(&buf, "\\\t", 2);
        assert_int_equal(buf.error, -E2BIG);
        buf.limit = 0;
        weir_buf_clear(&buf);
        weir_buf_escape(&buf, "a\\\t", 3);
        assert_string_equal(buf.data, "a\\\\\\x09");
        weir_buf_clear(&buf);
}

static void numbers_are_decimal(void **state)
{
        uint64_t n = 99;

        (void)state;
        assert_int_equal(weir_parse_uint("0", 10, &n), 0);
        assert_int_equal(n, 0);
        assert_int_equal(weir_parse_uint("65535", 65535, &n), 0);
        assert_int_equal(weir_parse_uint("65536", 65535, &n), -ERANGE);
        assert_int_equal(weir_parse_uint("99999999999999999999999", UINT64_MAX - 1, &n), -ERANGE);
        assert_int_equal(n, 65535);
        for (const char *const *p = (const char *const[]){ "", "010", "+1", "-1", "1 ", "0x1", NULL }; *p; p++)
                assert_int_equal(weir_parse_uint(*p, 100, &n), -EINVAL);
}

static void every_reason_has_a_name_of_its_own(void **state)
{
        (void)state;
        for (unsigned i = 0; i < WEIR_REASON_COUNT; i++)
                for (unsigned j = 0; j < i; j++)
                        assert_string_not_equal(weir_reason_name(i), weir_reason_name(j));
        assert_string_equal(weir_reason_words(WEIR_REASON_NO_RULE), "no rule");
        assert_string_equal(weir_reason_name(4711), "unknown");
        assert_int_equal(WEIR_VERDICT_DENY, 0);
}

static void cursors_fail_for_good(void **state)
{
        static const uint8_t bytes[] = { 1, 2, 3, 4, 5 };
        struct weir_cursor c = weir_cursor(bytes, sizeof(bytes)), sub;

        (void)state;
        assert_int_equal(weir_cursor_be16(&c), 0x0102);
        sub = weir_cursor_sub(&c, 2);
        assert_int_equal(weir_cursor_u8(&sub), 3);
        assert_int_equal(weir_cursor_be16(&sub), 0);
        assert_false(weir_cursor_ok(&sub));
        assert_int_equal(weir_cursor_left(&c), 1);
        assert_null(weir_cursor_take(&c, 2));
        assert_int_equal(weir_cursor_u8(&c), 0);
        assert_false(weir_cursor_ok(&c));
}

static void descriptors_travel(void **state)
{
        int pair[2], got[1];
        size_t n = 1;
        char c;

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
        assert_int_equal(weir_fd_send(pair[0], "x", 1, pair, 1), 0);
        assert_int_equal(weir_fd_recv(pair[1], &c, 1, got, &n), 1);
        assert_int_equal(n, 1);
        assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
        (void)close(got[0]);
        /* More than there is room for: all are closed, and it is an error. */
        n = 1;
        assert_int_equal(weir_fd_send(pair[0], "x", 1, pair, 2), 0);
        assert_int_equal(weir_fd_recv(pair[1], &c, 1, got, &n), -EPROTO);
        assert_int_equal(n, 0);
        (void)close(pair[0]);
        (void)close(pair[1]);
}

static void files_are_read_up_to_a_limit(void **state)
{
        char *text;
        size_t n;

        (void)state;
        assert_int_equal(weir_file_slurp(AT_FDCWD, "/", 10, &text, &n), -EISDIR);
        assert_int_equal(weir_file_slurp(AT_FDCWD, "/nonexistent", 10, &text, &n), -ENOENT);
        assert_int_equal(weir_file_slurp(AT_FDCWD, "/proc/self/status", 10, &text, &n), -EFBIG);
        assert_int_equal(weir_file_slurp(AT_FDCWD, "/proc/self/comm", 100, &text, &n), 0);
        assert_int_equal(strlen(text), n);
        free(text);
}

/* An age that many seconds old. */
static const char *age_of(int64_t seconds, char *buf)
{
        time_t then = time(NULL) - (time_t)seconds;
        char text[WEIR_TIME_STRLEN];
        struct tm tm;

        (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&then, &tm));
        return weir_time_age(text, buf);
}

static void ages_read_as_kubectl_prints_them(void **state)
{
        static const struct {
                int64_t seconds;
                const char *words;
        } cases[] = {
                { -100, "0s" },
                { 6 * 60 + 30, "6m30s" },
                { 600, "10m" },
                { 7200, "120m" },
                { 4 * 3600, "4h" },
                { 4 * 3600 + 1800, "4h30m" },
                { 20 * 3600, "20h" },
                { 3 * 86400 + 7200, "3d2h" },
                { 100 * 86400, "100d" },
                { 3 * 31536000, "3y" },
                { 3 * 31536000 + 86400 * 2, "3y2d" },
                { 20 * INT64_C(31536000), "20y" },
        };
        static const char *const none[] = { "", "null", "yesterday", "2018-03-29", "2018-03-29T10:00:00" };
        char buf[WEIR_AGE_STRLEN];

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(cases); i++) {
                const char *got = age_of(cases[i].seconds, buf);

                /* The second may turn between the two readings of the clock. */
                if (strcmp(got, cases[i].words) != 0 && cases[i].seconds == 6 * 60 + 30)
                        assert_string_equal(got, "6m31s");
                else
                        assert_string_equal(got, cases[i].words);
        }
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(none); i++)
                assert_string_equal(weir_time_age(none[i], buf), "<unknown>");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(errors_show_what_they_quote),
                cmocka_unit_test(errors_read_as_istio_prints_them),
                cmocka_unit_test(lists_of_errors_are_bounded),
                cmocka_unit_test(json_escapes_everything_but_printable_ascii),
                cmocka_unit_test(buffers_keep_their_first_error),
                cmocka_unit_test(numbers_are_decimal),
                cmocka_unit_test(every_reason_has_a_name_of_its_own),
                cmocka_unit_test(cursors_fail_for_good),
                cmocka_unit_test(descriptors_travel),
                cmocka_unit_test(files_are_read_up_to_a_limit),
                cmocka_unit_test(ages_read_as_kubectl_prints_them),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
