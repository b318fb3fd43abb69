/* SPDX-License-Identifier: Apache-2.0 */
/* Probes, not version checks: each asks the kernel for the thing itself. */
#include "capture/abilities.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/landlock.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "capture/cgroup_gates.h"
#include "capture/cgroup_place.h"
#include "capture/handoff.h"
#include "capture/namespaces.h"
#include "capture/nft_rules.h"
#include "capture/seccomp.h"

#define LANDLOCK_SCOPES_ABI 6

static int user_namespaces(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err)
{
        weir_auto_close int pidfd = -1;
        pid_t pid = weir_namespaces_clone(true, -1, &pidfd, err);

        (void)detail;
        if (pid < 0)
                return (int)pid;
        if (pid == 0)
                _exit(0);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return 0;
}

static int nft(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err)
{
        for (size_t i = 0; weir_nft_places[i]; i++)
                if (access(weir_nft_places[i], X_OK) == 0) {
                        (void)snprintf(detail, WEIR_ABILITY_DETAIL, "%s", weir_nft_places[i]);
                        return 0;
                }
        return weir_err_set(err, WEIR_EUNSUPPORTED, "there is no nft: install the package nftables");
}

static int seccomp(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err)
{
        weir_auto(seccomp) struct weir_seccomp *filter = NULL;

        (void)detail;
        return weir_seccomp_build(&filter, err);
}

static int landlock_scopes(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err)
{
        long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

        if (abi < 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "the kernel has no Landlock, or it is not switched on (lsm=)");
        (void)snprintf(detail, WEIR_ABILITY_DETAIL, "ABI %ld", abi);
        if (abi < LANDLOCK_SCOPES_ABI)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "Landlock of this kernel is ABI %ld, scopes came with %d",
                                    abi, LANDLOCK_SCOPES_ABI);
        return 0;
}

static int handoff(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err)
{
        (void)detail;
        return weir_handoff_probe(err);
}

static int root(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err)
{
        (void)detail;
        return geteuid() == 0 ? 0 : weir_err_set(err, WEIR_EUNSUPPORTED, "this is not root");
}

static int cgroup2(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err)
{
        struct weir_cgroup_root found;
        int r = weir_cgroup_root_open(&found, err);

        if (r < 0)
                return r;
        (void)snprintf(detail, WEIR_ABILITY_DETAIL, "%s", weir_cgroup_root_name(&found));
        weir_cgroup_root_close(&found);
        return 0;
}

static int gates(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err)
{
        weir_auto(gates) struct weir_gates *loaded = NULL;
        int r = weir_gates_load(&loaded, err);

        if (r == 0)
                (void)snprintf(detail, WEIR_ABILITY_DETAIL, "%.12s", weir_gates_digest());
        return r;
}

static int pins(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err)
{
        char path[256];
        int r = weir_pins_find(path, sizeof(path), err);

        if (r == 0)
                (void)snprintf(detail, WEIR_ABILITY_DETAIL, "%.100s", path);
        return r;
}

static int cgroup_kill(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err)
{
        char own[256];
        struct weir_cgroup_root found;
        int r = weir_cgroup_root_open(&found, err);
        weir_auto_close int group = -1;

        (void)detail;
        if (r == 0)
                r = weir_cgroup_own(own, sizeof(own), err);
        if (r < 0)
                return r;
        /* The top has none. A group of Weir's own would have to be made to see it there. */
        group = openat(found.fd, own[0] ? own : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = !own[0] || faccessat(group, "cgroup.kill", F_OK, 0) == 0 ? 0 : -errno;
        weir_cgroup_root_close(&found);
        return r == 0 ? 0 : weir_err_set(err, WEIR_EUNSUPPORTED, "this kernel has no cgroup.kill");
}

/* Asks for the end of a socket that does not exist: who can do it says that it is not there. */
static int destroy(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err)
{
        struct {
                struct nlmsghdr head;
                struct inet_diag_req_v2 request;
        } ask = { .head = { .nlmsg_len = sizeof(ask),
                            .nlmsg_type = SOCK_DESTROY,
                            .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
                  .request = { .sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP } };
        struct {
                struct nlmsghdr head;
                struct nlmsgerr error;
                char more[256];
        } answer = { 0 };
        weir_auto_close int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

        (void)detail;
        if (fd < 0 || send(fd, &ask, sizeof(ask), 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "sock_diag does not answer: %s", strerror(errno));
        if (answer.head.nlmsg_type == NLMSG_ERROR && answer.error.error == -EOPNOTSUPP)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "this kernel was built without CONFIG_INET_DIAG_DESTROY");
        return 0;
}

const struct weir_ability weir_abilities[] = {
        { "sealed", "user namespaces", true, "kernel.unprivileged_userns_clone, user.max_user_namespaces, AppArmor",
          NULL, user_namespaces },
        { "sealed", "nftables", true, "package nftables", NULL, nft },
        { "sealed", "seccomp filter", true, "CONFIG_SECCOMP_FILTER", NULL, seccomp },
        { "sealed", "Landlock scopes", false, "Linux 6.12",
          "signals and abstract sockets are held back by namespaces alone", landlock_scopes },
        { "sealed", "socket handoff", false, "Linux 6.7, with seccomp notification, ptrace access and Landlock",
          "every connection goes through the relay", handoff },
        { "cgroup", "root", true, "run as root, with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN", NULL, root },
        { "cgroup", "control groups, version 2", true, "mount -t cgroup2, CONFIG_CGROUP_BPF", NULL, cgroup2 },
        { "cgroup", "gates in the kernel", true, "Linux 5.13, CONFIG_BPF_SYSCALL, CONFIG_CGROUP_BPF", NULL, gates },
        { "cgroup", "pins", false, "mount -t bpf bpf /sys/fs/bpf", "weir attach cannot leave its gates in force",
          pins },
        { "cgroup", "reset of live flows", false, "CONFIG_INET_DIAG_DESTROY, Linux 4.9",
          "packets of a revoked flow are dropped, and its ends wait for their time-outs", destroy },
        { "cgroup", "cgroup.kill", false, "Linux 5.14", "what a command leaves behind is ended one by one",
          cgroup_kill },
        { "redirect", "root", true, "run as root in the pod's network namespace", NULL, root },
        { "redirect", "nftables", true, "package nftables", NULL, nft },
        { .capture = NULL },
};
