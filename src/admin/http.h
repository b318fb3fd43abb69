/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Health and metrics over HTTP, RFC 9112: GET /healthz, /ready and /metrics, and nothing else. Read only: no verb
 * changes anything.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct weir_admin;
struct weir_buf;
struct weir_err;
struct weir_loop;

struct weir_admin_ops {
        bool (*ready)(void *context); /* policy is loaded, and no drain has begun */
        void (*metrics)(void *context, struct weir_buf *buf);
};

/* A listener on every address of this network namespace, both families; >= 0 or -errno with @err. */
WEIR_MUST int weir_admin_listen(uint16_t port, struct weir_err *err);
/* @listener is owned from here, unless this fails. At most 16 peers at once, 5 s each. */
WEIR_MUST int weir_admin_new(struct weir_loop *loop, int listener, const struct weir_admin_ops *ops, void *context,
                             struct weir_admin **ret_admin);
void weir_admin_free(struct weir_admin *admin);
WEIR_DEFINE_CLEANUP(admin, struct weir_admin *, weir_admin_free)
