/* SPDX-License-Identifier: Apache-2.0 */
/* What each capture asks of a machine, one row each, with what brings it: "weir doctor" prints them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct weir_err;

#define WEIR_ABILITY_DETAIL 128

/**
 * struct weir_ability - one row; a capture adds what it needs to the table in abilities.c
 * @capture:  whose need it is: "sealed"
 * @name:     a word or two: "user namespaces"
 * @required: without it the capture does not start; else it is weaker or slower, as @without says
 * @brings:   the kernel version, package or setting
 * @without:  what is weaker; NULL if @required
 * @probe:    0 if this machine has it, @detail filled or left empty; else negative with @err saying what is missing and
 *            how to get it. Nothing is left behind
 */
struct weir_ability {
        const char *capture, *name;
        bool required;
        const char *brings, *without;
        int (*probe)(char detail[static WEIR_ABILITY_DETAIL], struct weir_err *err);
};

extern const struct weir_ability weir_abilities[]; /* ends with a row without a capture */
