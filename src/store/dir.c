/* SPDX-License-Identifier: Apache-2.0 */
/* The folder of a store: found, made, trusted or not, and gone through without following a link. */
#include "store/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store.h"

#define LOCK_WAIT_MS 10000
#define ENTRY_BYTES_MAX sizeof(struct dirent64)
#define LIST_BYTES ((size_t)64 * 1024)
#define LIST_BYTES_MAX ((size_t)64 * 1024 * 1024) /* over WEIR_DIR_ENTRIES_MAX of the longest names */

static const struct {
        int error;
        const char *text;
} lines[] = {
        { ENOSPC, "no space left on the file system: the store is as it was; free some space and try again" },
        { EDQUOT,
          "the disk quota is used up: the store is as it was; remove files or have the quota raised, and try again" },
        { EROFS, "the file system is read-only: remount it writable, or name another store with --store dir:PATH" },
        { EACCES, "permission denied: become the owner of the store, or name another with --store dir:PATH" },
        { EPERM, "operation not permitted: become the owner of the store, or name another with --store dir:PATH" },
        { ENOENT, "does not exist: make the folder, or name another store with --store dir:PATH" },
        { ELOOP, "is a symbolic link, and inside a store none is followed: put the file or folder itself there" },
        { ENOTDIR, "is not a folder: move it away, or name another store with --store dir:PATH" },
        { EISDIR, "is a folder where a file is expected: move it away" },
        { ENXIO, "is not a regular file: move it away" },
        { EXDEV, "is on another file system than the rest of the store: keep the store on one" },
        { E2BIG, "has more than 100000 entries: move some away" },
        { ENAMETOOLONG, "the path is too long: name a store with a shorter one" },
        { ESTALE, "the folder of the store was removed: make it again and restart what uses it" },
        { EMFILE, "too many open files: raise the limit (ulimit -n)" },
        { ENOMEM, "out of memory" },
};
_Static_assert(WEIR_DIR_ENTRIES_MAX == 100000, "the text above says so");

/* The end of a long path tells more than its beginning. */
void weir_dir_set_path(struct weir_err *err, const char *path)
{
        size_t n = strlen(path);

        if (n < sizeof(err->path))
                memcpy(err->path, path, n + 1);
        else
                (void)snprintf(err->path, sizeof(err->path), "...%s", path + n - (sizeof(err->path) - 4));
}

int weir_dir_fail(struct weir_err *err, int r, const char *path)
{
        if (!err)
                return r;
        weir_dir_set_path(err, path);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(lines); i++)
                if (lines[i].error == -r)
                        return weir_err_set(err, r, "%s", lines[i].text);
        return weir_err_set(err, r, "%s", strerror(-r));
}

bool weir_dir_is_name(const char *text)
{
        static const char ends[] = "abcdefghijklmnopqrstuvwxyz0123456789";
        size_t n = strlen(text);

        if (n == 0 || n > WEIR_DIR_NAME_MAX || !strchr(ends, text[0]) || !strchr(ends, text[n - 1]))
                return false;
        return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789.-") == n;
}

/*
 * Who can write to the folder decides what the policy is. What everybody can write to is not taken, nor, in a place
 * where everybody can make folders (/tmp), one that a stranger may have put there.
 */
static int check_trust(int fd, const char *path, struct weir_err *err)
{
        struct stat st, above;

        if (fstat(fd, &st) < 0 || fstatat(fd, "..", &above, AT_SYMLINK_NOFOLLOW) < 0)
                return weir_dir_fail(err, -errno, path);
        weir_dir_set_path(err, path);
        if (st.st_mode & S_IWOTH)
                return weir_err_set(err, WEIR_EINVALID,
                                    "everybody can write to this store, so it is no policy: chmod o-w it first");
        if ((above.st_mode & S_IWOTH) && st.st_uid != geteuid() && st.st_uid != 0)
                return weir_err_set(err, WEIR_EINVALID,
                                    "uid %u made this store in a folder that everybody can write to, so it is not "
                                    "taken: keep the store elsewhere",
                                    (unsigned)st.st_uid);
        err->path[0] = '\0';
        return 0;
}

