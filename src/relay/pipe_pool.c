/* SPDX-License-Identifier: Apache-2.0 */
/* Pipes for splice(2). */
#include "relay/pipe_pool.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"

/* The first get 1 MiB; the kernel refuses an ordinary user who holds too many pages, and then what it gave is what we
 * use. */
static void size_pipe(struct weir_pipe_pool *pool, struct weir_pipe *pipe)
{
        int got = -1;

        if (pool->n_big < WEIR_PIPES_BIG_MAX)
                got = fcntl(pipe->fds[1], F_SETPIPE_SZ, WEIR_PIPE_BIG);
        if (got < 0) {
                pool->small++;
                got = fcntl(pipe->fds[1], F_GETPIPE_SZ);
        }
        pipe->capacity = got > 0 ? (size_t)got : WEIR_PIPE_SMALL;
        pipe->slots = pipe->capacity / (size_t)sysconf(_SC_PAGESIZE);
        if (pipe->capacity >= WEIR_PIPE_BIG)
                pool->n_big++;
}

struct weir_pipe *weir_pipe_take(struct weir_pipe_pool *pool)
{
        struct weir_pipe *pipe = pool->idle;

        if (pipe) {
                pool->idle = pipe->next;
                pool->n_idle--;
                return pipe;
        }
        pipe = pool->n < WEIR_PIPES_MAX ? calloc(1, sizeof(*pipe)) : NULL;
        if (!pipe || pool->create(pipe->fds) < 0) {
                free(pipe);
                pool->refused++;
                return NULL;
        }
        size_pipe(pool, pipe);
        pool->n++;
        return pipe;
}

static void destroy(struct weir_pipe_pool *pool, struct weir_pipe *pipe)
{
        (void)close(pipe->fds[0]);
        (void)close(pipe->fds[1]);
        if (pipe->capacity >= WEIR_PIPE_BIG)
                pool->n_big--;
        pool->n--;
        free(pipe);
}

void weir_pipe_give(struct weir_pipe_pool *pool, struct weir_pipe *pipe, bool clean)
{
        if (!clean || pool->n_idle >= WEIR_PIPES_IDLE_MAX) {
                destroy(pool, pipe);
                return;
        }
        pipe->next = pool->idle;
        pool->idle = pipe;
        pool->n_idle++;
}

void weir_pipe_pool_clear(struct weir_pipe_pool *pool)
{
        while (pool->idle) {
                struct weir_pipe *pipe = pool->idle;

                pool->idle = pipe->next;
                pool->n_idle--;
                destroy(pool, pipe);
        }
}
