/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A change of the store, or of this host's addresses, wakes the loop; everything is read and compiled into a snapshot
 * beside the live one, and only if all of it is good is it handed on. Anything wrong leaves the last good policy in
 * force and is told once for each different text.
 *
 * A store that is broken wakes the loop again when it is mended. What is not the store's fault (no descriptors, no
 * memory) wakes nobody, so it is tried again after a while; and since a workload could bring it about to keep a rule
 * that was taken back, some descriptors are held in reserve, and given up for as long as the store is read.
 */
#include "workload/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/gate.h"
#include "base/strutil.h"
#include "base/time.h"
#include "event/loop.h"
#include "model/resource.h"
#include "store/store.h"
#include "workload/host.h"
#include "workload/workload.h"

/* A pass over a store holds the folders down to a file, and the addresses of the host one socket. */
#define RESERVE 8
#define RETRY_NS (100 * WEIR_MS)

struct weir_follow {
        struct weir_loop *loop;
        struct weir_follow_options options;
        char *namespace_;
        struct weir_addr *self;
        size_t n_self;
        uint64_t generation;
        char digest[WEIR_DIGEST_STRLEN]; /* of the last policy that was handed on */
        int store_fd, host_fd, reserve[RESERVE];
        struct weir_timer *retry;
        char *last_problem, *last_broken;
        bool failed;  /* the last attempt */
        bool started; /* in the loop */
};

