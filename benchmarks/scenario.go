package main

import (
	"slices"
	"strings"
	"time"
)

// bench is what a contender gets for one round.
type bench struct {
	site         site
	meter        *meter
	warm, length time.Duration
}

// scenario is one question, asked of several contenders at several distances.
type scenario struct {
	name string
	// what says what one operation is, for the table.
	what  string
	run   func(who Contender, on bench, name string) (*round, error)
	trips []time.Duration
	field func(trip time.Duration) []Contender
	// slot is how long one round of one contender takes, in shares of -time.
	slot func(trip time.Duration) float64
	// lockers are opened for each round, which takes time of its own.
	lockers int
	// finer cuts each round into so many near the servers, where opening costs nothing: what else the machine does hits all alike then.
	finer int
	// once: one round, because preparing it takes longer than measuring, and of a length of its own.
	once bool
}

// cuts is how many rounds there are for one.
func (sc scenario) cuts(trip time.Duration) int {
	if trip != near || sc.finer == 0 {
		return 1
	}
	return sc.finer
}

const (
	near = time.Duration(0)
	lan  = time.Millisecond
	far  = 10 * time.Millisecond
)

var everywhere = []time.Duration{near, lan, far}

const (
	oneWorker     = "one worker"
	manyWorkers   = "64 workers on names of their own"
	manyWaiters   = "64 goroutines on one name"
	lockers16     = "16 lockers on one name"
	lockers128    = "128 lockers on one name"
	lockers512    = "512 lockers on one name"
	failingTries  = "failing tries, one goroutine"
	failingTries2 = "failing tries, 64 goroutines"
	hands         = "change of hands"
	heldLocks     = "10,000 held locks"
)

// scenarios are all that are compared. What is left out, and why, is said by leftOut.
func scenarios() []scenario {
	closed := func(name, what string, c crowd, field func(time.Duration) []Contender, slot func(time.Duration) float64) scenario {
		return scenario{name: name, what: what, run: c.run, trips: everywhere, field: field, slot: slot, lockers: c.lockers}
	}
	pair, handoff, attempt := "acquire and release", "acquire, after others, and release", "a try that fails"
	list := []scenario{
		closed(oneWorker, pair, crowd{lockers: 1, goroutines: 1, act: try}, uncontended, always(1)),
		closed(manyWorkers, pair, crowd{lockers: 1, goroutines: 64, act: try}, uncontended, always(1)),
		closed(manyWaiters, handoff, crowd{lockers: 1, goroutines: 64, oneName: true}, contended, byTrip(1.25, 1.25, 2.5)),
		closed(lockers16, handoff, crowd{lockers: 16, goroutines: 1, oneName: true}, contended, byTrip(1.5, 1.5, 2.5)),
		closed(lockers128, handoff, crowd{lockers: 128, goroutines: 1, oneName: true}, many, byTrip(2.5, 2.5, 5)),
		closed(lockers512, handoff, crowd{lockers: 512, goroutines: 1, oneName: true}, veryMany, byTrip(6, 5, 5)),
		closed(failingTries, attempt, crowd{lockers: 1, goroutines: 1, oneName: true, act: fail}, trying, always(0.75)),
		closed(failingTries2, attempt, crowd{lockers: 1, goroutines: 64, oneName: true, act: fail}, trying, always(0.75)),
		{name: hands, what: "from cancel() to the return of the next holder's call", run: changeOfHands, trips: everywhere, field: waiting, slot: byTrip(0.75, 1, 2.5), lockers: 2},
		{name: heldLocks, what: "a lock held for a second", run: holdMany, trips: []time.Duration{near}, field: extending, lockers: 1, once: true},
	}
	for i := range list {
		switch list[i].name {
		case oneWorker, failingTries: // where many work, reading the meters takes too large a part of a short round
			list[i].finer = 3
		case failingTries2:
			list[i].trips = []time.Duration{near}
		}
	}
	return list
}

// leftOut is printed with the table.
var leftOut = []string{
	"rueidislock at round trips of 1 and 10 ms, with majority 2 and with 512 lockers: it is valkeylock's original, and where both run they do not differ.",
	"128 lockers at round trips of 1 and 10 ms: only ctxlock, valkeylock with majority 1, redislock and etcd; 512 there: only the first three. Most of the others' lockers would not get the lock once in a round.",
	"Failing tries at round trips of 1 and 10 ms: only those whose round trips differ in number.",
	"Three independent servers: one worker, 64 workers, 64 goroutines and 16 lockers only, next to the servers.",
	"10,000 held locks: only next to the servers, since extending goes on in the background; not redislock and redsync, which leave extending to their caller.",
	"redsync on one server with a majority of 2: its pools are servers, and three pools of one server would be no majority.",
}

func always(slot float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return slot }
}

func byTrip(atNear, atLAN, atFar float64) func(time.Duration) float64 {
	return func(trip time.Duration) float64 {
		switch trip {
		case near:
			return atNear
		case lan:
			return atLAN
		}
		return atFar
	}
}

func uncontended(trip time.Duration) []Contender {
	return append([]Contender{bare()}, contended(trip)...)
}

// contended are all that can wait.
func contended(trip time.Duration) []Contender {
	if trip != near {
		return waiting(trip)
	}
	return append(waiting(trip), oursOnNodes(), onPools(serverCount))
}

// waiting are those on one server, and etcd.
func waiting(trip time.Duration) []Contender {
	list := []Contender{ours(1), theirs(1)}
	if trip == near {
		list = append(list, elder(1))
	}
	return append(list, ours(2), theirs(2), bsm(), onPools(1), consensus())
}

// many are those of which 128 lockers are opened.
func many(trip time.Duration) []Contender {
	if trip != near {
		return []Contender{ours(1), theirs(1), ours(2), bsm(), consensus()}
	}
	return slices.Insert(waiting(trip), 1, oursWithoutQueue())
}

// veryMany are those of which 512 are.
func veryMany(trip time.Duration) []Contender {
	if trip != near {
		return []Contender{ours(1), theirs(1), bsm()}
	}
	return slices.DeleteFunc(many(trip), func(c Contender) bool { return c.Library == elder(1).Library })
}

func trying(trip time.Duration) []Contender {
	if trip != near {
		return []Contender{ours(1), oursFromMemory(), theirs(1), bsm(), consensus()}
	}
	return slices.Insert(waiting(trip), 1, oursFromMemory())
}

// extending are those whose locks stay held without the caller's doing.
func extending(trip time.Duration) []Contender {
	var list []Contender
	for _, c := range waiting(trip) {
		if c.Extends {
			list = append(list, c)
		}
	}
	return list
}

// chosen are the scenarios whose names contain a text.
func chosen(text string) (list []scenario) {
	for _, s := range scenarios() {
		if strings.Contains(s.name, text) {
			list = append(list, s)
		}
	}
	return list
}

// everybody is each contender once.
func everybody() []Contender {
	return append(uncontended(near), oursFromMemory(), oursWithoutQueue())
}
