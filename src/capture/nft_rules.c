/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The network namespace has no way out whatever these rules say; they decide where inside it a packet ends, so that
 * what Weir governs reaches Weir and the rest fails at once. Two chains, both in the output hook:
 *
 *   nat (before):  port 53, UDP and TCP, whatever the address   -> the resolver
 *                  the workload's own loopback                  -> untouched
 *                  every other TCP connection                   -> the relay
 *   filter:        what was redirected, replies, own loopback   -> accept
 *                  everything else                              -> log to NFLOG, reject
 *
 * The kernel's own ICMP errors (those of the reject rules) pass the output hook too; a workload cannot forge them,
 * because raw sockets are refused. Rejecting TCP there is the last resort: a connection that was not redirected. nft
 * runs as a program, in JSON, because its library's licence does not fit ours.
 */
#include "capture/nft_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"
#include "capture/caps.h"

#define ERRORS_MAX 4096

#define MATCH(left, right) "{\"match\":{\"op\":\"==\",\"left\":" left ",\"right\":" right "}}"
#define META(key, value) MATCH("{\"meta\":{\"key\":\"" key "\"}}", value)
#define FIELD(protocol, field, value) \
        MATCH("{\"payload\":{\"protocol\":\"" protocol "\",\"field\":\"" field "\"}}", value)
#define CT(key, op, value) "{\"match\":{\"op\":\"" op "\",\"left\":{\"ct\":{\"key\":\"" key "\"}},\"right\":" value "}}"
#define REDIRECT "{\"redirect\":{\"port\":%u}}"
#define ACCEPT "{\"accept\":null}"
#define DROP "{\"drop\":null}"
#define OWN_V4 FIELD("ip", "daddr", "{\"prefix\":{\"addr\":\"127.0.0.0\",\"len\":8}}")
#define OWN_V6 FIELD("ip6", "daddr", "\"::1\"")

static void begin_chain(struct weir_buf *buf, const char *name, const char *type, int priority, const char *policy)
{
        weir_buf_printf(buf,
                        ",{\"add\":{\"chain\":{\"family\":\"inet\",\"table\":\"weir\",\"name\":\"%s\",\"type\":\"%s\","
                        "\"hook\":\"output\","
                        "\"prio\":%d,\"policy\":\"%s\"}}}",
                        name, type, priority, policy);
}

/* @expression holds at most one %u. */
static void rule(struct weir_buf *buf, const char *chain, const char *expression, unsigned value)
        __attribute__((nonnull));
static void rule(struct weir_buf *buf, const char *chain, const char *expression, unsigned value)
{
        const char *number = strstr(expression, "%u");

        weir_buf_printf(buf, ",{\"add\":{\"rule\":{\"family\":\"inet\",\"table\":\"weir\",\"chain\":\"%s\",\"expr\":[",
                        chain);
        if (number) {
                weir_buf_add(buf, expression, (size_t)(number - expression));
                weir_buf_printf(buf, "%u%s", value, number + 2);
        } else
                weir_buf_puts(buf, expression);
        weir_buf_puts(buf, "]}}}");
}

static void nat_chain(struct weir_buf *buf, const struct weir_nft_ports *ports)
{
        begin_chain(buf, "redirect", "nat", -100, "accept");
        rule(buf, "redirect", FIELD("udp", "dport", "53") "," REDIRECT, ports->dns_udp);
        rule(buf, "redirect", FIELD("tcp", "dport", "53") "," REDIRECT, ports->dns_tcp);
        rule(buf, "redirect", OWN_V4 "," ACCEPT, 0);
        rule(buf, "redirect", OWN_V6 "," ACCEPT, 0);
        rule(buf, "redirect", META("l4proto", "\"tcp\"") "," REDIRECT, ports->relay);
}

static void filter_chain(struct weir_buf *buf, const struct weir_nft_ports *ports)
{
        begin_chain(buf, "reject", "filter", 0, "drop");
        rule(buf, "reject", CT("state", "in", "[\"established\",\"related\"]") "," ACCEPT, 0);
        rule(buf, "reject", CT("status", "in", "\"dnat\"") "," ACCEPT, 0);
        rule(buf, "reject", OWN_V4 "," ACCEPT, 0);
        rule(buf, "reject", OWN_V6 "," ACCEPT, 0);
        rule(buf, "reject", FIELD("icmp", "type", "\"destination-unreachable\"") "," ACCEPT, 0);
        rule(buf, "reject", FIELD("icmpv6", "type", "\"destination-unreachable\"") "," ACCEPT, 0);
        /* The tail of a connection that conntrack has forgotten is nobody's attempt to reach something. */
        rule(buf, "reject", META("l4proto", "\"tcp\"") "," CT("state", "in", "\"invalid\"") "," DROP, 0);
        rule(buf, "reject", "{\"log\":{\"group\":%u,\"snaplen\":128,\"queue-threshold\":1}}", ports->log_group);
        rule(buf, "reject", META("l4proto", "\"tcp\"") ",{\"reject\":{\"type\":\"tcp reset\"}}", 0);
        rule(buf, "reject", "{\"reject\":{\"type\":\"icmpx\",\"expr\":\"admin-prohibited\"}}", 0);
}

