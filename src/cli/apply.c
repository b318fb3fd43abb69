/* SPDX-License-Identifier: Apache-2.0 */
/* weir apply: create or replace, whichever is needed. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/write.h"
#include "store/store.h"

static int apply(struct weir_store *store, const struct weir_resource *resource, const char *key, struct weir_err *err)
{
        uint64_t revision;
        bool created;
        int r;

        r = weir_store_apply(store, resource, &revision, &created, err);
        if (r == 0)
                (void)printf(created ? "Created config %s at revision %" PRIu64 "\n" :
                                       "Updated config %s to revision %" PRIu64 "\n",
                             key, revision);
        return r;
}

int cmd_apply(int argc, char **argv)
{
        return weir_write_command(argc, argv, "apply", apply);
}
