/* SPDX-License-Identifier: Apache-2.0 */
/* Following every resource of a cluster: one list and then one stream for each kind, all namespaces in it. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"
#include "store/kube_client.h"
#include "store/kube_object.h"

struct weir_err;
struct weir_kube_follow;

/* @client is borrowed and outlives it. */
WEIR_MUST int weir_kube_follow_new(struct weir_kube_client *client, struct weir_kube_follow **ret_follow,
                                   struct weir_err *err);
void weir_kube_follow_free(struct weir_kube_follow *follow);

int weir_kube_follow_fd(const struct weir_kube_follow *follow); /* readable when there is something to do */
/* Readable at @at_ns at the latest, once; 0 for never mind. */
void weir_kube_follow_wake(struct weir_kube_follow *follow, uint64_t at_ns);
/* Does what can be done without waiting. Whether what the policy depends on changed since the last call. */
bool weir_kube_follow_turn(struct weir_kube_follow *follow);
/* Waits until every kind has been listed once. Ends at the first failure, which is in @err; following goes on. */
WEIR_MUST int weir_kube_follow_first(struct weir_kube_follow *follow, struct weir_err *err);
/* Why it cannot be followed at present; NULL if all is well. */
const char *weir_kube_follow_trouble(const struct weir_kube_follow *follow);
bool weir_kube_follow_synced(const struct weir_kube_follow *follow); /* every kind has been listed */
/* What is known; only to be changed before the first list is there. */
struct weir_kube_table *weir_kube_follow_table(struct weir_kube_follow *follow, enum weir_kind kind);
/* The version in which the server gives a kind: "v1". */
const char *weir_kube_follow_version(const struct weir_kube_follow *follow, enum weir_kind kind);
