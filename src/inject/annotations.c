/* SPDX-License-Identifier: Apache-2.0 */
/* Istio's annotations about a sidecar: what they must look like, and what of them is honoured. */
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "base/addr.h"
#include "inject/internal.h"

#define PREFIX "traffic.sidecar.istio.io/"

enum value_kind { VALUE_INCLUDE_RANGES, VALUE_RANGES, VALUE_INCLUDE_PORTS, VALUE_PORTS, VALUE_MODE };

/* @parameter: what Istio calls it in messages; NULL for those whose complaint needs none. */
static const struct annotation {
        const char *name, *parameter;
        enum value_kind kind;
} annotations[] = {
        { PREFIX "includeOutboundIPRanges", "includeIPRanges", VALUE_INCLUDE_RANGES },
        { PREFIX "excludeOutboundIPRanges", "excludeIPRanges", VALUE_RANGES },
        { PREFIX "includeInboundPorts", "includeInboundPorts", VALUE_INCLUDE_PORTS },
        { PREFIX "excludeInboundPorts", "excludeInboundPorts", VALUE_PORTS },
        { PREFIX "includeOutboundPorts", "includeOutboundPorts", VALUE_PORTS },
        { PREFIX "excludeOutboundPorts", "excludeOutboundPorts", VALUE_PORTS },
        { "sidecar.istio.io/interceptionMode", NULL, VALUE_MODE },
};

/* The complaint of Go's netip.ParsePrefix() for the parts it names; NULL if @text is a prefix. */
static const char *prefix_complaint(const char *text, char *buf, size_t n)
{
        struct weir_prefix prefix;
        const char *slash = strrchr(text, '/');

        if (slash && weir_prefix_parse(text, &prefix, NULL) == 0)
                return NULL;
        (void)snprintf(buf, n, "netip.ParsePrefix(\"%.100s\"): %s", text,
                       slash ? "not an address and a number of bits" : "no '/'");
        return buf;
}

static const char *port_complaint(const char *text, char *buf, size_t n)
{
        size_t digits = strspn(text, "0123456789");
        uint64_t port = 0;

        for (size_t i = 0; i < digits && port <= UINT16_MAX; i++)
                port = 10 * port + (uint64_t)(text[i] - '0');
        if (digits > 0 && !text[digits] && port <= UINT16_MAX)
                return NULL;
        (void)snprintf(buf, n, "strconv.ParseUint: parsing \"%.100s\": %s", text,
                       digits > 0 && !text[digits] ? "value out of range" : "invalid syntax");
        return buf;
}

/* @part without the spaces around it, which Istio takes off ports. */
static char *trim(char *part)
{
        size_t n;

        part += strspn(part, " \t\n");
        n = strlen(part);
        while (n > 0 && strchr(" \t\n", part[n - 1]))
                part[--n] = '\0';
        return part;
}

/* The first part of a list that is wrong, in Istio's words, or NULL. */
static char *list_complaint(const struct annotation *a, const char *value, bool *ret_nomem)
{
        bool ports = a->kind == VALUE_PORTS || a->kind == VALUE_INCLUDE_PORTS;
        weir_auto_free char *copy = strdup(value);
        char *rest = copy, *part, buf[256];

        *ret_nomem = !copy;
        while (copy && copy[0] && (part = strsep(&rest, ","))) {
                const char *said =
                        ports ? port_complaint(trim(part), buf, sizeof(buf)) : prefix_complaint(part, buf, sizeof(buf));
                char *text;

                if (!said)
                        continue;
                text = ports ? weir_asprintf("%s invalid: failed parsing port '%s': failed parsing port '%s': %s",
                                             a->parameter, part, part, said) :
                               weir_asprintf("%s invalid: failed parsing cidr '%s': %s", a->parameter, part, said);
                *ret_nomem = !text;
                return text;
        }
        return NULL;
}

static const struct annotation *find(const char *name)
{
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(annotations); i++)
                if (weir_streq(annotations[i].name, name))
                        return &annotations[i];
        return NULL;
}

static bool is_mode(const char *value)
{
        return weir_streq(value, "REDIRECT") || weir_streq(value, "TPROXY") || weir_streq(value, "NONE");
}

