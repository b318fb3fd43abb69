/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: what is refused, where it is said, the limits, and that what is printed reads back equal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/resource.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct result {
        struct weir_resources list;
        struct weir_errs errors, warnings;
        int r;
};

static void read_n(struct result *result, const char *bytes, size_t n)
{
        *result = (struct result){ 0 };
        result->r = weir_resources_read(bytes, n, "t.yaml", &result->list, &result->errors, &result->warnings);
}

static void done(struct result *result)
{
        weir_resources_clear(&result->list);
        weir_errs_clear(&result->errors);
        weir_errs_clear(&result->warnings);
}

/* Refused, with these lines in this order ("LINE:COLUMN: FIELD: TEXT"), each a prefix of what is said; a line that begins
 * with a field tells nothing of the place. */
static void refused(const char *text, const char *const *lines)
{
        struct result got;
        size_t i = 0;

        read_n(&got, text, strlen(text));
        assert_int_equal(got.r, WEIR_EINVALID);
        for (; lines[i] && i < got.errors.n; i++) {
                char *line = weir_err_format(&got.errors.items[i]);

                const char *from = line + 7;

                if (lines[i][0] == 's')
                        from = strchr(line, ' ') + 1;
                if (strncmp(line, "t.yaml:", 7) != 0 || strncmp(from, lines[i], strlen(lines[i])) != 0)
                        fail_msg("said \"%s\", not \"%s\"", line, lines[i]);
                free(line);
        }
        assert_null(lines[i]);
        assert_int_equal(i, got.errors.n);
        done(&got);
}

#define REFUSED(text, ...) refused(text, (const char *const[]){ __VA_ARGS__, NULL })
#define HEAD "kind: ExternalService\nmetadata: {name: a}\n"
#define GOOD HEAD "spec: {hosts: [10.0.0.0/8], ports: [{number: 443, name: tcp, protocol: TCP}]}\n"

static void every_mistake_is_told_with_its_place(void **state)
{
        (void)state;
        REFUSED("kind: Foo\nmetadata: {name: a}\n", "1:7: kind: kind Foo is not known");
        REFUSED("metadata: {name: a}\n", "1:1: kind: a kind is required");
        REFUSED("just text\n", "1:1: must be a mapping");
        REFUSED("apiVersion: networking.istio.io/v1\n" GOOD,
                "1:13: apiVersion: \"networking.istio.io/v1\" is not a version of ExternalService; use "
                "networking.istio.io/v1alpha3");
        REFUSED("kind: ExternalService\nspec: {hosts: [a.b]}\n", "1:1: metadata.name: a name is required");
        REFUSED(HEAD "spec:\n  hosts: [10.0.0.0/8]\n  discoveryy: NONE\n",
                "5:3: spec.discoveryy: unknown field \"discoveryy\" in v1alpha3.ExternalService");
        REFUSED(HEAD "spec:\n  hosts: [10.0.0.0/8]\n  ports:\n  - number: 70000\n    name: tcp\n    protocol: TCP\n",
                "6:13: spec.ports[0].number: port number 70000 must be in the range 1..65535");
        REFUSED(HEAD "spec: {hosts: [10.0.0.0/33]}\n", "3:16: spec.hosts[0]: domain name \"0.0.0/33\" invalid",
                "3:16: spec.hosts[0]: 10.0.0.0/33 is not a valid CIDR block");
        REFUSED(HEAD "spec: {hosts: [a.b], discovery: FOO}\n", "3:33: spec.discovery: unknown value \"FOO\" for enum "
                                                               "istio.networking.v1alpha3.ExternalService_Discovery");
}

static void all_documents_are_told_at_once(void **state)
{
        (void)state;
        REFUSED(HEAD "spec: {hosts: []}\n---\n" GOOD "---\nkind: Foo\n---\n" HEAD "spec: {hosts: [a.b], x: 1}\n",
                "3:15: spec.hosts: external service must have at least one host", "9:7: kind: kind Foo is not known",
                "13:22: spec.x: unknown field \"x\"");
}

#define ENTRY(ports, endpoints, more)                                                  \
        "kind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a.b], ports: [" ports \
        "], resolution: STATIC" endpoints more "}\n"
