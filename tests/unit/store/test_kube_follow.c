/* SPDX-License-Identifier: Apache-2.0 */
/* Following a cluster whose API server does all that one can do wrong. */
#include "kube_help.h"

static void it_lists_in_pages_and_follows_every_change(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;

        (void)state;
        fake_start(&fake);
        (void)fake_say(&fake, "page 2");
        for (unsigned i = 0; i < 5; i++)
                (void)fake_say(&fake, "put home n%u 10.0.%u.0/24", i, i);
        store = fake_open();
        fake_expect(store, "home/n0=10.0.0.0/24 home/n1=10.0.1.0/24 home/n2=10.0.2.0/24 home/n3=10.0.3.0/24 "
                           "home/n4=10.0.4.0/24 ");
        assert_int_equal(fake_count(&fake, "page"), 2);
        assert_null(weir_store_trouble(store));
        (void)fake_say(&fake, "put other a 10.9.0.0/16");
        (void)fake_say(&fake, "put home n0 10.0.8.0/24");
        for (unsigned i = 1; i < 5; i++)
                (void)fake_say(&fake, "drop home n%u", i);
        fake_expect(store, "home/n0=10.0.8.0/24 other/a=10.9.0.0/16 ");
        assert_int_equal(fake_count(&fake, "list"), 1);
}

static void a_watch_that_ends_goes_on_where_it_was(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;

        (void)state;
        fake_start(&fake);
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        store = fake_open();
        fake_expect(store, "home/a=10.1.0.0/16 ");
        for (unsigned i = 2; i < 6; i++) {
                weir_auto_free char *expected = weir_asprintf("home/a=10.%u.0.0/16 ", i);

                (void)fake_say(&fake, "cut");
                (void)fake_say(&fake, "put home a 10.%u.0.0/16", i);
                fake_expect(store, expected);
        }
        assert_int_equal(fake_count(&fake, "list"), 1);
}

static void a_bookmark_moves_where_it_goes_on(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;

        (void)state;
        fake_start(&fake);
        store = fake_open();
        fake_expect(store, "");
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        fake_expect(store, "home/a=10.1.0.0/16 ");
        (void)fake_say(&fake, "forget");
        fake_watched(&fake, store);
        (void)fake_say(&fake, "tell bookmark");
        for (unsigned i = 0; i < 5; i++)
                fake_turn(store);
        (void)fake_say(&fake, "cut");
        (void)fake_say(&fake, "put home b 10.2.0.0/16");
        fake_expect(store, "home/a=10.1.0.0/16 home/b=10.2.0.0/16 ");
        /* Without the bookmark the version of the last event would have been forgotten, and a list needed. */
        assert_int_equal(fake_count(&fake, "list"), 1);
}

static void assert_relists(struct fake *fake, const char *how)
{
        weir_auto(store) struct weir_store *store = NULL;
        unsigned lists;

        (void)fake_say(fake, "put home a 10.1.0.0/16");
        (void)fake_say(fake, "put home b 10.2.0.0/16");
        store = fake_open();
        fake_expect(store, "home/a=10.1.0.0/16 home/b=10.2.0.0/16 ");
        fake_watched(fake, store);
        lists = fake_count(fake, "list");
        if (weir_streq(how, "in the stream"))
                (void)fake_say(fake, "tell expired");
        else
                (void)fake_say(fake, "fault watch %s 1", how);
        /* What happened while nobody watched is in the list alone. */
        (void)fake_say(fake, "cut");
        (void)fake_say(fake, "drop home b");
        (void)fake_say(fake, "forget");
        fake_expect(store, "home/a=10.1.0.0/16 ");
        assert_true(fake_count(fake, "list") > lists);
        fake_expect_trouble(store, NULL);
}

static void a_version_that_is_forgotten_means_a_new_list(void **state)
{
        AUTO_FAKE fake;

        (void)state;
        fake_start(&fake);
        assert_relists(&fake, "in the stream");
        assert_relists(&fake, "expired");
        assert_relists(&fake, "410");
}

