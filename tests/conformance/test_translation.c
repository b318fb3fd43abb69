/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Istio makes of a rule, as listeners with routes: where they are TCP, Weir's policy must let the same addresses
 * and ports through and no others. What Istio does by HTTP, or by looking names up, is not enforced here and opens
 * nothing. Of the cases of reachability one is TCP's: without rules nothing is reached.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/err.h"
#include "model/resource.h"
#include "policy/policy.h"

#include <stdio.h>
#include <string.h>

static void each_case(const char *name, void (*check)(json_t *row))
{
        char path[512], line[16384];
        FILE *file;

        (void)snprintf(path, sizeof(path), WEIR_TEST_SOURCE_ROOT "/tests/conformance/%s", name);
        file = fopen(path, "re");
        assert_non_null(file);
        while (fgets(line, sizeof(line), file)) {
                json_t *row = json_loads(line, 0, NULL);

                assert_non_null(row);
                check(row);
                json_decref(row);
        }
        (void)fclose(file);
}

static struct weir_policy *compile(const json_t *row)
{
        json_t *document = json_pack("{s:s, s:O, s:{s:s, s:s}, s:O}", "apiVersion", "networking.istio.io/v1alpha3",
                                     "kind", json_object_get(row, "kind"), "metadata", "name", "case", "namespace",
                                     "default", "spec", json_object_get(row, "spec"));
        char *text = json_dumps(document, 0);
        struct weir_resources resources = { 0 };
        struct weir_errs errors = { 0 }, warnings = { 0 };
        struct weir_policy_options options = { .generation = 1 };
        struct weir_policy *policy = NULL;
        struct weir_err err = { 0 };

        if (weir_resources_read(text, strlen(text), "-", &resources, &errors, &warnings) == 0)
                assert_int_equal(weir_policy_compile(&resources, &options, &policy, &err), 0);
        weir_resources_clear(&resources);
        weir_errs_clear(&errors);
        weir_errs_clear(&warnings);
        free(text);
        json_decref(document);
        return policy;
}

static bool allows(const struct weir_policy *policy, const char *address, uint16_t port)
{
        struct weir_query query = { .protocol = WEIR_IP_TCP, .port = port };
        struct weir_decision decision = { 0 };

        assert_int_equal(weir_addr_parse(address, &query.addr), 0);
        weir_policy_match(policy, &query, &decision);
        return decision.verdict == WEIR_VERDICT_ALLOW && weir_addr_equal(&decision.addr, &query.addr) &&
               decision.port == port;
}

/* The first address of each route's ranges, and the address and the port beside. */
static size_t check_routes(const struct weir_policy *policy, const json_t *listener, const char *id)
{
        const char *colon = strrchr(json_string_value(json_object_get(listener, "address")), ':');
        uint16_t port = (uint16_t)strtoul(colon + 1, NULL, 10);
        size_t i, j, n = 0;
        json_t *route, *cidr;

        json_array_foreach(json_object_get(listener, "routes"), i, route)
        {
                json_array_foreach(json_object_get(route, "destination_ip_list"), j, cidr)
                {
                        struct weir_prefix prefix;
                        char text[WEIR_ADDR_STRLEN];

                        assert_int_equal(weir_prefix_parse(json_string_value(cidr), &prefix, NULL), 0);
                        if (!allows(policy, weir_addr_format(&prefix.addr, text), port))
                                fail_msg("%s: %s:%u is denied", id, text, port);
                        assert_false(allows(policy, text, (uint16_t)(port + 1)));
                        n++;
                }
        }
        assert_false(allows(policy, "203.0.113.66", port));
        return n;
}

static size_t checked, opened_nothing;

static void check_translation(json_t *row)
{
        const char *id = json_string_value(json_object_get(row, "id"));
        const json_t *listener = json_array_get(json_object_get(row, "listeners"), 0);
        const json_t *cluster = json_array_get(json_object_get(row, "clusters"), 0);
        struct weir_policy *policy = compile(row);
        size_t rules = 0, i;
        json_t *one;

        if (!policy) {
                opened_nothing++; /* EgressRule is no kind of Weir's */
                return;
        }
        if (strcmp(json_string_value(json_object_get(listener, "type")), "http") == 0 ||
            strcmp(json_string_value(json_object_get(cluster, "type")), "strict_dns") == 0) {
                assert_int_equal(weir_policy_n_rules(policy), 0);
                opened_nothing++;
        } else {
                json_array_foreach(json_object_get(row, "listeners"), i, one) rules += check_routes(policy, one, id);
                assert_int_equal(weir_policy_n_rules(policy), rules);
                checked++;
        }
        weir_policy_unref(policy);
}

static void translation(void **state)
{
        (void)state;
        each_case("translation.jsonl", check_translation);
        assert_int_equal(checked, 2);
        assert_int_equal(opened_nothing, 4);
}

static size_t unruled;

static void check_reachability(json_t *row)
{
        struct weir_resources none = { 0 };
        struct weir_policy_options options = { .generation = 1 };
        struct weir_policy *policy = NULL;
        struct weir_err err = { 0 };

        if (json_array_size(json_object_get(row, "rules")) > 0)
                return;
        assert_int_equal(weir_policy_compile(&none, &options, &policy, &err), 0);
        assert_false(allows(policy, "198.35.26.96", 80));
        weir_policy_unref(policy);
        unruled++;
}

static void reachability(void **state)
{
        (void)state;
        each_case("reachability.jsonl", check_reachability);
        assert_int_equal(unruled, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(translation),
                cmocka_unit_test(reachability),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
