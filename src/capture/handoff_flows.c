/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of handed-off flows and the queue of what is to be told.
 *
 * Theory of operation
 *
 * A flow is named by its socket's cookie, which the kernel never gives twice. Whoever connects puts the flow here
 * before the first packet, under the same lock under which the policy changes: a change therefore either comes first,
 * and the connection is judged by it, or finds the flow. Three threads meet here and nowhere else; nothing is called
 * with the lock held.
 *
 * Flow states
 *
 * BEGUN      a connect is being made, or is under way; the workload may not have the socket yet.
 *            Allowed: weir_flows_installed(), weir_flows_end().
 * LIVE       the workload has the socket. Allowed: weir_flows_end().
 * CONDEMNED  a newer policy does not allow it; it has to be reset within the bound. Allowed: weir_flows_end(), which
 *            then tells POLICY_REVOKED unless the capture says otherwise.
 *            Caveat: if the workload does not have it yet, weir_flows_installed() ends it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "capture/handoff_internal.h"

#define BUCKETS 4096
#define FLOWS_MAX 65536
#define TOLD_MAX 16384
/* As in the relay. */
#define ENDPOINTS_MAX 256

enum state { BEGUN, LIVE, CONDEMNED };

struct weir_handed {
        struct weir_handed *next;
        uint64_t cookie, opened_ns, condemned_ns;
        pid_t tgid;
        int fd;
        uint32_t turn;
        enum state state;
        bool installed;
        struct weir_capture_event about;
};

struct weir_told {
        struct weir_told *next;
        struct weir_capture_event flow;
};

int weir_flows_init(struct weir_handoff *h)
{
        h->buckets = calloc(BUCKETS, sizeof(*h->buckets));
        h->told_end = &h->told;
        return h->buckets ? 0 : -ENOMEM;
}

static struct weir_handed **bucket(struct weir_handoff *h, uint64_t cookie)
{
        return &h->buckets[(cookie * UINT64_C(0x9e3779b97f4a7c15)) >> 52 & (BUCKETS - 1)];
}

/* Where the pointer to the flow stands, or to the end of its bucket. */
static struct weir_handed **find(struct weir_handoff *h, uint64_t cookie)
{
        struct weir_handed **at = bucket(h, cookie);

        while (*at && (*at)->cookie != cookie)
                at = &(*at)->next;
        return at;
}

/* Takes @flow, whose record is made from it. Under the lock; the caller wakes. */
static void tell(struct weir_handoff *h, struct weir_handed *flow, struct weir_told *told)
{
        if (h->n_told >= TOLD_MAX || !told) {
                h->lost++;
                weir_policy_unref(flow->about.policy);
                free(told);
                return;
        }
        *told = (struct weir_told){ .flow = flow->about };
        *h->told_end = told;
        h->told_end = &told->next;
        h->n_told++;
}

static void wake(const struct weir_handoff *h)
{
        const uint64_t one = 1;

        if (write(h->wake, &one, sizeof(one)) < 0)
                return; /* it is at its maximum: awake already */
}

/* Takes the flow out and queues its record; under the lock. */
static void finish(struct weir_handoff *h, struct weir_handed **at, enum weir_reason reason,
                   const struct weir_flow_figures *figures)
{
        struct weir_handed *flow = *at;
        struct weir_capture_event *about = &flow->about;

        *at = flow->next;
        h->n_flows--;
        about->ended = true;
        about->reason = reason;
        if (flow->state == CONDEMNED) {
                h->n_condemned--;
                if (reason != WEIR_REASON_HIDDEN)
                        about->reason = WEIR_REASON_POLICY_REVOKED;
        }
        about->duration_ns = weir_time_ns() - flow->opened_ns;
        about->uncounted = figures == NULL;
        if (figures) {
                about->bytes_sent = figures->sent;
                about->bytes_received = figures->received;
        }
        tell(h, flow, malloc(sizeof(struct weir_told)));
        free(flow);
}

