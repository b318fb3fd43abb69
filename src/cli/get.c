/* SPDX-License-Identifier: Apache-2.0 */
/* weir get: resources as a table for people, or as YAML, JSON or names for programs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/time.h"
#include "cli/write.h"
#include "store/store.h"

const struct weir_option weir_get_option_table[] = {
        { "output", NULL, 'o', WEIR_OPTION_STRING, offsetof(struct weir_common_options, output), "FORMAT",
          "short|yaml|json|name", "Form of the output (short)" },
        WEIR_ROW_NAMESPACE(struct weir_common_options,
                           "Only this namespace (with NAME: default, or the context's; without: all)"),
        WEIR_ROW_STORE(struct weir_common_options),
        { .name = NULL },
};

#define COLUMNS 4

static int add_row(struct weir_strv *cells, const struct weir_resource *resource)
{
        const struct weir_kind_info *info = weir_kind_info(resource->kind);
        const char *version = strchr(resource->api_version, '/');
        char age[WEIR_AGE_STRLEN];
        weir_auto_free char *kind =
                weir_asprintf("%s.%s.%s", info->kind, info->group, version ? version + 1 : resource->api_version);

        if (!kind || weir_strv_add(cells, resource->name) < 0 || weir_strv_add(cells, kind) < 0 ||
            weir_strv_add(cells, resource->namespace_) < 0 ||
            weir_strv_add(cells, weir_time_age(resource->created, age)) < 0)
                return -ENOMEM;
        return 0;
}

static void print_cells(const struct weir_strv *cells)
{
        size_t width[COLUMNS] = { 0 };

        for (size_t i = 0; i < cells->n; i++)
                if (strlen(cells->items[i]) > width[i % COLUMNS])
                        width[i % COLUMNS] = strlen(cells->items[i]);
        for (size_t i = 0; i < cells->n; i++) {
                if (i % COLUMNS == COLUMNS - 1)
                        (void)printf("%s\n", cells->items[i]);
                else
                        (void)printf("%-*s   ", (int)width[i % COLUMNS], cells->items[i]);
        }
}

static int print_short(const struct weir_resources *list)
{
        static const char *const header[COLUMNS] = { "NAME", "KIND", "NAMESPACE", "AGE" };
        struct weir_strv cells = { 0 };
        int r = 0;

        if (list->n == 0) {
                (void)puts("No resources found.");
                return 0;
        }
        for (size_t i = 0; i < COLUMNS && r == 0; i++)
                r = weir_strv_add(&cells, header[i]);
        for (size_t i = 0; i < list->n && r == 0; i++)
                r = add_row(&cells, list->items[i]);
        if (r == 0)
                print_cells(&cells);
        weir_strv_clear(&cells);
        return r;
}

static int print_buf(struct weir_buf *buf)
{
        if (buf->error)
                return buf->error;
        (void)fwrite(buf->data ? buf->data : "", 1, buf->length, stdout);
        return 0;
}

static int print_yaml(const struct weir_resources *list)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        for (size_t i = 0; i < list->n; i++) {
                weir_resource_print_yaml(list->items[i], &buf);
                weir_buf_puts(&buf, "---\n");
        }
        return print_buf(&buf);
}

/* One resource asked for by name stands alone; a list is a List even if it has one item, or none. */
static int print_json(const struct weir_resources *list, bool one)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        if (!one)
                weir_buf_puts(&buf, "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [");
        for (size_t i = 0; i < list->n; i++) {
                weir_buf_puts(&buf, i ? ",\n" : one ? "" : "\n");
                weir_resource_print_json(list->items[i], one ? 4 : 0, &buf);
                /* The printer may or may not end its object with a newline. */
                while (buf.length > 0 && buf.data[buf.length - 1] == '\n')
                        buf.data[--buf.length] = '\0';
        }
        weir_buf_puts(&buf, one ? "\n" : list->n ? "\n]}\n" : "]}\n");
        return print_buf(&buf);
}

