/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Epoll sets that watch a socket which is handed off.
 *
 * Theory of operation
 *
 * epoll(7) knows a descriptor by its number and the file behind it; a socket that is put under the same number is
 * another file, and the set would wait for the old one for ever. So the supervisor has to know whether a set watches
 * the socket. It makes every set itself (epoll_create is notified, once for an event loop) and gives it to the caller,
 * so that the sets of a process are known by number; a process that was never seen, because it was forked, is scanned
 * once. A process without a set costs nothing, else kcmp(2) is asked once a set.
 *
 * A watched socket is moved: the notification thread has a descriptor table of its own, so that it can put first the
 * old and then the new socket under the workload's own number, and take the one entry out and the other in on a
 * duplicate of the workload's set, with the events and data that the set's fdinfo shows. Reading that costs with the
 * set's size: above a bound the socket goes to the relay.
 *
 * Not seen: a set that the workload has under a second number after it closed the first. Its socket would wait for
 * ever; nothing is opened by that.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/strutil.h"
#include "capture/handoff_internal.h"

#define SETS_MAX 1024
#define SEEN_MAX 1024
#define SCAN_MAX 65536
#define ENTRIES_MAX 256
/* A line of fdinfo for an entry has under 100 bytes. */
#define FDINFO_MAX ((size_t)ENTRIES_MAX * 100 + 512)

struct weir_epoll_sets {
        struct {
                pid_t tgid;
                int fd;
        } sets[SETS_MAX];
        size_t n;
        pid_t seen[SEEN_MAX]; /* processes whose inherited sets were looked for */
        size_t next_seen;
        bool overflow; /* a set found no room: no socket is handed off that might be in it */
};

static void add_set(struct weir_epoll_sets *s, pid_t tgid, int fd)
{
        for (size_t i = 0; i < s->n; i++)
                if (s->sets[i].tgid == tgid && s->sets[i].fd == fd)
                        return;
        if (s->n == SETS_MAX) {
                s->overflow = true;
                return;
        }
        s->sets[s->n].tgid = tgid;
        s->sets[s->n++].fd = fd;
}

static void drop_set(struct weir_epoll_sets *s, size_t i)
{
        s->sets[i] = s->sets[--s->n];
}

/* Of processes that have ended. */
static void make_room(struct weir_epoll_sets *s)
{
        for (size_t i = s->n; i-- > 0;) {
                char path[32];

                (void)snprintf(path, sizeof(path), "/proc/%d", (int)s->sets[i].tgid);
                if (access(path, F_OK) < 0)
                        drop_set(s, i);
        }
}

void weir_handoff_epoll_create(struct weir_handoff *h, const struct seccomp_notif *call)
{
        int flags = call->data.nr == SYS_epoll_create1 ? (int)call->data.args[0] : 0;
        struct weir_task *task = weir_task_find(h, (pid_t)call->pid);
        struct seccomp_notif_addfd give = { .id = call->id, .flags = SECCOMP_ADDFD_FLAG_SEND };
        weir_auto_close int set = -1;
        int number;

        /* epoll_create(2): the size must be positive and means nothing else. */
        if (call->data.nr == SYS_epoll_create && (int)call->data.args[0] <= 0) {
                (void)weir_handoff_answer(h, call->id, EINVAL);
                return;
        }
        set = epoll_create1(flags);
        if (set < 0 || !task) {
                (void)weir_handoff_answer(h, call->id, set < 0 ? errno : EMFILE);
                return;
        }
        give.srcfd = (uint32_t)set;
        give.newfd_flags = flags & EPOLL_CLOEXEC ? O_CLOEXEC : 0;
        if (!h->sets)
                h->sets = calloc(1, sizeof(*h->sets));
        number = ioctl(h->notify, SECCOMP_IOCTL_NOTIF_ADDFD, &give);
        if (number < 0) {
                (void)weir_handoff_answer(h, call->id, errno);
                return;
        }
        if (!h->sets)
                return;
        if (h->sets->n == SETS_MAX)
                make_room(h->sets);
        add_set(h->sets, weir_task_tgid(task), number);
}

