/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watching a dir: store.
 *
 * Theory of operation
 *
 * inotify watches the folder, each kind's and each namespace's. New folders are watched when their appearance is seen, and the
 * content is read after the watch is laid, so nothing falls in between. Watches are laid through descriptors (/proc/self/fd), never
 * by path. While the store does not exist, the nearest folder above it that does is watched for its appearance. Names that only
 * writers use do not wake the reader.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/strutil.h"
#include "store/dir.h"

#define EVENTS (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

static int watch_folder(const struct weir_store *store, int folder)
{
        char path[32];

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", folder);
        return inotify_add_watch(store->inotify, path, EVENTS | IN_ONLYDIR) < 0 ? -errno : 0;
}

static int watch_namespace(void *context, enum weir_kind kind, const char *namespace_, int folder)
{
        (void)kind;
        (void)namespace_;
        return watch_folder(context, folder);
}

static int watch_kinds(const struct weir_store *store)
{
        int r = 0;

        for (unsigned kind = 0; kind < WEIR_KIND_COUNT && r == 0; kind++) {
                weir_auto_close int folder = weir_dir_enter(store->root, weir_kind_info((enum weir_kind)kind)->type);

                if (folder != -ENOENT)
                        r = folder < 0 ? folder : watch_folder(store, folder);
        }
        return r;
}

/* The nearest folder above a store that does not exist. */
static int watch_above(const struct weir_store *store)
{
        weir_auto_free char *path = strdup(store->path);

        if (!path)
                return -ENOMEM;
        for (;;) {
                char *slash = strrchr(path, '/');

                if (inotify_add_watch(store->inotify, path, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) >= 0)
                        return 0;
                if (errno != ENOENT || !slash)
                        return -errno;
                slash[slash == path ? 1 : 0] = '\0';
        }
}

/* Lays every watch that is missing; those that are there stay as they are. */
static int watch_all(struct weir_store *store)
{
        int r;

        if (!weir_dir_appear(store))
                return watch_above(store);
        r = watch_folder(store, store->root);
        if (r == 0)
                r = watch_kinds(store);
        return r < 0 ? r : weir_dir_each_folder(store, watch_namespace, store);
}

int weir_store_watch_fd(struct weir_store *store)
{
        int r;

        if (store->inotify >= 0)
                return store->inotify;
        store->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (store->inotify < 0)
                return -errno;
        r = watch_all(store);
        /* Appeared between the two: watched from above in vain. */
        if (r == 0 && store->root < 0 && weir_dir_appear(store))
                r = watch_all(store);
        if (r < 0) {
                (void)close(TAKE_FD(store->inotify));
                return r;
        }
        return store->inotify;
}

static bool matters(const struct inotify_event *event)
{
        if (event->mask & (IN_Q_OVERFLOW | IN_DELETE_SELF | IN_MOVE_SELF))
                return true;
        if (event->len == 0)
                return (event->mask & IN_ATTRIB) == 0;
        return event->name[0] != '.' && !weir_streq(event->name, WEIR_DIR_REVISION);
}

bool weir_store_changed(struct weir_store *store)
{
        union {
                struct inotify_event align;
                char bytes[16384];
        } buffer;
        bool changed = false;
        ssize_t n;

        if (store->inotify < 0)
                return false;
        while ((n = read(store->inotify, buffer.bytes, sizeof(buffer.bytes))) > 0)
                for (ssize_t at = 0; at < n;) {
                        const struct inotify_event *event = (const void *)(buffer.bytes + at);

                        changed |= matters(event);
                        at += (ssize_t)(sizeof(*event) + event->len);
                }
        /* A watch that cannot be laid must not hide what can be read: the reader looks in any case. */
        if (changed && watch_all(store) < 0)
                changed = true;
        return changed;
}
