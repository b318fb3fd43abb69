/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The network namespace has no way out whatever these rules say; they decide where inside it a packet ends, so that
 * what Weir governs reaches Weir and the rest fails at once. The resolver listens on port 53 of every address, and
 * every address is local: a query reaches it without a rule. For the rest there are two ways. TPROXY:
 *
 *   divert (prerouting):  port 53, and the workload's own loopback   -> untouched
 *                         every other new TCP connection             -> the relay
 *   reject (output):      TCP, port 53 of UDP, own loopback          -> accept
 *                         everything else                            -> log to NFLOG, reject
 *
 * A diverted connection keeps its addresses: the rule chooses the listener for its SYN, and what follows finds its own
 * socket. No packet is rewritten or tracked, which would cost as much as the rest of the way over the loopback, and a
 * workload cannot fill the kernel's table of tracked connections. All TCP may pass the output hook, because prerouting
 * is where it comes next.
 *
 * REDIRECT, for kernels without nft_tproxy, rewrites the destination in the output hook and remembers it by connection
 * tracking; TCP that was not redirected is rejected as a last resort.
 *
 * The kernel's own ICMP errors (those of the reject rules) pass the output hook too; a workload cannot forge them,
 * because raw sockets are refused. nft runs as a program, in JSON, because its library's licence does not fit ours.
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
#include "base/gate.h"
#include "base/strutil.h"
#include "capture/caps.h"

#define ERRORS_MAX 4096

#define MATCH(left, right) "{\"match\":{\"op\":\"==\",\"left\":" left ",\"right\":" right "}}"
#define META(key, value) MATCH("{\"meta\":{\"key\":\"" key "\"}}", value)
#define FIELD(protocol, field, value) \
        MATCH("{\"payload\":{\"protocol\":\"" protocol "\",\"field\":\"" field "\"}}", value)
#define CT(key, op, value) "{\"match\":{\"op\":\"" op "\",\"left\":{\"ct\":{\"key\":\"" key "\"}},\"right\":" value "}}"
#define REDIRECT "{\"redirect\":{\"port\":%u}}"
#define TCP META("l4proto", "\"tcp\"")
#define TCP_NOT_NEW                                                                                            \
        "{\"match\":{\"op\":\"!=\",\"left\":{\"&\":[{\"payload\":{\"protocol\":\"tcp\",\"field\":\"flags\"}}," \
        "[\"syn\",\"ack\"]]},\"right\":\"syn\"}}"
#define DIVERT_V4 \
        META("nfproto", "\"ipv4\"") ",{\"tproxy\":{\"family\":\"ip\",\"addr\":\"127.0.0.1\",\"port\":%u}}," ACCEPT
#define DIVERT_V6 META("nfproto", "\"ipv6\"") ",{\"tproxy\":{\"family\":\"ip6\",\"addr\":\"::1\",\"port\":%u}}," ACCEPT
#define ACCEPT "{\"accept\":null}"
#define DROP "{\"drop\":null}"
#define OWN_V4 FIELD("ip", "daddr", "{\"prefix\":{\"addr\":\"127.0.0.0\",\"len\":8}}")
#define OWN_V6 FIELD("ip6", "daddr", "\"::1\"")

