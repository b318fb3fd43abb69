/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The controller: writes into the status of each resource what became of it.
 *
 * Theory of operation
 *
 * Any number may run; the one that holds the lease (kube_lease.c) writes. It follows the cluster as every reader does,
 * compares for each object the conditions that ought to be with those that are, and applies what differs to the status
 * subresource under the name weir-controller. What it wrote comes back as an event and then differs no more, and what
 * somebody else wrote over it is put right.
 *
 * Accepted says whether Weir's validation, which knows more than the schema, takes the resource; Programmed whether
 * this version enforces all of it. observedGeneration says for which spec that holds.
 *
 * Where the definition of ServiceEntry is an installed Istio's, its status is Istio's too, and nothing is written.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/strutil.h"
#include "base/time.h"
#include "store/kube_lease.h"
#include "store/kube_store.h"
#include "store/kubernetes.h"

#define SCAN_MS 200
#define PATIENCE_MS 5000
#define OWNERS_MS 60000
#define OWNER_LABEL "app.kubernetes.io/managed-by"

struct controller {
        struct weir_kubernetes *store;
        struct weir_kube_lease lease;
        void (*say)(bool problem, const char *text);
        bool writes, ours[WEIR_KIND_COUNT];
        uint64_t scan_due;   /* ns; 0 if there is nothing to compare */
        uint64_t owners_due; /* when to look whose the definitions are */
        char *last_problem;
};

/* What one condition says. */
struct verdict {
        const char *type, *status, *reason, *message;
};

/* --- what ought to be --- */

/* What this version does not enforce of a resource, in one line; NULL if nothing. */
static int missing_parts(const struct weir_resource *resource, char **ret)
{
        struct weir_errs parts = { 0 };
        struct weir_buf buf = { 0 };
        int r;

        r = weir_resource_not_enforced(resource, &parts);
        for (size_t i = 0; i < parts.n && r == 0; i++)
                weir_buf_printf(&buf, "%s%s%s%s", i ? "; " : "", parts.items[i].field,
                                parts.items[i].field[0] ? ": " : "", parts.items[i].text);
        weir_errs_clear(&parts);
        if (r == 0)
                r = buf.error;
        *ret = weir_buf_take(&buf);
        return r;
}

static void judge(const struct weir_kube_object *object, const char *missing, struct verdict ret[static 2])
{
        if (!object->resource) {
                ret[0] = (struct verdict){ "Accepted", "False", "Invalid", object->problem };
                ret[1] = (struct verdict){ "Programmed", "False", "Invalid", "it is not valid, so it allows nothing" };
                return;
        }
        ret[0] = (struct verdict){ "Accepted", "True", "Valid", "it is valid" };
        if (missing)
                ret[1] = (struct verdict){ "Programmed", "False", "NotEnforced", missing };
        else
                ret[1] = (struct verdict){ "Programmed", "True", "Enforced", "what it names may be reached" };
}

static const json_t *find_condition(const json_t *conditions, const char *type)
{
        const json_t *condition;
        size_t i;

        json_array_foreach(conditions, i, condition)
        {
                const char *own = json_string_value(json_object_get(condition, "type"));

                if (own && weir_streq(own, type))
                        return condition;
        }
        return NULL;
}

static bool says(const json_t *condition, const char *key, const char *text)
{
        const char *own = json_string_value(json_object_get(condition, key));

        return own && weir_streq(own, text);
}

static bool stands(const struct weir_kube_object *object, const struct verdict *verdict)
{
        const json_t *condition = find_condition(object->conditions, verdict->type);

        return condition && says(condition, "status", verdict->status) && says(condition, "reason", verdict->reason) &&
               says(condition, "message", verdict->message) &&
               json_integer_value(json_object_get(condition, "observedGeneration")) == object->generation;
}

/* The time of a transition is that of the change of status, not of the last writing. */
static json_t *make_condition(const struct weir_kube_object *object, const struct verdict *verdict)
{
        const json_t *before = find_condition(object->conditions, verdict->type);
        const char *since = json_string_value(json_object_get(before, "lastTransitionTime"));
        char now[WEIR_TIME_STRLEN];

        if (!since || !says(before, "status", verdict->status))
                since = weir_time_rfc3339_seconds(now);
        return json_pack("{s:s, s:s, s:s, s:s, s:I, s:s}", "type", verdict->type, "status", verdict->status, "reason",
                         verdict->reason, "message", verdict->message, "observedGeneration",
                         (json_int_t)object->generation, "lastTransitionTime", since);
}

