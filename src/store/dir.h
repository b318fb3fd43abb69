/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store in a folder, private to store/:
 *
 *   PATH/external-service/NAMESPACE/NAME.yaml
 *   PATH/service-entry/NAMESPACE/NAME.yaml
 *   PATH/revision          the counter of the whole store, in decimal
 *   PATH/.lock             locked by whoever writes
 *   PATH/.resource.tmp, PATH/.revision.tmp    what is being written
 *
 * Everything is reached from the descriptor of PATH, one component at a time, and never through a symbolic link.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/strutil.h"
#include "model/resource.h"
#include "store/ops.h"

#define WEIR_DIR_SUFFIX ".yaml"
#define WEIR_DIR_REVISION "revision"
/* A file name has at most 255 bytes (NAME_MAX), the suffix included. */
#define WEIR_DIR_NAME_MAX 250
#define WEIR_DIR_FILE_STRLEN 256
#define WEIR_DIR_ENTRIES_MAX 100000 /* in one folder */
#define WEIR_DIR_REVISION_MAX INT64_MAX

/**
 * struct weir_watch - what tells that a store changed
 * @fd:       inotify; -1 before anybody asked
 * @parent:   watch of the folder above PATH, which alone hears that PATH is removed; -1 if none
 * @ancestor: while PATH does not exist, watch of the nearest folder above it that does; else -1
 * @awaited:  what must appear in @ancestor
 * @error:    the last attempt to watch a folder failed with this; 0 if all are watched
 */
struct weir_watch {
        int fd;
        int parent, ancestor;
        char *awaited;
        int error;
};

/* What stat(2) said of a file when it was read. @settled: long enough after its last change to be believed again. */
struct weir_dir_mark {
        dev_t device;
        ino_t inode;
        off_t size;
        int64_t modified_ns, changed_ns;
        bool settled;
};

/* One file of the last pass: its digest, and what it held if that is kept. */
struct weir_dir_cached {
        enum weir_kind kind;
        char *namespace_, *file;
        struct weir_dir_mark mark;
        char hash[WEIR_SHA256_STRLEN];
        struct weir_resource *resource;
};

#define WEIR_DIR_CACHE_BYTES ((off_t)8 * 1024 * 1024)
struct weir_dir_cache {
        struct weir_dir_cached *items; /* in the order of a pass: kind, namespace, file */
        size_t n, capacity;
        off_t bytes; /* of the files whose resources are kept */
};

/* A pass that weir_dir_changed() made, for the snapshot that follows. */
struct weir_dir_ahead {
        bool valid;
        struct weir_resources list;
        struct weir_errs errors;
        char digest[WEIR_SHA256_STRLEN];
};

/**
 * struct weir_dir - a store in a folder
 * @base:   its path is as the person named it, made absolute: for messages, and to find the folder the first time
 * @fd:     the folder; -1 as long as it does not exist
 * @digest: of what the last snapshot read; "" before the first
 * @protected, @device, @inode: the folder as it was when it was named for protection
 */
struct weir_dir {
        struct weir_store base;
        int fd;
        unsigned lock_wait_ms;
        char digest[WEIR_SHA256_STRLEN];
        struct weir_watch watch;
        struct weir_dir_cache cache; /* only while it is watched */
        bool protected;
        dev_t device;
        ino_t inode;
        struct weir_dir_ahead ahead;
};

static inline struct weir_dir *weir_dir(struct weir_store *base)
{
        return (struct weir_dir *)base; /* the head stands first */
}

/* dir.c */

/* @path is absolute and is taken over, also on failure. */
WEIR_MUST int weir_dir_open(char *path, bool writable, struct weir_store **ret_store, struct weir_err *err);

/* Opens the folder at @store->base.path if that is not done yet. -ENOENT (with @err) if it does not exist. */
WEIR_MUST int weir_dir_enter(struct weir_dir *store, struct weir_err *err);
/* Makes the folder and those above it; no error if it exists. */
WEIR_MUST int weir_dir_make(const char *path, struct weir_err *err);
/* A folder inside, never through a symbolic link; -ENOENT, -ELOOP, -ENOTDIR, -errno. */
WEIR_MUST int weir_dir_open_folder(int fd, const char *name, int *ret_fd);
/* A regular file inside, never through a symbolic link and never waiting; -ENXIO if it is something else. */
WEIR_MUST int weir_dir_open_file(int fd, const char *name, int *ret_fd);
/* What the folder holds, sorted, without names that begin with a dot. -E2BIG over WEIR_DIR_ENTRIES_MAX. */
WEIR_MUST int weir_dir_list(int fd, struct weir_strv *names);
/* Whether @text can be the name of a resource or namespace: of "a-z0-9.-", a letter or digit at both ends, not too
 * long. */
