/* SPDX-License-Identifier: Apache-2.0 */
/* Policy snapshots: compiled once from resources for one workload, shared by reference, never changed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "base/reason.h"

struct weir_buf;
struct weir_err;
struct weir_errs;
struct weir_policy;
struct weir_resources;

/* What the compiler is told about the workload and the machine. */
struct weir_policy_options {
        const char *namespace_;             /* the workload's; NULL means "default" */
        const char *const *root_namespaces; /* NULL-terminated; NULL means weir-system, istio-system */
        const struct weir_addr *self;       /* addresses of this host: built-in deny unless /32 or /128 */
        size_t n_self;
        bool widen_export_to; /* the store's owner lets exportTo widen; default off */
        uint64_t generation;  /* of the snapshot, for records */
};

enum weir_ip_protocol { WEIR_IP_TCP, WEIR_IP_UDP, WEIR_IP_ICMP, WEIR_IP_OTHER, WEIR_IP_COUNT };
const char *weir_ip_protocol_name(enum weir_ip_protocol protocol); /* "tcp" */
/* Why a packet of a protocol that no rule can open is refused; TCP comes here only where it was not redirected. */
enum weir_reason weir_ip_protocol_refused(enum weir_ip_protocol protocol);

struct weir_query {
        enum weir_ip_protocol protocol;
        struct weir_addr addr;
        uint16_t port;
        uint32_t turn; /* round robin among STATIC endpoints: endpoint number turn % n */
};

/**
 * struct weir_rule - one (resource, prefix, port) that allows; owned by the snapshot
 * @resource: "namespace/name"
 * @source:   "file:line" of the resource
 */
struct weir_rule {
        const char *resource;
        const char *source;
        const char *port_name;
        struct weir_prefix prefix;
        uint16_t port;
};

/**
 * struct weir_decision - the answer; all zero is deny
 * @rule:     what allowed it; NULL if denied. Lives as long as the snapshot
 * @addr, @port: what to dial: the destination itself (NONE) or an endpoint (STATIC). Valid if allowed
 */
struct weir_decision {
        enum weir_verdict verdict;
        enum weir_reason reason;
        const struct weir_rule *rule;
        struct weir_addr addr;
        uint16_t port;
};

/**
 * weir_policy_compile() - compile resources into a snapshot
 * @resources: what the store holds, all namespaces; only read
 * @ret_policy: the snapshot, with one reference held by the caller
 * @err:       on failure, the resource and field that could not be compiled
 *
 * Return: 0; -ENOMEM; WEIR_EINVALID or WEIR_ELIMIT with @err filled
 */
WEIR_MUST int weir_policy_compile(const struct weir_resources *resources, const struct weir_policy_options *options,
                                  struct weir_policy **ret_policy, struct weir_err *err);
struct weir_policy *weir_policy_ref(struct weir_policy *policy);
void weir_policy_unref(struct weir_policy *policy);
WEIR_DEFINE_CLEANUP(policy, struct weir_policy *, weir_policy_unref)

uint64_t weir_policy_generation(const struct weir_policy *policy);
#define WEIR_DIGEST_STRLEN 65
const char *weir_policy_digest(const struct weir_policy *policy); /* hex SHA-256 of the effective rules */
size_t weir_policy_n_rules(const struct weir_policy *policy);
const struct weir_rule *weir_policy_rule(const struct weir_policy *policy, size_t i);

/* The one decision. O(address bits); never fails: what cannot be decided is denied. No allocation; any thread. */
void weir_policy_match(const struct weir_policy *policy, const struct weir_query *query, struct weir_decision *ret);

/**
 * weir_policy_still_allows() - whether this policy would dial what a live flow dialled
 * @query: as it was judged when the flow began, with its turn
 * @endpoints: how many of a rule's endpoints are looked through, besides the one of that turn
 * @ret:   the decision that keeps it, or the denial
 */
bool weir_policy_still_allows(const struct weir_policy *policy, const struct weir_query *query,
                              const struct weir_addr *addr, uint16_t port, uint32_t endpoints,
                              struct weir_decision *ret);

enum weir_dns_mode { WEIR_DNS_AUTO, WEIR_DNS_GATED, WEIR_DNS_OPEN, WEIR_DNS_OFF };
/* What AUTO means under this policy: GATED, or OPEN where a usable rule is a CIDR. Others come back as they are. */
enum weir_dns_mode weir_policy_dns_mode(const struct weir_policy *policy, enum weir_dns_mode mode);
/* Whether some rule in scope names this host (lower-case, no trailing dot): exact or "*.suffix", label-wise. */
bool weir_policy_names_host(const struct weir_policy *policy, const char *host);

/* The rules nearest to a denied query: same address other port, then longest prefix in common. At most @n; returns how
 * many. */
size_t weir_policy_nearest(const struct weir_policy *policy, const struct weir_query *asked,
                           const struct weir_rule **ret, size_t n);
/* The nearest one for a log line, e.g. "default/wikipedia-ext 198.35.26.96/27:443"; "" if there is none. */
void weir_policy_nearest_text(const struct weir_policy *policy, const struct weir_query *query, char *buf, size_t n);

/* The same for the record of a denial: "" where not the rules decided but a limit or the machine. */
void weir_policy_denial_text(const struct weir_policy *policy, const struct weir_query *query, enum weir_reason reason,
                             char *buf, size_t n);

/* "weir explain" for one query: "allow ..." or "deny ...", the deciding rule and scope or the nearest rules and what to
 * do. */
void weir_policy_explain(const struct weir_policy *policy, const struct weir_query *query, struct weir_buf *buf);
/* For a name: what DNS would answer and why. */
void weir_policy_explain_name(const struct weir_policy *policy, enum weir_dns_mode mode, const char *host,
                              struct weir_buf *buf);
/* Every effective rule, every part not enforced, and every built-in rule. */
void weir_policy_explain_all(const struct weir_policy *policy, enum weir_dns_mode mode, struct weir_buf *buf);
