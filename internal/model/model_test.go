package main

import "testing"

// These are the models of main with tighter bounds, so that they are explored within seconds under the race detector, too.

func TestSoundWithAllRules(t *testing.T) {
	for _, s := range []struct {
		scenario
		states int // fewer mean that the model does not do what it should
	}{
		{scenario{name: "queue, two processes, one fault", run: queueOf(queueLock{terms: short, actors: 2, faults: 1})}, 10_000},
		{scenario{name: "queue, three processes", run: queueOf(queueLock{terms: short, actors: 3})}, 50_000},
		{scenario{name: "queue, three processes, stopped", run: queueOf(queueLock{terms: short, actors: 3, stops: unlimited, steady: true})}, 100_000},
		{scenario{name: "majority, three processes", run: majorityOf(majorityLock{terms: short, actors: 3, attempts: 2, steady: true, brief: true})}, 1_000},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			out := s.run(allRules)
			t.Logf("%d states, %d moves, %v", out.states, out.moves, out.took)
			if out.broken != none {
				t.Fatalf("%s is broken: %+v", out.broken, out.trace)
			}
			if out.states < s.states {
				t.Errorf("%d states are too few for a model of this", out.states)
			}
		})
	}
}

func TestEachRuleIsNeeded(t *testing.T) {
	left := make(map[rule]bool)
	for _, b := range unsound() {
		left[b.rule] = true
		if b.long {
			continue // main explores it
		}
		t.Run(removals[b.rule].says+", "+b.name, func(t *testing.T) {
			t.Parallel()
			out := b.run(b.rule)
			if out.broken != removals[b.rule].breaks {
				t.Fatalf("broke %q, expected %q", out.broken, removals[b.rule].breaks)
			}
			if len(out.trace) < 2 || len(out.trace) != out.depth+1 && out.broken != progress {
				t.Errorf("a trace of %d lines at depth %d is not a replay of the shortest way", len(out.trace), out.depth)
			}
		})
	}
	for r := allRules + 1; r < rules; r++ {
		if !left[r] {
			t.Errorf("%q is never left out", removals[r].says)
		}
	}
}
