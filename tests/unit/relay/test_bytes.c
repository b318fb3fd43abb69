/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes: every one arrives, once, in order, whatever the calls of the machine do; a slow reader costs one pipe. */
#include "rig.h"

#define TOTAL ((size_t)4 * 1024 * 1024)

/* Deterministic and without a short period, so that a lost or doubled byte shows at once. */
static uint8_t byte_at(size_t i)
{
        return (uint8_t)((i * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

struct stream {
        int from, to;
        size_t sent, got, total;
        bool ended;
        unsigned seed;
};

static void send_some(struct stream *s)
{
        static uint8_t chunk[100000];
        size_t n = 1 + (size_t)rand_r(&s->seed) % sizeof(chunk);
        ssize_t done;

        n = n < s->total - s->sent ? n : s->total - s->sent;
        for (size_t i = 0; i < n; i++)
                chunk[i] = byte_at(s->sent + i);
        done = n > 0 ? write(s->from, chunk, n) : 0;
        s->sent += done > 0 ? (size_t)done : 0;
        if (s->sent == s->total)
                (void)shutdown(s->from, SHUT_WR);
}

static void receive_some(struct stream *s)
{
        static uint8_t chunk[100000];
        ssize_t got = read(s->to, chunk, 1 + (size_t)rand_r(&s->seed) % sizeof(chunk));

        s->ended = got == 0;
        for (ssize_t i = 0; i < got; i++)
                assert_int_equal(chunk[i], byte_at(s->got + (size_t)i));
        s->got += got > 0 ? (size_t)got : 0;
}

static void exchange(size_t total)
{
        struct pair p = open_flow();
        struct stream up = { .from = p.client, .to = p.server, .total = total, .seed = 1 };
        struct stream down = { .from = p.server, .to = p.client, .total = total / 2, .seed = 2 };
        const struct weir_record *record;

        for (size_t i = 0; i < 1000000 && !(up.ended && down.ended); i++) {
                if (up.sent < up.total)
                        send_some(&up);
                if (down.sent < down.total)
                        send_some(&down);
                turn();
                if (!up.ended)
                        receive_some(&up);
                if (!down.ended)
                        receive_some(&down);
        }
        assert_int_equal(up.got, up.total);
        assert_int_equal(down.got, down.total);
        record = assert_one_record(WEIR_REASON_FINISHED);
        assert_int_equal(record->bytes_sent, up.total);
        assert_int_equal(record->bytes_received, down.total);
        assert_int_equal(rig.relay->pipes.n, rig.relay->pipes.n_idle);
        close_pair(&p);
}

static void test_whole(void **state)
{
        (void)state;
        start_relay();
        exchange(TOTAL);
        assert_true(rig.relay->pipes.n > 0);
        assert_int_equal(rig.relay->pipes.refused, 0);
}

static unsigned splice_seed = 3;

/* Into a socket any part may go; out of one, less than the pipe has slots would mean that it is drained. */
static ssize_t short_splice(int from, int to, size_t n)
{
        bool into_pipe = fcntl(to, F_GETPIPE_SZ) > 0;
        size_t few = (into_pipe ? 256 : 1) + (size_t)rand_r(&splice_seed) % 9000;

        if (rand_r(&splice_seed) % 8 == 0)
                return -EINTR;
        return weir_relay_sys_real.splice(from, to, n < few ? n : few);
}

static void test_short_splices(void **state)
{
        (void)state;
        rig.sys.splice = short_splice;
        start_relay();
        exchange(TOTAL / 4);
}

static int no_pipe(int fds[2])
{
        (void)fds;
        return -EMFILE;
}

static void test_without_pipes(void **state)
{
        (void)state;
        rig.sys.pipe = no_pipe;
        start_relay();
        exchange(TOTAL);
        assert_int_equal(rig.relay->pipes.n, 0);
        assert_true(rig.relay->pipes.refused > 0);
}

static int pipes_left;

static int scarce_pipe(int fds[2])
{
        return pipes_left-- > 0 ? weir_relay_sys_real.pipe(fds) : -ENFILE;
}

static void test_one_pipe_for_two_ways(void **state)
{
        (void)state;
        pipes_left = 1;
        rig.sys.pipe = scarce_pipe;
        start_relay();
        exchange(TOTAL);
        assert_int_equal(rig.relay->pipes.n, 1);
}

/* The reader stops: the sender is stopped too, one pipe waits, and when the reader goes on nothing is missing. */
static void test_slow_reader(void **state)
{
        const int small = 64 * 1024;
        struct pair p;
        struct stream s;
        size_t idle = 0;

        (void)state;
        start_relay();
        p = open_flow();
        assert_int_equal(setsockopt(p.server, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
        assert_int_equal(setsockopt(p.client, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
        s = (struct stream){ .from = p.client, .to = p.server, .total = 256 * 1024 * 1024, .seed = 5 };
        while (idle < 200) {
                size_t before = s.sent;

                send_some(&s);
                turn();
                idle = s.sent == before ? idle + 1 : 0;
                if (idle > 0)
                        (void)usleep(500);
        }
        assert_true(s.sent < (size_t)64 * 1024 * 1024);
        assert_true(rig.relay->pipes.n - rig.relay->pipes.n_idle <= 1);
        s.total = s.sent;
        assert_int_equal(shutdown(p.client, SHUT_WR), 0);
        while (!s.ended) {
                turn();
                receive_some(&s);
        }
        assert_int_equal(s.got, s.total);
        close_pair(&p);
        (void)assert_one_record(WEIR_REASON_FINISHED);
}

/* Messages so small that they are copied: what the target does not take any more must wait, and in its order. */
static void test_few_bytes_to_a_slow_reader(void **state)
{
        const int small = 8192;
        struct pair p;
        struct stream s = { .seed = 5 };
        ssize_t n = 0;

        (void)state;
        assert_int_equal(setsockopt(rig.server_fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
        start_relay();
        p = open_flow();
        s.from = p.client;
        s.to = p.server;
        while (n >= 0) {
                uint8_t chunk[700];

                for (size_t i = 0; i < sizeof(chunk); i++)
                        chunk[i] = byte_at(s.sent + i);
                n = write(p.client, chunk, sizeof(chunk));
                s.sent += n > 0 ? (size_t)n : 0;
                turn();
        }
        assert_int_equal(rig.relay->pipes.n - rig.relay->pipes.n_idle, 1);
        s.total = s.sent;
        (void)shutdown(p.client, SHUT_WR);
        for (size_t i = 0; i < 1000000 && !s.ended; i++) {
                turn();
                receive_some(&s);
        }
        assert_int_equal(s.got, s.total);
        (void)shutdown(p.server, SHUT_WR);
        UNTIL(rig.n_records == 1);
        assert_int_equal(assert_one_record(WEIR_REASON_FINISHED)->bytes_sent, s.total);
        close_pair(&p);
}

static void test_idle_flows_hold_no_pipe(void **state)
{
        struct pair p[20];

        (void)state;
        start_relay();
        for (size_t i = 0; i < 20; i++) {
                p[i] = open_flow();
                assert_passes(p[i].client, p[i].server, "x");
                assert_passes(p[i].server, p[i].client, "x");
        }
        assert_int_equal(rig.relay->pipes.n, 1);
        assert_int_equal(rig.relay->pipes.n_idle, 1);
        for (size_t i = 0; i < 20; i++)
                close_pair(&p[i]);
        UNTIL(rig.n_records == 20);
}

/* Urgent data: splice(2) stops at the mark, even before the end. The byte keeps its place. */
static void urgent(bool then_close)
{
        struct pair p = open_flow();
        char got[16] = "";
        size_t n = 0;

        assert_int_equal(send(p.client, "before", 6, 0), 6);
        assert_int_equal(send(p.client, "!", 1, MSG_OOB), 1);
        assert_int_equal(send(p.client, "after", 5, 0), 5);
        if (then_close)
                assert_int_equal(shutdown(p.client, SHUT_WR), 0);
        while (n < 12) {
                ssize_t part = next_read(p.server, got + n, sizeof(got) - n);

                assert_true(part > 0);
                n += (size_t)part;
        }
        assert_memory_equal(got, "before!after", 12);
        if (then_close)
                assert_end(p.server);
        close_pair(&p);
        (void)assert_one_record(WEIR_REASON_FINISHED);
        rig.n_records = 0;
}

static void test_urgent(void **state)
{
        (void)state;
        start_relay();
        urgent(false);
        urgent(true);
}

/* No flow has the loop to itself: while one pours, another's byte passes within a few turns. */
static void test_fair(void **state)
{
        struct pair greedy, modest;
        struct stream s;
        char got;

        (void)state;
        start_relay();
        greedy = open_flow();
        modest = open_flow();
        s = (struct stream){ .from = greedy.client, .to = greedy.server, .total = 64 * 1024 * 1024, .seed = 6 };
        for (int i = 0; i < 50; i++) {
                int turns = 0;

                assert_int_equal(write(modest.client, "x", 1), 1);
                do {
                        send_some(&s);
                        receive_some(&s);
                        turn();
                } while (read(modest.server, &got, 1) != 1 && ++turns < 100);
                assert_true(turns < 100);
        }
        close_pair(&greedy);
        close_pair(&modest);
        UNTIL(rig.n_records == 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_whole),
                TEST(test_short_splices),
                TEST(test_without_pipes),
                TEST(test_slow_reader),
                TEST(test_few_bytes_to_a_slow_reader),
                TEST(test_idle_flows_hold_no_pipe),
                TEST(test_one_pipe_for_two_ways),
                TEST(test_urgent),
                TEST(test_fair),
        };

        return cmocka_run_group_tests_name("relay/bytes", tests, NULL, NULL);
}
