/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * inet_diag knows the sockets of the network namespace in which the diag socket was opened; addresses and ports give an
 * inode. A connection of TCP is asked for by both its ends, which the kernel finds at once; for the rest it goes
 * through its whole table. Then the process: first those that owned a socket lately, at the number it had, which mostly
 * is one readlink(2); else the descendants of the sandbox's first process are walked by /proc/PID/task/TID/children,
 * the newest first since it is likeliest to have just connected, until one has a descriptor with that inode. So nobody
 * is named who does not hold the socket at that moment, however he was found. A process that is gone is not found, and
 * its denial has no name.
 *
 * The workload decides how often it is refused and how many processes and descriptors it has; all of this together may
 * take BUDGET_NS of each second, and one walk no more than WALK_NS.
 */
#include "capture/owner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/gate.h"
#include "base/time.h"

#define OWNER_PROCESSES_MAX 1024
#define BUDGET_NS (100 * WEIR_MS)
#define WALK_NS (20 * WEIR_MS)

struct search {
        const struct weir_addr *from;
        uint16_t port;
        uint32_t inode; /* 0: not found */
        bool ambiguous; /* SO_REUSEPORT: several sockets have this address */
};

static bool same_address(const struct inet_diag_msg *m, const struct weir_addr *from)
{
        static const struct weir_addr any;
        struct weir_addr local = { 0 };

        if (m->idiag_family == AF_INET) {
                local.bytes[10] = local.bytes[11] = 0xff;
                memcpy(local.bytes + 12, m->id.idiag_src, 4);
                if (m->id.idiag_src[0] == 0)
                        return true;
        } else
                memcpy(local.bytes, m->id.idiag_src, 16);
        return weir_addr_equal(&local, from) || weir_addr_equal(&local, &any);
}

static int on_socket(const struct nlmsghdr *h, void *data)
{
        const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
        struct search *s = data;

        if (mnl_nlmsg_get_payload_len(h) < sizeof(*m))
                return MNL_CB_ERROR;
        if (ntohs(m->id.idiag_sport) != s->port || m->idiag_inode == 0 || !same_address(m, s->from))
                return MNL_CB_OK;
        s->ambiguous |= s->inode != 0 && s->inode != m->idiag_inode;
        s->inode = m->idiag_inode;
        return MNL_CB_OK;
}

/* Asks, and hands every answer to on_socket(). */
static void ask(int diag, uint16_t flags, const struct inet_diag_req_v2 *request, struct search *s)
{
        char buf[8192] __attribute__((aligned(8)));
        struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
        static uint32_t sequence;
        int r;

        h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
        h->nlmsg_flags = NLM_F_REQUEST | flags;
        h->nlmsg_seq = ++sequence;
        memcpy(mnl_nlmsg_put_extra_header(h, sizeof(*request)), request, sizeof(*request));
        if (send(diag, h, h->nlmsg_len, 0) != (ssize_t)h->nlmsg_len)
                return;
        do {
                /* The kernel has the next part ready whenever it is asked; one that is not there is no reason to wait.
                 */
                ssize_t n = recv(diag, buf, sizeof(buf), MSG_DONTWAIT);

                if (n <= 0)
                        return;
                /* What is left of an earlier question is read away. */
                r = h->nlmsg_seq != sequence ? MNL_CB_OK : mnl_cb_run(buf, (size_t)n, sequence, 0, on_socket, s);
        } while (r == MNL_CB_OK && (flags == NLM_F_DUMP || h->nlmsg_seq != sequence));
}

/* All sockets of one family with this port. */
static void dump(int diag, uint8_t family, uint8_t protocol, struct search *s)
{
        const struct inet_diag_req_v2 request = {
                .sdiag_family = family,
                .sdiag_protocol = protocol,
                .idiag_states = ~0U,
                .id.idiag_sport = htons(s->port), /* the kernel leaves all others out */
        };

        ask(diag, NLM_F_DUMP, &request, s);
}

static void put_address(__be32 at[4], const struct weir_addr *addr)
{
        if (weir_addr_is_v4(addr))
                memcpy(at, addr->bytes + 12, 4);
        else
                memcpy(at, addr->bytes, 16);
}

/* The one connection of TCP with these ends. One of AF_INET6 that speaks IPv4 is found as IPv4. */
static void ask_connection(int diag, struct search *s, const struct weir_addr *to, uint16_t to_port)
{
        struct inet_diag_req_v2 request = {
                .sdiag_family = weir_addr_is_v4(to) ? AF_INET : AF_INET6,
                .sdiag_protocol = IPPROTO_TCP,
                .idiag_states = ~0U,
                .id = { .idiag_sport = htons(s->port),
                        .idiag_dport = htons(to_port),
                        .idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } },
        };

        put_address(request.id.idiag_src, s->from);
        put_address(request.id.idiag_dst, to);
        ask(diag, 0, &request, s);
}

static uint32_t find_inode(int diag, enum weir_ip_protocol protocol, const struct weir_addr *from, uint16_t port,
                           const struct weir_addr *to, uint16_t to_port)
{
        struct search s = { .from = from, .port = port };
        uint8_t number = protocol == WEIR_IP_UDP ? IPPROTO_UDP : IPPROTO_TCP;

        if (port == 0 || (protocol != WEIR_IP_UDP && protocol != WEIR_IP_TCP))
                return 0;
        if (protocol == WEIR_IP_TCP && to && weir_addr_is_v4(from) == weir_addr_is_v4(to)) {
                ask_connection(diag, &s, to, to_port);
                return s.inode;
        }
        if (weir_addr_is_v4(from))
                dump(diag, AF_INET, number, &s);
        /* A socket of AF_INET6 speaks IPv4 too. */
        if (s.inode == 0)
                dump(diag, AF_INET6, number, &s);
        return s.ambiguous ? 0 : s.inode;
}

