/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store of a cluster.
 *
 * Theory of operation
 *
 * A command that reads or writes asks the API server and waits, in bounded time. Each verb is the server's own: create
 * is POST, replace is PUT with the resourceVersion that was read, apply is a server-side apply, all with strict
 * validation and under the name "weir".
 *
 * Who watches follows instead (kube_watch.c), and snapshots come out of what the follower knows. An object that is not
 * valid allows nothing and hurts no other: in a cluster it may be another tenant's. Each time the whole is known and
 * has changed it is written to disk (kube_keep.c). A start that finds no API server takes what is kept there and says
 * so; a server that answers, be it with a refusal, is believed instead.
 */
#include "store/kubernetes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/strutil.h"
#include "base/time.h"
#include "store/kube_store.h"
#include "store/store.h"

#define PAGE_SIZE 500
#define MANAGER "fieldManager=weir&fieldValidation=Strict"

WEIR_DEFINE_CLEANUP(resource, struct weir_resource *, weir_resource_unref)

static int out_of_memory(struct weir_err *err)
{
        return weir_err_set(err, -ENOMEM, "out of memory");
}

/* --- one resource --- */

enum verb { GET, CREATE, REPLACE, APPLY, DELETE };

static const char *const methods[] = {
        [GET] = "GET", [CREATE] = "POST", [REPLACE] = "PUT", [APPLY] = "PATCH", [DELETE] = "DELETE",
};

struct target {
        enum weir_kind kind;
        const char *namespace_, *name;
};

static char *path_of(const struct target *target, const char *version, enum verb verb)
{
        const struct weir_kind_info *info = weir_kind_info(target->kind);
        bool one = verb != CREATE, writes = verb == CREATE || verb == REPLACE || verb == APPLY;

        return weir_asprintf("/apis/%s/%s/namespaces/%s/%s%s%s%s%s", info->group, version, target->namespace_,
                             info->plural, one ? "/" : "", one ? target->name : "", writes ? "?" MANAGER : "",
                             verb == APPLY ? "&force=false" : "");
}

static int call(struct weir_kubernetes *store, const struct target *target, const char *version, enum verb verb,
                const char *body, json_t **ret_json, long *ret_status, struct weir_err *err)
{
        __attribute__((cleanup(weir_kube_request_clear))) struct weir_kube_request request = {
                .method = methods[verb],
                .content_type = verb == APPLY ? "application/apply-patch+yaml" : "application/json",
                .resource = weir_kind_info(target->kind)->group_resource,
                .path = path_of(target, version, verb),
                .body = body,
        };
        int r;

        if (!request.path)
                return out_of_memory(err);
        r = weir_kube_call(store->client, &request, ret_json, err);
        if (r == 0 && ret_status)
                *ret_status = request.status;
        return r;
}

/*
 * The versions of the kind in the order in which they are tried: @preferred, then from the newest. An older Istio does
 * not know the newest, and a server that does not know a version says so.
 */
static const char *nth_version(enum weir_kind kind, const char *preferred, unsigned n)
{
        const char *const *versions = weir_kind_info(kind)->versions;
        unsigned count = 0;

        while (versions[count])
                count++;
        if (preferred && n == 0)
                return preferred;
        for (unsigned i = count, left = preferred ? n - 1 : n; i > 0; i--) {
                if (preferred && weir_streq(versions[i - 1], preferred))
                        continue;
                if (left-- == 0)
                        return versions[i - 1];
        }
        return NULL;
}

static int call_any_version(struct weir_kubernetes *store, const struct target *target, enum verb verb,
                            json_t **ret_json, struct weir_err *err)
{
        const char *version;
        int r = WEIR_EUNSUPPORTED;

        for (unsigned i = 0; r == WEIR_EUNSUPPORTED && (version = nth_version(target->kind, NULL, i)); i++)
                r = call(store, target, version, verb, NULL, ret_json, NULL, err);
        return r;
}

/* @body carries the version in which it is sent: another one is put in if the server does not know it. */
static int send_body(struct weir_kubernetes *store, const struct weir_resource *resource, const struct target *target,
                     enum verb verb, const char *body, json_t **ret_json, long *ret_status, struct weir_err *err)
{
        const struct weir_kind_info *info = weir_kind_info(target->kind);
        const char *slash = strchr(resource->api_version, '/'), *version;
        int r = WEIR_EUNSUPPORTED;

