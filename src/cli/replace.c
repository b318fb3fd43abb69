/* SPDX-License-Identifier: Apache-2.0 */
/* weir replace: puts resources in the place of those of the same name. */
#include <inttypes.h>
#include <stdio.h>

#include "base/err.h"
#include "cli/write.h"
#include "store/store.h"

static int replace(struct weir_store *store, const struct weir_resource *resource, const char *key,
                   struct weir_err *err)
{
        uint64_t revision;
        int r;

        r = weir_store_replace(store, resource, &revision, err);
        if (r == 0)
                (void)printf("Updated config %s to revision %" PRIu64 "\n", key, revision);
        /* Istio's three words, and what they mean. */
        if (r == WEIR_ENOTFOUND) {
                *err = (struct weir_err){ 0 };
                return weir_err_set(err, WEIR_EINVALID,
                                    "revision is required: %s does not exist; use 'weir create' or 'weir apply'", key);
        }
        return r;
}

int cmd_replace(int argc, char **argv)
{
        return weir_write_command(argc, argv, "replace", replace);
}