int weir_dir_enter(struct weir_dir *store, struct weir_err *err)
{
        weir_auto_close int fd = -1;
        int r;

        if (store->fd >= 0)
                return 0;
        fd = open(store->base.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return weir_dir_fail(err, -errno, store->base.path);
        r = check_trust(fd, store->base.path, err);
        if (r < 0)
                return r;
        store->fd = TAKE_FD(fd);
        return 0;
}

/* A new folder is there after a crash only if the one above was written. */
static int sync_above(const char *path, char *slash)
{
        weir_auto_close int fd = -1;
        char kept = slash[1];

        slash[1] = '\0';
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        slash[1] = kept;
        /* Where the folder above may be entered but not read, or cannot be synced, there is nothing more to do. */
        if (fd >= 0 && fsync(fd) < 0 && errno != EINVAL)
                return -errno;
        return 0;
}

static int make_one(const char *path, mode_t mode, bool *ret_made)
{
        struct stat st;
        int r;

        *ret_made = mkdir(path, mode) == 0;
        if (*ret_made)
                return 0;
        r = -errno;
        if (stat(path, &st) < 0)
                return r;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int weir_dir_make(const char *path, struct weir_err *err)
{
        weir_auto_free char *copy = strdup(path);
        char *slash = copy, *next;

        if (!copy)
                return weir_dir_fail(err, -ENOMEM, path);
        for (; slash; slash = next) {
                bool made;
                int r;

                next = strchr(slash + 1, '/');
                if (next)
                        *next = '\0';
                r = make_one(copy, next ? 0755 : 0700, &made);
                if (r == 0 && made)
                        r = sync_above(copy, slash);
                if (r < 0)
                        return weir_dir_fail(err, r, copy);
                if (next)
                        *next = '/';
        }
        return 0;
}

static bool is_link(int fd, const char *name)
{
        struct stat st;

        return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

int weir_dir_open_folder(int fd, const char *name, int *ret_fd)
{
        int folder = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (folder < 0)
                return errno == ENOTDIR && is_link(fd, name) ? -ELOOP : -errno;
        *ret_fd = folder;
        return 0;
}

int weir_dir_open_file(int fd, const char *name, int *ret_fd)
{
        /* O_NONBLOCK: a FIFO put there would hold up whoever reads the store. */
        weir_auto_close int file = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        struct stat st;

        if (file < 0 || fstat(file, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (!S_ISREG(st.st_mode))
                return -ENXIO;
        *ret_fd = TAKE_FD(file);
        return 0;
}

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_entries(const char *bytes, size_t n, struct weir_strv *names)
{
        int r = 0;

        for (size_t at = 0; at < n && r == 0;) {
                const struct dirent64 *entry = (const void *)(bytes + at);

                if (entry->d_name[0] != '.')
                        r = names->n < WEIR_DIR_ENTRIES_MAX ? weir_strv_add(names, entry->d_name) : -E2BIG;
                at += entry->d_reclen;
        }
        return r;
}

/*
 * Fills @bytes with what the folder holds, from its beginning. *ret_more: there was not enough room.
 *
 * A file that is replaced changes its place in the folder on some file systems (tmpfs, btrfs). One call is held apart
 * from changes by the folder's lock, but between two calls a name can go from the part that is still to be read to the
 * part that was read, and would be missing although it was there all the time. So room is made for all in one call;
 * only a file system that gives less than there is room for (over a network) is taken as it comes.
 */
static int read_entries(int fd, char *bytes, size_t room, size_t *ret_n, bool *ret_more)
{
        ssize_t got = 1;
        size_t n = 0;

        if (lseek(fd, 0, SEEK_SET) < 0)
                return -errno;
        *ret_more = false;
        while (got > 0) {
                *ret_more = room - n < ENTRY_BYTES_MAX;
                if (*ret_more)
                        return 0;
                got = getdents64(fd, bytes + n, room - n);
                if (got < 0)
                        return -errno;
                n += (size_t)got;
        }
        *ret_n = n;
        return 0;
}

/* Of sorted names. One that changed its place between two calls is there twice. */
static void drop_twins(struct weir_strv *names)
{
        size_t n = 1;

        for (size_t i = 1; i < names->n; i++)
                if (weir_streq(names->items[i], names->items[n - 1]))
                        free(names->items[i]);
                else
                        names->items[n++] = names->items[i];
        names->n = n;
}

int weir_dir_list(int fd, struct weir_strv *names)
{
        /* A descriptor of its own: the place in the folder belongs to the open file, which may be shared. */
        weir_auto_close int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool more = true;
        size_t n = 0;
        int r = own < 0 ? -errno : 0;

        for (size_t room = LIST_BYTES; r == 0 && more; room *= 4) {
                weir_auto_free char *bytes = room <= LIST_BYTES_MAX ? malloc(room) : NULL;

                if (!bytes)
                        return room <= LIST_BYTES_MAX ? -ENOMEM : -E2BIG;
                r = read_entries(own, bytes, room, &n, &more);
                if (r == 0 && !more)
                        r = add_entries(bytes, n, names);
        }
        if (r == 0 && names->n > 0) {
                qsort(names->items, names->n, sizeof(*names->items), compare_names);
                drop_twins(names);
        }
        return r;
}

static void dir_close(struct weir_store *base)
{
        struct weir_dir *store = weir_dir(base);

        weir_watch_close(store);
        weir_dir_cache_clear(&store->cache);
        weir_dir_forget_ahead(store);
        weir_close_cleanup(&store->fd);
        free(store);
}

/* A folder that is missing cannot be protected; it is made before a workload starts. */
static int dir_protect(struct weir_store *base, struct weir_strv *paths)
{
        struct weir_dir *store = weir_dir(base);
        struct stat st;

        if (stat(base->path, &st) < 0)
                return 0;
        store->protected = true;
        store->device = st.st_dev;
        store->inode = st.st_ino;
        return weir_strv_add(paths, base->path);
}

static bool dir_replaced(const struct weir_store *base)
{
        const struct weir_dir *store = (const struct weir_dir *)base;
        struct stat st;

        return store->protected &&
               (stat(base->path, &st) < 0 || st.st_dev != store->device || st.st_ino != store->inode);
}

static const struct weir_store_ops dir_ops = {
        .create = weir_dir_create,
        .replace = weir_dir_replace,
        .apply = weir_dir_apply,
        .delete = weir_dir_delete,
        .get = weir_dir_get,
        .snapshot = weir_dir_snapshot,
        .watch_fd = weir_dir_watch_fd,
        .changed = weir_dir_changed,
        .protect = dir_protect,
        .replaced = dir_replaced,
        .close = dir_close,
};

static struct weir_dir *dir_new(char *path)
{
        struct weir_dir *store = path ? calloc(1, sizeof(*store)) : NULL;

        if (!store) {
                free(path);
                return NULL;
        }
        store->base = (struct weir_store){ .ops = &dir_ops, .path = path };
        store->fd = -1;
        store->lock_wait_ms = LOCK_WAIT_MS;
        store->watch = (struct weir_watch){ .fd = -1, .parent = -1, .ancestor = -1 };
        return store;
}

int weir_dir_open(char *path, bool writable, struct weir_store **ret_store, struct weir_err *err)
{
        struct weir_dir *dir = dir_new(path);
        weir_auto(store) struct weir_store *store = dir ? &dir->base : NULL;
        struct weir_err missing = { 0 };
        int r;

        if (!dir)
                return weir_err_set(err, -ENOMEM, "out of memory");
        r = weir_dir_enter(dir, &missing);
        if (r == -ENOENT && writable) {
                r = weir_dir_make(store->path, err);
                if (r < 0)
                        return r;
                r = weir_dir_enter(dir, &missing);
        } else if (r == -ENOENT)
                r = 0;
        if (r < 0) {
                if (err)
                        *err = missing;
                return r;
        }
        *ret_store = TAKE_PTR(store);
        return 0;
}
