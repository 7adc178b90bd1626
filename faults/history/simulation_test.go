package history

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// simulation is a run of workers on a register whose every state is kept.
type simulation struct {
	*rand.Rand
	margin int64
	// lawful tells that nobody gets the lock before the last holder has written, or the margin has passed since that one's check.
	lawful bool
	// stops tells that some processes are stopped before they write, and some die.
	stops bool
	h     *History
	has   map[Element][]Element // the elements of each state that there was
}

// event is a read or a write, at its time.
type event struct {
	at    int64
	write bool
	round int
}

// run lets rounds read and write, and returns the elements that were acknowledged and lost.
func (s *simulation) run(rounds int) []Element {
	s.h, s.has = new(History), map[Element][]Element{0: nil}
	var events []event
	for i, t := 0, int64(10); i < rounds; i++ {
		read := t + 1 + s.Int64N(s.margin)
		checked := read + 1 + s.Int64N(s.margin)
		done := checked + 1 + s.Int64N(s.margin-1)
		acked := done + 1
		w := &Write{Element: Element(i + 1), Checked: checked, Acked: acked}
		s.h.Rounds = append(s.h.Rounds, Round{Got: t, Alive: checked, Token: int64(i + 1), Write: w})
		t = acked + s.Int64N(3)
		if s.stops && s.IntN(4) == 0 {
			done = checked + s.Int64N(20*s.margin) + 1
			w.Acked = done + 1
			t = checked + s.margin + 1
		}
		dies := s.stops && s.IntN(8) == 0
		if dies {
			w.Acked = 0
		}
		if !s.lawful && s.IntN(3) == 0 {
			t = read - s.Int64N(s.margin)
		}
		events = append(events, event{read, false, i})
		if !dies || s.IntN(2) == 0 {
			events = append(events, event{done, true, i})
		}
	}
	return s.play(events)
}

// play carries the events out in their order.
func (s *simulation) play(events []event) (lost []Element) {
	s.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	// What happens at one time happens in any order. A round's own read is always before its write.
	slices.SortStableFunc(events, func(a, b event) int { return int(a.at - b.at) })
	var state Element
	for _, e := range events {
		w := s.h.Rounds[e.round].Write
		if !e.write {
			w.Read, w.Fenced = state, state
			continue
		}
		state = w.Element
		s.has[state] = append(slices.Clone(s.has[w.Read]), state)
	}
	s.h.Final, s.h.Fenced = state, state
	for _, r := range s.h.Rounds {
		if r.Write.Acked != 0 && !slices.Contains(s.has[state], r.Write.Element) {
			lost = append(lost, r.Write.Element)
		}
	}
	return lost
}

// TestALawfulLockIsNeverBlamed has processes stop and die under a lock that keeps its promise: what they lose is late.
func TestALawfulLockIsNeverBlamed(t *testing.T) {
	lostAny := 0
	for seed := range uint64(5000) {
		s := simulation{Rand: rand.New(rand.NewPCG(seed, 2)), margin: 6, lawful: true, stops: true}
		s.matches(t, seed, func(u Updates) bool { lostAny += u.Lost; return len(u.Violations()) == 0 })
	}
	if lostAny < 1000 {
		t.Error("only", lostAny, "lost updates: the simulation does not stop enough")
	}
}

// TestABrokenLockIsAlwaysBlamed has two hold the lock at once while nobody is stopped: nothing that is lost is late.
func TestABrokenLockIsAlwaysBlamed(t *testing.T) {
	lostAny := 0
	for seed := range uint64(5000) {
		s := simulation{Rand: rand.New(rand.NewPCG(seed, 3)), margin: 6}
		s.matches(t, seed, func(u Updates) bool { lostAny += u.Lost; return u.Late == 0 })
	}
	if lostAny < 1000 {
		t.Error("only", lostAny, "lost updates: the simulation does not overlap enough")
	}
}

// TestLostUpdatesOfAnyLock compares what was lost, whatever the reason.
func TestLostUpdatesOfAnyLock(t *testing.T) {
	for seed := range uint64(5000) {
		s := simulation{Rand: rand.New(rand.NewPCG(seed, 4)), margin: 6, stops: true}
		s.matches(t, seed, func(Updates) bool { return true })
	}
}

func (s *simulation) matches(t *testing.T, seed uint64, sorted func(Updates) bool) {
	t.Helper()
	want := s.run(2 + s.IntN(30))
	plain, fenced, err := s.h.LostUpdates(time.Duration(s.margin))
	slices.Sort(plain.Elements) // those of both kinds
	if err != nil || !slices.Equal(plain.Elements, want) || !slices.Equal(fenced.Elements, want) || fenced.Late != 0 || !sorted(plain) {
		t.Fatalf("seed %d: lost %v and %v, late %d, not %v; %v", seed, plain, fenced, plain.Late, want, err)
	}
}
