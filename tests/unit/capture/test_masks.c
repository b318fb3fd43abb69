/* SPDX-License-Identifier: Apache-2.0 */
/* What is hidden from a workload and what is not, in a mount namespace of the test's own with a home made for it. */
#include "help.h"

#include "capture/masks.h"
#include "capture/mounts.h"
#include "capture/reachable.h"

/* As the supervisor does: who listens is asked before the sandbox is. */
static void set_up_masks(const char *const *unix_paths)
{
        struct weir_strv listening = { 0 };
        const struct weir_masks masks = { .unix_paths = unix_paths, .listening = &listening };
        struct weir_err err = { 0 };

        assert_int_equal(weir_reachable_list(&listening), 0);
        if (weir_masks_setup(&masks, &err) < 0)
                fail_msg("%s", err.text);
        weir_strv_clear(&listening);
}

/* Without that list: what the names and variables alone hide. */
static void set_up_masks_alone(void)
{
        const struct weir_masks masks = { .unix_paths = NULL };
        struct weir_err err = { 0 };

        if (weir_masks_setup(&masks, &err) < 0)
                fail_msg("%s", err.text);
}

static bool can_connect(const char *path)
{
        struct sockaddr_un sun = { .sun_family = AF_UNIX };
        weir_auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
        return connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) == 0;
}

static void assert_reached(const char *path)
{
        if (!can_connect(path))
                fail_msg("%s cannot be reached", path);
}

static void assert_out_of_reach(const char *path)
{
        if (can_connect(path))
                fail_msg("%s is reached", path);
}

static void assert_hidden(const char *path)
{
        if (is_there(path))
                fail_msg("%s can be seen", path);
}

static void assert_seen(const char *path)
{
        if (!is_there(path))
                fail_msg("%s is hidden", path);
}

static void set_home(const char *folder)
{
        static const char *const variables[] = { "XDG_RUNTIME_DIR",          "SSH_AUTH_SOCK", "DOCKER_HOST",
                                                 "CONTAINER_HOST",           "TMUX_TMPDIR",   "WAYLAND_DISPLAY",
                                                 "DBUS_SESSION_BUS_ADDRESS", "TMUX",          "GNUPGHOME" };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(variables); i++)
                assert_int_equal(unsetenv(variables[i]), 0);
        assert_int_equal(setenv("HOME", folder, 1), 0);
        assert_int_equal(chdir("/"), 0);
        enter_sandbox();
}

static void daemons_in_child(const char *folder)
{
        static const char *const sockets[] = { ".docker/run/docker.sock", ".colima/default/docker.sock",
                                               ".ssh/agent/s.1",          ".dbus/session",
                                               ".cache/ibus/bus",         ".gnupg/S.gpg-agent" };

        for (size_t i = 0; i < WEIR_ARRAY_SIZE(sockets); i++)
                (void)listen_at(below(folder, sockets[i]));
        write_file(below(folder, ".gnupg/pubring.kbx"), "keys");
        write_file(below(folder, ".gnupg/private-keys-v1.d/key"), "key");
        write_file(below(folder, ".ssh/id_ed25519"), "key");
        write_file(below(folder, ".docker/config.json"), "{}");
        set_home(folder);
        assert_true(is_there("/run"));
        set_up_masks(NULL);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(sockets); i++) {
                weir_auto_free char *path = weir_asprintf("%s/%s", folder, sockets[i]);

                assert_hidden(path);
        }
        /* What stands beside them is the user's own. */
        assert_seen(below(folder, ".gnupg/pubring.kbx"));
        assert_seen(below(folder, ".gnupg/private-keys-v1.d/key"));
        assert_seen(below(folder, ".ssh/id_ed25519"));
        assert_seen(below(folder, ".docker/config.json"));
}

static void sockets_of_daemons_are_hidden(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(daemons_in_child, folder);
}

/* /run holds nothing of before; but what is made there later is the workload's own. */
static void run_in_child(const char *folder)
{
        set_home(folder);
        assert_int_equal(mount("tmpfs", "/run", "tmpfs", 0, NULL), 0);
        assert_int_equal(mkdir("/run/user", 0755), 0);
        (void)listen_at("/run/docker.sock");
        write_file("/run/secret", "x");
        assert_int_equal(setenv("XDG_RUNTIME_DIR", "/run/user/1234", 1), 0);
        set_up_masks(NULL);
        assert_hidden("/run/docker.sock");
        assert_hidden("/run/secret");
        assert_seen("/run/user/1234");
        write_file("/run/user/1234/own", "x");
}

