/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables, and the walk that holds a document against them. What a value must be is proto3's JSON form, narrowed
 * where YAML would surprise: text that YAML would read as a number or a bool must be quoted, and numbers are decimal
 * digits.
 */
#include "model/schema.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/gate.h"
#include "base/strutil.h"
#include "model/names.h"
#include "model/node.h"

static const char *const discovery_names[] = { "NONE", "STATIC", "DNS", NULL };
static const char *const resolution_names[] = { "NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS", NULL };
static const char *const location_names[] = { "MESH_EXTERNAL", "MESH_INTERNAL", NULL };

static const struct weir_field es_port_fields[] = {
        { .name = "number", .type = WEIR_FIELD_NUMBER },
        { .name = "protocol", .type = WEIR_FIELD_TEXT },
        { .name = "name", .type = WEIR_FIELD_TEXT },
        { .name = NULL },
};
static const struct weir_message es_port = { "v1alpha3.Port", es_port_fields };

static const struct weir_field es_endpoint_fields[] = {
        { .name = "address", .type = WEIR_FIELD_TEXT },
        { .name = "ports", .type = WEIR_FIELD_NUMBER_MAP },
        { .name = "labels", .type = WEIR_FIELD_TEXT_MAP },
        { .name = NULL },
};
static const struct weir_message es_endpoint = { "v1alpha3.ExternalService_Endpoint", es_endpoint_fields };

static const struct weir_field es_fields[] = {
        { .name = "hosts", .type = WEIR_FIELD_TEXTS },
        { .name = "ports", .type = WEIR_FIELD_MESSAGES, .message = &es_port },
        { .name = "discovery",
          .type = WEIR_FIELD_ENUM,
          .values = discovery_names,
          .enum_name = "istio.networking.v1alpha3.ExternalService_Discovery" },
        { .name = "endpoints", .type = WEIR_FIELD_MESSAGES, .message = &es_endpoint },
        { .name = NULL },
};
static const struct weir_message es_spec = { "v1alpha3.ExternalService", es_fields };

static const struct weir_field se_port_fields[] = {
        { .name = "number", .type = WEIR_FIELD_NUMBER },
        { .name = "protocol", .type = WEIR_FIELD_TEXT },
        { .name = "name", .type = WEIR_FIELD_TEXT },
        { .name = "targetPort", .alias = "target_port", .type = WEIR_FIELD_NUMBER },
        { .name = NULL },
};
static const struct weir_message se_port = { "v1alpha3.ServicePort", se_port_fields };

static const struct weir_field se_endpoint_fields[] = {
        { .name = "address", .type = WEIR_FIELD_TEXT },
        { .name = "ports", .type = WEIR_FIELD_NUMBER_MAP },
        { .name = "labels", .type = WEIR_FIELD_TEXT_MAP },
        { .name = "network", .type = WEIR_FIELD_TEXT },
        { .name = "locality", .type = WEIR_FIELD_TEXT },
        { .name = "weight", .type = WEIR_FIELD_NUMBER },
        { .name = "serviceAccount", .alias = "service_account", .type = WEIR_FIELD_TEXT },
        { .name = NULL },
};
static const struct weir_message se_endpoint = { "v1alpha3.WorkloadEntry", se_endpoint_fields };

static const struct weir_field se_selector_fields[] = {
        { .name = "labels", .type = WEIR_FIELD_TEXT_MAP },
        { .name = NULL },
};
static const struct weir_message se_selector = { "v1alpha3.WorkloadSelector", se_selector_fields };

