// SPDX-License-Identifier: Apache-2.0
// The process that holds a pod's namespaces: ends on a signal, reaps what is left to it.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	for s := range c {
		if s != syscall.SIGCHLD {
			return
		}
		for p := 1; p > 0; {
			p, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}
