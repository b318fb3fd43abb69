/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weir run: a command that can reach only what the policy names.
 *
 * Theory of operation
 *
 * Everything that can be wrong is found before the command exists: options, files, store, log, the machine's abilities;
 * each of them ends in 125 and one line. Then the workload is started and the loop turns until the command is gone.
 * Weir itself stays in the command's process group and session, so that the terminal treats both as one job: what the
 * terminal sends reaches the command by itself, what a process sends to Weir is passed on, and when the command stops,
 * Weir stops too.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/gate.h"
#include "base/log.h"
#include "base/strutil.h"
#include "capture/mounts.h"
#include "cli/commands.h"
#include "cli/run_options.h"
#include "cli/terminal.h"
#include "event/loop.h"
#include "model/resource.h"
#include "store/store.h"
#include "telemetry/record.h"
#include "workload/workload.h"

#define EXIT_WEIR 125
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND 127

struct run {
        struct weir_run_options options;
        struct weir_loop *loop;
        struct weir_store *store;
        struct weir_resources resources;
        struct weir_sink *sink;
        struct weir_workload *workload;
        struct weir_terminal terminal;
        sigset_t signal_mask;
        struct weir_strv protect;
        char *own_namespace;
        int log_fd, signal_fd, exit_fd;
        bool started, ended;
        struct weir_exit exit;
};

static int say(const struct weir_err *err)
{
        (void)weir_say_error(err);
        return EXIT_WEIR;
}

/* With -f the store need not even be readable. */
static int find_namespace(struct run *run, struct weir_err *err)
{
        struct weir_err ignored = { 0 };
        int r;

        if (run->options.namespace_)
                return 0;
        r = weir_store_namespace(run->options.store, &run->own_namespace, run->options.files.n ? &ignored : err);
        if (r < 0 && run->options.files.n == 0)
                return r;
        run->options.namespace_ = r < 0 ? "default" : run->own_namespace;
        return 0;
}

/* A pipe, as from <(...), is read once and gone. */
static bool is_regular(const char *path)
{
        struct stat st;

        return !weir_streq(path, "-") && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static int load_files(struct run *run, struct weir_err *err)
{
        struct weir_errs errors = { 0 };
        int r = 0;

        if (weir_input_twice(&run->options.files))
                return weir_err_set(err, WEIR_EINVALID, "standard input (-f -) can be read only once");
        for (size_t i = 0; i < run->options.files.n && r == 0; i++) {
                r = weir_load_file(run->options.files.items[i], run->options.namespace_, &run->resources, &errors, err);
                if (r == 0 && is_regular(run->options.files.items[i]))
                        r = weir_strv_add(&run->protect, run->options.files.items[i]);
        }
        if (errors.n > 0) {
                weir_auto_free char *text = weir_errs_format(&errors);

                r = weir_err_set(err, WEIR_EINVALID, "configuration is invalid: %s", text ? text : "out of memory");
        }
        weir_errs_clear(&errors);
        return r;
}

/* The stores that a run without options will obey: the environment's and the one that needs no naming. What cannot be
 * opened or made is of no use to the workload either. */
static int protect_others(struct run *run)
{
        weir_auto_free char *standard = weir_store_standard();
        const char *const specs[] = { getenv("WEIR_STORE"), standard };
        int r = 0;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(specs) && r == 0 && WEIR_GATE(OTHER_STORES); i++) {
                weir_auto(store) struct weir_store *store = NULL;
                struct weir_err ignored = { 0 };

                if (!specs[i] || !specs[i][0] || weir_store_open(specs[i], WEIR_GATE(STORE_MADE), &store, &ignored) < 0)
                        continue;
                if (!run->store || !weir_streq(weir_store_path(store), weir_store_path(run->store)))
                        r = weir_store_protect(store, &run->protect);
        }
        return r;
}

/*
 * The store is made if it is missing, even where -f is used: a folder that does not exist cannot be protected, and a
 * workload that could make it would write the policy of the next run.
 */
static int open_store(struct run *run, struct weir_err *err)
{
        struct weir_err ignored = { 0 };
        int r;

        r = weir_store_open(run->options.store, WEIR_GATE(STORE_MADE), &run->store, err);
        if (r < 0)
                r = weir_store_open(run->options.store, false, &run->store, run->options.files.n ? &ignored : err);
        if (r < 0 && run->options.files.n == 0)
                return r;
        r = run->store ? weir_store_protect(run->store, &run->protect) : 0;
        if (r == 0)
                r = protect_others(run);
        return r < 0 ? weir_err_set(err, r, "out of memory") : 0;
}

