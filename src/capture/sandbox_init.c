/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Born with every capability over its new namespaces and none over the host. It waits for its id maps, builds network
 * and mounts, opens Weir's sockets and hands them out, and waits for the word to go: until then nothing of the command
 * has run. Then it starts the command, gives up every capability, and from there only waits: for children to reap, and
 * for the supervisor's wishes.
 *
 * It is no part of the boundary. A workload that took it over would find no capability, no socket of the host, and a
 * channel on which the supervisor believes nothing but the command's end. It cannot be traced (not dumpable) or
 * signalled (PID 1) all the same.
 *
 * If the supervisor dies, the kernel kills this process (parent death signal), and the kernel kills everything else of
 * the PID namespace with it. Without a PID namespace it is a subreaper, and kills its descendants itself.
 */
#include "capture/sandbox_init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#ifdef WEIR_TEST_GATES
#include <sched.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/gate.h"
#include "base/log.h"
#include "base/strutil.h"
#include "capture/become.h"
#include "capture/caps.h"
#include "capture/descriptors.h"
#include "capture/devices.h"
#include "capture/freeze.h"
#include "capture/handoff.h"
#include "capture/landlock.h"
#include "capture/mounts.h"
#include "capture/namespaces.h"
#include "capture/netlink.h"
#include "capture/nft_rules.h"
#include "capture/protocol.h"
#include "capture/reachable.h"
#include "capture/seccomp.h"
#include "capture/sockets.h"

static void send_message(int socket, uint32_t verb, int32_t value, const struct weir_err *err, const int *fds,
                         size_t n_fds)
{
        struct weir_box_message message = { .verb = verb, .value = value, .code = err ? err->code : 0 };

        if (err)
                (void)snprintf(message.text, sizeof(message.text), "%s", err->text);
        /* A supervisor that is gone takes this process with it. */
        if (weir_fd_send(socket, &message, sizeof(message), fds, n_fds) < 0)
                _exit(1);
}

static void give_up(const struct weir_sandbox *s, const struct weir_err *err) __attribute__((noreturn));
static void give_up(const struct weir_sandbox *s, const struct weir_err *err)
{
        send_message(s->events, WEIR_BOX_FAILED, 0, err, NULL, 0);
        _exit(1);
}

/* Return: what the message says besides. */
static int32_t await(const struct weir_sandbox *s, uint32_t verb)
{
        struct weir_box_message message;
        size_t n_fds = 0;

        if (weir_fd_recv(s->events, &message, sizeof(message), NULL, &n_fds) != (ssize_t)sizeof(message) ||
            message.verb != verb)
                _exit(1);
        return message.value;
}

/* One try to load the rules, while the mounts are laid: nft takes longest. @mounts: NULL once they are. */
static int lay(const struct weir_nft_ports *ports, enum weir_nft_way way, const struct weir_mounts *mounts,
               bool *ret_laid, struct weir_err *err)
{
        weir_auto_free char *ruleset = weir_nft_ruleset(ports, way);
        struct weir_nft nft;
        int r, built = 0;

        if (!ruleset)
                return weir_err_set(err, -ENOMEM, "out of memory");
        r = weir_nft_start(ruleset, &nft, err);
        if (r < 0)
                return r;
        if (mounts)
                built = weir_mounts_setup(mounts, err);
        *ret_laid = built == 0;
        /* What nft says matters only if the mounts are well: the first error stays. */
        r = weir_nft_finish(&nft, built < 0 ? NULL : err);
        return built < 0 ? built : r;
}

/* Network, rules and mounts. */
static int build(const struct weir_sandbox *s, int fds[static WEIR_BOX_FD_COUNT], size_t *ret_n, int *ret_held,
                 struct weir_err *err)
{
        const struct weir_mounts mounts = { .protect = s->options->protect,
                                            .unix_paths = s->options->unix_paths,
                                            .listening = s->listening,
                                            .own_pids = s->own_pids,
                                            .hold = s->place ? s->place->hold : -1,
                                            .hold_groups = s->place != NULL,
                                            .hold_kernel = s->place && s->place->become->uid == 0 };
        /* Port 53 of every address, all of which are local: no rule has to bring queries to the resolver. */
        struct weir_nft_ports ports = { .dns_udp = 53, .dns_tcp = 53 };
        bool ipv6 = weir_have_ipv6(), laid = false;
        int r;

