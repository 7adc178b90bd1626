package main

import "syscall"

// attributes have the kernel end a child when the lab dies, however it dies, also one that is stopped. A group of its own keeps Ctrl-C from it: it
// ends when the lab has wound up.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
