/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to an API server.
 *
 * Theory of operation
 *
 * Every request names its address whole and carries the credentials of that moment: a token's file is read each time,
 * because it is rotated, and a plugin's token is renewed before it expires or when it is refused. Nothing is followed
 * elsewhere: a redirect is an error, or credentials would travel with it. A token is sent over TLS only, except to this
 * machine itself (kubectl proxy, tests).
 *
 * A connection that is half open is found in two ways. The kernel probes it and gives up after half a minute
 * (SO_KEEPALIVE, TCP_USER_TIMEOUT); a peer that acknowledges and says nothing is the matter of kube_watch.c.
 *
 * What the server answers is hostile: it is bounded, parsed strictly, and escaped by whoever prints it.
 */
#include "store/kube_client.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/time.h"

#define ANSWER_MAX (64 * 1024 * 1024)
#define TOKEN_MAX (64 * 1024)
#define KEEPALIVE_SECONDS 15
#define KEEPALIVE_PROBE_SECONDS 5
#define USER_TIMEOUT_MS 30000
#define RETRY_AFTER_MAX_SECONDS 300

const struct weir_kube_times weir_kube_times = {
        .connect = 5000,
        .request = 15000,
        .patience = 60000,
        .plugin = 60000,
        .silence = 30000,
        .probe = 15000,
        .retry_first = 800,
        .retry_last = 30000,
        .watch = 300000,
        .first = 15000,
        .keep = 300,
};

static int out_of_memory(struct weir_err *err)
{
        return weir_err_set(err, -ENOMEM, "out of memory");
}

int weir_kube_client_new(struct weir_kube_config *config, struct weir_kube_client **ret_client, struct weir_err *err)
{
        weir_auto(kube_client) struct weir_kube_client *client = calloc(1, sizeof(*client));
        int r;

        if (!client) {
                weir_kube_config_clear(config);
                return out_of_memory(err);
        }
        client->config = *config;
        *config = (struct weir_kube_config){ 0 };
        client->times = weir_kube_times;
        client->plugin.fd = -1;
        r = weir_curl_load(err);
        if (r < 0)
                return r;
        client->easy = weir_curl.easy_init();
        if (!client->easy)
                return out_of_memory(err);
        *ret_client = TAKE_PTR(client);
        return 0;
}

void weir_kube_client_free(struct weir_kube_client *client)
{
        if (!client)
                return;
        weir_kube_plugin_end(client);
        weir_kube_plugin_forget(client);
        if (client->easy)
                weir_curl.easy_cleanup(client->easy);
        weir_kube_config_clear(&client->config);
        free(client);
}

void weir_kube_request_clear(struct weir_kube_request *request)
{
        weir_curl.slist_free_all(request->headers);
        weir_curl.slist_free_all(request->connect_to);
        free(request->path);
        free(request->url);
        weir_buf_clear(&request->answer);
        *request = (struct weir_kube_request){ .easy = request->easy };
}

/* --- a request --- */

static size_t on_answer(char *bytes, size_t size, size_t n, void *context)
{
        struct weir_kube_request *request = context;

        weir_buf_add(&request->answer, bytes, size * n);
        return request->answer.error ? 0 : size * n;
}

/* Closed on exec, whatever curl does: a workload gets no socket of ours. */
static curl_socket_t on_open(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
        (void)context;
        (void)purpose;
        return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* The kernel gives up on a peer that is gone, also while bytes of ours wait. */
static int on_socket(void *context, curl_socket_t fd, curlsocktype purpose)
{
        const struct weir_kube_client *client = context;
        unsigned timeout = USER_TIMEOUT_MS;

        (void)purpose;
        if (client->mark && setsockopt(fd, SOL_SOCKET, SO_MARK, &client->mark, sizeof(client->mark)) < 0)
                return CURL_SOCKOPT_ERROR;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
        return CURL_SOCKOPT_OK;
}

/* @name ends in ": ", or in ":" to take a header of curl's own out. */
static int add_header(struct weir_kube_request *request, const char *name, const char *value)
{
        weir_auto_free char *line = weir_asprintf("%s%s", name, value);
        struct curl_slist *list;

        if (!line)
                return -ENOMEM;
        if (strpbrk(line, "\r\n"))
                return -EINVAL;
        list = weir_curl.slist_append(request->headers, line);
        if (!list)
                return -ENOMEM;
        request->headers = list;
        return 0;
}

static bool is_plain(const char *server)
{
        return !weir_starts_with(server, "https://");
}

/* Of http://127.0.0.1:8001 and the like. */
static bool is_here(const char *server)
{
        static const char *const hosts[] = { "http://127.0.0.1", "http://localhost", "http://[::1]" };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(hosts); i++) {
                size_t n = strlen(hosts[i]);

                if (strncmp(server, hosts[i], n) == 0 && (!server[n] || strchr(":/", server[n])))
                        return true;
        }
        return false;
}

