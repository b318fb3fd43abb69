/* SPDX-License-Identifier: Apache-2.0 */
/* The verdict: what is denied never leaves, what a newer policy forbids is cut at once, limits hold. */
#include "rig.h"

#define MANY 1000

/* Nobody ever dialled the server. */
static void assert_not_dialled(void)
{
        for (int i = 0; i < 5; i++)
                turn();
        assert_int_equal(accept(rig.server_fd, NULL, NULL), -1);
        assert_int_equal(errno, EAGAIN);
        assert_int_equal(rig.n_opened, 0);
}

static void test_denied(void **state)
{
        const struct weir_record *record;
        int client;

        (void)state;
        rig.policy.allow = false;
        start_relay();
        client = connect_client();
        assert_int_equal(write(client, "secret", 6), 6);
        assert_reset(client);
        (void)close(client);
        record = assert_one_record(WEIR_REASON_NO_RULE);
        assert_int_equal(record->verdict, WEIR_VERDICT_DENY);
        assert_int_equal(record->pid, 4711);
        assert_string_equal(rig.command, "curl");
        assert_string_equal(rig.nearest, "default/test");
        assert_true(record->has_destination && !record->has_dialled);
        assert_int_equal(record->bytes_sent, 0);
        assert_not_dialled();
}

static void refused_as_not_redirected(void)
{
        int client = connect_client();

        assert_reset(client);
        (void)close(client);
        (void)assert_one_record(WEIR_REASON_NOT_REDIRECTED);
        assert_not_dialled();
        rig.n_records = 0;
}

static void test_not_redirected(void **state)
{
        (void)state;
        start_relay();
        rig.original_dst_error = -ENOENT;
        refused_as_not_redirected();
        rig.original_dst_error = 0;
        rig.wanted = rig.listener;
        refused_as_not_redirected();
        /* The same port elsewhere is a destination like any other. */
        rig.wanted = endpoint("198.51.100.7", rig.listener.port);
        struct pair p = open_flow();
        close_pair(&p);
        (void)assert_one_record(WEIR_REASON_FINISHED);
}

static void test_families(void **state)
{
        int client, server;

        (void)state;
        start_relay_on("::");
        client = connect_to("127.0.0.1", rig.listener.port);
        server = accept_from(rig.server_fd);
        assert_true(rig.asked_v4);
        assert_passes(client, server, "mapped");
        (void)close(client);
        (void)close(server);
        client = connect_to("::1", rig.listener.port);
        server = accept_from(rig.server_fd);
        assert_false(rig.asked_v4);
        assert_passes(client, server, "six");
        (void)close(client);
        (void)close(server);
        UNTIL(rig.n_records == 2);
}

static void test_audit(void **state)
{
        const struct weir_record *record;
        struct pair p;

        (void)state;
        rig.policy.allow = false;
        rig.options.audit = true;
        rig.wanted = rig.server;
        start_relay();
        p = open_flow();
        assert_passes(p.client, p.server, "x");
        weir_relay_policy_changed(rig.relay);
        assert_passes(p.client, p.server, "x");
        close_pair(&p);
        record = assert_one_record(WEIR_REASON_AUDIT);
        assert_true(record->audit);
        assert_int_equal(record->verdict, WEIR_VERDICT_DENY);
        assert_int_equal(record->pid, 4711);
        assert_int_equal(rig.n_opened, 1);
}

static void test_audit_spares_loopback(void **state)
{
        int client;

        (void)state;
        rig.policy.allow = false;
        rig.policy.reason = WEIR_REASON_BUILTIN_LOOPBACK;
        rig.options.audit = true;
        rig.wanted = rig.server;
        start_relay();
        client = connect_client();
        assert_reset(client);
        (void)close(client);
        assert_false(assert_one_record(WEIR_REASON_BUILTIN_LOOPBACK)->audit);
        assert_not_dialled();
}

static void test_round_robin(void **state)
{
        int other = listen_on("127.0.0.1", 16);
        struct pair p[4];

        (void)state;
        rig.policy.endpoints[1] = endpoint_of(other);
        rig.policy.n_endpoints = 2;
        start_relay();
        for (int i = 0; i < 4; i++) {
                p[i].client = connect_client();
                p[i].server = accept_from(i % 2 ? other : rig.server_fd);
        }
        /* An endpoint that another rule order names at another turn keeps its flows; one that is gone loses them. */
        rig.policy.endpoints[0] = rig.policy.endpoints[1];
        rig.policy.n_endpoints = 1;
        weir_relay_policy_changed(rig.relay);
        assert_int_equal(rig.n_records, 2);
        for (int i = 0; i < 4; i++) {
                if (i % 2)
                        assert_passes(p[i].client, p[i].server, "kept");
                else
                        assert_reset(p[i].client);
                close_pair(&p[i]);
        }
        UNTIL(rig.n_records == 4);
        (void)close(other);
}

