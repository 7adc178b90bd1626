package main

import (
	"strings"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
)

func TestPageShowsWhoIsServed(t *testing.T) {
	f := &fault{Name: "rain", Bound: roundTrips.sharing(2), Also: func(h *history.History) []string {
		if h.Ended > 0 {
			return []string{"odd"}
		}
		return nil
	}}
	ours, theirs, others := oursWith(1), valkeylocks(), etcds()
	p := &page{plan: &plan{faults: []*fault{f}, contenders: []Contender{ours, theirs, others}}}
	p.outcomes = []*outcome{
		{
			Fault: "rain", Library: ours.Library, history: new(history.History),
			Live: history.Liveness{Busiest: 3, Idlest: 2},
		},
		{
			Fault: "rain", Library: theirs.Library, history: &history.History{Ended: 1},
			Live: history.Liveness{Free: time.Second, Busiest: 1}, Slow: []string{"odd"},
		},
	}
	p.liveness()
	text := p.String()
	want := "| **rain** | free 0.5 s<br>late 0.5 s<br>share 2.0 | " +
		"0.0 ms · 0.0 ms · 1.5 | **1.0 s · 0.0 ms · ∞**<br>odd | – |"
	if !strings.Contains(text, want) {
		t.Error(text)
	}
	for _, figure := range []string{"10   holdings", "2.6 s. Where", "above 0.1 s,"} {
		if !strings.Contains(strings.ReplaceAll(text, "\n", " "), figure) {
			t.Errorf("no %q in it", figure)
		}
	}
}
