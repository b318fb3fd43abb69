/* SPDX-License-Identifier: Apache-2.0 */
/* DNS messages, RFC 1035 and RFC 6891: bytes to structs and back. Pure: no sockets, no allocation. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/cursor.h"

#define WEIR_DNS_NAME_MAX 254 /* presentation form without trailing dot, with NUL */
#define WEIR_DNS_MESSAGE_MAX 65535

enum weir_dns_rcode { WEIR_DNS_NOERROR = 0, WEIR_DNS_FORMERR = 1, WEIR_DNS_SERVFAIL = 2, WEIR_DNS_NXDOMAIN = 3,
                      WEIR_DNS_NOTIMP = 4, WEIR_DNS_REFUSED = 5 };
enum weir_dns_type { WEIR_DNS_A = 1, WEIR_DNS_NS = 2, WEIR_DNS_CNAME = 5, WEIR_DNS_SOA = 6, WEIR_DNS_PTR = 12, WEIR_DNS_MX = 15,
                     WEIR_DNS_TXT = 16, WEIR_DNS_AAAA = 28, WEIR_DNS_SRV = 33, WEIR_DNS_OPT = 41, WEIR_DNS_SVCB = 64,
                     WEIR_DNS_HTTPS = 65, WEIR_DNS_ANY = 255 };

/* A query with exactly one question, opcode QUERY, class IN. */
struct weir_dns_query {
        uint16_t id;
        bool recursion_desired;
        char name[WEIR_DNS_NAME_MAX]; /* lower case, no trailing dot ("" is the root); bytes outside LDH and '_' as \DDD */
        uint16_t type;
        size_t question_end;          /* offset behind the question: what a reply copies from */
        uint16_t udp_size;            /* from EDNS; 512 without */
};

/**
 * weir_dns_parse_query() - a whole message from a client
 * @ret_rcode: on FAIL, what to answer with: FORMERR or NOTIMP; NOERROR means do not answer at all (a response, too short)
 *
 * Parsing stops at anything malformed: compression in the question, trailing bytes, a second question.
 * Return: PASS or FAIL (a datagram is whole; TCP callers frame first)
 */
enum weir_match weir_dns_parse_query(const uint8_t *bytes, size_t n, struct weir_dns_query *ret_query, enum weir_dns_rcode *ret_rcode);

/**
 * weir_dns_check_reply() - whether @bytes answer @query: QR set, same id, same single question (case-insensitive), well-formed throughout
 * @ret_truncated: TC bit
 */
enum weir_match weir_dns_check_reply(const uint8_t *bytes, size_t n, const struct weir_dns_query *query, bool *ret_truncated);

/* A reply without records to @query_bytes: header and question, @rcode. Returns its length; @room at least 12 + question. */
size_t weir_dns_write_error(const uint8_t *query_bytes, size_t n, size_t question_end, enum weir_dns_rcode rcode, bool truncated,
                            uint8_t *out, size_t room);
