/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program under the name istioctl: what istioctl 0.7 did, to the letter, so that its pages can be followed.
 *
 * Theory of operation
 *
 * Its command line is another one than weir's: global options stand before or behind the verb, there is one -f, every
 * failure is exit status 255, a table is padded with tabs, and errors have no place in a file. So it has a parser and
 * printers of its own, and shares with weir what lies below: reading, validation and the store. The store is the
 * cluster of the kubeconfig unless WEIR_STORE names another.
 *
 * Where 0.7 had a fault that says nothing (a type without a hyphen could not be named) the fault is not repeated, and
 * what is not enforced is still said in warnings: silence there would be a lie.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/commands.h"
#include "cli/write.h"
#include "model/node.h"
#include "store/store.h"

#define EXIT_ISTIOCTL 255
#define ARGUMENTS_MAX 1024
#define TAB 8

/* What the command line said. Strings are borrowed from it. */
struct line {
        const char *file, *namespace_, *output, *kubeconfig, *api_server, *context, *ignored;
        const char *arguments[ARGUMENTS_MAX + 1]; /* the verb is not among them; NULL-terminated */
        size_t n_arguments;
};

struct verb {
        const char *name, *usage;
        int (*function)(const struct line *line);
};

static const struct {
        char letter;
        const char *name;
        size_t offset;
} options[] = {
        { 'f', "file", offsetof(struct line, file) },
        { 'n', "namespace", offsetof(struct line, namespace_) },
        { 'o', "output", offsetof(struct line, output) },
        { 'c', "kubeconfig", offsetof(struct line, kubeconfig) },
        { 0, "api-server", offsetof(struct line, api_server) },
        { 0, "context", offsetof(struct line, context) },
        { 'p', "platform", offsetof(struct line, ignored) },
        { 'i', "istioNamespace", offsetof(struct line, ignored) },
        { 0, "log_target", offsetof(struct line, ignored) },
        { 0, "log_output_level", offsetof(struct line, ignored) },
        { 0, "log_stacktrace_level", offsetof(struct line, ignored) },
        { 0, "log_rotate", offsetof(struct line, ignored) },
        { 0, "log_rotate_max_age", offsetof(struct line, ignored) },
        { 0, "log_rotate_max_backups", offsetof(struct line, ignored) },
        { 0, "log_rotate_max_size", offsetof(struct line, ignored) },
};

static int fail(const char *format, ...) WEIR_PRINTF(1, 2);
static int fail(const char *format, ...)
{
        char text[4096];
        va_list args;

        va_start(args, format);
        (void)vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        (void)weir_say_text("%s", text);
        return EXIT_ISTIOCTL;
}

static int fail_err(const struct weir_err *err)
{
        (void)weir_say_error(err);
        return EXIT_ISTIOCTL;
}

/* --- the command line --- */

static const char **find_long(struct line *line, const char *name, size_t n)
{
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(options); i++)
                if (strlen(options[i].name) == n && strncmp(options[i].name, name, n) == 0)
                        return (const char **)(void *)((char *)line + options[i].offset);
        return NULL;
}

static const char **find_letter(struct line *line, char letter)
{
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(options); i++)
                if (options[i].letter && options[i].letter == letter)
                        return (const char **)(void *)((char *)line + options[i].offset);
        return NULL;
}

/* One option, with its value in the same word or the next. -1 to go on, or the exit status. */
static int take_option(struct line *line, char **argv, int *at)
{
        const char *word = argv[*at];
        bool is_long = word[1] == '-';
        size_t n = strcspn(word + 2, "=");
        const char **field = is_long ? find_long(line, word + 2, n) : find_letter(line, word[1]);

        if (!field && is_long)
                return fail("unknown flag: --%.*s", (int)n, word + 2);
        if (!field)
                return fail("unknown shorthand flag: '%c' in %s", word[1], word);
        if (is_long && word[2 + n] == '=')
                *field = word + 2 + n + 1;
        else if (!is_long && word[2])
                *field = word + 2 + (word[2] == '=');
        else if (argv[*at + 1])
                *field = argv[++*at];
        else
                return fail("flag needs an argument: %s", word);
        return -1;
}

