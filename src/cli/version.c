/* SPDX-License-Identifier: Apache-2.0 */
/* weir version */
#include <stdio.h>

#include "cli/commands.h"
#include "weir-version.h"

int cmd_version(int argc, char **argv)
{
        struct weir_command_line line = { .command = weir_command_find("version") };
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status >= 0)
                return status;
        if (line.n_arguments > 0)
                return weir_usage_error(&line, "version takes no arguments");
        (void)printf("weir %s (%s)\n", WEIR_VERSION, WEIR_COMMIT);
        return WEIR_EXIT_OK;
}
