/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doctor's proof of one capture.
 *
 * Theory of operation
 *
 * A canary listens on an address of this host: TCP of both families and UDP, each in a socket of its own. Another
 * listener on the loopback is what the throw-away workload's policy allows, by a rule that leads there (STATIC). The
 * same program is run twice: without Weir, to see what reaches the canary on this machine at all; and as the workload,
 * when nothing may. A raw datagram is told from an ordinary one by its sender's port, which no ordinary one has.
 *
 * What a way that was not to be had without Weir proves is nothing, and is said so; it must be stopped all the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"
#include "cli/doctor.h"
#include "event/loop.h"
#include "model/resource.h"
#include "telemetry/record.h"
#include "workload/workload.h"

#define SELF "/proc/self/exe"
#define ALLOWED "192.0.2.1" /* RFC 5737: nobody's, so that the rule alone leads anywhere */
#define TRIAL_SECONDS 30
#define RAW_PORT 9
#define TAKEN_MAX 16

enum { TCP4, TCP6, UDP4, GOOD, LISTENERS };

struct trial {
        struct weir_doctor_plan plan;
        int listeners[LISTENERS], said[2], taken[TAKEN_MAX];
        size_t n_taken;
        struct weir_loop *loop;
        bool arrived[WEIR_WAY_COUNT], over;
        struct weir_workload *workload;
        char text[64];
        size_t length;
};

