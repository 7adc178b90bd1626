package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// processes are the names of the three.
var processes = []string{"A", "B", "C"}

const (
	// sceneTime bounds whatever is waited for. Each takes a second or two.
	sceneTime = 10 * time.Second
	// leaveTime is how long processes may take to end before they are killed: a Locker needs a few seconds to close if it
	// cannot reach its server.
	leaveTime = 4 * time.Second
	// settleTime is how long an event waits to be shown, so that one which happened earlier and arrives later comes first.
	settleTime = 20 * time.Millisecond
)

// stage is where the scenes are played: the server, the three processes, and what was heard of them. One goroutine uses it,
// except for send.
type stage struct {
	server  *server
	account *account
	dir     string // of the balance
	role    role   // what the processes have in common

	proxies  map[string]*lab.Proxy
	children map[string]*child
	leaving  map[string]bool // those whose end is no surprise

	events chan event
	over   chan struct{} // closed by close: nobody listens any more

	history []event        // all that has happened
	shown   int            // how many of history the account has told
	orders  map[string]int // orders that have not been carried out
	sums    map[string]int // additions under the present lock, or the last
	waiting map[string]bool
	holding map[string]bool // as many as say so: the stage does not judge
}

// newStage starts the processes and returns when all are connected. The stage closes the server with itself.
func newStage(ctx context.Context, srv *server, acc *account, prefix string) (*stage, error) {
	s := &stage{
		server: srv, account: acc,
		proxies: make(map[string]*lab.Proxy), children: make(map[string]*child), leaving: make(map[string]bool),
		events: make(chan event, 1024), over: make(chan struct{}),
		orders: make(map[string]int), sums: make(map[string]int),
		waiting: make(map[string]bool), holding: make(map[string]bool),
	}
	if err := s.furnish(prefix); err != nil {
		return s, err
	}
	for _, name := range processes {
		proxy, err := lab.NewProxy(srv.address)
		if err != nil {
			return s, err
		}
		s.proxies[name] = proxy
		if err := s.start(name); err != nil {
			return s, err
		}
	}
	return s, s.until(ctx, "the processes to connect", func() bool { return s.count(connected) == len(processes) })
}

// furnish makes the file that the processes work on.
func (s *stage) furnish(prefix string) (err error) {
	if s.dir, err = os.MkdirTemp("", "ctxlock-demo-"); err != nil {
		return err
	}
	s.role = role{Server: s.server.name, Prefix: prefix, File: filepath.Join(s.dir, "balance")}
	return writeBalance(s.role.File, "new", 0)
}

// start starts a process, for the first time or again.
func (s *stage) start(name string) error {
	r := s.role
	r.Process, r.Address = name, s.proxies[name].Addr()
	c, err := startChild(s, r)
	if err != nil {
		return err
	}
	s.children[name] = c
	delete(s.leaving, name)
	return nil
}

// close ends everything that was started and removes the file. It is bounded in time.
func (s *stage) close() {
	close(s.over)
	for _, p := range s.proxies {
		p.Heal() // so that they can give back what they hold
	}
	for _, c := range s.children {
		c.leave()
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTime)
	defer cancel()
	for _, c := range s.children {
		c.end(ctx)
	}
	for _, p := range s.proxies {
		p.Close()
	}
	s.server.close()
	_ = os.RemoveAll(s.dir)
}

// send passes an event to the stage, for as long as there is one.
func (s *stage) send(e event) {
	select {
	case s.events <- e:
	case <-s.over:
	}
}

