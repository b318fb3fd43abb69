/* SPDX-License-Identifier: Apache-2.0 */
/* Stores as people, editors, attackers and full disks leave them. */
#include "help.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

static void put_good(const char *folder, const char *name)
{
        weir_auto_free char *yaml = help_yaml("default", name, CIDR_A, NULL);
        weir_auto_free char *below = weir_asprintf("external-service/default/%s.yaml", name);

        help_write(folder, below, yaml);
}

/* Writes @text as @below beside a good file; the snapshot still holds the good one, and its errors
 * "FOLDER/BELOW<expected>". */
static void assert_broken(const char *below, const char *text, const char *expected)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *line = weir_asprintf("%s/%s%s", folder, below, expected);
        weir_auto_free char *keys = NULL, *errors = NULL;

        put_good(folder, "good");
        help_write(folder, below, text);
        keys = help_snapshot(store, &errors);
        assert_string_equal(keys, "external-service/default/good ");
        if (!strstr(errors, line))
                fail_msg("\"%s\" does not hold \"%s\"", errors, line);
}

static void a_broken_file_is_named_and_the_rest_comes_back(void **state)
{
        weir_auto_free char *named_b = help_yaml("default", "b", CIDR_A, NULL),
                            *elsewhere = help_yaml("other", "a", CIDR_A, NULL);
        weir_auto_free char *a = help_yaml("default", "a", CIDR_A, NULL), *twice = weir_asprintf("%s---\n%s", a, a);
        weir_auto_free char *bad_host = help_yaml("default", "a", "10.0.0.0/33", NULL);

        (void)state;
        assert_broken("external-service/default/a.yaml", "", ": holds no resource: fill it or remove it");
        assert_broken("external-service/default/a.yaml", "{", ":");
        assert_broken("external-service/default/a.yaml", bad_host, ":");
        assert_broken("external-service/default/a.yaml", twice,
                      ": holds several resources: in a store each has a file of its own");
        assert_broken("external-service/default/a.yaml", named_b,
                      ":1: metadata.name is \"b\", but the file is called a.yaml");
        assert_broken("external-service/default/a.yaml", elsewhere,
                      ":1: metadata.namespace is \"other\", but the folder is that of default");
        assert_broken("service-entry/default/a.yaml", a,
                      ":1: its kind is ExternalService, but the folder is for ServiceEntry");
        assert_broken("external-service/default/A.yaml", a, ": a resource has no such name");
}

static void what_lies_at_the_wrong_place_is_named(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *keys = NULL, *errors = NULL;

        (void)state;
        put_good(folder, "good");
        help_write(folder, "externalservices/default/a.yaml", "x");
        help_write(folder, "external-service/a.yaml", "x");
        help_write(folder, "external-service/Default/a.yaml", "x");
        help_write(folder, "external-service/default/b.yml", "x");
        help_write(folder, "c.yaml", "x");
        help_write(folder, "d.yml", "x");
        keys = help_snapshot(store, &errors);
        assert_string_equal(keys, "external-service/default/good ");
        assert_non_null(strstr(
                errors, "/externalservices: is not read: the folder for ExternalService is called external-service"));
        assert_non_null(strstr(errors, "/external-service/a.yaml: lies beside the namespaces"));
        assert_non_null(
                strstr(errors, "/external-service/default/b.yml: is not read: a resource's file is called *.yaml"));
        assert_non_null(strstr(errors, "/c.yaml: is not read where it lies"));
        assert_non_null(strstr(errors, "/d.yml: is not read where it lies"));
        assert_non_null(strstr(errors, "/external-service/Default: a namespace has no such name"));
}

static void a_file_over_the_limit_is_not_read(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *keys = NULL, *errors = NULL,
                            *path = help_path(folder, "external-service/default/big.yaml");

        (void)state;
        put_good(folder, "good");
        help_write(folder, "external-service/default/big.yaml", "");
        assert_int_equal(truncate(path, 1L << 40), 0);
        keys = help_snapshot(store, &errors);
        assert_string_equal(keys, "external-service/default/good ");
        assert_non_null(strstr(errors, "big.yaml: is larger than 1 MiB"));
}

