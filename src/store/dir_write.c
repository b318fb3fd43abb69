/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a dir: store.
 *
 * Theory of operation
 *
 * One writer at a time holds the lock. The revision is written before the resource that carries it: a crash in between leaves a gap in
 * the numbers, never a number twice. Each file is written beside its place, flushed, renamed over it, and the folder is flushed, so that
 * after a crash there is the old file or the new one. What a killed writer left behind is swept by the next one in that folder, which
 * may, for it holds the lock.
 */
#include <dirent.h>
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
#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"
#include "base/time.h"
#include "store/dir.h"

#define LOCK_WAIT_NS (10 * WEIR_SEC)
#define LOCK_RETRY_NS (5 * WEIR_MS)
#define REVISION_BYTES_MAX 32

enum mode { CREATE, REPLACE, APPLY };

/* What stands in the way of writing, and what to do about it. */
static int write_error(const struct weir_store *store, int r, struct weir_err *err)
{
        switch (-r) {
        case ENOSPC:
        case EDQUOT:
                return weir_err_set(err, r, "cannot write to the store %s: %s; make room there, nothing was changed", store->path, strerror(-r));
        case EROFS:
                return weir_err_set(err, r, "cannot write to the store %s: it is on a read-only file system; use --store dir:PATH", store->path);
        case EACCES:
        case EPERM:
                return weir_err_set(err, r, "cannot write to the store %s: permission denied; it belongs to another user, use --store dir:PATH",
                                    store->path);
        default:
                return weir_err_set(err, r, "cannot write to the store %s: %s", store->path, strerror(-r));
        }
}