int weir_flows_begin(struct weir_handoff *h, uint64_t cookie, pid_t tgid, int fd, uint32_t turn,
                     const struct weir_capture_event *about)
{
        struct weir_handed *flow = malloc(sizeof(*flow)), **at;
        int r = 0;

        if (!flow)
                return -ENOMEM;
        *flow = (struct weir_handed){
                .cookie = cookie,
                .opened_ns = weir_time_ns(),
                .tgid = tgid,
                .fd = fd,
                .turn = turn,
                .about = *about,
        };
        (void)pthread_mutex_lock(&h->lock);
        if (h->policy != about->policy)
                r = -ESTALE;
        else if (h->n_flows >= FLOWS_MAX)
                r = -EMFILE;
        else {
                at = find(h, cookie);
                /* A second attempt on the same socket: the first one came to nothing. */
                if (*at)
                        finish(h, at, WEIR_REASON_UPSTREAM_REFUSED, &(struct weir_flow_figures){ 0 });
                flow->about.policy = weir_policy_ref(about->policy);
                at = bucket(h, cookie);
                flow->next = *at;
                *at = flow;
                h->n_flows++;
        }
        (void)pthread_mutex_unlock(&h->lock);
        if (r < 0)
                free(flow);
        return r;
}

bool weir_flows_installed(struct weir_handoff *h, uint64_t cookie)
{
        struct weir_handed **at;
        bool good = true;

        (void)pthread_mutex_lock(&h->lock);
        at = find(h, cookie);
        if (*at && (*at)->state == CONDEMNED) {
                finish(h, at, WEIR_REASON_POLICY_REVOKED, &(struct weir_flow_figures){ 0 });
                good = false;
        } else if (*at) {
                (*at)->state = LIVE;
                (*at)->installed = true;
        }
        (void)pthread_mutex_unlock(&h->lock);
        if (!good)
                wake(h);
        return good;
}

void weir_flows_end(struct weir_handoff *h, uint64_t cookie, enum weir_reason reason,
                    const struct weir_flow_figures *figures)
{
        struct weir_handed **at;
        bool found;

        (void)pthread_mutex_lock(&h->lock);
        at = find(h, cookie);
        found = *at != NULL;
        if (found)
                finish(h, at, reason, figures);
        (void)pthread_mutex_unlock(&h->lock);
        if (found)
                wake(h);
}

void weir_flows_deny(struct weir_handoff *h, const struct weir_capture_event *about)
{
        struct weir_handed flow = { .about = *about };
        struct weir_told *told = malloc(sizeof(*told));

        flow.about.policy = about->policy ? weir_policy_ref(about->policy) : NULL;
        flow.about.by = NULL;
        (void)pthread_mutex_lock(&h->lock);
        tell(h, &flow, told);
        (void)pthread_mutex_unlock(&h->lock);
        wake(h);
}

bool weir_flows_has(struct weir_handoff *h, uint64_t cookie)
{
        bool has;

        (void)pthread_mutex_lock(&h->lock);
        has = *find(h, cookie) != NULL;
        (void)pthread_mutex_unlock(&h->lock);
        return has;
}

/* Whether the policy in force still dials what this flow dialled; if so the flow is its from now on. */
static bool keep(struct weir_handoff *h, struct weir_handed *flow)
{
        struct weir_query query = {
                .protocol = WEIR_IP_TCP, .addr = flow->about.destination, .port = flow->about.port, .turn = flow->turn
        };
        struct weir_decision decision;

        /* What --audit would let through now it does not cut either. */
        if (h->options.audit)
                return true;
        if (!weir_policy_still_allows(h->policy, &query, &flow->about.dialled, flow->about.dialled_port, ENDPOINTS_MAX,
                                      &decision))
                return false;
        weir_policy_unref(flow->about.policy);
        flow->about.policy = weir_policy_ref(h->policy);
        flow->about.by = decision.rule;
        return true;
}