static void what_is_not_of_the_store_is_passed_over(void **state)
{
        static const char *const below[] = {
                ".git/config",
                ".git/external-service/default/a.yaml",
                "README.md",
                "external-service/.keep",
                "external-service/README",
                "external-service/default/.a.yaml.swp",
                "external-service/default/.#a.yaml",
                "external-service/default/a.yaml~",
                "external-service/default/#a.yaml#",
                "external-service/default/4913",
                "external-service/default/old/a.yaml",
                "external-service/.git/a.yaml",
                "external-service/default/.yaml",
                ".resource.tmp",
        };
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);

        (void)state;
        put_good(folder, "good");
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(below); i++)
                help_write(folder, below[i], "{ broken");
        assert_keys(store, "external-service/default/good ");
}

static void a_file_made_by_hand_is_taken_over(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        help_write(folder, "external-service/default/a.yaml",
                   "kind: ExternalService\nmetadata:\n  name: a\nspec:\n  hosts: [10.0.0.0/8]\n"
                   "  ports: [{number: 443, name: tcp, protocol: TCP}]\n");
        assert_string_equal(help_host(store, "a", &revision), CIDR_A);
        assert_int_equal(revision, 0);
        assert_int_equal(help_put(store, HELP_REPLACE, "a", CIDR_B, "0", &revision, &err), 0);
        assert_string_equal(help_host(store, "a", &revision), CIDR_B);
        assert_int_equal(revision, 1);
        assert_int_equal(help_put(store, HELP_REPLACE, "a", CIDR_B, "0", &revision, &err), WEIR_ECONFLICT);
}

static void a_broken_file_can_be_written_over_and_deleted(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_resource *resource;
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        help_write(folder, "external-service/default/a.yaml", "{");
        assert_int_equal(weir_store_get(store, WEIR_KIND_EXTERNAL_SERVICE, "default", "a", &resource, &err),
                         WEIR_EINVALID);
        assert_non_null(strstr(err.path, "/a.yaml"));
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), WEIR_EEXISTS);
        assert_int_equal(help_put(store, HELP_APPLY, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_keys(store, "external-service/default/a ");
        help_write(folder, "external-service/default/a.yaml", "{");
        assert_int_equal(weir_store_delete(store, WEIR_KIND_EXTERNAL_SERVICE, "default", "a", &err), 0);
        assert_keys(store, "");
}

/* A full disk is the other thing that keeps nobody from taking a rule back. */
static void a_damaged_counter_keeps_nobody_from_deleting(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        help_write(folder, "revision", "x\n");
        assert_int_equal(help_put(store, HELP_CREATE, "b", CIDR_A, NULL, &revision, &err), WEIR_EINVALID);
        assert_non_null(strstr(err.text, "holds no number"));
        assert_int_equal(weir_store_delete(store, WEIR_KIND_EXTERNAL_SERVICE, "default", "a", &err), 0);
        assert_keys(store, "");
}

static void link_to(const char *folder, const char *target, const char *below)
{
        weir_auto_free char *path = help_path(folder, below);

        assert_int_equal(symlink(target, path), 0);
}

static void no_link_is_followed_to_read(void **state)
{
        AUTO_FOLDER folder = help_folder();
        AUTO_FOLDER outside = help_folder();
        weir_auto_free char *file = help_path(outside, "external-service/default/a.yaml");
        weir_auto_free char *namespace_ = help_path(outside, "external-service/default"),
                            *type = help_path(outside, "external-service");
        weir_auto_free char *keys = NULL, *errors = NULL;
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_resource *resource;
        struct weir_err err = { 0 };

        (void)state;
        put_good(outside, "a");
        put_good(folder, "good");
        link_to(folder, file, "external-service/default/a.yaml");
        link_to(folder, namespace_, "external-service/linked");
        link_to(folder, type, "service-entry");
        keys = help_snapshot(store, &errors);
        assert_string_equal(keys, "external-service/default/good ");
        assert_true(weir_starts_with(errors, "3 errors"));
        assert_non_null(strstr(errors, "/external-service/default/a.yaml: is a symbolic link"));
        assert_non_null(strstr(errors, "/external-service/linked: is a symbolic link"));
        assert_non_null(strstr(errors, "/service-entry: is a symbolic link"));
        assert_int_equal(weir_store_get(store, WEIR_KIND_EXTERNAL_SERVICE, "default", "a", &resource, &err),
                         WEIR_EINVALID);
        assert_int_equal(weir_store_get(store, WEIR_KIND_EXTERNAL_SERVICE, "linked", "a", &resource, &err), -ELOOP);
}

static void no_link_is_followed_to_write(void **state)
{
        static const char *const own[] = { ".lock", "revision" };
        AUTO_FOLDER folder = help_folder();
        AUTO_FOLDER outside = help_folder();
        weir_auto_free char *victim = help_path(outside, "victim"), *text = NULL;
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        help_write(outside, "victim", "untouched");
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(own); i++) {
                weir_auto_free char *link = help_path(folder, own[i]);

                link_to(folder, victim, own[i]);
                assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), -ELOOP);
                assert_string_equal(err.path, link);
                assert_int_equal(unlink(link), 0);
        }
        /* What lies under the hidden names is removed, a link itself and not its target. */
        link_to(folder, victim, ".resource.tmp");
        link_to(folder, victim, ".revision.tmp");
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        link_to(folder, victim, "external-service/default/b.yaml");
        assert_int_equal(help_put(store, HELP_APPLY, "b", CIDR_A, NULL, &revision, &err), -ELOOP);
        assert_int_equal(help_put(store, HELP_CREATE, "b", CIDR_A, NULL, &revision, &err), -ELOOP);
        assert_int_equal(weir_store_delete(store, WEIR_KIND_EXTERNAL_SERVICE, "default", "b", &err), 0);
        link_to(folder, outside, "service-entry");
        assert_int_equal(weir_store_delete(store, WEIR_KIND_SERVICE_ENTRY, "default", "b", &err), -ELOOP);
        text = help_read(outside, "victim");
        assert_string_equal(text, "untouched");
}

