/* SPDX-License-Identifier: Apache-2.0 */
/* weir explain: what happens to a connection and which rule decides, from the same compiled policy that "run"
 * enforces. */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/err.h"
#include "capture/capture.h"
#include "cli/commands.h"
#include "policy/policy.h"
#include "store/store.h"
#include "workload/workload.h"

/* The rows that every such command has fill the common part, which stands first. */
struct values {
        struct weir_common_options common;
        bool capabilities;
};

const struct weir_option weir_explain_option_table[] = {
        WEIR_ROW_FILE(struct weir_common_options, "Explain these files instead of the store; may be repeated"),
        WEIR_ROW_NAMESPACE(struct weir_common_options, "Namespace of the workload (default, or the context's)"),
        WEIR_ROW_STORE(struct weir_common_options),
        { "capabilities", NULL, 0, WEIR_OPTION_FLAG, offsetof(struct values, capabilities), NULL, NULL,
          "Say by which path a run's connections would go on this machine, and why" },
        { .name = NULL },
};

#define NAME_MAX_LENGTH 253
#define NAMESPACES_TOLD 5

/* What was asked. @name is used where @is_name. */
struct question {
        bool all, is_name;
        struct weir_query query;
        char name[NAME_MAX_LENGTH + 2];
};

/* "0x7f.1", "017700000001", "10.1": what inet_aton(3) takes for an address is no name, and to nobody's surprise. */
static int say_old_form(const char *text, const struct in_addr *in)
{
        char address[INET_ADDRSTRLEN];

        (void)inet_ntop(AF_INET, in, address, sizeof(address));
        return weir_say_text("\"%s\" is an old way to write the address %s: write it so", text, address);
}

/* -1 to go on, or the exit status. */
static int parse_name(const char *text, struct question *ret)
{
        size_t n = strlen(text);
        struct in_addr in;

        if (inet_aton(text, &in))
                return say_old_form(text, &in);
        if (n > 0 && text[n - 1] == '.')
                n--;
        if (n == 0 || n > NAME_MAX_LENGTH)
                return weir_say_text("\"%s\" is neither an address nor a name", text);
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)text[i];

                if (!isalnum(c) && c != '-' && c != '.' && c != '_')
                        return weir_say_text("\"%s\" is neither an address nor a name", text);
                ret->name[i] = (char)tolower(c);
        }
        ret->name[n] = '\0';
        ret->is_name = true;
        return -1;
}

static int parse_question(const struct weir_command_line *line, struct question *ret)
{
        char **words = line->arguments;
        size_t n = line->n_arguments;
        uint64_t port;

        if (n == 0) {
                ret->all = true;
                return -1;
        }
        ret->query.protocol = WEIR_IP_TCP;
        if (n == 3) {
                if (!weir_streq(words[0], "tcp") && !weir_streq(words[0], "udp"))
                        return weir_usage_error(line, "the protocol is tcp or udp, not %s", words[0]);
                ret->query.protocol = weir_streq(words[0], "udp") ? WEIR_IP_UDP : WEIR_IP_TCP;
                words++;
                n--;
        }
        if (n != 2)
                return weir_usage_error(line, "explain takes [tcp|udp] ADDRESS|NAME PORT, or nothing");
        if (weir_parse_uint(words[1], UINT16_MAX, &port) < 0 || port == 0)
                return weir_say_text("port %s must be a number in the range 1..65535", words[1]);
        ret->query.port = (uint16_t)port;
        return weir_addr_parse(words[0], &ret->query.addr) == 0 ? -1 : parse_name(words[0], ret);
}

static int load_store(const char *spec, struct weir_resources *list)
{
        weir_auto(store) struct weir_store *store = NULL;
        struct weir_errs errors = { 0 };
        struct weir_err err = { 0 };
        int r, status;

        if (weir_store_open(spec, false, &store, &err) < 0)
                return weir_say_error(&err);
        r = weir_store_snapshot(store, list, &errors);
        status = weir_say_snapshot(store, r, &errors);
        weir_errs_clear(&errors);
        return status;
}

/* As "run -f": a resource of the files that names no namespace belongs to the workload's, another one is no error. */
static int load_named(const struct weir_common_options *options, struct weir_resources *list)
{
        struct weir_errs errors = { 0 };
        struct weir_err err = { 0 };
        int status = 0;

        for (size_t i = 0; i < options->files.n && status == 0; i++)
                if (weir_load_file(options->files.items[i], options->namespace_ ? options->namespace_ : "default", list,
                                   &errors, &err) < 0)
                        status = weir_say_error(&err);
        if (status == 0 && errors.total > 0)
                status = weir_say_invalid(&errors);
        weir_errs_clear(&errors);
        return status;
}

