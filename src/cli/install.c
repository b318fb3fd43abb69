/* SPDX-License-Identifier: Apache-2.0 */
/* weir install and weir controller: what a Kubernetes cluster needs of Weir besides the pods' own. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "cli/commands.h"
#include "store/kubernetes.h"
#include "store/store.h"

struct install_options {
        const char *store, *image;
        bool print;
};

#define ROW_CLUSTER(values)                                                                   \
        {                                                                                     \
                "store", NULL, 0, WEIR_OPTION_STRING, offsetof(values, store), "STORE", NULL, \
                        "The cluster, kubernetes[:CONTEXT], instead of the current context's" \
        }

const struct weir_option weir_install_option_table[] = {
        { "image", NULL, 0, WEIR_OPTION_STRING, offsetof(struct install_options, image), "NAME", NULL,
          "Image of the controller (weir:" WEIR_VERSION ")" },
        { "print", NULL, 0, WEIR_OPTION_FLAG, offsetof(struct install_options, print), NULL, NULL,
          "Print the objects as YAML instead" },
        ROW_CLUSTER(struct install_options),
        { .name = NULL },
};

const struct weir_option weir_controller_option_table[] = {
        ROW_CLUSTER(struct install_options),
        { .name = NULL },
};

static int print_manifests(const char *image)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        weir_kubernetes_print_manifests(image, &buf);
        if (buf.error)
                return weir_say_out_of_memory();
        (void)fputs(buf.data, stdout);
        return WEIR_EXIT_OK;
}

static void say_done(const char *kind, const char *name, enum weir_kube_installed what)
{
        static const char *const words[] = {
                [WEIR_KUBE_CREATED] = "created",
                [WEIR_KUBE_CONFIGURED] = "configured",
                [WEIR_KUBE_FOREIGN] = "left as it is, for it is not Weir's",
        };

        (void)printf("%s %s: %s\n", kind, name, words[what]);
        (void)fflush(stdout);
}

/* Both commands mean a cluster: where nothing else is named, the current context's. */
static int open_cluster(const char *spec, struct weir_store **ret_store)
{
        const char *environment = getenv("WEIR_STORE");
        struct weir_err err = { 0 };

        if (!spec && !(environment && weir_starts_with(environment, "kubernetes")))
                spec = "kubernetes";
        if (weir_store_open(spec, false, ret_store, &err) < 0)
                return weir_say_error(&err);
        if (!weir_kubernetes_is(*ret_store))
                return weir_say_text("%s is no cluster: name one with --store kubernetes[:CONTEXT]",
                                     weir_store_path(*ret_store));
        return WEIR_EXIT_OK;
}

int cmd_install(int argc, char **argv)
{
        struct install_options options = { .image = "weir:" WEIR_VERSION };
        struct weir_command_line line = { .command = weir_command_find("install"), .values = &options };
        weir_auto(store) struct weir_store *store = NULL;
        struct weir_err err = { 0 };
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status >= 0)
                return status;
        if (line.n_arguments > 0)
                return weir_usage_error(&line, "install takes no arguments");
        if (strpbrk(options.image, "\n\"'#{}[] \t"))
                return weir_say_text("\"%s\" is no name of an image", options.image);
        if (options.print)
                return print_manifests(options.image);
        status = open_cluster(options.store, &store);
        if (status == WEIR_EXIT_OK && weir_kubernetes_install(store, options.image, say_done, &err) < 0)
                status = weir_say_error(&err);
        return status;
}

static void say(bool problem, const char *text)
{
        weir_log(problem ? WEIR_LOG_ERROR : WEIR_LOG_INFO, "%s", text);
}

int cmd_controller(int argc, char **argv)
{
        struct install_options options = { 0 };
        struct weir_command_line line = { .command = weir_command_find("controller"), .values = &options };
        weir_auto(store) struct weir_store *store = NULL;
        weir_auto_close int stop = -1;
        struct weir_err err = { 0 };
        sigset_t signals;
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status >= 0)
                return status;
        if (line.n_arguments > 0)
                return weir_usage_error(&line, "controller takes no arguments");
        weir_log_set_level(WEIR_LOG_INFO);
        (void)sigemptyset(&signals);
        (void)sigaddset(&signals, SIGTERM);
        (void)sigaddset(&signals, SIGINT);
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
                return weir_say_text("cannot block signals: %s", strerror(errno));
        stop = signalfd(-1, &signals, SFD_CLOEXEC);
        if (stop < 0)
                return weir_say_text("cannot wait for signals: %s", strerror(errno));
        status = open_cluster(options.store, &store);
        if (status == WEIR_EXIT_OK && weir_kubernetes_control(store, stop, say, &err) < 0)
                status = weir_say_error(&err);
        return status;
}
