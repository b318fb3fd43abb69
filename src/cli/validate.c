/* SPDX-License-Identifier: Apache-2.0 */
/* weir validate: what create would say of files, without a store. */
#include <stdio.h>

#include "base/err.h"
#include "cli/commands.h"

const struct weir_option weir_validate_option_table[] = {
        WEIR_ROW_FILE(struct weir_common_options, "File of resources, - for standard input; may be repeated"),
        { .name = NULL },
};

/* A file that cannot be read is one finding; the others are still checked. */
static int validate_file(const char *path, struct weir_errs *errors, size_t *n)
{
        struct weir_resources list = { 0 };
        size_t before = errors->total;
        struct weir_err err = { 0 };
        int status = WEIR_EXIT_OK;

        if (weir_load_file(path, "default", &list, errors, &err) < 0)
                status = weir_say_error(&err);
        else if (errors->total == before)
                (void)printf("%s: valid (%zu resource%s)\n", path, list.n, list.n == 1 ? "" : "s");
        *n += list.n;
        weir_resources_clear(&list);
        return status;
}

int cmd_validate(int argc, char **argv)
{
        __attribute__((cleanup(weir_common_options_cleanup))) struct weir_common_options options = { 0 };
        struct weir_command_line line = { .command = weir_command_find(argv[0]), .values = &options };
        struct weir_errs errors = { 0 };
        size_t n = 0;
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status >= 0)
                return status;
        if (options.files.n > 0 && line.n_arguments > 0)
                return weir_usage_error(&line, "validate takes no arguments: give each file its own -f");
        if (options.files.n == 0)
                return weir_usage_error(&line, "filename not specified (see --filename or -f)");
        status = WEIR_EXIT_OK;
        for (size_t i = 0; i < options.files.n; i++)
                if (validate_file(options.files.items[i], &errors, &n) != WEIR_EXIT_OK)
                        status = WEIR_EXIT_FAILED;
        if (errors.total > 0)
                status = weir_say_invalid(&errors);
        else if (n == 0 && status == WEIR_EXIT_OK)
                status = weir_say_text("nothing to validate");
        weir_errs_clear(&errors);
        return status;
}
