/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The default is to allow: the boundary is the network namespace, and the filter closes what a network namespace does
 * not hold (AF_VSOCK reaches the hypervisor from any of them) and what would become a way out through a socket of the
 * host.
 *
 * The kernel reads int arguments from the low 32 bits of a register, so a comparison that refuses one value must look
 * at those alone (MASKED_EQ); one that refuses everything above or unlike a value may look at all 64, since garbage in
 * the upper half then only refuses more. Only the native ABI passes: in any other the numbers mean other calls, and
 * they get ENOSYS, as on a kernel without it.
 *
 * New user namespaces stay allowed, so that "weir run" works inside "weir run"; filters only ever add up.
 */
#include "capture/seccomp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/gate.h"

#define INT_MASK UINT64_C(0xffffffff)
/* SOCK_TYPE_MASK of the kernel: above it stand SOCK_NONBLOCK and SOCK_CLOEXEC. */
#define TYPE_MASK UINT64_C(0xf)

#ifndef TIOCLINUX
#define TIOCLINUX 0x541C
#endif
#define SYSCALLS(...) ((const int[]){ __VA_ARGS__ }), sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int)

static struct scmp_arg_cmp is(unsigned arg, unsigned value)
{
        return SCMP_CMP(arg, SCMP_CMP_MASKED_EQ, INT_MASK, value);
}

static int refuse_all(scmp_filter_ctx ctx, int error, const int *syscalls, size_t n)
{
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++)
                r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((unsigned)error), syscalls[i], 0);
        return r;
}

static int refuse(scmp_filter_ctx ctx, int error, int syscall, unsigned n, const struct scmp_arg_cmp *args)
{
        return seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO((unsigned)error), syscall, n, args);
}

/* AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK; nothing else, whatever is invented later. */
static int families(scmp_filter_ctx ctx)
{
        const struct scmp_arg_cmp above[] = { SCMP_A0(SCMP_CMP_GT, AF_NETLINK) };
        const struct scmp_arg_cmp not_unix[] = { SCMP_A0(SCMP_CMP_NE, AF_UNIX) };
        int r;

        r = refuse(ctx, EAFNOSUPPORT, SCMP_SYS(socket), 1, above);
        for (unsigned family = 0; family < AF_NETLINK && r == 0; family++) {
                const struct scmp_arg_cmp one[] = { is(0, family) };

                if (family != AF_UNIX && family != AF_INET && family != AF_INET6)
                        r = refuse(ctx, EAFNOSUPPORT, SCMP_SYS(socket), 1, one);
        }
        return r ? r : refuse(ctx, EAFNOSUPPORT, SCMP_SYS(socketpair), 1, not_unix);
}

static bool plain_protocol(unsigned protocol)
{
        return protocol == IPPROTO_IP || protocol == IPPROTO_ICMP || protocol == IPPROTO_TCP ||
               protocol == IPPROTO_UDP || protocol == IPPROTO_ICMPV6;
}

/* Streams and datagrams of TCP, UDP and ICMP echo: no raw sockets, no MPTCP, SCTP, DCCP, UDP-Lite. */
static int internet(scmp_filter_ctx ctx, unsigned family)
{
        const struct scmp_arg_cmp above[] = { is(0, family), SCMP_A2(SCMP_CMP_GT, IPPROTO_ICMPV6) };
        int r;

        r = refuse(ctx, EPROTONOSUPPORT, SCMP_SYS(socket), 2, above);
        for (unsigned type = 0; type <= TYPE_MASK && r == 0; type++) {
                const struct scmp_arg_cmp one[] = { is(0, family), SCMP_A1(SCMP_CMP_MASKED_EQ, TYPE_MASK, type) };

                if (type != SOCK_STREAM && type != SOCK_DGRAM)
                        r = refuse(ctx, EPERM, SCMP_SYS(socket), 2, one);
        }
        for (unsigned protocol = 0; protocol < IPPROTO_ICMPV6 && r == 0; protocol++) {
                const struct scmp_arg_cmp one[] = { is(0, family), is(2, protocol) };

                if (!plain_protocol(protocol))
                        r = refuse(ctx, EPROTONOSUPPORT, SCMP_SYS(socket), 2, one);
        }
        return r;
}

