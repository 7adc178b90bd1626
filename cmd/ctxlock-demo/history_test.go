package main

import (
	"slices"
	"testing"
	"time"
)

const ms = time.Millisecond

// holding is a hold from one time to another, with an end that was seen at once.
func holding(by string, start, end time.Duration, how ending) hold {
	return hold{by: by, since: start, start: start, alive: end, end: end, how: how}
}

func TestOverlaps(t *testing.T) {
	forced := func(h hold) hold { h.force = true; return h }
	unsure := func(h hold, doubt time.Duration) hold { h.end += doubt; return h }
	a := holding("A", 0, 100*ms, released)
	for _, c := range []struct {
		name      string
		holds     []hold
		overlaps  int
		violation bool
		certain   time.Duration
	}{
		{"one after the other", []hold{a, holding("B", 101*ms, 200*ms, released)}, 0, false, 0},
		{"in the same instant", []hold{a, holding("B", 100*ms, 200*ms, released)}, 0, false, 0},
		{"a nanosecond too early", []hold{a, holding("B", 100*ms-1, 200*ms, released)}, 1, true, 1},
		{"one within the other", []hold{a, holding("B", 30*ms, 40*ms, released)}, 1, true, 10 * ms},
		{"in the other order", []hold{holding("B", 30*ms, 40*ms, released), a}, 1, true, 10 * ms},
		{"both at once", []hold{a, holding("B", 0, 100*ms, released)}, 1, true, 100 * ms},
		{"not neighbours", []hold{a, holding("B", 20*ms, 30*ms, released), holding("C", 40*ms, 50*ms, released)}, 2, true, 10 * ms},
		{"by one process", []hold{a, holding("A", 90*ms, 200*ms, released)}, 1, true, 10 * ms},
		{"too close to call", []hold{unsure(a, 5*ms), holding("B", 102*ms, 200*ms, released)}, 1, false, -2 * ms},
		{"close, and yet certain", []hold{unsure(a, 5*ms), holding("B", 99*ms, 200*ms, released)}, 1, true, ms},
		{"after a crash", []hold{holding("A", 0, 100*ms, byKill), holding("B", 90*ms, 200*ms, released)}, 1, true, 10 * ms},
		{"by force", []hold{holding("A", 0, 100*ms, byForce), forced(holding("B", 99*ms, 200*ms, released))}, 1, false, ms},
		{"by force, but not from that one", []hold{a, forced(holding("B", 99*ms, 200*ms, released))}, 1, true, ms},
		{"by force, but that is not who got it", []hold{holding("A", 0, 100*ms, byForce), holding("B", 99*ms, 200*ms, released)}, 1, true, ms},
		{"by force, and far too long", []hold{holding("A", 0, forceBound+2*ms, byForce), forced(holding("B", ms, 2*forceBound, released))}, 1, true, forceBound + ms},
	} {
		found := overlaps(c.holds)
		if len(found) != c.overlaps {
			t.Errorf("%s: %d overlaps: %+v", c.name, len(found), found)
			continue
		}
		if got := slices.ContainsFunc(found, overlap.violation); got != c.violation {
			t.Errorf("%s: violation %t", c.name, got)
		}
		if len(found) > 0 && found[0].certain != c.certain {
			t.Errorf("%s: %v, want %v", c.name, found[0].certain, c.certain)
		}
		if check := (findings{history: history{holds: c.holds}}).exclusion(); check.ok == c.violation {
			t.Errorf("%s: the verdict is %v", c.name, check)
		}
	}
}

func TestChanges(t *testing.T) {
	waited := func(h hold, since time.Duration) hold { h.since = since; return h }
	holds := []hold{
		holding("A", 0, 100*ms, released),
		waited(holding("B", 101*ms, 200*ms, released), 50*ms),
		holding("C", 300*ms, 400*ms, byForce), // found it free
		{by: "A", force: true, since: 399 * ms, start: 400*ms - 1, alive: 500 * ms, end: 500 * ms, how: released},
	}
	all := changes(holds)
	for i, want := range []string{"1.0 ms", "−0.0 ms"} {
		if got := all[i].length(); got != want {
			t.Errorf("change %d took %s, want %s", i, got, want)
		}
	}
	close := change{hold{alive: 98 * ms, end: 101 * ms, how: released}, hold{start: 100 * ms}}
	if got := close.length(); got != "<2.0 ms" {
		t.Errorf("what is too close to call took %s", got)
	}
	if len(all) != 2 || all[0].took() != ms || all[1].took() != -1 || all[0].byForce() || !all[1].byForce() {
		t.Errorf("%+v", all)
	}
}

