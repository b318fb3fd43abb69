/* SPDX-License-Identifier: Apache-2.0 */
/* ServiceEntry, by the rules of today's Istio: messages and order are theirs. */
#include <stdio.h>
#include <string.h>

#include "base/addr.h"
#include "base/strutil.h"
#include "model/node.h"
#include "model/validate.h"

#define KIND "service entry"
#define UNIX_PREFIX "unix://"

static bool protocol_known(const char *text)
{
        return weir_protocol_from_text(text) != WEIR_PROTOCOL_COUNT;
}

static bool is_http(enum weir_protocol p)
{
        return p == WEIR_PROTOCOL_HTTP || p == WEIR_PROTOCOL_HTTP2 || p == WEIR_PROTOCOL_HTTP_PROXY ||
               p == WEIR_PROTOCOL_GRPC || p == WEIR_PROTOCOL_GRPC_WEB;
}

static bool is_tls(enum weir_protocol p)
{
        return p == WEIR_PROTOCOL_HTTPS || p == WEIR_PROTOCOL_TLS;
}

/* What Istio calls TCP: everything whose bytes it would not have to understand. */
static bool is_tcp(enum weir_protocol p)
{
        return is_tls(p) || p == WEIR_PROTOCOL_TCP || p == WEIR_PROTOCOL_MONGO || p == WEIR_PROTOCOL_REDIS ||
               p == WEIR_PROTOCOL_MYSQL;
}

/* Return: whether validation goes on; a wrong selector is the only complaint that is made. */
static bool validate_selector(struct weir_validation *v, const struct weir_node *selector)
{
        const struct weir_node *labels = weir_node_get(selector, "labels");
        static const char field[] = "spec.workloadSelector.labels";

        if (!selector)
                return true;
        for (size_t i = 0; labels && i < labels->n; i++) {
                const char *key = labels->items[2 * i]->text, *value = labels->items[2 * i + 1]->text;
                char text[WEIR_CHECK_TEXT];

                if (key[0] == '\0')
                        (void)snprintf(text, sizeof(text), "empty key is not supported in selector: \"%.200s=%.200s\"",
                                       key, value);
                else if (strchr(key, '*') || strchr(value, '*'))
                        (void)snprintf(text, sizeof(text), "wildcard is not supported in selector: \"%.200s=%.200s\"",
                                       key, value);
                else
                        continue;
                weir_complain(v, labels->items[2 * i], field, text);
                return false;
        }
        if (!labels || labels->n == 0)
                weir_warn(v, selector, "spec.workloadSelector",
                          KIND
                          ": workload selector specified without labels, will be applied to all services in namespace");
        return true;
}

static void validate_hosts(struct weir_validation *v, const struct weir_list *hosts)
{
        if (hosts->n == 0)
                weir_complain(v, hosts->node, "spec.hosts", KIND " must have at least one host");
        for (size_t i = 0; i < hosts->n; i++) {
                const struct weir_node *host = hosts->items[i];
                char field[64], text[512], quoted[320];
                struct weir_check check;

                (void)snprintf(field, sizeof(field), "spec.hosts[%zu]", i);
                if (weir_streq(host->text, "*")) {
                        weir_complain(v, host, field, "invalid host *");
                        continue;
                }
                weir_check_wildcard_domain(host->text, WEIR_RULES_TODAY, &check);
                weir_complain_all(v, host, field, &check);
                if (weir_is_partial_wildcard(host->text)) {
                        (void)snprintf(text, sizeof(text), "partial wildcard %s not allowed",
                                       weir_go_quote(host->text, quoted, sizeof(quoted)));
                        weir_warn(v, host, field, text);
                }
        }
}

static void validate_addresses(struct weir_validation *v, int64_t resolution)
{
        struct weir_list addresses = weir_spec_list(v, "addresses");
        bool block = false;

        for (size_t i = 0; i < addresses.n; i++) {
                const struct weir_node *address = addresses.items[i];
                char field[64], text[160], masked[WEIR_PREFIX_STRLEN];
                struct weir_prefix prefix;
                struct weir_check check;
                bool host_bits;

                (void)snprintf(field, sizeof(field), "spec.addresses[%zu]", i);
                block |= strchr(address->text, '/') != NULL;
                weir_check_ip_or_cidr(address->text, &check);
                weir_complain_all(v, address, field, &check);
                if (weir_prefix_parse(address->text, &prefix, &host_bits) == 0 && host_bits) {
                        (void)snprintf(text, sizeof(text), "host bits are set; it means %s",
                                       weir_prefix_format(&prefix, masked));
                        weir_warn(v, address, field, text);
                }
        }
        if (block && resolution != WEIR_RESOLUTION_NONE && resolution != WEIR_RESOLUTION_STATIC)
                weir_complain(v, addresses.node, "spec.addresses",
                              "CIDR addresses are allowed only for NONE/STATIC resolution types");
}

