/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter's program, run here as the kernel runs it: every family, type and protocol of socket(2) against what must
 * hold, every refused option and request, each with rubbish in the half of the register that the kernel does not read.
 */
#include "help.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "capture/seccomp.h"

#define ALLOWED 0
#define RUBBISH UINT64_C(0xdeadbeef00000000)
#define X32 0x40000000

static struct sock_filter program[4096];
static size_t n_instructions;

static int load_program(void **state)
{
        weir_auto(seccomp) struct weir_seccomp *filter = NULL;
        int fd = memfd_create("filter", MFD_CLOEXEC);
        struct weir_err err = { 0 };
        ssize_t n;

        (void)state;
        assert_int_equal(weir_seccomp_build(&filter, &err), 0);
        assert_int_equal(seccomp_export_bpf(filter, fd), 0);
        n = pread(fd, program, sizeof(program), 0);
        assert_true(n > 0 && (size_t)n < sizeof(program));
        n_instructions = (size_t)n / sizeof(program[0]);
        (void)close(fd);
        return 0;
}

static uint32_t load_word(const struct seccomp_data *data, uint32_t offset)
{
        uint32_t word;

        assert_true(offset % 4 == 0 && offset + 4 <= sizeof(*data));
        memcpy(&word, (const char *)data + offset, 4);
        return word;
}

static uint32_t next_of_jump(const struct sock_filter *i, uint32_t a)
{
        switch (BPF_OP(i->code)) {
        case BPF_JA:
                return i->k;
        case BPF_JEQ:
                return a == i->k ? i->jt : i->jf;
        case BPF_JGT:
                return a > i->k ? i->jt : i->jf;
        case BPF_JGE:
                return a >= i->k ? i->jt : i->jf;
        case BPF_JSET:
                return a & i->k ? i->jt : i->jf;
        default:
                fail_msg("a jump that is not known: %x", i->code);
                return 0;
        }
}

/* Classic BPF, as far as libseccomp uses it. */
static uint32_t run(const struct seccomp_data *data)
{
        uint32_t a = 0, memory[BPF_MEMWORDS] = { 0 };

        for (size_t pc = 0; pc < n_instructions; pc++) {
                const struct sock_filter *i = &program[pc];

                if (BPF_CLASS(i->code) == BPF_JMP)
                        pc += next_of_jump(i, a);
                else if (i->code == (BPF_LD | BPF_W | BPF_ABS))
                        a = load_word(data, i->k);
                else if (i->code == (BPF_ALU | BPF_AND | BPF_K))
                        a &= i->k;
                else if (i->code == BPF_ST)
                        memory[i->k % BPF_MEMWORDS] = a;
                else if (i->code == (BPF_LD | BPF_MEM))
                        a = memory[i->k % BPF_MEMWORDS];
                else if (i->code == (BPF_RET | BPF_K))
                        return i->k;
                else
                        fail_msg("an instruction that is not known: %x", i->code);
        }
        fail_msg("the program has no end");
        return 0;
}

/* 0 if the call is made, else the errno it gets. */
static int judge(uint32_t arch, int nr, const uint64_t args[6])
{
        struct seccomp_data data = { .nr = nr, .arch = arch };
        uint32_t verdict;

        for (int i = 0; i < 6; i++)
                data.args[i] = args[i];
        verdict = run(&data);
        if (verdict == SECCOMP_RET_ALLOW)
                return ALLOWED;
        assert_int_equal(verdict & SECCOMP_RET_ACTION_FULL, SECCOMP_RET_ERRNO);
        return (int)(verdict & SECCOMP_RET_DATA);
}

static uint32_t native(void)
{
        return seccomp_arch_native();
}

#define JUDGE(nr, ...) judge(native(), nr, (const uint64_t[6]){ __VA_ARGS__ })

static bool may_have(unsigned family, unsigned type, unsigned protocol)
{
        if (family == AF_UNIX || family == AF_NETLINK)
                return true;
        if (family != AF_INET && family != AF_INET6)
                return false;
        if ((type & 0xf) != SOCK_STREAM && (type & 0xf) != SOCK_DGRAM)
                return false;
        return protocol == IPPROTO_IP || protocol == IPPROTO_ICMP || protocol == IPPROTO_TCP ||
               protocol == IPPROTO_UDP || protocol == IPPROTO_ICMPV6;
}

