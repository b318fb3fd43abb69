/* SPDX-License-Identifier: Apache-2.0 */
#include "capture/landlock.h"

#include <errno.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/gate.h"

/* ABI 4 (Linux 6.7) brought TCP, ABI 6 (Linux 6.12) scopes; older headers do not know the fields. */
#define NETWORK_ABI 4
#define SCOPES_ABI 6
#define ACCESS_NET_BIND_TCP (UINT64_C(1) << 0)
#define ACCESS_NET_CONNECT_TCP (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT_UNIX_SOCKET (UINT64_C(1) << 0)
#define SCOPE_SIGNAL (UINT64_C(1) << 1)

struct ruleset_attr {
        uint64_t handled_access_fs, handled_access_net, scoped;
};

static long abi(void)
{
        return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

bool weir_landlock_can_scope(void)
{
        return abi() >= SCOPES_ABI && WEIR_GATE(SIGNAL_SCOPE);
}

bool weir_landlock_has_network(void)
{
        return abi() >= NETWORK_ABI;
}

int weir_landlock_enter(bool no_tcp)
{
        const struct ruleset_attr attr = {
                .handled_access_net = no_tcp ? ACCESS_NET_BIND_TCP | ACCESS_NET_CONNECT_TCP : 0,
                .scoped = weir_landlock_can_scope() ? SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL : 0,
        };
        weir_auto_close int ruleset = -1;

        if (!attr.handled_access_net && !attr.scoped)
                return 0;
        ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
        if (ruleset < 0)
                return -errno;
        return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 1;
}
