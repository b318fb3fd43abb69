/* SPDX-License-Identifier: Apache-2.0 */
/* What the validation of both kinds shares: ports, endpoints, and where complaints go. */
#include "model/validate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/strutil.h"
#include "model/node.h"

static void add(struct weir_validation *v, struct weir_errs *list, const struct weir_node *node, const char *field,
                const char *text)
{
        struct weir_place place = { .path = v->path };
        int r;

        (void)snprintf(place.field, sizeof(place.field), "%s", field);
        r = weir_place_add(list, &place, node ? node : v->spec, NULL, "%s", text);
        if (r < 0 && v->result == 0)
                v->result = r;
}

void weir_complain(struct weir_validation *v, const struct weir_node *node, const char *field, const char *text)
{
        add(v, v->errors, node, field, text);
}

void weir_warn(struct weir_validation *v, const struct weir_node *node, const char *field, const char *text)
{
        if (v->warnings)
                add(v, v->warnings, node, field, text);
}

void weir_complain_all(struct weir_validation *v, const struct weir_node *node, const char *field,
                       const struct weir_check *check)
{
        for (size_t i = 0; i < check->n; i++)
                weir_complain(v, node, field, check->text[i]);
}

struct weir_list weir_spec_list(const struct weir_validation *v, const char *name)
{
        const struct weir_node *list = weir_schema_get(v->message, v->spec, name);

        if (!list)
                return (struct weir_list){ .node = v->spec };
        return (struct weir_list){ .items = list->items, .n = list->n, .node = list };
}

static const char *text_of(const struct weir_node *node)
{
        return node ? node->text : "";
}

static struct weir_port_view port_view(const struct weir_node *port)
{
        struct weir_port_view view = {
                .node = port,
                .number_node = weir_node_get(port, "number"),
                .name_node = weir_node_get(port, "name"),
                .protocol_node = weir_node_get(port, "protocol"),
                .target_node = weir_node_get(port, "targetPort"),
        };

        if (!view.target_node)
                view.target_node = weir_node_get(port, "target_port");
        view.number = weir_schema_number(view.number_node);
        view.target = weir_schema_number(view.target_node);
        view.name = text_of(view.name_node);
        view.protocol = text_of(view.protocol_node);
        return view;
}

int weir_validation_begin(struct weir_validation *v)
{
        struct weir_list ports = weir_spec_list(v, "ports");

        v->ports = calloc(ports.n ? ports.n : 1, sizeof(*v->ports));
        if (!v->ports)
                return -ENOMEM;
        v->n_ports = ports.n;
        for (size_t i = 0; i < ports.n; i++)
                v->ports[i] = port_view(ports.items[i]);
        return 0;
}

void weir_validation_end(struct weir_validation *v)
{
        free(v->ports);
        v->ports = NULL;
}

void weir_validate_port_twins(struct weir_validation *v, size_t i, const char *kind)
{
        const struct weir_port_view port = v->ports[i];
        char field[64], text[256], quoted[160];
        bool name = false, number = false;

        for (size_t k = 0; k < i; k++) {
                name |= weir_streq(v->ports[k].name, port.name);
                number |= v->ports[k].number == port.number;
        }
        if (name) {
                (void)snprintf(field, sizeof(field), "spec.ports[%zu].name", i);
                (void)snprintf(text, sizeof(text), "%s port name %s already defined", kind,
                               weir_go_quote(port.name, quoted, sizeof(quoted)));
                weir_complain(v, port.name_node ? port.name_node : port.node, field, text);
        }
        if (number) {
                (void)snprintf(field, sizeof(field), "spec.ports[%zu].number", i);
                (void)snprintf(text, sizeof(text), "%s port %" PRId64 " already defined", kind, port.number);
                weir_complain(v, port.number_node ? port.number_node : port.node, field, text);
        }
}

