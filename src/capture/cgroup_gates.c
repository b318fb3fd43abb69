/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Each workload has programs and maps of its own, so the policy is fixed by the attachment: a child cgroup is under the
 * programs of its parent, whatever its number. Links are attached beside those of others (BPF_F_ALLOW_MULTI is what a
 * link is): all that are in force must say yes.
 *
 * A pin is a folder for each cgroup, named by its number, with one file for each map and link. "about" says whose they
 * are. If the layout is this Weir's, its maps go on living under the new programs: policy, sockets and ring stay. If it
 * is another's, maps are new; either way the link is updated in place, so at no moment is the cgroup without a gate.
 *
 * A pin that is no map or link of Weir's is left alone and named: somebody put it there.
 */
#include "capture/cgroup_gates.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strutil.h"
#include "bpf/shared.h"
#include "capture/cgroup_place.h"
#include "capture/cgroup_policy.h"
#include "weir_bpf.skel.h"

#define PROGRAMS_MAX 16
#define FOLDER_MAX (PATH_MAX - 300)
#define GENERATION_CELL 0

/* What is driven once the gates stand. */
enum { LIVE, SOCKETS, EVENTS, ORIGINALS, COUNTS, KEPT };

struct weir_gates {
        struct weir_bpf *skeleton; /* NULL once released */
        int maps[KEPT];
        int links[PROGRAMS_MAX]; /* in the order of the object's programs; -1: not attached */
};

static int print(enum libbpf_print_level level, const char *format, va_list args)
{
        char text[512];

        if (weir_log_get_level() < WEIR_LOG_DEBUG || level == LIBBPF_DEBUG)
                return 0;
        (void)vsnprintf(text, sizeof(text), format, args);
        text[strcspn(text, "\n")] = '\0';
        weir_log(WEIR_LOG_DEBUG, "%s", text);
        return 0;
}

/* Before 5.11 maps counted against RLIMIT_MEMLOCK, of which a process has next to nothing. */
static void raise_memlock(void)
{
        const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

        (void)setrlimit(RLIMIT_MEMLOCK, &all);
}

static int refused(int error, struct weir_err *err)
{
        struct rlimit limit;

        if (error == EPERM)
                return weir_err_set(
                        err, WEIR_EUNSUPPORTED,
                        "bpf(2) is refused: the cgroup capture needs CAP_BPF and CAP_NET_ADMIN (root), and a "
                        "container's seccomp profile or kernel lockdown may stand in the way; --capture sealed "
                        "needs no privilege");
        if (error == ENOSYS)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)");
        if (error == ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
                return weir_err_set(
                        err, WEIR_EUNSUPPORTED,
                        "no memory may be locked for maps (RLIMIT_MEMLOCK is %llu bytes, and this kernel counts "
                        "maps against it): raise it with ulimit -l unlimited",
                        (unsigned long long)limit.rlim_cur);
        if (error == EINVAL || error == ENOTSUP)
                return weir_err_set(
                        err, WEIR_EUNSUPPORTED,
                        "this kernel does not take Weir's programs (%s): Linux 5.13 is the oldest that can, with "
                        "CONFIG_CGROUP_BPF",
                        strerror(error));
        return weir_err_set(err, WEIR_EUNSUPPORTED, "the kernel did not load Weir's programs: %s", strerror(error));
}

/* libbpf finds a link's kind by the name of the section; nothing is left to do for the programs. */
static struct weir_gates *gates_new(void)
{
        struct weir_gates *gates = calloc(1, sizeof(*gates));

        for (size_t i = 0; gates && i < PROGRAMS_MAX; i++)
                gates->links[i] = -1;
        for (size_t i = 0; gates && i < KEPT; i++)
                gates->maps[i] = -1;
        return gates;
}

void weir_gates_free(struct weir_gates *gates)
{
        if (!gates)
                return;
        for (size_t i = 0; i < PROGRAMS_MAX; i++)
                weir_close_cleanup(&gates->links[i]);
        for (size_t i = 0; i < KEPT; i++)
                weir_close_cleanup(&gates->maps[i]);
        weir_bpf__destroy(gates->skeleton);
        free(gates);
}

