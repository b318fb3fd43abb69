/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a store.
 *
 * Theory of operation
 *
 * A reader takes no lock: a file is replaced by rename, so whoever opens it has the old one or the new one whole. One
 * pass goes over kinds, namespaces and files in the order of their names. For each file the content goes into the
 * digest, and if resources are wanted, it is parsed and compared with its place. What is broken becomes an error that
 * names the file, and the pass goes on; the errors go into the digest too, so that a file whose permissions are mended
 * counts as a change.
 *
 * What is not the store's is passed over: names that begin with a dot (.git, temporary files, the lock), in the folder
 * of a namespace whatever does not end in .yaml, and in the folder of the store whatever is not the folder of a kind.
 * What looks like a resource at the wrong place is an error: silence would leave a person wondering.
 *
 * While the store is watched, each folder is watched before it is listed: what appears later is told by the watch,
 * what was there before is seen by the pass. And what each file held is remembered, so that the next pass reads only
 * those that changed (dir_cache.c); its answers are the same as without.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "store/dir.h"
#include "store/store.h"

/* @list is NULL when only the digest is wanted; then nothing is parsed. */
struct pass {
        struct weir_dir *store;
        struct weir_resources *list;
        struct weir_errs *errors;
        struct weir_buf digest;
        struct weir_dir_cache *fresh; /* what this pass reads; NULL: not to be remembered */
};

WEIR_DEFINE_CLEANUP(resource, struct weir_resource *, weir_resource_unref)

/* Errors in what a file says follow from its content, which is in the digest. Returns WEIR_EINVALID or -ENOMEM. */
static int add_content_error(struct weir_errs *errors, const char *path, unsigned line, const char *text)
{
        struct weir_err err = { .line = line };

        if (!text)
                return -ENOMEM;
        weir_dir_set_path(&err, path);
        (void)weir_err_set(&err, WEIR_EINVALID, "%s", text);
        return weir_errs_add(errors, &err) < 0 ? -ENOMEM : WEIR_EINVALID;
}

/* Errors of the place go into the digest themselves. Returns WEIR_EINVALID or -ENOMEM. */
static int add_error(struct pass *pass, const struct weir_err *err)
{
        weir_buf_printf(&pass->digest, "! %s %s\n", err->path, err->text);
        return weir_errs_add(pass->errors, err) < 0 ? -ENOMEM : WEIR_EINVALID;
}

static int add_text(struct pass *pass, const char *path, const char *text)
{
        struct weir_err err = { 0 };

        if (!text)
                return -ENOMEM;
        weir_dir_set_path(&err, path);
        (void)weir_err_set(&err, WEIR_EINVALID, "%s", text);
        return add_error(pass, &err);
}

static int add_errno(struct pass *pass, const char *path, int r)
{
        struct weir_err err = { 0 };

        (void)weir_dir_fail(&err, r, path);
        return add_error(pass, &err);
}

/* Nothing in a file may say that it is another resource than the one its path names. */
static int check_place(const struct weir_resource *resource, enum weir_kind kind, const char *namespace_,
                       const char *name, const char *path, struct weir_errs *errors)
{
        weir_auto_free char *text = NULL;

        if (resource->kind != kind)
                text = weir_asprintf("its kind is %s, but the folder is for %s", weir_kind_info(resource->kind)->kind,
                                     weir_kind_info(kind)->kind);
        else if (!weir_streq(resource->name, name))
                text = weir_asprintf("metadata.name is \"%s\", but the file is called %s" WEIR_DIR_SUFFIX,
                                     resource->name, name);
        else if (resource->namespace_[0] && !weir_streq(resource->namespace_, namespace_))
                text = weir_asprintf("metadata.namespace is \"%s\", but the folder is that of %s", resource->namespace_,
                                     namespace_);
        else
                return 0;
        return add_content_error(errors, path, resource->line, text);
}

