/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Istio's cases of validation, name and address checks and endpoint ports, every one of them, by table: accepted or
 * refused as Istio does, with Istio's messages in Istio's order. Where we differ on purpose stands in the table below,
 * with the reason.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/names.h"
#include "model/resource.h"
#include "policy/policy.h"

#include <stdio.h>
#include <string.h>

#define GROUPED                                                                                                       \
        "Istio 0.5 to 1.1.2 did not group its pattern, so the first label had only to end well; it is grouped here, " \
        "as in Istio since"

/* Accepted by Istio 0.7 by that mistake alone; refused here, with the message that Istio has since had for the same
 * name. */
static const struct difference {
        const char *id, *why;
} refused_here[] = {
        { "ES-D026", GROUPED }, { "ES-D029", GROUPED },
        { "ES-D033", GROUPED }, { "ES-D037", GROUPED },
        { "ES-D039", GROUPED }, { "ES-D048", GROUPED " (and IPv6 belongs into a ServiceEntry)" },
        { "WX-01", GROUPED },   { "WX-02", GROUPED },
        { "WX-05", GROUPED },
};

/* Printed by Istio 0.7 as a list of one; a single error is one line here, whatever it is. */
static const char *const one_line_here[] = { "ES-D110" };

static bool is_list_of_one(const char *id)
{
        for (size_t i = 0; i < sizeof(one_line_here) / sizeof(one_line_here[0]); i++)
                if (strcmp(one_line_here[i], id) == 0)
                        return true;
        return false;
}

static const char *difference(const char *id)
{
        for (size_t i = 0; i < sizeof(refused_here) / sizeof(refused_here[0]); i++)
                if (strcmp(refused_here[i].id, id) == 0)
                        return refused_here[i].why;
        return NULL;
}

static unsigned failures, differing;

#define EXPECT(condition, id, ...)                \
        do {                                      \
                if (!(condition)) {               \
                        failures++;               \
                        print_error("%s: ", id);  \
                        print_error(__VA_ARGS__); \
                        print_error("\n");        \
                }                                 \
        } while (0)

/* Calls @visit for every line; returns how many there were. */
static size_t each_case(const char *file, void (*visit)(const char *id, const json_t *test))
{
        char path[512], line[65536];
        size_t n = 0;
        FILE *stream;

        (void)snprintf(path, sizeof(path), "%s/tests/conformance/%s", WEIR_TEST_SOURCE_ROOT, file);
        stream = fopen(path, "r");
        assert_non_null(stream);
        while (fgets(line, sizeof(line), stream)) {
                json_error_t error;
                json_t *test = json_loads(line, 0, &error);

                assert_non_null(test);
                visit(json_string_value(json_object_get(test, "id")), test);
                json_decref(test);
                n++;
        }
        (void)fclose(stream);
        return n;
}

/* The case as a document, written as JSON. */
static char *document(const json_t *test)
{
        const char *namespace_ = json_string_value(json_object_get(json_object_get(test, "metadata"), "namespace"));
        json_t *whole =
                json_pack("{s:O, s:{s:s, s:s}, s:O}", "kind", json_object_get(test, "kind"), "metadata", "name", "case",
                          "namespace", namespace_ ? namespace_ : "default", "spec", json_object_get(test, "spec"));
        char *text = json_dumps(whole, JSON_INDENT(1));

        json_decref(whole);
        return text;
}

/* What Weir itself has to say beyond Istio. */
static bool is_own_warning(const char *text)
{
        return strncmp(text, "not enforced: ", 14) == 0 || strncmp(text, "host bits are set", 17) == 0 ||
               strstr(text, "use a ServiceEntry") || strcmp(text, "a number needs no quotes") == 0;
}

/* In Istio's form without places: one bare, several as a list. */
static char *list_form(const struct weir_errs *errs, bool own)
{
        struct weir_errs bare = { 0 };
        char *text;

        for (size_t i = 0; i < errs->n; i++) {
                struct weir_err err = { 0 };

                if (own && is_own_warning(errs->items[i].text))
                        continue;
                memcpy(err.text, errs->items[i].text, sizeof(err.text));
                assert_int_equal(weir_errs_add(&bare, &err), 0);
        }
        text = weir_errs_format(&bare);
        weir_errs_clear(&bare);
        assert_non_null(text);
        return text;
}

