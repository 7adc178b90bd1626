package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock"
)

// watch finds out when the context of a lock ended, as closely as can be seen from outside. No stamp can be taken at that very
// moment, so it takes two: the last at which the context was alive for certain, and the first at which it had ended for certain.
// An overlap of what was alive for certain is one, however busy the machine was.
type watch struct {
	ctx   context.Context
	start time.Duration

	mu    sync.Mutex
	alive time.Duration // the last moment at which it was; under mu
}

const (
	// watchEvery is how closely a context is watched that nobody here ends.
	watchEvery = time.Millisecond
	// stoppedFor is how long there is no look at a context only if the whole process was not let run.
	stoppedFor = 20 * time.Millisecond
)

func newWatch(ctx context.Context) *watch {
	start := now()
	return &watch{ctx: ctx, start: start, alive: start}
}

// look takes a stamp and reports whether the context was alive at it: it still was afterwards. It asks Done, which depends on
// nothing but the context itself to end it. A process that was stopped may run before its timers do, and has to ask Err, which
// looks at the clock.
func (w *watch) look() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := now()
	if at-w.alive > stoppedFor && w.ctx.Err() != nil {
		return false
	}
	select {
	case <-w.ctx.Done():
		return false
	default:
		w.alive = at
		return true
	}
}

// untilEnd waits for the end of the context and describes it.
func (w *watch) untilEnd() event {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for w.look() {
		select {
		case <-ticker.C:
		case <-w.ctx.Done():
		}
	}
	at := now()
	how, reason := endingOf(context.Cause(w.ctx))
	w.mu.Lock()
	defer w.mu.Unlock()
	return event{At: at, What: ended, Alive: w.alive, How: how, Text: reason}
}

// endingOf tells how a holding ended by the cause of its context, and in ctxlock's own words.
func endingOf(cause error) (how ending, reason string) {
	var lost *ctxlock.LostError
	switch {
	case errors.Is(cause, ctxlock.ErrReleased):
		return released, ""
	case errors.As(cause, &lost) && lost.Reason == ctxlock.Expired:
		return linkLost, string(lost.Reason)
	case errors.As(cause, &lost) && lost.Reason == ctxlock.Taken:
		return byForce, string(lost.Reason)
	}
	return odd, cause.Error()
}
