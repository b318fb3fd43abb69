/* SPDX-License-Identifier: Apache-2.0 */
/* Which process holds a socket, in a network namespace of the test's own; children of the test stand for the sandbox's.
 */
#include "help.h"

#include <linux/netlink.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>

#include "base/addr.h"
#include "base/time.h"
#include "capture/owner.h"

/* A process called "holder" that holds @fds until it is told to end; they are closed here. */
static pid_t hold(int *fds, size_t n)
{
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void)prctl(PR_SET_NAME, "holder");
                (void)!write(ready[1], "x", 1);
                (void)pause();
                _exit(0);
        }
        assert_int_equal(read(ready[0], &byte, 1), 1);
        (void)close(ready[0]);
        (void)close(ready[1]);
        for (size_t i = 0; i < n; i++)
                (void)close(fds[i]);
        return pid;
}

static void end(pid_t pid)
{
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void bind_loopback(int fd, int family, uint16_t *port)
{
        struct sockaddr_in in = { .sin_family = AF_INET,
                                  .sin_port = htons(*port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
                                    .sin6_port = htons(*port),
                                    .sin6_addr = IN6ADDR_LOOPBACK_INIT };
        bool v4 = family == AF_INET;
        socklen_t length = v4 ? sizeof(in) : sizeof(in6);
        struct sockaddr *sa = v4 ? (struct sockaddr *)&in : (struct sockaddr *)&in6;

        assert_int_equal(bind(fd, sa, length), 0);
        assert_int_equal(getsockname(fd, sa, &length), 0);
        *port = ntohs(in6.sin6_port);
        if (v4)
                *port = ntohs(in.sin_port);
}

struct connection {
        int listener, client;
        struct weir_addr from, to;
        uint16_t from_port, to_port;
};

static struct connection connect_loopback(int family)
{
        struct connection c = { .listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0),
                                .client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0) };
        struct sockaddr_storage sa;
        socklen_t length;

        bind_loopback(c.listener, family, &c.to_port);
        assert_int_equal(listen(c.listener, 4), 0);
        assert_int_equal(weir_addr_parse(family == AF_INET ? "127.0.0.1" : "::1", &c.to), 0);
        length = weir_addr_to_sockaddr(&c.to, c.to_port, &sa);
        assert_int_equal(connect(c.client, (struct sockaddr *)&sa, length), 0);
        length = sizeof(sa);
        assert_int_equal(getsockname(c.client, (struct sockaddr *)&sa, &length), 0);
        assert_int_equal(weir_addr_from_sockaddr((struct sockaddr *)&sa, length, &c.from, &c.from_port), 0);
        return c;
}

static struct weir_owner new_owner(void)
{
        struct weir_owner owner = { .diag = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG),
                                    .init = getpid() };

        assert_true(owner.diag >= 0);
        return owner;
}

static int find(struct weir_owner *owner, const struct connection *c, bool to, pid_t *ret_pid, char command[static 16])
{
        return weir_owner_find(owner, WEIR_IP_TCP, &c->from, c->from_port, to ? &c->to : NULL, c->to_port, ret_pid,
                               command);
}

/* A busy machine may not get through a walk in the time that it is given; then it is tried again, as a later denial
 * would. */
static int find_in_the_end(struct weir_owner *owner, const struct connection *c, bool to, pid_t *ret_pid,
                           char command[static 16])
{
        int r = -ENOENT;

        for (int i = 0; i < 500 && r == -ENOENT; i++) {
                owner->spent_ns = 0;
                r = find(owner, c, to, ret_pid, command);
                if (r == -ENOENT)
                        (void)usleep(10000);
        }
        return r;
}

static void tcp(int family)
{
        struct weir_owner owner = new_owner();
        struct connection c = connect_loopback(family), other;
        char command[16] = "";
        pid_t holder, found = 0;

        /* Held by nobody below the first process. */
        assert_int_equal(find(&owner, &c, true, &found, command), -ENOENT);
        assert_int_equal(found, 0);
        holder = hold(&c.client, 1);
        for (int to = 0; to < 2; to++) {
                found = 0;
                assert_int_equal(find_in_the_end(&owner, &c, to, &found, command), 0);
                assert_int_equal(found, holder);
                assert_string_equal(command, "holder");
        }
        /* Remembered, and found without a walk: below that process there is nobody. */
        owner.init = holder;
        assert_int_equal(find_in_the_end(&owner, &c, true, &found, command), 0);
        assert_int_equal(found, holder);
        /* But not taken for the owner of another socket. */
        other = connect_loopback(family);
        assert_int_equal(find(&owner, &other, true, &found, command), -ENOENT);
        other.to_port ^= 1;
        assert_int_equal(find(&owner, &other, true, &found, command), -ENOENT);
        end(holder);
        assert_int_equal(find(&owner, &c, true, &found, command), -ENOENT);
}

