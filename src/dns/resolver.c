/* SPDX-License-Identifier: Apache-2.0 */
/* The workload's resolver: the gate every query passes, and the table of those that wait for an upstream. */
/*
 * Theory of operation
 *
 * A query comes from udp.c or tcp.c as bytes. It is read whole or refused; the gate then says, from the current policy
 * alone, whether it is answered here, refused, or forwarded. Only what is forwarded takes a slot of the table (its
 * states: internal.h). forward.c tries one upstream after another, each with a fresh socket, and what comes back leaves
 * through query_answer().
 *
 * Nothing the workload sends reaches an upstream as it stands: the query is written anew (proto/dns.h), so a name that
 * the policy allows is all that can leave. What is refused sends nothing at all.
 *
 * The gate. OFF refuses everything. Then localhost and what is below it is answered here, RFC 6761 6.3. GATED forwards
 * the types A, AAAA and CNAME of names that a rule names; for SVCB and HTTPS of such a name it says that there is no
 * such record, because their hints and keys lead round the checks by name; all else is refused: TXT, NULL and ANY carry
 * data, PTR asks nothing a named host needs. OPEN, where rules are addresses and each connection is judged by its
 * address, forwards every type but transfers and the other meta-types, whose replies are not one message.
 *
 * Every query that took a slot ends in query_close(), with one record; every one refused at the gate in
 * resolver_deny(), likewise.
 */
#include "dns/resolver.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/gate.h"
#include "base/time.h"
#include "dns/internal.h"
#include "telemetry/record.h"

#define LOCALHOST_TTL 86400

enum gate { GATE_REFUSE = 0, GATE_FORWARD, GATE_LOCALHOST, GATE_NO_DATA };

static bool is_localhost(const char *name)
{
        static const char local[] = "localhost";
        size_t n = strlen(name), suffix = sizeof(local) - 1;

        if (n < suffix || strcmp(name + n - suffix, local) != 0)
                return false;
        return n == suffix || name[n - suffix - 1] == '.';
}

static enum gate gate_named(uint16_t type, enum weir_reason *ret_reason)
{
        if (!WEIR_GATE(NAME_TYPES) || type == WEIR_DNS_A || type == WEIR_DNS_AAAA || type == WEIR_DNS_CNAME)
                return GATE_FORWARD;
        if (type == WEIR_DNS_SVCB || type == WEIR_DNS_HTTPS)
                return GATE_NO_DATA;
        *ret_reason = WEIR_REASON_DNS_TYPE;
        return GATE_REFUSE;
}

/* Meta-types, RFC 6895 section 3.1: OPT, and 128 to 255 but ANY. */
static bool is_meta(uint16_t type)
{
        return type == WEIR_DNS_OPT || (type >= 128 && type < WEIR_DNS_ANY);
}

/* Asks the policy. @ret_reason is filled where the answer is GATE_REFUSE. */
static enum gate gate(const struct weir_resolver *resolver, const struct weir_dns_query *asked,
                      enum weir_reason *ret_reason)
{
        struct weir_policy *policy = resolver->ops->policy(resolver->context);

        *ret_reason = WEIR_REASON_DNS_NO_RULE;
        if (!policy)
                return GATE_REFUSE;
        if (!WEIR_GATE(NAMES))
                return GATE_FORWARD;
        switch (weir_policy_dns_mode(policy, resolver->mode)) {
        case WEIR_DNS_OPEN:
                if (is_localhost(asked->name))
                        return GATE_LOCALHOST;
                if (!is_meta(asked->type))
                        return GATE_FORWARD;
                *ret_reason = WEIR_REASON_DNS_TYPE;
                return GATE_REFUSE;
        case WEIR_DNS_AUTO: /* the policy resolves it; if ever it does not, the narrow mode holds */
        case WEIR_DNS_GATED:
                if (is_localhost(asked->name))
                        return GATE_LOCALHOST;
                /* An escaped byte is no part of a host name; a wildcard must not let it through as data. */
                if (strchr(asked->name, '\\') || !weir_policy_names_host(policy, asked->name))
                        return GATE_REFUSE;
                return gate_named(asked->type, ret_reason);
        case WEIR_DNS_OFF:
                break;
        }
        return GATE_REFUSE;
}

static uint64_t policy_generation(const struct weir_resolver *resolver)
{
        struct weir_policy *policy = resolver->ops->policy(resolver->context);

        return policy ? weir_policy_generation(policy) : 0;
}

static void ask_owner(const struct weir_resolver *resolver, const struct client *client, pid_t *ret_pid,
                      char command[static 16])
{
        *ret_pid = 0;
        command[0] = '\0';
        if (resolver->ops->owner)
                resolver->ops->owner(resolver->context, client->tcp ? WEIR_IP_TCP : WEIR_IP_UDP, &client->from,
                                     client->port, NULL, 0, ret_pid, command);
}

