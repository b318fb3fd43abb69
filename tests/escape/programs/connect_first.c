/* SPDX-License-Identifier: Apache-2.0 */
/* A program whose first system calls of its own are socket() and connect():  connect_first IPV4 PORT */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in to = { .sin_family = AF_INET };

        if (argc != 3)
                return 64;
        to.sin_port = htons((uint16_t)atoi(argv[2]));
        to.sin_addr.s_addr = inet_addr(argv[1]);
        if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
                return 1;
        return write(fd, "out", 3) == 3 ? 0 : 1;
}