static int take_argument(struct line *line, const char *word)
{
        if (line->n_arguments == ARGUMENTS_MAX)
                return fail("more than %d arguments", ARGUMENTS_MAX);
        line->arguments[line->n_arguments++] = word;
        return -1;
}

/* --- reading --- */

static bool is_unknown_kind(const struct weir_err *err)
{
        return weir_streq(err->field, "kind") && strstr(err->text, " is not known");
}

/* A list even of one. */
static int fail_list(const struct weir_errs *errors, const char *prefix)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        weir_buf_printf(&buf, "%s%zu error%s occurred:\n", prefix, errors->n, errors->n == 1 ? "" : "s");
        for (size_t i = 0; i < errors->n; i++)
                weir_buf_printf(&buf, "\n* %s", errors->items[i].text);
        return fail("%s", buf.data ? buf.data : "out of memory");
}

/* 0.7 knew no places: the texts alone. */
static int fail_invalid(const struct weir_errs *errors)
{
        const struct weir_err *first = &errors->items[0];

        if (is_unknown_kind(first))
                return fail_list(errors, "");
        if (weir_starts_with(first->text, "unknown field ") || weir_starts_with(first->text, "unknown value "))
                return fail("cannot parse proto message: YAML decoding error: %s", first->text);
        if (errors->n == 1)
                return fail("configuration is invalid: %s", first->text);
        return fail_list(errors, "configuration is invalid: ");
}

static int check_namespaces(const struct line *line, const struct weir_resources *list)
{
        for (size_t i = 0; i < list->n && line->namespace_; i++) {
                const char *own = list->items[i]->namespace_;

                if (!weir_streq(own, line->namespace_))
                        return fail("the namespace from the provided object \"%s\" does not match the namespace "
                                    "\"%s\". You "
                                    "must pass '--namespace=%s' to perform this operation",
                                    own, line->namespace_, own);
        }
        return 0;
}

/* Everything is read and right, or nothing is sent. */
static int load(const struct line *line, const char *verb, const char *namespace_, struct weir_resources *list)
{
        struct weir_errs errors = { 0 };
        struct weir_err err = { 0 };
        int status = 0;

        if (!line->file)
                return fail("filename not specified (see --filename or -f)");
        if (weir_load_file(line->file, line->namespace_ ? line->namespace_ : namespace_, list, &errors, &err) < 0)
                status = fail_err(&err);
        else if (errors.n > 0)
                status = fail_invalid(&errors);
        else if (list->n == 0)
                status = fail("nothing to %s", verb);
        else
                status = check_namespaces(line, list);
        weir_errs_clear(&errors);
        return status;
}

static const char *spec(void)
{
        const char *store = getenv("WEIR_STORE");

        return store && store[0] ? store : "kubernetes";
}

static int open_store(bool writable, struct weir_store **ret_store, char **ret_namespace)
{
        struct weir_err err = { 0 };

        if (weir_store_namespace(spec(), ret_namespace, &err) < 0 ||
            weir_store_open(spec(), writable, ret_store, &err) < 0)
                return fail_err(&err);
        return 0;
}

/* --- create and replace --- */

static int store_failed(const struct weir_resource *resource, int r, const struct weir_err *err)
{
        (void)weir_say_store_error(resource->kind, resource->name, r, err);
        return EXIT_ISTIOCTL;
}

static int write_one(struct weir_store *store, const struct weir_resource *resource, bool create)
{
        weir_auto_free char *key = weir_resource_key(resource);
        struct weir_err err = { 0 };
        uint64_t revision = 0;
        int r;

        if (!key)
                return fail("out of memory");
        r = create ? weir_store_create(store, resource, &revision, &err) :
                     weir_store_replace(store, resource, &revision, &err);
        if (r == WEIR_ENOTFOUND && !create)
                return fail("revision is required");
        if (r < 0)
                return store_failed(resource, r, &err);
        (void)printf(create ? "Created config %s at revision %" PRIu64 "\n" :
                              "Updated config %s to revision %" PRIu64 "\n",
                     key, revision);
        return 0;
}

