/* SPDX-License-Identifier: Apache-2.0 */
/* Stores by name: which one is meant, and the way to its operations. */
#include "store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/strutil.h"
#include "store/dir.h"
#include "store/kubernetes.h"

static int out_of_memory(struct weir_err *err)
{
        return weir_err_set(err, -ENOMEM, "out of memory");
}

/* "SCHEME:" at the beginning of @spec; 0 if there is none. */
static size_t scheme_length(const char *spec)
{
        size_t n = strspn(spec, "abcdefghijklmnopqrstuvwxyz0123456789+-");

        return n > 0 && spec[n] == ':' ? n + 1 : 0;
}

static int check_scheme(const char *spec, struct weir_err *err)
{
        if (weir_starts_with(spec, "dir:") && spec[4])
                return 0;
        if (weir_starts_with(spec, "dir:"))
                return weir_err_set(err, WEIR_EINVALID, "the store \"dir:\" names no folder: write dir:PATH");
        if (scheme_length(spec) > 0)
                return weir_err_set(err, WEIR_EINVALID,
                                    "the store \"%s\" is of no kind that is known: write dir:PATH or "
                                    "kubernetes[:CONTEXT]",
                                    spec);
        return weir_err_set(err, WEIR_EINVALID,
                            "the store \"%s\" does not say of which kind it is: did you mean dir:%s?", spec, spec);
}

/* The XDG specification has relative values ignored. */
static int default_path(char **ret_path, struct weir_err *err)
{
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

        if (geteuid() == 0)
                *ret_path = strdup("/var/lib/weir");
        else if (state && state[0] == '/')
                *ret_path = weir_asprintf("%s/weir", state);
        else if (home && home[0] == '/')
                *ret_path = weir_asprintf("%s/.local/state/weir", home);
        else
                return weir_err_set(
                        err, WEIR_EINVALID,
                        "no store is named and HOME is not set: name one with --store dir:PATH or WEIR_STORE");
        return *ret_path ? 0 : out_of_memory(err);
}

static int make_absolute(const char *path, char **ret_path, struct weir_err *err)
{
        weir_auto_free char *cwd = NULL;
        size_t n;

        if (path[0] == '/')
                *ret_path = strdup(path);
        else {
                while (path[0] == '.' && path[1] == '/')
                        path += 2 + strspn(path + 2, "/");
                cwd = getcwd(NULL, 0);
                if (!cwd)
                        return weir_err_set(err, -errno,
                                            "the store %s is meant below the current folder, which is gone: %s", path,
                                            strerror(errno));
                *ret_path = weir_streq(path, ".") || !path[0] ?
                                    strdup(cwd) :
                                    weir_asprintf("%s/%s", weir_streq(cwd, "/") ? "" : cwd, path);
        }
        if (!*ret_path)
                return out_of_memory(err);
        for (n = strlen(*ret_path); n > 1 && (*ret_path)[n - 1] == '/'; n--)
                (*ret_path)[n - 1] = '\0';
        return 0;
}

/*
 * What is meant where nothing is named: the environment's, else a folder; inside a pod the cluster's own API server,
 * for a pod's file system forgets, and who looks after a pod writes to the API.
 */
static const char *effective(const char *spec)
{
        if (!spec)
                spec = getenv("WEIR_STORE");
        if (spec && spec[0])
                return spec;
        return weir_kubernetes_in_pod() ? "kubernetes" : NULL;
}

/* Whether @spec is "kubernetes" or "kubernetes:CONTEXT"; @ret_context is NULL for the current one. */
static bool is_kubernetes(const char *spec, const char **ret_context)
{
        size_t n = strlen("kubernetes");

        if (!spec || strncmp(spec, "kubernetes", n) != 0 || (spec[n] && spec[n] != ':'))
                return false;
        *ret_context = spec[n] && spec[n + 1] ? spec + n + 1 : NULL;
        return true;
}

int weir_store_open(const char *spec, bool writable, struct weir_store **ret_store, struct weir_err *err)
{
        const char *context;
        char *path = NULL;
        int r;

        spec = effective(spec);
        if (is_kubernetes(spec, &context))
                return weir_kubernetes_open(context, ret_store, err);
        r = spec ? check_scheme(spec, err) : 0;
        if (r == 0)
                r = spec ? make_absolute(spec + strlen("dir:"), &path, err) : default_path(&path, err);
        return r < 0 ? r : weir_dir_open(path, writable, ret_store, err);
}

char *weir_store_standard(void)
{
        weir_auto_free char *path = NULL;
        struct weir_err ignored = { 0 };

        return default_path(&path, &ignored) < 0 ? NULL : weir_asprintf("dir:%s", path);
}

int weir_store_namespace(const char *spec, char **ret_namespace, struct weir_err *err)
{
        const char *context;
        char *copy;

        if (is_kubernetes(effective(spec), &context))
                return weir_kubernetes_namespace(context, ret_namespace, err);
        copy = strdup("default");
        if (!copy)
                return out_of_memory(err);
        *ret_namespace = copy;
        return 0;
}

void weir_store_close(struct weir_store *store)
{
        if (!store)
                return;
        free(TAKE_PTR(store->path));
        store->ops->close(store);
}

const char *weir_store_path(const struct weir_store *store)
{
        return store->path;
}

bool weir_store_replaced(const struct weir_store *store)
{
        return store->ops->replaced && store->ops->replaced(store);
}

int weir_store_protect(struct weir_store *store, struct weir_strv *paths)
{
        return store->ops->protect ? store->ops->protect(store, paths) : 0;
}

void weir_store_set_mark(struct weir_store *store, uint32_t mark)
{
        if (store->ops->set_mark)
                store->ops->set_mark(store, mark);
}

bool weir_store_tolerant(const struct weir_store *store)
{
        return store->ops->tolerant;
}

int weir_store_create(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision,
                      struct weir_err *err)
{
        return store->ops->create(store, resource, ret_revision, err);
}

int weir_store_replace(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision,
                       struct weir_err *err)
{
        return store->ops->replace(store, resource, ret_revision, err);
}

int weir_store_apply(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision,
                     bool *ret_created, struct weir_err *err)
{
        return store->ops->apply(store, resource, ret_revision, ret_created, err);
}

int weir_store_delete(struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *name,
                      struct weir_err *err)
{
        return store->ops->delete (store, kind, namespace_, name, err);
}

int weir_store_get(struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *name,
                   struct weir_resource **ret_resource, struct weir_err *err)
{
        return store->ops->get(store, kind, namespace_, name, ret_resource, err);
}

int weir_store_snapshot(struct weir_store *store, struct weir_resources *list, struct weir_errs *errors)
{
        return store->ops->snapshot(store, list, errors);
}

int weir_store_watch_fd(struct weir_store *store)
{
        return store->ops->watch_fd(store);
}

bool weir_store_changed(struct weir_store *store)
{
        return store->ops->changed(store);
}

const char *weir_store_trouble(struct weir_store *store)
{
        return store->ops->trouble ? store->ops->trouble(store) : NULL;
}
