package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// beside is what a client does beside its rounds, on other names, until the run ends. It is judged
// within the process, which sees both ends of what it does. What is wrong is said in words.
type beside string

const (
	mingling        beside = "calls of every kind"               // ours alone
	minglingLenient beside = "calls of every kind, among faults" // which excuse calls that fail
	racing          beside = "force beside claims"
	bustling        beside = "requests beside cancellations"
)

// beside ends with run.
func (c *client) beside(run context.Context, what beside, number int) {
	random := rand.New(rand.NewPCG(c.Seed, 1000+uint64(number)))
	b := &bystander{client: c, random: random, said: make(map[string]bool), referee: newReferee()}
	var all sync.WaitGroup
	defer all.Wait()
	switch what {
	case mingling, minglingLenient:
		b.lenient = what == minglingLenient
		for i := range minglers {
			all.Go(func() { newMingler(b, i).run(run) })
		}
	case racing:
		all.Go(func() { b.race(run) })
	case bustling:
		b.bustle(run, &all)
	}
}

// bystander is what those have in common that do something beside.
type bystander struct {
	*client
	random  *rand.Rand
	lenient bool
	referee *referee

	mu   sync.Mutex // for what follows, and random
	said map[string]bool
}

// blame says that a call did wrong. What was said before is not said again.
func (b *bystander) blame(format string, args ...any) {
	b.blameOnce(fmt.Sprintf(format, args...), format, args...)
}

// blameOnce says one thing of each kind.
func (b *bystander) blameOnce(kind, format string, args ...any) {
	b.mu.Lock()
	again := b.said[kind] || len(b.said) >= mostBlames
	b.said[kind] = true
	b.mu.Unlock()
	if !again {
		b.say(note{What: blames, Error: fmt.Sprintf(format, args...)})
	}
}

// mostBlames keep an outcome readable.
const mostBlames = 8

// roll gives a number below n.
func (b *bystander) roll(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.random.IntN(n)
}

// draw gives a time from a span.
func (b *bystander) draw(from, to time.Duration) time.Duration {
	return from + time.Duration(b.roll(int(to-from)))
}

// sleep ends with ctx.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// referee sees to it that of two calls that have returned with one name, at most one context lives.
type referee struct {
	mu   sync.Mutex
	held map[string][]alive
}

// alive is what is held, as its holder sees it.
type alive interface{ Alive() bool }

// living is a context as the referee sees it.
type living struct{ context.Context }

func (l living) Alive() bool { return l.Err() == nil }

func newReferee() *referee { return &referee{held: make(map[string][]alive)} }

// returned is told of each call that got something, and reports whether something else of that
// name is alive, too. Both calls have returned, and no context comes back to life: the other is
// looked at first, so both were alive at that moment.
func (f *referee) returned(name string, got alive) (twice bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	living := []alive{got}
	for _, other := range f.held[name] {
		if !other.Alive() {
			continue
		}
		living = append(living, other)
		twice = twice || got.Alive()
	}
	f.held[name] = living
	return twice
}

// forcer is a Locker that tries, and takes the lock from its holder.
type forcer interface {
	Locker
	Try(ctx context.Context, name string) (Holding, error)
	Force(ctx context.Context, name string) (Holding, error)
}

// claim is a call that takes the lock if it is free, or will be.
type claim func(ctx context.Context, name string) (Holding, error)

// races are how many there are of each kind.
const races = 400

// race has a forced claim meet another claim of the same Locker, again and again. When both have
// returned, at most one of the two is alive.
func (b *bystander) race(run context.Context) {
	f, ok := b.locker.(forcer)
	if !ok {
		b.blame("%s has no force", b.Library)
		return
	}
	for i, kind := range []struct {
		name  string
		claim claim
	}{{"Try", f.Try}, {"a wait", f.Lock}} {
		twice, met, failed := 0, 0, error(nil)
		for n := 0; n < races && run.Err() == nil; n++ {
			switch alive, err := b.meet(f, kind.claim, fmt.Sprint("raced ", b.Client, " ", i, " ", n)); {
			case err != nil:
				failed = err
			default:
				met++
				if alive > 1 {
					twice++
				}
			}
		}
		if twice > 0 {
			b.blame("two contexts alive after %s beside Force, %d of %d times", kind.name, twice, met)
		}
		if failed != nil {
			b.blame("Force beside %s: %v", kind.name, failed)
		}
	}
	b.forceInVain(f)
}

// raceOver is far longer than a claim takes that does not wait.
const raceOver = 50 * time.Millisecond

// meet is one race, and tells how many are alive after it. An error is that of the forced claim: the
// other may find the lock held.
func (b *bystander) meet(f forcer, claim claim, name string) (alive int, err error) {
	claimer, cancel := context.WithCancel(context.Background())
	defer cancel()
	forcing, stop := context.WithTimeout(context.Background(), leaving)
	defer stop()
	lead := b.draw(-500*time.Microsecond, 500*time.Microsecond)
	claimed := make(chan Holding, 1)
	go func() {
		time.Sleep(-lead)
		h, _ := claim(claimer, name)
		claimed <- h
	}()
	time.Sleep(lead)
	forced, err := f.Force(forcing, name)
	var other Holding
	select {
	case other = <-claimed:
	case <-time.After(raceOver): // it waits for the forced one to end
		cancel()
		other = <-claimed
	}
	for _, h := range []Holding{other, forced} {
		if h != nil && h.Alive() {
			alive++
		}
	}
	for _, h := range []Holding{other, forced} {
		if h != nil {
			_ = h.Release() // one of the two is lost
		}
	}
	return alive, err
}

// forceInVain has force fail before anything was sent. A holder of the same Locker must not feel it.
func (b *bystander) forceInVain(f forcer) {
	name := fmt.Sprint("forced in vain ", b.Client)
	h, err := f.Try(context.Background(), name)
	if err != nil {
		b.blame("Try of a free name: %v", err)
		return
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if forced, err := f.Force(over, name); err == nil {
		b.blame("Force under a context that has ended got the lock")
		_ = forced.Release()
	}
	if !h.Alive() {
		b.blame("a Force that failed has ended its holder: %v", h.Cause())
	}
	_ = h.Release()
}
