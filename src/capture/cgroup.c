/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cgroup capture: the verdict in the kernel, for whoever has root.
 *
 * Theory of operation
 *
 * A cgroup is made below the one that Weir is in, the gates (cgroup_gates.c, bpf/weir.bpf.c) are attached to it with
 * the policy in force, and only then is the command's sandbox born inside (CLONE_INTO_CGROUP). The sandbox is that of
 * the sealed capture, with one difference: its network is the host's. So everything else that holds there holds here:
 * mounts, masked sockets of daemons, seccomp, the PID namespace; and the command keeps no capability that passes the
 * gates.
 *
 * Connections that are allowed do not touch Weir. What comes here is: names, over the doors (cgroup_doors.c); the few
 * connections that must be relayed; events from a ring; and changes of the policy, which are built beside, switched,
 * and followed by the reset of what they no longer allow (cgroup_flows.c). From the switch on no packet of such a flow
 * leaves, whatever becomes of the reset.
 *
 * A Weir that is killed takes the sandbox with it (its first process dies with its parent), but not at once: the links
 * are pinned in a BPF file system that is mounted in the sandbox alone, below its /proc, where nothing shows it. So
 * they stay as long as anything lives in there. Where the host has a place for pins they are there too, and the next
 * Weir removes what belongs to no cgroup any more.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strutil.h"
#include "bpf/shared.h"
#include "capture/become.h"
#include "capture/capture.h"
#include "capture/cgroup.h"
#include "capture/cgroup_doors.h"
#include "capture/cgroup_flows.h"
#include "capture/cgroup_gates.h"
#include "capture/cgroup_place.h"
#include "capture/cgroup_policy.h"
#include "capture/sandbox_init.h"
#include "capture/sealed.h"
#include "capture/sockets.h"

/* How long a group may take to be empty after everything in it was killed. */
#define GROUP_PREFIX "weir-run-"
#define EMPTY_TRIES 500
#define EMPTY_TRY_MS 10

static void remove_group(struct weir_capture *c)
{
        if (!c->made_group)
                return;
        if (c->group >= 0)
                weir_cgroup_kill(c->group);
        /* A process leaves its cgroup at its very end, a moment after it was reaped. */
        for (int i = 0; i < EMPTY_TRIES; i++) {
                int r = weir_cgroup_remove(c->root.fd, c->name);

                if (r != -EBUSY && r != -EINTR)
                        return;
                (void)poll(NULL, 0, EMPTY_TRY_MS);
        }
}

static void cgroup_free(struct weir_capture *c)
{
        if (!c)
                return;
        for (size_t i = 0; i < CHANGES; i++)
                weir_cgroup_policy_switch_wait(&c->changes[i]);
        weir_capture_sealed.free(c->box);
        ring_buffer__free(c->ring);
        remove_group(c);
        if (c->pins >= 0 && c->made_group)
                weir_gates_unpin(c->pins, c->pins_name);
        weir_gates_free(c->gates);
        weir_doors_close(&c->doors);
        weir_close_cleanup(&c->diag);
        weir_close_cleanup(&c->watch);
        weir_close_cleanup(&c->hold);
        weir_close_cleanup(&c->pins);
        weir_close_cleanup(&c->group);
        weir_cgroup_root_close(&c->root);
        free(c);
}
WEIR_DEFINE_CLEANUP(capture, struct weir_capture *, cgroup_free)

static struct weir_capture *capture_new(void)
{
        struct weir_capture *c = calloc(1, sizeof(*c));

        if (!c)
                return NULL;
        c->root.fd = c->group = c->pins = c->diag = c->watch = c->hold = -1;
        c->doors = (struct weir_doors){ .dns_udp = -1, .dns_tcp = -1, .relay = { -1, -1 } };
        return c;
}