/* Data that leaves with the SYN, before any connect() that could be judged. */
static int fast_open(scmp_filter_ctx ctx)
{
        const struct scmp_arg_cmp third[] = { SCMP_A2(SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, MSG_FASTOPEN) };
        const struct scmp_arg_cmp fourth[] = { SCMP_A3(SCMP_CMP_MASKED_EQ, MSG_FASTOPEN, MSG_FASTOPEN) };
        int r;

        r = refuse(ctx, EOPNOTSUPP, SCMP_SYS(sendto), 1, fourth);
        if (r == 0)
                r = refuse(ctx, EOPNOTSUPP, SCMP_SYS(sendmsg), 1, third);
        return r ? r : refuse(ctx, EOPNOTSUPP, SCMP_SYS(sendmmsg), 1, fourth);
}

/* Options that send a packet to another host than the one the socket is connected to, and fast open. */
static int options(scmp_filter_ctx ctx)
{
        static const struct {
                unsigned level, name;
        } refused[] = {
                { IPPROTO_TCP, TCP_FASTOPEN },         { IPPROTO_TCP, TCP_FASTOPEN_CONNECT },
                { IPPROTO_TCP, TCP_FASTOPEN_KEY },     { IPPROTO_IP, IP_OPTIONS },
                { IPPROTO_IPV6, IPV6_RTHDR },          { IPPROTO_IPV6, IPV6_2292RTHDR },
                { IPPROTO_IPV6, IPV6_2292PKTOPTIONS }, { IPPROTO_IPV6, IPV6_HOPOPTS },
                { IPPROTO_IPV6, IPV6_2292HOPOPTS },    { IPPROTO_IPV6, IPV6_RTHDRDSTOPTS },
                { IPPROTO_IPV6, IPV6_DSTOPTS },        { IPPROTO_IPV6, IPV6_2292DSTOPTS },
        };
        int r = 0;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(refused) && r == 0; i++) {
                const struct scmp_arg_cmp one[] = { is(1, refused[i].level), is(2, refused[i].name) };

                r = refuse(ctx, EPERM, SCMP_SYS(setsockopt), 2, one);
        }
        return r;
}

/* Typing into the caller's terminal. */
static int terminal(scmp_filter_ctx ctx)
{
        const struct scmp_arg_cmp type[] = { is(1, TIOCSTI) }, linux_console[] = { is(1, TIOCLINUX) };
        int r = refuse(ctx, EPERM, SCMP_SYS(ioctl), 1, type);

        return r ? r : refuse(ctx, EPERM, SCMP_SYS(ioctl), 1, linux_console);
}

static int build(scmp_filter_ctx ctx)
{
        int r;

        r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH,
                             WEIR_GATE(FOREIGN_ABI) ? SCMP_ACT_ERRNO(ENOSYS) : SCMP_ACT_ALLOW);
        if (r == 0 && WEIR_GATE(FAMILIES))
                r = families(ctx);
        if (r == 0 && WEIR_GATE(PROTOCOLS))
                r = internet(ctx, AF_INET);
        if (r == 0 && WEIR_GATE(PROTOCOLS))
                r = internet(ctx, AF_INET6);
        if (r == 0 && WEIR_GATE(FAST_OPEN))
                r = fast_open(ctx);
        if (r == 0 && WEIR_GATE(SOCKET_OPTIONS))
                r = options(ctx);
        if (r == 0 && WEIR_GATE(TERMINAL))
                r = terminal(ctx);
        /* io_uring makes and connects sockets without any of the calls above. */
        if (r == 0 && WEIR_GATE(IO_URING))
                r = refuse_all(
                        ctx, ENOSYS,
                        SYSCALLS(SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register)));
        /* Wide kernel interfaces; and keys, for the session keyring is the caller's. */
        if (r == 0 && WEIR_GATE(KERNEL_INTERFACES))
                r = refuse_all(ctx, EPERM,
                               SYSCALLS(SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd),
                                        SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key)));
        return r;
}

int weir_seccomp_build(struct weir_seccomp **ret_filter, struct weir_err *err)
{
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        int r;

        if (!ctx)
                return weir_err_set(err, -ENOMEM, "out of memory");
        r = build(ctx);
        if (r < 0) {
                seccomp_release(ctx);
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot build the seccomp filter: %s", strerror(-r));
        }
        *ret_filter = ctx;
        return 0;
}

int weir_seccomp_load(struct weir_seccomp *filter, struct weir_err *err)
{
        int r = seccomp_load(filter);

        if (r < 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "cannot load the seccomp filter (the kernel needs CONFIG_SECCOMP_FILTER): %s",
                                    strerror(-r));
        return 0;
}

void weir_seccomp_free(struct weir_seccomp *filter)
{
        if (filter)
                seccomp_release(filter);
}
