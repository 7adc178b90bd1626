package main

import (
	"syscall"
	"time"
	"unsafe"
)

// now is the time on CLOCK_MONOTONIC: one clock for all processes of a machine, and nobody can set it. The stamps of package
// time are no use here, because each process counts them from its own start.
func now() time.Duration {
	const clockMonotonic = 1
	var t syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		panic("clock_gettime: " + errno.Error()) // it has no reason to fail
	}
	return time.Duration(t.Nano())
}
