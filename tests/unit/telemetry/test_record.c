/* SPDX-License-Identifier: Apache-2.0 */
/* Records: the JSON line, the lines for people, the counters, and that nothing here ever waits for a reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "telemetry/record.h"

static bool raw;

static bool is_raw(void *context)
{
        (void)context;
        return raw;
}

struct files {
        int log, denials;
        struct weir_sink *sink;
};

static struct files open_files(void)
{
        struct files f = { .log = memfd_create("log", MFD_CLOEXEC), .denials = memfd_create("denials", MFD_CLOEXEC) };
        struct weir_sink_options options = { .log_fd = f.log, .denials_fd = f.denials, .held = is_raw };

        raw = false;
        assert_true(f.log >= 0 && f.denials >= 0);
        assert_int_equal(weir_sink_new(&options, &f.sink), 0);
        return f;
}

static void close_files(struct files *f)
{
        weir_sink_free(f->sink);
        (void)close(f->log);
        (void)close(f->denials);
}

/* All of a file as a string; the caller frees. */
static char *text_of(int fd)
{
        off_t size = lseek(fd, 0, SEEK_END);
        char *text = calloc(1, (size_t)size + 1);

        assert_non_null(text);
        assert_int_equal(pread(fd, text, (size_t)size, 0), size);
        return text;
}

static void must_be(int fd, const char *want)
{
        char *text = text_of(fd);

        assert_string_equal(text, want);
        free(text);
}

static size_t count_of(const char *text, const char *what)
{
        size_t n = 0;

        for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
                n++;
        return n;
}

static struct weir_record denied_tcp(const char *address, uint16_t port)
{
        struct weir_record record = { .flow_id = 3,
                                      .workload = "run-1",
                                      .pid = 4712,
                                      .command = "curl",
                                      .protocol = "tcp",
                                      .has_destination = true,
                                      .port = port,
                                      .reason = WEIR_REASON_NO_RULE };

        assert_int_equal(weir_addr_parse(address, &record.destination), 0);
        return record;
}

static void prints_the_lines_of_the_story(void **state)
{
        struct files f = open_files();
        struct weir_record dns = { .pid = 4711,
                                   .command = "curl",
                                   .protocol = "dns",
                                   .name = "www.wikipedia.org",
                                   .reason = WEIR_REASON_DNS_NO_RULE,
                                   .path = WEIR_PATH_DNS };
        struct weir_record tcp = denied_tcp("198.35.26.96", 443), other = denied_tcp("198.35.26.96", 80);
        struct weir_record v6 = denied_tcp("2001:db8::1", 443), unknown = denied_tcp("192.0.2.1", 22);

        (void)state;
        other.nearest = "default/wikipedia-ext 198.35.26.96/27:443";
        unknown.pid = 0;
        unknown.command = "";
        weir_sink_record(f.sink, &dns);
        weir_sink_record(f.sink, &tcp);
        weir_sink_record(f.sink, &other);
        weir_sink_record(f.sink, &v6);
        weir_sink_record(f.sink, &unknown);
        must_be(f.denials,
                "weir: denied dns www.wikipedia.org (no rule) curl[4711]\n"
                "weir: denied tcp 198.35.26.96:443 (no rule) curl[4712]\n"
                "weir: denied tcp 198.35.26.96:80 (no rule; nearest: default/wikipedia-ext 198.35.26.96/27:443) "
                "curl[4712]\n"
                "weir: denied tcp [2001:db8::1]:443 (no rule) curl[4712]\n"
                "weir: denied tcp 192.0.2.1:22 (no rule)\n");
        close_files(&f);
}

static void tells_cut_and_audited_flows(void **state)
{
        struct files f = open_files();
        struct weir_record cut = denied_tcp("192.0.2.1", 443), audit = denied_tcp("192.0.2.2", 443);

        (void)state;
        cut.reason = WEIR_REASON_POLICY_REVOKED;
        audit.reason = WEIR_REASON_AUDIT;
        audit.verdict = WEIR_VERDICT_ALLOW;
        audit.audit = true;
        weir_sink_record(f.sink, &cut);
        weir_sink_record(f.sink, &audit);
        must_be(f.denials,
                "weir: cut tcp 192.0.2.1:443 (a newer policy no longer allows it) curl[4712]\n"
                "weir: audit tcp 192.0.2.2:443 (would have been denied; --audit let it through) curl[4712]\n");
        assert_int_equal(weir_sink_counters(f.sink)->closed, 2);
        assert_int_equal(weir_sink_counters(f.sink)->denied, 0);
        close_files(&f);
}

static void escapes_hostile_text(void **state)
{
        struct files f = open_files();
        struct weir_record record = denied_tcp("192.0.2.1", 1);
        char *text;

        (void)state;
        record.command = "\033[2J\n\\x";
        record.name = "a\"\xff\xc3\xa9";
        weir_sink_record(f.sink, &record);
        must_be(f.denials, "weir: denied tcp 192.0.2.1:1 (no rule) \\x1b[2J\\x0a\\\\x[4712]\n");
        text = text_of(f.log);
        assert_non_null(strstr(text, "\"command\":\"\\u001b[2J\\u000a\\\\x\""));
        assert_non_null(strstr(text, "\"name\":\"a\\\"\\udcff\\u00e9\""));
        assert_int_equal(count_of(text, "\n"), 1);
        free(text);
        close_files(&f);
}

