/* SPDX-License-Identifier: Apache-2.0 */
/* States and events: every way a flow can begin and end. */
#include "rig.h"

static void test_both_ways_and_finish(void **state)
{
        struct pair p;
        const struct weir_record *record;

        (void)state;
        start_relay();
        p = open_flow();
        assert_passes(p.client, p.server, "hello");
        assert_passes(p.server, p.client, "how do you do");
        assert_int_equal(weir_relay_n_flows(rig.relay), 1);
        close_pair(&p);
        record = assert_one_record(WEIR_REASON_FINISHED);
        assert_int_equal(record->verdict, WEIR_VERDICT_ALLOW);
        assert_string_equal(record->rule, "default/test");
        assert_int_equal(record->bytes_sent, 5);
        assert_int_equal(record->bytes_received, 13);
        assert_int_equal(record->port, 443);
        assert_int_equal(record->dialled_port, rig.server.port);
        assert_int_equal(record->generation, 7);
        assert_int_equal(rig.n_opened, 1);
        assert_int_equal(rig.n_owner, 0);
}

static void test_owner_of_allowed_if_asked(void **state)
{
        struct pair p;

        (void)state;
        rig.options.owners = true;
        start_relay();
        p = open_flow();
        close_pair(&p);
        assert_int_equal(assert_one_record(WEIR_REASON_FINISHED)->pid, 4711);
        assert_int_equal(rig.n_owner, 1);
}

static void half_close(bool client_first)
{
        struct pair p;
        int first, second;

        start_relay();
        p = open_flow();
        first = client_first ? p.client : p.server;
        second = client_first ? p.server : p.client;
        assert_int_equal(write(first, "last", 4), 4);
        assert_int_equal(shutdown(first, SHUT_WR), 0);
        assert_int_equal(next_read(second, (char[8]){ 0 }, 8), 4);
        assert_end(second);
        for (int i = 0; i < 10; i++)
                assert_passes(second, first, "still here");
        assert_int_equal(rig.n_records, 0);
        assert_int_equal(shutdown(second, SHUT_WR), 0);
        assert_end(first);
        (void)assert_one_record(WEIR_REASON_FINISHED);
        close_pair(&p);
}

static void test_half_close_by_client(void **state)
{
        (void)state;
        half_close(true);
}

static void test_half_close_by_server(void **state)
{
        (void)state;
        half_close(false);
}

static void test_reset_by_client(void **state)
{
        struct pair p;

        (void)state;
        start_relay();
        p = open_flow();
        assert_passes(p.client, p.server, "x");
        reset(p.client);
        assert_reset(p.server);
        (void)close(p.server);
        (void)assert_one_record(WEIR_REASON_RESET_BY_WORKLOAD);
}

static void test_reset_by_server(void **state)
{
        struct pair p;

        (void)state;
        start_relay();
        p = open_flow();
        assert_passes(p.client, p.server, "x");
        reset(p.server);
        assert_reset(p.client);
        (void)close(p.client);
        (void)assert_one_record(WEIR_REASON_RESET_BY_DESTINATION);
}

#define ENOUGH 5000

/* An answer, and a reset because the rest of the request was not wanted: both arrive, in this order. */
static void what_came_before_a_reset_arrives(bool slow)
{
        static char answer[200000];
        size_t got = 0;
        struct pair p;
        ssize_t n;

        start_relay();
        p = open_flow();
        assert_passes(p.client, p.server, "x");
        if (slow)
                while (write(p.server, answer, sizeof(answer)) >
                       0) /* until nothing more fits: the client does not read */
                        turn();
        else
                assert_int_equal(write(p.server, answer, ENOUGH), ENOUGH);
        reset(p.server);
        for (int i = 0; i < 10; i++)
                turn();
        while ((n = next_read(p.client, answer, sizeof(answer))) > 0)
                got += (size_t)n;
        assert_int_equal(n, -ECONNRESET);
        assert_true(slow ? got > ENOUGH : got == ENOUGH);
        (void)close(p.client);
        (void)assert_one_record(WEIR_REASON_RESET_BY_DESTINATION);
}

static void test_data_before_a_reset(void **state)
{
        (void)state;
        what_came_before_a_reset_arrives(false);
}

static void test_data_before_a_reset_for_a_slow_reader(void **state)
{
        (void)state;
        what_came_before_a_reset_arrives(true);
}

static void test_reset_when_half_closed(void **state)
{
        struct pair p;

        (void)state;
        start_relay();
        p = open_flow();
        assert_int_equal(shutdown(p.client, SHUT_WR), 0);
        assert_end(p.server);
        reset(p.server);
        assert_reset(p.client);
        (void)close(p.client);
        (void)assert_one_record(WEIR_REASON_RESET_BY_DESTINATION);
}

static void test_reset_while_dialling(void **state)
{
        struct full full;
        int client;

        (void)state;
        full = make_full();
        start_relay();
        client = connect_client();
        UNTIL(rig.n_opened == 1);
        reset(client);
        (void)assert_one_record(WEIR_REASON_RESET_BY_WORKLOAD);
        close_full(&full);
}

