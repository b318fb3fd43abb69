/* SPDX-License-Identifier: Apache-2.0 */
/* Reasons and verdicts by number, name and words. */
#pragma once

enum weir_verdict {
        WEIR_VERDICT_DENY = 0, /* zero is deny: what nobody filled in is denied */
        WEIR_VERDICT_ALLOW,
        WEIR_VERDICT_INSPECT, /* the relay must read the first bytes */
        WEIR_VERDICT_COUNT,
};

enum weir_reason {
#define X(number, name, log, words) WEIR_REASON_##name = number,
#include "base/reason.def"
#undef X
        WEIR_REASON_COUNT,
};

/* Why a connection to an allowed destination did not come about: the words for the error of connect(2). */
enum weir_reason weir_reason_of_connect(int error);

const char *weir_verdict_name(enum weir_verdict verdict); /* "deny", "allow", "inspect" */
const char *weir_reason_name(enum weir_reason reason);    /* for logs: "no_rule"; never NULL */
const char *weir_reason_words(enum weir_reason reason);   /* for people: "no rule"; never NULL */
