/* SPDX-License-Identifier: Apache-2.0 */
/* The election of the one controller that writes. */
#include "store/kube_lease.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/err.h"
#include "base/strutil.h"
#include "base/time.h"
#include "store/kube_client.h"

#define LEASES "/apis/coordination.k8s.io/v1/namespaces/weir-system/leases"
#define NAME "weir-controller"

void weir_kube_lease_init(struct weir_kube_lease *lease)
{
        char host[64] = "";
        uint32_t token = 0;

        *lease = (struct weir_kube_lease){ 0 };
        (void)gethostname(host, sizeof(host) - 1);
        if (getrandom(&token, sizeof(token), 0) != sizeof(token))
                token = (uint32_t)weir_time_ns();
        (void)snprintf(lease->identity, sizeof(lease->identity), "%s_%d_%08x", host, (int)getpid(), token);
}

bool weir_kube_lease_held(const struct weir_kube_lease *lease)
{
        return lease->renewed && weir_time_ns() < lease->renewed + WEIR_LEASE_TRUST_MS * WEIR_MS;
}

static int call(struct weir_kube_client *client, const char *method, const char *path, const json_t *body,
                json_t **ret_json, struct weir_err *err)
{
        weir_auto_free char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
        __attribute__((cleanup(weir_kube_request_clear))) struct weir_kube_request request = {
                .method = method,
                .content_type = "application/json",
                .path = strdup(path),
                .body = text,
        };

        if (!request.path || (body && !text))
                return weir_err_set(err, -ENOMEM, "out of memory");
        return weir_kube_call(client, &request, ret_json, err);
}

static const char *text_of(const json_t *spec, const char *key)
{
        const char *text = json_string_value(json_object_get(spec, key));

        return text ? text : "";
}

/* Fills in who holds it from now on: @holder "" for nobody. */
static int set_holder(json_t *spec, const char *holder, bool taken)
{
        json_int_t transitions = json_integer_value(json_object_get(spec, "leaseTransitions"));
        char now[WEIR_TIME_STRLEN];
        int r;

        (void)weir_time_rfc3339(now);
        r = json_object_set_new(spec, "holderIdentity", json_string(holder));
        if (r == 0)
                r = json_object_set_new(spec, "leaseDurationSeconds", json_integer(WEIR_LEASE_SECONDS));
        if (r == 0)
                r = json_object_set_new(spec, "renewTime", json_string(now));
        if (r == 0 && taken)
                r = json_object_set_new(spec, "acquireTime", json_string(now));
        if (r == 0 && taken)
                r = json_object_set_new(spec, "leaseTransitions", json_integer(transitions + 1));
        return r < 0 ? -ENOMEM : 0;
}

/* Time counts from before the request: it is never longer ago than thought. */
static int hold(struct weir_kube_lease *lease, int r, uint64_t began)
{
        /* Another was faster. */
        if (r == WEIR_ECONFLICT || r == WEIR_EEXISTS) {
                lease->renewed = 0;
                return 0;
        }
        if (r == 0)
                lease->renewed = began;
        return r;
}

static int create(struct weir_kube_lease *lease, struct weir_kube_client *client, struct weir_err *err)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *body =
                json_pack("{s:s, s:s, s:{s:s}, s:{}}", "apiVersion", "coordination.k8s.io/v1", "kind", "Lease",
                          "metadata", "name", NAME, "spec");
        uint64_t began = weir_time_ns();

        if (!body || set_holder(json_object_get(body, "spec"), lease->identity, true) < 0)
                return weir_err_set(err, -ENOMEM, "out of memory");
        return hold(lease, call(client, "POST", LEASES, body, NULL, err), began);
}

static int update(struct weir_kube_lease *lease, struct weir_kube_client *client, json_t *there, const char *holder,
                  bool taken, struct weir_err *err)
{
        uint64_t began = weir_time_ns();

        if (set_holder(json_object_get(there, "spec"), holder, taken) < 0)
                return weir_err_set(err, -ENOMEM, "out of memory");
        return hold(lease, call(client, "PUT", LEASES "/" NAME, there, NULL, err), began);
}

static bool is_abandoned(struct weir_kube_lease *lease, const json_t *spec)
{
        char seen[sizeof(lease->seen)];
        uint64_t now = weir_time_ns();

        if (!text_of(spec, "holderIdentity")[0])
                return true;
        (void)snprintf(seen, sizeof(seen), "%.90s %.90s", text_of(spec, "holderIdentity"), text_of(spec, "renewTime"));
        if (!weir_streq(seen, lease->seen)) {
                memcpy(lease->seen, seen, sizeof(seen));
                lease->since = now;
                return false;
        }
        return now - lease->since >= WEIR_LEASE_SECONDS * WEIR_SEC;
}

int weir_kube_lease_turn(struct weir_kube_lease *lease, struct weir_kube_client *client, struct weir_err *err)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *there = NULL;
        const json_t *spec;
        int r;

        if (weir_time_ns() < lease->due)
                return 0;
        lease->due = weir_time_ns() + WEIR_LEASE_RENEW_MS * WEIR_MS;
        r = call(client, "GET", LEASES "/" NAME, NULL, &there, err);
        if (r == WEIR_ENOTFOUND)
                return create(lease, client, err);
        if (r < 0)
                return r;
        spec = json_object_get(there, "spec");
        if (!json_is_object(spec))
                return weir_err_set(err, WEIR_EINVALID, "the lease weir-system/%s has no spec: delete it", NAME);
        if (weir_streq(text_of(spec, "holderIdentity"), lease->identity))
                return update(lease, client, there, lease->identity, false, err);
        lease->renewed = 0;
        return is_abandoned(lease, spec) ? update(lease, client, there, lease->identity, true, err) : 0;
}

void weir_kube_lease_release(struct weir_kube_lease *lease, struct weir_kube_client *client)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *there = NULL;
        struct weir_err ignored = { 0 };

        if (!lease->renewed || call(client, "GET", LEASES "/" NAME, NULL, &there, &ignored) < 0)
                return;
        if (weir_streq(text_of(json_object_get(there, "spec"), "holderIdentity"), lease->identity))
                (void)!update(lease, client, there, "", false, &ignored);
        lease->renewed = 0;
}
