/* SPDX-License-Identifier: Apache-2.0 */
/* Kubeconfigs as kubectl reads them, and what commands ask of an API server. */
#include "kube_help.h"

static void put_config(const char *folder, const char *name, const char *text)
{
        help_write(folder, name, text);
}

/* Each name of @list below @folder, joined with colons. */
static void use(const char *folder, const char *list)
{
        weir_auto_free char *copy = strdup(list), *value = strdup("");
        char *rest = copy, *name;

        while ((name = strsep(&rest, ":"))) {
                char *longer = weir_asprintf("%s%s%s/%s", value, value[0] ? ":" : "", folder, name);

                free(value);
                value = longer;
        }
        assert_int_equal(setenv("KUBECONFIG", value, 1), 0);
}

static void assert_config_error(const char *context, const char *expected)
{
        struct weir_kube_config config = { 0 };
        struct weir_err err = { 0 };

        assert_true(weir_kube_config_read(context, &config, &err) < 0);
        if (!strstr(err.text, expected))
                fail_msg("\"%s\" does not hold \"%s\"", err.text, expected);
}

static const char base[] =
        "apiVersion: v1\nkind: Config\n"
        "clusters:\n- name: c1\n  cluster: {server: 'https://one:6443/', certificate-authority: ca.pem}\n"
        "- name: c2\n  cluster: {server: two, insecure-skip-tls-verify: true, tls-server-name: api,\n"
        "    certificate-authority-data: SGVsbG8=}\n"
        "contexts:\n- name: first\n  context: {cluster: c1, user: u1, namespace: team}\n"
        "- name: second\n  context: {cluster: c2, user: u2}\n"
        "- name: lost\n  context: {cluster: nowhere, user: u1}\n"
        "users:\n- name: u1\n  user: {token: abc, as: boss, as-groups: [g1, g2]}\n"
        "- name: u2\n  user: {username: me, password: secret}\n";

static void a_context_says_cluster_user_and_namespace(void **state)
{
        AUTO_FOLDER folder = help_folder();
        struct weir_kube_config config = { 0 };
        struct weir_err err = { 0 };

        (void)state;
        put_config(folder, "config", base);
        put_config(folder, "ca.pem", "PEM");
        use(folder, "config");
        assert_int_equal(weir_kube_config_read("first", &config, &err), 0);
        assert_string_equal(config.server, "https://one:6443");
        assert_string_equal(config.ca, "PEM"); /* beside the file, wherever Weir stands */
        assert_string_equal(config.namespace_, "team");
        assert_string_equal(config.token, "abc");
        assert_string_equal(config.as_user, "boss");
        assert_int_equal(config.as_groups.n, 2);
        assert_int_equal(config.files.n, 2);
        weir_kube_config_clear(&config);
        assert_int_equal(weir_kube_config_read("second", &config, &err), 0);
        assert_string_equal(config.server, "https://two");
        assert_string_equal(config.ca, "Hello");
        assert_true(config.insecure);
        assert_string_equal(config.server_name, "api");
        assert_string_equal(config.namespace_, "default");
        assert_string_equal(config.username, "me");
        weir_kube_config_clear(&config);
}

static void the_first_file_that_says_a_thing_wins(void **state)
{
        AUTO_FOLDER folder = help_folder();
        struct weir_kube_config config = { 0 };
        struct weir_err err = { 0 };

        (void)state;
        put_config(folder, "one/config", "current-context: second\nusers:\n- name: u2\n  user: {tokenFile: here}\n");
        put_config(folder, "two/config", base);
        put_config(folder, "two/ca.pem", "PEM");
        use(folder, "missing:one/config:two/config");
        assert_int_equal(weir_kube_config_read(NULL, &config, &err), 0);
        assert_string_equal(config.context, "second");
        assert_null(config.username); /* the first u2 counts whole */
        assert_non_null(strstr(config.token_file, "/one/here"));
        weir_kube_config_clear(&config);
}

