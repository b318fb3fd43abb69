/* SPDX-License-Identifier: Apache-2.0 */
/* A process in namespaces of its own, and why a machine may refuse that. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct weir_err;

/**
 * weir_namespaces_clone() - fork(2) into new user, mount, network and, if @with_pids, PID namespaces
 * @cgroup: -1; or the cgroup that the child is born in, and then user and network stay the host's
 * @ret_pidfd: of the child, in the parent
 *
 * Return: the child's pid in the parent, 0 in the child; WEIR_EUNSUPPORTED with @err naming the setting that refuses
 */
WEIR_MUST pid_t weir_namespaces_clone(bool with_pids, int cgroup, int *ret_pidfd, struct weir_err *err);
/* The child's uid and gid map to themselves, one each; setgroups is denied. Run by the parent. */
WEIR_MUST int weir_namespaces_map(pid_t pid, struct weir_err *err);

/**
 * weir_namespaces_explain() - a failure inside the new namespaces, told by its cause where that is known
 * @r:   what building the sandbox returned, below 0
 * @err: its text; names the cause afterwards
 *
 * Return: @r or, if @err changed, WEIR_EUNSUPPORTED
 */
int weir_namespaces_explain(int r, struct weir_err *err);
/**
 * weir_namespaces_forbid_cgroups() - inside, with capabilities over a user namespace of one's own
 * Who has a cgroup namespace can mount cgroups anew, writable, from its own cgroup downward; the supervisor is in the
 * same. So there are none in the sandbox's user namespace nor below it (/proc/sys/user/max_cgroup_namespaces).
 *
 * Return: 0; WEIR_EUNSUPPORTED with @err
 */
WEIR_MUST int weir_namespaces_forbid_cgroups(struct weir_err *err);
