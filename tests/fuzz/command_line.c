/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines: the first byte is the command, the words behind it end in a zero byte each. What is taken is what
 * getopt_long(3) makes of the same table; what is refused is refused in two lines that any terminal can show.
 */
#include "fuzz.h"

#include <getopt.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/run_options.h"

#define WORDS_MAX 32
#define VALUES_MAX 1024
#define TABLE_MAX 32

struct words {
        char *block;
        char *words[WORDS_MAX + 1];
        int n;
};

/* All words in one block: the parser moves the pointers. */
static void split_words(const uint8_t *bytes, size_t n, const char *command, struct words *ret)
{
        size_t n_command = strlen(command) + 1;
        char *at, *end;

        ret->block = malloc(n_command + n + 1);
        CHECK(ret->block);
        memcpy(ret->block, command, n_command);
        if (n > 0)
                memcpy(ret->block + n_command, bytes, n);
        end = ret->block + n_command + n;
        *end = '\0';
        ret->n = 0;
        for (at = ret->block; at < end && ret->n < WORDS_MAX; at += strlen(at) + 1)
                ret->words[ret->n++] = at;
        ret->words[ret->n] = NULL;
}

/* Runs @call with both outputs taken; they are bounded and show as they are. */
static FILE *begin_quiet(char **text, size_t *n)
{
        FILE *kept = stderr, *memory = open_memstream(text, n);

        CHECK(memory);
        stderr = stdout = memory;
        return kept;
}

static void end_quiet(FILE *kept, FILE *kept_out, char *const *text_at, const size_t *n, bool mistake)
{
        size_t lines = 0;
        char *text;

        (void)fclose(stderr);
        text = *text_at;
        stderr = kept;
        stdout = kept_out;
        for (size_t i = 0; i < *n; i++) {
                CHECK((text[i] >= ' ' && text[i] < 0x7f) || text[i] == '\n');
                lines += text[i] == '\n';
        }
        if (mistake)
                CHECK(lines > 0 && lines <= 2 && strncmp(text, "Error: ", 7) == 0);
        free(text);
}

static size_t count(const struct weir_option *table)
{
        size_t n = 0;

        while (table[n].name)
                n++;
        return n;
}

/* What getopt_long() says came last for the option at @index, or how often it was given. */
struct theirs {
        const char *last[TABLE_MAX];
        size_t times[TABLE_MAX];
        const char *arguments[WORDS_MAX + 1];
        size_t n_arguments;
};

static void ask_getopt(const struct weir_option *table, struct words *words, bool stop, struct theirs *ret)
{
        struct option long_options[2 * TABLE_MAX + 2] = { 0 };
        char letters[3 * TABLE_MAX + 4] = "";
        size_t n = count(table), n_long = 0;
        int c;

        CHECK(n < TABLE_MAX);
        memset(ret, 0, sizeof(*ret));
        if (stop)
                (void)strcat(letters, "+");
        for (size_t i = 0; i < n; i++) {
                int has = table[i].argument ? required_argument : no_argument;

                long_options[n_long++] = (struct option){ table[i].name, has, NULL, 1000 + (int)i };
                if (table[i].alias)
                        long_options[n_long++] = (struct option){ table[i].alias, has, NULL, 1000 + (int)i };
                if (table[i].letter)
                        (void)snprintf(letters + strlen(letters), 3, "%c%s", table[i].letter, has ? ":" : "");
        }
        optind = 0;
        opterr = 0;
        while ((c = getopt_long(words->n, words->words, letters, long_options, NULL)) != -1) {
                size_t i = c >= 1000 ? (size_t)c - 1000 : 0;

                CHECK(c != '?');
                while (c < 1000 && i < n && table[i].letter != c)
                        i++;
                CHECK(i < n);
                ret->last[i] = optarg;
                ret->times[i]++;
        }
        for (int i = optind; i < words->n; i++)
                ret->arguments[ret->n_arguments++] = words->words[i];
}

static void check_values(const struct weir_option *table, const char *values, const struct theirs *theirs)
{
        for (size_t i = 0; table[i].name; i++) {
                const char *at = values + table[i].offset;
                const struct weir_strv *list = (const void *)at;
                const char *const *text = (const void *)at;

                switch (table[i].type) {
                case WEIR_OPTION_FLAG:
                        CHECK(*(const bool *)(const void *)at == (theirs->times[i] > 0));
                        break;
                case WEIR_OPTION_NAMESPACE:
                case WEIR_OPTION_STRING:
                        CHECK((*text == NULL) == (theirs->last[i] == NULL));
                        CHECK(!*text || weir_streq(*text, theirs->last[i]));
                        if (*text && table[i].choices)
                                CHECK(!strchr(*text, '|') && strstr(table[i].choices, *text));
                        break;
                case WEIR_OPTION_LIST:
                        CHECK(list->n == theirs->times[i]);
                        CHECK(list->n == 0 || weir_streq(list->items[list->n - 1], theirs->last[i]));
                        break;
                }
        }
}

static void clear_values(const struct weir_option *table, char *values)
{
        for (; table->name; table++)
                if (table->type == WEIR_OPTION_LIST)
                        weir_strv_clear((struct weir_strv *)(void *)(values + table->offset));
}

static void check_command(const struct weir_command *command, const uint8_t *bytes, size_t n)
{
        _Alignas(16) char values[VALUES_MAX] = { 0 };
        bool is_run = weir_streq(command->name, "run");
        struct weir_command_line line = { .command = command, .values = values, .stop_at_first_argument = is_run };
        struct words words, copy;
        struct theirs theirs;
        char *text = NULL;
        size_t said = 0;
        FILE *out = stdout, *err = begin_quiet(&text, &said);
        int status;

        split_words(bytes, n, command->name, &words);
        split_words(bytes, n, command->name, &copy);
        status = weir_options_parse(&line, words.n, words.words);
        end_quiet(err, out, &text, &said, status > 0);
        CHECK(status == -1 || status == 0 || status == WEIR_EXIT_USAGE);
        if (status == -1) {
                ask_getopt(command->options, &copy, is_run, &theirs);
                check_values(command->options, values, &theirs);
                CHECK(line.n_arguments == theirs.n_arguments);
                for (size_t i = 0; i < theirs.n_arguments; i++)
                        CHECK(weir_streq(line.arguments[i], theirs.arguments[i]));
        }
        clear_values(command->options, values);
        free(words.block);
        free(copy.block);
}

/* "weir run" goes on to what the values mean. */
static void check_run(const uint8_t *bytes, size_t n)
{
        struct weir_run_options options = { 0 };
        struct words words;
        char *text = NULL;
        size_t said = 0;
        FILE *out = stdout, *err = begin_quiet(&text, &said);
        int status;

        split_words(bytes, n, "run", &words);
        status = weir_run_options_parse(words.n, words.words, &options);
        end_quiet(err, out, &text, &said, status > 0);
        CHECK(status == -1 || status == 0 || status == 125);
        if (status == -1) {
                CHECK(options.argv[0] && options.n_publish <= WEIR_RUN_PUBLISH_MAX);
                for (size_t i = 0; i < options.n_publish; i++)
                        CHECK(options.publish[i].host_port > 0 && options.publish[i].inner_port > 0);
        }
        weir_run_options_clear(&options);
        free(words.block);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
        size_t n_commands = 0;

        while (weir_commands[n_commands].name)
                n_commands++;
        if (n == 0)
                return 0;
        check_command(&weir_commands[bytes[0] % n_commands], bytes + 1, n - 1);
        if (bytes[0] % n_commands == 0)
                check_run(bytes + 1, n - 1);
        return 0;
}
