/* SPDX-License-Identifier: Apache-2.0 */
/* From a stream to resources: the envelope, lists, and the order in which a document is judged. */
#include <errno.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "model/draft.h"
#include "model/node.h"
#include "model/resource.h"
#include "model/validate.h"

struct reading {
        const char *path;
        struct weir_resources *list;
        struct weir_errs *errors, *warnings;
};

static int complain(struct reading *r, const struct weir_node *node, const char *field, const char *text)
{
        struct weir_place place = { .path = r->path };

        (void)snprintf(place.field, sizeof(place.field), "%s", field);
        return weir_place_add(r->errors, &place, node, NULL, "%s", text);
}

static const struct weir_kind_info *find_kind(const char *kind, enum weir_kind *ret_kind)
{
        for (size_t i = 0; i < WEIR_KIND_COUNT; i++)
                if (weir_streq(weir_kind_info((enum weir_kind)i)->kind, kind)) {
                        *ret_kind = (enum weir_kind)i;
                        return weir_kind_info((enum weir_kind)i);
                }
        return NULL;
}

static int check_api_version(struct reading *r, const struct weir_kind_info *info, const struct weir_node *node)
{
        char text[256], quoted[96], want[96] = "";
        size_t n = strlen(info->group);

        if (!node)
                return 0;
        for (const char *const *version = info->versions; *version; version++) {
                if (strncmp(node->text, info->group, n) == 0 && node->text[n] == '/' &&
                    weir_streq(node->text + n + 1, *version))
                        return 0;
                (void)snprintf(want + strlen(want), sizeof(want) - strlen(want), "%s%s/%s", want[0] ? ", " : "",
                               info->group, *version);
        }
        (void)snprintf(text, sizeof(text), "%s is not a version of %s; use %s",
                       weir_go_quote(node->text, quoted, sizeof(quoted)), info->kind, want);
        return complain(r, node, "apiVersion", text);
}

/* Names become names of files, so what the API server would refuse is refused here. */
static int check_metadata(struct reading *r, const struct weir_node *root)
{
        const struct weir_node *metadata = weir_node_get(root, "metadata"), *name = weir_node_get(metadata, "name");
        const struct weir_node *namespace_ = weir_node_get(metadata, "namespace");
        int e = 0;

        if (!name)
                return complain(r, metadata ? metadata : root, "metadata.name", "a name is required");
        if (!weir_is_dns1123_subdomain(name->text))
                e = complain(r, name, "metadata.name",
                             "must be a DNS-1123 subdomain: lower case letters, digits, '-' and '.'");
        if (e == 0 && namespace_ && !weir_is_dns1123_label(namespace_->text))
                e = complain(r, namespace_, "metadata.namespace",
                             "must be a DNS-1123 label: lower case letters, digits and '-'");
        return e;
}

static int validate(struct reading *r, enum weir_kind kind, const struct weir_node *root)
{
        weir_auto(node) struct weir_node *empty = weir_node_new(WEIR_NODE_MAPPING, root->line, root->column);
        const struct weir_node *spec = weir_node_get(root, "spec");
        const struct weir_node *namespace_ = weir_node_get(weir_node_get(root, "metadata"), "namespace");
        struct weir_validation v = {
                .message = weir_schema_spec(kind),
                .spec = spec ? spec : empty,
                .path = r->path,
                .home = namespace_ ? namespace_->text : "default",
                .errors = r->errors,
                .warnings = r->warnings,
        };

        if (!empty || weir_validation_begin(&v) < 0)
                return -ENOMEM;
        switch (kind) {
        case WEIR_KIND_EXTERNAL_SERVICE:
                weir_validate_external_service(&v);
                break;
        case WEIR_KIND_SERVICE_ENTRY:
        case WEIR_KIND_COUNT:
                weir_validate_service_entry(&v);
                break;
        }
        weir_validation_end(&v);
        return v.result;
}

/* Shape first; values of the wrong type cannot be validated, fields too many do not hinder. @ret_kind is set if 0 comes
 * back and no error was added. */