/* Whether Istio would give an entry without addresses one of its own, by which TCP can be told apart: not under NONE,
 * whose destination is the workload's choice, nor for a wildcard, which has no one address. */
static bool auto_allocated(const struct weir_validation *v)
{
        struct weir_list hosts = weir_spec_list(v, "hosts");

        if (weir_schema_enum(v->message, v->spec, "resolution") == WEIR_RESOLUTION_NONE)
                return false;
        for (size_t i = 0; i < hosts.n; i++)
                if (hosts.items[i]->text[0] == '*')
                        return false;
        return true;
}

static void validate_ports(struct weir_validation *v)
{
        bool addresses = weir_spec_list(v, "addresses").n > 0 || auto_allocated(v);

        for (size_t i = 0; i < v->n_ports; i++) {
                const struct weir_port_view *port = &v->ports[i];
                struct weir_check check;
                char field[64];

                weir_validate_port_twins(v, i, KIND);
                if (port->target != 0) {
                        (void)snprintf(field, sizeof(field), "spec.ports[%zu].targetPort", i);
                        weir_check_port(port->target, &check);
                        weir_complain_all(v, port->target_node, field, &check);
                }
                if (!addresses && (port->protocol[0] == '\0' || weir_streq(port->protocol, "TCP"))) {
                        (void)snprintf(field, sizeof(field), "spec.ports[%zu]", i);
                        weir_warn(v, port->node, field,
                                  "addresses are required for ports serving TCP (or unset) protocol when IP "
                                  "Autoallocation is not enabled");
                }
                weir_validate_port(v, i, WEIR_RULES_TODAY, protocol_known);
        }
}

/* unix://PATH, absolute or, from "@", abstract. */
static void validate_unix(struct weir_validation *v, const struct weir_node *endpoint, size_t i, const char *path)
{
        const struct weir_node *ports = weir_node_get(endpoint, "ports"), *address = weir_node_get(endpoint, "address");
        char field[64], text[WEIR_CHECK_TEXT];

        (void)snprintf(field, sizeof(field), "spec.endpoints[%zu].address", i);
        if (path[0] == '\0')
                weir_complain(v, address, field, "unix address must not be empty");
        else if (path[0] != '@' && (path[0] != '/' || path[strlen(path) - 1] == '/')) {
                (void)snprintf(text, sizeof(text), "%.400s is not an absolute path to a file", path);
                weir_complain(v, address, field, text);
        }
        if (ports && ports->n > 0) {
                (void)snprintf(text, sizeof(text), "unix endpoint %.400s must not include ports", address->text);
                weir_complain(v, ports, field, text);
        }
}

/* Return: false if there is no address and must be one; with a network, Istio finds another way to it. */
static bool validate_address(struct weir_validation *v, const struct weir_node *endpoint, size_t i, const char *address)
{
        const struct weir_node *node = weir_node_get(endpoint, "address"),
                               *network = weir_node_get(endpoint, "network");
        char field[64], text[512], quoted[320];
        struct weir_addr addr;

        (void)snprintf(field, sizeof(field), "spec.endpoints[%zu].address", i);
        if (address[0] == '\0' && (!network || network->text[0] == '\0')) {
                weir_complain(v, node ? node : endpoint, field, "address is required");
                return false;
        }
        if (address[0] == '\0') {
                (void)snprintf(text, sizeof(text), "address is unset with network %s",
                               weir_go_quote(network->text, quoted, sizeof(quoted)));
                weir_warn(v, node ? node : endpoint, field, text);
        } else if (weir_starts_with(address, UNIX_PREFIX))
                validate_unix(v, endpoint, i, address + strlen(UNIX_PREFIX));
        else if (weir_addr_parse(address, &addr) < 0) {
                (void)snprintf(text, sizeof(text), "endpoint address %s is not a valid IP address",
                               weir_go_quote(address, quoted, sizeof(quoted)));
                weir_complain(v, node, field, text);
        }
        return true;
}

static void validate_static(struct weir_validation *v, const struct weir_list *endpoints)
{
        for (size_t i = 0; i < endpoints->n; i++) {
                const struct weir_node *endpoint = endpoints->items[i], *node = weir_node_get(endpoint, "address");
                const char *address = node ? node->text : "";
                char field[64];

                if (!validate_address(v, endpoint, i, address))
                        continue;
                weir_validate_endpoint_ports(v, endpoint, i, KIND, WEIR_RULES_TODAY);
                weir_validate_endpoint_labels(v, endpoint, i, WEIR_RULES_TODAY);
                if (!weir_starts_with(address, UNIX_PREFIX) || v->n_ports == 1)
                        continue;
                (void)snprintf(field, sizeof(field), "spec.endpoints[%zu].address", i);
                weir_complain(v, node, field, "exactly 1 service port required for unix endpoints");
        }
}

