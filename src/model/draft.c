/* SPDX-License-Identifier: Apache-2.0 */
/* Building a resource from its tree. Numbers fit because validation has seen them. */
#include "model/draft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/strutil.h"
#include "model/node.h"
#include "model/schema.h"
#include "model/validate.h"

static const char *text_of(const struct weir_node *node, const char *otherwise)
{
        return node ? node->text : otherwise;
}

/* kubectl prints "creationTimestamp: null" where there is none. */
static const char *time_of(const struct weir_node *node)
{
        return node && node->type == WEIR_NODE_SCALAR && node->text[0] >= '0' && node->text[0] <= '9' ? node->text : "";
}

static int take_texts(const struct weir_message *message, const struct weir_node *spec, const char *name,
                      const char *const **ret, size_t *ret_n)
{
        const struct weir_node *list = weir_schema_get(message, spec, name);
        const char **texts;

        if (!list || list->n == 0)
                return 0;
        texts = calloc(list->n, sizeof(*texts));
        if (!texts)
                return -ENOMEM;
        for (size_t i = 0; i < list->n; i++)
                texts[i] = list->items[i]->text;
        *ret = texts;
        *ret_n = list->n;
        return 0;
}

static int take_ports(struct weir_resource *resource, const struct weir_validation *v)
{
        struct weir_port *ports = calloc(v->n_ports ? v->n_ports : 1, sizeof(*ports));

        if (!ports)
                return -ENOMEM;
        for (size_t i = 0; i < v->n_ports; i++)
                ports[i] = (struct weir_port){
                        .name = v->ports[i].name,
                        .protocol = weir_protocol_from_text(v->ports[i].protocol),
                        .number = (uint16_t)v->ports[i].number,
                        .target_port = (uint16_t)v->ports[i].target,
                };
        resource->ports = ports;
        resource->n_ports = v->n_ports;
        return 0;
}

static int take_endpoint_ports(const struct weir_node *node, struct weir_endpoint *endpoint)
{
        const struct weir_node *map = weir_node_get(node, "ports");
        struct weir_endpoint_port *ports;

        if (!map || map->n == 0)
                return 0;
        ports = calloc(map->n, sizeof(*ports));
        if (!ports)
                return -ENOMEM;
        for (size_t i = 0; i < map->n; i++)
                ports[i] = (struct weir_endpoint_port){ map->items[2 * i]->text,
                                                        (uint16_t)weir_schema_number(map->items[2 * i + 1]) };
        endpoint->ports = ports;
        endpoint->n_ports = map->n;
        return 0;
}

static int take_endpoints(struct weir_resource *resource, const struct weir_validation *v)
{
        struct weir_list list = weir_spec_list(v, "endpoints");
        struct weir_endpoint *endpoints = calloc(list.n ? list.n : 1, sizeof(*endpoints));
        int r = 0;

        if (!endpoints)
                return -ENOMEM;
        resource->endpoints = endpoints;
        for (size_t i = 0; i < list.n && r == 0; i++) {
                endpoints[i].address = text_of(weir_node_get(list.items[i], "address"), "");
                r = take_endpoint_ports(list.items[i], &endpoints[i]);
                resource->n_endpoints++;
        }
        return r;
}

static int take_spec(struct weir_resource *resource, struct weir_validation *v)
{
        const struct weir_message *m = v->message;
        int r;

        r = take_texts(m, v->spec, "hosts", &resource->hosts, &resource->n_hosts);
        if (r == 0)
                r = take_texts(m, v->spec, "addresses", &resource->addresses, &resource->n_addresses);
        if (r == 0)
                r = take_texts(m, v->spec, "exportTo", &resource->export_to, &resource->n_export_to);
        if (r == 0)
                r = take_ports(resource, v);
        if (r == 0)
                r = take_endpoints(resource, v);
        resource->resolution = (enum weir_resolution)weir_schema_enum(
                m, v->spec, resource->kind == WEIR_KIND_EXTERNAL_SERVICE ? "discovery" : "resolution");
        resource->has_workload_selector = weir_schema_get(m, v->spec, "workloadSelector") != NULL;
        return r;
}

/* The input may leave apiVersion out; what is stored and printed has it, for kubectl asks for it. */
static int fill_api_version(struct weir_resource *resource)
{
        const struct weir_kind_info *info = weir_kind_info(resource->kind);
        const struct weir_node *given = weir_node_get(resource->node, "apiVersion");
        weir_auto_free char *text = NULL;
        size_t newest = 0;
        int r;

        if (!given) {
                while (info->versions[newest + 1])
                        newest++;
                text = weir_asprintf("%s/%s", info->group, info->versions[newest]);
                r = text ? weir_node_set_text(resource->node, "apiVersion", text) : -ENOMEM;
                if (r < 0)
                        return r;
                given = weir_node_get(resource->node, "apiVersion");
        }
        resource->api_version = given->text;
        return 0;
}

int weir_resource_from_node(struct weir_node *node, enum weir_kind kind, const char *path,
                            struct weir_resource **ret_resource)
{
        weir_auto(node) struct weir_node *empty = weir_node_new(WEIR_NODE_MAPPING, 0, 0);
        struct weir_resource *resource = calloc(1, sizeof(*resource));
        const struct weir_node *metadata, *spec = weir_node_get(node, "spec");
        struct weir_validation v = { .message = weir_schema_spec(kind), .spec = spec ? spec : empty, .path = path };
        int r;

        if (!resource || !empty) {
                free(resource);
                weir_node_free(node);
                return -ENOMEM;
        }
        resource->refs = 1;
        resource->kind = kind;
        resource->node = node;
        resource->line = node->line;
        resource->path = strdup(path);
        metadata = weir_node_get(node, "metadata");
        resource->name = text_of(weir_node_get(metadata, "name"), "");
        resource->namespace_ = text_of(weir_node_get(metadata, "namespace"), "");
        resource->resource_version = text_of(weir_node_get(metadata, "resourceVersion"), "");
        resource->created = time_of(weir_node_get(metadata, "creationTimestamp"));
        r = resource->path ? fill_api_version(resource) : -ENOMEM;
        if (r == 0)
                r = weir_validation_begin(&v);
        if (r == 0)
                r = take_spec(resource, &v);
        weir_validation_end(&v);
        if (r < 0) {
                weir_resource_unref(resource);
                return r;
        }
        *ret_resource = resource;
        return 0;
}
