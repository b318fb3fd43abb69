/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A daemon that listens on a socket with a path would go out for whoever asks. What is hidden from the workload:
 *
 *   1. folders in which daemons keep their sockets: /run, well-known ones in /tmp and at home, those that the
 *      environment names. They stay hidden whatever the host puts there later; the names that are known before they
 *      exist are reserved, by making the folder now;
 *   2. every other socket that somebody of the host listens on at the start: its folder where nothing else is in it,
 *      else the socket alone, for work goes on in that folder and /tmp, for one, is shared with the host.
 *
 * What an ordinary path is compared with is real: no links in it. In /tmp links are not followed, for anybody may put
 * one there. What --unix names is opened before all this and mounted again behind it.
 */
#include "capture/masks.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
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
#include "capture/aliases.h"
#include "capture/copies.h"
#include "capture/mountinfo.h"
#include "capture/veil.h"

#define KEPT_MAX 64

/* Folders of sockets: displays, multiplexers, editors that run commands, agents, containers. */
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
        "/tmp/emacs*",
        "/tmp/nvim.*",
        "/tmp/.org.chromium.*",
        "/tmp/.com.google.Chrome.*",
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
        ".1password",
        ".cache/ibus",
        ".dbus",
};

/* Folders that a daemon would make later, where @above is there: made now, and hidden, they cannot appear. "%u": the
 * user's id. */
static const struct {
        const char *above, *name;
} reserved[] = {
        { "/tmp", "tmux-%u" },
        { "/tmp", "emacs%u" },
        { "~/.docker", "run" },
        { "~/.ssh", "agent" },
};

enum kind {
        SOCKET,  /* names a socket */
        RUNTIME, /* a folder for sockets: empty then */
        MIXED,   /* a folder with keys and an agent's sockets */
};

static const struct {
        const char *name, *prefix;
        enum kind kind;
} variables[] = {
        { "XDG_RUNTIME_DIR", "", RUNTIME },
        { "TMUX_TMPDIR", "", RUNTIME },
        { "SCREENDIR", "", RUNTIME },
        { "ZELLIJ_SOCKET_DIR", "", RUNTIME },
        { "GNUPGHOME", "", MIXED },
        { "SSH_AUTH_SOCK", "", SOCKET },
        { "DOCKER_HOST", "unix://", SOCKET },
        { "CONTAINER_HOST", "unix://", SOCKET },
        { "BUILDKIT_HOST", "unix://", SOCKET },
        { "CONTAINERD_ADDRESS", "", SOCKET },
        { "DBUS_SESSION_BUS_ADDRESS", "unix:path=", SOCKET },
        { "DBUS_SYSTEM_BUS_ADDRESS", "unix:path=", SOCKET },
        { "TMUX", "", SOCKET },
        { "WAYLAND_DISPLAY", "", SOCKET },
        { "PULSE_SERVER", "unix:", SOCKET },
        { "GPG_AGENT_INFO", "", SOCKET },
        { "SWAYSOCK", "", SOCKET },
        { "I3SOCK", "", SOCKET },
        { "KITTY_LISTEN_ON", "unix:", SOCKET },
        { "ALACRITTY_SOCKET", "", SOCKET },
        { "WEZTERM_UNIX_SOCKET", "", SOCKET },
        { "NVIM", "", SOCKET },
        { "NVIM_LISTEN_ADDRESS", "", SOCKET },
        { "EMACS_SOCKET_NAME", "", SOCKET },
        { "EMACS_SERVER_FILE", "", SOCKET },
        { "VSCODE_IPC_HOOK_CLI", "", SOCKET },
        { "VSCODE_IPC_HOOK", "", SOCKET },
        { "VSCODE_GIT_IPC_HANDLE", "", SOCKET },
};

struct kept {
        const char *path;
        char *real;
        int fd;
};

struct work {
        char *home; /* real; NULL if this user has none */
        struct kept kept[KEPT_MAX];
        size_t n_kept;
};

static int fail(struct weir_err *err, const char *what, const char *path)
{
        int error = errno;

        return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot %s %s in the sandbox: %s", what, path, strerror(error));
}

/* Whether --unix names @path, or a folder above it. */
static bool is_kept(const struct work *work, const char *path)
{
        struct stat st, own;

        for (size_t i = 0; i < work->n_kept; i++) {
                const struct kept *kept = &work->kept[i];
                size_t n = strlen(kept->real);

                if (weir_starts_with(path, kept->real) && (path[n] == '\0' || path[n] == '/'))
                        return true;
                if (lstat(path, &st) == 0 && fstat(kept->fd, &own) == 0 && st.st_dev == own.st_dev &&
                    st.st_ino == own.st_ino)
                        return true;
        }
        return false;
}

