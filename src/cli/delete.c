/* SPDX-License-Identifier: Apache-2.0 */
/* weir delete: by type and names, or what files name. It goes on after a failure and lists the failures at its end. */
#include <stdio.h>

#include "base/err.h"
#include "cli/write.h"
#include "store/store.h"

const struct weir_option weir_delete_option_table[] = {
        WEIR_ROW_FILE(struct weir_common_options, "Delete what the file names, - for standard input; may be repeated"),
        WEIR_ROW_NAMESPACE(struct weir_common_options,
                           "Namespace of what is to be deleted (default, or the context's)"),
        WEIR_ROW_STORE(struct weir_common_options),
        { .name = NULL },
};

struct deletion {
        struct weir_store *store;
        struct weir_errs failures;
};

/* @what is how the person called it. */
static int delete_one(struct deletion *deletion, enum weir_kind kind, const char *namespace_, const char *name,
                      const char *what)
{
        weir_auto_free char *text = NULL;
        struct weir_err err = { 0 }, failure = { 0 };
        int r;

        r = weir_store_delete(deletion->store, kind, namespace_, name, &err);
        if (r == 0)
                return 0;
        text = weir_store_error_text(kind, name, r, &err);
        (void)weir_err_set(&failure, r, "cannot delete %s: %s", what, text ? text : "out of memory");
        if (weir_errs_add(&deletion->failures, &failure) < 0)
                (void)weir_say_text("%s", failure.text);
        return r;
}

static void delete_names(struct deletion *deletion, enum weir_kind kind, const char *namespace_, char **words)
{
        const char *type = words[0];

        for (size_t i = 1; words[i]; i++)
                if (delete_one(deletion, kind, namespace_, words[i], words[i]) == 0)
                        (void)printf("Deleted config: %s %s\n", type, words[i]);
}

static void delete_resources(struct deletion *deletion, const struct weir_resources *list)
{
        for (size_t i = 0; i < list->n; i++) {
                const struct weir_resource *resource = list->items[i];
                weir_auto_free char *key = weir_resource_key(resource);

                if (key && delete_one(deletion, resource->kind, resource->namespace_, resource->name, key) == 0)
                        (void)printf("Deleted config: %s\n", key);
        }
}

/* Istio's list form, for one failure too. */
static int say_failures(struct weir_errs *failures)
{
        weir_auto_free char *text = NULL;
        int status;

        if (failures->total == 0)
                return WEIR_EXIT_OK;
        text = weir_errs_format(failures);
        if (!text)
                status = weir_say_out_of_memory();
        else if (failures->total == 1)
                status = weir_say_text("1 error occurred:\n\n* %s", text);
        else
                status = weir_say_text("%s", text);
        weir_errs_clear(failures);
        return status;
}

static int check_usage(const struct weir_command_line *line, const struct weir_common_options *options)
{
        if (options->files.n > 0 && line->n_arguments > 0)
                return weir_usage_error(line, "delete takes no arguments when the file option is used");
        if (options->files.n == 0 && line->n_arguments < 2)
                return weir_usage_error(line, "provide configuration type and name or -f option");
        return -1;
}

int cmd_delete(int argc, char **argv)
{
        __attribute__((cleanup(weir_common_options_cleanup))) struct weir_common_options options = { 0 };
        struct weir_command_line line = { .command = weir_command_find(argv[0]), .values = &options };
        weir_auto(store) struct weir_store *store = NULL;
        struct weir_resources list = { 0 };
        struct deletion deletion = { 0 };
        enum weir_kind kind = WEIR_KIND_COUNT;
        weir_auto_free char *namespace_ = NULL;
        struct weir_err err = { 0 };
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status < 0)
                status = check_usage(&line, &options);
        if (status < 0 && options.files.n == 0)
                status = weir_type_parse(line.arguments[0], &kind);
        if (status >= 0)
                return status;
        status = weir_load_files(&options.files, options.namespace_, options.store, &list);
        if (status == 0 && options.files.n > 0 && list.n == 0)
                status = weir_say_text("nothing to delete");
        if (status == 0 && weir_store_open(options.store, false, &store, &err) < 0)
                status = weir_say_error(&err);
        if (status == 0 && !options.namespace_ && weir_store_namespace(options.store, &namespace_, &err) < 0)
                status = weir_say_error(&err);
        if (status == 0) {
                deletion.store = store;
                if (options.files.n > 0)
                        delete_resources(&deletion, &list);
                else
                        delete_names(&deletion, kind, options.namespace_ ? options.namespace_ : namespace_,
                                     line.arguments);
                status = say_failures(&deletion.failures);
        }
        weir_resources_clear(&list);
        return status;
}
