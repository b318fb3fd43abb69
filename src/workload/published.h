/* SPDX-License-Identifier: Apache-2.0 */
/* --publish: the host's side of ports that the workload listens on. */
#pragma once

#include <stddef.h>

#include "base/cleanup.h"
#include "workload/workload.h"

#define WEIR_PUBLISH_MAX 64

/* Listens on 127.0.0.1 for each; nothing stays open on failure. WEIR_ELIMIT, or -errno with the port in @err. */
WEIR_MUST int weir_published_listen(const struct weir_publish *publish, size_t n, int ret_fds[static WEIR_PUBLISH_MAX],
                                    struct weir_err *err);
/* Closes those that are not -1. */
void weir_published_close(int *fds, size_t n);