/* Descriptors above the standard streams through which the command could write into the log: the pipe of >(...) is one.
 * Closed when the command is executed. */
static void keep_log_to_ourselves(const struct run *run, const struct stat *log)
{
        const struct dirent *entry;
        DIR *dir = opendir("/proc/self/fd");

        while (dir && (entry = readdir(dir))) {
                struct stat st;
                uint64_t fd;

                if (weir_parse_uint(entry->d_name, INT32_MAX, &fd) == 0 && (int)fd > STDERR_FILENO &&
                    (int)fd != run->log_fd && fstat((int)fd, &st) == 0 && st.st_dev == log->st_dev &&
                    st.st_ino == log->st_ino)
                        (void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
        }
        if (dir)
                (void)closedir(dir);
}

/* Whether @path leads to @log by folders: a pipe behind /dev/fd/N has no place that could be protected. */
static bool has_place(const char *path, const struct stat *log)
{
        weir_auto_free char *real = realpath(path, NULL);
        struct stat st;

        return real && stat(real, &st) == 0 && st.st_dev == log->st_dev && st.st_ino == log->st_ino;
}

static int open_log(struct run *run, struct weir_err *err)
{
        const char *path = run->options.log;
        struct stat st;

        if (!path)
                return 0;
        run->log_fd = weir_streq(path, "-") ?
                              fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) :
                              open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
        if (run->log_fd < 0)
                return weir_err_set(err, -errno, "cannot open the log %s: %s", path,
                                    errno == ENXIO ? "nobody reads this pipe" : strerror(errno));
        if (weir_streq(path, "-") || fstat(run->log_fd, &st) < 0 || !WEIR_GATE(HELD_LOG))
                return 0;
        keep_log_to_ourselves(run, &st);
        if (S_ISREG(st.st_mode) || (S_ISFIFO(st.st_mode) && has_place(path, &st)))
                return weir_strv_add(&run->protect, path);
        return 0;
}

/* A link at home or where work goes on cannot be held. This run is safe from it; a later one that follows it is not. */
static int warn_of_links(const struct run *run, struct weir_err *err)
{
        int r = 0;

        for (size_t i = 0; i < run->protect.n && r == 0; i++) {
                weir_auto(buf) struct weir_buf shown = { 0 };
                weir_auto_free char *link = NULL;

                r = weir_mounts_loose_link(run->protect.items[i], &link, err);
                if (!link || run->options.quiet)
                        continue;
                weir_buf_escape(&shown, link, strlen(link));
                weir_log(WEIR_LOG_WARNING,
                         "%s is a symbolic link that the command could replace: a later run would find what it put "
                         "there; name the real path",
                         shown.data ? shown.data : "?");
        }
        return r;
}

static bool denials_held(void *context)
{
        (void)context;
        return weir_terminal_raw();
}

static int open_sink(struct run *run, struct weir_err *err)
{
        struct weir_sink_options options = {
                .log_fd = run->log_fd,
                .denials_fd = run->options.quiet ? -1 : STDERR_FILENO,
                .held = denials_held,
        };
        int r = weir_sink_new(&options, &run->sink);

        return r < 0 ? weir_err_set(err, r, "out of memory") : 0;
}

