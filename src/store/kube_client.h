/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of one API server: credentials that rotate, requests that end in bounded time, failures in one line.
 * Private to store/.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "store/curl.h"
#include "store/kubeconfig.h"

struct weir_err;

/* How long things may take, in ms; tests shorten them. */
struct weir_kube_times {
        unsigned connect;     /* until the API server has been reached and TLS is up */
        unsigned request;     /* one request, watches excepted */
        unsigned patience;    /* all attempts of one request together, where the server asks to wait */
        unsigned plugin;      /* until an exec plugin has printed its credentials */
        unsigned silence;     /* of a watch, before it is asked whether anybody is there */
        unsigned probe;       /* until that question is answered */
        unsigned retry_first; /* pause after a failure; doubles, with jitter */
        unsigned retry_last;  /* up to this */
        unsigned watch;       /* the server is asked to end a watch after this and up to twice as long */
        unsigned first;       /* what a start waits for the first list */
        unsigned keep;        /* between two writes of the kept policy */
};
extern const struct weir_kube_times weir_kube_times;

/* An exec plugin that is running; @pid is 0 if none is. @fd: what it prints */
struct weir_kube_plugin {
        pid_t pid;
        int fd;
        uint64_t deadline; /* ns */
        struct weir_buf output;
};

/**
 * struct weir_kube_client
 * @token, @certificate, @key: what the plugin gave; NULL before and without one
 * @expires: seconds since the epoch; 0 if it does not say
 * @mark: SO_MARK of its sockets; 0 for none
 * @easy: for one request after the other, on a connection that stays
 */
struct weir_kube_client {
        struct weir_kube_config config;
        struct weir_kube_times times;
        struct weir_kube_plugin plugin;
        char *token, *certificate, *key;
        int64_t expires;
        uint32_t mark;
        CURL *easy;
};

/* @config is taken over, also on failure. */
WEIR_MUST int weir_kube_client_new(struct weir_kube_config *config, struct weir_kube_client **ret_client,
                                   struct weir_err *err);
void weir_kube_client_free(struct weir_kube_client *client);
WEIR_DEFINE_CLEANUP(kube_client, struct weir_kube_client *, weir_kube_client_free)

/**
 * struct weir_kube_request - one request and its answer
 * @method: "GET", ...; @path: "/apis/...?query"; @body may be NULL; @content_type of the body
 * @status: of HTTP; 0 if there was no answer
 * @answer: its body, bounded
 * @retry_after: ms that the server asks to wait; 0 if it does not
 */
struct weir_kube_request {
        const char *method, *content_type;
        const char *resource; /* "externalservices.networking.istio.io", for messages; NULL if none is meant */
        char *path;
        const char *body;
        CURL *easy; /* borrowed from the client, or owned by a watch */
        struct curl_slist *headers, *connect_to;
        char *url;
        struct weir_buf answer;
        long status;
        unsigned retry_after;
        CURLcode code;
        char error[CURL_ERROR_SIZE];
};
void weir_kube_request_clear(struct weir_kube_request *request); /* not @easy */

/* Puts the request on @request->easy: address, credentials, limits. The answer goes to @answer unless the caller sets
 * another receiver. Re-reads a token's file. */
WEIR_MUST int weir_kube_request_prepare(struct weir_kube_client *client, struct weir_kube_request *request,
                                        struct weir_err *err);
/* After curl is done with it: fills @status and @retry_after. */
void weir_kube_request_done(struct weir_kube_request *request, CURLcode code);

/**
 * weir_kube_call() - one request, waited for
 * Waits where the server asks for it, and renews credentials that are refused once.
 * @ret_json: the answer of a status below 400; NULL if not wanted. The caller owns a reference
 * Return: 0; WEIR_EEXISTS, WEIR_ENOTFOUND, WEIR_ECONFLICT, WEIR_EINVALID, WEIR_EUNSUPPORTED (the server knows no such
 * resource), -EACCES, -errno with @err
 */
WEIR_MUST int weir_kube_call(struct weir_kube_client *client, struct weir_kube_request *request, json_t **ret_json,
                             struct weir_err *err);
/* What a finished request says: 0 for a status of 2xx, else as weir_kube_call(); -ESTALE for 410. */
WEIR_MUST int weir_kube_judge(struct weir_kube_client *client, const struct weir_kube_request *request,
                              struct weir_err *err);
/* The answer as JSON. WEIR_EINVALID with @err if it is something else. */
WEIR_MUST int weir_kube_parse(struct weir_kube_client *client, const struct weir_kube_request *request,
                              json_t **ret_json, struct weir_err *err);

static inline void weir_json_unref_cleanup(json_t **json)
{
        json_decref(*json);
}

/* --- kube_plugin.c --- */

/* Whether a plugin must be run before the next request. */
bool weir_kube_plugin_needed(const struct weir_kube_client *client);
WEIR_MUST int weir_kube_plugin_start(struct weir_kube_client *client, struct weir_err *err);
/* 1 when the credentials are there, 0 if more is to come, or an error. Never waits. */
WEIR_MUST int weir_kube_plugin_continue(struct weir_kube_client *client, struct weir_err *err);
/* Starts it and waits. */
WEIR_MUST int weir_kube_plugin_run(struct weir_kube_client *client, struct weir_err *err);
void weir_kube_plugin_end(struct weir_kube_client *client);
/* The credentials were refused. */
void weir_kube_plugin_forget(struct weir_kube_client *client);
