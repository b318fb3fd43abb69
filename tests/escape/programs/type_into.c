/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typing a line into the terminal this runs on, so that the shell that started it reads it:  type_into LINE
 *
 * By TIOCSTI, by TIOCLINUX (paste), by the same requests with bits set above the 32nd, which the kernel does not look at, and
 * on the terminal opened by each of its names.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef TIOCLINUX
#define TIOCLINUX 0x541C
#endif

static int type(int fd, unsigned long request, const char *line)
{
        int typed = 0;

        for (const char *at = line; *at; at++)
                typed += syscall(SYS_ioctl, fd, request, at) == 0;
        return typed + (syscall(SYS_ioctl, fd, request, "\n") == 0);
}

int main(int argc, char **argv)
{
        static const char *const names[] = { "/dev/tty", "/proc/self/fd/0", "/proc/self/fd/1", "/dev/stdin", "/dev/console" };
        static const unsigned long requests[] = { TIOCSTI, TIOCSTI | 1UL << 32, TIOCSTI | 1UL << 63, TIOCLINUX, TIOCLINUX | 1UL << 40 };

        if (argc != 2)
                return 64;
        for (size_t r = 0; r < sizeof(requests) / sizeof(requests[0]); r++) {
                printf("%lx on 0: %s\n", requests[r], type(0, requests[r], argv[1]) ? "typed" : strerror(errno));
                for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
                        int fd = open(names[n], O_RDWR | O_NOCTTY);

                        if (fd >= 0 && type(fd, requests[r], argv[1]))
                                printf("%lx on %s: typed\n", requests[r], names[n]);
                        close(fd);
                }
        }
        puts("end of probe");
        return 0;
}