static void begin_chain(struct weir_buf *buf, const char *name, const char *type, const char *hook, int priority,
                        const char *policy)
{
        weir_buf_printf(buf,
                        ",{\"add\":{\"chain\":{\"family\":\"inet\",\"table\":\"weir\",\"name\":\"%s\",\"type\":\"%s\","
                        "\"hook\":\"%s\","
                        "\"prio\":%d,\"policy\":\"%s\"}}}",
                        name, type, hook, priority, policy);
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

static void divert_chain(struct weir_buf *buf, const struct weir_nft_ports *ports)
{
        begin_chain(buf, "divert", "filter", "prerouting", -150, "accept");
        /* First what most packets are: of a connection that has its socket. */
        rule(buf, "divert", TCP_NOT_NEW "," ACCEPT, 0);
        rule(buf, "divert", FIELD("tcp", "dport", "53") "," ACCEPT, 0);
        rule(buf, "divert", OWN_V4 "," ACCEPT, 0);
        rule(buf, "divert", OWN_V6 "," ACCEPT, 0);
        rule(buf, "divert", TCP "," DIVERT_V4, ports->relay);
        rule(buf, "divert", TCP "," DIVERT_V6, ports->relay);
}

static void redirect_chain(struct weir_buf *buf, const struct weir_nft_ports *ports)
{
        begin_chain(buf, "redirect", "nat", "output", -100, "accept");
        rule(buf, "redirect", FIELD("tcp", "dport", "53") "," ACCEPT, 0);
        rule(buf, "redirect", OWN_V4 "," ACCEPT, 0);
        rule(buf, "redirect", OWN_V6 "," ACCEPT, 0);
        rule(buf, "redirect", TCP "," REDIRECT, ports->relay);
}

static void accept_redirected(struct weir_buf *buf)
{
        rule(buf, "reject", CT("state", "in", "[\"established\",\"related\"]") "," ACCEPT, 0);
        rule(buf, "reject", CT("status", "in", "\"dnat\"") "," ACCEPT, 0);
        rule(buf, "reject", FIELD("tcp", "dport", "53") "," ACCEPT, 0);
}

static void reject_chain(struct weir_buf *buf, const struct weir_nft_ports *ports, enum weir_nft_way way)
{
        begin_chain(buf, "reject", "filter", "output", 0, "drop");
        if (way == WEIR_NFT_TPROXY)
                rule(buf, "reject", TCP "," ACCEPT, 0);
        else
                accept_redirected(buf);
        /* Queries, and the resolver's answers: no other socket can have that port, which takes a capability. */
        rule(buf, "reject", FIELD("udp", "dport", "53") "," ACCEPT, 0);
        rule(buf, "reject", FIELD("udp", "sport", "53") "," ACCEPT, 0);
        rule(buf, "reject", OWN_V4 "," ACCEPT, 0);
        rule(buf, "reject", OWN_V6 "," ACCEPT, 0);
        rule(buf, "reject", FIELD("icmp", "type", "\"destination-unreachable\"") "," ACCEPT, 0);
        rule(buf, "reject", FIELD("icmpv6", "type", "\"destination-unreachable\"") "," ACCEPT, 0);
        /* The tail of a connection that conntrack has forgotten is nobody's attempt to reach something. */
        if (way == WEIR_NFT_REDIRECT)
                rule(buf, "reject", TCP "," CT("state", "in", "\"invalid\"") "," DROP, 0);
        if (WEIR_GATE(REJECT_RECORDS))
                rule(buf, "reject", "{\"log\":{\"group\":%u,\"snaplen\":128,\"queue-threshold\":1}}", ports->log_group);
        if (way == WEIR_NFT_REDIRECT)
                rule(buf, "reject", TCP ",{\"reject\":{\"type\":\"tcp reset\"}}", 0);
        rule(buf, "reject", "{\"reject\":{\"type\":\"icmpx\",\"expr\":\"admin-prohibited\"}}", 0);
}

char *weir_nft_ruleset(const struct weir_nft_ports *ports, enum weir_nft_way way)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        weir_buf_puts(&buf, "{\"nftables\":[{\"add\":{\"table\":{\"family\":\"inet\",\"name\":\"weir\"}}}");
        if (WEIR_GATE(REDIRECT_RULES)) {
                if (way == WEIR_NFT_TPROXY)
                        divert_chain(&buf, ports);
                else
                        redirect_chain(&buf, ports);
        }
        if (WEIR_GATE(REJECT_RULES))
                reject_chain(&buf, ports, way);
        weir_buf_puts(&buf, "]}\n");
        return weir_buf_take(&buf);
}

/* The system's folders alone: a folder in the caller's PATH is often the caller's own, and a workload that had put an
 * nft there would have the next run start it before its boundary stands. */
const char *const weir_nft_places[] = {
        "/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft", "/run/current-system/sw/bin/nft", NULL
};

static void exec_nft(bool is_json)
{
        char name[] = "nft", json[] = "-j", file[] = "-f", input[] = "-", locale[] = "LC_ALL=C";
        char *const argv[] = { name, file, input, is_json ? json : NULL, NULL };
        char *const environment[] = { locale, NULL };

        for (size_t i = 0; weir_nft_places[i]; i++)
                (void)execve(weir_nft_places[i], argv, environment);
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
