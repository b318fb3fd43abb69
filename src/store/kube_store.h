/* SPDX-License-Identifier: Apache-2.0 */
/* The store of a cluster from inside, for its tests and for what only a cluster needs. Private to store/. */
#pragma once

#include "base/err.h"
#include "store/kube_client.h"
#include "store/kube_keep.h"
#include "store/kube_watch.h"
#include "store/ops.h"

/**
 * struct weir_kubernetes - a store in a cluster
 * @follow:      NULL before anybody asked to watch
 * @first:       what the first list came to; the reason is in @first_error
 * @keep_folder, @keep_path: where the last good policy is kept; NULL if nowhere
 * @keep_due:    when it is written next, in ns; 0 if what is kept is what is in force
 * @restored:    when what was taken from disk had been written; NULL if nothing was
 */
struct weir_kubernetes {
        struct weir_store base;
        struct weir_kube_client *client;
        struct weir_kube_follow *follow;
        int first;
        struct weir_err first_error;
        char *keep_folder, *keep_path;
        uint64_t keep_due;
        char *restored, *trouble;
};

static inline struct weir_kubernetes *weir_kubernetes(struct weir_store *base)
{
        return (struct weir_kubernetes *)(void *)base; /* the head stands first */
}
