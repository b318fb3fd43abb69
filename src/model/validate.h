/* SPDX-License-Identifier: Apache-2.0 */
/* Istio's validation of a spec whose shape has been checked: messages and their order are Istio's. */
#pragma once

#include "model/names.h"
#include "model/schema.h"

struct weir_errs;
struct weir_node;

/* One port as it was written; nodes are NULL and texts "" where absent. */
struct weir_port_view {
        const struct weir_node *node, *number_node, *name_node, *protocol_node, *target_node;
        int64_t number, target;
        const char *name, *protocol;
};
//* What is validated, and where its complaints go. @warnings may be NULL. A failure of memory sticks in @result. */
struct weir_validation {
        const struct weir_message *message;
        const struct weir_node *spec; /* an empty mapping where the document has none */
        const char *path;
        const char *home; /* the resource's namespace, "default" where it has none */
        struct weir_errs *errors, *warnings;
        struct weir_port_view *ports; /* of spec.ports; owned */
        size_t n_ports;
        int result;
};

/* Fills v->ports; -ENOMEM. */
WEIR_MUST int weir_validation_begin(struct weir_validation *v);
void weir_validation_end(struct weir_validation *v);

void weir_validate_external_service(struct weir_validation *v);
void weir_validate_service_entry(struct weir_validation *v);

/* --- what both use --- */

/* Adds an error (a warning) at @node with the field path @format gives, e.g. "spec.ports[%zu].number". */
void weir_complain(struct weir_validation *v, const struct weir_node *node, const char *field, const char *text);
void weir_warn(struct weir_validation *v, const struct weir_node *node, const char *field, const char *text);
void weir_complain_all(struct weir_validation *v, const struct weir_node *node, const char *field,
                       const struct weir_check *check);

/* The list of a field of the spec; n is 0 where there is none. */
struct weir_list {
        struct weir_node *const *items;
        size_t n;
        const struct weir_node *node; /* the list, else the spec */
};
struct weir_list weir_spec_list(const struct weir_validation *v, const char *name);

/* Names and numbers that stood before; @kind is "external service" or "service entry". */
void weir_validate_port_twins(struct weir_validation *v, size_t i, const char *kind);
/* Name, protocol, number, in that order. */
void weir_validate_port(struct weir_validation *v, size_t i, enum weir_rules rules,
                        bool (*protocol_known)(const char *protocol));
/* Labels, then ports of one endpoint. */
void weir_validate_endpoint_labels(struct weir_validation *v, const struct weir_node *endpoint, size_t i,
                                   enum weir_rules rules);
void weir_validate_endpoint_ports(struct weir_validation *v, const struct weir_node *endpoint, size_t i,
                                  const char *kind, enum weir_rules rules);

/* Protocol by its name in any case; UNSET for "", COUNT for one that is not known. */
enum weir_protocol weir_protocol_from_text(const char *text);
