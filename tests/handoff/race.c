/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways out through the handoff, tried many times: one kind each, by threads that change what the supervisor looks at
 * while it looks, and by sockets that were handed over before.
 *
 *     race KIND TRIES ALLOWED ALLOWED-PORT REFUSED-PORT DENIED DENIED-PORT [ALLOWED6 DENIED6]
 *
 * What it prints is for a person; the test counts packets at the denied address. "dead" means a socket of the host's
 * network that was handed over and is connected no more.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __NR_pidfd_open
#define __NR_pidfd_open 434
#endif
#ifndef __NR_pidfd_getfd
#define __NR_pidfd_getfd 438
#endif
#define IPPROTO_MPTCP_ 262

static struct sockaddr_in allowed, refused, denied;
static struct sockaddr_in6 allowed6, denied6;
static bool have6;
static unsigned tries;
static unsigned long connected, failed;

/* What the second thread toggles between, and where. */
static atomic_bool stop;
static union {
        struct sockaddr_in in;
        struct sockaddr_un un;
        struct sockaddr any;
        char bytes[128];
} shared, first, second;
static size_t shared_length;
static atomic_int slot = -1, one = -1, other = -1;

static void *toggle(void *unused)
{
        bool turn = false;

        (void)unused;
        while (!atomic_load(&stop)) {
                turn = !turn;
                if (shared_length)
                        memcpy(&shared, turn ? &first : &second, shared_length);
                if (atomic_load(&slot) >= 0)
                        (void)dup2(turn ? atomic_load(&one) : atomic_load(&other), atomic_load(&slot));
        }
        return NULL;
}

static void with_toggle(void (*step)(void))
{
        pthread_t id;

        atomic_store(&stop, false);
        if (pthread_create(&id, NULL, toggle, NULL))
                exit(2);
        for (unsigned i = 0; i < tries; i++)
                step();
        atomic_store(&stop, true);
        (void)pthread_join(id, NULL);
}

static int tcp(int flags)
{
        return socket(AF_INET, SOCK_STREAM | flags, 0);
}

static void note(int r)
{
        if (r == 0)
                connected++;
        else
                failed++;
}

static int to(int fd, const struct sockaddr_in *sa)
{
        return connect(fd, (const struct sockaddr *)sa, sizeof(*sa));
}

/* A socket of the host's network that was refused: closed, and ready to connect anew. */
static int dead(void)
{
        struct pollfd polled = { .events = POLLOUT };
        int fd = tcp(SOCK_NONBLOCK), error;
        socklen_t length = sizeof(error);

        (void)to(fd, &refused);
        polled.fd = fd;
        (void)poll(&polled, 1, 5000);
        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
        (void)to(fd, &refused);
        (void)poll(&polled, 1, 5000);
        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
        return fd;
}

static int live(void)
{
        int fd = tcp(0);

        if (to(fd, &allowed) < 0) {
                (void)fprintf(stderr, "race: the allowed address cannot be reached: %s\n", strerror(errno));
                exit(3);
        }
        return fd;
}

static void reset(int fd)
{
        const struct linger now = { .l_onoff = 1 };

        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        close(fd);
}

/* A dead one and a fresh one under the numbers that the other thread toggles; what has been connected is of no more
 * use. */
static void renew(void)
{
        int a = dead(), b = tcp(SOCK_NONBLOCK);

        if (atomic_load(&one) < 0) {
                atomic_store(&one, fcntl(a, F_DUPFD, 800));
                atomic_store(&other, fcntl(b, F_DUPFD, 800));
                atomic_store(&slot, fcntl(a, F_DUPFD, 800));
        } else {
                (void)dup2(a, atomic_load(&one));
                (void)dup2(b, atomic_load(&other));
        }
        close(a);
        close(b);
}

static void renew_sometimes(void)
{
        static unsigned steps;

        if (++steps % 32 == 0)
                renew();
}

/* ---- the descriptor changes */
static void step_slot_denied(void)
{
        renew_sometimes();
        note(to(atomic_load(&slot), &denied));
}