static int write_all(const struct line *line, const char *verb, bool create)
{
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_free char *namespace_ = NULL;
        struct weir_resources list = { 0 };
        struct weir_err err = { 0 };
        int status;

        if (line->n_arguments > 0)
                return fail("%s takes no arguments", verb);
        /* The file comes first: what is wrong in it is said whether or not there is a cluster. */
        if (weir_store_namespace(spec(), &namespace_, &err) < 0)
                namespace_ = strdup("default");
        status = namespace_ ? load(line, verb, namespace_, &list) : fail("out of memory");
        free(TAKE_PTR(namespace_));
        if (status == 0)
                status = open_store(true, &store, &namespace_);
        for (size_t i = 0; i < list.n && status == 0; i++)
                status = write_one(store, list.items[i], create);
        weir_resources_clear(&list);
        return status;
}

static int create(const struct line *line)
{
        return write_all(line, "create", true);
}

static int replace(const struct line *line)
{
        return write_all(line, "replace", false);
}

/* --- get --- */

/* As Go's tabwriter with a minimal width of 0, tabs of 8, no padding: a widest cell that fills its tabs touches the
 * next. */
static void print_padded(const char *text, size_t widest)
{
        size_t cell = (widest + TAB - 1) / TAB * TAB, n = strlen(text);

        (void)fputs(text, stdout);
        for (size_t i = 0; i < (cell - n + TAB - 1) / TAB; i++)
                (void)fputc('\t', stdout);
}

static char *kind_cell(const struct weir_resource *resource)
{
        const struct weir_kind_info *info = weir_kind_info(resource->kind);
        const char *slash = strchr(resource->api_version, '/');

        return weir_asprintf("%s.%s.%s", info->kind, info->group, slash ? slash + 1 : resource->api_version);
}

static size_t longer(size_t a, size_t b)
{
        return a > b ? a : b;
}

static int print_short(const struct weir_resources *list)
{
        size_t name = strlen("NAME"), kind = strlen("KIND");

        for (size_t i = 0; i < list->n; i++) {
                weir_auto_free char *cell = kind_cell(list->items[i]);

                name = longer(name, strlen(list->items[i]->name));
                kind = longer(kind, cell ? strlen(cell) : 0);
        }
        print_padded("NAME", name);
        print_padded("KIND", kind);
        (void)puts("NAMESPACE");
        for (size_t i = 0; i < list->n; i++) {
                weir_auto_free char *cell = kind_cell(list->items[i]);

                if (!cell)
                        return fail("out of memory");
                print_padded(list->items[i]->name, name);
                print_padded(cell, kind);
                (void)puts(list->items[i]->namespace_);
        }
        return 0;
}

/* Proto's zero values never come back: NONE, MESH_EXTERNAL, 0, "", empty lists. */
static bool is_zero(const char *key, const struct weir_node *value)
{
        if (value->type != WEIR_NODE_SCALAR)
                return value->n == 0;
        if (weir_node_is_null(value) || value->text[0] == '\0')
                return true;
        if (weir_streq(key, "discovery") || weir_streq(key, "resolution"))
                return weir_streq(value->text, "NONE");
        if (weir_streq(key, "location"))
                return weir_streq(value->text, "MESH_EXTERNAL");
        return value->plain && weir_streq(value->text, "0");
}

static struct weir_node *without_zeros(const struct weir_node *node)
{
        weir_auto(node) struct weir_node *copy = weir_node_new(node->type, 0, 0);
        int r = copy ? 0 : -ENOMEM;

