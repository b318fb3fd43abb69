/* SPDX-License-Identifier: Apache-2.0 */
/* The far side: three services in one epoll loop, level-triggered, one buffer's worth a turn. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/strutil.h"
#include "load.h"

#define SERVED_MAX 65536

/* By descriptor: which service it belongs to (0: none), and the bytes a sink has read. */
struct served {
        uint16_t port;
        bool listens;
        uint64_t bytes;
};

static struct served table[SERVED_MAX];
static char buffer[BUFFER_SIZE];

static void watch(int epoll, int fd, uint32_t events)
{
        struct epoll_event event = { .events = events, .data.fd = fd };

        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
                die("epoll_ctl");
}

static void listen_on(int epoll, const char *text, uint16_t port)
{
        struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

        if (fd < 0 || inet_pton(AF_INET, text, &sa.sin_addr) != 1)
                die(text);
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 4096) < 0)
                die("listen");
        table[fd] = (struct served){ .port = port, .listens = true };
        watch(epoll, fd, EPOLLIN);
}

static void take(int epoll, int listener)
{
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;

        if (fd < 0)
                return;
        if (fd >= SERVED_MAX) {
                reset(fd);
                return;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        table[fd] = (struct served){ .port = table[listener].port };
        watch(epoll, fd, table[fd].port == PORT_SOURCE ? EPOLLOUT : EPOLLIN);
}

static void done(int fd)
{
        table[fd].port = 0;
        (void)close(fd);
}

static void work(int fd)
{
        struct served *s = &table[fd];
        ssize_t n = s->port == PORT_SOURCE ? send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL) :
                                             recv(fd, buffer, s->port == PORT_ECHO ? 4096 : sizeof(buffer), 0);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n > 0 && s->port == PORT_ECHO)
                n = send(fd, buffer, (size_t)n, MSG_NOSIGNAL);
        if (n > 0) {
                s->bytes += (uint64_t)n;
                return;
        }
        if (n == 0 && s->port == PORT_SINK)
                (void)!send(fd, &s->bytes, sizeof(s->bytes), MSG_NOSIGNAL);
        done(fd);
}

int serve(const char *text)
{
        static const uint16_t ports[] = { PORT_ECHO, PORT_SINK, PORT_SOURCE };
        struct epoll_event events[256];
        int epoll = epoll_create1(EPOLL_CLOEXEC), n;

        if (epoll < 0)
                die("epoll_create1");
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(ports); i++)
                listen_on(epoll, text, ports[i]);
        while ((n = epoll_wait(epoll, events, WEIR_ARRAY_SIZE(events), -1)) >= 0 || errno == EINTR)
                for (int i = 0; i < n; i++) {
                        if (table[events[i].data.fd].listens)
                                take(epoll, events[i].data.fd);
                        else
                                work(events[i].data.fd);
                }
        die("epoll_wait");
}
