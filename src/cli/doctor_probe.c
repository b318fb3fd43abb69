/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the doctor runs inside a throw-away workload, and once without Weir: each way out, tried as a program would.
 * Whether something got out is the canary's to say; only where an answer alone can tell (an echo, a name) is it said
 * here.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/strutil.h"
#include "cli/doctor.h"

#define WAIT_MS 1000
/* For what should come: a busy machine is not a broken one. */
#define ALLOWED_WAIT_MS 10000
#define DNS_REFUSED 5

static const char *const names[] = {
        [WEIR_WAY_ADDRESS] = "address", [WEIR_WAY_UDP] = "udp",        [WEIR_WAY_ICMP] = "icmp",
        [WEIR_WAY_IPV6] = "ipv6",       [WEIR_WAY_RAW] = "raw socket", [WEIR_WAY_NAME] = "name",
};
_Static_assert(WEIR_ARRAY_SIZE(names) == WEIR_WAY_COUNT, "a name for each way");

const char *weir_doctor_way_name(enum weir_doctor_way way)
{
        return names[way];
}

char *weir_doctor_plan_format(const struct weir_doctor_plan *p)
{
        char four[WEIR_ADDR_STRLEN], six[WEIR_ADDR_STRLEN], allowed[WEIR_ADDR_STRLEN];

        return weir_asprintf("%s,%s,%s,%u,%u,%u,%u", weir_addr_format(&p->canary4, four),
                             p->has_canary6 ? weir_addr_format(&p->canary6, six) : "-",
                             weir_addr_format(&p->allowed, allowed), p->tcp, p->tcp6, p->udp, p->allowed_port);
}

int weir_doctor_plan_parse(const char *text, struct weir_doctor_plan *ret)
{
        char four[WEIR_ADDR_STRLEN], six[WEIR_ADDR_STRLEN], allowed[WEIR_ADDR_STRLEN];
        struct weir_doctor_plan plan = { 0 };
        unsigned tcp, tcp6, udp, port;

        if (sscanf(text, "%45[^,],%45[^,],%45[^,],%u,%u,%u,%u", four, six, allowed, &tcp, &tcp6, &udp, &port) != 7 ||
            tcp > UINT16_MAX || tcp6 > UINT16_MAX || udp > UINT16_MAX || port > UINT16_MAX)
                return -EINVAL;
        plan.has_canary6 = !weir_streq(six, "-");
        if (weir_addr_parse(four, &plan.canary4) < 0 || weir_addr_parse(allowed, &plan.allowed) < 0 ||
            (plan.has_canary6 && weir_addr_parse(six, &plan.canary6) < 0))
                return -EINVAL;
        plan.tcp = (uint16_t)tcp;
        plan.tcp6 = (uint16_t)tcp6;
        plan.udp = (uint16_t)udp;
        plan.allowed_port = (uint16_t)port;
        *ret = plan;
        return 0;
}

/* Whether a byte comes back in time. */
static bool answers(int fd, int wait_ms)
{
        struct pollfd polled = { .fd = fd, .events = POLLIN };
        char byte;

        return poll(&polled, 1, wait_ms) == 1 && recv(fd, &byte, 1, MSG_DONTWAIT) == 1;
}

static bool try_tcp(const struct weir_addr *addr, uint16_t port, int wait_ms)
{
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(addr, port, &sa);
        weir_auto_close int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct pollfd polled = { .fd = fd, .events = POLLOUT };

        if (fd < 0 || (connect(fd, (struct sockaddr *)&sa, length) < 0 && errno != EINPROGRESS))
                return false;
        if (poll(&polled, 1, wait_ms) != 1 || send(fd, "x", 1, MSG_NOSIGNAL) != 1)
                return false;
        return answers(fd, wait_ms);
}

