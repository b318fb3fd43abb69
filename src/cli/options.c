/* SPDX-License-Identifier: Apache-2.0 */
/* The option parser, and the help that derives from its tables. */
#include "cli/options.h"

#include <stdarg.h>
#include <string.h>

#include "base/buf.h"
#include "cli/commands.h"
#include "model/names.h"

#define HELP_COLUMN 26

/* Prints a mistake with hostile bytes escaped: words of the command line may hold anything. */
static void say_usage(const struct weir_command_line *line, const char *text)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        weir_buf_escape(&buf, text, strlen(text));
        (void)fprintf(stderr, "Error: %s\ntry 'weir %s --help'\n", buf.data ? buf.data : "wrong usage",
                      line->command->name);
}

int weir_usage_error(const struct weir_command_line *line, const char *format, ...)
{
        char text[1024];
        va_list args;

        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        say_usage(line, text);
        return line->usage_status ? line->usage_status : WEIR_EXIT_USAGE;
}

bool weir_choice_has(const char *choices, const char *value)
{
        size_t n = value ? strcspn(value, "|") : 0;

        if (!choices || n == 0 || value[n] != '\0')
                return false;
        for (const char *at = choices; *at; at += *at == '|') {
                if (strncmp(at, value, n) == 0 && (at[n] == '|' || at[n] == '\0'))
                        return true;
                at += strcspn(at, "|");
        }
        return false;
}

static const struct weir_option *find_long(const struct weir_option *table, const char *name, size_t n)
{
        for (; table->name; table++)
                if ((strlen(table->name) == n && strncmp(table->name, name, n) == 0) ||
                    (table->alias && strlen(table->alias) == n && strncmp(table->alias, name, n) == 0))
                        return table;
        return NULL;
}

static const struct weir_option *find_letter(const struct weir_option *table, char letter)
{
        for (; table->name; table++)
                if (table->letter && table->letter == letter)
                        return table;
        return NULL;
}

static int store_value(const struct weir_command_line *line, const struct weir_option *option, const char *value)
{
        char *at = (char *)line->values + option->offset;

        if (option->choices && !weir_choice_has(option->choices, value)) {
                if (weir_streq(option->name, "output"))
                        return weir_usage_error(line, "unknown output format %s. Types are %s", value, option->choices);
                return weir_usage_error(line, "--%s cannot be \"%s\": it is one of %s", option->name, value,
                                        option->choices);
        }
        switch (option->type) {
        case WEIR_OPTION_FLAG:
                *(bool *)(void *)at = true;
                return -1;
        case WEIR_OPTION_NAMESPACE:
                if (!weir_is_dns1123_label(value))
                        return weir_usage_error(
                                line,
                                "--%s cannot be \"%s\": a namespace is a DNS-1123 label (a-z, 0-9 and -, "
                                "at most 63 characters)",
                                option->name, value);
                *(const char **)(void *)at = value;
                return -1;
        case WEIR_OPTION_STRING:
                *(const char **)(void *)at = value;
                return -1;
        case WEIR_OPTION_LIST:
                if (weir_strv_add((struct weir_strv *)(void *)at, value) < 0)
                        return weir_say_out_of_memory();
                return -1;
        }
        return weir_usage_error(line, "option --%s has no type", option->name);
}

static bool is_help(const char *word)
{
        return weir_streq(word, "--help") || weir_streq(word, "-h");
}

/* --name, --name=VALUE, --name VALUE. @i is moved over a value that is a word of its own. */
static int parse_long(const struct weir_command_line *line, int argc, char **argv, int *i)
{
        const char *name = argv[*i] + 2, *equals = strchr(name, '=');
        size_t n = equals ? (size_t)(equals - name) : strlen(name);
        const struct weir_option *option = find_long(line->command->options, name, n);

        if (!option)
                return weir_usage_error(line, "unknown option --%.*s", (int)(n > 200 ? 200 : n), name);
        if (!option->argument)
                return equals ? weir_usage_error(line, "option --%s takes no value", option->name) :
                                store_value(line, option, NULL);
        if (equals)
                return store_value(line, option, equals + 1);
        if (*i + 1 >= argc)
                return weir_usage_error(line, "option --%.*s needs a value: %s", (int)n, name, option->argument);
        return store_value(line, option, argv[++*i]);
}