/* Reading a FIFO would wait for a writer for ever. */
static void a_fifo_is_an_error(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto_free char *fifo = help_path(folder, "external-service/default/a.yaml"), *keys = NULL, *errors = NULL;
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        put_good(folder, "good");
        assert_int_equal(mkfifo(fifo, 0600), 0);
        keys = help_snapshot(store, &errors);
        assert_string_equal(keys, "external-service/default/good ");
        assert_non_null(strstr(errors, "/a.yaml: is not a regular file: move it away"));
        assert_int_equal(help_put(store, HELP_APPLY, "a", CIDR_A, NULL, &revision, &err), -ENXIO);
}

static void a_folder_that_others_write_to_is_no_policy(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto_free char *below = help_path(folder, "store"), *spec = weir_asprintf("dir:%s/store", folder);
        struct weir_store *store = NULL;
        struct weir_err err = { 0 };

        (void)state;
        assert_int_equal(mkdir(below, 0700), 0);
        assert_int_equal(chmod(below, 0777), 0);
        assert_int_equal(weir_store_open(spec, true, &store, &err), WEIR_EINVALID);
        assert_non_null(strstr(err.text, "everybody can write to this store"));
        assert_int_equal(chmod(below, 0755), 0);
        assert_int_equal(chmod(folder, 01777), 0);
        weir_store_close(help_open(below, true));
        if (geteuid() == 0) {
                assert_int_equal(chown(below, 1234, 1234), 0);
                assert_int_equal(weir_store_open(spec, true, &store, &err), WEIR_EINVALID);
                assert_non_null(strstr(err.text, "uid 1234 made this store"));
        }
        assert_null(store);
}

static void what_is_no_folder_cannot_be_opened(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto_free char *spec = weir_asprintf("dir:%s/file", folder),
                            *below = weir_asprintf("dir:%s/file/store", folder);
        struct weir_store *store = NULL;
        struct weir_err err = { 0 };

        (void)state;
        help_write(folder, "file", "");
        assert_int_equal(weir_store_open(spec, true, &store, &err), -ENOTDIR);
        assert_int_equal(weir_store_open(below, true, &store, &err), -ENOTDIR);
        assert_int_equal(weir_store_open(below, false, &store, &err), -ENOTDIR);
        assert_null(store);
}

/* Renaming the path, or putting another folder in its place, changes nothing for who has it open. */
static void the_folder_opened_is_the_folder_used(void **state)
{
        AUTO_FOLDER above = help_folder();
        weir_auto_free char *folder = help_path(above, "store"), *away = help_path(above, "away"), *keys = NULL,
                            *errors = NULL;
        weir_auto(store) struct weir_store *store = help_open(folder, true), *other = NULL;
        struct weir_err err = { 0 };
        uint64_t revision;

        (void)state;
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(rename(folder, away), 0);
        other = help_open(folder, true);
        assert_int_equal(help_put(other, HELP_CREATE, "b", CIDR_A, NULL, &revision, &err), 0);
        assert_keys(store, "external-service/default/a ");
        assert_int_equal(help_put(store, HELP_CREATE, "c", CIDR_A, NULL, &revision, &err), 0);
        assert_true(help_exists(away, "external-service/default/c.yaml"));
        help_remove(away);
        assert_string_equal(help_host(store, "a", NULL), "");
        keys = help_snapshot(store, &errors);
        assert_string_equal(keys, "");
        assert_non_null(strstr(errors, "the folder of the store was removed"));
        assert_int_equal(help_put(store, HELP_CREATE, "d", CIDR_A, NULL, &revision, &err), -ESTALE);
        assert_keys(other, "external-service/default/b ");
}

