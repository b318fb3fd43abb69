/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Injection keeps every byte that was there: taking the inserted pieces out again gives the original, in whatever style
 * it was written; injecting twice gives what once gave; and what would defeat the rules is refused at its place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "inject/inject.h"
#include "model/node.h"

#include <errno.h>
#include <stdio.h>

static struct weir_inject_options options(void)
{
        return (struct weir_inject_options){ .image = "weir:test", .pull_policy = "IfNotPresent", .uid = 1337 };
}

struct result {
        struct weir_buf out;
        struct weir_errs errors;
        struct weir_strv notes;
};

static struct result inject_with(const char *text, const struct weir_inject_options *o)
{
        struct result r = { 0 };

        assert_int_equal(weir_inject(text, strlen(text), "pod.yaml", o, &r.out, &r.errors, &r.notes), 0);
        return r;
}

static struct result inject(const char *text)
{
        struct weir_inject_options o = options();

        return inject_with(text, &o);
}

static void result_clear(struct result *r)
{
        weir_buf_clear(&r->out);
        weir_errs_clear(&r->errors);
        weir_strv_clear(&r->notes);
}

/* Whether @text is @longer with some of its bytes left out: nothing was changed or moved, only put in between. */
static bool is_within(const char *text, const char *longer)
{
        for (; *longer; longer++)
                if (*text == *longer)
                        text++;
        return *text == '\0';
}

/* Whole lines of @text stand in @longer in their order, each whole: insertions are lines of their own. */
static bool lines_within(const char *text, const char *longer)
{
        while (*text) {
                size_t n = strcspn(text, "\n") + (text[strcspn(text, "\n")] == '\n'), m;

                for (;; longer += m) {
                        m = strcspn(longer, "\n") + (longer[strcspn(longer, "\n")] == '\n');
                        if (m == 0)
                                return false;
                        if ((m == n || (m == n + 1 && longer[n] == '\n')) && strncmp(text, longer, n) == 0)
                                break;
                }
                text += n;
                longer += m;
        }
        return true;
}

static int keep_root(void *context, struct weir_node *root)
{
        struct weir_node **roots = context;

        for (size_t i = 0; i < 8; i++)
                if (!roots[i]) {
                        roots[i] = root;
                        return 0;
                }
        return -E2BIG;
}

static void parse(const char *text, struct weir_node *roots[8])
{
        struct weir_errs errors = { 0 };

        assert_int_equal(weir_node_read(text, strlen(text), "out", keep_root, roots, &errors), 0);
        if (errors.total > 0)
                fail_msg("%s\n%s", errors.items[0].text, text);
        weir_errs_clear(&errors);
}

static const struct weir_node *at(const struct weir_node *node, const char *path)
{
        char copy[128], *rest = copy, *part;

        (void)snprintf(copy, sizeof(copy), "%s", path);
        while (node && (part = strsep(&rest, "/"))) {
                if (part[0] >= '0' && part[0] <= '9')
                        node = (size_t)atoi(part) < node->n ? node->items[atoi(part)] : NULL;
                else
                        node = weir_node_get(node, part);
        }
        return node;
}

static void assert_text(const struct weir_node *root, const char *path, const char *wanted)
{
        const struct weir_node *node = at(root, path);

        if (!node || !weir_streq(node->text, wanted))
                fail_msg("%s is %s, not %s", path, node ? node->text : "absent", wanted);
}

static bool drops(const struct weir_node *container, const char *name)
{
        const struct weir_node *list = at(container, "securityContext/capabilities/drop");

        for (size_t i = 0; list && i < list->n; i++)
                if (weir_streq(list->items[i]->text, name) || weir_streq(list->items[i]->text, "ALL"))
                        return true;
        return false;
}

static void assert_injected(const struct weir_node *spec)
{
        const struct weir_node *containers = at(spec, "containers"), *init = at(spec, "initContainers");

        assert_text(spec, "initContainers/0/name", "weir-init");
        assert_text(spec, "initContainers/1/name", "weir-proxy");
        assert_text(spec, "initContainers/1/restartPolicy", "Always");
        assert_text(spec, "initContainers/1/startupProbe/httpGet/path", "/ready");
        assert_text(spec, "initContainers/0/securityContext/capabilities/add/0", "NET_ADMIN");
        assert_text(spec, "volumes/0/name", "weir-token");
        assert_text(spec, "volumes/1/name", "weir-state");
        for (size_t i = 0; i < containers->n; i++)
                assert_true(drops(containers->items[i], "NET_RAW") && drops(containers->items[i], "SETUID") &&
                            drops(containers->items[i], "SETGID"));
        for (size_t i = 2; i < init->n; i++)
                assert_true(drops(init->items[i], "NET_RAW"));
}

