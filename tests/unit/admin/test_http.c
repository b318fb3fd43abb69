/* SPDX-License-Identifier: Apache-2.0 */
/* Health and metrics: what is answered, what is refused, and that nobody who only listens or floods keeps a probe out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/http.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "event/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct rig {
        struct weir_loop *loop;
        struct weir_admin *admin;
        uint16_t port;
        bool ready;
        size_t metrics; /* bytes of the page */
};

static bool is_ready(void *context)
{
        return ((struct rig *)context)->ready;
}

static void metrics(void *context, struct weir_buf *buf)
{
        for (size_t i = 0; i < ((struct rig *)context)->metrics; i++)
                weir_buf_putc(buf, 'm');
}

static const struct weir_admin_ops ops = { .ready = is_ready, .metrics = metrics };

static int setup(void **state)
{
        struct rig *rig = calloc(1, sizeof(*rig));
        struct sockaddr_in6 sa;
        socklen_t length = sizeof(sa);
        struct weir_err err = { 0 };
        int fd;

        assert_non_null(rig);
        assert_int_equal(weir_loop_new(&rig->loop), 0);
        fd = weir_admin_listen(0, &err);
        assert_true(fd >= 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &length), 0);
        rig->port = ntohs(sa.sin6_port);
        assert_int_equal(weir_admin_new(rig->loop, fd, &ops, rig, &rig->admin), 0);
        rig->ready = true;
        rig->metrics = 10;
        *state = rig;
        return 0;
}

static int teardown(void **state)
{
        struct rig *rig = *state;

        weir_admin_free(rig->admin);
        weir_loop_free(rig->loop);
        free(rig);
        return 0;
}

static int dial(const struct rig *rig)
{
        struct sockaddr_in sa = { .sin_family = AF_INET,
                                  .sin_port = htons(rig->port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        return fd;
}

static void turn(const struct rig *rig)
{
        for (int i = 0; i < 8; i++)
                assert_int_equal(weir_loop_once(rig->loop, 0), 0);
}

/* What comes back until the end; turns the loop meanwhile. -1 if the connection was reset. */
static ssize_t answer(const struct rig *rig, int fd, char *buf, size_t n)
{
        size_t got = 0;

        while (got < n - 1) {
                ssize_t r = recv(fd, buf + got, n - 1 - got, MSG_DONTWAIT);

                if (r < 0 && errno == EAGAIN) {
                        assert_int_equal(weir_loop_once(rig->loop, 1), 0);
                        continue;
                }
                if (r < 0)
                        return -1;
                if (r == 0)
                        break;
                got += (size_t)r;
        }
        buf[got] = '\0';
        return (ssize_t)got;
}

static void ask(const struct rig *rig, const char *request, const char *wanted)
{
        char buf[8192];
        int fd = dial(rig);

        assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
        if (answer(rig, fd, buf, sizeof(buf)) < 0)
                buf[0] = '\0';
        if (strncmp(buf, wanted, strlen(wanted)) != 0)
                fail_msg("%.40s: %s", request, buf);
        (void)close(fd);
}

static void requests(void **state)
{
        struct rig *rig = *state;
        static const struct {
                const char *request, *status;
        } cases[] = {
                { "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK" },
                { "GET /ready?verbose HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK" },
                { "GET /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK" },
                { "HEAD /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK" },
                { "POST /healthz HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 405" },
                { "DELETE /quit HTTP/1.1\r\n\r\n", "HTTP/1.1 405" },
                { "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 404" },
                { "GET /../metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 404" },
                { "GET /metrics\r\n\r\n", "HTTP/1.1 400" },
                { "GET /metrics HTTP/2\r\n\r\n", "HTTP/1.1 400" },
                { "\r\n\r\n", "HTTP/1.1 400" },
                { "PRI * HTTP/2.0\r\n\r\n", "HTTP/1.1 400" },
        };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(cases); i++)
                ask(rig, cases[i].request, cases[i].status);
        rig->ready = false;
        ask(rig, "GET /ready HTTP/1.1\r\n\r\n", "HTTP/1.1 503");
        ask(rig, "GET /healthz HTTP/1.1\r\n\r\n", "HTTP/1.1 200");
}

static void one_byte_at_a_time(void **state)
{
        static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        struct rig *rig = *state;
        char buf[1024];
        int fd = dial(rig);

        for (size_t i = 0; i < sizeof(request) - 1; i++) {
                assert_int_equal(send(fd, request + i, 1, MSG_NOSIGNAL), 1);
                turn(rig);
        }
        assert_true(answer(rig, fd, buf, sizeof(buf)) > 0);
        assert_non_null(strstr(buf, "\r\n\r\nok\n"));
        (void)close(fd);
}

static void a_head_that_never_ends_or_holds_a_zero(void **state)
{
        struct rig *rig = *state;
        char big[8192], buf[1024];
        int fd = dial(rig);

        memset(big, 'a', sizeof(big));
        (void)!send(fd, big, sizeof(big), MSG_NOSIGNAL | MSG_DONTWAIT);
        assert_true(answer(rig, fd, buf, sizeof(buf)) <= 0);
        (void)close(fd);
        fd = dial(rig);
        (void)!send(fd, "GET /healthz\0 HTTP/1.1\r\n\r\n", 26, MSG_NOSIGNAL);
        assert_true(answer(rig, fd, buf, sizeof(buf)) <= 0);
        (void)close(fd);
}

static void those_who_say_nothing_make_room(void **state)
{
        struct rig *rig = *state;
        int silent[40];

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(silent); i++) {
                silent[i] = dial(rig);
                turn(rig);
        }
        ask(rig, "GET /ready HTTP/1.1\r\n\r\n", "HTTP/1.1 200");
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(silent); i++)
                (void)close(silent[i]);
        turn(rig);
        ask(rig, "GET /ready HTTP/1.1\r\n\r\n", "HTTP/1.1 200");
}

/* More than a socket's buffers take: the rest waits for the reader and nobody else does. */
static void a_large_page_and_a_slow_reader(void **state)
{
        static const char request[] = "GET /metrics HTTP/1.1\r\n\r\n";
        struct rig *rig = *state;
        size_t n = 0;
        char buf[65536];
        ssize_t r;
        int fd = dial(rig);

        rig->metrics = 16 * 1024 * 1024;
        assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), (ssize_t)strlen(request));
        turn(rig);
        rig->metrics = 1;
        ask(rig, "GET /ready HTTP/1.1\r\n\r\n", "HTTP/1.1 200");
        while ((r = answer(rig, fd, buf, sizeof(buf))) > 0)
                n += (size_t)r;
        assert_int_equal(r, 0);
        assert_true(n > 16 * 1024 * 1024);
        (void)close(fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(requests, setup, teardown),
                cmocka_unit_test_setup_teardown(one_byte_at_a_time, setup, teardown),
                cmocka_unit_test_setup_teardown(a_head_that_never_ends_or_holds_a_zero, setup, teardown),
                cmocka_unit_test_setup_teardown(those_who_say_nothing_make_room, setup, teardown),
                cmocka_unit_test_setup_teardown(a_large_page_and_a_slow_reader, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