/* From STATIC to NONE: still allowed, but it would dial somebody else. */
static void test_endpoints_taken_away(void **state)
{
        struct pair p;

        (void)state;
        start_relay();
        p = open_flow();
        rig.policy.endpoints[0].port = 0;
        weir_relay_policy_changed(rig.relay);
        assert_reset(p.client);
        assert_reset(p.server);
        close_pair(&p);
        (void)assert_one_record(WEIR_REASON_POLICY_REVOKED);
}

static void test_revoked_while_dialling(void **state)
{
        struct full full = make_full();
        int client;

        (void)state;
        start_relay();
        client = connect_client();
        UNTIL(rig.n_opened == 1);
        weir_relay_policy_changed(rig.relay);
        assert_int_equal(rig.n_records, 0);
        rig.policy.allow = false;
        weir_relay_policy_changed(rig.relay);
        assert_reset(client);
        (void)close(client);
        (void)assert_one_record(WEIR_REASON_POLICY_REVOKED);
        close_full(&full);
}

static void test_revoked_many(void **state)
{
        static struct pair p[MANY];

        (void)state;
        start_relay();
        for (size_t i = 0; i < MANY; i++)
                p[i] = open_flow();
        for (size_t i = 0; i < MANY; i += 2) /* half-closed ones too */
                assert_int_equal(shutdown(p[i].client, SHUT_WR), 0);
        turn();
        weir_relay_policy_changed(rig.relay);
        assert_int_equal(rig.n_records, 0);
        rig.policy.allow = false;
        weir_relay_policy_changed(rig.relay);
        assert_int_equal(rig.n_records, MANY);
        assert_int_equal(weir_relay_n_flows(rig.relay), 0);
        for (size_t i = 0; i < MANY; i++) {
                assert_int_equal(rig.records[i].reason, WEIR_REASON_POLICY_REVOKED);
                assert_int_equal(rig.records[i].verdict, WEIR_VERDICT_DENY);
                assert_reset(p[i].client);
                close_pair(&p[i]);
        }
        weir_relay_policy_changed(rig.relay);
        turn();
        assert_int_equal(rig.n_records, MANY);
        assert_int_equal(rig.policy.references, 0);
}

/* Bytes that wait for a slow reader when the policy turns are not delivered. */
static void test_revoked_bytes_are_dropped(void **state)
{
        static char chunk[256 * 1024];
        struct pair p;
        size_t sent = 0, got = 0;
        ssize_t n;

        (void)state;
        start_relay();
        p = open_flow();
        for (int idle = 0; idle < 100; turn()) {
                n = write(p.client, chunk, sizeof(chunk));
                idle = n > 0 ? 0 : idle + 1;
                sent += n > 0 ? (size_t)n : 0;
        }
        rig.policy.allow = false;
        weir_relay_policy_changed(rig.relay);
        while ((n = next_read(p.server, chunk, sizeof(chunk))) > 0)
                got += (size_t)n;
        assert_int_equal(n, -ECONNRESET);
        assert_true(got < sent);
        (void)assert_one_record(WEIR_REASON_POLICY_REVOKED);
        assert_int_equal(rig.relay->pipes.n, rig.relay->pipes.n_idle);
        close_pair(&p);
}

static void test_too_many_connections(void **state)
{
        struct pair p[2];
        int third;

        (void)state;
        rig.options.connections_max = 2;
        start_relay();
        p[0] = open_flow();
        p[1] = open_flow();
        third = connect_client();
        assert_reset(third);
        (void)close(third);
        assert_int_equal(rig.n_records, 1);
        assert_int_equal(rig.records[0].reason, WEIR_REASON_LIMIT_CONNECTIONS);
        assert_int_equal(rig.records[0].verdict, WEIR_VERDICT_DENY);
        assert_string_equal(rig.nearest, "");
        close_pair(&p[0]);
        UNTIL(rig.n_records == 2);
        p[0] = open_flow();
        close_pair(&p[0]);
        close_pair(&p[1]);
        UNTIL(rig.n_records == 4);
}

