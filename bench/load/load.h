/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load of the bench: a server for the far side, and a client that does one measurement a line.
 *
 * Both ends are one thread with large buffers, so that they cost as little as they can: what stands between them is
 * then the largest possible share of what is measured.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PORT_ECHO 7001   /* every byte comes back */
#define PORT_SINK 7002   /* reads to the end, then answers with the number of bytes, 8 bytes in host order */
#define PORT_SOURCE 7003 /* sends until it is closed */
#define PORT_CLOSED 7009 /* nobody listens: how the kernel itself refuses */

#define BUFFER_SIZE ((size_t)256 * 1024)
#define CONNECTIONS_MAX 20000

struct target {
        struct in_addr allowed, denied;
};

/* Says what failed, with errno, and ends. */
void die(const char *what) __attribute__((noreturn));

/* Blocking, connected; -1 with errno. */
int connect_to(struct in_addr addr, uint16_t port);
/* A close that leaves no TIME_WAIT behind, so that ports do not run out. */
void reset(int fd);
/* One byte there and back. 0 or -1. */
int exchange(int fd);
/* The value below which @percent of the sorted others lie. */
uint64_t percentile(const uint64_t *sorted, size_t n, double percent);
void sort(uint64_t *values, size_t n);

int serve(const char *address);

/* Each prints one JSON object. */
void throughput(const struct target *target, bool up, unsigned streams, unsigned ms);
void pingpong(const struct target *target, unsigned count);
void connects(const struct target *target, unsigned parallel, unsigned ms);
void refused(const struct target *target, bool closed, unsigned count);
void idle(const struct target *target, unsigned count);
void await_allow(const struct target *target);
void await_deny(const struct target *target);