void resolver_deny(struct weir_resolver *resolver, const struct client *client, const char *name,
                   enum weir_reason reason)
{
        char command[16];
        struct weir_record record = { .protocol = "dns",
                                      .name = name,
                                      .verdict = WEIR_VERDICT_DENY,
                                      .reason = reason,
                                      .path = WEIR_PATH_DNS,
                                      .generation = policy_generation(resolver) };

        ask_owner(resolver, client, &record.pid, command);
        record.command = command;
        resolver->ops->record(resolver->context, &record);
}

static void send_reply(struct weir_resolver *resolver, const struct client *client, const uint8_t *bytes, size_t n)
{
        if (n == 0)
                return;
        if (client->tcp)
                tcp_send(resolver, client, bytes, n);
        else
                udp_send(resolver, &client->udp, bytes, n);
}

/* A reply without records. @asked is NULL if the query was not understood. */
static void reply_empty(struct weir_resolver *resolver, const struct client *client, const uint8_t *bytes, size_t n,
                        const struct weir_dns_query *asked, enum weir_dns_rcode rcode, bool truncated)
{
        uint8_t out[HEAD_MAX + 11];
        size_t length =
                weir_dns_write_error(bytes, n, asked ? asked->question_end : 0, rcode, truncated, out, sizeof(out));

        if (length && asked && asked->edns)
                length = weir_dns_write_opt(out, length, sizeof(out), WEIR_DNS_UDP_SIZE, asked->dnssec_ok);
        send_reply(resolver, client, out, length);
}

