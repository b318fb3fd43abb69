/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resources to policy, against the reference matcher. The input decides what the resources say and what is asked; they
 * are written as YAML, so the way is the whole one: read, validate, compile, match, explain.
 */
#include "fuzz.h"

#include "../unit/policy/reference.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"

#define RESOURCES_MAX 6
#define PICK(feed, list) ((list)[feed_below(feed, WEIR_ARRAY_SIZE(list))])

static void feed_address(struct weir_cursor *feed, struct weir_addr *ret)
{
        static const char *const known[] = {
                "127.0.0.1",
                "169.254.169.254",
                "100.100.100.200",
                "168.63.129.16",
                "192.0.0.192",
                "0.0.0.0",
                "::1",
                "::",
                "fe80::1",
                "fd00:ec2::254",
                "10.0.0.0",
                "10.255.255.255",
                "fd00:ec2::23",
                "fd20:ce::254",
                "64:ff9b::7f00:1",
                "64:ff9b::a9fe:a9fe",
                "255.255.255.255",
                "2002:7f00:1::",
                "2001::5601:5601",
                "::127.0.0.1",
                "64:ff9b:1::7f00:1",
                "2001:db8::1",
        };
        uint32_t kind = feed_below(feed, 4);

        if (kind == 0) {
                CHECK(weir_addr_parse(PICK(feed, known), ret) == 0);
                return;
        }
        for (size_t i = 0; i < 16; i++)
                ret->bytes[i] = kind == 3 || i >= 12 ? weir_cursor_u8(feed) : 0;
        if (kind < 3)
                ret->bytes[10] = ret->bytes[11] = 0xff;
}

static void write_block(struct weir_cursor *feed, struct weir_buf *yaml, const char *before)
{
        struct weir_addr addr;
        char text[WEIR_ADDR_STRLEN];
        bool bare = feed_below(feed, 3) == 0;
        uint32_t bits;

        feed_address(feed, &addr);
        bits = weir_addr_is_v4(&addr) ? feed_below(feed, 33) : feed_below(feed, 129);
        weir_buf_printf(yaml, "%s'%s", before, weir_addr_format(&addr, text));
        if (!bare)
                weir_buf_printf(yaml, "/%u", bits);
        weir_buf_puts(yaml, "'\n");
}

static void write_ports(struct weir_cursor *feed, struct weir_buf *yaml, bool new_kind)
{
        static const char *const protocols[] = { "TCP", "MONGO", "REDIS", "HTTPS", "HTTP", "UDP", "MYSQL", "TLS" };
        uint32_t n = 1 + feed_below(feed, 3);

        weir_buf_puts(yaml, "  ports:\n");
        for (uint32_t i = 0; i < n; i++) {
                weir_buf_printf(yaml, "  - number: %u\n    name: p%u\n    protocol: %s\n",
                                440 + 2 * i + feed_below(feed, 2), i, PICK(feed, protocols));
                if (new_kind && feed_below(feed, 4) == 1)
                        weir_buf_printf(yaml, "    targetPort: %u\n", 9000 + i);
        }
}

static void write_endpoints(struct weir_cursor *feed, struct weir_buf *yaml)
{
        uint32_t n = 1 + feed_below(feed, 3);

        weir_buf_puts(yaml, "  endpoints:\n");
        for (uint32_t i = 0; i < n; i++) {
                struct weir_addr addr;
                char text[WEIR_ADDR_STRLEN];

                feed_address(feed, &addr);
                weir_buf_printf(yaml, "  - address: '%s'\n", weir_addr_format(&addr, text));
                if (feed_below(feed, 2))
                        weir_buf_printf(yaml, "    ports: {p%u: %u}\n", feed_below(feed, 3), 7000 + i);
        }
}

static void write_resource(struct weir_cursor *feed, struct weir_buf *yaml, uint32_t i)
{
        static const char *const namespaces[] = { "default", "other", "weir-system", "istio-system" };
        static const char *const exports[] = { ".", "*", "default", "other", "~" };
        static const char *const resolutions[] = { "NONE", "NONE", "STATIC", "DNS" };
        bool new_kind = feed_below(feed, 2);
        const char *resolution = PICK(feed, resolutions);
        uint32_t n = 1 + feed_below(feed, 4);

        weir_buf_printf(yaml, "---\nkind: %s\nmetadata:\n  name: r%u\n", new_kind ? "ServiceEntry" : "ExternalService",
                        (i * 5 + 3) % RESOURCES_MAX);
        if (feed_below(feed, 3))
                weir_buf_printf(yaml, "  namespace: %s\n", PICK(feed, namespaces));
        weir_buf_puts(yaml, "spec:\n  hosts:\n");
        if (new_kind)
                weir_buf_puts(yaml, "  - a.example\n  addresses:\n");
        while (n-- > 0)
                write_block(feed, yaml, "  - ");
        write_ports(feed, yaml, new_kind);
        weir_buf_printf(yaml, "  %s: %s\n", new_kind ? "resolution" : "discovery", resolution);
        if (weir_streq(resolution, "STATIC"))
                write_endpoints(feed, yaml);
        if (new_kind && feed_below(feed, 3) == 1)
                weir_buf_printf(yaml, "  exportTo: ['%s']\n", PICK(feed, exports));
        if (new_kind && feed_below(feed, 8) == 1)
                weir_buf_puts(yaml, "  workloadSelector: {labels: {a: b}}\n");
}

