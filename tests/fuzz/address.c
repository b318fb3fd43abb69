/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses and prefixes as text, against inet_pton(3); and the host's resolv.conf. */
#include "fuzz.h"

#include <arpa/inet.h>

#include "base/addr.h"
#include "base/strutil.h"
#include "dns/resolver.h"

static void check_address(const char *text)
{
        struct weir_addr addr, again;
        char formatted[WEIR_ADDR_STRLEN];
        uint8_t theirs[16] = { [10] = 0xff, 0xff };
        bool v6 = strchr(text, ':') != NULL;
        bool right = v6 ? inet_pton(AF_INET6, text, theirs) == 1 : inet_pton(AF_INET, text, theirs + 12) == 1;

        CHECK((weir_addr_parse(text, &addr) == 0) == right);
        if (!right)
                return;
        CHECK(memcmp(addr.bytes, theirs, 16) == 0);
        CHECK(weir_addr_parse(weir_addr_format(&addr, formatted), &again) == 0 && weir_addr_equal(&addr, &again));
}

static void check_prefix(const char *text)
{
        struct weir_prefix prefix, again;
        char formatted[WEIR_PREFIX_STRLEN];
        bool host_bits;

        if (weir_prefix_parse(text, &prefix, &host_bits) < 0)
                return;
        CHECK(prefix.bits <= 128 && weir_prefix_contains(&prefix, &prefix.addr));
        for (unsigned i = prefix.bits; i < 128; i++)
                CHECK(weir_addr_bit(&prefix.addr, i) == 0);
        CHECK(weir_prefix_parse(weir_prefix_format(&prefix, formatted), &again, &host_bits) == 0 && !host_bits);
        CHECK(again.bits == prefix.bits && weir_addr_equal(&again.addr, &prefix.addr));
        CHECK(weir_prefix_covers(&prefix, &again) && weir_prefix_covers(&again, &prefix));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        char *exact = exact_copy(bytes, n), *text = malloc(n + 1);
        struct weir_addr found[3];

        CHECK(text);
        if (n > 0)
                memcpy(text, bytes, n);
        text[n] = '\0';
        check_address(text);
        check_prefix(text);
        CHECK(weir_resolver_read_conf(exact, n, found, 3) <= 3);
        free(text);
        free(exact);
        return 0;
}