static int listen_on(const struct weir_addr *addr, int type, uint16_t *ret_port, struct weir_err *err)
{
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(addr, 0, &sa);
        weir_auto_close int fd = socket(sa.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct weir_addr bound;

        if (fd < 0 || bind(fd, (struct sockaddr *)&sa, length) < 0 || (type == SOCK_STREAM && listen(fd, 16) < 0) ||
            getsockname(fd, (struct sockaddr *)&sa, &length) < 0 ||
            weir_addr_from_sockaddr((struct sockaddr *)&sa, length, &bound, ret_port) < 0)
                return weir_err_set(err, -errno, "cannot listen for what gets out: %s", strerror(errno));
        return TAKE_FD(fd);
}

static bool is_link_local(const struct weir_addr *addr)
{
        return addr->bytes[0] == 0xfe && (addr->bytes[1] & 0xc0) == 0x80;
}

/* An address of this host for each family, not of the loopback where it has another. */
static void choose(struct weir_doctor_plan *plan)
{
        struct weir_addr *all = NULL;
        bool has4 = false, has6 = false;
        size_t n = 0;

        if (weir_host_addresses(&all, &n) < 0)
                n = 0;
        for (size_t i = 0; i < n; i++) {
                if (weir_addr_is_v4(&all[i]) && !has4) {
                        plan->canary4 = all[i];
                        has4 = true;
                } else if (!weir_addr_is_v4(&all[i]) && !has6 && !is_link_local(&all[i])) {
                        plan->canary6 = all[i];
                        has6 = true;
                }
        }
        free(all);
        if (!has4 && weir_addr_parse("127.0.0.1", &plan->canary4) < 0)
                return;
        if (!has6 && weir_addr_parse("::1", &plan->canary6) < 0)
                return;
}

static int open_canary(struct trial *t, struct weir_err *err)
{
        struct weir_addr loopback;
        struct weir_err ignored = { 0 };
        uint16_t port = 0;

        choose(&t->plan);
        t->listeners[TCP4] = listen_on(&t->plan.canary4, SOCK_STREAM, &t->plan.tcp, err);
        if (t->listeners[TCP4] < 0)
                return t->listeners[TCP4];
        t->listeners[UDP4] = listen_on(&t->plan.canary4, SOCK_DGRAM, &t->plan.udp, err);
        if (t->listeners[UDP4] < 0)
                return t->listeners[UDP4];
        /* A machine without IPv6 has nothing to prove there. */
        t->listeners[TCP6] = listen_on(&t->plan.canary6, SOCK_STREAM, &t->plan.tcp6, &ignored);
        t->plan.has_canary6 = t->listeners[TCP6] >= 0;
        if (weir_addr_parse(ALLOWED, &t->plan.allowed) < 0 || weir_addr_parse("127.0.0.1", &loopback) < 0)
                return -EINVAL;
        t->listeners[GOOD] = listen_on(&loopback, SOCK_STREAM, &port, err);
        t->plan.allowed_port = port;
        return t->listeners[GOOD] < 0 ? t->listeners[GOOD] : 0;
}

/* Whether a connection came. Each is answered with a byte and kept to the end: to close it over what it was sent would
 * reset it, and the answer would be lost. */
static bool take_connections(struct trial *t, int listener)
{
        bool any = false;

        for (;;) {
                int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (fd < 0)
                        return any;
                any = true;
                if (send(fd, "x", 1, MSG_NOSIGNAL) != 1 || t->n_taken == TAKEN_MAX)
                        (void)close(fd);
                else
                        t->taken[t->n_taken++] = fd;
        }
}

static void take_datagrams(struct trial *t)
{
        struct sockaddr_in from;
        socklen_t length = sizeof(from);
        char byte;

        while (recvfrom(t->listeners[UDP4], &byte, 1, 0, (struct sockaddr *)&from, &length) >= 0) {
                t->arrived[ntohs(from.sin_port) == RAW_PORT ? WEIR_WAY_RAW : WEIR_WAY_UDP] = true;
                length = sizeof(from);
        }
}

static void look(struct trial *t)
{
        if (take_connections(t, t->listeners[TCP4]))
                t->arrived[WEIR_WAY_ADDRESS] = true;
        if (t->listeners[TCP6] >= 0 && take_connections(t, t->listeners[TCP6]))
                t->arrived[WEIR_WAY_IPV6] = true;
        (void)take_connections(t, t->listeners[GOOD]);
        take_datagrams(t);
}

static void on_canary(void *context, uint64_t id, uint32_t events)
{
        (void)id;
        (void)events;
        look(context);
}

static void on_said(void *context, uint64_t id, uint32_t events)
{
        struct trial *t = context;
        ssize_t n = read(t->said[0], t->text + t->length, sizeof(t->text) - 1 - t->length);

        (void)id;
        (void)events;
        if (n > 0)
                t->length += (size_t)n;
        t->text[t->length] = '\0';
        if (n > 0 && t->length < sizeof(t->text) - 1 && !strstr(t->text, "end"))
                return;
        weir_loop_del(t->loop, t->said[0]);
        t->over = true;
}

static bool read_said(const struct trial *t, struct weir_doctor_said *ret)
{
        int allowed;

        *ret = (struct weir_doctor_said){ 0 };
        ret->complete = sscanf(t->text, "%u %d end", &ret->answered, &allowed) == 2;
        ret->allowed = ret->complete && allowed;
        return ret->complete;
}

static int begin(struct trial *t, struct weir_err *err)
{
        int r;

        memset(t->arrived, 0, sizeof(t->arrived));
        t->over = false;
        t->length = 0;
        if (pipe2(t->said, O_CLOEXEC) < 0)
                return weir_err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
        r = weir_fd_set_nonblock(t->said[0], true);
        if (r == 0)
                r = weir_loop_new(&t->loop);
        if (r == 0)
                r = weir_loop_add(t->loop, t->said[0], EPOLLIN, on_said, t, 0);
        for (size_t i = 0; i < LISTENERS && r == 0; i++)
                if (t->listeners[i] >= 0)
                        r = weir_loop_add(t->loop, t->listeners[i], EPOLLIN, on_canary, t, 0);
        return r < 0 ? weir_err_set(err, r, "cannot make an event loop: %s", strerror(-r)) : 0;
}

/* Turns until the one inside has said all; what is on its way to the canary then is waited for a moment. */
static void turn(struct trial *t)
{
        for (int i = 0; i < TRIAL_SECONDS * 10 && !t->over; i++)
                if (weir_loop_once(t->loop, 100) < 0)
                        break;
        if (weir_loop_once(t->loop, 50) < 0)
                return;
        look(t);
}

static void end(struct trial *t)
{
        weir_workload_free(t->workload);
        t->workload = NULL;
        weir_loop_free(t->loop);
        t->loop = NULL;
        while (t->n_taken > 0)
                (void)close(t->taken[--t->n_taken]);
        weir_close_cleanup(&t->said[0]);
        weir_close_cleanup(&t->said[1]);
        t->said[0] = t->said[1] = -1;
}

/* Runs @body with standard output on the pipe, which the program inside inherits. */
static int with_output(struct trial *t, int (*body)(struct trial *t, void *context, struct weir_err *err),
                       void *context, struct weir_err *err)
{
        weir_auto_close int kept = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        int r;

        (void)fflush(stdout);
        if (dup2(t->said[1], STDOUT_FILENO) < 0)
                return weir_err_set(err, -errno, "cannot redirect standard output: %s", strerror(errno));
        r = body(t, context, err);
        if (kept < 0 || dup2(kept, STDOUT_FILENO) < 0)
                (void)close(STDOUT_FILENO);
        weir_close_cleanup(&t->said[1]);
        t->said[1] = -1;
        return r;
}

static int start_outside(struct trial *t, void *context, struct weir_err *err)
{
        pid_t *pid = context;

        *pid = fork();
        if (*pid == 0) {
                struct weir_doctor_plan plan = t->plan;
                int status;

                plan.allowed_port = 0;
                status = weir_doctor_inside(&plan);

                (void)fflush(stdout);
                _exit(status);
        }
        return *pid < 0 ? weir_err_set(err, -errno, "cannot start a process: %s", strerror(errno)) : 0;
}

static int control(struct trial *t, struct weir_doctor_proof *ret, struct weir_err *err)
{
        struct weir_doctor_said said;
        pid_t pid = -1;
        int r;

        r = begin(t, err);
        if (r == 0)
                r = with_output(t, start_outside, &pid, err);
        if (r == 0) {
                turn(t);
                while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                        ;
                (void)read_said(t, &said);
                memcpy(ret->passed, t->arrived, sizeof(ret->passed));
                ret->passed[WEIR_WAY_ICMP] = said.answered & 1U << WEIR_WAY_ICMP;
                /* A server of names that could be asked for this is not part of the machine. */
                ret->passed[WEIR_WAY_NAME] = false;
        }
        end(t);
        return r;
}

static int policy(const struct trial *t, struct weir_resources *ret, struct weir_err *err)
{
        struct weir_errs errors = { 0 };
        weir_auto_free char *text =
                weir_asprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: doctor\n  "
                              "namespace: default\n"
                              "spec:\n  hosts:\n  - doctor.weir.test\n  addresses:\n  - " ALLOWED
                              "\n  ports:\n  - number: %u\n    name: tcp\n"
                              "    protocol: TCP\n  resolution: STATIC\n  endpoints:\n  - address: 127.0.0.1\n",
                              t->plan.allowed_port);
        int r;

        if (!text)
                return weir_err_set(err, -ENOMEM, "out of memory");
        r = weir_resources_read(text, strlen(text), "doctor", ret, &errors, NULL);
        if (r < 0)
                r = weir_err_set(err, r, "%s", errors.n ? errors.items[0].text : "out of memory");
        weir_errs_clear(&errors);
        return r;
}

