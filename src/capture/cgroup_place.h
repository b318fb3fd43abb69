/* SPDX-License-Identifier: Apache-2.0 */
/* Where cgroups and pins are on this machine: found, or mounted for this process alone. */
#pragma once

#include <stdint.h>

#include "base/cleanup.h"

struct weir_err;

/**
 * struct weir_cgroup_root - the cgroup v2 hierarchy
 * @fd:   its top folder
 * @path: where it is mounted; "" if Weir mounted it for itself, which leaves no trace
 */
struct weir_cgroup_root {
        int fd;
        char path[256];
};

/* Pure (/sys/fs/cgroup), hybrid (/sys/fs/cgroup/unified), any other mount, or one of its own. WEIR_EUNSUPPORTED with
 * @err where the kernel has none. */
WEIR_MUST int weir_cgroup_root_open(struct weir_cgroup_root *ret, struct weir_err *err);
void weir_cgroup_root_close(struct weir_cgroup_root *root);
/* One word or two for a person: "/sys/fs/cgroup/unified", "a mount of Weir's own". */
const char *weir_cgroup_root_name(const struct weir_cgroup_root *root);

/* The cgroup of this process below the root, e.g. "user.slice"; "" for the top. At most @n bytes. */
WEIR_MUST int weir_cgroup_own(char *ret, size_t n, struct weir_err *err);
/* The number by which the kernel knows the cgroup of a descriptor. */
WEIR_MUST int weir_cgroup_id(int fd, uint64_t *ret_id);
/* Its folder, by that number; -ESTALE if it is gone. @root: a descriptor of the hierarchy. */
WEIR_MUST int weir_cgroup_open_id(int root, uint64_t id);
/* The path below the root of the cgroup with this number; -errno if it is gone. */
WEIR_MUST int weir_cgroup_path(const struct weir_cgroup_root *root, uint64_t id, char *ret, size_t n);
/* Ends every process in it and below, at once; what cannot be ended stays behind the gates. */
void weir_cgroup_kill(int fd);
/* Removes @name below @above, with every group that was made inside it. 0; -EBUSY while a process is left */
WEIR_MUST int weir_cgroup_remove(int above, const char *name);

/* A BPF file system of its own that is mounted nowhere; a descriptor that only names it (O_PATH), or -errno. */
WEIR_MUST int weir_pins_aside(void);
/* Where the BPF file system is mounted; WEIR_EUNSUPPORTED with @err. Mounts nothing. */
WEIR_MUST int weir_pins_find(char *ret_path, size_t n, struct weir_err *err);
/* The folder for pins: $WEIR_BPFFS, else below /sys/fs/bpf, mounting that if nothing is there. Made if it is missing.
 * A descriptor; WEIR_EUNSUPPORTED with @err. @ret_path: at least 256 bytes. */
WEIR_MUST int weir_pins_open(char *ret_path, size_t n, struct weir_err *err);
