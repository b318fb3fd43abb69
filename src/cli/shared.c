/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands share: errors and warnings for people, reading files of resources, naming types. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "cli/commands.h"
#include "store/store.h"

void weir_common_options_cleanup(struct weir_common_options *options)
{
        weir_strv_clear(&options->files);
}

/* File names and values come from anywhere. */
static void say(const char *head, const char *text)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        weir_buf_escape_lines(&buf, text);
        /* What was printed before must stand before it, also where both go to one file. */
        (void)fflush(stdout);
        (void)fprintf(stderr, "%s: %s\n", head, buf.data && !buf.error ? buf.data : "");
}

int weir_say_text(const char *format, ...)
{
        char text[4096];
        va_list args;

        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        say("Error", text);
        return WEIR_EXIT_FAILED;
}

int weir_say_out_of_memory(void)
{
        return weir_say_text("out of memory");
}

int weir_say_error(const struct weir_err *err)
{
        weir_auto_free char *text = weir_err_format(err);

        say("Error", text ? text : "out of memory");
        return WEIR_EXIT_FAILED;
}

int weir_say_invalid(const struct weir_errs *errors)
{
        weir_auto_free char *text = weir_errs_format(errors);

        say("Error: configuration is invalid", text ? text : "out of memory");
        return WEIR_EXIT_FAILED;
}

void weir_say_warnings(const struct weir_errs *warnings)
{
        for (size_t i = 0; i < warnings->n; i++) {
                weir_auto_free char *text = weir_err_format(&warnings->items[i]);

                if (text)
                        say("Warning", text);
        }
        if (warnings->total > warnings->n)
                (void)fprintf(stderr, "Warning: and %zu more\n", warnings->total - warnings->n);
}

static int slurp(const char *path, char **ret, size_t *ret_n, struct weir_err *err)
{
        bool input = weir_streq(path, "-");
        int r;

        r = input ? weir_fd_slurp(STDIN_FILENO, WEIR_STREAM_BYTES_MAX, ret, ret_n) :
                    weir_file_slurp(AT_FDCWD, path, WEIR_STREAM_BYTES_MAX, ret, ret_n);
        if (r == -EISDIR)
                return weir_err_set(err, r, "read %s: is a directory: name the files in it, each with -f", path);
        if (r == -EFBIG)
                return weir_err_set(err, WEIR_ELIMIT, "read %s: larger than the limit of %d MiB", path,
                                    WEIR_STREAM_BYTES_MAX / (1024 * 1024));
        if (r < 0) {
                char reason[128];
                const char *words = strerror_r(-r, reason, sizeof(reason));
                char first = words[0];

                /* As Istio's tools print it: "open /no/such: no such file or directory". */
                if (first >= 'A' && first <= 'Z' && words[1] >= 'a')
                        first = (char)(first - 'A' + 'a');
                return weir_err_set(err, r, "%s %s: %c%s", input ? "read" : "open", path, first, words + 1);
        }
        return 0;
}

static int add_to_namespace(const struct weir_resources *read, const char *namespace_, struct weir_resources *list)
{
        for (size_t i = 0; i < read->n; i++) {
                struct weir_resource *resource = NULL;
                int r = 0;

                if (namespace_ && !read->items[i]->namespace_[0])
                        r = weir_resource_with(read->items[i],
                                               &(struct weir_resource_change){ .namespace_ = namespace_ }, &resource);
                else
                        resource = weir_resource_ref(read->items[i]);
                if (r == 0)
                        r = weir_resources_add(list, resource);
                weir_resource_unref(resource);
                if (r < 0)
                        return r;
        }
        return 0;
}

int weir_load_file(const char *path, const char *namespace_, struct weir_resources *list, struct weir_errs *errors,
                   struct weir_err *err)
{
        weir_auto_free char *bytes = NULL;
        struct weir_resources read = { 0 };
        struct weir_errs warnings = { 0 };
        size_t n = 0;
        int r;

