/* SPDX-License-Identifier: Apache-2.0 */
/* The part of ownership that needs code: closing a descriptor at the end of a scope. */
#include "base/cleanup.h"

#include <errno.h>
#include <unistd.h>

void weir_close_cleanup(int *fd)
{
        int saved = errno;

        if (*fd >= 0)
                (void)close(*fd);
        *fd = -1;
        errno = saved;
}
