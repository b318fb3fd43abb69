/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of the sandbox, as the notification thread sees them, and what is kept open of them.
 *
 * Theory of operation
 *
 * A pidfd names one task for ever, so one that is kept either serves or says ESRCH, and is made anew; when it is made,
 * the call that named the thread must still be waiting: a number that the kernel gave to another thread is never
 * mistaken. Everything else that is kept of a thread (its fdinfo folder, its
 * command's name) was opened beside its pidfd and goes with it. An open /proc/TID/fdinfo/N reads anew at offset 0 each
 * time, which is worth keeping: opening it costs more than everything else that is asked about a descriptor.
 *
 * Both tables are small and mapped directly: a workload with more threads than slots pays for opening, nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/strutil.h"
#include "capture/handoff_internal.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

int weir_handoff_keep(const struct weir_handoff *h, int fd)
{
        int kept;

        if (fd < 0 || fd >= h->base)
                return fd;
        kept = fcntl(fd, F_DUPFD_CLOEXEC, h->base);
        (void)close(fd);
        return kept;
}

static void forget(struct weir_task *task)
{
        weir_close_cleanup(&task->comm);
        weir_close_cleanup(&task->fdinfo);
        weir_close_cleanup(&task->pidfd);
        *task = (struct weir_task){ .pidfd = -1, .fdinfo = -1, .comm = -1 };
}

void weir_task_forget_all(struct weir_handoff *h)
{
        for (size_t i = 0; h->tasks && i < h->n_slots; i++)
                if (h->tasks[i].tid)
                        forget(&h->tasks[i]);
        for (size_t i = 0; h->fdinfos && i < h->n_slots; i++)
                if (h->fdinfos[i].tid) {
                        (void)close(h->fdinfos[i].file);
                        h->fdinfos[i].tid = 0;
                }
}

static pid_t read_tgid(pid_t tid)
{
        weir_auto_free char *text = NULL;
        char path[48];
        const char *at;
        size_t n;

        (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
        if (weir_file_slurp(AT_FDCWD, path, 65536, &text, &n) < 0)
                return 0;
        at = strstr(text, "\nTgid:");
        return at ? (pid_t)strtol(at + 6, NULL, 10) : 0;
}

/* A kernel before 6.9 has no pidfd of a thread: there the process's serves, whose descriptors are the same. */
static void open_task(struct weir_handoff *h, pid_t tid, struct weir_task *task)
{
        char path[48];

        *task = (struct weir_task){ .tid = tid, .tgid = tid, .pidfd = -1, .fdinfo = -1, .comm = -1 };
        task->pidfd = (int)syscall(SYS_pidfd_open, tid, 0);
        if (task->pidfd < 0 && errno != EMFILE) {
                task->tgid = 0;
                task->pidfd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
                if (task->pidfd < 0 && weir_task_tgid(task) > 0)
                        task->pidfd = (int)syscall(SYS_pidfd_open, task->tgid, 0);
        }
        task->pidfd = weir_handoff_keep(h, task->pidfd);
        /* The number was read from a call. If that is over, it may be another process's by now, even one outside. */
        if (ioctl(h->notify, SECCOMP_IOCTL_NOTIF_ID_VALID, &h->call->id) < 0)
                weir_close_cleanup(&task->pidfd);
        (void)snprintf(path, sizeof(path), "/proc/%d/fdinfo", (int)tid);
        task->fdinfo = weir_handoff_keep(h, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (task->pidfd < 0 || task->fdinfo < 0)
                forget(task);
}

struct weir_task *weir_task_find(struct weir_handoff *h, pid_t tid)
{
        struct weir_task *task = &h->tasks[(size_t)tid & (h->n_slots - 1)];

        if (task->tid == tid)
                return task;
        if (task->tid)
                forget(task);
        open_task(h, tid, task);
        return task->tid ? task : NULL;
}

int weir_task_fd(struct weir_handoff *h, pid_t tid, int fd, struct weir_task **ret_task)
{
        for (unsigned i = 0; i < 3; i++) {
                struct weir_task *task = weir_task_find(h, tid);
                int r = task ? (int)syscall(SYS_pidfd_getfd, task->pidfd, fd, 0) : -1;

                if (r >= 0) {
                        *ret_task = task;
                        return r;
                }
                /* A task of the same number that has ended, or no descriptor is left: both with what was kept. */
                if (task && errno == ESRCH)
                        forget(task);
                else if (errno == EMFILE || errno == ENFILE)
                        weir_task_forget_all(h);
                else if (task)
                        return -errno;
        }
        return -ESRCH;
}

pid_t weir_task_tgid(struct weir_task *task)
{
        if (task->tgid == 0)
                task->tgid = read_tgid(task->tid);
        return task->tgid;
}

/* Opened where it is first asked for, which a flow without a record of its own never does. */
void weir_task_command(struct weir_handoff *h, struct weir_task *task, char command[static 16])
{
        char path[48];
        ssize_t n = -1;

        command[0] = '\0';
        if (task->comm < 0) {
                (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)weir_task_tgid(task));
                task->comm = weir_handoff_keep(h, open(path, O_RDONLY | O_CLOEXEC));
        }
        if (task->comm >= 0)
                n = pread(task->comm, command, 15, 0);
        command[n > 0 ? n : 0] = '\0';
        command[strcspn(command, "\n")] = '\0';
}

int weir_task_read(pid_t tid, void *to, uint64_t from, size_t n)
{
        struct iovec local = { .iov_base = to, .iov_len = n };
        struct iovec remote = { .iov_base = (void *)(uintptr_t)from, .iov_len = n };

        return process_vm_readv(tid, &local, 1, &remote, 1, 0) == (ssize_t)n ? 0 : -EFAULT;
}

static int parse_flags(const char *text)
{
        const char *at = strstr(text, "flags:");

        return at ? (int)strtol(at + 6, NULL, 8) : -EBADF;
}

/* The status flags, and O_CLOEXEC, which is the descriptor's alone and which no duplicate shows. */
int weir_task_fd_flags(struct weir_handoff *h, const struct weir_task *task, int fd)
{
        struct weir_fdinfo *kept = &h->fdinfos[((size_t)task->tid * 31 + (size_t)fd) & (h->n_slots - 1)];
        char name[16], text[256];
        ssize_t n = -1;

        if (kept->tid == task->tid && kept->fd == fd && kept->pidfd == task->pidfd)
                n = pread(kept->file, text, sizeof(text) - 1, 0);
        if (n <= 0) {
                if (kept->tid)
                        (void)close(kept->file);
                kept->tid = 0;
                (void)snprintf(name, sizeof(name), "%d", fd);
                kept->file = weir_handoff_keep(h, openat(task->fdinfo, name, O_RDONLY | O_CLOEXEC));
                if (kept->file < 0)
                        return -EBADF;
                kept->tid = task->tid;
                kept->fd = fd;
                kept->pidfd = task->pidfd;
                n = pread(kept->file, text, sizeof(text) - 1, 0);
        }
        if (n <= 0)
                return -EBADF;
        text[n] = '\0';
        return parse_flags(text);
}
