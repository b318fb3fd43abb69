/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Socket, connect and send by io_uring, so that none of the system calls a filter looks at is made:  io_uring IPV4 PORT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ring;
static struct io_uring_sqe *sqes;
static unsigned *sq_tail, *sq_array, *sq_mask, *cq_head, *cq_tail, *cq_mask;
static struct io_uring_cqe *cqes;

static int map(const struct io_uring_params *p)
{
        char *sq = mmap(NULL, p->sq_off.array + p->sq_entries * sizeof(unsigned), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
        char *cq = mmap(NULL, p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_CQ_RING);

        sqes = mmap(NULL, p->sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
                    IORING_OFF_SQES);
        if (sq == MAP_FAILED || cq == MAP_FAILED || sqes == MAP_FAILED)
                return -1;
        sq_tail = (unsigned *)(sq + p->sq_off.tail);
        sq_array = (unsigned *)(sq + p->sq_off.array);
        sq_mask = (unsigned *)(sq + p->sq_off.ring_mask);
        cq_head = (unsigned *)(cq + p->cq_off.head);
        cq_tail = (unsigned *)(cq + p->cq_off.tail);
        cq_mask = (unsigned *)(cq + p->cq_off.ring_mask);
        cqes = (struct io_uring_cqe *)(cq + p->cq_off.cqes);
        return 0;
}

/* One operation, waited for; its result. */
static int run(const struct io_uring_sqe *sqe)
{
        unsigned tail = *sq_tail, at = tail & *sq_mask;
        int result;

        sqes[at] = *sqe;
        sq_array[at] = at;
        __atomic_store_n(sq_tail, tail + 1, __ATOMIC_RELEASE);
        if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
                return -errno;
        if (*cq_head == __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE))
                return -EIO;
        result = cqes[*cq_head & *cq_mask].res;
        __atomic_store_n(cq_head, *cq_head + 1, __ATOMIC_RELEASE);
        return result;
}

int main(int argc, char **argv)
{
        struct io_uring_params p = { 0 };
        struct sockaddr_in to = { .sin_family = AF_INET };
        int fd;

        if (argc != 3)
                return 64;
        to.sin_port = htons((uint16_t)atoi(argv[2]));
        inet_pton(AF_INET, argv[1], &to.sin_addr);
        ring = (int)syscall(SYS_io_uring_setup, 8, &p);
        if (ring < 0) {
                printf("refused: %s\n", strerror(errno));
                return 1;
        }
        printf("set up\n");
        if (map(&p) < 0)
                return 1;
        fd = run(&(struct io_uring_sqe){ .opcode = IORING_OP_SOCKET, .fd = AF_INET, .off = SOCK_STREAM });
        if (fd < 0)
                fd = socket(AF_INET, SOCK_STREAM, 0);
        printf("connect %d\n", run(&(struct io_uring_sqe){ .opcode = IORING_OP_CONNECT,
                                                            .fd = fd,
                                                            .addr = (unsigned long)&to,
                                                            .off = sizeof(to) }));
        printf("send %d\n", run(&(struct io_uring_sqe){ .opcode = IORING_OP_SEND,
                                                         .fd = fd,
                                                         .addr = (unsigned long)"out",
                                                         .len = 3 }));
        return 0;
}
