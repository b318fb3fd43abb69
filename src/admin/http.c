/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A fixed table of peers. One request a connection: its head is read up to HEAD_MAX bytes, answered, and the connection
 * closed. A peer that has not asked, or not read its answer, when its time is over is dropped. When the table is full
 * the oldest peer makes room, so that a probe always gets in. Handlers may close only their own peer, and the loop
 * delivers nothing for a descriptor that was taken off it, so a slot's number suffices as the event's id with its
 * generation.
 */
#include "admin/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "base/time.h"
#include "event/loop.h"

#define PEERS_MAX 16
#define HEAD_MAX 4096
#define PEER_NS (5 * WEIR_SEC)

struct peer {
        int fd; /* -1: free */
        uint32_t generation;
        uint64_t since_ns;
        char head[HEAD_MAX + 1];
        size_t n_head;
        struct weir_buf answer;
        size_t sent;
};

struct weir_admin {
        struct weir_loop *loop;
        struct weir_timer *timer;
        int listener;
        const struct weir_admin_ops *ops;
        void *context;
        struct peer peers[PEERS_MAX];
};

static void drop(struct weir_admin *admin, struct peer *peer)
{
        weir_loop_del(admin->loop, peer->fd);
        (void)close(peer->fd);
        weir_buf_clear(&peer->answer);
        peer->fd = -1;
        peer->generation++;
}

static void respond(struct peer *peer, unsigned status, const char *words, const char *body, bool head_only)
{
        weir_buf_printf(&peer->answer,
                        "HTTP/1.1 %u %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: "
                        "%zu\r\nConnection: close\r\n\r\n",
                        status, words, strlen(body));
        if (!head_only)
                weir_buf_puts(&peer->answer, body);
}

static void respond_metrics(const struct weir_admin *admin, struct peer *peer, bool head_only)
{
        weir_auto(buf) struct weir_buf body = { 0 };

        admin->ops->metrics(admin->context, &body);
        if (body.error)
                respond(peer, 500, "Internal Server Error", "out of memory\n", head_only);
        else
                respond(peer, 200, "OK", body.data ? body.data : "", head_only);
}

/* RFC 9112 section 3: method SP request-target SP HTTP-version CRLF; a query is ignored. */
static void answer(const struct weir_admin *admin, struct peer *peer)
{
        char *rest = NULL, *method = strtok_r(peer->head, " ", &rest), *target = strtok_r(NULL, " ", &rest);
        const char *version = strtok_r(NULL, "\r\n", &rest);
        bool head_only = method && weir_streq(method, "HEAD");

        if (!method || !target || !version || !weir_starts_with(version, "HTTP/1.")) {
                respond(peer, 400, "Bad Request", "not an HTTP/1 request\n", false);
                return;
        }
        target[strcspn(target, "?")] = '\0';
        if (!weir_streq(method, "GET") && !head_only)
                respond(peer, 405, "Method Not Allowed", "GET only\n", false);
        else if (weir_streq(target, "/healthz"))
                respond(peer, 200, "OK", "ok\n", head_only);
        else if (weir_streq(target, "/ready") && admin->ops->ready(admin->context))
                respond(peer, 200, "OK", "ready\n", head_only);
        else if (weir_streq(target, "/ready"))
                respond(peer, 503, "Service Unavailable", "not ready\n", head_only);
        else if (weir_streq(target, "/metrics"))
                respond_metrics(admin, peer, head_only);
        else
                respond(peer, 404, "Not Found", "/healthz, /ready or /metrics\n", head_only);
}