/* Any address, or the first or last of a block, or one off it. */
static void feed_question(struct weir_cursor *feed, const struct weir_resources *list, struct weir_query *ret)
{
        const struct weir_resource *r = list->items[feed_below(feed, (uint32_t)list->n)];
        size_t n = r->n_hosts && r->kind == WEIR_KIND_EXTERNAL_SERVICE ? r->n_hosts : r->n_addresses;
        const char *const *blocks = r->kind == WEIR_KIND_EXTERNAL_SERVICE ? r->hosts : r->addresses;
        uint32_t where = feed_below(feed, 5);
        struct weir_prefix prefix;
        int carry = (int)(where % 3) - 1;

        *ret = (struct weir_query){ .protocol = feed_below(feed, 16) ? WEIR_IP_TCP : WEIR_IP_UDP,
                                    .port = (uint16_t)(439 + feed_below(feed, 8)),
                                    .turn = feed_below(feed, 7) };
        if (where == 0 || n == 0 || weir_prefix_parse(blocks[feed_below(feed, (uint32_t)n)], &prefix, NULL) < 0) {
                feed_address(feed, &ret->addr);
                return;
        }
        for (unsigned i = prefix.bits; where > 2 && i < 128; i++)
                prefix.addr.bytes[i / 8] |= (uint8_t)(0x80 >> i % 8);
        for (int i = 15; i >= 0 && carry != 0; i--) {
                int sum = prefix.addr.bytes[i] + carry;

                prefix.addr.bytes[i] = (uint8_t)sum;
                carry = sum > 255 ? 1 : sum < 0 ? -1 : 0;
        }
        ret->addr = prefix.addr;
}

static void check_answer(const struct weir_policy *policy, const struct weir_resources *list,
                         const struct weir_policy_options *options, const struct weir_query *query)
{
        struct weir_buf text = { 0 };
        struct weir_decision ours, theirs;
        const char *resource;
        char nearest[256];

        weir_policy_match(policy, query, &ours);
        reference_match(list, options, query, FAULT_NONE, &theirs, &resource);
        CHECK(ours.verdict == theirs.verdict);
        if (ours.verdict == WEIR_VERDICT_ALLOW) {
                CHECK(weir_addr_equal(&ours.addr, &theirs.addr) && ours.port == theirs.port);
                CHECK(ours.rule && strstr(ours.rule->resource, resource));
        } else {
                CHECK(!ours.rule);
        }
        weir_policy_explain(policy, query, &text);
        CHECK(text.error == 0 && weir_starts_with(text.data, ours.verdict == WEIR_VERDICT_ALLOW ? "allow" : "deny"));
        weir_policy_nearest_text(policy, query, nearest, sizeof(nearest));
        CHECK(strlen(nearest) < sizeof(nearest));
        weir_buf_clear(&text);
}

static struct weir_policy *compile(const struct weir_resources *list, const struct weir_policy_options *options)
{
        struct weir_policy *policy = NULL;
        struct weir_err err = { 0 };

        CHECK(weir_policy_compile(list, options, &policy, &err) == 0);
        return policy;
}

/* The order in which resources were found must not matter. */
static void check_order(struct weir_resources *list, const struct weir_policy_options *options,
                        const struct weir_policy *policy)
{
        struct weir_policy *other;

        for (size_t i = 0; i < list->n / 2; i++) {
                struct weir_resource *swap = list->items[i];

                list->items[i] = list->items[list->n - 1 - i];
                list->items[list->n - 1 - i] = swap;
        }
        other = compile(list, options);
        CHECK(weir_streq(weir_policy_digest(policy), weir_policy_digest(other)));
        weir_policy_unref(other);
}

static void check_world(struct weir_cursor *feed, struct weir_resources *list)
{
        static const char *const namespaces[] = { "default", "other", "weir-system", NULL };
        struct weir_addr self[2];
        struct weir_policy_options options = { .self = self };
        struct weir_policy *policy;
        struct weir_buf text = { 0 };

        feed_address(feed, &self[0]);
        feed_address(feed, &self[1]);
        options.n_self = feed_below(feed, 3);
        options.namespace_ = PICK(feed, namespaces);
        options.widen_export_to = feed_below(feed, 4) == 1;
        policy = compile(list, &options);
        check_order(list, &options, policy);
        for (unsigned i = 0; i < 64 && weir_cursor_left(feed) > 0; i++) {
                struct weir_query query;

                feed_question(feed, list, &query);
                check_answer(policy, list, &options, &query);
        }
        weir_policy_explain_all(policy, WEIR_DNS_AUTO, &text);
        CHECK(text.error == 0);
        weir_buf_clear(&text);
        weir_policy_unref(policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        struct weir_cursor feed = weir_cursor(bytes, n);
        uint32_t resources = 1 + feed_below(&feed, RESOURCES_MAX);
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        struct weir_buf yaml = { 0 };

        for (uint32_t i = 0; i < resources; i++)
                write_resource(&feed, &yaml, i);
        CHECK(yaml.error == 0);
        /* What is refused is left out; what is taken must be enforced as it says. */
        (void)!weir_resources_read(yaml.data, yaml.length, "t.yaml", &list, &errors, NULL);
        if (list.n > 0)
                check_world(&feed, &list);
        weir_resources_clear(&list);
        weir_errs_clear(&errors);
        weir_buf_clear(&yaml);
        return 0;
}
