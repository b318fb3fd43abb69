/* SPDX-License-Identifier: Apache-2.0 */
/* DNS messages: strict readers of queries and replies, and the few messages Weir writes itself. */
/*
 * Theory of operation
 *
 * A query is read whole into struct weir_dns_query or not at all; what goes upstream is written anew from that struct,
 * so the reader decides what can leave. A reply is walked record by record: every name, length and count must hold,
 * because it is handed to a resolver library inside the workload, and to be sure that it answers the one question
 * asked.
 *
 * Names are read by one function for both. Termination does not rest on the message: a compression pointer must point
 * before the run of labels it ends (RFC 1035 4.1.4, "prior occurrence"), so targets strictly fall, there are at most
 * POINTERS_MAX of them, and a name has at most 255 bytes.
 */
#include "proto/dns.h"

#include <string.h>

#define NAME_WIRE_MAX 255
#define POINTERS_MAX 127
#define CLASS_IN 1
#define TYPE_DNAME 39

#define FLAG_QR 0x8000u
#define FLAG_OPCODE 0x7800u
#define FLAG_AA 0x0400u
#define FLAG_TC 0x0200u
#define FLAG_RD 0x0100u
#define FLAG_RA 0x0080u
#define FLAG_AD 0x0020u
#define FLAG_CD 0x0010u
#define FLAG_RCODE 0x000fu
#define OPT_DO 0x8000u

/*
 * Header, RFC 1035 section 4.1.1, AD and CD by RFC 4035:
 *
 *   +--------+----+--------+----+----+----+----+---+----+----+-------+---------+---------+---------+---------+
 *   | id: 16 | QR | op: 4  | AA | TC | RD | RA | Z | AD | CD | rc: 4 | QD: 16  | AN: 16  | NS: 16  | AR: 16  |
 *   +--------+----+--------+----+----+----+----+---+----+----+-------+---------+---------+---------+---------+
 */
struct header {
        uint16_t id, flags;
        uint16_t qdcount, ancount, nscount, arcount;
};

static struct header read_header(struct weir_cursor *c)
{
        struct header h;

        h.id = weir_cursor_be16(c);
        h.flags = weir_cursor_be16(c);
        h.qdcount = weir_cursor_be16(c);
        h.ancount = weir_cursor_be16(c);
        h.nscount = weir_cursor_be16(c);
        h.arcount = weir_cursor_be16(c);
        return h;
}

/* A name being written in presentation form; @overflow once it did not fit. */
struct name {
        char text[WEIR_DNS_NAME_MAX];
        size_t length;
        bool overflow;
};

static void name_put(struct name *name, char c)
{
        if (name->length + 1 >= sizeof(name->text))
                name->overflow = true;
        else
                name->text[name->length++] = c;
}

/* LDH and '_' as they are, in lower case; all else, a dot inside a label included, as \DDD (RFC 1035 5.1). */
static void name_put_byte(struct name *name, uint8_t b)
{
        if (b >= 'A' && b <= 'Z')
                b = (uint8_t)(b - 'A' + 'a');
        if ((b >= 'a' && b <= 'z') || (b >= '0' && b <= '9') || b == '-' || b == '_') {
                name_put(name, (char)b);
                return;
        }
        name_put(name, '\\');
        name_put(name, (char)('0' + b / 100));
        name_put(name, (char)('0' + b / 10 % 10));
        name_put(name, (char)('0' + b % 10));
}

static void name_put_label(struct name *name, const uint8_t *label, size_t n)
{
        if (name->length > 0)
                name_put(name, '.');
        for (size_t i = 0; i < n; i++)
                name_put_byte(name, label[i]);
}

/*
 * Name, RFC 1035 sections 3.1 and 4.1.4: labels up to the root's empty one, or up to a pointer.
 *
 *   +----+-----------+---- - -      +----+------------+      +----------+
 *   | 00 | length: 6 | bytes        | 11 | offset: 14 |      | 00000000 |
 *   +----+-----------+---- - -      +----+------------+      +----------+
 *
 * 01 and 10 were never assigned a lasting meaning: FAIL. @c ends behind the name where it stands, not where a pointer
 * led.
 * @name may be NULL: then the name is only checked.
 */
