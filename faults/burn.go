package main

import (
	"io"
	"os"
	"os/exec"
	"runtime"
)

// burnMain keeps more threads busy than there are cores, until its input ends.
func burnMain() {
	threads := 4 * runtime.NumCPU()
	runtime.GOMAXPROCS(threads + 1)
	for range threads {
		go func() {
			for n := 0; ; n++ {
			}
		}()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// burn starves everybody on this machine until stop is called.
func burn() (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, childBurn)
	cmd.SysProcAttr = attributes()
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}, nil
}
