/* SPDX-License-Identifier: Apache-2.0 */
/* Terminal and signals of "weir run". */
#include "cli/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

/*
 * Not for passing on: what cannot be caught, what a process does to itself (faults, limits, timers), children, and what
 * is ignored while the command runs. All else, SIGRTMIN to SIGRTMAX too, is what programs use among themselves.
 */
static const int own[] = {
        SIGKILL, SIGSTOP, SIGCHLD, SIGSEGV, SIGBUS,    SIGFPE,  SIGILL,  SIGTRAP, SIGABRT,
        SIGSYS,  SIGXCPU, SIGXFSZ, SIGPROF, SIGVTALRM, SIGPIPE, SIGTTIN, SIGTTOU,
};

void weir_terminal_open(struct weir_terminal *terminal)
{
        terminal->fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
        terminal->foreground = terminal->fd < 0 ? -1 : tcgetpgrp(terminal->fd);
}

void weir_terminal_restore(struct weir_terminal *terminal)
{
        if (terminal->fd < 0)
                return;
        /* SIGTTOU is ignored since weir_signals_open(), so this works from the background too. */
        if (terminal->foreground == getpgrp())
                (void)tcsetpgrp(terminal->fd, terminal->foreground);
        (void)close(TAKE_FD(terminal->fd));
}

bool weir_terminal_raw(void)
{
        struct termios t;

        return tcgetattr(STDERR_FILENO, &t) == 0 && !(t.c_lflag & ICANON);
}

static sigset_t handled_set(void)
{
        sigset_t set;

        (void)sigfillset(&set);
        for (size_t i = 0; i < WEIR_ARRAY_SIZE(own); i++)
                (void)sigdelset(&set, own[i]);
        return set;
}

int weir_signals_block(sigset_t *ret_before)
{
        sigset_t set = handled_set();

        return sigprocmask(SIG_BLOCK, &set, ret_before) < 0 ? -errno : 0;
}

int weir_signals_open(void)
{
        sigset_t set = handled_set();
        int fd;

        (void)signal(SIGTTOU, SIG_IGN);
        (void)signal(SIGTTIN, SIG_IGN);
        (void)signal(SIGPIPE, SIG_IGN);
        fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return fd < 0 ? -errno : fd;
}

enum weir_signal_act weir_signal_act(const struct signalfd_siginfo *info)
{
        bool from_process = info->ssi_code == SI_USER || info->ssi_code == SI_QUEUE || info->ssi_code == SI_TKILL;

        /* A hang-up comes from the kernel to the session's leader alone, which Weir may be. */
        return from_process || info->ssi_signo == SIGHUP ? WEIR_SIGNAL_PASS_ON : WEIR_SIGNAL_IGNORE;
}
