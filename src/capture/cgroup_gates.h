/* SPDX-License-Identifier: Apache-2.0 */
/* The programs of a workload's cgroup: loaded, attached, pinned, taken over and removed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct weir_err;
struct weir_gates;

/* Loads programs and maps. No policy is in force yet, so everything is denied. WEIR_EUNSUPPORTED with @err where the
 * kernel or its guards refuse. */
WEIR_MUST int weir_gates_load(struct weir_gates **ret_gates, struct weir_err *err);

/**
 * weir_gates_adopt() - programs of this Weir over the maps that another one left
 * @pins: the folder of pins; @name: the cgroup's folder in it
 * @cgroup: whose they must be
 *
 * Return: 1 with the gates loaded, to be attached by weir_gates_attach(); 0 where nothing is to be adopted;
 * -EBUSY where the Weir that drives them lives; WEIR_EINVALID where they are not Weir's, with @err
 */
WEIR_MUST int weir_gates_adopt(int pins, const char *pins_path, const char *name, uint64_t cgroup,
                               struct weir_gates **ret_gates, struct weir_err *err);

/* 0; -EBUSY with @err where a Weir that lives drives what is pinned as @name. */
WEIR_MUST int weir_gates_busy(const char *pins_path, const char *name, struct weir_err *err);

/* Attaches every program to the cgroup: a link that was adopted is updated in place, without a moment between. */
WEIR_MUST int weir_gates_attach(struct weir_gates *gates, int cgroup, struct weir_err *err);
/* Gives back the memory of loading. After it gates can be driven and freed, not attached or pinned. */
void weir_gates_release(struct weir_gates *gates);
/* Pins links and maps below @pins as @name. Only then do they outlive this process. */
WEIR_MUST int weir_gates_pin(struct weir_gates *gates, int pins, const char *pins_path, const char *name,
                             uint64_t cgroup, const char *version, struct weir_err *err);
/* Pins the links alone, in the BPF file system that @mount names. */
WEIR_MUST int weir_gates_hold(const struct weir_gates *gates, int mount, struct weir_err *err);
/* Removes the pins; the gates themselves end with their last descriptor. */
void weir_gates_unpin(int pins, const char *name);
/* Detaches what is pinned as @name, and removes the pins. 0; -ENOENT */
WEIR_MUST int weir_gates_remove(int pins, const char *pins_path, const char *name);
/* Pins of cgroups that are gone. Returns how many were removed. */
size_t weir_gates_sweep(int pins, int cgroup_root);

/* Descriptors of the maps, owned by the gates. */
int weir_gates_live(const struct weir_gates *gates);
int weir_gates_sockets(const struct weir_gates *gates);
int weir_gates_events(const struct weir_gates *gates);
int weir_gates_originals(const struct weir_gates *gates);
int weir_gates_counts(const struct weir_gates *gates);
/* A program by its name, for tests that run it on packets of their own; -ENOENT. */
int weir_gates_program(const struct weir_gates *gates, const char *name);
/* The generation of the policy in force, 0 if none: what an adopted map holds. */
uint64_t weir_gates_generation(const struct weir_gates *gates);
/* How many programs of others are in force on the cgroup for Weir's hooks, from above or beside. */
size_t weir_gates_others(const struct weir_gates *gates, int cgroup);
/* Name of the object's digest, 12 characters are enough for people. */
const char *weir_gates_digest(void);

/* Descriptors are closed; what is pinned stays in force, else it ends. */
void weir_gates_free(struct weir_gates *gates);
WEIR_DEFINE_CLEANUP(gates, struct weir_gates *, weir_gates_free)
