/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a store.
 *
 * Theory of operation
 *
 * A writer holds the lock from its first look to its last. Both files, the counter and the resource, are first written
 * whole and synced under hidden names in the folder of the store, so a full disk is met while nothing has changed.
 * Then:
 *
 *   1. the counter is renamed over the old one, and the folder of the store is synced
 *   2. the resource is renamed over the old one, and the folder of its namespace is synced
 *
 * After a crash between the two the counter has a gap and the resource is the old one. The other order would give a
 * revision out twice. The hidden names are fixed: what a crash left under them is removed by the next writer.
 *
 * The lock file can be written but not read (0200): a workload has the caller's uid and sees the store read-only, so it
 * cannot open the file at all. Could it read it, it could lock it, and nobody could take a rule back any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/time.h"
#include "store/dir.h"
#include "store/store.h"

#define LOCK_FILE ".lock"
#define LOCK_MODE 0200
#define LOCK_POLL_NS (2 * 1000 * 1000)
#define RESOURCE_TEMPORARY ".resource.tmp"
#define REVISION_TEMPORARY ".revision.tmp"
#define REVISION_STRLEN 24

enum write_mode { WRITE_CREATE, WRITE_REPLACE, WRITE_APPLY };

/**
 * struct target - the resource that is written or removed
 * @file:    its name in @folder
 * @path:    for messages
 * @folder:  that of its namespace; -1 if it does not exist yet
 * @exists:  something of that name is there
 * @version: its resourceVersion, "0" if what is there is broken or has none
 * @created: its creationTimestamp, "" if what is there is broken or has none
 */
struct target {
        enum weir_kind kind;
        const char *namespace_, *name;
        char file[WEIR_DIR_FILE_STRLEN];
        char *path;
        int folder;
        bool exists;
        char *version, *created;
};

WEIR_DEFINE_CLEANUP(resource, struct weir_resource *, weir_resource_unref)

static void target_clear(struct target *target)
{
        free(target->path);
        free(target->version);
        free(target->created);
        weir_close_cleanup(&target->folder);
}

static int out_of_memory(struct weir_err *err)
{
        return weir_err_set(err, -ENOMEM, "out of memory");
}

static int target_init(struct target *target, const struct weir_dir *store)
{
        (void)snprintf(target->file, sizeof(target->file), "%s" WEIR_DIR_SUFFIX, target->name);
        target->path = weir_asprintf("%s/%s/%s/%s", store->base.path, weir_kind_info(target->kind)->type,
                                     target->namespace_, target->file);
        return target->path ? 0 : -ENOMEM;
}

static char *path_in(const struct weir_dir *store, const char *name)
{
        return weir_asprintf("%s/%s", store->base.path, name);
}

static int fail_in(const struct weir_dir *store, const char *name, int r, struct weir_err *err)
{
        weir_auto_free char *path = path_in(store, name);

        return weir_dir_fail(err, r, path ? path : store->base.path);
}

/* --- the lock --- */

