/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory, queues and keys that are not files:  ipc make KEY | ipc find KEY
 *
 * "make" leaves a shared segment, a message queue, a POSIX queue and a key in the session keyring behind; "find" says which
 * of them it reaches.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
        char name[32];
        int number, made = argc == 3 && strcmp(argv[1], "make") == 0;

        if (argc != 3)
                return 64;
        number = atoi(argv[2]);
        snprintf(name, sizeof(name), "/weir-%d", number);
        if (made) {
                int shm = shm_open(name, O_CREAT | O_RDWR, 0666);

                shmget(number, 4096, IPC_CREAT | 0666);
                msgget(number, IPC_CREAT | 0666);
                mq_open(name, O_CREAT | O_RDWR, 0666, NULL);
                syscall(SYS_add_key, "user", name, "secret", 6, KEY_SPEC_SESSION_KEYRING);
                syscall(SYS_add_key, "user", name, "secret", 6, KEY_SPEC_USER_KEYRING);
                close(shm);
                puts("made");
                fflush(stdout);
                pause();
        }
        if (shmget(number, 0, 0) >= 0)
                puts("found shared memory");
        if (msgget(number, 0) >= 0)
                puts("found a message queue");
        if (mq_open(name, O_RDWR) >= 0)
                puts("found a POSIX queue");
        if (shm_open(name, O_RDWR, 0) >= 0)
                puts("found POSIX shared memory");
        if (syscall(SYS_request_key, "user", name, NULL, 0) >= 0)
                puts("found a key");
        if (syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) >= 0)
                puts("found the keyring of the session");
        if (syscall(SYS_bpf, 0, NULL, 0) < 0 && errno != EPERM)
                puts("found bpf");
        puts("tried");
        return 0;
}
