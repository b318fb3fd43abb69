/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cgroup that is there already: a service's, a container's. Its gates are pinned, and stay when Weir ends; the next
 * Weir finds them by the cgroup's number and takes over, link by link, without a moment between.
 *
 * New gates are attached first and what the processes hold is looked through second, so that nothing slips by; if
 * something does not hold, they are taken off again. On a cgroup that is taken over they stay, whatever is found.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/strutil.h"
#include "capture/cgroup.h"
#include "capture/cgroup_adopt.h"
#include "capture/cgroup_gates.h"

/* The name below the root, of a path there ("system.slice/x.service", "/system.slice/x.service") or in the file system.
 */
static int name_of(const struct weir_cgroup_root *root, const char *text, char *ret, size_t n, struct weir_err *err)
{
        size_t mounted = strlen(root->path);

        if (mounted > 0 && strncmp(text, root->path, mounted) == 0 && text[mounted] == '/')
                text += mounted;
        while (*text == '/')
                text++;
        if (*text == '\0')
                return weir_err_set(
                        err, WEIR_EINVALID,
                        "the top of the hierarchy is everything on this machine, Weir too: name a cgroup below "
                        "it");
        if (strlen(text) >= n)
                return weir_err_set(err, WEIR_EINVALID, "the path is too long");
        memcpy(ret, text, strlen(text) + 1);
        return 0;
}

static int find_group(struct weir_capture *c, const char *text, struct weir_err *err)
{
        char own[sizeof(c->name)];
        int r;

        r = weir_cgroup_root_open(&c->root, err);
        if (r == 0)
                r = name_of(&c->root, text, c->name, sizeof(c->name), err);
        if (r == 0)
                r = weir_cgroup_own(own, sizeof(own), err);
        if (r < 0)
                return r;
        if (weir_starts_with(own, c->name) && (own[strlen(c->name)] == '/' || own[strlen(c->name)] == '\0'))
                return weir_err_set(
                        err, WEIR_EINVALID,
                        "Weir itself runs in the cgroup %s, and what it dials would be judged: start it elsewhere",
                        c->name);
        c->group = openat(c->root.fd, c->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (c->group < 0)
                return weir_err_set(err, errno == ENOENT ? WEIR_ENOTFOUND : -errno,
                                    "there is no cgroup %s below %s: %s", c->name, weir_cgroup_root_name(&c->root),
                                    strerror(errno));
        r = weir_cgroup_id(c->group, &c->id);
        if (r < 0)
                return weir_err_set(err, r, "cannot tell the number of the cgroup %s: %s", c->name, strerror(-r));
        (void)snprintf(c->pins_name, sizeof(c->pins_name), "%llx", (unsigned long long)c->id);
        return 0;
}

/* Readable when a group beside it, or it, is removed: a folder that is held open tells nothing of its own end. */
static int watch(struct weir_capture *c, struct weir_err *err)
{
        char path[sizeof(c->name) + 64];
        const char *slash = strrchr(c->name, '/');
        int above = slash ? (int)(slash - c->name) : 0;

        c->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%.*s", c->root.fd, above, c->name);
        if (c->watch < 0 || inotify_add_watch(c->watch, path, IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR) < 0)
                return weir_err_set(err, -errno, "cannot watch the cgroup %s: %s", c->name, strerror(errno));
        return 0;
}

int weir_cgroup_attach(struct weir_capture *c, const struct weir_capture_options *options, struct weir_err *err)
{
        int r, adopted;

        r = find_group(c, options->attach, err);
        if (r < 0)
                return r;
        c->pins = weir_pins_open(c->pins_path, sizeof(c->pins_path), err);
        if (c->pins < 0)
                return c->pins;
        adopted = weir_gates_adopt(c->pins, c->pins_path, c->pins_name, c->id, &c->gates, err);
        if (adopted < 0)
                return adopted;
        if (adopted)
                c->generation = weir_gates_generation(c->gates);
        r = watch(c, err);
        if (r == 0)
                r = weir_cgroup_complete(c, options, err);
        if (r < 0)
                return r;
        r = weir_adopt_check(c->group, err);
        if (r < 0 && !adopted) {
                if (weir_gates_remove(c->pins, c->pins_path, c->pins_name) < 0)
                        weir_log(WEIR_LOG_DEBUG, "nothing was pinned");
                return r;
        }
        if (r < 0)
                weir_log(WEIR_LOG_WARNING, "%s", err->text);
        if (adopted && options->verbose)
                weir_log(WEIR_LOG_INFO, "took over the gates that an earlier Weir left");
        return 0;
}

int weir_cgroup_ended(struct weir_capture *c, struct weir_exit *ret)
{
        char events[4096];
        int fd;

        while (read(c->watch, events, sizeof(events)) > 0)
                ;
        fd = weir_cgroup_open_id(c->root.fd, c->id);
        if (fd >= 0)
                (void)close(fd);
        if (fd >= 0 || c->end_told)
                return 0;
        c->end_told = true;
        weir_gates_unpin(c->pins, c->pins_name);
        *ret = (struct weir_exit){ 0 };
        return 1;
}

int weir_cgroup_detach(const char *name, struct weir_err *err)
{
        struct weir_capture c = { .root.fd = -1, .group = -1, .pins = -1 };
        int r;

        r = find_group(&c, name, err);
        if (r == 0) {
                c.pins = weir_pins_open(c.pins_path, sizeof(c.pins_path), err);
                r = c.pins < 0 ? c.pins : weir_gates_busy(c.pins_path, c.pins_name, err);
        }
        if (r == 0) {
                r = weir_gates_remove(c.pins, c.pins_path, c.pins_name);
                if (r < 0)
                        (void)weir_err_set(err, r, "nothing of Weir's is attached to the cgroup %s", c.name);
        }
        weir_close_cleanup(&c.pins);
        weir_close_cleanup(&c.group);
        weir_cgroup_root_close(&c.root);
        return r;
}
