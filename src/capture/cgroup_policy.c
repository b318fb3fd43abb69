/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The form is told in bpf/shared.h. The map is mapped into memory and filled by plain stores, so a million prefixes
 * cost no million system calls; it is as large as the policy, and a policy for which the kernel has no room is refused
 * before anything has changed.
 */
#include "capture/cgroup_policy.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "bpf/shared.h"
#include "policy/flat.h"

/* How often it is looked whether a switch is in force. */
#define LOOK_NS 20000
/* A table must not be longer than what the programs' search halves to nothing. */
#define CELLS_MAX (1U << WEIR_BPF_STEPS)

_Static_assert(sizeof(struct weir_bpf_header) == sizeof(struct weir_bpf_cell), "one cell");
_Static_assert(sizeof(struct weir_bpf_doors) == sizeof(struct weir_bpf_cell), "one cell");
_Static_assert(sizeof(struct weir_bpf_interval) == sizeof(struct weir_bpf_cell), "one cell");
_Static_assert(sizeof(struct weir_bpf_port) == sizeof(struct weir_bpf_cell), "one cell");
_Static_assert(sizeof(struct weir_bpf_endpoint) == sizeof(struct weir_bpf_cell), "one cell");

union cell {
        struct weir_bpf_cell any;
        struct weir_bpf_header header;
        struct weir_bpf_doors doors;
        struct weir_bpf_interval interval;
        struct weir_bpf_port port;
        struct weir_bpf_endpoint endpoint;
};

/* Where each table begins. */
struct plan {
        size_t ports, intervals, endpoints, publish, end;
};

static uint64_t word(const uint8_t *bytes)
{
        uint64_t value = 0;

        for (size_t i = 0; i < 8; i++)
                value = value << 8 | bytes[i];
        return value;
}

static void put_address(const struct weir_addr *addr, __u64 *hi, __u64 *lo)
{
        *hi = word(addr->bytes);
        *lo = word(addr->bytes + 8);
}

static struct plan plan_of(const struct weir_policy *policy, const struct weir_flat *flat, size_t n_published)
{
        struct plan plan = { .ports = WEIR_BPF_FIRST_BUILTIN + flat->n_builtins };

        plan.intervals = plan.ports + flat->n_ports;
        plan.endpoints = plan.intervals + flat->n_intervals;
        plan.publish = plan.endpoints + weir_policy_n_endpoints(policy);
        plan.end = plan.publish + n_published;
        return plan;
}

static void fill_builtins(union cell *cells, const struct weir_flat *flat)
{
        for (size_t i = 0; i < flat->n_builtins; i++) {
                struct weir_bpf_interval *to = &cells[WEIR_BPF_FIRST_BUILTIN + i].interval;

                put_address(&flat->builtins[i].first, &to->hi, &to->lo);
                to->rule = flat->builtins[i].value;
                to->bits = flat->builtins[i].bits;
        }
}

/* An AF_INET socket cannot be sent to an IPv6 endpoint: the relay dials it. The rule's own address says what asks. */
static bool needs_relay(const struct weir_policy *policy, size_t rule, size_t first, size_t n)
{
        bool v4 = weir_addr_is_v4(&weir_policy_rule(policy, rule)->prefix.addr);

        for (size_t i = first; i < first + n; i++) {
                struct weir_addr addr;
                uint16_t port;

                (void)weir_policy_endpoint(policy, i, &addr, &port);
                if (weir_addr_is_v4(&addr) != v4)
                        return true;
        }
        return false;
}

static void fill_interval(struct weir_bpf_interval *to, const struct weir_policy *policy,
                          const struct weir_flat_interval *from)
{
        size_t first, n;

        put_address(&from->first, &to->hi, &to->lo);
        to->rule = from->value;
        to->bits = from->bits;
        if (from->value == WEIR_FLAT_NO_RULE)
                return;
        weir_policy_rule_endpoints(policy, from->value, &first, &n);
        to->first_endpoint = (uint32_t)first;
        to->n_endpoints = (uint32_t)n;
        to->relay = needs_relay(policy, from->value, first, n);
}

static void fill_rules(union cell *cells, const struct plan *plan, const struct weir_policy *policy,
                       const struct weir_flat *flat)
{
        for (size_t i = 0; i < flat->n_ports; i++)
                cells[plan->ports + i].port = (struct weir_bpf_port){
                        .port = flat->ports[i].port,
                        .first = (uint32_t)(plan->intervals + flat->ports[i].first),
                        .n = (uint32_t)flat->ports[i].n,
                };
        for (size_t i = 0; i < flat->n_intervals; i++)
                fill_interval(&cells[plan->intervals + i].interval, policy, &flat->intervals[i]);
        for (size_t i = plan->endpoints; i < plan->publish; i++) {
                struct weir_addr addr;
                uint16_t port;

                /* One that may not be dialled keeps port 0, and the rule denies where it leads there. */
                if (weir_policy_endpoint(policy, i - plan->endpoints, &addr, &port))
                        cells[i].endpoint.port = port;
                put_address(&addr, &cells[i].endpoint.hi, &cells[i].endpoint.lo);
        }
}