static void compare_errors(const char *id, const struct weir_errs *got, const json_t *want)
{
        EXPECT(got->n == json_array_size(want), id, "%zu errors, not %zu", got->n, json_array_size(want));
        for (size_t i = 0; i < got->n && i < json_array_size(want); i++) {
                const char *text = json_string_value(json_array_get(want, i));

                EXPECT(strcmp(got->items[i].text, text) == 0, id, "error %zu is \"%s\", not \"%s\"", i,
                       got->items[i].text, text);
                EXPECT(got->items[i].line > 0 && got->items[i].column > 0 && got->items[i].field[0], id,
                       "error %zu has no place", i);
        }
}

static void judge_resource(const char *id, const json_t *test)
{
        const char *text = json_string_value(json_object_get(test, "text")),
                   *warning = json_string_value(json_object_get(test, "warning"));
        bool valid = json_is_true(json_object_get(test, "valid"));
        char *bytes = document(test), *form, *warned;
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 }, warnings = { 0 };
        int r = weir_resources_read(bytes, strlen(bytes), "case", &list, &errors, &warnings);

        if (difference(id)) {
                differing++;
                EXPECT(valid && r == WEIR_EINVALID, id, "is no difference any more: %s", difference(id));
        } else {
                EXPECT(valid == (r == 0), id, "%s, unlike Istio", r == 0 ? "accepted" : "refused");
                EXPECT(valid == (list.n == 1), id, "%zu resources", list.n);
                compare_errors(id, &errors, json_object_get(test, "errors"));
                form = list_form(&errors, false);
                if (text && is_list_of_one(id) && strncmp(text, "1 error occurred:\n\n* ", 21) == 0)
                        text += 21;
                EXPECT(!text || strcmp(form, text) == 0, id, "prints\n%s\nnot\n%s", form, text);
                free(form);
                warned = list_form(&warnings, true);
                EXPECT(strcmp(warned, warning ? warning : "") == 0, id, "warns \"%s\", not \"%s\"", warned,
                       warning ? warning : "");
                free(warned);
        }
        free(bytes);
        weir_errs_clear(&errors);
        weir_errs_clear(&warnings);
        weir_resources_clear(&list);
}

static void judge_string(const char *id, const json_t *test)
{
        const char *kind = json_string_value(json_object_get(test, "kind"));
        const json_t *value = json_object_get(test, "value"), *want = json_object_get(test, "errors");
        enum weir_rules rules = strcmp(json_string_value(json_object_get(test, "rules")), "istio-0.7.1") == 0 ?
                                        WEIR_RULES_0_7 :
                                        WEIR_RULES_TODAY;
        struct weir_check check = { 0 };

        if (strcmp(kind, "wildcard domain") == 0)
                weir_check_wildcard_domain(json_string_value(value), rules, &check);
        else if (strcmp(kind, "FQDN") == 0)
                weir_check_fqdn(json_string_value(value), rules, &check);
        else if (strcmp(kind, "port number") == 0)
                weir_check_port(json_integer_value(value), &check);
        else if (strcmp(kind, "IPv4 address or subnet") == 0)
                weir_check_ipv4_or_cidr(json_string_value(value), &check);
        else
                EXPECT(false, id, "the kind \"%s\" is not known to this test", kind);
        if (difference(id)) {
                differing++;
                EXPECT(json_is_true(json_object_get(test, "valid")) && check.n > 0, id, "is no difference any more");
                return;
        }
        EXPECT(check.n == json_array_size(want), id, "%zu complaints, not %zu", check.n, json_array_size(want));
        for (size_t i = 0; i < check.n && i < json_array_size(want); i++)
                EXPECT(strcmp(check.text[i], json_string_value(json_array_get(want, i))) == 0, id,
                       "says \"%s\", not \"%s\"", check.text[i], json_string_value(json_array_get(want, i)));
}

/* The case's ports and endpoints as a STATIC ExternalService. */
static char *endpoint_document(const json_t *test)
{
        struct weir_buf buf = { 0 };
        const json_t *ports = json_object_get(test, "ports"), *endpoints = json_object_get(test, "endpoints");

        weir_buf_puts(&buf, "kind: ExternalService\nmetadata: {name: case}\nspec:\n  hosts: [10.9.8.7]\n  discovery: "
                            "STATIC\n  ports:\n");
        for (size_t i = 0; i < json_array_size(ports); i++)
                weir_buf_printf(&buf, "  - {name: %s, number: %d, protocol: TCP}\n",
                                json_string_value(json_array_get(json_array_get(ports, i), 0)),
                                (int)json_integer_value(json_array_get(json_array_get(ports, i), 1)));
        weir_buf_puts(&buf, "  endpoints:\n");
        for (size_t i = 0; i < json_array_size(endpoints); i++) {
                const char *name;
                json_t *number;

                weir_buf_printf(&buf, "  - address: %s\n    ports: {",
                                json_string_value(json_array_get(json_array_get(endpoints, i), 0)));
                json_object_foreach(json_array_get(json_array_get(endpoints, i), 1), name, number)
                        weir_buf_printf(&buf, "%s: %d, ", name, (int)json_integer_value(number));
                weir_buf_puts(&buf, "}\n");
        }
        return weir_buf_take(&buf);
}

