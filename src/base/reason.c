/* SPDX-License-Identifier: Apache-2.0 */
/* The string tables of reason.def. */
#include "base/reason.h"

#include <errno.h>

#include "base/cleanup.h"

static const char *const verdict_names[] = {
        [WEIR_VERDICT_DENY] = "deny",
        [WEIR_VERDICT_ALLOW] = "allow",
        [WEIR_VERDICT_INSPECT] = "inspect",
};
_Static_assert(WEIR_ARRAY_SIZE(verdict_names) == WEIR_VERDICT_COUNT, "a name for each verdict");

static const char *const reason_names[] = {
#define X(number, name, log, words) [number] = log,
#include "base/reason.def"
#undef X
};
_Static_assert(WEIR_ARRAY_SIZE(reason_names) == WEIR_REASON_COUNT, "a name for each reason");

static const char *const reason_words[] = {
#define X(number, name, log, words) [number] = words,
#include "base/reason.def"
#undef X
};
_Static_assert(WEIR_ARRAY_SIZE(reason_words) == WEIR_REASON_COUNT, "words for each reason");

static const char *lookup(const char *const *table, size_t n, unsigned i)
{
        return i < n && table[i] ? table[i] : "unknown";
}

enum weir_reason weir_reason_of_connect(int error)
{
        switch (error) {
        case ECONNREFUSED:
        case ECONNRESET:
                return WEIR_REASON_UPSTREAM_REFUSED;
        case ETIMEDOUT:
                return WEIR_REASON_UPSTREAM_TIMEOUT;
        case EMFILE:
        case ENFILE:
        case ENOMEM:
        case ENOBUFS:
        case EADDRNOTAVAIL: /* no local port is left */
        case EAGAIN:
                return WEIR_REASON_LIMIT_MEMORY;
        default:
                return WEIR_REASON_UPSTREAM_UNREACHABLE;
        }
}

const char *weir_verdict_name(enum weir_verdict verdict)
{
        return lookup(verdict_names, WEIR_ARRAY_SIZE(verdict_names), verdict);
}

const char *weir_reason_name(enum weir_reason reason)
{
        return lookup(reason_names, WEIR_ARRAY_SIZE(reason_names), reason);
}

const char *weir_reason_words(enum weir_reason reason)
{
        return lookup(reason_words, WEIR_ARRAY_SIZE(reason_words), reason);
}
