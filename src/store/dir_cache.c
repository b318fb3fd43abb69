/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the last pass over a watched store read, so that the next reads only what changed since.
 *
 * Theory of operation
 *
 * A file is taken to be unchanged if everything stat(2) says of it is: device, inode, size, the time of its content and
 * the time of its last change of any kind, which nobody but the kernel can set. Two changes within one tick of the
 * kernel's clock have the same time, so a file that was younger than SETTLED_NS when it was read is read again the next
 * time. Each pass makes a cache of its own, in the order in which it goes, and leaves it in place of the last one: what
 * is gone from the store is gone from there.
 *
 * The resource of a file is kept beside its digest as long as all texts together stay below WEIR_DIR_CACHE_BYTES. A
 * file that is broken is not kept: its errors are found anew each time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/time.h"
#include "store/dir.h"

#define SETTLED_NS ((int64_t)(100 * WEIR_MS))

static void clear_entry(struct weir_dir_cached *entry)
{
        free(entry->namespace_);
        free(entry->file);
        weir_resource_unref(entry->resource);
}

void weir_dir_cache_clear(struct weir_dir_cache *cache)
{
        for (size_t i = 0; i < cache->n; i++)
                clear_entry(&cache->items[i]);
        free(cache->items);
        *cache = (struct weir_dir_cache){ 0 };
}

static int64_t ns_of(const struct timespec *t)
{
        return (int64_t)t->tv_sec * (int64_t)WEIR_SEC + t->tv_nsec;
}

struct weir_dir_mark weir_dir_mark(const struct stat *st)
{
        struct timespec now;
        int64_t age;

        (void)clock_gettime(CLOCK_REALTIME, &now);
        age = ns_of(&now) - ns_of(&st->st_ctim);
        return (struct weir_dir_mark){
                .device = st->st_dev,
                .inode = st->st_ino,
                .size = st->st_size,
                .modified_ns = ns_of(&st->st_mtim),
                .changed_ns = ns_of(&st->st_ctim),
                .settled = age >= SETTLED_NS,
        };
}

static int compare(const struct weir_dir_cached *entry, enum weir_kind kind, const char *namespace_, const char *file)
{
        int order = (int)entry->kind - (int)kind;

        if (order == 0)
                order = strcmp(entry->namespace_, namespace_);
        return order == 0 ? strcmp(entry->file, file) : order;
}

static bool same(const struct weir_dir_mark *a, const struct weir_dir_mark *b)
{
        return a->device == b->device && a->inode == b->inode && a->size == b->size &&
               a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

const struct weir_dir_cached *weir_dir_cache_find(const struct weir_dir_cache *cache, enum weir_kind kind,
                                                  const char *namespace_, const char *file,
                                                  const struct weir_dir_mark *mark)
{
        size_t low = 0, high = cache->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const struct weir_dir_cached *entry = &cache->items[middle];
                int order = compare(entry, kind, namespace_, file);

                if (order == 0)
                        return entry->mark.settled && same(&entry->mark, mark) ? entry : NULL;
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

int weir_dir_cache_add(struct weir_dir_cache *cache, enum weir_kind kind, const char *namespace_, const char *file,
                       const struct weir_dir_mark *mark, const char *hash, struct weir_resource *resource)
{
        struct weir_dir_cached entry = { .kind = kind, .mark = *mark };

        if (cache->n == cache->capacity) {
                size_t capacity = cache->capacity ? 2 * cache->capacity : 64;
                struct weir_dir_cached *items = reallocarray(cache->items, capacity, sizeof(*items));

                if (!items)
                        return -ENOMEM;
                cache->items = items;
                cache->capacity = capacity;
        }
        entry.namespace_ = strdup(namespace_);
        entry.file = strdup(file);
        if (!entry.namespace_ || !entry.file) {
                clear_entry(&entry);
                return -ENOMEM;
        }
        memcpy(entry.hash, hash, sizeof(entry.hash));
        if (resource && mark->size <= WEIR_DIR_CACHE_BYTES - cache->bytes) {
                entry.resource = weir_resource_ref(resource);
                cache->bytes += mark->size;
        }
        cache->items[cache->n++] = entry;
        return 0;
}