static void an_expired_continue_token_means_one_list_without_pages(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;

        (void)state;
        fake_start(&fake);
        (void)fake_say(&fake, "page 1");
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        (void)fake_say(&fake, "put home b 10.2.0.0/16");
        (void)fake_say(&fake, "fault page 410 1");
        store = fake_open();
        fake_expect(store, "home/a=10.1.0.0/16 home/b=10.2.0.0/16 ");
        assert_null(strstr(fake_say(&fake, "last list"), "limit="));
}

/* A fault in the middle: what is in force stays, it is told, and what comes later is seen. */
static void assert_survives(struct fake *fake, const char *command, const char *trouble)
{
        weir_auto(store) struct weir_store *store = NULL;

        (void)fake_say(fake, "put home a 10.1.0.0/16");
        store = fake_open();
        fake_expect(store, "home/a=10.1.0.0/16 ");
        fake_watched(fake, store);
        (void)fake_say(fake, "%s", command);
        (void)fake_say(fake, "cut");
        fake_expect_trouble(store, trouble);
        fake_expect(store, "home/a=10.1.0.0/16 ");
        fake_expect_trouble(store, NULL);
        (void)fake_say(fake, "put home a 10.3.0.0/16");
        fake_expect(store, "home/a=10.3.0.0/16 ");
}

static void what_breaks_in_the_middle_leaves_the_policy_in_force(void **state)
{
        AUTO_FAKE fake;

        (void)state;
        fake_start(&fake);
        assert_survives(&fake, "fault watch garbage 3", "sends something into the watch that is no event");
        assert_survives(&fake, "fault watch 500 3", "answers 500: InternalError");
        assert_survives(&fake, "fault watch 403 3", "no permission: externalservices.networking.istio.io is forbidden");
        assert_survives(&fake, "fault watch close 3", "cannot reach the API server");
        assert_survives(&fake, "fault watch 404 2", "run 'weir install' first");
}

static void an_error_or_garbage_inside_a_stream_is_survived(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;

        (void)state;
        fake_start(&fake);
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        store = fake_open();
        fake_expect(store, "home/a=10.1.0.0/16 ");
        fake_watched(&fake, store);
        (void)fake_say(&fake, "tell error");
        fake_expect_trouble(store, "ends the watch: etcd is gone");
        fake_expect_trouble(store, NULL);
        fake_watched(&fake, store);
        (void)fake_say(&fake, "tell garbage");
        fake_expect_trouble(store, "no event");
        (void)fake_say(&fake, "put home a 10.2.0.0/16");
        fake_expect(store, "home/a=10.2.0.0/16 ");
}

static void a_silent_connection_is_found_and_left(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;

        (void)state;
        fake_start(&fake);
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        store = fake_open();
        fake_expect(store, "home/a=10.1.0.0/16 ");
        /* A quiet one that answers when it is asked is kept. */
        while (fake_count(&fake, "version") < 2)
                fake_turn(store);
        assert_int_equal(fake_count(&fake, "watch"), 1);
        assert_null(weir_store_trouble(store));
        (void)fake_say(&fake, "silent on");
        fake_expect_trouble(store, "does not answer");
        fake_expect(store, "home/a=10.1.0.0/16 ");
        (void)fake_say(&fake, "put home a 10.2.0.0/16");
        (void)fake_say(&fake, "silent off");
        fake_expect(store, "home/a=10.2.0.0/16 ");
        fake_expect_trouble(store, NULL);
}

static void a_stream_that_outlives_its_time_is_opened_again(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;
        uint64_t deadline = weir_time_ns() + 10 * WEIR_SEC;

        (void)state;
        fake_start(&fake);
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        store = fake_open();
        weir_kubernetes(store)->client->times.watch = 1000;
        fake_expect(store, "home/a=10.1.0.0/16 ");
        while (fake_count(&fake, "watch") < 2) {
                assert_true(weir_time_ns() < deadline);
                fake_turn(store);
        }
        assert_non_null(strstr(fake_say(&fake, "last watch"), "&timeoutSeconds="));
        (void)fake_say(&fake, "put home a 10.2.0.0/16");
        fake_expect(store, "home/a=10.2.0.0/16 ");
        assert_int_equal(fake_count(&fake, "list"), 1);
        assert_null(weir_store_trouble(store));
}