        if (s->place) {
                r = weir_mounts_setup(&mounts, err);
                return r < 0 ? r : weir_devices_setup(s->options->unix_paths, ret_held, err);
        }
        r = weir_netlink_setup(ipv6, err);
        if (r == 0)
                r = weir_sockets_open(ipv6, fds, ret_n, &ports, err);
        if (r < 0)
                return r;
        r = lay(&ports, WEIR_NFT_TPROXY, &mounts, &laid, err);
        if (r == 0)
                r = weir_sockets_transparent(fds, err);
        else if (laid) {
                /* A kernel without nft_tproxy. Whatever else is wrong is said by the second try. */
                *err = (struct weir_err){ 0 };
                r = lay(&ports, WEIR_NFT_REDIRECT, NULL, &laid, err);
        }
        /* Not while nft runs. */
        if (r == 0)
                r = weir_devices_setup(s->options->unix_paths, ret_held, err);
        return r == 0 && WEIR_GATE(READ_ONLY_CGROUPS) ? weir_namespaces_forbid_cgroups(err) : r;
}

static int close_door(const struct weir_sandbox *s, enum weir_box_handoff handoff, struct weir_err *err)
{
        weir_auto(seccomp) struct weir_seccomp *filter = NULL;
        bool handed = false;
        int r;

        r = weir_seccomp_build(&filter, err);
        if (r == 0)
                r = s->place ? weir_become(s->place->become, err) : weir_caps_drop_all(err);
        if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                r = weir_err_set(err, WEIR_EUNSUPPORTED, "cannot set no_new_privs: %s", strerror(errno));
        if (r == 0 && handoff != WEIR_BOX_HANDOFF_NONE) {
                r = weir_handoff_filter(s->events, handoff == WEIR_BOX_HANDOFF_NEED, err);
                handed = r == 1;
        }
        if (r < 0)
                return r;
        r = weir_landlock_enter(handed);
        if (r < 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot enter a Landlock domain: %s", strerror(-r));
        return weir_seccomp_load(filter, err);
}

/* What execvp() failed with. It says EACCES where a folder of PATH cannot be entered, though the program is nowhere: to
 * a person, and to a shell, that is "not found". */
static int exec_error(const char *name)
{
        const char *path = getenv("PATH");
        int error = errno;

        if (error != EACCES || strchr(name, '/') || !path)
                return error;
        while (*path) {
                size_t n = strcspn(path, ":");
                weir_auto_free char *at = weir_asprintf("%.*s/%s", (int)n, n ? path : ".", name);

                if (!at || access(at, F_OK) == 0)
                        return error;
                path += n + (path[n] == ':');
        }
        return ENOENT;
}

/* In the new process: the last gates, then the command. @report tells why it did not start. */
static void become_command(const struct weir_sandbox *s, const sigset_t *mask, enum weir_box_handoff handoff,
                           int report) __attribute__((noreturn));
static void become_command(const struct weir_sandbox *s, const sigset_t *mask, enum weir_box_handoff handoff,
                           int report)
{
        struct weir_box_message message = { .verb = WEIR_BOX_EXEC_FAILED };
        struct weir_err err = { 0 };

        (void)sigprocmask(SIG_SETMASK, mask, NULL);
        if (!s->own_pids)
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (weir_descriptors_limit() < 0) {
                (void)weir_err_set(&err, -errno, "cannot close inherited descriptors");
                message.verb = WEIR_BOX_FAILED;
        } else if (close_door(s, handoff, &err) < 0)
                message.verb = WEIR_BOX_FAILED;
        else {
                (void)execvp(s->options->argv[0], s->options->argv);
                message.value = exec_error(s->options->argv[0]);
        }
        message.code = err.code;
        (void)snprintf(message.text, sizeof(message.text), "%s", err.text);
        if (weir_fd_write_all(report, &message, sizeof(message)) < 0)
                _exit(1);
        _exit(0);
}

/* Return: the command's pid; what went wrong is on @ret_report, which closes when the command runs. */
static pid_t start_command(const struct weir_sandbox *s, const sigset_t *mask, enum weir_box_handoff handoff,
                           int *ret_report)
{
        int report[2];
        pid_t pid;

        if (pipe2(report, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid == 0)
                become_command(s, mask, handoff, report[1]);
        (void)close(report[1]);
        *ret_report = report[0];
        return pid < 0 ? -errno : pid;
}

/* Waits until the command runs or has failed to. */
static bool started(const struct weir_sandbox *s, int report)
{
        struct weir_box_message message;
        bool failed = weir_fd_read_all(report, &message, sizeof(message)) == 0;

        (void)close(report);
        if (!failed)
                message = (struct weir_box_message){ .verb = WEIR_BOX_STARTED };
        if (weir_fd_send(s->events, &message, sizeof(message), NULL, 0) < 0)
                _exit(1);
        return !failed;
}

/* Everything that descends from this process; in a PID namespace the kernel does that at our end. */
static void kill_descendants(const struct weir_sandbox *s)
{
        while (!s->own_pids && WEIR_GATE(LEFTOVERS)) {
                char path[64], text[4096];
                weir_auto_close int fd = -1;
                ssize_t n;

                (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)syscall(SYS_gettid));
                fd = open(path, O_RDONLY | O_CLOEXEC);
                n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
                if (n <= 0)
                        return;
                text[n] = '\0';
                for (char *at = text, *end; (void)(end = at), *at; at = end) {
                        long pid = strtol(at, &end, 10);

                        if (end == at)
                                break;
                        (void)kill((pid_t)pid, SIGKILL);
                }
                while (waitpid(-1, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
}

/* Takes in every child that ended. When the command itself has, it is told and all is over. */
static void reap(const struct weir_sandbox *s, pid_t command, bool frozen)
{
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
                /* A stop that comes of freezing is nobody's news. */
                if (pid != command || (frozen && WIFSTOPPED(status)))
                        continue;
                if (!WIFSTOPPED(status))
                        kill_descendants(s);
                send_message(s->events, WEIR_BOX_STATUS, status, NULL, NULL, 0);
                if (!WIFSTOPPED(status))
                        _exit(0);
        }
}

static void serve(const struct weir_sandbox *s, pid_t command, struct weir_frozen *frozen)
{
        struct weir_box_message wish;
        size_t n_fds = 0;
        int fd, r;

        if (weir_fd_recv(s->service, &wish, sizeof(wish), NULL, &n_fds) != (ssize_t)sizeof(wish)) {
                if (!WEIR_GATE(SUPERVISOR_DEATH))
                        (void)pause();
                kill_descendants(s); /* the supervisor is gone */
                _exit(1);
        }
        switch (wish.verb) {
        case WEIR_BOX_KILL:
                (void)kill(command, wish.value);
                break;
        case WEIR_BOX_CONNECT:
                fd = weir_sockets_connect((uint16_t)wish.value);
                send_message(s->service, WEIR_BOX_CONNECTED, fd < 0 ? -fd : 0, NULL, &fd, fd < 0 ? 0 : 1);
                if (fd >= 0)
                        (void)close(fd);
                break;
        case WEIR_BOX_FREEZE:
                weir_thaw(frozen);
                r = weir_freeze(s->own_pids, frozen);
                reap(s, command, true);
                send_message(s->service, WEIR_BOX_FROZEN, r < 0 ? -r : 0, NULL, NULL, 0);
                break;
        case WEIR_BOX_THAW:
                weir_thaw(frozen);
                break;
        default:
                _exit(1);
        }
}

static void watch_over(const struct weir_sandbox *s, pid_t command) __attribute__((noreturn));
static void watch_over(const struct weir_sandbox *s, pid_t command)
{
        struct weir_frozen frozen = { 0 };
        sigset_t children;
        struct pollfd polled[2];

        (void)sigemptyset(&children);
        (void)sigaddset(&children, SIGCHLD);
        polled[0] = (struct pollfd){ .fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN };
        polled[1] = (struct pollfd){ .fd = s->service, .events = POLLIN };
        if (polled[0].fd < 0)
                _exit(1);
        for (;;) {
                struct signalfd_siginfo info;

                reap(s, command, frozen.stopped != NULL);
                if (poll(polled, 2, -1) < 0 && errno != EINTR)
                        _exit(1);
                if (polled[0].revents)
                        (void)!read(polled[0].fd, &info, sizeof(info));
                if (polled[1].revents)
                        serve(s, command, &frozen);
        }
}

/* Standard streams and inherited pipes belong to the command alone: a pipe must end when the command does. */
static void keep_only(int a, int b, int c)
{
        const unsigned kept[] = { (unsigned)a, (unsigned)b, c < 0 ? (unsigned)a : (unsigned)c };
        unsigned from = 0;

        for (;;) {
                unsigned next = ~0U;

                for (size_t i = 0; i < WEIR_ARRAY_SIZE(kept); i++)
                        if (kept[i] >= from && kept[i] < next)
                                next = kept[i];
                if (next > from)
                        (void)close_range(from, next == ~0U ? next : next - 1, 0);
                if (next == ~0U)
                        return;
                from = next + 1;
        }
}

/* Nobody of the host can be reached through this process, nor be stopped by the terminal's signals. @ret_mask: the
 * command's. */
static void harden(const struct weir_sandbox *s, sigset_t *ret_mask)
{
        static const int ignored[] = { SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGHUP, SIGTERM, SIGPIPE };
        sigset_t all;

        /* Without a PID namespace this process has to live long enough to take everything with it. */
        if (WEIR_GATE(SUPERVISOR_DEATH) && prctl(PR_SET_PDEATHSIG, s->own_pids ? SIGKILL : SIGCHLD) < 0)
                _exit(1);
        if (!s->own_pids && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
                _exit(1);
        /* Blocked, not ignored: what is ignored stays so over exec, and the command would inherit it. */
        (void)sigemptyset(&all);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(ignored); i++)
                (void)sigaddset(&all, ignored[i]);
        (void)sigaddset(&all, SIGCHLD);
        (void)sigprocmask(SIG_BLOCK, &all, ret_mask);
        if (s->options->signal_mask)
                *ret_mask = *s->options->signal_mask;
}

/* Return: a descriptor that stays open as long as the sandbox is, or -1. */
static int build_and_hand_out(const struct weir_sandbox *s)
{
        int fds[WEIR_BOX_FD_COUNT], held = -1;
        struct weir_err err = { 0 };
        size_t n_fds = 0;

        if (build(s, fds, &n_fds, &held, &err) < 0 || weir_descriptors_cover(&err) < 0)
                give_up(s, &err);
        if (s->options->verbose) {
                weir_reachable_tell(s->listening);
                if (!weir_landlock_can_scope())
                        weir_log(WEIR_LOG_INFO,
                                 "this kernel has no Landlock scopes (Linux 6.12): the command can stop or end Weir, "
                                 "and with it its own network");
        }
        send_message(s->events, WEIR_BOX_READY, 0, NULL, fds, n_fds);
        for (size_t i = 0; i < n_fds; i++)
                (void)close(fds[i]);
        return held;
}

#ifdef WEIR_TEST_GATES
/* Without the gate of the network namespace all is built in one that the command then is not in. */
static void build_elsewhere(const struct weir_sandbox *s)
{
        pid_t pid = fork();

        if (pid == 0) {
                if (unshare(CLONE_NEWNET) == 0)
                        (void)build_and_hand_out(s);
                _exit(0);
        }
        (void)waitpid(pid, NULL, 0);
}
#endif

void weir_sandbox_init(const struct weir_sandbox *s)
{
        struct weir_err err = { 0 };
        int report = -1, held = -1;
        sigset_t mask;
        int32_t handoff;
        pid_t command;

        harden(s, &mask);
        (void)await(s, WEIR_BOX_MAPPED);
        /* Not before: the supervisor could not write the maps of a process that is not dumpable. */
        if (prctl(PR_SET_DUMPABLE, 0) < 0)
                _exit(1);
        if (WEIR_GATE(NETWORK_NAMESPACE))
                held = build_and_hand_out(s);
#ifdef WEIR_TEST_GATES
        else
                build_elsewhere(s);
#endif
        handoff = await(s, WEIR_BOX_GO);
        command = start_command(s, &mask, (enum weir_box_handoff)handoff, &report);
        if (command < 0) {
                (void)weir_err_set(&err, (int)command, "cannot start a process in the sandbox: %s",
                                   strerror(-(int)command));
                give_up(s, &err);
        }
        if (!started(s, report))
                _exit(0);
        /* Where the command has become another user, only CAP_KILL reaches it, and no further than the PID namespace.
         */
        if ((s->place ? weir_caps_keep_only(CAP_KILL, &err) : weir_caps_drop_all(&err)) < 0)
                give_up(s, &err);
        keep_only(s->events, s->service, held);
        watch_over(s, command);
}
