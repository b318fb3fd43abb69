/* SPDX-License-Identifier: Apache-2.0 */
/* Laying the rules of a pod: what its network looks like, and nft. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/strutil.h"
#include "capture/caps.h"
#include "capture/nft_rules.h"
#include "capture/redirect.h"

#define GATEWAYS_MAX (WEIR_REDIRECT_ADMIT_MAX + 16)
#define PROC_BYTES_MAX (1024 * 1024)

static bool is_loopback(int fd, const char *name)
{
        struct ifreq request = { .ifr_ifindex = 0 };

        (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
        return ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_LOOPBACK);
}

/* Names come from the container runtime, and go into nft's text between quotes. */
static int add_device(struct weir_strv *devices, const char *name, struct weir_err *err)
{
        for (const char *at = name; *at; at++)
                if (*at == '"' || *at <= ' ' || *at > '~')
                        return weir_err_set(err, WEIR_EUNSUPPORTED,
                                            "a network interface has a name that nft cannot take");
        return weir_strv_add(devices, name);
}

static int find_devices(struct weir_strv *devices, struct weir_err *err)
{
        weir_auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct if_nameindex *all = if_nameindex();
        int r = 0;

        if (fd < 0 || !all) {
                r = weir_err_set(err, -errno, "cannot list the network interfaces: %s", strerror(errno));
        } else {
                for (size_t i = 0; all[i].if_name && r == 0; i++)
                        if (!is_loopback(fd, all[i].if_name))
                                r = add_device(devices, all[i].if_name, err);
        }
        if (all)
                if_freenameindex(all);
        return r == 0 ? weir_strv_terminate(devices) : r;
}

struct gateways {
        struct weir_prefix items[GATEWAYS_MAX];
        size_t n;
};

static void add_gateway(struct gateways *gateways, const struct weir_addr *addr)
{
        if (gateways->n < GATEWAYS_MAX)
                gateways->items[gateways->n++] = (struct weir_prefix){ .addr = *addr, .bits = 128 };
}

static void on_lines(const char *path, void (*line)(struct gateways *gateways, const char *text),
                     struct gateways *gateways)
{
        weir_auto_free char *text = NULL;
        char *rest = NULL;
        size_t n;

        if (weir_file_slurp(AT_FDCWD, path, PROC_BYTES_MAX, &text, &n) < 0)
                return;
        for (char *at = strtok_r(text, "\n", &rest); at; at = strtok_r(NULL, "\n", &rest))
                line(gateways, at);
}

/* proc_net_route: "eth0 00000000 0158580A ...": interface, destination and gateway, as the machine stores them. */
static void route_v4(struct gateways *gateways, const char *text)
{
        char device[32], destination[16], gateway[16];
        struct weir_addr addr = { 0 };
        unsigned long value;
        uint32_t raw;

        if (sscanf(text, "%31s %15s %15s", device, destination, gateway) != 3 || !weir_streq(destination, "00000000"))
                return;
        value = strtoul(gateway, NULL, 16);
        if (value == 0 || value > UINT32_MAX)
                return;
        raw = (uint32_t)value;
        addr.bytes[10] = addr.bytes[11] = 0xff;
        memcpy(addr.bytes + 12, &raw, 4);
        add_gateway(gateways, &addr);
}

/* /proc/net/ipv6_route: destination, bits, source, bits, next hop, ...; addresses in 32 hexadecimal digits. */
static void route_v6(struct gateways *gateways, const char *text)
{
        char destination[40], bits[8], source[40], source_bits[8], hop[40];
        struct weir_addr addr = { 0 };
        bool any = false;

        if (sscanf(text, "%39s %7s %39s %7s %39s", destination, bits, source, source_bits, hop) != 5 ||
            !weir_streq(bits, "00") || strlen(hop) != 32)
                return;
        for (size_t i = 0; i < 16; i++) {
                char digits[3] = { hop[2 * i], hop[2 * i + 1], '\0' };

                addr.bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
                any = any || addr.bytes[i];
        }
        if (any)
                add_gateway(gateways, &addr);
}

static int run(const char *ruleset, struct weir_err *err)
{
        return ruleset ? weir_nft_run(ruleset, err) : weir_err_set(err, -ENOMEM, "out of memory");
}

/* The device gates are one gate more, against packet sockets alone: where the kernel has none, that is said. */
static int lay(const struct weir_redirect_layout *layout, char **ret_warning, struct weir_err *err)
{
        weir_auto_free char *rules = weir_redirect_ruleset(layout);
        weir_auto_free char *egress = weir_redirect_egress_ruleset(layout);
        struct weir_err ignored = { 0 };
        int r;

        r = run(rules, err);
        if (r < 0)
                return r;
        if (layout->devices[0] && run(egress, &ignored) < 0)
                *ret_warning =
                        weir_asprintf("no gate at the devices against packet sockets (CAP_NET_RAW): %s", ignored.text);
        return 0;
}

int weir_redirect_lay(const struct weir_redirect_layout *given, char **ret_warning, struct weir_err *err)
{
        struct weir_redirect_layout layout = *given;
        struct weir_strv devices = { 0 };
        struct gateways gateways = { 0 };
        int r;

        if (weir_caps_raise(CAP_NET_ADMIN) < 0)
                return weir_err_set(
                        err, -EPERM,
                        "CAP_NET_ADMIN is missing: a container needs capabilities.add [NET_ADMIN] and, if it "
                        "is not root, an image whose weir has kept its file capability");
        *ret_warning = NULL;
        for (size_t i = 0; i < given->admit.n; i++)
                gateways.items[gateways.n++] = given->admit.items[i];
        on_lines("/proc/self/net/route", route_v4, &gateways);
        on_lines("/proc/self/net/ipv6_route", route_v6, &gateways);
        layout.admit = (struct weir_redirect_ranges){ .items = gateways.items, .n = gateways.n };
        while (layout.egress_mark == 0)
                if (getrandom(&layout.egress_mark, sizeof(layout.egress_mark), 0) != sizeof(layout.egress_mark))
                        return weir_err_set(err, -EIO, "no random bytes");
        r = find_devices(&devices, err);
        layout.devices = (const char *const *)devices.items;
        if (r == 0)
                r = lay(&layout, ret_warning, err);
        weir_strv_clear(&devices);
        return r;
}
