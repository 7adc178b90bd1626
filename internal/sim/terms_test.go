package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ctxlock/ctxlock"
)

// call is WithContext, TryWithContext or ForceWithContext of a locker, or what comes to the same.
type call func(context.Context, string) (context.Context, context.CancelFunc, error)

// call is the drop-in call, or Acquire where the plan asks for what only that can do.
func (w *worker) call(mode ctxlock.Mode, dropIn call) call {
	if !w.plan.fenced && !w.plan.varied {
		return dropIn
	}
	option := w.terms()
	option.Mode = mode
	locker := w.current()
	byHand := w.byHand()
	return func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
		held, lock, err := locker.Acquire(ctx, name, option)
		if err != nil {
			return held, func() {}, err
		}
		return held, w.keep(lock, option, byHand), nil
	}
}

// terms draws the terms of one lock.
func (w *worker) terms() ctxlock.AcquireOption {
	option := ctxlock.AcquireOption{Fencing: w.plan.fenced}
	if w.plan.varied {
		option.NoExtend = w.random.IntN(3) == 0
		option.Validity = oneOf(w.random, 0, 0, w.plan.locker.KeyValidity/2, 2*w.plan.locker.KeyValidity)
		option.Metadata = oneOf(w.random, "", "", "metadata")
	}
	return option
}

// byHand draws how a lock is extended that nobody else extends: in turns of so long, by KeepExtended if that is 0, or not at all.
func (w *worker) byHand() (turn time.Duration) {
	if !w.plan.varied {
		return 0
	}
	return oneOf(w.random, -1, 0, w.plan.locker.KeyValidity/8, w.plan.locker.KeyValidity/3)
}

// keep has a lock extended that was taken to be extended by hand. What it returns gives the lock back.
func (w *worker) keep(lock *ctxlock.Lock, option ctxlock.AcquireOption, turn time.Duration) context.CancelFunc {
	release := func() { _ = lock.Release(context.Background()) }
	if !option.NoExtend || turn < 0 {
		return release
	}
	if turn == 0 {
		stop := lock.KeepExtended(nil)
		return func() {
			release()
			stop()
		}
	}
	validity := max(option.Validity, w.plan.locker.KeyValidity/2)
	w.workers.Go(func() {
		for w.pause(turn) && lock.Valid() {
			ctx, cancel := context.WithTimeout(context.Background(), turn)
			err := lock.Extend(ctx, validity)
			cancel()
			w.trace.add(w.who, lock.Name(), "extends by %v: %v", validity, err)
		}
	})
	return release
}

// takeAll takes several locks as one, in any order.
func (w *worker) takeAll(patience time.Duration) {
	var names []string
	for _, i := range w.random.Perm(w.plan.names) {
		names = append(names, nameOf(i))
	}
	names = names[:1+w.random.IntN(len(names))]
	option, locker := w.terms(), w.current()
	option.NoExtend = false
	after := make(map[string]int64)
	for _, name := range names {
		after[name] = w.checker.lastToken(name)
	}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	what := fmt.Sprint("all of ", names)
	w.trace.add(w.who, "", "wait for %s", what)
	start := time.Now()
	held, lock, err := locker.AcquireAll(ctx, names, option)
	w.judgeCall("wait for "+what, "", time.Since(start), patience+letGo, err)
	if err != nil {
		return
	}
	w.trace.add(w.who, "", "has %s", what)
	for _, each := range lock.Each() {
		if !slices.Contains(names, each.Name()) {
			w.checker.blame("", "%s asked for %s and has %s", w.who, what, each.Name())
		}
		w.checker.begin(w.who, each.Name(), held)
		if w.plan.fenced {
			w.checker.token(w.who, each.Name(), held, each.Token(), after[each.Name()])
		}
	}
	w.hold("", held, stop, func() { _ = lock.Release(context.Background()) })
}

// letGo is how long it may take to give back what was held when a call for several locks is given up.
const letGo = 3 * time.Second
