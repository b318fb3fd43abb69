/* SPDX-License-Identifier: Apache-2.0 */
/* Writing and reading a store: what each verb does, what it says, and which store is meant. */
#include "help.h"

#include <sys/file.h>

#include "store/dir.h"

static void create_writes_one_file_and_counts(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        uint64_t revision, version;
        struct weir_err err = { 0 };

        (void)state;
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(revision, 1);
        assert_int_equal(help_revision(folder), 1);
        assert_true(help_exists(folder, "external-service/default/a.yaml"));
        assert_string_equal(help_host(store, "a", &version), CIDR_A);
        assert_int_equal(version, 1);
        assert_false(help_exists(folder, ".resource.tmp"));
        assert_false(help_exists(folder, ".revision.tmp"));
}

static void create_refuses_what_is_there(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        uint64_t revision = 77;
        struct weir_err err = { 0 };

        (void)state;
        assert_int_equal(help_put(store, HELP_CREATE, "wikipedia-ext", CIDR_A, NULL, &revision, &err), 0);
        revision = 77;
        assert_int_equal(help_put(store, HELP_CREATE, "wikipedia-ext", CIDR_B, NULL, &revision, &err), WEIR_EEXISTS);
        assert_string_equal(err.text, "externalservices.networking.istio.io \"wikipedia-ext\" already exists");
        assert_int_equal(revision, 77);
        assert_string_equal(help_host(store, "wikipedia-ext", NULL), CIDR_A);
        assert_int_equal(help_revision(folder), 1);
}

static void replace_compares_the_version(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        uint64_t revision;
        struct weir_err err = { 0 };

        (void)state;
        assert_int_equal(help_put(store, HELP_REPLACE, "a", CIDR_A, NULL, &revision, &err), WEIR_ENOTFOUND);
        assert_string_equal(err.text, "externalservices.networking.istio.io \"a\" not found");
        assert_string_equal(err.path, "");
        assert_false(help_exists(folder, "external-service"));
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(help_put(store, HELP_REPLACE, "a", CIDR_B, "1", &revision, &err), 0);
        assert_int_equal(revision, 2);
        assert_int_equal(help_put(store, HELP_REPLACE, "a", CIDR_A, "1", &revision, &err), WEIR_ECONFLICT);
        assert_non_null(strstr(err.text, "the object has been modified"));
        assert_string_equal(help_host(store, "a", NULL), CIDR_B);
        assert_int_equal(help_put(store, HELP_REPLACE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_string_equal(help_host(store, "a", NULL), CIDR_A);
}

static void apply_creates_or_replaces(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_resource *resource = help_resource("default", "a", CIDR_A, NULL);
        struct weir_err err = { 0 };
        uint64_t revision;
        bool created;

        (void)state;
        assert_int_equal(weir_store_apply(store, resource, &revision, &created, &err), 0);
        assert_true(created);
        assert_int_equal(weir_store_apply(store, resource, &revision, &created, &err), 0);
        assert_false(created);
        assert_int_equal(revision, 2);
        weir_resource_unref(resource);
        assert_int_equal(help_put(store, HELP_APPLY, "a", CIDR_B, "1", &revision, &err), WEIR_ECONFLICT);
        assert_string_equal(help_host(store, "a", NULL), CIDR_A);
}

static void delete_removes_and_counts(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(weir_store_delete(store, WEIR_KIND_EXTERNAL_SERVICE, "default", "a", &err), 0);
        assert_false(help_exists(folder, "external-service/default/a.yaml"));
        assert_int_equal(help_revision(folder), 2);
        assert_int_equal(weir_store_delete(store, WEIR_KIND_EXTERNAL_SERVICE, "default", "a", &err), WEIR_ENOTFOUND);
        assert_string_equal(err.text, "externalservices.networking.istio.io \"a\" not found");
        assert_int_equal(weir_store_delete(store, WEIR_KIND_SERVICE_ENTRY, "x", "a", &err), WEIR_ENOTFOUND);
        assert_string_equal(err.text, "serviceentries.networking.istio.io \"a\" not found");
        assert_int_equal(help_revision(folder), 2);
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(revision, 3);
}

static void snapshot_is_sorted_by_key(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        static const char *const names[][2] = { { "b", "z" }, { "b", "a" }, { "b-c", "m" }, { "a", "q.r" } };
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        assert_keys(store, "");
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(names); i++) {
                struct weir_resource *resource = help_resource(names[i][0], names[i][1], CIDR_A, NULL);

                assert_int_equal(weir_store_create(store, resource, &revision, &err), 0);
                weir_resource_unref(resource);
        }
        assert_keys(store, "external-service/a/q.r external-service/b-c/m external-service/b/a external-service/b/z ");
}

static void names_that_lead_elsewhere_are_not_found(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        static const char *const names[] = { "", ".", "..", "../a", "a/b", ".lock", "A", "a~", "a\n" };
        struct weir_resource *resource;
        struct weir_err err = { 0 };

        (void)state;
        help_write(folder, "external-service/a.yaml", "x");
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(names); i++) {
                assert_int_equal(
                        weir_store_get(store, WEIR_KIND_EXTERNAL_SERVICE, "default", names[i], &resource, &err),
                        WEIR_ENOTFOUND);
                assert_int_equal(weir_store_delete(store, WEIR_KIND_EXTERNAL_SERVICE, "default", names[i], &err),
                                 WEIR_ENOTFOUND);
                assert_int_equal(weir_store_delete(store, WEIR_KIND_EXTERNAL_SERVICE, names[i], "a", &err),
                                 WEIR_ENOTFOUND);
        }
        assert_true(help_exists(folder, "external-service/a.yaml"));
}

