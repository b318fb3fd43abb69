/* SPDX-License-Identifier: Apache-2.0 */
/* Which of several controllers writes: the one that holds a Lease of coordination.k8s.io/v1. Private to store/. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct weir_err;
struct weir_kube_client;

/*
 * A holder renews every WEIR_LEASE_RENEW_MS and writes only until WEIR_LEASE_TRUST_MS after its last renewal; another
 * takes over only when it has seen no renewal for WEIR_LEASE_SECONDS. Between the two lies more than one request may
 * take, so never do two write.
 */
#define WEIR_LEASE_SECONDS 15
#define WEIR_LEASE_TRUST_MS 9000
#define WEIR_LEASE_RENEW_MS 3000
#define WEIR_LEASE_REQUEST_MS 4000

/**
 * struct weir_kube_lease - this process's view of the lease
 * @identity: of this process
 * @seen:     the holder and time of renewal that were last seen, and
 * @since:    since when (monotonic ns) they are the same: clocks of two machines are never compared
 * @renewed:  when (ns) this process last renewed; 0 if it does not hold the lease
 * @due:      when (ns) to look again
 */
struct weir_kube_lease {
        char identity[96];
        char seen[192];
        uint64_t since, renewed, due;
};

void weir_kube_lease_init(struct weir_kube_lease *lease);
/* Takes or renews it, if that is due and possible. 0 also if another holds it; an error with @err if nobody can tell.
 */
WEIR_MUST int weir_kube_lease_turn(struct weir_kube_lease *lease, struct weir_kube_client *client,
                                   struct weir_err *err);
bool weir_kube_lease_held(const struct weir_kube_lease *lease);
/* Gives it up, so that the next need not wait. */
void weir_kube_lease_release(struct weir_kube_lease *lease, struct weir_kube_client *client);
