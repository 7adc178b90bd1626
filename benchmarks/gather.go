package main

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// openAll opens many lockers at once, as processes would that start together.
func openAll(who Contender, at site, n int) ([]Locker, error) {
	lockers, failures := make([]Locker, n), make([]error, n)
	slots := make(chan struct{}, 64)
	var group sync.WaitGroup
	for i := range lockers {
		slots <- struct{}{}
		group.Go(func() {
			lockers[i], failures[i] = who.Open(at)
			<-slots
		})
	}
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		for i := range lockers {
			if failures[i] == nil {
				lockers[i].Close()
			}
		}
		return nil, fmt.Errorf("%v: %w", who, err)
	}
	return lockers, nil
}

// closeAll closes them at once, and waits no longer than a library may reasonably take.
func closeAll(lockers []Locker) {
	var group sync.WaitGroup
	for _, l := range lockers {
		group.Go(l.Close)
	}
	await(&group, grace)
}

// await waits for a group, but not for ever: what hangs in a peer must not hang all.
func await(group *sync.WaitGroup, longest time.Duration) bool {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
		return true
	case <-time.After(longest):
		return false
	}
}

// holdElsewhere has a locker of its own hold a name.
func holdElsewhere(who Contender, at site, name string) (release func(), err error) {
	l, err := who.Open(at)
	if err != nil {
		return nil, err
	}
	unlock, err := l.Lock(background, name)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("%v: %w", who, err)
	}
	return func() { unlock(); closeAll([]Locker{l}) }, nil
}

// pendingAt says how long those have waited who wait at a moment.
func pendingAt(workers []*worker, now time.Time) (pending []time.Duration) {
	for _, w := range workers {
		if since := w.waiting.Load(); since != 0 {
			pending = append(pending, now.Sub(time.Unix(0, since)))
		}
	}
	return pending
}

// gather adds up what the workers did. A wait that was not over at the end counts, with what it had lasted, if that is more than the median:
// else a library that lets some wait for ever would look as if nobody waited long.
func gather(workers []*worker, pending []time.Duration) *round {
	r := &round{}
	guards := make(map[*guard]bool)
	for _, w := range workers {
		r.ops = append(r.ops, int(w.ops.Load()))
		r.handoffs += int(w.handoffs.Load())
		r.seen.failures += int(w.failures.Load())
		if !guards[w.guard] {
			guards[w.guard] = true
			r.seen.violations += int(w.guard.violations.Load())
		}
		if !w.ended.Load() {
			r.seen.stuck++
			continue
		}
		r.waits.merge(&w.waits)
		if r.seen.err == nil {
			r.seen.err = w.failure
		}
	}
	half := r.waits.quantile(0.5)
	for _, d := range pending {
		if d > half {
			r.waits.add(d)
		}
	}
	return r
}