static void try_udp(const struct weir_addr *addr, uint16_t port)
{
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(addr, port, &sa);
        weir_auto_close int fd = socket(sa.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (fd >= 0 && sendto(fd, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&sa, length) < 0)
                return;
}

static uint16_t checksum(const void *bytes, size_t n)
{
        const uint8_t *at = bytes;
        uint32_t sum = 0;

        for (size_t i = 0; i + 1 < n; i += 2)
                sum += (uint32_t)at[i] << 8 | at[i + 1];
        while (sum >> 16)
                sum = (sum & 0xffff) + (sum >> 16);
        return htons((uint16_t)~sum);
}

/* An echo by a ping socket, else by a raw one. True if it came back: not the request itself, which loopback shows too.
 */
static bool try_icmp(const struct weir_addr *addr)
{
        struct icmphdr echo = { .type = ICMP_ECHO, .un.echo = { .id = htons(4711), .sequence = htons(1) } };
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(addr, 0, &sa);
        bool raw = false;
        weir_auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);

        echo.checksum = checksum(&echo, sizeof(echo));
        if (fd < 0) {
                fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
                raw = true;
        }
        if (fd < 0 || sendto(fd, &echo, sizeof(echo), 0, (struct sockaddr *)&sa, length) < 0)
                return false;
        for (int i = 0; i < 8; i++) {
                struct pollfd polled = { .fd = fd, .events = POLLIN };
                uint8_t packet[256];
                ssize_t n = poll(&polled, 1, WAIT_MS) == 1 ? recv(fd, packet, sizeof(packet), MSG_DONTWAIT) : -1;
                size_t head = raw && n > 0 ? (size_t)(packet[0] & 15) * 4 : 0;

                if (n < 0)
                        return false;
                if ((size_t)n > head && packet[head] == ICMP_ECHOREPLY)
                        return true;
        }
        return false;
}

/* A whole IPv4 datagram to the canary's UDP port, by a socket that lets one write headers. */
static void try_raw(const struct weir_addr *addr, uint16_t port)
{
        struct {
                struct iphdr ip;
                struct udphdr udp;
        } packet = { .ip = { .version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP },
                     .udp = { .source = htons(9), .dest = htons(port), .len = htons(sizeof(struct udphdr)) } };
        struct sockaddr_storage sa;
        socklen_t length = weir_addr_to_sockaddr(addr, 0, &sa);
        weir_auto_close int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);

        memcpy(&packet.ip.daddr, addr->bytes + 12, 4);
        packet.ip.tot_len = htons(sizeof(packet));
        if (fd >= 0 && sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&sa, length) < 0)
                return;
}

/*
 * A query for a name under .invalid, RFC 1035 section 4.1 and RFC 2606. Weir answers every server's address; REFUSED
 * and silence are the two ways to be stopped.
 */
static bool try_name(void)
{
        static const char query[] = "\x47\x11\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                                    "\x0bweir-doctor\x07invalid\x00\x00\x01\x00\x01";
        struct sockaddr_in server = { .sin_family = AF_INET,
                                      .sin_port = htons(53),
                                      .sin_addr.s_addr = htonl(0xc0000235) };
        struct pollfd polled = { .events = POLLIN };
        uint8_t reply[512];
        weir_auto_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        ssize_t n;

        if (fd < 0 || sendto(fd, query, sizeof(query) - 1, 0, (struct sockaddr *)&server, sizeof(server)) < 0)
                return false;
        polled.fd = fd;
        n = poll(&polled, 1, WAIT_MS) == 1 ? recv(fd, reply, sizeof(reply), MSG_DONTWAIT) : -1;
        return n >= 12 && (reply[3] & 15) != DNS_REFUSED;
}

int weir_doctor_inside(const struct weir_doctor_plan *plan)
{
        unsigned answered = 0;
        /* Without Weir these two would leave the machine, so there they are not tried. */
        bool within = plan->allowed_port != 0,
             allowed = within && try_tcp(&plan->allowed, plan->allowed_port, ALLOWED_WAIT_MS);

        (void)try_tcp(&plan->canary4, plan->tcp, WAIT_MS);
        try_udp(&plan->canary4, plan->udp);
        if (try_icmp(&plan->canary4))
                answered |= 1U << WEIR_WAY_ICMP;
        if (plan->has_canary6)
                (void)try_tcp(&plan->canary6, plan->tcp6, WAIT_MS);
        try_raw(&plan->canary4, plan->udp);
        if (within && try_name())
                answered |= 1U << WEIR_WAY_NAME;
        (void)printf("%u %d end\n", answered, allowed);
        return 0;
}