static void check(const char *text, const char *spec_path, bool lines)
{
        struct result once = inject(text), twice;
        struct weir_node *roots[8] = { NULL };

        if (once.errors.total > 0)
                fail_msg("%s\n%s", once.errors.items[0].text, text);
        if (!is_within(text, once.out.data) || (lines && !lines_within(text, once.out.data)))
                fail_msg("bytes were changed:\n%s\n---\n%s", text, once.out.data);
        parse(once.out.data, roots);
        assert_injected(at(roots[0], spec_path));
        twice = inject(once.out.data);
        assert_int_equal(twice.errors.total, 0);
        assert_string_equal(once.out.data, twice.out.data);
        for (size_t i = 0; i < 8; i++)
                weir_node_free(roots[i]);
        result_clear(&once);
        result_clear(&twice);
}

#define POD "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n"

static void styles(void **state)
{
        static const char *const pods[] = {
                POD "spec:\n  containers:\n  - name: a\n    image: b\n",
                POD "spec:\n  containers:\n  - name: a\n    image: b", /* no end of the last line */
                POD "spec:\n    containers:\n        - name: a\n          image: b\n        -\n          name: c\n",
                "# head\n" POD
                "spec: # why\n  # before\n  containers: # list\n\n  - name: a # first\n    # inside\n    "
                "image: b\n\n  # after\n  restartPolicy: Never # last\n# tail\n",
                POD "spec:\n  initContainers:\n  # one\n  - name: early\n    image: x\n  containers:\n  - name: a\n    "
                    "image: b\n  volumes:\n  - name: v\n    emptyDir: {}\n",
                POD "spec:\n  volumes: [{name: v, emptyDir: {}}]\n  initContainers: [{name: early}]\n  containers: "
                    "[{name: a, "
                    "image: b}]\n",
                POD "spec:\n  initContainers:\n  volumes:\n  containers:\n  - name: a\n",
                POD "spec:\n  containers:\n  - name: a\n    securityContext:\n      runAsUser: 1000\n",
                POD
                "spec:\n  containers:\n  - name: a\n    securityContext:\n      capabilities:\n        add:\n        - "
                "NET_BIND_SERVICE\n",
                POD "spec:\n  containers:\n  - name: a\n    securityContext:\n      capabilities:\n        drop:\n     "
                    "   - "
                    "CHOWN # why\n",
                POD
                "spec:\n  containers:\n  - name: a\n    securityContext: {capabilities: {drop: [CHOWN, net_raw]}}\n",
                POD "spec:\n  containers:\n  - name: a\n    securityContext:\n      capabilities:\n        drop:\n     "
                    "     - "
                    "ALL\n",
                POD "spec:\n  containers:\n  - args:\n    - |\n      a block\n\n      of text\n\n    - >-\n      "
                    "folded\n    "
                    "name: a\n    command: ['x', \"y\\n\"]\n  nodeName: n\n",
                POD "spec:\n  containers:\n  - name: a\n    args:\n    - |+\n      kept\n\n",
                "\xef\xbb\xbf" POD "spec:\n  containers:\n  - name: a\n",
                "apiVersion: v1\nkind: Pod\nmetadata: {name: \"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"}\nspec:\n  "
                "containers:\n  - "
                "name: a # \xc3\xbc\n    image: \xc3\xb6\n  - name: c\n",
                "apiVersion: v1\r\nkind: Pod\r\nspec:\r\n  containers:\r\n  - name: a\r\n    image: b\r\n",
        };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(pods); i++)
                check(pods[i], "spec", i != 5 && i != 6 && i != 10);
}

static void json(void **state)
{
        static const char *const pods[] = {
                "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"containers\":[{\"name\":\"a\"}]}}",
                "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Pod\",\n  \"spec\": {\n    \"containers\": [\n      {\n   "
                "     "
                "\"name\": \"a\",\n        \"securityContext\": {\"capabilities\": {\"drop\": [\"CHOWN\"]}}\n      }\n "
                "   ],\n"
                "    \"initContainers\": [],\n    \"volumes\": [{\"name\": \"v\", \"emptyDir\": {}}]\n  }\n}\n",
        };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(pods); i++)
                check(pods[i], "spec", false);
}

