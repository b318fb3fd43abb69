/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * /run is an empty tmpfs that holds copies of the resolver's configuration; so are the well-known folders of sockets
 * elsewhere, those that the environment names, and /etc/ssh with copies that the user owns: in the sandbox files of
 * others show as the overflow uid, and ssh refuses a configuration of such an owner. What --unix names is opened before
 * the masks are laid and mounted again behind them.
 */
#include "capture/masks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/gate.h"
#include "base/strutil.h"

#define COPY_BYTES_MAX (1024 * 1024)
#define KEPT_MAX 64
#define TMPFS_OPTIONS "mode=0755,size=64m,nr_inodes=65536"

/* Folders of sockets of daemons that would go out for whoever asks: display, multiplexers, agents, containers. */
static const char *const patterns[] = {
        "/var/run",
        "/tmp/.X11-unix",
        "/tmp/.ICE-unix",
        "/tmp/.XIM-unix",
        "/tmp/.font-unix",
        "/tmp/tmux-*",
        "/tmp/ssh-*",
        "/tmp/screens",
        "/tmp/dbus-*",
        "/tmp/.docker*",
        "/var/lib/docker",
        "/var/lib/containerd",
        "/var/snap",
        "/var/lib/lxd",
        "/var/lib/incus",
        "/var/lib/gdm*",
        "/var/lib/sss/pipes",
        "/var/lib/gssproxy",
        "/nix/var/nix/daemon-socket",
};

/* The same below the home folder. */
static const char *const home_folders[] = {
        ".docker/run",
        ".docker/desktop",
        ".colima",
        ".lima",
        ".rd",
        ".orbstack/run",
        ".local/share/containers/podman/machine",
        ".ssh/agent",
        ".cache/ibus",
        ".dbus",
};

/* Agents' sockets beside keys and settings: gpg-agent, dirmngr and keyboxd where there is no /run/user. */
static const char *const home_mixed[] = { ".gnupg" };

/* Variables that name a socket, or a folder of them. */
static const struct {
        const char *name, *prefix;
        bool folder;
} variables[] = {
        { "XDG_RUNTIME_DIR", "", true },
        { "SSH_AUTH_SOCK", "", false },
        { "DOCKER_HOST", "unix://", false },
        { "CONTAINER_HOST", "unix://", false },
        { "BUILDKIT_HOST", "unix://", false },
        { "CONTAINERD_ADDRESS", "", false },
        { "DBUS_SESSION_BUS_ADDRESS", "unix:path=", false },
        { "DBUS_SYSTEM_BUS_ADDRESS", "unix:path=", false },
        { "TMUX_TMPDIR", "", true },
        { "TMUX", "", false },
        { "WAYLAND_DISPLAY", "", false },
        { "PULSE_SERVER", "unix:", false },
        { "GPG_AGENT_INFO", "", false },
        { "SWAYSOCK", "", false },
        { "I3SOCK", "", false },
        { "KITTY_LISTEN_ON", "unix:", false },
        { "ALACRITTY_SOCKET", "", false },
        { "WEZTERM_UNIX_SOCKET", "", false },
        { "NVIM", "", false },
        { "NVIM_LISTEN_ADDRESS", "", false },
        { "VSCODE_IPC_HOOK_CLI", "", false },
        { "VSCODE_GIT_IPC_HANDLE", "", false },
};

struct kept {
        const char *path;
        int fd;
};

static int fail(struct weir_err *err, const char *what, const char *path)
{
        int error = errno;

        return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot %s %s in the sandbox: %s", what, path, strerror(error));
}

static int mount_empty(const char *path, struct weir_err *err)
{
        if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, TMPFS_OPTIONS) < 0)
                return fail(err, "hide", path);
        return 0;
}

static bool is_folder(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Whether hiding @path would hide the world: the root, a home, /tmp, or what the command stands in. */
static bool too_much(const char *path)
{
        static const char *const never[] = { "/",    "/tmp", "/var/tmp", "/home", "/usr", "/etc",
                                             "/var", "/dev", "/opt",     "/srv",  "/root" };
        const char *home = getenv("HOME");
        weir_auto_free char *here = getcwd(NULL, 0);
        size_t n = strlen(path);

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(never); i++)
                if (weir_streq(path, never[i]))
                        return true;
        if (home && weir_starts_with(home, path) && (home[n] == '\0' || home[n] == '/'))
                return true;
        return here && weir_starts_with(here, path) && (here[n] == '\0' || here[n] == '/');
}