static void the_longest_names_are_told_apart(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        char name[WEIR_DIR_NAME_MAX + 2];
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        memset(name, 'a', sizeof(name));
        for (size_t i = 50; i < sizeof(name); i += 50)
                name[i] = '.';
        name[sizeof(name) - 2] = 'a';
        name[sizeof(name) - 1] = '\0';
        assert_int_equal(help_put(store, HELP_CREATE, name, CIDR_A, NULL, &revision, &err), WEIR_ELIMIT);
        assert_string_equal(err.text, "metadata.name has 251 characters; a dir: store takes at most 250");
        name[sizeof(name) - 3] = 'a';
        name[sizeof(name) - 2] = '\0';
        assert_int_equal(help_put(store, HELP_CREATE, name, CIDR_A, NULL, &revision, &err), 0);
        assert_string_equal(help_host(store, name, NULL), CIDR_A);
}

/* A clone of a store has its resources, but may not have the counter. */
static void a_lost_counter_goes_on_above_the_resources(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *yaml = help_yaml("default", "old", CIDR_A, "41");
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        help_write(folder, "external-service/default/old.yaml", yaml);
        assert_int_equal(help_put(store, HELP_CREATE, "new", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(revision, 42);
}

static void a_broken_counter_is_an_error(void **state)
{
        static const char *const texts[] = {
                "", "x\n", "-1\n", "1 2\n", "99999999999999999999\n", "11111111111111111111111111111111\n"
        };
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *path = help_path(folder, "revision");
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(texts); i++) {
                help_write(folder, "revision", texts[i]);
                assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), WEIR_EINVALID);
                assert_string_equal(err.path, path);
                assert_non_null(strstr(err.text, "holds no number"));
        }
        help_write(folder, "revision", "9223372036854775807\n");
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), WEIR_ELIMIT);
        assert_false(help_exists(folder, "external-service/default/a.yaml"));
}

/* A counter set back below a resource's version must not make two states of it look the same. */
static void a_counter_set_back_gives_no_version_twice(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        help_write(folder, "revision", "7\n");
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(revision, 8);
        help_write(folder, "revision", "7\n");
        assert_int_equal(help_put(store, HELP_APPLY, "a", CIDR_B, NULL, &revision, &err), 0);
        assert_int_equal(revision, 9);
}

static void the_lock_is_waited_for_and_named(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *path = help_path(folder, ".lock");
        struct weir_err err = { 0 };
        uint64_t revision;
        struct stat st;
        int fd;

        (void)state;
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0200);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(flock(fd, LOCK_EX), 0);
        weir_dir(store)->lock_wait_ms = 1;
        assert_int_equal(help_put(store, HELP_APPLY, "a", CIDR_B, NULL, &revision, &err), -EWOULDBLOCK);
        assert_string_equal(err.path, path);
        assert_non_null(strstr(err.text, "another command has been writing"));
        assert_string_equal(help_host(store, "a", NULL), CIDR_A);
        (void)close(fd);
        assert_int_equal(help_put(store, HELP_APPLY, "a", CIDR_B, NULL, &revision, &err), 0);
}

static void a_lock_that_could_be_read_is_closed(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *path = help_path(folder, ".lock");
        struct weir_err err = { 0 };
        uint64_t revision;
        struct stat st;

        (void)state;
        help_write(folder, ".lock", "");
        assert_int_equal(chmod(path, 0664), 0);
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0220);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(help_put(store, HELP_APPLY, "a", CIDR_B, NULL, &revision, &err), 0);
        assert_int_equal(revision, 2);
}

static void assert_spec(const char *spec, const char *expected)
{
        struct weir_store *store = NULL;
        struct weir_err err = { 0 };

        assert_int_equal(weir_store_open(spec, false, &store, &err), WEIR_EINVALID);
        assert_string_equal(err.text, expected);
        assert_null(store);
}

static void a_wrong_spec_says_what_to_write(void **state)
{
        (void)state;
        assert_spec("/x", "the store \"/x\" does not say of which kind it is: did you mean dir:/x?");
        assert_spec("a/b:c", "the store \"a/b:c\" does not say of which kind it is: did you mean dir:a/b:c?");
        assert_spec("dir:", "the store \"dir:\" names no folder: write dir:PATH");
        assert_spec("etcd:x", "the store \"etcd:x\" is of no kind that is known: write dir:PATH or "
                              "kubernetes[:CONTEXT]");
        assert_int_equal(setenv("WEIR_STORE", "/y", 1), 0);
        assert_spec(NULL, "the store \"/y\" does not say of which kind it is: did you mean dir:/y?");
        assert_int_equal(unsetenv("WEIR_STORE"), 0);
}