/* What the workload says before the destination is there arrives once it is, its end included. */
static void test_early_bytes_and_end(void **state)
{
        int client, server;
        char got[8];

        (void)state;
        start_relay();
        client = connect_client();
        assert_int_equal(write(client, "early", 5), 5);
        assert_int_equal(shutdown(client, SHUT_WR), 0);
        server = accept_from(rig.server_fd);
        assert_int_equal(next_read(server, got, sizeof(got)), 5);
        assert_end(server);
        (void)close(server);
        assert_end(client);
        (void)close(client);
        (void)assert_one_record(WEIR_REASON_FINISHED);
}

static void test_dial_deadline(void **state)
{
        struct full full;
        int client;

        (void)state;
        full = make_full();
        start_relay();
        client = connect_client();
        UNTIL(rig.n_opened == 1);
        jump(30 * WEIR_SEC - 1);
        assert_int_equal(rig.n_records, 0);
        jump(1);
        assert_int_equal(assert_one_record(WEIR_REASON_UPSTREAM_TIMEOUT)->duration_ns, 30 * WEIR_SEC);
        assert_reset(client);
        (void)close(client);
        close_full(&full);
}

static void test_half_close_deadline(void **state)
{
        struct pair p;

        (void)state;
        start_relay();
        p = open_flow();
        jump(100000 * WEIR_SEC); /* open on both sides it may idle as long as it likes */
        assert_int_equal(shutdown(p.client, SHUT_WR), 0);
        assert_end(p.server);
        jump(3000 * WEIR_SEC);
        assert_passes(p.server, p.client, "alive");
        jump(3000 * WEIR_SEC);
        turn();
        assert_int_equal(rig.n_records, 0);
        jump(600 * WEIR_SEC);
        (void)assert_one_record(WEIR_REASON_DEADLINE);
        assert_reset(p.client);
        /* The server has read the client's end already; the reset shows when it goes on talking. */
        assert_int_equal(write(p.server, "x", 1), -1);
        assert_int_equal(errno, EPIPE);
        close_pair(&p);
}

static void test_refused(void **state)
{
        int client;

        (void)state;
        start_relay();
        (void)close(rig.server_fd);
        client = connect_client();
        assert_reset(client);
        (void)close(client);
        assert_int_equal(assert_one_record(WEIR_REASON_UPSTREAM_REFUSED)->verdict, WEIR_VERDICT_ALLOW);
        rig.server_fd = dup(rig.epoll_fd); /* for tear_down() to close */
}

static int connect_error;

static int failing_connect(int fd, const struct sockaddr *sa, socklen_t length)
{
        (void)fd;
        (void)sa;
        (void)length;
        return connect_error;
}

static void test_connect_errors(void **state)
{
        static const struct {
                int error;
                enum weir_reason reason;
        } cases[] = {
                { -ENETUNREACH, WEIR_REASON_UPSTREAM_UNREACHABLE }, { -EHOSTUNREACH, WEIR_REASON_UPSTREAM_UNREACHABLE },
                { -EACCES, WEIR_REASON_UPSTREAM_UNREACHABLE },      { -ETIMEDOUT, WEIR_REASON_UPSTREAM_TIMEOUT },
                { -EADDRNOTAVAIL, WEIR_REASON_LIMIT_MEMORY },       { -ECONNREFUSED, WEIR_REASON_UPSTREAM_REFUSED },
        };

        (void)state;
        rig.sys.connect = failing_connect;
        start_relay();
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(cases); i++) {
                int client;

                rig.n_records = 0;
                connect_error = cases[i].error;
                client = connect_client();
                assert_reset(client);
                (void)assert_one_record(cases[i].reason);
                (void)close(client);
        }
}

static void test_freed_with_live_flows(void **state)
{
        struct pair p[3];

        (void)state;
        start_relay();
        for (int i = 0; i < 3; i++)
                p[i] = open_flow();
        weir_relay_free(TAKE_PTR(rig.relay));
        assert_int_equal(rig.n_records, 3);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(rig.records[i].reason, WEIR_REASON_SHUTDOWN);
                assert_reset(p[i].client);
                assert_reset(p[i].server);
                close_pair(&p[i]);
        }
}

/* A slot is used again and again, and no event of an earlier flow reaches a later one. */
static void test_slots_are_reused(void **state)
{
        (void)state;
        start_relay();
        for (size_t i = 0; i < 500; i++) {
                struct pair p = open_flow();

                assert_passes(p.client, p.server, "x");
                if (i % 2)
                        reset(p.client);
                else
                        (void)close(p.client);
                (void)close(p.server);
                UNTIL(rig.n_records == i + 1);
        }
        assert_int_equal(rig.relay->n_chunks, 1);
        assert_int_equal(rig.n_opened, 500);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_both_ways_and_finish),   TEST(test_owner_of_allowed_if_asked),
                TEST(test_half_close_by_client),   TEST(test_half_close_by_server),
                TEST(test_reset_by_client),        TEST(test_reset_by_server),
                TEST(test_data_before_a_reset),    TEST(test_data_before_a_reset_for_a_slow_reader),
                TEST(test_reset_when_half_closed), TEST(test_reset_while_dialling),
                TEST(test_early_bytes_and_end),    TEST(test_dial_deadline),
                TEST(test_half_close_deadline),    TEST(test_refused),
                TEST(test_connect_errors),         TEST(test_freed_with_live_flows),
                TEST(test_slots_are_reused),
        };

        return cmocka_run_group_tests_name("relay/flow", tests, NULL, NULL);
}
