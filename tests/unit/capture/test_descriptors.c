/* SPDX-License-Identifier: Apache-2.0 */
/* Inherited descriptors: which a command may keep, which are refused, which are opened again through the mounts. */
#include "help.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "capture/descriptors.h"

static bool closes_on_exec(int fd)
{
        int flags = fcntl(fd, F_GETFD);

        assert_true(flags >= 0);
        return flags & FD_CLOEXEC;
}

static int must_open(const char *path, int flags)
{
        int fd = open(path, flags, 0644);

        if (fd < 0)
                fail_msg("%s: %s", path, strerror(errno));
        return fd;
}

static void limit_in_child(const char *folder)
{
        const char *path = below(folder, "file");
        struct {
                int fd;
                bool stays;
        } all[16];
        int pipes[2], pair[2];
        size_t n = 0;

        write_file(path, "text");
        assert_int_equal(pipe(pipes), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
#define ADD(descriptor, may_stay)                        \
        do {                                             \
                all[n].fd = (descriptor);                \
                assert_true(all[n].fd > 2 && n < 15);    \
                assert_false(closes_on_exec(all[n].fd)); \
                all[n++].stays = (may_stay);             \
        } while (0)
        ADD(pipes[0], true);
        ADD(pipes[1], true);
        ADD(must_open(path, O_RDONLY), true);
        ADD(must_open(path, O_WRONLY), false);
        ADD(must_open(path, O_RDWR), false);
        ADD(must_open(path, O_PATH), false);
        ADD(must_open(folder, O_RDONLY | O_DIRECTORY), false);
        ADD(must_open("/dev/null", O_RDONLY), false);
        ADD(pair[0], false);
        ADD(socket(AF_INET, SOCK_STREAM, 0), false);
        ADD(socket(AF_INET6, SOCK_DGRAM, 0), false);
        ADD(socket(AF_NETLINK, SOCK_RAW, 0), false);
        ADD(eventfd(0, 0), false);
        ADD(epoll_create1(0), false);
        ADD(memfd_create("memory", 0), false);
        assert_int_equal(weir_descriptors_limit(), 0);
        for (size_t i = 0; i < n; i++)
                if (closes_on_exec(all[i].fd) == all[i].stays)
                        fail_msg("descriptor %zu of the list: %s", i, all[i].stays ? "does not stay" : "stays");
        for (int fd = 0; fd <= 2; fd++)
                assert_false(closes_on_exec(fd));
        /* What is Weir's own already stays so. */
        assert_int_equal(fcntl(pipes[0], F_SETFD, FD_CLOEXEC), 0);
        assert_int_equal(weir_descriptors_limit(), 0);
        assert_true(closes_on_exec(pipes[0]));
}

static void only_pipes_and_files_to_read_stay(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(limit_in_child, folder);
}

/* Without /proc nothing can be told apart. */
static void limit_without_proc(const char *folder)
{
        int pipes[2];

        (void)folder;
        enter_sandbox();
        assert_int_equal(pipe(pipes), 0);
        assert_int_equal(mount("tmpfs", "/proc", "tmpfs", 0, NULL), 0);
        assert_int_equal(weir_descriptors_limit(), 0);
        assert_true(closes_on_exec(pipes[0]));
        assert_true(closes_on_exec(pipes[1]));
        assert_false(closes_on_exec(STDOUT_FILENO));
}

static void without_a_list_nothing_stays(void **state)
{
        (void)state;
        in_child(limit_without_proc, NULL);
}

static void check_in_child(const char *folder)
{
        struct weir_err err = { 0 };
        int pipes[2], pair[2];

        assert_int_equal(pipe(pipes), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        for (int stream = 0; stream <= 2; stream++) {
                const int refused[] = { socket(AF_INET, SOCK_STREAM, 0), socket(AF_INET6, SOCK_DGRAM, 0),
                                        socket(AF_NETLINK, SOCK_RAW, 0), must_open(folder, O_RDONLY) };
                const int taken[] = { pipes[1], pair[0], must_open("/dev/null", O_RDWR) };
                int saved = fcntl(stream, F_DUPFD_CLOEXEC, 100);

                for (size_t i = 0; i < WEIR_ARRAY_SIZE(refused); i++) {
                        assert_int_equal(dup2(refused[i], stream), stream);
                        assert_int_equal(weir_descriptors_check(&err), WEIR_EINVALID);
                }
                for (size_t i = 0; i < WEIR_ARRAY_SIZE(taken); i++) {
                        assert_int_equal(dup2(taken[i], stream), stream);
                        assert_int_equal(weir_descriptors_check(&err), 0);
                }
                (void)close(stream);
                assert_int_equal(weir_descriptors_check(&err), 0);
                assert_int_equal(dup2(saved, stream), stream);
        }
}

static void standard_streams_are_no_way_out(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(check_in_child, folder);
}

static void make_read_only(const char *folder)
{
        assert_int_equal(mount(folder, folder, NULL, MS_BIND, NULL), 0);
        if (mount(NULL, folder, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0 &&
            mount(NULL, folder, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0)
                fail_msg("cannot make %s read-only: %s", folder, strerror(errno));
}

/* A file below what is now read-only: seen through the mount, at the same place in it, and not writable by any path. */
static void cover_in_child(const char *folder)
{
        struct weir_err err = { 0 };
        const char *path = below(folder, "file");
        char again[64], rest[8] = "";
        int fd, other, own;

        write_file(path, "some text");
        write_file("/dev/shm/weir-test-descriptors", "x");
        enter_sandbox();
        fd = must_open(path, O_RDONLY);
        other = must_open("/dev/shm/weir-test-descriptors", O_RDWR);
        own = must_open(path, O_RDWR | O_CLOEXEC);
        assert_int_equal(lseek(fd, 5, SEEK_SET), 5);
        make_read_only(folder);
        (void)snprintf(again, sizeof(again), "/proc/self/fd/%d", fd);
        assert_true(open(again, O_WRONLY | O_CLOEXEC) >= 0); /* what there is to close */
        assert_int_equal(weir_descriptors_cover(&err), 0);
        assert_int_equal(open(again, O_WRONLY | O_CLOEXEC), -1);
        assert_int_equal(errno, EROFS);
        assert_int_equal(read(fd, rest, sizeof(rest)), 4);
        assert_memory_equal(rest, "text", 4);
        assert_int_equal(write(other, "y", 1), 1);
        (void)close(own);
}

static void refuse_in_child(const char *folder)
{
        struct weir_err err = { 0 };
        const char *path = below(folder, "file");
        int fd;

        write_file(path, "text");
        enter_sandbox();
        fd = must_open(path, O_WRONLY | O_APPEND);
        make_read_only(folder);
        assert_int_equal(weir_descriptors_cover(&err), WEIR_EINVALID);
        assert_non_null(strstr(err.text, path));
        (void)close(fd);
        assert_int_equal(weir_descriptors_cover(&err), 0);
}

static void files_are_seen_through_the_mounts(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(cover_in_child, folder);
        in_child(refuse_in_child, folder);
        (void)unlink("/dev/shm/weir-test-descriptors");
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(only_pipes_and_files_to_read_stay),
                cmocka_unit_test(without_a_list_nothing_stays),
                cmocka_unit_test(standard_streams_are_no_way_out),
                cmocka_unit_test(files_are_seen_through_the_mounts),
        };

        return cmocka_run_group_tests_name("descriptors", tests, NULL, NULL);
}
