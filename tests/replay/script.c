/* SPDX-License-Identifier: Apache-2.0 */
#include "script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/strutil.h"
#include "base/time.h"

#include <stdio.h>
#include <string.h>

#define ARGUMENTS_MAX 6

static char playing[256];

const char *script_step(void)
{
        return playing;
}

uint64_t script_number(const char *text)
{
        uint64_t number;

        if (weir_parse_uint(text, UINT64_MAX, &number) < 0)
                fail_msg("%s: \"%s\" is no number", playing, text);
        return number;
}

uint64_t script_time(const char *text)
{
        static const struct {
                const char *name;
                uint64_t ns;
        } units[] = { { "ms", WEIR_MS }, { "s", WEIR_SEC }, { "m", 60 * WEIR_SEC }, { "h", 3600 * WEIR_SEC } };
        size_t digits = strspn(text, "0123456789");
        char number[24];

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(units); i++)
                if (digits < sizeof(number) && weir_streq(text + digits, units[i].name)) {
                        (void)snprintf(number, sizeof(number), "%.*s", (int)digits, text);
                        return script_number(number) * units[i].ns;
                }
        fail_msg("%s: \"%s\" is no time", playing, text);
        return 0;
}

static void play_step(const char *title, char *step, const struct script_word *words)
{
        const char *arguments[ARGUMENTS_MAX] = { NULL };
        const char *name;
        size_t n = 0;
        char *rest = step, *word;

        step += strspn(step, " \n");
        (void)snprintf(playing, sizeof(playing), "%s: %s", title, step);
        rest = step;
        name = strtok_r(rest, " \n", &rest);
        if (!name)
                return;
        while (n < ARGUMENTS_MAX && (word = strtok_r(NULL, " \n", &rest)))
                arguments[n++] = word;
        for (; words->name; words++)
                if (weir_streq(words->name, name)) {
                        if (n != words->n)
                                fail_msg("%s: takes %zu arguments", playing, words->n);
                        words->play(arguments, n);
                        return;
                }
        fail_msg("%s: no such word", playing);
}

void script_play(const struct script *script, const struct script_word *words)
{
        char *steps = strdup(script->steps), *rest = steps, *step;

        /* Valgrind takes a connection first, then finds that there is no descriptor for it, and drops it. */
        if (getenv("WEIR_TEST_VALGRIND") && strstr(script->title, "to accept with")) {
                free(steps);
                return;
        }
        assert_non_null(steps);
        while ((step = strsep(&rest, ";")))
                play_step(script->title, step, words);
        free(steps);
}