/* Root passes over permissions, so it steps down first. */
static void read_only_in_child(const char *folder)
{
        weir_auto(store) struct weir_store *store = NULL;
        struct weir_err err = { 0 };
        uint64_t revision;

        if (geteuid() == 0)
                assert_int_equal(setresuid(1234, 1234, 1234), 0);
        store = help_open(folder, true);
        assert_int_equal(help_put(store, HELP_CREATE, "b", CIDR_A, NULL, &revision, &err), -EACCES);
        assert_non_null(strstr(err.text, "permission denied: become the owner of the store"));
        assert_true(weir_starts_with(err.path, folder));
        assert_keys(store, "external-service/default/good ");
}

static void a_folder_without_permission_says_so(void **state)
{
        AUTO_FOLDER folder = help_folder();
        pid_t pid;

        (void)state;
        put_good(folder, "good");
        assert_int_equal(chmod(folder, 0555), 0);
        pid = help_fork();
        if (pid == 0) {
                read_only_in_child(folder);
                _exit(0);
        }
        assert_int_equal(help_wait(pid), 0);
        assert_int_equal(chmod(folder, 0755), 0);
}

/* A file that cannot be read is an error, and permission given later is a change. */
static void unreadable_in_child(const char *folder)
{
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_free char *path = help_path(folder, "external-service/default/a.yaml"), *keys = NULL, *errors = NULL;

        if (geteuid() == 0)
                assert_int_equal(setresuid(1234, 1234, 1234), 0);
        store = help_open(folder, true);
        assert_int_equal(chmod(path, 0), 0);
        keys = help_snapshot(store, &errors);
        assert_string_equal(keys, "external-service/default/good ");
        assert_non_null(strstr(errors, "/a.yaml: permission denied"));
        assert_int_equal(chmod(path, 0600), 0);
        assert_true(weir_store_changed(store));
        assert_keys(store, "external-service/default/a external-service/default/good ");
        assert_false(weir_store_changed(store));
}

static void an_unreadable_file_is_an_error(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto_free char *path = help_path(folder, "external-service/default/a.yaml");
        pid_t pid;

        (void)state;
        assert_int_equal(chmod(folder, 0755), 0);
        put_good(folder, "good");
        put_good(folder, "a");
        if (geteuid() == 0)
                assert_int_equal(chown(path, 1234, 1234), 0);
        pid = help_fork();
        if (pid == 0) {
                unreadable_in_child(folder);
                _exit(0);
        }
        assert_int_equal(help_wait(pid), 0);
}

/* In a child with a mount namespace of its own; @then runs with @folder on a file system of 64 kB. */
static void on_tmpfs(const char *folder, void (*then)(const char *folder))
{
        pid_t pid;

        if (geteuid() != 0) {
                print_message("skipped: mounting a small file system needs root\n");
                skip();
        }
        pid = help_fork();
        if (pid == 0) {
                assert_int_equal(unshare(CLONE_NEWNS), 0);
                assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
                assert_int_equal(mount("weir-test", folder, "tmpfs", 0, "size=64k,mode=0700"), 0);
                then(folder);
                _exit(0);
        }
        assert_int_equal(help_wait(pid), 0);
}

static void fill(const char *folder)
{
        weir_auto_free char *path = help_path(folder, ".filler");
        weir_auto_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        char block[4096] = { 0 };
        ssize_t n;

        assert_true(fd >= 0);
        do
                n = write(fd, block, sizeof(block));
        while (n > 0);
        assert_int_equal(errno, ENOSPC);
}