static const struct weir_field se_fields[] = {
        { .name = "hosts", .type = WEIR_FIELD_TEXTS },
        { .name = "addresses", .type = WEIR_FIELD_TEXTS },
        { .name = "ports", .type = WEIR_FIELD_MESSAGES, .message = &se_port },
        { .name = "location",
          .type = WEIR_FIELD_ENUM,
          .values = location_names,
          .enum_name = "istio.networking.v1alpha3.ServiceEntry_Location" },
        { .name = "resolution",
          .type = WEIR_FIELD_ENUM,
          .values = resolution_names,
          .enum_name = "istio.networking.v1alpha3.ServiceEntry_Resolution" },
        { .name = "endpoints", .type = WEIR_FIELD_MESSAGES, .message = &se_endpoint },
        { .name = "exportTo", .alias = "export_to", .type = WEIR_FIELD_TEXTS },
        { .name = "subjectAltNames", .alias = "subject_alt_names", .type = WEIR_FIELD_TEXTS },
        { .name = "workloadSelector",
          .alias = "workload_selector",
          .type = WEIR_FIELD_MESSAGE,
          .message = &se_selector },
        { .name = NULL },
};
static const struct weir_message se_spec = { "v1alpha3.ServiceEntry", se_fields };

/* meta/v1 ObjectMeta of Kubernetes. */
static const struct weir_field metadata_fields[] = {
        { .name = "name", .type = WEIR_FIELD_TEXT },
        { .name = "generateName", .type = WEIR_FIELD_TEXT },
        { .name = "namespace", .type = WEIR_FIELD_TEXT },
        { .name = "selfLink", .type = WEIR_FIELD_TEXT },
        { .name = "uid", .type = WEIR_FIELD_TEXT },
        { .name = "resourceVersion", .type = WEIR_FIELD_TEXT },
        { .name = "generation", .type = WEIR_FIELD_NUMBER },
        { .name = "creationTimestamp", .type = WEIR_FIELD_ANY },
        { .name = "deletionTimestamp", .type = WEIR_FIELD_ANY },
        { .name = "deletionGracePeriodSeconds", .type = WEIR_FIELD_NUMBER },
        { .name = "labels", .type = WEIR_FIELD_TEXT_MAP },
        { .name = "annotations", .type = WEIR_FIELD_TEXT_MAP },
        { .name = "ownerReferences", .type = WEIR_FIELD_ANY },
        { .name = "finalizers", .type = WEIR_FIELD_TEXTS },
        { .name = "managedFields", .type = WEIR_FIELD_ANY },
        { .name = NULL },
};
static const struct weir_message metadata = { "v1.ObjectMeta", metadata_fields };

static const struct weir_field resource_fields[] = {
        { .name = "apiVersion", .type = WEIR_FIELD_TEXT },
        { .name = "kind", .type = WEIR_FIELD_TEXT },
        { .name = "metadata", .type = WEIR_FIELD_MESSAGE, .message = &metadata },
        { .name = "spec", .type = WEIR_FIELD_ANY },
        { .name = "status", .type = WEIR_FIELD_ANY },
        { .name = NULL },
};
const struct weir_message weir_schema_resource = { "the document", resource_fields };

const struct weir_message *weir_schema_spec(enum weir_kind kind)
{
        static const struct weir_message *const specs[] = {
                [WEIR_KIND_EXTERNAL_SERVICE] = &es_spec,
                [WEIR_KIND_SERVICE_ENTRY] = &se_spec,
        };
        _Static_assert(WEIR_ARRAY_SIZE(specs) == WEIR_KIND_COUNT, "a schema for each kind");

        return specs[kind];
}

int weir_place_add(struct weir_errs *list, const struct weir_place *place, const struct weir_node *node,
                   const char *suffix, const char *format, ...)
{
        struct weir_err err = { .code = WEIR_EINVALID,
                                .line = node ? node->line : 0,
                                .column = node ? node->column : 0 };
        va_list args;

        (void)snprintf(err.path, sizeof(err.path), "%s", place->path);
        (void)snprintf(err.field, sizeof(err.field), "%s%s", place->field, suffix ? suffix : "");
        va_start(args, format);
        (void)vsnprintf(err.text, sizeof(err.text), format, args);
        va_end(args);
        return weir_errs_add(list, &err);
}

struct walk {
        struct weir_errs *errors, *warnings;
        size_t unknown; /* errors that are no more than a field too much */
};

static int check_message(struct walk *w, const struct weir_message *message, const struct weir_node *node,
                         const struct weir_place *place);

static struct weir_place below(const struct weir_place *place, const char *name, long index)
{
        struct weir_place p = { .path = place->path };

