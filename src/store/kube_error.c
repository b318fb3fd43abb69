/* SPDX-License-Identifier: Apache-2.0 */
/* What went wrong between Weir and an API server, each in one line that a person can act on. */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "store/kube_client.h"

static int no_answer(const struct weir_kube_client *client, const struct weir_kube_request *request,
                     struct weir_err *err)
{
        const char *server = client->config.server;
        const char *why = request->error[0] ? request->error : weir_curl.easy_strerror(request->code);
        curl_off_t connected = 0;

        (void)weir_curl.easy_getinfo(request->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
        if (request->code == CURLE_OPERATION_TIMEDOUT && connected > 0)
                return weir_err_set(err, -ETIMEDOUT, "the API server %s did not answer within %u ms", server,
                                    client->times.request);
        if (request->code == CURLE_OPERATION_TIMEDOUT)
                return weir_err_set(err, -ETIMEDOUT, "the API server %s cannot be reached within %u ms", server,
                                    client->times.connect);
        if (request->code == CURLE_PEER_FAILED_VERIFICATION)
                return weir_err_set(
                        err, -EACCES,
                        "the certificate of the API server %s is not the cluster's (%s): renew the kubeconfig", server,
                        why);
        if (request->code == CURLE_SSL_CERTPROBLEM)
                return weir_err_set(err, -EACCES, "the client certificate of the user \"%s\" cannot be used: %s",
                                    client->config.user, why);
        if (request->answer.error)
                return weir_err_set(err, WEIR_ELIMIT, "the API server %s answers with more than is taken", server);
        if (request->code == CURLE_WEIRD_SERVER_REPLY || request->code == CURLE_UNSUPPORTED_PROTOCOL ||
            request->code == CURLE_HTTP2 || request->code == CURLE_HTTP2_STREAM)
                return weir_err_set(err, WEIR_EINVALID, "the API server %s does not speak HTTP (%s)", server, why);
        return weir_err_set(err, -EHOSTUNREACH, "cannot reach the API server %s: %s", server, why);
}

static bool is_conflict_of_managers(const json_t *status)
{
        const json_t *causes = json_object_get(json_object_get(status, "details"), "causes");
        const char *reason = json_string_value(json_object_get(json_array_get(causes, 0), "reason"));

        return reason && weir_streq(reason, "FieldManagerConflict");
}

static int conflict(const json_t *status, const char *message, struct weir_err *err)
{
        const char *reason = json_string_value(json_object_get(status, "reason"));

        if (reason && weir_streq(reason, "AlreadyExists"))
                return weir_err_set(err, WEIR_EEXISTS, "%s", message);
        if (is_conflict_of_managers(status))
                return weir_err_set(err, WEIR_ECONFLICT,
                                    "%s: another manager set these fields; change them there, or write the whole with "
                                    "'weir replace'",
                                    message);
        return weir_err_set(err, WEIR_ECONFLICT, "%s", message);
}

static int not_found(const struct weir_kube_client *client, const struct weir_kube_request *request,
                     const json_t *status, const char *message, struct weir_err *err)
{
        const json_t *name = json_object_get(json_object_get(status, "details"), "name");

        if (json_string_length(name) > 0)
                return weir_err_set(err, WEIR_ENOTFOUND, "%s", message);
        if (request->resource)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "the cluster at %s has no %s (the CRD is not installed): run 'weir install' first",
                                    client->config.server, request->resource);
        return weir_err_set(err, WEIR_ENOTFOUND, "the API server %s has no %s", client->config.server, request->path);
}

static int refused_credentials(const struct weir_kube_client *client, struct weir_err *err)
{
        const struct weir_kube_config *config = &client->config;
        bool any =
                config->token || config->token_file || config->certificate || config->username || config->exec.command;

        if (!any)
                return weir_err_set(err, -EACCES, "the API server %s wants credentials, and the user \"%s\" has none",
                                    config->server, config->user);
        return weir_err_set(err, -EACCES,
                            "the API server %s refuses the credentials of the user \"%s\" (expired or unknown): log in "
                            "again, or name another context with --store kubernetes:CONTEXT",
                            config->server, config->user);
}

static int bad_status(const struct weir_kube_client *client, const struct weir_kube_request *request,
                      const json_t *status, struct weir_err *err)
{
        const char *message = json_string_value(json_object_get(status, "message"));
        const char *server = client->config.server;

        if (request->status == 401)
                return refused_credentials(client, err);
        if (request->status == 404)
                return not_found(client, request, status, message ? message : "not found", err);
        if (request->status < 400)
                return weir_err_set(err, WEIR_EINVALID,
                                    "the API server %s answers %ld and sends elsewhere: is this the right address?",
                                    server, request->status);
        if (!message)
                return weir_err_set(err, request->status >= 500 || request->status == 429 ? -EBUSY : WEIR_EINVALID,
                                    "the API server %s answers %ld: %.200s", server, request->status,
                                    request->answer.data ? request->answer.data : "");
        if (request->status == 403)
                return weir_err_set(err, -EACCES, "no permission: %s", message);
        if (request->status == 409)
                return conflict(status, message, err);
        if (request->status == 410)
                return weir_err_set(err, -ESTALE, "%s", message);
        if (request->status == 429 || request->status >= 500)
                return weir_err_set(err, -EBUSY, "the API server %s answers %ld: %s", server, request->status, message);
        return weir_err_set(err, WEIR_EINVALID, "%s", message);
}

int weir_kube_judge(struct weir_kube_client *client, const struct weir_kube_request *request, struct weir_err *err)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *status = NULL;

        if (request->code != CURLE_OK)
                return no_answer(client, request, err);
        if (request->status >= 200 && request->status < 300)
                return 0;
        status = json_loadb(request->answer.data ? request->answer.data : "", request->answer.length,
                            JSON_REJECT_DUPLICATES, NULL);
        return bad_status(client, request, status, err);
}
