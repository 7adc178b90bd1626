package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock"
)

// roleEnv makes this program one of the three processes. It holds a role as JSON.
const roleEnv = "CTXLOCK_DEMO_ROLE"

// role is what a process has to know.
type role struct {
	Process string `json:"process"` // A, B or C
	Server  string `json:"server"`  // as -server has it
	Address string `json:"address"` // of this process's own way to that server
	Prefix  string `json:"prefix"`
	File    string `json:"file"` // of the balance
}

const (
	lockName = "balance"
	// validity is how long a lock outlives a holder that has died. The default of 5 s would make a tedious show.
	validity = 2 * time.Second
	// lifetime bounds a process that everything else has failed to end.
	lifetime = time.Minute
	// workTime is how long adding 1 to the balance takes.
	workTime = 50 * time.Millisecond
	// breath is how long a process leaves the lock alone after it had it.
	breath = 50 * time.Millisecond
)

// process is one of the three, seen from inside.
type process struct {
	role
	locker ctxlock.Locker

	mu  sync.Mutex
	out *json.Encoder // under mu
}

// play is the whole life of one of the three processes. It ends when its stdin does, so never long after its parent.
func play(roleText string, in io.Reader, out io.Writer) error {
	signal.Ignore(os.Interrupt) // Ctrl-C in a terminal reaches every process; the parent tells this one what to do
	ctx, end := context.WithTimeout(context.Background(), lifetime)
	defer end()
	p := &process{out: json.NewEncoder(out)}
	if err := json.Unmarshal([]byte(roleText), &p.role); err != nil {
		return fmt.Errorf("%s: %w", roleEnv, err)
	}
	option, err := clientOption(p.Server)
	if err != nil {
		return err
	}
	option.InitAddress = []string{p.Address}
	p.locker, err = ctxlock.NewLocker(ctxlock.LockerOption{
		ClientOption: option,
		KeyPrefix:    p.Prefix,
		KeyValidity:  validity,
		KeyMajority:  1, // there is one server
	})
	if err != nil {
		return err
	}
	defer p.locker.Close()

	orders := make(chan order, 16) // room for what one scene asks, so that the end of stdin is always seen
	go func() {
		defer end()
		for from := json.NewDecoder(in); ; {
			var o order
			if from.Decode(&o) != nil {
				return
			}
			orders <- o
		}
	}()
	p.tell(event{At: now(), What: connected, PID: os.Getpid()})
	for {
		select {
		case o := <-orders:
			if err := p.obey(ctx, o); err != nil && ctx.Err() == nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// tell sends an event to the parent. That it cannot means that there is none, and then stdin ends as well.
func (p *process) tell(e event) {
	e.Process = p.Process
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.out.Encode(e)
}

// obey takes the lock once and works under it.
func (p *process) obey(ctx context.Context, o order) error {
	take := p.locker.WithContext
	if o.Force {
		take = p.locker.ForceWithContext
	}
	p.tell(event{At: now(), What: waits, Force: o.Force})
	held, release, err := take(ctx, lockName)
	if err != nil {
		return err
	}
	w := newWatch(held)
	p.tell(event{At: w.start, What: holds})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		p.tell(w.untilEnd())
	}()

	err = p.work(held, o.Times)
	if o.Keep && err == nil {
		<-held.Done()
	}
	w.look() // a stamp from just before
	release()
	<-watched
	time.Sleep(breath)
	return err
}

// work adds 1 to the balance, so many times, or until the context ends. Reading and writing are well apart, so that two who
// were at it at once would lose one of their additions. Checking the context and then writing takes no longer than the lock's
// margin (some 100 ms here): that is what makes the check enough.
func (p *process) work(ctx context.Context, times int) error {
	for n := 0; n < times || times == endless; n++ {
		balance, err := readBalance(p.File)
		if err != nil {
			return err
		}
		select {
		case <-time.After(workTime):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := writeBalance(p.File, p.Process, balance+1); err != nil {
			return err
		}
		p.tell(event{At: now(), What: added, Balance: balance + 1})
	}
	return nil
}

func readBalance(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

// writeBalance replaces the file at once: a reader who must not be there shall find a wrong balance, not half of one.
func writeBalance(file, by string, balance int) error {
	if err := os.WriteFile(file+by, []byte(strconv.Itoa(balance)), 0o600); err != nil {
		return err
	}
	return os.Rename(file+by, file)
}