        if (index >= 0)
                (void)snprintf(p.field, sizeof(p.field), "%.130s[%ld]", place->field, index);
        else
                (void)snprintf(p.field, sizeof(p.field), "%.100s%s%.50s", place->field, place->field[0] ? "." : "",
                               name);
        return p;
}

/* What YAML 1.1 or JSON would read as something else than text. */
static bool looks_like_text(const struct weir_node *node)
{
        static const char *const bools[] = { "true", "True", "TRUE", "false", "False", "FALSE", "yes", "Yes", "YES",
                                             "no",   "No",   "NO",   "on",    "On",    "ON",    "off", "Off", "OFF" };
        const char *text = node->text;
        char *end;

        if (!node->plain)
                return true;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(bools); i++)
                if (weir_streq(text, bools[i]))
                        return false;
        if (strspn(text, "+-.0123456789") == 0)
                return true;
        (void)strtod(text, &end);
        return *end != '\0' || end == text;
}

static int check_text(struct walk *w, const struct weir_node *node, const struct weir_place *place)
{
        char quoted[160];

        if (node->type != WEIR_NODE_SCALAR)
                return weir_place_add(w->errors, place, node, NULL, "must be text, not a %s",
                                      node->type == WEIR_NODE_SEQUENCE ? "list" : "mapping");
        if (looks_like_text(node))
                return 0;
        return weir_place_add(w->errors, place, node, NULL, "must be text: write %s in quotes",
                              weir_go_quote(node->text, quoted, sizeof(quoted)));
}

static bool is_decimal(const char *text)
{
        if (*text == '-')
                text++;
        return *text != '\0' && strspn(text, "0123456789") == strlen(text) && (text[0] != '0' || text[1] == '\0');
}

static int check_number(struct walk *w, const struct weir_node *node, const struct weir_place *place)
{
        char quoted[160];

        if (node->type != WEIR_NODE_SCALAR)
                return weir_place_add(w->errors, place, node, NULL, "must be a number");
        if (!is_decimal(node->text))
                return weir_place_add(w->errors, place, node, NULL, "must be a number in decimal digits, not %s",
                                      weir_go_quote(node->text, quoted, sizeof(quoted)));
        if (!node->plain && w->warnings)
                return weir_place_add(w->warnings, place, node, NULL, "a number needs no quotes");
        return 0;
}

static int check_enum(struct walk *w, const struct weir_field *field, const struct weir_node *node,
                      const struct weir_place *place)
{
        char quoted[160];

        if (node->type != WEIR_NODE_SCALAR)
                return weir_place_add(w->errors, place, node, NULL, "must be one of the names of %s", field->enum_name);
        if (is_decimal(node->text) && node->plain)
                return 0;
        for (size_t i = 0; field->values[i]; i++)
                if (weir_streq(field->values[i], node->text))
                        return 0;
        return weir_place_add(w->errors, place, node, NULL, "unknown value %s for enum %s",
                              weir_go_quote(node->text, quoted, sizeof(quoted)), field->enum_name);
}

static int check_map(struct walk *w, const struct weir_node *node, const struct weir_place *place, bool numbers)
{
        int r = 0;

        if (node->type != WEIR_NODE_MAPPING)
                return weir_place_add(w->errors, place, node, NULL, "must be a mapping");
        for (size_t i = 0; i < node->n && r == 0; i++) {
                struct weir_place p = below(place, node->items[2 * i]->text, -1);
                const struct weir_node *value = node->items[2 * i + 1];

                if (weir_node_is_null(value))
                        continue;
                r = numbers ? check_number(w, value, &p) : check_text(w, value, &p);
        }
        return r;
}

static int check_list(struct walk *w, const struct weir_field *field, const struct weir_node *node,
                      const struct weir_place *place)
{
        int r = 0;

        if (node->type != WEIR_NODE_SEQUENCE)
                return weir_place_add(w->errors, place, node, NULL, "must be a list");
        for (size_t i = 0; i < node->n && r == 0; i++) {
                struct weir_place p = below(place, NULL, (long)i);

                if (weir_node_is_null(node->items[i]))
                        r = weir_place_add(w->errors, &p, node->items[i], NULL, "must not be null");
                else
                        r = field->type == WEIR_FIELD_TEXTS ? check_text(w, node->items[i], &p) :
                                                              check_message(w, field->message, node->items[i], &p);
        }
        return r;
}

