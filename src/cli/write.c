/* SPDX-License-Identifier: Apache-2.0 */
/* What create, replace and apply have in common: read everything, then write one after the other. */
#include "cli/write.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/err.h"
#include "store/store.h"

const struct weir_option weir_write_option_table[] = {
        WEIR_ROW_FILE(struct weir_common_options, "File of resources, - for standard input; may be repeated"),
        WEIR_ROW_NAMESPACE(struct weir_common_options,
                           "Namespace of resources that name none (default, or the context's)"),
        WEIR_ROW_STORE(struct weir_common_options),
        { .name = NULL },
};

static int write_all(const struct weir_resources *list, const char *spec, weir_write_function *write)
{
        weir_auto(store) struct weir_store *store = NULL;
        struct weir_err err = { 0 };

        if (weir_store_open(spec, true, &store, &err) < 0)
                return weir_say_error(&err);
        for (size_t i = 0; i < list->n; i++) {
                weir_auto_free char *key = weir_resource_key(list->items[i]);
                int r;

                if (!key)
                        return weir_say_out_of_memory();
                r = write(store, list->items[i], key, &err);
                if (r < 0)
                        return weir_say_store_error(list->items[i]->kind, list->items[i]->name, r, &err);
        }
        return WEIR_EXIT_OK;
}

int weir_write_command(int argc, char **argv, const char *verb, weir_write_function *write)
{
        __attribute__((cleanup(weir_common_options_cleanup))) struct weir_common_options options = { 0 };
        struct weir_command_line line = { .command = weir_command_find(argv[0]), .values = &options };
        struct weir_resources list = { 0 };
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status >= 0)
                return status;
        if (line.n_arguments > 0)
                return weir_usage_error(&line, "%s takes no arguments", verb);
        if (options.files.n == 0)
                return weir_usage_error(&line, "filename not specified (see --filename or -f)");
        status = weir_load_files(&options.files, options.namespace_, options.store, &list);
        if (status == 0 && list.n == 0)
                status = weir_say_text("nothing to %s", verb);
        if (status == 0)
                status = write_all(&list, options.store, write);
        weir_resources_clear(&list);
        return status;
}

int weir_say_store_error(enum weir_kind kind, const char *name, int r, const struct weir_err *err)
{
        weir_auto_free char *text = weir_store_error_text(kind, name, r, err);

        return text ? weir_say_text("%s", text) : weir_say_out_of_memory();
}

char *weir_store_error_text(enum weir_kind kind, const char *name, int r, const struct weir_err *err)
{
        const char *resource = weir_kind_info(kind)->group_resource;

        if (r == WEIR_EEXISTS)
                return weir_asprintf("%s \"%s\" already exists", resource, name);
        /* A store that says what is not found may mean the namespace. */
        if (r == WEIR_ENOTFOUND && !err->text[0])
                return weir_asprintf("%s \"%s\" not found", resource, name);
        return weir_err_format(err);
}
