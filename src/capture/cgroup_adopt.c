/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The cgroup and those below it are walked: their numbers, and their processes. Each descriptor of a process that is a
 * socket is looked up by its inode in a dump of sock_diag(7), made in the network namespace of that process, which says
 * in which cgroup it was made (INET_DIAG_CGROUP_ID, Linux 5.9). A socket that no dump of TCP or UDP shows is asked for
 * its family by a duplicate (pidfd_getfd): AF_UNIX and AF_NETLINK send nothing to a network, all else is refused.
 */
#include "capture/cgroup_adopt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"
#include "capture/cgroup_place.h"

#define DUMP_BYTES 32768
#define PROCS_MAX (4 * 1024 * 1024)

struct made {
        uint64_t cgroup;
        uint32_t inode;
};

struct list {
        void *items;
        size_t n, capacity;
        int error;
};

struct inside {
        struct list groups;    /* uint64_t */
        struct list processes; /* pid_t */
};

static void add(struct list *list, const void *item, size_t size)
{
        if (list->n == list->capacity) {
                size_t capacity = list->capacity ? 2 * list->capacity : 64;
                void *moved = reallocarray(list->items, capacity, size);

                if (!moved) {
                        list->error = -ENOMEM;
                        return;
                }
                list->items = moved;
                list->capacity = capacity;
        }
        memcpy((char *)list->items + list->n++ * size, item, size);
}

static int add_processes(int group, struct inside *inside)
{
        weir_auto_free char *text = NULL;
        size_t n;
        int r = weir_file_slurp(group, "cgroup.procs", PROCS_MAX, &text, &n);

        /* A threaded group lists threads alone; their process is in one of those above. */
        if (r < 0)
                return r == -EOPNOTSUPP ? 0 : r;
        for (char *at = text, *end; *at; at = *end ? end + 1 : end) {
                pid_t pid = (pid_t)strtol(at, &end, 10);

                if (end == at)
                        break;
                if (pid > 0)
                        add(&inside->processes, &pid, sizeof(pid));
        }
        return inside->processes.error;
}