static void run_is_a_folder_of_its_own(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(run_in_child, folder);
}

/* A variable names a socket: its folder is hidden, but never one that holds the world. */
static void variables_in_child(const char *folder)
{
        weir_auto_free char *agent = weir_asprintf("%s/agent/sock", folder);
        weir_auto_free char *docker = weir_asprintf("unix://%s/docker/sock", folder);
        weir_auto_free char *bus = weir_asprintf("unix:path=%s/bus/sock,guid=1", folder);
        weir_auto_free char *home = weir_asprintf("%s/home/me", folder);

        (void)listen_at(below(folder, "agent/sock"));
        (void)listen_at(below(folder, "docker/sock"));
        (void)listen_at(below(folder, "bus/sock"));
        (void)listen_at(below(folder, "home/me/keys/sock"));
        write_file(below(folder, "home/me/keys/key"), "x");
        write_file(below(folder, "home/me/file"), "x");
        set_home(home);
        assert_int_equal(setenv("SSH_AUTH_SOCK", agent, 1), 0);
        assert_int_equal(setenv("DOCKER_HOST", docker, 1), 0);
        assert_int_equal(setenv("DBUS_SESSION_BUS_ADDRESS", bus, 1), 0);
        assert_int_equal(setenv("CONTAINER_HOST", "tcp://10.0.0.1:2375", 1), 0);
        assert_int_equal(setenv("WAYLAND_DISPLAY", "wayland-0", 1), 0);
        set_up_masks(NULL);
        assert_hidden(below(folder, "agent/sock"));
        assert_hidden(below(folder, "docker/sock"));
        assert_hidden(below(folder, "bus/sock"));
        assert_seen(below(folder, "home/me/file"));
}

static void worlds_in_child(const char *folder)
{
        static const char *const worlds[] = {
                "/tmp/sock", "/sock", "/etc/sock", "/usr/sock", "/home/sock", "relative"
        };
        weir_auto_free char *home = weir_asprintf("%s/home/me", folder), *above = weir_asprintf("%s/home/sock", folder);
        weir_auto_free char *own = weir_asprintf("%s/home/me/sock", folder);

        write_file(below(folder, "home/me/file"), "x");
        set_home(home);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(worlds) + 2; i++) {
                const char *value = i < WEIR_ARRAY_SIZE(worlds)  ? worlds[i] :
                                    i == WEIR_ARRAY_SIZE(worlds) ? above :
                                                                   own;

                assert_int_equal(setenv("SSH_AUTH_SOCK", value, 1), 0);
                set_up_masks(NULL);
                assert_seen("/etc/passwd");
                assert_seen("/usr/bin");
                assert_seen(below(folder, "home/me/file"));
        }
}

static void variables_name_more(void **state)
{
        AUTO_FOLDER first = make_folder();
        AUTO_FOLDER second = make_folder();

        (void)state;
        in_child(variables_in_child, first);
        in_child(worlds_in_child, second);
}

static void keys_in_child(const char *folder)
{
        weir_auto_free char *agent = weir_asprintf("%s/keys/sock", folder);

        (void)listen_at(below(folder, "keys/sock"));
        write_file(below(folder, "keys/key"), "x");
        set_home(folder);
        assert_int_equal(setenv("SSH_AUTH_SOCK", agent, 1), 0);
        set_up_masks(NULL);
        assert_hidden(below(folder, "keys/sock"));
        assert_seen(below(folder, "keys/key"));
}

static void keys_beside_an_agent_stay(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(keys_in_child, folder);
}

/* Sockets in folders that cannot be hidden: the home, the current folder, /tmp; and one by way of a link. */
static void in_worlds_in_child(const char *folder)
{
        static const char *const names[] = { "SSH_AUTH_SOCK", "DOCKER_HOST", "DBUS_SESSION_BUS_ADDRESS",
                                             "CONTAINER_HOST" };
        static const char *const prefixes[] = { "", "unix://", "unix:path=", "unix://" };
        weir_auto_free char *temporary = weir_asprintf("/tmp/weir-test-%d.sock", (int)getpid());
        weir_auto_free char *link = weir_asprintf("%s/link", folder), *target = weir_asprintf("%s/agents", folder);
        weir_auto_free char *home = weir_asprintf("%s/home", folder), *work = weir_asprintf("%s/work", folder);
        weir_auto_free char *paths[] = { weir_asprintf("%s/agent.sock", home), weir_asprintf("%s/d.sock", work),
                                         strdup(temporary), weir_asprintf("%s/s", link) };

        (void)listen_at(below(folder, "agents/s"));
        assert_int_equal(symlink(target, link), 0);
        (void)listen_at(below(folder, "home/agent.sock"));
        (void)listen_at(below(folder, "work/d.sock"));
        write_file(below(folder, "work/file"), "x");
        (void)listen_at(temporary);
        set_home(home);
        assert_int_equal(chdir(work), 0);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(paths); i++) {
                weir_auto_free char *value = weir_asprintf("%s%s", prefixes[i], paths[i]);

                assert_reached(paths[i]);
                assert_int_equal(setenv(names[i], value, 1), 0);
        }
        set_up_masks_alone();
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(paths); i++)
                assert_out_of_reach(paths[i]);
        assert_out_of_reach(below(folder, "agents/s"));
        (void)unlink(temporary);
        /* What else is there stays as it is. */
        assert_seen(below(folder, "work/file"));
        (void)listen_at(below(folder, "work/own.sock"));
        assert_reached(below(folder, "work/own.sock"));
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(paths); i++)
                free(TAKE_PTR(paths[i]));
}

