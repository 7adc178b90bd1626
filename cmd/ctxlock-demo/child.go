package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// child is one of the three processes, seen from outside.
type child struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	orders *json.Encoder
	done   chan struct{} // closed by listen: the process has ended, and all that it had to say was passed on
}

// startChild runs this very program again as one of the three. Its events go to s until s is over.
func startChild(s *stage, r role) (*child, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{name: r.Process, cmd: exec.Command(self), done: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), roleEnv+"="+string(text))
	c.cmd.Stderr = os.Stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.orders = json.NewEncoder(c.stdin)
	go c.listen(s, stdout)
	return c, nil
}

// listen passes events on. It ends with the process.
func (c *child) listen(s *stage, stdout io.Reader) {
	defer close(c.done)
	for from := json.NewDecoder(stdout); ; {
		var e event
		if from.Decode(&e) != nil {
			break
		}
		s.send(e)
	}
	text := ""
	if err := c.cmd.Wait(); err != nil {
		text = err.Error()
	}
	s.send(event{At: now(), Process: c.name, What: exited, Text: text})
}

func (c *child) order(o order) error {
	if err := c.orders.Encode(o); err != nil {
		return fmt.Errorf("process %s does not listen: %w", c.name, err)
	}
	return nil
}

// kill ends the process at once and returns two stamps: one from before, and one from when it was dead for certain.
func (c *child) kill() (alive, dead time.Duration) {
	alive = now()
	_ = c.cmd.Process.Kill() // the only error is that it has ended
	<-c.done
	return alive, now()
}

// leave asks the process to end.
func (c *child) leave() { _ = c.stdin.Close() }

// end waits until the process has ended, which it was asked to do, and kills it if it has not when ctx ends.
func (c *child) end(ctx context.Context) {
	select {
	case <-c.done:
	case <-ctx.Done():
		c.kill()
	}
}