static void kind_descriptor(void)
{
        renew();
        with_toggle(step_slot_denied);
}

/* ---- the address changes, sockets are fresh */
static void step_address(void)
{
        int fd = tcp((connected + failed) & 1 ? SOCK_NONBLOCK : 0);

        note(connect(fd, &shared.any, sizeof(shared.in)));
        reset(fd);
}

static void kind_address(void)
{
        first.in = allowed;
        second.in = denied;
        second.in.sin_port = allowed.sin_port;
        shared_length = sizeof(shared.in);
        with_toggle(step_address);
}

/* ---- both */
static void step_slot_shared(void)
{
        renew_sometimes();
        note(connect(atomic_load(&slot), &shared.any, sizeof(shared.in)));
}

static void kind_both(void)
{
        first.in = allowed;
        second.in = denied;
        shared_length = sizeof(shared.in);
        renew();
        with_toggle(step_slot_shared);
}

/* ---- an address of AF_UNIX goes on in the kernel: the family and the descriptor change behind it */
static void step_unix(void)
{
        note(connect(atomic_load(&slot), &shared.any, sizeof(shared.in)));
}

static void unix_and(const struct sockaddr_in *behind)
{
        first.un = (struct sockaddr_un){ .sun_family = AF_UNIX, .sun_path = "/nowhere" };
        memset(&second, 0, sizeof(second));
        second.in = *behind;
        shared_length = sizeof(shared.in);
        atomic_store(&one, socket(AF_UNIX, SOCK_STREAM, 0));
        atomic_store(&other, dead());
        atomic_store(&slot, dup(atomic_load(&one)));
        with_toggle(step_unix);
}

static void kind_unix(void)
{
        unix_and(&denied);
}

static void kind_unix_unspec(void)
{
        const struct sockaddr_in nowhere = { .sin_family = AF_UNSPEC };
        int fd;

        unix_and(&nowhere);
        fd = atomic_load(&other);
        note(to(fd, &denied));
        note(listen(fd, 1));
        note(sendto(fd, "out", 3, MSG_FASTOPEN, (struct sockaddr *)&denied, sizeof(denied)) < 0 ? -1 : 0);
}

/* ---- dead ones, by every call that could start a connection */
static void kind_dead(void)
{
        int fd = dead();

        for (unsigned i = 0; i < tries; i++)
                note(to(fd, &denied));
}

static void kind_fast_open(void)
{
        int fd = dead();

        for (unsigned i = 0; i < tries; i++) {
                char byte = 'x';
                struct iovec iov = { &byte, 1 };
                struct mmsghdr m = { .msg_hdr = { .msg_name = &denied,
                                                  .msg_namelen = sizeof(denied),
                                                  .msg_iov = &iov,
                                                  .msg_iovlen = 1 } };

                switch (i % 4) {
                case 0:
                        note(sendto(fd, &byte, 1, MSG_FASTOPEN, (struct sockaddr *)&denied, sizeof(denied)) < 0 ? -1 :
                                                                                                                  0);
                        break;
                case 1:
                        note(sendmsg(fd, &m.msg_hdr, MSG_FASTOPEN) < 0 ? -1 : 0);
                        break;
                case 2:
                        note(sendmmsg(fd, &m, 1, MSG_FASTOPEN) < 0 ? -1 : 0);
                        break;
                default:
                        note(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &(int){ 1 }, sizeof(int)));
                        note(sendto(fd, &byte, 1, 0, (struct sockaddr *)&denied, sizeof(denied)) < 0 ? -1 : 0);
                }
        }
}

static void step_listen(void)
{
        struct sockaddr_in any = { .sin_family = AF_INET };

        note(bind(atomic_load(&slot), (struct sockaddr *)&any, sizeof(any)));
        note(listen(atomic_load(&slot), 1));
}

