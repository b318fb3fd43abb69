/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything one process can do to another, tried on each pid given, and on all that are visible without arguments:
 * signals, ptrace, pidfd, memory, descriptors, namespaces, roots. "reached WHAT PID" for what worked on a process that is
 * not a child of this one.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void reached(const char *what, int pid)
{
        printf("reached %s %d\n", what, pid);
}

static void try_files(int pid)
{
        static const char *const names[] = { "mem", "root/etc/hostname", "environ", "maps", "fd/0", "fd/1", "fd/2", "cwd/." };
        char path[64];

        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                int fd;

                snprintf(path, sizeof(path), "/proc/%d/%s", pid, names[i]);
                fd = open(path, i == 0 ? O_RDWR : O_RDONLY | O_NONBLOCK | O_NOCTTY);
                if (fd >= 0)
                        reached(names[i], pid);
                close(fd);
        }
}

static void try_namespaces(int pid)
{
        static const char *const names[] = { "user", "net", "mnt", "pid", "ipc" };
        char path[64];
        pid_t child;
        int status, fd = (int)syscall(SYS_pidfd_open, pid, 0);

        child = fork();
        if (child == 0) {
                for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                        int ns;

                        snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, names[i]);
                        ns = open(path, O_RDONLY);
                        if (ns >= 0 && setns(ns, 0) == 0)
                                reached(names[i], pid);
                }
                if (fd >= 0 && setns(fd, CLONE_NEWUSER | CLONE_NEWNET) == 0)
                        reached("namespaces by pidfd", pid);
                fflush(stdout);
                _exit(0);
        }
        waitpid(child, &status, 0);
        for (int i = 0; fd >= 0 && i < 16; i++) {
                int got = (int)syscall(SYS_pidfd_getfd, fd, i, 0);

                if (got >= 0)
                        reached("a descriptor by pidfd_getfd", pid);
                close(got);
        }
        close(fd);
}

static void try_one(int pid, int signal_number)
{
        char byte;
        struct iovec here = { &byte, 1 }, there = { (void *)0x400000, 1 };

        if (kill(pid, signal_number) == 0)
                reached("a signal", pid);
        if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0)
                reached("ptrace", pid);
        if (process_vm_readv(pid, &here, 1, &there, 1, 0) >= 0 || (errno != EPERM && errno != ESRCH))
                reached("memory by process_vm_readv", pid);
        if (syscall(SYS_kcmp, pid, getpid(), 0, 0, 0) >= 0)
                reached("kcmp", pid);
        try_files(pid);
        try_namespaces(pid);
}

int main(int argc, char **argv)
{
        struct dirent *entry;
        DIR *dir;

        setvbuf(stdout, NULL, _IOLBF, 0);
        if (argc > 1) {
                for (int i = 1; i < argc; i++)
                        try_one(atoi(argv[i]), 0);
                puts("done");
                return 0;
        }
        /* The parent is PID 1 of the sandbox, or the shell that started this. */
        dir = opendir("/proc");
        while (dir && (entry = readdir(dir))) {
                int pid = atoi(entry->d_name);

                if (pid > 0 && pid != getpid() && pid != getppid())
                        try_one(pid, 0);
        }
        try_one(1, 0);
        puts("done");
        return 0;
}