/* Whether @path, which is real, is a folder that can be hidden without hiding the world. */
static bool may_hide(const struct work *work, const char *path)
{
        return weir_veil_is_folder(path) && !weir_veil_too_much(path, work->home) && WEIR_GATE(MASKS);
}

static int hide(const struct work *work, const char *path, enum kind kind, struct weir_err *err)
{
        /* Where an agent's sockets are elsewhere, its keys can be made and changed. */
        if (!may_hide(work, path) || (kind == MIXED && !weir_veil_has_socket(path)))
                return 0;
        if (kind == RUNTIME || (kind == SOCKET && weir_veil_only_sockets(path)))
                return weir_veil_folder(path, err);
        return weir_veil_mixed(path, err);
}

/* In /tmp anybody can make a link that has such a name: none is followed. */
static int mask_patterns(const struct work *work, struct weir_err *err)
{
        int r = 0;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(patterns) && r == 0 && WEIR_GATE(MASK_PATTERNS); i++) {
                glob_t found = { 0 };

                if (glob(patterns[i], GLOB_NOSORT, NULL, &found) == 0)
                        for (size_t k = 0; k < found.gl_pathc && r == 0; k++)
                                r = hide(work, found.gl_pathv[k], RUNTIME, err);
                globfree(&found);
        }
        return r;
}

/* @name below the home, links followed; NULL if it is not there. */
static char *at_home(const struct work *work, const char *name)
{
        weir_auto_free char *path = work->home ? weir_asprintf("%s/%s", work->home, name) : NULL;

        return path ? realpath(path, NULL) : NULL;
}

static int mask_home(const struct work *work, struct weir_err *err)
{
        weir_auto_free char *gnupg = at_home(work, ".gnupg");
        int r = 0;

        if (!WEIR_GATE(MASK_HOME))
                return 0;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(home_folders) && r == 0; i++) {
                weir_auto_free char *path = at_home(work, home_folders[i]);

                r = path ? hide(work, path, RUNTIME, err) : 0;
        }
        return r == 0 && gnupg ? hide(work, gnupg, MIXED, err) : r;
}

/* The path in a variable's value, behind which more may follow; NULL: none. */
static char *named(const char *value, const char *prefix)
{
        char *path;

        if (!value || !weir_starts_with(value, prefix) || value[strlen(prefix)] != '/')
                return NULL;
        path = strdup(value + strlen(prefix));
        if (path)
                path[strcspn(path, ",;:")] = '\0';
        return path;
}

/* Whether this user can connect to the socket, or could allow itself to. */
static bool is_connectable(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_uid == geteuid() || access(path, W_OK) == 0);
}

/* Splits where a socket is into the real folder and its place there; both NULL if there is no such folder. */
static void find_socket(const char *path, char **ret_folder, char **ret_real)
{
        const char *name = strrchr(path, '/');
        weir_auto_free char *above = strndup(path, name == path ? 1 : (size_t)(name - path));

        *ret_folder = above ? realpath(above, NULL) : NULL;
        *ret_real = *ret_folder ? weir_asprintf("%s%s", weir_streq(*ret_folder, "/") ? "" : *ret_folder, name) : NULL;
}

/* The socket alone, at each place where its file system is mounted. */
static int veil_everywhere(const struct work *work, const char *path, struct weir_err *err)
{
        struct weir_strv aliases __attribute__((cleanup(weir_strv_clear))) = { 0 };
        int r = weir_aliases_of(path, &aliases);

        if (r < 0)
                return weir_err_set(err, r, "cannot read /proc/self/mountinfo: %s", strerror(-r));
        r = weir_veil_socket(path, err);
        for (size_t i = 0; i < aliases.n && r == 0; i++)
                if (is_connectable(aliases.items[i]) && !is_kept(work, aliases.items[i]))
                        r = weir_veil_socket(aliases.items[i], err);
        return r;
}

/* The folder of a socket that the environment names; the socket alone where the folder is too much. */
static int mask_named(const struct work *work, const char *path, struct weir_err *err)
{
        weir_auto_free char *folder = NULL, *real = NULL;

        find_socket(path, &folder, &real);
        if (!real)
                return 0;
        if (!weir_veil_too_much(folder, work->home))
                return hide(work, folder, SOCKET, err);
        return is_connectable(real) && !is_kept(work, real) && WEIR_GATE(MASKS) ? veil_everywhere(work, real, err) : 0;
}

static int mask_variables(const struct work *work, struct weir_err *err)
{
        int r = 0;

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(variables) && r == 0 && WEIR_GATE(MASK_VARIABLES); i++) {
                weir_auto_free char *path = named(getenv(variables[i].name), variables[i].prefix);
                weir_auto_free char *folder = path && variables[i].kind != SOCKET ? realpath(path, NULL) : NULL;

                if (folder)
                        r = hide(work, folder, variables[i].kind, err);
                else if (path && variables[i].kind == SOCKET)
                        r = mask_named(work, path, err);
        }
        return r;
}