static void kind_listen(void)
{
        int listening = 0;
        socklen_t length = sizeof(listening);
        struct sockaddr_in own = { 0 };

        atomic_store(&one, dead());
        atomic_store(&other, socket(AF_UNIX, SOCK_STREAM, 0));
        atomic_store(&slot, dup(atomic_load(&other)));
        with_toggle(step_listen);
        (void)getsockopt(atomic_load(&one), SOL_SOCKET, SO_ACCEPTCONN, &listening, &length);
        length = sizeof(own);
        (void)getsockname(atomic_load(&one), (struct sockaddr *)&own, &length);
        if (listening)
                puts("LISTENS in the host's network");
}

/* ---- live ones again */
static void kind_second(void)
{
        const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
        int fd = live();

        for (unsigned i = 0; i < tries; i++) {
                note(to(fd, &denied));
                if (connect(fd, &nowhere, sizeof(nowhere)) == 0)
                        puts("DISCONNECTED a live socket");
                if (i % 1000 == 999) {
                        reset(fd);
                        fd = live();
                }
        }
        close(fd);
}

static void kind_shutdown(void)
{
        for (unsigned i = 0; i < tries; i++) {
                int fd = live();

                (void)shutdown(fd, SHUT_RDWR);
                note(to(fd, &denied));
                reset(fd);
        }
}

static void pass(int socket_, int fd)
{
        char byte = 0, control[CMSG_SPACE(sizeof(int))] = { 0 };
        struct iovec iov = { &byte, 1 };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
        (void)sendmsg(socket_, &m, 0);
}

