/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following a cluster as a good citizen of it.
 *
 * Theory of operation
 *
 * One stream for each kind, over one HTTP/2 connection. A stream is in one of these states:
 *
 *   WAIT   nothing is in flight; it goes on at @due, with a list if @relist or if nothing was listed yet.
 *   LIST   a page is being fetched. Pages gather in @fresh; what is in force stays until the last of them is there,
 *          then both are exchanged whole.
 *   WATCH  an answer that does not end is read line by line from the version of the list, or of the last event or
 *          bookmark. When the server ends it, or it breaks, it is opened again from there: nothing is lost.
 *
 * A version that the server has forgotten (410, as a status or inside a stream that began with 200) means to list
 * again, after a pause with jitter, for all watchers of a cluster learn of it at the same moment. Failures make pauses
 * that double, with jitter; where the server says Retry-After it is obeyed. Whatever goes wrong, what is in force
 * stays.
 *
 * A stream on which nothing is said for @silence is not trusted: /version is asked on the same connection, and if that
 * is not answered in time, the connection is thrown away with all its streams. So a peer that only acknowledges, or a
 * middlebox that forgot us, is found; one that is gone altogether is found by the kernel (kube_client.c).
 *
 * The server is asked to end a watch after some minutes; one that goes on beyond that is opened again, too.
 *
 * All of this hangs on one epoll descriptor: curl's sockets, a timer, and the output of an exec plugin. It is readable
 * when there is something to do, and doing it never waits.
 */
#include "store/kube_watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/strutil.h"
#include "base/time.h"

#define PAGE_SIZE 500
#define LINE_MAX_BYTES (8 * 1024 * 1024)
#define ERROR_BODY_MAX (64 * 1024)
#define EVENTS_PER_TURN 16
#define TURNS_MAX 8

enum state { WAIT, LIST, WATCH };

/* What a watch came to besides its end. */
enum outcome { OUTCOME_NONE, OUTCOME_EXPIRED, OUTCOME_GARBAGE, OUTCOME_ERROR };

struct stream {
        struct weir_kube_follow *follow;
        enum weir_kind kind;
        enum state state;
        unsigned version; /* counted from the newest of the kind's */
        struct weir_kube_request request;
        bool in_multi;
        struct weir_kube_table table, fresh;
        char *resume;       /* resourceVersion */
        char *next;         /* continue token of the next page; NULL for the first */
        bool relist, whole; /* @whole: without pages, for a continue token expired */
        bool synced;
        struct weir_buf line;
        enum outcome outcome;
        uint64_t due, heard, opened, until; /* @until: a watch should have been ended by the server */
        unsigned pause;                     /* ms, of the next failure */
        struct weir_err error;              /* of the last attempt; code 0 if it went well */
};

struct weir_kube_follow {
        struct weir_kube_client *client;
        int epoll, timer;
        CURLM *multi;
        uint64_t curl_due; /* 0: none */
        struct stream streams[WEIR_KIND_COUNT];
        struct weir_kube_request probe;
        bool probing;
        bool changed;
        uint64_t wake; /* when the owner wants a turn; 0: never */
};

/* --- time --- */

static uint64_t random_below(uint64_t limit)
{
        uint64_t value = 0;

        if (limit == 0 || getrandom(&value, sizeof(value), GRND_NONBLOCK) != sizeof(value))
                return limit / 2;
        return value % limit;
}

