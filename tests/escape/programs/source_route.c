/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routing headers and options on sockets to an allowed host, which send the packets through another one first:
 *
 *     source_route ALLOWED6 THROUGH6 PORT
 *
 * "option taken NAME" for each option that the kernel accepts. Type 4 (segment routing, RFC 8754) needs no privilege.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPV6_2292RTHDR
#define IPV6_2292RTHDR 5
#define IPV6_2292PKTOPTIONS 6
#define IPV6_2292HOPOPTS 3
#define IPV6_2292DSTOPTS 4
#endif

static struct sockaddr_in6 to;
static struct in6_addr through;

/*
 * RFC 8754 section 2:  next header 8 | length 8 | type 8 | segments left 8 | last entry 8 | flags 8 | tag 16 | segments
 * Segment 0 is the final destination; the kernel fills it in.
 */
static size_t routing_header(unsigned char *out, unsigned char type)
{
        memset(out, 0, 40);
        out[1] = 4;
        out[2] = type;
        out[3] = 1;
        out[4] = 1;
        memcpy(out + 8, &to.sin6_addr, 16);
        memcpy(out + 24, &through, 16);
        return 40;
}

static void option(int type, int name, const char *text, const void *value, size_t n)
{
        int fd = socket(AF_INET6, type, 0);
        struct timeval limit = { .tv_usec = 200000 };

        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        if (setsockopt(fd, IPPROTO_IPV6, name, value, (socklen_t)n) == 0)
                printf("option taken %s\n", text);
        if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
                (void)!write(fd, "out", 3);
        /* And once more on the connected socket. */
        if (setsockopt(fd, IPPROTO_IPV6, name, value, (socklen_t)n) == 0)
                printf("option taken %s, connected\n", text);
        (void)!write(fd, "out", 3);
        close(fd);
}

static void message(int type, int name, const void *value, size_t n)
{
        char control[128] __attribute__((aligned(8))) = { 0 };
        struct iovec iov = { "out", 3 };
        struct msghdr m = { .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &iov, .msg_iovlen = 1,
                            .msg_control = control, .msg_controllen = CMSG_SPACE(n) };
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        int fd = socket(AF_INET6, type, 0);

        c->cmsg_level = IPPROTO_IPV6;
        c->cmsg_type = name;
        c->cmsg_len = CMSG_LEN(n);
        memcpy(CMSG_DATA(c), value, n);
        if (type == SOCK_STREAM) {
                (void)!connect(fd, (struct sockaddr *)&to, sizeof(to));
                m.msg_name = NULL;
                m.msg_namelen = 0;
        }
        printf("message %d: %s\n", name, sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? strerror(errno) : "sent");
        close(fd);
}

int main(int argc, char **argv)
{
        unsigned char header[64], padding[8] = { 0, 0, 1, 4, 0, 0, 0, 0 };
        static const int types[] = { SOCK_STREAM, SOCK_DGRAM };

        if (argc != 4)
                return 64;
        to = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((unsigned short)atoi(argv[3])) };
        inet_pton(AF_INET6, argv[1], &to.sin6_addr);
        inet_pton(AF_INET6, argv[2], &through);
        for (size_t i = 0; i < 2; i++) {
                size_t n = routing_header(header, 4);

                option(types[i], IPV6_RTHDR, "IPV6_RTHDR", header, n);
                option(types[i], IPV6_2292RTHDR, "IPV6_2292RTHDR", header, n);
                option(types[i], IPV6_HOPOPTS, "IPV6_HOPOPTS", padding, 8);
                option(types[i], IPV6_DSTOPTS, "IPV6_DSTOPTS", padding, 8);
                option(types[i], IPV6_RTHDRDSTOPTS, "IPV6_RTHDRDSTOPTS", padding, 8);
                message(types[i], IPV6_RTHDR, header, n);
                message(types[i], IPV6_2292RTHDR, header, n);
                message(types[i], IPV6_DSTOPTS, padding, 8);
                n = routing_header(header, 0);
                option(types[i], IPV6_RTHDR, "IPV6_RTHDR of type 0", header, n);
        }
        return 0;
}
