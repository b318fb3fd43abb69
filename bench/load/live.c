/* SPDX-License-Identifier: Apache-2.0 */
/* When a change of the policy is felt: by who tries to connect, and by who is connected. */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "load.h"

static bool reaches(const struct target *target)
{
        int fd = connect_to(target->allowed, PORT_ECHO);
        bool good = fd >= 0 && exchange(fd) == 0;

        if (fd >= 0)
                reset(fd);
        return good;
}

static void say(const char *what, uint64_t at)
{
        (void)printf("{\"%s\": %llu}\n", what, (unsigned long long)at);
        (void)fflush(stdout);
}

/* Tries until it is let through. "ready" after the first refusal: the change may come. */
void await_allow(const struct target *target)
{
        if (reaches(target)) {
                errno = EPROTO;
                die("it is open already");
        }
        say("ready", weir_time_ns());
        while (!reaches(target))
                (void)usleep(100);
        say("at_ns", weir_time_ns());
}

/* Holds a connection until it is cut. */
void await_deny(const struct target *target)
{
        int fd = connect_to(target->allowed, PORT_ECHO);
        char byte;

        if (fd < 0 || exchange(fd) < 0)
                die("cannot connect");
        say("ready", weir_time_ns());
        if (recv(fd, &byte, 1, 0) > 0)
                die("a byte came from nowhere");
        say("at_ns", weir_time_ns());
        (void)close(fd);
}
