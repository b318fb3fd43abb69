/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resources to rules. What this version can enforce becomes rules; everything else allows nothing and is kept as a gap,
 * to be told by explain. Then the rules are sorted and sealed into nodes; see snapshot.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "model/resource.h"
#include "policy/scope.h"
#include "policy/snapshot.h"

#define RULES_MAX 2000000

/* Room for one more in *items; doubles. */
static int grow(void *items, size_t n, size_t *capacity, size_t size)
{
        void **array = items;
        size_t wanted = *capacity ? *capacity * 2 : 64;
        void *moved;

        if (n < *capacity)
                return 0;
        moved = reallocarray(*array, wanted, size);
        if (!moved)
                return -ENOMEM;
        *array = moved;
        *capacity = wanted;
        return 0;
}

static int add_origin(struct weir_policy *p, const struct weir_resource *resource, enum weir_scope scope)
{
        struct origin origin = { .scope = scope };
        int r;

        r = grow(&p->origins, p->n_origins, &p->origins_capacity, sizeof(origin));
        if (r < 0)
                return r;
        origin.resource = weir_asprintf("%s/%s", weir_resource_home(resource), resource->name);
        origin.source = weir_asprintf("%s:%u", resource->path ? resource->path : "", resource->line);
        p->origins[p->n_origins++] = origin; /* freed with the snapshot, whole or half */
        return origin.resource && origin.source ? 0 : -ENOMEM;
}

/* The endpoint's own number for the port, else the port's target, else the port's number. */
static uint16_t endpoint_port(const struct weir_endpoint *endpoint, const struct weir_port *port)
{
        for (size_t i = 0; i < endpoint->n_ports; i++)
                if (weir_streq(endpoint->ports[i].name, port->name))
                        return endpoint->ports[i].number;
        return port->target_port ? port->target_port : port->number;
}

static int add_endpoints(struct weir_policy *p, const struct weir_resource *resource, const struct weir_port *port)
{
        for (size_t i = 0; i < resource->n_endpoints; i++) {
                struct endpoint to = { .port = endpoint_port(&resource->endpoints[i], port) };
                int r;

                /* A path (unix:) is no address, and is a gap that the model names. */
                if (weir_addr_parse(resource->endpoints[i].address, &to.addr) < 0)
                        continue;
                weir_addr_canonical(&to.addr);
                r = grow(&p->endpoints, p->n_endpoints, &p->endpoints_capacity, sizeof(to));
                if (r < 0)
                        return r;
                p->endpoints[p->n_endpoints++] = to;
        }
        return 0;
}

static bool port_enforced(enum weir_kind kind, enum weir_protocol protocol)
{
        switch (protocol) {
        case WEIR_PROTOCOL_TCP:
        case WEIR_PROTOCOL_MONGO:
        case WEIR_PROTOCOL_REDIS:
                return true;
        case WEIR_PROTOCOL_MYSQL:
                return kind == WEIR_KIND_SERVICE_ENTRY;
        case WEIR_PROTOCOL_HTTPS:
                return kind == WEIR_KIND_EXTERNAL_SERVICE;
        case WEIR_PROTOCOL_UNSET:
        case WEIR_PROTOCOL_HTTP:
        case WEIR_PROTOCOL_HTTP2:
        case WEIR_PROTOCOL_GRPC:
        case WEIR_PROTOCOL_GRPC_WEB:
        case WEIR_PROTOCOL_HTTP_PROXY:
        case WEIR_PROTOCOL_TLS:
        case WEIR_PROTOCOL_UDP:
        case WEIR_PROTOCOL_COUNT:
                break;
        }
        return false;
}

static bool resolution_enforced(enum weir_resolution resolution)
{
        switch (resolution) {
        case WEIR_RESOLUTION_NONE:
        case WEIR_RESOLUTION_STATIC:
                return true;
        case WEIR_RESOLUTION_DNS:
        case WEIR_RESOLUTION_DNS_ROUND_ROBIN:
        case WEIR_RESOLUTION_DYNAMIC_DNS:
        case WEIR_RESOLUTION_COUNT:
                break;
        }
        return false;
}

/* One rule for each prefix among @texts; what is no prefix is a name. */
static int add_rules(struct weir_policy *p, const char *const *texts, size_t n, const struct rule *like)
{
        for (size_t i = 0; i < n; i++) {
                struct rule rule = *like;
                int r;

                if (weir_prefix_parse(texts[i], &rule.rule.prefix, NULL) < 0)
                        continue;
                if (p->n_rules >= RULES_MAX)
                        return WEIR_ELIMIT;
                r = grow(&p->rules, p->n_rules, &p->rules_capacity, sizeof(rule));
                if (r < 0)
                        return r;
                p->rules[p->n_rules++] = rule;
        }
        return 0;
}

