/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The notification thread: takes one notified call after another and does what the call asks.
 *
 * Theory of operation
 *
 * It waits in the RECV ioctl itself, alone: with the synchronous wake-up the kernel then switches from the workload to
 * this thread and back without the scheduler's delay, which is the largest saving there is, and epoll would lose part
 * of it. It never blocks anywhere else. So that it can use the workload's descriptor numbers (see handoff_epoll.c) it
 * has a descriptor table of its own, which the thread for slow connects shares.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "capture/handoff_internal.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#define SYNC_WAKE_UP 1UL

#define PRIVILEGED_PORTS 1024

uint64_t weir_netns_cookie(int fd)
{
        uint64_t cookie = 0;
        socklen_t length = sizeof(cookie);

        return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0 ? 0 : cookie;
}

int weir_handoff_answer(const struct weir_handoff *h, uint64_t id, int error)
{
        struct seccomp_notif_resp response = { .id = id, .error = -error };

        return ioctl(h->notify, SECCOMP_IOCTL_NOTIF_SEND, &response) < 0 ? -errno : 0;
}

/* Only where nothing rests on it; see handoff_connect.c and handoff_filter.c. A caller that is gone needs no answer. */
void weir_handoff_continue(const struct weir_handoff *h, uint64_t id)
{
        struct seccomp_notif_resp response = { .id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };

        (void)ioctl(h->notify, SECCOMP_IOCTL_NOTIF_SEND, &response);
}

static int domain_of(int fd)
{
        int domain = -1;
        socklen_t length = sizeof(domain);

        return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 ? -errno : domain;
}

/* A socket of the host's network never listens. All others do, of AF_UNIX too, on the duplicate: a call that went on
 * could find another socket under the number, and Landlock does not know listen(). */
static void on_listen(struct weir_handoff *h, const struct seccomp_notif *call)
{
        struct weir_task *task;
        weir_auto_close int dup = weir_task_fd(h, (pid_t)call->pid, (int)call->data.args[0], &task);
        int domain = dup < 0 ? dup : domain_of(dup), error;

        if (domain < 0)
                error = -domain;
        else if ((domain == AF_INET || domain == AF_INET6) && weir_netns_cookie(dup) == h->host_cookie)
                error = EPERM;
        else
                error = listen(dup, (int)call->data.args[1]) < 0 ? errno : 0;
        (void)weir_handoff_answer(h, call->id, error);
}

static int bind_on(const struct weir_handoff *h, int fd, uint64_t netns, const struct sockaddr_storage *sa,
                   socklen_t length)
{
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;

        /* In the sandbox's own network the workload's capability is gone, and this process would have it there. In one
         * below, an inner sandbox's, it may have it. */
        if (netns == h->box_cookie && length >= sizeof(*in) && ntohs(in->sin_port) > 0 &&
            ntohs(in->sin_port) < PRIVILEGED_PORTS)
                return EACCES;
        return bind(fd, (const struct sockaddr *)sa, length) < 0 ? errno : 0;
}

/* As listen(): nothing of the host's is bound. AF_UNIX and AF_NETLINK go on, for a path is the caller's; Landlock keeps
 * a TCP socket from binding. */
static void on_bind(struct weir_handoff *h, const struct seccomp_notif *call)
{
        struct weir_task *task;
        struct sockaddr_storage sa = { 0 };
        uint32_t length = (uint32_t)call->data.args[2];
        weir_auto_close int dup = weir_task_fd(h, (pid_t)call->pid, (int)call->data.args[0], &task);
        int domain = dup < 0 ? dup : domain_of(dup), error;
        uint64_t netns = dup < 0 ? 0 : weir_netns_cookie(dup);

        if (domain >= 0 && domain != AF_INET && domain != AF_INET6) {
                weir_handoff_continue(h, call->id);
                return;
        }
        if (domain < 0)
                error = -domain;
        else if (length > sizeof(sa))
                error = EINVAL;
        else if (netns == h->host_cookie)
                error = EPERM;
        else if (weir_task_read((pid_t)call->pid, &sa, call->data.args[1], length) < 0)
                error = EFAULT;
        else
                error = bind_on(h, dup, netns, &sa, length);
        (void)weir_handoff_answer(h, call->id, error);
}

static void handle(struct weir_handoff *h, const struct seccomp_notif *call)
{
        switch (call->data.nr) {
        case SYS_connect:
                weir_handoff_connect(h, call);
                break;
        case SYS_setsockopt:
                weir_options_note(h, (int)call->data.args[1], (int)call->data.args[2]);
                weir_handoff_continue(h, call->id);
                break;
        case SYS_epoll_create1:
#ifdef SYS_epoll_create
        case SYS_epoll_create:
#endif
                weir_handoff_epoll_create(h, call);
                break;
        case SYS_listen:
                on_listen(h, call);
                break;
        case SYS_bind:
                on_bind(h, call);
                break;
        default:
                (void)weir_handoff_answer(h, call->id, ENOSYS);
        }
        if (h->n_pool < WEIR_ARRAY_SIZE(h->pool) / 2)
                weir_handoff_fill_pool(h);
}