/* A file made by hand needs no namespace, and has no version until it is written by a command: "0". */
static int fill(struct weir_resource *resource, const char *namespace_, struct weir_resource **ret_resource)
{
        if (resource->namespace_[0] && resource->resource_version[0]) {
                *ret_resource = weir_resource_ref(resource);
                return 0;
        }
        return weir_resource_with(resource,
                                  &(struct weir_resource_change){
                                          .namespace_ = namespace_,
                                          .resource_version = resource->resource_version[0] ? NULL : "0",
                                  },
                                  ret_resource);
}

static int parse(const char *bytes, size_t n, enum weir_kind kind, const char *namespace_, const char *name,
                 const char *path, struct weir_resource **ret_resource, struct weir_errs *errors)
{
        struct weir_resources found = { 0 };
        int r;

        r = weir_resources_read(bytes, n, path, &found, errors, NULL);
        if (r == 0 && found.n != 1)
                r = add_content_error(errors, path, 0,
                                      found.n ? "holds several resources: in a store each has a file of its own" :
                                                "holds no resource: fill it or remove it");
        if (r == 0)
                r = check_place(found.items[0], kind, namespace_, name, path, errors);
        if (r == 0)
                r = fill(found.items[0], namespace_, ret_resource);
        weir_resources_clear(&found);
        return r;
}

/* The errors of one file are collected apart, so that those of the files before it do not count as its own. */
static int parse_apart(const char *bytes, size_t n, enum weir_kind kind, const char *namespace_, const char *name,
                       const char *path, struct weir_resource **ret_resource, struct weir_errs *errors)
{
        struct weir_errs own = { 0 };
        int r;

        r = parse(bytes, n, kind, namespace_, name, path, ret_resource, &own);
        for (size_t i = 0; i < own.n && r != -ENOMEM; i++)
                if (weir_errs_add(errors, &own.items[i]) < 0)
                        r = -ENOMEM;
        errors->total += own.total - own.n;
        weir_errs_clear(&own);
        return r;
}

/* @ret_mark: of before the file was read, so that what is written meanwhile shows as a change. */
static int slurp(int folder, const char *file, char **ret_bytes, size_t *ret_n, struct weir_dir_mark *ret_mark)
{
        weir_auto_close int fd = -1;
        struct stat st;
        int r;

        r = weir_dir_open_file(folder, file, &fd);
        if (r < 0)
                return r;
        if (fstat(fd, &st) < 0)
                return -errno;
        *ret_mark = weir_dir_mark(&st);
        return weir_fd_slurp(fd, WEIR_DOCUMENT_BYTES_MAX, ret_bytes, ret_n);
}

static char *path_of(const struct weir_dir *store, enum weir_kind kind, const char *namespace_, const char *file)
{
        return weir_asprintf("%s/%s/%s/%s", store->base.path, weir_kind_info(kind)->type, namespace_, file);
}

static int remember(struct pass *pass, enum weir_kind kind, const char *namespace_, const char *file,
                    const struct weir_dir_mark *mark, const char *hash, struct weir_resource *resource)
{
        return pass->fresh ? weir_dir_cache_add(pass->fresh, kind, namespace_, file, mark, hash, resource) : 0;
}

