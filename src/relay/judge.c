/* SPDX-License-Identifier: Apache-2.0 */
/* What the policy says of a flow: once when it is accepted, and again whenever the policy changes. */
#include <string.h>

#include "base/gate.h"
#include "relay/internal.h"

/* A rule with more endpoints than this keeps a flow only if its own turn still names the same endpoint. */
#define ENDPOINTS_MAX 256

void weir_judge_owner(struct weir_flow *flow)
{
        struct weir_relay *relay = flow->relay;

        if (relay->ops.owner && !flow->published)
                relay->ops.owner(relay->context, WEIR_IP_TCP, &flow->from, flow->from_port,
                                 flow->has_destination ? &flow->destination : NULL, flow->port, &flow->pid,
                                 flow->command);
}

static void set_dialled(struct weir_flow *flow, const struct weir_addr *addr, uint16_t port)
{
        flow->dialled = *addr;
        flow->dialled_port = port;
        flow->has_dialled = true;
}

static void set_policy(struct weir_flow *flow, struct weir_policy *policy, const struct weir_rule *rule)
{
        struct weir_policy *old = flow->policy;

        flow->policy = weir_policy_ref(policy);
        flow->rule = rule;
        weir_policy_unref(old);
}

/* A workload's loopback is its own; dialled from here it would be the host's, which nobody asked for. */
static bool may_audit(const struct weir_flow *flow, enum weir_reason reason)
{
        return flow->relay->options.audit && reason != WEIR_REASON_BUILTIN_LOOPBACK;
}

void weir_judge(struct weir_flow *flow, enum weir_reason *ret_reason)
{
        struct weir_relay *relay = flow->relay;
        struct weir_policy *policy = relay->ops.policy(relay->context);
        struct weir_query query = {
                .protocol = WEIR_IP_TCP, .addr = flow->destination, .port = flow->port, .turn = flow->turn
        };
        struct weir_decision decision = { .reason = WEIR_REASON_INTERNAL };

        if (policy)
                weir_policy_match(policy, &query, &decision);
        if (!WEIR_GATE(VERDICT))
                decision =
                        (struct weir_decision){ .verdict = WEIR_VERDICT_ALLOW, .addr = query.addr, .port = query.port };
        *ret_reason = decision.reason;
        switch (decision.verdict) {
        case WEIR_VERDICT_ALLOW:
                flow->verdict = WEIR_VERDICT_ALLOW;
                set_dialled(flow, &decision.addr, decision.port);
                set_policy(flow, policy, decision.rule);
                relay->turn++;
                return;
        case WEIR_VERDICT_INSPECT:
                *ret_reason = WEIR_REASON_NOT_ENFORCED;
                return;
        case WEIR_VERDICT_DENY:
        case WEIR_VERDICT_COUNT:
                break;
        }
        if (policy && may_audit(flow, decision.reason)) {
                flow->audit = true;
                set_dialled(flow, &flow->destination, flow->port);
        }
}

void weir_judge_again(struct weir_flow *flow)
{
        struct weir_relay *relay = flow->relay;
        struct weir_policy *policy = relay->ops.policy(relay->context);
        struct weir_query query = {
                .protocol = WEIR_IP_TCP, .addr = flow->destination, .port = flow->port, .turn = flow->turn
        };
        struct weir_decision decision;

        if (flow->published || flow->audit || !WEIR_GATE(REVOCATION))
                return;
        if (policy &&
            weir_policy_still_allows(policy, &query, &flow->dialled, flow->dialled_port, ENDPOINTS_MAX, &decision)) {
                set_policy(flow, policy, decision.rule);
                return;
        }
        flow->verdict = WEIR_VERDICT_DENY;
        flow->rule = NULL;
        flow->audit = policy && relay->options.audit;
        if (!flow->audit)
                weir_flow_close(flow, WEIR_REASON_POLICY_REVOKED);
}
