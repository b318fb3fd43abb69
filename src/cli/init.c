/* SPDX-License-Identifier: Apache-2.0 */
/* weir init: the rules of a pod's network namespace, laid before anything else in the pod runs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "capture/redirect.h"
#include "cli/commands.h"

struct values {
        const char *relay_port, *dns_port, *admin_port;
        const char *include_ranges, *exclude_ranges, *include_ports, *exclude_ports;
        const char *keep_resolvers;
        struct weir_strv admit;
        bool print;
};

#define AT(field) offsetof(struct values, field)

const struct weir_option weir_init_option_table[] = {
        { "relay-port", NULL, 0, WEIR_OPTION_STRING, AT(relay_port), "PORT", NULL,
          "Port of weir proxy that TCP is brought to (15001)" },
        { "dns-port", NULL, 0, WEIR_OPTION_STRING, AT(dns_port), "PORT", NULL,
          "Port of weir proxy that DNS is brought to (15053)" },
        { "admin-port", NULL, 0, WEIR_OPTION_STRING, AT(admin_port), "PORT", NULL,
          "Port of weir proxy for health and metrics (15020)" },
        { "admit", NULL, 0, WEIR_OPTION_LIST, AT(admit), "CIDR", NULL,
          "Who may reach the admin port besides the default gateways; may be repeated" },
        { "include-ranges", NULL, 0, WEIR_OPTION_STRING, AT(include_ranges), "LIST", NULL,
          "Judge TCP to these ranges only, the rest leaves unchecked; * is all (*)" },
        { "exclude-ranges", NULL, 0, WEIR_OPTION_STRING, AT(exclude_ranges), "LIST", NULL,
          "Let TCP to these ranges leave unchecked" },
        { "include-ports", NULL, 0, WEIR_OPTION_STRING, AT(include_ports), "LIST", NULL,
          "Judge TCP to these ports whatever the address" },
        { "exclude-ports", NULL, 0, WEIR_OPTION_STRING, AT(exclude_ports), "LIST", NULL,
          "Let TCP to these ports leave unchecked" },
        { "keep-resolvers", NULL, 0, WEIR_OPTION_STRING, AT(keep_resolvers), "FILE", NULL,
          "Keep the name servers of /etc/resolv.conf here, for weir proxy; one that is there stays" },
        { "print", NULL, 0, WEIR_OPTION_FLAG, AT(print), NULL, NULL, "Print the rules for nft instead of laying them" },
        { .name = NULL },
};

struct lists {
        struct weir_prefix include[WEIR_REDIRECT_LIST_MAX], exclude[WEIR_REDIRECT_LIST_MAX],
                admit[WEIR_REDIRECT_ADMIT_MAX];
        uint16_t include_ports[WEIR_REDIRECT_LIST_MAX], exclude_ports[WEIR_REDIRECT_LIST_MAX];
};

int weir_take_port(const struct weir_command_line *line, const char *option, const char *text, uint16_t *ret)
{
        uint64_t port;

        if (!text)
                return -1;
        if (weir_parse_uint(text, UINT16_MAX, &port) < 0 || port == 0)
                return weir_usage_error(line, "%s takes a port, 1..65535, not \"%s\"", option, text);
        *ret = (uint16_t)port;
        return -1;
}

/* Calls @take for each part between commas; an empty text has none. */
static int each(const char *text, int (*take)(const char *part, void *context, size_t i), void *context, size_t *ret_n)
{
        weir_auto_free char *copy = strdup(text ? text : "");
        char *rest = copy, *part;

        *ret_n = 0;
        if (!copy)
                return -1;
        while (copy[0] && (part = strsep(&rest, ","))) {
                if (*ret_n == WEIR_REDIRECT_LIST_MAX || take(part, context, *ret_n) < 0)
                        return -1;
                ++*ret_n;
        }
        return 0;
}

static int take_range(const char *part, void *context, size_t i)
{
        struct weir_prefix *items = context;

        return weir_prefix_parse(part, &items[i], NULL);
}

static int take_one_port(const char *part, void *context, size_t i)
{
        uint16_t *items = context;
        uint64_t port;

        if (weir_parse_uint(part, UINT16_MAX, &port) < 0)
                return -1;
        items[i] = (uint16_t)port;
        return 0;
}

static int take_ranges(const struct weir_command_line *line, const char *option, const char *text,
                       struct weir_prefix *items, struct weir_redirect_ranges *ret)
{
        ret->items = items;
        return each(text, take_range, items, &ret->n) == 0 ?
                       -1 :
                       weir_usage_error(line, "%s takes at most %d CIDRs between commas, not \"%s\"", option,
                                        WEIR_REDIRECT_LIST_MAX, text);
}

static int take_ports(const struct weir_command_line *line, const char *option, const char *text, uint16_t *items,
                      struct weir_redirect_ports *ret)
{
        ret->items = items;
        return each(text, take_one_port, items, &ret->n) == 0 ?
                       -1 :
                       weir_usage_error(line, "%s takes at most %d ports between commas, not \"%s\"", option,
                                        WEIR_REDIRECT_LIST_MAX, text);
}

