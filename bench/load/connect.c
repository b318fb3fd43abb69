/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: how fast, how many at once, what a refusal looks like, what an idle one costs the others. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "load.h"

#define SAMPLES_MAX 200000
#define PARALLEL_MAX 256

static uint64_t connect_ns[SAMPLES_MAX], first_ns[SAMPLES_MAX];

void pingpong(const struct target *target, unsigned count)
{
        int fd = connect_to(target->allowed, PORT_ECHO), on = 1;
        size_t n = 0;

        if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 || exchange(fd) < 0)
                die("cannot connect");
        for (; n < count && n < SAMPLES_MAX; n++) {
                uint64_t began = weir_time_ns();

                if (exchange(fd) < 0)
                        die("no echo");
                first_ns[n] = weir_time_ns() - began;
        }
        reset(fd);
        sort(first_ns, n);
        (void)printf("{\"median_ns\": %llu, \"p99_ns\": %llu}\n", (unsigned long long)percentile(first_ns, n, 50),
                     (unsigned long long)percentile(first_ns, n, 99));
}

/* One after another. Returns how many. */
static size_t sequential(const struct target *target, uint64_t end)
{
        size_t n = 0;

        for (uint64_t now = weir_time_ns(); now < end && n < SAMPLES_MAX; n++) {
                uint64_t began = now;
                int fd = connect_to(target->allowed, PORT_ECHO);

                if (fd < 0)
                        die("cannot connect");
                connect_ns[n] = weir_time_ns() - began;
                if (exchange(fd) < 0)
                        die("no echo");
                first_ns[n] = weir_time_ns() - began;
                reset(fd);
                now = weir_time_ns();
        }
        return n;
}

struct attempt {
        uint64_t began;
        bool connected;
};

static void begin(int epoll, const struct target *target, struct attempt *attempts)
{
        const struct sockaddr_in sa = { .sin_family = AF_INET,
                                        .sin_port = htons(PORT_ECHO),
                                        .sin_addr = target->allowed };
        uint64_t began = weir_time_ns();
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        struct epoll_event event = { .events = EPOLLOUT | EPOLLET | EPOLLIN, .data.fd = fd };

        if (fd < 0 || fd >= PARALLEL_MAX)
                die("socket");
        if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 && errno != EINPROGRESS)
                die("cannot connect");
        attempts[fd] = (struct attempt){ .began = began };
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
                die("epoll_ctl");
}

/* True once the byte is back. */
static bool go_on(int fd, uint32_t events, struct attempt *attempt, size_t n)
{
        char byte = 'x';

        if (!attempt->connected && (events & EPOLLOUT)) {
                attempt->connected = true;
                connect_ns[n] = weir_time_ns() - attempt->began;
                if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
                        die("send");
                return false;
        }
        if (!(events & EPOLLIN))
                return false;
        if (recv(fd, &byte, 1, 0) != 1)
                die("no echo");
        first_ns[n] = weir_time_ns() - attempt->began;
        return true;
}

static size_t at_once(const struct target *target, unsigned parallel, uint64_t end)
{
        static struct attempt attempts[PARALLEL_MAX];
        struct epoll_event events[PARALLEL_MAX];
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        unsigned open = parallel;
        size_t n = 0;

        for (unsigned i = 0; i < parallel; i++)
                begin(epoll, target, attempts);
        while (open > 0) {
                int got = epoll_wait(epoll, events, PARALLEL_MAX, -1);

                for (int i = 0; i < got && n < SAMPLES_MAX; i++) {
                        int fd = events[i].data.fd;

                        if (!go_on(fd, events[i].events, &attempts[fd], n))
                                continue;
                        n++;
                        reset(fd);
                        if (weir_time_ns() < end && n + parallel < SAMPLES_MAX)
                                begin(epoll, target, attempts);
                        else
                                open--;
                }
        }
        (void)close(epoll);
        return n;
}

void connects(const struct target *target, unsigned parallel, unsigned ms)
{
        uint64_t began = weir_time_ns(), end = began + ms * WEIR_MS, took;
        size_t n = parallel <= 1 ? sequential(target, end) : at_once(target, parallel, end);

        took = weir_time_ns() - began;
        sort(connect_ns, n);
        sort(first_ns, n);
        (void)printf("{\"n\": %zu, \"ns\": %llu, \"connect_ns\": %llu, \"connect_p99_ns\": %llu, \"first_ns\": %llu, "
                     "\"first_p99_ns\": %llu}\n",
                     n, (unsigned long long)took, (unsigned long long)percentile(connect_ns, n, 50),
                     (unsigned long long)percentile(connect_ns, n, 99), (unsigned long long)percentile(first_ns, n, 50),
                     (unsigned long long)percentile(first_ns, n, 99));
}

/* From socket() until the client knows; @how: which call said so. */
static uint64_t one_refusal(struct in_addr addr, uint16_t port, const char **ret_how)
{
        uint64_t began = weir_time_ns();
        int fd = connect_to(addr, port), error = errno;
        char byte;
        ssize_t n;

        if (fd < 0) {
                *ret_how = error == EPERM ? "connect: EPERM" : error == ECONNREFUSED ? "connect: refused" : "connect";
                return weir_time_ns() - began;
        }
        n = recv(fd, &byte, 1, 0);
        *ret_how = n < 0 && errno == ECONNRESET ? "reset" : n == 0 ? "closed" : "not refused";
        began = weir_time_ns() - began;
        reset(fd);
        return began;
}

void refused(const struct target *target, bool closed, unsigned count)
{
        const char *how = "";
        size_t n = 0;

        for (; n < count && n < SAMPLES_MAX; n++) {
                first_ns[n] = closed ? one_refusal(target->allowed, PORT_CLOSED, &how) :
                                       one_refusal(target->denied, PORT_ECHO, &how);
                (void)usleep(1000);
        }
        sort(first_ns, n);
        (void)printf("{\"median_ns\": %llu, \"p99_ns\": %llu, \"how\": \"%s\"}\n",
                     (unsigned long long)percentile(first_ns, n, 50), (unsigned long long)percentile(first_ns, n, 99),
                     how);
}

/* Opens @count, each used once, and holds them until the next line comes. */
void idle(const struct target *target, unsigned count)
{
        static int fds[CONNECTIONS_MAX];
        char line[16];

        if (count > CONNECTIONS_MAX)
                count = CONNECTIONS_MAX;
        for (unsigned i = 0; i < count; i++) {
                fds[i] = connect_to(target->allowed, PORT_ECHO);
                if (fds[i] < 0 || exchange(fds[i]) < 0)
                        die("cannot connect");
        }
        (void)printf("{\"open\": %u}\n", count);
        (void)fflush(stdout);
        (void)!fgets(line, sizeof(line), stdin);
        for (unsigned i = 0; i < count; i++)
                reset(fds[i]);
        (void)printf("{\"open\": 0}\n");
}
