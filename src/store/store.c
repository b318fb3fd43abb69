/* SPDX-License-Identifier: Apache-2.0 */
/* Which store, where, and opening it. */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/strutil.h"
#include "store/dir.h"

static const char *from_environment(const char *name)
{
        const char *value = getenv(name);

        return value && value[0] ? value : NULL;
}

/* The default folder: root's, or the user's by the XDG base directories. Heap; NULL without memory or home. */
static char *default_path(void)
{
        const char *state = from_environment("XDG_STATE_HOME"), *home = from_environment("HOME");

        if (geteuid() == 0)
                return strdup("/var/lib/weir");
        if (state && state[0] == '/') /* a relative one is to be ignored, by the specification */
                return weir_asprintf("%s/weir", state);
        return home ? weir_asprintf("%s/.local/state/weir", home) : NULL;
}

static char *absolute(const char *path)
{
        weir_auto_free char *here = NULL;

        if (path[0] == '/')
                return strdup(path);
        here = getcwd(NULL, 0);
        return here ? weir_asprintf("%s/%s", here, path) : NULL;
}

static int parse_spec(const char *spec, char **ret_path, struct weir_err *err)
{
        if (!spec)
                spec = from_environment("WEIR_STORE");
        if (!spec) {
                *ret_path = default_path();
                return *ret_path ? 0 : weir_err_set(err, WEIR_EINVALID, "no place for a store: set HOME, XDG_STATE_HOME or WEIR_STORE");
        }
        if (weir_starts_with(spec, "dir:")) {
                if (spec[4] == '\0')
                        return weir_err_set(err, WEIR_EINVALID, "the store \"dir:\" names no folder; write dir:PATH");
                *ret_path = absolute(spec + 4);
                return *ret_path ? 0 : weir_err_set(err, -errno, "cannot find the current folder: %s", strerror(errno));
        }
        if (weir_starts_with(spec, "kubernetes"))
                return weir_err_set(err, WEIR_EINVALID, "this version keeps resources in a folder only; use --store dir:PATH");
        if (spec[0] == '/' || spec[0] == '.')
                return weir_err_set(err, WEIR_EINVALID, "unknown store \"%s\"; did you mean dir:%s?", spec, spec);
        return weir_err_set(err, WEIR_EINVALID, "unknown store \"%s\"; write dir:PATH", spec);
}

/* Makes the folder (0700) and what is missing above it (0755). */
static int make_folders(const char *path)
{
        weir_auto_free char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                if (mkdir(copy, 0755) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
                        return -errno;
                *slash = '/';
        }
        /* What stands above may be closed to writing and there already: the last step alone tells. */
        return mkdir(copy, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int open_root(struct weir_store *store, bool writable, struct weir_err *err)
{
        int r = 0;

        store->root = open(store->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (store->root < 0 && errno == ENOENT && writable) {
                r = make_folders(store->path);
                if (r < 0)
                        return weir_err_set(err, r, "cannot make the store %s: %s; use --store dir:PATH or set WEIR_STORE", store->path, strerror(-r));
                store->root = open(store->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        store->was_there = store->root >= 0;
        if (store->root >= 0 || (errno == ENOENT && !writable))
                return 0;
        if (errno == ENOTDIR)
                return weir_err_set(err, -ENOTDIR, "the store %s is not a folder", store->path);
        return weir_err_set(err, -errno, "cannot open the store %s: %s; use --store dir:PATH or set WEIR_STORE", store->path, strerror(errno));
}

int weir_store_open(const char *spec, bool writable, struct weir_store **ret_store, struct weir_err *err)
{
        weir_auto(store) struct weir_store *store = calloc(1, sizeof(*store));
        int r;

        if (!store)
                return weir_err_set(err, -ENOMEM, "out of memory");
        store->root = store->inotify = -1;
        r = parse_spec(spec, &store->path, err);
        if (r == 0)
                r = open_root(store, writable, err);
        if (r < 0)
                return r;
        *ret_store = TAKE_PTR(store);
        return 0;
}

void weir_store_close(struct weir_store *store)
{
        if (!store)
                return;
        if (store->root >= 0)
                (void)close(store->root);
        if (store->inotify >= 0)
                (void)close(store->inotify);
        free(store->path);
        free(store);
}

const char *weir_store_path(const struct weir_store *store)
{
        return store->path;
}

bool weir_dir_appear(struct weir_store *store)
{
        if (store->root < 0)
                store->root = open(store->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        store->was_there |= store->root >= 0;
        return store->root >= 0;
}

int weir_dir_alive(const struct weir_store *store)
{
        struct stat st;

        if (store->root < 0)
                return 0;
        if (fstat(store->root, &st) < 0)
                return -errno;
        return st.st_nlink == 0 ? -ESTALE : 0;
}

int weir_dir_enter(int parent, const char *name)
{
        int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

bool weir_dir_name_fits(const char *name)
{
        return name[0] != '\0' && name[0] != '.' && !strchr(name, '/') && strlen(name) <= 253;
}

int weir_dir_file_name(const char *name, char buf[static 256])
{
        int n = snprintf(buf, 256, "%s" WEIR_DIR_SUFFIX, name);

        return n < 256 ? 0 : -ENAMETOOLONG;
}
