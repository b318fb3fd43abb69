/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the cgroup capture share about one workload. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/shared.h"
#include "capture/capture.h"
#include "capture/cgroup_doors.h"
#include "capture/cgroup_place.h"
#include "capture/cgroup_policy.h"

struct ring_buffer;
struct weir_gates;

#define CHANGES 16

struct weir_capture {
        struct weir_cgroup_root root;
        char name[320]; /* of the group below the root */
        int group;      /* its folder */
        uint64_t id;
        char pins_path[256], pins_name[24];
        int pins; /* -1: nothing is pinned */
        struct weir_gates *gates;
        struct weir_doors doors;
        uint16_t published[WEIR_BPF_PUBLISH_MAX];
        size_t n_published;
        bool audit, made_group, stopped;
        uint64_t generation;
        struct weir_cgroup_switch changes[CHANGES]; /* the last ones, of which the kernel may not be through with all */
        size_t next_change;
        int diag;
        struct ring_buffer *ring;
        struct weir_bpf_event event; /* the last one read */
        bool has_event;
        uint64_t lost;    /* as counted so far */
        char cgroup[512]; /* of the last event */
        uint64_t cgroup_id;
        struct weir_capture *box; /* of the sealed capture: driven by its operations alone; NULL: attached */
        int hold;                 /* where the links are pinned as long as the sandbox lives; -1: nowhere */
        int watch;                /* of an attached cgroup: inotify on its events; -1 without */
        bool end_told;
};

/* From policy to ring: what makes the gates of c->group hold. @adopted: the gates are loaded already. */
WEIR_MUST int weir_cgroup_complete(struct weir_capture *c, const struct weir_capture_options *options,
                                   struct weir_err *err);
/* cgroup_attach.c: the cgroup that options->attach names, found, taken over or newly governed, and watched. */
WEIR_MUST int weir_cgroup_attach(struct weir_capture *c, const struct weir_capture_options *options,
                                 struct weir_err *err);
/* Its end, as wait_exit() tells it: 1 when the cgroup is gone. */
int weir_cgroup_ended(struct weir_capture *c, struct weir_exit *ret);
