package main

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
)

func TestBounds(t *testing.T) {
	b := bound{free: time.Second, late: 2 * time.Second, share: 2}
	ok := history.Liveness{Free: time.Second, Idle: time.Hour, Wait: time.Hour, Late: 2 * time.Second, Busiest: 20, Idlest: 10}
	for name, c := range map[string]struct {
		bound  bound
		change func(*history.Liveness)
		want   string
	}{
		"within":              {b, func(*history.Liveness) {}, ""},
		"free":                {b, func(l *history.Liveness) { l.Free++ }, "free for 1.0 s (1.0 s at most)"},
		"free in all":         {b.together(), func(*history.Liveness) {}, "free for 3600 s (1.0 s at most)"},
		"short, but not once": {b.together(), func(l *history.Liveness) { l.Idle, l.Free = time.Second, time.Hour }, ""},
		"late":                {b, func(l *history.Liveness) { l.Late++ }, "a wait 2.0 s beyond its turn (2.0 s at most)"},
		"unequal":             {b, func(l *history.Liveness) { l.Idlest = 9 }, "shares as 20 to 9 (2.0 at most)"},
		"one has nothing":     {b, func(l *history.Liveness) { l.Idlest = 0 }, "shares as 20 to 0 (2.0 at most)"},
		"too few to tell":     {b, func(l *history.Liveness) { l.Busiest, l.Idlest = 5, 0 }, ""},
		"unbounded":           {unbounded, func(l *history.Liveness) { l.Free, l.Late, l.Idlest = time.Hour, time.Hour, 0 }, ""},
		"in any order":        {b.inAnyOrder(), func(l *history.Liveness) { l.Late = time.Hour }, ""},
		"with what it takes":  {b.plus(time.Hour, "why"), func(l *history.Liveness) { l.Free, l.Late = time.Hour, time.Hour }, ""},
		"late by what it takes": {b.lateBy(time.Hour, "why"), func(l *history.Liveness) { l.Free, l.Late = time.Hour, time.Hour },
			"free for 3600 s (1.0 s at most)"},
	} {
		l := ok
		c.change(&l)
		if got := strings.Join(c.bound.exceeded(l), ", "); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestBoundsInWords(t *testing.T) {
	for want, b := range map[string]bound{
		"none":                     unbounded,
		"free 2.6 s<br>late 2.6 s": oneValidity,
		"free 2.6 s in all<br>late 2.6 s<br>share 2.0": oneValidity.together().sharing(2),
		"free 0.5 s<br>(no queue)":                     roundTrips.inAnyOrder(),
		"free 1.5 s<br>late 1.5 s<br>(why)":            roundTrips.plus(time.Second, "why"),
	} {
		if b.String() != want {
			t.Errorf("%q, not %q", b.String(), want)
		}
	}
	if got := roundTrips.figures(history.Liveness{Late: time.Second, Busiest: 1}); got != "0.0 ms · 1.0 s · ∞" {
		t.Error(got)
	}
	if ratio(math.Inf(1)) != "∞" || ratio(12.4) != "12" || ratio(1.25) != "1.2" {
		t.Error("ratios")
	}
}

// Every row says what theory allows, or that it allows anything: then something else is looked at.
func TestFaultsHaveBounds(t *testing.T) {
	for _, f := range append(slices.Clone(allFaults), soakSites...) {
		if f.Bound == unbounded && f.Also == nil {
			t.Errorf("%q", f.Name)
		}
		if strings.Contains(f.Name, ",") {
			t.Errorf("%q cannot be named on the command line", f.Name)
		}
	}
}

func TestWaitsOfBothKinds(t *testing.T) {
	of := func(wait time.Duration) *history.History { // of one client in a turn of 10 ms
		h := &history.History{Clients: bothKinds}
		turn, at := 10*time.Millisecond, int64(time.Second)
		for i := range 400 {
			client := i % 8
			asked := at - int64(turn)
			if client == 5 {
				asked = at - int64(wait)
			}
			h.Rounds = append(h.Rounds, history.Round{Client: client, Worker: i, Asked: max(1, asked), Got: at, Alive: at, Free: at + int64(turn)})
			at += int64(turn)
		}
		h.Began, h.Ended = int64(time.Second), at
		return h
	}
	if wrong := waitsOfBothKinds(of(900 * time.Millisecond)); wrong != nil {
		t.Error(wrong)
	}
	if wrong := waitsOfBothKinds(of(4 * time.Second)); len(wrong) != 1 || !strings.Contains(wrong[0], "client 5 (valkeylock") {
		t.Error(wrong)
	}
}

func TestErrorsThatNameTheMajority(t *testing.T) {
	h := &history.History{Rounds: []history.Round{
		{Error: "KeyMajority 2, not 1"}, {Error: "context canceled"}, {Got: 1, Error: "lost"}, {Error: "odd"}, {Error: "odd"}, {}}}
	if wrong := saysMajority(h); len(wrong) != 1 || !strings.Contains(wrong[0], "odd") {
		t.Error(wrong)
	}
}

func TestNothingLost(t *testing.T) {
	h := &history.History{Rounds: []history.Round{{Got: 1}, {Error: "no"}}}
	if wrong := nothingLost(h); wrong != nil {
		t.Error(wrong)
	}
	h.Rounds = append(h.Rounds, history.Round{Got: 1, Lost: true})
	if wrong := nothingLost(h); len(wrong) != 1 {
		t.Error(wrong)
	}
}

type switched bool

func (s *switched) Alive() bool { return bool(*s) }

func TestRefereeSeesTwo(t *testing.T) {
	f := newReferee()
	yes, other, dead := switched(true), switched(true), switched(false)
	for _, c := range []struct {
		name string
		got  *switched
		want bool
	}{{"a", &yes, false}, {"b", &other, false}, {"a", &dead, false}, {"a", &other, true}} {
		if f.returned(c.name, c.got) != c.want {
			t.Errorf("%+v", c)
		}
	}
	yes, other = false, false
	if last := switched(true); f.returned("a", &last) || len(f.held["a"]) != 1 {
		t.Error("it counts those that have ended")
	}
}
