/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A pod is first judged, then edited. Refused is what would defeat the rules in the pod's own network namespace:
 * another network (hostNetwork), the proxy's own user, capabilities over the network or over everything, the proxy's
 * memory and files. Words are read as the API server reads them, and what can be read in two ways is taken as the
 * worse.
 *
 * Edited are, from the inside out: of each container the capabilities it keeps, then the pod's volumes and init
 * containers.
 */
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#include "inject/internal.h"

/* Kept by none: SETUID and SETGID would make a process the proxy's user, NET_RAW has sockets past the rules. */
static const char *const dropped[] = { "NET_RAW", "SETGID", "SETUID" };
/* These defeat a rule in the pod's own namespace, or lead out of the container. */
static const char *const refused[] = { "ALL",    "BPF",    "DAC_READ_SEARCH", "NET_ADMIN",  "NET_RAW",  "PERFMON",
                                       "SETGID", "SETUID", "SYS_ADMIN",       "SYS_MODULE", "SYS_RAWIO" };
static const char *const lists[] = { "initContainers", "containers", "ephemeralContainers" };

/* Anything but a plain word for no: the API server may take what is left as yes. */
static bool is_true(const struct weir_outline *node)
{
        static const char *const no[] = { "false", "no", "off", "n" };

        if (weir_outline_is_null(node))
                return false;
        if (node->type != WEIR_NODE_SCALAR || node->alias)
                return true;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(no); i++)
                if (strcasecmp(node->text, no[i]) == 0)
                        return false;
        return true;
}

static bool is_empty(const struct weir_outline *node)
{
        return weir_outline_is_null(node) || (node->type != WEIR_NODE_SCALAR && node->n == 0);
}

static bool is_one_of(const char *text, const char *const *names, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (weir_streq(text, names[i]))
                        return true;
        return false;
}

/* Runtimes differ in whether they take lower case and CAP_: a request is read as any of them would, a drop as all do.
 */
static void capability_name(const char *text, char ret[32])
{
        size_t i = 0;

        if (strncasecmp(text, "CAP_", 4) == 0)
                text += 4;
        for (; text[i] && i < 31; i++)
                ret[i] = (char)(text[i] >= 'a' && text[i] <= 'z' ? text[i] - 'a' + 'A' : text[i]);
        ret[i] = '\0';
}

static int check_added(struct pod *pod, const struct weir_outline *context, bool shared_pids, const char *field)
{
        const struct weir_outline *add = weir_outline_get(weir_outline_get(context, "capabilities"), "add");
        int r = 0;

        for (size_t i = 0; add && add->type == WEIR_NODE_SEQUENCE && i < add->n && r == 0; i++) {
                char name[32];

                capability_name(add->items[i]->text ? add->items[i]->text : "", name);
                if (is_one_of(name, refused, WEIR_ARRAY_SIZE(refused)))
                        r = complain(
                                pod->in, add->items[i], field,
                                "a container that asks for %s can pass or undo the rules of the pod's network; take "
                                "it out, or do not inject this pod",
                                name);
                else if (shared_pids && weir_streq(name, "SYS_PTRACE"))
                        r = complain(pod->in, add->items[i], field,
                                     "SYS_PTRACE with a shared PID namespace reaches into weir-proxy");
        }
        return r;
}

/* Numbers in another form than plain digits are refused rather than understood. */
static int check_user(struct pod *pod, const struct weir_outline *context, const char *field)
{
        const struct weir_outline *user = weir_outline_get(context, "runAsUser");
        uint64_t uid;

        if (weir_outline_is_null(user))
                return 0;
        if (user->type != WEIR_NODE_SCALAR || weir_parse_uint(user->text, INT64_MAX, &uid) < 0)
                return complain(pod->in, user, field, "runAsUser must be a number in plain digits");
        if (uid == pod->in->options->uid)
                return complain(pod->in, user, field, "runAsUser %u is weir-proxy's own user; choose another",
                                pod->in->options->uid);
        return 0;
}

static int check_mounts(struct pod *pod, const struct weir_outline *container, const char *field)
{
        const struct weir_outline *mounts = weir_outline_get(container, "volumeMounts");
        int r = 0;

        for (size_t i = 0; mounts && mounts->type == WEIR_NODE_SEQUENCE && i < mounts->n && r == 0; i++) {
                const struct weir_outline *name = weir_outline_get(mounts->items[i], "name");

                if (name && name->type == WEIR_NODE_SCALAR && is_one_of(name->text, volume_names, 2))
                        r = complain(pod->in, name, field, "volume %s is weir-proxy's own", name->text);
        }
        return r;
}

static bool is_ours(const struct weir_outline *container)
{
        const struct weir_outline *name = weir_outline_get(container, "name");

        return name && name->type == WEIR_NODE_SCALAR && is_one_of(name->text, container_names, 2);
}