        if (node->type == WEIR_NODE_SCALAR)
                return weir_node_copy(node);
        for (size_t i = 0; i < node->n && r == 0; i++) {
                if (node->type == WEIR_NODE_SEQUENCE)
                        r = weir_node_append(copy, without_zeros(node->items[i]));
                else if (!is_zero(node->items[2 * i]->text, node->items[2 * i + 1]))
                        r = weir_node_put(copy, weir_node_copy(node->items[2 * i]),
                                          without_zeros(node->items[2 * i + 1]));
        }
        return r == 0 ? TAKE_PTR(copy) : NULL;
}

static int put_copy(struct weir_node *to, const struct weir_node *from, const char *key)
{
        const struct weir_node *value = weir_node_get(from, key);

        return value ? weir_node_put(to, weir_node_scalar(key, true), weir_node_copy(value)) : 0;
}

/* 0.7 kept of the metadata what its own type had, and printed the time that it never had. */
static struct weir_node *as_istio(const struct weir_resource *resource)
{
        static const char *const kept[] = { "annotations", "labels", "name", "namespace", "resourceVersion" };
        const struct weir_node *from = weir_node_get(resource->node, "metadata");
        const struct weir_node *old_spec = weir_node_get(resource->node, "spec");
        weir_auto(node) struct weir_node *root = weir_node_new(WEIR_NODE_MAPPING, 0, 0);
        struct weir_node *metadata = weir_node_new(WEIR_NODE_MAPPING, 0, 0);
        int r = root && metadata ? 0 : -ENOMEM;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(kept) && r == 0; i++)
                r = put_copy(metadata, from, kept[i]);
        if (r == 0)
                r = weir_node_put(metadata, weir_node_scalar("creationTimestamp", true),
                                  weir_node_scalar("null", true));
        if (r == 0)
                r = put_copy(root, resource->node, "apiVersion");
        if (r == 0)
                r = put_copy(root, resource->node, "kind");
        if (r < 0) {
                weir_node_free(metadata);
                return NULL;
        }
        if (weir_node_put(root, weir_node_scalar("metadata", true), metadata) < 0)
                return NULL;
        if (old_spec && weir_node_put(root, weir_node_scalar("spec", true), without_zeros(old_spec)) < 0)
                return NULL;
        return TAKE_PTR(root);
}

static int print_yaml(const struct weir_resources *list)
{
        for (size_t i = 0; i < list->n; i++) {
                weir_auto(node) struct weir_node *root = as_istio(list->items[i]);
                weir_auto(buf) struct weir_buf buf = { 0 };
                struct weir_resource shown = { .node = root };

                if (root)
                        weir_resource_print_yaml(&shown, &buf);
                if (!root || buf.error)
                        return fail("out of memory");
                (void)printf("%s---\n", buf.data);
        }
        return 0;
}

static int collect(struct weir_store *store, enum weir_kind kind, const char *namespace_, struct weir_resources *list)
{
        struct weir_resources all = { 0 };
        struct weir_errs errors = { 0 };
        int r, status;

        r = weir_store_snapshot(store, &all, &errors);
        status = weir_say_snapshot(store, r, &errors) == WEIR_EXIT_OK ? 0 : EXIT_ISTIOCTL;
        for (size_t i = 0; i < all.n && status == 0; i++)
                if (all.items[i]->kind == kind && (!namespace_ || weir_streq(all.items[i]->namespace_, namespace_)) &&
                    weir_resources_add(list, all.items[i]) < 0)
                        status = fail("out of memory");
        weir_resources_clear(&all);
        weir_errs_clear(&errors);
        return status;
}

static int find_one(struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *name,
                    struct weir_resources *list)
{
        struct weir_resource *resource = NULL;
        struct weir_err err = { 0 };
        int r;

        r = weir_store_get(store, kind, namespace_, name, &resource, &err);
        /* 0.7 asked for it among all, and found none. */
        if (r == WEIR_ENOTFOUND)
                return 0;
        if (r < 0) {
                (void)weir_say_store_error(kind, name, r, &err);
                return EXIT_ISTIOCTL;
        }
        r = weir_resources_add(list, resource);
        weir_resource_unref(resource);
        return r < 0 ? fail("out of memory") : 0;
}