static int compile(const struct weir_common_options *options, const struct weir_resources *list,
                   struct weir_policy **ret)
{
        weir_auto_free struct weir_addr *self = NULL;
        struct weir_policy_options policy_options = { .namespace_ = options->namespace_, .generation = 1 };
        struct weir_err err = { 0 };
        int r;

        /* Without them the answer could be "allow" where a run denies. */
        r = weir_host_addresses(&self, &policy_options.n_self);
        if (r < 0)
                return weir_say_text("cannot list the addresses of this host: %s", strerror(-r));
        policy_options.self = self;
        return weir_policy_compile(list, &policy_options, ret, &err) < 0 ? weir_say_error(&err) : 0;
}

static int answer(const struct weir_policy *policy, const struct question *question)
{
        weir_auto(buf) struct weir_buf buf = { 0 };

        if (question->all)
                weir_policy_explain_all(policy, WEIR_DNS_AUTO, &buf);
        else if (question->is_name)
                weir_policy_explain_name(policy, WEIR_DNS_AUTO, question->name, &buf);
        else
                weir_policy_explain(policy, &question->query, &buf);
        if (buf.error)
                return weir_say_out_of_memory();
        (void)fwrite(buf.data, 1, buf.length, stdout);
        if (question->is_name && !question->all)
                (void)printf("A connection is judged by the address that the name gives: weir explain %s ADDRESS %u\n",
                             weir_ip_protocol_name(question->query.protocol), question->query.port);
        return WEIR_EXIT_OK;
}

static bool seen_before(const struct weir_resources *list, size_t i)
{
        for (size_t k = 0; k < i; k++)
                if (weir_streq(list->items[k]->namespace_, list->items[i]->namespace_))
                        return true;
        return false;
}

/* A rule of another namespace is no rule here, and whoever wrote it looks for it in vain. */
static int tell_other_namespaces(const struct weir_common_options *options, const struct weir_resources *list,
                                 const struct weir_policy *policy, const struct question *question)
{
        struct weir_decision decision;
        size_t told = 0;
        int status = 0;

        weir_policy_match(policy, &question->query, &decision);
        if (question->all || question->is_name || decision.verdict == WEIR_VERDICT_ALLOW)
                return 0;
        for (size_t i = 0; i < list->n && told < NAMESPACES_TOLD && status == 0; i++) {
                weir_auto(policy) struct weir_policy *theirs = NULL;
                struct weir_common_options other = { .namespace_ = list->items[i]->namespace_ };

                if (weir_streq(other.namespace_, options->namespace_) || seen_before(list, i))
                        continue;
                status = compile(&other, list, &theirs);
                if (status != 0)
                        return status;
                weir_policy_match(theirs, &question->query, &decision);
                if (decision.verdict != WEIR_VERDICT_ALLOW)
                        continue;
                (void)printf("  in namespace %s it is allowed, by %s: a rule holds for the workloads of its own "
                             "namespace (-n %s)\n",
                             other.namespace_, decision.rule->resource, other.namespace_);
                told++;
        }
        return status;
}

/* The path of `weir run` on this machine, which nothing is started for. */
static int capabilities(void)
{
        char why[1024];
        const char *path = weir_capture_sealed.try_path(why, sizeof(why));

        (void)printf("path %s: %s\n", path, why);
        return WEIR_EXIT_OK;
}

int cmd_explain(int argc, char **argv)
{
        __attribute__((cleanup(weir_common_options_cleanup))) struct weir_common_options options = { 0 };
        struct values values = { 0 };
        struct weir_command_line line = { .command = weir_command_find("explain"), .values = &values };
        weir_auto(policy) struct weir_policy *policy = NULL;
        weir_auto_free char *namespace_ = NULL;
        struct weir_resources list = { 0 };
        struct weir_err err = { 0 };
        struct question question = { 0 };
        int status;

        status = weir_options_parse(&line, argc, argv);
        options = values.common;
        if (status < 0 && values.capabilities)
                status = line.n_arguments ? weir_usage_error(&line, "--capabilities takes no arguments") :
                                            capabilities();
        if (status < 0)
                status = parse_question(&line, &question);
        if (status >= 0)
                return status;
        if (!options.namespace_ && weir_store_namespace(options.store, &namespace_, &err) < 0)
                return weir_say_error(&err);
        if (!options.namespace_)
                options.namespace_ = namespace_;
        status = options.files.n > 0 ? load_named(&options, &list) : load_store(options.store, &list);
        if (status == 0)
                status = compile(&options, &list, &policy);
        if (status == 0)
                status = answer(policy, &question);
        if (status == WEIR_EXIT_OK)
                status = tell_other_namespaces(&options, &list, policy, &question);
        weir_resources_clear(&list);
        return status;
}
