/* SPDX-License-Identifier: Apache-2.0 */
/* Istio's cases of injection: which kinds, whether at all, and which annotations are right. Where today's Istio differs
 * from the release a case was taken from, "today" in its line holds; where Weir differs on purpose, "here". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "inject/inject.h"

#include <stdio.h>

static size_t each_case(const char *name, void (*check)(json_t *row))
{
        char path[512], line[16384];
        size_t n = 0;
        FILE *file;

        (void)snprintf(path, sizeof(path), WEIR_TEST_SOURCE_ROOT "/tests/conformance/%s", name);
        file = fopen(path, "re");
        assert_non_null(file);
        while (fgets(line, sizeof(line), file)) {
                json_t *row = json_loads(line, 0, NULL);

                assert_non_null(row);
                check(row);
                json_decref(row);
                n++;
        }
        (void)fclose(file);
        return n;
}

static const char *text(const json_t *row, const char *key)
{
        return json_string_value(json_object_get(row, key));
}

static void check_annotation(json_t *row)
{
        const json_t *today = json_object_get(row, "today") ? json_object_get(row, "today") : row;
        bool valid = json_is_true(json_object_get(today, "valid")), no_memory;
        weir_auto_free char *said =
                weir_inject_annotation_complaint(text(row, "annotation"), text(row, "value"), &no_memory);

        if (valid != !said)
                fail_msg("%s: %s", text(row, "id"), said ? said : "taken");
        if (!valid)
                assert_string_equal(said, text(today, "error"));
}

static void annotations(void **state)
{
        (void)state;
        assert_int_equal(each_case("inject-annotations.jsonl", check_annotation), 13);
}

static void check_required(json_t *row)
{
        bool wanted = json_is_true(json_object_get(row, "inject"));
        bool got = weir_inject_required(weir_inject_policy_parse(text(row, "policy")), text(row, "namespace"),
                                        text(row, "annotation sidecar.istio.io/inject"),
                                        json_is_true(json_object_get(row, "hostNetwork")));

        if (wanted != got)
                fail_msg("%s", text(row, "id"));
}

static void required(void **state)
{
        (void)state;
        assert_int_equal(each_case("inject-required.jsonl", check_required), 17);
}

#define POD "spec: {containers: [{name: a, image: b}]}"
#define TEMPLATE "spec: {template: {" POD "}}"

/* What a case's words of a document mean. */
static const struct document {
        const char *id, *text;
} documents[] = {
        { "IK-01", "apiVersion: extensions/v1beta1\nkind: Deployment\n" TEMPLATE },
        { "IK-03", "apiVersion: extensions/v1beta1\nkind: ReplicaSet\n" TEMPLATE },
        { "IK-06", "apiVersion: batch/v2alpha1\nkind: CronJob\nspec: {jobTemplate: {" TEMPLATE "}}" },
        { "IK-07", "apiVersion: apps/v1beta1\nkind: StatefulSet\n" TEMPLATE },
        { "IK-08", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: apps/v1, kind: Deployment, " TEMPLATE
                   "}\n- {apiVersion: apps/v1, kind: Deployment, " TEMPLATE "}" },
        { "IK-10", "apiVersion: v1\nkind: Service\nspec: {ports: [{port: 80}]}" },
        { "IK-11", "apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {hostNetwork: true, containers: "
                   "[{name: a}]}}}" },
        { "IK-13", "apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {initContainers: [{name: early}], "
                   "containers: [{name: a}]}}}" },
        { "IK-15", "apiVersion: apps/v1\nkind: Deployment\nspec: {template: {spec: {serviceAccountName: sa, "
                   "containers: [{name: a}]}}}" },
        { "IK-17", "apiVersion: apps/v1\nkind: Deployment\n" TEMPLATE },
        { "IK-18", "apiVersion: apps/v1beta1\nkind: Deployment\n" TEMPLATE },
};

static size_t count(const char *haystack, const char *needle)
{
        size_t n = 0;

        for (const char *at = haystack; (at = strstr(at, needle)); at++)
                n++;
        return n;
}

static const char *document(const char *id)
{
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(documents); i++)
                if (weir_streq(documents[i].id, id))
                        return documents[i].text;
        fail_msg("no document for %s", id);
        return NULL;
}

static void check_kind(json_t *row)
{
        const char *given = document(text(row, "id")), *here = text(row, "here");
        struct weir_inject_options options = { .image = "i", .pull_policy = "Always", .uid = WEIR_INJECT_UID };
        weir_auto(buf) struct weir_buf out = { 0 };
        struct weir_errs errors = { 0 };
        struct weir_strv notes = { 0 };
        size_t wanted = weir_starts_with(here, "each") ? 2 : 1;

        assert_int_equal(weir_inject(given, strlen(given), "-", &options, &out, &errors, &notes), 0);
        if (weir_starts_with(here, "unchanged"))
                assert_string_equal(out.data, given);
        else if (weir_starts_with(here, "refused"))
                assert_int_equal(errors.total, 1);
        else {
                assert_int_equal(errors.total, 0);
                if (count(out.data, "\"name\":\"weir-init\"") != wanted)
                        fail_msg("%s: %s", text(row, "id"), out.data);
        }
        if (weir_starts_with(here, "weir-init and weir-proxy stand before"))
                assert_true(strstr(out.data, "weir-proxy") < strstr(out.data, "early"));
        weir_errs_clear(&errors);
        weir_strv_clear(&notes);
}

static void kinds(void **state)
{
        (void)state;
        assert_int_equal(each_case("kube-inject-kinds.jsonl", check_kind), WEIR_ARRAY_SIZE(documents));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(annotations),
                cmocka_unit_test(required),
                cmocka_unit_test(kinds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
