/* SPDX-License-Identifier: Apache-2.0 */
/* Scope: own namespace, root namespaces, exportTo. */
#include "policy/scope.h"

#include "base/strutil.h"
#include "model/resource.h"

static const char *const default_roots[] = { "weir-system", "istio-system", NULL };

const char *weir_resource_home(const struct weir_resource *resource)
{
        return resource->namespace_ && resource->namespace_[0] ? resource->namespace_ : "default";
}

static bool is_root(const char *namespace_, const struct weir_policy_options *options)
{
        const char *const *roots = options->root_namespaces ? options->root_namespaces : default_roots;

        for (; *roots; roots++)
                if (weir_streq(*roots, namespace_))
                        return true;
        return false;
}

/* Istio: no exportTo is everywhere, "." the resource's own namespace, "*" everywhere, "~" nowhere, else a namespace. */
static bool exported_to(const struct weir_resource *resource, const char *home, const char *namespace_)
{
        bool found = resource->n_export_to == 0;

        for (size_t i = 0; i < resource->n_export_to; i++) {
                const char *to = resource->export_to[i];

                if (weir_streq(to, "~"))
                        return false;
                found |= weir_streq(to, "*") || weir_streq(to, namespace_) ||
                         (weir_streq(to, ".") && weir_streq(home, namespace_));
        }
        return found;
}

bool weir_scope_of(const struct weir_resource *resource, const struct weir_policy_options *options,
                   enum weir_scope *ret_scope)
{
        const char *mine = options->namespace_ ? options->namespace_ : "default";
        const char *home = weir_resource_home(resource);

        if (!exported_to(resource, home, mine))
                return false;
        if (weir_streq(home, mine))
                *ret_scope = WEIR_SCOPE_OWN;
        else if (is_root(home, options))
                *ret_scope = WEIR_SCOPE_ROOT;
        else if (options->widen_export_to)
                *ret_scope = WEIR_SCOPE_EXPORTED;
        else
                return false;
        return true;
}
