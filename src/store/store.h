/* SPDX-License-Identifier: Apache-2.0 */
/* Stores: where resources live. A store gives snapshots of all resources and takes create, replace, apply and
 * delete. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "model/resource.h"

struct weir_err;
struct weir_errs;
struct weir_store;
struct weir_strv;

/**
 * weir_store_open() - open a store by its name
 * @spec:     "dir:PATH", or "kubernetes[:CONTEXT]", of a kubeconfig or a pod's service account; NULL means WEIR_STORE,
 *            then in a pod "kubernetes", then /var/lib/weir for root and $XDG_STATE_HOME/weir else
 * @writable: create the folder if it is missing (0700 for it, parents 0755)
 *
 * A dir: store that is missing and not @writable is empty, and is watched for its appearance.
 * Everything later goes through the descriptor of the folder opened here: renaming the path changes nothing.
 * A kubernetes: store is described by files that are read here; nothing is sent yet.
 * Return: 0; -errno or WEIR_EINVALID with @err
 */
WEIR_MUST int weir_store_open(const char *spec, bool writable, struct weir_store **ret_store, struct weir_err *err);
/* The spec of the dir: store that is used where nothing names one, whatever the environment says; heap, or NULL. */
char *weir_store_standard(void);
void weir_store_close(struct weir_store *store);
WEIR_DEFINE_CLEANUP(store, struct weir_store *, weir_store_close)
const char *weir_store_path(const struct weir_store *store); /* for messages: absolute folder, "kubernetes:CONTEXT" */

/* The namespace of what names none: "default", or that of the kubeconfig's context or the pod. Heap. */
WEIR_MUST int weir_store_namespace(const char *spec, char **ret_namespace, struct weir_err *err);
/* Adds the files and folders by which a workload could change what the store says, now or at the next start. */
WEIR_MUST int weir_store_protect(struct weir_store *store, struct weir_strv *paths);
/* Whether what weir_store_protect() named is no longer where it was, so that whatever protects it does so no more. */
bool weir_store_replaced(const struct weir_store *store);
/* What sockets to a server carry as SO_MARK from now on, before anything is asked; 0 for none. A folder has none. One
 * that cannot get it is not used. */
void weir_store_set_mark(struct weir_store *store, uint32_t mark);
/* Whether a broken resource concerns itself alone: it allows nothing, the others hold. In a folder, which has one
 * owner, a broken file keeps the whole of the last good policy instead. */
bool weir_store_tolerant(const struct weir_store *store);

/* Each writes one resource whole or not at all. @namespace_ of the resource must be set. @ret_revision: the store's
 * counter after. */
WEIR_MUST int weir_store_create(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision,
                                struct weir_err *err);
/* WEIR_ENOTFOUND; WEIR_ECONFLICT if the resource carries a resourceVersion that is not the stored one. */
WEIR_MUST int weir_store_replace(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision,
                                 struct weir_err *err);
/* Create or replace; @ret_created may be NULL. */
WEIR_MUST int weir_store_apply(struct weir_store *store, const struct weir_resource *resource, uint64_t *ret_revision,
                               bool *ret_created, struct weir_err *err);
WEIR_MUST int weir_store_delete(struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *name,
                                struct weir_err *err);
/* A new reference, with metadata.resourceVersion ("0" in a file made by hand that has none) and namespace filled. */
WEIR_MUST int weir_store_get(struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *name,
                             struct weir_resource **ret_resource, struct weir_err *err);

/**
 * weir_store_snapshot() - all resources of all namespaces, sorted by key
 * @errors: files that are broken (located), or the folder itself: removed, not to be trusted, or not watched where it
 *          should be; the rest still comes back in @list
 * Return: 0; WEIR_EINVALID if @errors got any; -errno
 */
WEIR_MUST int weir_store_snapshot(struct weir_store *store, struct weir_resources *list, struct weir_errs *errors);

/* Readable when something changed; -1 if the store cannot be watched. Starts watching at the first call. */
WEIR_MUST int weir_store_watch_fd(struct weir_store *store);
/* Drains the watch; never waits. true if the content may differ from the last snapshot. */
bool weir_store_changed(struct weir_store *store);
/* Why the store cannot be followed at present, in one line: what the last snapshot said stays in force. NULL if all is
 * well. To be asked after weir_store_changed(); valid until its next call. */
const char *weir_store_trouble(struct weir_store *store);
