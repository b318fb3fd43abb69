/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading kubeconfigs.
 *
 * Theory of operation
 *
 * Every file of the list is read into a tree by the model's own reader, which knows YAML and JSON and has limits. A
 * cluster, user or context is then looked up by its name in the files in their order: the first one counts whole, as
 * with kubectl. What stands in other files is read at once and kept, so that nothing a workload could change later
 * decides; only a token's file is read again and again, because it is rotated.
 */
#include "store/kubeconfig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "model/node.h"
#include "store/base64.h"
#include "store/kubernetes.h"

#define FILES_MAX 32
#define FILE_BYTES_MAX (8 * 1024 * 1024)

struct file {
        char *path;
        struct weir_node *root;
};

struct files {
        struct file items[FILES_MAX];
        size_t n;
};

static void files_clear(struct files *files)
{
        for (size_t i = 0; i < files->n; i++) {
                free(files->items[i].path);
                weir_node_free(files->items[i].root);
        }
}

static int out_of_memory(struct weir_err *err)
{
        return weir_err_set(err, -ENOMEM, "out of memory");
}

void weir_kube_config_clear(struct weir_kube_config *config)
{
        char *const texts[] = { config->context,
                                config->cluster,
                                config->user,
                                config->server,
                                config->namespace_,
                                config->ca,
                                config->certificate,
                                config->key,
                                config->server_name,
                                config->proxy,
                                config->token,
                                config->token_file,
                                config->username,
                                config->password,
                                config->as_user,
                                config->as_uid,
                                config->exec.command,
                                config->exec.api_version,
                                config->exec.install_hint };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(texts); i++) {
                if (texts[i])
                        explicit_bzero(texts[i], strlen(texts[i]));
                free(texts[i]);
        }
        weir_strv_clear(&config->as_groups);
        weir_strv_clear(&config->exec.args);
        weir_strv_clear(&config->exec.environment);
        weir_strv_clear(&config->files);
        *config = (struct weir_kube_config){ 0 };
}

/* --- the files --- */

static int on_document(void *context, struct weir_node *root)
{
        struct weir_node **ret = context;

        if (*ret)
                weir_node_free(root);
        else
                *ret = root;
        return 0;
}

static int parse_file(const char *path, const char *bytes, size_t n, struct weir_node **ret_root, struct weir_err *err)
{
        weir_auto(node) struct weir_node *root = NULL;
        struct weir_errs errors = { 0 };
        int r;

        r = weir_node_read(bytes, n, path, on_document, (void *)&root, &errors);
        if (r == 0 && errors.n > 0) {
                *err = errors.items[0];
                err->code = r = WEIR_EINVALID;
        } else if (r < 0)
                (void)out_of_memory(err);
        weir_errs_clear(&errors);
        if (r == 0 && root && root->type != WEIR_NODE_MAPPING)
                r = weir_err_set(err, WEIR_EINVALID, "%s is no kubeconfig: it does not hold a mapping", path);
        if (r == 0)
                *ret_root = TAKE_PTR(root);
        return r;
}

/* A file of the list that does not exist is passed over, as kubectl does. */
static int add_file(struct files *files, const char *path, struct weir_err *err)
{
        weir_auto(node) struct weir_node *root = NULL;
        weir_auto_free char *bytes = NULL;
        struct file *file = &files->items[files->n];
        size_t n;
        int r;

        if (files->n == FILES_MAX)
                return weir_err_set(err, WEIR_ELIMIT, "KUBECONFIG names more than %d files", FILES_MAX);
        r = weir_file_slurp(AT_FDCWD, path, FILE_BYTES_MAX, &bytes, &n);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return weir_err_set(err, r, "cannot read the kubeconfig %s: %s", path, strerror(-r));
        r = parse_file(path, bytes, n, &root, err);
        explicit_bzero(bytes, n);
        if (r < 0 || !root)
                return r;
        file->path = strdup(path);
        if (!file->path)
                return out_of_memory(err);
        file->root = TAKE_PTR(root);
        files->n++;
        return 0;
}

static int add_list(struct files *files, const char *list, struct weir_err *err)
{
        weir_auto_free char *copy = strdup(list);
        char *rest = copy, *path;
        int r = copy ? 0 : out_of_memory(err);

        while (r == 0 && (path = strsep(&rest, ":")))
                if (path[0])
                        r = add_file(files, path, err);
        return r;
}

static int add_files(struct files *files, struct weir_err *err)
{
        const char *list = getenv("KUBECONFIG"), *home = getenv("HOME");
        weir_auto_free char *path = NULL;

        if (list && list[0])
                return add_list(files, list, err);
        if (!home || !home[0])
                return 0;
        path = weir_asprintf("%s/.kube/config", home);
        return path ? add_file(files, path, err) : out_of_memory(err);
}

/* --- looking up --- */

