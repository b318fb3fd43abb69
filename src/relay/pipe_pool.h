/* SPDX-License-Identifier: Apache-2.0 */
/* Pipes for splice(2): made on demand, kept for the next one who needs one, bounded in number. Private to relay/. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct weir_pipe {
        int fds[2]; /* read end, write end */
        size_t capacity;
        size_t slots; /* what it holds in pieces, however small each is */
        struct weir_pipe *next;
};

/* All but @create may start as zero. */
struct weir_pipe_pool {
        int (*create)(int fds[2]); /* non-blocking; -errno */
        struct weir_pipe *idle;
        size_t n, n_idle, n_big;
        uint64_t refused; /* a pipe was wanted and there was none to be had */
        uint64_t small;   /* pipes that could not have the wanted size */
};

/* Bounds for an ordinary user, whose pipes share 64 MiB (pipe-user-pages-soft) with all their other programs. */
#define WEIR_PIPES_MAX 256
#define WEIR_PIPES_BIG_MAX 32
#define WEIR_PIPES_IDLE_MAX 32
#define WEIR_PIPE_BIG (1024 * 1024)
#define WEIR_PIPE_SMALL (64 * 1024)

struct weir_pipe *weir_pipe_take(struct weir_pipe_pool *pool); /* NULL: go on without one */
/* @clean: empty, so the next one may have it; else it is closed with what is in it. */
void weir_pipe_give(struct weir_pipe_pool *pool, struct weir_pipe *pipe, bool clean);
void weir_pipe_pool_clear(struct weir_pipe_pool *pool); /* closes the idle ones */