/* What a process has by inheritance. */
static void scan(struct weir_epoll_sets *s, pid_t tgid)
{
        static const char wanted[] = "anon_inode:[eventpoll]";
        char path[48], link[64];

        for (size_t i = 0; i < SEEN_MAX; i++)
                if (s->seen[i] == tgid)
                        return;
        s->seen[s->next_seen++ % SEEN_MAX] = tgid;
        for (int fd = 0, missing = 0; fd < SCAN_MAX && missing < 64; fd++) {
                ssize_t n;

                (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)tgid, fd);
                n = readlink(path, link, sizeof(link));
                missing = n < 0 ? missing + 1 : 0;
                if (n == (ssize_t)sizeof(wanted) - 1 && memcmp(link, wanted, (size_t)n) == 0)
                        add_set(s, tgid, fd);
        }
}

/* What set number @set holds for the file behind @old under the number @fd. */
static int read_entry(const struct weir_task *task, int set, int old, int fd, struct epoll_event *ret)
{
        weir_auto_free char *text = NULL;
        char name[16];
        struct stat st;
        size_t n;

        (void)snprintf(name, sizeof(name), "%d", set);
        if (fstat(old, &st) < 0 || weir_file_slurp(task->fdinfo, name, FDINFO_MAX, &text, &n) < 0)
                return -E2BIG;
        for (const char *at = strstr(text, "tfd:"); at; at = strstr(at + 4, "tfd:")) {
                unsigned long inode;
                unsigned events;
                uint64_t data;
                long pos;
                int tfd;

                if (sscanf(at, "tfd: %d events: %x data: %" SCNx64 " pos:%ld ino:%lx", &tfd, &events, &data, &pos,
                           &inode) == 5 &&
                    tfd == fd && inode == (unsigned long)st.st_ino) {
                        *ret = (struct epoll_event){ .events = events, .data.u64 = data };
                        return 0;
                }
        }
        return -ENOENT;
}

int weir_epoll_watching(struct weir_handoff *h, struct weir_task *task, int dup, int fd)
{
        struct weir_epoll_sets *s = h->sets;
        struct epoll_event event;
        int found = -ENOENT;
        pid_t tgid, self;

        if (!s || (s->n == 0 && !s->overflow))
                return -ENOENT;
        if (s->overflow)
                return -E2BIG;
        tgid = weir_task_tgid(task);
        self = (pid_t)syscall(SYS_gettid); /* whose table @dup is in */
        scan(s, tgid);
        for (size_t i = 0; i < s->n; i++) {
                struct kcmp_epoll_slot slot = { .efd = (uint32_t)s->sets[i].fd, .tfd = (uint32_t)fd };
                long r;

                if (s->sets[i].tgid != tgid)
                        continue;
                r = syscall(SYS_kcmp, self, tgid, KCMP_EPOLL_TFD, dup, &slot);
                if (r < 0 && (errno == EBADF || errno == EINVAL))
                        drop_set(s, i--); /* closed since */
                else if (r == 0 && found >= 0)
                        return -E2BIG; /* in two sets */
                else if (r == 0)
                        found = s->sets[i].fd;
        }
        if (found >= 0 &&
            (!h->own_table || fd <= STDERR_FILENO || fd >= h->base || read_entry(task, found, dup, fd, &event) < 0))
                return -E2BIG;
        return found;
}

int weir_epoll_move(struct weir_handoff *h, const struct weir_task *task, int set, int old, int new, int fd)
{
        weir_auto_close int epoll = -1;
        struct epoll_event event;
        int r;

        r = read_entry(task, set, old, fd, &event);
        if (r < 0)
                return r;
        epoll = weir_handoff_keep(h, (int)syscall(SYS_pidfd_getfd, task->pidfd, set, 0));
        if (epoll < 0)
                return -EMFILE;
        /* Everything of this thread's own stands above. */
        if (fcntl(fd, F_GETFD) >= 0)
                return -EBUSY;
        if (dup2(old, fd) < 0 || epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL) < 0)
                r = -errno;
        if (r == 0 && (dup2(new, fd) < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)) {
                r = -errno;
                /* As it was: the socket goes on inside. */
                if (dup2(old, fd) >= 0)
                        (void)epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        }
        (void)close(fd);
        return r;
}

void weir_epoll_free(struct weir_handoff *h)
{
        free(h->sets);
        h->sets = NULL;
}