/* Groups that a Weir has left which was killed: it holds a lock on each of its own while it lives. */
static void sweep_groups(int above)
{
        int fd = openat(above, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                weir_auto_close int group = -1;

                if (!weir_starts_with(entry->d_name, GROUP_PREFIX))
                        continue;
                group = openat(above, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                /* What has a process in it stays, and its gates with it. */
                if (group >= 0 && flock(group, LOCK_EX | LOCK_NB) == 0 && weir_cgroup_remove(above, entry->d_name) < 0)
                        weir_log(WEIR_LOG_DEBUG, "%s is left of a Weir that was killed", entry->d_name);
        }
        if (dir)
                (void)closedir(dir);
}

static int make_group(struct weir_capture *c, struct weir_err *err)
{
        weir_auto_close int above = -1;
        char own[200];
        int r;

        r = weir_cgroup_root_open(&c->root, err);
        if (r == 0)
                r = weir_cgroup_own(own, sizeof(own), err);
        if (r < 0)
                return r;
        above = openat(c->root.fd, own[0] ? own : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (above >= 0)
                sweep_groups(above);
        (void)snprintf(c->name, sizeof(c->name), "%s%s" GROUP_PREFIX "%d", own, own[0] ? "/" : "", (int)getpid());
        if (mkdirat(c->root.fd, c->name, 0755) < 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot make the cgroup %s below %s: %s", c->name,
                                    weir_cgroup_root_name(&c->root), strerror(errno));
        c->made_group = true;
        c->group = openat(c->root.fd, c->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (c->group < 0 || flock(c->group, LOCK_EX | LOCK_NB) < 0)
                return weir_err_set(err, -errno, "cannot hold the cgroup %s: %s", c->name, strerror(errno));
        r = weir_cgroup_id(c->group, &c->id);
        return r < 0 ? weir_err_set(err, r, "cannot tell the number of the cgroup %s: %s", c->name, strerror(-r)) : 0;
}

static int by_number(const void *left, const void *right)
{
        return (int)*(const uint16_t *)left - (int)*(const uint16_t *)right;
}

static int take_published(struct weir_capture *c, const struct weir_capture_options *options, struct weir_err *err)
{
        if (options->n_published > WEIR_BPF_PUBLISH_MAX)
                return weir_err_set(err, WEIR_ELIMIT, "%d ports can be published at most", WEIR_BPF_PUBLISH_MAX);
        if (options->n_published > 0)
                memcpy(c->published, options->published, options->n_published * sizeof(*c->published));
        c->n_published = options->n_published;
        qsort(c->published, c->n_published, sizeof(*c->published), by_number);
        return 0;
}

/* Builds @policy beside the live one and switches. The old one stays where anything is wrong. */
static int put_in_force(struct weir_capture *c, const struct weir_policy *policy, struct weir_err *err)
{
        const struct weir_cgroup_doors doors = {
                .dns_udp = c->doors.dns_udp_port,
                .dns_tcp = c->doors.dns_tcp_port,
                .relay = c->doors.relay_port,
                .mark = c->doors.mark,
                .published = c->published,
                .n_published = c->n_published,
                .audit = c->audit,
                .serve = !c->made_group,
        };
        uint64_t generation = weir_policy_generation(policy);
        weir_auto_close int map = -1;
        int r;

        /* A map that was adopted may have seen more policies than this process has. */
        generation = generation > c->generation ? generation : c->generation + 1;
        map = weir_cgroup_policy_build(policy, &doors, generation, 0, err);
        if (map < 0)
                return map;
        r = weir_cgroup_policy_switch_soon(&c->changes[c->next_change++ % CHANGES], weir_gates_live(c->gates),
                                           TAKE_FD(map), err);
        if (r == 0)
                c->generation = generation;
        return r;
}

static int on_event(void *context, void *data, size_t n)
{
        struct weir_capture *c = context;

        if (n != sizeof(c->event))
                return 0;
        memcpy(&c->event, data, sizeof(c->event));
        c->has_event = true;
        return -EINTR; /* one at a time: what libbpf calls an error ends its loop behind this event */
}

static int open_ring(struct weir_capture *c, struct weir_err *err)
{
        c->ring = ring_buffer__new(weir_gates_events(c->gates), on_event, c, NULL);
        if (!c->ring)
                return weir_err_set(err, -errno, "cannot read the kernel's events: %s", strerror(errno));
        c->diag = weir_flows_open();
        if (c->diag < 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot list sockets (CONFIG_INET_DIAG): %s",
                                    strerror(-c->diag));
        return 0;
}

/* Pins are for what outlives Weir, and by design no command does: without a place for them its gates hold as well. */
static int pin(struct weir_capture *c, const struct weir_capture_options *options, struct weir_err *err)
{
        struct weir_err why = { 0 };
        int r;

        if (c->pins < 0 && weir_pins_find(c->pins_path, sizeof(c->pins_path), &why) == 0)
                c->pins = weir_pins_open(c->pins_path, sizeof(c->pins_path), &why);
        if (c->pins < 0) {
                weir_log(options->verbose ? WEIR_LOG_WARNING : WEIR_LOG_DEBUG, "nothing is pinned: %s", why.text);
                return 0;
        }
        (void)weir_gates_sweep(c->pins, c->root.fd);
        (void)snprintf(c->pins_name, sizeof(c->pins_name), "%llx", (unsigned long long)c->id);
        r = weir_gates_pin(c->gates, c->pins, c->pins_path, c->pins_name, c->id,
                           options->version ? options->version : "", err);
        return r;
}

static void tell(const struct weir_capture *c, const struct weir_capture_options *options)
{
        size_t others = weir_gates_others(c->gates, c->group);

        if (!options->verbose)
                return;
        weir_log(WEIR_LOG_INFO, "cgroup %s below %s, gates %.12s%s%s", c->name, weir_cgroup_root_name(&c->root),
                 weir_gates_digest(), c->pins >= 0 ? ", pinned in " : "", c->pins >= 0 ? c->pins_path : "");
        if (others > 0)
                weir_log(
                        WEIR_LOG_INFO,
                        "%zu programs of others are in force on this cgroup too: each must allow what leaves; those of "
                        "cgroups above see destinations as Weir has rewritten them",
                        others);
}

struct completion {
        struct weir_capture *capture;
        const struct weir_capture_options *options;
};

int weir_cgroup_complete(struct weir_capture *c, const struct weir_capture_options *options, struct weir_err *err)
{
        int r = 0;

        if (!c->gates)
                r = weir_gates_load(&c->gates, err);
        if (r == 0)
                r = weir_doors_open(&c->doors, err);
        if (r == 0)
                r = put_in_force(c, options->policy, err);
        if (r == 0)
                r = weir_gates_attach(c->gates, c->group, err);
        if (r == 0 && c->hold >= 0)
                r = weir_gates_hold(c->gates, c->hold, err);
        if (r == 0)
                r = pin(c, options, err);
        if (r == 0)
                r = open_ring(c, err);
        if (r == 0) {
                tell(c, options);
                weir_gates_release(c->gates);
        }
        return r;
}

/* The verifier takes its time, and so does the sandbox, on another processor. */
static int complete(void *context, struct weir_err *err)
{
        const struct completion *completion = context;

        return weir_cgroup_complete(completion->capture, completion->options, err);
}

static int start_command(struct weir_capture *c, const struct weir_capture_options *options, struct weir_err *err)
{
        struct completion completion = { .capture = c, .options = options };
        struct weir_become become;
        struct weir_place place = {
                .cgroup = c->group, .become = &become, .complete = complete, .context = &completion
        };
        int r;

        r = weir_become_find(options->user, &become, err);
        /* Before the sandbox is born with it: some of what is hidden there lies in the home of whom it becomes. */
        if (r == 0)
                r = weir_become_environment(&become, err);
        if (r < 0)
                return r;
        c->hold = place.hold = weir_pins_aside();
        if (c->hold < 0)
                return weir_err_set(err, WEIR_EUNSUPPORTED, "cannot mount a BPF file system beside the command: %s",
                                    strerror(-c->hold));
        return weir_sealed_start_in(options, &place, &c->box, err);
}

static int cgroup_start(const struct weir_capture_options *options, struct weir_capture **ret_capture,
                        struct weir_err *err)
{
        weir_auto(capture) struct weir_capture *c = capture_new();
        int r;

        if (!c)
                return weir_err_set(err, -ENOMEM, "out of memory");
        c->audit = options->audit;
        r = take_published(c, options, err);
        if (r == 0)
                r = options->attach ? weir_cgroup_attach(c, options, err) : make_group(c, err);
        if (r == 0 && !options->attach)
                r = start_command(c, options, err);
        if (r < 0)
                return r;
        *ret_capture = TAKE_PTR(c);
        return 0;
}

static size_t cgroup_take_listeners(struct weir_capture *c, int *ret_fds, size_t n)
{
        size_t taken = 0;

        for (size_t i = 0; i < 2 && taken < n; i++)
                if (c->doors.relay[i] >= 0)
                        ret_fds[taken++] = TAKE_FD(c->doors.relay[i]);
        return taken;
}

static int cgroup_take_dns_udp(struct weir_capture *c)
{
        return TAKE_FD(c->doors.dns_udp);
}

static int cgroup_take_dns_tcp(struct weir_capture *c)
{
        return TAKE_FD(c->doors.dns_tcp);
}

static int no_rejected_fd(struct weir_capture *c)
{
        (void)c;
        return -1;
}

static int no_rejected(struct weir_capture *c, struct weir_rejected *ret)
{
        (void)c;
        (void)ret;
        return 0;
}

static uint64_t word(const uint8_t *bytes)
{
        uint64_t value = 0;

        for (size_t i = 0; i < 8; i++)
                value = value << 8 | bytes[i];
        return value;
}

static struct weir_addr address(uint64_t hi, uint64_t lo)
{
        struct weir_addr addr;

        for (size_t i = 0; i < 8; i++) {
                addr.bytes[i] = (uint8_t)(hi >> (56 - 8 * i));
                addr.bytes[8 + i] = (uint8_t)(lo >> (56 - 8 * i));
        }
        return addr;
}

static int find_original(struct weir_capture *c, const struct weir_addr *from, uint16_t port, struct weir_bpf_to *ret)
{
        const struct weir_bpf_from key = { .hi = word(from->bytes), .lo = word(from->bytes + 8), .port = port };

        return bpf_map_lookup_elem(weir_gates_originals(c->gates), &key, ret) < 0 ? -ENOENT : 0;
}

static int cgroup_owner(struct weir_capture *c, enum weir_ip_protocol protocol, const struct weir_addr *from,
                        uint16_t port, const struct weir_addr *to, uint16_t to_port, pid_t *ret_pid, char *command)
{
        struct weir_bpf_to original;

        (void)protocol;
        (void)to;
        (void)to_port;
        if (find_original(c, from, port, &original) < 0)
                return -ENOENT;
        *ret_pid = (pid_t)original.pid;
        memcpy(command, original.command, sizeof(original.command));
        command[sizeof(original.command) - 1] = '\0';
        return 0;
}

static int cgroup_original_dst(struct weir_capture *c, const struct weir_addr *from, uint16_t port,
                               struct weir_addr *ret_addr, uint16_t *ret_port)
{
        struct weir_bpf_to to;

        if (find_original(c, from, port, &to) < 0)
                return -ENOENT;
        *ret_addr = address(to.hi, to.lo);
        *ret_port = to.port;
        return 0;
}

/* The network is the host's, and so is its loopback. */
static int cgroup_connect_inside(struct weir_capture *c, uint16_t port)
{
        (void)c;
        return weir_sockets_connect(port);
}

static int cgroup_set_policy(struct weir_capture *c, struct weir_policy *policy, struct weir_err *err)
{
        int r = put_in_force(c, policy, err);

        if (r < 0)
                return r;
        r = weir_flows_revoke(c->diag, weir_gates_sockets(c->gates), policy);
        if (r < 0)
                weir_log(WEIR_LOG_DEBUG, "flows cannot be reset, their packets are dropped: %s", strerror(-r));
        return 0;
}

static int cgroup_events_fd(struct weir_capture *c)
{
        return ring_buffer__epoll_fd(c->ring);
}

/* How many more events were lost since this was asked last. */
static uint64_t newly_lost(struct weir_capture *c)
{
        uint64_t counts[1024] = { 0 }, lost = 0, more;
        uint32_t which = WEIR_BPF_LOST;

        if (libbpf_num_possible_cpus() > (int)WEIR_ARRAY_SIZE(counts) ||
            bpf_map_lookup_elem(weir_gates_counts(c->gates), &which, counts) < 0)
                return 0;
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(counts); i++)
                lost += counts[i];
        more = lost - c->lost;
        c->lost = lost;
        return more;
}

static enum weir_ip_protocol protocol_of(uint8_t number)
{
        switch (number) {
        case 6:
                return WEIR_IP_TCP;
        case 17:
                return WEIR_IP_UDP;
        case 1:
        case 58:
                return WEIR_IP_ICMP;
        default:
                return WEIR_IP_OTHER;
        }
}

static void translate(struct weir_capture *c, struct weir_capture_event *ret)
{
        const struct weir_bpf_event *e = &c->event;

        *ret = (struct weir_capture_event){
                .ended = e->kind == WEIR_BPF_ENDED,
                .audit = e->audit,
                .protocol = protocol_of(e->protocol),
                .ip_protocol = e->protocol,
                .has_destination = e->hi != 0 || e->lo != 0,
                .destination = address(e->hi, e->lo),
                .port = e->port,
                .dialled = address(e->dial_hi, e->dial_lo),
                .dialled_port = e->dial_port,
                .reason = (enum weir_reason)e->reason,
                .generation = e->generation,
                .rule = e->rule,
                .pid = (pid_t)e->pid,
                .bytes_sent = e->sent,
                .bytes_received = e->received,
                .duration_ns = e->duration,
                .again_ns = e->kind == WEIR_BPF_ENDED ? WEIR_BPF_ENDED_NS : WEIR_BPF_DENIED_NS,
        };
        memcpy(ret->command, e->command, sizeof(ret->command));
        ret->command[sizeof(ret->command) - 1] = '\0';
        /* Mostly the same one as before. */
        if (e->cgroup != 0 && e->cgroup != c->cgroup_id &&
            weir_cgroup_path(&c->root, e->cgroup, c->cgroup, sizeof(c->cgroup)) == 0)
                c->cgroup_id = e->cgroup;
        ret->cgroup = e->cgroup != 0 && e->cgroup == c->cgroup_id ? c->cgroup : NULL;
}

static int cgroup_next_event(struct weir_capture *c, struct weir_capture_event *ret)
{
        c->has_event = false;
        (void)ring_buffer__consume(c->ring);
        if (!c->has_event) {
                ret->lost = newly_lost(c);
                return ret->lost ? -ENOBUFS : 0;
        }
        translate(c, ret);
        return 1;
}

static int cgroup_exit_fd(struct weir_capture *c)
{
        return c->box ? weir_capture_sealed.exit_fd(c->box) : c->watch;
}

static int cgroup_wait_exit(struct weir_capture *c, struct weir_exit *ret)
{
        return c->box ? weir_capture_sealed.wait_exit(c->box, ret) : weir_cgroup_ended(c, ret);
}

static int cgroup_kill(struct weir_capture *c, int signal)
{
        return c->box ? weir_capture_sealed.kill(c->box, signal) : -ESRCH;
}

static void cgroup_stop(struct weir_capture *c)
{
        /* What is attached goes on under its last policy. */
        if (!c->made_group)
                return;
        weir_capture_sealed.free(c->box);
        c->box = NULL;
        weir_cgroup_kill(c->group);
        if (weir_flows_revoke(c->diag, weir_gates_sockets(c->gates), NULL) < 0)
                weir_log(WEIR_LOG_DEBUG, "flows of the command end by themselves");
}

bool weir_cgroup_permitted(void)
{
        weir_auto_close int map = geteuid() == 0 ? bpf_map_create(BPF_MAP_TYPE_ARRAY, "weir_try", 4, 4, 1, NULL) : -1;
        struct weir_cgroup_root root;
        struct weir_err err = { 0 };

        if (map < 0 || weir_cgroup_root_open(&root, &err) < 0)
                return false;
        weir_cgroup_root_close(&root);
        return true;
}

static const char *cgroup_path(struct weir_capture *c, const char **ret_why)
{
        (void)c;
        *ret_why = "the kernel gives the verdict when a connection is made, and moves the bytes";
        return "kernel";
}

const struct weir_capture_ops weir_capture_cgroup = {
        .name = "cgroup",
        .start = cgroup_start,
        .take_listeners = cgroup_take_listeners,
        .take_dns_udp = cgroup_take_dns_udp,
        .take_dns_tcp = cgroup_take_dns_tcp,
        .rejected_fd = no_rejected_fd,
        .next_rejected = no_rejected,
        .owner = cgroup_owner,
        .connect_inside = cgroup_connect_inside,
        .set_policy = cgroup_set_policy,
        .events_fd = cgroup_events_fd,
        .next_event = cgroup_next_event,
        .original_dst = cgroup_original_dst,
        .stop = cgroup_stop,
        .path = cgroup_path,
        .exit_fd = cgroup_exit_fd,
        .wait_exit = cgroup_wait_exit,
        .kill = cgroup_kill,
        .free = cgroup_free,
};
