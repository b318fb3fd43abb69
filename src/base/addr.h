/* SPDX-License-Identifier: Apache-2.0 */
/*
 * IP addresses and prefixes, one form for both families: 128 bits, IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2).
 * So an IPv4-mapped IPv6 address is its IPv4 address by construction, and one decision function serves both.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/cleanup.h"

struct weir_addr {
        uint8_t bytes[16]; /* network order */
};

/* @bits counts from the top of the 128: 10.0.0.0/8 has 104. */
struct weir_prefix {
        struct weir_addr addr;
        uint8_t bits;
};

#define WEIR_ADDR_STRLEN 46     /* INET6_ADDRSTRLEN */
#define WEIR_PREFIX_STRLEN 50   /* with "/128" */
#define WEIR_ENDPOINT_STRLEN 56 /* "[addr]:port" */

bool weir_addr_is_v4(const struct weir_addr *addr);
bool weir_addr_equal(const struct weir_addr *a, const struct weir_addr *b);

/* Strict textual forms only: dotted quad without leading zeros, or RFC 4291. No zone. -EINVAL otherwise. */
WEIR_MUST int weir_addr_parse(const char *text, struct weir_addr *ret_addr);
/* Writes at most WEIR_ADDR_STRLEN bytes; returns @buf. IPv4 as dotted quad, IPv6 by RFC 5952. */
char *weir_addr_format(const struct weir_addr *addr, char buf[static WEIR_ADDR_STRLEN]);
/* "a.b.c.d:port" or "[v6]:port"; returns @buf. */
char *weir_endpoint_format(const struct weir_addr *addr, uint16_t port, char buf[static WEIR_ENDPOINT_STRLEN]);

/* AF_INET or AF_INET6 only, else -EAFNOSUPPORT. Port in host order. The scope id is dropped. */
WEIR_MUST int weir_addr_from_sockaddr(const struct sockaddr *sa, socklen_t length, struct weir_addr *ret_addr,
                                      uint16_t *ret_port);
/* AF_INET for IPv4, else AF_INET6. Returns the length. */
socklen_t weir_addr_to_sockaddr(const struct weir_addr *addr, uint16_t port, struct sockaddr_storage *ret_sa);

/**
 * weir_prefix_parse() - "ADDRESS" or "ADDRESS/BITS"
 * @ret_host_bits: whether bits below the prefix were set (they are masked); may be NULL
 *
 * Return: 0; -EINVAL
 */
WEIR_MUST int weir_prefix_parse(const char *text, struct weir_prefix *ret_prefix, bool *ret_host_bits);
char *weir_prefix_format(const struct weir_prefix *prefix, char buf[static WEIR_PREFIX_STRLEN]);
bool weir_prefix_contains(const struct weir_prefix *prefix, const struct weir_addr *addr);
/* Whether every address of @inner is in @outer. */
bool weir_prefix_covers(const struct weir_prefix *outer, const struct weir_prefix *inner);
/* Bit @i counted from the top, 0..127. */
static inline unsigned weir_addr_bit(const struct weir_addr *addr, unsigned i)
{
        return (addr->bytes[i / 8] >> (7 - i % 8)) & 1u;
}
