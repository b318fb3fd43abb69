/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pods that get Weir: weir-init and weir-proxy written into the text of Kubernetes objects, at the place where they
 * belong, every other byte left as it is. Pure: text in, text out.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct weir_buf;
struct weir_errs;
struct weir_strv;

#define WEIR_INJECT_UID 1337

/**
 * struct weir_inject_options - what the installation says
 * @image:             of both containers
 * @pull_policy:       "IfNotPresent"
 * @uid:               of both containers; no other container may have it
 * @include_ranges:    judge TCP to these alone; NULL or "*" is all
 * @exclude_ranges, @include_ports, @exclude_ports: as weir init takes them; NULL for none
 * @allow_exclusions:  annotations of a pod may say the same of themselves
 */
struct weir_inject_options {
        const char *image, *pull_policy;
        uint32_t uid;
        const char *include_ranges, *exclude_ranges, *include_ports, *exclude_ports;
        bool allow_exclusions;
};

/**
 * weir_inject() - inject every pod of a stream
 * @path:   for messages
 * @out:    the text; not to be used where @errors got any
 * @errors: pods that are refused, with the reason and the place
 * @notes:  lines for a person: what was skipped, what is not honoured, what weakens the boundary
 *
 * Injecting again gives the same bytes. Return: 0 (look at @errors); -ENOMEM
 */
WEIR_MUST int weir_inject(const char *bytes, size_t n, const char *path, const struct weir_inject_options *options,
                          struct weir_buf *out, struct weir_errs *errors, struct weir_strv *notes);

/* The value of sidecar.istio.io/inject; NULL is absent. */
enum weir_inject_policy { WEIR_INJECT_DISABLED, WEIR_INJECT_ENABLED, WEIR_INJECT_POLICY_COUNT };
/* Whether a pod is to be injected, as Istio decides: never in a system namespace or on the node's network. */
bool weir_inject_required(enum weir_inject_policy policy, const char *namespace_, const char *value, bool host_network);
/* "enabled", "disabled"; anything else is WEIR_INJECT_POLICY_COUNT, under which nothing is injected. */
enum weir_inject_policy weir_inject_policy_parse(const char *text);

/* A value of an annotation about traffic, by Istio's rules: NULL if it is fine or the annotation is not one of them,
 * else the complaint in Istio's words on the heap. @ret_nomem may be set instead. */
char *weir_inject_annotation_complaint(const char *annotation, const char *value, bool *ret_nomem);
