/* SPDX-License-Identifier: Apache-2.0 */
/* Hiding: whole folders, the sockets of a folder, one socket. In the sandbox's mount namespace, with capabilities over
 * it. Errors are WEIR_EUNSUPPORTED or -ENOMEM with @err filled. */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"

struct weir_err;

/* Whether @path is a folder, and no link to one. */
bool weir_veil_is_folder(const char *path);
/* The real path of this user's home, with HOME or without; NULL if there is none. On the heap. */
char *weir_veil_home(void);
/* Whether a real path is too much to hide or to hold: the root, a home, /tmp, what the command stands in, or a folder
 * above one of these. @home may be NULL. */
bool weir_veil_too_much(const char *path, const char *home);
/* Whether everything in a folder is a socket; an empty folder is such a one. */
bool weir_veil_only_sockets(const char *path);
bool weir_veil_has_socket(const char *path);
/* An empty folder over @path, of the same mode but this user's; it stays empty whatever the host puts there. */
WEIR_MUST int weir_veil_folder(const char *path, struct weir_err *err);
/* The same, and what stands there but sockets is mounted back: keys and settings. */
WEIR_MUST int weir_veil_mixed(const char *path, struct weir_err *err);
/* A file that nobody listens on over the socket @path. Gone when the host removes the socket: for folders that cannot
 * be hidden. */
WEIR_MUST int weir_veil_socket(const char *path, struct weir_err *err);
/* An empty file @path with @bytes in it; 0 or -errno. */
int weir_veil_write_copy(const char *path, const char *bytes, size_t n);
