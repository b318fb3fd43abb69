/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weir proxy: the relay and resolver of a pod, beside its application.
 *
 * Theory of operation
 *
 * weir init has laid rules that bring everything here and let nothing past. The proxy opens its own door in them, gives
 * up the capability that took, and serves until SIGTERM; then it takes no new connections, says that it is not ready,
 * and ends when the last flow has ended or the time for that is over. A second SIGTERM ends it at once. If it dies, the
 * rules stay: what it would have judged is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "admin/http.h"
#include "base/err.h"
#include "base/log.h"
#include "base/time.h"
#include "capture/redirect.h"
#include "cli/commands.h"
#include "event/loop.h"
#include "model/resource.h"
#include "store/store.h"
#include "telemetry/metrics.h"
#include "telemetry/record.h"
#include "workload/workload.h"

#define DRAIN_SECONDS 10
/* How often a drain looks whether it is done. */
#define DRAIN_STEP_NS (50 * WEIR_MS)

struct values {
        struct weir_strv files;
        const char *namespace_, *store, *dns, *log, *exempt, *drain, *resolvers, *relay_port, *dns_port, *admin_port;
        bool quiet;
};

#define AT(field) offsetof(struct values, field)

const struct weir_option weir_proxy_option_table[] = {
        WEIR_ROW_FILE(struct values, "Take the policy from these files, read once, instead of the store"),
        WEIR_ROW_NAMESPACE(struct values, "Namespace of the pod ($POD_NAMESPACE, else \"default\")"),
        WEIR_ROW_STORE(struct values),
        { "dns", NULL, 0, WEIR_OPTION_STRING, AT(dns), "MODE", "auto|gated|open|off",
          "Which names are resolved: those that rules name, all, none" },
        { "log", NULL, 0, WEIR_OPTION_STRING, AT(log), "FILE", NULL,
          "Append a JSON record of each flow; - is standard error" },
        { "quiet", NULL, 'q', WEIR_OPTION_FLAG, AT(quiet), NULL, NULL, "Do not print denials" },
        { "exempt", NULL, 0, WEIR_OPTION_STRING, AT(exempt), "HOW", "auto|cgroup|mark",
          "How the rules tell the proxy from the workload" },
        { "drain", NULL, 0, WEIR_OPTION_STRING, AT(drain), "SECONDS", NULL,
          "How long live connections may go on after SIGTERM (10)" },
        { "resolvers", NULL, 0, WEIR_OPTION_STRING, AT(resolvers), "FILE", NULL,
          "The name servers to ask, as weir init kept them, instead of /etc/resolv.conf" },
        { "relay-port", NULL, 0, WEIR_OPTION_STRING, AT(relay_port), "PORT", NULL,
          "Port that weir init brings TCP to (15001)" },
        { "dns-port", NULL, 0, WEIR_OPTION_STRING, AT(dns_port), "PORT", NULL,
          "Port that weir init brings DNS to (15053)" },
        { "admin-port", NULL, 0, WEIR_OPTION_STRING, AT(admin_port), "PORT", NULL,
          "Port for health and metrics (15020)" },
        { .name = NULL },
};

struct proxy {
        struct values values;
        uint16_t relay_port, dns_port, admin_port;
        uint64_t drain_ns, drain_until_ns;
        struct weir_loop *loop;
        struct weir_store *store;
        struct weir_resources resources;
        struct weir_sink *sink;
        struct weir_workload *workload;
        struct weir_admin *admin;
        struct weir_timer *drain;
        int log_fd, signal_fd;
        bool draining;
};

static int take_values(const struct weir_command_line *line, struct proxy *proxy)
{
        const struct values *v = &proxy->values;
        uint64_t seconds = DRAIN_SECONDS;
        int status = line->n_arguments ? weir_usage_error(line, "unexpected \"%s\"", line->arguments[0]) : -1;

        if (status < 0)
                status = weir_take_port(line, "--relay-port", v->relay_port, &proxy->relay_port);
        if (status < 0)
                status = weir_take_port(line, "--dns-port", v->dns_port, &proxy->dns_port);
        if (status < 0)
                status = weir_take_port(line, "--admin-port", v->admin_port, &proxy->admin_port);
        if (status < 0 && v->drain && weir_parse_uint(v->drain, 86400, &seconds) < 0)
                status = weir_usage_error(line, "--drain takes seconds, 0..86400, not \"%s\"", v->drain);
        proxy->drain_ns = seconds * WEIR_SEC;
        return status;
}