static uint64_t min(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

static uint64_t next_due(const struct weir_kube_follow *follow)
{
        const struct weir_kube_times *times = &follow->client->times;
        uint64_t due = follow->curl_due ? follow->curl_due : UINT64_MAX;

        if (follow->wake)
                due = min(due, follow->wake);
        if (follow->client->plugin.pid)
                due = min(due, follow->client->plugin.deadline);
        for (size_t i = 0; i < WEIR_KIND_COUNT; i++) {
                const struct stream *stream = &follow->streams[i];

                if (stream->state == WAIT && !follow->client->plugin.pid)
                        due = min(due, stream->due);
                if (stream->state == WATCH)
                        due = min(due, stream->until);
                if (stream->state == WATCH && !follow->probing)
                        due = min(due, stream->heard + times->silence * WEIR_MS);
        }
        return due;
}

static void arm(struct weir_kube_follow *follow)
{
        uint64_t due = next_due(follow);
        struct itimerspec at = { 0 };

        if (due != UINT64_MAX) {
                due = due ? due : 1;
                at.it_value.tv_sec = (time_t)(due / WEIR_SEC);
                at.it_value.tv_nsec = (long)(due % WEIR_SEC);
        }
        (void)timerfd_settime(follow->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* --- curl's sockets on our epoll --- */

static int on_curl_timer(CURLM *multi, long timeout_ms, void *context)
{
        struct weir_kube_follow *follow = context;

        (void)multi;
        follow->curl_due = timeout_ms < 0 ? 0 : weir_time_ns() + (uint64_t)timeout_ms * WEIR_MS;
        return 0;
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *unused)
{
        struct weir_kube_follow *follow = context;
        struct epoll_event event = { .data.fd = fd };

        (void)easy;
        (void)unused;
        if (what == CURL_POLL_REMOVE) {
                (void)epoll_ctl(follow->epoll, EPOLL_CTL_DEL, fd, NULL);
                return 0;
        }
        event.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);
        if (epoll_ctl(follow->epoll, EPOLL_CTL_MOD, fd, &event) < 0 && errno == ENOENT)
                return epoll_ctl(follow->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -1 : 0;
        return 0;
}

static int make_multi(struct weir_kube_follow *follow)
{
        follow->multi = weir_curl.multi_init();
        if (!follow->multi)
                return -ENOMEM;
        if (weir_curl.multi_setopt(follow->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket) != CURLM_OK ||
            weir_curl.multi_setopt(follow->multi, CURLMOPT_SOCKETDATA, follow) != CURLM_OK ||
            weir_curl.multi_setopt(follow->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer) != CURLM_OK ||
            weir_curl.multi_setopt(follow->multi, CURLMOPT_TIMERDATA, follow) != CURLM_OK ||
            weir_curl.multi_setopt(follow->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX) != CURLM_OK)
                return -ENOMEM;
        return 0;
}

static void take_out(struct stream *stream)
{
        if (stream->in_multi)
                (void)weir_curl.multi_remove_handle(stream->follow->multi, stream->request.easy);
        stream->in_multi = false;
}

/* --- pauses --- */

/* Between half of the pause and all of it, and never before the server wants. */
static void wait_for(struct stream *stream, unsigned at_least)
{
        const struct weir_kube_times *times = &stream->follow->client->times;
        unsigned pause = stream->pause ? stream->pause : times->retry_first;
        unsigned jittered = pause / 2 + (unsigned)random_below(pause / 2 + 1);

        stream->pause = 2 * pause < times->retry_last ? 2 * pause : times->retry_last;
        if (at_least)
                jittered = at_least + (unsigned)random_below(at_least / 10 + 1);
        stream->state = WAIT;
        stream->due = weir_time_ns() + (uint64_t)jittered * WEIR_MS;
}

static void failed(struct stream *stream, const struct weir_err *err, unsigned at_least)
{
        stream->error = *err;
        wait_for(stream, at_least);
}

static void went_well(struct stream *stream)
{
        stream->error = (struct weir_err){ 0 };
        stream->pause = 0;
}

/* --- what the server says --- */

static int remember_version(struct stream *stream, const json_t *metadata)
{
        const char *version = json_string_value(json_object_get(metadata, "resourceVersion"));
        char *copy;

        if (!version || !version[0])
                return WEIR_EINVALID;
        copy = strdup(version);
        if (!copy)
                return -ENOMEM;
        free(stream->resume);
        stream->resume = copy;
        return 0;
}

/* The status that an ERROR event carries. */
static int take_error(struct stream *stream, const json_t *object)
{
        const char *message = json_string_value(json_object_get(object, "message"));

        if (json_integer_value(json_object_get(object, "code")) == 410) {
                stream->outcome = OUTCOME_EXPIRED;
                return -ESTALE;
        }
        stream->outcome = OUTCOME_ERROR;
        return weir_err_set(&stream->error, -EBUSY, "the API server %s ends the watch: %s",
                            stream->follow->client->config.server, message ? message : "it does not say why");
}

static int take_event(struct stream *stream, json_t *event)
{
        const char *type = json_string_value(json_object_get(event, "type"));
        json_t *object = json_object_get(event, "object");
        bool *changed = &stream->follow->changed;
        int r;

        if (!type || !json_is_object(object))
                return WEIR_EINVALID;
        if (weir_streq(type, "ERROR"))
                return take_error(stream, object);
        if (weir_streq(type, "ADDED") || weir_streq(type, "MODIFIED"))
                r = weir_kube_table_put(&stream->table, stream->kind, object, changed);
        else if (weir_streq(type, "DELETED"))
                r = weir_kube_table_drop(&stream->table, object, changed);
        else
                r = weir_streq(type, "BOOKMARK") ? 0 : WEIR_EINVALID;
        return r == 0 ? remember_version(stream, json_object_get(object, "metadata")) : r;
}

static int take_line(struct stream *stream, const char *line, size_t n)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *event = NULL;
        int r;

        if (n == 0)
                return 0;
        event = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL);
        r = event ? take_event(stream, event) : WEIR_EINVALID;
        if (r < 0 && stream->outcome == OUTCOME_NONE)
                stream->outcome = OUTCOME_GARBAGE;
        return r;
}

static int take_lines(struct stream *stream)
{
        const char *at = stream->line.data, *end = at + stream->line.length, *newline;
        int r = 0;

        while (r == 0 && at < end && (newline = memchr(at, '\n', (size_t)(end - at)))) {
                r = take_line(stream, at, (size_t)(newline - at));
                at = newline + 1;
        }
        if (r == 0 && at > stream->line.data) {
                size_t rest = (size_t)(end - at);

                memmove(stream->line.data, at, rest);
                stream->line.length = rest;
                stream->line.data[rest] = '\0';
        }
        return r;
}

/* Bytes of an open watch. What comes with another status than 200 is the text of an error. */
static size_t on_watch_bytes(char *bytes, size_t size, size_t n, void *context)
{
        struct stream *stream = context;
        long status = 0;

        n *= size;
        stream->heard = weir_time_ns();
        (void)weir_curl.easy_getinfo(stream->request.easy, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200) {
                if (stream->request.answer.length + n <= ERROR_BODY_MAX)
                        weir_buf_add(&stream->request.answer, bytes, n);
                return n;
        }
        weir_buf_add(&stream->line, bytes, n);
        if (stream->line.error) {
                stream->outcome = OUTCOME_GARBAGE;
                return 0;
        }
        return take_lines(stream) < 0 ? 0 : n;
}

/* The server has taken the watch: long before the first event, if nothing happens. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the type is curl's */
static size_t on_watch_header(char *bytes, size_t size, size_t n, void *context)
{
        struct stream *stream = context;
        long status = 0;

        (void)bytes;
        stream->heard = weir_time_ns();
        (void)weir_curl.easy_getinfo(stream->request.easy, CURLINFO_RESPONSE_CODE, &status);
        if (status == 200)
                stream->error = (struct weir_err){ 0 };
        return size * n;
}

/* --- starting --- */

static const char *version_of(const struct stream *stream)
{
        const char *const *versions = weir_kind_info(stream->kind)->versions;
        unsigned n = 0;

        while (versions[n])
                n++;
        return versions[n - 1 - stream->version];
}

static bool has_older_version(const struct stream *stream)
{
        const char *const *versions = weir_kind_info(stream->kind)->versions;

        return versions[stream->version + 1] != NULL;
}

static char *list_path(const struct stream *stream)
{
        const struct weir_kind_info *info = weir_kind_info(stream->kind);
        weir_auto_free char *page = stream->whole ? strdup("") :
                                    stream->next  ? weir_asprintf("limit=%d&continue=%s", PAGE_SIZE, stream->next) :
                                                    weir_asprintf("limit=%d", PAGE_SIZE);

        return page ? weir_asprintf("/apis/%s/%s/%s?%s", info->group, version_of(stream), info->plural, page) : NULL;
}

static char *watch_path(struct stream *stream)
{
        const struct weir_kind_info *info = weir_kind_info(stream->kind);
        const struct weir_kube_times *times = &stream->follow->client->times;
        unsigned seconds = times->watch / 1000;

        /* Not all watchers of a cluster at the same moment. */
        seconds += (unsigned)random_below(seconds + 1);
        stream->until = weir_time_ns() + seconds * WEIR_SEC + times->silence * WEIR_MS;
        return weir_asprintf("/apis/%s/%s/%s?watch=true&allowWatchBookmarks=true&resourceVersion=%s&timeoutSeconds=%u",
                             info->group, version_of(stream), info->plural, stream->resume, seconds);
}

static int prepare_watch(struct stream *stream, struct weir_err *err)
{
        CURL *easy = stream->request.easy;
        int r;

        r = weir_kube_request_prepare(stream->follow->client, &stream->request, err);
        if (r < 0)
                return r;
        if (weir_curl.easy_setopt(easy, CURLOPT_TIMEOUT_MS, 0L) != CURLE_OK ||
            weir_curl.easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_watch_bytes) != CURLE_OK ||
            weir_curl.easy_setopt(easy, CURLOPT_WRITEDATA, stream) != CURLE_OK ||
            weir_curl.easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_watch_header) != CURLE_OK ||
            weir_curl.easy_setopt(easy, CURLOPT_HEADERDATA, stream) != CURLE_OK)
                return weir_err_set(err, -ENOMEM, "out of memory");
        weir_buf_clear(&stream->line);
        stream->line.limit = LINE_MAX_BYTES;
        stream->outcome = OUTCOME_NONE;
        stream->heard = stream->opened = weir_time_ns();
        return 0;
}