/* Every family there is and some that are not, every type with and without its flags, protocols below and above 255. */
static void sockets_of_all_kinds(void **state)
{
        static const unsigned flags[] = { 0, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_CLOEXEC | SOCK_NONBLOCK, 0x7ffffff0 };
        unsigned allowed = 0;

        (void)state;
        for (unsigned family = 0; family < 64; family++)
                for (unsigned type = 0; type < 16; type++)
                        for (unsigned protocol = 0; protocol < 300; protocol++) {
                                unsigned with = type | flags[(family + protocol) % WEIR_ARRAY_SIZE(flags)];
                                bool may = may_have(family, type, protocol);
                                int r = JUDGE(SYS_socket, family, with, protocol);

                                if ((r == ALLOWED) != may)
                                        fail_msg("socket(%u, %#x, %u) is %d", family, with, protocol, r);
                                allowed += may;
                        }
        assert_int_equal(allowed, 2 * 16 * 300 + 2 * 2 * 5);
        assert_int_equal(JUDGE(SYS_socket, AF_VSOCK, SOCK_STREAM, 0), EAFNOSUPPORT);
        assert_int_equal(JUDGE(SYS_socket, AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM);
        assert_int_equal(JUDGE(SYS_socket, AF_INET, SOCK_STREAM, 262), EPROTONOSUPPORT);
}

/* The kernel reads 32 bits of each argument: what stands above them must neither open nor, for the usual, matter. */
static void rubbish_above_an_argument_opens_nothing(void **state)
{
        (void)state;
        for (uint64_t family = 0; family < 64; family++)
                for (uint64_t type = 0; type < 16; type++)
                        for (uint64_t protocol = 0; protocol < 300; protocol++) {
                                if (may_have((unsigned)family, (unsigned)type, (unsigned)protocol))
                                        continue;
                                for (unsigned which = 1; which < 8; which++) {
                                        uint64_t a = family | (which & 1 ? RUBBISH : 0);
                                        uint64_t b = type | (which & 2 ? RUBBISH : 0);
                                        uint64_t c = protocol | (which & 4 ? RUBBISH : 0);

                                        if (JUDGE(SYS_socket, a, b, c) == ALLOWED)
                                                fail_msg("socket(%#lx, %#lx, %#lx) is allowed", (unsigned long)a,
                                                         (unsigned long)b, (unsigned long)c);
                                }
                        }
        /* A protocol of -1 or with the sign bit is no protocol. */
        assert_int_not_equal(JUDGE(SYS_socket, AF_INET, SOCK_STREAM, UINT64_MAX), ALLOWED);
        assert_int_not_equal(JUDGE(SYS_socket, UINT64_MAX, SOCK_STREAM, 0), ALLOWED);
        assert_int_not_equal(JUDGE(SYS_socket, AF_VSOCK | RUBBISH, SOCK_STREAM, 0), ALLOWED);
}

static void pairs_are_of_unix_only(void **state)
{
        (void)state;
        for (unsigned family = 0; family < 64; family++)
                assert_int_equal(JUDGE(SYS_socketpair, family, SOCK_STREAM, 0),
                                 family == AF_UNIX ? ALLOWED : EAFNOSUPPORT);
        assert_int_not_equal(JUDGE(SYS_socketpair, AF_TIPC | RUBBISH, SOCK_STREAM, 0), ALLOWED);
}

static void options_that_lead_elsewhere(void **state)
{
        static const struct {
                unsigned level, name;
                bool may;
        } options[] = {
                { IPPROTO_TCP, TCP_FASTOPEN, false },
                { IPPROTO_TCP, TCP_FASTOPEN_CONNECT, false },
                { IPPROTO_TCP, TCP_FASTOPEN_KEY, false },
                { IPPROTO_IP, IP_OPTIONS, false },
                { IPPROTO_IPV6, IPV6_RTHDR, false },
                { IPPROTO_IPV6, IPV6_2292RTHDR, false },
                { IPPROTO_IPV6, IPV6_2292PKTOPTIONS, false },
                { IPPROTO_IPV6, IPV6_HOPOPTS, false },
                { IPPROTO_IPV6, IPV6_2292HOPOPTS, false },
                { IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, false },
                { IPPROTO_IPV6, IPV6_DSTOPTS, false },
                { IPPROTO_IPV6, IPV6_2292DSTOPTS, false },
                { IPPROTO_TCP, TCP_NODELAY, true },
                { IPPROTO_TCP, TCP_KEEPIDLE, true },
                { IPPROTO_IP, IP_TOS, true },
                { IPPROTO_IPV6, IPV6_V6ONLY, true },
                { SOL_SOCKET, SO_REUSEADDR, true },
                { SOL_SOCKET, SO_LINGER, true },
        };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(options); i++) {
                const uint64_t level = options[i].level, name = options[i].name;

                assert_int_equal(JUDGE(SYS_setsockopt, 3, level, name), options[i].may ? ALLOWED : EPERM);
                assert_int_equal(JUDGE(SYS_setsockopt, 3, level | RUBBISH, name | RUBBISH),
                                 options[i].may ? ALLOWED : EPERM);
                /* To read one is harmless. */
                assert_int_equal(JUDGE(SYS_getsockopt, 3, level, name), ALLOWED);
        }
}

