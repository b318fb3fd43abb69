/* SPDX-License-Identifier: Apache-2.0 */
/*
 *     bench-load serve ADDRESS
 *     bench-load client ADDRESS DENIED      commands on standard input, one answer a line; ends with its input
 *     bench-load once ADDRESS               one byte there and back as soon as that works; prints when
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/strutil.h"
#include "base/time.h"
#include "load.h"

void die(const char *what)
{
        (void)fprintf(stderr, "bench-load: %s: %s\n", what, strerror(errno));
        exit(1);
}

int connect_to(struct in_addr addr, uint16_t port)
{
        const struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = addr };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0)
                die("socket");
        if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0)
                return fd;
        int error = errno;

        (void)close(fd);
        errno = error;
        return -1;
}

void reset(int fd)
{
        const struct linger now = { .l_onoff = 1, .l_linger = 0 };

        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        (void)close(fd);
}

int exchange(int fd)
{
        char byte = 'x';

        if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
                return -1;
        return recv(fd, &byte, 1, 0) == 1 ? 0 : -1;
}

static int compare(const void *a, const void *b)
{
        const uint64_t *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

void sort(uint64_t *values, size_t n)
{
        qsort(values, n, sizeof(*values), compare);
}

uint64_t percentile(const uint64_t *sorted, size_t n, double percent)
{
        size_t i = (size_t)((double)n * percent / 100);

        return n == 0 ? 0 : sorted[i < n ? i : n - 1];
}

static struct in_addr address(const char *text)
{
        struct in_addr addr;

        if (inet_pton(AF_INET, text, &addr) != 1) {
                errno = EINVAL;
                die(text);
        }
        return addr;
}

static unsigned number(char **rest)
{
        const char *word = strtok_r(NULL, " \n", rest);
        uint64_t value;

        if (!word || weir_parse_uint(word, 1000000, &value) < 0) {
                errno = EINVAL;
                die(word ? word : "a number is missing");
        }
        return (unsigned)value;
}

static void act(const struct target *target, char *line)
{
        char *rest, *verb = strtok_r(line, " \n", &rest);

        if (!verb)
                return;
        if (weir_streq(verb, "up") || weir_streq(verb, "down")) {
                unsigned streams = number(&rest);

                throughput(target, weir_streq(verb, "up"), streams, number(&rest));
        } else if (weir_streq(verb, "pingpong"))
                pingpong(target, number(&rest));
        else if (weir_streq(verb, "connects")) {
                unsigned parallel = number(&rest);

                connects(target, parallel, number(&rest));
        } else if (weir_streq(verb, "refused") || weir_streq(verb, "closed"))
                refused(target, weir_streq(verb, "closed"), number(&rest));
        else if (weir_streq(verb, "idle"))
                idle(target, number(&rest));
        else if (weir_streq(verb, "allow"))
                await_allow(target);
        else if (weir_streq(verb, "deny"))
                await_deny(target);
        else {
                errno = EINVAL;
                die(verb);
        }
        (void)fflush(stdout);
}

static void once(const struct target *target)
{
        for (;;) {
                int fd = connect_to(target->allowed, PORT_ECHO);
                bool done = fd >= 0 && exchange(fd) == 0;

                if (fd >= 0)
                        reset(fd);
                if (done)
                        break;
                (void)usleep(200);
        }
        (void)printf("{\"at_ns\": %llu}\n", (unsigned long long)weir_time_ns());
}

static void raise_descriptors(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                die("getrlimit");
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
        struct target target = { 0 };
        char line[128];

        (void)signal(SIGPIPE, SIG_IGN);
        raise_descriptors();
        if (argc == 3 && weir_streq(argv[1], "serve"))
                return serve(argv[2]);
        if (argc < 3 || argc > 4) {
                (void)fprintf(stderr, "bench-load: serve ADDRESS, client ADDRESS DENIED, or once ADDRESS\n");
                return 64;
        }
        target.allowed = address(argv[2]);
        if (argc == 4)
                target.denied = address(argv[3]);
        if (weir_streq(argv[1], "once")) {
                once(&target);
                return 0;
        }
        while (fgets(line, sizeof(line), stdin))
                act(&target, line);
        return 0;
}