static void full_in_child(const char *folder)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *filler = help_path(folder, ".filler");
        struct weir_err err = { 0 };
        uint64_t revision;

        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(help_put(store, HELP_CREATE, "b", CIDR_A, NULL, &revision, &err), 0);
        fill(folder);
        assert_int_equal(help_put(store, HELP_CREATE, "c", CIDR_B, NULL, &revision, &err), -ENOSPC);
        assert_string_equal(err.path, folder);
        assert_string_equal(err.text,
                            "no space left on the file system: the store is as it was; free some space and try again");
        assert_int_equal(help_put(store, HELP_APPLY, "a", CIDR_B, NULL, &revision, &err), -ENOSPC);
        assert_string_equal(help_host(store, "a", NULL), CIDR_A);
        assert_int_equal(help_revision(folder), 2);
        assert_false(help_exists(folder, ".resource.tmp"));
        assert_keys(store, "external-service/default/a external-service/default/b ");
        /* A rule can be taken back all the same. */
        assert_int_equal(weir_store_delete(store, WEIR_KIND_EXTERNAL_SERVICE, "default", "b", &err), 0);
        assert_keys(store, "external-service/default/a ");
        assert_int_equal(unlink(filler), 0);
        assert_int_equal(help_put(store, HELP_APPLY, "a", CIDR_B, NULL, &revision, &err), 0);
        assert_string_equal(help_host(store, "a", NULL), CIDR_B);
}

static void a_full_disk_loses_nothing(void **state)
{
        AUTO_FOLDER folder = help_folder();

        (void)state;
        on_tmpfs(folder, full_in_child);
}

static void read_only_mount_in_child(const char *folder)
{
        weir_auto(store) struct weir_store *store = help_open(folder, true);
        weir_auto_free char *missing = weir_asprintf("dir:%s/missing", folder);
        struct weir_store *none = NULL;
        struct weir_err err = { 0 };
        uint64_t revision;

        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(mount(NULL, folder, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
        assert_int_equal(help_put(store, HELP_APPLY, "a", CIDR_B, NULL, &revision, &err), -EROFS);
        assert_non_null(strstr(err.text, "the file system is read-only: remount it writable"));
        assert_true(weir_starts_with(err.path, folder));
        assert_int_equal(weir_store_delete(store, WEIR_KIND_EXTERNAL_SERVICE, "default", "a", &err), -EROFS);
        assert_int_equal(weir_store_open(missing, true, &none, &err), -EROFS);
        assert_null(none);
        assert_string_equal(help_host(store, "a", NULL), CIDR_A);
}

static void a_read_only_file_system_says_so(void **state)
{
        AUTO_FOLDER folder = help_folder();

        (void)state;
        on_tmpfs(folder, read_only_mount_in_child);
}

/* A workload sees the store read-only, with its caller's uid: it must not be able to hold up who takes a rule back. */
static void lock_in_child(const char *folder)
{
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_free char *lock = help_path(folder, ".lock");
        struct weir_err err = { 0 };
        uint64_t revision;

        assert_int_equal(chown(folder, 1234, 1234), 0);
        assert_int_equal(setresuid(1234, 1234, 1234), 0);
        store = help_open(folder, true);
        assert_int_equal(help_put(store, HELP_CREATE, "a", CIDR_A, NULL, &revision, &err), 0);
        assert_int_equal(open(lock, O_RDONLY | O_CLOEXEC), -1);
        assert_int_equal(errno, EACCES);
        assert_int_equal(help_put(store, HELP_APPLY, "a", CIDR_A, NULL, &revision, &err), 0);
}

static void who_may_only_read_cannot_lock(void **state)
{
        AUTO_FOLDER folder = help_folder();

        (void)state;
        on_tmpfs(folder, lock_in_child);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_broken_file_is_named_and_the_rest_comes_back),
                cmocka_unit_test(what_lies_at_the_wrong_place_is_named),
                cmocka_unit_test(a_file_over_the_limit_is_not_read),
                cmocka_unit_test(what_is_not_of_the_store_is_passed_over),
                cmocka_unit_test(a_file_made_by_hand_is_taken_over),
                cmocka_unit_test(a_broken_file_can_be_written_over_and_deleted),
                cmocka_unit_test(a_damaged_counter_keeps_nobody_from_deleting),
                cmocka_unit_test(no_link_is_followed_to_read),
                cmocka_unit_test(no_link_is_followed_to_write),
                cmocka_unit_test(a_fifo_is_an_error),
                cmocka_unit_test(a_folder_that_others_write_to_is_no_policy),
                cmocka_unit_test(what_is_no_folder_cannot_be_opened),
                cmocka_unit_test(the_folder_opened_is_the_folder_used),
                cmocka_unit_test(a_folder_without_permission_says_so),
                cmocka_unit_test(an_unreadable_file_is_an_error),
                cmocka_unit_test(a_full_disk_loses_nothing),
                cmocka_unit_test(a_read_only_file_system_says_so),
                cmocka_unit_test(who_may_only_read_cannot_lock),
        };

        return cmocka_run_group_tests_name("broken", tests, NULL, NULL);
}