static bool is_instance(const json_t *instances, const char *text)
{
        for (size_t i = 0; i < json_array_size(instances); i++)
                if (strcmp(json_string_value(json_array_get(instances, i)), text) == 0)
                        return true;
        return false;
}

/* Every turn of every port dials an instance of Istio's, and all of them together are Istio's. */
static void compare_instances(const char *id, const json_t *test, const struct weir_policy *policy)
{
        const json_t *ports = json_object_get(test, "ports"), *instances = json_object_get(test, "instances");
        size_t n = json_array_size(json_object_get(test, "endpoints")), found = 0;

        for (size_t p = 0; p < json_array_size(ports); p++)
                for (uint32_t turn = 0; turn < n; turn++) {
                        struct weir_query query = { .turn = turn,
                                                    .port = (uint16_t)json_integer_value(
                                                            json_array_get(json_array_get(ports, p), 1)) };
                        struct weir_decision decision;
                        char text[WEIR_ENDPOINT_STRLEN];

                        assert_int_equal(weir_addr_parse("10.9.8.7", &query.addr), 0);
                        weir_policy_match(policy, &query, &decision);
                        EXPECT(decision.verdict == WEIR_VERDICT_ALLOW, id, "port %u is denied", query.port);
                        EXPECT(is_instance(instances, weir_endpoint_format(&decision.addr, decision.port, text)), id,
                               "dials %s", text);
                        found++;
                }
        EXPECT(found == json_array_size(instances), id, "%zu instances, not %zu", found, json_array_size(instances));
}

static void judge_endpoints(const char *id, const json_t *test)
{
        const char *first = json_string_value(json_array_get(json_array_get(json_object_get(test, "endpoints"), 0), 0));
        struct weir_addr addr;
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        struct weir_err err = { 0 };
        struct weir_policy *policy;
        char *yaml;

        /* NONE has no endpoints, and names are not resolved by this version: such a STATIC resource is not even
         * valid. */
        yaml = endpoint_document(test);
        if (!first || weir_addr_parse(first, &addr) < 0) {
                EXPECT(weir_resources_read(yaml, strlen(yaml), "case", &list, &errors, NULL) == WEIR_EINVALID, id,
                       "accepted");
                weir_errs_clear(&errors);
                free(yaml);
                return;
        }
        assert_int_equal(weir_resources_read(yaml, strlen(yaml), "case", &list, &errors, NULL), 0);
        assert_int_equal(weir_policy_compile(&list, &(struct weir_policy_options){ 0 }, &policy, &err), 0);
        compare_instances(id, test, policy);
        weir_policy_unref(policy);
        weir_resources_clear(&list);
        free(yaml);
}

/* The number of cases is part of the test: one that is lost is a failure. */
static void run_all(const char *file, size_t n, void (*judge)(const char *id, const json_t *test))
{
        failures = 0;
        assert_int_equal(each_case(file, judge), n);
        assert_int_equal(failures, 0);
}

static void external_services(void **state)
{
        (void)state;
        run_all("externalservice.jsonl", 85, judge_resource);
}

static void service_entries(void **state)
{
        (void)state;
        run_all("serviceentry.jsonl", 53, judge_resource);
}

static void names_and_addresses(void **state)
{
        (void)state;
        run_all("strings.jsonl", 32, judge_string);
}

static void endpoint_ports(void **state)
{
        (void)state;
        run_all("endpoint-ports.jsonl", 4, judge_endpoints);
}

static void every_difference_was_met(void **state)
{
        (void)state;
        assert_int_equal(differing, sizeof(refused_here) / sizeof(refused_here[0]));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(external_services),        cmocka_unit_test(service_entries),
                cmocka_unit_test(names_and_addresses),      cmocka_unit_test(endpoint_ports),
                cmocka_unit_test(every_difference_was_met),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
