/* SPDX-License-Identifier: Apache-2.0 */
/* weir create: adds resources; the first that is there already ends it, and those before it stay. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/write.h"
#include "store/store.h"

static int create(struct weir_store *store, const struct weir_resource *resource, const char *key, struct weir_err *err)
{
        uint64_t revision;
        int r;

        r = weir_store_create(store, resource, &revision, err);
        if (r == 0)
                (void)printf("Created config %s at revision %" PRIu64 "\n", key, revision);
        return r;
}

int cmd_create(int argc, char **argv)
{
        return weir_write_command(argc, argv, "create", create);
}
