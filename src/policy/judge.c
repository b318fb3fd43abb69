/* SPDX-License-Identifier: Apache-2.0 */
/* What those who hold flows ask besides the decision: whether a live one may go on, and what its denial's record says.
 */
#include "policy/policy.h"

bool weir_policy_still_allows(const struct weir_policy *policy, const struct weir_query *query,
                              const struct weir_addr *addr, uint16_t port, uint32_t endpoints,
                              struct weir_decision *ret)
{
        struct weir_query at = *query;

        weir_policy_match(policy, &at, ret);
        for (uint32_t turn = 0; ret->verdict == WEIR_VERDICT_ALLOW; turn++) {
                if (weir_addr_equal(&ret->addr, addr) && ret->port == port)
                        return true;
                if (turn >= endpoints)
                        return false;
                at.turn = turn;
                weir_policy_match(policy, &at, ret);
        }
        return false;
}

void weir_policy_denial_text(const struct weir_policy *policy, const struct weir_query *query, enum weir_reason reason,
                             char *buf, size_t n)
{
        if (n > 0)
                buf[0] = '\0';
        if (reason != WEIR_REASON_NOT_REDIRECTED && reason != WEIR_REASON_LIMIT_CONNECTIONS &&
            reason != WEIR_REASON_LIMIT_MEMORY && reason != WEIR_REASON_INTERNAL)
                weir_policy_nearest_text(policy, query, buf, n);
}