static bool in_home(const char *path)
{
        const char *home = getenv("HOME");

        return home && home[0] == '/' && home[1] != '\0' && weir_starts_with(path, home) && path[strlen(home)] == '/';
}

static int mask(const char *path, struct weir_err *err)
{
        return is_folder(path) && WEIR_GATE(MASKS) ? mount_empty(path, err) : 0;
}

/* A socket in a folder that cannot be hidden, as /tmp: until the host replaces the socket, which is the best there is.
 */
static int hide_socket(const char *path, struct weir_err *err)
{
        struct stat st;

        if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
                return 0;
        return mount("/dev/null", path, NULL, MS_BIND, NULL) < 0 ? fail(err, "hide", path) : 0;
}

static int write_copy(const char *path, const char *bytes, size_t n)
{
        weir_auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

        return fd < 0 ? -errno : weir_fd_write_all(fd, bytes, n);
}

/* What stood in a folder, opened before it was hidden. */
struct veiled {
        char name[NAME_MAX + 1];
        int fd;
};

/* The entries of @path that are no sockets; -ENOMEM. */
static int open_entries(const char *path, struct veiled **ret, size_t *ret_n)
{
        struct veiled *list = NULL;
        size_t n = 0, capacity = 0;
        const struct dirent *entry;
        DIR *dir = opendir(path);
        struct stat st;

        while (dir && (entry = readdir(dir))) {
                if (weir_streq(entry->d_name, ".") || weir_streq(entry->d_name, "..") ||
                    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISSOCK(st.st_mode))
                        continue;
                if (n == capacity) {
                        struct veiled *more =
                                reallocarray(list, capacity = capacity ? capacity * 2 : 16, sizeof(*list));

                        if (!more)
                                break;
                        list = more;
                }
                (void)snprintf(list[n].name, sizeof(list[n].name), "%s", entry->d_name);
                list[n].fd = openat(dirfd(dir), entry->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
                n += list[n].fd >= 0;
        }
        if (dir)
                (void)closedir(dir);
        *ret = list;
        *ret_n = n;
        return 0;
}

/* Puts one entry back into the folder that now hides it. */
static int bring_back(const char *folder, const struct veiled *v, struct weir_err *err)
{
        weir_auto_free char *path = weir_asprintf("%s/%s", folder, v->name);
        char from[32], target[PATH_MAX];
        struct stat st;
        ssize_t n;

        if (!path || fstat(v->fd, &st) < 0)
                return weir_err_set(err, -ENOMEM, "out of memory");
        if (S_ISLNK(st.st_mode)) {
                n = readlinkat(v->fd, "", target, sizeof(target) - 1);
                target[n > 0 ? n : 0] = '\0';
                return symlink(target, path) < 0 ? fail(err, "keep", path) : 0;
        }
        if (S_ISDIR(st.st_mode) ? mkdir(path, 0700) < 0 : write_copy(path, "", 0) < 0)
                return fail(err, "keep", path);
        (void)snprintf(from, sizeof(from), "/proc/self/fd/%d", v->fd);
        return mount(from, path, NULL, MS_BIND | MS_REC, NULL) < 0 ? fail(err, "keep", path) : 0;
}

/* Hides the sockets of a folder that holds other things too, keys for instance: those are mounted back. */
static int veil(const char *path, struct weir_err *err)
{
        weir_auto_free struct veiled *list = NULL;
        size_t n = 0;
        int r;

        if (!is_folder(path))
                return 0;
        r = open_entries(path, &list, &n);
        if (r == 0)
                r = mount_empty(path, err);
        for (size_t i = 0; i < n; i++) {
                if (r == 0)
                        r = bring_back(path, &list[i], err);
                (void)close(list[i].fd);
        }
        return r;
}

/* Whether a folder has a socket in it. */
static bool has_sockets(const char *path)
{
        const struct dirent *entry;
        bool found = false;
        DIR *dir = opendir(path);
        struct stat st;

        while (dir && !found && (entry = readdir(dir)))
                found = fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode);
        if (dir)
                (void)closedir(dir);
        return found;
}

static int mask_patterns(struct weir_err *err)
{
        int r = 0;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(patterns) && r == 0 && WEIR_GATE(MASK_PATTERNS); i++) {
                glob_t found = { 0 };

                if (glob(patterns[i], GLOB_NOSORT, NULL, &found) == 0)
                        for (size_t k = 0; k < found.gl_pathc && r == 0; k++)
                                r = mask(found.gl_pathv[k], err);
                globfree(&found);
        }
        return r;
}

