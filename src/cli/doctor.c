/* SPDX-License-Identifier: Apache-2.0 */
/* weir doctor: what this machine can do, what is missing and how to get it; then a proof, from inside, that it holds.
 */
#include "cli/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/strutil.h"
#include "capture/abilities.h"
#include "cli/commands.h"

struct values {
        const char *output, *inside;
        bool verbose;
};

const struct weir_option weir_doctor_option_table[] = {
        { "output", NULL, 'o', WEIR_OPTION_STRING, offsetof(struct values, output), "FORMAT", "text|json",
          "How it is printed" },
        { "verbose", NULL, 'v', WEIR_OPTION_FLAG, offsetof(struct values, verbose), NULL, NULL,
          "Say what remains reachable from inside" },
        { "inside", NULL, 0, WEIR_OPTION_STRING, offsetof(struct values, inside), "PLAN", NULL,
          "Try the ways out; what the proof runs inside" },
        { .name = NULL },
};

#define ABILITIES_MAX 64
#define PROOFS_MAX 8

struct found {
        const struct weir_ability *ability;
        bool has;
        char detail[WEIR_ABILITY_DETAIL];
        char missing[sizeof(((struct weir_err *)0)->text)];
};

struct report {
        struct found found[ABILITIES_MAX];
        struct weir_doctor_proof proofs[PROOFS_MAX];
        size_t n_found, n_proofs;
        bool holds;
};

/* Captures that start a command, and can be proved by one. */
static const struct weir_capture_ops *const provable[] = { &weir_capture_sealed, &weir_capture_cgroup };

static void ask_all(struct report *report)
{
        for (const struct weir_ability *a = weir_abilities; a->capture && report->n_found < ABILITIES_MAX; a++) {
                struct found *found = &report->found[report->n_found++];
                struct weir_err err = { 0 };

                found->ability = a;
                found->has = a->probe(found->detail, &err) == 0;
                (void)snprintf(found->missing, sizeof(found->missing), "%s", err.text);
        }
}

static const char *first_missing(const struct report *report, const char *capture)
{
        for (size_t i = 0; i < report->n_found; i++)
                if (weir_streq(report->found[i].ability->capture, capture) && report->found[i].ability->required &&
                    !report->found[i].has)
                        return report->found[i].missing;
        return NULL;
}

static int prove_all(struct report *report, bool verbose, struct weir_err *err)
{
        bool any = false;

        report->holds = true;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(provable); i++) {
                struct weir_doctor_proof *proof = &report->proofs[report->n_proofs++];
                const char *missing = first_missing(report, provable[i]->name);
                int r;

                *proof = (struct weir_doctor_proof){ .capture = provable[i]->name };
                if (missing) {
                        /* What is not to be had is not broken. */
                        (void)snprintf(proof->why, sizeof(proof->why), "not to be had here: %.480s", missing);
                        continue;
                }
                r = weir_doctor_prove(provable[i], verbose, proof, err);
                if (r < 0)
                        return r;
                /* A capture hides its memory from the commands it starts; the next one writes their id maps. */
                (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
                any = any || proof->started;
                report->holds = report->holds && weir_doctor_holds(proof);
        }
        report->holds = report->holds && any;
        return 0;
}

static void print_ability(const struct found *f)
{
        const char *mark = f->has ? "yes" : f->ability->required ? "NO" : "no";

        (void)printf("  %-4s%s", mark, f->ability->name);
        if (f->has && f->detail[0])
                (void)printf(" (%s)", f->detail);
        if (!f->has)
                (void)printf(": %s; %s brings it", f->missing, f->ability->brings);
        if (!f->has && f->ability->without)
                (void)printf("; without it %s", f->ability->without);
        (void)putchar('\n');
}

static void print_proof(const struct weir_doctor_proof *proof)
{
        if (!proof->started) {
                (void)printf("  %-8s%s\n", proof->capture, proof->why);
                return;
        }
        (void)printf("  %-8s", proof->capture);
        for (size_t way = 0; way < WEIR_WAY_COUNT; way++)
                (void)printf("%s %s%s, ", weir_doctor_way_name((enum weir_doctor_way)way),
                             proof->stopped[way] ? "stopped" : "GOT OUT",
                             proof->passed[way] || way == WEIR_WAY_NAME ? "" : " (as without Weir)");
        (void)printf("what is allowed %s\n", proof->allowed ? "arrived" : "DID NOT ARRIVE");
}

