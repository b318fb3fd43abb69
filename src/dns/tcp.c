/* SPDX-License-Identifier: Apache-2.0 */
/* Clients on TCP, RFC 7766: several queries a connection, answered in the order the answers come. */
/*
 * Theory of operation
 *
 * A connection reads into a buffer for one message and takes message after message from it. It stops reading while
 * CONN_PENDING_MAX of its queries are upstream or CONN_OUT_READ_MAX bytes wait to be written, so a client that asks
 * without reading holds a bounded part of the resolver. Writing happens only in the connection's own handler: whoever
 * answers a query appends and asks for EPOLLOUT, and so a connection is never closed under somebody's feet.
 *
 * One absolute deadline a connection: idle_ns for a message to arrive whole (bytes that trickle do not move it) and as
 * long for replies to be taken. It stands still only while the upstream is what everybody waits for.
 */
#include "dns/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ACCEPT_PAUSE_NS (UINT64_C(100) * 1000 * 1000)

static void conn_io(void *context, uint64_t id, uint32_t events);

static struct conn *conn_of(struct weir_resolver *resolver, uint32_t index, uint32_t generation)
{
        struct conn *conn = index < CONNS_MAX ? &resolver->conns[index] : NULL;

        return conn && conn->fd >= 0 && conn->generation == generation ? conn : NULL;
}

static size_t out_left(const struct conn *conn)
{
        return conn->out.length - conn->out_done;
}

static bool may_read(const struct conn *conn)
{
        return !conn->eof && conn->pending < CONN_PENDING_MAX && out_left(conn) <= CONN_OUT_READ_MAX;
}

static void renew(struct weir_resolver *resolver, struct conn *conn)
{
        conn->deadline_ns = weir_loop_now(resolver->loop) + resolver->idle_ns;
        resolver_wake_at(resolver, conn->deadline_ns);
}

static void watch(struct weir_resolver *resolver, struct conn *conn)
{
        uint32_t events = (may_read(conn) ? EPOLLIN : 0) | (out_left(conn) || conn->broken ? EPOLLOUT : 0);

        if (events == conn->events)
                return;
        conn->events = events;
        if (weir_loop_mod(resolver->loop, conn->fd, events) < 0)
                conn->broken = true;
}

/* Its queries end with it: nobody is left to be told. */
static void conn_close(struct weir_resolver *resolver, struct conn *conn)
{
        uint32_t index = (uint32_t)(conn - resolver->conns), generation = conn->generation;

        weir_loop_del(resolver->loop, conn->fd);
        (void)close(conn->fd);
        weir_buf_clear(&conn->out);
        conn->fd = -1;
        conn->generation++;
        for (size_t i = 0; i < resolver->n_queries; i++) {
                struct query *query = &resolver->queries[i];

                if (query->state != QUERY_FREE && query->client.tcp && query->client.conn == index &&
                    query->client.conn_generation == generation)
                        query_close(resolver, query, WEIR_VERDICT_ALLOW, WEIR_REASON_RESET_BY_WORKLOAD);
        }
}

void tcp_began(struct weir_resolver *resolver, const struct client *client)
{
        struct conn *conn = conn_of(resolver, client->conn, client->conn_generation);

        if (conn)
                conn->pending++;
}

void tcp_done(struct weir_resolver *resolver, const struct client *client)
{
        struct conn *conn = conn_of(resolver, client->conn, client->conn_generation);

        if (!conn)
                return;
        conn->pending--;
        watch(resolver, conn);
}

/* What was written makes room, so that a slow but steady reader never meets the limit. */
static void compact(struct conn *conn)
{
        if (conn->out_done < conn->out.length / 2 || conn->out_done == 0)
                return;
        memmove(conn->out.data, conn->out.data + conn->out_done, out_left(conn));
        conn->out.length -= conn->out_done;
        conn->out_done = 0;
}