#define ONE "{number: 80, name: one, protocol: TCP}"
#define TWO ONE ", {number: 81, name: two, protocol: TCP}"

/* What Istio's own cases leave out. */
static void service_entries_are_judged_as_today(void **state)
{
        (void)state;
        REFUSED(ENTRY(TWO, ", endpoints: [{address: 'unix:///run/x'}]", ""),
                "spec.endpoints[0].address: exactly 1 service port required for unix endpoints");
        REFUSED(ENTRY(ONE, ", endpoints: [{address: 'unix:///run/'}]", ""),
                "spec.endpoints[0].address: /run/ is not an absolute path to a file");
        REFUSED(ENTRY(ONE, ", endpoints: [{address: 'unix://'}]", ""),
                "spec.endpoints[0].address: unix address must not be empty");
        REFUSED(ENTRY(ONE, ", endpoints: [{ports: {two: 0}}]", ""), "spec.endpoints[0].address: address is required");
        REFUSED(ENTRY(ONE, ", endpoints: [{network: n, ports: {two: 1}}]", ""),
                "spec.endpoints[0].ports.two: endpoint port 1 is not defined by the service entry");
        REFUSED(ENTRY(ONE, ", endpoints: [{address: a.b, labels: {'*': x}, ports: {two: 1}}]", ""),
                "spec.endpoints[0].address: endpoint address \"a.b\" is not a valid IP address",
                "spec.endpoints[0].ports.two: endpoint port 1 is not defined by the service entry",
                "spec.endpoints[0].labels: invalid tag key: \"*\"");
        REFUSED(ENTRY(ONE, "", ", exportTo: [., '*']"),
                "spec.exportTo: cannot have both public (*) and non-public exportTo values for a resource");
        REFUSED(ENTRY(ONE, "", ", exportTo: [default, .]"),
                "spec.exportTo[1]: duplicate entries in exportTo: . and current namespace default");
        REFUSED(ENTRY(ONE, "", ", exportTo: [., default]"),
                "spec.exportTo[1]: duplicate entries in exportTo for entry default");
        REFUSED(ENTRY(ONE, "", ", exportTo: [Team]"),
                "spec.exportTo[0]: only .,*,~, or a valid DNS 1123 label is allowed as exportTo entry");
        REFUSED(ENTRY(ONE, "", ", exportTo: ['~', a]"),
                "spec.exportTo: cannot export service entry to no one (~) and someone");
}

static void yaml_that_surprises_is_refused(void **state)
{
        (void)state;
        REFUSED("a: &x 1\nb: *x\n", "1:4: anchors are not allowed", "2:4: aliases are not allowed");
        REFUSED("kind: !!str ExternalService\n", "1:7: tags are not allowed");
        REFUSED("kind: ExternalService\nkind: ServiceEntry\n", "2:1: key \"kind\" is here twice, first in line 1");
        REFUSED(HEAD "spec:\n\thosts: []\n", "4:1: not YAML: a tab cannot indent; use spaces");
        REFUSED(HEAD "spec: {hosts: [a.b], ports: [{number: 0x1bb, name: tcp, protocol: TCP}]}\n",
                "3:39: spec.ports[0].number: must be a number in decimal digits, not \"0x1bb\"");
        REFUSED(HEAD "spec: {hosts: [a.b], ports: [{number: 0443, name: tcp, protocol: TCP}]}\n",
                "3:39: spec.ports[0].number: must be a number");
        REFUSED(HEAD "spec: {hosts: [a.b], ports: [{number: 443.0, name: tcp, protocol: TCP}]}\n",
                "3:39: spec.ports[0].number: must be a number");
        REFUSED(HEAD "spec: {hosts: [a.b], ports: [{number: 443, name: 80, protocol: TCP}]}\n",
                "3:50: spec.ports[0].name: must be text: write \"80\" in quotes");
        REFUSED(HEAD "spec: {hosts: [yes]}\n", "3:16: spec.hosts[0]: must be text");
        REFUSED(HEAD "spec: {hosts: {a: b}}\n", "3:15: spec.hosts: must be a list");
        REFUSED(HEAD "spec: {hosts: [null]}\n", "3:16: spec.hosts[0]: must not be null");
        REFUSED("kind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a.b], exportTo: [.], export_to: [.]}\n",
                "3:37: spec.export_to: key \"exportTo\" is here twice");
        REFUSED("[1, 2", "2:1: not YAML:");
        REFUSED("kind: \"\x01\"\n", "1:");
}