static const char *text(const struct weir_node *mapping, const char *key)
{
        const struct weir_node *value = weir_node_get(mapping, key);

        return value && value->type == WEIR_NODE_SCALAR && value->text[0] ? value->text : NULL;
}

static bool is_true(const struct weir_node *mapping, const char *key)
{
        const char *value = text(mapping, key);

        return value && weir_streq(value, "true");
}

/* The value of the first entry @name in a list of { name:, KEY: }. @ret_file: where it stands */
static const struct weir_node *lookup(const struct files *files, const char *list, const char *key, const char *name,
                                      const struct file **ret_file)
{
        for (size_t i = 0; i < files->n; i++) {
                const struct weir_node *items = weir_node_get(files->items[i].root, list);

                for (size_t j = 0; items && items->type == WEIR_NODE_SEQUENCE && j < items->n; j++) {
                        const char *own = text(items->items[j], "name");

                        if (own && weir_streq(own, name)) {
                                *ret_file = &files->items[i];
                                return weir_node_get(items->items[j], key);
                        }
                }
        }
        *ret_file = NULL;
        return NULL;
}

static const char *current_context(const struct files *files)
{
        for (size_t i = 0; i < files->n; i++) {
                const char *name = text(files->items[i].root, "current-context");

                if (name)
                        return name;
        }
        return NULL;
}

/* "a, b and c" are there: what a person may have meant. */
static char *list_contexts(const struct files *files)
{
        struct weir_buf buf = { 0 };
        unsigned n = 0;

        for (size_t i = 0; i < files->n; i++) {
                const struct weir_node *items = weir_node_get(files->items[i].root, "contexts");

                for (size_t j = 0; items && items->type == WEIR_NODE_SEQUENCE && j < items->n && n < 20; j++) {
                        const char *name = text(items->items[j], "name");

                        if (name)
                                weir_buf_printf(&buf, "%s%s", n++ ? ", " : "", name);
                }
        }
        return weir_buf_take(&buf);
}

static int set(char **field, const char *value)
{
        if (!value)
                return 0;
        *field = strdup(value);
        return *field ? 0 : -ENOMEM;
}

static char *beside(const struct file *file, const char *path)
{
        const char *slash = strrchr(file->path, '/');

        if (path[0] == '/' || !slash)
                return strdup(path);
        return weir_asprintf("%.*s/%s", (int)(slash - file->path), file->path, path);
}

/* "KEY-data" in base64, else the file that "KEY" names. Neither is no error. */
static int load(struct weir_kube_config *config, const struct file *file, const struct weir_node *node, const char *key,
                char **field, struct weir_err *err)
{
        weir_auto_free char *data_key = weir_asprintf("%s-data", key), *path = NULL;
        const char *data = data_key ? text(node, data_key) : NULL, *name = text(node, key);
        size_t n;
        int r;

        if (!data_key)
                return out_of_memory(err);
        if (data) {
                r = weir_base64_decode(data, field);
                return r < 0 ? weir_err_set(err, WEIR_EINVALID, "%s: %s is not base64", file->path, data_key) : 0;
        }
        if (!name)
                return 0;
        path = beside(file, name);
        if (!path)
                return out_of_memory(err);
        r = weir_file_slurp(AT_FDCWD, path, FILE_BYTES_MAX, field, &n);
        if (r < 0)
                return weir_err_set(err, r, "cannot read %s, the %s of %s: %s", path, key, file->path, strerror(-r));
        return weir_strv_add(&config->files, path) < 0 ? out_of_memory(err) : 0;
}

static int take_server(struct weir_kube_config *config, const char *server, struct weir_err *err)
{
        size_t n = strlen(server);

        while (n > 0 && server[n - 1] == '/')
                n--;
        config->server = strstr(server, "://") ? strndup(server, n) : weir_asprintf("https://%.*s", (int)n, server);
        return config->server ? 0 : out_of_memory(err);
}

static int take_cluster(struct weir_kube_config *config, const struct files *files, const char *name,
                        struct weir_err *err)
{
        const struct file *file;
        const struct weir_node *node = lookup(files, "clusters", "cluster", name, &file);
        const char *server = text(node, "server");
        int r;

        if (!file)
                return weir_err_set(err, WEIR_EINVALID,
                                    "the context \"%s\" names the cluster \"%s\", which is not in %s", config->context,
                                    name, files->items[0].path);
        if (!server)
                return weir_err_set(err, WEIR_EINVALID, "%s: the cluster \"%s\" has no server", file->path, name);
        config->insecure = is_true(node, "insecure-skip-tls-verify");
        r = take_server(config, server, err);
        if (r == 0)
                r = load(config, file, node, "certificate-authority", &config->ca, err);
        if (r < 0)
                return r;
        r = set(&config->cluster, name);
        if (r == 0)
                r = set(&config->server_name, text(node, "tls-server-name"));
        if (r == 0)
                r = set(&config->proxy, text(node, "proxy-url"));
        return r < 0 ? out_of_memory(err) : 0;
}