static int take(int socket_)
{
        char byte, control[CMSG_SPACE(sizeof(int))];
        struct iovec iov = { &byte, 1 };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        int fd = -1;

        if (recvmsg(socket_, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
                memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
        return fd;
}

/* A child gets a dead one by inheritance and another by message, and connects both. */
static void kind_child(void)
{
        int pair[2], inherited = dead();

        if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
                exit(2);
        if (fork() == 0) {
                for (unsigned i = 0; i < tries; i++) {
                        int fd = take(pair[1]);

                        (void)to(fd, &denied);
                        (void)to(inherited, &denied);
                        close(fd);
                }
                _exit(0);
        }
        for (unsigned i = 0; i < tries; i++)
                pass(pair[0], inherited);
        (void)wait(NULL);
}

/* Over exec: the program again, with a dead socket under a number it is told. */
static void kind_exec(void)
{
        for (unsigned i = 0; i < tries / 100 + 1; i++) {
                int fd = dead(), status;

                if (fork() == 0) {
                        char number[16], address[32], port[16];
                        char program[] = "/proc/self/exe", kind[] = "exec-inner", many[] = "100", zero[] = "0";
                        char *argv[] = { program, kind, many, number, zero, zero, address, port, NULL };

                        (void)snprintf(number, sizeof(number), "%d", fd);
                        (void)inet_ntop(AF_INET, &denied.sin_addr, address, sizeof(address));
                        (void)snprintf(port, sizeof(port), "%u", ntohs(denied.sin_port));
                        (void)execv(program, argv);
                        _exit(1);
                }
                (void)wait(&status);
                close(fd);
        }
}

/* ---- the number is closed and given to another socket while its call waits */
static void *reopen(void *unused)
{
        (void)unused;
        while (!atomic_load(&stop)) {
                int fd = atomic_load(&slot);

                close(fd);
                (void)dup2(atomic_load(&one), fd);
        }
        return NULL;
}

static void kind_reopen(void)
{
        pthread_t id;

        atomic_store(&one, dead());
        atomic_store(&slot, 700);
        if (pthread_create(&id, NULL, reopen, NULL))
                exit(2);
        for (unsigned i = 0; i < tries; i++) {
                int fd = tcp(SOCK_NONBLOCK);

                (void)dup2(fd, 700);
                close(fd);
                note(to(700, i & 1 ? &allowed : &denied));
        }
        atomic_store(&stop, true);
        (void)pthread_join(id, NULL);
}

/* ---- other protocols, other system calls */
static void kind_families(void)
{
        static const struct {
                int family, type, protocol;
        } all[] = { { AF_INET, SOCK_STREAM, IPPROTO_MPTCP_ },
                    { AF_INET, SOCK_STREAM, IPPROTO_SCTP },
                    { AF_INET, SOCK_RAW, IPPROTO_TCP },
                    { AF_PACKET, SOCK_RAW, 0 },
                    { AF_VSOCK, SOCK_STREAM, 0 },
                    { AF_ALG, SOCK_SEQPACKET, 0 },
                    { AF_SMC, SOCK_STREAM, 0 },
                    { AF_INET, SOCK_DGRAM, 0 } };

        for (unsigned i = 0; i < tries; i++) {
                int fd = socket(all[i % 8].family, all[i % 8].type, all[i % 8].protocol);

                if (fd < 0) {
                        failed++;
                        continue;
                }
                (void)to(fd, &denied);
                (void)!write(fd, "out", 3);
                close(fd);
        }
}

static long old_call(long number, long a, long b, long c)
{
        long r = -ENOSYS;

#ifdef __x86_64__
        __asm__ volatile("int $0x80"
                         : "=a"(r)
                         : "a"(number), "b"(a), "c"(b), "d"(c)
                         : "memory", "r8", "r9", "r10", "r11");
#endif
        return r;
}

/* The 32-bit entries: connect, socketcall(SYS_CONNECT), and the x32 number; and io_uring. */
static void kind_abi(void)
{
        void *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        int fd = dead();

        memcpy(low, &denied, sizeof(denied));
        for (unsigned i = 0; i < tries; i++) {
                uint32_t *args = (void *)((char *)low + 64);
                char params[256] = { 0 };

                args[0] = (uint32_t)fd;
                args[1] = (uint32_t)(uintptr_t)low;
                args[2] = sizeof(denied);
                note(old_call(362, fd, (long)low, sizeof(denied)) < 0 ? -1 : 0);
                note(old_call(102, 3, (long)args, 0) < 0 ? -1 : 0);
                note(syscall(0x40000000 | SYS_connect, fd, low, sizeof(denied)) < 0 ? -1 : 0);
                note(syscall(425, 4, params) < 0 ? -1 : 0);
        }
}

/* ---- options of a handed-off socket that would send its packets elsewhere */
static void route6(void)
{
        /* RFC 8754: an SRv6 header with the denied address as the first segment. */
        unsigned char header[40] = { 0, 4, 4, 1, 1 };
        int fd = socket(AF_INET6, SOCK_STREAM, 0);
        static const int names[] = { IPV6_RTHDR, IPV6_HOPOPTS, IPV6_DSTOPTS, IPV6_RTHDRDSTOPTS, 5, 6, 3, 4 };
        char control[CMSG_SPACE(sizeof(header))] = { 0 }, byte = 'x';
        struct iovec iov = { &byte, 1 };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
        };
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);

        memcpy(header + 24, &denied6.sin6_addr, 16);
        note(connect(fd, (struct sockaddr *)&allowed6, sizeof(allowed6)));
        for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
                note(setsockopt(fd, IPPROTO_IPV6, names[i], header, sizeof(header)));
                (void)!write(fd, &byte, 1);
                c->cmsg_level = IPPROTO_IPV6;
                c->cmsg_type = names[i];
                c->cmsg_len = CMSG_LEN(sizeof(header));
                memcpy(CMSG_DATA(c), header, sizeof(header));
                (void)sendmsg(fd, &m, 0);
        }
        reset(fd);
}

static void kind_routing(void)
{
        unsigned char source_route[12] = { 1, 131, 7, 4 }; /* NOP, LSRR by the denied address */

        memcpy(source_route + 4, &denied.sin_addr, 4);
        for (unsigned i = 0; i < tries; i++) {
                int fd = live();

                note(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, source_route, 8));
                note(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
                note(setsockopt(fd, SOL_SOCKET, 62 /* SO_BINDTOIFINDEX */, &(int){ 1 }, sizeof(int)));
                note(setsockopt(fd, SOL_SOCKET, SO_MARK, &(int){ 1 }, sizeof(int)));
                note(sendto(fd, "x", 1, 0, (struct sockaddr *)&denied, sizeof(denied)) < 0 ? -1 : 0);
                reset(fd);
                if (have6)
                        route6();
        }
}