static int mask_home(struct weir_err *err)
{
        const char *home = WEIR_GATE(MASK_HOME) ? getenv("HOME") : NULL;
        int r = 0;

        for (size_t i = 0; home && home[0] == '/' && i < WEIR_ARRAY_SIZE(home_folders) && r == 0; i++) {
                weir_auto_free char *path = weir_asprintf("%s/%s", home, home_folders[i]);

                r = path ? mask(path, err) : -ENOMEM;
        }
        for (size_t i = 0; home && home[0] == '/' && i < WEIR_ARRAY_SIZE(home_mixed) && r == 0; i++) {
                weir_auto_free char *path = weir_asprintf("%s/%s", home, home_mixed[i]);

                r = path ? (has_sockets(path) ? veil(path, err) : 0) : -ENOMEM;
        }
        return r;
}

static int mask_variables(struct weir_err *err)
{
        int r = 0;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(variables) && r == 0 && WEIR_GATE(MASK_VARIABLES); i++) {
                const char *value = getenv(variables[i].name);
                weir_auto_free char *path = NULL, *folder = NULL;
                char *end;

                if (!value || !weir_starts_with(value, variables[i].prefix))
                        continue;
                path = strdup(value + strlen(variables[i].prefix));
                if (path)
                        path[strcspn(path, ",;:")] = '\0';
                folder = path ? strdup(path) : NULL;
                if (!folder)
                        return -ENOMEM;
                end = variables[i].folder ? NULL : strrchr(folder, '/');
                if (end)
                        *end = '\0';
                if (path[0] != '/')
                        continue;
                /* A folder at home may hold keys beside the agent's socket. */
                if (!too_much(end == folder ? "/" : folder))
                        r = in_home(folder) ? veil(folder, err) : mask(folder, err);
                else if (!variables[i].folder)
                        r = hide_socket(path, err);
        }
        return r;
}

/* A tmux that the host starts later would make this folder: made now, and hidden, it cannot appear in the sandbox. */
static void reserve_tmux(void)
{
        char path[64];

        (void)snprintf(path, sizeof(path), "/tmp/tmux-%u", geteuid());
        (void)mkdir(path, 0700);
}

/* Makes the folders above @path, which stands in a fresh tmpfs. */
static void make_above(const char *path)
{
        char at[PATH_MAX];

        for (const char *slash = strchr(path + 1, '/'); slash && (size_t)(slash - path) < sizeof(at);
             slash = strchr(slash + 1, '/')) {
                memcpy(at, path, (size_t)(slash - path));
                at[slash - path] = '\0';
                (void)mkdir(at, 0755);
        }
}

/* What must still be found in /run: where /etc/resolv.conf points to, and on NixOS the programs. */
struct run_copy {
        char resolver[PATH_MAX], system[PATH_MAX];
        char *text;
        size_t n;
};

static void remember_run(struct run_copy *copy)
{
        ssize_t n = readlink("/run/current-system", copy->system, sizeof(copy->system) - 1);

        copy->system[n > 0 ? n : 0] = '\0';
        if (!realpath("/etc/resolv.conf", copy->resolver) || !weir_starts_with(copy->resolver, "/run/") ||
            weir_file_slurp(AT_FDCWD, copy->resolver, COPY_BYTES_MAX, &copy->text, &copy->n) < 0)
                copy->resolver[0] = '\0';
}

/* $XDG_RUNTIME_DIR of the usual kind: programs expect an empty one rather than none. */
static void make_runtime_folder(void)
{
        const char *path = getenv("XDG_RUNTIME_DIR");

        if (!path || !weir_starts_with(path, "/run/"))
                return;
        make_above(path);
        (void)mkdir(path, 0700);
}

static int restore_run(const struct run_copy *copy, struct weir_err *err)
{
        make_runtime_folder();
        if (copy->system[0] && symlink(copy->system, "/run/current-system") < 0)
                return fail(err, "keep", "/run/current-system");
        if (!copy->resolver[0])
                return 0;
        make_above(copy->resolver);
        return write_copy(copy->resolver, copy->text, copy->n) < 0 ? fail(err, "copy", copy->resolver) : 0;
}

static int mask_run(struct weir_err *err)
{
        struct run_copy copy = { .text = NULL };
        int r;

        if (!WEIR_GATE(MASK_RUN))
                return 0;
        remember_run(&copy);
        r = mask("/run", err);
        if (r == 0)
                r = restore_run(&copy, err);
        free(copy.text);
        return r;
}

