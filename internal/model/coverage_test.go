package main

import "testing"

// A model in which nothing happens breaks nothing. These look whether it does what it is there for.

// sights are things that must have been seen, beside each kind of move.
type sights map[string]int

func TestQueueModelDoesEverything(t *testing.T) {
	t.Parallel()
	seen := make(sights)
	q := queueLock{terms: short, actors: 2, faults: 1, stops: 1}
	out := run[queueState](q, func(from queueState, m move, to queueState) { seen.lookQueue(from, m, to) })
	expectKinds(t, out, func(k kind) bool {
		switch k {
		case claimMeets, answerBooked, nodeRefuses, nodeEmptied: // of nodes
			return false
		case releaseLost: // it only matters if it is taken for done
			return false
		case extendRefused: // whoever trusts a lock has its key, since nobody takes one by force
			return false
		}
		return true
	})
	seen.expect(t, "a lock handed to one that is stopped", "word that waited until the key had run out",
		"a holder that goes on after its trust is over", "a roll call that finds one that is stopped")
	seen.expect(t, "a slow clock", "a clock that catches up", "a holder that crashes with a waiter behind it", "an answer lost of a claim that took the key",
		"a lock handed to one who crashed", "trust that runs out")
}

func (s sights) lookQueue(from queueState, m move, to queueState) {
	w := &from.procs[m.who]
	switch {
	case m.kind == tick:
		s.lookClocks(from, m)
		if from.alive() != to.alive() {
			s["trust that runs out"]++
		}
	case m.kind == crash && w.phase == holding && from.line[0] != 0:
		s["a holder that crashes with a waiter behind it"]++
	case m.kind == answerLost && from.owner == m.who:
		s["an answer lost of a claim that took the key"]++
	case m.kind == passedOn && from.procs[m.with].phase == crashed:
		s["a lock handed to one who crashed"]++
	}
	s.lookStopped(from, m)
}

func (s sights) lookStopped(from queueState, m move) {
	w := &from.procs[m.who]
	switch {
	case m.kind == passedOn && from.procs[m.with].stopped:
		s["a lock handed to one that is stopped"]++
	case m.kind == goOn && w.words != 0 && from.owner != m.who:
		s["word that waited until the key had run out"]++
	case m.kind == goOn && w.phase == cleaning:
		s["a holder that goes on after its trust is over"]++
	case m.kind == claimCalls && from.procs[from.line[0].process()].stopped:
		s["a roll call that finds one that is stopped"]++
	}
}

func (s sights) lookClocks(from queueState, m move) {
	for p := range from.procs {
		if m.with&(1<<p) != 0 {
			s[pick(from.procs[p].slow == 0, "a slow clock", "a clock that catches up")]++
		}
	}
}

func TestMajorityModelDoesEverything(t *testing.T) {
	t.Parallel()
	seen := make(sights)
	watch := func(from majorityState, m move, to majorityState) { seen.lookMajority(from, m, to) }
	out := run[majorityState](majorityLock{terms: short, actors: 2, faults: 1, attempts: 2, steady: true}, watch)
	if drifting := run[majorityState](majorityLock{terms: short, actors: 2, attempts: 1}, watch); drifting.broken != none {
		t.Errorf("%s is broken", drifting.broken)
	}
	expectKinds(t, out, func(k kind) bool {
		switch k {
		case stop, goOn, claimCalls, lookHeard, lookLost, // of the queue
			claimAgain, claimHinted, claimQueues, answerTaken, answerOwn, answerTooLate, wordTaken, wordRefused, wordIdle, wordToNobody, wordForged, wordLost,
			extendBooked, passedOn, passedOver:
			return false
		case releaseLost: // it only matters if it is taken for done
			return false
		}
		return true
	})
	seen.expect(t, "a node's clock that gets ahead", "a node's clock that falls back", "a lock held on two keys only", "nobody with a majority",
		"a vanished key set again")
}

func (s sights) lookMajority(from majorityState, m move, to majorityState) {
	if m.kind == tick {
		for i := range from.nodes {
			if m.with&(1<<i) != 0 {
				s[pick(from.nodes[i].fast == 0, "a node's clock that gets ahead", "a node's clock that falls back")]++
			}
		}
		return
	}
	v := &to.procs[m.who]
	if v.phase == holding && v.count(mine) == most {
		s["a lock held on two keys only"]++
	}
	if m.kind == claimMeets && v.phase == cleaning && v.count(mine) == 1 {
		s["nobody with a majority"]++
	}
	if m.kind == claimTakes && from.procs[m.who].phase == holding {
		s["a vanished key set again"]++
	}
}

func expectKinds(t *testing.T, out outcome, wanted func(kind) bool) {
	t.Helper()
	if out.broken != none {
		t.Fatalf("%s is broken", out.broken)
	}
	for k := range kinds {
		if wanted(k) && out.kinds[k] == 0 {
			t.Errorf("never happened: %s", pick(k == tick, "a tick", telling[k]))
		}
	}
}

func (s sights) expect(t *testing.T, wanted ...string) {
	t.Helper()
	for _, what := range wanted {
		if s[what] == 0 {
			t.Errorf("never seen: %s", what)
		}
	}
}
