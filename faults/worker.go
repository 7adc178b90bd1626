package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
)

// worker reads, modifies and writes the shared state under the lock, again and again. It is the user that all documentation asks for: it
// writes only if it has just seen that its holding is alive.
type worker struct {
	*client
	number  int
	random  *rand.Rand
	answers chan order // the lab answers one question after the other
	busy    atomic.Bool

	mu      sync.Mutex
	cancel  context.CancelFunc // of the present caller
	waiting bool
}

// glance is how often a worker looks whether its holding is alive.
const glance = time.Millisecond

// run ends with ctx, after the round that is under way.
func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.busy.Store(true)
		r := w.round(ctx)
		w.busy.Store(false)
		w.say(note{What: rounds, Worker: w.number, Round: &r})
		pause := time.Duration(w.random.Int64N(int64(10 * time.Millisecond)))
		if !r.Held() {
			pause += 20 * time.Millisecond // it could not be had: do not flood the history
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// round is one way through the lock.
func (w *worker) round(run context.Context) history.Round {
	caller, cancel := w.newCaller(run)
	defer cancel()
	r := history.Round{Client: w.Client, Worker: w.number, Asked: monotonic()}
	w.say(note{What: asks, Worker: w.number, At: r.Asked})
	h, err := w.locker.Lock(caller, w.Name)
	if err != nil {
		r.Error, r.Over = err.Error(), monotonic()
		return r
	}
	r.Got = monotonic()
	w.acquired()
	r.Token = h.Token()
	w.modify(caller, h, &r)
	r.Free = monotonic()
	if err := h.Release(); err != nil && r.Error == "" {
		r.Error = "release: " + err.Error()
	}
	r.Freed = monotonic()
	return r
}

// modify is what is done under the lock.
func (w *worker) modify(caller context.Context, h Holding, r *history.Round) {
	state := w.ask(note{What: reads, Token: r.Token})
	if !w.work(caller, h, r, state.Work) {
		r.Lost, r.Over = true, monotonic()
		if cause := h.Cause(); cause != nil {
			r.Error = cause.Error()
		}
		return
	}
	write := state.Read
	write.Checked = r.Alive
	w.ask(note{What: acts})
	said := w.ask(note{What: writes, Token: r.Token, Write: write})
	write.Acked, write.Applied, write.Refused = monotonic(), said.Write.Applied, said.Write.Refused
	r.Write = &write
}

// work takes its time, and reports whether the holding was alive all along. A caller's end is not the work's: that takes a while to unwind.
func (w *worker) work(caller context.Context, h Holding, r *history.Round, d time.Duration) bool {
	deadline := monotonic() + int64(d)
	for caller.Err() == nil {
		now := monotonic()
		if !h.Alive() {
			if caller.Err() != nil { // which came first, and ended the holding
				break
			}
			return false
		}
		r.Alive = now
		if now >= deadline {
			return true
		}
		time.Sleep(min(glance, time.Duration(deadline-now)))
	}
	time.Sleep(w.Unwinding)
	r.Alive, r.Unwound = monotonic(), true
	return true
}

// ask has the lab answer a question.
func (w *worker) ask(n note) order {
	n.Worker = w.number
	w.say(n)
	return <-w.answers
}

// newCaller is the context of the next call. It does not end with the run while the worker holds the lock: that round shall end in peace.
func (w *worker) newCaller(run context.Context) (context.Context, context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.waiting = cancel, true
	if run.Err() != nil {
		cancel()
	}
	return ctx, cancel
}

func (w *worker) acquired() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = false
}

// cancelCaller ends the context of a call; of those that wait only, if so desired.
func (w *worker) cancelCaller(waitingOnly bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil && (w.waiting || !waitingOnly) {
		w.cancel()
	}
}