/* Whether the last pass's answer still holds for this file; then it is given again. -errno; 0: it has to be read. */
static int recall(struct pass *pass, enum weir_kind kind, const char *namespace_, const char *file, int folder,
                  const char *path, struct weir_resource **ret_resource)
{
        const struct weir_dir_cached *known;
        struct weir_dir_mark mark;
        struct stat st;

        if (!pass->fresh || fstatat(folder, file, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
                return 0;
        mark = weir_dir_mark(&st);
        known = weir_dir_cache_find(&pass->store->cache, kind, namespace_, file, &mark);
        if (!known || (ret_resource && !known->resource))
                return 0;
        if (remember(pass, kind, namespace_, file, &known->mark, known->hash, known->resource) < 0)
                return -ENOMEM;
        weir_buf_printf(&pass->digest, "%s %s\n", path, known->hash);
        if (ret_resource)
                *ret_resource = weir_resource_ref(known->resource);
        return 1;
}

/* -ENOENT if there is no such file; WEIR_EINVALID if it is broken. */
static int load(struct pass *pass, enum weir_kind kind, const char *namespace_, const char *file, int folder,
                struct weir_resource **ret_resource)
{
        weir_auto_free char *path = path_of(pass->store, kind, namespace_, file);
        weir_auto_free char *name = strndup(file, strlen(file) - strlen(WEIR_DIR_SUFFIX));
        weir_auto_free char *bytes = NULL;
        char hash[WEIR_SHA256_STRLEN];
        struct weir_dir_mark mark;
        size_t n = 0;
        int r;

        if (!path || !name)
                return -ENOMEM;
        if (!weir_dir_is_name(name))
                return add_text(pass, path,
                                "a resource has no such name: use a-z, 0-9, - and . only, at most 250 of them");
        r = recall(pass, kind, namespace_, file, folder, path, ret_resource);
        if (r != 0)
                return r < 0 ? r : 0;
        r = slurp(folder, file, &bytes, &n, &mark);
        if (r == -ENOENT || r == -ENOMEM)
                return r;
        if (r == -EFBIG)
                return add_text(pass, path, "is larger than 1 MiB, which no resource is");
        if (r < 0)
                return add_errno(pass, path, r);
        weir_sha256_hex(bytes, n, hash);
        weir_buf_printf(&pass->digest, "%s %s\n", path, hash);
        r = ret_resource ? parse_apart(bytes, n, kind, namespace_, name, path, ret_resource, pass->errors) : 0;
        return r == 0 ? remember(pass, kind, namespace_, file, &mark, hash, ret_resource ? *ret_resource : NULL) : r;
}

int weir_dir_load(struct weir_dir *store, enum weir_kind kind, const char *namespace_, const char *name, int folder,
                  struct weir_resource **ret_resource, struct weir_errs *errors)
{
        weir_auto_free char *file = weir_asprintf("%s" WEIR_DIR_SUFFIX, name);
        struct pass pass = { .store = store, .errors = errors };
        int r;

        if (!file)
                return -ENOMEM;
        r = load(&pass, kind, namespace_, file, folder, ret_resource);
        weir_buf_clear(&pass.digest);
        return r;
}

static bool ends_in(const char *file, const char *end)
{
        size_t n = strlen(file), length = strlen(end);

        return n > length && weir_streq(file + n - length, end);
}

static bool has_suffix(const char *file)
{
        return ends_in(file, WEIR_DIR_SUFFIX);
}

/* Broken is not the end of a pass. */
static int go_on(int r)
{
        return r == WEIR_EINVALID || r == -ENOENT ? 0 : r;
}

static int pass_file(struct pass *pass, enum weir_kind kind, const char *namespace_, const char *file, int folder)
{
        weir_auto(resource) struct weir_resource *resource = NULL;
        int r;

        if (ends_in(file, ".yml")) {
                weir_auto_free char *path = weir_asprintf("%s/%s/%s/%s", pass->store->base.path,
                                                          weir_kind_info(kind)->type, namespace_, file);

                return path ? go_on(add_text(pass, path, "is not read: a resource's file is called *.yaml")) : -ENOMEM;
        }
        if (!has_suffix(file))
                return 0;
        r = load(pass, kind, namespace_, file, folder, pass->list ? &resource : NULL);
        if (r == 0 && resource)
                r = weir_resources_add(pass->list, resource);
        return go_on(r);
}

/* Lists @fd, which is watched first. Gone in the meantime is empty. */
static int enter_folder(struct pass *pass, int fd, const char *path, struct weir_strv *names)
{
        int r;

        weir_watch_folder(pass->store, fd);
        r = weir_dir_list(fd, names);
        if (r == 0 || r == -ENOMEM)
                return r;
        return r == -ENOENT ? 0 : add_errno(pass, path, r);
}

static int pass_namespace(struct pass *pass, enum weir_kind kind, const char *namespace_, int type_fd)
{
        weir_auto_free char *path =
                weir_asprintf("%s/%s/%s", pass->store->base.path, weir_kind_info(kind)->type, namespace_);
        weir_auto_close int fd = -1;
        struct weir_strv names = { 0 };
        int r;

        if (!path)
                return -ENOMEM;
        r = weir_dir_open_folder(type_fd, namespace_, &fd);
        if (r == -ENOTDIR && has_suffix(namespace_))
                return go_on(add_text(
                        pass, path,
                        "lies beside the namespaces: move it into the folder of its namespace, such as default/"));
        if (r == -ENOENT || r == -ENOTDIR)
                return 0;
        if (r < 0)
                return go_on(add_errno(pass, path, r));
        if (!weir_dir_is_name(namespace_))
                return go_on(add_text(pass, path, "a namespace has no such name: use a-z, 0-9 and - only"));
        r = enter_folder(pass, fd, path, &names);
        for (size_t i = 0; i < names.n && r == 0; i++)
                r = pass_file(pass, kind, namespace_, names.items[i], fd);
        weir_strv_clear(&names);
        return go_on(r);
}

/* externalservice for external-service is easily written, and would be a rule that nobody reads. */
static int check_spelling(struct pass *pass, const struct weir_kind_info *info)
{
        const char *const wrong[] = { info->kind, info->singular, info->plural };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(wrong); i++) {
                weir_auto_free char *path = NULL, *text = NULL;
                int r;

                if (faccessat(pass->store->fd, wrong[i], F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                path = weir_asprintf("%s/%s", pass->store->base.path, wrong[i]);
                text = weir_asprintf("is not read: the folder for %s is called %s", info->kind, info->type);
                r = path ? go_on(add_text(pass, path, text)) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* A file of resources that lies in the store itself would be a rule that nobody reads, too. */
static int check_strays(struct pass *pass)
{
        int fd = openat(pass->store->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *entry;
        int r = 0;

        if (!dir) {
                weir_close_cleanup(&fd);
                return 0; /* not readable as a whole; what is read is opened by its name */
        }
        while (r == 0 && (entry = readdir(dir))) {
                weir_auto_free char *path = NULL;

                if (entry->d_name[0] == '.' || (!has_suffix(entry->d_name) && !ends_in(entry->d_name, ".yml")))
                        continue;
                path = weir_asprintf("%s/%s", pass->store->base.path, entry->d_name);
                r = path ? go_on(add_text(pass, path,
                                          "is not read where it lies: \"weir create -f\" puts its resources into the "
                                          "store")) :
                           -ENOMEM;
        }
        (void)closedir(dir);
        return r;
}

static int pass_kind(struct pass *pass, enum weir_kind kind)
{
        const struct weir_kind_info *info = weir_kind_info(kind);
        weir_auto_free char *path = weir_asprintf("%s/%s", pass->store->base.path, info->type);
        weir_auto_close int fd = -1;
        struct weir_strv names = { 0 };
        int r;

        if (!path)
                return -ENOMEM;
        r = check_spelling(pass, info);
        if (r < 0)
                return r;
        r = weir_dir_open_folder(pass->store->fd, info->type, &fd);
        if (r < 0)
                return r == -ENOENT ? 0 : go_on(add_errno(pass, path, r));
        r = enter_folder(pass, fd, path, &names);
        for (size_t i = 0; i < names.n && r == 0; i++)
                r = pass_namespace(pass, kind, names.items[i], fd);
        weir_strv_clear(&names);
        return go_on(r);
}

static int pass_all(struct pass *pass)
{
        struct weir_err err = { 0 };
        struct stat st;
        int r;

        pass->store->watch.error = 0;
        r = weir_dir_enter(pass->store, &err);
        if (r == -ENOENT) {
                weir_watch_missing(pass->store);
                /* It may have come just before it was watched. */
                r = weir_dir_enter(pass->store, &err);
                if (r == -ENOENT)
                        return 0;
        }
        if (r < 0)
                return go_on(add_error(pass, &err));
        weir_watch_entered(pass->store);
        r = check_strays(pass);
        if (r < 0)
                return r;
        for (size_t kind = 0; kind < WEIR_KIND_COUNT; kind++) {
                r = pass_kind(pass, (enum weir_kind)kind);
                if (r < 0)
                        return r;
        }
        /* At the end: what was listed before it went is not all there was. */
        if (fstat(pass->store->fd, &st) < 0 || st.st_nlink == 0)
                return go_on(add_errno(pass, pass->store->base.path, -ESTALE));
        return 0;
}

/* A store that cannot be watched would go on with a policy that was taken back. */
static int check_watch(struct pass *pass)
{
        weir_auto_free char *text = NULL;
        int error = pass->store->watch.error;

        if (error == 0)
                return 0;
        text = weir_asprintf("cannot be watched for changes: %s",
                             error == -ENOSPC ? "raise the limit (sysctl fs.inotify.max_user_watches)" :
                                                strerror(-error));
        return go_on(add_text(pass, pass->store->base.path, text));
}

int weir_dir_pass(struct weir_dir *store, struct weir_resources *list, struct weir_errs *errors,
                  char ret_digest[static WEIR_SHA256_STRLEN])
{
        struct weir_dir_cache fresh = { 0 };
        struct pass pass = {
                .store = store, .list = list, .errors = errors, .fresh = store->watch.fd >= 0 ? &fresh : NULL
        };
        int r;

        r = pass_all(&pass);
        if (r == 0)
                r = check_watch(&pass);
        if (r == 0 && pass.digest.error)
                r = -ENOMEM;
        if (r == 0)
                weir_sha256_hex(pass.digest.data ? pass.digest.data : "", pass.digest.length, ret_digest);
        weir_buf_clear(&pass.digest);
        if (r == 0) {
                weir_dir_cache_clear(&store->cache);
                store->cache = fresh;
        } else
                weir_dir_cache_clear(&fresh);
        return r;
}

struct keyed {
        char *key;
        struct weir_resource *resource;
};

static int compare_keys(const void *a, const void *b)
{
        return strcmp(((const struct keyed *)a)->key, ((const struct keyed *)b)->key);
}

/* By key as it is written: "a-b/x" stands before "a/x", unlike in the order of the folders. */
static int sort(struct weir_resource **items, size_t n)
{
        struct keyed *keyed = calloc(n ? n : 1, sizeof(*keyed));
        int r = keyed ? 0 : -ENOMEM;

        for (size_t i = 0; i < n && r == 0; i++) {
                keyed[i] = (struct keyed){ .key = weir_resource_key(items[i]), .resource = items[i] };
                if (!keyed[i].key)
                        r = -ENOMEM;
        }
        if (r == 0) {
                qsort(keyed, n, sizeof(*keyed), compare_keys);
                for (size_t i = 0; i < n; i++)
                        items[i] = keyed[i].resource;
        }
        for (size_t i = 0; keyed && i < n; i++)
                free(keyed[i].key);
        free(keyed);
        return r;
}

void weir_dir_forget_ahead(struct weir_dir *store)
{
        weir_resources_clear(&store->ahead.list);
        weir_errs_clear(&store->ahead.errors);
        store->ahead = (struct weir_dir_ahead){ 0 };
}

int weir_dir_look_ahead(struct weir_dir *store, char ret_digest[static WEIR_SHA256_STRLEN])
{
        struct weir_dir_ahead *ahead = &store->ahead;
        int r;

        weir_dir_forget_ahead(store);
        r = weir_dir_pass(store, &ahead->list, &ahead->errors, ahead->digest);
        if (r < 0) {
                weir_dir_forget_ahead(store);
                return r;
        }
        ahead->valid = store->watch.fd >= 0 && store->watch.error == 0;
        memcpy(ret_digest, ahead->digest, sizeof(ahead->digest));
        return 0;
}

/* Whatever happened since the look ahead is queued: then it is out of date. */
static bool is_up_to_date(const struct weir_dir *store)
{
        struct pollfd polled = { .fd = store->watch.fd, .events = POLLIN };

        return store->ahead.valid && poll(&polled, 1, 0) == 0;
}

/* One pass, or the one that was made just before. */
static int read_store(struct weir_dir *store, struct weir_resources *list, struct weir_errs *errors)
{
        struct weir_dir_ahead *ahead = &store->ahead;

        if (list->items || errors->items || errors->total > 0 || !is_up_to_date(store))
                return weir_dir_pass(store, list, errors, store->digest);
        *list = ahead->list;
        ahead->list = (struct weir_resources){ 0 };
        ahead->errors.limit = errors->limit;
        *errors = ahead->errors;
        ahead->errors = (struct weir_errs){ 0 };
        memcpy(store->digest, ahead->digest, sizeof(store->digest));
        return 0;
}

int weir_dir_snapshot(struct weir_store *base, struct weir_resources *list, struct weir_errs *errors)
{
        struct weir_dir *store = weir_dir(base);
        size_t n = list->n, total = errors->total;
        int r;

        r = read_store(store, list, errors);
        weir_dir_forget_ahead(store);
        if (r == 0 && list->n > n)
                r = sort(list->items + n, list->n - n);
        if (r < 0)
                return r;
        return errors->total > total ? WEIR_EINVALID : 0;
}

int weir_dir_not_found(struct weir_err *err, enum weir_kind kind, const char *name)
{
        if (err)
                err->path[0] = '\0';
        return weir_err_set(err, WEIR_ENOTFOUND, "%s \"%s\" not found", weir_kind_info(kind)->group_resource, name);
}

int weir_dir_open_namespace(struct weir_dir *store, enum weir_kind kind, const char *namespace_, int *ret_fd,
                            struct weir_err *err)
{
        weir_auto_free char *path = weir_asprintf("%s/%s/%s", store->base.path, weir_kind_info(kind)->type, namespace_);
        weir_auto_close int type_fd = -1;
        int r;

        if (!path)
                return weir_dir_fail(err, -ENOMEM, store->base.path);
        r = weir_dir_open_folder(store->fd, weir_kind_info(kind)->type, &type_fd);
        if (r == 0)
                r = weir_dir_open_folder(type_fd, namespace_, ret_fd);
        return r < 0 && r != -ENOENT ? weir_dir_fail(err, r, path) : r;
}

/* The first of them, for who asked about one file. */
static int first_error(struct weir_errs *errors, int r, struct weir_err *err)
{
        if (r == WEIR_EINVALID && errors->n > 0 && err)
                *err = errors->items[0];
        else if (r < 0)
                (void)weir_err_set(err, r, "%s", strerror(-r));
        weir_errs_clear(errors);
        return r;
}

int weir_dir_get(struct weir_store *base, enum weir_kind kind, const char *namespace_, const char *name,
                 struct weir_resource **ret_resource, struct weir_err *err)
{
        struct weir_dir *store = weir_dir(base);
        struct weir_err missing = { 0 };
        struct weir_errs errors = { 0 };
        weir_auto_close int folder = -1;
        int r;

        if (!weir_dir_is_name(namespace_) || !weir_dir_is_name(name))
                return weir_dir_not_found(err, kind, name);
        r = weir_dir_enter(store, &missing);
        if (r == 0)
                r = weir_dir_open_namespace(store, kind, namespace_, &folder, &missing);
        if (r == 0)
                r = weir_dir_load(store, kind, namespace_, name, folder, ret_resource, &errors);
        else if (r != -ENOENT && err)
                *err = missing;
        if (r == -ENOENT) {
                weir_errs_clear(&errors);
                return weir_dir_not_found(err, kind, name);
        }
        return folder >= 0 ? first_error(&errors, r, err) : r;
}