/* Makes the lock, and tells git of the files that are not for it. */
static int make_lock(const struct weir_dir *store)
{
        static const char ignore[] = "/.lock\n/.*.tmp\n";
        int fd = openat(store->fd, LOCK_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, LOCK_MODE);
        weir_auto_close int git = -1;

        if (fd < 0)
                return -errno;
        git = openat(store->fd, ".gitignore", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (git >= 0 && weir_fd_write_all(git, ignore, sizeof(ignore) - 1) < 0)
                (void)unlinkat(store->fd, ".gitignore", 0);
        return fd;
}

static int open_lock(const struct weir_dir *store, int *ret_fd)
{
        weir_auto_close int fd = openat(store->fd, LOCK_FILE, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;

        if (fd < 0 && errno == ENOENT) {
                fd = make_lock(store);
                if (fd == -EEXIST)
                        fd = openat(store->fd, LOCK_FILE, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
                else if (fd < 0)
                        errno = -fd;
        }
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -ENXIO;
        /* A copy of a store brings what rights it likes. If it is another's file, that is for the other to mend. */
        if (st.st_mode & 0444)
                (void)fchmod(fd, st.st_mode & 0333);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* -EWOULDBLOCK while another holds it. */
static int try_lock(const struct weir_dir *store, int *ret_fd)
{
        weir_auto_close int fd = -1;
        int r;

        r = open_lock(store, &fd);
        if (r < 0)
                return r;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int take_lock(const struct weir_dir *store, int *ret_fd, struct weir_err *err)
{
        const struct timespec pause = { .tv_nsec = LOCK_POLL_NS };
        uint64_t deadline = weir_time_ns() + store->lock_wait_ms * WEIR_MS;
        weir_auto_free char *path = path_in(store, LOCK_FILE);
        int r;

        if (!path)
                return out_of_memory(err);
        for (;;) {
                r = try_lock(store, ret_fd);
                if (r == 0)
                        return 0;
                if (r != -EWOULDBLOCK && r != -EINTR)
                        return weir_dir_fail(err, r, path);
                if (weir_time_ns() >= deadline)
                        break;
                (void)nanosleep(&pause, NULL);
        }
        (void)weir_err_set(err, r,
                           "another command has been writing to this store for %u s: wait for it, or find it with "
                           "fuser -v and end it",
                           store->lock_wait_ms / 1000);
        if (err)
                weir_dir_set_path(err, path);
        return r;
}

/* --- the counter --- */

/* A store that came without its counter (a fresh git clone) goes on above what its resources carry. */
static int highest_version(struct weir_dir *store, uint64_t *ret_revision)
{
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        char digest[WEIR_SHA256_STRLEN];
        uint64_t highest = 0, version;
        int r;

        r = weir_dir_pass(store, &list, &errors, digest);
        for (size_t i = 0; i < list.n; i++)
                if (weir_parse_uint(list.items[i]->resource_version, WEIR_DIR_REVISION_MAX, &version) == 0 &&
                    version > highest)
                        highest = version;
        weir_errs_clear(&errors);
        weir_resources_clear(&list);
        if (r == 0)
                *ret_revision = highest;
        return r;
}

static int parse_revision(char *text, uint64_t *ret_revision)
{
        text[strcspn(text, "\n")] = '\0';
        return weir_parse_uint(text, WEIR_DIR_REVISION_MAX, ret_revision) < 0 ? -EBADMSG : 0;
}

static int read_revision(struct weir_dir *store, uint64_t *ret_revision)
{
        weir_auto_close int fd = -1;
        weir_auto_free char *text = NULL;
        size_t n;
        int r;

        r = weir_dir_open_file(store->fd, WEIR_DIR_REVISION, &fd);
        if (r == -ENOENT)
                return highest_version(store, ret_revision);
        if (r == 0)
                r = weir_fd_slurp(fd, REVISION_STRLEN, &text, &n);
        if (r < 0)
                return r == -EFBIG ? -EBADMSG : r;
        return text ? parse_revision(text, ret_revision) : -EBADMSG;
}

/* The next one. Above the version of @target too: a counter that a person set back must not give it out twice. */
static int next_revision(struct weir_dir *store, const struct target *target, uint64_t *ret_revision,
                         struct weir_err *err)
{
        uint64_t revision = 0, version;
        int r;

        r = read_revision(store, &revision);
        if (r == -EBADMSG) {
                (void)fail_in(store, WEIR_DIR_REVISION, r, err);
                return weir_err_set(err, WEIR_EINVALID,
                                    "holds no number: remove it, and counting goes on above the resources' own");
        }
        if (r < 0)
                return fail_in(store, WEIR_DIR_REVISION, r, err);
        if (target->version && weir_parse_uint(target->version, WEIR_DIR_REVISION_MAX, &version) == 0 &&
            version > revision)
                revision = version;
        if (revision >= WEIR_DIR_REVISION_MAX) {
                (void)fail_in(store, WEIR_DIR_REVISION, -ERANGE, err);
                return weir_err_set(err, WEIR_ELIMIT,
                                    "the counter is at its end: set it and the resourceVersions back");
        }
        *ret_revision = revision + 1;
        return 0;
}

/* --- files --- */

/* Some file systems cannot sync a folder and say so with EINVAL. */
static int sync_folder(int fd)
{
        return fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}

/* A whole file under a hidden name, on the disk before it is seen. */
static int write_temporary(const struct weir_dir *store, const char *temporary, const char *bytes, size_t n)
{
        weir_auto_close int fd = -1;
        int r;

        if (unlinkat(store->fd, temporary, 0) < 0 && errno != ENOENT)
                return -errno;
        fd = openat(store->fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd < 0)
                return -errno;
        r = weir_fd_write_all(fd, bytes, n);
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        return r;
}

static int write_revision(const struct weir_dir *store, uint64_t revision)
{
        char text[REVISION_STRLEN];
        int n = snprintf(text, sizeof(text), "%" PRIu64 "\n", revision);

        return write_temporary(store, REVISION_TEMPORARY, text, (size_t)n);
}

static int publish_revision(const struct weir_dir *store)
{
        if (renameat(store->fd, REVISION_TEMPORARY, store->fd, WEIR_DIR_REVISION) < 0)
                return -errno;
        return sync_folder(store->fd);
}

/* A new resource takes nobody's place, not even that of a file made by hand a moment ago. */
static int publish_resource(const struct weir_dir *store, const struct target *target)
{
        unsigned flags = target->exists ? 0 : RENAME_NOREPLACE;
        int r;

        r = renameat2(store->fd, RESOURCE_TEMPORARY, target->folder, target->file, flags) < 0 ? -errno : 0;
        if (r == -EINVAL && flags)
                r = renameat(store->fd, RESOURCE_TEMPORARY, target->folder, target->file) < 0 ? -errno : 0;
        return r;
}

/* The change is made and seen by everybody; that the disk would not say it has it, is all there is to tell. */
static int sync_change(const struct target *target, struct weir_err *err)
{
        int r = sync_folder(target->folder);

        if (r == 0)
                return 0;
        if (err)
                weir_dir_set_path(err, target->path);
        return weir_err_set(err, r, "the change is in force, but the disk did not confirm it and may lose it: %s",
                            strerror(-r));
}

static void remove_temporaries(const struct weir_dir *store)
{
        (void)unlinkat(store->fd, RESOURCE_TEMPORARY, 0);
        (void)unlinkat(store->fd, REVISION_TEMPORARY, 0);
}

static int make_folder(int above, const char *name, int *ret_fd)
{
        int r;

        r = weir_dir_open_folder(above, name, ret_fd);
        if (r != -ENOENT)
                return r;
        if (mkdirat(above, name, 0755) < 0 && errno != EEXIST)
                return -errno;
        r = sync_folder(above);
        return r < 0 ? r : weir_dir_open_folder(above, name, ret_fd);
}

static int make_namespace(const struct weir_dir *store, struct target *target)
{
        weir_auto_close int type_fd = -1;
        int r;

        if (target->folder >= 0)
                return 0;
        r = make_folder(store->fd, weir_kind_info(target->kind)->type, &type_fd);
        return r < 0 ? r : make_folder(type_fd, target->namespace_, &target->folder);
}

/* --- what is there --- */

static int read_version(struct weir_dir *store, struct target *target)
{
        weir_auto(resource) struct weir_resource *resource = NULL;
        struct weir_errs errors = { 0 };
        int r;

        r = weir_dir_load(store, target->kind, target->namespace_, target->name, target->folder, &resource, &errors);
        weir_errs_clear(&errors);
        target->version = strdup(r == 0 ? resource->resource_version : "0");
        target->created = strdup(r == 0 ? resource->created : "");
        return target->version && target->created ? 0 : -ENOMEM;
}

/* Fills in @folder, @exists and @version. That there is nothing is no error. */
static int find(struct weir_dir *store, struct target *target, struct weir_err *err)
{
        struct stat st;
        int r;

        r = weir_dir_open_namespace(store, target->kind, target->namespace_, &target->folder, err);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (fstatat(target->folder, target->file, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : weir_dir_fail(err, -errno, target->path);
        target->exists = true;
        if (!S_ISREG(st.st_mode))
                return weir_dir_fail(err,
                                     S_ISLNK(st.st_mode) ? -ELOOP :
                                     S_ISDIR(st.st_mode) ? -EISDIR :
                                                           -ENXIO,
                                     target->path);
        return read_version(store, target) < 0 ? out_of_memory(err) : 0;
}

/* The texts of the Kubernetes API server. */
static int already_exists(const struct target *target, struct weir_err *err)
{
        return weir_err_set(err, WEIR_EEXISTS, "%s \"%s\" already exists", weir_kind_info(target->kind)->group_resource,
                            target->name);
}

static int check_mode(const struct target *target, const struct weir_resource *resource, enum write_mode mode,
                      struct weir_err *err)
{
        if (mode == WRITE_CREATE && target->exists)
                return already_exists(target, err);
        if (mode == WRITE_REPLACE && !target->exists)
                return weir_dir_not_found(err, target->kind, target->name);
        if (target->exists && resource->resource_version[0] && !weir_streq(resource->resource_version, target->version))
                return weir_err_set(err, WEIR_ECONFLICT,
                                    "Operation cannot be fulfilled on %s \"%s\": the object has been modified; please "
                                    "apply your changes "
                                    "to the latest version and try again",
                                    weir_kind_info(target->kind)->group_resource, target->name);
        return 0;
}

/* --- the writes --- */

/* A resource keeps the time at which it was made, whatever the input says; a new one without any is made now. */
static const char *created(const struct target *target, const struct weir_resource *resource,
                           char buf[static WEIR_TIME_STRLEN])
{
        if (target->exists && target->created[0])
                return target->created;
        return resource->created[0] ? NULL : weir_time_rfc3339_seconds(buf);
}

static int print(const struct target *target, const struct weir_resource *resource, uint64_t revision,
                 struct weir_buf *buf)
{
        weir_auto(resource) struct weir_resource *stamped = NULL;
        char version[REVISION_STRLEN], now[WEIR_TIME_STRLEN];
        struct weir_resource_change change = { .resource_version = version };
        int r;

        (void)snprintf(version, sizeof(version), "%" PRIu64, revision);
        change.created = created(target, resource, now);
        r = weir_resource_with(resource, &change, &stamped);
        if (r < 0)
                return r;
        weir_resource_print_yaml(stamped, buf);
        if (buf->error)
                return buf->error;
        return buf->length > WEIR_DOCUMENT_BYTES_MAX ? -EFBIG : 0;
}

static int put(struct weir_dir *store, struct target *target, const struct weir_buf *text, uint64_t revision,
               struct weir_err *err)
{
        int r;

        r = write_temporary(store, RESOURCE_TEMPORARY, text->data, text->length);
        if (r == 0)
                r = write_revision(store, revision);
        if (r < 0)
                return weir_dir_fail(err, r, store->base.path);
        r = make_namespace(store, target);
        if (r == 0)
                r = publish_revision(store);
        if (r == 0)
                r = publish_resource(store, target);
        if (r == -EEXIST)
                return already_exists(target, err);
        return r < 0 ? weir_dir_fail(err, r, target->path) : sync_change(target, err);
}

/* Under the lock. */
static int write_locked(struct weir_dir *store, struct target *target, const struct weir_resource *resource,
                        enum write_mode mode, uint64_t *ret_revision, struct weir_err *err)
{
        weir_auto(buf) struct weir_buf text = { 0 };
        uint64_t revision = 0;
        int r;

        r = find(store, target, err);
        if (r == 0)
                r = check_mode(target, resource, mode, err);
        if (r == 0)
                r = next_revision(store, target, &revision, err);
        if (r < 0)
                return r;
        r = print(target, resource, revision, &text);
        if (r < 0)
                return r == -EFBIG ? weir_err_set(err, WEIR_ELIMIT, "%s is larger than 1 MiB when it is written out",
                                                  resource->name) :
                                     weir_err_set(err, r, "%s", strerror(-r));
        r = put(store, target, &text, revision, err);
        if (r < 0)
                remove_temporaries(store);
        else
                *ret_revision = revision;
        return r;
}

static int check_names(const struct weir_resource *resource, struct weir_err *err)
{
        if (weir_dir_is_name(resource->name) && weir_dir_is_name(resource->namespace_))
                return 0;
        if (strlen(resource->name) > WEIR_DIR_NAME_MAX)
                return weir_err_set(err, WEIR_ELIMIT, "metadata.name has %zu characters; a dir: store takes at most %d",
                                    strlen(resource->name), WEIR_DIR_NAME_MAX);
        return weir_err_set(err, WEIR_EINVALID,
                            "\"%s\" in namespace \"%s\" cannot be stored: names are of a-z, 0-9, - and . only",
                            resource->name, resource->namespace_);
}

static int enter_to_write(struct weir_dir *store, struct weir_err *err)
{
        struct stat st;
        int r;

        r = weir_dir_enter(store, err);
        if (r < 0)
                return r;
        if (fstat(store->fd, &st) < 0 || st.st_nlink == 0)
                return weir_dir_fail(err, -ESTALE, store->base.path);
        return 0;
}

static int write_resource(struct weir_dir *store, const struct weir_resource *resource, enum write_mode mode,
                          uint64_t *ret_revision, bool *ret_created, struct weir_err *err)
{
        __attribute__((cleanup(target_clear))) struct target target = {
                .kind = resource->kind,
                .namespace_ = resource->namespace_,
                .name = resource->name,
                .folder = -1,
        };
        weir_auto_close int lock = -1;
        int r;

        r = check_names(resource, err);
        if (r < 0)
                return r;
        r = enter_to_write(store, err);
        if (r < 0)
                return r == -ENOENT && mode == WRITE_REPLACE ? weir_dir_not_found(err, target.kind, target.name) : r;
        if (target_init(&target, store) < 0)
                return out_of_memory(err);
        r = take_lock(store, &lock, err);
        if (r == 0)
                r = write_locked(store, &target, resource, mode, ret_revision, err);
        if (r == 0 && ret_created)
                *ret_created = !target.exists;
        return r;
}

int weir_dir_create(struct weir_store *base, const struct weir_resource *resource, uint64_t *ret_revision,
                    struct weir_err *err)
{
        return write_resource(weir_dir(base), resource, WRITE_CREATE, ret_revision, NULL, err);
}

int weir_dir_replace(struct weir_store *base, const struct weir_resource *resource, uint64_t *ret_revision,
                     struct weir_err *err)
{
        return write_resource(weir_dir(base), resource, WRITE_REPLACE, ret_revision, NULL, err);
}

int weir_dir_apply(struct weir_store *base, const struct weir_resource *resource, uint64_t *ret_revision,
                   bool *ret_created, struct weir_err *err)
{
        return write_resource(weir_dir(base), resource, WRITE_APPLY, ret_revision, ret_created, err);
}

/* Counts a removal. A full disk and a damaged counter keep nobody from taking a rule back: uncounted, it still gives no
 * revision out twice. */
static int count_removal(struct weir_dir *store, const struct target *target, struct weir_err *err)
{
        struct weir_err trouble = { 0 };
        uint64_t revision = 0;
        int r;

        r = next_revision(store, target, &revision, &trouble);
        if (r == WEIR_EINVALID || r == WEIR_ELIMIT)
                return 0;
        if (r < 0) {
                *err = trouble;
                return r;
        }
        r = write_revision(store, revision);
        if (r == 0)
                r = publish_revision(store);
        if (r < 0)
                remove_temporaries(store);
        return r == 0 || r == -ENOSPC || r == -EDQUOT ? 0 : weir_dir_fail(err, r, store->base.path);
}

static int delete_locked(struct weir_dir *store, struct target *target, struct weir_err *err)
{
        int r;

        r = find(store, target, err);
        if (r == 0 && !target->exists)
                return weir_dir_not_found(err, target->kind, target->name);
        /* A link at the resource's place is removed itself, not what it leads to. */
        if (r < 0 && !(r == -ELOOP && target->exists))
                return r;
        r = count_removal(store, target, err);
        if (r < 0)
                return r;
        if (unlinkat(target->folder, target->file, 0) < 0)
                return errno == ENOENT ? weir_dir_not_found(err, target->kind, target->name) :
                                         weir_dir_fail(err, -errno, target->path);
        return sync_change(target, err);
}

int weir_dir_delete(struct weir_store *base, enum weir_kind kind, const char *namespace_, const char *name,
                    struct weir_err *err)
{
        struct weir_dir *store = weir_dir(base);
        __attribute__((cleanup(target_clear))) struct target target = {
                .kind = kind,
                .namespace_ = namespace_,
                .name = name,
                .folder = -1,
        };
        weir_auto_close int lock = -1;
        int r;

        if (!weir_dir_is_name(namespace_) || !weir_dir_is_name(name))
                return weir_dir_not_found(err, kind, name);
        r = enter_to_write(store, err);
        if (r < 0)
                return r == -ENOENT ? weir_dir_not_found(err, kind, name) : r;
        if (target_init(&target, store) < 0)
                return out_of_memory(err);
        r = take_lock(store, &lock, err);
        return r < 0 ? r : delete_locked(store, &target, err);
}
