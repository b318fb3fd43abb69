/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk that fails: each system call of a write, one after the other, is answered with ENOSPC, EIO or EROFS instead of
 * being made; once only, and from there on for all that would change something. Each time what is stored is the old
 * state or the new one, whole; success is said only of the new one, "as it was" only of the old one; and the next write
 * works. A reader whose calls fail says so, or has everything.
 */
#include "trace.h"

#include <sys/mman.h>

#define CALLS_MAX 2500

struct fault {
        int error;
        unsigned call; /* which one, counted from 0 */
        bool lasting;  /* and all that change something after it */
};

struct outcome {
        const char *old_keys, *new_keys;
        const char *old_host, *new_host; /* of "a" */
        trace_victim *run;
};

static bool changes_something(const struct trace_stop *stop)
{
        switch (stop->nr) {
        case SYS_write:
        case SYS_writev:
        case SYS_pwrite64:
        case SYS_fsync:
        case SYS_fdatasync:
        case SYS_ftruncate:
        case SYS_fallocate:
        case SYS_renameat:
        case SYS_renameat2:
        case SYS_mkdirat:
        case SYS_unlinkat:
                return true;
        case SYS_openat:
                return stop->args[2] & O_CREAT;
        default:
                return false;
        }
}

/* The end of the program is no call that can fail. Nor can a sanitizer go on without the memory that it asks for. */
static bool can_fail(const struct trace_stop *stop)
{
#ifdef __SANITIZE_ADDRESS__
        const uint64_t memory[] = { SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_brk, SYS_prctl, SYS_sigaltstack };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(memory); i++)
                if (stop->nr == memory[i])
                        return false;
#endif
        return stop->nr != SYS_exit_group && stop->nr != SYS_exit;
}

/* Runs the child to its end. False if it made fewer calls, so that nothing was injected. */
static bool run_with(const char *folder, trace_victim *run, const struct fault *fault, struct weir_err *err,
                     int *ret_status)
{
        pid_t pid = trace_start(folder, run, err);
        bool injected = false, pending = false;
        unsigned call = 0;
        int status;

        while (trace_step(pid, &status)) {
                struct trace_stop stop;

                if (WSTOPSIG(status) != (SIGTRAP | 0x80))
                        fail_msg("the child got signal %d", WSTOPSIG(status));
                stop = trace_look(pid);
                if (stop.op == 1 && can_fail(&stop)) {
                        pending = call == fault->call ||
                                  (fault->lasting && call > fault->call && changes_something(&stop));
                        injected = injected || call == fault->call;
                        call++;
                        if (pending)
                                trace_skip(pid);
                } else if (stop.op == 2 && pending) {
                        trace_return(pid, -fault->error);
                        pending = false;
                }
        }
        if (!WIFEXITED(status))
                fail_msg("call %u with error %d: the child died of signal %d", fault->call, fault->error,
                         WTERMSIG(status));
        *ret_status = WEXITSTATUS(status);
        return injected;
}

static bool is_either(const char *text, const char *old, const char *new)
{
        return weir_streq(text, old) || weir_streq(text, new);
}

static void assert_whole(const char *folder, const struct outcome *outcome, const struct fault *fault, int status,
                         const struct weir_err *err)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *keys = help_snapshot(store, NULL);
        weir_auto_free char *host = strdup(help_host(store, "a", NULL));
        uint64_t before = help_revision(folder), revision = 0;
        struct weir_err next = { 0 };

        if (!is_either(keys, outcome->old_keys, outcome->new_keys) ||
            !is_either(host, outcome->old_host, outcome->new_host))
                fail_msg("call %u, error %d: half: \"%s\" \"%s\"", fault->call, fault->error, keys, host);
        if (status == 0 && (!weir_streq(keys, outcome->new_keys) || !weir_streq(host, outcome->new_host)))
                fail_msg("call %u, error %d: success was said of \"%s\" \"%s\"", fault->call, fault->error, keys, host);
        if (status != 0 && !err->text[0])
                fail_msg("call %u, error %d: a failure without a word", fault->call, fault->error);
        if (status != 0 && strstr(err->text, "as it was") &&
            (!weir_streq(keys, outcome->old_keys) || !weir_streq(host, outcome->old_host)))
                fail_msg("call %u, error %d: \"%s\" was said of \"%s\" \"%s\"", fault->call, fault->error, err->text,
                         keys, host);
        assert_true(before == 1 || before == 2);
        if (help_put(store, HELP_APPLY, "next", CIDR_A, NULL, &revision, &next) < 0)
                fail_msg("call %u, error %d, then: %s: %s", fault->call, fault->error, next.path, next.text);
        assert_int_equal(revision, before + 1);
        assert_false(help_exists(folder, ".resource.tmp"));
        assert_false(help_exists(folder, ".revision.tmp"));
}