char *weir_nft_ruleset(const struct weir_nft_ports *ports)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        weir_buf_puts(&buf, "{\"nftables\":[{\"add\":{\"table\":{\"family\":\"inet\",\"name\":\"weir\"}}}");
        nat_chain(&buf, ports);
        filter_chain(&buf, ports);
        weir_buf_puts(&buf, "]}\n");
        return weir_buf_take(&buf);
}

/* The system's folders alone: a folder in the caller's PATH is often the caller's own, and a workload that had put an
 * nft there would have the next run start it before its boundary stands. */
static void exec_nft(bool is_json)
{
        static const char *const places[] = { "/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft",
                                              "/run/current-system/sw/bin/nft" };
        char name[] = "nft", json[] = "-j", file[] = "-f", input[] = "-", locale[] = "LC_ALL=C";
        char *const argv[] = { name, file, input, is_json ? json : NULL, NULL };
        char *const environment[] = { locale, NULL };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(places); i++)
                (void)execve(places[i], argv, environment);
}

static void run_nft(int input, int errors, bool is_json) __attribute__((noreturn));
static void run_nft(int input, int errors, bool is_json)
{
        sigset_t none;
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

        (void)sigemptyset(&none);
        if (null < 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0 || dup2(input, STDIN_FILENO) < 0 ||
            dup2(null, STDOUT_FILENO) < 0 || dup2(errors, STDERR_FILENO) < 0 || weir_caps_pass_on(CAP_NET_ADMIN) < 0) {
                (void)dprintf(errors, "cannot prepare nft: %s", strerror(errno));
                _exit(1);
        }
        exec_nft(is_json);
        /* Told in the exit status: 127 is nft's absence, as a shell would say it. */
        _exit(errno == ENOENT ? 127 : 126);
}

static int start(const char *ruleset, int input[2], int errors[2], struct weir_nft *ret_nft)
{
        pid_t pid = fork();
        int r;

        if (pid < 0)
                return -errno;
        if (pid == 0)
                run_nft(input[0], errors[1], ruleset[0] == '{');
        (void)close(TAKE_FD(input[0]));
        /* The ruleset is far below a pipe's capacity, so this cannot wait for nft; a dead nft tells its reason at the
         * end. */
        r = weir_fd_write_all(input[1], ruleset, strlen(ruleset));
        if (r < 0 && r != -EPIPE)
                return r;
        *ret_nft = (struct weir_nft){ .pid = pid, .errors = TAKE_FD(errors[0]) };
        return 0;
}

int weir_nft_start(const char *ruleset, struct weir_nft *ret_nft, struct weir_err *err)
{
        int input[2] = { -1, -1 }, errors[2] = { -1, -1 };
        int r = 0;

        if (pipe2(input, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0)
                r = -errno;
        if (r == 0)
                r = start(ruleset, input, errors, ret_nft);
        for (size_t i = 0; i < 2; i++) {
                weir_close_cleanup(&input[i]);
                weir_close_cleanup(&errors[i]);
        }
        return r < 0 ? weir_err_set(err, r, "cannot run nft: %s", strerror(-r)) : 0;
}

/* nft's first line, without its line and column notes, which nobody could look up. */
static void first_line(char *text)
{
        size_t n = strcspn(text, "\n");

        text[n] = '\0';
        for (size_t i = 0; i < n; i++)
                if (text[i] < ' ' || text[i] > '~')
                        text[i] = '?';
}

static int reap(pid_t pid)
{
        int status;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return status;
}

int weir_nft_finish(struct weir_nft *nft, struct weir_err *err)
{
        weir_auto_close int errors = TAKE_FD(nft->errors);
        weir_auto_free char *text = NULL;
        size_t n = 0;
        int status;

        if (weir_fd_slurp(errors, ERRORS_MAX, &text, &n) < 0)
                text = NULL;
        status = reap(nft->pid);
        if (status < 0)
                return weir_err_set(err, status, "cannot wait for nft: %s", strerror(-status));
        if (status == 0)
                return 0;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "nft is missing from the system's folders (/usr/sbin and the like): install "
                                    "nftables (apt-get install "
                                    "nftables, dnf install nftables)");
        if (text)
                first_line(text);
        return weir_err_set(
                err, WEIR_EUNSUPPORTED,
                "nft cannot load Weir's rules (the kernel needs nf_tables with nat, reject and log: as root, "
                "modprobe -a nf_tables nft_chain_nat nft_redir nft_reject_inet nft_log nfnetlink_log nft_ct): %s",
                text && text[0] ? text : "no message");
}

int weir_nft_run(const char *ruleset, struct weir_err *err)
{
        struct weir_nft nft;
        int r;

        r = weir_nft_start(ruleset, &nft, err);
        return r < 0 ? r : weir_nft_finish(&nft, err);
}
