/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the store in a cluster share: the API server that misbehaves, and a kubeconfig for it. */
#pragma once

#include "help.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>

#include "base/time.h"
#include "store/kube_store.h"

extern char **environ;

struct fake {
        pid_t pid;
        int in, out;
        unsigned port;
        char *folder;
        char line[1024];
};

/* One line of the server's output, which waits for it. */
static inline const char *fake_read(struct fake *fake)
{
        size_t n = 0;

        while (n + 1 < sizeof(fake->line) && read(fake->out, &fake->line[n], 1) == 1 && fake->line[n] != '\n')
                n++;
        fake->line[n] = '\0';
        return fake->line;
}

static inline const char *fake_say(struct fake *fake, const char *format, ...) WEIR_PRINTF(2, 3);
static inline const char *fake_say(struct fake *fake, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        assert_true(vdprintf(fake->in, format, args) > 0);
        va_end(args);
        assert_int_equal(write(fake->in, "\n", 1), 1);
        return fake_read(fake);
}

static inline unsigned fake_count(struct fake *fake, const char *what)
{
        return (unsigned)atoi(fake_say(fake, "count %s", what));
}

/* @user: what stands below users[0].user, indented by four. */
static inline void fake_config(struct fake *fake, const char *user)
{
        weir_auto_free char *text =
                weir_asprintf("apiVersion: v1\nkind: Config\ncurrent-context: fake\n"
                              "clusters:\n- name: c\n  cluster:\n    server: http://127.0.0.1:%u\n"
                              "contexts:\n- name: fake\n  context:\n    cluster: c\n    user: u\n    namespace: home\n"
                              "users:\n- name: u\n  user:\n%s\n",
                              fake->port, user);

        help_write(fake->folder, "config", text);
}

static inline void fake_start(struct fake *fake)
{
        char *argv[] = { (char[]){ WEIR_TEST_SOURCE_ROOT "/tests/unit/store/fake_api.py" }, NULL };
        weir_auto_free char *config = NULL;
        posix_spawn_file_actions_t actions;
        int in[2], out[2];

        *fake = (struct fake){ .folder = help_folder() };
        (void)signal(SIGPIPE, SIG_IGN);
        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
        assert_int_equal(posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO), 0);
        assert_int_equal(posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO), 0);
        assert_int_equal(posix_spawn(&fake->pid, argv[0], &actions, NULL, argv, environ), 0);
        (void)posix_spawn_file_actions_destroy(&actions);
        (void)close(in[0]);
        (void)close(out[1]);
        fake->in = in[1];
        fake->out = out[0];
        fake->port = (unsigned)atoi(fake_read(fake));
        assert_true(fake->port > 0);
        fake_config(fake, "    token: first");
        config = help_path(fake->folder, "config");
        assert_int_equal(setenv("KUBECONFIG", config, 1), 0);
        assert_int_equal(setenv("XDG_STATE_HOME", fake->folder, 1), 0);
}

static inline void fake_kill(struct fake *fake)
{
        if (fake->pid > 0) {
                (void)kill(fake->pid, SIGKILL);
                (void)waitpid(fake->pid, NULL, 0);
        }
        fake->pid = 0;
}

static inline void fake_end(struct fake *fake)
{
        fake_kill(fake);
        (void)close(fake->in);
        (void)close(fake->out);
        help_remove(fake->folder);
        free(fake->folder);
}
#define AUTO_FAKE __attribute__((cleanup(fake_end))) struct fake

/* Everything that waits for half a minute in life waits for a moment here. */
static inline struct weir_store *fake_open(void)
{
        struct weir_store *store = NULL;
        struct weir_err err = { 0 };

        if (weir_store_open("kubernetes", false, &store, &err) < 0)
                fail_msg("%s", err.text);
        weir_kubernetes(store)->client->times = (struct weir_kube_times){
                .connect = 500,
                .request = 500,
                .patience = 3000,
                .plugin = 700,
                .silence = 300,
                .probe = 300,
                .retry_first = 20,
                .retry_last = 100,
                .watch = 300000,
                .first = 1500,
                .keep = 10,
        };
        return store;
}

/* "NAMESPACE/NAME=HOST " of what the snapshot holds; heap. @ret_errors may be NULL. */
static inline char *fake_snapshot(struct weir_store *store, char **ret_errors)
{
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        char *text = strdup(""), *before;

        (void)!weir_store_snapshot(store, &list, &errors);
        for (size_t i = 0; i < list.n; i++) {
                before = text;
                text = weir_asprintf("%s%s/%s=%s ", before, list.items[i]->namespace_, list.items[i]->name,
                                     list.items[i]->hosts[0]);
                free(before);
        }
        if (ret_errors)
                *ret_errors = weir_errs_format(&errors);
        weir_resources_clear(&list);
        weir_errs_clear(&errors);
        return text;
}

static inline void fake_turn(struct weir_store *store)
{
        struct pollfd fd = { .fd = weir_store_watch_fd(store), .events = POLLIN };

        (void)poll(&fd, 1, 20);
        (void)weir_store_changed(store);
}

/* Until both kinds are watched. */
static inline void fake_watched(struct fake *fake, struct weir_store *store)
{
        uint64_t deadline = weir_time_ns() + 10 * WEIR_SEC;

        while (atoi(fake_say(fake, "watches")) < 2) {
                assert_true(weir_time_ns() < deadline);
                fake_turn(store);
        }
}

/* Follows until the snapshot is @expected, for ten seconds at most. */
static inline void fake_expect(struct weir_store *store, const char *expected)
{
        uint64_t deadline = weir_time_ns() + 10 * WEIR_SEC;

        assert_true(weir_store_watch_fd(store) >= 0);
        for (;;) {
                weir_auto_free char *errors = NULL, *text = fake_snapshot(store, &errors);

                if (weir_streq(text, expected))
                        return;
                if (weir_time_ns() > deadline)
                        fail_msg("\"%s\" instead of \"%s\"; %s; %s", text, expected, errors,
                                 weir_store_trouble(store) ? weir_store_trouble(store) : "no trouble");
                fake_turn(store);
        }
}

/* Follows until the trouble holds @text, or with NULL until there is none. */
static inline void fake_expect_trouble(struct weir_store *store, const char *text)
{
        uint64_t deadline = weir_time_ns() + 10 * WEIR_SEC;

        for (;;) {
                const char *trouble = weir_store_trouble(store);

                if (text ? trouble && strstr(trouble, text) : !trouble)
                        return;
                if (weir_time_ns() > deadline)
                        fail_msg("trouble is \"%s\", not \"%s\"", trouble ? trouble : "none", text ? text : "none");
                fake_turn(store);
        }
}
