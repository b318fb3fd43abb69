/* SPDX-License-Identifier: Apache-2.0 */
/* Throughput: as many bytes as go, over some streams at once, one way. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "load.h"

#define STREAMS_MAX 64

static char buffer[BUFFER_SIZE];

static uint64_t cpu_ns(void)
{
        struct rusage u;

        if (getrusage(RUSAGE_SELF, &u) < 0)
                die("getrusage");
        return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * WEIR_SEC +
               (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

/* Until @end. Returns what was moved. */
static uint64_t move(int epoll, bool up, uint64_t end)
{
        struct epoll_event events[STREAMS_MAX];
        uint64_t bytes = 0;

        while (weir_time_ns() < end) {
                int n = epoll_wait(epoll, events, STREAMS_MAX, 10);

                for (int i = 0; i < n; i++) {
                        int fd = events[i].data.fd;
                        ssize_t moved = up ? send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL) :
                                             recv(fd, buffer, sizeof(buffer), 0);

                        if (moved == 0 || (moved < 0 && errno != EAGAIN))
                                die("a stream broke");
                        bytes += moved > 0 ? (uint64_t)moved : 0;
                }
        }
        return bytes;
}

/* Whether everything sent arrived is said by the far side; the time until it says so counts. */
static void check_arrival(int *fds, unsigned streams, uint64_t sent)
{
        uint64_t arrived = 0, n;

        for (unsigned i = 0; i < streams; i++)
                if (shutdown(fds[i], SHUT_WR) < 0)
                        die("shutdown");
        for (unsigned i = 0; i < streams; i++) {
                if (fcntl(fds[i], F_SETFL, 0) < 0 || recv(fds[i], &n, sizeof(n), MSG_WAITALL) != sizeof(n))
                        die("the far side did not answer");
                arrived += n;
        }
        if (arrived != sent) {
                errno = EPROTO;
                die("what arrived is not what was sent");
        }
}

void throughput(const struct target *target, bool up, unsigned streams, unsigned ms)
{
        int fds[STREAMS_MAX], epoll = epoll_create1(EPOLL_CLOEXEC);
        uint64_t began, cpu, bytes;

        if (epoll < 0 || streams > STREAMS_MAX)
                die("too many streams");
        for (unsigned i = 0; i < streams; i++) {
                struct epoll_event event = { .events = up ? EPOLLOUT : EPOLLIN };

                fds[i] = event.data.fd = connect_to(target->allowed, up ? PORT_SINK : PORT_SOURCE);
                if (fds[i] < 0 || fcntl(fds[i], F_SETFL, O_NONBLOCK) < 0 ||
                    epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) < 0)
                        die("cannot connect");
        }
        (void)move(epoll, up, 0);
        began = weir_time_ns();
        cpu = cpu_ns();
        bytes = move(epoll, up, began + ms * WEIR_MS);
        if (up)
                check_arrival(fds, streams, bytes);
        (void)printf("{\"bytes\": %llu, \"ns\": %llu, \"cpu_ns\": %llu}\n", (unsigned long long)bytes,
                     (unsigned long long)(weir_time_ns() - began), (unsigned long long)(cpu_ns() - cpu));
        for (unsigned i = 0; i < streams; i++)
                reset(fds[i]);
        (void)close(epoll);
}
