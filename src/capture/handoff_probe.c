/* SPDX-License-Identifier: Apache-2.0 */
/* Whether this machine lets Weir hand sockets over, asked without running anything. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "capture/handoff_internal.h"

/* The child: waits until it has been tried on, then loads the filter that a command would get, and ends. */
static void child(int socket) __attribute__((noreturn));
static void child(int socket)
{
        struct weir_err ignored = { 0 };
        char byte;

        if (read(socket, &byte, 1) != 1 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
            weir_handoff_filter(socket, false, &ignored) < 0)
                _exit(1);
        _exit(0);
}

static int hear(int socket, struct weir_err *err)
{
        int fds[WEIR_BOX_NOTIFY_COUNT] = { -1, -1, -1 };
        struct weir_box_message message = { 0 };
        size_t n = WEIR_BOX_NOTIFY_COUNT;
        ssize_t got = weir_fd_recv(socket, &message, sizeof(message), fds, &n);

        for (size_t i = 0; i < WEIR_BOX_NOTIFY_COUNT; i++)
                weir_close_cleanup(&fds[i]);
        if (got != (ssize_t)sizeof(message))
                return weir_err_set(err, WEIR_EUNSUPPORTED, "a process with the filter of the handoff does not live");
        if (message.verb == WEIR_BOX_NOTIFY)
                return 0;
        return weir_err_set(err, WEIR_EUNSUPPORTED, "%.500s", message.text);
}

int weir_handoff_probe(struct weir_err *err)
{
        weir_auto_close int here = -1;
        int pair[2], r;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return weir_err_set(err, -errno, "cannot make a socket pair: %s", strerror(errno));
        here = pair[0];
        pid = fork();
        if (pid == 0) {
                (void)close(pair[0]);
                child(pair[1]);
        }
        r = pid < 0 ? weir_err_set(err, -errno, "cannot start a process: %s", strerror(errno)) :
                      weir_handoff_try_on(pid, pair[1], err);
        (void)close(pair[1]);
        if (r == 0 && write(here, "", 1) != 1)
                r = weir_err_set(err, -EPIPE, "a process that was started is gone");
        if (r == 0)
                r = hear(here, err);
        weir_close_cleanup(&here);
        if (pid > 0)
                while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        return r;
}
