/* SPDX-License-Identifier: Apache-2.0 */
/* Several at once: writers lose nothing, of two that create one wins, a reader sees whole states only. */
#include "help.h"

#define WRITERS 4
#define WRITES 50

static const char *cidr_of(unsigned writer)
{
        static const char *const cidrs[WRITERS] = { "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16" };

        return cidrs[writer];
}

/* Half of the writes create a resource of the writer's own, half go to one that all share. */
static void write_many(const char *folder, unsigned writer)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision, last = 0;

        for (unsigned i = 0; i < WRITES; i++) {
                weir_auto_free char *name = i % 2 ? strdup("shared") : weir_asprintf("w%u-%u", writer, i);
                int r = help_put(store, i % 2 ? HELP_APPLY : HELP_CREATE, name, cidr_of(writer), NULL, &revision, &err);

                if (r < 0)
                        fail_msg("%s: %s", err.path, err.text);
                assert_true(revision > last);
                last = revision;
        }
}

static void start(pid_t pids[WRITERS], const char *folder, void (*run)(const char *folder, unsigned writer))
{
        for (unsigned i = 0; i < WRITERS; i++) {
                pids[i] = help_fork();
                if (pids[i] == 0) {
                        run(folder, i);
                        _exit(0);
                }
        }
}

static unsigned count_zero(const pid_t pids[WRITERS])
{
        unsigned n = 0;

        for (unsigned i = 0; i < WRITERS; i++) {
                int status = help_wait(pids[i]);

                assert_true(status == 0 || status == 7);
                n += status == 0;
        }
        return n;
}

static void writers_lose_nothing(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        bool seen[WRITERS * WRITES + 1] = { false };
        pid_t pids[WRITERS];

        (void)state;
        start(pids, folder, write_many);
        assert_int_equal(count_zero(pids), WRITERS);
        assert_int_equal(help_revision(folder), WRITERS * WRITES);
        assert_int_equal(weir_store_snapshot(store, &list, &errors), 0);
        assert_int_equal(list.n, WRITERS * WRITES / 2 + 1);
        for (size_t i = 0; i < list.n; i++) {
                uint64_t version;

                assert_int_equal(weir_parse_uint(list.items[i]->resource_version, WRITERS * WRITES, &version), 0);
                assert_false(seen[version]);
                seen[version] = true;
        }
        weir_resources_clear(&list);
}

/* 7 means that another was first. */
static void create_one(const char *folder, unsigned writer)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;
        int r;

        r = help_put(store, HELP_CREATE, "one", cidr_of(writer), NULL, &revision, &err);
        if (r != 0 && r != WEIR_EEXISTS)
                fail_msg("%s: %s", err.path, err.text);
        _exit(r == 0 ? 0 : 7);
}

static void of_two_that_create_one_wins(void **state)
{
        (void)state;
        for (int i = 0; i < 20; i++) {
                AUTO_FOLDER folder = help_folder();
                pid_t pids[WRITERS];

                start(pids, folder, create_one);
                assert_int_equal(count_zero(pids), 1);
                assert_int_equal(help_revision(folder), 1);
        }
}

static void replace_one(const char *folder, unsigned writer)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;
        int r;

        r = help_put(store, HELP_REPLACE, "one", cidr_of(writer), "1", &revision, &err);
        if (r != 0 && r != WEIR_ECONFLICT)
                fail_msg("%s: %s", err.path, err.text);
        _exit(r == 0 ? 0 : 7);
}

/* All have read revision 1: the first to replace it wins, and the others are told. */
static void of_two_that_replace_the_same_one_wins(void **state)
{
        (void)state;
        for (int i = 0; i < 20; i++) {
                AUTO_FOLDER folder = help_folder();
                weir_auto(store) struct weir_store *store = help_open(folder, true);
                struct weir_err err = { 0 };
                uint64_t revision;
                pid_t pids[WRITERS];

                assert_int_equal(help_put(store, HELP_CREATE, "one", CIDR_A, NULL, &revision, &err), 0);
                start(pids, folder, replace_one);
                assert_int_equal(count_zero(pids), 1);
                assert_string_not_equal(help_host(store, "one", NULL), CIDR_A);
        }
}

static void write_in_turn(const char *folder)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;

        for (unsigned i = 0; i < 100; i++)
                assert_int_equal(help_put(store, HELP_APPLY, "a", i % 2 ? CIDR_B : CIDR_A, NULL, &revision, &err), 0);
}

/* Until the writer is done: exactly one resource, whole, one of the two, with a version that never goes back. */
static void a_reader_sees_whole_states(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision, version, last = 0;
        unsigned states = 0;
        pid_t pid, done;
        int status = 0;

        (void)state;
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        pid = help_fork();
        if (pid == 0) {
                write_in_turn(folder);
                _exit(0);
        }
        do {
                const char *host;

                done = waitpid(pid, &status, WNOHANG);
                host = help_host(store, "a", &version);
                if (!weir_streq(host, CIDR_A) && !weir_streq(host, CIDR_B))
                        fail_msg("a half state: \"%s\"", host);
                assert_true(version >= last);
                states += version > last;
                last = version;
                assert_keys(store, "external-service/default/a ");
        } while (done == 0);
        assert_int_equal(status, 0);
        assert_int_equal(last, 101);
        assert_true(states > 1);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(writers_lose_nothing),
                cmocka_unit_test(of_two_that_create_one_wins),
                cmocka_unit_test(of_two_that_replace_the_same_one_wins),
                cmocka_unit_test(a_reader_sees_whole_states),
        };

        return cmocka_run_group_tests_name("together", tests, NULL, NULL);
}