static int prepare(struct stream *stream, bool list, struct weir_err *err)
{
        free(stream->request.path);
        stream->request.path = list ? list_path(stream) : watch_path(stream);
        if (!stream->request.path)
                return weir_err_set(err, -ENOMEM, "out of memory");
        stream->request.method = "GET";
        stream->request.resource = weir_kind_info(stream->kind)->group_resource;
        return list ? weir_kube_request_prepare(stream->follow->client, &stream->request, err) :
                      prepare_watch(stream, err);
}

static void start(struct stream *stream)
{
        bool list = stream->relist || !stream->resume || stream->next;
        struct weir_err err = { 0 };

        if (prepare(stream, list, &err) < 0) {
                failed(stream, &err, 0);
                return;
        }
        if (weir_curl.easy_setopt(stream->request.easy, CURLOPT_PRIVATE, stream) != CURLE_OK ||
            weir_curl.multi_add_handle(stream->follow->multi, stream->request.easy) != CURLM_OK) {
                (void)weir_err_set(&err, -ENOMEM, "out of memory");
                failed(stream, &err, 0);
                return;
        }
        stream->in_multi = true;
        stream->state = list ? LIST : WATCH;
}

/* --- the end of a page --- */

static void abandon_list(struct stream *stream)
{
        weir_kube_table_clear(&stream->fresh);
        free(TAKE_PTR(stream->next));
}