static void names_cannot_be_paths(void **state)
{
        static const char *const names[] = { "../x", ".hidden", "a/b", "Upper", "-a", "a..b", "a b" };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(names); i++) {
                char text[256];

                (void)snprintf(text, sizeof(text),
                               "kind: ExternalService\nmetadata:\n  name: \"%s\"\nspec: {hosts: [a.b]}\n", names[i]);
                REFUSED(text, "3:9: metadata.name: must be a DNS-1123 subdomain");
                (void)snprintf(
                        text, sizeof(text),
                        "kind: ExternalService\nmetadata:\n  name: a\n  namespace: \"%s\"\nspec: {hosts: [a.b]}\n",
                        names[i]);
                REFUSED(text, "4:14: metadata.namespace: must be a DNS-1123 label");
        }
}

static void limits_hold(void **state)
{
        struct weir_buf buf = { 0 };

        (void)state;
        for (unsigned i = 0; i < 40; i++)
                weir_buf_putc(&buf, '[');
        REFUSED(buf.data, "1:33: nested deeper than 32 levels");
        weir_buf_clear(&buf);
        weir_buf_puts(&buf, HEAD "spec:\n  hosts:\n");
        for (unsigned i = 0; i < 100001; i++)
                weir_buf_puts(&buf, "  - a\n");
        REFUSED(buf.data, "99994:5: more than 100000 values in one document");
        weir_buf_clear(&buf);
        weir_buf_puts(&buf, HEAD "spec:\n  hosts:\n  - ");
        for (unsigned i = 0; i < 2 * 1024 * 1024; i++)
                weir_buf_putc(&buf, 'a');
        REFUSED(buf.data, "5:5: the document is larger than 1048576 bytes");
        weir_buf_clear(&buf);
        /* Many documents may be larger together. */
        for (unsigned i = 0; i < 20000; i++)
                weir_buf_puts(&buf, "---\n" GOOD);
        {
                struct result got;

                read_n(&got, buf.data, buf.length);
                assert_int_equal(got.r, 0);
                assert_int_equal(got.list.n, 20000);
                done(&got);
        }
        weir_buf_clear(&buf);
}

static void what_is_odd_but_right_is_taken(void **state)
{
        static const char *const good[] = {
                GOOD,
                "\xef\xbb\xbf" GOOD,
                "apiVersion: networking.istio.io/v1alpha3\n" GOOD,
                "# nothing\n---\n" GOOD "---\n---\n# nothing\n",
                GOOD "status: {conditions: [{type: Accepted}]}\n",
                "kind: List\napiVersion: v1\nmetadata: {resourceVersion: \"\"}\nitems:\n- kind: ExternalService\n  "
                "metadata: {name: a}\n  spec: {hosts: [a.b]}\n",
                "{\"kind\": \"ExternalService\", \"metadata\": {\"name\": \"a\", \"creationTimestamp\": null}, "
                "\"spec\": {\"hosts\": [\"10.0.0.0/8\"]}}",
        };
        struct result got;

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(good); i++) {
                read_n(&got, good[i], strlen(good[i]));
                if (got.r != 0)
                        print_error("case %zu: %s\n", i, got.errors.items[0].text);
                assert_int_equal(got.r, 0);
                assert_int_equal(got.list.n, 1);
                assert_string_equal(got.list.items[0]->api_version, "networking.istio.io/v1alpha3");
                done(&got);
        }
        read_n(&got, "", 0);
        assert_int_equal(got.r, 0);
        assert_int_equal(got.list.n, 0);
        done(&got);
}

static void warned(const char *text, const char *warning)
{
        struct result got;

        read_n(&got, text, strlen(text));
        assert_true(got.warnings.n > 0);
        assert_non_null(strstr(got.warnings.items[0].text, warning));
        assert_true(got.warnings.items[0].line > 0);
        done(&got);
}

