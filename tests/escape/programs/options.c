/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options and calls that must be refused whoever asks, also root of a user namespace of its own, to whom the kernel would
 * give them. "taken NAME" for each; "refused NAME ERRNO" otherwise.
 */
#include <errno.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IPV6_2292HOPOPTS_ 3
#define IPV6_2292DSTOPTS_ 4
#define IPV6_2292RTHDR_ 5
#define IPV6_2292PKTOPTIONS_ 6

static void tell(const char *name, long result)
{
        if (result >= 0)
                printf("taken %s\n", name);
        else
                printf("refused %s %s\n", name, strerrorname_np(errno));
}

static void option(int family, int level, int name, const char *text, const void *value, socklen_t n)
{
        int fd = socket(family, SOCK_STREAM, 0);

        tell(text, setsockopt(fd, level, name, value, n));
        close(fd);
}

int main(void)
{
        static const unsigned char padding[8] = { 0, 0, 1, 4, 0, 0, 0, 0 }, nops[4] = { 1, 1, 1, 1 }, key[16] = { 1 };
        static const unsigned char route[40] = { 0, 4, 4, 1, 1 };
        struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_DUMMY, .exclude_kernel = 1 };
        const int one = 1;
        int pair[2];

        option(AF_INET, IPPROTO_TCP, TCP_FASTOPEN, "TCP_FASTOPEN", &one, sizeof(one));
        option(AF_INET, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, "TCP_FASTOPEN_CONNECT", &one, sizeof(one));
        option(AF_INET, IPPROTO_TCP, TCP_FASTOPEN_KEY, "TCP_FASTOPEN_KEY", key, sizeof(key));
        option(AF_INET, IPPROTO_IP, IP_OPTIONS, "IP_OPTIONS", nops, sizeof(nops));
        option(AF_INET6, IPPROTO_IPV6, IPV6_RTHDR, "IPV6_RTHDR", route, sizeof(route));
        option(AF_INET6, IPPROTO_IPV6, IPV6_HOPOPTS, "IPV6_HOPOPTS", padding, sizeof(padding));
        option(AF_INET6, IPPROTO_IPV6, IPV6_DSTOPTS, "IPV6_DSTOPTS", padding, sizeof(padding));
        option(AF_INET6, IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, "IPV6_RTHDRDSTOPTS", padding, sizeof(padding));
        /* These are flags of what is received on newer kernels: taken or refused, not for sending. */
        option(AF_INET6, IPPROTO_IPV6, IPV6_2292RTHDR_, "IPV6_2292RTHDR", &one, sizeof(one));
        option(AF_INET6, IPPROTO_IPV6, IPV6_2292HOPOPTS_, "IPV6_2292HOPOPTS", &one, sizeof(one));
        option(AF_INET6, IPPROTO_IPV6, IPV6_2292DSTOPTS_, "IPV6_2292DSTOPTS", &one, sizeof(one));
        option(AF_INET6, IPPROTO_IPV6, IPV6_2292PKTOPTIONS_, "IPV6_2292PKTOPTIONS", NULL, 0);
        tell("add_key", syscall(SYS_add_key, "user", "weir", "x", 1, KEY_SPEC_PROCESS_KEYRING));
        tell("keyctl", syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
        tell("perf_event_open", syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
        tell("userfaultfd", syscall(SYS_userfaultfd, 1));
        /* What answers these is told by the error: the kernel's own, or the filter's. */
        tell("request_key", syscall(SYS_request_key, "user", "weir-none", NULL, 0));
        tell("bpf", syscall(SYS_bpf, 99, NULL, 0));
        tell("io_uring_setup", syscall(SYS_io_uring_setup, 0, NULL));
        tell("io_uring_enter", syscall(SYS_io_uring_enter, -1, 0, 0, 0, NULL, 0));
        tell("io_uring_register", syscall(SYS_io_uring_register, -1, 0, NULL, 0));
        tell("socketpair", socketpair(AF_INET, SOCK_STREAM, 0, pair));
        return 0;
}
