/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program can see of its sockets, asked one by one; each case prints one line that is the same under Weir and
 * without it, and the test compares the two.
 *
 *     sockets ADDRESS PORT REFUSED-PORT BLACK-HOLE-PORT
 *     sockets ADDRESS PORT crowd THREADS
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in good, refused, hole;
static struct sockaddr_in6 mapped;

static const char *name(int error)
{
        return error ? strerrorname_np(error) : "0";
}

static int to(int fd, const struct sockaddr_in *sa)
{
        return connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) < 0 ? errno : 0;
}

static int tcp(int flags)
{
        return socket(AF_INET, SOCK_STREAM | flags, 0);
}

static const char *echo(int fd)
{
        char byte = 'x', back = 0;
        struct timeval limit = { .tv_sec = 10 };

        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
        return write(fd, &byte, 1) == 1 && read(fd, &back, 1) == 1 && back == byte ? "echoed" : "silent";
}

static int wait_for(int fd)
{
        struct pollfd polled = { .fd = fd, .events = POLLOUT };
        int error = 0;
        socklen_t length = sizeof(error);

        (void)poll(&polled, 1, 10000);
        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
        return error;
}

static void flags(void)
{
        for (int i = 0; i < 4; i++) {
                int fd = tcp((i & 1 ? SOCK_NONBLOCK : 0) | (i & 2 ? SOCK_CLOEXEC : 0)), e = to(fd, &good);

                if (e == EINPROGRESS)
                        e = wait_for(fd);
                printf("flags %d: %s nonblock %d cloexec %d", i, name(e), !!(fcntl(fd, F_GETFL) & O_NONBLOCK),
                       !!(fcntl(fd, F_GETFD) & FD_CLOEXEC));
                printf(" %s\n", echo(fd));
                close(fd);
        }
}

static void options(void)
{
        static const struct {
                int level, name, value;
                const char *text;
        } all[] = {
                { IPPROTO_TCP, TCP_NODELAY, 1, "nodelay" },
                { SOL_SOCKET, SO_KEEPALIVE, 1, "keepalive" },
                { IPPROTO_TCP, TCP_KEEPIDLE, 77, "keepidle" },
                { IPPROTO_TCP, TCP_KEEPINTVL, 33, "keepintvl" },
                { IPPROTO_TCP, TCP_KEEPCNT, 4, "keepcnt" },
                { SOL_SOCKET, SO_SNDBUF, 40000, "sndbuf" },
                { SOL_SOCKET, SO_RCVBUF, 50000, "rcvbuf" },
                { IPPROTO_IP, IP_TOS, 0x10, "tos" },
                { IPPROTO_IP, IP_RECVERR, 1, "recverr" },
                { IPPROTO_TCP, TCP_USER_TIMEOUT, 12345, "user_timeout" },
                { IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384, "notsent_lowat" },
                { SOL_SOCKET, SO_OOBINLINE, 1, "oobinline" },
                { IPPROTO_TCP, TCP_SYNCNT, 3, "syncnt" },
                { SOL_SOCKET, SO_PRIORITY, 2, "priority" },
        };
        const struct timeval timeout = { .tv_sec = 7, .tv_usec = 500000 };
        const struct linger linger = { .l_onoff = 1, .l_linger = 9 };
        struct timeval seen = { 0 };
        struct linger lingers = { 0 };
        char congestion[16] = "cubic"; /* not the sandbox's own default, which cannot be told from none */
        int fd = tcp(0), value;
        socklen_t length;

        for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
                (void)setsockopt(fd, all[i].level, all[i].name, &all[i].value, sizeof(int));
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, 5);
        printf("options: %s", name(to(fd, &good)));
        for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
                length = sizeof(value);
                (void)getsockopt(fd, all[i].level, all[i].name, &value, &length);
                printf(" %s=%d", all[i].text, value);
        }
        length = sizeof(seen);
        (void)getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &seen, &length);
        printf(" rcvtimeo=%ld.%ld", (long)seen.tv_sec, (long)seen.tv_usec);
        (void)getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &seen, &length);
        printf(" sndtimeo=%ld.%ld", (long)seen.tv_sec, (long)seen.tv_usec);
        length = sizeof(lingers);
        (void)getsockopt(fd, SOL_SOCKET, SO_LINGER, &lingers, &length);
        memset(congestion, 0, sizeof(congestion));
        length = sizeof(congestion);
        (void)getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, &length);
        printf(" linger=%d,%d congestion=%.16s %s\n", lingers.l_onoff, lingers.l_linger, congestion, echo(fd));
        close(fd);
}