static void what_is_not_valid_hurts_nothing_else(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_free char *errors = NULL, *text = NULL;

        (void)state;
        fake_start(&fake);
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        (void)fake_say(&fake, "put other b bad");
        store = fake_open();
        fake_expect(store, "home/a=10.1.0.0/16 ");
        assert_true(weir_store_tolerant(store));
        text = fake_snapshot(store, &errors);
        assert_non_null(strstr(errors, "external-service/other/b allows nothing: spec.hosts[0]: "));
        /* One that was good and is not any more allows nothing any more. */
        (void)fake_say(&fake, "put home a bad");
        fake_expect(store, "");
        (void)fake_say(&fake, "put other b 10.2.0.0/16");
        fake_expect(store, "other/b=10.2.0.0/16 ");
}

static void an_overloaded_server_is_given_the_time_it_asks_for(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;
        uint64_t began = weir_time_ns();

        (void)state;
        fake_start(&fake);
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        (void)fake_say(&fake, "fault list 429 1");
        store = fake_open();
        fake_expect(store, "home/a=10.1.0.0/16 ");
        assert_int_equal(fake_count(&fake, "list"), 2);
        assert_true(weir_time_ns() - began >= WEIR_SEC); /* Retry-After: 1, a lower bound */
}

/* --- starting --- */

static void assert_no_start(struct fake *fake, const char *fault, const char *expected)
{
        weir_auto(store) struct weir_store *store = fake_open();
        weir_auto_free char *errors = NULL, *text = NULL;

        (void)fake_say(fake, "fault list %s 1", fault);
        assert_true(weir_store_watch_fd(store) >= 0);
        text = fake_snapshot(store, &errors);
        assert_string_equal(text, "");
        if (!strstr(errors, expected))
                fail_msg("\"%s\" does not hold \"%s\"", errors, expected);
}

static void nothing_known_is_not_an_empty_policy(void **state)
{
        AUTO_FAKE fake;

        (void)state;
        fake_start(&fake);
        assert_no_start(&fake, "403",
                        "no permission: externalservices.networking.istio.io is forbidden: User \"u\" cannot "
                        "list resource \"externalservices\"");
        assert_no_start(&fake, "401", "refuses the credentials of the user \"u\"");
        assert_no_start(&fake, "404",
                        "has no externalservices.networking.istio.io (the CRD is not installed): run 'weir "
                        "install' first");
        assert_no_start(&fake, "garbage", "answers with something that is not Kubernetes' JSON");
        assert_no_start(&fake, "html", "(<html>Sign in to continue");
        assert_no_start(&fake, "hang", "did not answer within 500 ms");
        assert_no_start(&fake, "close", "cannot reach the API server http://127.0.0.1:");
        fake_kill(&fake);
        fake.pid = 0;
}

static void what_was_kept_is_used_when_nobody_answers(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *first = NULL, *second = NULL, *third = NULL;
        weir_auto_free char *text = NULL;

        (void)state;
        fake_start(&fake);
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        first = fake_open();
        fake_expect(first, "home/a=10.1.0.0/16 ");
        (void)fake_say(&fake, "put home b 10.2.0.0/16");
        fake_expect(first, "home/a=10.1.0.0/16 home/b=10.2.0.0/16 ");
        weir_store_close(TAKE_PTR(first));

        (void)fake_say(&fake, "fault list 500 1000000");
        second = fake_open();
        fake_expect(second, "home/a=10.1.0.0/16 home/b=10.2.0.0/16 ");
        assert_non_null(strstr(weir_store_trouble(second), "it is the one kept on disk at 20"));
        weir_store_close(TAKE_PTR(second));

        /* A refusal is an answer. */
        (void)fake_say(&fake, "token other");
        third = fake_open();
        assert_true(weir_store_watch_fd(third) >= 0);
        text = fake_snapshot(third, NULL);
        assert_string_equal(text, "");
}

