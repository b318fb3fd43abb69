/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connects that take time, of sockets that block: a second thread waits for them, so that nobody else does.
 *
 * Theory of operation
 *
 * The connecting socket has been installed already; only the answer waits here. So a signal that interrupts the
 * workload's connect() leaves it what the kernel would: a socket that goes on connecting. Weir never tells
 * the socket that it is connected by a second connect(), as the kernel's own call would: an answer may reach a call
 * that a signal is just ending, and the restarted one must get 0, not EISCONN. What is waited for ends in one of three
 * ways: the socket is connected or has failed, its SO_SNDTIMEO has passed, or the caller does not wait any more (a
 * signal, or it was killed), which the kernel does not tell and which is asked for every tick while anything waits.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/time.h"
#include "capture/handoff_internal.h"

#define SLOW_MAX 8192
#define TICK_MS 20
#define EVENTS 64

struct weir_slow {
        struct weir_slow *next;
        uint64_t id, deadline_ns, cookie;
        pid_t tid;
        int fd, socket;
        bool again;
};

/* Under the lock: taken out of the list; false if it is not there any more. */
static bool unlink_slow(struct weir_handoff *h, const struct weir_slow *slow)
{
        for (struct weir_slow **at = &h->slow; *at; at = &(*at)->next)
                if (*at == slow) {
                        *at = slow->next;
                        h->n_slow--;
                        return true;
                }
        return false;
}

void weir_slow_add(struct weir_handoff *h, const struct seccomp_notif *call, int socket, uint64_t timeout_ns,
                   bool again, uint64_t cookie)
{
        struct weir_slow *slow = malloc(sizeof(*slow));
        struct epoll_event event = { .events = EPOLLOUT, .data.ptr = slow };
        bool waits = false;

        if (slow) {
                *slow = (struct weir_slow){
                        .id = call->id,
                        .deadline_ns = timeout_ns ? weir_time_ns() + timeout_ns : 0,
                        .cookie = cookie,
                        .tid = (pid_t)call->pid,
                        .fd = (int)call->data.args[0],
                        .socket = socket,
                        .again = again,
                };
                (void)pthread_mutex_lock(&h->slow_lock);
                if (h->slow_runs && h->n_slow < SLOW_MAX &&
                    epoll_ctl(h->slow_epoll, EPOLL_CTL_ADD, socket, &event) == 0) {
                        slow->next = h->slow;
                        h->slow = slow;
                        waits = true;
                        /* A thread that waits without an end has to learn that there is something to tick for. */
                        if (h->n_slow++ == 0)
                                weir_slow_wake(h);
                }
                (void)pthread_mutex_unlock(&h->slow_lock);
        }
        if (waits)
                return;
        /* As a kernel without memory: the socket goes on connecting, and the caller may ask again. */
        free(slow);
        (void)close(socket);
        (void)weir_handoff_answer(h, call->id, again ? EALREADY : EINPROGRESS);
}

void weir_slow_wake(struct weir_handoff *h)
{
        const uint64_t one = 1;

        if (write(h->slow_wake, &one, sizeof(one)) < 0)
                return; /* awake already */
}

static int socket_error(int socket)
{
        int error = 0;
        socklen_t length = sizeof(error);

        return getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? errno : error;
}

/* The socket as a failed connect() of the kernel's leaves it: ready for another one. No packet comes of it. */
static void start_over(int socket)
{
        const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

        (void)connect(socket, &nowhere, sizeof(nowhere));
}

static void finish(struct weir_handoff *h, struct weir_slow *slow, bool late)
{
        int error = late ? (slow->again ? EALREADY : EINPROGRESS) : socket_error(slow->socket);

        if (error && !late) {
                start_over(slow->socket);
                weir_flows_end(h, slow->cookie, weir_reason_of_connect(error), &(struct weir_flow_figures){ 0 });
        }
        (void)close(slow->socket);
        if (weir_handoff_answer(h, slow->id, error) < 0 && !error)
                weir_outrun_note(h, slow->tid, slow->fd);
        free(slow);
}

/* Everything that is over by time or by the caller; a list linked by @next. */
static struct weir_slow *take_overdue(struct weir_handoff *h, uint64_t now)
{
        struct weir_slow *over = NULL, **at = &h->slow;

        while (*at) {
                struct weir_slow *slow = *at;
                bool gone = ioctl(h->notify, SECCOMP_IOCTL_NOTIF_ID_VALID, &slow->id) < 0;

                if (!gone && (slow->deadline_ns == 0 || slow->deadline_ns > now)) {
                        at = &slow->next;
                        continue;
                }
                *at = slow->next;
                h->n_slow--;
                (void)epoll_ctl(h->slow_epoll, EPOLL_CTL_DEL, slow->socket, NULL);
                if (gone) {
                        (void)close(slow->socket);
                        free(slow);
                } else {
                        slow->next = over;
                        over = slow;
                }
        }
        return over;
}

static void on_ready(struct weir_handoff *h, const struct epoll_event *event)
{
        struct weir_slow *slow = event->data.ptr;
        uint64_t ignored;
        bool mine;

        if (!slow) {
                (void)!read(h->slow_wake, &ignored, sizeof(ignored));
                return;
        }
        (void)pthread_mutex_lock(&h->slow_lock);
        mine = unlink_slow(h, slow);
        if (mine)
                (void)epoll_ctl(h->slow_epoll, EPOLL_CTL_DEL, slow->socket, NULL);
        (void)pthread_mutex_unlock(&h->slow_lock);
        if (mine)
                finish(h, slow, false);
}

void *weir_handoff_slow_main(void *handoff)
{
        struct weir_handoff *h = handoff;
        struct epoll_event events[EVENTS];
        bool waiting = false;

        while (!atomic_load(&h->stop)) {
                int n = epoll_wait(h->slow_epoll, events, EVENTS, waiting ? TICK_MS : -1);
                struct weir_slow *over;

                for (int i = 0; i < n; i++)
                        on_ready(h, &events[i]);
                (void)pthread_mutex_lock(&h->slow_lock);
                over = take_overdue(h, weir_time_ns());
                waiting = h->n_slow > 0;
                (void)pthread_mutex_unlock(&h->slow_lock);
                while (over) {
                        struct weir_slow *next = over->next;

                        finish(h, over, true);
                        over = next;
                }
        }
        return NULL;
}

void weir_outrun_note(struct weir_handoff *h, pid_t tid, int fd)
{
        (void)pthread_mutex_lock(&h->slow_lock);
        h->outrun[(size_t)tid % WEIR_ARRAY_SIZE(h->outrun)].tid = tid;
        h->outrun[(size_t)tid % WEIR_ARRAY_SIZE(h->outrun)].fd = fd;
        (void)pthread_mutex_unlock(&h->slow_lock);
}

bool weir_outrun_take(struct weir_handoff *h, pid_t tid, int fd)
{
        size_t i = (size_t)tid % WEIR_ARRAY_SIZE(h->outrun);
        bool found;

        (void)pthread_mutex_lock(&h->slow_lock);
        found = h->outrun[i].tid == tid && h->outrun[i].fd == fd;
        if (found)
                h->outrun[i].tid = 0;
        (void)pthread_mutex_unlock(&h->slow_lock);
        return found;
}