static int open_skeleton(struct weir_gates *gates, struct weir_err *err)
{
        (void)libbpf_set_print(print);
        (void)libbpf_set_strict_mode(LIBBPF_STRICT_ALL & ~(unsigned)LIBBPF_STRICT_AUTO_RLIMIT_MEMLOCK);
        raise_memlock();
        gates->skeleton = weir_bpf__open();
        return gates->skeleton ? 0 : refused(errno, err);
}

static int load_skeleton(struct weir_gates *gates, struct weir_err *err)
{
        const struct bpf_map *maps[KEPT];

        if (weir_bpf__load(gates->skeleton) < 0)
                return refused(errno, err);
        maps[LIVE] = gates->skeleton->maps.live;
        maps[SOCKETS] = gates->skeleton->maps.sockets;
        maps[EVENTS] = gates->skeleton->maps.events;
        maps[ORIGINALS] = gates->skeleton->maps.originals;
        maps[COUNTS] = gates->skeleton->maps.counts;
        for (size_t i = 0; i < KEPT; i++) {
                gates->maps[i] = fcntl(bpf_map__fd(maps[i]), F_DUPFD_CLOEXEC, 3);
                if (gates->maps[i] < 0)
                        return weir_err_set(err, -errno, "cannot hold a map: %s", strerror(errno));
        }
        return 0;
}

void weir_gates_release(struct weir_gates *gates)
{
        weir_bpf__destroy(gates->skeleton);
        gates->skeleton = NULL;
        (void)malloc_trim(0);
}

int weir_gates_load(struct weir_gates **ret_gates, struct weir_err *err)
{
        weir_auto(gates) struct weir_gates *gates = gates_new();
        int r;

        if (!gates)
                return weir_err_set(err, -ENOMEM, "out of memory");
        r = open_skeleton(gates, err);
        if (r == 0)
                r = load_skeleton(gates, err);
        if (r < 0)
                return r;
        *ret_gates = TAKE_PTR(gates);
        return 0;
}

const char *weir_gates_digest(void)
{
        static char digest[WEIR_SHA256_STRLEN];
        size_t n;
        const void *bytes = weir_bpf__elf_bytes(&n);

        if (!digest[0])
                weir_sha256_hex(bytes, n, digest);
        return digest;
}

/* Field 22 of /proc/PID/stat, behind the command's last parenthesis; 0 if there is no such process. */
static uint64_t start_of(pid_t pid)
{
        weir_auto_free char *text = NULL;
        char path[40];
        const char *at;
        size_t n;

        (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        if (weir_file_slurp(AT_FDCWD, path, 4096, &text, &n) < 0)
                return 0;
        at = strrchr(text, ')');
        for (int field = 2; at && field < 22; field++)
                at = strchr(at + 1, ' ');
        return at ? strtoull(at, NULL, 10) : 0;
}

static int open_pin(const char *folder, const char *name)
{
        char path[PATH_MAX];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
        fd = bpf_obj_get(path);
        return fd < 0 ? -errno : fd;
}

static int read_about(const char *folder, struct weir_bpf_about *ret)
{
        weir_auto_close int fd = open_pin(folder, "about");
        struct bpf_map_info info = { 0 };
        uint32_t size = sizeof(info), zero = 0;

        if (fd < 0)
                return fd;
        if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0 || info.value_size != sizeof(*ret) ||
            bpf_map_lookup_elem(fd, &zero, ret) < 0)
                return -EPROTO;
        return 0;
}

/* A link of @folder that holds a program on @cgroup; -ENOENT if there is none, -EPROTO if it is something else. */
static int open_link(const char *folder, const char *name, uint64_t cgroup)
{
        weir_auto_close int fd = open_pin(folder, name);
        struct bpf_link_info info = { 0 };
        uint32_t size = sizeof(info);

        if (fd < 0)
                return fd;
        if (bpf_obj_get_info_by_fd(fd, &info, &size) < 0 || info.type != BPF_LINK_TYPE_CGROUP)
                return -EPROTO;
        /* The cgroup is gone and its number is another's now. */
        if (info.cgroup.cgroup_id != cgroup)
                return -ENOENT;
        return TAKE_FD(fd);
}