static int check_container(struct pod *pod, const struct weir_outline *container, const char *field)
{
        const struct weir_outline *context = weir_outline_get(container, "securityContext");
        bool shared_pids = is_true(weir_outline_get(pod->spec, "shareProcessNamespace")) ||
                           is_true(weir_outline_get(pod->spec, "hostPID"));
        int r;

        if (container->type != WEIR_NODE_MAPPING)
                return complain(pod->in, container, field, "must be an object");
        if (is_ours(container))
                return complain(pod->in, container, field, "the names weir-init and weir-proxy are Weir's own");
        if (!weir_outline_is_null(context) && context->type != WEIR_NODE_MAPPING)
                return complain(pod->in, context, field, "securityContext must be an object");
        r = check_user(pod, context, field);
        if (r == 0 && is_true(weir_outline_get(context, "privileged")))
                r = complain(pod->in, weir_outline_get(context, "privileged"), field,
                             "a privileged container can undo the rules of the pod's network");
        if (r == 0)
                r = check_added(pod, context, shared_pids, field);
        return r == 0 ? check_mounts(pod, container, field) : r;
}

/* How many of the first init containers are those of an earlier injection. */
static size_t n_ours(const struct pod *pod, const char *list, const struct weir_outline *items)
{
        (void)pod;
        if (!weir_streq(list, "initContainers") || items->n < 2)
                return 0;
        return is_ours(items->items[0]) && is_ours(items->items[1]) ? 2 : 0;
}

static int check_list(struct pod *pod, const char *list)
{
        const struct weir_outline *items = weir_outline_get(pod->spec, list);
        char field[64];
        int r = 0;

        if (weir_outline_is_null(items))
                return 0;
        if (items->type != WEIR_NODE_SEQUENCE)
                return complain(pod->in, items, list, "must be a list");
        for (size_t i = n_ours(pod, list, items); i < items->n && r == 0; i++) {
                (void)snprintf(field, sizeof(field), "spec.%s[%zu]", list, i);
                r = check_container(pod, items->items[i], field);
        }
        return r;
}

/* What an alias or a merge stands for is written elsewhere, and a key twice has two values. */
static int check_plain(struct pod *pod, const struct weir_outline *node)
{
        size_t n = node->type == WEIR_NODE_MAPPING ? 2 * node->n : node->n;
        int r = 0;

        if (node->alias)
                return complain(pod->in, node, "", "an alias in a pod cannot be injected; write the value out");
        for (size_t i = 0; node->type == WEIR_NODE_MAPPING && i < node->n && r == 0; i++) {
                const struct weir_outline *key = node->items[2 * i];

                if (key->type != WEIR_NODE_SCALAR || weir_streq(key->text, "<<"))
                        r = complain(pod->in, key, "", "a merge in a pod cannot be injected; write the keys out");
                else if (weir_outline_key(node, key->text) != key)
                        r = complain(pod->in, key, "", "key \"%.100s\" is here twice", key->text);
        }
        for (size_t i = 0; i < n && r == 0; i++)
                r = check_plain(pod, node->items[i]);
        return r;
}

static int note_weaknesses(struct pod *pod)
{
        const struct weir_outline *list = weir_outline_get(pod->spec, "volumes");
        int r = 0;

        for (size_t i = 0; list && list->type == WEIR_NODE_SEQUENCE && i < list->n && r == 0; i++) {
                const struct weir_outline *path =
                        weir_outline_get(weir_outline_get(list->items[i], "hostPath"), "path");

                if (path && path->type == WEIR_NODE_SCALAR)
                        r = note(pod->in,
                                 "Warning: %s: it mounts %s of the node: a socket or program there may go out for it",
                                 pod->title, path->text);
        }
        return r;
}

static int check_host(struct pod *pod)
{
        const struct weir_outline *network = weir_outline_get(pod->spec, "hostNetwork");
        const struct weir_outline *os = weir_outline_get(weir_outline_get(pod->spec, "os"), "name");
        const struct weir_outline *servers = weir_outline_get(weir_outline_get(pod->spec, "dnsConfig"), "nameservers");

        if (is_true(network))
                return complain(
                        pod->in, network, "spec.hostNetwork",
                        "%s shares the node's network, where no pod has rules of its own; take hostNetwork out, or "
                        "say sidecar.istio.io/inject: \"false\"",
                        pod->title);
        if (os && os->type == WEIR_NODE_SCALAR && strcasecmp(os->text, "windows") == 0)
                return complain(pod->in, os, "spec.os.name", "Weir is for Linux");
        if (!is_empty(servers) && !pod->in->options->allow_exclusions)
                return complain(
                        pod->in, servers, "spec.dnsConfig.nameservers",
                        "Weir's resolver would ask the name servers that the pod names, which is a way out; take "
                        "them out, or let the installation allow it with --allow-exclusions");
        return check_user(pod, weir_outline_get(pod->spec, "securityContext"), "spec.securityContext");
}

