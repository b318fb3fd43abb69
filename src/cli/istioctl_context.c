/* SPDX-License-Identifier: Apache-2.0 */
/* istioctl context-create: a cluster and a context of one name in the kubeconfig, which becomes the current one. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "cli/commands.h"
#include "model/node.h"
#include "model/resource.h"

#define FILE_BYTES_MAX (8 * 1024 * 1024)

static int on_document(void *context, struct weir_node *root)
{
        struct weir_node **ret = context;

        if (*ret)
                weir_node_free(root);
        else
                *ret = root;
        return 0;
}

/* An empty mapping where there is no file yet. */
static int read_config(const char *path, struct weir_node **ret, struct weir_err *err)
{
        weir_auto_free char *bytes = NULL;
        struct weir_errs errors = { 0 };
        size_t n = 0;
        int r;

        r = weir_file_slurp(AT_FDCWD, path, FILE_BYTES_MAX, &bytes, &n);
        if (r < 0 && r != -ENOENT)
                return weir_err_set(err, r, "open %s: %s", path, strerror(-r));
        if (r == 0)
                r = weir_node_read(bytes, n, path, on_document, (void *)ret, &errors);
        if (errors.n > 0) {
                *err = errors.items[0];
                r = WEIR_EINVALID;
        }
        weir_errs_clear(&errors);
        if (r == WEIR_EINVALID)
                return r;
        if (!*ret)
                *ret = weir_node_new(WEIR_NODE_MAPPING, 0, 0);
        if (!*ret)
                return weir_err_set(err, -ENOMEM, "out of memory");
        return (*ret)->type == WEIR_NODE_MAPPING ? 0 : weir_err_set(err, WEIR_EINVALID, "%s is no kubeconfig", path);
}

/* The list under @key, made if it is missing. */
static struct weir_node *list_of(struct weir_node *root, const char *key)
{
        struct weir_node *list = weir_node_get(root, key);

        if (list)
                return list->type == WEIR_NODE_SEQUENCE ? list : NULL;
        if (weir_node_set_text(root, key, NULL) < 0) /* it may be there, and null */
                return NULL;
        list = weir_node_new(WEIR_NODE_SEQUENCE, 0, 0);
        return weir_node_put(root, weir_node_scalar(key, true), list) < 0 ? NULL : list;
}

/* The mapping { name: @name, @key: {...} } of a list, made if it is missing: what stands under @key. */
static struct weir_node *entry_of(struct weir_node *list, const char *key, const char *name)
{
        struct weir_node *entry, *value;

        for (size_t i = 0; i < list->n; i++) {
                const struct weir_node *own = weir_node_get(list->items[i], "name");

                value = weir_node_get(list->items[i], key);
                if (own && own->type == WEIR_NODE_SCALAR && weir_streq(own->text, name))
                        return value && value->type == WEIR_NODE_MAPPING ? value : NULL;
        }
        entry = weir_node_new(WEIR_NODE_MAPPING, 0, 0);
        value = weir_node_new(WEIR_NODE_MAPPING, 0, 0);
        if (weir_node_append(list, entry) < 0) {
                weir_node_free(value);
                return NULL;
        }
        if (weir_node_put(entry, weir_node_scalar(key, true), value) < 0 || weir_node_set_text(entry, "name", name) < 0)
                return NULL;
        return value;
}

static int change(struct weir_node *root, const char *name, const char *server)
{
        struct weir_node *clusters = list_of(root, "clusters"), *contexts = list_of(root, "contexts");
        struct weir_node *cluster = clusters ? entry_of(clusters, "cluster", name) : NULL;
        struct weir_node *context = contexts ? entry_of(contexts, "context", name) : NULL;
        int r;

        if (!cluster || !context)
                return -EINVAL;
        r = weir_node_set_text(cluster, "server", server);
        if (r == 0)
                r = weir_node_set_text(context, "cluster", name);
        if (r == 0)
                r = weir_node_set_text(root, "current-context", name);
        if (r == 0 && !weir_node_get(root, "apiVersion"))
                r = weir_node_set_text(root, "apiVersion", "v1");
        if (r == 0 && !weir_node_get(root, "kind"))
                r = weir_node_set_text(root, "kind", "Config");
        return r;
}

static int write_config(const char *path, struct weir_node *root, struct weir_err *err)
{
        weir_auto(buf) struct weir_buf buf = { 0 };
        weir_auto_free char *fresh = weir_asprintf("%s.%d.tmp", path, (int)getpid());
        struct weir_resource shown = { .node = root };
        weir_auto_close int fd = -1;
        int r;

        weir_resource_print_yaml(&shown, &buf);
        if (!fresh || buf.error)
                return weir_err_set(err, -ENOMEM, "out of memory");
        fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        r = fd < 0 ? -errno : weir_fd_write_all(fd, buf.data, buf.length);
        if (r == 0 && (fsync(fd) < 0 || rename(fresh, path) < 0))
                r = -errno;
        if (r < 0 && fd >= 0)
                (void)unlink(fresh);
        return r < 0 ? weir_err_set(err, r, "write %s: %s", path, strerror(-r)) : 0;
}

/* The first file of KUBECONFIG, else ~/.kube/config, whose folder is made. */
static char *config_path(void)
{
        const char *list = getenv("KUBECONFIG"), *home = getenv("HOME");
        weir_auto_free char *folder = NULL;

        if (list && list[0])
                return strndup(list, strcspn(list, ":"));
        folder = weir_asprintf("%s/.kube", home ? home : "");
        if (!folder)
                return NULL;
        (void)mkdir(folder, 0755); /* what it lacks, the write says */
        return weir_asprintf("%s/config", folder);
}

int weir_istioctl_context_create(const char *name, const char *server)
{
        weir_auto(node) struct weir_node *root = NULL;
        weir_auto_free char *path = config_path(), *before = NULL;
        const struct weir_node *current;
        struct weir_err err = { 0 };

        if (!path)
                return weir_say_out_of_memory();
        if (read_config(path, &root, &err) < 0)
                return weir_say_error(&err);
        current = weir_node_get(root, "current-context");
        if (current && current->type == WEIR_NODE_SCALAR && !weir_streq(current->text, name))
                before = strdup(current->text);
        if (change(root, name, server) < 0)
                return weir_say_text("%s is no kubeconfig that can be added to", path);
        if (write_config(path, root, &err) < 0)
                return weir_say_error(&err);
        if (before)
                (void)printf("kubeconfig context switched to \"%s\"\n", name);
        (void)puts("Context created");
        return WEIR_EXIT_OK;
}