static void reply_localhost(struct weir_resolver *resolver, const struct client *client, const uint8_t *bytes, size_t n,
                            const struct weir_dns_query *asked)
{
        static const struct weir_addr v4 = { { [10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1 } },
                                      v6 = { { [15] = 1 } };
        uint8_t out[HEAD_MAX + 28 + 11];
        size_t length;

        if (asked->type != WEIR_DNS_A && asked->type != WEIR_DNS_AAAA) {
                reply_empty(resolver, client, bytes, n, asked, WEIR_DNS_NOERROR, false);
                return;
        }
        length = weir_dns_write_address(bytes, n, asked->question_end, asked->type == WEIR_DNS_A ? &v4 : &v6,
                                        LOCALHOST_TTL, out, sizeof(out));
        if (length && asked->edns)
                length = weir_dns_write_opt(out, length, sizeof(out), WEIR_DNS_UDP_SIZE, asked->dnssec_ok);
        send_reply(resolver, client, out, length);
}

static struct query *query_new(struct weir_resolver *resolver, const struct client *client, const uint8_t *bytes,
                               const struct weir_dns_query *asked)
{
        for (size_t i = 0; i < resolver->n_queries; i++) {
                size_t index = (resolver->next_query + i) % resolver->n_queries;
                struct query *query = &resolver->queries[index];

                if (query->state != QUERY_FREE)
                        continue;
                *query = (struct query){ .state = QUERY_UDP,
                                         .generation = query->generation + 1,
                                         .asked = *asked,
                                         .client = *client,
                                         .fd = -1,
                                         .started_ns = weir_time_ns(),
                                         .policy_generation = policy_generation(resolver) };
                memcpy(query->head, bytes, asked->question_end);
                resolver->next_query = index + 1;
                if (client->tcp)
                        tcp_began(resolver, client);
                if (resolver->log_answers)
                        ask_owner(resolver, client, &query->pid, query->command);
                return query;
        }
        return NULL;
}

/* The one end of a query that took a slot. What the client is told was sent before. */
void query_close(struct weir_resolver *resolver, struct query *query, enum weir_verdict verdict,
                 enum weir_reason reason)
{
        struct weir_record record = { .protocol = "dns",
                                      .name = query->asked.name,
                                      .verdict = verdict,
                                      .reason = reason,
                                      .path = WEIR_PATH_DNS,
                                      .generation = query->policy_generation };

        record.has_dialled = query->fd >= 0;
        if (record.has_dialled) {
                record.dialled = resolver->upstreams[query->upstream];
                record.dialled_port = resolver->upstream_port;
        }
        record.duration_ns = weir_time_ns() - query->started_ns;
        if (!query->pid && verdict != WEIR_VERDICT_ALLOW)
                ask_owner(resolver, &query->client, &query->pid, query->command);
        record.pid = query->pid;
        record.command = query->command;
        query_end_try(resolver, query);
        query->state = QUERY_FREE;
        query->generation++;
        if (query->client.tcp)
                tcp_done(resolver, &query->client);
        resolver->ops->record(resolver->context, &record);
}

/* @reply answers @query, and is turned into the client's in place. */
void query_answer(struct weir_resolver *resolver, struct query *query, uint8_t *reply, size_t n, bool truncated)
{
        size_t question_end = query->asked.question_end;

        if (truncated || (!query->client.tcp && n > query->asked.udp_size)) {
                reply_empty(resolver, &query->client, query->head, question_end, &query->asked, WEIR_DNS_NOERROR, true);
        } else {
                weir_dns_restore(reply, n, query->head, question_end);
                send_reply(resolver, &query->client, reply, n);
        }
        query_close(resolver, query, WEIR_VERDICT_ALLOW, WEIR_REASON_RULE);
}

void query_give_up(struct weir_resolver *resolver, struct query *query)
{
        reply_empty(resolver, &query->client, query->head, query->asked.question_end, &query->asked, WEIR_DNS_SERVFAIL,
                    false);
        query_close(resolver, query, WEIR_VERDICT_ALLOW, WEIR_REASON_DNS_UPSTREAM);
}

static void refresh_upstreams(struct weir_resolver *resolver)
{
        uint64_t now = weir_loop_now(resolver->loop);
        struct weir_addr fresh[UPSTREAMS_MAX];
        size_t n;

        if (!resolver->ops->upstreams || now < resolver->refresh_ns)
                return;
        resolver->refresh_ns = now + REFRESH_NS;
        n = resolver->ops->upstreams(resolver->context, fresh, UPSTREAMS_MAX);
        if (n == 0)
                return;
        memcpy(resolver->upstreams, fresh, n * sizeof(*fresh));
        resolver->n_upstreams = n;
}

static void forward(struct weir_resolver *resolver, const struct client *client, const uint8_t *bytes, size_t n,
                    const struct weir_dns_query *asked)
{
        struct query *query;

        refresh_upstreams(resolver);
        query = query_new(resolver, client, bytes, asked);
        if (!query) {
                reply_empty(resolver, client, bytes, n, asked, WEIR_DNS_SERVFAIL, false);
                resolver_deny(resolver, client, asked->name, WEIR_REASON_LIMIT_CONNECTIONS);
                return;
        }
        query_forward(resolver, query);
}

bool resolver_take(struct weir_resolver *resolver, const struct client *client, const uint8_t *bytes, size_t n)
{
        struct weir_dns_query asked;
        enum weir_dns_rcode rcode;
        enum weir_reason reason;

        if (weir_dns_parse_query(bytes, n, &asked, &rcode) != WEIR_PASS) {
                if (rcode != WEIR_DNS_NOERROR)
                        reply_empty(resolver, client, bytes, n, NULL, rcode, false);
                resolver_deny(resolver, client, NULL, WEIR_REASON_DNS_MALFORMED);
                return rcode != WEIR_DNS_NOERROR;
        }
        switch (gate(resolver, &asked, &reason)) {
        case GATE_REFUSE:
                reply_empty(resolver, client, bytes, n, &asked, WEIR_DNS_REFUSED, false);
                resolver_deny(resolver, client, asked.name, reason);
                break;
        case GATE_FORWARD:
                forward(resolver, client, bytes, n, &asked);
                break;
        case GATE_LOCALHOST:
                reply_localhost(resolver, client, bytes, n, &asked);
                break;
        case GATE_NO_DATA:
                reply_empty(resolver, client, bytes, n, &asked, WEIR_DNS_NOERROR, false);
                break;
        }
        return true;
}

void weir_resolver_policy_changed(struct weir_resolver *resolver)
{
        for (size_t i = 0; i < resolver->n_queries; i++) {
                struct query *query = &resolver->queries[i];
                enum weir_reason reason;

                if (query->state == QUERY_FREE || gate(resolver, &query->asked, &reason) == GATE_FORWARD)
                        continue;
                reply_empty(resolver, &query->client, query->head, query->asked.question_end, &query->asked,
                            WEIR_DNS_REFUSED, false);
                query->policy_generation = policy_generation(resolver);
                query_close(resolver, query, WEIR_VERDICT_DENY, WEIR_REASON_POLICY_REVOKED);
        }
}

void resolver_wake_at(struct weir_resolver *resolver, uint64_t at_ns)
{
        if (resolver->timer_ns && resolver->timer_ns <= at_ns)
                return;
        resolver->timer_ns = at_ns;
        weir_timer_set(resolver->timer, at_ns);
}

static void on_timer(void *context)
{
        struct weir_resolver *resolver = context;
        uint64_t now = weir_loop_now(resolver->loop), next = UINT64_MAX;

        resolver->timer_ns = 0;
        for (size_t i = 0; i < resolver->n_queries; i++) {
                struct query *query = &resolver->queries[i];

                if (query->state == QUERY_FREE)
                        continue;
                if (query->deadline_ns <= now)
                        query_fail_try(resolver, query);
                else if (query->deadline_ns < next)
                        next = query->deadline_ns;
        }
        tcp_expire(resolver, now, &next);
        if (next != UINT64_MAX)
                resolver_wake_at(resolver, next);
}

/* Packet info and other defaults of the options; whoever made the socket may have set them already. */
static void prepare(struct weir_resolver *resolver, const struct weir_resolver_options *options)
{
        int on = 1;

        (void)setsockopt(options->udp_fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
        (void)setsockopt(options->udp_fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
        resolver->mode = options->mode;
        resolver->log_answers = options->log_answers;
        resolver->n_upstreams = options->n_upstreams < UPSTREAMS_MAX ? options->n_upstreams : UPSTREAMS_MAX;
        if (resolver->n_upstreams)
                memcpy(resolver->upstreams, options->upstreams, resolver->n_upstreams * sizeof(*options->upstreams));
        resolver->upstream_port = options->upstream_port ? options->upstream_port : 53;
        resolver->mark = options->mark;
        resolver->timeout_ns = (options->timeout_ms ? options->timeout_ms : TIMEOUT_DEFAULT_MS) * WEIR_MS;
        resolver->idle_ns = (options->idle_ms ? options->idle_ms : IDLE_DEFAULT_MS) * WEIR_MS;
}

static int allocate(struct weir_resolver *resolver, unsigned queries_max)
{
        resolver->n_queries = queries_max ? queries_max : QUERIES_DEFAULT;
        if (resolver->n_queries > QUERIES_LIMIT)
                return -EINVAL;
        resolver->queries = calloc(resolver->n_queries, sizeof(*resolver->queries));
        resolver->conns = calloc(CONNS_MAX, sizeof(*resolver->conns));
        if (!resolver->queries || !resolver->conns)
                return -ENOMEM;
        for (size_t i = 0; i < resolver->n_queries; i++)
                resolver->queries[i].fd = -1;
        for (size_t i = 0; i < CONNS_MAX; i++)
                resolver->conns[i].fd = -1;
        return 0;
}

static void free_partial(struct weir_resolver *resolver)
{
        if (!resolver)
                return;
        weir_timer_free(resolver->timer);
        free(resolver->queries);
        free(resolver->conns);
        free(resolver);
}
WEIR_DEFINE_CLEANUP(partial, struct weir_resolver *, free_partial)

static int listen_on(struct weir_resolver *resolver, int udp_fd, int tcp_fd)
{
        int r = weir_loop_add(resolver->loop, udp_fd, EPOLLIN, udp_io, resolver, 0);

        if (r < 0)
                return r;
        r = weir_loop_add(resolver->loop, tcp_fd, EPOLLIN, tcp_accept_io, resolver, 0);
        if (r < 0)
                weir_loop_del(resolver->loop, udp_fd);
        return r;
}

int weir_resolver_new(struct weir_loop *loop, const struct weir_resolver_options *options,
                      const struct weir_resolver_ops *ops, void *context, struct weir_resolver **ret_resolver)
{
        weir_auto(partial) struct weir_resolver *resolver = calloc(1, sizeof(*resolver));
        int r;

        if (!resolver)
                return -ENOMEM;
        resolver->loop = loop;
        resolver->ops = ops;
        resolver->context = context;
        prepare(resolver, options);
        r = allocate(resolver, options->queries_max);
        if (r < 0)
                return r;
        r = weir_timer_new(loop, on_timer, resolver, &resolver->timer);
        if (r < 0)
                return r;
        r = listen_on(resolver, options->udp_fd, options->tcp_fd);
        if (r < 0)
                return r;
        /* From here the descriptors are the resolver's; on failure they stay the caller's. */
        resolver->udp_fd = options->udp_fd;
        resolver->tcp_fd = options->tcp_fd;
        *ret_resolver = TAKE_PTR(resolver);
        return 0;
}

void weir_resolver_free(struct weir_resolver *resolver)
{
        if (!resolver)
                return;
        for (size_t i = 0; i < resolver->n_queries; i++)
                if (resolver->queries[i].state != QUERY_FREE)
                        query_close(resolver, &resolver->queries[i], WEIR_VERDICT_ALLOW, WEIR_REASON_SHUTDOWN);
        tcp_free(resolver);
        weir_loop_del(resolver->loop, resolver->udp_fd);
        weir_loop_del(resolver->loop, resolver->tcp_fd);
        (void)close(resolver->udp_fd);
        (void)close(resolver->tcp_fd);
        free_partial(resolver);
}
