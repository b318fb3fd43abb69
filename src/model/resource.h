/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resources: ExternalService and ServiceEntry as a person writes them, read from YAML or JSON, validated as Istio does,
 * and printed back. A resource that exists here has passed validation. Immutable after reading, shared by reference.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct weir_buf;
struct weir_errs;
struct weir_node;

enum weir_kind { WEIR_KIND_EXTERNAL_SERVICE, WEIR_KIND_SERVICE_ENTRY, WEIR_KIND_COUNT };

/**
 * struct weir_kind_info - what a kind is called where
 * @kind:     "ExternalService"
 * @type:     "external-service": storage key and messages
 * @singular: "externalservice", @plural "externalservices": what a person types
 * @group_resource: "externalservices.networking.istio.io": in API server messages
 * @group:    "networking.istio.io"
 * @versions: accepted, newest last, NULL-terminated
 */
struct weir_kind_info {
        const char *kind, *type, *singular, *plural, *group_resource, *group;
        const char *const *versions;
};
const struct weir_kind_info *weir_kind_info(enum weir_kind kind);
/* By singular or plural; -ENOENT. */
WEIR_MUST int weir_kind_from_type(const char *type, enum weir_kind *ret_kind);

enum weir_protocol {
        WEIR_PROTOCOL_UNSET, /* "" (ServiceEntry) */
        WEIR_PROTOCOL_TCP,
        WEIR_PROTOCOL_MONGO,
        WEIR_PROTOCOL_REDIS,
        WEIR_PROTOCOL_MYSQL,
        WEIR_PROTOCOL_HTTP,
        WEIR_PROTOCOL_HTTP2,
        WEIR_PROTOCOL_GRPC,
        WEIR_PROTOCOL_GRPC_WEB,
        WEIR_PROTOCOL_HTTP_PROXY,
        WEIR_PROTOCOL_HTTPS,
        WEIR_PROTOCOL_TLS,
        WEIR_PROTOCOL_UDP,
        WEIR_PROTOCOL_COUNT,
};
const char *weir_protocol_name(enum weir_protocol protocol); /* canonical: "TCP", "Mongo" */

enum weir_resolution {
        WEIR_RESOLUTION_NONE,
        WEIR_RESOLUTION_STATIC,
        WEIR_RESOLUTION_DNS,
        WEIR_RESOLUTION_DNS_ROUND_ROBIN,
        WEIR_RESOLUTION_DYNAMIC_DNS,
        WEIR_RESOLUTION_COUNT,
};
const char *weir_resolution_name(enum weir_resolution resolution); /* "NONE" */

struct weir_port {
        const char *name; /* never NULL */
        enum weir_protocol protocol;
        uint16_t number;
        uint16_t target_port; /* 0 if not given */
};

struct weir_endpoint_port {
        const char *name;
        uint16_t number;
};

struct weir_endpoint {
        const char *address; /* never NULL; validated text */
        const struct weir_endpoint_port *ports;
        size_t n_ports;
};

/* Strings and arrays are owned by the resource. For ExternalService @addresses is empty and CIDRs stand in @hosts. */
struct weir_resource {
        unsigned refs;
        enum weir_kind kind;
        const char *api_version;      /* "networking.istio.io/v1alpha3"; the kind's newest where the input had none */
        const char *name;             /* metadata.name */
        const char *namespace_;       /* "" if the input had none: the reader of a store fills "default" */
        const char *resource_version; /* "" if none */
        const char *created;          /* metadata.creationTimestamp, as it stands there; "" if none */
        const char *const *hosts;
        const char *const *addresses;
        const char *const *export_to;
        size_t n_hosts, n_addresses, n_export_to;
        const struct weir_port *ports;
        size_t n_ports;
        enum weir_resolution resolution;
        const struct weir_endpoint *endpoints;
        size_t n_endpoints;
        bool has_workload_selector;
        const char *path;       /* file it was read from, "-" for standard input */
        unsigned line;          /* of its first key */
        struct weir_node *node; /* the document tree, for printing */
};

struct weir_resource *weir_resource_ref(struct weir_resource *resource);
void weir_resource_unref(struct weir_resource *resource);

/* A growing list that owns one reference to each. */
struct weir_resources {
        struct weir_resource **items;
        size_t n, capacity;
};
WEIR_MUST int weir_resources_add(struct weir_resources *list,
                                 struct weir_resource *resource); /* takes a new reference */
void weir_resources_clear(struct weir_resources *list);

/* Limits of one file and document; the messages name them. */
#define WEIR_DOCUMENT_BYTES_MAX (1024 * 1024)
#define WEIR_DOCUMENT_DEPTH_MAX 32
#define WEIR_DOCUMENT_NODES_MAX 100000
#define WEIR_STREAM_BYTES_MAX (64 * 1024 * 1024) /* several documents */

/**
 * weir_resources_read() - every document of a YAML or JSON stream, read and validated
 * @bytes:    the stream; only read
 * @path:     for messages
 * @list:     resources that are valid are appended, in order (List items too)
 * @errors:   every error of every document, in document order, located
 * @warnings: e.g. host bits set, quoted number, not enforced; may be NULL
 *
 * Empty documents are skipped; a stream without any is 0 with nothing appended.
 * Return: 0; WEIR_EINVALID if @errors got any; -ENOMEM
 */
WEIR_MUST int weir_resources_read(const char *bytes, size_t n, const char *path, struct weir_resources *list,
                                  struct weir_errs *errors, struct weir_errs *warnings);

/* What a copy of a resource has otherwise in its metadata: NULL keeps, "" removes. */
struct weir_resource_change {
        const char *namespace_;
        const char *resource_version;
        const char *created; /* RFC 3339 */
};
/* A copy with metadata changed. 0 or -ENOMEM. */
WEIR_MUST int weir_resource_with(const struct weir_resource *resource, const struct weir_resource_change *change,
                                 struct weir_resource **ret_resource);

/* As one YAML document with sorted keys (no "---"), ending in a newline; reads back equal. Errors stick to @buf. */
void weir_resource_print_yaml(const struct weir_resource *resource, struct weir_buf *buf);
/* As one JSON object, @indent spaces a level (0: one line). */
void weir_resource_print_json(const struct weir_resource *resource, int indent, struct weir_buf *buf);

/**
 * weir_resource_not_enforced() - why this version allows nothing for (part of) a resource
 * Appends to @warnings one located entry for each part that allows nothing (a name host, HTTP, TLS, UDP, discovery DNS,
 * workloadSelector, no ports, ...), saying what is missing. Return: 0; -ENOMEM
 */
WEIR_MUST int weir_resource_not_enforced(const struct weir_resource *resource, struct weir_errs *warnings);

/* "<type>/<namespace>/<name>", as in Istio's messages; heap, NULL without memory. */
char *weir_resource_key(const struct weir_resource *resource);