static void time_is_bounded_in_child(const char *folder)
{
        struct weir_owner owner = new_owner();
        struct connection c = connect_loopback(AF_INET);
        pid_t holder = hold(&c.client, 1), found;
        char command[16];

        (void)folder;
        owner.second_ns = weir_time_ns();
        owner.spent_ns = WEIR_SEC;
        assert_int_equal(find(&owner, &c, true, &found, command), -EBUSY);
        owner.second_ns -= WEIR_SEC;
        assert_int_equal(find_in_the_end(&owner, &c, true, &found, command), 0);
        assert_true(owner.spent_ns > 0 && owner.spent_ns < WEIR_SEC);
        end(holder);
}

/* Several sockets with one address: whoever is named might be the wrong one. */
static void udp_in_child(const char *folder)
{
        struct weir_owner owner = new_owner();
        int fds[2] = { socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) };
        struct weir_addr from;
        const int on = 1;
        pid_t holders[2], found;
        char command[16];
        uint16_t port = 0;

        (void)folder;
        assert_int_equal(weir_addr_parse("127.0.0.1", &from), 0);
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
                bind_loopback(fds[i], AF_INET, &port);
        }
        holders[0] = hold(&fds[0], 1);
        holders[1] = hold(&fds[1], 1);
        assert_int_equal(weir_owner_find(&owner, WEIR_IP_UDP, &from, port, NULL, 0, &found, command), -ENOENT);
        end(holders[1]); /* it held both: the second socket was not closed in it */
        assert_int_equal(weir_owner_find(&owner, WEIR_IP_UDP, &from, port, NULL, 0, &found, command), -ENOENT);
        end(holders[0]);
}

static void one_udp_in_child(const char *folder)
{
        struct weir_owner owner = new_owner();
        int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct weir_addr from;
        pid_t holder, found;
        char command[16];
        uint16_t port = 0;

        (void)folder;
        assert_int_equal(weir_addr_parse("::1", &from), 0);
        bind_loopback(fd, AF_INET6, &port);
        holder = hold(&fd, 1);
        assert_int_equal(weir_owner_find(&owner, WEIR_IP_UDP, &from, port, NULL, 0, &found, command), 0);
        assert_int_equal(found, holder);
        assert_int_equal(weir_owner_find(&owner, WEIR_IP_ICMP, &from, port, NULL, 0, &found, command), -ENOENT);
        assert_int_equal(weir_owner_find(&owner, WEIR_IP_UDP, &from, 0, NULL, 0, &found, command), -ENOENT);
        end(holder);
}

static void tcp4_in_child(const char *folder)
{
        (void)folder;
        tcp(AF_INET);
}

static void tcp6_in_child(const char *folder)
{
        (void)folder;
        tcp(AF_INET6);
}

static void in_namespace(void (*call)(const char *folder))
{
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
                enter_sandbox();
                assert_int_equal(unshare(CLONE_NEWNET), 0);
                assert_int_equal(system("ip link set lo up"), 0);
                call(NULL);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

#define IN_NAMESPACE(name)                     \
        static void name(void **state)         \
        {                                      \
                (void)state;                   \
                in_namespace(name##_in_child); \
        }
IN_NAMESPACE(tcp4)
IN_NAMESPACE(tcp6)
IN_NAMESPACE(time_is_bounded)
IN_NAMESPACE(udp)
IN_NAMESPACE(one_udp)

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(tcp4), cmocka_unit_test(tcp6),    cmocka_unit_test(time_is_bounded),
                cmocka_unit_test(udp),  cmocka_unit_test(one_udp),
        };

        return cmocka_run_group_tests_name("owner", tests, NULL, NULL);
}
