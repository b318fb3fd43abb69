/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cutting flows that a newer policy no longer allows.
 *
 * Theory of operation
 *
 * Weir holds no duplicate of a flow's socket, so it has to fetch one. Connecting it to AF_UNSPEC then resets the
 * connection at once and delivers no queued byte, whoever else holds the socket (shutdown(2) would deliver what is
 * queued). A pass tries what is cheapest first:
 *
 *   1. the descriptor the flow was given under, if the cookie is still its own
 *   2. a dump of the host's sockets: a flow that is not there has ended; one without an inode has been closed by the
 *      workload, and what the kernel still sends of it was accepted while it was allowed: nobody can reach it any more
 *      (root can: SOCK_DESTROY)
 *   3. every descriptor of every process of the sandbox, by inode
 *
 * A flow that lives and is in no descriptor table is hidden: in a message on its way between two sockets of the
 * workload's own. It may come out at any time, so passes follow each other until the bound; what is then still hidden
 * ends the whole sandbox.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/strutil.h"
#include "base/time.h"
#include "capture/handoff_internal.h"
#include "capture/owner.h"

#define BOUND_NS (90 * WEIR_MS)
#define PROCESSES_MAX 65536

static int fetch(pid_t tgid, int fd)
{
        weir_auto_close int pidfd = (int)syscall(SYS_pidfd_open, tgid, 0);

        return pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
}

/* Resets the flow if @socket is its own. */
static bool cut(struct weir_handoff *h, struct weir_condemned *flow, int socket)
{
        const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };
        struct weir_flow_figures figures;
        struct tcp_info info = { 0 };
        uint64_t cookie = 0;
        socklen_t length = sizeof(cookie);
        bool known;

        if (getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0 || cookie != flow->cookie)
                return false;
        length = sizeof(info);
        known = getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length) == 0;
        weir_diag_figures(&info, &figures);
        if (connect(socket, &nowhere, sizeof(nowhere)) < 0)
                return false;
        flow->done = true;
        weir_flows_end(h, flow->cookie, WEIR_REASON_POLICY_REVOKED, known ? &figures : NULL);
        return true;
}

static void try_remembered(struct weir_handoff *h, struct weir_condemned *list, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                weir_auto_close int socket = fetch(list[i].tgid, list[i].fd);

                if (socket >= 0)
                        (void)cut(h, &list[i], socket);
        }
}

static int by_cookie(const void *key, const void *item)
{
        uint64_t x = *(const uint64_t *)key, y = ((const struct weir_diag_socket *)item)->cookie;

        return (x > y) - (x < y);
}

/* What has ended, or was closed with bytes still queued, is done; of the rest the inode is known afterwards. */
static size_t look_up(struct weir_handoff *h, struct weir_condemned *list, size_t n)
{
        weir_auto_free struct weir_diag_socket *sockets = NULL;
        size_t n_sockets, left = 0;

        if (weir_diag_dump(&sockets, &n_sockets) < 0)
                return n;
        for (size_t i = 0; i < n; i++) {
                const struct weir_diag_socket *socket;

                if (list[i].done)
                        continue;
                socket = n_sockets ? bsearch(&list[i].cookie, sockets, n_sockets, sizeof(*sockets), by_cookie) : NULL;
                list[i].inode = socket ? socket->inode : 0;
                list[i].done = list[i].inode == 0;
                if (list[i].done)
                        weir_flows_end(h, list[i].cookie, WEIR_REASON_POLICY_REVOKED,
                                       socket && socket->has_figures ? &socket->figures : NULL);
                else
                        left++;
        }
        return left;
}

static struct weir_condemned *with_inode(struct weir_condemned *list, size_t n, unsigned long inode)
{
        for (size_t i = 0; i < n; i++)
                if (!list[i].done && list[i].inode == inode)
                        return &list[i];
        return NULL;
}

/* How many of the flows @pid had in its hands. */
static size_t scan_process(struct weir_handoff *h, pid_t pid, struct weir_condemned *list, size_t n)
{
        const struct dirent *entry;
        char path[48], link[64];
        size_t found = 0;
        DIR *dir;

        (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
        dir = opendir(path);
        while (dir && (entry = readdir(dir))) {
                ssize_t length = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
                struct weir_condemned *flow;
                weir_auto_close int socket = -1;

                link[length > 0 ? length : 0] = '\0';
                if (strncmp(link, "socket:[", 8) != 0)
                        continue;
                flow = with_inode(list, n, strtoul(link + 8, NULL, 10));
                if (!flow)
                        continue;
                socket = fetch(pid, (int)strtol(entry->d_name, NULL, 10));
                if (socket >= 0 && cut(h, flow, socket))
                        found++;
        }
        if (dir)
                (void)closedir(dir);
        return found;
}

static size_t scan(struct weir_handoff *h, struct weir_condemned *list, size_t n, size_t left)
{
        weir_auto_free pid_t *processes = calloc(PROCESSES_MAX, sizeof(*processes));
        size_t count = processes ? weir_owner_processes(h->options.init, processes, PROCESSES_MAX) : 0;

        while (count > 0 && left > 0)
                left -= scan_process(h, processes[--count], list, n);
        return left;
}

/* Nothing is left that could find it: all of the sandbox goes. */
static bool give_up_on(struct weir_handoff *h, const struct weir_condemned *list, size_t n)
{
        uint64_t now = weir_time_ns();
        bool late = false;

        for (size_t i = 0; i < n; i++)
                late = late || (!list[i].done && now - list[i].since_ns >= BOUND_NS);
        if (!late)
                return false;
        h->options.kill(h->options.context);
        for (size_t i = 0; i < n; i++)
                if (!list[i].done)
                        weir_flows_end(h, list[i].cookie, WEIR_REASON_HIDDEN, NULL);
        return true;
}

bool weir_revoke_pass(struct weir_handoff *h, bool judge)
{
        weir_auto_free struct weir_condemned *list = NULL;
        size_t n, left = 0;

        if (weir_flows_condemned(h, judge, &list, &n) < 0)
                return true;
        if (n == 0)
                return false;
        try_remembered(h, list, n);
        for (size_t i = 0; i < n; i++)
                left += !list[i].done;
        if (left > 0)
                left = look_up(h, list, n);
        if (left > 0)
                left = scan(h, list, n, left);
        return left > 0 && !give_up_on(h, list, n);
}
