/* SPDX-License-Identifier: Apache-2.0 */
/* What a kind of store does, private to store/: one table for folders (dir.h), one for API servers (kubernetes.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "model/resource.h"

struct weir_err;
struct weir_errs;
struct weir_store;
struct weir_strv;

/* Contracts are those of store.h. @trouble, @protect, @replaced and @set_mark may be NULL: never any, nothing, never,
 * and nothing. */
struct weir_store_ops {
        int (*create)(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision,
                      struct weir_err *err);
        int (*replace)(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision,
                       struct weir_err *err);
        int (*apply)(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision,
                     bool *ret_created, struct weir_err *err);
        int (*delete)(struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *name,
                      struct weir_err *err);
        int (*get)(struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *name,
                   struct weir_resource **ret_resource, struct weir_err *err);
        int (*snapshot)(struct weir_store *store, struct weir_resources *list, struct weir_errs *errors);
        int (*watch_fd)(struct weir_store *store);
        bool (*changed)(struct weir_store *store);
        const char *(*trouble)(struct weir_store *store);
        int (*protect)(struct weir_store *store, struct weir_strv *paths);
        bool (*replaced)(const struct weir_store *store);
        void (*set_mark)(struct weir_store *store, uint32_t mark);
        void (*close)(struct weir_store *store);
        bool tolerant;
};

/* The head of every store. @path is for messages: an absolute folder, or "kubernetes:CONTEXT". Owned. */
struct weir_store {
        const struct weir_store_ops *ops;
        char *path;
};