/*
 * A table that only the two threads have: what they need stands above @base already, below is room for the workload's
 * numbers. Without one (a container
 * that forbids unshare) watched sockets go to the relay.
 */
static void take_own_table(struct weir_handoff *h)
{
        if (unshare(CLONE_FILES) < 0)
                return;
        (void)close_range(STDERR_FILENO + 1U, (unsigned)h->base - 1, 0);
        /* Or the owner's end of the pair would never end. */
        (void)close(h->pair[0]);
        h->own_table = true;
}

static int take_listener(struct weir_handoff *h)
{
        int fds[WEIR_BOX_NOTIFY_COUNT] = { -1, -1, -1 }, r = 0;
        size_t n = WEIR_BOX_NOTIFY_COUNT;
        uint64_t flags = SYNC_WAKE_UP;
        char byte;

        (void)h;
        if (weir_fd_recv(h->pair[1], &byte, 1, fds, &n) != 1 || fds[WEIR_BOX_NOTIFY_V4] < 0)
                r = -EPIPE;
        if (r == 0) {
                weir_options_defaults(fds[WEIR_BOX_NOTIFY_V4], false, &h->defaults[0]);
                h->box_cookie = weir_netns_cookie(fds[WEIR_BOX_NOTIFY_V4]);
        }
        if (r == 0 && fds[WEIR_BOX_NOTIFY_V6] >= 0)
                weir_options_defaults(fds[WEIR_BOX_NOTIFY_V6], true, &h->defaults[1]);
        weir_close_cleanup(&fds[WEIR_BOX_NOTIFY_V4]);
        weir_close_cleanup(&fds[WEIR_BOX_NOTIFY_V6]);
        h->notify = weir_handoff_keep(h, fds[WEIR_BOX_NOTIFY_LISTENER]);
        /* Linux 6.6; without it everything works, only slower. */
        if (r == 0 && h->notify >= 0)
                (void)ioctl(h->notify, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags);
        return r;
}

/* The kernel's own struct may be longer than the one this was compiled with. */
static struct seccomp_notif *notification_new(size_t *ret_size)
{
        struct seccomp_notif_sizes sizes = { 0 };

        if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0 ||
            sizes.seccomp_notif < sizeof(struct seccomp_notif))
                sizes.seccomp_notif = sizeof(struct seccomp_notif);
        *ret_size = sizes.seccomp_notif;
        return malloc(sizes.seccomp_notif);
}

/* Waits for the next call. Here, and nowhere else, the thread may be cancelled: nothing is held that it would lose. */
static int receive(const struct weir_handoff *h, struct seccomp_notif *call, size_t size)
{
        int old, r;

        memset(call, 0, size);
        (void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
        (void)pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
        r = ioctl(h->notify, SECCOMP_IOCTL_NOTIF_RECV, call) < 0 ? -errno : 0;
        (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
        return r;
}

static void serve(struct weir_handoff *h)
{
        h->call = notification_new(&h->call_size);
        weir_handoff_fill_pool(h);
        while (h->call && !atomic_load(&h->stop)) {
                int r = receive(h, h->call, h->call_size);

                if (r == 0)
                        handle(h, h->call);
                else if (r != -EINTR && r != -ENOENT)
                        return;
                else if (r == -ENOENT && kill(h->options.init, 0) < 0)
                        return; /* nobody is left who could call */
        }
}

/* Whoever waits now is answered by the kernel: ENOSYS, never a connection. */
static void end(void *handoff)
{
        struct weir_handoff *h = handoff;

        atomic_store(&h->stop, true);
        weir_slow_wake(h);
        if (h->slow_runs)
                (void)pthread_join(h->slow_thread, NULL);
        weir_task_forget_all(h);
        while (h->n_pool > 0)
                (void)close(h->pool[--h->n_pool]);
        weir_close_cleanup(&h->notify);
        free(h->call);
}

void *weir_handoff_notify_main(void *handoff)
{
        struct weir_handoff *h = handoff;
        int old;

        (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
        (void)prctl(PR_SET_NAME, "weir-handoff");
        take_own_table(h);
        h->slow_runs = pthread_create(&h->slow_thread, NULL, weir_handoff_slow_main, h) == 0;
        pthread_cleanup_push(end, h);
        if (take_listener(h) == 0)
                serve(h);
        pthread_cleanup_pop(1);
        return NULL;
}