static int check_field(struct walk *w, const struct weir_field *field, const struct weir_node *value,
                       const struct weir_place *place)
{
        if (weir_node_is_null(value))
                return 0;
        switch (field->type) {
        case WEIR_FIELD_TEXT:
                return check_text(w, value, place);
        case WEIR_FIELD_NUMBER:
                return check_number(w, value, place);
        case WEIR_FIELD_ENUM:
                return check_enum(w, field, value, place);
        case WEIR_FIELD_MESSAGE:
                return check_message(w, field->message, value, place);
        case WEIR_FIELD_TEXTS:
        case WEIR_FIELD_MESSAGES:
                return check_list(w, field, value, place);
        case WEIR_FIELD_TEXT_MAP:
                return check_map(w, value, place, false);
        case WEIR_FIELD_NUMBER_MAP:
                return check_map(w, value, place, true);
        case WEIR_FIELD_ANY:
                break;
        }
        return 0;
}

static const struct weir_field *find_field(const struct weir_message *message, const char *name)
{
        for (const struct weir_field *f = message->fields; f->name; f++)
                if (weir_streq(f->name, name) || (f->alias && weir_streq(f->alias, name)))
                        return f;
        return NULL;
}

static int check_message(struct walk *w, const struct weir_message *message, const struct weir_node *node,
                         const struct weir_place *place)
{
        char quoted[160];
        int r = 0;

        if (node->type != WEIR_NODE_MAPPING)
                return weir_place_add(w->errors, place, node, NULL, "must be a mapping");
        for (size_t i = 0; i < node->n && r == 0; i++) {
                const struct weir_node *key = node->items[2 * i];
                const struct weir_field *field = find_field(message, key->text);
                struct weir_place p = below(place, key->text, -1);

                if (!field && !WEIR_GATE(UNKNOWN_FIELDS))
                        continue;
                w->unknown += !field;
                if (!field)
                        r = weir_place_add(w->errors, &p, key, NULL, "unknown field %s in %s",
                                           weir_go_quote(key->text, quoted, sizeof(quoted)), message->name);
                else if (field->alias && weir_streq(key->text, field->alias) && weir_node_get(node, field->name))
                        r = weir_place_add(w->errors, &p, key, NULL, "key \"%s\" is here twice, once as \"%s\"",
                                           field->name, field->alias);
                else
                        r = check_field(w, field, node->items[2 * i + 1], &p);
        }
        return r;
}

int weir_schema_check(const struct weir_message *message, const struct weir_node *node, const struct weir_place *place,
                      struct weir_errs *errors, struct weir_errs *warnings, bool *ret_sound)
{
        struct walk w = { .errors = errors, .warnings = warnings };
        size_t before = errors->total;
        int r;

        r = check_message(&w, message, node, place);
        *ret_sound = errors->total - before == w.unknown;
        return r;
}

const struct weir_node *weir_schema_get(const struct weir_message *message, const struct weir_node *node,
                                        const char *name)
{
        const struct weir_field *field = find_field(message, name);
        const struct weir_node *value = weir_node_get(node, name);

        return value || !field || !field->alias ? value : weir_node_get(node, field->alias);
}

int64_t weir_schema_number(const struct weir_node *node)
{
        long long value;

        if (!node)
                return 0;
        errno = 0;
        value = strtoll(node->text, NULL, 10);
        return value;
}

int64_t weir_schema_enum(const struct weir_message *message, const struct weir_node *node, const char *name)
{
        const struct weir_field *field = find_field(message, name);
        const struct weir_node *value = weir_schema_get(message, node, name);

        if (!value)
                return 0;
        for (size_t i = 0; field && field->values[i]; i++)
                if (weir_streq(field->values[i], value->text))
                        return (int64_t)i;
        return weir_schema_number(value);
}
