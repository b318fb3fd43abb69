/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel says of redirected and diverted connections, in a network namespace of the test's own: both families,
 * an IPv4 connection on an IPv6 listener, and one that nobody redirected.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/fd.h"
#include "relay/internal.h"

#define PORT 15001

static void write_file(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(weir_fd_write_all(fd, text, strlen(text)), 0);
        (void)close(fd);
}

/* An ordinary user gets one by way of a user namespace. */
static void enter_namespace(void)
{
        char map[64];
        uid_t uid = getuid();
        gid_t gid = getgid();

        if (unshare(CLONE_NEWNET) == 0)
                return;
        if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
                fail_msg("this test needs root or user namespaces: %s", strerror(errno));
        write_file("/proc/self/setgroups", "deny");
        (void)snprintf(map, sizeof(map), "0 %u 1", (unsigned)uid);
        write_file("/proc/self/uid_map", map);
        (void)snprintf(map, sizeof(map), "0 %u 1", (unsigned)gid);
        write_file("/proc/self/gid_map", map);
}

static int redirect_everything(void **state)
{
        (void)state;
        enter_namespace();
        if (system("ip link set lo up && ip route add local 0.0.0.0/0 dev lo src 127.0.0.1 && "
                   "ip -6 route add local ::/0 dev lo && "
                   "nft 'add table inet t; add chain inet t o { type nat hook output priority -100; };"
                   " add rule inet t o ip daddr 198.51.100.0/24 meta l4proto tcp redirect to :15001;"
                   " add rule inet t o ip6 daddr 2001:db8::/32 meta l4proto tcp redirect to :15001;"
                   " add chain inet t p { type filter hook prerouting priority -150; };"
                   " add rule inet t p ip daddr 192.0.2.0/24 meta l4proto tcp tproxy ip to 127.0.0.1:15001;"
                   " add rule inet t p ip6 daddr 3fff::/20 meta l4proto tcp tproxy ip6 to [::1]:15001'") != 0)
                fail_msg("this test needs the programs ip and nft");
        return 0;
}

static int listen_on(const char *address)
{
        struct sockaddr_storage sa;
        struct weir_addr addr;
        const int off = 0, on = 1;
        socklen_t length;
        int fd;

        assert_int_equal(weir_addr_parse(address, &addr), 0);
        length = weir_addr_to_sockaddr(&addr, PORT, &sa);
        fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
        if (sa.ss_family == AF_INET6)
                assert_int_equal(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)), 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, length), 0);
        assert_int_equal(listen(fd, 8), 0);
        return fd;
}

/* Connects to @address and asks the accepted socket, as the relay does. The result, and the text of what was found. */
static int ask_by(int (*find)(int fd, bool v4, struct weir_addr *ret_addr, uint16_t *ret_port), int listener,
                  const char *address, uint16_t port, char ret_text[static WEIR_ENDPOINT_STRLEN])
{
        struct sockaddr_storage sa;
        struct weir_addr addr, from;
        uint16_t found, from_port;
        socklen_t length;
        int client, accepted, r;

        assert_int_equal(weir_addr_parse(address, &addr), 0);
        length = weir_addr_to_sockaddr(&addr, port, &sa);
        client = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(client, (struct sockaddr *)&sa, length), 0);
        length = sizeof(sa);
        accepted = weir_relay_sys_real.accept(listener, (struct sockaddr *)&sa, &length);
        assert_true(accepted >= 0);
        assert_int_equal(weir_addr_from_sockaddr((struct sockaddr *)&sa, length, &from, &from_port), 0);
        r = find(accepted, weir_addr_is_v4(&from), &addr, &found);
        if (r == 0)
                (void)weir_endpoint_format(&addr, found, ret_text);
        (void)close(accepted);
        (void)close(client);
        return r;
}

static int ask(int listener, const char *address, uint16_t port, char ret_text[static WEIR_ENDPOINT_STRLEN])
{
        return ask_by(weir_original_dst, listener, address, port, ret_text);
}

static int local_address(int fd, bool v4, struct weir_addr *ret_addr, uint16_t *ret_port)
{
        (void)v4;
        return weir_local_address(fd, ret_addr, ret_port);
}

static void test_four(void **state)
{
        int listener = listen_on("0.0.0.0");
        char text[WEIR_ENDPOINT_STRLEN];

        (void)state;
        assert_int_equal(ask(listener, "198.51.100.7", 443, text), 0);
        assert_string_equal(text, "198.51.100.7:443");
        (void)close(listener);
}

static void test_six_and_mapped(void **state)
{
        int listener = listen_on("::");
        char text[WEIR_ENDPOINT_STRLEN];

        (void)state;
        assert_int_equal(ask(listener, "2001:db8::7", 8443, text), 0);
        assert_string_equal(text, "[2001:db8::7]:8443");
        assert_int_equal(ask(listener, "198.51.100.8", 80, text), 0);
        assert_string_equal(text, "198.51.100.8:80");
        (void)close(listener);
}

/* The kernel either knows no other destination or names the listener's own; never anything else. */
static void test_not_redirected(void **state)
{
        int listener = listen_on("::");
        char text[WEIR_ENDPOINT_STRLEN];
        int r;

        (void)state;
        r = ask(listener, "127.0.0.1", PORT, text);
        assert_true(r == -ENOENT || (r == 0 && strcmp(text, "127.0.0.1:15001") == 0));
        r = ask(listener, "::1", PORT, text);
        assert_true(r == -ENOENT || (r == 0 && strcmp(text, "[::1]:15001") == 0));
        (void)close(listener);
}

/* TPROXY: the connection keeps its destination, and the listener says that it takes such. */
static void test_diverted(void **state)
{
        static const struct {
                const char *listener, *to, *found;
                int level, option;
        } ways[] = {
                { "127.0.0.1", "192.0.2.7", "192.0.2.7:443", IPPROTO_IP, IP_TRANSPARENT },
                { "::1", "3fff::7", "[3fff::7]:443", IPPROTO_IPV6, IPV6_TRANSPARENT },
        };
        const int on = 1;

        (void)state;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(ways); i++) {
                int listener = listen_on(ways[i].listener);
                char text[WEIR_ENDPOINT_STRLEN];

                assert_false(weir_is_transparent(listener));
                assert_int_equal(setsockopt(listener, ways[i].level, ways[i].option, &on, sizeof(on)), 0);
                assert_true(weir_is_transparent(listener));
                assert_int_equal(ask_by(local_address, listener, ways[i].to, 443, text), 0);
                assert_string_equal(text, ways[i].found);
                (void)close(listener);
        }
        assert_false(weir_is_transparent(-1));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_four),
                cmocka_unit_test(test_six_and_mapped),
                cmocka_unit_test(test_not_redirected),
                cmocka_unit_test(test_diverted),
        };

        return cmocka_run_group_tests_name("relay/original_dst", tests, redirect_everything, NULL);
}
