/* SPDX-License-Identifier: Apache-2.0 */
/* Other names of a path: the same file system mounted at a second place. */
#pragma once

#include "base/cleanup.h"

struct weir_strv;

/**
 * weir_aliases_of() - where else a file or folder can be reached in this mount namespace
 * @path: absolute, without links
 * @ret:  the other paths are added; none is usual
 *
 * Hard links are not found. Return: 0; -errno, if /proc/self/mountinfo (proc(5)) cannot be read
 */
WEIR_MUST int weir_aliases_of(const char *path, struct weir_strv *ret);