char *weir_inject_annotation_complaint(const char *annotation, const char *value, bool *ret_nomem)
{
        const struct annotation *a = find(annotation);
        weir_auto_free char *said = NULL;
        char *text;

        *ret_nomem = false;
        if (!a)
                return NULL;
        if (a->kind == VALUE_MODE)
                said = is_mode(value) ? NULL :
                                        weir_asprintf("interceptionMode invalid, use REDIRECT,TPROXY,NONE: %s", value);
        else if (!((a->kind == VALUE_INCLUDE_RANGES || a->kind == VALUE_INCLUDE_PORTS) && weir_streq(value, "*")))
                said = list_complaint(a, value, ret_nomem);
        if (!said)
                return NULL;
        text = weir_asprintf("invalid value '%s' for annotation '%s': %s", value, annotation, said);
        *ret_nomem = !text;
        return text;
}

enum weir_inject_policy weir_inject_policy_parse(const char *text)
{
        if (weir_streq(text, "enabled"))
                return WEIR_INJECT_ENABLED;
        return weir_streq(text, "disabled") ? WEIR_INJECT_DISABLED : WEIR_INJECT_POLICY_COUNT;
}

bool weir_inject_required(enum weir_inject_policy policy, const char *namespace_, const char *value, bool host_network)
{
        static const char *const system[] = { "kube-system", "kube-public", "kube-node-lease", "local-path-storage" };
        static const char *const yes[] = { "y", "yes", "true", "on" };

        if (host_network || policy == WEIR_INJECT_POLICY_COUNT)
                return false;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(system); i++)
                if (weir_streq(namespace_, system[i]))
                        return false;
        if (!value || !value[0])
                return policy == WEIR_INJECT_ENABLED;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(yes); i++)
                if (strcasecmp(value, yes[i]) == 0)
                        return true;
        return false;
}

/* Today's Istio asks the label first. */
const char *label_or_annotation(const struct weir_outline *metadata, const char *key)
{
        static const char *const places[] = { "labels", "annotations" };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(places); i++) {
                const struct weir_outline *value = weir_outline_get(weir_outline_get(metadata, places[i]), key);

                if (value && value->type == WEIR_NODE_SCALAR && !weir_outline_is_null(value))
                        return value->text;
        }
        return NULL;
}

/* What would let the pod out is the installation's to allow, not the pod's. */
static int honour(struct pod *pod, const struct annotation *a, const char *value)
{
        bool opens = (a->kind == VALUE_INCLUDE_RANGES && !weir_streq(value, "*")) ||
                     (weir_streq(a->name, PREFIX "excludeOutboundIPRanges") && value[0]) ||
                     (weir_streq(a->name, PREFIX "excludeOutboundPorts") && value[0]) ||
                     (a->kind == VALUE_MODE && weir_streq(value, "NONE"));

        if (opens && !pod->in->options->allow_exclusions)
                return note(pod->in,
                            "Warning: %s: annotation %s is not honoured, for it lets the pod out unchecked; the "
                            "installation can allow it with --allow-exclusions",
                            pod->title, a->name);
        if (weir_streq(a->name, PREFIX "includeOutboundIPRanges"))
                pod->include_ranges = value;
        else if (weir_streq(a->name, PREFIX "excludeOutboundIPRanges"))
                pod->exclude_ranges = value[0] ? value : NULL;
        else if (weir_streq(a->name, PREFIX "includeOutboundPorts"))
                pod->include_ports = value[0] ? value : NULL;
        else if (weir_streq(a->name, PREFIX "excludeOutboundPorts"))
                pod->exclude_ports = value[0] ? value : NULL;
        else if (a->kind == VALUE_MODE && weir_streq(value, "NONE"))
                pod->include_ranges = "";
        return 0;
}

int take_annotations(struct pod *pod)
{
        const struct weir_outline *all = weir_outline_get(pod->metadata, "annotations");
        int r = 0;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(annotations) && r == 0; i++) {
                const struct weir_outline *value = weir_outline_get(all, annotations[i].name);
                weir_auto_free char *said = NULL;
                bool no_memory = false;

                if (!value || value->type != WEIR_NODE_SCALAR || value->alias)
                        continue;
                said = weir_inject_annotation_complaint(annotations[i].name, value->text, &no_memory);
                if (no_memory)
                        return -ENOMEM;
                r = said ? complain(pod->in, value, "metadata.annotations", "%s", said) :
                           honour(pod, &annotations[i], value->text);
        }
        return r;
}
