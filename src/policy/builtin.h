/* SPDX-License-Identifier: Apache-2.0 */
/* What no broad rule opens: loopback, link-local, cloud metadata, the host itself, and IPv4 hidden inside IPv6. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/addr.h"
#include "base/reason.h"

struct weir_builtin {
        const char *prefix;
        enum weir_reason reason;
        const char *words;
};

/* Every built-in range; ends with a row without a prefix. */
extern const struct weir_builtin weir_builtins[];

/* The ranges parsed once, and the host's own addresses; part of a snapshot. */
struct weir_builtin_set {
        struct weir_prefix ranges[16];
        enum weir_reason reasons[16];
        size_t n_ranges;
        struct weir_prefix embeddings[6];
        struct weir_addr *self; /* sorted; owned */
        size_t n_self;
};

WEIR_MUST int weir_builtin_set_init(struct weir_builtin_set *set, const struct weir_addr *self, size_t n_self);
void weir_builtin_set_clear(struct weir_builtin_set *set);

/* 0.0.0.0 is 127.0.0.1 and :: is ::1, as the kernel connects them. */
void weir_addr_canonical(struct weir_addr *addr);

/**
 * weir_builtin_least_bits() - how long a rule's prefix must be to open @addr
 * @ret_reason: what to say if no rule is that long; UNKNOWN where nothing built in stands in the way
 *
 * Return: bits of the 128, 0 if any prefix will do
 */
unsigned weir_builtin_least_bits(const struct weir_builtin_set *set, const struct weir_addr *addr,
                                 enum weir_reason *ret_reason);

/* Whether @addr is an IPv6 form (NAT64, 6to4, Teredo, IPv4-compatible) of an IPv4 address that is built in. */
bool weir_builtin_embedded(const struct weir_builtin_set *set, const struct weir_addr *addr);