static const char *namespace_of(const struct values *v)
{
        const char *given = v->namespace_ ? v->namespace_ : getenv("POD_NAMESPACE");

        return given && given[0] ? given : "default";
}

static enum weir_exempt exempt_of(const struct values *v)
{
        if (v->exempt && weir_streq(v->exempt, "cgroup"))
                return WEIR_EXEMPT_CGROUP;
        return v->exempt && weir_streq(v->exempt, "mark") ? WEIR_EXEMPT_MARK : WEIR_EXEMPT_AUTO;
}

static int load(struct proxy *proxy, struct weir_err *err)
{
        struct weir_errs errors = { 0 };
        int r = 0;

        if (proxy->values.files.n == 0)
                return weir_store_open(proxy->values.store, false, &proxy->store, err);
        for (size_t i = 0; i < proxy->values.files.n && r == 0; i++)
                r = weir_load_file(proxy->values.files.items[i], namespace_of(&proxy->values), &proxy->resources,
                                   &errors, err);
        if (errors.n > 0) {
                weir_auto_free char *text = weir_errs_format(&errors);

                r = weir_err_set(err, WEIR_EINVALID, "configuration is invalid: %s", text ? text : "out of memory");
        }
        weir_errs_clear(&errors);
        return r;
}

static int open_sink(struct proxy *proxy, struct weir_err *err)
{
        const char *path = proxy->values.log;
        struct weir_sink_options options = { .log_fd = -1, .denials_fd = proxy->values.quiet ? -1 : STDERR_FILENO };
        int r;

        if (path) {
                proxy->log_fd = weir_streq(path, "-") ?
                                        fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) :
                                        open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
                if (proxy->log_fd < 0)
                        return weir_err_set(err, -errno, "cannot open the log %s: %s", path, strerror(errno));
        }
        options.log_fd = proxy->log_fd;
        r = weir_sink_new(&options, &proxy->sink);
        return r < 0 ? weir_err_set(err, r, "out of memory") : 0;
}

static void notice(void *context, bool problem, const char *text)
{
        (void)context;
        weir_log(problem ? WEIR_LOG_ERROR : WEIR_LOG_WARNING, "%s%s",
                 problem ? "the last good policy stays in force: " : "", text);
}

static bool is_ready(void *context)
{
        const struct proxy *proxy = context;

        return proxy->workload && !proxy->draining;
}

static void write_metrics(void *context, struct weir_buf *buf)
{
        const struct proxy *proxy = context;
        struct weir_gauges gauges = { .version = WEIR_VERSION };

        if (proxy->workload) {
                gauges.flows = weir_workload_n_flows(proxy->workload);
                gauges.rules = weir_policy_n_rules(weir_workload_policy(proxy->workload));
                gauges.generation = weir_policy_generation(weir_workload_policy(proxy->workload));
        }
        weir_metrics_write(weir_sink_counters(proxy->sink), &gauges, buf);
}

static const struct weir_admin_ops admin_ops = { .ready = is_ready, .metrics = write_metrics };

static void on_drain(void *context)
{
        struct proxy *proxy = context;
        uint64_t now = weir_loop_now(proxy->loop);

        if (weir_workload_n_flows(proxy->workload) == 0 || now >= proxy->drain_until_ns)
                weir_loop_stop(proxy->loop);
        else
                weir_timer_set(proxy->drain, now + DRAIN_STEP_NS);
}

