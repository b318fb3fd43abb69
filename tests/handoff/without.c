/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a command on a machine that lacks something, by a filter around it:
 *
 *     without landlock|notify|ptrace|kcmp|listener|table COMMAND...
 *
 * landlock   landlock_create_ruleset is not there              notify    no filter with a listener can be loaded
 * ptrace     pidfd_getfd is refused, as ptrace_scope 3 does    kcmp      kcmp is not there
 * listener   an outer filter has the listener already       table     no thread can have a descriptor table of its own
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#endif
#ifndef __NR_pidfd_getfd
#define __NR_pidfd_getfd 438
#endif

static int lack(scmp_filter_ctx ctx, const char *what)
{
        if (strcmp(what, "landlock") == 0)
                return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), __NR_landlock_create_ruleset, 0);
        if (strcmp(what, "notify") == 0)
                return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(seccomp), 2,
                                        SCMP_A0(SCMP_CMP_EQ, SECCOMP_SET_MODE_FILTER),
                                        SCMP_A1(SCMP_CMP_MASKED_EQ, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                                                SECCOMP_FILTER_FLAG_NEW_LISTENER));
        if (strcmp(what, "ptrace") == 0)
                return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), __NR_pidfd_getfd, 0);
        if (strcmp(what, "kcmp") == 0)
                return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(kcmp), 0);
        if (strcmp(what, "listener") == 0)
                return seccomp_rule_add(ctx, SCMP_ACT_NOTIFY, SCMP_SYS(lookup_dcookie), 0);
        if (strcmp(what, "table") == 0)
                return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 1,
                                        SCMP_A0(SCMP_CMP_EQ, CLONE_FILES));
        return -EINVAL;
}

int main(int argc, char **argv)
{
        scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

        if (argc < 3 || !ctx || lack(ctx, argv[1]) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            seccomp_load(ctx) < 0) {
                (void)fprintf(stderr, "without: cannot load the filter: %s\n", argc > 1 ? argv[1] : "no argument");
                return 99;
        }
        /* A listener that nobody holds is none. */
        if (strcmp(argv[1], "listener") == 0)
                (void)fcntl(seccomp_notify_fd(ctx), F_SETFD, 0);
        (void)execvp(argv[2], argv + 2);
        return 98;
}
