/* SPDX-License-Identifier: Apache-2.0 */
/* A write in a child that stops at each of its system calls, before and after. */
#pragma once

#include "help.h"

#include <elf.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

#ifndef PTRACE_GET_SYSCALL_INFO
#define PTRACE_GET_SYSCALL_INFO 0x420e
#endif

/* One stop in a system call, as PTRACE_GET_SYSCALL_INFO fills it; only the beginning is of interest. */
struct trace_stop {
        uint8_t op; /* 1 at entry, 2 at exit */
        uint8_t pad[3];
        uint32_t arch;
        uint64_t instruction_pointer, stack_pointer;
        union {
                uint64_t nr;
                int64_t result;
        };
        uint64_t args[6];
};

/* What the child does with the store; 0 or what went wrong, told in @err. */
typedef int trace_victim(struct weir_store *store, struct weir_err *err);

static inline int trace_apply(struct weir_store *store, struct weir_err *err)
{
        uint64_t revision;

        return help_put(store, HELP_APPLY, "a", CIDR_B, NULL, &revision, err);
}

static inline int trace_create(struct weir_store *store, struct weir_err *err)
{
        struct weir_resource *resource = help_resource("team", "b", CIDR_B, NULL);
        uint64_t revision;
        int r;

        r = weir_store_create(store, resource, &revision, err);
        weir_resource_unref(resource);
        return r;
}

static inline int trace_delete(struct weir_store *store, struct weir_err *err)
{
        return weir_store_delete(store, WEIR_KIND_EXTERNAL_SERVICE, "default", "a", err);
}

/*
 * The child stops itself when all is ready, so that only @run is stepped through. It ends with 0, or 9 for a failure,
 * whose error is then in @ret_err, which is shared with the child if it is not NULL.
 */
static inline pid_t trace_start(const char *folder, trace_victim *run, struct weir_err *ret_err)
{
        pid_t pid = help_fork();
        int status;

        if (pid == 0) {
                weir_auto(store) struct weir_store *store = help_open(folder, true);
                struct weir_err err = { 0 };

                assert_int_equal(ptrace(PTRACE_TRACEME, 0, NULL, NULL), 0);
                (void)raise(SIGSTOP);
                _exit(run(store, ret_err ? ret_err : &err) == 0 ? 0 : 9);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSTOPPED(status));
        assert_int_equal(
                ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(uintptr_t)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)),
                0);
        return pid;
}

/* To the next entry or exit of a system call. False when the child has ended. */
static inline bool trace_step(pid_t pid, int *ret_status)
{
        assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, ret_status, 0), pid);
        return WIFSTOPPED(*ret_status);
}

static inline struct trace_stop trace_look(pid_t pid)
{
        struct trace_stop stop;

        assert_true(ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(stop), &stop) > 0);
        return stop;
}

/* At an entry: the call is not made. */
static inline void trace_skip(pid_t pid)
{
#if defined(__x86_64__)
        assert_int_equal(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, orig_rax), -1L), 0);
#elif defined(__aarch64__)
        int none = -1;
        struct iovec io = { .iov_base = &none, .iov_len = sizeof(none) };

        assert_int_equal(ptrace(PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, &io), 0);
#else
#error "say here how a system call is skipped, see ptrace(2)"
#endif
}

/* At the exit that follows: what it seems to have returned. */
static inline void trace_return(pid_t pid, long result)
{
#if defined(__x86_64__)
        assert_int_equal(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user_regs_struct, rax), result), 0);
#elif defined(__aarch64__)
        struct user_regs_struct registers;
        struct iovec io = { .iov_base = &registers, .iov_len = sizeof(registers) };

        assert_int_equal(ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &io), 0);
        registers.regs[0] = (unsigned long long)result;
        assert_int_equal(ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &io), 0);
#endif
}