static char *make_body(const struct weir_kube_object *object, enum weir_kind kind, const char *version,
                       const struct verdict verdicts[static 2])
{
        const struct weir_kind_info *info = weir_kind_info(kind);
        const char *slash = strchr(object->key, '/');
        weir_auto_free char *api = weir_asprintf("%s/%s", info->group, version);
        json_t *accepted = make_condition(object, &verdicts[0]), *programmed = make_condition(object, &verdicts[1]);
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *root = NULL;

        if (!api || !accepted || !programmed) {
                json_decref(accepted);
                json_decref(programmed);
                return NULL;
        }
        root = json_pack("{s:s, s:s, s:{s:s%, s:s}, s:{s:I, s:[o, o]}}", "apiVersion", api, "kind", info->kind,
                         "metadata", "namespace", object->key, (size_t)(slash - object->key), "name", slash + 1,
                         "status", "observedGeneration", (json_int_t)object->generation, "conditions", accepted,
                         programmed);
        return root ? json_dumps(root, JSON_COMPACT) : NULL;
}

/* --- writing it --- */

static int write_status(struct controller *c, const struct weir_kube_object *object, enum weir_kind kind,
                        const struct verdict verdicts[static 2], struct weir_err *err)
{
        const struct weir_kind_info *info = weir_kind_info(kind);
        const char *version = weir_kube_follow_version(c->store->follow, kind), *slash = strchr(object->key, '/');
        weir_auto_free char *body = make_body(object, kind, version, verdicts);
        __attribute__((cleanup(weir_kube_request_clear))) struct weir_kube_request request = {
                .method = "PATCH",
                .content_type = "application/apply-patch+yaml",
                .path = weir_asprintf(
                        "/apis/%s/%s/namespaces/%.*s/%s/%s/status?fieldManager=weir-controller&force=true", info->group,
                        version, (int)(slash - object->key), object->key, info->plural, slash + 1),
                .body = body,
        };
        int r;

        if (!body || !request.path)
                return weir_err_set(err, -ENOMEM, "out of memory");
        r = weir_kube_call(c->store->client, &request, NULL, err);
        /* It went away in the meantime: the event is on its way. */
        return r == WEIR_ENOTFOUND ? 0 : r;
}

static int settle(struct controller *c, const struct weir_kube_object *object, enum weir_kind kind,
                  struct weir_err *err)
{
        weir_auto_free char *missing = NULL;
        struct verdict verdicts[2];

        if (object->resource && missing_parts(object->resource, &missing) < 0)
                return weir_err_set(err, -ENOMEM, "out of memory");
        judge(object, missing, verdicts);
        if (stands(object, &verdicts[0]) && stands(object, &verdicts[1]))
                return 0;
        return write_status(c, object, kind, verdicts, err);
}

