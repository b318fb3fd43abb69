/* SPDX-License-Identifier: Apache-2.0 */
/* The watch: whatever changes the content is told, what does not is not. */
#include "help.h"

#include <poll.h>
#include <time.h>

#include "model/resource.h"

/* Generous: reached only if the watch is broken. */
#define PATIENCE_MS 20000

struct fixture {
        char *above, *folder;
        struct weir_store *store;
};

static void put_file(const char *folder, const char *namespace_, const char *name, const char *cidr)
{
        weir_auto_free char *yaml = help_yaml(namespace_, name, cidr, NULL);
        weir_auto_free char *below = weir_asprintf("external-service/%s/%s.yaml", namespace_, name);

        help_write(folder, below, yaml);
}

static void take(struct weir_store *store)
{
        free(help_snapshot(store, NULL));
}

/* Everything inotify has to say is queued when the system call that caused it returns. */
static bool is_readable(struct weir_store *store, int timeout_ms)
{
        struct pollfd pfd = { .fd = weir_store_watch_fd(store), .events = POLLIN };

        assert_true(pfd.fd >= 0);
        return poll(&pfd, 1, timeout_ms) == 1;
}

/* It may wake up for nothing (a watch that was moved says goodbye), but not without end. */
static void assert_unchanged(struct weir_store *store)
{
        for (int i = 0; i < 3 && is_readable(store, 0); i++)
                assert_false(weir_store_changed(store));
        assert_false(is_readable(store, 0));
}

static void assert_changed(struct weir_store *store)
{
        assert_true(is_readable(store, PATIENCE_MS));
        assert_true(weir_store_changed(store));
        take(store);
        assert_unchanged(store);
}

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        f->above = help_folder();
        f->folder = help_path(f->above, "x/store");
        f->store = help_open(f->folder, true);
        assert_true(weir_store_watch_fd(f->store) >= 0);
        take(f->store);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        weir_store_close(f->store);
        help_tidy(&f->above);
        free(f->folder);
        free(f);
        return 0;
}