static int reuse_maps(struct weir_gates *gates, const char *folder, struct weir_err *err)
{
        struct bpf_map *map;

        bpf_object__for_each_map(map, gates->skeleton->obj)
        {
                weir_auto_close int fd = open_pin(folder, bpf_map__name(map));

                if (bpf_map__is_internal(map))
                        continue;
                if (fd < 0 || bpf_map__reuse_fd(map, fd) < 0)
                        return weir_err_set(
                                err, WEIR_EINVALID,
                                "%s/%s is not the map that Weir pinned there; remove the folder if nothing is "
                                "governed by it",
                                folder, bpf_map__name(map));
        }
        return 0;
}

static int adopt_links(struct weir_gates *gates, const char *folder, uint64_t cgroup, struct weir_err *err)
{
        struct bpf_program *program;
        size_t i = 0;

        bpf_object__for_each_program(program, gates->skeleton->obj)
        {
                int fd = open_link(folder, bpf_program__name(program), cgroup);

                if (fd == -EPROTO || fd == -EPERM)
                        return weir_err_set(
                                err, WEIR_EINVALID,
                                "%s/%s is not a link of Weir's; remove the folder if nothing is governed by it", folder,
                                bpf_program__name(program));
                gates->links[i++] = fd < 0 ? -1 : fd;
        }
        return 0;
}

static int busy(const struct weir_bpf_about *about, struct weir_err *err)
{
        if (about->pid == (uint32_t)getpid() || !about->pid_started ||
            start_of((pid_t)about->pid) != about->pid_started)
                return 0;
        return weir_err_set(err, -EBUSY, "the cgroup is governed by Weir's process %u: end that first", about->pid);
}

int weir_gates_busy(const char *pins_path, const char *name, struct weir_err *err)
{
        struct weir_bpf_about about;
        char folder[FOLDER_MAX];

        (void)snprintf(folder, sizeof(folder), "%s/%s", pins_path, name);
        return read_about(folder, &about) < 0 ? 0 : busy(&about, err);
}

int weir_gates_adopt(int pins, const char *pins_path, const char *name, uint64_t cgroup, struct weir_gates **ret_gates,
                     struct weir_err *err)
{
        weir_auto(gates) struct weir_gates *gates = NULL;
        struct weir_bpf_about about;
        char folder[FOLDER_MAX];
        struct stat st;
        int r;