static bool read_name(struct weir_cursor *c, bool compression, struct name *name)
{
        size_t start = weir_cursor_offset(c), back = 0, total = 1;
        unsigned pointers = 0;

        if (name)
                *name = (struct name){ .length = 0 };
        for (;;) {
                uint8_t length = weir_cursor_u8(c);
                const uint8_t *label;
                size_t target;

                if (!weir_cursor_ok(c))
                        return false;
                if (length == 0)
                        break;
                if (length <= 63) {
                        total += length + 1u;
                        label = weir_cursor_take(c, length);
                        if (!label || total > NAME_WIRE_MAX)
                                return false;
                        if (name)
                                name_put_label(name, label, length);
                        continue;
                }
                if (length < 0xc0 || !compression || ++pointers > POINTERS_MAX)
                        return false;
                target = (size_t)(length & 0x3f) << 8 | weir_cursor_u8(c);
                if (!weir_cursor_ok(c) || target >= start || target < WEIR_DNS_HEADER)
                        return false;
                if (!back)
                        back = weir_cursor_offset(c);
                start = target;
                weir_cursor_seek(c, target);
        }
        if (back)
                weir_cursor_seek(c, back);
        return true;
}

/*
 * Question, RFC 1035 section 4.1.2:
 *
 *   +------ - -+----------+-----------+
 *   | name     | type: 16 | class: 16 |
 *   +------ - -+----------+-----------+
 */
static bool read_question(struct weir_cursor *c, struct name *ret_name, uint16_t *ret_type, uint16_t *ret_class)
{
        /* A question comes first, so there is nothing before it that a pointer could mean. */
        if (!read_name(c, false, ret_name))
                return false;
        *ret_type = weir_cursor_be16(c);
        *ret_class = weir_cursor_be16(c);
        return weir_cursor_ok(c);
}

/* Options of an OPT record, RFC 6891 section 6.1.2: code: 16, length: 16, bytes; to the end. */
static bool check_options(struct weir_cursor c)
{
        while (weir_cursor_left(&c) > 0) {
                (void)weir_cursor_be16(&c);
                (void)weir_cursor_take(&c, weir_cursor_be16(&c));
                if (!weir_cursor_ok(&c))
                        return false;
        }
        return weir_cursor_ok(&c);
}

/*
 * OPT in a query, RFC 6891 section 6.1:
 *
 *   +-----------+----------+--------------+---------+------------+--------+-------+------------+-------- - -
 *   | root: 0   | type: 41 | UDP size: 16 | rcode 8 | version: 8 | DO: 1  | Z: 15 | length: 16 | options
 *   +-----------+----------+--------------+---------+------------+--------+-------+------------+-------- - -
 */
static bool read_query_opt(struct weir_cursor *c, struct weir_dns_query *query)
{
        uint8_t root = weir_cursor_u8(c);
        uint16_t type = weir_cursor_be16(c), size = weir_cursor_be16(c), version = weir_cursor_be16(c);
        uint16_t flags = weir_cursor_be16(c);
        struct weir_cursor options = weir_cursor_sub(c, weir_cursor_be16(c));

        if (!weir_cursor_ok(c) || root != 0 || type != WEIR_DNS_OPT || version != 0 || !check_options(options))
                return false;
        query->edns = true;
        query->dnssec_ok = flags & OPT_DO;
        query->udp_size = size < 512 ? 512 : size;
        return true;
}

static enum weir_match refuse(enum weir_dns_rcode rcode, enum weir_dns_rcode *ret_rcode)
{
        *ret_rcode = rcode;
        return WEIR_FAIL;
}

enum weir_match weir_dns_parse_query(const uint8_t *bytes, size_t n, struct weir_dns_query *ret_query,
                                     enum weir_dns_rcode *ret_rcode)
{
        struct weir_cursor c = weir_cursor(bytes, n);
        struct header h = read_header(&c);
        struct weir_dns_query query = { .id = h.id, .udp_size = 512 };
        struct name name;
        uint16_t class;

        /* Never answer an answer: two of us could talk for ever. */
        if (!weir_cursor_ok(&c) || (h.flags & FLAG_QR) || n > WEIR_DNS_MESSAGE_MAX)
                return refuse(WEIR_DNS_NOERROR, ret_rcode);
        if (h.flags & FLAG_OPCODE)
                return refuse(WEIR_DNS_NOTIMP, ret_rcode);
        if ((h.flags & (FLAG_AA | FLAG_TC | FLAG_RCODE)) || h.qdcount != 1 || h.ancount || h.nscount || h.arcount > 1)
                return refuse(WEIR_DNS_FORMERR, ret_rcode);
        if (!read_question(&c, &name, &query.type, &class) || name.overflow)
                return refuse(WEIR_DNS_FORMERR, ret_rcode);
        query.question_end = weir_cursor_offset(&c);
        if (h.arcount == 1 && !read_query_opt(&c, &query))
                return refuse(WEIR_DNS_FORMERR, ret_rcode);
        if (weir_cursor_left(&c) > 0)
                return refuse(WEIR_DNS_FORMERR, ret_rcode);
        if (class != CLASS_IN)
                return refuse(WEIR_DNS_NOTIMP, ret_rcode);
        query.recursion_desired = h.flags & FLAG_RD;
        query.checking_disabled = h.flags & FLAG_CD;
        query.authentic_data = h.flags & FLAG_AD;
        memcpy(query.name, name.text, sizeof(query.name));
        *ret_query = query;
        return WEIR_PASS;
}

