/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that change the store have in common. */
#pragma once

#include "cli/commands.h"

/* Writes one resource and prints what was done, @key in it. 0, or the store's code with @err filled. */
typedef int weir_write_function(struct weir_store *store, const struct weir_resource *resource, const char *key,
                                struct weir_err *err);

/* The whole of create, replace or apply; @verb is for messages. Returns the exit status. */
int weir_write_command(int argc, char **argv, const char *verb, weir_write_function *write);

/* What a Kubernetes API server says of the same failure; heap, NULL without memory. */
char *weir_store_error_text(enum weir_kind kind, const char *name, int r, const struct weir_err *err);
int weir_say_store_error(enum weir_kind kind, const char *name, int r, const struct weir_err *err);