/* -f VALUE, -fVALUE, and joined flags. */
static int parse_letters(const struct weir_command_line *line, int argc, char **argv, int *i)
{
        const char *word = argv[*i];

        for (size_t at = 1; word[at]; at++) {
                const struct weir_option *option = find_letter(line->command->options, word[at]);
                int status;

                if (!option)
                        return weir_usage_error(line, "unknown option -%c", word[at]);
                if (option->argument) {
                        if (word[at + 1])
                                return store_value(line, option, word + at + 1);
                        if (*i + 1 >= argc)
                                return weir_usage_error(line, "option -%c needs a value: %s", word[at],
                                                        option->argument);
                        return store_value(line, option, argv[++*i]);
                }
                status = store_value(line, option, NULL);
                if (status >= 0)
                        return status;
        }
        return -1;
}

static void take_rest(struct weir_command_line *line, int argc, char **argv, int i)
{
        while (i < argc)
                line->arguments[line->n_arguments++] = argv[i++];
}

int weir_options_parse(struct weir_command_line *line, int argc, char **argv)
{
        line->arguments = argv + 1;
        line->n_arguments = 0;
        for (int i = 1; i < argc; i++) {
                int status;

                if (weir_streq(argv[i], "--")) {
                        take_rest(line, argc, argv, i + 1);
                        break;
                }
                if (argv[i][0] != '-' || !argv[i][1]) {
                        if (line->stop_at_first_argument) {
                                take_rest(line, argc, argv, i);
                                break;
                        }
                        line->arguments[line->n_arguments++] = argv[i];
                        continue;
                }
                if (is_help(argv[i])) {
                        weir_options_help(line->command, stdout);
                        return WEIR_EXIT_OK;
                }
                status = argv[i][1] == '-' ? parse_long(line, argc, argv, &i) : parse_letters(line, argc, argv, &i);
                if (status >= 0)
                        return status;
        }
        line->arguments[line->n_arguments] = NULL;
        return -1;
}

static void print_option(const struct weir_option *option, FILE *stream)
{
        char head[128];
        int n = 0;

        if (option->letter)
                n = snprintf(head, sizeof(head), "  -%c, --%s", option->letter, option->name);
        else
                n = snprintf(head, sizeof(head), "      --%s", option->name);
        if (option->argument && n > 0 && (size_t)n < sizeof(head))
                (void)snprintf(head + n, sizeof(head) - (size_t)n, " %s", option->argument);
        if (strlen(head) + 2 > HELP_COLUMN)
                (void)fprintf(stream, "%s\n%*s%s", head, HELP_COLUMN, "", option->help);
        else
                (void)fprintf(stream, "%-*s%s", HELP_COLUMN, head, option->help);
        if (option->alias)
                (void)fprintf(stream, " (also --%s)", option->alias);
        if (option->choices)
                (void)fprintf(stream, ": %s", option->choices);
        (void)fputc('\n', stream);
}

void weir_options_help(const struct weir_command *command, FILE *stream)
{
        static const struct weir_option help = { "help", NULL, 'h', WEIR_OPTION_FLAG, 0, NULL, NULL, "Show this help" };

        (void)fprintf(stream, "%s.\n\nUsage: weir %s%s%s%s\n\nOptions:\n", command->help, command->name,
                      command->options[0].name ? " [OPTION]..." : "", command->synopsis[0] ? " " : "",
                      command->synopsis);
        for (const struct weir_option *option = command->options; option->name; option++)
                print_option(option, stream);
        print_option(&help, stream);
        (void)fprintf(stream, "\nSee weir(1) and weir-policy(5).\n");
}
