package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock"
)

// Calls of every kind on a few names, with contexts that end at any time. Within the process it is
// known what came first: of two calls that have returned, at most one holds the name; no call goes on
// when its context has ended; and no error says what is not so.
const (
	minglers     = 12
	minglerNames = 4
	// forcible is how many of the names are also taken by force, or handed over.
	forcible = 2
)

// mingler makes one call after the other.
type mingler struct {
	*bystander
	locks  ctxlock.Locker
	random *rand.Rand // its own
}

func newMingler(b *bystander, number int) *mingler {
	m := &mingler{bystander: b, random: rand.New(rand.NewPCG(b.Seed, 2000+uint64(number)))}
	m.locks = b.locker.(ourLocker).Locker // others have no such calls
	return m
}

// run ends with ctx, after the call that is under way.
func (m *mingler) run(ctx context.Context) {
	for ctx.Err() == nil {
		m.step(ctx)
		sleep(ctx, m.span(3*time.Millisecond))
	}
}

func (m *mingler) span(most time.Duration) time.Duration {
	return time.Duration(m.random.Int64N(int64(most)))
}

// caller is the context of one call: one with a deadline, one that is cancelled, or a patient one.
// All end with the run at last.
func (m *mingler) caller(run context.Context) (context.Context, context.CancelFunc) {
	switch m.random.IntN(4) {
	case 0:
		return context.WithTimeout(run, m.span(20*time.Millisecond))
	case 1:
		ctx, cancel := context.WithCancel(run)
		late := time.AfterFunc(m.span(20*time.Millisecond), cancel)
		return ctx, func() { late.Stop(); cancel() }
	}
	return context.WithTimeout(run, validity)
}

// call is one that is made of a Locker.
type call struct {
	what  string
	ctx   context.Context
	names []string
	// option is what it was called with; the zero one for the drop-in calls.
	option ctxlock.AcquireOption
}

// step is one call, and what follows from it.
func (m *mingler) step(run context.Context) {
	ctx, cancel := m.caller(run)
	defer cancel()
	n := m.random.IntN(minglerNames)
	c := call{ctx: ctx, names: []string{mingled(m.Client, n)}}
	switch kind := m.random.IntN(10); {
	case kind == 0:
		m.look(c)
	case kind == 1:
		m.list(c)
	case kind == 2:
		m.all(c)
	case kind < 6:
		m.dropIn(c, n)
	default:
		m.acquire(c, n)
	}
}

// mingled is a name. A few are shared by all clients, and nobody takes those by force.
func mingled(client, n int) string {
	if n < forcible {
		return fmt.Sprint("forced ", client, " ", n)
	}
	return fmt.Sprint("shared ", n)
}

func (m *mingler) dropIn(c call, n int) {
	calls := []func(context.Context, string) (context.Context, context.CancelFunc, error){
		m.locks.WithContext, m.locks.TryWithContext, m.locks.ForceWithContext}
	kind := m.random.IntN(len(calls))
	if n >= forcible {
		kind = m.random.IntN(2)
	}
	c.what = [...]string{"With", "Try", "Force"}[kind]
	c.option.Mode = ctxlock.Mode(kind)
	m.finish(c, func() (context.Context, *ctxlock.Lock, error) {
		ctx, cancel, err := calls[kind](c.ctx, c.names[0])
		if m.random.IntN(2) == 0 && err == nil {
			defer cancel() // at once: the handle finds it released
		}
		return ctx, ctxlock.FromContext(ctx), err
	})
}

func (m *mingler) acquire(c call, n int) {
	c.option = m.terms()
	if n < forcible {
		switch m.random.IntN(4) {
		case 0:
			c.option.Mode = ctxlock.Force
		case 1:
			if s, err := m.locks.Look(c.ctx, c.names[0]); err == nil {
				c.option.From = s.Value
			}
		}
	}
	c.what = fmt.Sprintf("Acquire (mode %d, from another: %v)", c.option.Mode, c.option.From != "")
	m.finish(c, func() (context.Context, *ctxlock.Lock, error) {
		return m.locks.Acquire(c.ctx, c.names[0], c.option)
	})
}

// terms are what a lock is asked for on, without force.
func (m *mingler) terms() (o ctxlock.AcquireOption) {
	yes := func() bool { return m.random.IntN(3) == 0 }
	if yes() {
		o.Mode = ctxlock.Try
	}
	o.Fencing, o.NoExtend = yes(), yes()
	if yes() {
		o.Metadata = "metadata"
	}
	if yes() {
		o.Value = "value"
	}
	return o
}

