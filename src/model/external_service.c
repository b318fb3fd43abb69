/* SPDX-License-Identifier: Apache-2.0 */
/* ExternalService, by the rules of Istio 0.7: messages and order are theirs. */
#include <stdio.h>
#include <string.h>

#include "base/addr.h"
#include "base/strutil.h"
#include "model/node.h"
#include "model/validate.h"

#define KIND "external service"

static bool protocol_known(const char *text)
{
        switch (weir_protocol_from_text(text)) {
        case WEIR_PROTOCOL_TCP:
        case WEIR_PROTOCOL_MONGO:
        case WEIR_PROTOCOL_REDIS:
        case WEIR_PROTOCOL_HTTP:
        case WEIR_PROTOCOL_HTTP2:
        case WEIR_PROTOCOL_GRPC:
        case WEIR_PROTOCOL_HTTPS:
        case WEIR_PROTOCOL_UDP:
                return true;
        case WEIR_PROTOCOL_UNSET:
        case WEIR_PROTOCOL_MYSQL:
        case WEIR_PROTOCOL_GRPC_WEB:
        case WEIR_PROTOCOL_HTTP_PROXY:
        case WEIR_PROTOCOL_TLS:
        case WEIR_PROTOCOL_COUNT:
                break;
        }
        return false;
}

/* A host is a domain or an IPv4 address or block. If it is neither, both complaints are made, as in Istio. */
static void validate_host(struct weir_validation *v, const struct weir_node *host, size_t i)
{
        struct weir_check domain, address;
        struct weir_prefix prefix;
        char field[64];
        bool host_bits;

        (void)snprintf(field, sizeof(field), "spec.hosts[%zu]", i);
        weir_check_wildcard_domain(host->text, WEIR_RULES_0_7, &domain);
        weir_check_ipv4_or_cidr(host->text, &address);
        if (domain.n > 0 && address.n > 0) {
                weir_complain_all(v, host, field, &domain);
                weir_complain_all(v, host, field, &address);
                if (weir_prefix_parse(host->text, &prefix, NULL) == 0)
                        weir_warn(v, host, field, "an ExternalService takes IPv4 only; use a ServiceEntry for IPv6");
                return;
        }
        if (weir_prefix_parse(host->text, &prefix, &host_bits) == 0 && host_bits) {
                char text[160], masked[WEIR_PREFIX_STRLEN];

                (void)snprintf(text, sizeof(text), "host bits are set; it means %s",
                               weir_prefix_format(&prefix, masked));
                weir_warn(v, host, field, text);
        }
}

static void validate_static(struct weir_validation *v, const struct weir_list *endpoints)
{
        if (endpoints->n == 0)
                weir_complain(v, endpoints->node, "spec.endpoints",
                              "endpoints must be provided if " KIND " discovery mode is static");
        for (size_t i = 0; i < endpoints->n; i++) {
                const struct weir_node *address = weir_node_get(endpoints->items[i], "address");
                struct weir_check check;
                char field[64];

                (void)snprintf(field, sizeof(field), "spec.endpoints[%zu].address", i);
                weir_check_ipv4(address ? address->text : "", &check);
                weir_complain_all(v, address ? address : endpoints->items[i], field, &check);
                weir_validate_endpoint_labels(v, endpoints->items[i], i, WEIR_RULES_0_7);
                weir_validate_endpoint_ports(v, endpoints->items[i], i, KIND, WEIR_RULES_0_7);
        }
}

static void validate_dns(struct weir_validation *v, const struct weir_list *hosts, const struct weir_list *endpoints)
{
        struct weir_check check;
        char field[64];

        for (size_t i = 0; i < hosts->n && endpoints->n == 0; i++) {
                (void)snprintf(field, sizeof(field), "spec.hosts[%zu]", i);
                weir_check_fqdn(hosts->items[i]->text, WEIR_RULES_0_7, &check);
                if (check.n > 0)
                        weir_complain(v, hosts->items[i], field,
                                      "hosts must be FQDN if no endpoints are provided for discovery mode DNS");
        }
        for (size_t i = 0; i < endpoints->n; i++) {
                const struct weir_node *address = weir_node_get(endpoints->items[i], "address");

                (void)snprintf(field, sizeof(field), "spec.endpoints[%zu].address", i);
                weir_check_fqdn(address ? address->text : "", WEIR_RULES_0_7, &check);
                weir_complain_all(v, address ? address : endpoints->items[i], field, &check);
                weir_validate_endpoint_labels(v, endpoints->items[i], i, WEIR_RULES_0_7);
                weir_validate_endpoint_ports(v, endpoints->items[i], i, KIND, WEIR_RULES_0_7);
        }
}

static void validate_discovery(struct weir_validation *v, const struct weir_list *hosts)
{
        struct weir_list endpoints = weir_spec_list(v, "endpoints");

        switch (weir_schema_enum(v->message, v->spec, "discovery")) {
        case WEIR_RESOLUTION_NONE:
                if (endpoints.n > 0)
                        weir_complain(v, endpoints.node, "spec.endpoints",
                                      "no endpoints should be provided for discovery type none");
                break;
        case WEIR_RESOLUTION_STATIC:
                validate_static(v, &endpoints);
                break;
        case WEIR_RESOLUTION_DNS:
                validate_dns(v, hosts, &endpoints);
                break;
        default:
                /* Istio has no name for a number it does not know. */
                weir_complain(v, weir_schema_get(v->message, v->spec, "discovery"), "spec.discovery",
                              "unsupported discovery type ");
        }
}

void weir_validate_external_service(struct weir_validation *v)
{
        struct weir_list hosts = weir_spec_list(v, "hosts");

        if (hosts.n == 0)
                weir_complain(v, hosts.node, "spec.hosts", KIND " must have at least one host");
        for (size_t i = 0; i < hosts.n; i++)
                validate_host(v, hosts.items[i], i);
        for (size_t i = 0; i < v->n_ports; i++)
                weir_validate_port_twins(v, i, KIND);
        validate_discovery(v, &hosts);
        for (size_t i = 0; i < v->n_ports; i++)
                weir_validate_port(v, i, WEIR_RULES_0_7, protocol_known);
}
