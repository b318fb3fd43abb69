/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/cgroup_place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"

#define KILL_ROUNDS 100
#define MOUNTINFO_MAX (4 * 1024 * 1024)
#define PINS_PARENT "/sys/fs/bpf"

static bool is_filesystem(int fd, long magic)
{
        struct statfs st;

        return fstatfs(fd, &st) == 0 && st.f_type == magic;
}

static int open_if(const char *path, long magic)
{
        weir_auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd >= 0 && is_filesystem(fd, magic) ? TAKE_FD(fd) : -ENOENT;
}

/*
 * A line of mountinfo, proc(5):
 *
 *      36 35 98:0 /root /mount/point rw,noatime shared:1 - cgroup2 cgroup2 rw
 *
 * The first mount of @type whose root is the file system's own.
 */
static int find_mount(const char *type, char *ret, size_t n)
{
        weir_auto_free char *text = NULL;
        char *rest, *line;
        size_t length;
        int r;

        r = weir_file_slurp(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, &length);
        if (r < 0)
                return r;
        for (rest = text; (line = strsep(&rest, "\n"));) {
                char root[64], point[256], found[32];
                const char *dash = strstr(line, " - ");

                if (!dash || sscanf(line, "%*s %*s %*s %63s %255s", root, point) != 2 ||
                    sscanf(dash + 3, "%31s", found) != 1)
                        continue;
                /* A path with octal escapes in it would have to be undone; another mount, or one of our own, will do.
                 */
                if (weir_streq(found, type) && weir_streq(root, "/") && !strchr(point, '\\') && strlen(point) < n) {
                        memcpy(ret, point, strlen(point) + 1);
                        return 0;
                }
        }
        return -ENOENT;
}

