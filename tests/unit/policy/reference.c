/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reference: a linear look at every resource for every question. It shares the structs and the parsing of addresses
 * with the code under test, and nothing of its decisions.
 */
#include "reference.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/strutil.h"

static bool v4_of(const struct weir_addr *addr, uint32_t *ret)
{
        uint32_t net;

        if (!weir_addr_is_v4(addr))
                return false;
        memcpy(&net, addr->bytes + 12, 4);
        *ret = ntohl(net);
        return true;
}

/* Length of the built-in range around an address, in bits of its own family; -1 if there is none. */
static int builtin_v4(uint32_t a, const struct weir_policy_options *options)
{
        for (size_t i = 0; i < options->n_self; i++) {
                uint32_t self;

                if (v4_of(&options->self[i], &self) && self == a)
                        return 32;
        }
        if (a >> 24 == 127)
                return 8;
        if (a >> 16 == 0xa9fe)
                return 16;
        if (a == 0x646464c8 || a == 0xa83f8110 || a == 0xc00000c0)
                return 32;
        return -1;
}

static bool is(const struct weir_addr *addr, const char *text)
{
        struct in6_addr in;

        return inet_pton(AF_INET6, text, &in) == 1 && memcmp(&in, addr->bytes, 16) == 0;
}

static int builtin_v6(const struct weir_addr *a, const struct weir_policy_options *options)
{
        for (size_t i = 0; i < options->n_self; i++)
                if (memcmp(&options->self[i], a, 16) == 0)
                        return 128;
        if (is(a, "::1") || is(a, "fd00:ec2::254") || is(a, "fd00:ec2::23") || is(a, "fd20:ce::254"))
                return 128;
        if (a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80)
                return 10;
        return -1;
}

static uint32_t at(const struct weir_addr *a, unsigned i)
{
        return (uint32_t)a->bytes[i] << 24 | (uint32_t)a->bytes[i + 1] << 16 | (uint32_t)a->bytes[i + 2] << 8 |
               a->bytes[i + 3];
}

static bool hides_builtin(const struct weir_addr *a, const struct weir_policy_options *options)
{
        uint32_t inner[2];
        size_t n = 0;
        static const uint8_t zero[12], nat64[12] = { 0, 0x64, 0xff, 0x9b };

        if (weir_addr_is_v4(a) || is(a, "::1") || is(a, "::"))
                return false;
        if (memcmp(a->bytes, zero, 12) == 0 || memcmp(a->bytes, nat64, 12) == 0 ||
            memcmp(a->bytes, "\x00\x64\xff\x9b\x00\x01", 6) == 0)
                inner[n++] = at(a, 12);
        if (a->bytes[0] == 0x20 && a->bytes[1] == 0x02)
                inner[n++] = at(a, 2);
        if (a->bytes[0] == 0x20 && a->bytes[1] == 0x01 && a->bytes[2] == 0 && a->bytes[3] == 0) {
                inner[n++] = ~at(a, 12);
                inner[n++] = at(a, 4);
        }
        for (size_t i = 0; i < n; i++)
                if (inner[i] == 0 || builtin_v4(inner[i], options) >= 0)
                        return true;
        return false;
}

/* A block as text against an address of the same family; its length in bits, or -1. */
static int covers(const char *block, const struct weir_addr *addr)
{
        char host[64], *slash;
        uint8_t net[16];
        const uint8_t *mine = addr->bytes;
        int bits, family = strchr(block, ':') ? AF_INET6 : AF_INET;

        (void)snprintf(host, sizeof(host), "%s", block);
        slash = strchr(host, '/');
        bits = slash ? atoi(slash + 1) : family == AF_INET ? 32 : 128;
        if (slash)
                *slash = '\0';
        if (inet_pton(family, host, net) != 1 || (family == AF_INET) != weir_addr_is_v4(addr))
                return -1;
        if (family == AF_INET)
                mine += 12;
        for (int i = 0; i < bits; i++)
                if ((net[i / 8] >> (7 - i % 8) & 1) != (mine[i / 8] >> (7 - i % 8) & 1))
                        return -1;
        return bits;
}

static bool in_scope(const struct weir_resource *r, const struct weir_policy_options *options)
{
        const char *mine = options->namespace_ ? options->namespace_ : "default",
                   *home = r->namespace_[0] ? r->namespace_ : "default";
        bool root = weir_streq(home, "weir-system") || weir_streq(home, "istio-system"), open = r->n_export_to == 0;

        for (size_t i = 0; i < r->n_export_to; i++) {
                if (weir_streq(r->export_to[i], "~"))
                        return false;
                if (weir_streq(r->export_to[i], "*") || weir_streq(r->export_to[i], mine) ||
                    (weir_streq(r->export_to[i], ".") && weir_streq(home, mine)))
                        open = true;
        }
        return open && (weir_streq(home, mine) || root || options->widen_export_to);
}