/* Not while the boundary is built, which may need the last ones of a small limit. */
static void hold_reserve(struct weir_follow *f)
{
        for (size_t i = 0; i < RESERVE && f->started; i++)
                if (f->reserve[i] < 0)
                        f->reserve[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void give_reserve(struct weir_follow *f)
{
        for (size_t i = 0; i < RESERVE; i++)
                weir_close_cleanup(&f->reserve[i]);
        for (size_t i = 0; i < RESERVE; i++)
                f->reserve[i] = -1;
}

static int compile(struct weir_follow *f, const struct weir_resources *resources, struct weir_policy **ret_policy,
                   struct weir_err *err)
{
        struct weir_policy_options options = {
                .namespace_ = f->namespace_,
                .self = f->self,
                .n_self = f->n_self,
                .generation = f->generation + 1,
        };

        return weir_policy_compile(resources, &options, ret_policy, err);
}

/* Resources that are broken but hurt no other. Each time they are others, they are told. */
static int tell_broken(struct weir_follow *f, const struct weir_errs *errors)
{
        weir_auto_free char *text = weir_errs_format(errors);

        if (!text)
                return -ENOMEM;
        if (f->options.notice && (!f->last_broken || !weir_streq(text, f->last_broken)))
                f->options.notice(f->options.notice_context, false, text);
        free(f->last_broken);
        f->last_broken = TAKE_PTR(text);
        return 0;
}

/* The store's content as a snapshot. On failure @err holds one text that names every broken file. */
static int compile_store(struct weir_follow *f, struct weir_policy **ret_policy, struct weir_err *err)
{
        struct weir_store *store = f->options.store;
        struct weir_resources resources = { 0 };
        struct weir_errs errors = { 0 };
        int r;

        r = weir_store_snapshot(store, &resources, &errors);
        if (r == WEIR_EINVALID && weir_store_tolerant(store))
                r = tell_broken(f, &errors);
        if (r == 0)
                r = compile(f, &resources, ret_policy, err);
        else if (errors.n > 0) {
                weir_auto_free char *text = weir_errs_format(&errors);

                r = weir_err_set(err, WEIR_EINVALID, "%s", text ? text : "out of memory");
        } else
                r = weir_err_set(err, r, "cannot read the store %s: %s", weir_store_path(store),
                                 strerror(r > -1000 ? -r : EINVAL));
        weir_errs_clear(&errors);
        weir_resources_clear(&resources);
        return r;
}

static int compile_all(struct weir_follow *f, struct weir_policy **ret_policy, struct weir_err *err)
{
        int r;

        give_reserve(f);
        r = f->options.store ? compile_store(f, ret_policy, err) : compile(f, f->options.resources, ret_policy, err);
        hold_reserve(f);
        return r;
}

/* Tells a problem once, and once that it is over. @text is NULL when all is well. */
static void tell(struct weir_follow *f, const char *text)
{
        if (!text && f->last_problem && f->options.notice)
                f->options.notice(f->options.notice_context, false, "the policy is whole again");
        if (text && (!f->last_problem || !weir_streq(text, f->last_problem)) && f->options.notice)
                f->options.notice(f->options.notice_context, true, text);
        free(f->last_problem);
        f->last_problem = text ? strdup(text) : NULL;
}

static const char *trouble(const struct weir_follow *f)
{
        return f->options.store ? weir_store_trouble(f->options.store) : NULL;
}

static void remember(struct weir_follow *f, const struct weir_policy *policy)
{
        f->generation = weir_policy_generation(policy);
        memcpy(f->digest, weir_policy_digest(policy), sizeof(f->digest));
}

/* @always: hand it on even if the rules are the same, because what they mean may have changed. */
static void renew(struct weir_follow *f, bool always)
{
        struct weir_policy *policy = NULL;
        struct weir_err err = { 0 };
        int r;

        weir_timer_set(f->retry, 0);
        r = compile_all(f, &policy, &err);
        if (r == 0 && !always && weir_streq(weir_policy_digest(policy), f->digest)) {
                weir_policy_unref(policy);
                f->failed = false;
                tell(f, trouble(f));
                return;
        }
        if (r == 0) {
                remember(f, policy);
                r = f->options.take(f->options.context, policy, &err);
        }
        f->failed = r < 0;
        if (r < 0) {
                weir_auto_free char *text = weir_err_format(&err);

                f->digest[0] = '\0'; /* whatever is read next is news */
                tell(f, text ? text : "out of memory");
                if (r != WEIR_EINVALID)
                        weir_timer_set(f->retry, weir_loop_now(f->loop) + RETRY_NS);
                return;
        }
        tell(f, trouble(f));
}

static void on_store(void *context, uint64_t id, uint32_t events)
{
        struct weir_follow *f = context;
        bool changed;

        (void)id;
        (void)events;
        if (weir_store_replaced(f->options.store))
                f->options.replaced(f->options.context, weir_store_path(f->options.store));
        /* The connection to a server may have to be made again. */
        give_reserve(f);
        changed = weir_store_changed(f->options.store);
        hold_reserve(f);
        if (changed && WEIR_GATE(STORE_WATCH))
                renew(f, false);
        else if (!f->failed)
                tell(f, trouble(f));
}

static bool same_addresses(const struct weir_follow *f, const struct weir_addr *addrs, size_t n)
{
        if (n != f->n_self)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!weir_addr_equal(&addrs[i], &f->self[i]))
                        return false;
        return true;
}

static void on_host(void *context, uint64_t id, uint32_t events)
{
        struct weir_follow *f = context;
        struct weir_addr *addrs;
        size_t n;
        int r;

        (void)id;
        (void)events;
        weir_host_watch_drain(f->host_fd);
        give_reserve(f);
        r = weir_host_addresses(&addrs, &n);
        hold_reserve(f);
        if (r < 0) {
                f->failed = true;
                weir_timer_set(f->retry, weir_loop_now(f->loop) + RETRY_NS);
                return;
        }
        if (same_addresses(f, addrs, n) || !WEIR_GATE(NEW_HOST_ADDRESSES)) {
                free(addrs);
                return;
        }
        free(f->self);
        f->self = addrs;
        f->n_self = n;
        renew(f, true);
}

static void on_retry(void *context)
{
        struct weir_follow *f = context;

        if (f->host_fd >= 0)
                on_host(f, 0, 0);
        if (f->failed)
                renew(f, false);
}

int weir_follow_new(struct weir_loop *loop, const struct weir_follow_options *options, struct weir_follow **ret_follow)
{
        weir_auto(follow) struct weir_follow *f = calloc(1, sizeof(*f));
        int r;

        if (!f)
                return -ENOMEM;
        f->loop = loop;
        f->options = *options;
        f->store_fd = f->host_fd = -1;
        for (size_t i = 0; i < RESERVE; i++)
                f->reserve[i] = -1;
        f->namespace_ = strdup(options->namespace_ ? options->namespace_ : "default");
        if (!f->namespace_)
                return -ENOMEM;
        r = weir_timer_new(loop, on_retry, f, &f->retry);
        if (r < 0)
                return r;
        *ret_follow = TAKE_PTR(f);
        return 0;
}

void weir_follow_free(struct weir_follow *f)
{
        if (!f)
                return;
        if (f->started && f->store_fd >= 0)
                weir_loop_del(f->loop, f->store_fd);
        if (f->started && f->host_fd >= 0)
                weir_loop_del(f->loop, f->host_fd);
        weir_close_cleanup(&f->host_fd);
        give_reserve(f);
        weir_timer_free(f->retry);
        free(f->last_problem);
        free(f->last_broken);
        free(f->self);
        free(f->namespace_);
        free(f);
}

/* Watch first, read second: a change in between is seen twice rather than never. */
static int watch(struct weir_follow *f, struct weir_err *err)
{
        int r;

        f->host_fd = weir_host_watch();
        if (f->host_fd < 0)
                return weir_err_set(err, f->host_fd, "cannot follow the addresses of this host: %s",
                                    strerror(-f->host_fd));
        if (!f->options.store)
                return 0;
        r = weir_store_watch_fd(f->options.store);
        if (r < 0)
                return weir_err_set(err, r, "cannot watch the store %s: %s%s", weir_store_path(f->options.store),
                                    strerror(-r),
                                    r == -EMFILE ? " (raise fs.inotify.max_user_instances, or end what holds this "
                                                   "user's)" :
                                                   "");
        f->store_fd = r;
        return 0;
}

int weir_follow_first(struct weir_follow *f, struct weir_policy **ret_policy, struct weir_err *err)
{
        struct weir_policy *policy = NULL;
        int r;

        r = watch(f, err);
        if (r < 0)
                return r;
        r = weir_host_addresses(&f->self, &f->n_self);
        if (r < 0)
                return weir_err_set(err, r, "cannot list the addresses of this host: %s", strerror(-r));
        r = compile_all(f, &policy, err);
        if (r < 0)
                return r;
        remember(f, policy);
        *ret_policy = policy;
        return 0;
}

int weir_follow_start(struct weir_follow *f)
{
        int r = weir_loop_add(f->loop, f->host_fd, EPOLLIN, on_host, f, 0);

        if (r == 0 && f->store_fd >= 0)
                r = weir_loop_add(f->loop, f->store_fd, EPOLLIN, on_store, f, 0);
        if (r < 0)
                return r;
        f->started = true;
        hold_reserve(f);
        weir_follow_now(f);
        return 0;
}

void weir_follow_now(struct weir_follow *f)
{
        if (f->store_fd >= 0)
                on_store(f, 0, 0);
}