        (void)snprintf(folder, sizeof(folder), "%s/%s", pins_path, name);
        if (fstatat(pins, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;
        r = st.st_uid == geteuid() ? read_about(folder, &about) : -EPROTO;
        if (r < 0)
                return weir_err_set(err, WEIR_EINVALID,
                                    "%s holds no pins of Weir's; remove it if nothing is governed by it", folder);
        r = busy(&about, err);
        if (r < 0)
                return r;
        if (about.cgroup != cgroup)
                return 0;
        gates = gates_new();
        if (!gates)
                return weir_err_set(err, -ENOMEM, "out of memory");
        r = open_skeleton(gates, err);
        if (r == 0 && about.layout == WEIR_BPF_LAYOUT)
                r = reuse_maps(gates, folder, err);
        if (r == 0)
                r = adopt_links(gates, folder, cgroup, err);
        if (r == 0)
                r = load_skeleton(gates, err);
        if (r < 0)
                return r;
        *ret_gates = TAKE_PTR(gates);
        return 1;
}

static int attach_one(struct bpf_program *program, int cgroup, int *link, struct weir_err *err)
{
        int fd = bpf_program__fd(program), error;
        const char *name = bpf_program__name(program);

        if (*link >= 0) {
                if (bpf_link_update(*link, fd, NULL) == 0)
                        return 0;
                return weir_err_set(err, -errno, "cannot replace the program %s of the cgroup: %s", name,
                                    strerror(errno));
        }
        *link = bpf_link_create(fd, cgroup, bpf_program__expected_attach_type(program), NULL);
        if (*link >= 0)
                return 0;
        error = errno;
        *link = -1;
        if (error == EPERM)
                return weir_err_set(
                        err, WEIR_EUNSUPPORTED,
                        "cannot attach %s: a program that allows no others beside it stands on a cgroup above "
                        "(bpftool cgroup tree shows it)",
                        name);
        return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot attach %s to the cgroup: %s", name, strerror(error));
}

int weir_gates_attach(struct weir_gates *gates, int cgroup, struct weir_err *err)
{
        struct bpf_program *program;
        size_t i = 0;
        int r = 0;

        bpf_object__for_each_program(program, gates->skeleton->obj)
        {
                if (r == 0)
                        r = attach_one(program, cgroup, &gates->links[i], err);
                i++;
        }
        return r;
}

/* Puts @fd where the next Weir looks for it. A name that is taken is taken over in one step. */
static int pin_one(int fd, const char *folder, const char *name)
{
        char path[PATH_MAX], fresh[PATH_MAX];

        (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
        if (bpf_obj_pin(fd, path) == 0)
                return 0;
        if (errno != EEXIST)
                return -errno;
        (void)snprintf(fresh, sizeof(fresh), "%s/%s_new", folder, name);
        (void)unlink(fresh);
        /* For this moment the pin is there twice, never not at all. Names there have no dots. */
        if (bpf_obj_pin(fd, fresh) < 0 || rename(fresh, path) < 0)
                return -errno;
        return 0;
}

static int write_about(struct weir_gates *gates, uint64_t cgroup, const char *version)
{
        struct weir_bpf_about about = {
                .layout = WEIR_BPF_LAYOUT,
                .pid = (uint32_t)getpid(),
                .pid_started = start_of(getpid()),
                .cgroup = cgroup,
        };
        uint32_t zero = 0;

        (void)snprintf(about.programs, sizeof(about.programs), "%s", weir_gates_digest());
        (void)snprintf(about.version, sizeof(about.version), "%s", version);
        return bpf_map_update_elem(bpf_map__fd(gates->skeleton->maps.about), &zero, &about, BPF_ANY) < 0 ? -errno : 0;
}

static int pin_all(struct weir_gates *gates, const char *folder)
{
        struct bpf_program *program;
        struct bpf_map *map;
        size_t i = 0;
        int r = 0;

        bpf_object__for_each_map(map, gates->skeleton->obj) if (r == 0 && !bpf_map__is_internal(map)) r =
                pin_one(bpf_map__fd(map), folder, bpf_map__name(map));
        bpf_object__for_each_program(program, gates->skeleton->obj)
        {
                if (r == 0)
                        r = pin_one(gates->links[i], folder, bpf_program__name(program));
                i++;
        }
        return r;
}

int weir_gates_pin(struct weir_gates *gates, int pins, const char *pins_path, const char *name, uint64_t cgroup,
                   const char *version, struct weir_err *err)
{
        char folder[FOLDER_MAX];
        int r;

        (void)snprintf(folder, sizeof(folder), "%s/%s", pins_path, name);
        if (mkdirat(pins, name, 0700) < 0 && errno != EEXIST)
                return weir_err_set(err, -errno, "cannot make %s: %s", folder, strerror(errno));
        r = write_about(gates, cgroup, version);
        if (r == 0)
                r = pin_all(gates, folder);
        if (r < 0) {
                weir_gates_unpin(pins, name);
                return weir_err_set(err, r, "cannot pin the gates in %s: %s", folder, strerror(-r));
        }
        return 0;
}

int weir_gates_hold(const struct weir_gates *gates, int mount, struct weir_err *err)
{
        char folder[40];
        int r = 0;

        (void)snprintf(folder, sizeof(folder), "/proc/self/fd/%d", mount);
        for (size_t i = 0; i < PROGRAMS_MAX && r == 0; i++) {
                char name[16];

                (void)snprintf(name, sizeof(name), "link%zu", i);
                if (gates->links[i] >= 0)
                        r = pin_one(gates->links[i], folder, name);
        }
        return r < 0 ? weir_err_set(err, r, "cannot pin the gates beside the command: %s", strerror(-r)) : 0;
}

void weir_gates_unpin(int pins, const char *name)
{
        int fd = openat(pins, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *entry;

        while (dir && (entry = readdir(dir)))
                if (entry->d_name[0] != '.')
                        (void)unlinkat(dirfd(dir), entry->d_name, 0);
        if (dir)
                (void)closedir(dir);
        (void)unlinkat(pins, name, AT_REMOVEDIR);
}

int weir_gates_remove(int pins, const char *pins_path, const char *name)
{
        char folder[FOLDER_MAX];
        struct stat st;
        int fd = openat(pins, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *entry;

        if (!dir)
                return -ENOENT;
        (void)snprintf(folder, sizeof(folder), "%s/%s", pins_path, name);
        while ((entry = readdir(dir))) {
                weir_auto_close int link = -1;

                if (entry->d_name[0] == '.' || fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                link = open_pin(folder, entry->d_name);
                if (link >= 0)
                        (void)bpf_link_detach(link); /* a map is no link, and is let be */
        }
        (void)closedir(dir);
        weir_gates_unpin(pins, name);
        return 0;
}

static bool cgroup_lives(int cgroup_root, const char *name)
{
        weir_auto_close int fd = -1;
        char *end;
        uint64_t id = strtoull(name, &end, 16);

        if (*end)
                return true; /* not ours to judge */
        fd = weir_cgroup_open_id(cgroup_root, id);
        return fd != -ESTALE;
}

size_t weir_gates_sweep(int pins, int cgroup_root)
{
        int fd = openat(pins, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *entry;
        size_t n = 0;

        while (dir && (entry = readdir(dir)))
                if (entry->d_name[0] != '.' && !cgroup_lives(cgroup_root, entry->d_name)) {
                        weir_gates_unpin(pins, entry->d_name);
                        n++;
                }
        if (dir)
                (void)closedir(dir);
        return n;
}

int weir_gates_live(const struct weir_gates *gates)
{
        return gates->maps[LIVE];
}

int weir_gates_sockets(const struct weir_gates *gates)
{
        return gates->maps[SOCKETS];
}

int weir_gates_events(const struct weir_gates *gates)
{
        return gates->maps[EVENTS];
}

int weir_gates_originals(const struct weir_gates *gates)
{
        return gates->maps[ORIGINALS];
}

int weir_gates_counts(const struct weir_gates *gates)
{
        return gates->maps[COUNTS];
}

int weir_gates_program(const struct weir_gates *gates, const char *name)
{
        const struct bpf_program *program = bpf_object__find_program_by_name(gates->skeleton->obj, name);

        return program ? bpf_program__fd(program) : -ENOENT;
}

uint64_t weir_gates_generation(const struct weir_gates *gates)
{
        uint32_t zero = 0, id;
        struct weir_bpf_cell cell;
        weir_auto_close int map = -1;
        uint32_t first = GENERATION_CELL;

        if (bpf_map_lookup_elem(weir_gates_live(gates), &zero, &id) < 0)
                return 0;
        map = bpf_map_get_fd_by_id(id);
        if (map < 0 || bpf_map_lookup_elem(map, &first, &cell) < 0)
                return 0;
        return cell.words[0];
}

size_t weir_gates_others(const struct weir_gates *gates, int cgroup)
{
        struct bpf_program *program;
        size_t others = 0;

        bpf_object__for_each_program(program, gates->skeleton->obj)
        {
                uint32_t ids[64], n = WEIR_ARRAY_SIZE(ids);

                if (bpf_prog_query(cgroup, bpf_program__expected_attach_type(program), BPF_F_QUERY_EFFECTIVE, NULL, ids,
                                   &n) == 0 &&
                    n > 1)
                        others += n - 1;
        }
        return others;
}
