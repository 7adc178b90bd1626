package lab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// dieWithParent lets the kernel kill the process when this one dies, however it dies: a test run that panics, times out or is
// killed leaves no servers behind. The process gets a group of its own, so that Ctrl-C in a terminal reaches the program that
// runs the lab only, which may still want to talk to its servers while it winds up.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// awaitFrozen returns when every thread of a process that was sent SIGSTOP stands still: the signal is delivered
// asynchronously, and a busy server could answer one more command after it.
func awaitFrozen(pid int) {
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		if allStopped(pid) {
			return
		}
	}
}

func allStopped(pid int) bool {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return true // ended: as still as can be
	}
	for _, t := range tasks {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, t.Name()))
		if err != nil {
			continue
		}
		// "pid (name) state …", where name may hold anything, parentheses too.
		if i := bytes.LastIndexByte(stat, ')'); i < 0 || i+2 >= len(stat) || stat[i+2] != 'T' {
			return false
		}
	}
	return true
}