/* ---- namespaces inside */
static void kind_namespace(void)
{
        int old_inside = tcp(0), old_dead = dead(), status;

        if (fork() == 0) {
                if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
                        _exit(1);
                for (unsigned i = 0; i < tries; i++) {
                        int fd = tcp(SOCK_NONBLOCK);

                        (void)to(fd, i & 1 ? &allowed : &denied);
                        (void)to(old_dead, &denied);
                        (void)to(old_inside, &denied);
                        close(fd);
                }
                _exit(0);
        }
        (void)wait(&status);
}

/* ---- the supervisor itself: its listener, its memory, its descriptors */
static void kind_supervisor(void)
{
        struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
        struct sock_fprog program = { .len = 1, .filter = code };

        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program) >= 0)
                puts("LISTENER taken");
        for (unsigned i = 0; i < tries; i++)
                for (pid_t pid = 1; pid < 6; pid++) {
                        int pidfd = (int)syscall(__NR_pidfd_open, pid, 0);

                        if (pid == getpid() || pid == getppid())
                                continue;
                        for (int fd = 0; pidfd >= 0 && fd < 12; fd++)
                                if (syscall(__NR_pidfd_getfd, pidfd, fd, 0) >= 0)
                                        printf("FETCHED descriptor %d of %d\n", fd, pid);
                        if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0)
                                printf("TRACED %d\n", pid);
                        if (pidfd >= 0)
                                close(pidfd);
                }
}

/* ---- signals in mid-call, with everything else */
static void rang(int number)
{
        (void)number;
}

static void kind_signals(void)
{
        struct sigaction action = { .sa_handler = rang };
        struct itimerval fast = { .it_interval = { .tv_usec = 97 }, .it_value = { .tv_usec = 97 } }, none = { 0 };

        (void)sigaction(SIGALRM, &action, NULL);
        (void)setitimer(ITIMER_REAL, &fast, NULL);
        kind_both();
        (void)setitimer(ITIMER_REAL, &none, NULL);
}

static const struct {
        const char *name;
        void (*run)(void);
} kinds[] = {
        { "descriptor", kind_descriptor },
        { "address", kind_address },
        { "both", kind_both },
        { "unix", kind_unix },
        { "unix-unspec", kind_unix_unspec },
        { "dead", kind_dead },
        { "fast-open", kind_fast_open },
        { "listen", kind_listen },
        { "second", kind_second },
        { "shutdown", kind_shutdown },
        { "child", kind_child },
        { "exec", kind_exec },
        { "reopen", kind_reopen },
        { "families", kind_families },
        { "abi", kind_abi },
        { "routing", kind_routing },
        { "namespace", kind_namespace },
        { "supervisor", kind_supervisor },
        { "signals", kind_signals },
};

static struct sockaddr_in endpoint(const char *address, const char *port)
{
        struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };

        (void)inet_pton(AF_INET, address, &sa.sin_addr);
        return sa;
}

int main(int argc, char **argv)
{
        if (argc < 8)
                return 64;
        (void)signal(SIGPIPE, SIG_IGN);
        tries = (unsigned)atoi(argv[2]);
        denied = endpoint(argv[6], argv[7]);
        if (strcmp(argv[1], "exec-inner") == 0) {
                for (unsigned i = 0; i < tries; i++)
                        (void)to(atoi(argv[3]), &denied);
                return 0;
        }
        allowed = endpoint(argv[3], argv[4]);
        refused = endpoint(argv[3], argv[5]);
        have6 = argc == 10;
        if (have6) {
                allowed6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = allowed.sin_port };
                denied6 = allowed6;
                (void)inet_pton(AF_INET6, argv[8], &allowed6.sin6_addr);
                (void)inet_pton(AF_INET6, argv[9], &denied6.sin6_addr);
        }
        for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
                if (strcmp(argv[1], kinds[i].name) == 0) {
                        kinds[i].run();
                        printf("%s: %u tries, %lu calls succeeded, %lu failed\n", argv[1], tries, connected, failed);
                        return 0;
                }
        return 64;
}
