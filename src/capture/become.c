/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What root keeps is a list of what ordinary services need, as containers keep it. Not on it, because each leads past
 * the gates: CAP_NET_RAW and CAP_NET_ADMIN (packets that belong to no socket of the cgroup: AF_PACKET, AF_XDP, TUN),
 * CAP_SYS_ADMIN, CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE (the gates themselves, or a process outside), CAP_MKNOD,
 * CAP_SYS_MODULE and CAP_SYS_RAWIO (the kernel's memory).
 */
#include "capture/become.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/strutil.h"
#include "capture/caps.h"

static const unsigned kept[] = { CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,           CAP_FSETID,      CAP_KILL,
                                 CAP_SETGID, CAP_SETUID,       CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE, CAP_SETFCAP };

int weir_become_find(const char *user, struct weir_become *ret, struct weir_err *err)
{
        struct weir_become become = { 0 };
        int n = WEIR_GROUPS_MAX;
        const struct passwd *pw;
        uint64_t id;

        if (!user) {
                *ret = become;
                return 0;
        }
        errno = 0;
        pw = weir_parse_uint(user, UINT32_MAX - 1, &id) == 0 ? getpwuid((uid_t)id) : getpwnam(user);
        if (!pw)
                return weir_err_set(err, -ENOENT, "--user: there is no user %s", user);
        become.uid = pw->pw_uid;
        become.gid = pw->pw_gid;
        (void)snprintf(become.name, sizeof(become.name), "%s", pw->pw_name);
        (void)snprintf(become.home, sizeof(become.home), "%s", pw->pw_dir);
        if (getgrouplist(pw->pw_name, pw->pw_gid, become.groups, &n) < 0)
                return weir_err_set(err, WEIR_ELIMIT, "--user: %s is in more than %d groups", user, WEIR_GROUPS_MAX);
        become.n_groups = (size_t)n;
        *ret = become;
        return 0;
}

/* The bounding set first: it needs CAP_SETPCAP. */
static int limit_root(struct weir_err *err)
{
        capng_clear(CAPNG_SELECT_ALL);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(kept); i++)
                (void)capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET, kept[i]);
        if (capng_apply(CAPNG_SELECT_BOUNDS) != 0 || capng_apply(CAPNG_SELECT_CAPS) != 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot drop capabilities");
        if (capng_get_caps_process() != 0 || capng_have_capability(CAPNG_EFFECTIVE, CAP_NET_RAW) ||
            capng_have_capability(CAPNG_PERMITTED, CAP_SYS_ADMIN) ||
            capng_have_capability(CAPNG_BOUNDING_SET, CAP_NET_ADMIN))
                return weir_err_set(err, WEIR_EUNSUPPORTED, "capabilities are left although they were dropped");
        return 0;
}

int weir_become_environment(const struct weir_become *b, struct weir_err *err)
{
        if (b->name[0] &&
            (setenv("HOME", b->home, 1) < 0 || setenv("USER", b->name, 1) < 0 || setenv("LOGNAME", b->name, 1) < 0))
                return weir_err_set(err, -ENOMEM, "out of memory");
        return 0;
}

int weir_become(const struct weir_become *b, struct weir_err *err)
{
        if (b->uid == 0 && b->name[0] == '\0')
                return limit_root(err);
        if (setgroups(b->n_groups, b->groups) < 0 || setresgid(b->gid, b->gid, b->gid) < 0)
                return weir_err_set(err, -errno, "--user: cannot become %s: %s", b->name, strerror(errno));
        if (b->uid == 0)
                return limit_root(err);
        /* The bounding set goes while root is still there to drop it, the rest with the ids. */
        capng_clear(CAPNG_SELECT_ALL);
        if (capng_apply(CAPNG_SELECT_BOUNDS) != 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot drop capabilities");
        if (setresuid(b->uid, b->uid, b->uid) < 0)
                return weir_err_set(err, -errno, "--user: cannot become %s: %s", b->name, strerror(errno));
        capng_clear(CAPNG_SELECT_ALL);
        if (capng_apply(CAPNG_SELECT_CAPS) != 0 || capng_get_caps_process() != 0 ||
            capng_have_capabilities(CAPNG_SELECT_ALL) != CAPNG_NONE)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "capabilities are left although they were dropped");
        return 0;
}
