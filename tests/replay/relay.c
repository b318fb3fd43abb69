/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay, played: each state of a flow met by each thing that can happen to it, on real loopback sockets and a loop
 * whose time is virtual. The workload is "client", the destination "server".
 */
#include "../unit/relay/rig.h"
#include "script.h"

#include "base/strutil.h"

#define SIDES 2
#define QUIET_TURNS 4
#define PATTERN 251
#define TRIES_MAX 20000 /* of a read: windows open when the kernel's own timers say so */

/* What a side wrote and read so far: the bytes say where they belong. */
struct end {
        int fd;
        uint64_t written, got;
};

static struct {
        struct end ends[SIDES]; /* client, server */
        struct full full;
        bool is_full;
        size_t n_records; /* that the script has asked about */
        struct rlimit limit;
        bool limited;
} play;

/* --- helpers --- */

/* Until nothing is left to do. A packet on loopback may come through another thread of the kernel. */
static void settle(void)
{
        int quiet = 0;

        for (int i = 0; i < 5000 && quiet < QUIET_TURNS; i++) {
                turn();
                quiet = rig.n_ready == 0 ? quiet + 1 : 0;
                if (rig.n_ready == 0)
                        (void)usleep(50);
        }
}

static int index_of(const char *name)
{
        if (!weir_streq(name, "client") && !weir_streq(name, "server"))
                fail_msg("%s: client or server", script_step());
        return weir_streq(name, "server");
}

static struct end *end_of(const char *name)
{
        return &play.ends[index_of(name)];
}

static struct end *other_end(const char *name)
{
        return &play.ends[!index_of(name)];
}