static void validate_dns_hosts(struct weir_validation *v, const struct weir_list *hosts, const char *mode)
{
        for (size_t i = 0; i < hosts->n; i++) {
                struct weir_check check;
                char field[64], text[WEIR_CHECK_TEXT];

                weir_check_wildcard_domain(hosts->items[i]->text, WEIR_RULES_TODAY, &check);
                if (check.n == 0 && !weir_is_partial_wildcard(hosts->items[i]->text) &&
                    !weir_streq(hosts->items[i]->text, "*"))
                        continue;
                (void)snprintf(field, sizeof(field), "spec.hosts[%zu]", i);
                (void)snprintf(text, sizeof(text),
                               "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for "
                               "resolution mode %s%s%.800s",
                               mode, check.n ? ", " : "", check.n ? check.text[0] : "");
                weir_complain(v, hosts->items[i], field, text);
                return;
        }
}

static void validate_dns_endpoint(struct weir_validation *v, const struct weir_node *endpoint, size_t i)
{
        const struct weir_node *node = weir_node_get(endpoint, "address");
        const char *address = node ? node->text : "";
        char field[64], text[512], quoted[320];
        struct weir_check check;
        struct weir_addr addr;

        weir_check_fqdn(address, WEIR_RULES_TODAY, &check);
        if (weir_addr_parse(address, &addr) < 0 && check.n > 0) {
                (void)snprintf(field, sizeof(field), "spec.endpoints[%zu].address", i);
                (void)snprintf(text, sizeof(text), "endpoint address %s is not a valid FQDN or an IP address",
                               weir_go_quote(address, quoted, sizeof(quoted)));
                weir_complain(v, node ? node : endpoint, field, text);
        }
        weir_validate_endpoint_labels(v, endpoint, i, WEIR_RULES_TODAY);
        weir_validate_endpoint_ports(v, endpoint, i, KIND, WEIR_RULES_TODAY);
}

static void validate_dns(struct weir_validation *v, const struct weir_list *hosts, const struct weir_list *endpoints,
                         int64_t resolution)
{
        const char *mode = weir_resolution_name((enum weir_resolution)resolution);
        char text[160];

        if (endpoints->n == 0)
                validate_dns_hosts(v, hosts, mode);
        if (resolution == WEIR_RESOLUTION_DNS_ROUND_ROBIN && endpoints->n > 1) {
                (void)snprintf(text, sizeof(text), "there must only be 0 or 1 endpoint for resolution mode %s", mode);
                weir_complain(v, endpoints->node, "spec.endpoints", text);
        }
        for (size_t i = 0; i < endpoints->n; i++)
                validate_dns_endpoint(v, endpoints->items[i], i);
        if (weir_spec_list(v, "addresses").n == 0 || hosts->n < 2)
                return;
        for (size_t i = 0; i < v->n_ports; i++)
                if (is_tcp(weir_protocol_from_text(v->ports[i].protocol))) {
                        weir_warn(
                                v, hosts->node, "spec.hosts",
                                KIND
                                " can not have more than one host specified simultaneously with address and tcp port");
                        return;
                }
}

static void validate_dynamic_dns(struct weir_validation *v, const struct weir_list *hosts,
                                 const struct weir_list *endpoints)
{
        if (hosts->n == 0)
                weir_complain(v, hosts->node, "spec.hosts",
                              "at least one wildcard host must be provided for resolution type DYNAMIC_DNS");
        for (size_t i = 0; i < hosts->n; i++)
                if (hosts->items[i]->text[0] != '*') {
                        char field[64];

                        (void)snprintf(field, sizeof(field), "spec.hosts[%zu]", i);
                        weir_complain(v, hosts->items[i], field,
                                      "host must be wildcarded for resolution mode DYNAMIC_DNS");
                }
        if (weir_spec_list(v, "addresses").n > 0)
                weir_complain(v, weir_spec_list(v, "addresses").node, "spec.addresses",
                              "no addresses should be provided for resolution type DYNAMIC_DNS");
        if (endpoints->n > 0)
                weir_complain(v, endpoints->node, "spec.endpoints",
                              "no endpoints should be provided for resolution type DYNAMIC_DNS");
        for (size_t i = 0; i < v->n_ports; i++) {
                enum weir_protocol p = weir_protocol_from_text(v->ports[i].protocol);
                char field[64];

                if (p == WEIR_PROTOCOL_HTTP || p == WEIR_PROTOCOL_HTTP2 || p == WEIR_PROTOCOL_GRPC ||
                    p == WEIR_PROTOCOL_TLS)
                        continue;
                (void)snprintf(field, sizeof(field), "spec.ports[%zu].protocol", i);
                weir_complain(v, v->ports[i].node, field,
                              "only HTTP, TLS, GRPC and HTTP2 ports are allowed for resolution mode DYNAMIC_DNS");
        }
}

