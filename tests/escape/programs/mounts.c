/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking beneath mounts, by the old and the new mount interface, from a user namespace of one's own:
 *
 *     mounts PATH WORD        PATH: a file or folder that is covered or read-only; WORD is written into it
 *
 * "done WHAT" for each step that worked. Must be run with capabilities over a mount namespace (unshare -Urm).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

static const char *path, *word;

/* Whether @at, a view of the root, shows the path as it is beneath; tries to write there. */
static void look(const char *what, int root)
{
        char name[512];
        int fd;

        snprintf(name, sizeof(name), ".%s", path);
        fd = openat(root, name, O_WRONLY | O_APPEND);
        if (fd < 0)
                return;
        if (write(fd, word, strlen(word)) > 0)
                printf("done wrote beneath by %s\n", what);
        close(fd);
}

static void by_open_tree(const char *what, const char *from, unsigned flags)
{
        int fd = (int)syscall(SYS_open_tree, AT_FDCWD, from, OPEN_TREE_CLONE | flags);

        if (fd < 0)
                return;
        look(what, fd);
        close(fd);
}

static void by_overlay(const char *kind)
{
        int fs = (int)syscall(SYS_fsopen, kind, 0), mnt;

        if (fs < 0)
                return;
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "lowerdir", "/:/usr", 0);
        syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", "none", 0);
        if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0) {
                mnt = (int)syscall(SYS_fsmount, fs, 0, 0);
                if (mnt >= 0) {
                        struct stat st;
                        char name[512];

                        printf("made %s\n", kind);
                        snprintf(name, sizeof(name), ".%s", path);
                        if (fstatat(mnt, name, &st, 0) == 0)
                                printf("done saw beneath by %s\n", kind);
                        close(mnt);
                }
        }
        close(fs);
}

static void by_moving(void)
{
        int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path, 0);

        mkdir("/tmp/weir-moved", 0700);
        if (fd >= 0 && syscall(SYS_move_mount, fd, "", AT_FDCWD, "/tmp/weir-moved", MOVE_MOUNT_F_EMPTY_PATH) == 0)
                puts("done moved the mount");
        if (mount(path, "/tmp/weir-moved", NULL, MS_MOVE, NULL) == 0)
                puts("done moved the mount by mount(2)");
        if (umount2(path, MNT_DETACH) == 0)
                puts("done unmounted");
        rmdir("/tmp/weir-moved");
}

static void by_remounting(void)
{
        struct mount_attr attr = { .attr_clr = MOUNT_ATTR_RDONLY };
        int fd;

        if (syscall(SYS_mount_setattr, AT_FDCWD, path, 0, &attr, sizeof(attr)) == 0 ||
            syscall(SYS_mount_setattr, AT_FDCWD, path, AT_RECURSIVE, &attr, sizeof(attr)) == 0 ||
            mount(NULL, path, NULL, MS_REMOUNT | MS_BIND, NULL) == 0) {
                fd = open(path, O_WRONLY | O_APPEND);
                if (fd >= 0 && write(fd, word, strlen(word)) > 0)
                        puts("done wrote after a remount");
                close(fd);
        }
}

int main(int argc, char **argv)
{
        int root = open("/", O_PATH | O_DIRECTORY);

        if (argc != 3)
                return 64;
        path = argv[1];
        word = argv[2];
        setvbuf(stdout, NULL, _IOLBF, 0);
        look("the plain path", root);
        by_open_tree("open_tree", "/", 0);
        by_open_tree("open_tree, recursive", "/", AT_RECURSIVE);
        by_open_tree("open_tree of /proc/self/root", "/proc/self/root", 0);
        by_open_tree("open_tree of /proc/1/root", "/proc/1/root", 0);
        by_overlay("overlay");
        by_remounting();
        by_moving();
        if (mount("/", "/tmp", NULL, MS_BIND, NULL) == 0) {
                int view = open("/tmp", O_PATH | O_DIRECTORY);

                look("a bind of the root", view);
                close(view);
        }
        if (syscall(SYS_pivot_root, "/", "/") == 0)
                look("pivot_root", root);
        puts("tried");
        return 0;
}
