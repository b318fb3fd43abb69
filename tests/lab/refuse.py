# SPDX-License-Identifier: Apache-2.0
"""Runs a command on a machine that refuses system calls, as containers and hardened kernels do.

    refuse.py CALL=ERRNO[,CALL:MASK=ERRNO...] COMMAND [ARG]...

CALL is a name of x86_64 or arm64 below; with :MASK only calls whose first argument has a bit of MASK set are refused.
A seccomp filter, kept over fork and exec; no_new_privs is set, so it needs no privilege.
"""
import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {
    "x86_64": {"clone": 56, "clone3": 435, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "seccomp": 317,
               "landlock_create_ruleset": 444, "io_uring_setup": 425, "pidfd_getfd": 438},
    "aarch64": {"clone": 220, "clone3": 435, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "seccomp": 277,
                "landlock_create_ruleset": 444, "io_uring_setup": 425, "pidfd_getfd": 438},
}[platform.machine()]
LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def program(rules):
    code = []
    for rule in rules.split(","):
        call, _, error = rule.partition("=")
        name, _, mask = call.partition(":")
        verdict = REFUSE | getattr(errno, error)
        code.append((LOAD, 0, 0, 0))
        if mask:
            code += [(JUMP_EQUAL, 0, 3, NUMBERS[name]), (LOAD, 0, 0, 16), (JUMP_SET, 0, 1, int(mask, 0)), (RETURN, 0, 0, verdict)]
        else:
            code += [(JUMP_EQUAL, 0, 1, NUMBERS[name]), (RETURN, 0, 0, verdict)]
    code.append((RETURN, 0, 0, ALLOW))
    return len(code), b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def main():
    count, code = program(sys.argv[1])
    kept = ctypes.create_string_buffer(code, len(code))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", count, ctypes.addressof(kept)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_):
        sys.exit(f"refuse.py: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[2], sys.argv[2:])


main()
