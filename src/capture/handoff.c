/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket handoff: its life, and its side that faces the thread which owns the capture.
 *
 * Theory of operation
 *
 * A seccomp filter in the sandbox notifies the supervisor of connect(2) and a few other calls. For a connection that
 * the policy allows, the supervisor makes a socket in the host's network, connects it, and puts it over the workload's
 * descriptor; from then on the kernel moves the bytes. A denied one gets EPERM. Everything else is connected inside, on
 * the workload's own socket, where the relay finds it: the relay is the way of whatever this does not handle, and of
 * everything if this cannot be had.
 *
 * The filter is an accelerator and the namespace is the boundary. A socket that was handed off belongs to the host's
 * network and must not become a way out: see handoff_connect.c for what the supervisor does itself, handoff_filter.c
 * for what it refuses, and landlock.h for the domain that keeps the workload's own hands off.
 *
 * Threads
 *
 *   notification  waits in the kernel for calls and answers them; never blocks elsewhere (handoff_notify.c, _connect.c,
 *                 _task.c, _options.c, _epoll.c)
 *   slow          waits for connects that take time, and answers those calls (handoff_slow.c)
 *   owner         the loop's thread: hands in new policies, cuts what they no longer allow (handoff_revoke.c), learns
 *                 of ends (handoff_diag.c), and fetches what is to be told (this file)
 *
 * They share the table of flows, the queue and the policy, under one lock (handoff_flows.c), and the list of slow
 * connects under another; never both at once. The policy is an immutable snapshot, counted by reference.
 *
 * The owner's loop sees one descriptor, an epoll set of three: the queue's eventfd, the destroy group's socket, and a
 * timer. Each flow that ends would wake the loop; so after the first message the socket is left alone for a tick and
 * then read whole, until a tick brings nothing.
 */
#include "capture/handoff.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/time.h"
#include "capture/handoff_internal.h"

/* Numbers below this are left to the workload's, where the limit leaves room for it. */
#define BASE 4096
#define DESCRIPTORS_MIN 256
#define SLOTS_MAX 512
/* How long ends of flows may wait together, and how often a hidden flow is looked for. */
#define GATHER_NS (20 * WEIR_MS)
#define REVOKE_NS (3 * WEIR_MS)
/* How long the end of a run waits for its flows' last figures. */
#define SETTLE_NS (200 * WEIR_MS)
int weir_handoff_try_on(pid_t other, int other_fd, struct weir_err *err)
{
        static const uint64_t word = UINT64_C(0x776569722d747279);
        weir_auto_close int pidfd = (int)syscall(SYS_pidfd_open, other, 0);
        weir_auto_close int fd = -1;
        uint64_t copy = 0;

        if (pidfd >= 0)
                fd = (int)syscall(SYS_pidfd_getfd, pidfd, other_fd, 0);
        if (fd < 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "descriptors of another process cannot be fetched (kernel.yama.ptrace_scope=3, a "
                                    "container's seccomp profile, or Linux before 5.6): %s",
                                    strerror(errno));
        if (weir_task_read(other, &copy, (uintptr_t)&word, sizeof(copy)) < 0 || copy != word)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "process_vm_readv is refused: %s", strerror(errno));
        if (syscall(SYS_kcmp, getpid(), other, KCMP_FILE, fd, other_fd) != 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "kcmp is refused or not in this kernel: %s",
                                    strerror(errno));
        return 0;
}

/* As many descriptors as this user may have; the sandbox was forked before and keeps its own limit. */
static int raise_limit(struct weir_handoff *h, struct weir_err *err)
{
        struct rlimit limit;
        rlim_t most;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return weir_err_set(err, -errno, "cannot read the limit of descriptors: %s", strerror(errno));
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < DESCRIPTORS_MIN)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "the limit of open files (ulimit -Hn) is under %d, too few to serve from",
                                    DESCRIPTORS_MIN);
        most = limit.rlim_cur;
        h->base = most >= (rlim_t)BASE * 2 ? BASE : (int)(most / 2);
        h->n_slots = SLOTS_MAX;
        while (h->n_slots > 8 && (rlim_t)h->n_slots * 8 > most - (rlim_t)h->base)
                h->n_slots /= 2;
        return 0;
}

