/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a resource applies to a workload. */
#pragma once

#include <stdbool.h>

#include "policy/policy.h"
#include "policy/snapshot.h"

struct weir_resource;

const char *weir_resource_home(const struct weir_resource *resource); /* its namespace; "default" where it has none */

/* A resource of the workload's own namespace or of a root namespace applies, where exportTo does not take it away;
 * one of another namespace only where the store's owner lets exportTo widen. */
bool weir_scope_of(const struct weir_resource *resource, const struct weir_policy_options *options,
                   enum weir_scope *ret_scope);