/* As much as the socket takes at once, up to @n. */
static size_t write_some(struct end *end, size_t n)
{
        uint8_t bytes[16384];
        size_t length = n < sizeof(bytes) ? n : sizeof(bytes);
        ssize_t sent;

        for (size_t i = 0; i < length; i++)
                bytes[i] = (uint8_t)((end->written + i) % PATTERN);
        sent = send(end->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
                fail_msg("%s: %s", script_step(), strerror(errno));
        end->written += sent > 0 ? (uint64_t)sent : 0;
        return sent > 0 ? (size_t)sent : 0;
}

/* What is there, checked; the end is 0, -errno for an error, -EAGAIN for nothing. */
static ssize_t read_some(struct end *end, size_t n)
{
        uint8_t bytes[16384];
        ssize_t got = recv(end->fd, bytes, n < sizeof(bytes) ? n : sizeof(bytes), MSG_DONTWAIT);

        if (got < 0)
                return -errno;
        for (ssize_t i = 0; i < got; i++)
                if (bytes[i] != (uint8_t)((end->got + (uint64_t)i) % PATTERN))
                        fail_msg("%s: byte %llu is another one", script_step(),
                                 (unsigned long long)end->got + (unsigned long long)i);
        end->got += (uint64_t)got;
        return got;
}

/* --- words --- */

static void do_socket(const char *const *arguments, size_t n)
{
        (void)arguments;
        (void)n;
        play.ends[0].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(play.ends[0].fd >= 0);
}

static void do_connect(const char *const *arguments, size_t n)
{
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(&rig.listener.addr, rig.listener.port, &sa);

        if (play.ends[0].fd < 0)
                do_socket(arguments, n);
        assert_int_equal(connect(play.ends[0].fd, (struct sockaddr *)&sa, length), 0);
        settle();
}

static void do_accept(const char *const *arguments, size_t n)
{
        (void)arguments;
        (void)n;
        play.ends[1].fd = accept4(rig.server_fd, NULL, NULL, SOCK_CLOEXEC);
        if (play.ends[1].fd < 0)
                fail_msg("%s: nobody connects", script_step());
        settle();
}

/* The destination's queue is full: what connects to it waits. */
static void do_full(const char *const *arguments, size_t n)
{
        (void)arguments;
        (void)n;
        play.full = make_full();
        play.is_full = true;
}

/* Nobody listens at the destination any more. */
static void do_nobody(const char *const *arguments, size_t n)
{
        (void)arguments;
        (void)n;
        (void)close(TAKE_FD(rig.server_fd));
}

static void do_send(const char *const *arguments, size_t n)
{
        size_t left = script_number(arguments[1]);

        (void)n;
        while (left > 0) {
                size_t sent = write_some(end_of(arguments[0]), left);

                if (sent == 0)
                        fail_msg("%s: no room", script_step());
                left -= sent;
                settle();
        }
}

/* Exactly so many, and nothing behind them. */
static void do_get(const char *const *arguments, size_t n)
{
        size_t left = script_number(arguments[1]);

        (void)n;
        for (int tries = 0; left > 0; tries++) {
                ssize_t got = read_some(end_of(arguments[0]), left);

                if ((got <= 0 && got != -EAGAIN) || tries > TRIES_MAX)
                        fail_msg("%s: %zu are missing (%s)", script_step(), left, got ? strerror((int)-got) : "end");
                left -= got > 0 ? (size_t)got : 0;
                settle();
        }
}

/* Writes until nothing between the two takes any more. */
static void do_fill(const char *const *arguments, size_t n)
{
        struct end *end = end_of(arguments[0]);
        int refused = 0;

        (void)n;
        while (refused < 20) {
                refused = write_some(end, 16384) ? 0 : refused + 1;
                settle();
        }
}

/* Reads all that the other side wrote. */
static void do_drain(const char *const *arguments, size_t n)
{
        struct end *end = end_of(arguments[0]);
        uint64_t all = other_end(arguments[0])->written;

        (void)n;
        for (int tries = 0; end->got < all; tries++) {
                ssize_t got = read_some(end, 16384);

                if ((got <= 0 && got != -EAGAIN) || tries > TRIES_MAX)
                        fail_msg("%s: %llu of %llu came", script_step(), (unsigned long long)end->got,
                                 (unsigned long long)all);
                if (got < 0)
                        settle();
                else
                        turn();
        }
}

/* Reads what is on the way, which a reset of the other end leaves, and then meets the reset. */
static void do_rest(const char *const *arguments, size_t n)
{
        struct end *end = end_of(arguments[0]);
        uint64_t before = end->got;
        ssize_t got;

        (void)n;
        for (int tries = 0; (got = read_some(end, 16384)) > 0 || got == -EAGAIN; tries++) {
                if (tries > TRIES_MAX)
                        fail_msg("%s: no reset came", script_step());
                if (got < 0)
                        settle();
                else
                        turn();
        }
        assert_int_equal(got, -ECONNRESET);
        assert_true(end->got > before);
}

static void do_shut(const char *const *arguments, size_t n)
{
        (void)n;
        assert_int_equal(shutdown(end_of(arguments[0])->fd, SHUT_WR), 0);
        settle();
}

static void do_close(const char *const *arguments, size_t n)
{
        (void)n;
        (void)close(TAKE_FD(end_of(arguments[0])->fd));
        settle();
}

static void do_reset(const char *const *arguments, size_t n)
{
        (void)n;
        reset(TAKE_FD(end_of(arguments[0])->fd));
        settle();
}

static void expect_read(const char *const *arguments, ssize_t wanted)
{
        ssize_t got = read_some(end_of(arguments[0]), 1);

        if (got != wanted)
                fail_msg("%s: reading gives %zd (%s)", script_step(), got, got < 0 ? strerror((int)-got) : "bytes");
}

static void do_eof(const char *const *arguments, size_t n)
{
        (void)n;
        expect_read(arguments, 0);
}

static void do_rst(const char *const *arguments, size_t n)
{
        (void)n;
        expect_read(arguments, -ECONNRESET);
}

/* Whoever has seen the end cannot see a reset by reading, only by writing. */
static void do_broken(const char *const *arguments, size_t n)
{
        (void)n;
        if (send(end_of(arguments[0])->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
                fail_msg("%s: it can still write", script_step());
        assert_true(errno == EPIPE || errno == ECONNRESET);
}

static void do_quiet(const char *const *arguments, size_t n)
{
        (void)n;
        expect_read(arguments, -EAGAIN);
}

/* Time goes on, timer by timer. */
static void do_pass(const char *const *arguments, size_t n)
{
        (void)n;
        rig.until = rig.now + script_time(arguments[0]);
        while (rig.now < rig.until)
                assert_int_equal(weir_loop_once(rig.loop, -1), 0);
        rig.until = 0;
        settle();
}

static void do_state(const char *const *arguments, size_t n)
{
        static const char *const names[] = { "gone", "new", "dial", "move", "closing" };
        const struct weir_flow *flow = &rig.relay->chunks[0][0];

        (void)n;
        if (!weir_streq(names[flow->state], arguments[0]))
                fail_msg("%s: it is %s", script_step(), names[flow->state]);
}

/* "deny", "keep": still allowed; "move": allowed to another place. */
static void do_policy(const char *const *arguments, size_t n)
{
        (void)n;
        rig.policy.allow = !weir_streq(arguments[0], "deny");
        if (weir_streq(arguments[0], "move"))
                rig.policy.endpoints[0] = endpoint("127.0.0.1", 1);
        weir_relay_policy_changed(rig.relay);
        settle();
}

/* Not one descriptor more for this process, or as many as before. */
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

static void do_record(const char *const *arguments, size_t n)
{
        const char *name;

        (void)n;
        if (rig.n_records != play.n_records + 1)
                fail_msg("%s: %zu records", script_step(), rig.n_records - play.n_records);
        name = weir_reason_name(rig.records[play.n_records].reason);
        if (!weir_streq(name, arguments[0]))
                fail_msg("%s: it says %s", script_step(), name);
        play.n_records++;
}

static void do_silent(const char *const *arguments, size_t n)
{
        (void)arguments;
        (void)n;
        if (rig.n_records != play.n_records)
                fail_msg("%s: a record of %s", script_step(), weir_reason_name(rig.records[play.n_records].reason));
}

/* Bytes of the last record, to the destination and from it. */
static void do_bytes(const char *const *arguments, size_t n)
{
        (void)n;
        assert_true(play.n_records > 0);
        assert_int_equal(rig.records[play.n_records - 1].bytes_sent, script_number(arguments[0]));
        assert_int_equal(rig.records[play.n_records - 1].bytes_received, script_number(arguments[1]));
}

static void do_pipes(const char *const *arguments, size_t n)
{
        (void)n;
        assert_int_equal(rig.relay->pipes.n - rig.relay->pipes.n_idle, script_number(arguments[0]));
}

static void do_stop(const char *const *arguments, size_t n)
{
        (void)arguments;
        (void)n;
        weir_relay_free(TAKE_PTR(rig.relay));
}

static const struct script_word words[] = {
        { "socket", do_socket, 0 }, { "connect", do_connect, 0 }, { "accept", do_accept, 0 },
        { "full", do_full, 0 },     { "nobody", do_nobody, 0 },   { "send", do_send, 2 },
        { "get", do_get, 2 },       { "fill", do_fill, 1 },       { "drain", do_drain, 1 },
        { "rest", do_rest, 1 },     { "shut", do_shut, 1 },       { "close", do_close, 1 },
        { "reset", do_reset, 1 },   { "eof", do_eof, 1 },         { "rst", do_rst, 1 },
        { "quiet", do_quiet, 1 },   { "broken", do_broken, 1 },   { "pass", do_pass, 1 },
        { "state", do_state, 1 },   { "policy", do_policy, 1 },   { "fds", do_fds, 1 },
        { "record", do_record, 1 }, { "silent", do_silent, 0 },   { "bytes", do_bytes, 2 },
        { "pipes", do_pipes, 1 },   { "stop", do_stop, 0 },       { .name = NULL },
};

/* --- scripts --- */

#define DIALLING "full; connect; state dial; "
#define MOVING "connect; accept; state move; send client 3; get server 3; send server 4; get client 4; "
#define CLIENT_SHUT MOVING "shut client; eof server; state move; "
#define SERVER_SHUT MOVING "shut server; eof client; state move; "
#define CLIENT_SLOW MOVING "fill server; state move; silent; "
#define SERVER_SLOW MOVING "fill client; state move; silent; "

static const struct script scripts[] = {
        /* The destination does not answer. */
        { "dial, deadline",
          DIALLING "pass 29999ms; silent; quiet client; pass 1ms; record upstream_timeout; rst client; "
                   "state gone" },
        { "dial, client resets", DIALLING "reset client; record reset_by_workload; bytes 0 0; state gone" },
        { "dial, client closes", DIALLING "close client; silent; pass 30s; record upstream_timeout; state gone" },
        { "dial, client writes", DIALLING "send client 100; silent; pass 30s; record upstream_timeout; bytes 0 0; "
                                          "rst client" },
        { "dial, revoked", DIALLING "policy deny; record policy_revoked; rst client; bytes 0 0; state gone" },
        { "dial, still allowed", DIALLING "policy keep; silent; state dial; pass 30s; record upstream_timeout" },
        { "dial, allowed elsewhere", DIALLING "policy move; record policy_revoked; rst client; state gone" },
        { "dial, no descriptors", DIALLING "fds none; silent; state dial; pass 30s; record upstream_timeout; fds back; "
                                           "rst client" },
        { "dial, stopped", DIALLING "stop; record shutdown; rst client" },
        { "dial, nobody listens", "nobody; connect; record upstream_refused; rst client; state gone" },
        { "dial, written before it is connected",
          "connect; send client 1000; accept; get server 1000; send server 5; get client 5; close client; eof server; "
          "close server; record finished; bytes 1000 5" },

        /* Both are connected. */
        { "move, days of silence", MOVING "pass 72h; silent; state move; pipes 0; send client 5; get server 5; "
                                          "send server 6; get client 6; silent" },
        { "move, client resets", MOVING "reset client; record reset_by_workload; bytes 3 4; rst server; state gone" },
        { "move, server resets",
          MOVING "reset server; record reset_by_destination; bytes 3 4; rst client; state gone" },
        { "move, client closes", MOVING "close client; eof server; silent; close server; record finished; bytes 3 4; "
                                        "state gone" },
        { "move, server closes", MOVING "close server; eof client; silent; close client; record finished; bytes 3 4" },
        { "move, both shut", MOVING "shut client; shut server; record finished; eof client; eof server; state gone" },
        { "move, revoked", MOVING "policy deny; record policy_revoked; bytes 3 4; rst client; rst server; state gone" },
        { "move, still allowed", MOVING "policy keep; silent; state move; send client 5; get server 5" },
        { "move, allowed elsewhere", MOVING "policy move; record policy_revoked; rst client; rst server" },
        { "move, no descriptors", MOVING "fds none; send client 100000; get server 100000; send server 100000; "
                                         "get client 100000; silent; state move; fds back; pipes 0" },
        { "move, stopped", MOVING "stop; record shutdown; rst client; rst server" },

        /* The workload has said all it had to say. */
        { "client shut, deadline",
          CLIENT_SHUT "pass 3599s; silent; pass 1s; record deadline; rst client; broken server; "
                      "state gone" },
        { "client shut, every byte moves the deadline",
          CLIENT_SHUT "pass 3000s; send server 1; get client 1; pass 3599s; silent; state move; send server 1; "
                      "get client 1; pass 3599s; silent; pass 1s; record deadline; bytes 3 6" },
        { "client shut, server writes on",
          CLIENT_SHUT "send server 100000; get client 100000; shut server; eof client; "
                      "record finished; bytes 3 100004; state gone" },
        { "client shut, client resets",
          CLIENT_SHUT "reset client; record reset_by_workload; broken server; state gone" },
        { "client shut, server resets", CLIENT_SHUT "reset server; record reset_by_destination; rst client" },
        { "client shut, revoked", CLIENT_SHUT "policy deny; record policy_revoked; rst client; broken server" },
        { "client shut, still allowed", CLIENT_SHUT "policy keep; silent; send server 5; get client 5" },
        { "client shut, no descriptors",
          CLIENT_SHUT "fds none; send server 50000; get client 50000; silent; fds back" },
        { "client shut, stopped", CLIENT_SHUT "stop; record shutdown; rst client; broken server" },

        /* The destination has. */
        { "server shut, deadline",
          SERVER_SHUT "pass 3599s; silent; pass 1s; record deadline; broken client; rst server" },
        { "server shut, every byte moves the deadline", SERVER_SHUT
          "pass 3000s; send client 1; get server 1; pass 3599s; silent; pass 1s; record deadline; bytes 4 4" },
        { "server shut, client writes on",
          SERVER_SHUT "send client 100000; get server 100000; shut client; eof server; "
                      "record finished; bytes 100003 4" },
        { "server shut, client resets", SERVER_SHUT "reset client; record reset_by_workload; rst server" },
        { "server shut, server resets", SERVER_SHUT "reset server; record reset_by_destination; broken client" },
        { "server shut, revoked", SERVER_SHUT "policy deny; record policy_revoked; broken client; rst server" },
        { "server shut, still allowed", SERVER_SHUT "policy keep; silent; send client 5; get server 5" },
        { "server shut, no descriptors",
          SERVER_SHUT "fds none; send client 50000; get server 50000; silent; fds back" },
        { "server shut, stopped", SERVER_SHUT "stop; record shutdown; broken client; rst server" },

        /* The workload does not read: one pipe is held and the destination feels it. */
        { "client slow, and reads", CLIENT_SLOW "drain client; quiet client; pipes 0; silent; send client 5; "
                                                "get server 5" },
        { "client slow, for days", CLIENT_SLOW "pipes 1; pass 72h; silent; state move; drain client" },
        { "client slow, the other way is free", CLIENT_SLOW "send client 100000; get server 100000; silent" },
        { "client slow, server closes", CLIENT_SLOW "shut server; silent; drain client; eof client; shut client; "
                                                    "record finished" },
        { "client slow, client resets", CLIENT_SLOW "reset client; record reset_by_workload; pipes 0; state gone" },
        /* What came before the reset waits for the reader, as long as a half-closed flow may. */
        { "client slow, server resets", CLIENT_SLOW "reset server; silent; pipes 1; rest client; "
                                                    "record reset_by_destination; pipes 0; state gone" },
        { "client slow, server resets, deadline",
          CLIENT_SLOW "reset server; silent; pass 3600s; record deadline; pipes 0; state gone" },
        { "client slow, revoked", CLIENT_SLOW "policy deny; record policy_revoked; pipes 0; state gone" },
        { "client slow, still allowed", CLIENT_SLOW "policy keep; silent; drain client" },
        { "client slow, no descriptors", CLIENT_SLOW "fds none; drain client; send server 50000; get client 50000; "
                                                     "silent; fds back" },
        { "client slow, stopped", CLIENT_SLOW "stop; record shutdown" },

        { "server slow, and reads", SERVER_SLOW "drain server; quiet server; pipes 0; silent; send server 5; "
                                                "get client 5" },
        { "server slow, for days", SERVER_SLOW "pipes 1; pass 72h; silent; state move; drain server" },
        { "server slow, the other way is free", SERVER_SLOW "send server 100000; get client 100000; silent" },
        { "server slow, client closes", SERVER_SLOW "shut client; silent; drain server; eof server; shut server; "
                                                    "record finished" },
        { "server slow, client resets", SERVER_SLOW "reset client; silent; pipes 1; rest server; "
                                                    "record reset_by_workload; pipes 0; state gone" },
        { "server slow, server resets", SERVER_SLOW "reset server; record reset_by_destination; pipes 0; state gone" },
        { "server slow, revoked", SERVER_SLOW "policy deny; record policy_revoked; pipes 0; state gone" },
        { "server slow, still allowed", SERVER_SLOW "policy keep; silent; drain server" },
        { "server slow, no descriptors", SERVER_SLOW "fds none; drain server; send client 50000; get server 50000; "
                                                     "silent; fds back" },
        { "server slow, stopped", SERVER_SLOW "stop; record shutdown" },

        /* Both are full: nobody reads, everybody writes. */
        { "both slow",
          MOVING "fill server; fill client; silent; pipes 2; drain client; drain server; pipes 0; silent" },
        { "both slow, revoked", MOVING "fill server; fill client; policy deny; record policy_revoked; pipes 0" },

        /* Nothing is left to accept with: who comes waits, and is served when it is there again. */
        { "no descriptors to accept with",
          "socket; fds none; connect; silent; state gone; pass 10s; silent; fds back; pass 100ms; accept; state move; "
          "send client 5; get server 5; silent" },
        { "no descriptors to dial with", "policy deny; connect; record no_rule; rst client; state gone" },
        { "denied", "policy deny; connect; record no_rule; rst client; bytes 0 0; state gone" },
};

static void play_script(void **state)
{
        const struct script *script = *state;

        memset(&play, 0, sizeof(play));
        play.ends[0].fd = play.ends[1].fd = -1;
        start_relay();
        script_play(script, words);
}

static int set_up_script(void **state)
{
        return set_up(state);
}

static int tear_down_script(void **state)
{
        if (play.limited)
                (void)setrlimit(RLIMIT_NOFILE, &play.limit);
        for (int i = 0; i < SIDES; i++)
                if (play.ends[i].fd >= 0)
                        (void)close(play.ends[i].fd);
        if (play.is_full)
                close_full(&play.full);
        return tear_down(state);
}

int main(void)
{
        struct CMUnitTest tests[WEIR_ARRAY_SIZE(scripts)];

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(scripts); i++)
                tests[i] = (struct CMUnitTest){ scripts[i].title, play_script, set_up_script, tear_down_script,
                                                (void *)(uintptr_t)&scripts[i] };
        return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
