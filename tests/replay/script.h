/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scripts: steps parted by semicolons, each a word and its arguments, "send client 10; pass 30s; record deadline".
 * What a word does is the business of the program that plays them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct script_word {
        const char *name;
        void (*play)(const char *const *arguments, size_t n); /* fails by cmocka's assertions */
        size_t n;                                             /* how many arguments it takes */
};

struct script {
        const char *title, *steps;
};

/* Plays all steps of one script; @words ends with a row without a name. A failure names script and step. */
void script_play(const struct script *script, const struct script_word *words);
/* The step that is being played, for messages. */
const char *script_step(void);
/* "10", or a time with its unit: "30s", "1500ms", "2h" in nanoseconds. */
uint64_t script_number(const char *text);
uint64_t script_time(const char *text);