static void print_names(const struct weir_resources *list)
{
        for (size_t i = 0; i < list->n; i++) {
                const struct weir_kind_info *info = weir_kind_info(list->items[i]->kind);

                (void)printf("%s.%s/%s\n", info->singular, info->group, list->items[i]->name);
        }
}

static int print_list(const struct weir_resources *list, const char *output, bool one)
{
        int r = 0;

        if (!output || weir_streq(output, "short"))
                r = print_short(list);
        else if (weir_streq(output, "yaml"))
                r = print_yaml(list);
        else if (weir_streq(output, "json"))
                r = print_json(list, one);
        else
                print_names(list);
        return r < 0 ? weir_say_out_of_memory() : WEIR_EXIT_OK;
}

static void say_not_enforced(const struct weir_resources *list)
{
        for (size_t i = 0; i < list->n; i++) {
                struct weir_errs warnings = { 0 };

                if (weir_resource_not_enforced(list->items[i], &warnings) == 0)
                        weir_say_warnings(&warnings);
                weir_errs_clear(&warnings);
        }
}

static int get_one(struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *name,
                   struct weir_resources *list)
{
        struct weir_resource *resource = NULL;
        struct weir_err err = { 0 };
        int r;

        r = weir_store_get(store, kind, namespace_, name, &resource, &err);
        if (r < 0)
                return weir_say_store_error(kind, name, r, &err);
        r = weir_resources_add(list, resource);
        weir_resource_unref(resource);
        return r < 0 ? weir_say_out_of_memory() : WEIR_EXIT_OK;
}

/* A broken file is an error, but does not hide the others. */
static int get_all(struct weir_store *store, enum weir_kind kind, const char *namespace_, struct weir_resources *list)
{
        struct weir_resources all = { 0 };
        struct weir_errs errors = { 0 };
        int r, status;

        r = weir_store_snapshot(store, &all, &errors);
        status = weir_say_snapshot(store, r, &errors);
        for (size_t i = 0; i < all.n; i++) {
                if (all.items[i]->kind != kind || (namespace_ && !weir_streq(all.items[i]->namespace_, namespace_)))
                        continue;
                if (weir_resources_add(list, all.items[i]) < 0) {
                        status = weir_say_out_of_memory();
                        break;
                }
        }
        weir_resources_clear(&all);
        weir_errs_clear(&errors);
        return status;
}

static int get(const struct weir_common_options *options, const char *type, const char *name)
{
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_free char *own = NULL;
        struct weir_resources list = { 0 };
        struct weir_err err = { 0 };
        enum weir_kind kind;
        int status;

        status = weir_type_parse(type, &kind);
        if (status >= 0)
                return status;
        if (weir_store_open(options->store, false, &store, &err) < 0)
                return weir_say_error(&err);
        if (name && !options->namespace_ && weir_store_namespace(options->store, &own, &err) < 0)
                return weir_say_error(&err);
        status = name ? get_one(store, kind, options->namespace_ ? options->namespace_ : own, name, &list) :
                        get_all(store, kind, options->namespace_, &list);
        if (status == WEIR_EXIT_OK || list.n > 0) {
                int printed = print_list(&list, options->output, name != NULL);

                say_not_enforced(&list);
                status = printed != WEIR_EXIT_OK ? printed : status;
        }
        weir_resources_clear(&list);
        return status;
}

int cmd_get(int argc, char **argv)
{
        struct weir_common_options options = { 0 };
        struct weir_command_line line = { .command = weir_command_find("get"), .values = &options };
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status >= 0)
                return status;
        if (line.n_arguments == 0)
                return weir_usage_error(&line,
                                        "specify the type of resource to get. Types are externalservice, serviceentry");
        if (line.n_arguments > 2)
                return weir_usage_error(&line, "get takes a type and at most one name");
        return get(&options, line.arguments[0], line.arguments[1]);
}