static void what_is_wrong_is_said_in_one_line(void **state)
{
        AUTO_FOLDER folder = help_folder();

        (void)state;
        assert_int_equal(setenv("HOME", folder, 1), 0);
        assert_int_equal(unsetenv("KUBECONFIG"), 0);
        assert_config_error(NULL, "no kubeconfig: neither KUBECONFIG nor ~/.kube/config is there");
        use(folder, "gone");
        assert_config_error(NULL, "no kubeconfig: none of the files in KUBECONFIG (");
        put_config(folder, "config", base);
        use(folder, "config");
        assert_config_error(
                NULL, "names no current context: choose one with --store kubernetes:CONTEXT (first, second, lost)");
        assert_config_error("frist", "there is no context \"frist\" in ");
        assert_config_error("frist", "; there are: first, second, lost");
        assert_config_error("lost", "the context \"lost\" names the cluster \"nowhere\", which is not in ");
        assert_config_error("first", "/ca.pem, the certificate-authority of ");
        put_config(folder, "config", "a: [\n");
        assert_config_error(NULL, "");
        put_config(folder, "config",
                   "current-context: x\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\n"
                   "clusters:\n- name: c\n  cluster: {server: 'https://a'}\n"
                   "users:\n- name: u\n  user: {client-certificate-data: SGVsbG8=}\n");
        assert_config_error(NULL, "has a client certificate without its key");
        put_config(folder, "config",
                   "current-context: x\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\n"
                   "clusters:\n- name: c\n  cluster: {server: 'https://a', certificate-authority-data: '!'}\n");
        assert_config_error(NULL, "certificate-authority-data is not base64");
}

static void a_token_is_not_sent_in_the_clear(void **state)
{
        AUTO_FOLDER folder = help_folder();
        weir_auto(store) struct weir_store *store = NULL;
        struct weir_resource *resource = NULL;
        struct weir_err err = { 0 };

        (void)state;
        put_config(folder, "config",
                   "current-context: x\ncontexts:\n- name: x\n  context: {cluster: c, user: u}\n"
                   "clusters:\n- name: c\n  cluster: {server: 'http://127.0.0.1.example:1'}\n"
                   "users:\n- name: u\n  user: {token: secret}\n");
        use(folder, "config");
        assert_int_equal(weir_store_open("kubernetes:x", false, &store, &err), 0);
        assert_true(weir_store_get(store, WEIR_KIND_EXTERNAL_SERVICE, "a", "b", &resource, &err) < 0);
        assert_non_null(strstr(err.text, "is reached without TLS, so no token is sent to it"));
}

#define PATH_ONE "/apis/networking.istio.io/v1alpha3/namespaces/team/externalservices"

static void each_verb_is_the_servers_own(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;
        struct weir_resource *resource = help_resource("team", "a", CIDR_A, "7");
        struct weir_err err = { 0 };
        uint64_t revision = 0;
        bool created;

        (void)state;
        fake_start(&fake);
        store = fake_open();
        assert_int_equal(weir_store_create(store, resource, &revision, &err), 0);
        assert_int_equal(revision, 77);
        assert_string_equal(fake_say(&fake, "last write"), PATH_ONE "?fieldManager=weir&fieldValidation=Strict");
        assert_string_equal(fake_say(&fake, "header Authorization"), "Bearer first");
        assert_int_equal(weir_store_replace(store, resource, &revision, &err), 0);
        assert_string_equal(fake_say(&fake, "last write"), PATH_ONE "/a?fieldManager=weir&fieldValidation=Strict");
        assert_int_equal(weir_store_apply(store, resource, &revision, &created, &err), 0);
        assert_false(created);
        assert_string_equal(fake_say(&fake, "last write"),
                            PATH_ONE "/a?fieldManager=weir&fieldValidation=Strict&force=false");
        assert_string_equal(fake_say(&fake, "header Content-Type"), "application/apply-patch+yaml");
        assert_int_equal(weir_store_delete(store, resource->kind, "team", "a", &err), 0);
        assert_string_equal(fake_say(&fake, "last write"), PATH_ONE "/a");
        weir_resource_unref(resource);
}

