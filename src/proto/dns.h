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

enum weir_dns_rcode {
        WEIR_DNS_NOERROR = 0,
        WEIR_DNS_FORMERR = 1,
        WEIR_DNS_SERVFAIL = 2,
        WEIR_DNS_NXDOMAIN = 3,
        WEIR_DNS_NOTIMP = 4,
        WEIR_DNS_REFUSED = 5
};
enum weir_dns_type {
        WEIR_DNS_A = 1,
        WEIR_DNS_NS = 2,
        WEIR_DNS_CNAME = 5,
        WEIR_DNS_SOA = 6,
        WEIR_DNS_PTR = 12,
        WEIR_DNS_MX = 15,
        WEIR_DNS_TXT = 16,
        WEIR_DNS_AAAA = 28,
        WEIR_DNS_SRV = 33,
        WEIR_DNS_OPT = 41,
        WEIR_DNS_SVCB = 64,
        WEIR_DNS_HTTPS = 65,
        WEIR_DNS_ANY = 255
};

/* A query with exactly one question, opcode QUERY, class IN. */
struct weir_dns_query {
        uint16_t id;
        bool recursion_desired;
        char name[WEIR_DNS_NAME_MAX]; /* lower case, no trailing dot ("" is the root); bytes outside LDH and '_' as \DDD
                                       */
        uint16_t type;
        size_t question_end;                    /* offset behind the question: what a reply copies from */
        uint16_t udp_size;                      /* from EDNS, at least 512; 512 without */
        bool edns;                              /* an OPT record was there: replies carry one too, RFC 6891 6.1.1 */
        bool dnssec_ok;                         /* DO of the OPT record */
        bool checking_disabled, authentic_data; /* CD and AD of the header, RFC 4035 */
};

#define WEIR_DNS_HEADER 12 /* bytes of the fixed header */
/* The largest query weir_dns_write_query() makes: header, name, type and class, OPT. */
#define WEIR_DNS_QUERY_MAX (WEIR_DNS_HEADER + 255 + 4 + 11)
#define WEIR_DNS_UDP_SIZE 1232 /* what fits any path unfragmented; offered upstream */

/**
 * weir_dns_parse_query() - a whole message from a client
 * @ret_rcode: on FAIL, what to answer with: FORMERR or NOTIMP; NOERROR means do not answer at all (a response, too
 * short)
 *
 * Parsing stops at anything malformed: compression in the question, trailing bytes, a second question, a name that does
 * not fit WEIR_DNS_NAME_MAX once escaped (FORMERR). Another opcode, or a class other than IN: NOTIMP. Return: PASS or
 * FAIL (a datagram is whole; TCP callers frame first)
 */
enum weir_match weir_dns_parse_query(const uint8_t *bytes, size_t n, struct weir_dns_query *ret_query,
                                     enum weir_dns_rcode *ret_rcode);

/**
 * weir_dns_check_reply() - whether @bytes answer @query: QR set, same id, same single question (case-insensitive),
 * well-formed throughout
 * @ret_truncated: TC bit. What follows the question of a truncated reply is cut anywhere and not looked at: never pass
 * it on
 */
enum weir_match weir_dns_check_reply(const uint8_t *bytes, size_t n, const struct weir_dns_query *query,
                                     bool *ret_truncated);

/*
 * A reply without records to @query_bytes: header and question, @rcode. Returns its length; 0 if @n holds no header or
 * @room is short.
 * @question_end of WEIR_DNS_HEADER or less leaves the question out (the query could not be parsed).
 */
size_t weir_dns_write_error(const uint8_t *query_bytes, size_t n, size_t question_end, enum weir_dns_rcode rcode,
                            bool truncated, uint8_t *out, size_t room);

/* Appends an OPT record to the @length bytes of a message in @out that has none. Returns the new length; @length if
 * @room is short. */
size_t weir_dns_write_opt(uint8_t *out, size_t length, size_t room, uint16_t udp_size, bool dnssec_ok);

/* A reply with one A or AAAA record of @ttl seconds for the question. Returns its length, 0 if @room is short. */
size_t weir_dns_write_address(const uint8_t *query_bytes, size_t n, size_t question_end, const struct weir_addr *addr,
                              uint32_t ttl, uint8_t *out, size_t room);

/**
 * weir_dns_write_query() - the query that goes upstream in place of the client's
 *
 * Written anew from what was understood, the name in lower case, so that nothing the workload put between the lines
 * (EDNS options, reserved bits, spelling) leaves. The id is @query->id; recursion is desired; OPT only where the client
 * had one. Return: its length; 0 if @room is short of WEIR_DNS_QUERY_MAX
 */
size_t weir_dns_write_query(const uint8_t *query_bytes, size_t n, const struct weir_dns_query *query, uint8_t *out,
                            size_t room);

/* Turns an upstream's checked reply into the client's, in place: the client's id, and its question as it spelt it. */
void weir_dns_restore(uint8_t *reply, size_t n, const uint8_t *query_bytes, size_t question_end);

/* RCODE of a message; SERVFAIL if it holds no header. */
enum weir_dns_rcode weir_dns_rcode(const uint8_t *bytes, size_t n);