        r = slurp(path, &bytes, &n, err);
        if (r < 0)
                return r;
        r = weir_resources_read(bytes, n, path, &read, errors, &warnings);
        if (r == 0 || r == WEIR_EINVALID)
                r = add_to_namespace(&read, namespace_, list);
        if (r == 0)
                weir_say_warnings(&warnings);
        weir_resources_clear(&read);
        weir_errs_clear(&warnings);
        return r < 0 ? weir_err_set(err, r, "read %s: %s", path, r == -ENOMEM ? "out of memory" : strerror(-r)) : 0;
}

bool weir_input_twice(const struct weir_strv *files)
{
        unsigned n = 0;

        for (size_t i = 0; i < files->n; i++)
                n += weir_streq(files->items[i], "-");
        return n > 1;
}

static int check_namespaces(const struct weir_resources *list, const char *namespace_)
{
        for (size_t i = 0; i < list->n; i++) {
                const char *own = list->items[i]->namespace_;

                if (!weir_streq(own, namespace_))
                        return weir_say_text(
                                "the namespace from the provided object \"%s\" does not match the namespace \"%s\". "
                                "You must pass '--namespace=%s' to perform this operation",
                                own, namespace_, own);
        }
        return 0;
}

int weir_load_files(const struct weir_strv *files, const char *namespace_, const char *store,
                    struct weir_resources *list)
{
        weir_auto_free char *own = NULL;
        struct weir_errs errors = { 0 };
        struct weir_err err = { 0 };
        int status = 0;

        if (weir_input_twice(files))
                return weir_say_text("standard input (-f -) can be read only once");
        if (files->n > 0 && !namespace_ && weir_store_namespace(store, &own, &err) < 0)
                return weir_say_error(&err);
        for (size_t i = 0; i < files->n && status == 0; i++)
                if (weir_load_file(files->items[i], namespace_ ? namespace_ : own, list, &errors, &err) < 0)
                        status = weir_say_error(&err);
        if (status == 0 && errors.total > 0)
                status = weir_say_invalid(&errors);
        weir_errs_clear(&errors);
        if (status == 0 && namespace_)
                status = check_namespaces(list, namespace_);
        return status;
}

int weir_say_snapshot(const struct weir_store *store, int r, const struct weir_errs *errors)
{
        if (r == 0)
                return WEIR_EXIT_OK;
        if (r == WEIR_EINVALID && weir_store_tolerant(store)) {
                weir_say_warnings(errors);
                return WEIR_EXIT_OK;
        }
        if (r == WEIR_EINVALID)
                return weir_say_invalid(errors);
        if (errors->n > 0)
                return weir_say_error(&errors->items[0]);
        return weir_say_text("read %s: %s", weir_store_path(store), strerror(-r));
}

/* Istio's list of types, with the words a person types. */
static void list_types(struct weir_buf *buf)
{
        for (unsigned i = 0; i < WEIR_KIND_COUNT; i++)
                weir_buf_printf(buf, "%s%s", i ? ", " : "", weir_kind_info((enum weir_kind)i)->singular);
}

/* "external-services" without its hyphens: what Istio advises to type. */
static void without_hyphens(const char *type, char *ret, size_t n)
{
        size_t at = 0;

        for (; *type && at + 1 < n; type++)
                if (*type != '-')
                        ret[at++] = *type;
        ret[at] = '\0';
}

int weir_type_parse(const char *type, enum weir_kind *ret_kind)
{
        weir_auto(buf) struct weir_buf types = { 0 };
        enum weir_kind kind;
        char plain[64];

        if (weir_kind_from_type(type, ret_kind) == 0)
                return -1;
        without_hyphens(type, plain, sizeof(plain));
        if (weir_kind_from_type(plain, &kind) == 0)
                return weir_say_text("\"%s\" not recognized. Please use non-hyphenated resource name \"%s\"", type,
                                     plain);
        list_types(&types);
        return weir_say_text("configuration type %s not found, the types are %s", type, types.data ? types.data : "");
}