static void a_command_waits_where_the_server_asks_for_it(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;
        struct weir_resource *resource = help_resource("team", "a", CIDR_A, NULL);
        struct weir_err err = { 0 };
        uint64_t revision = 0;

        (void)state;
        fake_start(&fake);
        store = fake_open();
        (void)fake_say(&fake, "fault write 429 1");
        assert_int_equal(weir_store_create(store, resource, &revision, &err), 0);
        assert_int_equal(fake_count(&fake, "write"), 2);
        /* Not for ever. */
        (void)fake_say(&fake, "fault write 429 100");
        assert_int_equal(weir_store_create(store, resource, &revision, &err), -EBUSY);
        assert_non_null(strstr(err.text, "answers 429: TooManyRequests"));
        weir_resource_unref(resource);
}

static void assert_write_fails(struct fake *fake, const char *fault, int code, const char *expected)
{
        weir_auto(store) struct weir_store *store = fake_open();
        struct weir_resource *resource = help_resource("team", "a", CIDR_A, NULL);
        struct weir_err err = { 0 };
        uint64_t revision = 0;
        int r;

        (void)fake_say(fake, "fault write %s 1", fault);
        r = weir_store_create(store, resource, &revision, &err);
        if (r != code || !strstr(err.text, expected))
                fail_msg("%d \"%s\" instead of %d \"%s\"", r, err.text, code, expected);
        weir_resource_unref(resource);
}

static void a_failed_write_says_why(void **state)
{
        AUTO_FAKE fake;

        (void)state;
        fake_start(&fake);
        assert_write_fails(&fake, "401", -EACCES,
                           "refuses the credentials of the user \"u\" (expired or unknown): log in");
        assert_write_fails(&fake, "403", -EACCES, "no permission: externalservices.networking.istio.io is forbidden");
        assert_write_fails(&fake, "404", WEIR_EUNSUPPORTED, "run 'weir install' first");
        assert_write_fails(&fake, "hang", -ETIMEDOUT, "did not answer within 500 ms");
        assert_write_fails(&fake, "garbage", WEIR_EINVALID, "something that is not Kubernetes' JSON");
        assert_write_fails(&fake, "close", -EHOSTUNREACH, "cannot reach the API server");
        assert_write_fails(&fake, "500", -EBUSY, "answers 500: InternalError");
        fake_kill(&fake);
        {
                weir_auto(store) struct weir_store *store = fake_open();
                struct weir_resource *resource = NULL;
                struct weir_err err = { 0 };

                assert_int_equal(weir_store_get(store, WEIR_KIND_SERVICE_ENTRY, "a", "b", &resource, &err),
                                 -EHOSTUNREACH);
                assert_non_null(strstr(err.text, "cannot reach the API server http://127.0.0.1:"));
        }
}

static void all_of_a_list_comes_in_pages(void **state)
{
        AUTO_FAKE fake;
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_free char *text = NULL, *errors = NULL;

        (void)state;
        fake_start(&fake);
        (void)fake_say(&fake, "page 2");
        for (unsigned i = 0; i < 5; i++)
                (void)fake_say(&fake, "put home n%u %s", i, i == 3 ? "bad" : "10.0.0.0/24");
        store = fake_open();
        text = fake_snapshot(store, &errors);
        assert_string_equal(text, "home/n0=10.0.0.0/24 home/n1=10.0.0.0/24 home/n2=10.0.0.0/24 home/n4=10.0.0.0/24 ");
        assert_non_null(strstr(errors, "external-service/home/n3: "));
        assert_int_equal(fake_count(&fake, "page"), 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_context_says_cluster_user_and_namespace),
                cmocka_unit_test(the_first_file_that_says_a_thing_wins),
                cmocka_unit_test(what_is_wrong_is_said_in_one_line),
                cmocka_unit_test(a_token_is_not_sent_in_the_clear),
                cmocka_unit_test(each_verb_is_the_servers_own),
                cmocka_unit_test(a_command_waits_where_the_server_asks_for_it),
                cmocka_unit_test(a_failed_write_says_why),
                cmocka_unit_test(all_of_a_list_comes_in_pages),
        };

        return cmocka_run_group_tests_name("kube_config", tests, NULL, NULL);
}
