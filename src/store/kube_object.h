/* SPDX-License-Identifier: Apache-2.0 */
/* The objects of one kind as an API server tells them, each read and validated once. Private to store/. */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "model/resource.h"

struct weir_err;

#define WEIR_KUBE_OBJECTS_MAX 100000

/**
 * struct weir_kube_object - one object
 * @key:        "NAMESPACE/NAME"
 * @generation: metadata.generation; 0 if the server does not say
 * @resource:   NULL if the object is not valid, and then
 * @problem:    says why, in one line
 * @conditions: status.conditions as they stand; NULL if there are none
 */
struct weir_kube_object {
        char *key;
        int64_t generation;
        struct weir_resource *resource;
        char *problem;
        json_t *conditions;
        UT_hash_handle hh;
};

struct weir_kube_table {
        struct weir_kube_object *objects; /* a uthash */
};

/**
 * weir_kube_table_put() - take one object out of an answer
 * @item:        changed: what only the server cares for is taken out
 * @ret_changed: set to true if what the policy depends on differs from before; untouched else
 * Return: 0; WEIR_EINVALID if it is no object of that kind; WEIR_ELIMIT; -ENOMEM
 */
WEIR_MUST int weir_kube_table_put(struct weir_kube_table *table, enum weir_kind kind, json_t *item, bool *ret_changed);
/* Takes one out again. As above; that it is not there is no error. */
WEIR_MUST int weir_kube_table_drop(struct weir_kube_table *table, const json_t *item, bool *ret_changed);
/* A resource that was kept on disk. */
WEIR_MUST int weir_kube_table_restore(struct weir_kube_table *table, struct weir_resource *resource);
void weir_kube_table_clear(struct weir_kube_table *table);

/* Takes an answer's object as a resource; WEIR_EINVALID with @err's text naming every fault. */
WEIR_MUST int weir_kube_object_read(enum weir_kind kind, json_t *item, struct weir_resource **ret_resource,
                                    struct weir_err *err);

/* A resource as JSON to be sent; without what only the server may set (for apply: without status too). */
char *weir_kube_object_body(const struct weir_resource *resource, const char *resource_version, bool apply);
