/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the capture share: a child of its own, in namespaces of its own, whose failed assertion is a
 * failure. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"

#define UNUSED __attribute__((unused))

/* Runs @call in a child, which ends there: what it does to itself nobody else sees. */
static UNUSED void in_child(void (*call)(const char *folder), const char *folder)
{
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
                call(folder);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static UNUSED void write_file(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

        assert_true(fd >= 0);
        assert_int_equal(weir_fd_write_all(fd, text, strlen(text)), 0);
        assert_int_equal(close(fd), 0);
}

/* As the sandbox does: user and mount namespaces, this user mapped to itself, mounts of its own. */
static UNUSED void enter_sandbox(void)
{
        uid_t uid = geteuid();
        gid_t gid = getegid();
        char map[64];

        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
                fail_msg("this test needs user namespaces: %s", strerror(errno));
        write_file("/proc/self/setgroups", "deny");
        (void)snprintf(map, sizeof(map), "%u %u 1", (unsigned)uid, (unsigned)uid);
        write_file("/proc/self/uid_map", map);
        (void)snprintf(map, sizeof(map), "%u %u 1", (unsigned)gid, (unsigned)gid);
        write_file("/proc/self/gid_map", map);
        assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
}

static UNUSED int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
        (void)st;
        (void)type;
        (void)walk;
        (void)remove(path);
        return 0;
}

/* A folder of the test's own, removed at the end of the scope. */
#define AUTO_FOLDER __attribute__((cleanup(remove_folder))) char *

static UNUSED void remove_folder(char **folder)
{
        (void)nftw(*folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        free(*folder);
}

static UNUSED char *make_folder(void)
{
        const char *tmp = getenv("TMPDIR");
        char *folder = weir_asprintf("%s/weir-capture-XXXXXX", tmp ? tmp : "/tmp");

        assert_non_null(mkdtemp(folder));
        return folder;
}

/* FOLDER/BELOW with all folders above it; NULL BELOW is not allowed. Static, valid until the fourth call from here. */
static UNUSED const char *below(const char *folder, const char *path)
{
        static char texts[4][512];
        static unsigned next;
        char *text = texts[next++ % 4];

        (void)snprintf(text, sizeof(texts[0]), "%s/%s", folder, path);
        for (char *slash = strchr(text + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                assert_true(mkdir(text, 0755) == 0 || errno == EEXIST || errno == EROFS);
                *slash = '/';
        }
        return text;
}

static UNUSED int listen_at(const char *path)
{
        struct sockaddr_un sun = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0 && strlen(path) < sizeof(sun.sun_path));
        (void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
        assert_int_equal(bind(fd, (const struct sockaddr *)&sun, sizeof(sun)), 0);
        assert_int_equal(listen(fd, 1), 0);
        return fd;
}

static UNUSED bool is_there(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0;
}