/* Copies the regular files of @from, links followed, into @to; what cannot be read is of no use to the workload
 * either. */
static void copy_files(int from, const char *to)
{
        DIR *dir = fdopendir(from);
        const struct dirent *entry;

        if (!dir) {
                (void)close(from);
                return;
        }
        while ((entry = readdir(dir))) {
                weir_auto_free char *bytes = NULL, *path = weir_asprintf("%s/%s", to, entry->d_name);
                struct stat st;
                size_t n;

                if (!path || fstatat(dirfd(dir), entry->d_name, &st, 0) < 0)
                        continue;
                if (S_ISREG(st.st_mode) && weir_file_slurp(dirfd(dir), entry->d_name, COPY_BYTES_MAX, &bytes, &n) == 0)
                        (void)write_copy(path, bytes, n);
        }
        (void)closedir(dir);
}

static int overlay_ssh(struct weir_err *err)
{
        int folder = open("/etc/ssh", O_RDONLY | O_DIRECTORY | O_CLOEXEC), parts;
        int r;

        if (folder < 0)
                return 0;
        parts = openat(folder, "ssh_config.d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = mount_empty("/etc/ssh", err);
        if (r < 0) {
                (void)close(folder);
                if (parts >= 0)
                        (void)close(parts);
                return r;
        }
        copy_files(folder, "/etc/ssh");
        if (parts >= 0 && mkdir("/etc/ssh/ssh_config.d", 0755) == 0)
                copy_files(parts, "/etc/ssh/ssh_config.d");
        else if (parts >= 0)
                (void)close(parts);
        return 0;
}

/* What --unix names has to be there: who names it wants it, and a socket that comes later would stay hidden. */
static int open_kept(const char *const *paths, struct kept *kept, size_t *ret_n, struct weir_err *err)
{
        for (; paths && *paths; paths++) {
                if (*ret_n == KEPT_MAX)
                        return weir_err_set(err, WEIR_EINVALID, "--unix: at most %d paths", KEPT_MAX);
                if (**paths != '/')
                        return weir_err_set(err, WEIR_EINVALID, "--unix %s: name the whole path, from /", *paths);
                kept[*ret_n].path = *paths;
                kept[*ret_n].fd = open(*paths, O_PATH | O_CLOEXEC);
                if (kept[*ret_n].fd < 0)
                        return weir_err_set(err, WEIR_EINVALID, "--unix %s: %s", *paths, strerror(errno));
                ++*ret_n;
        }
        return 0;
}

static int restore_kept(const struct kept *kept, struct weir_err *err)
{
        char from[32];
        struct stat st, now;
        bool there = stat(kept->path, &now) == 0;

        if (fstat(kept->fd, &st) < 0)
                return fail(err, "keep", kept->path);
        if (there && st.st_dev == now.st_dev && st.st_ino == now.st_ino)
                return 0; /* it was not hidden */
        make_above(kept->path);
        if (!there && (S_ISDIR(st.st_mode) ? mkdir(kept->path, 0755) < 0 : write_copy(kept->path, "", 0) < 0))
                return fail(err, "keep", kept->path);
        (void)snprintf(from, sizeof(from), "/proc/self/fd/%d", kept->fd);
        return mount(from, kept->path, NULL, MS_BIND | MS_REC, NULL) < 0 ? fail(err, "keep", kept->path) : 0;
}

static int mask_all(struct weir_err *err)
{
        int r;

        reserve_tmux();
        r = mask_variables(err);
        if (r == 0)
                r = mask_home(err);
        if (r == 0)
                r = mask_run(err);
        if (r == 0)
                r = mask_patterns(err);
        return r < 0 ? r : overlay_ssh(err);
}

int weir_masks_setup(const char *const *unix_paths, struct weir_err *err)
{
        struct kept kept[KEPT_MAX];
        mode_t mask_before = umask(0022);
        size_t n = 0;
        int r;

        r = open_kept(unix_paths, kept, &n, err);
        if (r == 0)
                r = mask_all(err);
        for (size_t i = 0; i < n; i++) {
                if (r == 0)
                        r = restore_kept(&kept[i], err);
                (void)close(kept[i].fd);
        }
        (void)umask(mask_before);
        return r == -ENOMEM ? weir_err_set(err, r, "out of memory") : r;
}
