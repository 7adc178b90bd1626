package main

import (
	"syscall"
	"time"
)

// nap sleeps by the kernel's clock and not by the runtime's.
func nap(d time.Duration) {
	spec := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&spec, nil) // a signal may end it early
}
