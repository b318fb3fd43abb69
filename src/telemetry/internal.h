/* SPDX-License-Identifier: Apache-2.0 */
/* Private to telemetry/: outputs that never block, and denial lines for people. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "telemetry/record.h"

/*
 * An output: a descriptor and the bytes it did not take yet. Whole lines only come in, so what is dropped is a whole
 * line. The flags of the caller's open file description are never touched: a terminal or pipe is shared with the shell
 * and the workload.
 */
struct output {
        int fd;     /* -1: nowhere */
        bool owned; /* an open file description of our own, non-blocking */
        bool socket, regular;
        bool dead; /* the reader is gone */
        size_t limit;
        struct weir_buf queue;
        size_t done;   /* bytes of @queue written already */
        uint64_t lost; /* lines that had no room, or were queued and never written whole */
};

void output_open(struct output *out, int fd, size_t limit);
void output_close(struct output *out);
/* Queues and writes; what has no room is lost. @line ends with a newline. */
void output_line(struct output *out, const char *line, size_t n);
/* Queues only; output_flush() writes. False if the line was lost. */
bool output_hold(struct output *out, const char *line, size_t n);
void output_flush(struct output *out);
/* What is still queued will not be written: it is lost, and counted. */
void output_give_up(struct output *out);

#define DENIAL_SETS 256
#define DENIAL_WAYS 4
#define DENIAL_LINES_PER_SECOND 100

/* One destination that was printed: told by a keyed hash of 64 bits, so a workload cannot make two of them collide. */
struct denial {
        uint64_t hash, at_ns;
        uint64_t suppressed;
};

struct denials {
        struct output out;
        uint64_t key;
        uint64_t second_ns; /* when the running second began */
        unsigned lines;     /* printed in it */
        uint64_t unsaid;    /* over the limit of lines, not yet told */
        uint64_t dropped;   /* held or queued lines that had no room */
        struct denial table[DENIAL_SETS][DENIAL_WAYS];
};

int denials_open(struct denials *denials, int fd);
/* Returns false if the line was left out because one like it was printed within a second. */
bool denials_print(struct denials *denials, const struct weir_record *record, uint64_t now_ns, bool hold);
void denials_flush(struct denials *denials);

void record_format_json(const struct weir_record *record, struct weir_buf *buf);