static void sockets_in_worlds_are_hidden_alone(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(in_worlds_in_child, folder);
}

/* XDG_RUNTIME_DIR may be below the home: all of it is hidden, whatever stands in it. */
static void runtime_in_child(const char *folder)
{
        weir_auto_free char *runtime = weir_asprintf("%s/.runtime", folder), *work = weir_asprintf("%s/work", folder);

        (void)listen_at(below(folder, ".runtime/podman/podman.sock"));
        (void)listen_at(below(folder, ".runtime/bus"));
        write_file(below(folder, ".runtime/file"), "x");
        (void)below(folder, "work/x");
        set_home(folder);
        assert_int_equal(chdir(work), 0);
        assert_int_equal(setenv("XDG_RUNTIME_DIR", runtime, 1), 0);
        assert_reached(below(folder, ".runtime/podman/podman.sock"));
        set_up_masks_alone();
        assert_hidden(below(folder, ".runtime/bus"));
        assert_hidden(below(folder, ".runtime/file"));
        assert_out_of_reach(below(folder, ".runtime/podman/podman.sock"));
        write_file(below(folder, ".runtime/own"), "x");
}

static void a_runtime_folder_at_home_is_hidden_whole(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(runtime_in_child, folder);
}

/* Folders that a daemon of the host makes later: what it puts there does not appear. A descriptor from before leads
 * below what hides them, as the host's paths do. */
static void later_in_child(const char *folder)
{
        static const char *const names[] = { ".ssh/agent/s", ".docker/run/docker.sock" };
        int home;

        write_file(below(folder, ".ssh/config"), "");
        write_file(below(folder, ".docker/config.json"), "");
        home = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
        set_home(folder);
        set_up_masks_alone();
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(names); i++) {
                weir_auto_free char *outside = weir_asprintf("/proc/self/fd/%d/%s", home, names[i]);
                weir_auto_free char *inside = weir_asprintf("%s/%s", folder, names[i]);

                (void)listen_at(outside);
                assert_reached(outside);
                assert_hidden(inside);
        }
        assert_seen(below(folder, ".ssh/config"));
        (void)close(home);
}

static void what_comes_later_has_its_place_reserved(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(later_in_child, folder);
}

/* Whatever listens at the start: with its folder where nothing else is in it, else alone. */
static void listeners_in_child(const char *folder)
{
        weir_auto_free char *kept = weir_asprintf("%s/kept/in.sock", folder);
        weir_auto_free char *whole = weir_asprintf("%s/whole", folder);
        weir_auto_free char *mounted = weir_asprintf("%s/mounted", folder);
        weir_auto_free char *second = weir_asprintf("%s/second", folder);
        const char *const paths[] = { kept, whole, NULL };
        int stale;

        (void)listen_at(below(folder, "alone/daemon"));
        (void)listen_at(below(folder, "project/.ipc"));
        write_file(below(folder, "project/file"), "x");
        (void)listen_at(below(folder, "kept/in.sock"));
        (void)listen_at(below(folder, "kept/out.sock"));
        (void)listen_at(below(folder, "whole/a.sock"));
        stale = listen_at(below(folder, "project/stale.sock"));
        assert_int_equal(close(stale), 0);
        set_home("/nonexistent");
        assert_reached(below(folder, "alone/daemon"));
        assert_reached(below(folder, "project/.ipc"));
        write_file(mounted, "");
        assert_int_equal(mount(below(folder, "kept/out.sock"), mounted, NULL, MS_BIND, NULL), 0);
        assert_reached(mounted);
        assert_int_equal(mkdir(second, 0755), 0);
        assert_int_equal(mount(below(folder, "project"), second, NULL, MS_BIND, NULL), 0);
        assert_reached(below(folder, "second/.ipc"));
        set_up_masks(paths);
        assert_out_of_reach(below(folder, "second/.ipc"));
        assert_seen(below(folder, "second/file"));
        assert_hidden(below(folder, "alone/daemon"));
        assert_out_of_reach(below(folder, "project/.ipc"));
        assert_seen(below(folder, "project/file"));
        assert_reached(kept);
        assert_out_of_reach(below(folder, "kept/out.sock"));
        assert_out_of_reach(mounted);
        assert_reached(below(folder, "whole/a.sock"));
        /* Work goes on there, with sockets of its own too. */
        assert_int_equal(rename(below(folder, "project/file"), below(folder, "project/renamed")), 0);
        assert_int_equal(unlink(below(folder, "project/stale.sock")), 0);
        (void)listen_at(below(folder, "project/stale.sock"));
        assert_reached(below(folder, "project/stale.sock"));
}