static int open_descriptors(struct weir_handoff *h)
{
        int pair[2];
        const int *all[] = { &h->wake, &h->timer, &h->diag, &h->epoll, &h->slow_epoll, &h->slow_wake };

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        h->pair[0] = weir_handoff_keep(h, pair[0]);
        h->pair[1] = weir_handoff_keep(h, pair[1]);
        h->wake = weir_handoff_keep(h, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        h->timer = weir_handoff_keep(h, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
        h->diag = weir_handoff_keep(h, weir_diag_open());
        h->epoll = weir_handoff_keep(h, epoll_create1(EPOLL_CLOEXEC));
        h->slow_epoll = weir_handoff_keep(h, epoll_create1(EPOLL_CLOEXEC));
        h->slow_wake = weir_handoff_keep(h, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (h->pair[0] < 0 || h->pair[1] < 0)
                return -EMFILE;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(all); i++)
                if (*all[i] < 0)
                        return -EMFILE;
        return 0;
}

static int watch(struct weir_handoff *h)
{
        struct epoll_event event = { .events = EPOLLIN };
        const int watched[] = { h->wake, h->timer, h->diag };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(watched); i++) {
                event.data.fd = watched[i];
                if (epoll_ctl(h->epoll, EPOLL_CTL_ADD, watched[i], &event) < 0)
                        return -errno;
        }
        event.data.fd = 0;
        event.data.ptr = NULL;
        return epoll_ctl(h->slow_epoll, EPOLL_CTL_ADD, h->slow_wake, &event) < 0 ? -errno : 0;
}

static int host_cookie(uint64_t *ret)
{
        weir_auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        *ret = fd < 0 ? 0 : weir_netns_cookie(fd);
        return *ret ? 0 : -ENOTSUP;
}

/* With every signal blocked: they are the owner's, whatever their number, and none is left over to wake a thread with.
 */
static int start_thread(struct weir_handoff *h)
{
        sigset_t all, old;
        int r;

        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(&h->notify_thread, NULL, weir_handoff_notify_main, h);
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
        h->notify_runs = r == 0;
        return -r;
}

static struct weir_handoff *handoff_new(const struct weir_handoff_options *options)
{
        struct weir_handoff *h = calloc(1, sizeof(*h));

        if (!h)
                return NULL;
        h->options = *options;
        h->policy = weir_policy_ref(options->policy);
        h->notify = h->pair[0] = h->pair[1] = h->wake = h->timer = h->diag = h->epoll = -1;
        h->slow_epoll = h->slow_wake = -1;
        (void)pthread_mutex_init(&h->lock, NULL);
        (void)pthread_mutex_init(&h->slow_lock, NULL);
        return h;
}

static int prepare(struct weir_handoff *h)
{
        int r = weir_flows_init(h);

        h->tasks = calloc(h->n_slots, sizeof(*h->tasks));
        h->fdinfos = calloc(h->n_slots, sizeof(*h->fdinfos));
        if (r < 0 || !h->tasks || !h->fdinfos)
                return -ENOMEM;
        r = open_descriptors(h);
        if (r == 0)
                r = watch(h);
        if (r == 0)
                r = host_cookie(&h->host_cookie);
        return r == 0 ? start_thread(h) : r;
}

int weir_handoff_new(const struct weir_handoff_options *options, struct weir_handoff **ret_handoff,
                     struct weir_err *err)
{
        weir_auto(handoff) struct weir_handoff *h = NULL;
        int r;

        r = weir_handoff_try_on(options->init, options->init_fd, err);
        if (r < 0)
                return r;
        h = handoff_new(options);
        if (!h)
                return weir_err_set(err, -ENOMEM, "out of memory");
        r = raise_limit(h, err);
        if (r < 0)
                return r;
        r = prepare(h);
        if (r < 0)
                return weir_err_set(err, r, "sockets, threads or sock_diag are not to be had: %s", strerror(-r));
        *ret_handoff = TAKE_PTR(h);
        return 0;
}

int weir_handoff_begin(struct weir_handoff *h, int fds[static WEIR_BOX_NOTIFY_COUNT], size_t n_fds)
{
        char byte = 0;
        int r = weir_fd_send(h->pair[0], &byte, 1, fds, n_fds);

        for (size_t i = 0; i < n_fds; i++)
                weir_close_cleanup(&fds[i]);
        return r < 0 ? r : 0;
}

/* Its wait in the kernel ends by cancellation, which it allows there alone. */
static void join_thread(struct weir_handoff *h)
{
        atomic_store(&h->stop, true);
        /* Only closed: the thread may still look at the number. */
        (void)close(h->pair[0]);
        (void)pthread_cancel(h->notify_thread);
        (void)pthread_join(h->notify_thread, NULL);
        h->notify_runs = false;
        h->pair[0] = -1;
}

void weir_handoff_free(struct weir_handoff *h)
{
        int *all[] = {
                &h->pair[0], &h->pair[1], &h->wake, &h->timer, &h->diag, &h->epoll, &h->slow_epoll, &h->slow_wake
        };

        if (!h)
                return;
        if (h->notify_runs)
                join_thread(h);
        weir_flows_clear(h);
        weir_epoll_free(h);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(all); i++)
                weir_close_cleanup(all[i]);
        weir_policy_unref(h->policy);
        free(h->tasks);
        free(h->fdinfos);
        (void)pthread_mutex_destroy(&h->lock);
        (void)pthread_mutex_destroy(&h->slow_lock);
        free(h);
}