static void condemn(struct weir_handoff *h, struct weir_handed *flow, uint64_t now)
{
        flow->state = CONDEMNED;
        flow->condemned_ns = now;
        flow->about.by = NULL;
        weir_policy_unref(flow->about.policy);
        flow->about.policy = weir_policy_ref(h->policy);
        h->n_condemned++;
}

int weir_flows_condemned(struct weir_handoff *h, bool judge, struct weir_condemned **ret, size_t *ret_n)
{
        struct weir_condemned *list = NULL;
        uint64_t now = weir_time_ns();
        size_t n = 0;
        int r = 0;

        (void)pthread_mutex_lock(&h->lock);
        for (size_t i = 0; judge && i < BUCKETS; i++)
                for (struct weir_handed *flow = h->buckets[i]; flow; flow = flow->next)
                        if (flow->state != CONDEMNED && !keep(h, flow))
                                condemn(h, flow, now);
        if (h->n_condemned > 0) {
                list = calloc(h->n_condemned, sizeof(*list));
                r = list ? 0 : -ENOMEM;
        }
        for (size_t i = 0; list && i < BUCKETS; i++)
                for (const struct weir_handed *flow = h->buckets[i]; flow; flow = flow->next)
                        /* What is not installed yet is ended by who would install it. */
                        if (flow->state == CONDEMNED && flow->installed)
                                list[n++] = (struct weir_condemned){ .cookie = flow->cookie,
                                                                     .since_ns = flow->condemned_ns,
                                                                     .tgid = flow->tgid,
                                                                     .fd = flow->fd };
        (void)pthread_mutex_unlock(&h->lock);
        if (r == 0) {
                *ret = list;
                *ret_n = n;
        }
        return r;
}

static int compare_cookies(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

void weir_flows_reconcile(struct weir_handoff *h, uint64_t before_ns, const uint64_t *alive, size_t n)
{
        (void)pthread_mutex_lock(&h->lock);
        for (size_t i = 0; i < BUCKETS; i++) {
                struct weir_handed **at = &h->buckets[i];

                while (*at)
                        if ((*at)->state != BEGUN && (*at)->opened_ns < before_ns &&
                            !bsearch(&(*at)->cookie, alive, n, sizeof(*alive), compare_cookies))
                                finish(h, at, WEIR_REASON_FINISHED, NULL);
                        else
                                at = &(*at)->next;
        }
        (void)pthread_mutex_unlock(&h->lock);
}

struct weir_policy *weir_handoff_policy(struct weir_handoff *h)
{
        struct weir_policy *policy;

        (void)pthread_mutex_lock(&h->lock);
        policy = weir_policy_ref(h->policy);
        (void)pthread_mutex_unlock(&h->lock);
        return policy;
}

int weir_handoff_next_told(struct weir_handoff *h, struct weir_capture_event *ret)
{
        struct weir_told *told;
        int r = 0;

        (void)pthread_mutex_lock(&h->lock);
        told = h->told;
        if (!told && h->lost > 0) {
                *ret = (struct weir_capture_event){ .lost = h->lost };
                h->lost = 0;
                r = -ENOBUFS;
        }
        if (told) {
                h->told = told->next;
                h->n_told--;
                if (!h->told)
                        h->told_end = &h->told;
        }
        (void)pthread_mutex_unlock(&h->lock);
        if (!told)
                return r;
        *ret = told->flow;
        free(told);
        return 1;
}

void weir_flows_clear(struct weir_handoff *h)
{
        struct weir_capture_event flow;

        for (size_t i = 0; h->buckets && i < BUCKETS; i++)
                while (h->buckets[i]) {
                        struct weir_handed *next = h->buckets[i]->next;

                        weir_policy_unref(h->buckets[i]->about.policy);
                        free(h->buckets[i]);
                        h->buckets[i] = next;
                }
        free(h->buckets);
        while (weir_handoff_next_told(h, &flow) != 0)
                weir_policy_unref(flow.policy);
}