static void whatever_listens_is_hidden(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(listeners_in_child, folder);
}

/* --unix lets one in and its neighbours not. */
static void kept_in_child(const char *folder)
{
        weir_auto_free char *wanted = weir_asprintf("%s/.docker/run/docker.sock", folder);
        const char *const paths[] = { wanted, NULL };

        (void)listen_at(below(folder, ".docker/run/docker.sock"));
        (void)listen_at(below(folder, ".docker/run/other.sock"));
        set_home(folder);
        set_up_masks(paths);
        assert_seen(wanted);
        assert_hidden(below(folder, ".docker/run/other.sock"));
}

static void what_is_asked_for_is_let_in(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(kept_in_child, folder);
}

/* A protected folder: written by nobody, moved by nobody, nor what it stands in. */
static void protect_in_child(const char *folder)
{
        weir_auto_free char *store = weir_asprintf("%s/state/weir", folder);
        weir_auto_free char *state_folder = weir_asprintf("%s/state", folder);
        weir_auto_free char *moved = weir_asprintf("%s/moved", folder);
        const char *const paths[] = { store, NULL };
        const struct weir_mounts mounts = { .protect = paths };
        struct weir_err err = { 0 };

        write_file(below(store, "policy.yaml"), "x");
        set_home(folder);
        if (weir_mounts_setup(&mounts, &err) < 0)
                fail_msg("%s", err.text);
        assert_int_equal(open(below(store, "policy.yaml"), O_WRONLY | O_CLOEXEC), -1);
        assert_int_equal(errno, EROFS);
        assert_int_equal(rename(store, moved), -1);
        assert_int_equal(rename(state_folder, moved), -1);
        assert_int_equal(rmdir(store), -1);
        assert_int_equal(rename(folder, "/tmp/weir-moved"), -1);
        write_file(below(folder, "elsewhere"), "x");
}

static void the_store_is_protected(void **state)
{
        AUTO_FOLDER folder = make_folder();

        (void)state;
        in_child(protect_in_child, folder);
}

/* What listens by a path is found, with its path; what only connects is not. */
static void reachable_sockets_are_listed(void **state)
{
        AUTO_FOLDER folder = make_folder();
        const char *path = below(folder, "a daemon.sock");
        int listener = listen_at(path);
        struct weir_strv paths = { 0 };

        (void)state;
        assert_int_equal(weir_reachable_list(&paths), 0);
        assert_true(weir_strv_has(&paths, path));
        for (size_t i = 0; i < paths.n; i++)
                assert_int_equal(paths.items[i][0], '/');
        weir_strv_clear(&paths);
        (void)close(listener);
        assert_int_equal(weir_reachable_list(&paths), 0);
        assert_false(weir_strv_has(&paths, path));
        weir_strv_clear(&paths);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(sockets_of_daemons_are_hidden),
                cmocka_unit_test(run_is_a_folder_of_its_own),
                cmocka_unit_test(variables_name_more),
                cmocka_unit_test(keys_beside_an_agent_stay),
                cmocka_unit_test(sockets_in_worlds_are_hidden_alone),
                cmocka_unit_test(a_runtime_folder_at_home_is_hidden_whole),
                cmocka_unit_test(what_comes_later_has_its_place_reserved),
                cmocka_unit_test(whatever_listens_is_hidden),
                cmocka_unit_test(what_is_asked_for_is_let_in),
                cmocka_unit_test(the_store_is_protected),
                cmocka_unit_test(reachable_sockets_are_listed),
        };

        return cmocka_run_group_tests_name("masks", tests, NULL, NULL);
}
