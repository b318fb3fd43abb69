/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox's side of the handoff: the filter that notifies.
 *
 * Theory of operation
 *
 * It stands beside the filter that is always there (seccomp.c), whose refusals win. It notifies what makes a socket
 * connect, bind or listen; the making of epoll sets; and the setting of options that few programs set, which goes on
 * and is only noted. And it refuses what would send a handed-off socket's packets elsewhere: another interface, another
 * source, a flow label with options. Landlock does not stop these, nor AF_UNSPEC, nor fast open: this part of the
 * filter and of the other one is boundary, not speed.
 *
 * The listener belongs to who loads the filter. It is sent to the supervisor and closed before the command exists; no
 * second listener can be had below it (EBUSY), so a workload cannot take its place.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/in6.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "capture/handoff_internal.h"
#include "capture/landlock.h"

#define INSTRUCTIONS_MAX 1024
#define INT_MASK UINT64_C(0xffffffff)

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif
#ifndef IPV6_FLOWLABEL_MGR
#define IPV6_FLOWLABEL_MGR 32
#endif

static int option_rule(scmp_filter_ctx ctx, uint32_t action, int level, int name)
{
        return seccomp_rule_add(ctx, action, SCMP_SYS(setsockopt), 2,
                                SCMP_A1(SCMP_CMP_MASKED_EQ, INT_MASK, (unsigned)level),
                                SCMP_A2(SCMP_CMP_MASKED_EQ, INT_MASK, (unsigned)name));
}

static int notified_calls(scmp_filter_ctx ctx)
{
        static const int calls[] = { SCMP_SYS(connect), SCMP_SYS(listen), SCMP_SYS(bind), SCMP_SYS(epoll_create),
                                     SCMP_SYS(epoll_create1) };
        int r = 0;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(calls) && r == 0; i++)
                r = seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, calls[i], 0);
        return r;
}

static int notified_options(scmp_filter_ctx ctx)
{
        int r = 0;

        for (size_t i = 0; i < weir_socket_options_n && r == 0; i++)
                if (weir_socket_options[i].kind == WEIR_OPTION_RARE || weir_socket_options[i].kind == WEIR_OPTION_RELAY)
                        r = option_rule(ctx, SCMP_ACT_NOTIFY, weir_socket_options[i].level,
                                        weir_socket_options[i].name);
        return r;
}

static int refused_options(scmp_filter_ctx ctx)
{
        static const struct {
                int level, name;
        } refused[] = {
                { SOL_SOCKET, SO_BINDTODEVICE },
                { SOL_SOCKET, SO_BINDTOIFINDEX },
                { IPPROTO_IPV6, IPV6_PKTINFO },
                { IPPROTO_IPV6, IPV6_FLOWLABEL_MGR },
        };
        int r = 0;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(refused) && r == 0; i++)
                r = option_rule(ctx, SCMP_ACT_ERRNO(EPERM), refused[i].level, refused[i].name);
        return r;
}

/* Where notification is refused libseccomp loads a filter without a listener, whose calls would all fail: so it only
 * writes the program, and the kernel is asked here. >= 0: the listener. */
static int load_program(int file)
{
        struct sock_filter instructions[INSTRUCTIONS_MAX];
        ssize_t n = pread(file, instructions, sizeof(instructions), 0);
        struct sock_fprog program = { .filter = instructions };
        long r;

        if (n <= 0 || (size_t)n == sizeof(instructions))
                return n < 0 ? -errno : -E2BIG;
        program.len = (unsigned short)((size_t)n / sizeof(*instructions));
        r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
        return r < 0 ? -errno : (int)r;
}

static int load(void)
{
        weir_auto_close int file = memfd_create("weir-filter", MFD_CLOEXEC);
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
        int r = !ctx ? -ENOMEM : file < 0 ? -errno : 0;

        if (r == 0)
                r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
        if (r == 0)
                r = notified_calls(ctx);
        if (r == 0)
                r = notified_options(ctx);
        if (r == 0)
                r = refused_options(ctx);
        if (r == 0)
                r = seccomp_export_bpf(ctx, file);
        if (ctx)
                seccomp_release(ctx);
        return r < 0 ? r : load_program(file);
}

static const char *why(int error)
{
        switch (error) {
        case EBUSY:
                return "a filter with a listener is there already (weir run inside weir run, or a container manager's)";
        case EPERM:
        case EACCES:
                return "seccomp notification is refused, as some containers do";
        case EINVAL:
        case ENOSYS:
                return "this kernel has no seccomp notification";
        default:
                return strerror(error);
        }
}

static int tell(int socket, enum weir_box_verb verb, const char *text, const int *fds, size_t n_fds)
{
        struct weir_box_message message = { .verb = verb };

        (void)snprintf(message.text, sizeof(message.text), "%s", text);
        return weir_fd_send(socket, &message, sizeof(message), fds, n_fds);
}

static int refuse(int socket, bool needed, const char *text, struct weir_err *err)
{
        if (needed)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "--handoff=require: %s", text);
        return tell(socket, WEIR_BOX_NO_NOTIFY, text, NULL, 0);
}

int weir_handoff_filter(int socket_, bool needed, struct weir_err *err)
{
        int fds[WEIR_BOX_NOTIFY_COUNT] = { -1, -1, -1 };
        size_t n;
        int r;

        if (!weir_landlock_has_network())
                return refuse(socket_, needed,
                              "Landlock has no rules for the network here (Linux 6.7 with landlock in lsm= has)", err);
        /* Fresh ones, whose options are the defaults of this namespace. */
        fds[WEIR_BOX_NOTIFY_V4] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        fds[WEIR_BOX_NOTIFY_V6] = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        n = fds[WEIR_BOX_NOTIFY_V6] >= 0 ? WEIR_BOX_NOTIFY_COUNT : WEIR_BOX_NOTIFY_V6;
        r = fds[WEIR_BOX_NOTIFY_V4] < 0 ? -errno : load();
        if (r < 0) {
                r = refuse(socket_, needed, why(-r), err);
        } else {
                fds[WEIR_BOX_NOTIFY_LISTENER] = r;
                r = tell(socket_, WEIR_BOX_NOTIFY, "", fds, n);
                r = r < 0 ? weir_err_set(err, r, "the supervisor is gone") : 1;
        }
        for (size_t i = 0; i < WEIR_BOX_NOTIFY_COUNT; i++)
                weir_close_cleanup(&fds[i]);
        return r;
}
