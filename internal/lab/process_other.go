//go:build !linux

package lab

import (
	"os/exec"
	"time"
)

// dieWithParent does nothing: only Linux ends a child with its parent. Servers stay in our process group instead, so that
// Ctrl-C ends them too; after a crash they have to be ended by hand.
func dieWithParent(*exec.Cmd) {}

// awaitFrozen leaves the signal time to arrive: there is no portable way to see that it has.
func awaitFrozen(int) { time.Sleep(5 * time.Millisecond) }
