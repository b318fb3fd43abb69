/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weir attach, weir detach: a cgroup that is there already comes under the policy, and out of it.
 *
 * Weir drives the gates until it is told to end: it follows the store, answers names and writes records. The gates stay
 * when it ends, with the last policy; names are not answered then. The next attach takes over.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "cli/commands.h"
#include "event/loop.h"
#include "model/resource.h"
#include "store/store.h"
#include "telemetry/record.h"
#include "workload/workload.h"

struct values {
        struct weir_strv files, publish;
        const char *namespace_, *store, *dns, *log;
        bool audit, quiet, verbose;
};

#define AT(field) offsetof(struct values, field)

const struct weir_option weir_attach_option_table[] = {
        WEIR_ROW_FILE(struct values,
                      "Take the policy from these files, read once, instead of the store; - is standard input"),
        WEIR_ROW_NAMESPACE(struct values, "Namespace of what runs in the cgroup (default \"default\")"),
        WEIR_ROW_STORE(struct values),
        { "dns", NULL, 0, WEIR_OPTION_STRING, AT(dns), "MODE", "auto|gated|open|off",
          "Which names are resolved: those that rules name, all, none" },
        { "audit", NULL, 0, WEIR_OPTION_FLAG, AT(audit), NULL, NULL,
          "Let denied TCP through and record it; all else stays closed" },
        { "log", NULL, 0, WEIR_OPTION_STRING, AT(log), "FILE", NULL,
          "Append a JSON record of each flow; - is standard error" },
        { "publish", NULL, 0, WEIR_OPTION_LIST, AT(publish), "PORT", NULL,
          "Let others connect to a port of what runs in the cgroup" },
        { "quiet", NULL, 'q', WEIR_OPTION_FLAG, AT(quiet), NULL, NULL, "Do not print denials" },
        { "verbose", NULL, 'v', WEIR_OPTION_FLAG, AT(verbose), NULL, NULL, "Say what is in force" },
        { .name = NULL },
};

struct attached {
        struct values values;
        const char *cgroup;
        uint16_t published[WEIR_PUBLISHED_MAX];
        struct weir_loop *loop;
        struct weir_store *store;
        struct weir_resources resources;
        struct weir_sink *sink;
        struct weir_workload *workload;
        int log_fd, signal_fd;
        bool gone;
};

static int take_values(const struct weir_command_line *line, struct attached *a)
{
        const struct weir_strv *ports = &a->values.publish;
        int status = -1;

        if (line->n_arguments != 1)
                return weir_usage_error(line, line->n_arguments ? "more than one cgroup given" : "no cgroup given");
        if (ports->n > WEIR_PUBLISHED_MAX)
                return weir_usage_error(line, "--publish can be given %d times at most", WEIR_PUBLISHED_MAX);
        for (size_t i = 0; i < ports->n && status < 0; i++)
                status = weir_take_port(line, "--publish", ports->items[i], &a->published[i]);
        a->cgroup = line->arguments[0];
        return status;
}

static const char *namespace_of(const struct values *v)
{
        return v->namespace_ ? v->namespace_ : "default";
}

static int load(struct attached *a, struct weir_err *err)
{
        struct weir_errs errors = { 0 };
        int r = 0;

        if (a->values.files.n == 0)
                return weir_store_open(a->values.store, true, &a->store, err);
        for (size_t i = 0; i < a->values.files.n && r == 0; i++)
                r = weir_load_file(a->values.files.items[i], namespace_of(&a->values), &a->resources, &errors, err);
        if (errors.n > 0) {
                weir_auto_free char *text = weir_errs_format(&errors);

                r = weir_err_set(err, WEIR_EINVALID, "configuration is invalid: %s", text ? text : "out of memory");
        }
        weir_errs_clear(&errors);
        return r;
}

static int open_sink(struct attached *a, struct weir_err *err)
{
        const char *path = a->values.log;
        struct weir_sink_options options = { .log_fd = -1, .denials_fd = a->values.quiet ? -1 : STDERR_FILENO };
        int r;

        if (path) {
                a->log_fd = weir_streq(path, "-") ?
                                    fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) :
                                    open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
                if (a->log_fd < 0)
                        return weir_err_set(err, -errno, "cannot open the log %s: %s", path, strerror(errno));
        }
        options.log_fd = a->log_fd;
        r = weir_sink_new(&options, &a->sink);
        return r < 0 ? weir_err_set(err, r, "out of memory") : 0;
}

static void notice(void *context, bool problem, const char *text)
{
        (void)context;
        weir_log(problem ? WEIR_LOG_ERROR : WEIR_LOG_WARNING, "%s%s",
                 problem ? "the last good policy stays in force: " : "", text);
}

