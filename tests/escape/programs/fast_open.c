/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data with the SYN, by each call that knows it:  fast_open IPV4 IPV6 PORT
 *
 * Prints "accepted CALL" for each that the kernel took.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <arpa/inet.h>
#include <unistd.h>

static struct sockaddr_storage to;
static socklen_t to_length;

static int fresh(void)
{
        int fd = socket(to.ss_family, SOCK_STREAM, 0);
        struct timeval limit = { .tv_usec = 300000 };

        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        return fd;
}

static void tell(const char *call, int fd, long result)
{
        if (result >= 0 || errno == EINPROGRESS)
                printf("accepted %s\n", call);
        else
                printf("refused %s: %s\n", call, strerror(errno));
        close(fd);
}

static void try_all(void)
{
        char byte[] = "out";
        struct iovec iov = { byte, sizeof(byte) };
        struct mmsghdr m = { .msg_hdr = { .msg_name = &to, .msg_namelen = to_length, .msg_iov = &iov, .msg_iovlen = 1 } };
        int on = 1, fd = fresh();

        tell("sendto", fd, sendto(fd, byte, sizeof(byte), MSG_FASTOPEN, (struct sockaddr *)&to, to_length));
        fd = fresh();
        tell("sendto, non-blocking", fd,
             sendto(fd, byte, sizeof(byte), MSG_FASTOPEN | MSG_DONTWAIT, (struct sockaddr *)&to, to_length));
        fd = fresh();
        tell("sendmsg", fd, sendmsg(fd, &m.msg_hdr, MSG_FASTOPEN));
        fd = fresh();
        tell("sendmmsg", fd, sendmmsg(fd, &m, 1, MSG_FASTOPEN));
        fd = fresh();
        tell("TCP_FASTOPEN_CONNECT", fd, setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)));
        fd = fresh();
        tell("TCP_FASTOPEN", fd, setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &on, sizeof(on)));
}

int main(int argc, char **argv)
{
        struct sockaddr_in *four = (struct sockaddr_in *)&to;
        struct sockaddr_in6 *six = (struct sockaddr_in6 *)&to;

        if (argc != 4)
                return 64;
        *four = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[3])) };
        inet_pton(AF_INET, argv[1], &four->sin_addr);
        to_length = sizeof(*four);
        try_all();
        *six = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(argv[3])) };
        inet_pton(AF_INET6, argv[2], &six->sin6_addr);
        to_length = sizeof(*six);
        try_all();
        return 0;
}