/* Waits at most LOCK_WAIT_NS. The lock ends with the descriptor. */
static int lock(const struct weir_store *store, int *ret_fd, struct weir_err *err)
{
        weir_auto_close int fd = openat(store->root, WEIR_DIR_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        uint64_t until = weir_time_ns() + LOCK_WAIT_NS;

        if (fd < 0)
                return write_error(store, -errno, err);
        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                struct timespec pause = { .tv_nsec = (long)LOCK_RETRY_NS };

                if (errno != EWOULDBLOCK && errno != EINTR)
                        return write_error(store, -errno, err);
                if (weir_time_ns() > until)
                        return weir_err_set(err, -EBUSY, "the store %s is being written by another command for over %d s; try again", store->path,
                                            (int)(LOCK_WAIT_NS / WEIR_SEC));
                (void)nanosleep(&pause, NULL);
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* What killed writers left. Only under the lock. */
static void sweep(int folder)
{
        int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        const struct dirent *entry;

        if (!dir) {
                if (copy >= 0)
                        (void)close(copy);
                return;
        }
        while ((entry = readdir(dir)))
                if (weir_starts_with(entry->d_name, WEIR_DIR_TEMPORARY))
                        (void)unlinkat(folder, entry->d_name, 0);
        (void)closedir(dir);
}

static int write_temporary(int folder, const char *name, const void *bytes, size_t n)
{
        weir_auto_close int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r;

        if (fd < 0)
                return -errno;
        r = weir_fd_write_all(fd, bytes, n);
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        return r;
}

/* The file is the old one or the new one, whenever the power fails. */
static int write_file(int folder, const char *file, const void *bytes, size_t n)
{
        char temporary[64];
        int r;

        (void)snprintf(temporary, sizeof(temporary), WEIR_DIR_TEMPORARY "%d", (int)getpid());
        sweep(folder);
        r = write_temporary(folder, temporary, bytes, n);
        if (r == 0 && renameat(folder, temporary, folder, file) < 0)
                r = -errno;
        if (r < 0) {
                (void)unlinkat(folder, temporary, 0);
                return r;
        }
        return fsync(folder) < 0 ? -errno : 0;
}

static int read_revision(const struct weir_store *store, uint64_t *ret_revision, struct weir_err *err)
{
        weir_auto_close int fd = openat(store->root, WEIR_DIR_REVISION, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        weir_auto_free char *text = NULL;
        size_t n;

        *ret_revision = 0;
        if (fd < 0)
                return errno == ENOENT ? 0 : write_error(store, -errno, err);
        if (weir_fd_slurp(fd, REVISION_BYTES_MAX, &text, &n) == 0) {
                text[strcspn(text, "\n")] = '\0';
                if (weir_parse_uint(text, INT64_MAX, ret_revision) == 0)
                        return 0;
        }
        return weir_err_set(err, WEIR_EINVALID, "%s/" WEIR_DIR_REVISION " holds no number; write the highest resourceVersion of the store into it",
                            store->path);
}

/* Counts the whole store one further. */
static int next_revision(const struct weir_store *store, uint64_t *ret_revision, struct weir_err *err)
{
        uint64_t revision;
        char text[REVISION_BYTES_MAX];
        int r;

        r = read_revision(store, &revision, err);
        if (r < 0)
                return r;
        revision++;
        (void)snprintf(text, sizeof(text), "%" PRIu64 "\n", revision);
        r = write_file(store->root, WEIR_DIR_REVISION, text, strlen(text));
        if (r < 0)
                return write_error(store, r, err);
        *ret_revision = revision;
        return 0;
}

/* The subfolder, made if @make and missing. */
static int folder_of(int parent, const char *name, bool make)
{
        int fd = weir_dir_enter(parent, name);

        if (fd != -ENOENT || !make)
                return fd;
        if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        if (fsync(parent) < 0)
                return -errno;
        return weir_dir_enter(parent, name);
}

static int open_folder(const struct weir_store *store, enum weir_kind kind, const char *namespace_, bool make)
{
        weir_auto_close int type_folder = folder_of(store->root, weir_kind_info(kind)->type, make);

        return type_folder < 0 ? type_folder : folder_of(type_folder, namespace_, make);
}

static int not_found(enum weir_kind kind, const char *name, struct weir_err *err)
{
        return weir_err_set(err, WEIR_ENOTFOUND, "%s \"%s\" not found", weir_kind_info(kind)->group_resource, name);
}

/* As the API server: who names a version means that one. A stored file that cannot be read has none. */
static int check_version(const struct weir_store *store, int folder, const struct weir_resource *resource, struct weir_err *err)
{
        struct weir_resource *stored = NULL;
        struct weir_errs errors = { 0 };
        bool same;
        int r;

        if (resource->resource_version[0] == '\0')
                return 0;
        r = weir_dir_load(store, folder, resource->kind, resource->namespace_, resource->name, &stored, &errors);
        same = r == 0 && weir_streq(stored->resource_version, resource->resource_version);
        weir_resource_unref(stored);
        weir_errs_clear(&errors);
        if (same)
                return 0;
        return weir_err_set(err, WEIR_ECONFLICT,
                            "Operation cannot be fulfilled on %s \"%s\": the object has been modified; please apply your changes to the latest "
                            "version and try again",
                            weir_kind_info(resource->kind)->group_resource, resource->name);
}

/* Whether the write may be done, given what is there. */
static int check_mode(const struct weir_store *store, int folder, const char *file, const struct weir_resource *resource, enum mode mode,
                      bool *ret_there, struct weir_err *err)
{
        struct stat st;

        *ret_there = folder >= 0 && fstatat(folder, file, &st, AT_SYMLINK_NOFOLLOW) == 0;
        if (*ret_there && mode == CREATE)
                return weir_err_set(err, WEIR_EEXISTS, "%s \"%s\" already exists", weir_kind_info(resource->kind)->group_resource, resource->name);
        if (!*ret_there)
                return mode == REPLACE ? not_found(resource->kind, resource->name, err) : 0;
        return check_version(store, folder, resource, err);
}

static int write_resource(const struct weir_store *store, int folder, const char *file, const struct weir_resource *resource, uint64_t revision,
                          struct weir_err *err)
{
        weir_auto(buf) struct weir_buf buf = { 0 };
        struct weir_resource *stamped;
        char version[REVISION_BYTES_MAX];
        int r;

        (void)snprintf(version, sizeof(version), "%" PRIu64, revision);
        r = weir_resource_with(resource, NULL, version, &stamped);
        if (r < 0)
                return weir_err_set(err, r, "out of memory");
        weir_resource_print_yaml(stamped, &buf);
        weir_resource_unref(stamped);
        if (buf.error)
                return weir_err_set(err, buf.error, "out of memory");
        r = write_file(folder, file, buf.data, buf.length);
        return r < 0 ? write_error(store, r, err) : 0;
}

static int put(struct weir_store *store, const struct weir_resource *resource, enum mode mode, uint64_t *ret_revision, bool *ret_created,
               struct weir_err *err)
{
        weir_auto_close int held = -1, folder = -1;
        char file[256];
        uint64_t revision;
        bool there;
        int r;

        if (!weir_dir_name_fits(resource->name) || !weir_dir_name_fits(resource->namespace_) || weir_dir_file_name(resource->name, file) < 0)
                return weir_err_set(err, WEIR_EINVALID, "the name %.80s... is too long for a file of the store", resource->name);
        if (!weir_dir_appear(store))
                return write_error(store, -errno, err);
        r = weir_dir_alive(store);
        if (r < 0)
                return write_error(store, r, err);
        r = lock(store, &held, err);
        if (r < 0)
                return r;
        folder = open_folder(store, resource->kind, resource->namespace_, mode != REPLACE);
        if (folder < 0 && folder != -ENOENT)
                return write_error(store, folder, err);
        r = check_mode(store, folder, file, resource, mode, &there, err);
        if (r == 0)
                r = next_revision(store, &revision, err);
        if (r == 0)
                r = write_resource(store, folder, file, resource, revision, err);
        if (r < 0)
                return r;
        *ret_revision = revision;
        if (ret_created)
                *ret_created = !there;
        return 0;
}

int weir_store_create(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision, struct weir_err *err)
{
        return put(store, resource, CREATE, ret_revision, NULL, err);
}

int weir_store_replace(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision, struct weir_err *err)
{
        return put(store, resource, REPLACE, ret_revision, NULL, err);
}

int weir_store_apply(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision, bool *ret_created, struct weir_err *err)
{
        return put(store, resource, APPLY, ret_revision, ret_created, err);
}

int weir_store_delete(struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *name, struct weir_err *err)
{
        weir_auto_close int held = -1, folder = -1;
        char file[256];
        uint64_t revision;
        struct stat st;
        int r;

        if (!weir_dir_name_fits(name) || !weir_dir_name_fits(namespace_) || weir_dir_file_name(name, file) < 0 || !weir_dir_appear(store))
                return not_found(kind, name, err);
        r = weir_dir_alive(store);
        if (r < 0)
                return write_error(store, r, err);
        folder = open_folder(store, kind, namespace_, false);
        if (folder == -ENOENT || (folder >= 0 && fstatat(folder, file, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT))
                return not_found(kind, name, err);
        if (folder < 0)
                return write_error(store, folder, err);
        r = lock(store, &held, err);
        if (r == 0)
                r = next_revision(store, &revision, err);
        if (r < 0)
                return r;
        if (unlinkat(folder, file, 0) < 0)
                return errno == ENOENT ? not_found(kind, name, err) : write_error(store, -errno, err);
        return fsync(folder) < 0 ? write_error(store, -errno, err) : 0;
}