void tcp_send(struct weir_resolver *resolver, const struct client *client, const uint8_t *bytes, size_t n)
{
        struct conn *conn = conn_of(resolver, client->conn, client->conn_generation);
        uint8_t length[2] = { (uint8_t)(n >> 8), (uint8_t)n };

        if (!conn)
                return;
        if (out_left(conn) == 0)
                renew(resolver, conn);
        compact(conn);
        weir_buf_add(&conn->out, length, sizeof(length));
        weir_buf_add(&conn->out, bytes, n);
        /* A reply that has no room would shift the frames of all later ones. */
        if (conn->out.error)
                conn->broken = true;
        watch(resolver, conn);
}

/* False when the connection is to be closed. */
static bool write_out(struct weir_resolver *resolver, struct conn *conn)
{
        while (out_left(conn) > 0) {
                ssize_t n =
                        send(conn->fd, conn->out.data + conn->out_done, out_left(conn), MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN;
                conn->out_done += (size_t)n;
        }
        if (conn->out.length > 0) {
                weir_buf_clear(&conn->out);
                conn->out_done = 0;
                renew(resolver, conn);
        }
        return true;
}

/*
 * Frame, RFC 1035 section 4.2.2:
 *
 *   +------------+--------- - -
 *   | length: 16 | message
 *   +------------+--------- - -
 *
 * Takes the first whole message of the buffer. MISS: more bytes are needed. FAIL: no query can look like this.
 */
static enum weir_match take_message(struct weir_resolver *resolver, struct conn *conn)
{
        struct weir_cursor c = weir_cursor(conn->in, conn->in_length);
        size_t length = weir_cursor_be16(&c), used;
        struct client client = { .tcp = true,
                                 .conn = (uint32_t)(conn - resolver->conns),
                                 .conn_generation = conn->generation,
                                 .from = conn->from,
                                 .port = conn->port };
        const uint8_t *message;

        if (!weir_cursor_ok(&c))
                return WEIR_MISS;
        if (length < WEIR_DNS_HEADER || length > CLIENT_MESSAGE_MAX)
                return WEIR_FAIL;
        message = weir_cursor_take(&c, length);
        if (!message)
                return WEIR_MISS;
        if (!resolver_take(resolver, &client, message, length))
                return WEIR_FAIL;
        used = weir_cursor_offset(&c);
        memmove(conn->in, conn->in + used, conn->in_length - used);
        conn->in_length -= used;
        renew(resolver, conn);
        return WEIR_PASS;
}

/* False when the connection is to be closed. */
static bool take_messages(struct weir_resolver *resolver, struct conn *conn)
{
        while (conn->pending < CONN_PENDING_MAX && out_left(conn) <= CONN_OUT_READ_MAX) {
                enum weir_match match = take_message(resolver, conn);

                if (match == WEIR_FAIL)
                        return false;
                if (match == WEIR_MISS)
                        /* What a client left unfinished when it closed its side never becomes a message. */
                        return !conn->eof || conn->pending > 0 || out_left(conn) > 0;
        }
        return true;
}

static bool read_in(struct conn *conn)
{
        ssize_t n;

        if (!may_read(conn) || conn->in_length == sizeof(conn->in))
                return true;
        n = recv(conn->fd, conn->in + conn->in_length, sizeof(conn->in) - conn->in_length, MSG_DONTWAIT);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR;
        if (n == 0)
                conn->eof = true;
        conn->in_length += (size_t)n;
        return true;
}

static void conn_io(void *context, uint64_t id, uint32_t events)
{
        struct weir_resolver *resolver = context;
        struct conn *conn = conn_of(resolver, (uint32_t)id, (uint32_t)(id >> 32));

        if (!conn)
                return;
        if ((events & (EPOLLHUP | EPOLLERR)) || conn->broken || !write_out(resolver, conn) || !read_in(conn) ||
            !take_messages(resolver, conn) || conn->broken) {
                conn_close(resolver, conn);
                return;
        }
        watch(resolver, conn);
}

static struct conn *free_conn(struct weir_resolver *resolver)
{
        for (size_t i = 0; i < CONNS_MAX; i++)
                if (resolver->conns[i].fd < 0)
                        return &resolver->conns[i];
        return NULL;
}

static void start_conn(struct weir_resolver *resolver, int fd, const struct weir_addr *from, uint16_t port)
{
        struct client client = { .tcp = true, .from = *from, .port = port };
        struct conn *conn = free_conn(resolver);

        if (!conn) {
                (void)close(fd);
                resolver_deny(resolver, &client, NULL, WEIR_REASON_LIMIT_CONNECTIONS);
                return;
        }
        conn->fd = fd;
        conn->eof = conn->broken = false;
        conn->pending = 0;
        conn->from = *from;
        conn->port = port;
        conn->in_length = conn->out_done = 0;
        conn->out.limit = CONN_OUT_MAX;
        conn->events = EPOLLIN;
        if (weir_loop_add(resolver->loop, fd, EPOLLIN, conn_io, resolver,
                          slot_id((size_t)(conn - resolver->conns), conn->generation)) < 0) {
                (void)close(fd);
                conn->fd = -1;
                return;
        }
        renew(resolver, conn);
}

/* Out of descriptors the listener would wake the loop for ever: look away for a while. */
static void pause_accept(struct weir_resolver *resolver)
{
        if (weir_loop_mod(resolver->loop, resolver->tcp_fd, 0) < 0)
                return;
        resolver->accept_paused_ns = weir_loop_now(resolver->loop) + ACCEPT_PAUSE_NS;
        resolver_wake_at(resolver, resolver->accept_paused_ns);
}

void tcp_accept_io(void *context, uint64_t id, uint32_t events)
{
        struct weir_resolver *resolver = context;

        (void)id;
        (void)events;
        for (unsigned i = 0; i < BATCH; i++) {
                struct sockaddr_storage sa;
                socklen_t length = sizeof(sa);
                struct weir_addr from;
                uint16_t port;
                int fd = accept4(resolver->tcp_fd, (struct sockaddr *)&sa, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);

                if (fd < 0) {
                        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                                pause_accept(resolver);
                        return;
                }
                if (weir_addr_from_sockaddr((struct sockaddr *)&sa, length, &from, &port) < 0)
                        (void)close(fd);
                else
                        start_conn(resolver, fd, &from, port);
        }
}

/* Nothing to blame the client for: its queries are upstream, it owes no bytes and has taken all of ours. */
static bool waits_for_upstream(const struct conn *conn)
{
        return conn->pending > 0 && out_left(conn) == 0 && conn->in_length == 0;
}

void tcp_expire(struct weir_resolver *resolver, uint64_t now_ns, uint64_t *next_ns)
{
        if (resolver->accept_paused_ns && resolver->accept_paused_ns <= now_ns) {
                resolver->accept_paused_ns = 0;
                if (weir_loop_mod(resolver->loop, resolver->tcp_fd, EPOLLIN) < 0)
                        pause_accept(resolver);
        } else if (resolver->accept_paused_ns && resolver->accept_paused_ns < *next_ns) {
                *next_ns = resolver->accept_paused_ns;
        }
        for (size_t i = 0; i < CONNS_MAX; i++) {
                struct conn *conn = &resolver->conns[i];

                if (conn->fd < 0)
                        continue;
                if (conn->deadline_ns <= now_ns && waits_for_upstream(conn))
                        renew(resolver, conn);
                else if (conn->deadline_ns <= now_ns)
                        conn_close(resolver, conn);
                else if (conn->deadline_ns < *next_ns)
                        *next_ns = conn->deadline_ns;
        }
}

void tcp_free(struct weir_resolver *resolver)
{
        for (size_t i = 0; i < CONNS_MAX; i++)
                if (resolver->conns[i].fd >= 0)
                        conn_close(resolver, &resolver->conns[i]);
}