static int take_admit(const struct weir_command_line *line, const struct values *v, struct lists *lists,
                      struct weir_redirect_layout *layout)
{
        layout->admit.items = lists->admit;
        for (size_t i = 0; i < v->admit.n; i++) {
                const char *text = v->admit.items[i];

                if (i == WEIR_REDIRECT_ADMIT_MAX)
                        return weir_usage_error(line, "--admit can be given %d times at most", WEIR_REDIRECT_ADMIT_MAX);
                if (weir_prefix_parse(text, &lists->admit[i], NULL) < 0)
                        return weir_usage_error(line, "--admit takes an address or CIDR, not \"%s\"", text);
                layout->admit.n++;
        }
        return -1;
}

static int take_values(const struct weir_command_line *line, const struct values *v, struct lists *lists,
                       struct weir_redirect_layout *layout)
{
        int status = line->n_arguments ? weir_usage_error(line, "unexpected \"%s\"", line->arguments[0]) : -1;

        layout->include_all = !v->include_ranges || weir_streq(v->include_ranges, "*");
        if (status < 0)
                status = weir_take_port(line, "--relay-port", v->relay_port, &layout->relay_port);
        if (status < 0)
                status = weir_take_port(line, "--dns-port", v->dns_port, &layout->dns_port);
        if (status < 0)
                status = weir_take_port(line, "--admin-port", v->admin_port, &layout->admin_port);
        if (status < 0)
                status = take_admit(line, v, lists, layout);
        if (status < 0)
                status = take_ranges(line, "--include-ranges", layout->include_all ? "" : v->include_ranges,
                                     lists->include, &layout->include);
        if (status < 0)
                status = take_ranges(line, "--exclude-ranges", v->exclude_ranges, lists->exclude, &layout->exclude);
        if (status < 0)
                status = take_ports(line, "--include-ports", v->include_ports, lists->include_ports,
                                    &layout->include_ports);
        if (status < 0)
                status = take_ports(line, "--exclude-ports", v->exclude_ports, lists->exclude_ports,
                                    &layout->exclude_ports);
        return status;
}

static int print(const struct weir_redirect_layout *layout)
{
        weir_auto_free char *text = weir_redirect_ruleset(layout);

        if (!text)
                return weir_say_out_of_memory();
        (void)fputs(text, stdout);
        return WEIR_EXIT_OK;
}

/*
 * The containers of a pod share one file as their /etc/resolv.conf, and may write it. What it says now, before any of
 * them has run, is the cluster's word; what it says later would be the workload's. So a copy that is there is never
 * replaced, not even if the kubelet should run this container again.
 */
static int keep_resolvers(const char *path)
{
        weir_auto_free char *text = NULL, *fresh = NULL;
        weir_auto_close int fd = -1;
        size_t n;
        int r;

        if (!path || access(path, F_OK) == 0)
                return WEIR_EXIT_OK;
        r = weir_file_slurp(AT_FDCWD, "/etc/resolv.conf", 65536, &text, &n);
        if (r < 0)
                return weir_say_text("cannot read /etc/resolv.conf: %s", strerror(-r));
        fresh = weir_asprintf("%s~", path);
        if (!fresh)
                return weir_say_out_of_memory();
        fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        r = fd < 0 ? -errno : weir_fd_write_all(fd, text, n);
        if (r == 0 && rename(fresh, path) < 0)
                r = -errno;
        return r < 0 ? weir_say_text("cannot keep the name servers in %s: %s", path, strerror(-r)) : WEIR_EXIT_OK;
}

static int lay(const struct weir_redirect_layout *layout)
{
        weir_auto_free char *warning = NULL;
        struct weir_err err = { 0 };

        if (weir_redirect_lay(layout, &warning, &err) < 0)
                return weir_say_error(&err);
        if (warning)
                weir_log(WEIR_LOG_WARNING, "%s", warning);
        if (!layout->include_all || layout->exclude.n || layout->exclude_ports.n)
                weir_log(WEIR_LOG_WARNING, "exclusions are in force: some TCP leaves this pod unchecked");
        return WEIR_EXIT_OK;
}

int cmd_init(int argc, char **argv)
{
        struct values v = { 0 };
        struct weir_command_line line = { .command = weir_command_find("init"), .values = &v };
        struct weir_redirect_layout layout = { .relay_port = WEIR_REDIRECT_RELAY_PORT,
                                               .dns_port = WEIR_REDIRECT_DNS_PORT,
                                               .admin_port = WEIR_REDIRECT_ADMIN_PORT };
        weir_auto_free struct lists *lists = calloc(1, sizeof(*lists));
        int status;

        if (!lists)
                return weir_say_out_of_memory();
        status = weir_options_parse(&line, argc, argv);
        if (status < 0)
                status = take_values(&line, &v, lists, &layout);
        if (status < 0) {
                status = v.print ? print(&layout) : keep_resolvers(v.keep_resolvers);
                if (status == WEIR_EXIT_OK && !v.print)
                        status = lay(&layout);
        }
        weir_strv_clear(&v.admit);
        return status;
}
