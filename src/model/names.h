/* SPDX-License-Identifier: Apache-2.0 */
/* Istio's checks of names, addresses and ports, with Istio's texts. Two generations: 0.7 for ExternalService, today's
 * for ServiceEntry. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

/* Which Istio is followed. */
enum weir_rules { WEIR_RULES_0_7, WEIR_RULES_TODAY };

#define WEIR_CHECK_TEXT 1024

/* Up to two complaints about one value; none is n == 0. */
struct weir_check {
        size_t n;
        char text[2][WEIR_CHECK_TEXT];
};

void weir_check_fqdn(const char *name, enum weir_rules rules, struct weir_check *ret);
/* The first label may be "*", or begin with "*" or "*-". The pattern is grouped, unlike that of Istio 0.5 to 1.1.2. */
void weir_check_wildcard_domain(const char *name, enum weir_rules rules, struct weir_check *ret);
/* "*foo.com": a star that is not a whole label. */
bool weir_is_partial_wildcard(const char *name);

void weir_check_ipv4(const char *text, struct weir_check *ret);
void weir_check_ipv4_or_cidr(const char *text, struct weir_check *ret);
void weir_check_ip_or_cidr(const char *text, struct weir_check *ret); /* both families */
void weir_check_port(int64_t number, struct weir_check *ret);
void weir_check_port_name(const char *name, enum weir_rules rules, struct weir_check *ret);
/* DNS-1123: label for namespaces, subdomain for names of resources. */
bool weir_is_dns1123_label(const char *text);
bool weir_is_dns1123_subdomain(const char *text);
/* A key and value of an endpoint's labels. */
void weir_check_tag(const char *key, const char *value, enum weir_rules rules, struct weir_check *ret);
/* A Go-quoted string, as %q prints it, into @buf; returns @buf. */
const char *weir_go_quote(const char *text, char *buf, size_t n);
