/* SPDX-License-Identifier: Apache-2.0 */
/* What "weir run" was asked for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/strutil.h"
#include "policy/policy.h"
#include "workload/workload.h"

#define WEIR_RUN_PUBLISH_MAX 64

/* Strings are borrowed from argv; the lists are owned. */
struct weir_run_options {
        struct weir_strv files, unix_paths;
        const char *namespace_; /* NULL: the store's */
        const char *store;      /* NULL: the default */
        const char *log;        /* NULL: none */
        const char *user;       /* NULL: stay */
        const struct weir_capture_ops *capture;
        enum weir_dns_mode dns;
        enum weir_handoff_mode handoff;
        bool audit, stats, quiet, verbose;
        struct weir_publish publish[WEIR_RUN_PUBLISH_MAX];
        size_t n_publish;
        char *const *argv; /* the command, NULL-terminated */
};

/* Return: -1 to go on, or the exit status of a run that ends here (0 after --help, 125 after one error line). */
WEIR_MUST int weir_run_options_parse(int argc, char **argv, struct weir_run_options *ret);
void weir_run_options_clear(struct weir_run_options *options);
