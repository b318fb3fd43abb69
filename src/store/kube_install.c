/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Laying down what a cluster needs: definitions, who may read them, and the controller that writes their status.
 *
 * What is there and does not say that it is Weir's stays as it is: an installed Istio's ServiceEntry is Istio's. New
 * objects are created, never put over one that appeared in between; Weir's own are applied again, so that installing
 * twice, or a newer Weir, is one command.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "base/time.h"
#include "store/kube_store.h"
#include "store/kubernetes.h"

/* @path: of the object in the API; its collection is what stands before the last slash. */
struct manifest {
        const char *kind, *name, *path, *text;
};

#include "kube-manifests.h"

#define IMAGE "@IMAGE@"
#define OWNER_LABEL "app.kubernetes.io/managed-by"

static char *with_image(const struct manifest *manifest, const char *image)
{
        const char *at = strstr(manifest->text, IMAGE);

        if (!at)
                return strdup(manifest->text);
        return weir_asprintf("%.*s%s%s", (int)(at - manifest->text), manifest->text, image, at + strlen(IMAGE));
}

void weir_kubernetes_print_manifests(const char *image, struct weir_buf *buf)
{
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(manifests); i++) {
                weir_auto_free char *text = with_image(&manifests[i], image);

                if (!text)
                        buf->error = buf->error ? buf->error : -ENOMEM;
                else
                        weir_buf_printf(buf, "%s%s", i ? "---\n" : "", text);
        }
}

static int call(struct weir_kubernetes *store, const char *method, const char *path, const char *body, bool apply,
                json_t **ret_json, struct weir_err *err)
{
        __attribute__((cleanup(weir_kube_request_clear))) struct weir_kube_request request = {
                .method = method,
                .content_type = apply ? "application/apply-patch+yaml" : "application/yaml",
                .path = strdup(path),
                .body = body,
        };

        if (!request.path)
                return weir_err_set(err, -ENOMEM, "out of memory");
        return weir_kube_call(store->client, &request, ret_json, err);
}

static bool is_ours(const json_t *object)
{
        const json_t *labels = json_object_get(json_object_get(object, "metadata"), "labels");
        const char *owner = json_string_value(json_object_get(labels, OWNER_LABEL));

        return owner && weir_streq(owner, "weir");
}

/* WEIR_EEXISTS if somebody was faster. */
static int create(struct weir_kubernetes *store, const struct manifest *manifest, const char *text,
                  struct weir_err *err)
{
        const char *slash = strrchr(manifest->path, '/');
        weir_auto_free char *path = weir_asprintf("%.*s?fieldManager=weir&fieldValidation=Strict",
                                                  (int)(slash - manifest->path), manifest->path);

        return path ? call(store, "POST", path, text, false, NULL, err) : weir_err_set(err, -ENOMEM, "out of memory");
}

static int apply(struct weir_kubernetes *store, const struct manifest *manifest, const char *text, struct weir_err *err)
{
        weir_auto_free char *path =
                weir_asprintf("%s?fieldManager=weir&fieldValidation=Strict&force=true", manifest->path);

        return path ? call(store, "PATCH", path, text, true, NULL, err) : weir_err_set(err, -ENOMEM, "out of memory");
}

static int install_one(struct weir_kubernetes *store, const struct manifest *manifest, const char *image,
                       enum weir_kube_installed *ret_done, struct weir_err *err)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *there = NULL;
        weir_auto_free char *text = with_image(manifest, image);
        struct weir_err ignored = { 0 };
        int r;

        if (!text)
                return weir_err_set(err, -ENOMEM, "out of memory");
        r = call(store, "GET", manifest->path, NULL, false, &there, &ignored);
        if (r == WEIR_ENOTFOUND) {
                *ret_done = WEIR_KUBE_CREATED;
                return create(store, manifest, text, err);
        }
        if (r < 0) {
                *err = ignored;
                return r;
        }
        *ret_done = is_ours(there) ? WEIR_KUBE_CONFIGURED : WEIR_KUBE_FOREIGN;
        return *ret_done == WEIR_KUBE_FOREIGN ? 0 : apply(store, manifest, text, err);
}

/* Until the API server serves a kind it has just been told of, which is a matter of moments. */
static int wait_established(struct weir_kubernetes *store, const struct manifest *manifest, struct weir_err *err)
{
        uint64_t deadline = weir_time_ns() + store->client->times.request * WEIR_MS;

        for (;;) {
                __attribute__((cleanup(weir_json_unref_cleanup))) json_t *object = NULL;
                const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
                json_t *conditions, *condition;
                size_t i;
                int r;

                r = call(store, "GET", manifest->path, NULL, false, &object, err);
                if (r < 0)
                        return r;
                conditions = json_object_get(json_object_get(object, "status"), "conditions");
                json_array_foreach(conditions, i, condition)
                {
                        const char *type = json_string_value(json_object_get(condition, "type"));
                        const char *status = json_string_value(json_object_get(condition, "status"));

                        if (type && status && weir_streq(type, "Established") && weir_streq(status, "True"))
                                return 0;
                }
                if (weir_time_ns() >= deadline)
                        return weir_err_set(err, -ETIMEDOUT, "the API server %s does not serve %s yet: try again",
                                            store->client->config.server, manifest->name);
                (void)nanosleep(&pause, NULL);
        }
}

int weir_kubernetes_install(struct weir_store *base, const char *image,
                            void (*done)(const char *kind, const char *name, enum weir_kube_installed what),
                            struct weir_err *err)
{
        struct weir_kubernetes *store = weir_kubernetes(base);

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(manifests); i++) {
                enum weir_kube_installed what = WEIR_KUBE_CREATED;
                int r;

                r = install_one(store, &manifests[i], image, &what, err);
                if (r == 0 && weir_streq(manifests[i].kind, "CustomResourceDefinition"))
                        r = wait_established(store, &manifests[i], err);
                if (r < 0)
                        return r;
                done(manifests[i].kind, manifests[i].name, what);
        }
        return 0;
}
