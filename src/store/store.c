/* SPDX-License-Identifier: Apache-2.0 */
/* Stores by name: which one is meant, opened and closed. What is in it is the matter of dir_read.c and dir_write.c. */
#include "store/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/strutil.h"
#include "store/dir.h"

#define LOCK_WAIT_MS 10000

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
        if (weir_starts_with(spec, "kubernetes:"))
                return weir_err_set(err, WEIR_EINVALID,
                                    "the store \"%s\": this version has no kubernetes: stores, only dir:PATH", spec);
        if (scheme_length(spec) > 0)
                return weir_err_set(err, WEIR_EINVALID, "the store \"%s\" is of no kind that is known: write dir:PATH",
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
        return *ret_path ? 0 : weir_err_set(err, -ENOMEM, "out of memory");
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
                return weir_err_set(err, -ENOMEM, "out of memory");
        for (n = strlen(*ret_path); n > 1 && (*ret_path)[n - 1] == '/'; n--)
                (*ret_path)[n - 1] = '\0';
        return 0;
}

static int find_path(const char *spec, char **ret_path, struct weir_err *err)
{
        int r;

        if (!spec)
                spec = getenv("WEIR_STORE");
        if (!spec || !spec[0])
                return default_path(ret_path, err);
        r = check_scheme(spec, err);
        if (r < 0)
                return r;
        return make_absolute(spec + strlen("dir:"), ret_path, err);
}

static struct weir_store *store_new(void)
{
        struct weir_store *store = calloc(1, sizeof(*store));

        if (!store)
                return NULL;
        store->fd = -1;
        store->lock_wait_ms = LOCK_WAIT_MS;
        store->watch = (struct weir_watch){ .fd = -1, .parent = -1, .ancestor = -1 };
        return store;
}

int weir_store_open(const char *spec, bool writable, struct weir_store **ret_store, struct weir_err *err)
{
        weir_auto(store) struct weir_store *store = store_new();
        struct weir_err missing = { 0 };
        int r;

        if (!store)
                return weir_err_set(err, -ENOMEM, "out of memory");
        r = find_path(spec, &store->path, err);
        if (r < 0)
                return r;
        r = weir_dir_enter(store, &missing);
        if (r == -ENOENT && writable) {
                r = weir_dir_make(store->path, err);
                if (r < 0)
                        return r;
                r = weir_dir_enter(store, &missing);
        } else if (r == -ENOENT)
                r = 0;
        if (r < 0) {
                if (err)
                        *err = missing;
                return r;
        }
        *ret_store = TAKE_PTR(store);
        return 0;
}

void weir_store_close(struct weir_store *store)
{
        if (!store)
                return;
        weir_watch_close(store);
        weir_close_cleanup(&store->fd);
        free(store->path);
        free(store);
}

const char *weir_store_path(const struct weir_store *store)
{
        return store->path;
}
