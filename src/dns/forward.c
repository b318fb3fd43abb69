/* SPDX-License-Identifier: Apache-2.0 */
/* Upstream: a fresh socket, id and source port for each try; what does not answer the question is ignored. */
#include "dns/internal.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

static void upstream_io(void *context, uint64_t id, uint32_t events);

static size_t all_tries(const struct weir_resolver *resolver)
{
        return ROUNDS * resolver->n_upstreams;
}

void query_end_try(struct weir_resolver *resolver, struct query *query)
{
        if (query->fd >= 0) {
                weir_loop_del(resolver->loop, query->fd);
                (void)close(query->fd);
                query->fd = -1;
        }
        free(query->reply);
        query->reply = NULL;
        query->reply_length = query->reply_got = query->prefix_got = 0;
}

/* A client on TCP wants an answer of any size, so its query goes over TCP; the last round goes over UDP, for an
 * upstream without. */
static bool try_over_tcp(const struct weir_resolver *resolver, const struct query *query)
{
        return query->client.tcp && query->tries < (ROUNDS - 1) * resolver->n_upstreams;
}

static int connect_upstream(struct weir_resolver *resolver, struct query *query, bool tcp)
{
        weir_auto_close int fd = -1;
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(&resolver->upstreams[query->upstream], resolver->upstream_port, &sa);
        int r;

        fd = socket(sa.ss_family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (resolver->mark && setsockopt(fd, SOL_SOCKET, SO_MARK, &resolver->mark, sizeof(resolver->mark)) < 0)
                return -errno;
        /* Connected: datagrams from elsewhere never arrive, and the kernel chose a random port. */
        if (connect(fd, (struct sockaddr *)&sa, length) < 0 && errno != EINPROGRESS)
                return -errno;
        r = weir_loop_add(resolver->loop, fd, tcp ? EPOLLOUT : EPOLLIN, upstream_io, resolver,
                          slot_id((size_t)(query - resolver->queries), query->generation));
        if (r < 0)
                return r;
        query->fd = TAKE_FD(fd);
        return 0;
}

static int send_udp(struct query *query)
{
        uint8_t out[WEIR_DNS_QUERY_MAX];
        size_t n = weir_dns_write_query(query->head, query->asked.question_end, &query->asked, out, sizeof(out));

        if (n == 0)
                return -EINVAL;
        return send(query->fd, out, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n ? 0 : -EIO;
}

static int send_tcp(struct query *query)
{
        uint8_t out[2 + WEIR_DNS_QUERY_MAX];
        size_t n =
                weir_dns_write_query(query->head, query->asked.question_end, &query->asked, out + 2, sizeof(out) - 2);

        if (n == 0)
                return -EINVAL;
        out[0] = (uint8_t)(n >> 8);
        out[1] = (uint8_t)n;
        /* A new connection's buffer takes these few hundred bytes whole. */
        return send(query->fd, out, n + 2, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n + 2 ? 0 : -EIO;
}

static int start_try(struct weir_resolver *resolver, struct query *query)
{
        bool tcp = try_over_tcp(resolver, query);
        int r;

        query->upstream = query->tries % resolver->n_upstreams;
        if (getrandom(&query->asked.id, sizeof(query->asked.id), 0) != (ssize_t)sizeof(query->asked.id))
                return -EIO;
        r = connect_upstream(resolver, query, tcp);
        if (r < 0)
                return r;
        query->state = tcp ? QUERY_TCP_CONNECT : QUERY_UDP;
        return tcp ? 0 : send_udp(query);
}

/* From @query->tries on, until one is under way or none is left. */
void query_forward(struct weir_resolver *resolver, struct query *query)
{
        for (; query->tries < all_tries(resolver); query->tries++) {
                if (start_try(resolver, query) == 0) {
                        query->deadline_ns = weir_loop_now(resolver->loop) + resolver->timeout_ns;
                        resolver_wake_at(resolver, query->deadline_ns);
                        return;
                }
                query_end_try(resolver, query);
        }
        query_give_up(resolver, query);
}

void query_fail_try(struct weir_resolver *resolver, struct query *query)
{
        query_end_try(resolver, query);
        query->tries++;
        query_forward(resolver, query);
}

/* A checked reply. A failure of this upstream's own is the next one's turn, in the first round; then it is what the
 * client gets. */
static void take_reply(struct weir_resolver *resolver, struct query *query, uint8_t *reply, size_t n, bool truncated)
{
        enum weir_dns_rcode rcode = weir_dns_rcode(reply, n);
        bool failed = rcode == WEIR_DNS_SERVFAIL || rcode == WEIR_DNS_NOTIMP || rcode == WEIR_DNS_REFUSED;

        if ((failed && query->tries + 1 < resolver->n_upstreams) || (truncated && query->client.tcp))
                query_fail_try(resolver, query);
        else
                query_answer(resolver, query, reply, n, truncated);
}

static void udp_readable(struct weir_resolver *resolver, struct query *query)
{
        for (unsigned i = 0; i < BATCH; i++) {
                bool truncated;
                ssize_t n = recv(query->fd, resolver->message, WEIR_DNS_MESSAGE_MAX, MSG_DONTWAIT);

                if (n < 0 && (errno == EAGAIN || errno == EINTR))
                        return;
                if (n < 0) { /* ECONNREFUSED and its kind: nobody is there */
                        query_fail_try(resolver, query);
                        return;
                }
                if (weir_dns_check_reply(resolver->message, (size_t)n, &query->asked, &truncated) == WEIR_PASS) {
                        take_reply(resolver, query, resolver->message, (size_t)n, truncated);
                        return;
                }
        }
}

static int tcp_connected(struct weir_resolver *resolver, struct query *query)
{
        int error = 0;
        socklen_t length = sizeof(error);
        int r;

        if (getsockopt(query->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error)
                return -ECONNREFUSED;
        r = send_tcp(query);
        if (r < 0)
                return r;
        query->state = QUERY_TCP_READ;
        return weir_loop_mod(resolver->loop, query->fd, EPOLLIN);
}

/* Fills @at up to @want; 1 when full, 0 to wait, -errno. */
static int fill(int fd, uint8_t *at, size_t want, size_t *got)
{
        while (*got < want) {
                ssize_t n = recv(fd, at + *got, want - *got, MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n <= 0)
                        return n < 0 ? -errno : -ECONNRESET;
                *got += (size_t)n;
        }
        return 1;
}

/* RFC 1035 section 4.2.2: length: 16, message. */
static int tcp_read_frame(struct query *query)
{
        int r = fill(query->fd, query->prefix, sizeof(query->prefix), &query->prefix_got);

        if (r <= 0)
                return r;
        if (!query->reply) {
                struct weir_cursor c = weir_cursor(query->prefix, sizeof(query->prefix));

                query->reply_length = weir_cursor_be16(&c);
                if (query->reply_length < WEIR_DNS_HEADER)
                        return -EPROTO;
                query->reply = malloc(query->reply_length);
                if (!query->reply)
                        return -ENOMEM;
        }
        return fill(query->fd, query->reply, query->reply_length, &query->reply_got);
}

static void tcp_readable(struct weir_resolver *resolver, struct query *query)
{
        bool truncated;
        int r = tcp_read_frame(query);

        if (r == 0)
                return;
        if (r < 0 || weir_dns_check_reply(query->reply, query->reply_length, &query->asked, &truncated) != WEIR_PASS) {
                query_fail_try(resolver, query);
                return;
        }
        take_reply(resolver, query, query->reply, query->reply_length, truncated);
}

static void upstream_io(void *context, uint64_t id, uint32_t events)
{
        struct weir_resolver *resolver = context;
        size_t index = (uint32_t)id;
        struct query *query = index < resolver->n_queries ? &resolver->queries[index] : NULL;

        (void)events;
        if (!query || query->generation != (uint32_t)(id >> 32))
                return;
        switch (query->state) {
        case QUERY_FREE:
                break;
        case QUERY_UDP:
                udp_readable(resolver, query);
                break;
        case QUERY_TCP_CONNECT:
                if (tcp_connected(resolver, query) < 0)
                        query_fail_try(resolver, query);
                break;
        case QUERY_TCP_READ:
                tcp_readable(resolver, query);
                break;
        }
}