static void writes_json(void **state)
{
        struct files f = open_files();
        struct weir_record record = denied_tcp("192.0.2.1", 443);
        char *text;

        (void)state;
        record.verdict = WEIR_VERDICT_ALLOW;
        record.reason = WEIR_REASON_FINISHED;
        record.rule = "default/a";
        record.has_dialled = true;
        record.dialled = record.destination;
        record.dialled_port = 8443;
        record.has_bytes = true;
        record.bytes_sent = 10;
        record.bytes_received = 20;
        record.duration_ns = 1234567;
        record.generation = 9;
        weir_sink_record(f.sink, &record);
        text = text_of(f.log);
        assert_int_equal(strncmp(text, "{\"time\":\"20", 11), 0);
        assert_string_equal(
                strstr(text, ",\"flow\""),
                ",\"flow\":3,\"workload\":\"run-1\",\"pid\":4712,\"command\":\"curl\",\"cgroup\":null,\"protocol\":"
                "\"tcp\","
                "\"destination\":\"192.0.2.1\",\"port\":443,\"name\":null,\"dialled\":\"192.0.2.1\","
                "\"dialled_port\":8443,\"verdict\":\"allow\",\"reason\":\"finished\",\"rule\":\"default/a\","
                "\"nearest\":null,\"path\":\"relay\",\"bytes_sent\":10,\"bytes_received\":20,"
                "\"duration_ms\":1.234,\"generation\":9,\"audit\":false}\n");
        free(text);
        must_be(f.denials, "");
        close_files(&f);
}

static void unknown_is_null_never_zero(void **state)
{
        struct files f = open_files();
        struct weir_record record = { .protocol = "udp", .path = WEIR_PATH_KERNEL, .reason = WEIR_REASON_REJECTED_UDP };
        char *text;

        (void)state;
        weir_sink_record(f.sink, &record);
        text = text_of(f.log);
        assert_non_null(strstr(text, "\"workload\":null,\"pid\":null,\"command\":null,\"cgroup\":null,\"protocol\":"
                                     "\"udp\",\"destination\":null,"
                                     "\"port\":null,"));
        assert_non_null(strstr(text, "\"bytes_sent\":null,\"bytes_received\":null,"));
        assert_non_null(strstr(text, "\"verdict\":\"deny\""));
        free(text);
        assert_int_equal(weir_sink_counters(f.sink)->rejected, 1);
        close_files(&f);
}

static void repeats_are_suppressed(void **state)
{
        struct files f = open_files();
        struct weir_record record = denied_tcp("192.0.2.1", 443);
        char *text;

        (void)state;
        for (int i = 0; i < 1000; i++)
                weir_sink_record(f.sink, &record);
        text = text_of(f.denials);
        /* One, or two where a second passed meanwhile. */
        assert_in_range(count_of(text, "denied"), 1, 2);
        assert_int_equal(weir_sink_counters(f.sink)->denials_suppressed, 1000 - count_of(text, "denied"));
        assert_int_equal(weir_sink_counters(f.sink)->denied, 1000);
        free(text);
        text = text_of(f.log);
        assert_int_equal(count_of(text, "\n"), 1000); /* the log has every one */
        free(text);
        close_files(&f);
}

static void a_port_scan_is_bounded(void **state)
{
        struct files f = open_files();
        char *text;

        (void)state;
        for (unsigned port = 1; port <= 20000; port++) {
                struct weir_record record = denied_tcp("192.0.2.1", (uint16_t)port);

                weir_sink_record(f.sink, &record);
        }
        weir_sink_release(f.sink);
        text = text_of(f.denials);
        assert_in_range(count_of(text, "denied"), 100, 2000); /* 100 a second, however slow the machine */
        assert_in_range(count_of(text, "more denials were not printed"), 1, 20);
        free(text);
        close_files(&f);
}

static void raw_terminals_wait(void **state)
{
        struct files f = open_files();
        struct weir_record record = denied_tcp("192.0.2.1", 443);

        (void)state;
        raw = true;
        weir_sink_record(f.sink, &record);
        weir_sink_flush(f.sink);
        must_be(f.denials, "");
        raw = false;
        weir_sink_release(f.sink);
        must_be(f.denials, "weir: denied tcp 192.0.2.1:443 (no rule) curl[4712]\n");
        close_files(&f);
}