/* Second and third connect(), after a success, after a refusal, and while one is under way. */
static void again(void)
{
        int fd = tcp(0), a = to(fd, &good), b;

        /* The second one is 0 under Weir, for it may be the first one again that a signal ended; the third is as ever.
         */
        (void)to(fd, &good);
        b = to(fd, &good);
        printf("again: %s %s %s\n", name(a), name(b), echo(fd));
        close(fd);
        fd = tcp(0);
        a = to(fd, &refused);
        b = to(fd, &good);
        printf("after a refusal: %s %s %s\n", name(a), name(b), b ? "" : echo(fd));
        close(fd);
        fd = tcp(SOCK_NONBLOCK);
        a = to(fd, &hole);
        b = to(fd, &hole);
        printf("under way: %s %s\n", name(a), name(b));
        close(fd);
        fd = tcp(SOCK_NONBLOCK);
        a = to(fd, &refused);
        b = a == EINPROGRESS ? wait_for(fd) : a;
        printf("refused later: %s %s", name(a), name(b));
        (void)to(fd, &good);
        a = to(fd, &good);
        printf(" %s\n", a == EINPROGRESS || a == EALREADY || a == 0 || a == EISCONN ? "starts anew" : name(a));
        close(fd);
        fd = tcp(SOCK_NONBLOCK);
        a = to(fd, &good);
        b = wait_for(fd);
        printf("finished: %s %s %s", name(a), name(b), name(to(fd, &good)));
        printf(" %s\n", name(to(fd, &good)));
        close(fd);
}

