/* SPDX-License-Identifier: Apache-2.0 */
/* What of a resource this version cannot enforce, so that it allows nothing, and what is missing. policy/compile.c acts
 * on the same. */
#include <stdio.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/strutil.h"
#include "model/node.h"
#include "model/resource.h"
#include "model/schema.h"

struct report {
        const struct weir_resource *resource;
        struct weir_errs *warnings;
        int result;
};

static void tell(struct report *r, const struct weir_node *node, const char *field, const char *text)
{
        struct weir_place place = { .path = r->resource->path };

        (void)snprintf(place.field, sizeof(place.field), "%s", field);
        if (r->result == 0)
                r->result = weir_place_add(r->warnings, &place, node ? node : r->resource->node, NULL,
                                           "not enforced: %s; it allows nothing", text);
}

/* The node of spec.NAME[i]; NULL if it is not there. */
static const struct weir_node *item(const struct weir_resource *resource, const char *name, size_t i)
{
        const struct weir_node *list =
                weir_schema_get(weir_schema_spec(resource->kind), weir_node_get(resource->node, "spec"), name);

        return list && i < list->n ? list->items[i] : NULL;
}

static void tell_resolution(struct report *r)
{
        const char *field = r->resource->kind == WEIR_KIND_EXTERNAL_SERVICE ? "discovery" : "resolution";
        char text[96], path[32];

        (void)snprintf(path, sizeof(path), "spec.%s", field);
        (void)snprintf(text, sizeof(text), "%s %s needs names, which this version does not resolve for rules", field,
                       weir_resolution_name(r->resource->resolution));
        tell(r, weir_schema_get(weir_schema_spec(r->resource->kind), weir_node_get(r->resource->node, "spec"), field),
             path, text);
}

static const char *protocol_gap(enum weir_kind kind, enum weir_protocol protocol)
{
        switch (protocol) {
        case WEIR_PROTOCOL_TCP:
        case WEIR_PROTOCOL_MONGO:
        case WEIR_PROTOCOL_REDIS:
                return NULL;
        case WEIR_PROTOCOL_MYSQL:
                return kind == WEIR_KIND_SERVICE_ENTRY ? NULL : "MySQL is not a protocol of an ExternalService";
        case WEIR_PROTOCOL_HTTPS:
                return kind == WEIR_KIND_EXTERNAL_SERVICE ?
                               NULL :
                               "HTTPS is matched by name (SNI), which this version does not read; use TCP";
        case WEIR_PROTOCOL_TLS:
                return "TLS is matched by name (SNI), which this version does not read; use TCP";
        case WEIR_PROTOCOL_HTTP:
        case WEIR_PROTOCOL_HTTP2:
        case WEIR_PROTOCOL_GRPC:
        case WEIR_PROTOCOL_GRPC_WEB:
        case WEIR_PROTOCOL_HTTP_PROXY:
                return "HTTP is matched by Host, which this version does not read; use TCP";
        case WEIR_PROTOCOL_UDP:
                return "UDP is never opened";
        case WEIR_PROTOCOL_UNSET:
        case WEIR_PROTOCOL_COUNT:
                break;
        }
        return "a port without a protocol would have to be guessed; write protocol: TCP";
}

static size_t tell_ports(struct report *r)
{
        size_t usable = 0;

        for (size_t i = 0; i < r->resource->n_ports; i++) {
                const char *gap = protocol_gap(r->resource->kind, r->resource->ports[i].protocol);
                char field[64];

                if (!gap) {
                        usable++;
                        continue;
                }
                (void)snprintf(field, sizeof(field), "spec.ports[%zu].protocol", i);
                tell(r, item(r->resource, "ports", i), field, gap);
        }
        if (r->resource->n_ports == 0)
                tell(r, weir_node_get(r->resource->node, "spec"), "spec.ports", "there are no ports");
        return usable;
}

/* Names among the hosts of an ExternalService that has a port by which addresses are judged. */
static void tell_names(struct report *r)
{
        struct weir_prefix prefix;

        for (size_t i = 0; i < r->resource->n_hosts; i++) {
                char field[64];

                if (weir_prefix_parse(r->resource->hosts[i], &prefix, NULL) == 0)
                        continue;
                (void)snprintf(field, sizeof(field), "spec.hosts[%zu]", i);
                tell(r, item(r->resource, "hosts", i), field,
                     "a name is not an address block, and TCP is judged by address");
        }
}

static void tell_endpoints(struct report *r)
{
        struct weir_addr addr;
        size_t usable = 0;

        for (size_t i = 0; i < r->resource->n_endpoints; i++) {
                char field[64];

                if (weir_addr_parse(r->resource->endpoints[i].address, &addr) == 0) {
                        usable++;
                        continue;
                }
                (void)snprintf(field, sizeof(field), "spec.endpoints[%zu].address", i);
                tell(r, item(r->resource, "endpoints", i), field, "only addresses are dialled");
        }
        if (usable == 0 && r->resource->n_endpoints == 0)
                tell(r, weir_node_get(r->resource->node, "spec"), "spec.endpoints",
                     "STATIC without endpoints has nothing to dial");
}

int weir_resource_not_enforced(const struct weir_resource *resource, struct weir_errs *warnings)
{
        struct report r = { .resource = resource, .warnings = warnings };
        const struct weir_node *spec = weir_node_get(resource->node, "spec");

        if (resource->has_workload_selector)
                tell(&r, weir_schema_get(weir_schema_spec(resource->kind), spec, "workloadSelector"),
                     "spec.workloadSelector", "workloads of a cluster are not known to this version");
        else if (resource->resolution != WEIR_RESOLUTION_NONE && resource->resolution != WEIR_RESOLUTION_STATIC)
                tell_resolution(&r);
        else if (tell_ports(&r) > 0) {
                if (resource->kind == WEIR_KIND_EXTERNAL_SERVICE)
                        tell_names(&r);
                else if (resource->n_addresses == 0)
                        tell(&r, spec, "spec.addresses", "without addresses every address would be open");
                if (resource->resolution == WEIR_RESOLUTION_STATIC)
                        tell_endpoints(&r);
        }
        return r.result;
}
