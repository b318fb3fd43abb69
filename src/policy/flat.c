/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The rules stand sorted by prefix, address then length, so a prefix comes behind all that cover it. Those that are
 * open at the current address are on a stack, the longest on top. Where a new one begins, it decides; where the top one
 * ends, the one below decides again. Each prefix has a beginning and an end, so a table has at most twice as many
 * intervals.
 *
 * Rules of one prefix and port: the first in the snapshot's order decides, as in match.c.
 */
#include "policy/flat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policy/snapshot.h"

#define PORTS 65536
/* Distinct prefixes that cover one address. */
#define DEPTH_MAX 129

struct open {
        struct weir_addr last;
        const struct weir_prefix *prefix;
        uint32_t value;
        uint8_t bits;
};

struct layout {
        struct weir_flat_interval *intervals;
        size_t n, begin; /* of all tables; of this one */
        struct open stack[DEPTH_MAX];
        size_t depth;
        uint32_t ground; /* what holds where no prefix is open */
};

static struct weir_addr last_address(const struct weir_prefix *prefix)
{
        struct weir_addr a = prefix->addr;

        for (unsigned i = prefix->bits; i < 128; i++)
                a.bytes[i / 8] |= (uint8_t)(0x80u >> (i % 8));
        return a;
}

/* The address behind @a; false behind the last one. */
static bool next_address(struct weir_addr *a)
{
        for (size_t i = sizeof(a->bytes); i-- > 0;)
                if (++a->bytes[i] != 0)
                        return true;
        return false;
}

static void put(struct layout *l, const struct weir_addr *first, uint32_t value, uint8_t bits)
{
        struct weir_flat_interval *last = l->n > l->begin ? &l->intervals[l->n - 1] : NULL;

        if (last && weir_addr_equal(&last->first, first))
                l->n--; /* it has no address of its own */
        last = l->n > l->begin ? &l->intervals[l->n - 1] : NULL;
        if (last && last->value == value && last->bits == bits)
                return;
        l->intervals[l->n++] = (struct weir_flat_interval){ .first = *first, .value = value, .bits = bits };
}

/* Ends the topmost prefix: behind it the one below decides. */
static void pop(struct layout *l)
{
        const struct open *below = l->depth > 1 ? &l->stack[l->depth - 2] : NULL;
        struct weir_addr behind = l->stack[l->depth - 1].last;

        l->depth--;
        if (next_address(&behind))
                put(l, &behind, below ? below->value : l->ground, below ? below->bits : 0);
}

static void push(struct layout *l, const struct weir_prefix *prefix, uint32_t value, uint8_t bits)
{
        while (l->depth > 0 && memcmp(&l->stack[l->depth - 1].last, &prefix->addr, sizeof(prefix->addr)) < 0)
                pop(l);
        if (l->depth > 0 && l->stack[l->depth - 1].prefix->bits == prefix->bits)
                return; /* the same prefix: the first decides */
        l->stack[l->depth++] =
                (struct open){ .last = last_address(prefix), .prefix = prefix, .value = value, .bits = bits };
        put(l, &prefix->addr, value, bits);
}

static void finish(struct layout *l)
{
        while (l->depth > 0)
                pop(l);
}

struct builtin {
        struct weir_prefix prefix;
        enum weir_reason reason;
        uint8_t least;
};

static int by_builtin(const void *left, const void *right)
{
        const struct builtin *a = left, *b = right;
        int order = memcmp(&a->prefix.addr, &b->prefix.addr, sizeof(a->prefix.addr));

        if (order == 0)
                order = (int)a->prefix.bits - (int)b->prefix.bits;
        /* The host's own address before a range of one address, as in builtin.c. */
        return order ? order : (b->reason == WEIR_REASON_BUILTIN_SELF) - (a->reason == WEIR_REASON_BUILTIN_SELF);
}

