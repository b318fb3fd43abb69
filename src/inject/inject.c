/* SPDX-License-Identifier: Apache-2.0 */
/* Which objects have a pod, where it stands in them, and whether it is to be injected. */
#include "inject/inject.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "inject/internal.h"

#define APPS "apps/v1|apps/v1beta2|apps/v1beta1|extensions/v1beta1"

/* Kinds and where their pod's metadata and spec stand; versions in one string for it is only searched. */
static const struct kind {
        const char *kind, *versions, *path[4];
} kinds[] = {
        { "Pod", "v1", { NULL } },
        { "PodTemplate", "v1", { "template", NULL } },
        { "ReplicationController", "v1", { "spec", "template", NULL } },
        { "Deployment", APPS, { "spec", "template", NULL } },
        { "DaemonSet", APPS, { "spec", "template", NULL } },
        { "ReplicaSet", APPS, { "spec", "template", NULL } },
        { "StatefulSet", APPS, { "spec", "template", NULL } },
        { "DeploymentConfig", "v1|apps.openshift.io/v1", { "spec", "template", NULL } },
        { "Job", "batch/v1", { "spec", "template", NULL } },
        { "CronJob", "batch/v1|batch/v1beta1|batch/v2alpha1", { "spec", "jobTemplate", "spec", "template" } },
};

int complain(struct injection *in, const struct weir_outline *node, const char *field, const char *format, ...)
{
        struct weir_err err = { .code = WEIR_EINVALID, .line = node->line, .column = node->column };
        va_list args;

        (void)snprintf(err.path, sizeof(err.path), "%s", in->path);
        (void)snprintf(err.field, sizeof(err.field), "%s", field);
        va_start(args, format);
        (void)vsnprintf(err.text, sizeof(err.text), format, args);
        va_end(args);
        return weir_errs_add(in->errors, &err);
}

int note(struct injection *in, const char *format, ...)
{
        char text[1024];
        va_list args;

        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        return weir_strv_has(in->notes, text) ? 0 : weir_strv_add(in->notes, text);
}

static const char *text_at(const struct weir_outline *mapping, const char *key)
{
        const struct weir_outline *node = weir_outline_get(mapping, key);

        return node && node->type == WEIR_NODE_SCALAR && node->text ? node->text : "";
}

static bool has_version(const struct kind *kind, const char *version)
{
        size_t n = strlen(version);

        for (const char *at = kind->versions; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
                if (strcspn(at, "|") == n && strncmp(at, version, n) == 0)
                        return true;
        return false;
}

static int inject_pod(struct injection *in, const char *title, const struct weir_outline *object,
                      const struct weir_outline *template)
{
        const char *namespace_ = text_at(weir_outline_get(object, "metadata"), "namespace");
        const struct weir_inject_options *o = in->options;
        struct pod pod = {
                .in = in,
                .title = title,
                .object = object,
                .metadata = weir_outline_get(template, "metadata"),
                .spec = weir_outline_get(template, "spec"),
                .include_ranges = o->include_ranges,
                .exclude_ranges = o->exclude_ranges,
                .include_ports = o->include_ports,
                .exclude_ports = o->exclude_ports,
        };
        size_t before = in->errors->total;
        int r;

        if (!pod.spec || pod.spec->type != WEIR_NODE_MAPPING)
                return complain(in, template, "", "%s has no spec of a pod", title);
        if (!weir_inject_required(WEIR_INJECT_ENABLED, namespace_, NULL, false))
                return note(in, "===> Skipping injection because %s is in namespace %s", title, namespace_);
        if (!weir_inject_required(WEIR_INJECT_ENABLED, "", label_or_annotation(pod.metadata, "sidecar.istio.io/inject"),
                                  false))
                return note(in, "===> Skipping injection because %s has sidecar injection disabled", title);
        r = check_pod(&pod);
        if (r == 0 && in->errors->total == before)
                r = take_annotations(&pod);
        return r == 0 && in->errors->total == before ? edit_pod(&pod) : r;
}

static int inject_kind(struct injection *in, const struct kind *kind, const struct weir_outline *root)
{
        const struct weir_outline *metadata = weir_outline_get(root, "metadata"), *at = root;
        const char *name = text_at(metadata, "name")[0] ? text_at(metadata, "name") : text_at(metadata, "generateName");
        weir_auto_free char *title = weir_asprintf("%s \"%s\"", kind->kind, name);

        if (!title)
                return -ENOMEM;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(kind->path) && kind->path[i]; i++) {
                at = weir_outline_get(at, kind->path[i]);
                if (!at || at->type != WEIR_NODE_MAPPING)
                        return complain(in, at ? at : root, kind->path[i], "%s has no %s to inject", title,
                                        kind->path[i]);
        }
        return inject_pod(in, title, root, at);
}

/* What the API server will say of a namespace that wants no capabilities, said before it does. */
static int note_pod_security(struct injection *in, const struct weir_outline *root)
{
        const char *level = text_at(weir_outline_get(weir_outline_get(root, "metadata"), "labels"),
                                    "pod-security.kubernetes.io/enforce");

        if (!weir_streq(level, "baseline") && !weir_streq(level, "restricted"))
                return 0;
        return note(in,
                    "Warning: namespace %s enforces Pod Security \"%s\", which refuses NET_ADMIN and with it every "
                    "injected pod; it needs \"privileged\", until Weir has an agent on the node that lays the rules",
                    text_at(weir_outline_get(root, "metadata"), "name"), level);
}

static int inject_object(void *context, const struct weir_outline *root)
{
        struct injection *in = context;
        const char *kind = text_at(root, "kind"), *version = text_at(root, "apiVersion");
        const struct weir_outline *items = weir_outline_get(root, "items");
        int r = 0;

        if (weir_streq(kind, "List") && items && items->type == WEIR_NODE_SEQUENCE) {
                for (size_t i = 0; i < items->n && r == 0; i++)
                        r = inject_object(context, items->items[i]);
                return r;
        }
        if (weir_streq(kind, "Namespace"))
                return note_pod_security(in, root);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(kinds); i++) {
                if (!weir_streq(kind, kinds[i].kind))
                        continue;
                if (has_version(&kinds[i], version))
                        return inject_kind(in, &kinds[i], root);
                return note(in, "Warning: %s \"%s\" is left as it is: %s is no apiVersion of it that Weir knows", kind,
                            text_at(weir_outline_get(root, "metadata"), "name"), version);
        }
        return 0;
}

int weir_inject(const char *bytes, size_t n, const char *path, const struct weir_inject_options *options,
                struct weir_buf *out, struct weir_errs *errors, struct weir_strv *notes)
{
        struct injection in = {
                .bytes = bytes, .n = n, .path = path, .options = options, .errors = errors, .notes = notes
        };
        int r = weir_outline_read(bytes, n, path, inject_object, &in, errors);

        if (r == 0)
                r = apply_edits(&in, out);
        clear_edits(&in);
        return r;
}
