/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a workload's policy comes from: a store that is followed or resources that are fixed, and the addresses of this
 * host, which a broad rule never opens. Both change while the workload runs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "policy/policy.h"

struct weir_err;
struct weir_follow;
struct weir_loop;
struct weir_resources;
struct weir_store;

struct weir_follow_options {
        const char *namespace_;                 /* copied */
        struct weir_store *store;               /* borrowed; NULL if @resources is given */
        const struct weir_resources *resources; /* borrowed; NULL if @store is given */
        /* A newer policy, whole and different from the last; owned by the callee from here, also on failure. Below 0,
         * with @err: it is not in force, and the one before stays. */
        int (*take)(void *context, struct weir_policy *policy, struct weir_err *err);
        /* The store that was protected from the workload is no longer where it was: another one could be written. */
        void (*replaced)(void *context, const char *path);
        /* One line for a person, as in workload.h; may be NULL. */
        void (*notice)(void *context, bool problem, const char *text);
        void *context, *notice_context;
};

WEIR_MUST int weir_follow_new(struct weir_loop *loop, const struct weir_follow_options *options,
                              struct weir_follow **ret_follow);
void weir_follow_free(struct weir_follow *follow);
WEIR_DEFINE_CLEANUP(follow, struct weir_follow *, weir_follow_free)

/* The first policy, generation 1, with one reference; what changes from here on is seen by weir_follow_start(). 0 or
 * negative with @err */
WEIR_MUST int weir_follow_first(struct weir_follow *follow, struct weir_policy **ret_policy, struct weir_err *err);
/* From here on take() and the others are called, out of the loop, and once before this returns if something changed
 * since the first policy. 0 or -errno */
WEIR_MUST int weir_follow_start(struct weir_follow *follow);
/* Looks at the store in this call instead of when the loop comes to it. */
void weir_follow_now(struct weir_follow *follow);
