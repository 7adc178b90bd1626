package history

import (
	"testing"
	"time"
)

func TestUnended(t *testing.T) {
	h := &History{Rounds: []Round{{Asked: 1}, {Asked: 1, Got: 2}, {Asked: 1, Error: "no"}, {Asked: 1, Got: 2, Error: "lost"}}}
	if n := h.Unended(); n != 1 {
		t.Error(n)
	}
}

func TestNotice(t *testing.T) {
	first, second := 1, 2
	lost := Round{Client: 1, Got: 10, Alive: 50, Over: 55, Lost: true, Free: 60}
	for name, c := range map[string]struct {
		round  Round
		strike Strike
		want   time.Duration
		ok     bool
	}{
		"struck while alive":      {lost, Strike{Struck: 20}, 30, true},
		"as soon as it was had":   {lost, Strike{Struck: 10}, 40, true},
		"before it was had":       {lost, Strike{Struck: 9}, 0, false},
		"when it was last alive":  {lost, Strike{Struck: 50}, 0, true},
		"possibly alive":          {lost, Strike{Struck: 52}, 0, true},
		"after it was over":       {lost, Strike{Struck: 56}, 0, false},
		"its client":              {lost, Strike{Struck: 20, Client: &first}, 30, true},
		"another client":          {lost, Strike{Struck: 20, Client: &second}, 0, false},
		"nobody saw it over":      {Round{Got: 10, Alive: 50, Lost: true}, Strike{Struck: 50}, 0, true},
		"given back, not lost":    {Round{Got: 10, Alive: 50, Free: 60}, Strike{Struck: 20}, 0, false},
		"nobody had it":           {Round{Asked: 10, Error: "no"}, Strike{Struck: 20}, 0, false},
		"never seen alive":        {Round{Got: 10, Over: 30, Lost: true}, Strike{Struck: 20}, 0, true},
		"freed before it noticed": {Round{Got: 10, Alive: 15, Free: 30, Lost: true}, Strike{Struck: 20}, 0, true},
	} {
		if got, ok := (&History{Rounds: []Round{c.round}}).Notice(c.strike); got != c.want || ok != c.ok {
			t.Errorf("%s: %v, %v", name, got, ok)
		}
	}
	two := &History{Rounds: []Round{lost, {Client: 2, Got: 15, Alive: 70, Over: 70, Lost: true}, lost}}
	if got, _ := two.Notice(Strike{Struck: 20}); got != 50 {
		t.Error("of several:", got)
	}
}

func TestVacancy(t *testing.T) {
	h := &History{Rounds: []Round{{Got: 90}, {Asked: 10}, {Got: 30, Alive: 33}, {Got: 50}, {Got: 20}}}
	for _, c := range []struct {
		since int64
		want  time.Duration
		ok    bool
	}{{25, 5, true}, {40, 10, true}, {50, 0, true}, {31, 0, true}, {33, 17, true}, {91, 0, false}} {
		if got, ok := h.Vacancy(c.since); got != c.want || ok != c.ok {
			t.Errorf("since %v: %v, %v", c.since, got, ok)
		}
	}
}

// What was lost by the second strike was not by the first.
func TestNoticeAfterTheLastStrike(t *testing.T) {
	h := &History{
		Rounds: []Round{{Got: 5, Alive: 30, Over: 31, Lost: true}},
		Faults: []Strike{{Struck: 10, Mended: 20}, {Struck: 25, Mended: 26}},
	}
	if got, ok := h.Notice(h.Faults[0]); ok {
		t.Error("the first:", got)
	}
	if got, ok := h.Notice(h.Faults[1]); !ok || got != 5 {
		t.Error("the second:", got, ok)
	}
}

func TestRate(t *testing.T) {
	rounds := []Round{{Got: 1}, {Got: 2}, {Got: 3}, {Asked: 1}}
	if rate := (&History{Rounds: rounds, Began: 5e9, Ended: 7e9}).Rate(); rate != 1.5 {
		t.Error(rate)
	}
	if rate := (&History{Rounds: rounds}).Rate(); rate != 0 {
		t.Error("in no time:", rate)
	}
}
