/* SPDX-License-Identifier: Apache-2.0 */
/* The options of "weir run": what the table takes as text, checked and turned into what it means. */
#include "cli/run_options.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/options.h"

#define EXIT_WEIR 125

/* As the table fills them. */
struct values {
        struct weir_strv files, unix_paths, publish;
        const char *namespace_, *store, *capture, *handoff, *dns, *log, *user;
        bool audit, stats, quiet, verbose;
};

#define AT(field) offsetof(struct values, field)

const struct weir_option weir_run_option_table[] = {
        WEIR_ROW_FILE(struct values,
                      "Take the policy from these files, read once, instead of the store; - is standard input"),
        WEIR_ROW_NAMESPACE(struct values, "Namespace of the command (default \"default\")"),
        WEIR_ROW_STORE(struct values),
        { "capture", NULL, 0, WEIR_OPTION_STRING, AT(capture), "KIND", "auto|sealed|cgroup",
          "How connections come under the policy" },
        { "handoff", NULL, 0, WEIR_OPTION_STRING, AT(handoff), "WHEN", "auto|off|require",
          "Give the command connected sockets" },
        { "dns", NULL, 0, WEIR_OPTION_STRING, AT(dns), "MODE", "auto|gated|open|off",
          "Which names are resolved: those that rules name, all, none" },
        { "audit", NULL, 0, WEIR_OPTION_FLAG, AT(audit), NULL, NULL,
          "Let denied TCP through and record it; all else stays closed" },
        { "log", NULL, 0, WEIR_OPTION_STRING, AT(log), "FILE", NULL,
          "Append a JSON record of each flow; - is standard error" },
        { "stats", NULL, 0, WEIR_OPTION_FLAG, AT(stats), NULL, NULL, "Print counters at the end" },
        { "unix", NULL, 0, WEIR_OPTION_LIST, AT(unix_paths), "PATH", NULL,
          "Keep this socket or folder of sockets reachable" },
        { "publish", NULL, 0, WEIR_OPTION_LIST, AT(publish), "PORT[:PORT]", NULL,
          "Bring connections to 127.0.0.1:PORT of the host to a port of the command" },
        { "user", NULL, 0, WEIR_OPTION_STRING, AT(user), "USER", NULL, "Run as this user (root only)" },
        { "quiet", NULL, 'q', WEIR_OPTION_FLAG, AT(quiet), NULL, NULL, "Do not print denials" },
        { "verbose", NULL, 'v', WEIR_OPTION_FLAG, AT(verbose), NULL, NULL,
          "Say what is in force and what remains reachable" },
        { .name = NULL },
};

static int parse_port(const char *text, uint16_t *ret)
{
        uint64_t port;

        if (weir_parse_uint(text, UINT16_MAX, &port) < 0 || port == 0)
                return -1;
        *ret = (uint16_t)port;
        return 0;
}

/* "PORT" or "HOST-PORT:INNER-PORT". */
static int parse_publish(const char *text, struct weir_publish *ret)
{
        char host[8];
        const char *colon = strchr(text, ':');
        size_t n = colon ? (size_t)(colon - text) : strlen(text);

        if (n >= sizeof(host))
                return -1;
        memcpy(host, text, n);
        host[n] = '\0';
        if (parse_port(host, &ret->host_port) < 0)
                return -1;
        return parse_port(colon ? colon + 1 : host, &ret->inner_port);
}

enum weir_dns_mode weir_dns_mode_parse(const char *text)
{
        static const struct {
                const char *name;
                enum weir_dns_mode mode;
        } modes[] = { { "auto", WEIR_DNS_AUTO },
                      { "gated", WEIR_DNS_GATED },
                      { "open", WEIR_DNS_OPEN },
                      { "off", WEIR_DNS_OFF } };

        for (size_t i = 0; text && i < WEIR_ARRAY_SIZE(modes); i++)
                if (weir_streq(text, modes[i].name))
                        return modes[i].mode;
        return WEIR_DNS_AUTO;
}

/* Sealed needs nothing and is the default. "auto" asks for the kernel's path where it is to be had. */
static const struct weir_capture_ops *capture_of(const char *text)
{
        if (text && (weir_streq(text, "cgroup") || (weir_streq(text, "auto") && weir_cgroup_permitted())))
                return &weir_capture_cgroup;
        return &weir_capture_sealed;
}

static enum weir_handoff_mode handoff_mode(const char *text)
{
        if (text && weir_streq(text, "off"))
                return WEIR_HANDOFF_OFF;
        return text && weir_streq(text, "require") ? WEIR_HANDOFF_REQUIRE : WEIR_HANDOFF_AUTO;
}

static int fail(const char *text)
{
        (void)fprintf(stderr, "Error: %s\n", text);
        return EXIT_WEIR;
}

static int take_publish(const struct weir_command_line *line, const struct values *v, struct weir_run_options *ret)
{
        if (v->publish.n > WEIR_RUN_PUBLISH_MAX)
                return weir_usage_error(line, "--publish can be given %d times at most", WEIR_RUN_PUBLISH_MAX);
        for (size_t i = 0; i < v->publish.n; i++)
                if (parse_publish(v->publish.items[i], &ret->publish[i]) < 0)
                        return weir_usage_error(line,
                                                "--publish takes PORT or HOST-PORT:PORT, each 1..65535, not \"%s\"",
                                                v->publish.items[i]);
        ret->n_publish = v->publish.n;
        return -1;
}

/* What this version cannot do is refused, never done half. */
static int refuse(const struct weir_command_line *line, const struct values *v)
{
        if (line->n_arguments == 0)
                return weir_usage_error(line, "no command given");
        if (v->handoff && weir_streq(v->handoff, "require") && v->capture && weir_streq(v->capture, "cgroup"))
                return fail("--handoff=require: the cgroup capture hands nothing over, for the kernel judges there");
        if (v->user && geteuid() != 0)
                return fail("--user needs root");
        return -1;
}

int weir_run_options_parse(int argc, char **argv, struct weir_run_options *ret)
{
        struct values v = { 0 };
        struct weir_command_line line = {
                .command = weir_command_find("run"),
                .values = &v,
                .stop_at_first_argument = true,
                .usage_status = EXIT_WEIR,
        };
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status < 0)
                status = refuse(&line, &v);
        if (status < 0)
                status = take_publish(&line, &v, ret);
        ret->files = v.files;
        ret->unix_paths = v.unix_paths;
        ret->namespace_ = v.namespace_;
        ret->store = v.store;
        ret->log = v.log;
        ret->user = v.user;
        ret->capture = capture_of(v.capture);
        ret->dns = weir_dns_mode_parse(v.dns);
        ret->handoff = handoff_mode(v.handoff);
        ret->audit = v.audit;
        ret->stats = v.stats;
        ret->quiet = v.quiet;
        ret->verbose = v.verbose;
        ret->argv = line.arguments;
        weir_strv_clear(&v.publish);
        return status;
}

void weir_run_options_clear(struct weir_run_options *options)
{
        weir_strv_clear(&options->files);
        weir_strv_clear(&options->unix_paths);
}