/* The lease is renewed in between, and without it not one more is written. */
static int scan(struct controller *c, struct weir_err *err)
{
        for (unsigned i = 0; i < WEIR_KIND_COUNT; i++) {
                struct weir_kube_table *table = weir_kube_follow_table(c->store->follow, (enum weir_kind)i);
                struct weir_kube_object *object, *next;

                if (!c->ours[i])
                        continue;
                HASH_ITER (hh, table->objects, object, next) {
                        int r = weir_kube_lease_turn(&c->lease, c->store->client, err);

                        if (r == 0 && !weir_kube_lease_held(&c->lease))
                                return 0;
                        if (r == 0)
                                r = settle(c, object, (enum weir_kind)i, err);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

/* Whether a kind's definition is Weir's, and so its status. */
static int find_owner(struct controller *c, enum weir_kind kind, struct weir_err *err)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *definition = NULL;
        __attribute__((cleanup(weir_kube_request_clear))) struct weir_kube_request request = {
                .method = "GET",
                .path = weir_asprintf("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/%s",
                                      weir_kind_info(kind)->group_resource),
        };
        const json_t *labels;
        const char *owner;
        int r;

        r = request.path ? weir_kube_call(c->store->client, &request, &definition, err) :
                           weir_err_set(err, -ENOMEM, "out of memory");
        if (r < 0)
                return r;
        labels = json_object_get(json_object_get(definition, "metadata"), "labels");
        owner = json_string_value(json_object_get(labels, OWNER_LABEL));
        c->ours[kind] = owner && weir_streq(owner, "weir");
        return 0;
}

static int elect(struct controller *c, struct weir_err *err)
{
        bool wrote = c->writes;
        int r;

        r = weir_kube_lease_turn(&c->lease, c->store->client, err);
        c->writes = weir_kube_lease_held(&c->lease);
        if (wrote && !c->writes)
                c->say(false, "another controller writes the status now, or nobody can");
        if (r < 0 || wrote || !c->writes)
                return r;
        c->say(false, "this controller writes the status now");
        c->owners_due = c->scan_due = weir_time_ns();
        return 0;
}

/* Before anything is written: Istio may have been installed over Weir's definition since. */
static int find_owners(struct controller *c, struct weir_err *err)
{
        uint64_t now = weir_time_ns();
        int r = 0;

        if (now < c->owners_due)
                return 0;
        for (unsigned i = 0; i < WEIR_KIND_COUNT && r == 0; i++)
                r = find_owner(c, (enum weir_kind)i, err);
        if (r == 0)
                c->owners_due = now + OWNERS_MS * WEIR_MS;
        return r;
}

static void tell(struct controller *c, const char *text)
{
        if (!text && c->last_problem)
                c->say(false, "all is well again");
        if (text && (!c->last_problem || !weir_streq(text, c->last_problem)))
                c->say(true, text);
        free(c->last_problem);
        c->last_problem = text ? strdup(text) : NULL;
}

static void turn(struct controller *c)
{
        struct weir_err err = { 0 };
        const char *trouble;
        uint64_t now;
        int r;

        (void)weir_kube_follow_turn(c->store->follow);
        r = elect(c, &err);
        now = weir_time_ns();
        if (r == 0 && c->writes && weir_kube_follow_synced(c->store->follow) && c->scan_due && c->scan_due <= now) {
                c->scan_due = 0;
                r = find_owners(c, &err);
                if (r == 0)
                        r = scan(c, &err);
                if (r < 0)
                        c->scan_due = now + WEIR_LEASE_RENEW_MS * WEIR_MS;
        }
        trouble = r < 0 ? err.text : weir_kube_follow_trouble(c->store->follow);
        tell(c, trouble);
}

static int wait_ms(const struct controller *c)
{
        uint64_t now = weir_time_ns(), due = c->lease.due;

        if (c->writes && c->scan_due && c->scan_due < due)
                due = c->scan_due;
        return due > now ? (int)((due - now) / WEIR_MS) + 1 : 0;
}

int weir_kubernetes_control(struct weir_store *base, int stop_fd, void (*say)(bool problem, const char *text),
                            struct weir_err *err)
{
        struct controller c = { .store = weir_kubernetes(base), .say = say };
        int r;

        c.store->client->times.request = WEIR_LEASE_REQUEST_MS;
        c.store->client->times.patience = PATIENCE_MS;
        weir_kube_lease_init(&c.lease);
        if (!c.store->follow) {
                r = weir_kube_follow_new(c.store->client, &c.store->follow, err);
                if (r < 0)
                        return r;
        }
        for (;;) {
                struct pollfd fds[] = {
                        { .fd = stop_fd, .events = POLLIN },
                        { .fd = weir_kube_follow_fd(c.store->follow), .events = POLLIN },
                };

                turn(&c);
                if (poll(fds, WEIR_ARRAY_SIZE(fds), wait_ms(&c)) < 0 && errno != EINTR)
                        break;
                if (fds[0].revents)
                        break;
                /* Events come in crowds: one look for all of them. */
                if (fds[1].revents && !c.scan_due)
                        c.scan_due = weir_time_ns() + SCAN_MS * WEIR_MS;
        }
        weir_kube_lease_release(&c.lease, c.store->client);
        free(c.last_problem);
        return 0;
}
