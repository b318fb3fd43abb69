/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crashes: a writer is killed before its first system call, after it, and so on until it survives. Each time what was
 * stored is the old state or the new one, the counter has not gone back, and the next write works.
 */
#include "help.h"

#include "trace.h"

#define STOPS_MAX 5000
#define TRACE_MAX 64

/* Kills after @stops stops. True if the child survived to its end. */
static bool run_until(const char *folder, trace_victim *run, unsigned stops)
{
        pid_t pid = trace_start(folder, run, NULL);
        int status;

        for (unsigned i = 0; i < stops; i++)
                if (!trace_step(pid, &status)) {
                        assert_true(WIFEXITED(status));
                        assert_int_equal(WEXITSTATUS(status), 0);
                        return true;
                }
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(help_wait(pid), 128 + SIGKILL);
        return false;
}

struct outcome {
        const char *old_keys, *new_keys;
        const char *old_host, *new_host; /* of "a" */
        trace_victim *run;
};

static bool is_either(const char *text, const char *old, const char *new)
{
        return weir_streq(text, old) || weir_streq(text, new);
}

static void assert_whole(const char *folder, const struct outcome *outcome, bool survived)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *keys = help_snapshot(store, NULL);
        weir_auto_free char *host = strdup(help_host(store, "a", NULL));
        uint64_t before = help_revision(folder), revision = 0, version = 0;
        struct weir_err err = { 0 };

        if (!is_either(keys, outcome->old_keys, outcome->new_keys) ||
            !is_either(host, outcome->old_host, outcome->new_host))
                fail_msg("half: \"%s\" \"%s\"", keys, host);
        if (survived) {
                assert_string_equal(keys, outcome->new_keys);
                assert_string_equal(host, outcome->new_host);
        }
        assert_true(before == 1 || before == 2);
        if (weir_streq(host, CIDR_B)) {
                (void)help_host(store, "a", &version);
                assert_int_equal(version, before);
        }
        /* The dead writer's lock and temporary files are in nobody's way. */
        if (help_put(store, HELP_APPLY, "next", CIDR_A, NULL, &revision, &err) < 0)
                fail_msg("%s: %s", err.path, err.text);
        assert_int_equal(revision, before + 1);
        assert_false(help_exists(folder, ".resource.tmp"));
        assert_false(help_exists(folder, ".revision.tmp"));
}

static void crash_everywhere(const struct outcome *outcome)
{
        unsigned old = 0, new = 0;
        bool survived = false;

        for (unsigned stops = 0; !survived; stops++) {
                AUTO_FOLDER folder = help_folder();
                weir_auto(store) struct weir_store *store = help_open(folder, true);
                weir_auto_free char *keys = NULL;
                uint64_t revision;

                assert_true(stops < STOPS_MAX);
                assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, NULL), 0);
                survived = run_until(folder, outcome->run, stops);
                keys = help_snapshot(store, NULL);
                if (weir_streq(keys, outcome->new_keys) && weir_streq(help_host(store, "a", NULL), outcome->new_host))
                        new ++;
                else
                        old++;
                assert_whole(folder, outcome, survived);
        }
        /* Both were seen, or nothing was tried. */
        assert_true(old > 20);
        assert_true(new > 1);
}

static void a_crash_while_replacing(void **state)
{
        static const struct outcome outcome = {
                "external-service/default/a ", "external-service/default/a ", CIDR_A, CIDR_B, trace_apply,
        };

        (void)state;
        crash_everywhere(&outcome);
}

static void a_crash_while_creating_in_a_new_namespace(void **state)
{
        static const struct outcome outcome = {
                "external-service/default/a ",
                "external-service/default/a external-service/team/b ",
                CIDR_A,
                CIDR_A,
                trace_create,
        };

        (void)state;
        crash_everywhere(&outcome);
}

static void a_crash_while_deleting(void **state)
{
        static const struct outcome outcome = { "external-service/default/a ", "", CIDR_A, "", trace_delete };

        (void)state;
        crash_everywhere(&outcome);
}

/* 's' for a sync, 'r' for a rename, 'u' for an unlink that removed something, 'm' for a new folder; 0 for the rest. */
static char letter(uint64_t nr)
{
        switch (nr) {
        case SYS_fsync:
                return 's';
        case SYS_renameat:
        case SYS_renameat2:
                return 'r';
        case SYS_unlinkat:
                return 'u';
        case SYS_mkdirat:
                return 'm';
        default:
                return 0;
        }
}

static void trace(const char *folder, trace_victim *run, char ret_trace[TRACE_MAX])
{
        pid_t pid = trace_start(folder, run, NULL);
        size_t n = 0;
        char pending = 0;
        int status;

        while (trace_step(pid, &status)) {
                struct trace_stop stop = trace_look(pid);

                if (stop.op == 1)
                        pending = letter(stop.nr);
                else if (stop.op == 2 && pending && stop.result == 0 && n < TRACE_MAX - 1)
                        ret_trace[n++] = pending;
        }
        ret_trace[n] = '\0';
        assert_int_equal(WEXITSTATUS(status), 0);
}

/* What a power cut leaves cannot be tried here, but the order that makes it safe can be seen. */
static void what_is_renamed_was_synced_and_so_is_its_folder(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        char seen[TRACE_MAX];
        uint64_t revision;

        (void)state;
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, NULL), 0);
        trace(folder, trace_apply, seen);
        assert_string_equal(seen, "ssrsrs");
        trace(folder, trace_create, seen);
        assert_string_equal(seen, "ssmsrsrs");
        trace(folder, trace_delete, seen);
        assert_string_equal(seen, "srsus");
}

/* An editor knows nothing of the lock. Its file appears when all checks are done, just before the rename. */
static void a_file_made_by_hand_meanwhile_is_not_overwritten(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *text = NULL;
        unsigned renames = 0;
        uint64_t revision;
        int status;
        pid_t pid;

        (void)state;
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, NULL), 0);
        pid = trace_start(folder, trace_create, NULL);
        while (trace_step(pid, &status)) {
                struct trace_stop stop = trace_look(pid);

                if (stop.op == 1 && letter(stop.nr) == 'r' && ++renames == 2)
                        help_write(folder, "external-service/team/b.yaml", "by hand");
        }
        assert_int_equal(WEXITSTATUS(status), 9);
        text = help_read(folder, "external-service/team/b.yaml");
        assert_string_equal(text, "by hand");
        assert_false(help_exists(folder, ".resource.tmp"));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_crash_while_replacing),
                cmocka_unit_test(a_crash_while_creating_in_a_new_namespace),
                cmocka_unit_test(a_crash_while_deleting),
                cmocka_unit_test(what_is_renamed_was_synced_and_so_is_its_folder),
                cmocka_unit_test(a_file_made_by_hand_meanwhile_is_not_overwritten),
        };

        return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
