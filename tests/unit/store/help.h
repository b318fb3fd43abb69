/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the store share: a folder of their own, resources from text, files made by hand. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CIDR_A "10.0.0.0/8"
#define CIDR_B "192.168.0.0/16"

static inline void help_tidy(char **folder);

/* A folder below TMPDIR, removed at the end of the scope. */
#define AUTO_FOLDER __attribute__((cleanup(help_tidy))) char *

static inline char *help_folder(void)
{
        const char *tmp = getenv("TMPDIR");
        char *folder = weir_asprintf("%s/weir-store-XXXXXX", tmp ? tmp : "/tmp");

        assert_non_null(mkdtemp(folder));
        return folder;
}

static inline int help_remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
        (void)st;
        (void)type;
        (void)walk;
        (void)remove(path);
        return 0;
}

static inline void help_remove(const char *path)
{
        (void)nftw(path, help_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void help_tidy(char **folder)
{
        help_remove(*folder);
        free(*folder);
}

static inline char *help_path(const char *folder, const char *below)
{
        return weir_asprintf("%s/%s", folder, below);
}

static inline void help_write(const char *folder, const char *below, const char *text)
{
        weir_auto_free char *path = help_path(folder, below);
        weir_auto_close int fd = -1;

        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
                *slash = '/';
        }
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
        assert_int_equal(weir_fd_write_all(fd, text, strlen(text)), 0);
}

static inline char *help_read(const char *folder, const char *below)
{
        weir_auto_free char *path = help_path(folder, below);
        char *bytes;
        size_t n;

        return weir_file_slurp(AT_FDCWD, path, 1 << 20, &bytes, &n) < 0 ? NULL : bytes;
}

static inline bool help_exists(const char *folder, const char *below)
{
        weir_auto_free char *path = help_path(folder, below);
        struct stat st;

        return lstat(path, &st) == 0;
}

static inline struct weir_store *help_open(const char *folder, bool writable)
{
        weir_auto_free char *spec = weir_asprintf("dir:%s", folder);
        struct weir_store *store;
        struct weir_err err = { 0 };

        if (weir_store_open(spec, writable, &store, &err) < 0)
                fail_msg("cannot open %s: %s: %s", spec, err.path, err.text);
        return store;
}

/* @version may be NULL. */
static inline char *help_yaml(const char *namespace_, const char *name, const char *cidr, const char *version)
{
        return weir_asprintf("apiVersion: networking.istio.io/v1alpha3\nkind: ExternalService\nmetadata:\n  name: %s\n "
                             " namespace: %s\n%s%s%s"
                             "spec:\n  hosts:\n  - %s\n  ports:\n  - number: 443\n    name: tcp\n    protocol: TCP\n  "
                             "discovery: NONE\n",
                             name, namespace_, version ? "  resourceVersion: \"" : "", version ? version : "",
                             version ? "\"\n" : "", cidr);
}

static inline struct weir_resource *help_resource(const char *namespace_, const char *name, const char *cidr,
                                                  const char *version)
{
        weir_auto_free char *yaml = help_yaml(namespace_, name, cidr, version);
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        struct weir_resource *resource;

        if (weir_resources_read(yaml, strlen(yaml), "-", &list, &errors, NULL) < 0)
                fail_msg("%s", weir_errs_format(&errors));
        assert_int_equal(list.n, 1);
        resource = weir_resource_ref(list.items[0]);
        weir_resources_clear(&list);
        return resource;
}

enum help_verb { HELP_CREATE, HELP_REPLACE, HELP_APPLY };

static inline int help_put(struct weir_store *store, enum help_verb verb, const char *name, const char *cidr,
                           const char *version, uint64_t *ret_revision, struct weir_err *err)
{
        struct weir_resource *resource = help_resource("default", name, cidr, version);
        int r = -EINVAL;

        switch (verb) {
        case HELP_CREATE:
                r = weir_store_create(store, resource, ret_revision, err);
                break;
        case HELP_REPLACE:
                r = weir_store_replace(store, resource, ret_revision, err);
                break;
        case HELP_APPLY:
                r = weir_store_apply(store, resource, ret_revision, NULL, err);
                break;
        }
        weir_resource_unref(resource);
        return r;
}

/* The one host of a stored resource; "" if it is not there. @ret_version may be NULL. Broken fails the test. */
static inline const char *help_host(struct weir_store *store, const char *name, uint64_t *ret_version)
{
        static char host[64];
        struct weir_resource *resource;
        struct weir_err err = { 0 };
        int r;

        host[0] = '\0';
        r = weir_store_get(store, WEIR_KIND_EXTERNAL_SERVICE, "default", name, &resource, &err);
        if (r == WEIR_ENOTFOUND)
                return host;
        if (r < 0)
                fail_msg("%s: %s", err.path, err.text);
        (void)snprintf(host, sizeof(host), "%s", resource->hosts[0]);
        if (ret_version)
                assert_int_equal(weir_parse_uint(resource->resource_version, UINT64_MAX, ret_version), 0);
        weir_resource_unref(resource);
        return host;
}

static inline uint64_t help_revision(const char *folder)
{
        weir_auto_free char *text = help_read(folder, "revision");

        return text ? strtoull(text, NULL, 10) : 0;
}

/* The keys of a snapshot, each with a space behind; and its errors as text, or "". To be freed. */
static inline char *help_snapshot(struct weir_store *store, char **ret_errors)
{
        struct weir_resources list = { 0 };
        struct weir_errs errors = { 0 };
        char *keys = strdup("");
        int r;

        r = weir_store_snapshot(store, &list, &errors);
        assert_int_equal(r, errors.n ? WEIR_EINVALID : 0);
        for (size_t i = 0; i < list.n; i++) {
                char *key = weir_resource_key(list.items[i]);
                char *longer = weir_asprintf("%s%s ", keys, key);

                free(key);
                free(keys);
                keys = longer;
        }
        if (ret_errors)
                *ret_errors = weir_errs_format(&errors);
        else if (errors.n)
                fail_msg("%s: %s", errors.items[0].path, errors.items[0].text);
        weir_resources_clear(&list);
        weir_errs_clear(&errors);
        return keys;
}

#define assert_keys(store, expected)                                     \
        do {                                                             \
                weir_auto_free char *keys_ = help_snapshot(store, NULL); \
                assert_string_equal(keys_, expected);                    \
        } while (0)

/* A failed assertion ends the child, which otherwise would go on with the parent's other tests. */
static inline pid_t help_fork(void)
{
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
        return pid;
}

/* The exit status of a child; a signal is 128 + its number. */
static inline int help_wait(pid_t pid)
{
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
