/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resolver, played: each state of a query and of a client met by each thing that can happen to it.
 */
#include "resolver_world.h"

/* --- words of the clients --- */

static void do_ask(const char *const *arguments, size_t n)
{
        uint8_t bytes[128];

        n = write_query(arguments[0], play.udp_id = ++play.next_id, bytes);
        assert_int_equal(send(play.udp, bytes, n, 0), (ssize_t)n);
        settle();
}

/* Made before there are no descriptors any more. */
static void do_tcp_socket(const char *const *arguments, size_t n)
{
        const int small = 4096;

        (void)arguments;
        (void)n;
        play.tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(play.tcp >= 0);
        assert_int_equal(setsockopt(play.tcp, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
}

static void open_tcp(void)
{
        struct sockaddr_in sin = loopback(1, play.port);

        if (play.connected)
                return;
        if (play.tcp < 0)
                do_tcp_socket(NULL, 0);
        assert_int_equal(connect(play.tcp, (struct sockaddr *)&sin, sizeof(sin)), 0);
        play.connected = true;
}

/* "whole", or "half" of the frame. */
static void do_tcp_ask(const char *const *arguments, size_t n)
{
        uint8_t bytes[130];

        n = write_query(arguments[0], play.tcp_id = ++play.next_id, bytes + 2);
        bytes[0] = 0;
        bytes[1] = (uint8_t)n;
        n += 2;
        if (weir_streq(arguments[1], "half"))
                n /= 2;
        open_tcp();
        assert_int_equal(send(play.tcp, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
        settle();
}

static void do_answer(const char *const *arguments, size_t n)
{
        uint8_t bytes[MESSAGE_MAX];

        (void)n;
        expect_reply(bytes, recv(play.udp, bytes, sizeof(bytes), MSG_DONTWAIT), play.udp_id, arguments[0]);
}

static void do_tcp_answer(const char *const *arguments, size_t n)
{
        uint8_t bytes[MESSAGE_MAX];
        ssize_t got = recv(play.tcp, bytes, sizeof(bytes), MSG_DONTWAIT);

        (void)n;
        if (got < 2)
                fail_msg("%s: nothing came", script_step());
        assert_int_equal(bytes[0] << 8 | bytes[1], got - 2);
        expect_reply(bytes + 2, got - 2, play.tcp_id, arguments[0]);
}

static void expect_read(int fd, ssize_t wanted)
{
        uint8_t bytes[MESSAGE_MAX];
        ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

        got = got < 0 ? -errno : got;
        if (got != wanted)
                fail_msg("%s: reading gives %zd", script_step(), got);
}

static void do_no_answer(const char *const *arguments, size_t n)
{
        (void)arguments;
        (void)n;
        expect_read(play.udp, -EAGAIN);
}

static void do_tcp_no_answer(const char *const *arguments, size_t n)
{
        (void)arguments;
        (void)n;
        expect_read(play.tcp, -EAGAIN);
}

static void do_tcp_end(const char *const *arguments, size_t n)
{
        (void)arguments;
        (void)n;
        expect_read(play.tcp, 0);
}

static void end(int *fd, const char *how)
{
        const struct linger now = { .l_onoff = 1 };

        if (weir_streq(how, "shut")) {
                assert_int_equal(shutdown(*fd, SHUT_WR), 0);
        } else {
                if (weir_streq(how, "reset"))
                        assert_int_equal(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
                else if (!weir_streq(how, "close"))
                        fail_msg("%s: shut, close or reset", script_step());
                close_fd(fd);
        }
        settle();
}

static void do_tcp_client(const char *const *arguments, size_t n)
{
        (void)n;
        open_tcp();
        settle();
        if (!weir_streq(arguments[0], "connect"))
                end(&play.tcp, arguments[0]);
}

/* Asks until nothing more is taken, and reads nothing. */
static void do_tcp_flood(const char *const *arguments, size_t n)
{
        uint8_t bytes[130];
        int refused = 0;

        (void)n;
        open_tcp();
        n = write_query(arguments[0], 1, bytes + 2);
        bytes[0] = 0;
        bytes[1] = (uint8_t)n;
        while (refused < 20) {
                ssize_t sent = send(play.tcp, bytes, n + 2, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (sent >= 0 && sent != (ssize_t)n + 2)
                        break;
                refused = sent < 0 ? refused + 1 : 0;
                if (sent < 0)
                        settle();
                play.n_records = play.n_asked_about = 0;
        }
        play.n_records = play.n_asked_about = 0;
}

/* The client's connection still stands, or is gone: writing says so. */
static void do_tcp_alive(const char *const *arguments, size_t n)
{
        int error = 0;
        socklen_t length = sizeof(error);

        (void)arguments;
        (void)n;
        assert_int_equal(getsockopt(play.tcp, SOL_SOCKET, SO_ERROR, &error, &length), 0);
        assert_int_equal(error, 0);
}

static void do_tcp_lost(const char *const *arguments, size_t n)
{
        int error = 0;
        socklen_t length = sizeof(error);

        (void)arguments;
        (void)n;
        assert_int_equal(getsockopt(play.tcp, SOL_SOCKET, SO_ERROR, &error, &length), 0);
        if (error != ECONNRESET && error != EPIPE)
                fail_msg("%s: it stands (%s)", script_step(), strerror(error));
}

/* --- words of the servers --- */

static void do_gets(const char *const *arguments, size_t n)
{
        struct server *server = server_of(arguments[0]);
        socklen_t length = sizeof(server->from);
        ssize_t got = recvfrom(server->udp, server->query, sizeof(server->query), MSG_DONTWAIT,
                               (struct sockaddr *)&server->from, &length);

        (void)n;
        if (got < 0)
                fail_msg("%s: it was not asked", script_step());
        server->n = (size_t)got;
}

static void do_idle(const char *const *arguments, size_t n)
{
        (void)n;
        expect_read(server_of(arguments[0])->udp, -EAGAIN);
        assert_int_equal(accept4(server_of(arguments[0])->tcp, NULL, NULL, SOCK_CLOEXEC), -1);
}

static void do_says(const char *const *arguments, size_t n)
{
        const struct server *server = server_of(arguments[0]);
        uint8_t out[MESSAGE_MAX];

        n = write_reply(arguments[1], server->query, server->n, out, sizeof(out));
        assert_int_equal(sendto(server->udp, out, n, 0, (const struct sockaddr *)&server->from, sizeof(server->from)),
                         (ssize_t)n);
        settle();
}

/* A server that stopped: its port answers that nobody is there. */
static void do_gone(const char *const *arguments, size_t n)
{
        (void)n;
        close_fd(&server_of(arguments[0])->udp);
        close_fd(&server_of(arguments[0])->tcp);
        settle();
}

static void do_tcp_gets(const char *const *arguments, size_t n)
{
        struct server *server = server_of(arguments[0]);
        ssize_t got;

        (void)n;
        close_fd(&server->conn);
        server->conn = accept4(server->tcp, NULL, NULL, SOCK_CLOEXEC);
        if (server->conn < 0)
                fail_msg("%s: nobody connects", script_step());
        settle();
        got = recv(server->conn, server->query, sizeof(server->query), MSG_DONTWAIT);
        assert_true(got > 2 && (server->query[0] << 8 | server->query[1]) == got - 2);
        server->n = (size_t)got - 2;
        memmove(server->query, server->query + 2, server->n);
}

/* "whole", "half" or "rest" of the frame. */
static void do_tcp_says(const char *const *arguments, size_t n)
{
        const struct server *server = server_of(arguments[0]);
        uint8_t out[MESSAGE_MAX];
        size_t from = 0;

        n = write_reply(arguments[1], server->query, server->n, out + 2, sizeof(out) - 2);
        out[0] = (uint8_t)(n >> 8);
        out[1] = (uint8_t)n;
        n += 2;
        if (weir_streq(arguments[2], "half"))
                n /= 2;
        else if (weir_streq(arguments[2], "rest"))
                from = n / 2;
        assert_int_equal(send(server->conn, out + from, n - from, MSG_NOSIGNAL), (ssize_t)(n - from));
        settle();
}

static void do_tcp_server(const char *const *arguments, size_t n)
{
        (void)n;
        end(&server_of(arguments[0])->conn, arguments[1]);
}

/* The queue of server 1 is full: what connects to it waits. */
static void do_full(const char *const *arguments, size_t n)
{
        struct sockaddr_in sin = loopback(1, play.up_port);

        (void)arguments;
        (void)n;
        assert_int_equal(listen(play.servers[0].tcp, 0), 0);
        for (size_t i = 0; i < FILLERS; i++) {
                play.fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                (void)connect(play.fillers[i], (struct sockaddr *)&sin, sizeof(sin));
        }
        (void)usleep(20000);
}

/* --- words of the world --- */

static void do_pass(const char *const *arguments, size_t n)
{
        (void)n;
        play.until = play.now + script_time(arguments[0]);
        while (play.now < play.until)
                assert_int_equal(weir_loop_once(play.loop, -1), 0);
        play.until = 0;
        settle();
}

static void do_policy(const char *const *arguments, size_t n)
{
        (void)n;
        play.policy.allow = !weir_streq(arguments[0], "deny");
        weir_resolver_policy_changed(play.resolver);
        settle();
}

static void do_record(const char *const *arguments, size_t n)
{
        const char *name;

        (void)n;
        if (play.n_records <= play.n_asked_about)
                fail_msg("%s: there is none", script_step());
        name = weir_reason_name(play.records[play.n_asked_about++ % RECORDS_MAX]);
        if (!weir_streq(name, arguments[0]))
                fail_msg("%s: it says %s", script_step(), name);
}

static void do_silent(const char *const *arguments, size_t n)
{
        (void)arguments;
        (void)n;
        if (play.n_records != play.n_asked_about)
                fail_msg("%s: a record of %s", script_step(),
                         weir_reason_name(play.records[play.n_asked_about % RECORDS_MAX]));
}

static void do_queries(const char *const *arguments, size_t n)
{
        size_t used = 0;

        (void)n;
        for (size_t i = 0; i < play.resolver->n_queries; i++)
                used += play.resolver->queries[i].state != QUERY_FREE;
        assert_int_equal(used, script_number(arguments[0]));
}

static void do_fds(const char *const *arguments, size_t n)
{
        struct rlimit limit = play.limit;

        (void)n;
        if (weir_streq(arguments[0], "none")) {
                int next = dup(0);

                assert_int_equal(getrlimit(RLIMIT_NOFILE, &play.limit), 0);
                limit = play.limit;
                limit.rlim_cur = (rlim_t)next;
                (void)close(next);
                play.limited = true;
        }
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        settle();
}

static void do_stop(const char *const *arguments, size_t n)
{
        (void)arguments;
        (void)n;
        weir_resolver_free(TAKE_PTR(play.resolver));
}

static const struct script_word words[] = {
        { "ask", do_ask, 1 },
        { "answer", do_answer, 1 },
        { "no-answer", do_no_answer, 0 },
        { "tcp-ask", do_tcp_ask, 2 },
        { "tcp-flood", do_tcp_flood, 1 },
        { "tcp-answer", do_tcp_answer, 1 },
        { "tcp-no-answer", do_tcp_no_answer, 0 },
        { "tcp-end", do_tcp_end, 0 },
        { "tcp-client", do_tcp_client, 1 },
        { "tcp-alive", do_tcp_alive, 0 },
        { "tcp-lost", do_tcp_lost, 0 },
        { "tcp-socket", do_tcp_socket, 0 },
        { "gets", do_gets, 1 },
        { "idle", do_idle, 1 },
        { "says", do_says, 2 },
        { "gone", do_gone, 1 },
        { "tcp-gets", do_tcp_gets, 1 },
        { "tcp-says", do_tcp_says, 3 },
        { "tcp-server", do_tcp_server, 2 },
        { "full", do_full, 0 },
        { "pass", do_pass, 1 },
        { "policy", do_policy, 1 },
        { "record", do_record, 1 },
        { "silent", do_silent, 0 },
        { "queries", do_queries, 1 },
        { "fds", do_fds, 1 },
        { "stop", do_stop, 0 },
        { .name = NULL },
};

/* --- scripts --- */

#define ASKED "ask www; gets 1; silent; queries 1; "
#define CONNECTING "full; tcp-ask www whole; silent; queries 1; "
#define READING "tcp-ask www whole; tcp-gets 1; silent; queries 1; "

static const struct script scripts[] = {
        { "denied", "ask denied; answer refused; record dns_no_rule; idle 1; idle 2; queries 0" },

        /* Asked over UDP. */
        { "udp, answered", ASKED "says 1 ok; answer noerror; record rule; no-answer; queries 0" },
        { "udp, no such name", ASKED "says 1 nxdomain; answer nxdomain; record rule; idle 2" },
        { "udp, nobody answers",
          ASKED "pass 1999ms; idle 2; pass 1ms; gets 2; pass 2s; gets 1; pass 2s; gets 2; pass 1999ms; silent; "
                "no-answer; pass 1ms; answer servfail; record dns_upstream; queries 0; idle 1; idle 2" },
        { "udp, the second answers", ASKED "pass 2s; gets 2; says 2 ok; answer noerror; record rule" },
        { "udp, too late", ASKED "pass 2s; says 1 ok; no-answer; gets 2; says 2 ok; answer noerror; record rule; "
                                 "no-answer" },
        { "udp, the first fails", ASKED "says 1 servfail; gets 2; says 2 ok; answer noerror; record rule" },
        { "udp, both fail", ASKED "says 1 servfail; gets 2; says 2 servfail; answer servfail; record rule; queries 0" },
        { "udp, somebody guesses",
          ASKED "says 1 other-id; says 1 junk; no-answer; says 1 ok; answer noerror; record rule" },
        { "udp, too big", ASKED "says 1 truncated; answer truncated; record rule" },
        { "udp, the first is gone", "gone 1; ask www; gets 2; says 2 ok; answer noerror; record rule" },
        { "udp, both are gone", "gone 1; gone 2; ask www; answer servfail; record dns_upstream; queries 0" },
        { "udp, revoked", ASKED "policy deny; answer refused; record policy_revoked; queries 0; pass 10s; idle 2; "
                                "silent; no-answer" },
        { "udp, still allowed", ASKED "policy allow; silent; says 1 ok; answer noerror; record rule" },
        { "udp, an answer behind the revocation",
          ASKED "policy deny; answer refused; record policy_revoked; says 1 ok; "
                "no-answer; silent" },
        { "udp, no descriptors but its own",
          ASKED "fds none; pass 2s; gets 2; says 2 ok; answer noerror; record rule; fds back; queries 0" },
        { "udp, no descriptors to ask with",
          "fds none; ask www; answer servfail; record dns_upstream; fds back; ask www; "
          "gets 1; says 1 ok; answer noerror; record rule" },
        { "udp, stopped", ASKED "stop; record shutdown" },

        /* Asked over TCP: the server cannot be connected to yet. */
        { "connecting, deadline", CONNECTING "pass 1999ms; silent; pass 1ms; tcp-gets 2; tcp-says 2 ok whole; "
                                             "tcp-answer noerror; record rule" },
        { "connecting, nobody has TCP",
          "gone 2; full; tcp-ask www whole; pass 2s; gets 1; says 1 ok; tcp-answer noerror; record rule; queries 0" },
        { "connecting, client resets",
          CONNECTING "tcp-client reset; record reset_by_workload; queries 0; pass 10s; silent" },
        { "connecting, client shuts", CONNECTING "tcp-client shut; silent; pass 2s; tcp-gets 2; tcp-says 2 ok whole; "
                                                 "tcp-answer noerror; record rule; tcp-end" },
        { "connecting, revoked", CONNECTING "policy deny; tcp-answer refused; record policy_revoked; queries 0" },
        { "connecting, still allowed", CONNECTING "policy allow; silent; queries 1" },
        { "connecting, no descriptors but its own",
          CONNECTING "fds none; pass 2s; silent; fds back; tcp-gets 2; tcp-says 2 ok whole; tcp-answer noerror; "
                     "record rule; queries 0" },
        { "connecting, stopped", CONNECTING "stop; record shutdown; tcp-end" },

        /* Asked over TCP: the server has the query. */
        { "reading, answered", READING "tcp-says 1 ok whole; tcp-answer noerror; record rule; queries 0" },
        { "reading, answered in two", READING "tcp-says 1 ok half; tcp-no-answer; silent; tcp-says 1 ok rest; "
                                              "tcp-answer noerror; record rule" },
        { "reading, deadline", READING "tcp-says 1 ok half; pass 1999ms; silent; pass 1ms; tcp-gets 2; "
                                       "tcp-says 2 ok whole; tcp-answer noerror; record rule" },
        { "reading, server closes", READING "tcp-server 1 close; tcp-gets 2; tcp-says 2 ok whole; tcp-answer noerror; "
                                            "record rule" },
        { "reading, server shuts", READING "tcp-server 1 shut; tcp-gets 2; tcp-says 2 ok whole; tcp-answer noerror; "
                                           "record rule" },
        { "reading, server resets", READING "tcp-says 1 ok half; tcp-server 1 reset; tcp-gets 2; tcp-says 2 ok whole; "
                                            "tcp-answer noerror; record rule" },
        { "reading, a wrong answer ends the try", READING "tcp-says 1 other-id whole; tcp-gets 2; tcp-says 2 ok whole; "
                                                          "tcp-answer noerror; record rule" },
        { "reading, then over UDP", READING "tcp-server 1 reset; tcp-gets 2; tcp-server 2 reset; gets 1; says 1 ok; "
                                            "tcp-answer noerror; record rule" },
        { "reading, and nobody answers", READING "pass 2s; tcp-gets 2; pass 2s; gets 1; pass 2s; gets 2; pass 2s; "
                                                 "tcp-answer servfail; record dns_upstream; queries 0" },
        { "reading, client resets", READING "tcp-client reset; record reset_by_workload; queries 0; pass 10s; silent" },
        { "reading, client closes", READING "tcp-client close; pass 10s; queries 0" },
        { "reading, client shuts",
          READING "tcp-client shut; silent; tcp-says 1 ok whole; tcp-answer noerror; record rule; "
                  "tcp-end" },
        { "reading, revoked", READING "policy deny; tcp-answer refused; record policy_revoked; queries 0" },
        { "reading, still allowed",
          READING "policy allow; silent; tcp-says 1 ok whole; tcp-answer noerror; record rule" },
        { "reading, no descriptors",
          READING "fds none; tcp-says 1 ok whole; tcp-answer noerror; record rule; fds back" },
        { "reading, stopped", READING "stop; record shutdown; tcp-end" },

        /* Clients on TCP. */
        { "client, says nothing", "tcp-client connect; pass 9999ms; tcp-no-answer; pass 1ms; tcp-end; silent" },
        { "client, trickles", "tcp-ask www half; pass 9999ms; tcp-no-answer; pass 1ms; tcp-end; silent; idle 1" },
        { "client, half and shuts", "tcp-ask www half; tcp-client shut; tcp-end; silent; idle 1" },
        { "client, waits for the server and not for long",
          READING "pass 2s; tcp-gets 2; pass 2s; gets 1; pass 2s; gets 2; pass 2s; tcp-answer servfail; "
                  "record dns_upstream; pass 9999ms; tcp-no-answer; pass 2ms; tcp-end" },
        { "client, asks and never reads", "tcp-flood denied; pass 9999ms; tcp-alive; pass 2ms; tcp-lost" },
        { "no descriptors to accept with",
          "tcp-socket; fds none; tcp-ask www whole; silent; idle 1; queries 0; fds back; pass 100ms; tcp-gets 1; "
          "tcp-says 1 ok whole; tcp-answer noerror; record rule" },
};

static void play_script(void **state)
{
        script_play(*state, words);
}

int main(void)
{
        struct CMUnitTest tests[WEIR_ARRAY_SIZE(scripts)];

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(scripts); i++)
                tests[i] = (struct CMUnitTest){ scripts[i].title, play_script, set_up, tear_down,
                                                (void *)(uintptr_t)&scripts[i] };
        return cmocka_run_group_tests_name("resolver", tests, NULL, NULL);
}
