/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into Weir: one kind of call fails at the nth time, and at every mth time after that.
 *
 *     LD_PRELOAD=libfault.so WEIR_FAULT=KIND:N:M
 *
 * KIND: memory (malloc and its kind give none), interrupted (EINTR), short (reads and writes do half), nobufs, again, files
 * (no descriptor is left). The library takes itself out of the environment, so the command runs without it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <fcntl.h>
#include <poll.h>

enum kind { NONE, MEMORY, INTERRUPTED, SHORT, NOBUFS, AGAIN, FILES };

static enum kind kind;
static unsigned long first, every, count;
static __thread int busy;

__attribute__((constructor)) static void read_fault(void)
{
        static const char *const names[] = { "none", "memory", "interrupted", "short", "nobufs", "again", "files" };
        const char *text = getenv("WEIR_FAULT");

        for (size_t i = 0; text && i < sizeof(names) / sizeof(names[0]); i++) {
                size_t n = strlen(names[i]);

                if (strncmp(text, names[i], n) == 0 && text[n] == ':') {
                        char *rest;

                        first = strtoul(text + n + 1, &rest, 10);
                        every = *rest == ':' ? strtoul(rest + 1, NULL, 10) : 0;
                        kind = (enum kind)i;
                }
        }
        unsetenv("LD_PRELOAD");
        unsetenv("WEIR_FAULT");
}

/* Whether it is this call's turn. */
static int due(enum kind which)
{
        unsigned long now;

        if (kind != which || busy)
                return 0;
        now = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
        return now == first || (every && now > first && (now - first) % every == 0);
}

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
        void *found;

        busy++;
        found = dlsym(RTLD_NEXT, name);
        busy--;
        return found;
}

/* The C library's own names, for dlsym() itself allocates. */
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);

void *malloc(size_t n)
{
        if (due(MEMORY)) {
                errno = ENOMEM;
                return NULL;
        }
        return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
        if (due(MEMORY)) {
                errno = ENOMEM;
                return NULL;
        }
        return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
        if (due(MEMORY)) {
                errno = ENOMEM;
                return NULL;
        }
        return __libc_realloc(p, n);
}

/* 0, or the error that this call gives. */
static int fault(int may_wait)
{
        if (may_wait && due(INTERRUPTED))
                return EINTR;
        if (may_wait && due(AGAIN))
                return EAGAIN;
        if (due(NOBUFS))
                return ENOBUFS;
        return 0;
}

#define FAIL_IF(error)            \
        do {                      \
                int e_ = (error); \
                if (e_) {         \
                        errno = e_; \
                        return -1;  \
                }                 \
        } while (0)

ssize_t read(int fd, void *bytes, size_t n)
{
        FAIL_IF(due(INTERRUPTED) ? EINTR : 0);
        return REAL(read)(fd, bytes, n > 1 && due(SHORT) ? n / 2 : n);
}

ssize_t write(int fd, const void *bytes, size_t n)
{
        FAIL_IF(due(INTERRUPTED) ? EINTR : 0);
        return REAL(write)(fd, bytes, n > 1 && due(SHORT) ? n / 2 : n);
}

ssize_t send(int fd, const void *bytes, size_t n, int flags)
{
        FAIL_IF(fault(1));
        return REAL(send)(fd, bytes, n > 1 && due(SHORT) ? n / 2 : n, flags);
}

ssize_t recv(int fd, void *bytes, size_t n, int flags)
{
        FAIL_IF(fault(1));
        return REAL(recv)(fd, bytes, n, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
        FAIL_IF(fault(1));
        return REAL(sendmsg)(fd, m, flags);
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
        FAIL_IF(fault(1));
        return REAL(recvmsg)(fd, m, flags);
}

int accept4(int fd, struct sockaddr *sa, socklen_t *length, int flags)
{
        FAIL_IF(due(FILES) ? EMFILE : fault(1));
        return REAL(accept4)(fd, sa, length, flags);
}

int socket(int domain, int type, int protocol)
{
        FAIL_IF(due(FILES) ? EMFILE : due(NOBUFS) ? ENOBUFS : 0);
        return REAL(socket)(domain, type, protocol);
}

int connect(int fd, const struct sockaddr *sa, socklen_t length)
{
        FAIL_IF(due(NOBUFS) ? EADDRNOTAVAIL : 0);
        return REAL(connect)(fd, sa, length);
}

int pipe2(int fds[2], int flags)
{
        FAIL_IF(due(FILES) ? ENFILE : 0);
        return REAL(pipe2)(fds, flags);
}

ssize_t splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags)
{
        FAIL_IF(fault(1));
        return REAL(splice)(from, from_at, to, to_at, n > 1 && due(SHORT) ? n / 2 : n, flags);
}

int epoll_wait(int fd, struct epoll_event *events, int n, int timeout)
{
        FAIL_IF(due(INTERRUPTED) ? EINTR : 0);
        return REAL(epoll_wait)(fd, events, n, timeout);
}

int epoll_ctl(int fd, int what, int target, struct epoll_event *event)
{
        FAIL_IF(what == EPOLL_CTL_ADD && due(NOBUFS) ? ENOMEM : 0);
        return REAL(epoll_ctl)(fd, what, target, event);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
        FAIL_IF(due(NOBUFS) ? ENOBUFS : 0);
        return REAL(getsockopt)(fd, level, name, value, length);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
        FAIL_IF(due(NOBUFS) ? ENOBUFS : 0);
        return REAL(setsockopt)(fd, level, name, value, length);
}