/* Every kind, among other documents that no byte may change in. */
static void streams(void **state)
{
        static const char other[] = "# a comment\napiVersion: v1\nkind: ConfigMap\ndata: {a: &x 1, b: *x}\n---\n";
        static const char *const kinds[][3] = {
                { "apps/v1", "Deployment", "spec/template/spec" },
                { "apps/v1beta2", "DaemonSet", "spec/template/spec" },
                { "extensions/v1beta1", "ReplicaSet", "spec/template/spec" },
                { "apps/v1beta1", "StatefulSet", "spec/template/spec" },
                { "batch/v1", "Job", "spec/template/spec" },
                { "v1", "ReplicationController", "spec/template/spec" },
        };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(kinds); i++) {
                weir_auto_free char *text =
                        weir_asprintf("apiVersion: %s\nkind: %s\nmetadata:\n  name: x\nspec:\n  template:\n    "
                                      "metadata:\n      labels: {a: "
                                      "b}\n    spec:\n      containers:\n      - name: a\n  other: true\n",
                                      kinds[i][0], kinds[i][1]);
                weir_auto_free char *stream = weir_asprintf("%s%s---\n%s", other, text, other);
                struct result r = inject(stream);

                assert_non_null(text);
                check(text, kinds[i][2], true);
                assert_int_equal(r.errors.total, 0);
                assert_true(lines_within(stream, r.out.data));
                assert_true(strncmp(r.out.data, other, strlen(other)) == 0);
                assert_string_equal(r.out.data + r.out.length - strlen(other), other);
                result_clear(&r);
        }
}

/* As tools write JSON that keep to ASCII. */
static void json_with_surrogate_pairs(void **state)
{
        static const char text[] =
                "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"a\", \"annotations\": "
                "{\"\\ud83d\\ude00\": \"\\\\ud83d \\uDBFF\\uDFFF\"}}, \"spec\": {\"containers\": [{\"name\": "
                "\"a\"}]}}";
        struct result r = inject(text);

        (void)state;
        assert_int_equal(r.errors.total, 0);
        assert_true(is_within(text, r.out.data));
        assert_non_null(strstr(r.out.data, "weir-proxy"));
        result_clear(&r);
        /* Half of one is still none. */
        r = inject("{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"\\ud83d\"}}");
        assert_int_equal(r.errors.total, 1);
        result_clear(&r);
}

static void older_pieces_are_replaced(void **state)
{
        struct weir_inject_options newer = options();
        struct result old, again, fresh;

        (void)state;
        newer.image = "weir:newer";
        old = inject(POD "spec:\n  containers:\n  - name: a\n  volumes:\n  - name: v\n");
        again = inject_with(old.out.data, &newer);
        fresh = inject_with(POD "spec:\n  containers:\n  - name: a\n  volumes:\n  - name: v\n", &newer);
        assert_string_equal(again.out.data, fresh.out.data);
        result_clear(&old);
        result_clear(&again);
        result_clear(&fresh);
}

static void refusals(void **state)
{
        static const struct {
                const char *spec, *said;
        } cases[] = {
                { "hostNetwork: true\n  containers: [{name: a}]", "shares the node's network" },
                { "hostNetwork: yes\n  containers: [{name: a}]", "shares the node's network" },
                { "\"host\\u004eetwork\": true\n  containers: [{name: a}]", "shares the node's network" },
                { "hostNetwork: false\n  hostNetwork: true\n  containers: [{name: a}]", "is here twice" },
                { "containers: [{name: a, securityContext: {runAsUser: 1337}}]", "weir-proxy's own user" },
                { "securityContext: {runAsUser: 1337}\n  containers: [{name: a}]", "weir-proxy's own user" },
                { "containers: [{name: a, securityContext: {runAsUser: 0x539}}]", "plain digits" },
                { "containers: [{name: a, securityContext: {runAsUser: 1.337e3}}]", "plain digits" },
                { "containers: [{name: a, securityContext: {privileged: true}}]", "privileged" },
                { "containers: [{name: a, securityContext: {capabilities: {add: [NET_RAW]}}}]", "asks for NET_RAW" },
                { "containers: [{name: a, securityContext: {capabilities: {add: [cap_net_admin]}}}]",
                  "asks for NET_ADMIN" },
                { "containers: [{name: a, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]",
                  "asks for SYS_ADMIN" },
                { "containers: [{name: a, securityContext: {capabilities: {add: [ALL]}}}]", "asks for ALL" },
                { "containers: [{name: a, securityContext: {capabilities: {add: [SETUID]}}}]", "asks for SETUID" },
                { "shareProcessNamespace: true\n  containers: [{name: a, securityContext: {capabilities: {add: "
                  "[SYS_PTRACE]}}}]",
                  "reaches into weir-proxy" },
                { "containers: [{name: a}]\n  initContainers: [{name: b, securityContext: {privileged: true}}]",
                  "privileged" },
                { "containers: [{name: weir-proxy}]", "Weir's own" },
                { "containers: [{name: a, volumeMounts: [{name: weir-state, mountPath: /x}]}]", "weir-proxy's own" },
                { "containers: [&c {name: a}, *c]", "an alias in a pod" },
                { "containers: [{<<: {privileged: true}, name: a}]", "a merge in a pod" },
                { "containers: []", "has no containers" },
                { "dnsPolicy: None\n  dnsConfig: {nameservers: [203.0.113.66]}\n  containers: [{name: a}]",
                  "is a way out" },
                { "os: {name: windows}\n  containers: [{name: a}]", "Weir is for Linux" },
        };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(cases); i++) {
                weir_auto_free char *text = weir_asprintf(POD "spec:\n  %s\n", cases[i].spec);
                struct result r = inject(text);

                if (r.errors.total != 1 || !strstr(r.errors.items[0].text, cases[i].said) || r.errors.items[0].line < 6)
                        fail_msg("%s: %s", cases[i].spec, r.errors.total ? r.errors.items[0].text : "taken");
                result_clear(&r);
        }
}

