/* SPDX-License-Identifier: Apache-2.0 */
/* Built-in ranges, and the forms in which an IPv4 address hides inside an IPv6 one. */
#include "policy/builtin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/gate.h"

const struct weir_builtin weir_builtins[] = {
        { "127.0.0.0/8", WEIR_REASON_BUILTIN_LOOPBACK, "loopback" },
        { "::1/128", WEIR_REASON_BUILTIN_LOOPBACK, "loopback" },
        { "169.254.0.0/16", WEIR_REASON_BUILTIN_METADATA, "link-local, cloud metadata" },
        { "fe80::/10", WEIR_REASON_BUILTIN_METADATA, "link-local" },
        { "fd00:ec2::254/128", WEIR_REASON_BUILTIN_METADATA, "metadata of AWS" },
        { "fd00:ec2::23/128", WEIR_REASON_BUILTIN_METADATA, "credentials of AWS" },
        { "fd20:ce::254/128", WEIR_REASON_BUILTIN_METADATA, "metadata of Google Cloud" },
        { "100.100.100.200/32", WEIR_REASON_BUILTIN_METADATA, "metadata of Alibaba Cloud" },
        { "168.63.129.16/32", WEIR_REASON_BUILTIN_METADATA, "host agent of Azure" },
        { "192.0.0.192/32", WEIR_REASON_BUILTIN_METADATA, "metadata of Oracle Cloud" },
        { .prefix = NULL },
};
_Static_assert(WEIR_ARRAY_SIZE(weir_builtins) <= WEIR_ARRAY_SIZE(((struct weir_builtin_set *)0)->ranges) + 1,
               "a set has room for all");

/*
 * Where the IPv4 address stands in the 16 bytes:
 *
 *   64:ff9b::/96     NAT64, RFC 6052           bytes 12..15
 *   64:ff9b:1::/48   local-use NAT64, RFC 8215 bytes 12..15 (with a /96, the usual)
 *   ::/96            IPv4-compatible, RFC 4291 bytes 12..15; not :: and ::1
 *   2002::/16        6to4, RFC 3056            bytes 2..5
 *   2001::/32        Teredo, RFC 4380          bytes 12..15, every bit inverted (client); 4..7 (server)
 */
static const struct {
        const char *prefix;
        unsigned char at, flip;
} embeddings[] = {
        { "64:ff9b::/96", 12, 0 }, { "64:ff9b:1::/48", 12, 0 }, { "::/96", 12, 0 },
        { "2002::/16", 2, 0 },     { "2001::/32", 12, 0xff },   { "2001::/32", 4, 0 },
};
_Static_assert(WEIR_ARRAY_SIZE(embeddings) == WEIR_ARRAY_SIZE(((struct weir_builtin_set *)0)->embeddings),
               "one prefix each");

static int compare(const void *a, const void *b)
{
        return memcmp(a, b, sizeof(struct weir_addr));
}

int weir_builtin_set_init(struct weir_builtin_set *set, const struct weir_addr *self, size_t n_self)
{
        *set = (struct weir_builtin_set){ 0 };
        for (const struct weir_builtin *b = weir_builtins; b->prefix; b++) {
                if (weir_prefix_parse(b->prefix, &set->ranges[set->n_ranges], NULL) < 0)
                        return -EINVAL;
                set->reasons[set->n_ranges++] = b->reason;
        }
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(embeddings); i++)
                if (weir_prefix_parse(embeddings[i].prefix, &set->embeddings[i], NULL) < 0)
                        return -EINVAL;
        if (n_self == 0)
                return 0;
        set->self = calloc(n_self, sizeof(*self));
        if (!set->self)
                return -ENOMEM;
        memcpy(set->self, self, n_self * sizeof(*self));
        set->n_self = n_self;
        qsort(set->self, n_self, sizeof(*self), compare);
        return 0;
}

void weir_builtin_set_clear(struct weir_builtin_set *set)
{
        free(set->self);
        *set = (struct weir_builtin_set){ 0 };
}

void weir_addr_canonical(struct weir_addr *addr)
{
        static const uint8_t any4[4], any6[16];

        if (weir_addr_is_v4(addr) && memcmp(addr->bytes + 12, any4, 4) == 0) {
                addr->bytes[12] = 127;
                addr->bytes[15] = 1;
        } else if (memcmp(addr->bytes, any6, 16) == 0)
                addr->bytes[15] = 1;
}

unsigned weir_builtin_least_bits(const struct weir_builtin_set *set, const struct weir_addr *addr,
                                 enum weir_reason *ret_reason)
{
        /* The host's own addresses first: most of them are in a range too (fe80::/10), and theirs is the stricter
         * demand. */
        if (set->n_self > 0 && WEIR_GATE(HOST_ADDRESSES) &&
            bsearch(addr, set->self, set->n_self, sizeof(*addr), compare)) {
                *ret_reason = WEIR_REASON_BUILTIN_SELF;
                return 128;
        }
        for (size_t i = 0; i < set->n_ranges && WEIR_GATE(BUILTIN_RANGES); i++) {
                if (!weir_prefix_contains(&set->ranges[i], addr))
                        continue;
                *ret_reason = set->reasons[i];
                return set->ranges[i].bits;
        }
        *ret_reason = WEIR_REASON_UNKNOWN;
        return 0;
}

bool weir_builtin_embedded(const struct weir_builtin_set *set, const struct weir_addr *addr)
{
        static const struct weir_addr loopback = { .bytes = { [15] = 1 } };

        if (weir_addr_is_v4(addr) || weir_addr_equal(addr, &loopback) || !WEIR_GATE(EMBEDDED_ADDRESSES))
                return false;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(embeddings); i++) {
                struct weir_addr inner = { .bytes = { [10] = 0xff, [11] = 0xff } };
                enum weir_reason reason;

                if (!weir_prefix_contains(&set->embeddings[i], addr))
                        continue;
                for (unsigned k = 0; k < 4; k++)
                        inner.bytes[12 + k] = addr->bytes[embeddings[i].at + k] ^ embeddings[i].flip;
                weir_addr_canonical(&inner);
                if (weir_builtin_least_bits(set, &inner, &reason) > 0)
                        return true;
        }
        return false;
}
