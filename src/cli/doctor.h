/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of "weir doctor": what is tried inside a workload, and what came of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/cleanup.h"
#include "capture/capture.h"

struct weir_err;

/* One way out each. Names and order are the table's in doctor_probe.c. */
enum weir_doctor_way {
        WEIR_WAY_ADDRESS,
        WEIR_WAY_UDP,
        WEIR_WAY_ICMP,
        WEIR_WAY_IPV6,
        WEIR_WAY_RAW,
        WEIR_WAY_NAME,
        WEIR_WAY_COUNT,
};
const char *weir_doctor_way_name(enum weir_doctor_way way);

/* Where the canary listens, and what the policy of the throw-away workload allows. */
struct weir_doctor_plan {
        struct weir_addr canary4, canary6, allowed;
        bool has_canary6;
        uint16_t tcp, tcp6, udp, allowed_port; /* allowed_port: 0 without Weir */
};

/* The argument of "weir doctor --inside"; heap, NULL without memory. And back: 0 or -EINVAL. */
char *weir_doctor_plan_format(const struct weir_doctor_plan *plan);
WEIR_MUST int weir_doctor_plan_parse(const char *text, struct weir_doctor_plan *ret);

/* What the one inside says of each way: bit 1 << way is set where something came back to it. Written as one line. */
struct weir_doctor_said {
        unsigned answered; /* by way: an echo, a name that was not refused */
        bool allowed;      /* what is allowed was reached, and answered */
        bool complete;     /* it came to the end */
};

/* Tries every way, writes what it saw to standard output; the exit status. */
int weir_doctor_inside(const struct weir_doctor_plan *plan);

/**
 * struct weir_doctor_proof - of one capture
 * @passed:  by way, without Weir: the canary was reached, so the trial proves something
 * @stopped: by way, with Weir: nothing came
 * @why:     where the workload did not start
 */
struct weir_doctor_proof {
        const char *capture;
        bool started, allowed, passed[WEIR_WAY_COUNT], stopped[WEIR_WAY_COUNT];
        char why[1024];
};

/* Whether every way was stopped and what is allowed arrived. */
bool weir_doctor_holds(const struct weir_doctor_proof *proof);

/* Starts a workload of this capture that tries every way, and watches the canary. 0, also where it did not start;
 * -errno or WEIR_EINVALID with @err where nothing could be tried. */
WEIR_MUST int weir_doctor_prove(const struct weir_capture_ops *capture, bool verbose, struct weir_doctor_proof *ret,
                                struct weir_err *err);