static void print_usage(const char *usage)
{
        (void)fprintf(stderr, "Usage:\n  istioctl %s\n\n", usage);
}

static int get(const struct line *line)
{
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_free char *own = NULL;
        struct weir_resources list = { 0 };
        const char *output = line->output ? line->output : "short";
        enum weir_kind kind;
        int status;

        if (line->n_arguments == 0) {
                print_usage("get <type> [<name>] [flags]");
                return fail("specify the type of resource to get. Types are externalservice, serviceentry");
        }
        if (weir_type_parse(line->arguments[0], &kind) >= 0)
                return EXIT_ISTIOCTL;
        if (!weir_streq(output, "yaml") && !weir_streq(output, "short"))
                return fail("unknown output format %s. Types are yaml|short", output);
        status = open_store(false, &store, &own);
        if (status == 0 && line->n_arguments > 1)
                status = find_one(store, kind, line->namespace_ ? line->namespace_ : own, line->arguments[1], &list);
        else if (status == 0)
                status = collect(store, kind, line->namespace_, &list);
        if (status == 0 && list.n == 0)
                (void)puts("No resources found.");
        else if (status == 0)
                status = weir_streq(output, "yaml") ? print_yaml(&list) : print_short(&list);
        weir_resources_clear(&list);
        return status;
}

/* --- delete --- */

static int delete_one(struct weir_store *store, enum weir_kind kind, const char *namespace_, const char *name,
                      const char *what, struct weir_errs *failures)
{
        weir_auto_free char *text = NULL;
        struct weir_err err = { 0 }, failure = { 0 };
        int r;

        r = weir_store_delete(store, kind, namespace_, name, &err);
        if (r == 0)
                return 0;
        text = weir_store_error_text(kind, name, r, &err);
        (void)weir_err_set(&failure, r, "cannot delete %s: %s", what, text ? text : "out of memory");
        return weir_errs_add(failures, &failure) < 0 ? -ENOMEM : r;
}

static int delete_file(const struct line *line)
{
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_free char *own = NULL;
        struct weir_resources list = { 0 };
        struct weir_errs failures = { 0 };
        int status;

        status = open_store(false, &store, &own);
        if (status == 0)
                status = load(line, "delete", own, &list);
        for (size_t i = 0; i < list.n && status == 0; i++) {
                const struct weir_resource *resource = list.items[i];
                weir_auto_free char *key = weir_resource_key(resource);

                if (key && delete_one(store, resource->kind, resource->namespace_, resource->name, key, &failures) == 0)
                        (void)printf("Deleted config: %s\n", key);
        }
        if (status == 0 && failures.n > 0)
                status = fail_list(&failures, "");
        weir_errs_clear(&failures);
        weir_resources_clear(&list);
        return status;
}

static int delete (const struct line *line)
{
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_free char *own = NULL;
        struct weir_errs failures = { 0 };
        enum weir_kind kind;
        int status;

        if (line->file && line->n_arguments > 0)
                return fail("delete takes no arguments when the file option is used");
        if (line->file)
                return delete_file(line);
        if (line->n_arguments < 2)
                return fail("provide configuration type and name or -f option");
        if (weir_type_parse(line->arguments[0], &kind) >= 0)
                return EXIT_ISTIOCTL;
        status = open_store(false, &store, &own);
        for (size_t i = 1; i < line->n_arguments && status == 0; i++)
                if (delete_one(store, kind, line->namespace_ ? line->namespace_ : own, line->arguments[i],
                               line->arguments[i], &failures) == 0)
                        (void)printf("Deleted config: %s %s\n", line->arguments[0], line->arguments[i]);
        if (status == 0 && failures.n > 0)
                status = fail_list(&failures, "");
        weir_errs_clear(&failures);
        return status;
}

/* --- the way in --- */

static int context_create(const struct line *line)
{
        if (!line->api_server) {
                print_usage("context-create --api-server http://<ip>:<port> [flags]");
                return fail("specify the the Istio api server IP"); /* as the original has it */
        }
        return weir_istioctl_context_create(line->context ? line->context : "istio", line->api_server) == WEIR_EXIT_OK ?
                       0 :
                       EXIT_ISTIOCTL;
}

