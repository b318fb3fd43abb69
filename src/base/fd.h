/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors: whole reads and writes, passing them between processes, flags. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

/* All of @n, EINTR retried. 0 or -errno (-EPIPE included; SIGPIPE is the process's business). */
WEIR_MUST int weir_fd_write_all(int fd, const void *bytes, size_t n);
/* Exactly @n; -ENODATA if the end came before. */
WEIR_MUST int weir_fd_read_all(int fd, void *bytes, size_t n);
/**
 * weir_fd_slurp() - read to the end
 * @limit: -EFBIG if there is more than this
 * @ret:   heap bytes with a NUL behind them; the caller frees
 */
WEIR_MUST int weir_fd_slurp(int fd, size_t limit, char **ret, size_t *ret_n);
/* @path below @dirfd (AT_FDCWD allowed); -EISDIR for a directory; else as open(2). */
WEIR_MUST int weir_file_slurp(int dirfd, const char *path, size_t limit, char **ret, size_t *ret_n);

#define WEIR_FDS_MAX 16
/* One message with @n bytes (at least 1) and @n_fds descriptors, SCM_RIGHTS; unix(7). */
WEIR_MUST int weir_fd_send(int socket, const void *bytes, size_t n, const int *fds, size_t n_fds);
/* Receives into @bytes; descriptors come close-on-exec and are owned by the caller; surplus ones are closed (-EPROTO).
 * @n_fds: in: room; out: got. Return: bytes; 0 at the end; -errno */
WEIR_MUST ssize_t weir_fd_recv(int socket, void *bytes, size_t n, int *fds, size_t *n_fds);
WEIR_MUST int weir_fd_set_nonblock(int fd, bool on);
WEIR_MUST int weir_fd_set_cloexec(int fd, bool on);