// all asks for several names that nobody takes by force.
func (m *mingler) all(c call) {
	c.names = nil
	for n := forcible; n < minglerNames; n++ {
		c.names = append(c.names, mingled(m.Client, n))
	}
	if m.random.IntN(2) == 0 {
		c.option.Mode = ctxlock.Try
	}
	c.what = fmt.Sprintf("AcquireAll (mode %d)", c.option.Mode)
	m.finish(c, func() (context.Context, *ctxlock.Lock, error) {
		return m.locks.AcquireAll(c.ctx, c.names, c.option)
	})
}

func (m *mingler) look(c call) {
	c.what = "Look"
	m.timed(c, func() error {
		_, err := m.locks.Look(c.ctx, c.names[0])
		return err
	})
}

func (m *mingler) list(c call) {
	c.what = "List"
	m.timed(c, func() error {
		for _, err := range m.locks.List(c.ctx) {
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// timed makes a call, and looks at how long it took and what it says.
func (m *mingler) timed(c call, f func() error) error {
	over := make(chan struct{}) // closed when the call has returned
	defer close(over)
	defer context.AfterFunc(c.ctx, func() {
		select {
		case <-over:
		case <-time.After(hanging):
			m.blame("%s goes on %s after its context has ended", c.what, short(hanging))
		}
	})()
	err := f()
	if err != nil && !m.rightly(c, err) {
		m.blame("%s, whose context has ended with %v: %v", c.what, c.ctx.Err(), unnamed(err, c.names...))
	}
	return err
}

// rightly tells whether an error of a call is one that it may have.
func (m *mingler) rightly(c call, err error) bool {
	if c.ctx.Err() != nil && errors.Is(err, c.ctx.Err()) || m.lenient {
		return true
	}
	// Of two forced claims at once one may fail.
	return c.option.Mode != ctxlock.Wait && errors.Is(err, ctxlock.ErrNotLocked)
}

// finish takes a lock, does something with it, and gives it back.
func (m *mingler) finish(c call, take func() (context.Context, *ctxlock.Lock, error)) {
	var ctx context.Context
	var lock *ctxlock.Lock
	err := m.timed(c, func() (err error) {
		ctx, lock, err = take()
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			m.blame("%s failed, and its context lives", c.what)
		}
		return
	}
	for _, name := range c.names {
		if m.referee.returned(name, living{ctx}) {
			kind := strings.Fields(name)[0]
			m.blameOnce(kind, "two contexts of a %s name alive when %s returned", kind, c.what)
		}
	}
	extended := m.use(c, lock)
	m.release(c, lock, extended)
}

// use works for a moment, and may extend the lock, by less even than it had.
func (m *mingler) use(c call, lock *ctxlock.Lock) (extended bool) {
	sleep(c.ctx, m.span(5*time.Millisecond))
	if m.random.IntN(4) > 0 {
		return false
	}
	d := [...]time.Duration{0, validity, validity / 4}[m.random.IntN(3)]
	err := lock.Extend(c.ctx, d)
	if err != nil && lock.Err() == nil && !m.lenient && c.ctx.Err() == nil {
		m.blame("Extend: %v", unnamed(err, c.names...))
	}
	return d == validity/4
}

// release gives the lock back twice, by one caller or by two at once.
func (m *mingler) release(c call, lock *ctxlock.Lock, cut bool) {
	ctx, cancel := context.WithTimeout(context.Background(), releasing)
	defer cancel()
	errs := make([]error, 2)
	var both sync.WaitGroup
	for i := range errs {
		if m.random.IntN(2) == 0 {
			errs[i] = lock.Release(ctx)
			continue
		}
		both.Go(func() { errs[i] = lock.Release(ctx) })
	}
	both.Wait()
	if lock.Valid() {
		m.blame("a lock is valid after its release")
	}
	mayBeLost := m.lenient || cut || c.option.NoExtend || strings.HasPrefix(c.names[0], "forced")
	for _, err := range errs {
		switch {
		case err == nil, errors.Is(err, ctxlock.ErrReleased), m.lenient:
		case errors.Is(err, ctxlock.ErrLost) && mayBeLost:
		default:
			m.blame("Release after %s: %v", c.what, unnamed(err, c.names...))
		}
	}
}

// unnamed is an error without names, of which there are many, so that it is said once.
func unnamed(err error, names ...string) string {
	text := err.Error()
	for _, name := range names {
		text = strings.ReplaceAll(text, name, "…")
	}
	return text
}