static void on_signal(void *context, uint64_t id, uint32_t events)
{
        struct proxy *proxy = context;
        struct signalfd_siginfo info;

        (void)id;
        (void)events;
        if (read(proxy->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
                return;
        if (proxy->draining) {
                weir_loop_stop(proxy->loop);
                return;
        }
        proxy->draining = true;
        proxy->drain_until_ns = weir_loop_now(proxy->loop) + proxy->drain_ns;
        weir_workload_drain(proxy->workload);
        on_drain(proxy);
}

static int watch_signals(struct proxy *proxy)
{
        sigset_t set;

        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGTERM);
        (void)sigaddset(&set, SIGINT);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        proxy->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (proxy->signal_fd < 0)
                return -errno;
        return weir_loop_add(proxy->loop, proxy->signal_fd, EPOLLIN, on_signal, proxy, 0);
}

/* Each flow takes two descriptors, and pipes while bytes wait. */
static void raise_descriptors(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
                return;
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int start_workload(struct proxy *proxy, struct weir_err *err)
{
        const char *pod = getenv("POD_NAME");
        struct weir_workload_options options = {
                .name = pod && pod[0] ? pod : "pod",
                .namespace_ = namespace_of(&proxy->values),
                .capture = &weir_capture_redirect,
                .capture_options = {
                        .relay_port = proxy->relay_port,
                        .dns_port = proxy->dns_port,
                        .exempt = exempt_of(&proxy->values),
                },
                .store = proxy->store,
                .resources = proxy->store ? NULL : &proxy->resources,
                .resolv_conf = proxy->values.resolvers,
                .dns = weir_dns_mode_parse(proxy->values.dns),
                .sink = proxy->sink,
                .notice = notice,
        };

        return weir_workload_start(proxy->loop, &options, &proxy->workload, err);
}

static int serve(struct proxy *proxy, struct weir_err *err)
{
        int listener, r;

        r = weir_loop_new(&proxy->loop);
        if (r == 0)
                r = weir_timer_new(proxy->loop, on_drain, proxy, &proxy->drain);
        if (r < 0)
                return weir_err_set(err, r, "cannot make an event loop: %s", strerror(-r));
        r = start_workload(proxy, err);
        if (r < 0)
                return r;
        weir_log_never_block();
        raise_descriptors();
        listener = weir_admin_listen(proxy->admin_port, err);
        if (listener < 0)
                return listener;
        r = weir_admin_new(proxy->loop, listener, &admin_ops, proxy, &proxy->admin);
        if (r < 0)
                (void)close(listener);
        if (r == 0)
                r = watch_signals(proxy);
        if (r == 0)
                r = weir_loop_run(proxy->loop);
        return r < 0 ? weir_err_set(err, r, "the event loop failed: %s", strerror(-r)) : 0;
}

static void finish(struct proxy *proxy)
{
        weir_admin_free(proxy->admin);
        weir_workload_free(proxy->workload);
        weir_sink_free(proxy->sink);
        weir_timer_free(proxy->drain);
        weir_loop_free(proxy->loop);
        weir_store_close(proxy->store);
        weir_resources_clear(&proxy->resources);
        weir_strv_clear(&proxy->values.files);
        if (proxy->log_fd >= 0)
                (void)close(proxy->log_fd);
        if (proxy->signal_fd >= 0)
                (void)close(proxy->signal_fd);
}

int cmd_proxy(int argc, char **argv)
{
        struct proxy proxy = { .relay_port = WEIR_REDIRECT_RELAY_PORT,
                               .dns_port = WEIR_REDIRECT_DNS_PORT,
                               .admin_port = WEIR_REDIRECT_ADMIN_PORT,
                               .log_fd = -1,
                               .signal_fd = -1 };
        struct weir_command_line line = { .command = weir_command_find("proxy"), .values = &proxy.values };
        struct weir_err err = { 0 };
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status < 0)
                status = take_values(&line, &proxy);
        if (status < 0) {
                status = WEIR_EXIT_OK;
                if (load(&proxy, &err) < 0 || open_sink(&proxy, &err) < 0 || serve(&proxy, &err) < 0)
                        status = weir_say_error(&err);
        }
        finish(&proxy);
        return status;
}