static int read_token(const struct weir_kube_config *config, char **ret, struct weir_err *err)
{
        weir_auto_free char *token = NULL;
        size_t n;
        int r;

        r = weir_file_slurp(AT_FDCWD, config->token_file, TOKEN_MAX, &token, &n);
        if (r < 0)
                return weir_err_set(err, r, "cannot read the token of the user \"%s\" from %s: %s", config->user,
                                    config->token_file, strerror(-r));
        while (n > 0 && strchr(" \t\r\n", token[n - 1]))
                token[--n] = '\0';
        *ret = TAKE_PTR(token);
        return 0;
}

static int put_token(struct weir_kube_client *client, struct weir_kube_request *request, struct weir_err *err)
{
        const struct weir_kube_config *config = &client->config;
        weir_auto_free char *fresh = NULL;
        const char *token = client->token ? client->token : config->token;
        int r;

        if (config->token_file) {
                r = read_token(config, &fresh, err);
                if (r < 0)
                        return r;
                token = fresh;
        }
        if (!token)
                return 0;
        if (is_plain(config->server) && !is_here(config->server))
                return weir_err_set(
                        err, WEIR_EINVALID,
                        "the API server %s is reached without TLS, so no token is sent to it: write https://",
                        config->server);
        r = add_header(request, "Authorization: Bearer ", token);
        if (fresh)
                explicit_bzero(fresh, strlen(fresh));
        return r == -EINVAL ?
                       weir_err_set(err, WEIR_EINVALID, "the token of the user \"%s\" is not one line", config->user) :
               r < 0 ? out_of_memory(err) :
                       0;
}

static int put_headers(struct weir_kube_client *client, struct weir_kube_request *request)
{
        const struct weir_kube_config *config = &client->config;
        int r;

        r = add_header(request, "Accept: ", "application/json");
        if (r == 0 && request->body)
                r = add_header(request, "Content-Type: ", request->content_type);
        /* No waiting for "100 Continue". */
        if (r == 0 && request->body)
                r = add_header(request, "Expect:", "");
        if (r == 0 && config->as_user)
                r = add_header(request, "Impersonate-User: ", config->as_user);
        if (r == 0 && config->as_uid)
                r = add_header(request, "Impersonate-Uid: ", config->as_uid);
        for (size_t i = 0; i < config->as_groups.n && r == 0; i++)
                r = add_header(request, "Impersonate-Group: ", config->as_groups.items[i]);
        return r;
}

static CURLcode put_blob(CURL *easy, CURLoption option, const char *pem)
{
        struct curl_blob blob = { .data = (void *)(uintptr_t)pem, .len = strlen(pem), .flags = CURL_BLOB_COPY };

        return weir_curl.easy_setopt(easy, option, &blob);
}

static CURLcode put_trust(const struct weir_kube_client *client, CURL *easy)
{
        const struct weir_kube_config *config = &client->config;
        const char *certificate = client->certificate ? client->certificate : config->certificate;
        const char *key = client->key ? client->key : config->key;
        CURLcode r = CURLE_OK;

        /* The cluster's own authority, and no other: curl would look into the system's folder besides. */
        if (config->ca) {
                r = put_blob(easy, CURLOPT_CAINFO_BLOB, config->ca);
                if (r == CURLE_OK)
                        r = weir_curl.easy_setopt(easy, CURLOPT_CAPATH, (char *)NULL);
        }
        if (r == CURLE_OK && config->insecure) {
                r = weir_curl.easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
                if (r == CURLE_OK)
                        r = weir_curl.easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
        }
        if (r == CURLE_OK && certificate && key) {
                r = put_blob(easy, CURLOPT_SSLCERT_BLOB, certificate);
                if (r == CURLE_OK)
                        r = put_blob(easy, CURLOPT_SSLKEY_BLOB, key);
        }
        return r;
}