int check_pod(struct pod *pod)
{
        size_t before = pod->in->errors->total;
        int r;

        r = check_plain(pod, pod->object);
        if (r == 0 && pod->in->errors->total == before)
                r = check_host(pod);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(lists) && r == 0 && pod->in->errors->total == before; i++)
                r = check_list(pod, lists[i]);
        return r == 0 ? note_weaknesses(pod) : r;
}

/* The names of @dropped that a list does not drop yet. */
static int missing_drops(const struct weir_outline *drop, struct weir_strv *ret)
{
        bool have[WEIR_ARRAY_SIZE(dropped)] = { false };
        int r = 0;

        for (size_t i = 0; !weir_outline_is_null(drop) && i < drop->n; i++) {
                const char *name = drop->items[i]->text ? drop->items[i]->text : "";

                for (size_t j = 0; j < WEIR_ARRAY_SIZE(dropped); j++)
                        have[j] = have[j] || weir_streq(name, dropped[j]) || weir_streq(name, "ALL");
        }
        for (size_t j = 0; j < WEIR_ARRAY_SIZE(dropped) && r == 0; j++)
                if (!have[j])
                        r = weir_strv_add(ret, dropped[j]);
        return r;
}

#define DROP "- NET_RAW\n- SETGID\n- SETUID\n"
#define IN_DROP "drop:\n" DROP
#define IN_CAPABILITIES "capabilities:\n  drop:\n  - NET_RAW\n  - SETGID\n  - SETUID\n"

static int set_or_add(struct pod *pod, const struct weir_outline *parent, const char *key, const char *value)
{
        const struct weir_outline *node = weir_outline_get(parent, key);

        return node ? set_value(pod->in, node, value) : add_key(pod->in, parent, 0, key, value);
}

static int drop_capabilities(struct pod *pod, const struct weir_outline *container)
{
        const struct weir_outline *context = weir_outline_get(container, "securityContext");
        const struct weir_outline *capabilities = weir_outline_get(context, "capabilities");
        const struct weir_outline *drop = weir_outline_get(capabilities, "drop");
        struct weir_strv missing = { 0 };
        int r;

        if (is_empty(context))
                return set_or_add(pod, container, "securityContext", IN_CAPABILITIES);
        if (is_empty(capabilities))
                return set_or_add(pod, context, "capabilities", IN_DROP);
        if (capabilities->type != WEIR_NODE_MAPPING || (!is_empty(drop) && drop->type != WEIR_NODE_SEQUENCE))
                return complain(pod->in, capabilities, "securityContext.capabilities",
                                "must have a list of names to drop");
        if (is_empty(drop))
                return set_or_add(pod, capabilities, "drop", DROP);
        r = missing_drops(drop, &missing);
        if (r == 0 && missing.n > 0)
                r = add_words(pod->in, drop, &missing);
        weir_strv_clear(&missing);
        return r;
}

/* Puts @items at the front of a list of the pod, which is made behind its containers if it is not there. */
static int put_list(struct pod *pod, const char *list, const char *items, const char *const names[2])
{
        const struct weir_outline *node = weir_outline_get(pod->spec, list);

        if (!items)
                return -ENOMEM;
        if (!node) {
                size_t at = 0;

                while (!weir_streq(pod->spec->items[2 * at]->text, "containers"))
                        at++;
                return add_key(pod->in, pod->spec, at, list, items);
        }
        if (is_empty(node))
                return set_value(pod->in, node, items);
        if (node->type != WEIR_NODE_SEQUENCE)
                return complain(pod->in, node, list, "must be a list");
        return put_front(pod->in, node, items, names);
}

int edit_pod(struct pod *pod)
{
        weir_auto_free char *containers = init_containers(pod);
        weir_auto_free char *more = volumes();
        int r = 0;

        if (is_empty(weir_outline_get(pod->spec, "containers")))
                return complain(pod->in, pod->spec, "spec.containers", "%s has no containers", pod->title);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(lists); i++) {
                const struct weir_outline *items = weir_outline_get(pod->spec, lists[i]);

                for (size_t j = is_empty(items) ? 0 : n_ours(pod, lists[i], items);
                     !is_empty(items) && j < items->n && r == 0; j++)
                        r = drop_capabilities(pod, items->items[j]);
        }
        if (r == 0)
                r = put_list(pod, "initContainers", containers, container_names);
        return r == 0 ? put_list(pod, "volumes", more, volume_names) : r;
}
