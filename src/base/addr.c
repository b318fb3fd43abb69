/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and prefixes in one 128-bit form. */
#include "base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/strutil.h"

static const uint8_t v4_mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

bool weir_addr_is_v4(const struct weir_addr *addr)
{
        return memcmp(addr->bytes, v4_mapped, sizeof(v4_mapped)) == 0;
}

bool weir_addr_equal(const struct weir_addr *a, const struct weir_addr *b)
{
        return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static void from_v4(const void *bytes, struct weir_addr *ret)
{
        memcpy(ret->bytes, v4_mapped, sizeof(v4_mapped));
        memcpy(ret->bytes + 12, bytes, 4);
}

int weir_addr_parse(const char *text, struct weir_addr *ret_addr)
{
        uint8_t bytes[16];

        /* inet_pton(3) takes neither leading zeros nor short forms of IPv4, nor zones. */
        if (inet_pton(AF_INET, text, bytes) == 1) {
                from_v4(bytes, ret_addr);
                return 0;
        }
        if (inet_pton(AF_INET6, text, bytes) != 1)
                return -EINVAL;
        memcpy(ret_addr->bytes, bytes, sizeof(bytes));
        return 0;
}

char *weir_addr_format(const struct weir_addr *addr, char buf[static WEIR_ADDR_STRLEN])
{
        const char *done = weir_addr_is_v4(addr) ? inet_ntop(AF_INET, addr->bytes + 12, buf, WEIR_ADDR_STRLEN) :
                                                   inet_ntop(AF_INET6, addr->bytes, buf, WEIR_ADDR_STRLEN);

        if (!done)
                buf[0] = '\0'; /* cannot happen: both forms fit */
        return buf;
}

char *weir_endpoint_format(const struct weir_addr *addr, uint16_t port, char buf[static WEIR_ENDPOINT_STRLEN])
{
        char text[WEIR_ADDR_STRLEN];

        (void)snprintf(buf, WEIR_ENDPOINT_STRLEN, weir_addr_is_v4(addr) ? "%s:%u" : "[%s]:%u",
                       weir_addr_format(addr, text), port);
        return buf;
}

int weir_addr_from_sockaddr(const struct sockaddr *sa, socklen_t length, struct weir_addr *ret_addr, uint16_t *ret_port)
{
        struct sockaddr_in in;
        struct sockaddr_in6 in6;

        if (length >= sizeof(in) && sa->sa_family == AF_INET) {
                memcpy(&in, sa, sizeof(in));
                from_v4(&in.sin_addr, ret_addr);
                *ret_port = ntohs(in.sin_port);
                return 0;
        }
        if (length >= sizeof(in6) && sa->sa_family == AF_INET6) {
                memcpy(&in6, sa, sizeof(in6));
                memcpy(ret_addr->bytes, &in6.sin6_addr, sizeof(ret_addr->bytes));
                *ret_port = ntohs(in6.sin6_port);
                return 0;
        }
        return -EAFNOSUPPORT;
}

socklen_t weir_addr_to_sockaddr(const struct weir_addr *addr, uint16_t port, struct sockaddr_storage *ret_sa)
{
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };

        memset(ret_sa, 0, sizeof(*ret_sa));
        if (weir_addr_is_v4(addr)) {
                memcpy(&in.sin_addr, addr->bytes + 12, 4);
                memcpy(ret_sa, &in, sizeof(in));
                return sizeof(in);
        }
        memcpy(&in6.sin6_addr, addr->bytes, 16);
        memcpy(ret_sa, &in6, sizeof(in6));
        return sizeof(in6);
}

/* Clears what is below @bits; says whether anything was there. */
static bool mask(struct weir_addr *addr, unsigned bits)
{
        bool cleared = false;

        for (unsigned i = 0; i < sizeof(addr->bytes); i++) {
                unsigned keep = bits > i * 8 ? bits - i * 8 : 0;
                uint8_t m = keep >= 8 ? 0xff : (uint8_t)(0xff00u >> keep);

                cleared |= (addr->bytes[i] & ~m) != 0;
                addr->bytes[i] &= m;
        }
        return cleared;
}

int weir_prefix_parse(const char *text, struct weir_prefix *ret_prefix, bool *ret_host_bits)
{
        const char *slash = strchr(text, '/');
        size_t n = slash ? (size_t)(slash - text) : strlen(text);
        char host[WEIR_ADDR_STRLEN];
        struct weir_prefix prefix;
        uint64_t bits;
        bool v4, host_bits;

        if (n >= sizeof(host))
                return -EINVAL;
        memcpy(host, text, n);
        host[n] = '\0';
        if (weir_addr_parse(host, &prefix.addr) < 0)
                return -EINVAL;
        /* ::ffff:10.0.0.0/104 counts its bits from the top already; only dotted quads count from bit 96. */
        v4 = strchr(host, ':') == NULL;
        bits = v4 ? 32 : 128;
        if (slash && weir_parse_uint(slash + 1, bits, &bits) < 0)
                return -EINVAL;
        prefix.bits = (uint8_t)(v4 ? bits + 96 : bits);
        host_bits = mask(&prefix.addr, prefix.bits);
        *ret_prefix = prefix;
        if (ret_host_bits)
                *ret_host_bits = host_bits;
        return 0;
}

char *weir_prefix_format(const struct weir_prefix *prefix, char buf[static WEIR_PREFIX_STRLEN])
{
        char text[WEIR_ADDR_STRLEN];
        bool v4 = prefix->bits >= 96 && weir_addr_is_v4(&prefix->addr);

        (void)snprintf(buf, WEIR_PREFIX_STRLEN, "%s/%u", weir_addr_format(&prefix->addr, text),
                       v4 ? prefix->bits - 96u : prefix->bits);
        return buf;
}

bool weir_prefix_contains(const struct weir_prefix *prefix, const struct weir_addr *addr)
{
        unsigned whole = prefix->bits / 8, rest = prefix->bits % 8;

        if (memcmp(prefix->addr.bytes, addr->bytes, whole) != 0)
                return false;
        return rest == 0 || ((prefix->addr.bytes[whole] ^ addr->bytes[whole]) >> (8 - rest)) == 0;
}

bool weir_prefix_covers(const struct weir_prefix *outer, const struct weir_prefix *inner)
{
        return outer->bits <= inner->bits && weir_prefix_contains(outer, &inner->addr);
}