static void reserve(const struct work *work)
{
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(reserved); i++) {
                bool home = reserved[i].above[0] == '~';
                weir_auto_free char *above = home ? at_home(work, reserved[i].above + 2) : strdup(reserved[i].above);
                weir_auto_free char *format = above ? weir_asprintf("%s/%s", above, reserved[i].name) : NULL;
                char *number = format ? strstr(format, "%u") : NULL;
                weir_auto_free char *path = NULL;

                if (number) {
                        *number = '\0';
                        path = weir_asprintf("%s%u", format, geteuid());
                }
                if (format)
                        (void)mkdir(path ? path : format, 0700);
        }
}

/* Hidden already, of another root folder or not for this user: then it stays as it is. */
static int mask_listener(const struct work *work, const char *path, struct weir_err *err)
{
        weir_auto_free char *folder = NULL, *real = NULL;
        bool whole;
        int r;

        find_socket(path, &folder, &real);
        if (!real || !is_connectable(real) || is_kept(work, real))
                return 0;
        whole = weir_veil_only_sockets(folder) && may_hide(work, folder);
        /* First the socket, for its folder is hidden at this place alone. */
        r = veil_everywhere(work, real, err);
        return r == 0 && whole ? weir_veil_folder(folder, err) : r;
}

static int mask_list(const struct work *work, const struct weir_strv *paths, struct weir_err *err)
{
        int r = 0;

        for (size_t i = 0; i < paths->n && r == 0 && WEIR_GATE(MASK_LISTENERS); i++)
                r = mask_listener(work, paths->items[i], err);
        return r;
}

/* A socket that is a mount of its own was brought into a container, from another network namespace: no table of this
 * one lists it. */
static int mask_mounted(const struct work *work, struct weir_err *err)
{
        struct weir_strv points __attribute__((cleanup(weir_strv_clear))) = { 0 };
        int r = weir_mountinfo_points(NULL, &points);

        return r < 0 ? weir_err_set(err, r, "cannot read /proc/self/mountinfo: %s", strerror(-r)) :
                       mask_list(work, &points, err);
}

/* What --unix names has to be there: who names it wants it, and a socket that comes later would stay hidden. */
static int open_kept(struct work *work, const char *const *paths, struct weir_err *err)
{
        for (; paths && *paths; paths++) {
                struct kept *kept = &work->kept[work->n_kept];

                if (work->n_kept == KEPT_MAX)
                        return weir_err_set(err, WEIR_EINVALID, "--unix: at most %d paths", KEPT_MAX);
                if (**paths != '/')
                        return weir_err_set(err, WEIR_EINVALID, "--unix %s: name the whole path, from /", *paths);
                kept->path = *paths;
                kept->fd = open(*paths, O_PATH | O_CLOEXEC);
                if (kept->fd < 0)
                        return weir_err_set(err, WEIR_EINVALID, "--unix %s: %s", *paths, strerror(errno));
                kept->real = realpath(*paths, NULL);
                if (!kept->real) {
                        (void)close(kept->fd);
                        return weir_err_set(err, WEIR_EINVALID, "--unix %s: %s", *paths, strerror(errno));
                }
                work->n_kept++;
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
        weir_copies_make_above(kept->path);
        if (!there && (S_ISDIR(st.st_mode) ? mkdir(kept->path, 0755) < 0 : weir_veil_write_copy(kept->path, "", 0) < 0))
                return fail(err, "keep", kept->path);
        (void)snprintf(from, sizeof(from), "/proc/self/fd/%d", kept->fd);
        return mount(from, kept->path, NULL, MS_BIND | MS_REC, NULL) < 0 ? fail(err, "keep", kept->path) : 0;
}

static int mask_all(const struct work *work, const struct weir_strv *listening, struct weir_err *err)
{
        int r;

        reserve(work);
        r = mask_variables(work, err);
        if (r == 0)
                r = mask_home(work, err);
        if (r == 0)
                r = weir_copies_run(err);
        if (r == 0)
                r = mask_patterns(work, err);
        if (r == 0)
                r = mask_mounted(work, err);
        if (r == 0 && listening)
                r = mask_list(work, listening, err);
        return r < 0 ? r : weir_copies_ssh(err);
}

int weir_masks_setup(const struct weir_masks *masks, struct weir_err *err)
{
        struct work work = { .home = weir_veil_home() };
        mode_t mask_before = umask(0022);
        int r;

        r = open_kept(&work, masks->unix_paths, err);
        if (r == 0)
                r = mask_all(&work, masks->listening, err);
        for (size_t i = 0; i < work.n_kept; i++) {
                if (r == 0)
                        r = restore_kept(&work.kept[i], err);
                free(work.kept[i].real);
                (void)close(work.kept[i].fd);
        }
        free(work.home);
        (void)umask(mask_before);
        return r;
}