static void no_data_leaves_with_the_syn(void **state)
{
        const uint64_t flags[] = { MSG_FASTOPEN, MSG_FASTOPEN | MSG_NOSIGNAL, UINT32_MAX, MSG_FASTOPEN | RUBBISH };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(flags); i++) {
                assert_int_equal(JUDGE(SYS_sendto, 3, 0, 0, flags[i]), EOPNOTSUPP);
                assert_int_equal(JUDGE(SYS_sendmsg, 3, 0, flags[i]), EOPNOTSUPP);
                assert_int_equal(JUDGE(SYS_sendmmsg, 3, 0, 1, flags[i]), EOPNOTSUPP);
        }
        assert_int_equal(JUDGE(SYS_sendto, 3, 0, 0, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_MORE), ALLOWED);
        assert_int_equal(JUDGE(SYS_sendmsg, 3, 0, MSG_NOSIGNAL), ALLOWED);
        assert_int_equal(JUDGE(SYS_sendmmsg, 3, 0, 1, MSG_NOSIGNAL), ALLOWED);
        /* The flag's bit elsewhere means something else. */
        assert_int_equal(JUDGE(SYS_sendto, 3, MSG_FASTOPEN, MSG_FASTOPEN, 0), ALLOWED);
}

static void nobody_types_into_the_terminal(void **state)
{
        (void)state;
        assert_int_equal(JUDGE(SYS_ioctl, 0, TIOCSTI), EPERM);
        assert_int_equal(JUDGE(SYS_ioctl, 0, TIOCSTI | RUBBISH), EPERM);
        assert_int_equal(JUDGE(SYS_ioctl, 0, 0x541c), EPERM);
        assert_int_equal(JUDGE(SYS_ioctl, 0, 0x541c | RUBBISH), EPERM);
        assert_int_equal(JUDGE(SYS_ioctl, 0, TIOCGWINSZ), ALLOWED);
        assert_int_equal(JUDGE(SYS_ioctl, 0, FIONREAD), ALLOWED);
        assert_int_equal(JUDGE(SYS_ioctl, TIOCSTI, TIOCGWINSZ), ALLOWED);
}

static void kernel_interfaces(void **state)
{
        static const struct {
                int nr, error;
        } calls[] = {
                { SYS_io_uring_setup, ENOSYS },
                { SYS_io_uring_enter, ENOSYS },
                { SYS_io_uring_register, ENOSYS },
                { SYS_bpf, EPERM },
                { SYS_perf_event_open, EPERM },
                { SYS_userfaultfd, EPERM },
                { SYS_keyctl, EPERM },
                { SYS_add_key, EPERM },
                { SYS_request_key, EPERM },
        };
        static const int usual[] = { SYS_read,    SYS_write, SYS_openat,  SYS_execve, SYS_clone,
                                     SYS_unshare, SYS_mount, SYS_connect, SYS_bind,   SYS_recvmsg };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(calls); i++)
                assert_int_equal(JUDGE(calls[i].nr, 0), calls[i].error);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(usual); i++)
                assert_int_equal(JUDGE(usual[i], 0), ALLOWED);
}

/* In another ABI the numbers mean other calls: none of them is made. */
static void other_abis_do_not_exist(void **state)
{
        static const uint32_t arches[] = { AUDIT_ARCH_I386, AUDIT_ARCH_ARM, AUDIT_ARCH_AARCH64, AUDIT_ARCH_X86_64 };
        const uint64_t args[6] = { 0 };

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(arches); i++)
                for (int nr = 0; nr < 600 && arches[i] != native(); nr++)
                        assert_int_equal(judge(arches[i], nr, args), ENOSYS);
        if (native() == AUDIT_ARCH_X86_64)
                for (int nr = 0; nr < 600; nr++)
                        assert_int_equal(judge(native(), nr | X32, args), ENOSYS);
}

/* And the kernel agrees. */
static void load_in_child(const char *folder)
{
        weir_auto(seccomp) struct weir_seccomp *filter = NULL;
        struct weir_err err = { 0 };

        (void)folder;
        assert_int_equal(weir_seccomp_build(&filter, &err), 0);
        assert_int_equal(weir_seccomp_load(filter, &err), 0);
        assert_int_equal(socket(AF_VSOCK, SOCK_STREAM, 0), -1);
        assert_int_equal(errno, EAFNOSUPPORT);
        assert_int_equal(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), -1);
        assert_int_equal(errno, EPERM);
        assert_true(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0);
        assert_true(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0);
        assert_int_equal(syscall(SYS_io_uring_setup, 1, NULL), -1);
        assert_int_equal(errno, ENOSYS);
}

static void the_kernel_says_the_same(void **state)
{
        (void)state;
        in_child(load_in_child, NULL);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(sockets_of_all_kinds),
                cmocka_unit_test(rubbish_above_an_argument_opens_nothing),
                cmocka_unit_test(pairs_are_of_unix_only),
                cmocka_unit_test(options_that_lead_elsewhere),
                cmocka_unit_test(no_data_leaves_with_the_syn),
                cmocka_unit_test(nobody_types_into_the_terminal),
                cmocka_unit_test(kernel_interfaces),
                cmocka_unit_test(other_abis_do_not_exist),
                cmocka_unit_test(the_kernel_says_the_same),
        };

        return cmocka_run_group_tests_name("seccomp", tests, load_program, NULL);
}