static int flatten_builtins(const struct weir_builtin_set *set, struct weir_flat *flat)
{
        size_t n = set->n_ranges + set->n_self;
        weir_auto_free struct builtin *all = calloc(n + 1, sizeof(*all));
        struct layout layout = { .intervals = calloc(2 * n + 1, sizeof(*layout.intervals)) };
        static const struct weir_addr zero;

        flat->builtins = layout.intervals;
        if (!all || !layout.intervals)
                return -ENOMEM;
        for (size_t i = 0; i < set->n_ranges; i++)
                all[i] = (struct builtin){ set->ranges[i], set->reasons[i], set->ranges[i].bits };
        for (size_t i = 0; i < set->n_self; i++)
                all[set->n_ranges + i] =
                        (struct builtin){ { .addr = set->self[i], .bits = 128 }, WEIR_REASON_BUILTIN_SELF, 128 };
        qsort(all, n, sizeof(*all), by_builtin);
        put(&layout, &zero, 0, 0);
        for (size_t i = 0; i < n; i++)
                push(&layout, &all[i].prefix, all[i].reason, all[i].least);
        finish(&layout);
        flat->n_builtins = layout.n;
        return 0;
}

/* Numbers of rules, sorted by port; those of one port stay in the order of the snapshot. @starts: PORTS + 1 of them. */
static void sort_by_port(const struct weir_policy *policy, uint32_t *order, size_t *starts)
{
        for (size_t i = 0; i < policy->n_rules; i++)
                starts[policy->rules[i].rule.port + 1]++;
        for (size_t port = 0; port < PORTS; port++)
                starts[port + 1] += starts[port];
        for (size_t i = 0; i < policy->n_rules; i++)
                order[starts[policy->rules[i].rule.port]++] = (uint32_t)i;
        /* Each start has moved to the next one's. */
        memmove(starts + 1, starts, PORTS * sizeof(*starts));
        starts[0] = 0;
}

static int flatten_rules(const struct weir_policy *policy, struct weir_flat *flat)
{
        weir_auto_free uint32_t *order = calloc(policy->n_rules + 1, sizeof(*order));
        weir_auto_free size_t *starts = calloc(PORTS + 1, sizeof(*starts));
        struct layout layout = { .ground = WEIR_FLAT_NO_RULE };

        flat->intervals = calloc(2 * policy->n_rules + 1, sizeof(*flat->intervals));
        flat->ports = calloc(policy->n_rules < PORTS ? policy->n_rules + 1 : PORTS, sizeof(*flat->ports));
        layout.intervals = flat->intervals;
        if (!order || !starts || !flat->intervals || !flat->ports)
                return -ENOMEM;
        sort_by_port(policy, order, starts);
        for (size_t port = 0; port < PORTS; port++) {
                if (starts[port] == starts[port + 1])
                        continue;
                layout.begin = layout.n;
                for (size_t i = starts[port]; i < starts[port + 1]; i++)
                        push(&layout, &policy->rules[order[i]].rule.prefix, order[i],
                             policy->rules[order[i]].rule.prefix.bits);
                finish(&layout);
                flat->ports[flat->n_ports++] = (struct weir_flat_port){ .port = (uint16_t)port,
                                                                        .first = layout.begin,
                                                                        .n = layout.n - layout.begin };
        }
        flat->n_intervals = layout.n;
        return 0;
}

int weir_policy_flatten(const struct weir_policy *policy, struct weir_flat *ret_flat)
{
        struct weir_flat flat = { 0 };
        int r;

        r = flatten_builtins(&policy->builtins, &flat);
        if (r == 0)
                r = flatten_rules(policy, &flat);
        if (r < 0) {
                weir_flat_clear(&flat);
                return r;
        }
        *ret_flat = flat;
        return 0;
}

void weir_flat_clear(struct weir_flat *flat)
{
        free(flat->builtins);
        free(flat->intervals);
        free(flat->ports);
        *flat = (struct weir_flat){ 0 };
}

size_t weir_policy_n_endpoints(const struct weir_policy *policy)
{
        return policy->n_endpoints;
}

bool weir_policy_endpoint(const struct weir_policy *policy, size_t i, struct weir_addr *ret_addr, uint16_t *ret_port)
{
        *ret_addr = policy->endpoints[i].addr;
        *ret_port = policy->endpoints[i].port;
        return !weir_builtin_embedded(&policy->builtins, ret_addr);
}

void weir_policy_rule_endpoints(const struct weir_policy *policy, size_t rule, size_t *ret_first, size_t *ret_n)
{
        *ret_first = policy->rules[rule].first_endpoint;
        *ret_n = policy->rules[rule].n_endpoints;
}