static int take_environment(struct weir_kube_exec *exec, const struct weir_node *list)
{
        int r = 0;

        for (size_t i = 0; list && list->type == WEIR_NODE_SEQUENCE && i < list->n && r == 0; i++) {
                const char *name = text(list->items[i], "name"), *value = text(list->items[i], "value");
                weir_auto_free char *pair = weir_asprintf("%s=%s", name ? name : "", value ? value : "");

                r = pair ? weir_strv_add(&exec->environment, pair) : -ENOMEM;
        }
        return r;
}

/* A command with a slash stands beside the kubeconfig, others are looked for in PATH: as kubectl. */
static int take_exec(struct weir_kube_config *config, const struct file *file, const struct weir_node *node,
                     struct weir_err *err)
{
        struct weir_kube_exec *exec = &config->exec;
        const struct weir_node *args = weir_node_get(node, "args");
        const char *command = text(node, "command"), *version = text(node, "apiVersion");
        int r = 0;

        if (!command || !version)
                return weir_err_set(err, WEIR_EINVALID, "%s: exec of the user \"%s\" needs command and apiVersion",
                                    file->path, config->user);
        if (!weir_streq(version, "client.authentication.k8s.io/v1") &&
            !weir_streq(version, "client.authentication.k8s.io/v1beta1"))
                return weir_err_set(
                        err, WEIR_EUNSUPPORTED,
                        "%s: exec of the user \"%s\" has apiVersion %s: only client.authentication.k8s.io/v1 "
                        "and v1beta1 are known",
                        file->path, config->user, version);
        exec->command = strchr(command, '/') ? beside(file, command) : strdup(command);
        exec->provide_cluster_info = is_true(node, "provideClusterInfo");
        if (!exec->command || set(&exec->api_version, version) < 0 ||
            set(&exec->install_hint, text(node, "installHint")) < 0)
                return out_of_memory(err);
        for (size_t i = 0; args && args->type == WEIR_NODE_SEQUENCE && i < args->n && r == 0; i++)
                if (args->items[i]->type == WEIR_NODE_SCALAR)
                        r = weir_strv_add(&exec->args, args->items[i]->text);
        if (r == 0)
                r = take_environment(exec, weir_node_get(node, "env"));
        if (r == 0 && exec->command[0] == '/')
                r = weir_strv_add(&config->files, exec->command);
        return r < 0 ? out_of_memory(err) : 0;
}

static int take_impersonation(struct weir_kube_config *config, const struct weir_node *node)
{
        const struct weir_node *groups = weir_node_get(node, "as-groups");
        int r;

        r = set(&config->as_user, text(node, "as"));
        if (r == 0)
                r = set(&config->as_uid, text(node, "as-uid"));
        for (size_t i = 0; groups && groups->type == WEIR_NODE_SEQUENCE && i < groups->n && r == 0; i++)
                if (groups->items[i]->type == WEIR_NODE_SCALAR)
                        r = weir_strv_add(&config->as_groups, groups->items[i]->text);
        return r;
}

static int take_token(struct weir_kube_config *config, const struct file *file, const struct weir_node *node)
{
        const char *path = text(node, "tokenFile");
        int r;

        r = set(&config->token, text(node, "token"));
        if (r == 0 && path) {
                config->token_file = beside(file, path);
                r = config->token_file ? weir_strv_add(&config->files, config->token_file) : -ENOMEM;
        }
        if (r == 0)
                r = set(&config->username, text(node, "username"));
        if (r == 0)
                r = set(&config->password, text(node, "password"));
        return r == 0 ? take_impersonation(config, node) : r;
}

static int take_user(struct weir_kube_config *config, const struct files *files, const char *name, struct weir_err *err)
{
        const struct file *file;
        const struct weir_node *node = lookup(files, "users", "user", name, &file), *exec;
        int r;

        if (set(&config->user, name) < 0)
                return out_of_memory(err);
        if (!file)
                return weir_err_set(err, WEIR_EINVALID, "the context \"%s\" names the user \"%s\", which is not in %s",
                                    config->context, name, files->items[0].path);
        if (weir_node_get(node, "auth-provider"))
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "%s: the user \"%s\" has an auth-provider, which Kubernetes removed: use an exec "
                                    "plugin",
                                    file->path, name);
        r = load(config, file, node, "client-certificate", &config->certificate, err);
        if (r == 0)
                r = load(config, file, node, "client-key", &config->key, err);
        if (r < 0)
                return r;
        if (!config->certificate != !config->key)
                return weir_err_set(err, WEIR_EINVALID, "%s: the user \"%s\" has a client %s without its %s",
                                    file->path, name, config->key ? "key" : "certificate",
                                    config->key ? "certificate" : "key");
        if (take_token(config, file, node) < 0)
                return out_of_memory(err);
        exec = weir_node_get(node, "exec");
        return exec ? take_exec(config, file, exec, err) : 0;
}