/* A token goes into an address as it is only if nothing in it has a meaning there. */
static int take_continue(struct stream *stream, const json_t *metadata)
{
        const char *token = json_string_value(json_object_get(metadata, "continue"));
        char *escaped, *copy;

        free(TAKE_PTR(stream->next));
        if (!token || !token[0])
                return 0;
        escaped = weir_curl.easy_escape(stream->request.easy, token, 0);
        copy = escaped ? strdup(escaped) : NULL;
        weir_curl.free(escaped);
        stream->next = copy;
        return copy ? 0 : -ENOMEM;
}

static void finish_list(struct stream *stream)
{
        weir_kube_table_clear(&stream->table);
        stream->table = stream->fresh;
        stream->fresh = (struct weir_kube_table){ 0 };
        stream->relist = stream->whole = false;
        stream->synced = true;
        stream->follow->changed = true;
        went_well(stream);
}

static int take_page(struct stream *stream, struct weir_err *err)
{
        __attribute__((cleanup(weir_json_unref_cleanup))) json_t *page = NULL;
        bool ignored = false;
        json_t *items, *item;
        size_t i;
        int r;

        r = weir_kube_parse(stream->follow->client, &stream->request, &page, err);
        if (r < 0)
                return r;
        items = json_object_get(page, "items");
        if (!json_is_array(items))
                return weir_err_set(err, WEIR_EINVALID, "the API server %s answers with no list of %s",
                                    stream->follow->client->config.server, stream->request.resource);
        json_array_foreach(items, i, item)
        {
                r = weir_kube_table_put(&stream->fresh, stream->kind, item, &ignored);
                if (r < 0)
                        return weir_err_set(err, r, "the API server %s lists something that is no %s, or too many",
                                            stream->follow->client->config.server, stream->request.resource);
        }
        r = take_continue(stream, json_object_get(page, "metadata"));
        if (r == 0)
                r = remember_version(stream, json_object_get(page, "metadata"));
        return r < 0 ? weir_err_set(err, r, "the API server %s gives a list without a version",
                                    stream->follow->client->config.server) :
                       0;
}

