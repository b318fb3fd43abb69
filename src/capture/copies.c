/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /run is an empty tmpfs with what programs look for there: the resolver's configuration, on NixOS the programs. So is
 * /etc/ssh, with copies that the user owns: in the sandbox files of others show as the overflow uid, and ssh refuses a
 * configuration of such an owner.
 */
#include "capture/copies.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/gate.h"
#include "base/strutil.h"
#include "capture/veil.h"

#define COPY_BYTES_MAX (1024 * 1024)

static int fail(struct weir_err *err, const char *what, const char *path)
{
        int error = errno;

        return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot %s %s in the sandbox: %s", what, path, strerror(error));
}

void weir_copies_make_above(const char *path)
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
        weir_copies_make_above(path);
        (void)mkdir(path, 0700);
}

static int restore_run(const struct run_copy *copy, struct weir_err *err)
{
        make_runtime_folder();
        if (copy->system[0] && symlink(copy->system, "/run/current-system") < 0)
                return fail(err, "keep", "/run/current-system");
        if (!copy->resolver[0])
                return 0;
        weir_copies_make_above(copy->resolver);
        return weir_veil_write_copy(copy->resolver, copy->text, copy->n) < 0 ? fail(err, "copy", copy->resolver) : 0;
}

int weir_copies_run(struct weir_err *err)
{
        struct run_copy copy = { .text = NULL };
        int r;

        if (!WEIR_GATE(MASK_RUN))
                return 0;
        remember_run(&copy);
        r = weir_veil_is_folder("/run") && WEIR_GATE(MASKS) ? weir_veil_folder("/run", err) : 0;
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
                        (void)weir_veil_write_copy(path, bytes, n);
        }
        (void)closedir(dir);
}

int weir_copies_ssh(struct weir_err *err)
{
        int folder = open("/etc/ssh", O_RDONLY | O_DIRECTORY | O_CLOEXEC), parts;
        int r;

        if (folder < 0)
                return 0;
        parts = openat(folder, "ssh_config.d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = weir_veil_folder("/etc/ssh", err);
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