        for (unsigned i = 0;
             r == WEIR_EUNSUPPORTED && (version = nth_version(target->kind, slash ? slash + 1 : NULL, i)); i++) {
                __attribute__((cleanup(weir_json_unref_cleanup))) json_t *root = json_loads(body, 0, NULL);
                weir_auto_free char *api = weir_asprintf("%s/%s", info->group, version), *text = NULL;

                if (!root || !api || json_object_set_new(root, "apiVersion", json_string(api)) < 0)
                        return out_of_memory(err);
                text = json_dumps(root, JSON_COMPACT);
                if (!text)
                        return out_of_memory(err);
                r = call(store, target, version, verb, text, ret_json, ret_status, err);
        }
        return r;
}

/* The server's counter, which is a number wherever etcd stands behind it. */
static uint64_t revision_of(const json_t *object)
{
        const char *version =
                json_string_value(json_object_get(json_object_get(object, "metadata"), "resourceVersion"));
        uint64_t revision = 0;

        if (!version || weir_parse_uint(version, UINT64_MAX, &revision) < 0)
                return 0;
        return revision;
}

static struct target target_of(const struct weir_resource *resource)
{
        return (struct target){ resource->kind, resource->namespace_, resource->name };
}

static int write_resource(struct weir_store *base, const struct weir_resource *resource, const char *resource_version,
                          enum verb verb, uint64_t *ret_revision, long *ret_status, struct weir_err *err)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *answer = NULL;
        weir_auto_free char *body = weir_kube_object_body(resource, resource_version, verb == APPLY);
        struct target target = target_of(resource);
        int r;

        if (!body)
                return out_of_memory(err);
        r = send_body(weir_kubernetes(base), resource, &target, verb, body, &answer, ret_status, err);
        if (r == 0)
                *ret_revision = revision_of(answer);
        return r;
}

static int kubernetes_create(struct weir_store *base, const struct weir_resource *resource, uint64_t *ret_revision,
                             struct weir_err *err)
{
        return write_resource(base, resource, NULL, CREATE, ret_revision, NULL, err);
}

static int kubernetes_replace(struct weir_store *base, const struct weir_resource *resource, uint64_t *ret_revision,
                              struct weir_err *err)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *there = NULL;
        struct target target = target_of(resource);
        const char *version = resource->resource_version;
        int r;

        if (!version[0]) {
                r = call_any_version(weir_kubernetes(base), &target, GET, &there, err);
                if (r < 0)
                        return r;
                version = json_string_value(json_object_get(json_object_get(there, "metadata"), "resourceVersion"));
        }
        return write_resource(base, resource, version, REPLACE, ret_revision, NULL, err);
}

static int kubernetes_apply(struct weir_store *base, const struct weir_resource *resource, uint64_t *ret_revision,
                            bool *ret_created, struct weir_err *err)
{
        const char *version = resource->resource_version;
        long status = 0;
        int r;

        /* "0" and "" are what a folder says of a file made by hand. */
        r = write_resource(base, resource, weir_streq(version, "0") ? NULL : version, APPLY, ret_revision, &status,
                           err);
        if (r == 0 && ret_created)
                *ret_created = status == 201;
        return r;
}

static int kubernetes_delete(struct weir_store *base, enum weir_kind kind, const char *namespace_, const char *name,
                             struct weir_err *err)
{
        struct target target = { kind, namespace_, name };

        return call_any_version(weir_kubernetes(base), &target, DELETE, NULL, err);
}

static int kubernetes_get(struct weir_store *base, enum weir_kind kind, const char *namespace_, const char *name,
                          struct weir_resource **ret_resource, struct weir_err *err)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *object = NULL;
        struct target target = { kind, namespace_, name };
        int r;

        r = call_any_version(weir_kubernetes(base), &target, GET, &object, err);
        return r < 0 ? r : weir_kube_object_read(kind, object, ret_resource, err);
}

/* --- all of them, waited for --- */

