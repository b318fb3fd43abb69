/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of inject share. Private to inject/. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "inject/inject.h"
#include "model/outline.h"

/* At @at, @remove bytes become @text. */
struct edit {
        size_t at, remove;
        char *text;
};

struct injection {
        const char *bytes, *path;
        size_t n;
        const struct weir_inject_options *options;
        struct weir_errs *errors;
        struct weir_strv *notes;
        struct edit *edits;
        size_t n_edits, capacity;
};

/* One pod under way. @title: "Deployment \"sleep\""; @object: what holds it. */
struct pod {
        struct injection *in;
        const char *title;
        const struct weir_outline *object, *metadata, *spec;
        const char *include_ranges, *exclude_ranges, *include_ports, *exclude_ports;
};

/* inject.c */
int complain(struct injection *in, const struct weir_outline *node, const char *field, const char *format, ...)
        WEIR_PRINTF(4, 5);
int note(struct injection *in, const char *format, ...) WEIR_PRINTF(2, 3);

/* annotations.c: reads what a pod's annotations say into @pod */
int take_annotations(struct pod *pod);
/* NULL if absent. */
const char *label_or_annotation(const struct weir_outline *metadata, const char *key);

/* pod.c: refuses, or edits */
int check_pod(struct pod *pod);
int edit_pod(struct pod *pod);

/* edit.c */
/* Takes @text over, NULL of it is -ENOMEM. */
int add_edit(struct injection *in, size_t at, size_t remove, char *text);
/* A new key with @value, YAML text whose lines begin in the first column, behind the value of key number @after. */
int add_key(struct injection *in, const struct weir_outline *mapping, size_t after, const char *key, const char *value);
/* Items, YAML text of a list in the first column, at the front of @list; those that are there under one of the two
 * @names, at the front, are replaced. */
int put_front(struct injection *in, const struct weir_outline *list, const char *items, const char *const names[2]);
/* The value of @key becomes @value: for one that is null or empty. */
int set_value(struct injection *in, const struct weir_outline *node, const char *value);
/* Names behind the last item of a list of plain words. */
int add_words(struct injection *in, const struct weir_outline *list, const struct weir_strv *words);
int apply_edits(struct injection *in, struct weir_buf *out);
void clear_edits(struct injection *in);

/* piece.c: YAML in the first column; heap, NULL without memory */
char *init_containers(const struct pod *pod);
char *volumes(void);
extern const char *const container_names[2], *const volume_names[2];