static int version(const struct line *line)
{
        char *argv[] = { (char[]){ "version" }, NULL };

        (void)line;
        return cmd_version(1, argv);
}

static const struct verb verbs[] = {
        { "context-create", "context-create --api-server http://<ip>:<port> [--context NAME]", context_create },
        { "create", "create -f FILE", create },
        { "delete", "delete <type> <name> [<name2> ... <nameN>] [flags]", delete },
        { "get", "get <type> [<name>] [flags]", get },
        { "replace", "replace -f FILE", replace },
        { "version", "version", version },
};

static int help(void)
{
        (void)puts("Istio's command line as of 0.7, by weir: policy for workloads' egress in the API of a "
                   "cluster.\n\nUsage:");
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(verbs); i++)
                (void)printf("  istioctl %s\n", verbs[i].usage);
        (void)puts("  istioctl kube-inject -f FILE [-o OUT]\n\nFlags:\n"
                   "  -c, --kubeconfig FILE      Kubernetes configuration file\n"
                   "  -f, --file FILE            Input file, - for standard input\n"
                   "  -n, --namespace NS         Config namespace\n"
                   "  -o, --output FORMAT        Output format: yaml or short\n\nSee weir(1).");
        return 0;
}

/* kube-inject reads its own options, once the global ones before it are gone. */
static int kube_inject(int argc, char **argv)
{
        return cmd_kube_inject(argc, argv) == 0 ? 0 : EXIT_ISTIOCTL;
}

/* Global options may stand before the verb: -1 with its place, or the exit status. */
static int find_verb(int argc, char **argv, struct line *line, int *ret_at)
{
        for (int at = 1; at < argc; at++) {
                int status;

                if (argv[at][0] != '-' || !argv[at][1]) {
                        *ret_at = at;
                        return -1;
                }
                if (weir_streq(argv[at], "--help") || weir_streq(argv[at], "-h"))
                        return help();
                status = take_option(line, argv, &at);
                if (status >= 0)
                        return status;
        }
        return help();
}

static int take_rest(int argc, char **argv, int at, struct line *line)
{
        int status = -1;

        for (; at < argc && status < 0; at++) {
                if (weir_streq(argv[at], "--help") || weir_streq(argv[at], "-h"))
                        return help();
                /* 0.7 knew the long name --file; its messages speak of --filename. */
                if (weir_starts_with(argv[at], "--filename"))
                        memmove(argv[at] + strlen("--file"), argv[at] + strlen("--filename"),
                                strlen(argv[at] + strlen("--filename")) + 1);
                if (argv[at][0] == '-' && argv[at][1])
                        status = take_option(line, argv, &at);
                else
                        status = take_argument(line, argv[at]);
        }
        return status;
}

bool weir_is_istioctl(const char *program)
{
        const char *slash = program ? strrchr(program, '/') : NULL;

        return program && weir_streq(slash ? slash + 1 : program, "istioctl");
}

int weir_istioctl(int argc, char **argv)
{
        struct line line = { 0 };
        int at = 0, status;

        status = find_verb(argc, argv, &line, &at);
        if (status >= 0)
                return status;
        if (weir_streq(argv[at], "kube-inject"))
                return kube_inject(argc - at, argv + at);
        if (weir_streq(argv[at], "help"))
                return help();
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(verbs); i++) {
                if (!weir_streq(argv[at], verbs[i].name))
                        continue;
                status = take_rest(argc, argv, at + 1, &line);
                if (status >= 0)
                        return status;
                if (line.kubeconfig && setenv("KUBECONFIG", line.kubeconfig, 1) < 0)
                        return fail("out of memory");
                return verbs[i].function(&line);
        }
        return fail("unknown command \"%s\" for \"istioctl\"\nRun 'istioctl --help' for usage.", argv[at]);
}