static int add_item(enum weir_kind kind, json_t *item, struct weir_resources *list, struct weir_errs *errors)
{
        weir_auto(resource) struct weir_resource *resource = NULL;
        const json_t *metadata = json_object_get(item, "metadata");
        const char *namespace_ = json_string_value(json_object_get(metadata, "namespace"));
        const char *name = json_string_value(json_object_get(metadata, "name"));
        weir_auto_free char *path =
                weir_asprintf("%s/%s/%s", weir_kind_info(kind)->type, namespace_ ? namespace_ : "", name ? name : "");
        struct weir_err err = { 0 };
        int r;

        r = path ? weir_kube_object_read(kind, item, &resource, &err) : -ENOMEM;
        if (r == 0)
                return weir_resources_add(list, resource);
        if (r == -ENOMEM)
                return r;
        (void)strncat(err.path, path, sizeof(err.path) - 1);
        err.code = WEIR_EINVALID;
        return weir_errs_add(errors, &err);
}

/* One page. @token: of this page, then of the next; NULL after the last. */
static int list_page(struct weir_kubernetes *store, enum weir_kind kind, const char *version, char **token,
                     struct weir_resources *list, struct weir_errs *errors, struct weir_err *err)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *page = NULL;
        const struct weir_kind_info *info = weir_kind_info(kind);
        char *escaped = *token ? weir_curl.easy_escape(store->client->easy, *token, 0) : NULL;
        __attribute__((cleanup(weir_kube_request_clear))) struct weir_kube_request request = {
                .method = "GET",
                .resource = info->group_resource,
                .path = weir_asprintf("/apis/%s/%s/%s?limit=%d%s%s", info->group, version, info->plural, PAGE_SIZE,
                                      escaped ? "&continue=" : "", escaped ? escaped : ""),
        };
        const char *next;
        json_t *item;
        size_t i;
        int r;

        weir_curl.free(escaped);
        free(TAKE_PTR(*token));
        r = request.path ? weir_kube_call(store->client, &request, &page, err) : out_of_memory(err);
        if (r < 0)
                return r;
        json_array_foreach(json_object_get(page, "items"), i, item)
        {
                r = add_item(kind, item, list, errors);
                if (r < 0)
                        return out_of_memory(err);
        }
        next = json_string_value(json_object_get(json_object_get(page, "metadata"), "continue"));
        if (next && next[0]) {
                *token = strdup(next);
                return *token ? 0 : out_of_memory(err);
        }
        return 0;
}

static int list_kind(struct weir_kubernetes *store, enum weir_kind kind, struct weir_resources *list,
                     struct weir_errs *errors, struct weir_err *err)
{
        weir_auto_free char *token = NULL;
        const char *version;
        int r = WEIR_EUNSUPPORTED;

        for (unsigned i = 0; r == WEIR_EUNSUPPORTED && (version = nth_version(kind, NULL, i)); i++) {
                r = list_page(store, kind, version, &token, list, errors, err);
                while (r == 0 && token)
                        r = list_page(store, kind, version, &token, list, errors, err);
        }
        return r;
}

/* That the server cannot be asked is an error like that of a broken file, so that it is told like one. */
static int snapshot_asked(struct weir_kubernetes *store, struct weir_resources *list, struct weir_errs *errors)
{
        int r = 0;

        for (unsigned i = 0; i < WEIR_KIND_COUNT && r == 0; i++) {
                struct weir_err err = { 0 };

                r = list_kind(store, (enum weir_kind)i, list, errors, &err);
                if (r < 0)
                        r = weir_errs_add(errors, &err) < 0 ? -ENOMEM : WEIR_EUNSUPPORTED;
        }
        return r;
}

/* --- following --- */

static int add_object(struct weir_resources *list, const struct weir_kube_object *object, enum weir_kind kind,
                      struct weir_errs *errors)
{
        struct weir_err err = { .code = WEIR_EINVALID };

        if (object->resource)
                return weir_resources_add(list, object->resource);
        (void)weir_err_set(&err, WEIR_EINVALID, "%s/%s allows nothing: %s", weir_kind_info(kind)->type, object->key,
                           object->problem);
        return errors ? weir_errs_add(errors, &err) : 0;
}