static void validate_resolution(struct weir_validation *v, const struct weir_list *hosts,
                                const struct weir_node *selector)
{
        struct weir_list endpoints = weir_spec_list(v, "endpoints");
        int64_t resolution = weir_schema_enum(v->message, v->spec, "resolution");

        switch (resolution) {
        case WEIR_RESOLUTION_NONE:
                if (endpoints.n > 0)
                        weir_complain(v, endpoints.node, "spec.endpoints",
                                      "no endpoints should be provided for resolution type none");
                if (selector)
                        weir_warn(v, selector, "spec.workloadSelector",
                                  "workloadSelector should not be set when resolution mode is NONE");
                break;
        case WEIR_RESOLUTION_STATIC:
                validate_static(v, &endpoints);
                break;
        case WEIR_RESOLUTION_DNS:
        case WEIR_RESOLUTION_DNS_ROUND_ROBIN:
                validate_dns(v, hosts, &endpoints, resolution);
                break;
        case WEIR_RESOLUTION_DYNAMIC_DNS:
                validate_dynamic_dns(v, hosts, &endpoints);
                break;
        default:
                weir_complain(v, weir_schema_get(v->message, v->spec, "resolution"), "spec.resolution",
                              "unsupported resolution type ");
        }
        if (resolution == WEIR_RESOLUTION_NONE || hosts->n < 2)
                return;
        for (size_t i = 0; i < v->n_ports; i++) {
                enum weir_protocol p = weir_protocol_from_text(v->ports[i].protocol);

                if (is_http(p) || is_tls(p))
                        continue;
                weir_complain(v, hosts->node, "spec.hosts", "multiple hosts provided with non-HTTP, non-TLS ports");
                return;
        }
}

/* Whether two entries of exportTo name the same namespace; "." is the resource's own. */
static bool same_export(const struct weir_validation *v, const char *a, const char *b)
{
        return weir_streq(weir_streq(a, ".") ? v->home : a, weir_streq(b, ".") ? v->home : b);
}

static void validate_export_to(struct weir_validation *v)
{
        struct weir_list list = weir_spec_list(v, "exportTo");
        bool all = false, none = false;
        char field[64], text[256];

        for (size_t i = 0; i < list.n; i++) {
                const char *to = list.items[i]->text;

                (void)snprintf(field, sizeof(field), "spec.exportTo[%zu]", i);
                all |= weir_streq(to, "*");
                none |= weir_streq(to, "~");
                if (!weir_streq(to, "*") && !weir_streq(to, "~") && !weir_streq(to, ".") && !weir_is_dns1123_label(to))
                        weir_complain(v, list.items[i], field,
                                      "only .,*,~, or a valid DNS 1123 label is allowed as exportTo entry");
                for (size_t k = 0; k < i; k++) {
                        if (!same_export(v, list.items[k]->text, to))
                                continue;
                        if (weir_streq(to, "."))
                                (void)snprintf(text, sizeof(text),
                                               "duplicate entries in exportTo: . and current namespace %.63s", v->home);
                        else
                                (void)snprintf(text, sizeof(text), "duplicate entries in exportTo for entry %.63s", to);
                        weir_complain(v, list.items[i], field, text);
                        break;
                }
        }
        if (all && list.n > 1)
                weir_complain(v, list.node, "spec.exportTo",
                              "cannot have both public (*) and non-public exportTo values for a resource");
        if (none && list.n > 1)
                weir_complain(v, list.node, "spec.exportTo", "cannot export service entry to no one (~) and someone");
}

void weir_validate_service_entry(struct weir_validation *v)
{
        const struct weir_node *selector = weir_schema_get(v->message, v->spec, "workloadSelector");
        struct weir_list hosts = weir_spec_list(v, "hosts"), endpoints = weir_spec_list(v, "endpoints");

        if (!validate_selector(v, selector))
                return;
        if (selector && endpoints.n > 0)
                weir_complain(v, selector, "spec.workloadSelector",
                              "only one of WorkloadSelector or Endpoints is allowed in Service Entry");
        validate_hosts(v, &hosts);
        validate_addresses(v, weir_schema_enum(v->message, v->spec, "resolution"));
        validate_ports(v);
        validate_resolution(v, &hosts, selector);
        validate_export_to(v);
}