static void each_write_is_told(void **state)
{
        struct fixture *f = *state;
        weir_auto(store) struct weir_store *writer = help_open(f->folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;

        assert_unchanged(f->store);
        assert_int_equal(help_put(writer, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_changed(f->store);
        assert_keys(f->store, "external-service/default/a ");
        assert_int_equal(help_put(writer, HELP_REPLACE, "a", CIDR_B, NULL, &revision, &err), 0);
        assert_changed(f->store);
        assert_string_equal(help_host(f->store, "a", NULL), CIDR_B);
        assert_int_equal(weir_store_delete(writer, WEIR_KIND_EXTERNAL_SERVICE, "default", "a", &err), 0);
        assert_changed(f->store);
        assert_keys(f->store, "");
}

static void a_refused_write_is_not_told(void **state)
{
        struct fixture *f = *state;
        struct weir_err err = { 0 };
        uint64_t revision;

        assert_int_equal(help_put(f->store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_changed(f->store);
        assert_int_equal(help_put(f->store, HELP_CREATE, "a", CIDR_B, NULL, &revision, &err), WEIR_EEXISTS);
        assert_unchanged(f->store);
}

static void a_file_by_hand_is_told(void **state)
{
        struct fixture *f = *state;
        weir_auto_free char *a = help_path(f->folder, "external-service/default/a.yaml"),
                            *b = help_path(f->folder, "external-service/default/a.swp");

        put_file(f->folder, "default", "a", CIDR_A);
        assert_changed(f->store);
        put_file(f->folder, "default", "a", CIDR_B);
        assert_changed(f->store);
        assert_int_equal(rename(a, b), 0);
        assert_changed(f->store);
        assert_keys(f->store, "");
        assert_int_equal(rename(b, a), 0);
        assert_changed(f->store);
        assert_keys(f->store, "external-service/default/a ");
        assert_int_equal(unlink(a), 0);
        assert_changed(f->store);
}

static void what_changes_nothing_is_not_told(void **state)
{
        struct fixture *f = *state;

        put_file(f->folder, "default", "a", CIDR_A);
        assert_changed(f->store);
        put_file(f->folder, "default", "a", CIDR_A);
        help_write(f->folder, "external-service/default/.a.yaml.swp", "x");
        help_write(f->folder, "external-service/default/a.yaml~", "x");
        help_write(f->folder, ".git/index", "x");
        help_write(f->folder, "README", "x");
        help_write(f->folder, "revision", "12\n");
        assert_unchanged(f->store);
}

static void a_new_namespace_is_watched(void **state)
{
        struct fixture *f = *state;
        weir_auto_free char *staged = help_path(f->above, "external-service/team"),
                            *moved = help_path(f->folder, "external-service/team");

        put_file(f->folder, "default", "a", CIDR_A);
        assert_changed(f->store);
        put_file(f->above, "team", "b", CIDR_A);
        assert_int_equal(rename(staged, moved), 0);
        assert_changed(f->store);
        assert_keys(f->store, "external-service/default/a external-service/team/b ");
        put_file(f->folder, "team", "c", CIDR_A);
        assert_changed(f->store);
        help_remove(moved);
        assert_changed(f->store);
        put_file(f->folder, "team", "d", CIDR_A);
        assert_changed(f->store);
        assert_keys(f->store, "external-service/default/a external-service/team/d ");
        put_file(f->folder, "team", "e", CIDR_A);
        assert_changed(f->store);
}

static void a_broken_file_and_its_mending_are_told(void **state)
{
        struct fixture *f = *state;
        weir_auto_free char *errors = NULL;

        put_file(f->folder, "default", "a", CIDR_A);
        assert_changed(f->store);
        help_write(f->folder, "external-service/default/a.yaml", "{");
        assert_true(is_readable(f->store, PATIENCE_MS));
        assert_true(weir_store_changed(f->store));
        free(help_snapshot(f->store, &errors));
        assert_non_null(strstr(errors, "a.yaml"));
        assert_unchanged(f->store);
        put_file(f->folder, "default", "a", CIDR_A);
        assert_changed(f->store);
}

static void a_removed_store_is_told(void **state)
{
        struct fixture *f = *state;
        weir_auto_free char *keys = NULL, *errors = NULL, *again = NULL;

        help_remove(f->folder);
        assert_true(is_readable(f->store, PATIENCE_MS));
        assert_true(weir_store_changed(f->store));
        keys = help_snapshot(f->store, &errors);
        assert_string_equal(keys, "");
        assert_non_null(strstr(errors, "the folder of the store was removed"));
        put_file(f->folder, "default", "a", CIDR_A);
        free(keys);
        keys = help_snapshot(f->store, &again);
        assert_string_equal(keys, "");
        assert_string_equal(again, errors);
}

static void a_store_that_appears_is_told(void **state)
{
        struct fixture *f = *state;
        weir_auto_free char *folder = help_path(f->above, "deep/er/store");
        weir_auto(store) struct weir_store *store = help_open(folder, false);

        assert_true(weir_store_watch_fd(store) >= 0);
        take(store);
        help_write(f->above, "unrelated", "x");
        assert_unchanged(store);
        put_file(folder, "default", "a", CIDR_A);
        assert_changed(store);
        assert_keys(store, "external-service/default/a ");
        put_file(folder, "default", "b", CIDR_A);
        assert_changed(store);
        assert_keys(store, "external-service/default/a external-service/default/b ");
}

/* Each folder on the way comes and goes at a moment of its own. */
static void a_store_that_appears_step_by_step_is_told(void **state)
{
        struct fixture *f = *state;
        weir_auto_free char *deep = help_path(f->above, "deep"), *er = help_path(f->above, "deep/er"),
                            *folder = help_path(f->above, "deep/er/store");
        weir_auto(store) struct weir_store *store = help_open(folder, false);

        assert_true(weir_store_watch_fd(store) >= 0);
        take(store);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(mkdir(deep, 0755), 0);
                assert_unchanged(store);
                assert_int_equal(mkdir(er, 0755), 0);
                assert_unchanged(store);
                help_remove(deep);
                assert_unchanged(store);
        }
        assert_int_equal(mkdir(deep, 0755), 0);
        assert_unchanged(store);
        assert_int_equal(mkdir(er, 0755), 0);
        assert_unchanged(store);
        assert_int_equal(mkdir(folder, 0755), 0);
        assert_unchanged(store);
        put_file(folder, "default", "a", CIDR_A);
        assert_changed(store);
}

/* It comes into being as something that must not be used. */
static void a_store_that_appears_is_checked(void **state)
{
        struct fixture *f = *state;
        weir_auto_free char *folder = help_path(f->above, "late"), *staged = help_path(f->above, "staged"),
                            *keys = NULL, *errors = NULL;
        weir_auto(store) struct weir_store *store = help_open(folder, false);

        assert_true(weir_store_watch_fd(store) >= 0);
        take(store);
        put_file(staged, "default", "a", CIDR_A);
        assert_int_equal(chmod(staged, 0777), 0);
        assert_int_equal(rename(staged, folder), 0);
        assert_true(is_readable(store, PATIENCE_MS));
        assert_true(weir_store_changed(store));
        keys = help_snapshot(store, &errors);
        assert_string_equal(keys, "");
        assert_non_null(strstr(errors, "everybody can write to this store"));
        assert_int_equal(chmod(folder, 0755), 0);
        assert_changed(store);
        assert_keys(store, "external-service/default/a ");
}

static void without_a_watch_the_digest_tells(void **state)
{
        struct fixture *f = *state;
        weir_auto(store) struct weir_store *store = help_open(f->folder, false);

        assert_true(weir_store_changed(store));
        take(store);
        assert_false(weir_store_changed(store));
        put_file(f->folder, "default", "a", CIDR_A);
        assert_true(weir_store_changed(store));
}

static struct weir_resource *find_in(const struct weir_resources *list, const char *name)
{
        for (size_t i = 0; i < list->n; i++)
                if (weir_streq(list->items[i]->name, name))
                        return list->items[i];
        fail_msg("%s is missing", name);
        return NULL;
}

static void snapshot(struct weir_store *store, struct weir_resources *ret)
{
        struct weir_errs errors = { 0 };

        assert_int_equal(weir_store_snapshot(store, ret, &errors), 0);
        weir_errs_clear(&errors);
}

/* What the kernel notes of a file is older than it must be to be believed. */
static void settle(const struct fixture *f, const char *name)
{
        weir_auto_free char *path = weir_asprintf("%s/external-service/default/%s.yaml", f->folder, name);
        struct timespec now;
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        do {
                (void)usleep(10000);
                assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
        } while ((now.tv_sec - st.st_ctim.tv_sec) * 1000 + (now.tv_nsec - st.st_ctim.tv_nsec) / 1000000 <= 110);
}

/* The same resource, not one read again; and the changed one anew. */
static void only_what_changed_is_read_again(void **state)
{
        struct fixture *f = *state;
        struct weir_resources before = { 0 }, after = { 0 };

        put_file(f->folder, "default", "kept", CIDR_A);
        put_file(f->folder, "default", "other", CIDR_A);
        settle(f, "other");
        assert_true(weir_store_changed(f->store));
        snapshot(f->store, &before);
        put_file(f->folder, "default", "other", CIDR_B);
        assert_true(weir_store_changed(f->store));
        snapshot(f->store, &after);
        assert_int_equal(after.n, 2);
        assert_ptr_equal(find_in(&before, "kept"), find_in(&after, "kept"));
        assert_ptr_not_equal(find_in(&before, "other"), find_in(&after, "other"));
        assert_string_equal(find_in(&after, "other")->hosts[0], CIDR_B);
        weir_resources_clear(&before);
        weir_resources_clear(&after);
}

/* In place, of the same size, with its time set back: the kernel's own note of the change gives it away. */
static void a_change_that_hides_is_told(void **state)
{
        struct fixture *f = *state;
        weir_auto_free char *path = help_path(f->folder, "external-service/default/one.yaml");
        struct weir_resources list = { 0 };
        struct timespec times[2];
        struct stat st;

        put_file(f->folder, "default", "one", "10.0.0.0/8");
        settle(f, "one");
        assert_true(weir_store_changed(f->store));
        take(f->store);
        assert_int_equal(stat(path, &st), 0);
        put_file(f->folder, "default", "one", "11.0.0.0/8");
        times[0] = st.st_atim;
        times[1] = st.st_mtim;
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
        assert_true(weir_store_changed(f->store));
        snapshot(f->store, &list);
        assert_string_equal(find_in(&list, "one")->hosts[0], "11.0.0.0/8");
        weir_resources_clear(&list);
}

/* Many changes within one tick of the kernel's clock: each is seen. */
static void changes_in_quick_succession_are_told(void **state)
{
        struct fixture *f = *state;

        for (unsigned i = 0; i < 200; i++) {
                weir_auto_free char *cidr = weir_asprintf("10.%u.0.0/16", 10 + i % 90);
                struct weir_resources list = { 0 };

                put_file(f->folder, "default", "one", cidr);
                assert_true(weir_store_changed(f->store));
                snapshot(f->store, &list);
                assert_string_equal(find_in(&list, "one")->hosts[0], cidr);
                weir_resources_clear(&list);
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        static const struct CMUnitTest tests[] = {
                TEST(each_write_is_told),
                TEST(a_refused_write_is_not_told),
                TEST(a_file_by_hand_is_told),
                TEST(what_changes_nothing_is_not_told),
                TEST(a_new_namespace_is_watched),
                TEST(a_broken_file_and_its_mending_are_told),
                TEST(a_removed_store_is_told),
                TEST(a_store_that_appears_is_told),
                TEST(a_store_that_appears_step_by_step_is_told),
                TEST(a_store_that_appears_is_checked),
                TEST(only_what_changed_is_read_again),
                TEST(a_change_that_hides_is_told),
                TEST(changes_in_quick_succession_are_told),
                TEST(without_a_watch_the_digest_tells),
        };

        return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