/* Mounted for this descriptor alone: nothing appears anywhere, and the end of the descriptor is its end. */
static int mount_detached(const char *type)
{
        weir_auto_close int context = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
        int fd;

        if (context < 0 || syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        fd = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
        return fd < 0 ? -errno : fd;
}

int weir_pins_aside(void)
{
        return mount_detached("bpf");
}

static int mount_aside(const char *type)
{
        weir_auto_close int mounted = mount_detached(type);
        int fd;

        if (mounted < 0)
                return mounted;
        /* That names the place and opens nothing (O_PATH). */
        fd = mounted < 0 ? -1 : openat(mounted, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int weir_cgroup_root_open(struct weir_cgroup_root *ret, struct weir_err *err)
{
        static const char *const usual[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
        struct weir_cgroup_root root = { .fd = -1 };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(usual) && root.fd < 0; i++) {
                root.fd = open_if(usual[i], CGROUP2_SUPER_MAGIC);
                (void)snprintf(root.path, sizeof(root.path), "%s", usual[i]);
        }
        if (root.fd < 0 && find_mount("cgroup2", root.path, sizeof(root.path)) == 0)
                root.fd = open_if(root.path, CGROUP2_SUPER_MAGIC);
        if (root.fd < 0) {
                root.path[0] = '\0';
                root.fd = mount_aside("cgroup2");
        }
        if (root.fd < 0)
                return weir_err_set(
                        err, WEIR_EUNSUPPORTED,
                        "there is no cgroup v2 on this machine, and it cannot be mounted (%s): the kernel needs "
                        "CONFIG_CGROUPS and CONFIG_CGROUP_BPF, and Weir CAP_SYS_ADMIN; --capture sealed needs "
                        "neither",
                        strerror(-root.fd));
        *ret = root;
        return 0;
}

void weir_cgroup_root_close(struct weir_cgroup_root *root)
{
        weir_close_cleanup(&root->fd);
        root->fd = -1;
}

const char *weir_cgroup_root_name(const struct weir_cgroup_root *root)
{
        return root->path[0] ? root->path : "a mount of Weir's own";
}

int weir_cgroup_own(char *ret, size_t n, struct weir_err *err)
{
        weir_auto_free char *text = NULL;
        char *rest, *line;
        size_t length;
        int r;

        r = weir_file_slurp(AT_FDCWD, "/proc/self/cgroup", 65536, &text, &length);
        if (r < 0)
                return weir_err_set(err, r, "cannot read /proc/self/cgroup: %s", strerror(-r));
        for (rest = text; (line = strsep(&rest, "\n"));)
                if (weir_starts_with(line, "0::/") && strlen(line + 4) < n) {
                        memcpy(ret, line + 4, strlen(line + 4) + 1);
                        return 0;
                }
        return weir_err_set(err, WEIR_EUNSUPPORTED, "this process is in no cgroup of version 2");
}

/* name_to_handle_at(2): a kernfs file system's handle is the 64 bits of the number. */
#define KERNFS_HANDLE_TYPE 0xfe
union handle {
        struct file_handle head;
        struct {
                unsigned bytes;
                int type;
                uint64_t id;
        } kernfs;
};

int weir_cgroup_id(int fd, uint64_t *ret_id)
{
        union handle handle = { .kernfs = { .bytes = sizeof(uint64_t) } };
        int mount;

        if (name_to_handle_at(fd, "", &handle.head, &mount, AT_EMPTY_PATH) < 0)
                return -errno;
        memcpy(ret_id, handle.head.f_handle, sizeof(*ret_id));
        return 0;
}

int weir_cgroup_open_id(int root, uint64_t id)
{
        union handle handle = { .kernfs = { .bytes = sizeof(uint64_t), .type = KERNFS_HANDLE_TYPE } };
        int fd;

        memcpy(handle.head.f_handle, &id, sizeof(id));
        fd = open_by_handle_at(root, &handle.head, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int weir_cgroup_path(const struct weir_cgroup_root *root, uint64_t id, char *ret, size_t n)
{
        weir_auto_close int fd = weir_cgroup_open_id(root->fd, id);
        size_t above = strlen(root->path);
        char link[48], path[512];
        ssize_t length;

        if (fd < 0)
                return fd;
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        length = readlink(link, path, sizeof(path) - 1);
        if (length < 0)
                return -errno;
        path[length] = '\0';
        if (strncmp(path, root->path, above) != 0)
                above = 0;
        (void)snprintf(ret, n, "%s", path[above] ? path + above : "/");
        return 0;
}

/* Linux 5.14 has cgroup.kill; before, the list is read until it stays empty. */
void weir_cgroup_kill(int fd)
{
        weir_auto_close int all = openat(fd, "cgroup.kill", O_WRONLY | O_CLOEXEC);

        if (all >= 0 && weir_fd_write_all(all, "1", 1) == 0)
                return;
        for (unsigned i = 0; i < KILL_ROUNDS; i++) {
                weir_auto_free char *text = NULL;
                size_t n;

                if (weir_file_slurp(fd, "cgroup.procs", 1024 * 1024, &text, &n) < 0 || n == 0)
                        return;
                for (char *at = text, *end; *at; at = end) {
                        long pid = strtol(at, &end, 10);

                        if (end == at || (*end && *end != '\n'))
                                break;
                        if (pid > 0)
                                (void)kill((pid_t)pid, SIGKILL);
                        end += *end == '\n';
                }
        }
}

int weir_cgroup_remove(int above, const char *name)
{
        int fd = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *entry;
        int r = 0;

        /* The workload decides how deep it goes, and a way of that many folders the kernel would not take either. */
        while (dir && r == 0 && (entry = readdir(dir)))
                if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
                        r = weir_cgroup_remove(dirfd(dir), entry->d_name);
        if (dir)
                (void)closedir(dir);
        if (r == 0 && unlinkat(above, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                r = -errno;
        return r;
}

static int pins_parent(char *ret_path, size_t n, struct weir_err *err)
{
        const char *named = getenv("WEIR_BPFFS");
        const char *path = named && named[0] ? named : PINS_PARENT;
        int fd = open_if(path, BPF_FS_MAGIC);

        (void)snprintf(ret_path, n, "%s", path);
        if (fd >= 0)
                return fd;
        if (named && named[0])
                return weir_err_set(err, WEIR_EUNSUPPORTED, "WEIR_BPFFS: %s is no mount of the BPF file system", named);
        if (mount("bpf", PINS_PARENT, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") == 0)
                fd = open_if(PINS_PARENT, BPF_FS_MAGIC);
        else
                fd = -errno;
        if (fd < 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED,
                                    "the BPF file system is not mounted at " PINS_PARENT
                                    " and cannot be (%s): mount -t bpf "
                                    "bpf " PINS_PARENT ", or name another mount of it in WEIR_BPFFS",
                                    strerror(-fd));
        return fd;
}

int weir_pins_find(char *ret_path, size_t n, struct weir_err *err)
{
        const char *named = getenv("WEIR_BPFFS");
        const char *path = named && named[0] ? named : PINS_PARENT;
        weir_auto_close int fd = open_if(path, BPF_FS_MAGIC);

        (void)snprintf(ret_path, n, "%s", path);
        return fd >= 0 ? 0 :
                         weir_err_set(
                                 err, WEIR_EUNSUPPORTED,
                                 "the BPF file system is not mounted at %s; Weir tries to, as root, when it attaches",
                                 path);
}

int weir_pins_open(char *ret_path, size_t n, struct weir_err *err)
{
        weir_auto_close int parent = -1;
        char above[200];
        struct stat st;
        int fd;

        parent = pins_parent(above, sizeof(above), err);
        if (parent < 0)
                return parent;
        if (mkdirat(parent, "weir", 0700) < 0 && errno != EEXIST)
                return weir_err_set(err, -errno, "cannot make %s/weir: %s", above, strerror(errno));
        fd = openat(parent, "weir", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return weir_err_set(err, -errno, "cannot open %s/weir: %s", above, strerror(errno));
        (void)snprintf(ret_path, n, "%s/weir", above);
        if (st.st_uid != geteuid() || st.st_mode & 0022) {
                (void)close(fd);
                return weir_err_set(err, WEIR_EUNSUPPORTED, "%s is not this user's alone: remove it", ret_path);
        }
        return fd;
}
