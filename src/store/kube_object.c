/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of an API server, to resources and back. */
#include "store/kube_object.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "store/kube_client.h"

static void object_free(struct weir_kube_object *object)
{
        if (!object)
                return;
        weir_resource_unref(object->resource);
        json_decref(object->conditions);
        free(object->problem);
        free(object->key);
        free(object);
}
WEIR_DEFINE_CLEANUP(object, struct weir_kube_object *, object_free)

static const char *metadata_text(const json_t *item, const char *key)
{
        return json_string_value(json_object_get(json_object_get(item, "metadata"), key));
}

static char *key_of(const json_t *item)
{
        const char *name = metadata_text(item, "name"), *namespace_ = metadata_text(item, "namespace");

        return name && namespace_ ? weir_asprintf("%s/%s", namespace_, name) : NULL;
}

/* One line of all faults, without places: the text that was parsed is not one that a person wrote. */
static char *join(const struct weir_errs *errors)
{
        struct weir_buf buf = { 0 };

        for (size_t i = 0; i < errors->n; i++) {
                const struct weir_err *err = &errors->items[i];

                weir_buf_printf(&buf, "%s%s%s%s", i ? "; " : "", err->field, err->field[0] ? ": " : "", err->text);
        }
        return weir_buf_take(&buf);
}

/* The record of who set which field is larger than the object and nobody's but the server's. */
static int strip(json_t *item, enum weir_kind kind)
{
        const struct weir_kind_info *info = weir_kind_info(kind);
        json_t *metadata = json_object_get(item, "metadata");

        (void)json_object_del(metadata, "managedFields");
        if (!json_object_get(item, "kind") && json_object_set_new(item, "kind", json_string(info->kind)) < 0)
                return -ENOMEM;
        return 0;
}

static int read_text(const char *text, const char *path, struct weir_resource **ret_resource, struct weir_err *err)
{
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        int r;

        r = weir_resources_read(text, strlen(text), path, &list, &errors, NULL);
        if (r == 0 && list.n == 1)
                *ret_resource = weir_resource_ref(list.items[0]);
        else if (r == WEIR_EINVALID) {
                weir_auto_free char *line = join(&errors);

                r = weir_err_set(err, r, "%s", line ? line : "out of memory");
        } else if (r == 0)
                r = weir_err_set(err, WEIR_EINVALID, "it holds no resource");
        weir_resources_clear(&list);
        weir_errs_clear(&errors);
        return r;
}

int weir_kube_object_read(enum weir_kind kind, json_t *item, struct weir_resource **ret_resource, struct weir_err *err)
{
        weir_auto_free char *text = NULL, *path = NULL;
        weir_auto_free char *key = json_is_object(item) ? key_of(item) : NULL;

        if (!key)
                return weir_err_set(err, WEIR_EINVALID, "the API server sent something that is no %s",
                                    weir_kind_info(kind)->kind);
        path = weir_asprintf("%s/%s", weir_kind_info(kind)->type, key);
        if (!path || strip(item, kind) < 0)
                return weir_err_set(err, -ENOMEM, "out of memory");
        text = json_dumps(item, JSON_COMPACT);
        return text ? read_text(text, path, ret_resource, err) : weir_err_set(err, -ENOMEM, "out of memory");
}

static struct weir_kube_object *make(enum weir_kind kind, json_t *item, int *ret_error)
{
        weir_auto(object) struct weir_kube_object *object = calloc(1, sizeof(*object));
        struct weir_err err = { 0 };
        int r;

        *ret_error = -ENOMEM;
        if (!object)
                return NULL;
        object->key = key_of(item);
        object->generation = json_integer_value(json_object_get(json_object_get(item, "metadata"), "generation"));
        object->conditions = json_incref(json_object_get(json_object_get(item, "status"), "conditions"));
        r = weir_kube_object_read(kind, item, &object->resource, &err);
        if (r == -ENOMEM)
                return NULL;
        if (r < 0) {
                object->problem = strdup(err.text);
                if (!object->problem)
                        return NULL;
        }
        *ret_error = 0;
        return TAKE_PTR(object);
}

static int put(struct weir_kube_table *table, struct weir_kube_object *object)
{
        struct weir_kube_object *old;

        HASH_FIND_STR(table->objects, object->key, old);
        if (!old && HASH_COUNT(table->objects) >= WEIR_KUBE_OBJECTS_MAX) {
                object_free(object);
                return WEIR_ELIMIT;
        }
        if (old) {
                HASH_DEL(table->objects, old);
                object_free(old);
        }
        HASH_ADD_KEYPTR(hh, table->objects, object->key, strlen(object->key), object);
        return 0;
}

/* A change of the status or of labels leaves metadata.generation as it is. */
static bool differs(const struct weir_kube_table *table, const struct weir_kube_object *object)
{
        struct weir_kube_object *old;

        HASH_FIND_STR(table->objects, object->key, old);
        return !old || old->generation != object->generation || object->generation == 0;
}

int weir_kube_table_put(struct weir_kube_table *table, enum weir_kind kind, json_t *item, bool *ret_changed)
{
        weir_auto_free char *key = json_is_object(item) ? key_of(item) : NULL;
        struct weir_kube_object *object;
        bool changed;
        int r;

        if (!key)
                return WEIR_EINVALID;
        object = make(kind, item, &r);
        if (!object)
                return r;
        changed = differs(table, object);
        r = put(table, object);
        if (r == 0 && changed)
                *ret_changed = true;
        return r;
}

int weir_kube_table_drop(struct weir_kube_table *table, const json_t *item, bool *ret_changed)
{
        weir_auto_free char *key = json_is_object(item) ? key_of(item) : NULL;
        struct weir_kube_object *old;

        if (!key)
                return WEIR_EINVALID;
        HASH_FIND_STR(table->objects, key, old);
        if (!old)
                return 0;
        HASH_DEL(table->objects, old);
        object_free(old);
        *ret_changed = true;
        return 0;
}

int weir_kube_table_restore(struct weir_kube_table *table, struct weir_resource *resource)
{
        weir_auto(object) struct weir_kube_object *object = calloc(1, sizeof(*object));

        if (!object)
                return -ENOMEM;
        object->key = weir_asprintf("%s/%s", resource->namespace_, resource->name);
        if (!object->key)
                return -ENOMEM;
        object->resource = weir_resource_ref(resource);
        return put(table, TAKE_PTR(object));
}

void weir_kube_table_clear(struct weir_kube_table *table)
{
        struct weir_kube_object *object, *next;

        HASH_ITER (hh, table->objects, object, next) {
                HASH_DEL(table->objects, object);
                object_free(object);
        }
        table->objects = NULL;
}

char *weir_kube_object_body(const struct weir_resource *resource, const char *resource_version, bool apply)
{
        static const char *const servers_own[] = { "managedFields", "uid",      "creationTimestamp",
                                                   "generation",    "selfLink", "resourceVersion" };
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *root = NULL;
        weir_auto(buf) struct weir_buf buf = { 0 };
        json_t *metadata;

        weir_resource_print_json(resource, 0, &buf);
        root = buf.data ? json_loadb(buf.data, buf.length, 0, NULL) : NULL;
        metadata = json_object_get(root, "metadata");
        if (!metadata)
                return NULL;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(servers_own); i++)
                (void)json_object_del(metadata, servers_own[i]);
        if (apply)
                (void)json_object_del(root, "status");
        if (resource_version && resource_version[0] &&
            json_object_set_new(metadata, "resourceVersion", json_string(resource_version)) < 0)
                return NULL;
        return json_dumps(root, JSON_COMPACT);
}
