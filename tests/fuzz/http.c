/* SPDX-License-Identifier: Apache-2.0 */
/* Requests for health and metrics: the input arrives in two pieces, parted where its first byte says. */
#include "fuzz.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "admin/http.h"
#include "base/buf.h"
#include "base/strutil.h"
#include "event/loop.h"

static bool is_ready(void *context)
{
        return *(const bool *)context;
}

static void write_metrics(void *context, struct weir_buf *buf)
{
        (void)context;
        weir_buf_puts(buf, "weir_up 1\n");
}

static const struct weir_admin_ops ops = { .ready = is_ready, .metrics = write_metrics };

/* A name that the kernel chooses, and a connection to it. */
static int listen_somewhere(int *ret_client)
{
        struct sockaddr_un sun = { .sun_family = AF_UNIX };
        socklen_t length = sizeof(sun);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        CHECK(fd >= 0 && bind(fd, (const struct sockaddr *)&sun, sizeof(sa_family_t)) == 0 && listen(fd, 1) == 0);
        CHECK(getsockname(fd, (struct sockaddr *)&sun, &length) == 0);
        *ret_client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(*ret_client >= 0 && connect(*ret_client, (const struct sockaddr *)&sun, length) == 0);
        return fd;
}

static void turn(struct weir_loop *loop)
{
        for (int i = 0; i < 4; i++)
                CHECK(weir_loop_once(loop, 0) == 0);
}

static void check_reply(const char *text, const uint8_t *request, size_t n)
{
        bool right = n >= 4 && memcmp(request, "GET ", 4) == 0, head = n >= 5 && memcmp(request, "HEAD ", 5) == 0;

        CHECK(weir_starts_with(text, "HTTP/1.1 ") && strstr(text, "\r\n\r\n"));
        CHECK(!weir_starts_with(text, "HTTP/1.1 200") || right || head || memchr(request, ' ', n) != NULL);
        if (head && weir_starts_with(text, "HTTP/1.1 200"))
                CHECK(strstr(text, "\r\n\r\n")[4] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        struct weir_admin *admin;
        struct weir_loop *loop;
        size_t first = n > 0 ? bytes[0] % n : 0;
        bool ready = n % 2;
        char reply[8192];
        int client, listener = listen_somewhere(&client);
        ssize_t got;

        CHECK(weir_loop_new(&loop) == 0 && weir_admin_new(loop, listener, &ops, &ready, &admin) == 0);
        turn(loop);
        if (n > 0) {
                (void)send(client, bytes + 1, first, MSG_NOSIGNAL | MSG_DONTWAIT);
                turn(loop);
                (void)send(client, bytes + 1 + first, n - 1 - first, MSG_NOSIGNAL | MSG_DONTWAIT);
                turn(loop);
        }
        got = recv(client, reply, sizeof(reply) - 1, MSG_DONTWAIT);
        if (got > 0) {
                reply[got] = '\0';
                check_reply(reply, bytes + 1, n - 1);
        }
        weir_admin_free(admin);
        weir_loop_free(loop);
        (void)close(client);
        return 0;
}