static int add_port(struct weir_policy *p, const struct weir_resource *resource, const struct weir_port *port)
{
        bool old = resource->kind == WEIR_KIND_EXTERNAL_SERVICE;
        struct rule rule = {
                .rule.port = port->number,
                .origin = (uint32_t)(p->n_origins - 1),
                .first_endpoint = (uint32_t)p->n_endpoints,
        };
        int r;

        if (!port_enforced(resource->kind, port->protocol))
                return 0;
        if (resource->resolution == WEIR_RESOLUTION_STATIC) {
                r = add_endpoints(p, resource, port);
                if (r < 0)
                        return r;
                rule.n_endpoints = (uint32_t)(p->n_endpoints - rule.first_endpoint);
                if (rule.n_endpoints == 0)
                        return 0; /* nothing to dial is nothing allowed, never the original destination */
        }
        r = weir_strv_add(&p->texts, port->name);
        if (r < 0)
                return r;
        rule.rule.port_name = p->texts.items[p->texts.n - 1];
        return add_rules(p, old ? resource->hosts : resource->addresses,
                         old ? resource->n_hosts : resource->n_addresses, &rule);
}

/* Names of a resource, in lower case and without a dot at the end. Partial wildcards ("*foo.com") name nothing. */
static int add_hosts(struct weir_policy *p, const struct weir_resource *resource)
{
        for (size_t i = 0; i < resource->n_hosts; i++) {
                weir_auto_free char *host = strdup(resource->hosts[i]);
                struct weir_prefix prefix;
                size_t n;

                if (!host)
                        return -ENOMEM;
                n = strlen(host);
                for (size_t k = 0; k < n; k++)
                        if (host[k] >= 'A' && host[k] <= 'Z')
                                host[k] = (char)(host[k] - 'A' + 'a');
                if (n > 1 && host[n - 1] == '.')
                        host[n - 1] = '\0';
                if (weir_prefix_parse(host, &prefix, NULL) == 0 ||
                    (host[0] == '*' && host[1] != '.' && host[1] != '\0'))
                        continue;
                if (weir_strv_add(&p->hosts, host) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int add_gaps(struct weir_policy *p, const struct weir_resource *resource)
{
        struct weir_errs gaps = { 0 };
        int r;

        r = weir_resource_not_enforced(resource, &gaps);
        for (size_t i = 0; i < gaps.n && r == 0; i++) {
                weir_auto_free char *line = weir_err_format(&gaps.items[i]);
                weir_auto_free char *text =
                        line ? weir_asprintf("%s/%s: %s", weir_resource_home(resource), resource->name, line) : NULL;

                r = text ? weir_strv_add(&p->gaps, text) : -ENOMEM;
        }
        weir_errs_clear(&gaps);
        return r;
}

static int add_resource(struct weir_policy *p, const struct weir_resource *resource, enum weir_scope scope)
{
        int r;

        r = add_origin(p, resource, scope);
        if (r == 0)
                r = add_gaps(p, resource);
        if (r == 0)
                r = add_hosts(p, resource);
        if (resource->has_workload_selector || !resolution_enforced(resource->resolution))
                return r;
        for (size_t i = 0; i < resource->n_ports && r == 0; i++)
                r = add_port(p, resource, &resource->ports[i]);
        return r;
}

static int by_prefix(const struct weir_prefix *a, const struct weir_prefix *b)
{
        int order = memcmp(a->addr.bytes, b->addr.bytes, sizeof(a->addr.bytes));

        return order ? order : (int)a->bits - (int)b->bits;
}

static int by_rule(const void *left, const void *right)
{
        const struct rule *a = left, *b = right;
        int order = by_prefix(&a->rule.prefix, &b->rule.prefix);

        if (order == 0)
                order = (int)a->rule.port - (int)b->rule.port;
        if (order == 0)
                order = strcmp(a->rule.resource, b->rule.resource);
        if (order == 0)
                order = strcmp(a->rule.source, b->rule.source);
        if (order == 0)
                order = strcmp(a->rule.port_name, b->rule.port_name);
        return order;
}

/* Nodes stand in the order of their prefixes, so the covering ones are on a stack when a new one comes. */
static void link_nodes(struct weir_policy *p)
{
        for (uint32_t i = 0; i < p->n_nodes; i++) {
                uint32_t up = i == 0 ? WEIR_NO_NODE : i - 1;

                while (up != WEIR_NO_NODE && !weir_prefix_covers(&p->nodes[up].prefix, &p->nodes[i].prefix))
                        up = p->nodes[up].parent;
                p->nodes[i].parent = up;
        }
}

static int seal_nodes(struct weir_policy *p)
{
        p->nodes = calloc(p->n_rules ? p->n_rules : 1, sizeof(*p->nodes));
        if (!p->nodes)
                return -ENOMEM;
        for (uint32_t i = 0; i < p->n_rules; i++) {
                struct node *last = p->n_nodes ? &p->nodes[p->n_nodes - 1] : NULL;

                if (!last || by_prefix(&last->prefix, &p->rules[i].rule.prefix) != 0) {
                        last = &p->nodes[p->n_nodes++];
                        *last = (struct node){ .prefix = p->rules[i].rule.prefix, .first_rule = i };
                }
                last->n_rules++;
        }
        link_nodes(p);
        return 0;
}

static int by_text(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Everything that a decision or a record can show, in order: two snapshots with one digest behave alike. */
static int seal_digest(struct weir_policy *p)
{
        weir_auto(buf) struct weir_buf buf = { .limit = (size_t)2 * 1024 * 1024 * 1024 };
        char prefix[WEIR_PREFIX_STRLEN], to[WEIR_ENDPOINT_STRLEN];

        for (size_t i = 0; i < p->n_rules; i++) {
                const struct rule *rule = &p->rules[i];

                weir_buf_puts(&buf, weir_prefix_format(&rule->rule.prefix, prefix));
                weir_buf_printf(&buf, " %u %s %s %s", rule->rule.port, rule->rule.resource, rule->rule.source,
                                rule->rule.port_name);
                for (uint32_t k = 0; k < rule->n_endpoints; k++) {
                        const struct endpoint *e = &p->endpoints[rule->first_endpoint + k];

                        weir_buf_printf(&buf, " %s", weir_endpoint_format(&e->addr, e->port, to));
                }
                weir_buf_putc(&buf, '\n');
        }
        for (size_t i = 0; i < p->hosts.n; i++)
                weir_buf_printf(&buf, "host %s\n", p->hosts.items[i]);
        for (size_t i = 0; i < p->gaps.n; i++)
                weir_buf_printf(&buf, "gap %s\n", p->gaps.items[i]);
        if (buf.error)
                return -ENOMEM;
        weir_sha256_hex(buf.data ? buf.data : "", buf.length, p->digest);
        return 0;
}

static int seal(struct weir_policy *p)
{
        int r;

        for (size_t i = 0; i < p->n_rules; i++) {
                p->rules[i].rule.resource = p->origins[p->rules[i].origin].resource;
                p->rules[i].rule.source = p->origins[p->rules[i].origin].source;
        }
        if (p->n_rules)
                qsort(p->rules, p->n_rules, sizeof(*p->rules), by_rule);
        if (p->hosts.n)
                qsort(p->hosts.items, p->hosts.n, sizeof(*p->hosts.items), by_text);
        if (p->gaps.n)
                qsort(p->gaps.items, p->gaps.n, sizeof(*p->gaps.items), by_text);
        r = seal_nodes(p);
        return r < 0 ? r : seal_digest(p);
}

static int add_all(struct weir_policy *p, const struct weir_resources *resources,
                   const struct weir_policy_options *options, struct weir_err *err)
{
        for (size_t i = 0; i < resources->n; i++) {
                const struct weir_resource *resource = resources->items[i];
                enum weir_scope scope;
                int r;

                if (!weir_scope_of(resource, options, &scope))
                        continue;
                r = add_resource(p, resource, scope);
                if (r == WEIR_ELIMIT)
                        return weir_err_set(err, r,
                                            "%s/%s: more than %d rules (addresses times ports); name larger blocks or "
                                            "split the policy",
                                            weir_resource_home(resource), resource->name, RULES_MAX);
                if (r < 0)
                        return weir_err_set(err, r, "out of memory");
        }
        return 0;
}

int weir_policy_compile(const struct weir_resources *resources, const struct weir_policy_options *options,
                        struct weir_policy **ret_policy, struct weir_err *err)
{
        weir_auto(policy) struct weir_policy *p = calloc(1, sizeof(*p));
        int r;

        if (!p)
                return weir_err_set(err, -ENOMEM, "out of memory");
        p->refs = 1;
        p->generation = options->generation;
        r = weir_builtin_set_init(&p->builtins, options->self, options->n_self);
        if (r < 0)
                return weir_err_set(err, r, "out of memory");
        r = add_all(p, resources, options, err);
        if (r < 0)
                return r;
        r = seal(p);
        if (r < 0)
                return weir_err_set(err, r, "out of memory");
        *ret_policy = TAKE_PTR(p);
        return 0;
}