static void end_list(struct stream *stream)
{
        struct weir_err err = { 0 };
        int r;

        r = weir_kube_judge(stream->follow->client, &stream->request, &err);
        if (r == WEIR_EUNSUPPORTED && !stream->synced && has_older_version(stream)) {
                stream->version++;
                stream->state = WAIT;
                stream->due = 0;
                return;
        }
        if (r == 0)
                r = take_page(stream, &err);
        if (r < 0) {
                abandon_list(stream);
                /* The token of the next page expired on the way: what is left is to ask for all of it at once. */
                if (r == -ESTALE)
                        stream->whole = true;
                stream->relist = true;
                failed(stream, &err, stream->request.retry_after);
                return;
        }
        if (!stream->next)
                finish_list(stream);
        stream->state = WAIT;
        stream->due = 0;
}

/* --- the end of a watch --- */

static void relist_later(struct stream *stream)
{
        stream->relist = true;
        wait_for(stream, 0);
}

static void watch_broke(struct stream *stream, CURLcode code)
{
        struct weir_err err = { 0 };

        if (stream->outcome == OUTCOME_GARBAGE) {
                (void)weir_err_set(&err, WEIR_EINVALID,
                                   "the API server %s sends something into the watch that is no event",
                                   stream->follow->client->config.server);
                failed(stream, &err, 0);
                return;
        }
        /* Why, take_error() has said, or the next attempt will. */
        wait_for(stream, 0);
        /* The server ends each watch some time; one that ends at once would make a hot loop. */
        if (code == CURLE_OK && stream->outcome == OUTCOME_NONE &&
            weir_time_ns() - stream->opened > stream->follow->client->times.retry_last * WEIR_MS) {
                stream->pause = 0;
                stream->due = 0;
        }
}

static void end_watch(struct stream *stream, CURLcode code)
{
        struct weir_err err = { 0 };
        int r = 0;

        if (stream->outcome == OUTCOME_EXPIRED) {
                relist_later(stream);
                return;
        }
        /* What ended in the middle of a line was no event, or is told again. */
        if (code == CURLE_OK && stream->line.length > 0 && stream->outcome == OUTCOME_NONE)
                stream->outcome = OUTCOME_GARBAGE;
        if (stream->request.status != 200)
                r = weir_kube_judge(stream->follow->client, &stream->request, &err);
        if (r == -ESTALE)
                relist_later(stream);
        else if (r < 0) {
                /* A definition that was taken away and laid down again is another one. */
                stream->relist |= r == WEIR_EUNSUPPORTED;
                failed(stream, &err, stream->request.retry_after);
        } else
                watch_broke(stream, code);
}