static int judge(struct reading *r, const struct weir_node *root, enum weir_kind *ret_kind)
{
        struct weir_place place = { .path = r->path }, spec_place = { .path = r->path, .field = "spec" };
        const struct weir_node *kind = weir_node_get(root, "kind"), *spec = weir_node_get(root, "spec");
        const struct weir_kind_info *info;
        bool sound, spec_sound = true;
        weir_auto(buf) struct weir_buf text = { 0 };
        int e;

        e = weir_schema_check(&weir_schema_resource, root, &place, r->errors, r->warnings, &sound);
        if (e < 0 || root->type != WEIR_NODE_MAPPING)
                return e;
        if (!kind || kind->type != WEIR_NODE_SCALAR)
                return complain(r, kind ? kind : root, "kind", "a kind is required: ExternalService or ServiceEntry");
        info = find_kind(kind->text, ret_kind);
        if (!info) {
                weir_buf_puts(&text, "kind ");
                weir_buf_escape(&text, kind->text, strnlen(kind->text, 100));
                weir_buf_puts(&text, " is not known");
                return text.error ? text.error : complain(r, kind, "kind", text.data);
        }
        if (spec)
                e = weir_schema_check(weir_schema_spec(*ret_kind), spec, &spec_place, r->errors, r->warnings,
                                      &spec_sound);
        if (e < 0 || !sound || !spec_sound)
                return e;
        e = check_api_version(r, info, weir_node_get(root, "apiVersion"));
        if (e == 0)
                e = check_metadata(r, root);
        return e < 0 ? e : validate(r, *ret_kind, root);
}

static int take(struct reading *r, struct weir_node *root)
{
        weir_auto(node) struct weir_node *owned = root;
        size_t before = r->errors->total;
        struct weir_resource *resource = NULL;
        enum weir_kind kind = WEIR_KIND_COUNT;
        int e;

        e = judge(r, root, &kind);
        if (e < 0 || r->errors->total > before)
                return e;
        e = weir_resource_from_node(TAKE_PTR(owned), kind, r->path, &resource);
        if (e < 0)
                return e;
        e = weir_resources_add(r->list, resource);
        if (e == 0 && r->warnings)
                e = weir_resource_not_enforced(resource, r->warnings);
        weir_resource_unref(resource);
        return e;
}

/* kind: List, as kubectl prints several objects. */
static int take_list(struct reading *r, struct weir_node *root)
{
        weir_auto(node) struct weir_node *owned = root;
        struct weir_node *items = weir_node_get(root, "items");
        int e = 0;

        (void)owned;
        for (size_t i = 0; i < root->n && e == 0; i++) {
                const char *key = root->items[2 * i]->text;

                if (!weir_streq(key, "apiVersion") && !weir_streq(key, "kind") && !weir_streq(key, "metadata") &&
                    !weir_streq(key, "items")) {
                        char text[256], quoted[160];

                        (void)snprintf(text, sizeof(text), "unknown field %s in v1.List",
                                       weir_go_quote(key, quoted, sizeof(quoted)));
                        e = complain(r, root->items[2 * i], key, text);
                }
        }
        if (items && items->type != WEIR_NODE_SEQUENCE)
                return complain(r, items, "items", "must be a list");
        for (size_t i = 0; items && i < items->n && e == 0; i++) {
                struct weir_node *item = items->items[i];

                items->items[i] = weir_node_new(WEIR_NODE_MAPPING, 0, 0);
                if (!items->items[i]) {
                        items->items[i] = item;
                        return -ENOMEM;
                }
                e = take(r, item);
        }
        return e;
}

static int on_document(void *context, struct weir_node *root)
{
        struct reading *r = context;
        const struct weir_node *kind = weir_node_get(root, "kind");

        if (kind && kind->type == WEIR_NODE_SCALAR && weir_streq(kind->text, "List"))
                return take_list(r, root);
        return take(r, root);
}

int weir_resources_read(const char *bytes, size_t n, const char *path, struct weir_resources *list,
                        struct weir_errs *errors, struct weir_errs *warnings)
{
        struct reading r = { .path = path, .list = list, .errors = errors, .warnings = warnings };
        int e;

        e = weir_node_read(bytes, n, path, on_document, &r, errors);
        if (e < 0)
                return e;
        return errors->total > 0 ? WEIR_EINVALID : 0;
}