/* Writes until the log's queue is full; the test ends at all, so nothing blocked. */
static void fill_log(int fd, int reader)
{
        struct weir_sink_options options = { .log_fd = fd, .denials_fd = -1 };
        struct weir_record record = denied_tcp("192.0.2.1", 443);
        int flags = fcntl(fd, F_GETFL);
        struct weir_sink *sink;
        char bytes[65536];
        size_t lines = 0;
        char last = '\n';

        assert_int_equal(weir_sink_new(&options, &sink), 0);
        for (int i = 0; i < 8000; i++)
                weir_sink_record(sink, &record);
        assert_true(weir_sink_counters(sink)->records_dropped > 0);
        assert_int_equal(fcntl(fd, F_GETFL), flags); /* the caller's description is as it was */
        assert_int_equal(fcntl(reader, F_SETFL, O_NONBLOCK), 0);
        for (int i = 0; i < 1000; i++) {
                ssize_t n = read(reader, bytes, sizeof(bytes));

                for (ssize_t k = 0; k < n; k++)
                        lines += bytes[k] == '\n';
                if (n > 0)
                        last = bytes[n - 1];
                weir_sink_flush(sink);
        }
        /* Whole lines only: what was not dropped arrived. */
        assert_int_equal(lines + weir_sink_counters(sink)->records_dropped, 8000);
        assert_int_equal(last, '\n');
        weir_sink_free(sink);
}

static void a_full_pipe_never_blocks(void **state)
{
        int fds[2];

        (void)state;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        fill_log(fds[1], fds[0]);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

static void a_full_socket_never_blocks(void **state)
{
        int fds[2];

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        fill_log(fds[1], fds[0]);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

static void a_reader_that_left_is_counted(void **state)
{
        int fds[2];
        struct weir_sink *sink;
        struct weir_record record = denied_tcp("192.0.2.1", 443);

        (void)state;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(weir_sink_new(&(struct weir_sink_options){ .log_fd = fds[1], .denials_fd = -1 }, &sink), 0);
        (void)close(fds[0]);
        for (int i = 0; i < 3; i++)
                weir_sink_record(sink, &record);
        assert_int_equal(weir_sink_counters(sink)->records_dropped, 3);
        weir_sink_free(sink);
        (void)close(fds[1]);
}

/* A full disk may have room again, so records wait; at the end those that still wait are lost, and counted. */
static void what_still_waits_at_the_end_is_counted(void **state)
{
        int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
        struct weir_sink *sink;
        struct weir_record record = denied_tcp("192.0.2.1", 443);

        (void)state;
        assert_true(fd >= 0);
        assert_int_equal(weir_sink_new(&(struct weir_sink_options){ .log_fd = fd, .denials_fd = -1 }, &sink), 0);
        for (int i = 0; i < 3; i++)
                weir_sink_record(sink, &record);
        assert_int_equal(weir_sink_counters(sink)->records_dropped, 0);
        assert_true(weir_sink_pending(sink));
        weir_sink_release(sink);
        assert_int_equal(weir_sink_counters(sink)->records_dropped, 3);
        assert_false(weir_sink_pending(sink));
        weir_sink_free(sink);
        (void)close(fd);
}

static void prints_stats(void **state)
{
        struct files f = open_files();
        struct weir_record tcp = denied_tcp("192.0.2.1", 443), ended = denied_tcp("192.0.2.2", 443);
        struct weir_record udp = { .protocol = "udp", .path = WEIR_PATH_KERNEL, .reason = WEIR_REASON_REJECTED_UDP };
        struct weir_record dns = { .protocol = "dns",
                                   .name = "a",
                                   .verdict = WEIR_VERDICT_ALLOW,
                                   .reason = WEIR_REASON_RULE,
                                   .path = WEIR_PATH_DNS };
        int out = memfd_create("stats", MFD_CLOEXEC);

        (void)state;
        ended.verdict = WEIR_VERDICT_ALLOW;
        ended.reason = WEIR_REASON_FINISHED;
        ended.has_bytes = true;
        ended.bytes_sent = 100;
        ended.bytes_received = 2000;
        weir_sink_opened(f.sink);
        weir_sink_opened(f.sink);
        weir_sink_record(f.sink, &ended);
        weir_sink_record(f.sink, &tcp);
        weir_sink_record(f.sink, &udp);
        weir_sink_record(f.sink, &dns);
        assert_int_equal(weir_sink_counters(f.sink)->by_reason[WEIR_REASON_FINISHED], 1);
        weir_sink_print_stats(f.sink, out);
        must_be(out, "weir: 2 connections allowed, 1 denied (no rule 1)\n"
                     "weir: 100 bytes sent, 2000 bytes received\n"
                     "weir: 1 names answered, 0 denied\n"
                     "weir: 1 other packets refused (UDP is closed 1)\n");
        (void)close(out);
        close_files(&f);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(prints_the_lines_of_the_story),
                cmocka_unit_test(tells_cut_and_audited_flows),
                cmocka_unit_test(escapes_hostile_text),
                cmocka_unit_test(writes_json),
                cmocka_unit_test(unknown_is_null_never_zero),
                cmocka_unit_test(repeats_are_suppressed),
                cmocka_unit_test(a_port_scan_is_bounded),
                cmocka_unit_test(raw_terminals_wait),
                cmocka_unit_test(a_full_pipe_never_blocks),
                cmocka_unit_test(a_full_socket_never_blocks),
                cmocka_unit_test(a_reader_that_left_is_counted),
                cmocka_unit_test(prints_stats),
                cmocka_unit_test(what_still_waits_at_the_end_is_counted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