/* --- is anybody there --- */

static void drop_connections(struct weir_kube_follow *follow)
{
        CURLM *old = follow->multi;

        for (size_t i = 0; i < WEIR_KIND_COUNT; i++) {
                struct stream *stream = &follow->streams[i];

                if (!stream->in_multi)
                        continue;
                take_out(stream);
                abandon_list(stream);
                (void)weir_err_set(&stream->error, -ETIMEDOUT, "the API server %s does not answer any more",
                                   follow->client->config.server);
                wait_for(stream, 0);
        }
        if (follow->probing)
                (void)weir_curl.multi_remove_handle(follow->multi, follow->probe.easy);
        follow->probing = false;
        follow->curl_due = 0;
        if (make_multi(follow) < 0) {
                if (follow->multi)
                        (void)weir_curl.multi_cleanup(follow->multi);
                follow->multi = old; /* without memory the old connections must do */
                return;
        }
        (void)weir_curl.multi_cleanup(old);
}

static void start_probe(struct weir_kube_follow *follow)
{
        struct weir_err ignored = { 0 };

        free(follow->probe.path);
        follow->probe.path = strdup("/version");
        follow->probe.method = "GET";
        if (!follow->probe.path || weir_kube_request_prepare(follow->client, &follow->probe, &ignored) < 0 ||
            weir_curl.easy_setopt(follow->probe.easy, CURLOPT_TIMEOUT_MS, (long)follow->client->times.probe) !=
                    CURLE_OK ||
            weir_curl.easy_setopt(follow->probe.easy, CURLOPT_PRIVATE, NULL) != CURLE_OK ||
            weir_curl.multi_add_handle(follow->multi, follow->probe.easy) != CURLM_OK) {
                drop_connections(follow);
                return;
        }
        follow->probing = true;
}

/* Any answer will do, "forbidden" too: somebody is there. */
static void end_probe(struct weir_kube_follow *follow, CURLcode code)
{
        (void)weir_curl.multi_remove_handle(follow->multi, follow->probe.easy);
        follow->probing = false;
        if (code != CURLE_OK) {
                drop_connections(follow);
                return;
        }
        for (size_t i = 0; i < WEIR_KIND_COUNT; i++)
                follow->streams[i].heard = weir_time_ns();
}

/* --- a turn --- */

static void end_stream(struct stream *stream, CURLcode code)
{
        take_out(stream);
        weir_kube_request_done(&stream->request, code);
        /* The next attempt brings other credentials. */
        if (stream->request.status == 401)
                weir_kube_plugin_forget(stream->follow->client);
        if (stream->state == LIST)
                end_list(stream);
        else
                end_watch(stream, code);
}

static void collect(struct weir_kube_follow *follow)
{
        CURLMsg *message;
        int left;

        while ((message = weir_curl.multi_info_read(follow->multi, &left))) {
                CURLcode code = message->data.result;
                CURL *easy = message->easy_handle;
                char *stream = NULL;

                if (message->msg != CURLMSG_DONE)
                        continue;
                (void)weir_curl.easy_getinfo(easy, CURLINFO_PRIVATE, &stream);
                if (stream)
                        end_stream((struct stream *)(void *)stream, code);
                else
                        end_probe(follow, code);
        }
}

