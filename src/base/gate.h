/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gates that a test build can leave out, one at a time, so that the table of ways out (tests/escape) proves that it
 * would notice. Only builds with -Dtest_gates=true have the switch; in every other WEIR_GATE() is the constant true,
 * and nothing of it is left in the program.
 */
#pragma once

#include <stdbool.h>

#ifdef WEIR_TEST_GATES
/**
 * weir_gate_stands() - whether a gate is in force
 * @name: as in WEIR_GATE()
 *
 * Return: false if WEIR_TEST_GATE_REMOVED in the environment is @name
 */
bool weir_gate_stands(const char *name);
#define WEIR_GATE(name) weir_gate_stands(#name)
#else
#define WEIR_GATE(name) true
#endif