static int walk(int group, struct inside *inside)
{
        int fd = openat(group, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *entry;
        uint64_t id;

        if (!dir)
                return -errno;
        r = weir_cgroup_id(group, &id);
        if (r == 0) {
                add(&inside->groups, &id, sizeof(id));
                r = inside->groups.error ? inside->groups.error : add_processes(group, inside);
        }
        while (r == 0 && (entry = readdir(dir))) {
                weir_auto_close int below = -1;

                if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
                        continue;
                below = openat(group, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                r = below < 0 ? 0 : walk(below, inside); /* gone meanwhile */
        }
        (void)closedir(dir);
        return r;
}

static int on_socket(const struct nlmsghdr *h, void *data)
{
        const struct inet_diag_msg *m = mnl_nlmsg_get_payload(h);
        struct made made = { 0 };
        const struct nlattr *attr;

        if (mnl_nlmsg_get_payload_len(h) < sizeof(*m))
                return MNL_CB_ERROR;
        made.inode = m->idiag_inode;
        mnl_attr_for_each(attr, h, sizeof(*m)) if (mnl_attr_get_type(attr) == INET_DIAG_CGROUP_ID &&
                                                   mnl_attr_get_payload_len(attr) == sizeof(made.cgroup))
                memcpy(&made.cgroup, mnl_attr_get_payload(attr), sizeof(made.cgroup));
        add(data, &made, sizeof(made));
        return MNL_CB_OK;
}

static int dump(int diag, uint8_t family, uint8_t protocol, struct list *sockets)
{
        weir_auto_free char *buf = malloc(DUMP_BYTES);
        struct inet_diag_req_v2 *request;
        struct nlmsghdr *h;
        int r = MNL_CB_OK;

        if (!buf)
                return -ENOMEM;
        h = mnl_nlmsg_put_header(buf);
        h->nlmsg_type = SOCK_DIAG_BY_FAMILY;
        h->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        request = mnl_nlmsg_put_extra_header(h, sizeof(*request));
        request->sdiag_family = family;
        request->sdiag_protocol = protocol;
        request->idiag_states = ~0U;
        if (send(diag, h, h->nlmsg_len, 0) < 0)
                return -errno;
        while (r == MNL_CB_OK) {
                ssize_t n = recv(diag, buf, DUMP_BYTES, 0);

                r = n < 0 ? -errno : mnl_cb_run(buf, (size_t)n, 0, 0, on_socket, sockets);
                if (r == MNL_CB_ERROR)
                        r = -errno;
        }
        return r < 0 ? r : sockets->error;
}

/* A diag socket of the process's network, wherever that is. */
static int diag_of(pid_t pid)
{
        weir_auto_close int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = -1;
        char path[40];
        int fd;

        (void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
        there = open(path, O_RDONLY | O_CLOEXEC);
        if (here < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0)
                return -errno;
        fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
        if (setns(here, CLONE_NEWNET) < 0)
                abort(); /* in a network that is not ours nothing may go on */
        return fd < 0 ? -errno : fd;
}

static int sockets_of(pid_t pid, struct list *ret)
{
        weir_auto_close int diag = diag_of(pid);
        int r = diag < 0 ? diag : 0;

        for (size_t i = 0; i < 4 && r == 0; i++)
                r = dump(diag, i & 1 ? AF_INET6 : AF_INET, i & 2 ? IPPROTO_UDP : IPPROTO_TCP, ret);
        return r;
}

static bool is_inside(const struct inside *inside, uint64_t group)
{
        for (size_t i = 0; i < inside->groups.n; i++)
                if (((const uint64_t *)inside->groups.items)[i] == group)
                        return true;
        return false;
}

/* Of a socket that no dump shows. */
static bool harmless(pid_t pid, int number)
{
        weir_auto_close int process = (int)syscall(SYS_pidfd_open, pid, 0), fd = -1;
        int domain = -1;
        socklen_t length = sizeof(domain);

        fd = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, number, 0);
        if (fd < 0)
                return errno == ESRCH || errno == EBADF; /* gone meanwhile */
        return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 &&
               (domain == AF_UNIX || domain == AF_NETLINK);
}

static bool governed(const struct inside *inside, const struct list *sockets, pid_t pid, int number, uint32_t inode)
{
        for (size_t i = 0; i < sockets->n; i++) {
                const struct made *made = &((const struct made *)sockets->items)[i];

                if (made->inode == inode)
                        return is_inside(inside, made->cgroup);
        }
        return harmless(pid, number);
}

static int refuse(pid_t pid, int number, struct weir_err *err)
{
        weir_auto_free char *command = NULL;
        char path[40];
        size_t n;

        (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
        if (weir_file_slurp(AT_FDCWD, path, 64, &command, &n) == 0)
                command[strcspn(command, "\n")] = '\0';
        return weir_err_set(
                err, WEIR_EUNSUPPORTED,
                "process %d (%s) holds a network socket (descriptor %d) that was made outside of the cgroup, "
                "and no gate would hold it: start it again inside, then attach",
                (int)pid, command ? command : "?", number);
}

static int check_process(const struct inside *inside, pid_t pid, struct weir_err *err)
{
        struct list sockets = { 0 };
        const struct dirent *entry;
        char path[40], link[64];
        int r = 0;
        DIR *dir;

        (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
        dir = opendir(path);
        if (!dir)
                return errno == ENOENT ? 0 : weir_err_set(err, -errno, "cannot list %s: %s", path, strerror(errno));
        while (r == 0 && (entry = readdir(dir))) {
                ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);
                unsigned inode;

                link[n > 0 ? n : 0] = '\0';
                if (sscanf(link, "socket:[%u]", &inode) != 1)
                        continue;
                if (sockets.n == 0 && sockets_of(pid, &sockets) < 0 && kill(pid, 0) == 0)
                        r = weir_err_set(err, WEIR_EUNSUPPORTED, "cannot list the sockets of process %d", (int)pid);
                if (r == 0 && !governed(inside, &sockets, pid, atoi(entry->d_name), inode))
                        r = refuse(pid, atoi(entry->d_name), err);
        }
        (void)closedir(dir);
        free(sockets.items);
        return r;
}

int weir_adopt_check(int cgroup, struct weir_err *err)
{
        struct inside inside = { 0 };
        int r;

        r = walk(cgroup, &inside);
        if (r < 0)
                (void)weir_err_set(err, r, "cannot list what is in the cgroup: %s", strerror(-r));
        for (size_t i = 0; i < inside.processes.n && r == 0; i++)
                r = check_process(&inside, ((const pid_t *)inside.processes.items)[i], err);
        free(inside.groups.items);
        free(inside.processes.items);
        return r;
}
