/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * In a PID namespace of its own one kill(-1) reaches all processes but the first at one moment: fork(2) takes the same
 * lock, so none is missed. Without one the descendants are listed and stopped until a pass finds none that runs.
 * Whoever was stopped before (a job of an inner shell) is noted and not continued.
 */
#include "capture/freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "capture/owner.h"

#define PROCESSES_MAX 65536
#define PASSES_MAX 100

/* The letter of /proc/PID/stat, behind the command's name in parentheses; 0: gone. */
static char state_of(pid_t pid)
{
        weir_auto_free char *text = NULL;
        const char *end;
        char path[48];
        size_t n;

        (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        if (weir_file_slurp(AT_FDCWD, path, 4096, &text, &n) < 0)
                return 0;
        end = strrchr(text, ')');
        return end && end[1] == ' ' ? end[2] : 0;
}

static bool is_stopped(pid_t pid)
{
        char state = state_of(pid);

        /* What sleeps beyond signals (a vfork's parent) stops before it runs again. */
        return state == 'D' || state == 'T' || state == 't' || state == 'Z' || state == 'X' || state == 0;
}

static bool stop_each(const pid_t *list, size_t n)
{
        bool running = false;

        for (size_t i = 0; i < n; i++)
                if (!is_stopped(list[i])) {
                        (void)kill(list[i], SIGSTOP);
                        running = true;
                }
        return running;
}

int weir_freeze(bool own_pids, struct weir_frozen *ret)
{
        weir_auto_free pid_t *list = calloc(PROCESSES_MAX, sizeof(*list));
        weir_auto_free pid_t *stopped = calloc(PROCESSES_MAX, sizeof(*stopped));
        size_t n, n_stopped = 0;
        bool running = true;

        if (!list || !stopped)
                return -ENOMEM;
        n = weir_owner_processes(getpid(), list, PROCESSES_MAX);
        for (size_t i = 0; i < n; i++)
                if (is_stopped(list[i]))
                        stopped[n_stopped++] = list[i];
        if (own_pids && kill(-1, SIGSTOP) < 0 && errno != ESRCH)
                return -errno;
        /* Until they have stopped: the caller takes in what wait(2) reports of it. */
        for (unsigned pass = 0; running && pass < PASSES_MAX; pass++) {
                n = weir_owner_processes(getpid(), list, PROCESSES_MAX);
                running = stop_each(list, n);
                if (running)
                        (void)usleep(1000);
        }
        ret->stopped = TAKE_PTR(stopped);
        ret->n = n_stopped;
        return running && !own_pids ? -EAGAIN : 0;
}

static bool was_stopped(const struct weir_frozen *frozen, pid_t pid)
{
        for (size_t i = 0; i < frozen->n; i++)
                if (frozen->stopped[i] == pid)
                        return true;
        return false;
}

void weir_thaw(struct weir_frozen *frozen)
{
        weir_auto_free pid_t *list = calloc(PROCESSES_MAX, sizeof(*list));
        size_t n = list ? weir_owner_processes(getpid(), list, PROCESSES_MAX) : 0;

        for (size_t i = 0; i < n; i++)
                if (!was_stopped(frozen, list[i]))
                        (void)kill(list[i], SIGCONT);
        free(frozen->stopped);
        *frozen = (struct weir_frozen){ 0 };
}