static bool usable(const struct weir_resource *r, const struct weir_port *port)
{
        bool common = port->protocol == WEIR_PROTOCOL_TCP || port->protocol == WEIR_PROTOCOL_MONGO ||
                      port->protocol == WEIR_PROTOCOL_REDIS;

        if (r->has_workload_selector ||
            (r->resolution != WEIR_RESOLUTION_NONE && r->resolution != WEIR_RESOLUTION_STATIC))
                return false;
        return common || (r->kind == WEIR_KIND_EXTERNAL_SERVICE ? port->protocol == WEIR_PROTOCOL_HTTPS :
                                                                  port->protocol == WEIR_PROTOCOL_MYSQL);
}

/* Whoever connects to no address connects to this host. */
static struct weir_addr loopback_of(struct weir_addr addr)
{
        uint32_t v4;

        if (v4_of(&addr, &v4) && v4 == 0)
                addr = (struct weir_addr){ .bytes = { [10] = 0xff, 0xff, 127, 0, 0, 1 } };
        if (is(&addr, "::"))
                addr.bytes[15] = 1;
        return addr;
}

/* The turn-th endpoint that is an address. False if there is none. */
static bool endpoint(const struct weir_resource *r, const struct weir_port *port, uint32_t turn,
                     struct weir_decision *ret)
{
        size_t n = 0, wanted;
        struct weir_addr addr;

        for (size_t i = 0; i < r->n_endpoints; i++)
                n += weir_addr_parse(r->endpoints[i].address, &addr) == 0;
        if (n == 0)
                return false;
        wanted = turn % n;
        for (size_t i = 0; i < r->n_endpoints; i++) {
                if (weir_addr_parse(r->endpoints[i].address, &addr) < 0 || wanted-- > 0)
                        continue;
                ret->addr = loopback_of(addr);
                ret->port = port->target_port ? port->target_port : port->number;
                for (size_t k = 0; k < r->endpoints[i].n_ports; k++)
                        if (weir_streq(r->endpoints[i].ports[k].name, port->name))
                                ret->port = r->endpoints[i].ports[k].number;
                return true;
        }
        return false;
}

void reference_match(const struct weir_resources *resources, const struct weir_policy_options *options,
                     const struct weir_query *query, enum reference_fault fault, struct weir_decision *ret,
                     const char **ret_resource)
{
        struct weir_addr addr = loopback_of(query->addr);
        const struct weir_resource *best = NULL;
        char best_key[600] = "";
        int best_bits = -1, least;
        uint32_t v4;

        *ret = (struct weir_decision){ 0 };
        *ret_resource = NULL;
        if (query->protocol != WEIR_IP_TCP)
                return;
        if (hides_builtin(&addr, options))
                return;
        least = v4_of(&addr, &v4) ? builtin_v4(v4, options) : builtin_v6(&addr, options);
        if (fault == FAULT_LOOPBACK_OPEN && least == 8)
                least = -1;
        for (size_t i = 0; i < resources->n; i++) {
                const struct weir_resource *r = resources->items[i];
                bool old = r->kind == WEIR_KIND_EXTERNAL_SERVICE;
                char key[600];

                if (!in_scope(r, options))
                        continue;
                (void)snprintf(key, sizeof(key), "%s/%s", r->namespace_[0] ? r->namespace_ : "default", r->name);
                for (size_t p = 0; p < r->n_ports; p++)
                        for (size_t b = 0; r->ports[p].number == query->port && b < (old ? r->n_hosts : r->n_addresses);
                             b++) {
                                int bits = covers(old ? r->hosts[b] : r->addresses[b], &addr);
                                struct weir_decision d = { .verdict = WEIR_VERDICT_ALLOW,
                                                           .addr = addr,
                                                           .port = query->port };
                                bool better = bits > best_bits ||
                                              (bits == best_bits &&
                                               (fault == FAULT_LAST_NAME_WINS ? strcmp(key, best_key) > 0 :
                                                                                strcmp(key, best_key) < 0));

                                if (bits < 0 || bits < least || !usable(r, &r->ports[p]) || !better)
                                        continue;
                                if (r->resolution == WEIR_RESOLUTION_STATIC &&
                                    !endpoint(r, &r->ports[p], query->turn, &d))
                                        continue;
                                best = r;
                                best_bits = bits;
                                (void)snprintf(best_key, sizeof(best_key), "%s", key);
                                *ret = d;
                        }
        }
        if (best && hides_builtin(&ret->addr, options))
                *ret = (struct weir_decision){ 0 };
        else if (best)
                *ret_resource = best->name;
}
