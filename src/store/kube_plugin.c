/* SPDX-License-Identifier: Apache-2.0 */
/* Exec plugins: programs that print credentials, client.authentication.k8s.io/v1 and v1beta1. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/time.h"
#include "store/base64.h"
#include "store/kube_client.h"

#define OUTPUT_MAX (256 * 1024)
/* A token is renewed this long before it expires. */
#define EARLY_SECONDS 30

bool weir_kube_plugin_needed(const struct weir_kube_client *client)
{
        if (!client->config.exec.command)
                return false;
        if (!client->token && !client->certificate)
                return true;
        return client->expires && client->expires - EARLY_SECONDS <= (int64_t)time(NULL);
}

void weir_kube_plugin_forget(struct weir_kube_client *client)
{
        free(TAKE_PTR(client->token));
        free(TAKE_PTR(client->certificate));
        free(TAKE_PTR(client->key));
        client->expires = 0;
}

void weir_kube_plugin_end(struct weir_kube_client *client)
{
        struct weir_kube_plugin *plugin = &client->plugin;

        if (plugin->pid > 0) {
                (void)kill(plugin->pid, SIGKILL);
                while (waitpid(plugin->pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
        plugin->pid = 0;
        weir_close_cleanup(&plugin->fd);
        plugin->fd = -1;
        weir_buf_clear(&plugin->output);
}

/* The cluster, as a plugin that asks for it is told. */
static json_t *cluster_info(const struct weir_kube_config *config)
{
        weir_auto_free char *ca = config->ca ? weir_base64_encode(config->ca, strlen(config->ca)) : NULL;
        json_t *cluster =
                json_pack("{s:s, s:b}", "server", config->server, "insecure-skip-tls-verify", (int)config->insecure);

        if (!cluster || (config->ca && !ca) ||
            (ca && json_object_set_new(cluster, "certificate-authority-data", json_string(ca)) < 0) ||
            (config->server_name &&
             json_object_set_new(cluster, "tls-server-name", json_string(config->server_name)) < 0) ||
            (config->proxy && json_object_set_new(cluster, "proxy-url", json_string(config->proxy)) < 0)) {
                json_decref(cluster);
                return NULL;
        }
        return cluster;
}

/* What KUBERNETES_EXEC_INFO tells a plugin. */
static char *exec_info(const struct weir_kube_config *config)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *info =
                json_pack("{s:s, s:s, s:{s:b}}", "apiVersion", config->exec.api_version, "kind", "ExecCredential",
                          "spec", "interactive", 0);
        json_t *cluster;

        if (info && config->exec.provide_cluster_info) {
                cluster = cluster_info(config);
                if (!cluster || json_object_set_new(json_object_get(info, "spec"), "cluster", cluster) < 0)
                        return NULL;
        }
        return info ? json_dumps(info, JSON_COMPACT) : NULL;
}

/* Weir's own environment, the kubeconfig's and KUBERNETES_EXEC_INFO; the last of a name counts for most programs, so
 * an older one is left out. */
static int make_environment(const struct weir_kube_config *config, struct weir_strv *ret)
{
        weir_auto_free char *info = exec_info(config);
        weir_auto_free char *pair = info ? weir_asprintf("KUBERNETES_EXEC_INFO=%s", info) : NULL;
        const struct weir_strv *own = &config->exec.environment;
        int r = pair ? 0 : -ENOMEM;

        for (char **at = environ; *at && r == 0; at++) {
                size_t n = strcspn(*at, "=");
                bool hidden = weir_starts_with(*at, "KUBERNETES_EXEC_INFO=");

                for (size_t i = 0; i < own->n; i++)
                        hidden |= strncmp(own->items[i], *at, n + 1) == 0;
                if (!hidden)
                        r = weir_strv_add(ret, *at);
        }
        for (size_t i = 0; i < own->n && r == 0; i++)
                r = weir_strv_add(ret, own->items[i]);
        if (r == 0)
                r = weir_strv_add(ret, pair);
        return r == 0 ? weir_strv_terminate(ret) : r;
}

static int make_argv(const struct weir_kube_exec *exec, struct weir_strv *ret)
{
        int r = weir_strv_add(ret, exec->command);

        for (size_t i = 0; i < exec->args.n && r == 0; i++)
                r = weir_strv_add(ret, exec->args.items[i]);
        return r == 0 ? weir_strv_terminate(ret) : r;
}

/* Standard input is closed to it: a question could not be answered. Standard error is the person's. */
static int spawn(const struct weir_kube_exec *exec, char **argv, char **environment, int out, pid_t *ret_pid)
{
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t none;
        int r;

        (void)sigemptyset(&none);
        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawnattr_init(&attributes);
        if (r == 0) {
                r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
                if (r == 0)
                        r = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
                if (r == 0)
                        r = posix_spawnattr_setsigmask(&attributes, &none);
                if (r == 0)
                        r = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
                if (r == 0)
                        r = posix_spawnp(ret_pid, exec->command, &actions, &attributes, argv, environment);
                (void)posix_spawnattr_destroy(&attributes);
        }
        (void)posix_spawn_file_actions_destroy(&actions);
        return -r;
}

static int cannot_run(const struct weir_kube_client *client, int r, struct weir_err *err)
{
        const struct weir_kube_exec *exec = &client->config.exec;

        return weir_err_set(err, r, "cannot run %s, which gives the credentials of the user \"%s\": %s%s%s",
                            exec->command, client->config.user, strerror(-r), exec->install_hint ? ": " : "",
                            exec->install_hint ? exec->install_hint : "");
}

int weir_kube_plugin_start(struct weir_kube_client *client, struct weir_err *err)
{
        struct weir_kube_plugin *plugin = &client->plugin;
        struct weir_strv argv = { 0 }, environment = { 0 };
        weir_auto_close int in = -1, out = -1;
        int fds[2], r;

        weir_kube_plugin_end(client);
        if (pipe2(fds, O_CLOEXEC) < 0)
                return weir_err_set(err, -errno, "pipe: %s", strerror(errno));
        in = fds[0];
        out = fds[1];
        r = weir_fd_set_nonblock(in, true);
        if (r == 0)
                r = make_argv(&client->config.exec, &argv);
        if (r == 0)
                r = make_environment(&client->config, &environment);
        if (r == 0)
                r = spawn(&client->config.exec, argv.items, environment.items, out, &plugin->pid);
        weir_strv_clear(&argv);
        weir_strv_clear(&environment);
        if (r < 0) {
                plugin->pid = 0;
                return cannot_run(client, r, err);
        }
        plugin->fd = TAKE_FD(in);
        plugin->output.limit = OUTPUT_MAX;
        plugin->deadline = weir_time_ns() + client->times.plugin * WEIR_MS;
        return 0;
}

static int bad_output(const struct weir_kube_client *client, const char *why, struct weir_err *err)
{
        return weir_err_set(err, WEIR_EINVALID, "%s, which gives the credentials of the user \"%s\", %s",
                            client->config.exec.command, client->config.user, why);
}

static int take_text(const json_t *status, const char *key, char **field)
{
        const char *value = json_string_value(json_object_get(status, key));

        if (!value)
                return 0;
        *field = strdup(value);
        return *field ? 0 : -ENOMEM;
}

/* A header is one line: whatever else stands in a token would be another header. */
static bool is_token(const char *token)
{
        for (; *token; token++)
                if (*token <= ' ' || *token > '~')
                        return false;
        return true;
}

static int take_credentials(struct weir_kube_client *client, struct weir_err *err)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *root =
                json_loadb(client->plugin.output.data ? client->plugin.output.data : "", client->plugin.output.length,
                           JSON_REJECT_DUPLICATES, NULL);
        const json_t *status = json_object_get(root, "status");
        const char *version = json_string_value(json_object_get(root, "apiVersion"));
        const char *expires = json_string_value(json_object_get(status, "expirationTimestamp"));
        struct tm tm = { 0 };

        if (!root || !json_is_object(status))
                return bad_output(client, "printed no ExecCredential with a status", err);
        if (!version || !weir_streq(version, client->config.exec.api_version))
                return bad_output(client, "printed another apiVersion than the kubeconfig asks for", err);
        weir_kube_plugin_forget(client);
        if (take_text(status, "token", &client->token) < 0 ||
            take_text(status, "clientCertificateData", &client->certificate) < 0 ||
            take_text(status, "clientKeyData", &client->key) < 0)
                return weir_err_set(err, -ENOMEM, "out of memory");
        if (!client->token && !(client->certificate && client->key))
                return bad_output(client, "gave neither a token nor a certificate with its key", err);
        if (client->token && !is_token(client->token))
                return bad_output(client, "gave a token that cannot stand in a header", err);
        if (expires && strptime(expires, "%Y-%m-%dT%H:%M:%S", &tm))
                client->expires = (int64_t)timegm(&tm);
        return 0;
}

static int read_output(struct weir_kube_plugin *plugin)
{
        char bytes[4096];

        for (;;) {
                ssize_t n = read(plugin->fd, bytes, sizeof(bytes));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                if (n == 0)
                        return 1;
                weir_buf_add(&plugin->output, bytes, (size_t)n);
        }
}

int weir_kube_plugin_continue(struct weir_kube_client *client, struct weir_err *err)
{
        struct weir_kube_plugin *plugin = &client->plugin;
        int status = 0, r;

        r = read_output(plugin);
        if (r == 0 && weir_time_ns() < plugin->deadline)
                return 0;
        if (r <= 0) {
                weir_kube_plugin_end(client);
                return r < 0 ? cannot_run(client, r, err) : bad_output(client, "did not end in time", err);
        }
        /* It closed its output, so it is at its end; one that is not is made to. */
        for (unsigned i = 0; waitpid(plugin->pid, &status, WNOHANG) == 0; i++) {
                const struct timespec pause = { .tv_nsec = 1000 * 1000 };

                if (i == 20)
                        (void)kill(plugin->pid, SIGKILL);
                (void)nanosleep(&pause, NULL);
        }
        plugin->pid = 0;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                r = bad_output(client, "failed; what it said stands above", err);
        else if (plugin->output.error)
                r = bad_output(client, "printed too much", err);
        else
                r = take_credentials(client, err);
        weir_kube_plugin_end(client);
        return r < 0 ? r : 1;
}

int weir_kube_plugin_run(struct weir_kube_client *client, struct weir_err *err)
{
        int r;

        r = weir_kube_plugin_start(client, err);
        while (r == 0) {
                uint64_t now = weir_time_ns(), deadline = client->plugin.deadline;
                struct pollfd poll_fd = { .fd = client->plugin.fd, .events = POLLIN };

                (void)poll(&poll_fd, 1, now < deadline ? (int)((deadline - now) / WEIR_MS) + 1 : 0);
                r = weir_kube_plugin_continue(client, err);
        }
        return r < 0 ? r : 0;
}