/* 1 when the head is whole, 0 to wait, -1 to give up. */
static int read_head(struct peer *peer)
{
        while (peer->n_head < HEAD_MAX) {
                ssize_t n = recv(peer->fd, peer->head + peer->n_head, HEAD_MAX - peer->n_head, MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 && errno == EAGAIN ? 0 : -1;
                peer->n_head += (size_t)n;
                peer->head[peer->n_head] = '\0';
                if (strlen(peer->head) != peer->n_head)
                        return -1;
                if (strstr(peer->head, "\r\n\r\n"))
                        return 1;
        }
        return -1;
}

static void write_answer(struct weir_admin *admin, struct peer *peer)
{
        while (peer->sent < peer->answer.length) {
                ssize_t n = send(peer->fd, peer->answer.data + peer->sent, peer->answer.length - peer->sent,
                                 MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN && weir_loop_mod(admin->loop, peer->fd, EPOLLOUT) == 0)
                        return;
                if (n < 0)
                        break;
                peer->sent += (size_t)n;
        }
        drop(admin, peer);
}

static void on_peer(void *context, uint64_t id, uint32_t events)
{
        struct weir_admin *admin = context;
        struct peer *peer = &admin->peers[(uint32_t)id % PEERS_MAX];
        int r;

        (void)events;
        if (peer->fd < 0 || peer->generation != (uint32_t)(id >> 32))
                return;
        if (peer->answer.length == 0) {
                r = read_head(peer);
                if (r == 0)
                        return;
                if (r < 0) {
                        drop(admin, peer);
                        return;
                }
                answer(admin, peer);
        }
        write_answer(admin, peer);
}

static void on_timer(void *context)
{
        struct weir_admin *admin = context;
        uint64_t now = weir_loop_now(admin->loop);
        bool any = false;

        for (size_t i = 0; i < PEERS_MAX; i++) {
                struct peer *peer = &admin->peers[i];

                if (peer->fd >= 0 && peer->since_ns + PEER_NS <= now)
                        drop(admin, peer);
                any = any || peer->fd >= 0;
        }
        if (any)
                weir_timer_set(admin->timer, now + WEIR_SEC);
}

static struct peer *free_peer(struct weir_admin *admin)
{
        struct peer *oldest = &admin->peers[0];

        for (size_t i = 0; i < PEERS_MAX; i++) {
                if (admin->peers[i].fd < 0)
                        return &admin->peers[i];
                if (admin->peers[i].since_ns < oldest->since_ns)
                        oldest = &admin->peers[i];
        }
        drop(admin, oldest);
        return oldest;
}

static void take(struct weir_admin *admin, int fd)
{
        struct peer *peer = free_peer(admin);
        uint64_t id = (uint64_t)peer->generation << 32 | (uint64_t)(peer - admin->peers);

        peer->n_head = peer->sent = 0;
        if (weir_loop_add(admin->loop, fd, EPOLLIN, on_peer, admin, id) < 0) {
                (void)close(fd);
                return;
        }
        peer->fd = fd;
        peer->since_ns = weir_loop_now(admin->loop);
        weir_timer_set(admin->timer, peer->since_ns + WEIR_SEC);
}

static void on_listener(void *context, uint64_t id, uint32_t events)
{
        struct weir_admin *admin = context;
        int fd;

        (void)id;
        (void)events;
        fd = accept4(admin->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
                take(admin, fd);
}

static int open_listener(uint16_t port)
{
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
        weir_auto_close int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        bool v6 = fd >= 0 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){ 0 }, sizeof(int)) == 0;

        if (!v6) {
                weir_close_cleanup(&fd);
                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        }
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) < 0 ||
            bind(fd, v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in, v6 ? sizeof(in6) : sizeof(in)) < 0 ||
            listen(fd, PEERS_MAX) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int weir_admin_listen(uint16_t port, struct weir_err *err)
{
        int fd = open_listener(port);

        return fd < 0 ? weir_err_set(err, fd, "cannot listen on port %u for health and metrics: %s", port,
                                     strerror(-fd)) :
                        fd;
}

int weir_admin_new(struct weir_loop *loop, int listener, const struct weir_admin_ops *ops, void *context,
                   struct weir_admin **ret_admin)
{
        struct weir_admin *admin = calloc(1, sizeof(*admin));
        int r;

        if (!admin)
                return -ENOMEM;
        *admin = (struct weir_admin){ .loop = loop, .listener = -1, .ops = ops, .context = context };
        for (size_t i = 0; i < PEERS_MAX; i++)
                admin->peers[i].fd = -1;
        r = weir_timer_new(loop, on_timer, admin, &admin->timer);
        if (r == 0)
                r = weir_loop_add(loop, listener, EPOLLIN, on_listener, admin, 0);
        if (r < 0) {
                weir_admin_free(admin);
                return r;
        }
        admin->listener = listener;
        *ret_admin = admin;
        return 0;
}

void weir_admin_free(struct weir_admin *admin)
{
        if (!admin)
                return;
        for (size_t i = 0; i < PEERS_MAX; i++)
                if (admin->peers[i].fd >= 0)
                        drop(admin, &admin->peers[i]);
        if (admin->listener >= 0) {
                weir_loop_del(admin->loop, admin->listener);
                (void)close(admin->listener);
        }
        weir_timer_free(admin->timer);
        free(admin);
}
