/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands, and what the commands share: reading files, opening the store, saying errors and warnings. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/strutil.h"
#include "cli/options.h"
#include "model/resource.h"
#include "policy/policy.h"

struct weir_err;
struct weir_errs;
struct weir_store;

/**
 * struct weir_command - one row of the table in main.c
 * @function:  argv[0] is the command's name; returns the exit status
 * @synopsis:  the arguments, without options that the table lists by itself
 * @help:      one line
 * @options:   ends with a row without a name
 * @arguments: words that the first argument can be, "a|b|c", for completion; NULL if any
 */
struct weir_command {
        const char *name;
        int (*function)(int argc, char **argv);
        const char *synopsis, *help;
        const struct weir_option *options;
        const char *arguments;
};

extern const struct weir_command weir_commands[];               /* ends with a row without a name */
const struct weir_command *weir_command_find(const char *name); /* NULL if there is none */

/* Whether the program was called as istioctl, and its behaviour then; returns the exit status. */
bool weir_is_istioctl(const char *program);
int weir_istioctl(int argc, char **argv);
int weir_istioctl_context_create(const char *name, const char *server);

int cmd_run(int argc, char **argv);
int cmd_attach(int argc, char **argv);
int cmd_detach(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_create(int argc, char **argv);
int cmd_replace(int argc, char **argv);
int cmd_apply(int argc, char **argv);
int cmd_get(int argc, char **argv);
int cmd_delete(int argc, char **argv);
int cmd_validate(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_kube_inject(int argc, char **argv);
int cmd_init(int argc, char **argv);
int cmd_proxy(int argc, char **argv);
int cmd_install(int argc, char **argv);
int cmd_controller(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_completion(int argc, char **argv);

/* The tables stand beside the functions that use them. */
extern const struct weir_option weir_run_option_table[];
extern const struct weir_option weir_attach_option_table[];
extern const struct weir_option weir_doctor_option_table[];
extern const struct weir_option weir_write_option_table[]; /* create, replace, apply */
extern const struct weir_option weir_get_option_table[];
extern const struct weir_option weir_delete_option_table[];
extern const struct weir_option weir_validate_option_table[];
extern const struct weir_option weir_explain_option_table[];
extern const struct weir_option weir_kube_inject_option_table[];
extern const struct weir_option weir_init_option_table[];
extern const struct weir_option weir_proxy_option_table[];
extern const struct weir_option weir_install_option_table[];
extern const struct weir_option weir_controller_option_table[];
extern const struct weir_option weir_no_option_table[];

/* Values of every command but run. */
struct weir_common_options {
        struct weir_strv files;
        const char *namespace_; /* NULL if not given */
        const char *store;
        const char *output;
};
void weir_common_options_cleanup(struct weir_common_options *options);

#define WEIR_ROW_FILE(values, help_)                                                                    \
        {                                                                                               \
                "file", "filename", 'f', WEIR_OPTION_LIST, offsetof(values, files), "FILE", NULL, help_ \
        }
#define WEIR_ROW_NAMESPACE(values, help_)                                                                      \
        {                                                                                                      \
                "namespace", NULL, 'n', WEIR_OPTION_NAMESPACE, offsetof(values, namespace_), "NS", NULL, help_ \
        }
#define WEIR_ROW_STORE(values)                                                                \
        {                                                                                     \
                "store", NULL, 0, WEIR_OPTION_STRING, offsetof(values, store), "STORE", NULL, \
                        "The store, dir:PATH or kubernetes[:CONTEXT], instead of $WEIR_STORE" \
        }

/* A port of an option: left alone if @text is NULL. -1 to go on, or the exit status after an error. */
WEIR_MUST int weir_take_port(const struct weir_command_line *line, const char *option, const char *text, uint16_t *ret);
/* The value of --dns; NULL is AUTO. */
enum weir_dns_mode weir_dns_mode_parse(const char *text);

/* "Error: ..." on standard error. Each returns WEIR_EXIT_FAILED. */
int weir_say_error(const struct weir_err *err);
int weir_say_text(const char *format, ...) WEIR_PRINTF(1, 2);
int weir_say_invalid(const struct weir_errs *errors);
int weir_say_out_of_memory(void);
/* "Warning: ..." each on standard error; they never make a command fail. */
void weir_say_warnings(const struct weir_errs *warnings);

/**
 * weir_load_file() - read one file of resources
 * @path:       "-" is standard input, which can be read once
 * @namespace_: for resources without a namespace; NULL leaves them without
 * @errors:     documents that are wrong; their number says whether there were any, and the others are in @list
 *
 * Warnings are said on standard error.
 * Return: 0, also where @errors got some; -errno or WEIR_ELIMIT with @err if the file cannot be read
 */
WEIR_MUST int weir_load_file(const char *path, const char *namespace_, struct weir_resources *list,
                             struct weir_errs *errors, struct weir_err *err);

/* Whether "-" is in @files twice: read a second time it would be empty, and say so of nothing that was written. */
bool weir_input_twice(const struct weir_strv *files);

/**
 * weir_load_files() - read what a command that writes was given; nothing is used unless all of it is right
 * @namespace_: of the command line, NULL if none: goes to resources without one; another one is an error, as with Istio
 * @store:      whose namespace it is where neither says one
 *
 * Every resource has a namespace afterwards. Errors are said.
 * Return: 0, or the exit status
 */
WEIR_MUST int weir_load_files(const struct weir_strv *files, const char *namespace_, const char *store,
                              struct weir_resources *list);

/* Says what a snapshot came to, where it is not 0. Returns the exit status: 0 too, after a warning, if what is broken
 * hurts nothing else. */
WEIR_MUST int weir_say_snapshot(const struct weir_store *store, int r, const struct weir_errs *errors);

/* -1 to go on with *ret_kind, or the exit status after an error, in Istio's words. */
WEIR_MUST int weir_type_parse(const char *type, enum weir_kind *ret_kind);
