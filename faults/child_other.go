//go:build !linux

package main

import "syscall"

// attributes keep Ctrl-C from a child: it ends when the lab does, since its standard input does then.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
