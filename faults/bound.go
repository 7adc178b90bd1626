package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
)

// bound is what theory allows in a row, if the library is as live as ctxlock promises. A field that
// is zero bounds nothing.
type bound struct {
	// free is how long nobody may have the lock though a client waits that can be served.
	free time.Duration
	// inAll has free be the bound of all such times together, and not of the longest.
	inAll bool
	// late is how long a client that can be served may wait beyond its turn.
	late time.Duration
	// share is how many holdings the busiest of clients alike may have for each of the idlest's.
	share float64
	// why says what is in it besides a validity and some round trips.
	why string
}

// What a bound is made of, besides a validity.
const (
	// looking is how long a waiter may take to look when a key has run out: not all come at once.
	looking = 150 * time.Millisecond
	// busyMachine is for some round trips, a new connection, and eight runs on two cores.
	busyMachine = 500 * time.Millisecond
)

var (
	// oneValidity is the bound of most rows: what holders, waiters and links suffer costs at most
	// what a key lives.
	oneValidity = alike(validity + looking + busyMachine)
	// roundTrips is that of rows in which no holder and no handoff is lost, so that no key has to
	// run out.
	roundTrips = alike(busyMachine)
)

func alike(d time.Duration) bound { return bound{free: d, late: d} }

// plus is for what the fault itself takes.
func (b bound) plus(takes time.Duration, why string) bound {
	b.free, b.late, b.why = b.free+takes, b.late+takes, why
	return b
}

// lateBy is for what adds to waits alone.
func (b bound) lateBy(more time.Duration, why string) bound {
	b.late, b.why = b.late+more, why
	return b
}

// inAnyOrder is for servers on which there is no queue: no wait is bounded by turns.
func (b bound) inAnyOrder() bound {
	b.late, b.why = 0, "no queue"
	return b
}

// sharing bounds shares as well.
func (b bound) sharing(share float64) bound {
	b.share = share
	return b
}

// together bounds all vacancies together.
func (b bound) together() bound {
	b.inAll = true
	return b
}

// What the busiest may have for each that the idlest has.
const (
	evenly = 2.0
	tenth  = 19.0 // where the idlest of eight shall have a tenth of an equal share
)

// unbounded is for rows in which clients are turned away for good, or take the lock from each other.
var unbounded = bound{}

// vacancy is what free bounds.
func (b bound) vacancy(l history.Liveness) time.Duration {
	if b.inAll {
		return l.Idle
	}
	return l.Free
}

// exceeded says what is beyond the bound.
func (b bound) exceeded(l history.Liveness) (wrong []string) {
	if free := b.vacancy(l); b.free > 0 && free > b.free {
		wrong = append(wrong, fmt.Sprintf("free for %s (%s at most)", short(free), short(b.free)))
	}
	if b.late > 0 && l.Late > b.late {
		wrong = append(wrong,
			fmt.Sprintf("a wait %s beyond its turn (%s at most)", short(l.Late), short(b.late)))
	}
	if b.share > 0 && l.Share() > b.share && l.Busiest-l.Idlest > fewHoldings {
		wrong = append(wrong,
			fmt.Sprintf("shares as %d to %d (%s at most)", l.Busiest, l.Idlest, ratio(b.share)))
	}
	return wrong
}

// fewHoldings are no base for a ratio.
const fewHoldings = 5

// ratio is a share in words.
func ratio(share float64) string {
	switch {
	case math.IsInf(share, 1):
		return "∞"
	case share >= 10:
		return fmt.Sprintf("%.0f", share)
	}
	return fmt.Sprintf("%.1f", share)
}

// String is the bound for the page.
func (b bound) String() string {
	var parts []string
	for _, part := range []struct {
		set  bool
		text string
	}{
		{b.free > 0 && !b.inAll, "free " + short(b.free)},
		{b.free > 0 && b.inAll, "free " + short(b.free) + " in all"},
		{b.late > 0, "late " + short(b.late)},
		{b.share > 0, "share " + ratio(b.share)},
		{b.why != "", "(" + b.why + ")"},
	} {
		if part.set {
			parts = append(parts, part.text)
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, "<br>")
}

// figures are what was measured, in the order of the bound.
func (b bound) figures(l history.Liveness) string {
	return fmt.Sprintf("%s · %s · %s", short(b.vacancy(l)), short(l.Late), ratio(l.Share()))
}

// turnsOf is how many holdings may go before a wait: all workers twice. The first time is the line;
// the second is for a client that had to claim again, as after its connection was cut.
func turnsOf(clients, workers int) int { return 2 * (clients*workers - 1) }
