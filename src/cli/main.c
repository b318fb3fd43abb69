/* SPDX-License-Identifier: Apache-2.0 */
/* weir: the table of commands, and the way into them. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/commands.h"

const struct weir_option weir_no_option_table[] = { { .name = NULL } };

#define TYPES "externalservice|serviceentry"

const struct weir_command weir_commands[] = {
        { "run", cmd_run, "[--] COMMAND [ARG]...", "Run a command that can reach only what the policy names",
          weir_run_option_table, NULL },
        { "create", cmd_create, "-f FILE|-", "Add resources to the store", weir_write_option_table, NULL },
        { "replace", cmd_replace, "-f FILE|-", "Replace resources of the store", weir_write_option_table, NULL },
        { "apply", cmd_apply, "-f FILE|-", "Add resources to the store, or replace those that are there",
          weir_write_option_table, NULL },
        { "get", cmd_get, "TYPE [NAME]", "Show resources of the store", weir_get_option_table, TYPES },
        { "delete", cmd_delete, "TYPE NAME... | -f FILE|-", "Delete resources from the store", weir_delete_option_table,
          TYPES },
        { "validate", cmd_validate, "-f FILE...", "Check files of resources, without a store",
          weir_validate_option_table, NULL },
        { "explain", cmd_explain, "[[tcp|udp] ADDRESS|NAME PORT]",
          "Say what happens to a connection, and which rule decides", weir_explain_option_table, "tcp|udp" },
        { "kube-inject", cmd_kube_inject, "-f FILE|-", "Write Weir into the pods of Kubernetes objects",
          weir_kube_inject_option_table, NULL },
        { "init", cmd_init, "", "Lay the rules of a pod's network, before anything else in it runs",
          weir_init_option_table, NULL },
        { "proxy", cmd_proxy, "", "Relay and resolve for the other containers of a pod", weir_proxy_option_table,
          NULL },
        { "install", cmd_install, "", "Prepare a Kubernetes cluster: definitions, roles and the controller",
          weir_install_option_table, NULL },
        { "controller", cmd_controller, "", "Write into the status of each resource of a cluster what became of it",
          weir_controller_option_table, NULL },
        { "attach", cmd_attach, "CGROUP", "Govern a cgroup that is there already: a service, a container",
          weir_attach_option_table, NULL },
        { "detach", cmd_detach, "CGROUP", "Take off what attach left in force", weir_no_option_table, NULL },
        { "doctor", cmd_doctor, "", "Say what this machine can do, and prove that nothing gets out",
          weir_doctor_option_table, NULL },
        { "version", cmd_version, "", "Print the version", weir_no_option_table, NULL },
        { "completion", cmd_completion, "bash|zsh", "Print a completion script for a shell", weir_no_option_table,
          "bash|zsh" },
        { .name = NULL },
};

const struct weir_command *weir_command_find(const char *name)
{
        for (const struct weir_command *command = weir_commands; command->name; command++)
                if (weir_streq(command->name, name))
                        return command;
        return NULL;
}

static void print_help(FILE *stream)
{
        (void)fputs("weir: egress control. Nothing leaves unless a rule names it.\n\nUsage: weir COMMAND "
                    "[OPTION]...\n\nCommands:\n",
                    stream);
        for (const struct weir_command *command = weir_commands; command->name; command++)
                (void)fprintf(stream, "  %-12s%s\n", command->name, command->help);
        (void)fputs("\n'weir COMMAND --help' shows a command's options. See weir(1) and weir-policy(5).\n", stream);
}

static size_t min3(size_t a, size_t b, size_t c)
{
        size_t m = a < b ? a : b;

        return m < c ? m : c;
}

/* Levenshtein's distance; a word longer than any command is far from all. */
static size_t distance(const char *a, const char *b)
{
        size_t row[32], n = strlen(b);

        if (strlen(a) >= WEIR_ARRAY_SIZE(row) || n >= WEIR_ARRAY_SIZE(row))
                return WEIR_ARRAY_SIZE(row);
        for (size_t j = 0; j <= n; j++)
                row[j] = j;
        for (size_t i = 0; a[i]; i++) {
                size_t diagonal = row[0];

                row[0] = i + 1;
                for (size_t j = 1; j <= n; j++) {
                        size_t above = row[j];

                        row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i] != b[j - 1]));
                        diagonal = above;
                }
        }
        return row[n];
}

static const char *nearest_command(const char *name)
{
        const char *best = NULL;
        size_t best_distance = 3;

        for (const struct weir_command *command = weir_commands; command->name; command++) {
                size_t d = distance(name, command->name);

                if (d < best_distance && d < strlen(command->name)) {
                        best = command->name;
                        best_distance = d;
                }
        }
        return best;
}

static int unknown_command(const char *name)
{
        weir_auto(buf) struct weir_buf buf = { 0 };
        const char *near = nearest_command(name);

        weir_buf_escape(&buf, name, strlen(name));
        (void)fprintf(stderr, "Error: unknown %s \"%s\"", name[0] == '-' ? "option" : "command",
                      buf.data ? buf.data : "");
        if (near)
                (void)fprintf(stderr, "; did you mean \"%s\"?", near);
        (void)fputs("\ntry 'weir --help'\n", stderr);
        return WEIR_EXIT_USAGE;
}

static int help_command(int argc, char **argv)
{
        const struct weir_command *command;

        if (argc < 2) {
                print_help(stdout);
                return WEIR_EXIT_OK;
        }
        command = weir_command_find(argv[1]);
        if (!command)
                return unknown_command(argv[1]);
        weir_options_help(command, stdout);
        return WEIR_EXIT_OK;
}

static int dispatch(int argc, char **argv)
{
        const struct weir_command *command;

        if (argc < 2) {
                (void)fputs("Error: no command given\ntry 'weir --help'\n", stderr);
                return WEIR_EXIT_USAGE;
        }
        if (weir_streq(argv[1], "help") || weir_streq(argv[1], "--help") || weir_streq(argv[1], "-h"))
                return help_command(argc - 1, argv + 1);
        if (weir_streq(argv[1], "--version"))
                return cmd_version(1, argv + 1);
        command = weir_command_find(argv[1]);
        if (!command)
                return unknown_command(argv[1]);
        return command->function(argc - 1, argv + 1);
}

/* What could not be written was not said: a full disk or a closed pipe behind standard output is a failure. */
static int finish_output(int status)
{
        bool failed = ferror(stdout) != 0;

        errno = 0;
        if (fflush(stdout) != 0)
                failed = true;
        if (!failed)
                return status;
        (void)fprintf(stderr, "Error: write standard output: %s\n",
                      errno ? strerror(errno) : "some of it was not written");
        return status ? status : WEIR_EXIT_FAILED;
}

/* A descriptor that Weir opens must not become the command's standard input, output or error because there was none. */
static bool have_standard_streams(void)
{
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
                    open("/dev/null", fd == STDIN_FILENO ? O_RDONLY : O_WRONLY) != fd)
                        return false;
        return true;
}

int main(int argc, char **argv)
{
        if (!have_standard_streams())
                return WEIR_EXIT_FAILED; /* and nowhere to say why */
        /* A caller that ignores SIGCHLD would keep Weir from seeing its own children end. */
        (void)signal(SIGCHLD, SIG_DFL);
        if (weir_is_istioctl(argv[0]))
                return finish_output(weir_istioctl(argc, argv));
        return finish_output(dispatch(argc, argv));
}