static void families(void)
{
        int fd = socket(AF_INET6, SOCK_STREAM, 0), domain = 0;
        int e = connect(fd, (struct sockaddr *)&mapped, sizeof(mapped)) < 0 ? errno : 0;
        struct sockaddr_storage peer = { 0 };
        socklen_t length = sizeof(domain);

        (void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
        length = sizeof(peer);
        (void)getpeername(fd, (struct sockaddr *)&peer, &length);
        printf("mapped: %s domain %d same peer %d %s\n", name(e), domain,
               memcmp(&((struct sockaddr_in6 *)&peer)->sin6_addr, &mapped.sin6_addr, 16) == 0, echo(fd));
        close(fd);
        fd = socket(AF_INET6, SOCK_STREAM, 0);
        printf("wrong family: %s\n", name(to(fd, &good)));
        close(fd);
        fd = tcp(0);
        printf("short address: %s", name(connect(fd, (struct sockaddr *)&good, 7) < 0 ? errno : 0));
        printf(" bad pointer: %s", name(connect(fd, (struct sockaddr *)8, sizeof(good)) < 0 ? errno : 0));
        printf(" no socket: %s", name(to(0, &good)));
        printf(" no descriptor: %s\n", name(to(999, &good)));
        close(fd);
}

/* Watched before it connects, as nginx does. */
static void watched(void)
{
        int set = epoll_create1(EPOLL_CLOEXEC), fd = tcp(SOCK_NONBLOCK), n;
        struct epoll_event event = { .events = EPOLLOUT | EPOLLIN | EPOLLET, .data.u64 = 0x1122334455667788 },
                           got = { 0 };

        (void)epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
        (void)epoll_wait(set, &got, 1, 0); /* an unconnected socket hangs up */
        (void)to(fd, &good);
        do {
                got.events = 0;
                n = epoll_wait(set, &got, 1, 10000);
        } while (n == 1 && !(got.events & EPOLLOUT));
        printf("watched: %d data %d %s", n, got.data.u64 == event.data.u64, name(wait_for(fd)));
        printf(" %s", echo(fd));
        n = epoll_wait(set, &got, 1, 10000);
        printf(" again %d data %d delete %d\n", n, got.data.u64 == event.data.u64,
               epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
        close(fd);
        close(set);
        /* The set is made, then inherited by a child that uses it. */
        set = epoll_create1(0);
        fflush(stdout);
        if (fork() == 0) {
                fd = tcp(SOCK_NONBLOCK);
                event.events = EPOLLOUT;
                (void)epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
                (void)epoll_wait(set, &got, 1, 0);
                (void)to(fd, &good);
                (void)wait_for(fd);
                n = epoll_wait(set, &got, 1, 10000);
                printf("watched by a child: %d data %d events %x\n", n, got.data.u64 == event.data.u64, got.events);
                fflush(stdout);
                _exit(0);
        }
        (void)wait(NULL);
        close(set);
}

static volatile sig_atomic_t rang;

static void ring(int number)
{
        (void)number;
        rang++;
}

/* Restarts the call twice, then interrupts it. */
static void ring_thrice(int number)
{
        const struct sigaction action = { .sa_handler = ring };

        (void)number;
        if (++rang == 3)
                (void)sigaction(SIGALRM, &action, NULL);
}

static void alarm_in(int ms, int restart)
{
        struct sigaction action = { .sa_handler = restart ? ring_thrice : ring, .sa_flags = restart ? SA_RESTART : 0 };
        struct itimerval when = { .it_value = { .tv_usec = ms * 1000 } };

        if (restart)
                when.it_interval = when.it_value;

        (void)sigaction(SIGALRM, &action, NULL);
        (void)setitimer(ITIMER_REAL, &when, NULL);
}

static void signals(void)
{
        struct timeval limit = { .tv_usec = 300000 };
        int fd = tcp(0), e;

        alarm_in(50, 0);
        e = to(fd, &hole);
        printf("interrupted: %s rang %d\n", name(e), (int)rang);
        close(fd);
        fd = tcp(0);
        alarm_in(50, 1);
        e = to(fd, &hole);
        alarm_in(0, 0);
        printf("restarted: %s rang often %d\n", name(e), rang >= 4);
        close(fd);
        fd = tcp(0);
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        printf("send timeout: %s", name(to(fd, &hole)));
        printf(" %s\n", name(to(fd, &hole)));
        close(fd);
}

/* Blocking connects under a storm of signals that restart the call. */
static void storm(void)
{
        struct sigaction action = { .sa_handler = ring, .sa_flags = SA_RESTART };
        struct itimerval fast = { .it_interval = { .tv_usec = 211 }, .it_value = { .tv_usec = 211 } }, none = { 0 };
        int bad = 0, first = 0;

        (void)sigaction(SIGALRM, &action, NULL);
        (void)setitimer(ITIMER_REAL, &fast, NULL);
        for (int i = 0; i < 1000; i++) {
                int fd = tcp(0), e = to(fd, &good);
                char byte = 'y';

                if (!e && (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1))
                        e = errno ? errno : EIO;
                if (e)
                        first = e;
                bad += e != 0;
                close(fd);
        }
        (void)setitimer(ITIMER_REAL, &none, NULL);
        printf("storm: %d of 1000 failed %s\n", bad, name(first));
}

static void *thread(void *argument)
{
        int *bad = argument;

        for (int i = 0; i < 50; i++) {
                int fd = tcp(0);

                if (to(fd, &good) || strcmp(echo(fd), "echoed") != 0)
                        (*bad)++;
                close(fd);
        }
        return NULL;
}

static void threads(void)
{
        pthread_t ids[8];
        int bad[8] = { 0 }, sum = 0, status;

        for (int i = 0; i < 8; i++)
                (void)pthread_create(&ids[i], NULL, thread, &bad[i]);
        for (int i = 0; i < 8; i++) {
                (void)pthread_join(ids[i], NULL);
                sum += bad[i];
        }
        printf("threads: %d failed\n", sum);
        fflush(stdout);
        if (fork() == 0) {
                (void)thread(&sum);
                _exit(sum);
        }
        (void)wait(&status);
        printf("child: %d failed\n", WEXITSTATUS(status));
}

static void servers(void)
{
        struct sockaddr_in own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int listener = tcp(0), fd = tcp(0), e;
        socklen_t length = sizeof(own);

        e = bind(listener, (struct sockaddr *)&own, sizeof(own)) < 0 ? errno : 0;
        printf("server: bind %s", name(e));
        printf(" listen %s", name(listen(listener, 5) < 0 ? errno : 0));
        (void)getsockname(listener, (struct sockaddr *)&own, &length);
        printf(" connect %s", name(to(fd, &own)));
        printf(" accept %d\n", accept(listener, NULL, NULL) >= 0);
        close(fd);
        close(listener);
        own.sin_port = htons(80);
        fd = tcp(0);
        printf("port 80: %s\n", name(bind(fd, (struct sockaddr *)&own, sizeof(own)) < 0 ? errno : 0));
        close(fd);
        /* A bound socket, which goes through the relay. */
        own = (struct sockaddr_in){ .sin_family = AF_INET };
        fd = tcp(0);
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
        e = bind(fd, (struct sockaddr *)&own, sizeof(own)) < 0 ? errno : 0;
        printf("bound: %s", name(e));
        printf(" %s", name(to(fd, &good)));
        printf(" %s\n", echo(fd));
        close(fd);
}

static atomic_int crowd_failed;
static pthread_barrier_t crowd_gate;

static void *one_of_many(void *unused)
{
        int fd;

        (void)unused;
        (void)pthread_barrier_wait(&crowd_gate);
        fd = tcp(0);
        if (fd < 0 || to(fd, &good))
                atomic_fetch_add(&crowd_failed, 1);
        close(fd);
        return NULL;
}

/* Many threads, all alive before the first connects. */
static int crowd(unsigned n)
{
        pthread_t *ids = calloc(n, sizeof(*ids));
        pthread_attr_t attr;

        (void)pthread_attr_init(&attr);
        (void)pthread_attr_setstacksize(&attr, 65536);
        (void)pthread_barrier_init(&crowd_gate, NULL, n);
        for (unsigned i = 0; ids && i < n; i++)
                if (pthread_create(&ids[i], &attr, one_of_many, NULL))
                        return 1;
        for (unsigned i = 0; ids && i < n; i++)
                (void)pthread_join(ids[i], NULL);
        printf("%u threads: %d failed\n", n, atomic_load(&crowd_failed));
        return ids ? 0 : 1;
}

int main(int argc, char **argv)
{
        if (argc != 5)
                return 64;
        good = refused = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2])) };
        (void)inet_pton(AF_INET, argv[1], &good.sin_addr);
        refused.sin_addr = good.sin_addr;
        refused.sin_port = htons((uint16_t)atoi(argv[3]));
        hole = good;
        hole.sin_port = htons((uint16_t)atoi(argv[4]));
        if (strcmp(argv[3], "crowd") == 0)
                return crowd((unsigned)atoi(argv[4]));
        mapped = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = good.sin_port };
        mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
        memcpy(mapped.sin6_addr.s6_addr + 12, &good.sin_addr, 4);
        flags();
        options();
        again();
        families();
        watched();
        signals();
        storm();
        threads();
        servers();
        return 0;
}