static void print_text(const struct report *report)
{
        const char *capture = "";
        struct utsname kernel;

        if (uname(&kernel) == 0)
                (void)printf("weir %s on %s %s %s\n", WEIR_VERSION, kernel.sysname, kernel.release, kernel.machine);
        for (size_t i = 0; i < report->n_found; i++) {
                const struct found *f = &report->found[i];

                if (!weir_streq(capture, f->ability->capture))
                        (void)printf("\n%s%s:\n", f->ability->capture,
                                     first_missing(report, f->ability->capture) ? " (not to be had here)" : "");
                capture = f->ability->capture;
                print_ability(f);
        }
        (void)printf("\nfrom inside a throw-away workload:\n");
        for (size_t i = 0; i < report->n_proofs; i++)
                print_proof(&report->proofs[i]);
        (void)printf("\n%s\n", report->holds ? "What Weir promises holds on this machine." :
                                               "What Weir promises does NOT hold on this machine.");
}

static void write_abilities(struct weir_json *json, const struct report *report)
{
        weir_json_begin_array(json, "abilities");
        for (size_t i = 0; i < report->n_found; i++) {
                const struct found *f = &report->found[i];

                weir_json_begin_object(json, NULL);
                weir_json_string(json, "capture", f->ability->capture);
                weir_json_string(json, "name", f->ability->name);
                weir_json_bool(json, "required", f->ability->required);
                weir_json_bool(json, "has", f->has);
                weir_json_string(json, "detail", f->detail[0] ? f->detail : NULL);
                weir_json_string(json, "missing", f->has ? NULL : f->missing);
                weir_json_string(json, "brings", f->ability->brings);
                weir_json_string(json, "without", f->ability->without);
                weir_json_end_object(json);
        }
        weir_json_end_array(json);
}

static void write_proofs(struct weir_json *json, const struct report *report)
{
        weir_json_begin_array(json, "proofs");
        for (size_t i = 0; i < report->n_proofs; i++) {
                const struct weir_doctor_proof *p = &report->proofs[i];

                weir_json_begin_object(json, NULL);
                weir_json_string(json, "capture", p->capture);
                weir_json_bool(json, "started", p->started);
                weir_json_string(json, "why", p->why[0] ? p->why : NULL);
                weir_json_bool(json, "allowed_arrived", p->allowed);
                weir_json_begin_array(json, "ways");
                for (size_t way = 0; p->started && way < WEIR_WAY_COUNT; way++) {
                        weir_json_begin_object(json, NULL);
                        weir_json_string(json, "name", weir_doctor_way_name((enum weir_doctor_way)way));
                        weir_json_bool(json, "stopped", p->stopped[way]);
                        weir_json_bool(json, "open_without_weir", p->passed[way]);
                        weir_json_end_object(json);
                }
                weir_json_end_array(json);
                weir_json_bool(json, "holds", weir_doctor_holds(p));
                weir_json_end_object(json);
        }
        weir_json_end_array(json);
}

static int print_json(const struct report *report)
{
        weir_auto(buf) struct weir_buf buf = { 0 };
        struct weir_json json = { .buf = &buf };
        struct utsname kernel = { 0 };

        (void)uname(&kernel);
        weir_json_begin_object(&json, NULL);
        weir_json_string(&json, "version", WEIR_VERSION);
        weir_json_string(&json, "kernel", kernel.release);
        weir_json_string(&json, "machine", kernel.machine);
        write_abilities(&json, report);
        write_proofs(&json, report);
        weir_json_bool(&json, "holds", report->holds);
        weir_json_end_object(&json);
        if (buf.error)
                return weir_say_out_of_memory();
        (void)printf("%s\n", buf.data);
        return WEIR_EXIT_OK;
}

static int examine(const struct values *v)
{
        bool json = v->output && weir_streq(v->output, "json");
        static struct report report;
        struct weir_err err = { 0 };
        int status = WEIR_EXIT_OK;

        ask_all(&report);
        if (prove_all(&report, v->verbose && !json, &err) < 0)
                return weir_say_error(&err);
        if (json)
                status = print_json(&report);
        else
                print_text(&report);
        return status ? status : report.holds ? WEIR_EXIT_OK : WEIR_EXIT_FAILED;
}

int cmd_doctor(int argc, char **argv)
{
        struct values v = { 0 };
        struct weir_command_line line = { .command = weir_command_find("doctor"), .values = &v };
        struct weir_doctor_plan plan;
        int status = weir_options_parse(&line, argc, argv);

        if (status >= 0)
                return status;
        if (line.n_arguments)
                return weir_usage_error(&line, "unexpected \"%s\"", line.arguments[0]);
        if (!v.inside)
                return examine(&v);
        if (weir_doctor_plan_parse(v.inside, &plan) < 0)
                return weir_usage_error(&line, "--inside takes what the proof gives it");
        return weir_doctor_inside(&plan);
}