static bool is_socket(int dirfd, const char *path, const char *wanted)
{
        char link[64];
        ssize_t n = readlinkat(dirfd, path, link, sizeof(link) - 1);

        link[n > 0 ? n : 0] = '\0';
        return strcmp(link, wanted) == 0;
}

/* The number of the descriptor under which @pid holds the socket @wanted, -1 if it does not. */
static int held_at(pid_t pid, const char *wanted, uint64_t until_ns)
{
        const struct dirent *entry;
        char path[64];
        int fd = -1;
        DIR *dir;

        (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
        dir = opendir(path);
        while (dir && fd < 0 && (entry = readdir(dir)) && weir_time_ns() < until_ns)
                if (is_socket(dirfd(dir), entry->d_name, wanted))
                        fd = (int)strtol(entry->d_name, NULL, 10);
        if (dir)
                (void)closedir(dir);
        return fd;
}

/* Appends the children that the thread @tid of @pid started. */
static size_t add_children_of(pid_t pid, const char *tid, pid_t *list, size_t n, size_t max)
{
        weir_auto_free char *text = NULL;
        char path[80];
        size_t length;

        (void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", (int)pid, tid);
        if (weir_file_slurp(AT_FDCWD, path, 65536, &text, &length) < 0)
                return n;
        for (char *at = text, *end; n < max; at = end) {
                long child = strtol(at, &end, 10);

                if (end == at)
                        break;
                list[n++] = (pid_t)child;
        }
        return n;
}

/* Appends the children of @pid, whichever of its threads started them. */
static size_t add_children(pid_t pid, pid_t *list, size_t n, size_t max)
{
        const struct dirent *entry;
        char path[48];
        DIR *dir;

        (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
        dir = opendir(path);
        while (dir && (entry = readdir(dir)))
                if (entry->d_name[0] != '.')
                        n = add_children_of(pid, entry->d_name, list, n, max);
        if (dir)
                (void)closedir(dir);
        return n;
}

static void read_command(pid_t pid, char command[static 16])
{
        weir_auto_free char *text = NULL;
        char path[64];
        size_t n;

        command[0] = '\0';
        (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
        if (weir_file_slurp(AT_FDCWD, path, 64, &text, &n) < 0)
                return;
        text[strcspn(text, "\n")] = '\0';
        (void)snprintf(command, 16, "%s", text);
}

size_t weir_owner_processes(pid_t init, pid_t *list, size_t max)
{
        size_t n = add_children(init, list, 0, max);

        for (size_t i = 0; i < n; i++)
                n = add_children(list[i], list, n, max);
        return n;
}

static pid_t find_recent(const struct weir_owner *owner, const char *wanted)
{
        for (size_t i = 0; i < WEIR_OWNER_RECENT; i++) {
                const struct weir_owner_recent *recent = &owner->recent[i];
                char path[64];

                (void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)recent->pid, recent->fd);
                if (recent->pid > 0 && is_socket(AT_FDCWD, path, wanted))
                        return recent->pid;
        }
        return 0;
}

static void remember(struct weir_owner *owner, pid_t pid, int fd)
{
        owner->recent[owner->next_recent++ % WEIR_OWNER_RECENT] = (struct weir_owner_recent){ .pid = pid, .fd = fd };
}

static pid_t walk(struct weir_owner *owner, const char *wanted, uint64_t until_ns)
{
        pid_t list[OWNER_PROCESSES_MAX];
        size_t n = weir_owner_processes(owner->init, list, OWNER_PROCESSES_MAX);

        while (n > 0 && weir_time_ns() < until_ns) {
                pid_t pid = list[--n];
                int fd = held_at(pid, wanted, until_ns);

                if (fd >= 0) {
                        remember(owner, pid, fd);
                        return pid;
                }
        }
        return 0;
}

static int find(struct weir_owner *owner, uint32_t inode, uint64_t until_ns, pid_t *ret_pid, char command[static 16])
{
        char wanted[64];
        pid_t pid;

        if (inode == 0)
                return -ENOENT;
        (void)snprintf(wanted, sizeof(wanted), "socket:[%u]", inode);
        pid = find_recent(owner, wanted);
        if (pid == 0)
                pid = walk(owner, wanted, until_ns);
        if (pid == 0)
                return -ENOENT;
        *ret_pid = pid;
        read_command(pid, command);
        return 0;
}

int weir_owner_find(struct weir_owner *owner, enum weir_ip_protocol protocol, const struct weir_addr *from,
                    uint16_t port, const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid,
                    char command[static 16])
{
        uint64_t began = weir_time_ns();
        int r;

        if (began - owner->second_ns >= WEIR_SEC) {
                owner->second_ns = began;
                owner->spent_ns = 0;
        }
        if (owner->spent_ns >= BUDGET_NS && WEIR_GATE(OWNER_ALLOWANCE))
                return -EBUSY;
        r = find(owner, find_inode(owner->diag, protocol, from, port, to, to_port),
                 began + (WEIR_GATE(OWNER_ALLOWANCE) ? WALK_NS : 60 * WEIR_SEC), ret_pid, command);
        owner->spent_ns += weir_time_ns() - began;
        return r;
}