static void on_signal(void *context, uint64_t id, uint32_t events)
{
        struct attached *a = context;

        (void)id;
        (void)events;
        weir_loop_stop(a->loop);
}

static void on_end(void *context, uint64_t id, uint32_t events)
{
        struct attached *a = context;
        struct weir_exit end;

        (void)id;
        (void)events;
        if (weir_workload_wait_exit(a->workload, &end) != 1)
                return;
        a->gone = true;
        weir_loop_stop(a->loop);
}

static int block_signals(void)
{
        sigset_t set;

        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGTERM);
        (void)sigaddset(&set, SIGINT);
        (void)sigaddset(&set, SIGHUP);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int start(struct attached *a, struct weir_err *err)
{
        const struct weir_workload_options options = {
                .name = a->cgroup,
                .namespace_ = namespace_of(&a->values),
                .capture = &weir_capture_cgroup,
                .capture_options = {
                        .attach = a->cgroup,
                        .verbose = a->values.verbose,
                        .audit = a->values.audit,
                        .published = a->published,
                        .n_published = a->values.publish.n,
                        .version = WEIR_VERSION,
                },
                .store = a->store,
                .resources = a->store ? NULL : &a->resources,
                .dns = weir_dns_mode_parse(a->values.dns),
                .audit = a->values.audit,
                .sink = a->sink,
                .notice = notice,
        };

        return weir_workload_start(a->loop, &options, &a->workload, err);
}

static int serve(struct attached *a, struct weir_err *err)
{
        int r;

        r = weir_loop_new(&a->loop);
        if (r < 0)
                return weir_err_set(err, r, "cannot make an event loop: %s", strerror(-r));
        a->signal_fd = block_signals();
        if (a->signal_fd < 0)
                return weir_err_set(err, -errno, "cannot handle signals: %s", strerror(errno));
        r = start(a, err);
        if (r < 0)
                return r;
        (void)printf("Attached to cgroup: %s\n", a->cgroup);
        (void)fflush(stdout);
        r = weir_loop_add(a->loop, a->signal_fd, EPOLLIN, on_signal, a, 0);
        if (r == 0)
                r = weir_loop_add(a->loop, weir_workload_exit_fd(a->workload), EPOLLIN, on_end, a, 0);
        if (r == 0)
                r = weir_loop_run(a->loop);
        if (r < 0)
                return weir_err_set(err, r, "the event loop failed: %s", strerror(-r));
        if (a->gone)
                weir_log(WEIR_LOG_WARNING, "the cgroup %s is gone", a->cgroup);
        else if (!a->values.quiet)
                weir_log(WEIR_LOG_WARNING,
                         "the last policy stays in force on %s, and no name is answered there; \"weir detach %s\" ends "
                         "that",
                         a->cgroup, a->cgroup);
        return 0;
}

static void finish(struct attached *a)
{
        weir_workload_free(a->workload);
        weir_sink_free(a->sink);
        weir_loop_free(a->loop);
        weir_store_close(a->store);
        weir_resources_clear(&a->resources);
        weir_strv_clear(&a->values.files);
        weir_strv_clear(&a->values.publish);
        if (a->log_fd >= 0)
                (void)close(a->log_fd);
        if (a->signal_fd >= 0)
                (void)close(a->signal_fd);
}

int cmd_attach(int argc, char **argv)
{
        struct attached a = { .log_fd = -1, .signal_fd = -1 };
        struct weir_command_line line = { .command = weir_command_find("attach"), .values = &a.values };
        struct weir_err err = { 0 };
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status < 0)
                status = take_values(&line, &a);
        if (status < 0) {
                status = WEIR_EXIT_OK;
                if (a.values.verbose)
                        weir_log_set_level(WEIR_LOG_INFO);
                if (load(&a, &err) < 0 || open_sink(&a, &err) < 0 || serve(&a, &err) < 0)
                        status = weir_say_error(&err);
        }
        finish(&a);
        return status;
}

int cmd_detach(int argc, char **argv)
{
        struct weir_command_line line = { .command = weir_command_find("detach"), .values = &(char){ 0 } };
        struct weir_err err = { 0 };
        int status = weir_options_parse(&line, argc, argv);

        if (status >= 0)
                return status;
        if (line.n_arguments != 1)
                return weir_usage_error(&line, line.n_arguments ? "more than one cgroup given" : "no cgroup given");
        if (weir_cgroup_detach(line.arguments[0], &err) < 0)
                return weir_say_error(&err);
        (void)printf("Detached from cgroup: %s\n", line.arguments[0]);
        return WEIR_EXIT_OK;
}
