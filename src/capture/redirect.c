/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The redirect capture: a pod.
 *
 * The workload stands beside this process in one network namespace, in other containers. weir init laid the rules
 * before either started; here the proxy takes the ports that they lead to, opens its door, and gives up what it needed
 * for that. Where its cgroup is its exemption no capability is left; where a mark is, CAP_NET_ADMIN stays, for SO_MARK.
 */
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "capture/caps.h"
#include "capture/nflog.h"
#include "capture/redirect.h"
#include "capture/sockets.h"

struct weir_capture {
        int fds[WEIR_BOX_FD_COUNT];
        uint32_t mark;
};

static void redirect_free(struct weir_capture *c)
{
        if (!c)
                return;
        for (size_t i = 0; i < WEIR_BOX_FD_COUNT; i++)
                weir_close_cleanup(&c->fds[i]);
        free(c);
}
WEIR_DEFINE_CLEANUP(capture, struct weir_capture *, redirect_free)

static int redirect_start(const struct weir_capture_options *options, struct weir_capture **ret_capture,
                          struct weir_err *err)
{
        weir_auto(capture) struct weir_capture *c = calloc(1, sizeof(*c));
        struct weir_nft_ports ports = { .relay = options->relay_port,
                                        .dns_udp = options->dns_port,
                                        .dns_tcp = options->dns_port };
        size_t n;
        int r;

        if (!c)
                return weir_err_set(err, -ENOMEM, "out of memory");
        for (size_t i = 0; i < WEIR_BOX_FD_COUNT; i++)
                c->fds[i] = -1;
        r = weir_redirect_open_door(options->exempt, &c->mark, err);
        if (r == 0)
                r = weir_sockets_open(weir_have_ipv6(), c->fds, &n, &ports, err);
        if (r == 0)
                r = weir_caps_keep_only(c->mark ? CAP_NET_ADMIN : -1, err);
        if (r < 0)
                return r;
        /* With a shared PID namespace a process of this uid could else read its memory and the mark. */
        (void)prctl(PR_SET_DUMPABLE, 0UL, 0UL, 0UL, 0UL);
        *ret_capture = TAKE_PTR(c);
        return 0;
}

static size_t redirect_take_listeners(struct weir_capture *c, int *ret_fds, size_t n)
{
        static const enum weir_box_fd which[] = { WEIR_BOX_FD_LISTENER_V4, WEIR_BOX_FD_LISTENER_V6 };
        size_t taken = 0;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(which) && taken < n; i++)
                if (c->fds[which[i]] >= 0)
                        ret_fds[taken++] = TAKE_FD(c->fds[which[i]]);
        return taken;
}

static int redirect_take_dns_udp(struct weir_capture *c)
{
        return TAKE_FD(c->fds[WEIR_BOX_FD_DNS_UDP]);
}

static int redirect_take_dns_tcp(struct weir_capture *c)
{
        return TAKE_FD(c->fds[WEIR_BOX_FD_DNS_TCP]);
}

static int redirect_rejected_fd(struct weir_capture *c)
{
        return c->fds[WEIR_BOX_FD_NFLOG];
}

static int redirect_next_rejected(struct weir_capture *c, struct weir_rejected *ret)
{
        return weir_nflog_next(c->fds[WEIR_BOX_FD_NFLOG], ret);
}

/* Other containers have PID namespaces of their own: the pod's processes cannot be named from here. */
static int redirect_owner(struct weir_capture *c, enum weir_ip_protocol protocol, const struct weir_addr *from,
                          uint16_t port, const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid, char *command)
{
        (void)c;
        (void)protocol;
        (void)from;
        (void)port;
        (void)to;
        (void)to_port;
        (void)ret_pid;
        (void)command;
        return -ENOENT;
}

static int redirect_connect_inside(struct weir_capture *c, uint16_t port)
{
        (void)c;
        return weir_sockets_connect(port);
}

static uint32_t redirect_mark(const struct weir_capture *c)
{
        return c->mark;
}

static int redirect_exit_fd(struct weir_capture *c)
{
        (void)c;
        return -1;
}

static int redirect_wait_exit(struct weir_capture *c, struct weir_exit *ret)
{
        (void)c;
        (void)ret;
        return 0;
}

static int redirect_kill(struct weir_capture *c, int signal)
{
        (void)c;
        (void)signal;
        return -ESRCH;
}

const struct weir_capture_ops weir_capture_redirect = {
        .name = "redirect",
        .opens_own_way = true,
        .start = redirect_start,
        .take_listeners = redirect_take_listeners,
        .take_dns_udp = redirect_take_dns_udp,
        .take_dns_tcp = redirect_take_dns_tcp,
        .rejected_fd = redirect_rejected_fd,
        .next_rejected = redirect_next_rejected,
        .owner = redirect_owner,
        .connect_inside = redirect_connect_inside,
        .mark = redirect_mark,
        .exit_fd = redirect_exit_fd,
        .wait_exit = redirect_wait_exit,
        .kill = redirect_kill,
        .free = redirect_free,
};
