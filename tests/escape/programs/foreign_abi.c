/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls by the other ABIs of this machine, whose numbers a filter for one ABI would read as other calls. On
 * x86-64: int 0x80 (the 32-bit table) and x32 (bit 30 of the number).
 *
 * "opened WHAT" for a socket that the native filter refuses; "foreign passes" if a foreign call is carried out at all.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define X32_BIT 0x40000000UL

#ifdef __x86_64__
static void no_such_abi(int number)
{
        (void)number;
        _exit(0);
}

static long int80(long number, long a, long b, long c)
{
        long result;

        __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
        return result;
}
#endif

int main(void)
{
        setvbuf(stdout, NULL, _IONBF, 0);
        if (getpid() > 0)
                puts("native works");
#ifdef __x86_64__
        if (syscall((long)(X32_BIT | SYS_getpid)) > 0)
                puts("foreign passes x32");
        if (syscall((long)(X32_BIT | SYS_socket), 40, 1, 0) >= 0)
                puts("opened vsock by x32");
        signal(SIGSEGV, no_such_abi);
        /* 20 is getpid and 359 is socket there. */
        if (int80(20, 0, 0, 0) > 0)
                puts("foreign passes int80");
        if (int80(359, 40, 1, 0) >= 0)
                puts("opened vsock by int80");
        if (int80(359, 38, 5, 0) >= 0)
                puts("opened alg by int80");
#endif
        return 0;
}
