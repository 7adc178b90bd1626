package main

import (
	"fmt"
	"math"
	"time"
)

// target is a figure that ctxlock is to reach.
type target struct {
	what   string
	figure func(rs results, pings map[time.Duration]time.Duration) float64 // NaN: not measured
	bound  float64
	atMost bool // else at least
}

// verdict is what became of a target, ready for a table.
type verdict struct{ what, figure, bound, word string }

const (
	met         = "met"
	missed      = "**missed**"
	notMeasured = "not measured"
)

func (t target) judge(rs results, pings map[time.Duration]time.Duration) verdict {
	f := t.figure(rs, pings)
	v := verdict{what: t.what, figure: ratio(f), bound: fmt.Sprintf("at least %v", t.bound), word: missed}
	if t.atMost {
		v.bound = fmt.Sprintf("at most %v", t.bound)
	}
	switch {
	case math.IsNaN(f):
		v.word = notMeasured
	case t.atMost && f <= t.bound, !t.atMost && f >= t.bound:
		v.word = met
	}
	return v
}

func judgeAll(rs results, pings map[time.Duration]time.Duration) (verdicts []verdict) {
	for _, t := range targets() {
		verdicts = append(verdicts, t.judge(rs, pings))
	}
	return verdicts
}

// Names of contenders, as targets and charts look them up.
var (
	ours1, ours2     = ours(1).String(), ours(2).String()
	theirs1, theirs2 = theirs(1).String(), theirs(2).String()
)

func rate(r *Result) float64   { return r.Rate }
func spread(r *Result) float64 { return r.Spread }

// one is a figure of one result.
func one(scenario, contender string, figure func(*Result) float64) func(results, map[time.Duration]time.Duration) float64 {
	return func(rs results, _ map[time.Duration]time.Duration) float64 {
		if r := rs.find(scenario, near, contender); r != nil {
			return figure(r)
		}
		return math.NaN()
	}
}

// times is how many times the rate of one contender is that of another, next to the servers.
func times(scenario, contender, other string) func(results, map[time.Duration]time.Duration) float64 {
	return timesAt(scenario, near, contender, other)
}

// more is how many times as often one contender's locks change hands as another's.
func more(scenario, contender, other string) func(results, map[time.Duration]time.Duration) float64 {
	return func(rs results, pings map[time.Duration]time.Duration) float64 {
		handoffs := func(r *Result) float64 { return r.Handoffs }
		return one(scenario, contender, handoffs)(rs, pings) / one(scenario, other, handoffs)(rs, pings)
	}
}

func timesAt(scenario string, trip time.Duration, contender, other string) func(results, map[time.Duration]time.Duration) float64 {
	return func(rs results, _ map[time.Duration]time.Duration) float64 {
		a, b := rs.find(scenario, trip, contender), rs.find(scenario, trip, other)
		if a == nil || b == nil {
			return math.NaN()
		}
		return a.Rate / b.Rate
	}
}

// between is a quotient of a figure in two scenarios.
func between(contender, scenario, other string, figure func(*Result) float64) func(results, map[time.Duration]time.Duration) float64 {
	return func(rs results, pings map[time.Duration]time.Duration) float64 {
		return one(scenario, contender, figure)(rs, pings) / one(other, contender, figure)(rs, pings)
	}
}

func commands(r *Result) float64 { return r.Commands }
func tail(r *Result) float64     { return float64(r.P99) / float64(r.P50) }

// farHands is the change of hands in round trips, at the longest distance.
func farHands(rs results, pings map[time.Duration]time.Duration) float64 {
	r := rs.find(hands, far, ours1)
	if r == nil || pings[far] == 0 {
		return math.NaN()
	}
	return float64(r.P50) / float64(pings[far])
}

func heldCPU(rs results, pings map[time.Duration]time.Duration) float64 {
	cpu := func(r *Result) float64 { return r.ClientCPU }
	return one(heldLocks, ours1, cpu)(rs, pings) / one(heldLocks, theirs1, cpu)(rs, pings)
}

// targets are those of the queue, then those that ctxlock kept before it had one. How often a lock is acquired says little of libraries that
// have no queue: mostly whoever released it gets it back at once, and with a pause that is long enough nobody else ever asks. So where many wait,
// handoffs are judged, and acquisitions beside them.
func targets() []target {
	fromMemory, bsm := oursFromMemory().String(), bsm().String()
	list := []target{
		{"128 lockers on one name: handoffs to valkeylock's, majority 1", more(lockers128, ours1, theirs1), 12, false},
		{"128 lockers on one name: handoffs to redislock's", more(lockers128, ours1, bsm), 3, false},
		{"128 lockers on one name: handoffs to valkeylock's, majority 2", more(lockers128, ours2, theirs2), 6, false},
		{"128 lockers on one name: acquisitions to valkeylock's, majority 1", times(lockers128, ours1, theirs1), 12, false},
		{"128 lockers on one name: acquisitions to redislock's, most of which are of who has just had it", times(lockers128, ours1, bsm), 3, false},
		{"128 lockers on one name: acquisitions to valkeylock's, majority 2", times(lockers128, ours2, theirs2), 6, false},
		{"rate with 512 lockers to that with 16", between(ours1, lockers512, lockers16, rate), 0.8, false},
		{"server commands a handoff, 16 lockers", one(lockers16, ours1, commands), 10, true},
		{"server commands a handoff, 128 lockers", one(lockers128, ours1, commands), 10, true},
		{"server commands a handoff, 512 lockers", one(lockers512, ours1, commands), 10, true},
	}
	for _, sc := range []string{lockers16, lockers128, lockers512, manyWaiters} {
		list = append(list, target{"busiest to idlest, " + sc, one(sc, ours1, spread), 1.5, true})
	}
	for _, sc := range []string{lockers16, lockers128, lockers512, manyWaiters} {
		list = append(list, target{"p99 of the wait to its p50, " + sc, one(sc, ours1, tail), 2, true})
	}
	return append(list,
		target{"64 goroutines on one name: acquisitions to valkeylock's", times(manyWaiters, ours1, theirs1), 20, false},
		target{"failing tries from memory, one goroutine: rate to valkeylock's", times(failingTries, fromMemory, theirs1), 30, false},
		target{"failing tries from memory, 64 goroutines: rate to valkeylock's", times(failingTries2, fromMemory, theirs1), 30, false},
		target{"change of hands at 10 ms, in measured round trips", farHands, 1.6, true},
		target{"one worker: time to that of SET NX + DEL", times(oneWorker, bare().String(), ours1), 1.15, true},
		target{"one worker: time of majority 2 to that of majority 1", times(oneWorker, ours1, ours2), 1.6, true},
		target{"one worker, 1 ms: time of majority 2 to that of majority 1", timesAt(oneWorker, lan, ours1, ours2), 1.1, true},
		target{"one worker: allocations", one(oneWorker, ours1, func(r *Result) float64 { return r.Allocs }), 16, true},
		target{"64 workers: rate to valkeylock's, majority 1", times(manyWorkers, ours1, theirs1), 1.2, false},
		target{"64 workers: rate to valkeylock's, majority 2", times(manyWorkers, ours2, theirs2), 1.25, false},
		target{"10,000 held locks: KB a lock", one(heldLocks, ours1, func(r *Result) float64 { return r.Memory / 1024 }), 1.2, true},
		target{"10,000 held locks: client CPU to valkeylock's", heldCPU, 0.33, true},
	)
}
