/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watching a store by inotify.
 *
 * Theory of operation
 *
 * Nobody keeps a list of watched folders. Each pass over the store (dir_read.c) watches every folder it is about to
 * list; a folder that is watched already keeps its watch, one that is removed loses it. So a folder made at any moment
 * is either seen by the listing or told by the watch of the folder above.
 *
 * Watches are put on descriptors, by way of /proc/self/fd, never on paths inside the store. One more is on the folder
 * above, because while the descriptor of the store is open, its removal is told there alone.
 *
 * As long as the store does not exist, the nearest folder above it that exists is watched, and at every change there
 * the store is looked for again.
 *
 * An event only means: look. Whether the content differs is said by the digest of a pass.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/dir.h"
#include "store/store.h"

/* IN_CLOSE_WRITE, not IN_MODIFY: what is still being written by hand is read when it is done. */
#define FOLDER_EVENTS                                                                                        \
        (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | \
         IN_MOVE_SELF | IN_ONLYDIR)
#define ANCESTOR_EVENTS (IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
#define FIND_TRIES 16

/* @below is "" or "/..". Returns the watch or -errno. */
static int watch_descriptor(const struct weir_watch *watch, int fd, const char *below, uint32_t events)
{
        char path[64];
        int wd;

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d%s", fd, below);
        wd = inotify_add_watch(watch->fd, path, events);
        return wd < 0 ? -errno : wd;
}

void weir_watch_folder(struct weir_dir *store, int fd)
{
        int r;

        if (store->watch.fd < 0)
                return;
        r = watch_descriptor(&store->watch, fd, "", FOLDER_EVENTS);
        if (r < 0)
                store->watch.error = r;
}

static void forget_ancestor(struct weir_watch *watch)
{
        if (watch->ancestor >= 0)
                (void)inotify_rm_watch(watch->fd, watch->ancestor);
        watch->ancestor = -1;
        free(TAKE_PTR(watch->awaited));
}

void weir_watch_entered(struct weir_dir *store)
{
        struct weir_watch *watch = &store->watch;

        if (watch->fd < 0)
                return;
        forget_ancestor(watch);
        weir_watch_folder(store, store->fd);
        /* Where the folder above may not be read, the removal of an empty store is noticed at the next change. */
        if (watch->parent < 0)
                watch->parent = watch_descriptor(watch, store->fd, "/..", IN_DELETE | IN_ONLYDIR);
}

/* Watches the nearest folder above @path that exists. @ret_awaited: the component missing in it. */
static int watch_nearest(struct weir_watch *watch, const char *path, char **ret_awaited)
{
        weir_auto_free char *above = strdup(path);

        if (!above)
                return -ENOMEM;
        for (;;) {
                char *slash = strrchr(above, '/');
                int wd;

                free(*ret_awaited);
                *ret_awaited = strdup(slash + 1);
                if (!*ret_awaited)
                        return -ENOMEM;
                slash[slash == above ? 1 : 0] = '\0';
                wd = inotify_add_watch(watch->fd, above, ANCESTOR_EVENTS);
                if (wd >= 0)
                        return wd;
                if (errno != ENOENT || slash == above)
                        return -errno;
        }
}

/* Until the same folder is found twice: what was made while its watch was being put up moves it further down. */
void weir_watch_missing(struct weir_dir *store)
{
        struct weir_watch *watch = &store->watch;

        if (watch->fd < 0)
                return;
        for (unsigned i = 0; i < FIND_TRIES; i++) {
                char *awaited = NULL;
                int wd;

                wd = watch_nearest(watch, store->base.path, &awaited);
                if (wd < 0) {
                        free(awaited);
                        watch->error = wd;
                        return;
                }
                free(watch->awaited);
                watch->awaited = awaited;
                if (wd == watch->ancestor)
                        return;
                if (watch->ancestor >= 0)
                        (void)inotify_rm_watch(watch->fd, watch->ancestor);
                watch->ancestor = wd;
        }
}

static bool is_removed(const struct weir_dir *store)
{
        struct stat st;

        return fstat(store->fd, &st) < 0 || st.st_nlink == 0;
}

/* Whether an event may mean that the content changed. Temporary files, the lock and the counter do not. */
static bool is_relevant(const struct weir_dir *store, const struct inotify_event *event)
{
        const struct weir_watch *watch = &store->watch;

        if (event->mask & IN_Q_OVERFLOW)
                return true;
        if (event->wd == watch->ancestor)
                return event->len == 0 || weir_streq(event->name, watch->awaited);
        if (event->wd == watch->parent)
                return is_removed(store);
        if (event->mask & IN_IGNORED)
                return false;
        return event->len == 0 || (event->name[0] != '.' && !weir_streq(event->name, WEIR_DIR_REVISION));
}

static bool drain(struct weir_dir *store)
{
        alignas(struct inotify_event) char events[8192];
        bool relevant = false;

        for (;;) {
                ssize_t n = read(store->watch.fd, events, sizeof(events));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return relevant || (n < 0 && errno != EAGAIN);
                for (const char *at = events; at < events + n;) {
                        const struct inotify_event *event = (const void *)at;

                        relevant |= is_relevant(store, event);
                        if (event->wd == store->watch.ancestor && (event->mask & IN_IGNORED))
                                store->watch.ancestor = -1;
                        at += sizeof(*event) + event->len;
                }
        }
}

int weir_dir_watch_fd(struct weir_store *base)
{
        struct weir_dir *store = weir_dir(base);
        struct weir_errs errors = { 0 };
        char digest[WEIR_SHA256_STRLEN];
        int r;

        if (store->watch.fd >= 0)
                return store->watch.fd;
        store->watch.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (store->watch.fd < 0)
                return -errno;
        /* Puts the watches up. What is broken, or cannot be watched, is told by the next snapshot. */
        r = weir_dir_pass(store, NULL, &errors, digest);
        weir_errs_clear(&errors);
        return r < 0 ? r : store->watch.fd;
}

bool weir_dir_changed(struct weir_store *base)
{
        struct weir_dir *store = weir_dir(base);
        char digest[WEIR_SHA256_STRLEN];
        bool relevant = true;
        int r;

        if (store->watch.fd >= 0)
                relevant = drain(store);
        if (!relevant && store->watch.error == 0)
                return false;
        r = weir_dir_look_ahead(store, digest);
        if (r == 0 && weir_streq(digest, store->digest)) {
                weir_dir_forget_ahead(store);
                return false;
        }
        return true;
}

void weir_watch_close(struct weir_dir *store)
{
        free(store->watch.awaited);
        weir_close_cleanup(&store->watch.fd);
}