static void annotations_of_a_pod_do_not_open_it(void **state)
{
        static const char *const doors[] = {
                "traffic.sidecar.istio.io/excludeOutboundIPRanges: 0.0.0.0/0",
                "traffic.sidecar.istio.io/includeOutboundIPRanges: 10.0.0.0/8",
                "traffic.sidecar.istio.io/includeOutboundIPRanges: ''",
                "traffic.sidecar.istio.io/excludeOutboundPorts: '443'",
                "sidecar.istio.io/interceptionMode: NONE",
        };
        struct weir_inject_options allow = options();
        struct result plain = inject(POD "spec:\n  containers:\n  - name: a\n");
        const char *pieces = strstr(plain.out.data, "initContainers:");

        (void)state;
        allow.allow_exclusions = true;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(doors); i++) {
                weir_auto_free char *text =
                        weir_asprintf(POD "  annotations:\n    %s\nspec:\n  containers:\n  - name: a\n", doors[i]);
                struct result closed = inject(text), opened = inject_with(text, &allow);

                assert_string_equal(strstr(closed.out.data, "initContainers:"), pieces);
                assert_int_equal(closed.notes.n, 1);
                assert_non_null(strstr(closed.notes.items[0], "--allow-exclusions"));
                assert_string_not_equal(strstr(opened.out.data, "initContainers:"), pieces);
                result_clear(&closed);
                result_clear(&opened);
        }
        result_clear(&plain);
}

static void what_is_left_alone(void **state)
{
        static const struct {
                const char *text, *said;
        } cases[] = {
                { "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec:\n  template:\n    metadata: "
                  "{annotations: "
                  "{sidecar.istio.io/inject: \"false\"}}\n    spec: {hostNetwork: true, containers: [{name: a}]}\n",
                  "===> Skipping injection because Deployment \"x\" has sidecar injection disabled" },
                { "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: kube-system}\nspec: {containers: [{name: "
                  "a}]}\n",
                  "is in namespace kube-system" },
                { "apiVersion: apps/v9\nkind: Deployment\nmetadata: {name: x}\nspec: {}\n", "is left as it is" },
                { "apiVersion: v1\nkind: Namespace\nmetadata: {name: n, labels: {pod-security.kubernetes.io/enforce: "
                  "restricted}}\n",
                  "refuses NET_ADMIN" },
        };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(cases); i++) {
                struct result r = inject(cases[i].text);

                assert_int_equal(r.errors.total, 0);
                assert_string_equal(r.out.data, cases[i].text);
                assert_int_equal(r.notes.n, 1);
                if (!strstr(r.notes.items[0], cases[i].said))
                        fail_msg("%s", r.notes.items[0]);
                result_clear(&r);
        }
}

/* Cut at every byte, and with every byte changed: an error or a text, never a crash. */
static void rubbish(void **state)
{
        static const char pod[] =
                POD "spec:\n  initContainers: [{name: e}]\n  containers:\n  - name: a\n    securityContext: "
                    "{capabilities: {drop: [X]}}\n";
        char text[sizeof(pod)];

        (void)state;
        for (size_t i = 0; i < sizeof(pod) - 1; i++)
                for (unsigned change = 0; change < 8; change++) {
                        static const char bytes[] = { '\0', '{', '*', '&', ':', '\n', '-', (char)0xff };
                        struct weir_inject_options o = options();
                        struct result r = { 0 };
                        size_t n = change ? sizeof(pod) - 1 : i;

                        memcpy(text, pod, sizeof(pod));
                        if (change)
                                text[i] = bytes[change];
                        assert_int_equal(weir_inject(text, n, "x", &o, &r.out, &r.errors, &r.notes), 0);
                        result_clear(&r);
                }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(styles),
                cmocka_unit_test(json),
                cmocka_unit_test(json_with_surrogate_pairs),
                cmocka_unit_test(streams),
                cmocka_unit_test(older_pieces_are_replaced),
                cmocka_unit_test(refusals),
                cmocka_unit_test(annotations_of_a_pod_do_not_open_it),
                cmocka_unit_test(what_is_left_alone),
                cmocka_unit_test(rubbish),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
