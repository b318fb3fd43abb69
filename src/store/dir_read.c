/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a dir: store: single resources, and snapshots of all. What is broken is told and left out, never guessed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"
#include "store/dir.h"

struct located {
        char path[256];
};

/* As a person finds it: PATH/type/namespace/name.yaml. */
static struct located locate(const struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *file)
{
        struct located l;

        (void)snprintf(l.path, sizeof(l.path), "%s/%s/%s/%s", store->path, weir_kind_info(kind)->type, namespace_, file);
        return l;
}

static int complain(struct weir_errs *errors, const char *path, unsigned line, int code, const char *text)
{
        struct weir_err err = { .code = code, .line = line };
        int r;

        (void)snprintf(err.path, sizeof(err.path), "%s", path);
        (void)snprintf(err.text, sizeof(err.text), "%s", text);
        r = weir_errs_add(errors, &err);
        return r < 0 ? r : WEIR_EINVALID;
}

/* A regular file only: a FIFO would hang, a link would lead away. */
static int read_file(int folder, const char *file, char **ret, size_t *ret_n)
{
        weir_auto_close int fd = openat(folder, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        return weir_fd_slurp(fd, WEIR_DOCUMENT_BYTES_MAX + 4096, ret, ret_n);
}

/* Whether the one resource of a file is what its path says. */
static int check_path(const struct weir_resources *list, enum weir_kind kind, const char *namespace_, const char *name, const char *path,
                      struct weir_errs *errors)
{
        const struct weir_resource *resource;
        char text[512];

        if (list->n != 1)
                return complain(errors, path, 0, WEIR_EINVALID, list->n == 0 ? "the file holds no resource" : "the file holds more than one resource");
        resource = list->items[0];
        if (resource->kind == kind && weir_streq(resource->name, name) &&
            (resource->namespace_[0] == '\0' || weir_streq(resource->namespace_, namespace_)))
                return 0;
        (void)snprintf(text, sizeof(text), "holds %s %.200s/%.200s, which belongs into another file", weir_kind_info(resource->kind)->kind,
                       resource->namespace_[0] ? resource->namespace_ : namespace_, resource->name);
        return complain(errors, path, resource->line, WEIR_EINVALID, text);
}

int weir_dir_load(const struct weir_store *store, int folder, enum weir_kind kind, const char *namespace_, const char *name,
                  struct weir_resource **ret_resource, struct weir_errs *errors)
{
        weir_auto_free char *bytes = NULL;
        struct weir_resources list = { 0 };
        struct located at;
        char file[256];
        size_t n;
        int r;

        r = weir_dir_file_name(name, file);
        if (r < 0)
                return r;
        at = locate(store, kind, namespace_, file);
        r = read_file(folder, file, &bytes, &n);
        if (r == -ENOENT || r == -ENOMEM)
                return r;
        if (r < 0) {
                char text[128];

                (void)snprintf(text, sizeof(text), "cannot be read: %s",
                               r == -ELOOP ? "it is a symbolic link" : r == -EINVAL ? "it is not a regular file" : strerror(-r));
                return complain(errors, at.path, 0, r, text);
        }
        r = weir_resources_read(bytes, n, at.path, &list, errors, NULL);
        if (r == 0)
                r = check_path(&list, kind, namespace_, name, at.path, errors);
        if (r == 0)
                r = weir_resource_with(list.items[0], namespace_, NULL, ret_resource);
        weir_resources_clear(&list);
        return r;
}

static int each_namespace(int type_folder, enum weir_kind kind, int (*visit)(void *context, enum weir_kind kind, const char *namespace_, int folder),
                          void *context)
{
        int copy = openat(type_folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        const struct dirent *entry;

        if (!dir) {
                r = -errno;
                if (copy >= 0)
                        (void)close(copy);
                return r;
        }
        while (r == 0 && (errno = 0, entry = readdir(dir))) {
                weir_auto_close int folder = -1;

                if (!weir_dir_name_fits(entry->d_name))
                        continue;
                folder = weir_dir_enter(type_folder, entry->d_name);
                /* Files and links beside the namespaces are not ours; one that has just gone is no error. */
                if (folder == -ENOTDIR || folder == -ELOOP || folder == -ENOENT)
                        continue;
                r = folder < 0 ? folder : visit(context, kind, entry->d_name, folder);
        }
        if (r == 0)
                r = -errno;
        (void)closedir(dir);
        return r;
}

int weir_dir_each_folder(const struct weir_store *store, int (*visit)(void *context, enum weir_kind kind, const char *namespace_, int folder),
                         void *context)
{
        int r = 0;

        for (unsigned kind = 0; kind < WEIR_KIND_COUNT && r == 0 && store->root >= 0; kind++) {
                weir_auto_close int folder = weir_dir_enter(store->root, weir_kind_info((enum weir_kind)kind)->type);

                if (folder == -ENOENT)
                        continue;
                r = folder < 0 ? folder : each_namespace(folder, (enum weir_kind)kind, visit, context);
        }
        return r;
}

struct snapshot {
        const struct weir_store *store;
        struct weir_resources *list;
        struct weir_errs *errors;
};

/* @name without its suffix into @buf, if the file is one of ours. Editors' copies and what is being written are not. */
static bool resource_name(const char *file, char buf[static 256])
{
        size_t n = strlen(file), suffix = strlen(WEIR_DIR_SUFFIX);

        if (file[0] == '.' || n <= suffix || n >= 256 || !weir_streq(file + n - suffix, WEIR_DIR_SUFFIX))
                return false;
        memcpy(buf, file, n - suffix);
        buf[n - suffix] = '\0';
        return true;
}

static int snapshot_file(struct snapshot *s, enum weir_kind kind, const char *namespace_, int folder, const char *name)
{
        struct weir_resource *resource;
        int r;

        r = weir_dir_load(s->store, folder, kind, namespace_, name, &resource, s->errors);
        /* Gone since the folder was listed: deleted. Broken: told in errors, and the others are read all the same. */
        if (r == -ENOENT || (r < 0 && r != -ENOMEM))
                return 0;
        if (r < 0)
                return r;
        r = weir_resources_add(s->list, resource);
        weir_resource_unref(resource);
        return r;
}

static int snapshot_folder(void *context, enum weir_kind kind, const char *namespace_, int folder)
{
        int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        const struct dirent *entry;
        char name[256];

        if (!dir) {
                r = -errno;
                if (copy >= 0)
                        (void)close(copy);
                return r;
        }
        while (r == 0 && (errno = 0, entry = readdir(dir)))
                if (resource_name(entry->d_name, name))
                        r = snapshot_file(context, kind, namespace_, folder, name);
        if (r == 0)
                r = -errno;
        (void)closedir(dir);
        return r;
}

static int by_key(const void *left, const void *right)
{
        const struct weir_resource *a = *(struct weir_resource *const *)left, *b = *(struct weir_resource *const *)right;
        int order = (int)a->kind - (int)b->kind;

        if (order == 0)
                order = strcmp(a->namespace_, b->namespace_);
        return order ? order : strcmp(a->name, b->name);
}

int weir_store_snapshot(struct weir_store *store, struct weir_resources *list, struct weir_errs *errors)
{
        struct snapshot s = { .store = store, .list = list, .errors = errors };
        int r;

        (void)weir_dir_appear(store);
        r = weir_dir_alive(store);
        if (r < 0)
                return complain(errors, store->path, 0, r, "the store's folder was removed; make it again and start anew");
        r = weir_dir_each_folder(store, snapshot_folder, &s);
        if (r < 0)
                return r;
        if (list->n > 0)
                qsort(list->items, list->n, sizeof(*list->items), by_key);
        return errors->total > 0 ? WEIR_EINVALID : 0;
}

static int not_found(struct weir_err *err, enum weir_kind kind, const char *name)
{
        return weir_err_set(err, WEIR_ENOTFOUND, "%s \"%s\" not found", weir_kind_info(kind)->group_resource, name);
}

/* The first of several complaints, with its place. */
static int first_error(struct weir_errs *errors, struct weir_err *err, int r)
{
        if (errors->n > 0 && err)
                *err = errors->items[0];
        else if (r != WEIR_EINVALID)
                (void)weir_err_set(err, r, "cannot read the store: %s", strerror(-r));
        weir_errs_clear(errors);
        return r;
}

int weir_store_get(struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *name,
                   struct weir_resource **ret_resource, struct weir_err *err)
{
        weir_auto_close int type_folder = -1, folder = -1;
        struct weir_errs errors = { 0 };
        int r;

        if (!weir_dir_name_fits(name) || !weir_dir_name_fits(namespace_) || !weir_dir_appear(store))
                return not_found(err, kind, name);
        type_folder = weir_dir_enter(store->root, weir_kind_info(kind)->type);
        if (type_folder >= 0)
                folder = weir_dir_enter(type_folder, namespace_);
        r = folder < 0 ? (type_folder < 0 ? type_folder : folder) :
                         weir_dir_load(store, folder, kind, namespace_, name, ret_resource, &errors);
        if (r == -ENOENT || r == -ENOTDIR || r == -ENAMETOOLONG)
                return not_found(err, kind, name);
        return r < 0 ? first_error(&errors, err, r) : 0;
}