static struct weir_err *shared_err(void)
{
        void *page = mmap(NULL, sizeof(struct weir_err), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        assert_true(page != MAP_FAILED);
        return page;
}

static void fail_everywhere(const struct outcome *outcome)
{
        static const int errors[] = { ENOSPC, EIO, EROFS };
        struct weir_err *err = shared_err();
        unsigned failed = 0, succeeded = 0;

        for (size_t kind = 0; kind < 2 * WEIR_ARRAY_SIZE(errors); kind++) {
                struct fault fault = { .error = errors[kind / 2], .lasting = kind % 2 };
                bool injected = true;

                for (; injected; fault.call++) {
                        AUTO_FOLDER folder = help_folder();
                        weir_auto(store) struct weir_store *store = help_open(folder, true);
                        uint64_t revision;
                        int status;

                        assert_true(fault.call < CALLS_MAX);
                        *err = (struct weir_err){ 0 };
                        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, NULL), 0);
                        injected = run_with(folder, outcome->run, &fault, err, &status);
                        assert_true(status == 0 || status == 9);
                        assert_true(injected || status == 0);
                        failed += status != 0;
                        succeeded += status == 0;
                        assert_whole(folder, outcome, &fault, status, err);
                }
        }
        (void)munmap(err, sizeof(*err));
        /* Both were seen, or nothing was tried. */
        assert_true(failed > 100);
        assert_true(succeeded >= 2 * WEIR_ARRAY_SIZE(errors));
}

static void a_failing_disk_while_replacing(void **state)
{
        static const struct outcome outcome = {
                "external-service/default/a ", "external-service/default/a ", CIDR_A, CIDR_B, trace_apply,
        };

        (void)state;
        fail_everywhere(&outcome);
}

static void a_failing_disk_while_creating_in_a_new_namespace(void **state)
{
        static const struct outcome outcome = {
                "external-service/default/a ",
                "external-service/default/a external-service/team/b ",
                CIDR_A,
                CIDR_A,
                trace_create,
        };

        (void)state;
        fail_everywhere(&outcome);
}

static void a_failing_disk_while_deleting(void **state)
{
        static const struct outcome outcome = { "external-service/default/a ", "", CIDR_A, "", trace_delete };

        (void)state;
        fail_everywhere(&outcome);
}

/* 0 only if everything was read; a failure has to be told. A policy with a rule fewer, or one more, is none. */
static int read_all(struct weir_store *store, struct weir_err *err)
{
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        int r;

        r = weir_store_snapshot(store, &list, &errors);
        if (r == 0 && list.n != 3)
                _exit(7);
        if (r == WEIR_EINVALID && errors.n == 0)
                _exit(7);
        if (r < 0)
                (void)weir_err_set(err, r, "%s", errors.n ? errors.items[0].text : strerror(-r));
        weir_resources_clear(&list);
        weir_errs_clear(&errors);
        return r;
}

static int read_watched(struct weir_store *store, struct weir_err *err)
{
        if (weir_store_watch_fd(store) < 0)
                return -EIO;
        return read_all(store, err);
}

static int get_one(struct weir_store *store, struct weir_err *err)
{
        struct weir_resource *resource = NULL;
        int r;

        r = weir_store_get(store, WEIR_KIND_EXTERNAL_SERVICE, "default", "a", &resource, err);
        if (r == WEIR_ENOTFOUND)
                _exit(7);
        weir_resource_unref(resource);
        return r;
}

static void a_reader_says_what_it_could_not_read(void **state)
{
        static const int errors[] = { EIO, EMFILE, EACCES, ENOMEM };
        static trace_victim *const readers[] = { read_all, read_watched, get_one };
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err *err = shared_err();
        unsigned failed = 0;
        uint64_t revision;

        (void)state;
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, NULL), 0);
        assert_int_equal(help_put(store, HELP_CREATE, "c", CIDR_A, NULL, &revision, NULL), 0);
        assert_int_equal(trace_create(store, err), 0);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(readers) * WEIR_ARRAY_SIZE(errors); i++) {
                struct fault fault = { .error = errors[i / WEIR_ARRAY_SIZE(readers)] };
                bool injected = true;

                for (; injected; fault.call++) {
                        int status;

                        assert_true(fault.call < CALLS_MAX);
                        *err = (struct weir_err){ 0 };
                        injected = run_with(folder, readers[i % WEIR_ARRAY_SIZE(readers)], &fault, err, &status);
                        if (status != 0 && status != 9)
                                fail_msg("reader %zu, call %u, error %d: read less and said nothing",
                                         i % WEIR_ARRAY_SIZE(readers), fault.call, fault.error);
                        failed += status != 0;
                }
        }
        assert_true(failed > 100);
        (void)munmap(err, sizeof(*err));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_failing_disk_while_replacing),
                cmocka_unit_test(a_failing_disk_while_creating_in_a_new_namespace),
                cmocka_unit_test(a_failing_disk_while_deleting),
                cmocka_unit_test(a_reader_says_what_it_could_not_read),
        };

        return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