/* Out of descriptors: nothing spins, nothing is lost, and both a moment and an ended flow bring accept back. */
static void test_accept_pauses(void **state)
{
        struct pair p, q;
        size_t before;

        (void)state;
        start_relay();
        p = open_flow();
        rig.fail_accept = 2;
        q.client = connect_client();
        UNTIL(rig.fail_accept == 1);
        before = rig.n_accept;
        for (int i = 0; i < 50; i++)
                turn();
        assert_int_equal(rig.n_accept, before);
        jump(100 * WEIR_MS);
        UNTIL(rig.fail_accept == 0);
        before = rig.n_accept;
        turn();
        assert_int_equal(rig.n_accept, before);
        close_pair(&p);
        UNTIL(rig.n_records == 1);
        q.server = accept_from(rig.server_fd);
        assert_passes(q.client, q.server, "x");
        close_pair(&q);
        UNTIL(rig.n_records == 2);
}

static int no_socket(int family)
{
        (void)family;
        return -EMFILE;
}

static void test_no_descriptor_to_dial(void **state)
{
        int client;

        (void)state;
        rig.sys.socket = no_socket;
        start_relay();
        client = connect_client();
        assert_reset(client);
        (void)close(client);
        assert_int_equal(assert_one_record(WEIR_REASON_LIMIT_MEMORY)->verdict, WEIR_VERDICT_DENY);
        assert_not_dialled();
}

static unsigned sockets_short;

static int short_of_sockets(int family)
{
        if (sockets_short > 0) {
                sockets_short--;
                return -EMFILE;
        }
        return weir_relay_sys_real.socket(family);
}

/* The descriptor in reserve is for the flow whose accept(2) took the last one; until it is back nobody is let in. */
static void test_last_descriptor_taken_by_accept(void **state)
{
        struct pair p;

        (void)state;
        rig.sys.socket = short_of_sockets;
        start_relay();
        sockets_short = 1;
        p = open_flow();
        assert_passes(p.client, p.server, "x");
        assert_true(rig.relay->paused);
        close_pair(&p);
        UNTIL(!rig.relay->paused);
        assert_true(rig.relay->reserve >= 0);
}

static int inner_error;

static int connect_inside(void *context, uint16_t inner_port)
{
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(&rig.server.addr, rig.server.port, &sa);
        int fd;

        assert_ptr_equal(context, &rig);
        assert_int_equal(inner_port, 3000);
        if (inner_error)
                return inner_error;
        fd = weir_relay_sys_real.socket(AF_INET);
        (void)connect(fd, (struct sockaddr *)&sa, length);
        return fd;
}

static void test_published(void **state)
{
        int listener = listen_on("127.0.0.1", 16);
        uint16_t port = endpoint_of(listener).port;
        const struct weir_record *record;
        struct pair p;

        (void)state;
        rig.policy.allow = false;
        start_relay();
        inner_error = 0;
        assert_int_equal(weir_relay_publish(rig.relay, listener, 3000, connect_inside, &rig), 0);
        p.client = connect_to("127.0.0.1", port);
        p.server = accept_from(rig.server_fd);
        assert_passes(p.client, p.server, "GET");
        assert_passes(p.server, p.client, "200 OK");
        weir_relay_policy_changed(rig.relay);
        assert_passes(p.client, p.server, "GET");
        close_pair(&p);
        record = assert_one_record(WEIR_REASON_PUBLISHED);
        assert_int_equal(record->bytes_sent, 6); /* by the workload, which answers here */
        assert_int_equal(record->bytes_received, 6);
        assert_int_equal(record->port, 3000);

        rig.n_records = 0;
        inner_error = -ECONNREFUSED;
        p.client = connect_to("127.0.0.1", port);
        assert_reset(p.client);
        (void)close(p.client);
        (void)assert_one_record(WEIR_REASON_UPSTREAM_REFUSED);
}

/* What an idle flow costs in Weir: its slot, its timer, two watches. */
static void test_memory_of_a_flow(void **state)
{
        (void)state;
        assert_true(sizeof(struct weir_flow) <= 1024 - 64 /* timer */ - 2 * 32 /* watches */ - 2 * sizeof(void *));
}

static int many_descriptors(void **state)
{
        (void)state;
        allow_many_descriptors();
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_denied),
                TEST(test_not_redirected),
                TEST(test_families),
                TEST(test_audit),
                TEST(test_audit_spares_loopback),
                TEST(test_round_robin),
                TEST(test_endpoints_taken_away),
                TEST(test_revoked_while_dialling),
                TEST(test_revoked_many),
                TEST(test_revoked_bytes_are_dropped),
                TEST(test_too_many_connections),
                TEST(test_accept_pauses),
                TEST(test_no_descriptor_to_dial),
                TEST(test_last_descriptor_taken_by_accept),
                TEST(test_published),
                TEST(test_memory_of_a_flow),
        };

        return cmocka_run_group_tests_name("relay/policy", tests, many_descriptors, NULL);
}