static int collect(struct weir_kubernetes *store, struct weir_resources *list, struct weir_errs *errors)
{
        int r = 0;

        for (unsigned i = 0; i < WEIR_KIND_COUNT; i++) {
                struct weir_kube_table *table = weir_kube_follow_table(store->follow, (enum weir_kind)i);
                struct weir_kube_object *object, *next;

                HASH_ITER (hh, table->objects, object, next) {
                        r = add_object(list, object, (enum weir_kind)i, errors);
                        if (r < 0)
                                return r;
                }
        }
        return r;
}

/* Failure to keep is no failure of the policy in force: it is tried again at the next change. */
static void keep(struct weir_kubernetes *store)
{
        struct weir_resources list = { 0 };
        uint64_t now = weir_time_ns();

        if (!store->keep_due || now < store->keep_due || !weir_kube_follow_synced(store->follow))
                return;
        store->keep_due = 0;
        if (store->keep_path && collect(store, &list, NULL) == 0)
                (void)!weir_kube_keep_write(store->keep_path, store->client->config.server, &list);
        weir_resources_clear(&list);
}

static int restore(struct weir_kubernetes *store)
{
        struct weir_resources list = { 0 };
        int r;

        if (!store->keep_path)
                return -ENOENT;
        r = weir_kube_keep_read(store->keep_path, &list, &store->restored);
        for (size_t i = 0; i < list.n && r == 0; i++)
                r = weir_kube_table_restore(weir_kube_follow_table(store->follow, list.items[i]->kind), list.items[i]);
        weir_resources_clear(&list);
        return r;
}

/* A server that says no has said something; these say that nobody did, or not the server. */
static bool is_away(int r)
{
        return r == -EHOSTUNREACH || r == -ETIMEDOUT || r == -EBUSY || r == WEIR_EINVALID;
}

static int first_list(struct weir_kubernetes *store, struct weir_err *err)
{
        int r;

        r = weir_kube_follow_first(store->follow, err);
        if (r == 0) {
                store->keep_due = weir_time_ns();
                keep(store);
                return 0;
        }
        return is_away(r) && restore(store) == 0 ? 0 : r;
}

static int kubernetes_watch_fd(struct weir_store *base)
{
        struct weir_kubernetes *store = weir_kubernetes(base);
        struct weir_err err = { 0 };
        int r;

        if (store->follow)
                return weir_kube_follow_fd(store->follow);
        r = weir_kube_follow_new(store->client, &store->follow, &err);
        if (r < 0)
                return r;
        if (weir_kube_keep_path(store->client->config.server, &store->keep_folder, &store->keep_path) < 0)
                store->keep_path = NULL;
        store->first = first_list(store, &store->first_error);
        return weir_kube_follow_fd(store->follow);
}

static int by_key(const void *a, const void *b)
{
        const struct weir_resource *left = *(struct weir_resource *const *)a,
                                   *right = *(struct weir_resource *const *)b;
        int r = (int)left->kind - (int)right->kind;

        if (r == 0)
                r = strcmp(left->namespace_, right->namespace_);
        return r ? r : strcmp(left->name, right->name);
}

/* Until a first list or a kept policy is there, nothing is known, and nothing is not an empty policy. */
static int snapshot_followed(struct weir_kubernetes *store, struct weir_resources *list, struct weir_errs *errors)
{
        if (store->first < 0 && !weir_kube_follow_synced(store->follow))
                return weir_errs_add(errors, &store->first_error) < 0 ? -ENOMEM : WEIR_EUNSUPPORTED;
        return collect(store, list, errors);
}

static int kubernetes_snapshot(struct weir_store *base, struct weir_resources *list, struct weir_errs *errors)
{
        struct weir_kubernetes *store = weir_kubernetes(base);
        size_t n = list->n, total = errors->total;
        int r;

        r = store->follow ? snapshot_followed(store, list, errors) : snapshot_asked(store, list, errors);
        if (list->n > n)
                qsort(list->items + n, list->n - n, sizeof(*list->items), by_key);
        if (r == 0 && errors->total > total)
                return WEIR_EINVALID;
        return r;
}