static int no_context(const struct files *files, const char *name, struct weir_err *err)
{
        weir_auto_free char *known = list_contexts(files);
        const char *have = known && known[0] ? known : "none";

        if (!name)
                return weir_err_set(err, WEIR_EINVALID,
                                    "%s names no current context: choose one with --store kubernetes:CONTEXT (%s)",
                                    files->items[0].path, have);
        return weir_err_set(err, WEIR_EINVALID, "there is no context \"%s\" in %s%s; there are: %s", name,
                            files->items[0].path, files->n > 1 ? " and the other files of KUBECONFIG" : "", have);
}

static int take_context(struct weir_kube_config *config, const struct files *files, const char *name,
                        struct weir_err *err)
{
        const struct weir_node *node;
        const struct file *file = NULL;
        const char *cluster, *user;
        int r;

        if (!name)
                name = current_context(files);
        node = name ? lookup(files, "contexts", "context", name, &file) : NULL;
        if (!file)
                return no_context(files, name, err);
        cluster = text(node, "cluster");
        user = text(node, "user");
        if (!cluster)
                return weir_err_set(err, WEIR_EINVALID, "%s: the context \"%s\" names no cluster", file->path, name);
        if (set(&config->context, name) < 0 ||
            set(&config->namespace_, text(node, "namespace") ? text(node, "namespace") : "default") < 0)
                return out_of_memory(err);
        r = take_cluster(config, files, cluster, err);
        if (r == 0 && user)
                r = take_user(config, files, user, err);
        else if (r == 0 && set(&config->user, "") < 0)
                r = out_of_memory(err);
        return r;
}

static int take_kubeconfig(struct weir_kube_config *config, const struct files *files, const char *context,
                           struct weir_err *err)
{
        for (size_t i = 0; i < files->n; i++)
                if (weir_strv_add(&config->files, files->items[i].path) < 0)
                        return out_of_memory(err);
        return take_context(config, files, context, err);
}

/* --- in a pod --- */

bool weir_kubernetes_in_pod(void)
{
        const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");

        return host && host[0] && port && port[0] && access(WEIR_KUBE_ACCOUNT "/token", R_OK) == 0;
}

static int take_account(struct weir_kube_config *config, struct weir_err *err)
{
        const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
        bool six = host && strchr(host, ':');
        size_t n;

        if (!host || !port)
                return weir_err_set(err, WEIR_EINVALID, "this pod does not know its API server");
        config->server = weir_asprintf("https://%s%s%s:%s", six ? "[" : "", host, six ? "]" : "", port);
        if (!config->server || set(&config->context, "") < 0 || set(&config->cluster, "the pod's") < 0 ||
            set(&config->user, "the pod's service account") < 0 ||
            set(&config->token_file, WEIR_KUBE_ACCOUNT "/token") < 0)
                return out_of_memory(err);
        if (weir_file_slurp(AT_FDCWD, WEIR_KUBE_ACCOUNT "/ca.crt", FILE_BYTES_MAX, &config->ca, &n) < 0)
                return weir_err_set(err, -ENOENT, "this pod's service account has no %s/ca.crt", WEIR_KUBE_ACCOUNT);
        if (weir_file_slurp(AT_FDCWD, WEIR_KUBE_ACCOUNT "/namespace", 256, &config->namespace_, &n) < 0 &&
            set(&config->namespace_, "default") < 0)
                return out_of_memory(err);
        return 0;
}

int weir_kube_config_read(const char *context, struct weir_kube_config *ret, struct weir_err *err)
{
        __attribute__((cleanup(files_clear))) struct files files = { 0 };
        __attribute__((cleanup(weir_kube_config_clear))) struct weir_kube_config config = { 0 };
        const char *list = getenv("KUBECONFIG");
        int r;

        r = add_files(&files, err);
        if (r < 0)
                return r;
        if (files.n > 0)
                r = take_kubeconfig(&config, &files, context, err);
        else if (!context && weir_kubernetes_in_pod())
                r = take_account(&config, err);
        else if (list && list[0])
                r = weir_err_set(err, -ENOENT, "no kubeconfig: none of the files in KUBECONFIG (%s) exists", list);
        else
                r = weir_err_set(
                        err, -ENOENT,
                        "no kubeconfig: neither KUBECONFIG nor ~/.kube/config is there, and this is no pod: set "
                        "KUBECONFIG, or use --store dir:PATH");
        if (r < 0)
                return r;
        *ret = config;
        config = (struct weir_kube_config){ 0 };
        return 0;
}
