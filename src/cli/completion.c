/* SPDX-License-Identifier: Apache-2.0 */
/* weir completion: scripts for bash and zsh, written from the tables of commands and options. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"

static void print_words(const char *choices)
{
        for (; choices && *choices; choices++)
                (void)putchar(*choices == '|' ? ' ' : *choices);
}

static void print_command_names(void)
{
        for (const struct weir_command *command = weir_commands; command->name; command++)
                (void)printf("%s%s", command == weir_commands ? "" : " ", command->name);
}

static void print_option_names(const struct weir_command *command)
{
        for (const struct weir_option *option = command->options; option->name; option++) {
                if (option->letter)
                        (void)printf("-%c ", option->letter);
                (void)printf("--%s ", option->name);
                if (option->alias)
                        (void)printf("--%s ", option->alias);
        }
        (void)fputs("-h --help", stdout);
}

static bool completes_files(const struct weir_option *option)
{
        return option->argument && (weir_streq(option->argument, "FILE") || weir_streq(option->argument, "PATH"));
}

/* One arm of "case $command:$previous". */
static void print_bash_value(const struct weir_command *command, const struct weir_option *option)
{
        if (!option->argument)
                return;
        (void)printf("        %s:--%s", command->name, option->name);
        if (option->alias)
                (void)printf("|%s:--%s", command->name, option->alias);
        if (option->letter)
                (void)printf("|%s:-%c", command->name, option->letter);
        (void)fputs(") ", stdout);
        if (option->choices) {
                (void)fputs("COMPREPLY=($(compgen -W '", stdout);
                print_words(option->choices);
                (void)fputs("' -- \"$current\"))", stdout);
        } else if (completes_files(option)) {
                (void)fputs("COMPREPLY=($(compgen -f -- \"$current\"))", stdout);
        } else {
                (void)fputs("COMPREPLY=()", stdout);
        }
        (void)fputs("; return ;;\n", stdout);
}

static void print_bash(void)
{
        (void)fputs("# bash completion for weir\n_weir() {\n"
                    "    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} "
                    "command=${COMP_WORDS[1]}\n"
                    "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W '",
                    stdout);
        print_command_names();
        (void)fputs(" help' -- \"$current\"))\n        return\n    fi\n    case $command:$previous in\n", stdout);
        for (const struct weir_command *command = weir_commands; command->name; command++)
                for (const struct weir_option *option = command->options; option->name; option++)
                        print_bash_value(command, option);
        (void)fputs("    esac\n    case $command in\n", stdout);
        for (const struct weir_command *command = weir_commands; command->name; command++) {
                (void)printf("        %s) COMPREPLY=($(compgen %s-W '", command->name,
                             weir_streq(command->name, "run") ? "-c " : "");
                print_words(command->arguments);
                (void)fputs(command->arguments ? " " : "", stdout);
                print_option_names(command);
                (void)fputs("' -- \"$current\")) ;;\n", stdout);
        }
        (void)fputs("    esac\n}\ncomplete -F _weir weir\n", stdout);
}

/* Inside single quotes and brackets of an _arguments specification. */
static void print_zsh_text(const char *text)
{
        for (; *text; text++) {
                if (*text == '\'')
                        (void)fputs("'\\''", stdout);
                else if (*text == '[' || *text == ']' || *text == ':')
                        (void)printf("\\%c", *text);
                else
                        (void)putchar(*text);
        }
}

static void print_zsh_option(const struct weir_option *option, const char *dashes, const char *name, size_t n)
{
        (void)printf("            '%s%s%.*s%s[", option->type == WEIR_OPTION_LIST ? "*" : "", dashes, (int)n, name,
                     !option->argument ? "" :
                     n > 1             ? "=" :
                                         "+");
        print_zsh_text(option->help);
        (void)putchar(']');
        if (option->argument) {
                (void)printf(":%s:", option->argument);
                if (option->choices) {
                        (void)putchar('(');
                        print_words(option->choices);
                        (void)putchar(')');
                } else if (completes_files(option)) {
                        (void)fputs("_files", stdout);
                }
        }
        (void)fputs("' \\\n", stdout);
}

static void print_zsh_command(const struct weir_command *command)
{
        (void)printf("        %s) _arguments -s \\\n", command->name);
        for (const struct weir_option *option = command->options; option->name; option++) {
                print_zsh_option(option, "--", option->name, strlen(option->name));
                if (option->alias)
                        print_zsh_option(option, "--", option->alias, strlen(option->alias));
                if (option->letter)
                        print_zsh_option(option, "-", &option->letter, 1);
        }
        (void)fputs("            '(- *)'{-h,--help}'[Show this help]' \\\n", stdout);
        if (command->arguments) {
                (void)fputs("            '1:argument:(", stdout);
                print_words(command->arguments);
                (void)fputs(")' '*:argument:' ;;\n", stdout);
        } else if (weir_streq(command->name, "run")) {
                (void)fputs("            '*::command:_normal' ;;\n", stdout);
        } else {
                (void)fputs("            ;;\n", stdout);
        }
}

static void print_zsh(void)
{
        (void)fputs("#compdef weir\n_weir() {\n    local -a commands=(\n", stdout);
        for (const struct weir_command *command = weir_commands; command->name; command++) {
                (void)printf("        '%s:", command->name);
                print_zsh_text(command->help);
                (void)fputs("'\n", stdout);
        }
        (void)fputs(
                "    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n"
                "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command in\n",
                stdout);
        for (const struct weir_command *command = weir_commands; command->name; command++)
                print_zsh_command(command);
        (void)fputs("    esac\n}\ncompdef _weir weir\n", stdout);
}

int cmd_completion(int argc, char **argv)
{
        struct weir_command_line line = { .command = weir_command_find("completion") };
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status >= 0)
                return status;
        if (line.n_arguments != 1)
                return weir_usage_error(&line, "completion takes the name of a shell: bash or zsh");
        if (weir_streq(line.arguments[0], "bash"))
                print_bash();
        else if (weir_streq(line.arguments[0], "zsh"))
                print_zsh();
        else
                return weir_say_text("there is no completion for %s; the shells are bash and zsh", line.arguments[0]);
        return WEIR_EXIT_OK;
}