// until notes and shows events until done says that it is enough.
func (s *stage) until(ctx context.Context, what string, done func() bool) error {
	late := time.After(sceneTime)
	tick := time.NewTicker(settleTime / 4)
	defer tick.Stop()
	for !done() {
		select {
		case e := <-s.events:
			if err := s.note(e); err != nil {
				return err
			}
		case <-tick.C:
			s.show(now() - settleTime)
		case <-late:
			return fmt.Errorf("waited in vain for %s", what)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// pause lets things happen for a while.
func (s *stage) pause(ctx context.Context, d time.Duration) error {
	end := now() + d
	return s.until(ctx, "time to pass", func() bool { return now() >= end })
}

// note takes an event into the history.
func (s *stage) note(e event) error {
	switch e.What {
	case waits:
		s.waiting[e.Process] = true
	case holds:
		s.waiting[e.Process] = false
		s.holding[e.Process] = true
		s.sums[e.Process] = 0
	case added:
		s.sums[e.Process]++
	case ended:
		s.orders[e.Process]--
		s.holding[e.Process] = false
	case killed:
		s.orders[e.Process] = 0
		s.holding[e.Process] = false
	case exited:
		if !s.leaving[e.Process] {
			return fmt.Errorf("process %s has ended unasked: %s", e.Process, e.Text)
		}
	}
	s.history = append(s.history, e)
	return nil
}

// show tells what happened up to a time, in the order in which it did.
func (s *stage) show(upTo time.Duration) {
	fresh := s.history[s.shown:]
	slices.SortStableFunc(fresh, byMoment)
	for _, e := range fresh {
		if e.moment() > upTo {
			break
		}
		s.account.tell(e)
		s.shown++
	}
}

func (s *stage) count(w what) (n int) {
	for _, e := range s.history {
		if e.What == w {
			n++
		}
	}
	return n
}

// did notes what the parent has done.
func (s *stage) did(w what, process, text string) {
	s.history = append(s.history, event{At: now(), Process: process, What: w, Text: text})
}

// others tells whether any but one process holds the lock.
func (s *stage) others(name string) bool {
	for _, other := range processes {
		if other != name && s.holding[other] {
			return true
		}
	}
	return false
}

// order tells a process to take the lock once.
func (s *stage) order(name string, o order) error {
	s.orders[name]++
	return s.children[name].order(o)
}

// idle waits until all have done what they were told.
func (s *stage) idle(ctx context.Context) error {
	return s.until(ctx, "all to have had the lock", func() bool {
		return s.orders["A"] == 0 && s.orders["B"] == 0 && s.orders["C"] == 0
	})
}

// working waits until a process has the lock and has added to the balance so many times.
func (s *stage) working(ctx context.Context, name string, times int) error {
	return s.until(ctx, name+" to work", func() bool { return s.holding[name] && s.sums[name] >= times })
}

// kill ends a process as a crash would.
func (s *stage) kill(name string) error {
	s.leaving[name] = true
	alive, dead := s.children[name].kill()
	for len(s.events) > 0 { // its last words are among them
		if err := s.note(<-s.events); err != nil {
			return err
		}
	}
	return s.note(event{At: dead, Alive: alive, Process: name, What: killed, How: byKill})
}

// stall holds up all that goes to the server and back. Nothing is refused and nothing is cut: it just does not arrive.
func (s *stage) stall(name string) {
	s.proxies[name].Stall(lab.Both)
	s.did(stalled, name, "")
}

func (s *stage) heal(name string) {
	s.did(healed, name, "")
	s.proxies[name].Heal()
}

// leave has all processes end and waits until they have.
func (s *stage) leave(ctx context.Context) error {
	for name, c := range s.children {
		s.leaving[name] = true
		c.leave()
	}
	gone := func() bool {
		for _, c := range s.children {
			select {
			case <-c.done:
			default:
				return false
			}
		}
		return len(s.events) == 0
	}
	if err := s.until(ctx, "the processes to end", gone); err != nil {
		return err
	}
	return s.badExit()
}

// badExit finds a process that did not end as it should have.
func (s *stage) badExit() error {
	for name, c := range s.children {
		if state := c.cmd.ProcessState; !state.Success() {
			return errors.New("process " + name + " has ended with " + state.String())
		}
	}
	return nil
}
