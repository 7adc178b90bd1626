package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// act is what the goroutines of a crowd do over and over.
type act int

const (
	wait act = iota // Lock and unlock
	try             // TryLock on a free name and unlock
	fail            // TryLock on a name that another locker holds
)

// crowd is a number of lockers with a number of goroutines each, which all do the same.
type crowd struct {
	lockers    int
	goroutines int  // of each locker
	oneName    bool // all on one name, not each goroutine on its own
	act        act
}

// round is what one contender did in one round.
type round struct {
	usage usage
	ops   []int // by goroutine
	// handoffs are the ops before which another had the lock. Whoever asks again at once mostly gets it again where there is no queue.
	handoffs int
	waits    histogram // how long acquiring took
	seen     trouble

	memory, goroutines float64 // a lock, where many are held
	noRate             bool    // ops over time says nothing
	brief              bool    // not even a perfect queue could have let each have several turns
}

// trouble is what should not happen.
type trouble struct {
	violations int // two held one lock
	failures   int // calls that returned an error
	stuck      int // goroutines that did not end with their context
	err        error
}

// stage is where a round has got to.
type stage struct{ atomic.Int32 }

const (
	warming int32 = iota
	measuring
	over
)

// grace is what goroutines get to end in once their context has; after that they are left behind.
const grace = 3 * time.Second

// run has one contender do one round.
func (c crowd) run(who Contender, on bench, name string) (*round, error) {
	if c.oneName && c.act == wait {
		on.site.crowd = c.lockers * c.goroutines
	}
	lockers, err := openAll(who, on.site, c.lockers)
	if err != nil {
		return nil, err
	}
	defer closeAll(lockers)
	if c.act == fail {
		release, err := holdElsewhere(who, on.site, name)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	runtime.GC()
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	workers, at := c.staff(lockers, name)
	var group sync.WaitGroup
	for _, w := range workers {
		group.Go(func() { w.work(ctx, c.act, at) })
	}
	time.Sleep(on.warm)
	before := on.meter.read()
	before.at = time.Now() // on a busy machine the servers take a while to tell
	at.Store(measuring)
	time.Sleep(on.length)
	at.Store(over)
	after := on.meter.read()
	pending := pendingAt(workers, after.at)
	cancel()
	await(&group, grace)
	r := gather(workers, pending)
	c.judge(r, on)
	r.usage = on.meter.between(before, after)
	return r, nil
}

// turnsWanted is how often each must have been able to get the lock for a round to tell how fairly it was given.
const turnsWanted = 4

// judge takes out what says nothing in this crowd.
func (c crowd) judge(r *round, on bench) {
	if !c.oneName || c.act != wait {
		r.handoffs = -1
	}
	// Among processes a lock can hardly change hands more than once in a round trip.
	turns := time.Duration(turnsWanted * len(r.ops))
	r.brief = c.oneName && c.act == wait && turns*on.site.roundTrip > on.length && sum(r.ops) < int(turns)
	if c.act == fail { // how processors are divided among goroutines that do not wait is not the library's doing
		r.ops = []int{sum(r.ops)}
	}
}

// staff makes the workers, goroutine by goroutine of each locker.
func (c crowd) staff(lockers []Locker, name string) ([]*worker, *stage) {
	var workers []*worker
	common := &guard{}
	for l, locker := range lockers {
		for g := range c.goroutines {
			w := &worker{locker: locker, name: name, guard: common}
			if !c.oneName {
				w.name, w.guard = fmt.Sprintf("%s/%d/%d", name, l, g), &guard{}
			}
			workers = append(workers, w)
		}
	}
	return workers, &stage{}
}

// guard watches over one name.
type guard struct {
	inside     atomic.Int32
	violations atomic.Int32
	last       atomic.Pointer[worker]
}

// enter tells whether the last one was another.
func (g *guard) enter(w *worker) (handedOver bool) {
	if g.inside.Add(1) != 1 {
		g.violations.Add(1)
	}
	return g.last.Swap(w) != w
}

func (g *guard) leave() { g.inside.Add(-1) }

// worker is one goroutine.
type worker struct {
	locker Locker
	name   string
	guard  *guard

	ops      atomic.Int64
	handoffs atomic.Int64 // those before which another had the lock
	waiting  atomic.Int64 // since when it waits, in Unix nanoseconds; 0: it does not
	failures atomic.Int64
	ended    atomic.Bool

	waits   histogram // readable once it has ended
	failure error     // likewise
}

func (w *worker) work(ctx context.Context, a act, at *stage) {
	defer w.ended.Store(true)
	for at.Load() != over {
		start := time.Now()
		w.waiting.Store(start.UnixNano())
		unlock, err := w.acquire(ctx, a)
		took := time.Since(start)
		w.waiting.Store(0)
		if err != nil {
			w.failed(ctx, err)
			continue
		}
		if at.Load() == measuring {
			w.ops.Add(1)
			w.waits.add(took)
		}
		if unlock != nil {
			if w.guard.enter(w) && at.Load() == measuring {
				w.handoffs.Add(1)
			}
			w.guard.leave()
			unlock()
		}
	}
}

// acquire does what the act says. Where failing is the act, that is what succeeds, and there is nothing to unlock.
func (w *worker) acquire(ctx context.Context, a act) (unlock func(), err error) {
	if a == wait {
		return w.locker.Lock(ctx, w.name)
	}
	unlock, err = w.locker.TryLock(ctx, w.name)
	if a == try {
		return unlock, err
	}
	switch {
	case errors.Is(err, errHeld):
		return nil, nil
	case err == nil:
		w.guard.violations.Add(1)
		unlock()
		return nil, errors.New("a try succeeded on a name that is held")
	}
	return nil, err
}

// failed notes an error, unless the round is over. The pause keeps a library that fails at once from being all that runs.
func (w *worker) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	w.failures.Add(1)
	w.failure = err
	time.Sleep(time.Millisecond)
}
