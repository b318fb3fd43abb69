/* SPDX-License-Identifier: Apache-2.0 */
/* weir kube-inject: pods with weir-init and weir-proxy, as text. Nothing is written unless all of it may be. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/fd.h"
#include "cli/commands.h"
#include "inject/inject.h"
#include "model/outline.h"

struct values {
        struct weir_strv files;
        const char *output, *image, *pull_policy, *uid;
        const char *include_ranges, *exclude_ranges, *include_ports, *exclude_ports;
        bool allow_exclusions;
};

#define AT(field) offsetof(struct values, field)

const struct weir_option weir_kube_inject_option_table[] = {
        WEIR_ROW_FILE(struct values, "Kubernetes objects, YAML or JSON; - for standard input"),
        { "output", NULL, 'o', WEIR_OPTION_STRING, AT(output), "OUT", NULL, "Write here instead of standard output" },
        { "image", NULL, 0, WEIR_OPTION_STRING, AT(image), "NAME", NULL, "Image of both containers (weir:VERSION)" },
        { "imagePullPolicy", NULL, 0, WEIR_OPTION_STRING, AT(pull_policy), "POLICY", "IfNotPresent|Always|Never",
          "When the image is fetched" },
        { "sidecarProxyUID", NULL, 0, WEIR_OPTION_STRING, AT(uid), "UID", NULL, "User of both containers (1337)" },
        { "includeIPRanges", NULL, 0, WEIR_OPTION_STRING, AT(include_ranges), "LIST", NULL,
          "Judge TCP to these ranges only, the rest leaves unchecked; * is all (*)" },
        { "excludeIPRanges", NULL, 0, WEIR_OPTION_STRING, AT(exclude_ranges), "LIST", NULL,
          "Let TCP to these ranges leave unchecked" },
        { "includeOutboundPorts", NULL, 0, WEIR_OPTION_STRING, AT(include_ports), "LIST", NULL,
          "Judge TCP to these ports whatever the address" },
        { "excludeOutboundPorts", NULL, 0, WEIR_OPTION_STRING, AT(exclude_ports), "LIST", NULL,
          "Let TCP to these ports leave unchecked" },
        { "allow-exclusions", NULL, 0, WEIR_OPTION_FLAG, AT(allow_exclusions), NULL, NULL,
          "Let annotations of a pod exempt some of its traffic" },
        { .name = NULL },
};

/* Checked as the annotation of the same meaning is. */
static int check_list(const struct weir_command_line *line, const char *option, const char *annotation,
                      const char *value)
{
        weir_auto_free char *said = NULL;
        bool no_memory = false;

        if (!value)
                return -1;
        said = weir_inject_annotation_complaint(annotation, value, &no_memory);
        if (no_memory)
                return weir_say_out_of_memory();
        if (!said)
                return -1;
        return weir_usage_error(line, "%s: %s", option, strstr(said, "': ") ? strstr(said, "': ") + 3 : said);
}

static int take_values(const struct weir_command_line *line, const struct values *v, struct weir_inject_options *ret)
{
        uint64_t uid = WEIR_INJECT_UID;
        int status = line->n_arguments ? weir_usage_error(line, "unexpected \"%s\"", line->arguments[0]) : -1;

        if (status < 0 && v->files.n != 1)
                status = weir_usage_error(line, "-f FILE is needed, once");
        if (status < 0 && v->uid && (weir_parse_uint(v->uid, INT32_MAX, &uid) < 0 || uid == 0))
                status = weir_usage_error(line, "--sidecarProxyUID takes a user's number above 0, not \"%s\"", v->uid);
        if (status < 0)
                status = check_list(line, "--includeIPRanges", "traffic.sidecar.istio.io/includeOutboundIPRanges",
                                    v->include_ranges);
        if (status < 0)
                status = check_list(line, "--excludeIPRanges", "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                                    v->exclude_ranges);
        if (status < 0)
                status = check_list(line, "--includeOutboundPorts", "traffic.sidecar.istio.io/includeOutboundPorts",
                                    v->include_ports);
        if (status < 0)
                status = check_list(line, "--excludeOutboundPorts", "traffic.sidecar.istio.io/excludeOutboundPorts",
                                    v->exclude_ports);
        *ret = (struct weir_inject_options){
                .image = v->image ? v->image : "weir:" WEIR_VERSION,
                .pull_policy = v->pull_policy ? v->pull_policy : "IfNotPresent",
                .uid = (uint32_t)uid,
                .include_ranges = v->include_ranges,
                .exclude_ranges = v->exclude_ranges && v->exclude_ranges[0] ? v->exclude_ranges : NULL,
                .include_ports = v->include_ports && v->include_ports[0] ? v->include_ports : NULL,
                .exclude_ports = v->exclude_ports && v->exclude_ports[0] ? v->exclude_ports : NULL,
                .allow_exclusions = v->allow_exclusions,
        };
        return status;
}

static int slurp(const char *path, char **ret, size_t *ret_n)
{
        if (weir_streq(path, "-"))
                return weir_fd_slurp(STDIN_FILENO, WEIR_OUTLINE_BYTES_MAX, ret, ret_n);
        return weir_file_slurp(AT_FDCWD, path, WEIR_OUTLINE_BYTES_MAX, ret, ret_n);
}

static int write_out(const char *path, const struct weir_buf *out)
{
        weir_auto_close int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666) :
                                        fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        int r = fd < 0 ? -errno : out->length ? weir_fd_write_all(fd, out->data, out->length) : 0;

        if (r < 0)
                return weir_say_text("cannot write %s: %s", path ? path : "standard output", strerror(-r));
        return WEIR_EXIT_OK;
}

static int inject(const struct values *v, const struct weir_inject_options *options)
{
        weir_auto(buf) struct weir_buf out = { 0 };
        weir_auto_free char *bytes = NULL;
        struct weir_errs errors = { 0 };
        struct weir_strv notes = { 0 };
        size_t n = 0;
        int r, status;

        r = slurp(v->files.items[0], &bytes, &n);
        if (r < 0)
                return weir_say_text("cannot read %s: %s", v->files.items[0], strerror(-r));
        r = weir_inject(bytes, n, v->files.items[0], options, &out, &errors, &notes);
        for (size_t i = 0; i < notes.n; i++)
                (void)fprintf(stderr, "%s\n", notes.items[i]);
        if (options->exclude_ranges || options->exclude_ports ||
            (options->include_ranges && !weir_streq(options->include_ranges, "*")))
                (void)fputs("Warning: some TCP of these pods leaves unchecked, as the options say\n", stderr);
        if (errors.total > 0)
                status = weir_say_invalid(&errors);
        else if (r < 0)
                status = weir_say_text("cannot inject %s: %s", v->files.items[0], strerror(-r));
        else
                status = write_out(v->output, &out);
        weir_errs_clear(&errors);
        weir_strv_clear(&notes);
        return status;
}

int cmd_kube_inject(int argc, char **argv)
{
        struct values v = { 0 };
        struct weir_command_line line = { .command = weir_command_find("kube-inject"), .values = &v };
        struct weir_inject_options options;
        int status;

        status = weir_options_parse(&line, argc, argv);
        if (status < 0)
                status = take_values(&line, &v, &options);
        if (status < 0)
                status = inject(&v, &options);
        weir_strv_clear(&v.files);
        return status;
}
