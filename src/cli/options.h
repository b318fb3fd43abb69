/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options of a command: one table says how they are written, where their values go, and what the help, the completion
 * and the man page check say of them.
 *
 * Options stand after the verb, in any order with arguments: -f FILE, -fFILE, --file FILE, --file=FILE. Letters of
 * flags may be joined (-qv). "--" ends the options. -h and --help are understood everywhere and are not listed in
 * tables.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/strutil.h"

#define WEIR_EXIT_OK 0
#define WEIR_EXIT_FAILED 1
#define WEIR_EXIT_USAGE 64 /* wrong options and argument counts only; EX_USAGE of sysexits(3) */

enum weir_option_type {
        WEIR_OPTION_FLAG,      /* bool: true if given */
        WEIR_OPTION_STRING,    /* const char *: the last one given wins; borrowed from argv */
        WEIR_OPTION_NAMESPACE, /* the same, and it is the name of a namespace */
        WEIR_OPTION_LIST,      /* struct weir_strv: every one given, in order; owned by the values, so clear it */
};

/**
 * struct weir_option - one row
 * @name:     long name without dashes; NULL ends the table
 * @alias:    another long name, or NULL
 * @letter:   one letter, or 0
 * @type:     what stands at @offset of the values
 * @argument: what the help calls the value, e.g. "FILE"; NULL for a flag. "FILE" completes file names
 * @choices:  "a|b|c": the only values taken, or NULL
 * @help:     one line without a full stop
 */
struct weir_option {
        const char *name, *alias;
        char letter;
        enum weir_option_type type;
        size_t offset;
        const char *argument, *choices, *help;
};

struct weir_command;

/**
 * struct weir_command_line - what to parse, and what came of it
 * @command: its table of options, and its name for messages
 * @values:  the struct that the table's offsets mean; the caller has zeroed it
 * @stop_at_first_argument: what follows the first argument, options included, belongs to the arguments
 * @usage_status: exit status after a mistake; 0 means WEIR_EXIT_USAGE
 * @arguments: what is no option, in order; points into argv, NULL-terminated
 */
struct weir_command_line {
        const struct weir_command *command;
        void *values;
        bool stop_at_first_argument;
        int usage_status;
        char **arguments;
        size_t n_arguments;
};

/**
 * weir_options_parse() - parse the words of a command
 * @argv: argv[0] is the command's name. Reordered so that the arguments are together
 *
 * A mistake is said on standard error in one line, with where to find help.
 * Return: -1 to go on, or the exit status of a command that ends here: 0 after --help, else @usage_status
 */
WEIR_MUST int weir_options_parse(struct weir_command_line *line, int argc, char **argv);

/* Says a mistake in the same form; returns the exit status: return weir_usage_error(&line, "..."). */
int weir_usage_error(const struct weir_command_line *line, const char *format, ...) WEIR_PRINTF(2, 3);

/* The help of one command, from its row and its table. */
void weir_options_help(const struct weir_command *command, FILE *stream);

/* Whether @value is one of "a|b|c". */
bool weir_choice_has(const char *choices, const char *value);