func TestHistory(t *testing.T) {
	events := []event{
		{At: 1 * ms, What: scene, Text: "1 first: and more about it"},
		{At: 2 * ms, Process: "A", What: waits},
		{At: 3 * ms, Process: "A", What: holds},
		{At: 4 * ms, Process: "B", What: waits, Force: true},
		{At: 5 * ms, Process: "A", What: added, Balance: 1},
		{At: 6 * ms, Process: "B", What: holds},
		{At: 7 * ms, Process: "A", What: ended, Alive: 6 * ms, How: byForce, Text: "taken"},
		{At: 8 * ms, Process: "C", What: waits},
		{At: 9 * ms, Process: "B", What: killed, Alive: 8 * ms, How: byKill},
		{At: 10 * ms, Process: "C", What: holds},
		{At: 11 * ms, Process: "B", What: waits},
		{At: 12 * ms, Process: "C", What: stalled},
	}
	h := newHistory(events)
	if want := []hold{
		{by: "A", since: 2 * ms, start: 3 * ms, alive: 6 * ms, end: 7 * ms, how: byForce, reason: "taken"},
		{by: "B", force: true, since: 4 * ms, start: 6 * ms, alive: 8 * ms, end: 9 * ms, how: byKill},
		{by: "C", since: 8 * ms, start: 10 * ms, alive: 10 * ms, end: 12 * ms, how: odd}, // cut short
	}; !slices.Equal(h.holds, want) {
		t.Errorf("holds: %+v", h.holds)
	}
	if want := []span{{"A", 2 * ms, 3 * ms}, {"B", 4 * ms, 6 * ms}, {"C", 8 * ms, 10 * ms}, {"B", 11 * ms, 12 * ms}}; !slices.Equal(h.waits, want) {
		t.Errorf("waits: %+v", h.waits)
	}
	if want := []mark{{at: 7 * ms, by: "A", what: ended}, {at: 9 * ms, by: "B", what: killed}, {at: 12 * ms, by: "C", what: stalled}}; !slices.Equal(h.marks, want) {
		t.Errorf("marks: %+v", h.marks)
	}
	if want := []mark{{at: ms, text: "1 first"}}; !slices.Equal(h.scenes, want) || h.added != 1 {
		t.Errorf("scenes: %+v; %d added", h.scenes, h.added)
	}
}

// story is a history in which everything happens, and all of it as it should.
func story() findings {
	const s = time.Second
	return findings{balance: 9, history: history{
		added: 9,
		scenes: []mark{
			{at: 0, text: "1 release"}, {at: 2 * s, text: "2 kill"}, {at: 5 * s, text: "3 lost link"}, {at: 8 * s, text: "4 force"},
		},
		holds: []hold{
			holding("A", 100*ms, 600*ms, released),
			{by: "B", since: 100 * ms, start: 601 * ms, alive: 1100 * ms, end: 1100 * ms, how: released},
			{by: "C", since: 100 * ms, start: 1101 * ms, alive: 1600 * ms, end: 1600 * ms, how: released},
			holding("A", 2*s, 2500*ms, byKill),
			{by: "B", since: 2100 * ms, start: 4 * s, alive: 4500 * ms, end: 4500 * ms, how: released},
			holding("B", 5*s, 7*s, linkLost),
			{by: "C", since: 5100 * ms, start: 7150 * ms, alive: 7500 * ms, end: 7500 * ms, how: released},
			holding("C", 8*s, 9*s, byForce),
			{by: "B", force: true, since: 9*s - 2*ms, start: 9*s - ms, alive: 9500 * ms, end: 9500 * ms, how: released},
			{by: "A", since: 8100 * ms, start: 9501 * ms, alive: 10 * s, end: 10 * s, how: released},
		},
		waits: []span{
			{"B", 100 * ms, 601 * ms}, {"C", 100 * ms, 1101 * ms}, {"B", 2100 * ms, 4 * s}, {"C", 5100 * ms, 7150 * ms}, {"A", 8100 * ms, 9501 * ms},
		},
		marks: []mark{
			{at: 2500 * ms, by: "A", what: killed}, {at: 6 * s, by: "B", what: stalled}, {at: 9 * s, by: "C", what: ended},
		},
	}}
}

func TestClocks(t *testing.T) {
	before := readClocks()
	time.Sleep(20 * ms)
	after := readClocks()
	if drift := after.driftSince(before); drift.Abs() > driftBound {
		t.Errorf("a clock that nobody has set has moved by %v", drift)
	}
	after.stamp += time.Second // somebody has
	if drift := after.driftSince(before); (drift - time.Second).Abs() > driftBound {
		t.Errorf("a clock that was set by 1 s has moved by %v", drift)
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*findings)
		line  string // the one that fails
	}{
		{"all is well", func(*findings) {}, ""},
		{"two held it", func(f *findings) { f.holds[1].start -= 2 * ms }, "TWO HELD THE LOCK AT ONCE: A and B, for 1.0 ms"},
		{"work was lost", func(f *findings) { f.balance-- }, "WORK WAS LOST: 1 was added 9 times and the balance is 8"},
		{"no work", func(f *findings) { f.added, f.balance = 0, 0 }, "no work was lost: 1 was added 0 times and the balance is 0"},
		{"keys were left", func(f *findings) { f.left = []string{"k"} }, "LEFT ON THE SERVER: k"},
		{"nobody was killed", func(f *findings) { f.holds[3].how = released }, "no change of hands of this kind: killed"},
		{"it was deleted", func(f *findings) { f.holds[9].how, f.holds[9].reason = odd, "deleted" }, "A lost the lock for another reason: deleted"},
		{"the clock was set", func(f *findings) { f.drift = -time.Second }, "THE CLOCK WAS SET by 1.00 s meanwhile, so the times mean nothing"},
	} {
		f := story()
		c.spoil(&f)
		var failures []string
		for _, check := range f.verdict() {
			if !check.ok {
				failures = append(failures, check.text)
			}
		}
		if c.line == "" && failures != nil || c.line != "" && !slices.Equal(failures, []string{c.line}) {
			t.Errorf("%s: %q", c.name, failures)
		}
	}
}