static void fill(union cell *cells, const struct plan *plan, const struct weir_policy *policy,
                 const struct weir_flat *flat, const struct weir_cgroup_doors *doors, uint64_t generation)
{
        cells[0].header = (struct weir_bpf_header){
                .generation = generation,
                .flags = (doors->audit ? WEIR_BPF_AUDIT : 0U) | (doors->serve ? WEIR_BPF_SERVE : 0U),
                .n_builtins = (uint16_t)flat->n_builtins,
                .n_publish = (uint16_t)doors->n_published,
                .first_port = (uint32_t)plan->ports,
                .n_ports = (uint32_t)flat->n_ports,
                .first_endpoint = (uint32_t)plan->endpoints,
                .first_publish = (uint32_t)plan->publish,
        };
        cells[1].doors = (struct weir_bpf_doors){
                .dns_udp = doors->dns_udp, .dns_tcp = doors->dns_tcp, .relay = doors->relay, .mark = doors->mark
        };
        fill_builtins(cells, flat);
        fill_rules(cells, plan, policy, flat);
        for (size_t i = 0; i < doors->n_published; i++)
                cells[plan->publish + i].port.port = doors->published[i];
}

static int build(const struct weir_policy *policy, const struct weir_flat *flat, const struct weir_cgroup_doors *doors,
                 uint64_t generation, size_t cells_max, struct weir_err *err)
{
        struct plan plan = plan_of(policy, flat, doors->n_published);
        LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
        weir_auto_close int map = -1;
        union cell *cells;

        if (plan.end > cells_max || flat->n_builtins > UINT16_MAX)
                return weir_err_set(
                        err, WEIR_ELIMIT,
                        "the policy needs %zu entries in the kernel and %zu are the most; name larger blocks", plan.end,
                        cells_max);
        map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "weir_policy", sizeof(uint32_t), sizeof(*cells), (uint32_t)plan.end,
                             &options);
        if (map < 0)
                return weir_err_set(err, -errno, "the kernel has no room for a policy of %zu entries: %s", plan.end,
                                    strerror(errno));
        cells = mmap(NULL, plan.end * sizeof(*cells), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
        if (cells == MAP_FAILED)
                return weir_err_set(err, -errno, "cannot fill a policy of %zu entries: %s", plan.end, strerror(errno));
        fill(cells, &plan, policy, flat, doors, generation);
        (void)munmap(cells, plan.end * sizeof(*cells));
        return TAKE_FD(map);
}

int weir_cgroup_policy_build(const struct weir_policy *policy, const struct weir_cgroup_doors *doors,
                             uint64_t generation, size_t cells_max, struct weir_err *err)
{
        struct weir_flat flat;
        int r;

        r = weir_policy_flatten(policy, &flat);
        if (r < 0)
                return weir_err_set(err, r, "out of memory");
        r = build(policy, &flat, doors, generation, cells_max ? cells_max : CELLS_MAX, err);
        weir_flat_clear(&flat);
        return r;
}

int weir_cgroup_policy_switch(int live, int map, struct weir_err *err)
{
        uint32_t slot = 0;

        if (bpf_map_update_elem(live, &slot, &map, BPF_ANY) < 0)
                return weir_err_set(err, -errno, "the kernel did not take the policy: %s", strerror(errno));
        return 0;
}

static void *run_switch(void *context)
{
        struct weir_cgroup_switch *s = context;
        uint32_t slot = 0;

        s->error = bpf_map_update_elem(s->live, &slot, &s->map, BPF_ANY) < 0 ? errno : 0;
        atomic_store(&s->ended, true);
        return NULL;
}

static uint32_t number_of(int map)
{
        struct bpf_map_info info = { 0 };
        uint32_t size = sizeof(info);

        return bpf_obj_get_info_by_fd(map, &info, &size) < 0 ? 0 : info.id;
}

void weir_cgroup_policy_switch_wait(struct weir_cgroup_switch *s)
{
        if (!s->running)
                return;
        (void)pthread_join(s->thread, NULL);
        s->running = false;
        (void)close(s->map);
}

int weir_cgroup_policy_switch_soon(struct weir_cgroup_switch *s, int live, int map, struct weir_err *err)
{
        uint32_t wanted = number_of(map), found = 0, slot = 0;
        const struct timespec moment = { .tv_nsec = LOOK_NS };

        weir_cgroup_policy_switch_wait(s);
        *s = (struct weir_cgroup_switch){ .live = live, .map = map };
        s->running = wanted != 0 && pthread_create(&s->thread, NULL, run_switch, s) == 0;
        if (!s->running) {
                int r = weir_cgroup_policy_switch(live, map, err);

                (void)close(map);
                return r;
        }
        while (!atomic_load(&s->ended)) {
                if (bpf_map_lookup_elem(live, &slot, &found) == 0 && found == wanted)
                        return 0;
                (void)nanosleep(&moment, NULL);
        }
        return s->error ? weir_err_set(err, -s->error, "the kernel did not take the policy: %s", strerror(s->error)) :
                          0;
}