/* The name that the certificate shows is put into the address, and the connection is led to the real one. */
static CURLcode put_server_name(const struct weir_kube_client *client, struct weir_kube_request *request)
{
        const char *server = client->config.server, *name = client->config.server_name;
        const char *host = strstr(server, "://") + 3;
        size_t n = strcspn(host, "/");
        weir_auto_free char *to = NULL;
        struct curl_slist *list;
        const char *port;

        if (!name)
                return CURLE_OK;
        port = memrchr(host, ':', n);
        if (!port || memchr(port, ']', n - (size_t)(port - host)))
                port = NULL;
        free(request->url);
        request->url = weir_asprintf("https://%s:%.*s%s%s", name, port ? (int)(host + n - port - 1) : 3,
                                     port ? port + 1 : "443", host + n, request->path);
        to = weir_asprintf("::%.*s%s", (int)n, host, port ? "" : ":443");
        list = request->url && to ? weir_curl.slist_append(NULL, to) : NULL;
        if (!list)
                return CURLE_OUT_OF_MEMORY;
        request->connect_to = list; /* curl asks for it to live as long as the request */
        return weir_curl.easy_setopt(request->easy, CURLOPT_CONNECT_TO, list);
}

static CURLcode put_address(const struct weir_kube_client *client, struct weir_kube_request *request)
{
        CURL *easy = request->easy;
        CURLcode r;

        request->url = weir_asprintf("%s%s", client->config.server, request->path);
        if (!request->url)
                return CURLE_OUT_OF_MEMORY;
        r = put_server_name(client, request);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_URL, request->url);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        if (r == CURLE_OK && client->config.proxy)
                r = weir_curl.easy_setopt(easy, CURLOPT_PROXY, client->config.proxy);
        return r;
}

static CURLcode put_method(struct weir_kube_request *request)
{
        CURLcode r = weir_curl.easy_setopt(request->easy, CURLOPT_CUSTOMREQUEST, request->method);

        if (r == CURLE_OK && request->body)
                r = weir_curl.easy_setopt(request->easy, CURLOPT_POSTFIELDS, request->body);
        if (r == CURLE_OK && request->body)
                r = weir_curl.easy_setopt(request->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                                          (curl_off_t)strlen(request->body));
        return r;
}

static CURLcode put_limits(const struct weir_kube_client *client, struct weir_kube_request *request)
{
        CURL *easy = request->easy;
        CURLcode r;

        r = weir_curl.easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
        /* Streams share one connection: wait for it rather than open another. */
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)client->times.connect);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)client->times.request);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_SECONDS);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_PROBE_SECONDS);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_socket);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(easy, CURLOPT_SOCKOPTDATA, (void *)(uintptr_t)client);
        return r;
}

static CURLcode put_receiver(struct weir_kube_request *request)
{
        CURLcode r;

        request->answer.limit = ANSWER_MAX;
        request->error[0] = '\0';
        r = weir_curl.easy_setopt(request->easy, CURLOPT_WRITEFUNCTION, on_answer);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(request->easy, CURLOPT_WRITEDATA, request);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(request->easy, CURLOPT_ERRORBUFFER, request->error);
        if (r == CURLE_OK)
                r = weir_curl.easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->headers);
        return r;
}

static CURLcode put_password(const struct weir_kube_config *config, CURL *easy)
{
        CURLcode r;

        if (!config->username)
                return CURLE_OK;
        r = weir_curl.easy_setopt(easy, CURLOPT_USERNAME, config->username);
        return r == CURLE_OK ? weir_curl.easy_setopt(easy, CURLOPT_PASSWORD, config->password ? config->password : "") :
                               r;
}

