/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * inet_diag lists the sockets of the network namespace in which the diag socket was opened; local address and port give
 * an inode. The descendants of the sandbox's first process are walked by /proc/PID/task/TID/children, the newest first
 * since it is likeliest to have just connected, until one has a descriptor with that inode. A process that is gone is
 * not found, and its denial has no name.
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

#define OWNER_PROCESSES_MAX 1024

struct search {
        const struct weir_addr *from;
        uint16_t port;
        uint32_t inode; /* 0: not found */
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
        if (ntohs(m->id.idiag_sport) == s->port && m->idiag_inode != 0 && same_address(m, s->from))
                s->inode = m->idiag_inode;
        return MNL_CB_OK;
}

/* One dump of one family, to its end. */
static void dump(int diag, uint8_t family, uint8_t protocol, struct search *s)
{
        char buf[8192] __attribute__((aligned(8)));
        struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
        struct inet_diag_req_v2 *request;
        int r = MNL_CB_OK;

        h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        request = mnl_nlmsg_put_extra_header(h, sizeof(*request));
        request->sdiag_family = family;
        request->sdiag_protocol = protocol;
        request->idiag_states = ~0U;
        request->id.idiag_sport = htons(s->port); /* the kernel leaves all others out */
        if (send(diag, h, h->nlmsg_len, 0) < 0)
                return;
        while (r == MNL_CB_OK) {
                ssize_t n = recv(diag, buf, sizeof(buf), 0);

                if (n <= 0)
                        return;
                r = mnl_cb_run(buf, (size_t)n, 0, 0, on_socket, s);
        }
}

static uint32_t find_inode(int diag, enum weir_ip_protocol protocol, const struct weir_addr *from, uint16_t port)
{
        struct search s = { .from = from, .port = port };
        uint8_t number = protocol == WEIR_IP_UDP ? IPPROTO_UDP : IPPROTO_TCP;

        if (port == 0 || (protocol != WEIR_IP_UDP && protocol != WEIR_IP_TCP))
                return 0;
        if (weir_addr_is_v4(from))
                dump(diag, AF_INET, number, &s);
        /* A socket of AF_INET6 speaks IPv4 too. */
        if (s.inode == 0)
                dump(diag, AF_INET6, number, &s);
        return s.inode;
}

static bool holds(pid_t pid, uint32_t inode)
{
        char path[64], link[64], wanted[64];
        const struct dirent *entry;
        bool found = false;
        DIR *dir;

        (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
        (void)snprintf(wanted, sizeof(wanted), "socket:[%u]", inode);
        dir = opendir(path);
        while (dir && !found && (entry = readdir(dir))) {
                ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

                link[n > 0 ? n : 0] = '\0';
                found = strcmp(link, wanted) == 0;
        }
        if (dir)
                (void)closedir(dir);
        return found;
}

/* Appends the children that the thread @tid of @pid started. */
static size_t add_children_of(pid_t pid, const char *tid, pid_t *list, size_t n)
{
        weir_auto_free char *text = NULL;
        char path[80];
        size_t length;

        (void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", (int)pid, tid);
        if (weir_file_slurp(AT_FDCWD, path, 65536, &text, &length) < 0)
                return n;
        for (char *at = text, *end; n < OWNER_PROCESSES_MAX; at = end) {
                long child = strtol(at, &end, 10);

                if (end == at)
                        break;
                list[n++] = (pid_t)child;
        }
        return n;
}

/* Appends the children of @pid, whichever of its threads started them. */
static size_t add_children(pid_t pid, pid_t *list, size_t n)
{
        const struct dirent *entry;
        char path[48];
        DIR *dir;

        (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
        dir = opendir(path);
        while (dir && (entry = readdir(dir)))
                if (entry->d_name[0] != '.')
                        n = add_children_of(pid, entry->d_name, list, n);
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

int weir_owner_find(int diag, pid_t init, enum weir_ip_protocol protocol, const struct weir_addr *from, uint16_t port,
                    pid_t *ret_pid, char command[static 16])
{
        uint32_t inode = find_inode(diag, protocol, from, port);
        pid_t list[OWNER_PROCESSES_MAX];
        size_t n = 0;

        if (inode == 0)
                return -ENOENT;
        n = add_children(init, list, 0);
        for (size_t i = 0; i < n; i++)
                n = add_children(list[i], list, n);
        while (n > 0) {
                pid_t pid = list[--n];

                if (!holds(pid, inode))
                        continue;
                *ret_pid = pid;
                read_command(pid, command);
                return 0;
        }
        return -ENOENT;
}