static void what_means_less_than_it_says_is_warned_about(void **state)
{
        (void)state;
        warned(HEAD "spec: {hosts: [10.0.0.0/8], ports: [{number: '443', name: tcp, protocol: TCP}]}\n",
               "a number needs no quotes");
        warned(HEAD "spec: {hosts: [91.198.174.200/27], ports: [{number: 443, name: tcp, protocol: TCP}]}\n",
               "it means 91.198.174.192/27");
        warned(HEAD "spec: {hosts: [a.b], ports: [{number: 80, name: web, protocol: HTTP}]}\n",
               "not enforced: HTTP is matched by Host");
        warned(HEAD "spec: {hosts: [a.b], ports: [{number: 80, name: web, protocol: TCP}]}\n",
               "not enforced: a name is not an address block");
        warned(HEAD "spec: {hosts: [10.0.0.0/8]}\n", "not enforced: there are no ports");
        warned(HEAD "spec: {hosts: [10.0.0.0/8], ports: [{number: 53, name: dns, protocol: UDP}]}\n",
               "not enforced: UDP is never opened");
        warned(HEAD "spec: {hosts: [a.b], discovery: DNS, ports: [{number: 80, name: web, protocol: TCP}]}\n",
               "not enforced: discovery DNS");
        warned(HEAD "spec: {hosts: ['2001:db8::'], ports: [{number: 80, name: web, protocol: TCP}]}\n",
               "use a ServiceEntry");
}

/* Printed, read, printed again: the same, as YAML and as JSON. */
static void round_trips(const char *text)
{
        struct weir_buf first = { 0 }, again = { 0 }, json = { 0 };
        struct result one, two;

        read_n(&one, text, strlen(text));
        assert_int_equal(one.r, 0);
        weir_resource_print_yaml(one.list.items[0], &first);
        read_n(&two, first.data, first.length);
        if (two.r != 0)
                print_error("%s\n%s\n", two.errors.items[0].text, first.data);
        assert_int_equal(two.r, 0);
        weir_resource_print_yaml(two.list.items[0], &again);
        assert_string_equal(first.data, again.data);
        done(&two);
        weir_resource_print_json(one.list.items[0], 2, &json);
        read_n(&two, json.data, json.length);
        if (two.r != 0)
                print_error("%s\n%s\n", two.errors.items[0].text, json.data);
        assert_int_equal(two.r, 0);
        weir_buf_clear(&again);
        weir_resource_print_yaml(two.list.items[0], &again);
        assert_string_equal(first.data, again.data);
        done(&two);
        done(&one);
        weir_buf_clear(&first);
        weir_buf_clear(&again);
        weir_buf_clear(&json);
}

static void printed_resources_read_back_equal(void **state)
{
        static const char *const values[] = { "\"null\"",
                                              "\"~\"",
                                              "\"1e3\"",
                                              "\"0x10\"",
                                              "\"\"",
                                              "\"*x\"",
                                              "\"a: b\"",
                                              "\"a #b\"",
                                              "\"- a\"",
                                              "\"{a}\"",
                                              "\"'\"",
                                              "\"\\\"\\\\\"",
                                              "\"line\\nline\\n\"",
                                              "\"\\ttab\\x07\"",
                                              "\"\xc3\xa9\"",
                                              "\"yes\"",
                                              "\"12:30:45\"",
                                              "\"2001:db8::1\"",
                                              "\"1.5\"",
                                              "\" a \"",
                                              "\"@a\"",
                                              "\"`a\"",
                                              "\"%a\"",
                                              "\"2018-01-01\"",
                                              "\"---\"",
                                              "\"...\"",
                                              "plain text",
                                              "\"\\x85\\x80\\x9f\\x7f\\e\"",
                                              "\"\\u2028\\u2029\\ufeff\\uffff\\ufffe\"",
                                              "\"\\U0001f600\\U0010ffff\\u202e\"",
                                              "a:b" };

        (void)state;
        round_trips(GOOD);
        round_trips("kind: ServiceEntry\nmetadata: {name: a, namespace: b, labels: {x/y: z}, annotations: {}}\nspec:\n "
                    " hosts: ['*.a.b']\n  addresses: ['::/0', "
                    "10.0.0.0/8]\n  ports: [{number: 1, name: a, protocol: TCP, targetPort: 2}]\n  resolution: "
                    "STATIC\n  endpoints: [{address: '::1', ports: "
                    "{a: 3}, weight: 4}]\n  exportTo: ['*']\nstatus: {a: [1, [2, {}], [], null, true, 1.5, x]}\n");
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(values); i++) {
                char text[512];

                (void)snprintf(text, sizeof(text),
                               "kind: ExternalService\nmetadata:\n  name: a\n  annotations:\n    key: %s\nspec: "
                               "{hosts: [a.b]}\n",
                               values[i]);
                round_trips(text);
        }
}

