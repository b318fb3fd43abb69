/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kept policy: a YAML stream of every resource, between two comments. The first says of which server and when, the
 * last is the digest of all before it: a file that a crash or a full disk cut short allows nothing.
 */
#include "store/kube_keep.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"
#include "base/time.h"

#define HEAD "# Kept by weir: the policy of "
#define AT " at "
#define FOOT "# sha256 "
#define NAME_DIGITS 16

static int make_folder(const char *path)
{
        weir_auto_free char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                if (mkdir(copy, 0755) < 0 && errno != EEXIST)
                        return -errno;
                *slash = '/';
        }
        return mkdir(copy, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static char *folder_name(void)
{
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

        if (state && state[0] == '/')
                return weir_asprintf("%s/weir-kubernetes", state);
        if (geteuid() == 0)
                return strdup("/var/lib/weir-kubernetes");
        return home && home[0] == '/' ? weir_asprintf("%s/.local/state/weir-kubernetes", home) : NULL;
}

int weir_kube_keep_path(const char *server, char **ret_folder, char **ret_path)
{
        weir_auto_free char *folder = folder_name(), *path = NULL;
        char digest[WEIR_SHA256_STRLEN];
        int r;

        if (!folder)
                return -ENOENT;
        weir_sha256_hex(server, strlen(server), digest);
        path = weir_asprintf("%s/%.*s.yaml", folder, NAME_DIGITS, digest);
        if (!path)
                return -ENOMEM;
        r = make_folder(folder);
        if (r < 0)
                return r;
        *ret_folder = TAKE_PTR(folder);
        *ret_path = TAKE_PTR(path);
        return 0;
}

static int replace_file(const char *path, const struct weir_buf *text)
{
        weir_auto_free char *fresh = weir_asprintf("%s.%d.tmp", path, (int)getpid());
        weir_auto_close int fd = -1;
        int r;

        if (!fresh)
                return -ENOMEM;
        (void)unlink(fresh);
        fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = weir_fd_write_all(fd, text->data, text->length);
        if (r == 0 && rename(fresh, path) < 0)
                r = -errno;
        if (r < 0)
                (void)unlink(fresh);
        return r;
}

int weir_kube_keep_write(const char *path, const char *server, const struct weir_resources *list)
{
        weir_auto(buf) struct weir_buf text = { 0 };
        char when[WEIR_TIME_STRLEN], digest[WEIR_SHA256_STRLEN];

        weir_buf_puts(&text, HEAD);
        weir_buf_escape(&text, server, strlen(server));
        weir_buf_printf(&text, AT "%s\n", weir_time_rfc3339(when));
        for (size_t i = 0; i < list->n; i++) {
                weir_buf_puts(&text, "---\n");
                weir_resource_print_yaml(list->items[i], &text);
        }
        if (text.error)
                return text.error;
        weir_sha256_hex(text.data, text.length, digest);
        weir_buf_printf(&text, FOOT "%s\n", digest);
        return text.error ? text.error : replace_file(path, &text);
}

/* Who could write to the file decided what the policy is. */
static int slurp_trusted(const char *path, char **ret, size_t *ret_n)
{
        weir_auto_close int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || (st.st_mode & (S_IWGRP | S_IWOTH)) || (st.st_uid != geteuid() && st.st_uid != 0))
                return WEIR_EINVALID;
        return weir_fd_slurp(fd, WEIR_STREAM_BYTES_MAX, ret, ret_n);
}

static bool is_whole(const char *text, size_t n)
{
        size_t foot = strlen(FOOT) + WEIR_SHA256_STRLEN; /* the digest and a newline */
        char digest[WEIR_SHA256_STRLEN];

        if (n < foot || strlen(text) != n || strncmp(text + n - foot, FOOT, strlen(FOOT)) != 0)
                return false;
        weir_sha256_hex(text, n - foot, digest);
        return strncmp(text + n - foot + strlen(FOOT), digest, WEIR_SHA256_STRLEN - 1) == 0;
}

static char *when_of(const char *text)
{
        size_t n = strcspn(text, "\n");
        const char *at = NULL;

        for (const char *next = strstr(text, AT); next && next < text + n; next = strstr(next + 1, AT))
                at = next + strlen(AT);
        return at ? strndup(at, (size_t)(text + n - at)) : strdup("an unknown time");
}

int weir_kube_keep_read(const char *path, struct weir_resources *list, char **ret_when)
{
        weir_auto_free char *text = NULL, *when = NULL;
        struct weir_errs errors = { 0 };
        size_t n = 0;
        int r;

        r = slurp_trusted(path, &text, &n);
        if (r < 0)
                return r;
        if (!text || !is_whole(text, n))
                return WEIR_EINVALID;
        when = when_of(text);
        if (!when)
                return -ENOMEM;
        r = weir_resources_read(text, n, path, list, &errors, NULL);
        weir_errs_clear(&errors);
        if (r == 0)
                *ret_when = TAKE_PTR(when);
        return r;
}