static void the_server_is_followed_as_soon_as_it_is_back(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *first = NULL, *store = NULL;

        (void)state;
        fake_start(&fake);
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        first = fake_open();
        fake_expect(first, "home/a=10.1.0.0/16 ");
        weir_store_close(TAKE_PTR(first));
        (void)fake_say(&fake, "fault list 500 3");
        store = fake_open();
        store->ops->watch_fd(store);
        weir_kubernetes(store)->client->times.first = 1;
        (void)fake_say(&fake, "put home a 10.2.0.0/16");
        fake_expect(store, "home/a=10.2.0.0/16 ");
        fake_expect_trouble(store, NULL);
}

static void what_is_kept_is_taken_only_whole_and_from_its_owner(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto_free char *path = help_path(folder, "kept.yaml"), *when = NULL, *text = NULL;
        weir_auto_free char *yaml = help_yaml("default", "a", CIDR_A, NULL);
        struct weir_resources list = { 0 }, back = { 0 };
        struct weir_errs errors = { 0 };
        size_t n;

        (void)state;
        assert_int_equal(weir_resources_read(yaml, strlen(yaml), "x", &list, &errors, NULL), 0);
        assert_int_equal(weir_kube_keep_write(path, "https://a at b", &list), 0);
        assert_int_equal(weir_kube_keep_read(path, &back, &when), 0);
        assert_int_equal(back.n, 1);
        assert_true(weir_starts_with(when, "20"));
        weir_resources_clear(&back);
        assert_int_equal(chmod(path, 0622), 0);
        assert_int_equal(weir_kube_keep_read(path, &back, &when), WEIR_EINVALID);
        assert_int_equal(chmod(path, 0600), 0);
        assert_int_equal(weir_file_slurp(AT_FDCWD, path, 1 << 20, &text, &n), 0);
        for (size_t i = 0; i < n; i += 7) {
                assert_int_equal(truncate(path, (off_t)(n - 1 - i)), 0);
                assert_int_equal(weir_kube_keep_read(path, &back, &when), WEIR_EINVALID);
        }
        weir_resources_clear(&list);
}

/* --- credentials --- */

static void a_token_that_is_rotated_is_read_again(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;

        (void)state;
        fake_start(&fake);
        fake_config(&fake, "    tokenFile: token"); /* beside the kubeconfig */
        help_write(fake.folder, "token", "one\n");
        (void)fake_say(&fake, "token one");
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        store = fake_open();
        fake_expect(store, "home/a=10.1.0.0/16 ");
        (void)fake_say(&fake, "token two");
        (void)fake_say(&fake, "cut");
        fake_expect_trouble(store, "refuses the credentials of the user \"u\"");
        fake_expect(store, "home/a=10.1.0.0/16 ");
        help_write(fake.folder, "token", "two\n");
        (void)fake_say(&fake, "put home a 10.2.0.0/16");
        fake_expect(store, "home/a=10.2.0.0/16 ");
        fake_expect_trouble(store, NULL);
}

#define PLUGIN                                                                                                     \
        "    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      command: ./plugin\n      args: [x]\n" \
        "      env:\n      - name: GREETING\n        value: hello\n      interactiveMode: Never"

static void put_plugin(const char *folder, const char *body)
{
        weir_auto_free char *path = help_path(folder, "plugin");
        weir_auto_free char *script = weir_asprintf("#!/bin/sh\necho run >>%s/runs\n%s\n", folder, body);

        help_write(folder, "plugin", script);
        assert_int_equal(chmod(path, 0755), 0);
}

#define CREDENTIAL(token)                                                                            \
        "[ \"$1$GREETING\" = xhello ] && echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\"," \
        "\"kind\":\"ExecCredential\",\"status\":{\"token\":\"" token                                 \
        "\",\"expirationTimestamp\":\"2099-01-01T00:00:00Z\"}}'"