static void assert_path(const char *spec, const char *expected)
{
        weir_auto(store) struct weir_store *store = NULL;
        struct weir_err err = { 0 };

        assert_int_equal(weir_store_open(spec, false, &store, &err), 0);
        assert_string_equal(weir_store_path(store), expected);
}

/* In a child: the uid of the process decides. */
static void default_in_child(const char *folder, uid_t uid)
{
        weir_auto_free char *state = help_path(folder, "state"), *in_state = help_path(folder, "state/weir");
        weir_auto_free char *in_home = help_path(folder, ".local/state/weir");

        if (uid && geteuid() == 0)
                assert_int_equal(setresuid(uid, uid, uid), 0);
        assert_int_equal(setenv("HOME", folder, 1), 0);
        assert_int_equal(setenv("XDG_STATE_HOME", state, 1), 0);
        assert_path(NULL, geteuid() ? in_state : "/var/lib/weir");
        assert_int_equal(setenv("WEIR_STORE", "", 1), 0);
        assert_int_equal(setenv("XDG_STATE_HOME", "relative", 1), 0);
        assert_path(NULL, geteuid() ? in_home : "/var/lib/weir");
        assert_int_equal(unsetenv("HOME"), 0);
        if (geteuid())
                assert_spec(NULL,
                            "no store is named and HOME is not set: name one with --store dir:PATH or WEIR_STORE");
}

static void the_default_follows_user_and_environment(void **state)
{
        AUTO_FOLDER folder = help_folder();
        static const uid_t uids[] = { 0, 1234 };

        (void)state;
        assert_int_equal(chmod(folder, 0755), 0);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(uids); i++) {
                pid_t pid = help_fork();

                if (pid == 0) {
                        default_in_child(folder, uids[i]);
                        _exit(0);
                }
                assert_int_equal(help_wait(pid), 0);
        }
}

static void a_relative_path_is_made_absolute(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto_free char *expected = help_path(folder, "a/b");
        weir_auto_free char *resolved = realpath(folder, NULL);
        weir_auto_free char *cwd = getcwd(NULL, 0);

        (void)state;
        assert_int_equal(chdir(folder), 0);
        free(expected);
        expected = help_path(resolved, "a/b");
        assert_path("dir:a/b", expected);
        assert_path("dir:.//a/b//", expected);
        assert_path("dir:.", resolved);
        assert_path("dir:./", resolved);
        assert_int_equal(chdir(cwd), 0);
}

static void a_missing_folder_is_made_only_to_write(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto_free char *deep = help_path(folder, "a/b/store"), *above = help_path(folder, "a/b");
        weir_auto(store) struct weir_store *reader = help_open(deep, false), *writer = NULL;
        struct weir_err err = { 0 };
        uint64_t revision;
        struct stat st;
        mode_t mask;

        (void)state;
        assert_false(help_exists(folder, "a"));
        assert_keys(reader, "");
        assert_string_equal(help_host(reader, "a", NULL), "");
        assert_int_equal(weir_store_delete(reader, WEIR_KIND_EXTERNAL_SERVICE, "default", "a", &err), WEIR_ENOTFOUND);
        assert_string_equal(err.path, "");
        assert_int_equal(help_put(reader, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), -ENOENT);
        mask = umask(022);
        writer = help_open(deep, true);
        (void)umask(mask);
        assert_int_equal(stat(deep, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        assert_int_equal(stat(above, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0755);
        assert_int_equal(help_put(writer, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_keys(reader, "external-service/default/a ");
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(create_writes_one_file_and_counts),
                cmocka_unit_test(create_refuses_what_is_there),
                cmocka_unit_test(replace_compares_the_version),
                cmocka_unit_test(apply_creates_or_replaces),
                cmocka_unit_test(delete_removes_and_counts),
                cmocka_unit_test(snapshot_is_sorted_by_key),
                cmocka_unit_test(names_that_lead_elsewhere_are_not_found),
                cmocka_unit_test(the_longest_names_are_told_apart),
                cmocka_unit_test(a_lost_counter_goes_on_above_the_resources),
                cmocka_unit_test(a_broken_counter_is_an_error),
                cmocka_unit_test(a_counter_set_back_gives_no_version_twice),
                cmocka_unit_test(the_lock_is_waited_for_and_named),
                cmocka_unit_test(a_lock_that_could_be_read_is_closed),
                cmocka_unit_test(a_wrong_spec_says_what_to_write),
                cmocka_unit_test(the_default_follows_user_and_environment),
                cmocka_unit_test(a_relative_path_is_made_absolute),
                cmocka_unit_test(a_missing_folder_is_made_only_to_write),
        };

        return cmocka_run_group_tests_name("dir", tests, NULL, NULL);
}
