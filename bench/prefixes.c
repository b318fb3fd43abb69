/* SPDX-License-Identifier: Apache-2.0 */
/*
 *     bench-prefixes COUNT
 *
 * What a policy of COUNT prefixes costs: reading its documents, compiling them, memory, and one decision. One JSON
 * object.
 */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "base/time.h"
#include "model/resource.h"
#include "policy/policy.h"

#define COUNT_MAX 10000000
#define PER_DOCUMENT 20000
#define QUERIES 200000
#define PORT 443

static void die(const char *what)
{
        (void)fprintf(stderr, "bench-prefixes: %s\n", what);
        exit(1);
}

/* Prefix number @i, spread over the unicast space: half are /24, half are /32. */
static uint32_t address_of(uint32_t i)
{
        uint32_t spread = i * UINT32_C(2654435761);

        return (UINT32_C(0x0b000000) + spread % UINT32_C(0x50000000)) & (i % 2 ? ~UINT32_C(0xff) : ~UINT32_C(0));
}

static void write_document(struct weir_buf *buf, unsigned from, unsigned to)
{
        weir_buf_printf(buf,
                        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: p%u\n"
                        "  namespace: default\nspec:\n  hosts:\n  - p%u.test\n  addresses:\n",
                        from, from);
        for (unsigned i = from; i < to; i++) {
                uint32_t a = address_of(i);

                weir_buf_printf(buf, "  - %u.%u.%u.%u/%u\n", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255,
                                i % 2 ? 24 : 32);
        }
        weir_buf_printf(buf, "  ports:\n  - number: %d\n    name: tcp\n    protocol: TCP\n  resolution: NONE\n", PORT);
}

static uint64_t read_all(unsigned count, struct weir_resources *resources)
{
        uint64_t took = 0;

        for (unsigned from = 0; from < count; from += PER_DOCUMENT) {
                weir_auto(buf) struct weir_buf buf = { 0 };
                struct weir_errs errors = { 0 };
                uint64_t began;

                write_document(&buf, from, from + PER_DOCUMENT < count ? from + PER_DOCUMENT : count);
                if (buf.error)
                        die("out of memory");
                began = weir_time_ns();
                if (weir_resources_read(buf.data, buf.length, "-", resources, &errors, NULL) < 0)
                        die(errors.n ? errors.items[0].text : "cannot read");
                took += weir_time_ns() - began;
                weir_errs_clear(&errors);
        }
        return took;
}

static size_t in_use(void)
{
        struct mallinfo2 info = mallinfo2();

        return info.uordblks + info.hblkhd;
}

static int compare(const void *a, const void *b)
{
        const uint64_t *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

/* Nanoseconds a decision, half of them hits: the median of batches. */
static uint64_t match(const struct weir_policy *policy, unsigned count, unsigned *ret_allowed)
{
        uint64_t batches[QUERIES / 1000];
        uint32_t at = 1;

        for (size_t b = 0; b < WEIR_ARRAY_SIZE(batches); b++) {
                uint64_t began = weir_time_ns();

                for (unsigned i = 0; i < 1000; i++) {
                        struct weir_query query = { .protocol = WEIR_IP_TCP, .port = PORT };
                        struct weir_decision decision;
                        uint32_t a;

                        at = at * UINT32_C(1664525) + UINT32_C(1013904223);
                        a = i % 2 ? address_of((at >> 8) % count) : at;
                        query.addr.bytes[10] = query.addr.bytes[11] = 0xff;
                        for (unsigned k = 0; k < 4; k++)
                                query.addr.bytes[12 + k] = (uint8_t)(a >> (24 - 8 * k));
                        weir_policy_match(policy, &query, &decision);
                        *ret_allowed += decision.verdict == WEIR_VERDICT_ALLOW;
                }
                batches[b] = (weir_time_ns() - began) / 1000;
        }
        qsort(batches, WEIR_ARRAY_SIZE(batches), sizeof(*batches), compare);
        return batches[WEIR_ARRAY_SIZE(batches) / 2];
}

int main(int argc, char **argv)
{
        struct weir_policy_options options = { .namespace_ = "default", .generation = 1 };
        struct weir_resources resources = { 0 };
        struct weir_policy *policy;
        struct weir_err err = { 0 };
        uint64_t count, read_ns, compile_ns;
        unsigned allowed = 0;
        size_t before;

        if (argc != 2 || weir_parse_uint(argv[1], COUNT_MAX, &count) < 0 || count == 0)
                die("COUNT, up to 10000000");
        before = in_use();
        read_ns = read_all((unsigned)count, &resources);
        printf("{\"count\": %" PRIu64 ", \"read_ns\": %" PRIu64 ", \"model_bytes\": %zu, ", count, read_ns,
               in_use() - before);
        before = in_use();
        compile_ns = weir_time_ns();
        if (weir_policy_compile(&resources, &options, &policy, &err) < 0)
                die(err.text);
        compile_ns = weir_time_ns() - compile_ns;
        printf("\"compile_ns\": %" PRIu64 ", \"policy_bytes\": %zu, ", compile_ns, in_use() - before);
        printf("\"match_ns\": %" PRIu64 ", ", match(policy, (unsigned)count, &allowed));
        if (allowed < QUERIES / 2)
                die("prefixes of the policy were not allowed");
        printf("\"allowed\": %u}\n", allowed);
        weir_policy_unref(policy);
        weir_resources_clear(&resources);
        return 0;
}