static void on_event(struct weir_kube_follow *follow, const struct epoll_event *event)
{
        uint64_t ticks;
        int running, what;

        if (event->data.fd == follow->timer) {
                (void)!read(follow->timer, &ticks, sizeof(ticks));
                return;
        }
        if (event->data.fd == follow->client->plugin.fd)
                return; /* read in plugin_turn() */
        what = (event->events & EPOLLIN ? CURL_CSELECT_IN : 0) | (event->events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
               (event->events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        (void)weir_curl.multi_socket_action(follow->multi, event->data.fd, what, &running);
}

static void plugin_failed(struct weir_kube_follow *follow, const struct weir_err *err)
{
        for (size_t i = 0; i < WEIR_KIND_COUNT; i++)
                if (follow->streams[i].state == WAIT)
                        failed(&follow->streams[i], err, 0);
}

static void start_plugin(struct weir_kube_follow *follow)
{
        struct epoll_event event = { .events = EPOLLIN };
        struct weir_err err = { 0 };

        if (weir_kube_plugin_start(follow->client, &err) < 0) {
                plugin_failed(follow, &err);
                return;
        }
        event.data.fd = follow->client->plugin.fd;
        if (epoll_ctl(follow->epoll, EPOLL_CTL_ADD, follow->client->plugin.fd, &event) < 0) {
                weir_kube_plugin_end(follow->client);
                (void)weir_err_set(&err, -ENOMEM, "out of memory");
                plugin_failed(follow, &err);
        }
}

/* Closing its descriptor takes it out of the epoll. */
static void plugin_turn(struct weir_kube_follow *follow)
{
        struct weir_err err = { 0 };

        if (follow->client->plugin.pid && weir_kube_plugin_continue(follow->client, &err) < 0)
                plugin_failed(follow, &err);
}

static void timers(struct weir_kube_follow *follow)
{
        const struct weir_kube_times *times = &follow->client->times;
        uint64_t now = weir_time_ns();
        int running;

        if (follow->curl_due && follow->curl_due <= now) {
                follow->curl_due = 0;
                (void)weir_curl.multi_socket_action(follow->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        for (size_t i = 0; i < WEIR_KIND_COUNT; i++) {
                struct stream *stream = &follow->streams[i];

                /* A stream that outlives its time has been forgotten by the other side, whatever the connection says.
                 */
                if (stream->state == WATCH && stream->until <= now) {
                        take_out(stream);
                        stream->state = WAIT;
                        stream->due = now;
                }
                if (stream->state == WATCH && !follow->probing && stream->heard + times->silence * WEIR_MS <= now)
                        start_probe(follow);
                if (stream->state != WAIT || stream->due > now || follow->client->plugin.pid)
                        continue;
                if (weir_kube_plugin_needed(follow->client))
                        start_plugin(follow);
                else
                        start(stream);
        }
}

static bool is_ready(struct weir_kube_follow *follow)
{
        uint64_t now = weir_time_ns();

        if (follow->wake && follow->wake <= now)
                follow->wake = 0;
        return next_due(follow) <= now;
}

bool weir_kube_follow_turn(struct weir_kube_follow *follow)
{
        bool changed;

        for (unsigned i = 0; i < TURNS_MAX; i++) {
                struct epoll_event events[EVENTS_PER_TURN];
                int n = epoll_wait(follow->epoll, events, EVENTS_PER_TURN, 0);

                for (int j = 0; j < n; j++)
                        on_event(follow, &events[j]);
                plugin_turn(follow);
                timers(follow);
                collect(follow);
                if (n <= 0 && !is_ready(follow))
                        break;
        }
        arm(follow);
        changed = follow->changed;
        follow->changed = false;
        return changed;
}

/* --- from outside --- */

int weir_kube_follow_new(struct weir_kube_client *client, struct weir_kube_follow **ret_follow, struct weir_err *err)
{
        struct weir_kube_follow *follow = calloc(1, sizeof(*follow));
        struct epoll_event event = { .events = EPOLLIN };

        if (!follow)
                return weir_err_set(err, -ENOMEM, "out of memory");
        follow->client = client;
        follow->epoll = epoll_create1(EPOLL_CLOEXEC);
        follow->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        follow->probe.easy = weir_curl.easy_init();
        event.data.fd = follow->timer;
        if (follow->epoll < 0 || follow->timer < 0 || !follow->probe.easy || make_multi(follow) < 0 ||
            epoll_ctl(follow->epoll, EPOLL_CTL_ADD, follow->timer, &event) < 0) {
                weir_kube_follow_free(follow);
                return weir_err_set(err, -ENOMEM, "cannot make what follows the API server");
        }
        for (unsigned i = 0; i < WEIR_KIND_COUNT; i++) {
                struct stream *stream = &follow->streams[i];

                stream->follow = follow;
                stream->kind = (enum weir_kind)i;
                stream->request.easy = weir_curl.easy_init();
                if (!stream->request.easy) {
                        weir_kube_follow_free(follow);
                        return weir_err_set(err, -ENOMEM, "out of memory");
                }
        }
        arm(follow);
        *ret_follow = follow;
        return 0;
}

void weir_kube_follow_free(struct weir_kube_follow *follow)
{
        if (!follow)
                return;
        for (size_t i = 0; i < WEIR_KIND_COUNT; i++) {
                struct stream *stream = &follow->streams[i];

                if (stream->follow)
                        take_out(stream);
                if (stream->request.easy)
                        weir_curl.easy_cleanup(stream->request.easy);
                stream->request.easy = NULL;
                weir_kube_request_clear(&stream->request);
                weir_kube_table_clear(&stream->table);
                weir_kube_table_clear(&stream->fresh);
                weir_buf_clear(&stream->line);
                free(stream->resume);
                free(stream->next);
        }
        if (follow->probing)
                (void)weir_curl.multi_remove_handle(follow->multi, follow->probe.easy);
        if (follow->probe.easy)
                weir_curl.easy_cleanup(follow->probe.easy);
        follow->probe.easy = NULL;
        weir_kube_request_clear(&follow->probe);
        if (follow->multi)
                (void)weir_curl.multi_cleanup(follow->multi);
        weir_close_cleanup(&follow->timer);
        weir_close_cleanup(&follow->epoll);
        free(follow);
}

int weir_kube_follow_fd(const struct weir_kube_follow *follow)
{
        return follow->epoll;
}

void weir_kube_follow_wake(struct weir_kube_follow *follow, uint64_t at_ns)
{
        follow->wake = at_ns;
        arm(follow);
}

bool weir_kube_follow_synced(const struct weir_kube_follow *follow)
{
        for (size_t i = 0; i < WEIR_KIND_COUNT; i++)
                if (!follow->streams[i].synced)
                        return false;
        return true;
}

const char *weir_kube_follow_trouble(const struct weir_kube_follow *follow)
{
        for (size_t i = 0; i < WEIR_KIND_COUNT; i++)
                if (follow->streams[i].error.code)
                        return follow->streams[i].error.text;
        return NULL;
}

struct weir_kube_table *weir_kube_follow_table(struct weir_kube_follow *follow, enum weir_kind kind)
{
        return &follow->streams[kind].table;
}

const char *weir_kube_follow_version(const struct weir_kube_follow *follow, enum weir_kind kind)
{
        return version_of(&follow->streams[kind]);
}

static const struct weir_err *first_failure(const struct weir_kube_follow *follow)
{
        for (size_t i = 0; i < WEIR_KIND_COUNT; i++)
                if (follow->streams[i].error.code && !follow->streams[i].synced)
                        return &follow->streams[i].error;
        return NULL;
}

/* One that is overloaded asks for patience; anything else is not better in a moment. */
static bool is_final(const struct weir_err *failure)
{
        return failure && failure->code != -EBUSY;
}

int weir_kube_follow_first(struct weir_kube_follow *follow, struct weir_err *err)
{
        uint64_t deadline = weir_time_ns() + follow->client->times.first * WEIR_MS;
        const struct weir_err *failure = NULL;
        bool changed = false;

        while (!weir_kube_follow_synced(follow) && !is_final(failure)) {
                struct epoll_event event;
                uint64_t now = weir_time_ns();

                if (now >= deadline && failure)
                        break;
                if (now >= deadline)
                        return weir_err_set(err, -ETIMEDOUT, "the API server %s did not answer within %u ms",
                                            follow->client->config.server, follow->client->times.first);
                (void)epoll_wait(follow->epoll, &event, 1, (int)((deadline - now) / WEIR_MS) + 1);
                changed |= weir_kube_follow_turn(follow);
                failure = first_failure(follow);
        }
        follow->changed |= changed;
        if (!failure || weir_kube_follow_synced(follow))
                return 0;
        *err = *failure;
        return failure->code;
}
