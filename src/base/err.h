/* SPDX-License-Identifier: Apache-2.0 */
/* What a person did wrong, said once and precisely: one error, and lists of them. The caller owns both. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

/* Domain codes, from -1000 down so that they never meet an errno. */
#define WEIR_EINVALID (-1000)     /* input is wrong; the error says where and why */
#define WEIR_EEXISTS (-1001)      /* an object of that name is there already */
#define WEIR_ENOTFOUND (-1002)    /* no object of that name */
#define WEIR_ECONFLICT (-1003)    /* the object changed since it was read (resourceVersion) */
#define WEIR_ELIMIT (-1004)       /* a stated limit is reached */
#define WEIR_EUNSUPPORTED (-1005) /* this machine cannot do it; the error says what is missing */

/**
 * struct weir_err - one error
 * @code:   negative errno or a domain code
 * @path:   file as the user named it ("-" is standard input); "" if none
 * @line:   1-based; 0 if not known
 * @column: 1-based, in characters; 0 if not known
 * @field:  path in the document, e.g. "spec.ports[0].number"; "" if none
 * @text:   the message, without location
 */
struct weir_err {
        int code;
        char path[256];
        unsigned line, column;
        char field[160];
        char text[1024];
};

/* Fills @err (may be NULL) with code and text; location untouched. Returns @code, so: return weir_err_set(...). */
int weir_err_set(struct weir_err *err, int code, const char *format, ...) WEIR_PRINTF(3, 4);

/* "PATH:L:C: FIELD: TEXT", parts that are absent left out, and on one line: what does not show as itself is escaped.
 * Returns a heap string, NULL without memory. */
char *weir_err_format(const struct weir_err *err);

/**
 * struct weir_errs - a list of errors, or of warnings
 * Bounded: after @limit entries further ones are only counted in @total.
 */
struct weir_errs {
        struct weir_err *items;
        size_t n, capacity;
        size_t total;
        size_t limit; /* 0 means 1000 */
};

WEIR_MUST int weir_errs_add(struct weir_errs *errs, const struct weir_err *err);
void weir_errs_clear(struct weir_errs *errs); /* frees the items, ready for use again */

/**
 * weir_errs_format() - the text Istio's tools print
 *
 * One error: the bare line. More: "N errors occurred:\n\n* LINE\n* LINE", no newline at the end.
 * Return: heap string, NULL without memory
 */
char *weir_errs_format(const struct weir_errs *errs);