/* Data of the types whose form is known to resolver libraries; the rest is opaque to them too (RFC 3597). */
static bool check_rdata(struct weir_cursor *c, uint16_t type, size_t end)
{
        switch (type) {
        case WEIR_DNS_A:
                return end - weir_cursor_offset(c) == 4;
        case WEIR_DNS_AAAA:
                return end - weir_cursor_offset(c) == 16;
        case WEIR_DNS_NS:
        case WEIR_DNS_CNAME:
        case WEIR_DNS_PTR:
        case TYPE_DNAME:
                return read_name(c, true, NULL) && weir_cursor_offset(c) == end;
        case WEIR_DNS_MX:
                return weir_cursor_take(c, 2) && read_name(c, true, NULL) && weir_cursor_offset(c) == end;
        case WEIR_DNS_SRV:
                return weir_cursor_take(c, 6) && read_name(c, true, NULL) && weir_cursor_offset(c) == end;
        case WEIR_DNS_SOA:
                if (!read_name(c, true, NULL)) /* MNAME, then RNAME */
                        return false;
                return read_name(c, true, NULL) && weir_cursor_take(c, 20) && weir_cursor_offset(c) == end;
        case WEIR_DNS_OPT: {
                struct weir_cursor options = weir_cursor_sub(c, end - weir_cursor_offset(c));
                return check_options(options);
        }
        default:
                return true;
        }
}

/*
 * Record, RFC 1035 section 4.1.3:
 *
 *   +------ - -+----------+-----------+---------+------------+------ - -
 *   | name     | type: 16 | class: 16 | TTL: 32 | length: 16 | data
 *   +------ - -+----------+-----------+---------+------------+------ - -
 */
static bool check_record(struct weir_cursor *c, uint16_t *ret_type)
{
        size_t begin = weir_cursor_offset(c), end;
        uint16_t type, length;

        if (!read_name(c, true, NULL))
                return false;
        /* OPT belongs to the root and nobody else. */
        end = weir_cursor_offset(c);
        type = weir_cursor_be16(c);
        (void)weir_cursor_be16(c);
        (void)weir_cursor_be32(c);
        length = weir_cursor_be16(c);
        if (length > weir_cursor_left(c) || !weir_cursor_ok(c) || (type == WEIR_DNS_OPT && end != begin + 1))
                return false;
        end = weir_cursor_offset(c) + length;
        if (!check_rdata(c, type, end))
                return false;
        weir_cursor_seek(c, end);
        *ret_type = type;
        return weir_cursor_ok(c);
}

/* @n records, OPT at most @opts times among them. */
static bool check_section(struct weir_cursor *c, unsigned n, unsigned opts)
{
        for (unsigned i = 0; i < n; i++) {
                uint16_t type;

                if (!check_record(c, &type))
                        return false;
                if (type == WEIR_DNS_OPT && opts-- == 0)
                        return false;
        }
        return true;
}

enum weir_match weir_dns_check_reply(const uint8_t *bytes, size_t n, const struct weir_dns_query *query,
                                     bool *ret_truncated)
{
        struct weir_cursor c = weir_cursor(bytes, n);
        struct header h = read_header(&c);
        struct name name;
        uint16_t type, class;

        if (!weir_cursor_ok(&c) || !(h.flags & FLAG_QR) || (h.flags & FLAG_OPCODE) || h.id != query->id ||
            h.qdcount != 1)
                return WEIR_FAIL;
        if (n > WEIR_DNS_MESSAGE_MAX || !read_question(&c, &name, &type, &class) || name.overflow)
                return WEIR_FAIL;
        if (type != query->type || class != CLASS_IN || strcmp(name.text, query->name) != 0)
                return WEIR_FAIL;
        if (!(h.flags & FLAG_TC)) {
                if (!check_section(&c, h.ancount, 0) || !check_section(&c, h.nscount, 0) ||
                    !check_section(&c, h.arcount, 1))
                        return WEIR_FAIL;
                if (weir_cursor_left(&c) > 0)
                        return WEIR_FAIL;
        }
        *ret_truncated = h.flags & FLAG_TC;
        return WEIR_PASS;
}

static void put16(uint8_t *at, unsigned value)
{
        at[0] = (uint8_t)(value >> 8);
        at[1] = (uint8_t)value;
}

static void put_header(uint8_t *out, uint16_t id, unsigned flags, unsigned qdcount)
{
        memset(out, 0, WEIR_DNS_HEADER);
        put16(out, id);
        put16(out + 2, flags);
        put16(out + 4, qdcount);
}