void weir_validate_port(struct weir_validation *v, size_t i, enum weir_rules rules,
                        bool (*protocol_known)(const char *protocol))
{
        const struct weir_port_view port = v->ports[i];
        struct weir_check check;
        char field[64], text[WEIR_CHECK_TEXT];

        (void)snprintf(field, sizeof(field), "spec.ports[%zu].name", i);
        weir_check_port_name(port.name, rules, &check);
        weir_complain_all(v, port.name_node ? port.name_node : port.node, field, &check);
        if (!protocol_known(port.protocol)) {
                (void)snprintf(field, sizeof(field), "spec.ports[%zu].protocol", i);
                (void)snprintf(text, sizeof(text), "unsupported protocol: %.400s", port.protocol);
                weir_complain(v, port.protocol_node ? port.protocol_node : port.node, field, text);
        }
        (void)snprintf(field, sizeof(field), "spec.ports[%zu].number", i);
        weir_check_port(port.number, &check);
        weir_complain_all(v, port.number_node ? port.number_node : port.node, field, &check);
}

void weir_validate_endpoint_labels(struct weir_validation *v, const struct weir_node *endpoint, size_t i,
                                   enum weir_rules rules)
{
        const struct weir_node *labels = weir_node_get(endpoint, "labels");

        for (size_t k = 0; labels && k < labels->n; k++) {
                struct weir_check check;
                char field[64];

                (void)snprintf(field, sizeof(field), "spec.endpoints[%zu].labels", i);
                weir_check_tag(labels->items[2 * k]->text, labels->items[2 * k + 1]->text, rules, &check);
                weir_complain_all(v, labels->items[2 * k], field, &check);
        }
}

static bool port_named(const struct weir_validation *v, const char *name)
{
        for (size_t i = 0; i < v->n_ports; i++)
                if (weir_streq(v->ports[i].name, name))
                        return true;
        return false;
}

void weir_validate_endpoint_ports(struct weir_validation *v, const struct weir_node *endpoint, size_t i,
                                  const char *kind, enum weir_rules rules)
{
        const struct weir_node *ports = weir_node_get(endpoint, "ports");

        for (size_t k = 0; ports && k < ports->n; k++) {
                const struct weir_node *name = ports->items[2 * k], *number = ports->items[2 * k + 1];
                int64_t value = weir_node_is_null(number) ? 0 : weir_schema_number(number);
                char field[160], text[WEIR_CHECK_TEXT];
                struct weir_check check;

                (void)snprintf(field, sizeof(field), "spec.endpoints[%zu].ports.%.63s", i, name->text);
                if (!port_named(v, name->text)) {
                        (void)snprintf(text, sizeof(text), "endpoint port %" PRId64 " is not defined by the %s", value,
                                       kind);
                        weir_complain(v, number, field, text);
                }
                weir_check_port_name(name->text, rules, &check);
                weir_complain_all(v, name, field, &check);
                weir_check_port(value, &check);
                weir_complain_all(v, number, field, &check);
        }
}

static const struct {
        const char *name, *canonical;
} protocols[] = {
        [WEIR_PROTOCOL_UNSET] = { "", "" },
        [WEIR_PROTOCOL_TCP] = { "tcp", "TCP" },
        [WEIR_PROTOCOL_MONGO] = { "mongo", "Mongo" },
        [WEIR_PROTOCOL_REDIS] = { "redis", "Redis" },
        [WEIR_PROTOCOL_MYSQL] = { "mysql", "MySQL" },
        [WEIR_PROTOCOL_HTTP] = { "http", "HTTP" },
        [WEIR_PROTOCOL_HTTP2] = { "http2", "HTTP2" },
        [WEIR_PROTOCOL_GRPC] = { "grpc", "GRPC" },
        [WEIR_PROTOCOL_GRPC_WEB] = { "grpc-web", "GRPC-Web" },
        [WEIR_PROTOCOL_HTTP_PROXY] = { "http_proxy", "HTTP_PROXY" },
        [WEIR_PROTOCOL_HTTPS] = { "https", "HTTPS" },
        [WEIR_PROTOCOL_TLS] = { "tls", "TLS" },
        [WEIR_PROTOCOL_UDP] = { "udp", "UDP" },
};
_Static_assert(WEIR_ARRAY_SIZE(protocols) == WEIR_PROTOCOL_COUNT, "a name for each protocol");

enum weir_protocol weir_protocol_from_text(const char *text)
{
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(protocols); i++)
                if (strcasecmp(text, protocols[i].name) == 0)
                        return (enum weir_protocol)i;
        return WEIR_PROTOCOL_COUNT;
}

const char *weir_protocol_name(enum weir_protocol protocol)
{
        return (unsigned)protocol < WEIR_PROTOCOL_COUNT ? protocols[protocol].canonical : "unsupported";
}