bool weir_dir_is_name(const char *text);
/* Fills @err with @path and the line for -errno @r. Returns @r. */
int weir_dir_fail(struct weir_err *err, int r, const char *path);
void weir_dir_set_path(struct weir_err *err, const char *path);

/* dir_read.c */

/* One resource out of the folder of its namespace, checked against its place. Errors are added to @errors:
 * WEIR_EINVALID. */
WEIR_MUST int weir_dir_load(struct weir_dir *store, enum weir_kind kind, const char *namespace_, const char *name,
                            int folder, struct weir_resource **ret_resource, struct weir_errs *errors);
/**
 * weir_dir_pass() - go through the whole store once
 * @list:   resources are appended, in no order that matters; NULL if only the digest is wanted
 * @errors: what is broken
 *
 * While the store is watched, each folder is watched before it is read.
 * Return: 0; -ENOMEM
 */
WEIR_MUST int weir_dir_pass(struct weir_dir *store, struct weir_resources *list, struct weir_errs *errors,
                            char ret_digest[static WEIR_SHA256_STRLEN]);

/* Goes through a store for a snapshot that may be asked for; 0, -ENOMEM. @ret_digest as of weir_dir_pass(). */
WEIR_MUST int weir_dir_look_ahead(struct weir_dir *store, char ret_digest[static WEIR_SHA256_STRLEN]);
void weir_dir_forget_ahead(struct weir_dir *store);

/* The folder of a namespace in an entered store. -ENOENT; another -errno with @err. */
WEIR_MUST int weir_dir_open_namespace(struct weir_dir *store, enum weir_kind kind, const char *namespace_, int *ret_fd,
                                      struct weir_err *err);
int weir_dir_not_found(struct weir_err *err, enum weir_kind kind, const char *name); /* returns WEIR_ENOTFOUND */

/* Operations of struct weir_store_ops; each is given the head of a struct weir_dir. */
int weir_dir_snapshot(struct weir_store *base, struct weir_resources *list, struct weir_errs *errors);
int weir_dir_get(struct weir_store *base, enum weir_kind kind, const char *namespace_, const char *name,
                 struct weir_resource **ret_resource, struct weir_err *err);

/* dir_cache.c */

struct weir_dir_mark weir_dir_mark(const struct stat *st); /* as of now */
/* The file as it was read last, if it cannot have changed since; else NULL. */
const struct weir_dir_cached *weir_dir_cache_find(const struct weir_dir_cache *cache, enum weir_kind kind,
                                                  const char *namespace_, const char *file,
                                                  const struct weir_dir_mark *mark);
/* To be called in the order of a pass. @resource: NULL if it was not parsed. 0; -ENOMEM */
WEIR_MUST int weir_dir_cache_add(struct weir_dir_cache *cache, enum weir_kind kind, const char *namespace_,
                                 const char *file, const struct weir_dir_mark *mark, const char *hash,
                                 struct weir_resource *resource);
void weir_dir_cache_clear(struct weir_dir_cache *cache);

/* dir_write.c */

int weir_dir_create(struct weir_store *base, const struct weir_resource *resource, uint64_t *ret_revision,
                    struct weir_err *err);
int weir_dir_replace(struct weir_store *base, const struct weir_resource *resource, uint64_t *ret_revision,
                     struct weir_err *err);
int weir_dir_apply(struct weir_store *base, const struct weir_resource *resource, uint64_t *ret_revision,
                   bool *ret_created, struct weir_err *err);
int weir_dir_delete(struct weir_store *base, enum weir_kind kind, const char *namespace_, const char *name,
                    struct weir_err *err);

/* watch.c */

int weir_dir_watch_fd(struct weir_store *base);
bool weir_dir_changed(struct weir_store *base);

void weir_watch_folder(struct weir_dir *store, int fd); /* failure is kept in @store->watch.error */
void weir_watch_entered(struct weir_dir *store);        /* the folder was just opened */
void weir_watch_missing(struct weir_dir *store);        /* the folder is not there (yet) */
void weir_watch_close(struct weir_dir *store);