size_t weir_dns_write_error(const uint8_t *query_bytes, size_t n, size_t question_end, enum weir_dns_rcode rcode,
                            bool truncated, uint8_t *out, size_t room)
{
        struct weir_cursor c = weir_cursor(query_bytes, n);
        struct header h = read_header(&c);
        size_t length = question_end > WEIR_DNS_HEADER ? question_end : WEIR_DNS_HEADER;
        unsigned flags;

        if (!weir_cursor_ok(&c) || length > n || length > room)
                return 0;
        flags = FLAG_QR | FLAG_RA | (h.flags & (FLAG_OPCODE | FLAG_RD | FLAG_CD)) | (truncated ? FLAG_TC : 0) |
                (unsigned)rcode;
        put_header(out, h.id, flags, length > WEIR_DNS_HEADER);
        memcpy(out + WEIR_DNS_HEADER, query_bytes + WEIR_DNS_HEADER, length - WEIR_DNS_HEADER);
        return length;
}

size_t weir_dns_write_opt(uint8_t *out, size_t length, size_t room, uint16_t udp_size, bool dnssec_ok)
{
        if (length < WEIR_DNS_HEADER || room < length || room - length < 11)
                return length;
        memset(out + length, 0, 11);
        put16(out + length + 1, WEIR_DNS_OPT);
        put16(out + length + 3, udp_size);
        put16(out + length + 7, dnssec_ok ? OPT_DO : 0);
        put16(out + 10, 1); /* ARCOUNT */
        return length + 11;
}

size_t weir_dns_write_address(const uint8_t *query_bytes, size_t n, size_t question_end, const struct weir_addr *addr,
                              uint32_t ttl, uint8_t *out, size_t room)
{
        bool v4 = weir_addr_is_v4(addr);
        size_t size = v4 ? 4 : 16;
        size_t length = weir_dns_write_error(query_bytes, n, question_end, WEIR_DNS_NOERROR, false, out, room);

        if (length <= WEIR_DNS_HEADER || room - length < 12 + size)
                return 0;
        put16(out + 6, 1);                             /* ANCOUNT */
        put16(out + length, 0xc000 | WEIR_DNS_HEADER); /* the question's name */
        put16(out + length + 2, v4 ? WEIR_DNS_A : WEIR_DNS_AAAA);
        put16(out + length + 4, CLASS_IN);
        put16(out + length + 6, ttl >> 16);
        put16(out + length + 8, ttl & 0xffff);
        put16(out + length + 10, (unsigned)size);
        memcpy(out + length + 12, v4 ? addr->bytes + 12 : addr->bytes, size);
        return length + 12 + size;
}

size_t weir_dns_write_query(const uint8_t *query_bytes, size_t n, const struct weir_dns_query *query, uint8_t *out,
                            size_t room)
{
        size_t end = query->question_end;
        unsigned flags = FLAG_RD | (query->checking_disabled ? FLAG_CD : 0) | (query->authentic_data ? FLAG_AD : 0);

        if (end < WEIR_DNS_HEADER + 5 || end > n || room < WEIR_DNS_QUERY_MAX || end > WEIR_DNS_QUERY_MAX - 11)
                return 0;
        put_header(out, query->id, flags, 1);
        memcpy(out + WEIR_DNS_HEADER, query_bytes + WEIR_DNS_HEADER, end - WEIR_DNS_HEADER);
        /* Length bytes are 63 at most, below 'A': every byte of the name may be treated alike. Type and class stay. */
        for (size_t i = WEIR_DNS_HEADER; i < end - 4; i++)
                if (out[i] >= 'A' && out[i] <= 'Z')
                        out[i] = (uint8_t)(out[i] - 'A' + 'a');
        return query->edns ? weir_dns_write_opt(out, end, room, WEIR_DNS_UDP_SIZE, query->dnssec_ok) : end;
}

void weir_dns_restore(uint8_t *reply, size_t n, const uint8_t *query_bytes, size_t question_end)
{
        if (n < question_end || question_end < WEIR_DNS_HEADER)
                return;
        memcpy(reply, query_bytes, 2);
        memcpy(reply + WEIR_DNS_HEADER, query_bytes + WEIR_DNS_HEADER, question_end - WEIR_DNS_HEADER);
}

enum weir_dns_rcode weir_dns_rcode(const uint8_t *bytes, size_t n)
{
        struct weir_cursor c = weir_cursor(bytes, n);
        struct header h = read_header(&c);

        return weir_cursor_ok(&c) ? (enum weir_dns_rcode)(h.flags & FLAG_RCODE) : WEIR_DNS_SERVFAIL;
}
