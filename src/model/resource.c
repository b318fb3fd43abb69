/* SPDX-License-Identifier: Apache-2.0 */
/* Kinds and their names, and the life of a resource. */
#include "model/resource.h"

#include <errno.h>
#include <stdlib.h>

#include "base/strutil.h"
#include "model/draft.h"
#include "model/node.h"

static const char *const external_service_versions[] = { "v1alpha3", NULL };
static const char *const service_entry_versions[] = { "v1alpha3", "v1beta1", "v1", NULL };

static const struct weir_kind_info kinds[] = {
        [WEIR_KIND_EXTERNAL_SERVICE] = { "ExternalService", "external-service", "externalservice", "externalservices",
                                         "externalservices.networking.istio.io", "networking.istio.io",
                                         external_service_versions },
        [WEIR_KIND_SERVICE_ENTRY] = { "ServiceEntry", "service-entry", "serviceentry", "serviceentries",
                                      "serviceentries.networking.istio.io", "networking.istio.io",
                                      service_entry_versions },
};
_Static_assert(WEIR_ARRAY_SIZE(kinds) == WEIR_KIND_COUNT, "names for each kind");

const struct weir_kind_info *weir_kind_info(enum weir_kind kind)
{
        return &kinds[kind];
}

int weir_kind_from_type(const char *type, enum weir_kind *ret_kind)
{
        for (size_t i = 0; i < WEIR_KIND_COUNT; i++)
                if (weir_streq(type, kinds[i].singular) || weir_streq(type, kinds[i].plural)) {
                        *ret_kind = (enum weir_kind)i;
                        return 0;
                }
        return -ENOENT;
}

static const char *const resolution_names[] = {
        [WEIR_RESOLUTION_NONE] = "NONE",
        [WEIR_RESOLUTION_STATIC] = "STATIC",
        [WEIR_RESOLUTION_DNS] = "DNS",
        [WEIR_RESOLUTION_DNS_ROUND_ROBIN] = "DNS_ROUND_ROBIN",
        [WEIR_RESOLUTION_DYNAMIC_DNS] = "DYNAMIC_DNS",
};
_Static_assert(WEIR_ARRAY_SIZE(resolution_names) == WEIR_RESOLUTION_COUNT, "a name for each resolution");

const char *weir_resolution_name(enum weir_resolution resolution)
{
        return (unsigned)resolution < WEIR_RESOLUTION_COUNT ? resolution_names[resolution] : "";
}

struct weir_resource *weir_resource_ref(struct weir_resource *resource)
{
        resource->refs++;
        return resource;
}

void weir_resource_unref(struct weir_resource *resource)
{
        if (!resource || --resource->refs > 0)
                return;
        for (size_t i = 0; i < resource->n_endpoints; i++)
                free((void *)(uintptr_t)resource->endpoints[i].ports);
        free((void *)(uintptr_t)resource->endpoints);
        free((void *)(uintptr_t)resource->ports);
        free((void *)(uintptr_t)resource->hosts);
        free((void *)(uintptr_t)resource->addresses);
        free((void *)(uintptr_t)resource->export_to);
        free((void *)(uintptr_t)resource->path);
        weir_node_free(resource->node);
        free(resource);
}

int weir_resources_add(struct weir_resources *list, struct weir_resource *resource)
{
        if (list->n == list->capacity) {
                size_t capacity = list->capacity ? list->capacity * 2 : 8;
                struct weir_resource **items = reallocarray(list->items, capacity, sizeof(*items));

                if (!items)
                        return -ENOMEM;
                list->items = items;
                list->capacity = capacity;
        }
        list->items[list->n++] = weir_resource_ref(resource);
        return 0;
}

void weir_resources_clear(struct weir_resources *list)
{
        for (size_t i = 0; i < list->n; i++)
                weir_resource_unref(list->items[i]);
        free(list->items);
        *list = (struct weir_resources){ 0 };
}

char *weir_resource_key(const struct weir_resource *resource)
{
        return weir_asprintf("%s/%s/%s", kinds[resource->kind].type,
                             resource->namespace_[0] ? resource->namespace_ : "default", resource->name);
}

static int change_text(struct weir_node *metadata, const char *key, const char *text)
{
        return text ? weir_node_set_text(metadata, key, text[0] ? text : NULL) : 0;
}

int weir_resource_with(const struct weir_resource *resource, const struct weir_resource_change *change,
                       struct weir_resource **ret_resource)
{
        weir_auto(node) struct weir_node *node = weir_node_copy(resource->node);
        struct weir_node *metadata = node ? weir_node_get(node, "metadata") : NULL;
        int r;

        if (!metadata)
                return -ENOMEM; /* a resource always has a name, so metadata is there if the copy is */
        r = change_text(metadata, "namespace", change->namespace_);
        if (r == 0)
                r = change_text(metadata, "resourceVersion", change->resource_version);
        if (r == 0)
                r = change_text(metadata, "creationTimestamp", change->created);
        if (r < 0)
                return r;
        return weir_resource_from_node(TAKE_PTR(node), resource->kind, resource->path, ret_resource);
}
