/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * weir init leaves every door closed; the proxy opens one for itself when it starts, and is sure that it did:
 *
 *   1. It closes the door of an earlier proxy (flush chain proxy). That fails if the rules are not there.
 *   2. It sends a datagram to an address of loopback behind the door: dropped, which the sender is told as EPERM, or
 * the rules do not hold. (A connection that is rejected would be told of it a second later only.)
 *   3. It puts its door: its own cgroup if the kernel can match it, else its user and a mark nobody can guess.
 *   4. It sends again: taken, so the door is open; else the next means, or no proxy.
 *
 * A cgroup is named by its inode, relative to this process's cgroup namespace: only where that namespace begins at the
 * own cgroup does "." name the proxy alone. In the machine's root, which has no cgroup.events, it would name everybody.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"
#include "capture/caps.h"
#include "capture/nft_rules.h"
#include "capture/redirect.h"

#define CGROUPS "/sys/fs/cgroup"

static int run(const char *ruleset, struct weir_err *err)
{
        return ruleset ? weir_nft_run(ruleset, err) : weir_err_set(err, -ENOMEM, "out of memory");
}

/* Whether the cgroup namespace begins at this process's cgroup, which is not the machine's root. */
static bool cgroup_is_own(void)
{
        weir_auto_free char *text = NULL;
        struct statfs fs;
        size_t n;

        if (statfs(CGROUPS, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC ||
            access(CGROUPS "/cgroup.events", F_OK) < 0 ||
            weir_file_slurp(AT_FDCWD, "/proc/self/cgroup", 65536, &text, &n) < 0)
                return false;
        return weir_starts_with(text, "0::/\n") || strstr(text, "\n0::/\n");
}

/* Whether the door is open: 1, 0, or -errno for any other answer. Nobody listens behind it. */
static int try_door(uint32_t mark)
{
        struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(9) };
        weir_auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || inet_pton(AF_INET, WEIR_REDIRECT_TRIAL, &sa.sin_addr) != 1)
                return -errno;
        if (mark && setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) < 0)
                return -errno;
        if (sendto(fd, "", 1, 0, (struct sockaddr *)&sa, sizeof(sa)) == 1)
                return 1;
        return errno == EPERM ? 0 : -errno;
}

static int close_door(struct weir_err *err)
{
        struct weir_err nft = { 0 };
        int r = run("flush chain inet weir proxy\n", &nft);

        if (r < 0)
                return weir_err_set(err, r, "the rules of weir init are not laid in this network namespace: %s",
                                    nft.text);
        r = try_door(0);
        if (r == 0)
                return 0;
        return weir_err_set(err, WEIR_EUNSUPPORTED, "the rules of weir init do not hold in this network namespace: %s",
                            r > 0 ? "a datagram that they drop went through" : strerror(-r));
}

static int open_by(uint32_t mark, struct weir_err *err)
{
        weir_auto_free char *door = weir_redirect_door(geteuid(), mark);
        int r = run(door, err);

        if (r < 0)
                return r;
        r = try_door(mark);
        if (r == 1)
                return 0;
        return weir_err_set(err, WEIR_EUNSUPPORTED, "the kernel does not tell this proxy by its %s: %s",
                            mark ? "user and mark" : "cgroup", r < 0 ? strerror(-r) : "still dropped");
}

static int open_by_mark(uint32_t *ret_mark, struct weir_err *err)
{
        uint32_t mark = 0;
        int r;

        while (mark == 0)
                if (getrandom(&mark, sizeof(mark), 0) != sizeof(mark))
                        return weir_err_set(err, -EIO, "no random bytes");
        r = open_by(mark, err);
        if (r == 0)
                *ret_mark = mark;
        return r;
}

int weir_redirect_open_door(enum weir_exempt exempt, uint32_t *ret_mark, struct weir_err *err)
{
        struct weir_err cgroup = { 0 };
        int r;

        if (weir_caps_raise(CAP_NET_ADMIN) < 0)
                return weir_err_set(
                        err, -EPERM,
                        "CAP_NET_ADMIN is missing, without which the proxy cannot be told from the workload: "
                        "a container needs capabilities.add [NET_ADMIN] and, if it is not root, an image whose "
                        "weir has kept its file capability");
        r = close_door(err);
        if (r < 0 || exempt == WEIR_EXEMPT_MARK)
                return r < 0 ? r : open_by_mark(ret_mark, err);
        if (cgroup_is_own()) {
                r = open_by(0, &cgroup);
        } else {
                r = weir_err_set(&cgroup, WEIR_EUNSUPPORTED,
                                 "this process has no cgroup v2 of its own at " CGROUPS " (a cgroup namespace)");
        }
        if (r == 0) {
                *ret_mark = 0;
                return 0;
        }
        if (exempt == WEIR_EXEMPT_AUTO)
                return open_by_mark(ret_mark, err);
        *err = cgroup;
        return r;
}
