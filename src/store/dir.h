/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a dir: store, shared by the files of store/ alone.
 *
 *   PATH/external-service/default/wikipedia-ext.yaml    one resource
 *   PATH/revision                                       one counter for the whole store, decimal
 *   PATH/.lock                                          held by whoever writes, flock(2)
 *   PATH/.../.tmp-*                                     being written; left behind by a writer that was killed
 *
 * Everything is opened below the descriptor of PATH, component by component, never through a symbolic link.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "store/store.h"

#define WEIR_DIR_SUFFIX ".yaml"
#define WEIR_DIR_TEMPORARY ".tmp-"
#define WEIR_DIR_LOCK ".lock"
#define WEIR_DIR_REVISION "revision"

struct weir_store {
        char *path;    /* absolute */
        int root;      /* the folder; -1 while it does not exist */
        bool was_there;
        int inotify;   /* -1 until watched */
};

/* One subfolder of @parent, opened; -ENOENT, -ELOOP for a symbolic link, -ENOTDIR. */
WEIR_MUST int weir_dir_enter(int parent, const char *name);
/* Whether a name may be one of a namespace or, without its suffix, of a resource: no path, not hidden. */
bool weir_dir_name_fits(const char *name);
/* "NAME.yaml" into @buf; -ENAMETOOLONG. */
WEIR_MUST int weir_dir_file_name(const char *name, char buf[static 256]);

/**
 * weir_dir_load() - one file as a resource with namespace filled
 * @folder: of the namespace
 * @errors: located complaints, if it is broken or contradicts its path
 *
 * Return: 0; WEIR_EINVALID with @errors; -errno
 */
WEIR_MUST int weir_dir_load(const struct weir_store *store, int folder, enum weir_kind kind, const char *namespace_, const char *name,
                            struct weir_resource **ret_resource, struct weir_errs *errors);

/* Calls @visit for every namespace folder of every kind, opened; stops at what is below 0. */
WEIR_MUST int weir_dir_each_folder(const struct weir_store *store,
                                   int (*visit)(void *context, enum weir_kind kind, const char *namespace_, int folder), void *context);

/* Opens the root if it has appeared. Return: whether it is open now. */
bool weir_dir_appear(struct weir_store *store);
/* -ESTALE if the folder that was opened has been removed. */
WEIR_MUST int weir_dir_alive(const struct weir_store *store);
