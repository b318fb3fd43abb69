/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox's packet rules, as JSON for nft, and the run of nft that loads them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct weir_err;

struct weir_nft_ports {
        uint16_t relay; /* the listeners of both families */
        uint16_t dns_udp, dns_tcp;
        uint16_t log_group; /* NFLOG */
};

/* How TCP comes to Weir's listeners: with its destination kept (their sockets are IP_TRANSPARENT), or rewritten. */
enum weir_nft_way { WEIR_NFT_TPROXY, WEIR_NFT_REDIRECT, WEIR_NFT_WAY_COUNT };
/* Where nft is looked for; NULL-terminated. */
extern const char *const weir_nft_places[];

/* The ruleset as a heap string, NULL without memory. */
char *weir_nft_ruleset(const struct weir_nft_ports *ports, enum weir_nft_way way);

/* nft while it runs. */
struct weir_nft {
        pid_t pid;
        int errors; /* its standard error */
};

/* Starts nft with @ruleset, JSON if it opens with a brace, on its standard input. Needs CAP_NET_ADMIN over the current
 * network namespace. */
WEIR_MUST int weir_nft_start(const char *ruleset, struct weir_nft *ret_nft, struct weir_err *err);
/* Waits for its end. 0; WEIR_EUNSUPPORTED with nft's own words in @err. */
WEIR_MUST int weir_nft_finish(struct weir_nft *nft, struct weir_err *err);
/* Both. */
WEIR_MUST int weir_nft_run(const char *ruleset, struct weir_err *err);