static void a_plugin_gives_the_token_and_is_asked_again_when_it_is_refused(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_free char *runs = NULL, *path = NULL;
        size_t n;

        (void)state;
        fake_start(&fake);
        fake_config(&fake, PLUGIN);
        put_plugin(fake.folder, CREDENTIAL("one"));
        (void)fake_say(&fake, "token one");
        (void)fake_say(&fake, "put home a 10.1.0.0/16");
        store = fake_open();
        fake_expect(store, "home/a=10.1.0.0/16 ");
        put_plugin(fake.folder, CREDENTIAL("two"));
        (void)fake_say(&fake, "token two");
        (void)fake_say(&fake, "cut");
        (void)fake_say(&fake, "put home a 10.2.0.0/16");
        fake_expect(store, "home/a=10.2.0.0/16 ");
        path = help_path(fake.folder, "runs");
        assert_int_equal(weir_file_slurp(AT_FDCWD, path, 4096, &runs, &n), 0);
        assert_true(n <= 3 * strlen("run\n")); /* not once a request */
}

static void assert_plugin_fails(struct fake *fake, const char *body, const char *expected)
{
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_free char *errors = NULL, *text = NULL;

        put_plugin(fake->folder, body);
        store = fake_open();
        store->ops->watch_fd(store);
        text = fake_snapshot(store, &errors);
        if (!strstr(errors, expected))
                fail_msg("\"%s\" does not hold \"%s\"", errors, expected);
}

static void a_plugin_that_fails_is_named(void **state)
{
        AUTO_FAKE fake;
        weir_auto_free char *path = NULL;

        (void)state;
        fake_start(&fake);
        fake_config(&fake, PLUGIN);
        /* It may ask which cluster it is for. */
        fake_config(&fake, PLUGIN "\n      provideClusterInfo: true");
        assert_plugin_fails(&fake,
                            "case $KUBERNETES_EXEC_INFO in *'\"server\": \"http://127.0.0.1:'*|"
                            "*'\"server\":\"http://127.0.0.1:'*) echo '{}' ;; *) exit 1 ;; esac",
                            "printed no ExecCredential with a status");
        fake_config(&fake, PLUGIN);
        assert_plugin_fails(&fake, "exit 3", "/./plugin, which gives the credentials of the user \"u\", failed");
        assert_plugin_fails(&fake, "echo '{}'", "printed no ExecCredential with a status");
        assert_plugin_fails(&fake, CREDENTIAL("a b"), "gave a token that cannot stand in a header");
        assert_plugin_fails(&fake, "exec sleep 60", "did not end in time");
        path = help_path(fake.folder, "plugin");
        assert_int_equal(unlink(path), 0);
        fake_config(&fake, "    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      command: ./plugin\n"
                           "      installHint: get it at the shop");
        {
                weir_auto(store) struct weir_store *store = fake_open();
                weir_auto_free char *errors = NULL, *text = NULL;

                store->ops->watch_fd(store);
                text = fake_snapshot(store, &errors);
                assert_non_null(strstr(errors, "No such file or directory: get it at the shop"));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(it_lists_in_pages_and_follows_every_change),
                cmocka_unit_test(a_watch_that_ends_goes_on_where_it_was),
                cmocka_unit_test(a_bookmark_moves_where_it_goes_on),
                cmocka_unit_test(a_version_that_is_forgotten_means_a_new_list),
                cmocka_unit_test(an_expired_continue_token_means_one_list_without_pages),
                cmocka_unit_test(what_breaks_in_the_middle_leaves_the_policy_in_force),
                cmocka_unit_test(an_error_or_garbage_inside_a_stream_is_survived),
                cmocka_unit_test(a_silent_connection_is_found_and_left),
                cmocka_unit_test(a_stream_that_outlives_its_time_is_opened_again),
                cmocka_unit_test(what_is_not_valid_hurts_nothing_else),
                cmocka_unit_test(an_overloaded_server_is_given_the_time_it_asks_for),
                cmocka_unit_test(nothing_known_is_not_an_empty_policy),
                cmocka_unit_test(what_was_kept_is_used_when_nobody_answers),
                cmocka_unit_test(the_server_is_followed_as_soon_as_it_is_back),
                cmocka_unit_test(what_is_kept_is_taken_only_whole_and_from_its_owner),
                cmocka_unit_test(a_token_that_is_rotated_is_read_again),
                cmocka_unit_test(a_plugin_gives_the_token_and_is_asked_again_when_it_is_refused),
                cmocka_unit_test(a_plugin_that_fails_is_named),
        };

        return cmocka_run_group_tests_name("kube_follow", tests, NULL, NULL);
}