static void set_timer(const struct weir_handoff *h, uint64_t after_ns)
{
        const struct itimerspec when = { .it_value = { .tv_sec = (time_t)(after_ns / WEIR_SEC),
                                                       .tv_nsec = (long)(after_ns % WEIR_SEC) } };

        (void)timerfd_settime(h->timer, 0, &when, NULL);
}

static void watch_diag(struct weir_handoff *h, bool on)
{
        struct epoll_event event = { .events = on ? EPOLLIN : 0, .data.fd = h->diag };

        if (epoll_ctl(h->epoll, EPOLL_CTL_MOD, h->diag, &event) == 0)
                h->diag_paused = !on;
}

static int compare_cookies(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

/* Messages were lost: what a dump does not show has ended. A socket may be on its way out while it is dumped, so only
 * flows that are older than the loss are judged by it. */
static void reconcile(struct weir_handoff *h)
{
        weir_auto_free struct weir_diag_socket *sockets = NULL;
        weir_auto_free uint64_t *cookies = NULL;
        uint64_t before = weir_time_ns();
        size_t n;

        if (weir_diag_dump(&sockets, &n) < 0)
                return;
        cookies = calloc(n + 1, sizeof(*cookies));
        for (size_t i = 0; cookies && i < n; i++)
                cookies[i] = sockets[i].cookie;
        if (!cookies)
                return;
        qsort(cookies, n, sizeof(*cookies), compare_cookies);
        weir_flows_reconcile(h, before, cookies, n);
}

static void read_ends(struct weir_handoff *h)
{
        int n = weir_diag_read(h);

        if (n == -ENOBUFS) {
                while (n == -ENOBUFS)
                        n = weir_diag_read(h);
                reconcile(h);
                n = 1;
        }
        if (n > 0) {
                watch_diag(h, false);
                set_timer(h, GATHER_NS);
        } else if (h->diag_paused) {
                watch_diag(h, true);
        }
}

static void on_timer(struct weir_handoff *h)
{
        uint64_t ignored;

        (void)!read(h->timer, &ignored, sizeof(ignored));
        if (h->diag_paused)
                read_ends(h);
        if (weir_revoke_pass(h, false))
                set_timer(h, REVOKE_NS);
}

/* Everything that waits at the descriptors, into the queue. */
static void pump(struct weir_handoff *h)
{
        struct epoll_event events[3];
        int n = epoll_wait(h->epoll, events, 3, 0);

        for (int i = 0; i < n; i++) {
                uint64_t ignored;

                if (events[i].data.fd == h->wake)
                        (void)!read(h->wake, &ignored, sizeof(ignored));
                else if (events[i].data.fd == h->timer)
                        on_timer(h);
                else
                        read_ends(h);
        }
}

int weir_handoff_events_fd(const struct weir_handoff *h)
{
        return h->epoll;
}

int weir_handoff_next_event(struct weir_handoff *h, struct weir_capture_event *ret)
{
        int r = weir_handoff_next_told(h, ret);

        if (r != 0)
                return r;
        pump(h);
        return weir_handoff_next_told(h, ret);
}

void weir_handoff_policy_changed(struct weir_handoff *h, struct weir_policy *policy)
{
        struct weir_policy *old;

        (void)pthread_mutex_lock(&h->lock);
        old = h->policy;
        h->policy = weir_policy_ref(policy);
        (void)pthread_mutex_unlock(&h->lock);
        weir_policy_unref(old);
        if (weir_revoke_pass(h, true))
                set_timer(h, REVOKE_NS);
}

static size_t n_flows(struct weir_handoff *h)
{
        size_t n;

        (void)pthread_mutex_lock(&h->lock);
        n = h->n_flows;
        (void)pthread_mutex_unlock(&h->lock);
        return n;
}

void weir_handoff_settle(struct weir_handoff *h)
{
        uint64_t until = weir_time_ns() + SETTLE_NS;
        weir_auto_free struct weir_diag_socket *sockets = NULL;
        size_t n = 0;

        for (;;) {
                int r = weir_diag_read(h);

                if ((r < 0 && r != -ENOBUFS) || n_flows(h) == 0 || weir_time_ns() >= until)
                        break;
                if (r == 0)
                        (void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        }
        if (n_flows(h) == 0 || weir_diag_dump(&sockets, &n) < 0)
                return;
        /* What the kernel still sends for a command that has ended is told as it stands now. */
        for (size_t i = 0; i < n; i++)
                weir_flows_end(h, sockets[i].cookie, WEIR_REASON_SHUTDOWN,
                               sockets[i].has_figures ? &sockets[i].figures : NULL);
        weir_flows_reconcile(h, UINT64_MAX, &(const uint64_t){ 0 }, 0);
}