/* Longer than YAML lets a key be without a question mark before it. */
static void long_keys_read_back_equal(void **state)
{
        struct weir_buf text = { 0 };

        (void)state;
        weir_buf_puts(&text, "{\"kind\": \"ExternalService\", \"metadata\": {\"name\": \"a\", \"annotations\": {");
        for (int n = 990; n < 1100; n++) {
                weir_buf_printf(&text, "%s\"", n > 990 ? "," : "");
                for (int i = 0; i < n; i++)
                        weir_buf_putc(&text, i % 7 ? 'k' : ' ');
                weir_buf_puts(&text, "\": \"v\"");
        }
        weir_buf_puts(&text, "}}, \"spec\": {\"hosts\": [\"a.b\"]}}");
        round_trips(text.data);
        weir_buf_clear(&text);
}

/* What is told and printed goes to terminals. */
static void nothing_told_moves_a_terminal(void **state)
{
        struct result got;

        (void)state;
        REFUSED("{\"kind\": \"ExternalService\", \"a\\u001b[2J\\u009b2J\": 1, \"a\\u001b[2J\\u009b2J\": 2}",
                "1:54: key \"a\\x1b[2J\\u009b2J\" is here twice");
        REFUSED("kind: \"\\e[2J\"\n", "1:7: kind: kind \\x1b[2J is not known");
        read_n(&got, HEAD "spec: {hosts: [\"a\\e[2J\\x9b2J\\u202e\"]}\n",
               strlen(HEAD "spec: {hosts: [\"a\\e[2J\\x9b2J\\u202e\"]}\n"));
        assert_int_equal(got.r, WEIR_EINVALID);
        assert_non_null(strstr(got.errors.items[0].text, "a\\x1b[2J\\u009b2J\\u202e"));
        done(&got);
}

static void a_copy_changes_only_what_it_is_told(void **state)
{
        const struct weir_resource_change change = { "other", "7", "2018-03-29T10:00:00Z" };
        struct weir_resource *copy;
        struct result got;

        (void)state;
        read_n(&got, GOOD, strlen(GOOD));
        assert_string_equal(got.list.items[0]->created, "");
        assert_int_equal(weir_resource_with(got.list.items[0], &change, &copy), 0);
        assert_string_equal(copy->namespace_, "other");
        assert_string_equal(copy->resource_version, "7");
        assert_string_equal(copy->created, "2018-03-29T10:00:00Z");
        assert_string_equal(copy->hosts[0], "10.0.0.0/8");
        assert_int_equal(copy->ports[0].number, 443);
        assert_string_equal(got.list.items[0]->namespace_, "");
        done(&got);
        weir_resource_unref(copy);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_mistake_is_told_with_its_place),
                cmocka_unit_test(all_documents_are_told_at_once),
                cmocka_unit_test(service_entries_are_judged_as_today),
                cmocka_unit_test(yaml_that_surprises_is_refused),
                cmocka_unit_test(names_cannot_be_paths),
                cmocka_unit_test(limits_hold),
                cmocka_unit_test(what_is_odd_but_right_is_taken),
                cmocka_unit_test(what_means_less_than_it_says_is_warned_about),
                cmocka_unit_test(printed_resources_read_back_equal),
                cmocka_unit_test(long_keys_read_back_equal),
                cmocka_unit_test(nothing_told_moves_a_terminal),
                cmocka_unit_test(a_copy_changes_only_what_it_is_told),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
