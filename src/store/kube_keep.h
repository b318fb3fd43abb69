/* SPDX-License-Identifier: Apache-2.0 */
/* The last good policy of a cluster, kept on disk for when its API server is away. Private to store/. */
#pragma once

#include "base/cleanup.h"
#include "model/resource.h"

struct weir_err;

/* Where the policy of an API server is kept: in $XDG_STATE_HOME/weir-kubernetes, else /var/lib/weir-kubernetes for root
 * and ~/.local/state/weir-kubernetes for others. Makes the folder. -ENOENT if there is no home; -errno. */
WEIR_MUST int weir_kube_keep_path(const char *server, char **ret_folder, char **ret_path);
/* Writes all of @list, or leaves what was there. */
WEIR_MUST int weir_kube_keep_write(const char *path, const char *server, const struct weir_resources *list);
/* @ret_when: when it was written, as text; heap. WEIR_EINVALID if it is not whole or not to be trusted. */
WEIR_MUST int weir_kube_keep_read(const char *path, struct weir_resources *list, char **ret_when);
