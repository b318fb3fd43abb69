/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/veil.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"

#define TMPFS_OPTIONS "mode=0%o,size=64m,nr_inodes=65536"

static int fail(struct weir_err *err, const char *what, const char *path)
{
        int error = errno;

        return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot %s %s in the sandbox: %s", what, path, strerror(error));
}

bool weir_veil_is_folder(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *weir_veil_home(void)
{
        const char *home = getenv("HOME");
        const struct passwd *pw;

        /* Without HOME the user has a home all the same. */
        if (!home || home[0] != '/') {
                pw = getpwuid(geteuid());
                home = pw ? pw->pw_dir : NULL;
        }
        return home && home[0] == '/' && home[1] ? realpath(home, NULL) : NULL;
}

/* Whether @path is @below or a folder above it. */
static bool is_above(const char *path, const char *below)
{
        size_t n = strlen(path);

        return below && weir_starts_with(below, path) && (below[n] == '\0' || below[n] == '/');
}

bool weir_veil_too_much(const char *path, const char *home)
{
        static const char *const never[] = { "/",    "/tmp", "/var/tmp", "/home", "/usr", "/etc",
                                             "/var", "/dev", "/opt",     "/srv",  "/root" };
        weir_auto_free char *here = getcwd(NULL, 0);

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(never); i++)
                if (weir_streq(path, never[i]))
                        return true;
        return is_above(path, home) || is_above(path, here);
}

static bool is_dots(const char *name)
{
        return weir_streq(name, ".") || weir_streq(name, "..");
}

static bool is_socket(int folder, const char *name)
{
        struct stat st;

        return fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode);
}

bool weir_veil_only_sockets(const char *path)
{
        const struct dirent *entry;
        DIR *dir = opendir(path);
        bool only = dir != NULL;

        while (only && (entry = readdir(dir)))
                only = is_dots(entry->d_name) || is_socket(dirfd(dir), entry->d_name);
        if (dir)
                (void)closedir(dir);
        return only;
}

bool weir_veil_has_socket(const char *path)
{
        const struct dirent *entry;
        DIR *dir = opendir(path);
        bool found = false;

        while (dir && !found && (entry = readdir(dir)))
                found = is_socket(dirfd(dir), entry->d_name);
        if (dir)
                (void)closedir(dir);
        return found;
}

int weir_veil_folder(const char *path, struct weir_err *err)
{
        char options[64];
        struct stat st;

        if (stat(path, &st) < 0)
                return fail(err, "find", path);
        /* The same mode, which multiplexers and agents look at, but this user's to write. */
        (void)snprintf(options, sizeof(options), TMPFS_OPTIONS, (st.st_mode & 01777U) | 0700U);
        return mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0 ? fail(err, "hide", path) : 0;
}

int weir_veil_write_copy(const char *path, const char *bytes, size_t n)
{
        weir_auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

        return fd < 0 ? -errno : weir_fd_write_all(fd, bytes, n);
}

/* What stood in a folder, opened before it was hidden. */
struct entry {
        char name[NAME_MAX + 1];
        int fd;
};

static int add_entry(struct entry **list, size_t *n, size_t *capacity, int folder, const char *name)
{
        if (*n == *capacity) {
                size_t more = *capacity ? *capacity * 2 : 16;
                struct entry *grown = reallocarray(*list, more, sizeof(**list));

                if (!grown)
                        return -ENOMEM;
                *list = grown;
                *capacity = more;
        }
        (void)snprintf((*list)[*n].name, sizeof((*list)[*n].name), "%s", name);
        (*list)[*n].fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        /* Gone meanwhile, or not for this user. */
        *n += (*list)[*n].fd >= 0;
        return 0;
}

static void close_entries(struct entry *list, size_t n)
{
        for (size_t i = 0; i < n; i++)
                (void)close(list[i].fd);
        free(list);
}

/* The entries of @path that are no sockets, to be closed by close_entries(); -ENOMEM. A folder that cannot be read has
 * none. */
static int open_entries(const char *path, struct entry **ret, size_t *ret_n)
{
        struct entry *list = NULL;
        size_t n = 0, capacity = 0;
        const struct dirent *entry;
        DIR *dir = opendir(path);
        int r = 0;

        while (r == 0 && dir && (entry = readdir(dir)))
                if (!is_dots(entry->d_name) && !is_socket(dirfd(dir), entry->d_name))
                        r = add_entry(&list, &n, &capacity, dirfd(dir), entry->d_name);
        if (dir)
                (void)closedir(dir);
        if (r < 0) {
                close_entries(list, n);
                return r;
        }
        *ret = list;
        *ret_n = n;
        return 0;
}

/* Puts one entry back into the folder that now hides it. */
static int bring_back(const char *folder, const struct entry *e, struct weir_err *err)
{
        weir_auto_free char *path = weir_asprintf("%s/%s", folder, e->name);
        char from[32], target[PATH_MAX];
        struct stat st;
        ssize_t n;

        if (!path || fstat(e->fd, &st) < 0)
                return weir_err_set(err, -ENOMEM, "out of memory");
        if (S_ISLNK(st.st_mode)) {
                n = readlinkat(e->fd, "", target, sizeof(target) - 1);
                target[n > 0 ? n : 0] = '\0';
                return symlink(target, path) < 0 ? fail(err, "keep", path) : 0;
        }
        if (S_ISDIR(st.st_mode) ? mkdir(path, 0700) < 0 : weir_veil_write_copy(path, "", 0) < 0)
                return fail(err, "keep", path);
        (void)snprintf(from, sizeof(from), "/proc/self/fd/%d", e->fd);
        return mount(from, path, NULL, MS_BIND | MS_REC, NULL) < 0 ? fail(err, "keep", path) : 0;
}

int weir_veil_mixed(const char *path, struct weir_err *err)
{
        struct entry *list = NULL;
        size_t n = 0;
        int r;

        r = open_entries(path, &list, &n);
        if (r < 0)
                return weir_err_set(err, r, "out of memory");
        r = weir_veil_folder(path, err);
        for (size_t i = 0; i < n && r == 0; i++)
                r = bring_back(path, &list[i], err);
        close_entries(list, n);
        return r;
}

int weir_veil_socket(const char *path, struct weir_err *err)
{
        return mount("/dev/null", path, NULL, MS_BIND, NULL) < 0 ? fail(err, "hide", path) : 0;
}
