package lab

import (
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is one run of a program.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed by the goroutine of startProcess once the process has ended and has been reaped
}

// startProcess runs cmd. The goroutine it starts ends with the process.
//
// That goroutine stays locked to its thread, because the kernel's "die with your parent" (see dieWithParent) means the thread
// which forked, not the process: were that thread to end, a healthy server would be killed.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		dieWithParent(cmd)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // how a server ended interests nobody: its log tells
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // the only error is that the process has ended, which done tells
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process at once; a stopped one as well.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done // nothing survives SIGKILL
}

// stop asks the process to end and kills it when it has not after a while.
func (p *process) stop() {
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT) // a frozen server would not hear the first
	select {
	case <-p.done:
	case <-time.After(2 * time.Second):
		p.kill()
	}
}
