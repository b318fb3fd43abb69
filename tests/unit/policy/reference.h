/* SPDX-License-Identifier: Apache-2.0 */
/* A second opinion on policy: what DESIGN says, rule by rule, as slowly and plainly as it can be written. */
#pragma once

#include "model/resource.h"
#include "policy/policy.h"

/* Faults that can be planted, to see that a comparison finds them and shrinks them. */
enum reference_fault { FAULT_NONE, FAULT_LOOPBACK_OPEN, FAULT_LAST_NAME_WINS };

void reference_match(const struct weir_resources *resources, const struct weir_policy_options *options,
                     const struct weir_query *query, enum reference_fault fault, struct weir_decision *ret,
                     const char **ret_resource);