int weir_kube_request_prepare(struct weir_kube_client *client, struct weir_kube_request *request, struct weir_err *err)
{
        CURLcode code;
        int r;

        weir_curl.easy_reset(request->easy);
        weir_curl.slist_free_all(TAKE_PTR(request->headers));
        weir_curl.slist_free_all(TAKE_PTR(request->connect_to));
        free(TAKE_PTR(request->url));
        weir_buf_clear(&request->answer);
        request->status = 0;
        request->retry_after = 0;
        r = put_token(client, request, err);
        if (r < 0)
                return r;
        if (put_headers(client, request) < 0)
                return out_of_memory(err);
        code = put_address(client, request);
        if (code == CURLE_OK)
                code = put_method(request);
        if (code == CURLE_OK)
                code = put_trust(client, request->easy);
        if (code == CURLE_OK)
                code = put_password(&client->config, request->easy);
        if (code == CURLE_OK)
                code = put_limits(client, request);
        if (code == CURLE_OK)
                code = put_receiver(request);
        return code == CURLE_OK ? 0 :
                                  weir_err_set(err, WEIR_EINVALID, "the API server %s: %s", client->config.server,
                                               weir_curl.easy_strerror(code));
}

void weir_kube_request_done(struct weir_kube_request *request, CURLcode code)
{
        curl_off_t after = 0;

        request->code = code;
        (void)weir_curl.easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &request->status);
        if (weir_curl.easy_getinfo(request->easy, CURLINFO_RETRY_AFTER, &after) == CURLE_OK && after > 0)
                request->retry_after =
                        1000u * (unsigned)(after < RETRY_AFTER_MAX_SECONDS ? after : RETRY_AFTER_MAX_SECONDS);
}

/* --- waiting for one --- */

static bool asks_to_wait(const struct weir_kube_request *request)
{
        return request->status == 429 || (request->status >= 500 && request->retry_after > 0);
}

static void pause_ms(unsigned ms)
{
        const struct timespec pause = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

        (void)nanosleep(&pause, NULL);
}

static int perform(struct weir_kube_client *client, struct weir_kube_request *request, struct weir_err *err)
{
        int r = 0;

        if (weir_kube_plugin_needed(client))
                r = weir_kube_plugin_run(client, err);
        if (r == 0)
                r = weir_kube_request_prepare(client, request, err);
        if (r == 0)
                weir_kube_request_done(request, weir_curl.easy_perform(request->easy));
        return r;
}

int weir_kube_call(struct weir_kube_client *client, struct weir_kube_request *request, json_t **ret_json,
                   struct weir_err *err)
{
        uint64_t deadline = weir_time_ns() + client->times.patience * WEIR_MS;
        bool renewed = false;
        int r;

        request->easy = client->easy;
        for (;;) {
                r = perform(client, request, err);
                if (r < 0)
                        return r;
                if (request->status == 401 && client->config.exec.command && !renewed) {
                        weir_kube_plugin_forget(client);
                        renewed = true;
                        continue;
                }
                if (!asks_to_wait(request))
                        break;
                r = (int)(request->retry_after ? request->retry_after : client->times.retry_first);
                if (weir_time_ns() + (uint64_t)r * WEIR_MS >= deadline)
                        break;
                pause_ms((unsigned)r);
        }
        r = weir_kube_judge(client, request, err);
        return r == 0 && ret_json ? weir_kube_parse(client, request, ret_json, err) : r;
}

int weir_kube_parse(struct weir_kube_client *client, const struct weir_kube_request *request, json_t **ret_json,
                    struct weir_err *err)
{
        json_t *json = json_loadb(request->answer.data ? request->answer.data : "", request->answer.length,
                                  JSON_REJECT_DUPLICATES, NULL);

        if (json_is_object(json)) { /* NULL is none */
                *ret_json = json;
                return 0;
        }
        json_decref(json);
        return weir_err_set(
                err, WEIR_EINVALID,
                "the API server %s answers with something that is not Kubernetes' JSON (%.40s): is this the "
                "right server, or does a proxy stand before it?",
                client->config.server, request->answer.data ? request->answer.data : "nothing");
}
