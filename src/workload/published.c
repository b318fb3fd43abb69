/* SPDX-License-Identifier: Apache-2.0 */
/* Listening on the host's loopback for published ports. Loopback only: what a workload serves is for this machine. */
#include "workload/published.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"

static int listen_on(uint16_t port)
{
        struct sockaddr_in sa = { .sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        weir_auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) < 0 ||
            bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, SOMAXCONN) < 0)
                return -errno;
        return TAKE_FD(fd);
}

void weir_published_close(int *fds, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (fds[i] >= 0)
                        (void)close(TAKE_FD(fds[i]));
}

int weir_published_listen(const struct weir_publish *publish, size_t n, int ret_fds[static WEIR_PUBLISH_MAX],
                          struct weir_err *err)
{
        int r;

        if (n > WEIR_PUBLISH_MAX)
                return weir_err_set(err, WEIR_ELIMIT, "--publish can be given %d times at most", WEIR_PUBLISH_MAX);
        for (size_t i = 0; i < n; i++) {
                ret_fds[i] = listen_on(publish[i].host_port);
                if (ret_fds[i] >= 0)
                        continue;
                r = ret_fds[i];
                weir_published_close(ret_fds, i);
                return weir_err_set(err, r, "cannot listen on 127.0.0.1:%u for --publish: %s", publish[i].host_port,
                                    strerror(-r));
        }
        return 0;
}