struct start {
        const struct weir_capture_ops *capture;
        const struct weir_resources *resources;
        struct weir_sink *sink;
        bool verbose;
};

static int start_inside(struct trial *t, void *context, struct weir_err *err)
{
        const struct start *start = context;
        weir_auto_free char *plan = weir_doctor_plan_format(&t->plan);
        char self[] = SELF, doctor[] = "doctor", inside[] = "--inside";
        char *const argv[] = { self, doctor, inside, plan, NULL };
        const char *const nothing[] = { NULL };
        const struct weir_workload_options options = {
                .name = "doctor",
                .namespace_ = "default",
                .capture = start->capture,
                .capture_options = { .argv = argv,
                                     .protect = nothing,
                                     .unix_paths = nothing,
                                     .verbose = start->verbose,
                                     .version = WEIR_VERSION },
                .resources = start->resources,
                .dns = WEIR_DNS_GATED,
                .sink = start->sink,
        };

        if (!plan)
                return weir_err_set(err, -ENOMEM, "out of memory");
        return weir_workload_start(t->loop, &options, &t->workload, err);
}

static int attempt(struct trial *t, const struct start *start, struct weir_doctor_proof *ret, struct weir_err *err)
{
        struct weir_err why = { 0 };
        struct weir_doctor_said said;
        int r;

        r = begin(t, err);
        if (r == 0 && with_output(t, start_inside, (void *)(uintptr_t)start, &why) < 0)
                (void)snprintf(ret->why, sizeof(ret->why), "%s", why.text);
        if (r == 0 && t->workload) {
                turn(t);
                ret->started = read_said(t, &said);
                if (!ret->started)
                        (void)snprintf(ret->why, sizeof(ret->why), "the program inside did not come to its end");
                ret->allowed = said.allowed;
                for (size_t way = 0; way < WEIR_WAY_COUNT; way++)
                        ret->stopped[way] = ret->started && !t->arrived[way] && !(said.answered & 1U << way);
        }
        end(t);
        return r;
}

bool weir_doctor_holds(const struct weir_doctor_proof *proof)
{
        bool holds = proof->started && proof->allowed;

        for (size_t way = 0; way < WEIR_WAY_COUNT; way++)
                holds = holds && proof->stopped[way];
        return holds;
}

int weir_doctor_prove(const struct weir_capture_ops *capture, bool verbose, struct weir_doctor_proof *ret,
                      struct weir_err *err)
{
        struct trial t = { .listeners = { -1, -1, -1, -1 }, .said = { -1, -1 } };
        struct weir_doctor_proof proof = { .capture = capture->name };
        struct weir_sink_options quiet = { .log_fd = -1, .denials_fd = -1 };
        struct weir_resources resources = { 0 };
        struct start start = { .capture = capture, .resources = &resources, .verbose = verbose };
        int r;

        r = open_canary(&t, err);
        if (r == 0)
                r = policy(&t, &resources, err);
        if (r == 0 && weir_sink_new(&quiet, &start.sink) < 0)
                r = weir_err_set(err, -ENOMEM, "out of memory");
        if (r == 0)
                r = control(&t, &proof, err);
        if (r == 0)
                r = attempt(&t, &start, &proof, err);
        weir_sink_free(start.sink);
        weir_resources_clear(&resources);
        for (size_t i = 0; i < LISTENERS; i++)
                weir_close_cleanup(&t.listeners[i]);
        if (r == 0)
                *ret = proof;
        return r;
}