/* Only root has a user to become. The workload then has that user's id and nothing of root's. */
static int become_user(const char *name, struct weir_err *err)
{
        const struct passwd *pw;
        uint64_t id;

        if (!name)
                return 0;
        errno = 0;
        pw = weir_parse_uint(name, UINT32_MAX - 1, &id) == 0 ? getpwuid((uid_t)id) : getpwnam(name);
        if (!pw)
                return weir_err_set(err, -ENOENT, "--user: there is no user %s", name);
        if (initgroups(pw->pw_name, pw->pw_gid) < 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
            setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0)
                return weir_err_set(err, -errno, "--user: cannot become %s: %s", name, strerror(errno));
        if (setenv("HOME", pw->pw_dir, 1) < 0 || setenv("USER", pw->pw_name, 1) < 0 ||
            setenv("LOGNAME", pw->pw_name, 1) < 0)
                return weir_err_set(err, -ENOMEM, "out of memory");
        /* setresuid() took this away, and the id maps of the new namespace could not be written. */
        (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
        return 0;
}

static void notice(void *context, bool problem, const char *text)
{
        (void)context;
        weir_log(problem ? WEIR_LOG_ERROR : WEIR_LOG_WARNING, "%s%s",
                 problem ? "the last good policy stays in force: " : "", text);
}

static void on_signal(void *context, uint64_t id, uint32_t events)
{
        struct run *run = context;
        struct signalfd_siginfo info;

        (void)id;
        (void)events;
        while (read(run->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
                if (weir_signal_act(&info) == WEIR_SIGNAL_PASS_ON)
                        (void)weir_workload_kill(run->workload, (int)info.ssi_signo);
}

static void stop(void)
{
        (void)raise(SIGSTOP);
}

static void on_exit_event(void *context, uint64_t id, uint32_t events)
{
        struct run *run = context;

        (void)id;
        (void)events;
        while (!run->ended && weir_workload_wait_exit(run->workload, &run->exit) == 1) {
                if (run->exit.exec_errno == 0 && WIFSTOPPED(run->exit.status)) {
                        /* The job stops as one; SIGCONT reaches the whole group, and from a lone kill(1) it is passed
                         * on. */
                        weir_workload_pause(run->workload, stop);
                        (void)weir_workload_kill(run->workload, SIGCONT);
                        continue;
                }
                run->ended = true;
                weir_loop_stop(run->loop);
        }
}

static bool in_kernel(const struct run *run)
{
        return run->options.capture == &weir_capture_cgroup;
}

/*
 * Where the network is the host's, a published port is on the host's loopback already and is only let be; another
 * number on the host needs a listener as elsewhere. @ports: WEIR_RUN_PUBLISH_MAX of them.
 */
static void publish_in_kernel(struct run *run, struct weir_workload_options *options, uint16_t *ports)
{
        size_t n = 0;

        for (size_t i = 0; i < run->options.n_publish; i++) {
                const struct weir_publish publish = run->options.publish[i];

                ports[i] = publish.inner_port;
                if (publish.host_port != publish.inner_port)
                        run->options.publish[n++] = publish;
        }
        options->capture_options.published = ports;
        options->capture_options.n_published = run->options.n_publish;
        options->n_publish = n;
}

static int start(struct run *run, struct weir_err *err)
{
        weir_auto_free char *name = weir_asprintf("run-%d", (int)getpid());
        struct weir_workload_options options = {
                .name = name,
                .namespace_ = run->options.namespace_,
                .capture = run->options.capture,
                .capture_options = {
                        .argv = run->options.argv,
                        .signal_mask = &run->signal_mask,
                        .verbose = run->options.verbose,
                        .user = run->options.user,
                        .audit = run->options.audit,
                        .version = WEIR_VERSION,
                        .handoff = run->options.handoff,
                },
                .store = run->options.files.n ? NULL : run->store,
                .resources = run->options.files.n ? &run->resources : NULL,
                .dns = run->options.dns,
                .audit = run->options.audit,
                .log_answers = run->log_fd >= 0,
                .publish = run->options.publish,
                .n_publish = run->options.n_publish,
                .sink = run->sink,
                .notice = notice,
        };
        uint16_t ports[WEIR_RUN_PUBLISH_MAX];
        int r;

        if (in_kernel(run))
                publish_in_kernel(run, &options, ports);
        if (!name || weir_strv_terminate(&run->protect) < 0 || weir_strv_terminate(&run->options.unix_paths) < 0)
                return weir_err_set(err, -ENOMEM, "out of memory");
        r = weir_signals_block(&run->signal_mask);
        if (r < 0)
                return weir_err_set(err, r, "cannot block signals: %s", strerror(-r));
        options.capture_options.protect = (const char *const *)run->protect.items;
        options.capture_options.unix_paths = (const char *const *)run->options.unix_paths.items;
        return weir_workload_start(run->loop, &options, &run->workload, err);
}

/* Each flow takes two descriptors, and pipes while bytes wait: as many as the machine lets this user have. Only once
 * the command has started, which keeps the limit it was given. */
static void raise_descriptors(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
                return;
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* What holds, for who asked with -v. */
static void tell(const struct run *run)
{
        const struct weir_policy *policy = weir_workload_policy(run->workload);
        static const char *const modes[] = {
                [WEIR_DNS_AUTO] = "auto", [WEIR_DNS_GATED] = "gated", [WEIR_DNS_OPEN] = "open", [WEIR_DNS_OFF] = "off"
        };

        const char *why, *path = weir_workload_path(run->workload, &why);

        weir_log(WEIR_LOG_INFO, "capture %s, dns %s, %zu rules from %s, policy %.12s", run->options.capture->name,
                 modes[weir_policy_dns_mode(policy, run->options.dns)], weir_policy_n_rules(policy),
                 run->options.files.n ? "-f" : weir_store_path(run->store), weir_policy_digest(policy));
        weir_log(WEIR_LOG_INFO, "path %s: %s", path, why);
}

static int follow(struct run *run, struct weir_err *err)
{
        int r;

        tell(run);
        /* The command shares standard error, and could fill the pipe that nobody reads. */
        weir_log_never_block();
        raise_descriptors();
        run->signal_fd = weir_signals_open();
        if (run->signal_fd < 0)
                return weir_err_set(err, run->signal_fd, "cannot handle signals: %s", strerror(-run->signal_fd));
        run->exit_fd = weir_workload_exit_fd(run->workload);
        r = weir_loop_add(run->loop, run->signal_fd, EPOLLIN, on_signal, run, 0);
        if (r == 0)
                r = weir_loop_add(run->loop, run->exit_fd, EPOLLIN, on_exit_event, run, 0);
        if (r == 0)
                r = weir_loop_run(run->loop);
        return r < 0 ? weir_err_set(err, r, "the event loop failed: %s", strerror(-r)) : 0;
}

static int exit_status(const struct run *run)
{
        const char *command = run->options.argv[0];

        if (run->exit.exec_errno) {
                (void)fprintf(stderr, "Error: cannot run %s: %s\n", command, strerror(run->exit.exec_errno));
                return run->exit.exec_errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
        }
        if (WIFSIGNALED(run->exit.status))
                return 128 + WTERMSIG(run->exit.status);
        return WEXITSTATUS(run->exit.status);
}

static void warn_of_root(const struct run *run)
{
        if (!in_kernel(run))
                weir_log(WEIR_LOG_WARNING, "running as root: sealed is no boundary against root; use --user USER");
        else if (!run->options.user)
                weir_log(WEIR_LOG_WARNING, "the command stays root: its packets are held, but it can change files that "
                                           "others run; use --user USER");
}

static int prepare(struct run *run, struct weir_err *err)
{
        int r;

        /* The kernel's guards ask Weir to stay root; the command alone becomes the user. */
        r = in_kernel(run) ? 0 : become_user(run->options.user, err);
        if (r == 0)
                r = find_namespace(run, err);
        if (r == 0)
                r = load_files(run, err);
        if (r == 0)
                r = open_store(run, err);
        if (r == 0)
                r = open_log(run, err);
        if (r == 0)
                r = warn_of_links(run, err);
        if (r == 0)
                r = open_sink(run, err);
        if (r == 0) {
                r = weir_loop_new(&run->loop);
                if (r < 0)
                        (void)weir_err_set(err, r, "cannot make an event loop: %s", strerror(-r));
        }
        if (r == 0 && geteuid() == 0 && !run->options.quiet)
                warn_of_root(run);
        return r;
}

static void finish(struct run *run)
{
        weir_workload_free(run->workload);
        weir_terminal_restore(&run->terminal);
        if (run->sink) {
                weir_sink_release(run->sink);
                if (run->options.stats)
                        weir_sink_print_stats(run->sink, STDERR_FILENO);
        }
        weir_sink_free(run->sink);
        weir_loop_free(run->loop);
        weir_store_close(run->store);
        weir_resources_clear(&run->resources);
        weir_strv_clear(&run->protect);
        weir_run_options_clear(&run->options);
        free(run->own_namespace);
        if (run->log_fd >= 0)
                (void)close(run->log_fd);
        if (run->signal_fd >= 0)
                (void)close(run->signal_fd);
}

int cmd_run(int argc, char **argv)
{
        struct run run = { .log_fd = -1, .signal_fd = -1, .exit_fd = -1, .terminal.fd = -1 };
        struct weir_err err = { 0 };
        int status;

        status = weir_run_options_parse(argc, argv, &run.options);
        if (status >= 0) {
                weir_run_options_clear(&run.options);
                return status;
        }
        if (run.options.verbose)
                weir_log_set_level(WEIR_LOG_INFO);
        weir_terminal_open(&run.terminal);
        if (prepare(&run, &err) < 0 || start(&run, &err) < 0 || follow(&run, &err) < 0)
                status = say(&err);
        else
                status = exit_status(&run);
        finish(&run);
        return status;
}