static bool kubernetes_changed(struct weir_store *base)
{
        struct weir_kubernetes *store = weir_kubernetes(base);
        bool changed;

        if (!store->follow)
                return true;
        changed = weir_kube_follow_turn(store->follow);
        if (changed && !store->keep_due)
                store->keep_due = weir_time_ns() + store->client->times.keep * WEIR_MS;
        keep(store);
        if (store->keep_due)
                weir_kube_follow_wake(store->follow, store->keep_due);
        return changed;
}

static const char *kubernetes_trouble(struct weir_store *base)
{
        struct weir_kubernetes *store = weir_kubernetes(base);
        const char *trouble = store->follow ? weir_kube_follow_trouble(store->follow) : NULL;

        if (!store->restored || weir_kube_follow_synced(store->follow))
                return trouble;
        free(store->trouble);
        store->trouble = weir_asprintf("%s; it is the one kept on disk at %s",
                                       trouble ? trouble : store->first_error.text, store->restored);
        return store->trouble ? store->trouble : trouble;
}

static int kubernetes_protect(struct weir_store *base, struct weir_strv *paths)
{
        struct weir_kubernetes *store = weir_kubernetes(base);
        const struct weir_strv *files = &store->client->config.files;
        weir_auto_free char *folder = NULL, *path = NULL;
        int r = 0;

        for (size_t i = 0; i < files->n && r == 0; i++)
                r = weir_strv_add(paths, files->items[i]);
        /* Made now, or a workload could make it. */
        if (r == 0 && weir_kube_keep_path(store->client->config.server, &folder, &path) == 0)
                r = weir_strv_add(paths, folder);
        return r;
}

static void kubernetes_set_mark(struct weir_store *base, uint32_t mark)
{
        weir_kubernetes(base)->client->mark = mark;
}

/* --- open and close --- */

static void kubernetes_close(struct weir_store *base)
{
        struct weir_kubernetes *store = weir_kubernetes(base);

        /* What changed in the last moment, so that a start without the server has it. */
        if (store->follow && store->keep_due) {
                store->keep_due = 1;
                keep(store);
        }
        weir_kube_follow_free(store->follow);
        weir_kube_client_free(store->client);
        free(store->keep_folder);
        free(store->keep_path);
        free(store->restored);
        free(store->trouble);
        free(store);
}

static const struct weir_store_ops kubernetes_ops = {
        .create = kubernetes_create,
        .replace = kubernetes_replace,
        .apply = kubernetes_apply,
        .delete = kubernetes_delete,
        .get = kubernetes_get,
        .snapshot = kubernetes_snapshot,
        .watch_fd = kubernetes_watch_fd,
        .changed = kubernetes_changed,
        .trouble = kubernetes_trouble,
        .protect = kubernetes_protect,
        .set_mark = kubernetes_set_mark,
        .close = kubernetes_close,
        .tolerant = true,
};

bool weir_kubernetes_is(const struct weir_store *store)
{
        return store->ops == &kubernetes_ops;
}

int weir_kubernetes_open(const char *context, struct weir_store **ret_store, struct weir_err *err)
{
        __attribute__((cleanup(weir_kube_config_clear))) struct weir_kube_config config = { 0 };
        weir_auto(kube_client) struct weir_kube_client *client = NULL;
        struct weir_kubernetes *store;
        int r;

        r = weir_kube_config_read(context, &config, err);
        if (r == 0)
                r = weir_kube_client_new(&config, &client, err);
        if (r < 0 || !client)
                return r;
        store = calloc(1, sizeof(*store));
        if (!store)
                return out_of_memory(err);
        store->base.ops = &kubernetes_ops;
        store->base.path = client->config.context[0] ? weir_asprintf("kubernetes:%s", client->config.context) :
                                                       strdup("kubernetes");
        store->client = TAKE_PTR(client);
        if (!store->base.path) {
                weir_store_close(&store->base);
                return out_of_memory(err);
        }
        *ret_store = &store->base;
        return 0;
}

int weir_kubernetes_namespace(const char *context, char **ret_namespace, struct weir_err *err)
{
        struct weir_kube_config config = { 0 };
        int r;

        r = weir_kube_config_read(context, &config, err);
        if (r < 0)
                return r;
        *ret_namespace = TAKE_PTR(config.namespace_);
        weir_kube_config_clear(&config);
        return 0;
}
