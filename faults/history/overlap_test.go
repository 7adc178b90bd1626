package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// held is a round that was alive from one time to another.
func held(got, alive int64) Round { return Round{Asked: got - 1, Got: got, Alive: alive} }

func TestOverlaps(t *testing.T) {
	for name, c := range map[string]struct {
		rounds []Round
		want   Overlaps
	}{
		"none":                      {nil, nil},
		"one after the other":       {[]Round{held(10, 20), held(21, 30)}, nil},
		"in the same nanosecond":    {[]Round{held(10, 20), held(20, 30)}, nil},
		"by a nanosecond":           {[]Round{held(10, 21), held(20, 30)}, Overlaps{{0, 1, 20, 21}}},
		"written down late":         {[]Round{held(20, 30), held(10, 21)}, Overlaps{{1, 0, 20, 21}}},
		"one within another":        {[]Round{held(10, 40), held(20, 30)}, Overlaps{{0, 1, 20, 30}}},
		"a moment within another":   {[]Round{held(10, 40), held(20, 20)}, Overlaps{{0, 1, 20, 20}}},
		"a moment at the beginning": {[]Round{held(10, 10), held(10, 20)}, nil},
		"a moment at the end":       {[]Round{held(20, 20), held(10, 20)}, nil},
		"the same moment":           {[]Round{held(10, 10), held(10, 10)}, nil},
		"the same time":             {[]Round{held(10, 20), held(10, 20)}, Overlaps{{0, 1, 10, 20}}},
		"never seen alive":          {[]Round{held(10, 40), held(20, 0), held(25, 24)}, nil},
		"never held":                {[]Round{held(10, 40), {Asked: 20, Alive: 30, Error: "no"}}, nil},
		"possibly alive":            {[]Round{{Asked: 1, Got: 10, Alive: 20, Over: 60, Lost: true}, held(30, 40)}, nil},
		"three":                     {[]Round{held(10, 40), held(20, 60), held(30, 50)}, Overlaps{{0, 1, 20, 40}, {0, 2, 30, 40}, {1, 2, 30, 50}}},
	} {
		if got := (&History{Rounds: c.rounds}).Overlaps(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
}

func TestLengthOfOverlaps(t *testing.T) {
	for _, c := range []struct {
		overlaps       Overlaps
		total, longest time.Duration
	}{
		{nil, 0, 0},
		{Overlaps{{0, 1, 10, 30}}, 20, 20},
		{Overlaps{{0, 1, 10, 30}, {2, 3, 40, 45}}, 25, 20},
		{Overlaps{{0, 1, 10, 30}, {0, 2, 20, 25}, {1, 2, 25, 41}}, 31, 20},
		{Overlaps{{0, 1, -30, -10}, {2, 3, -20, -5}}, 25, 20},
		{Overlaps{{0, 1, 20, 20}}, 0, 0},
	} {
		if total, longest := c.overlaps.Total(), c.overlaps.Longest(); total != c.total || longest != c.longest {
			t.Errorf("%v: %v and %v, not %v and %v", c.overlaps, total, longest, c.total, c.longest)
		}
	}
}

func TestOverlapsOfRandomHistories(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		h := new(History)
		for range r.IntN(30) {
			got := r.Int64N(60)
			h.Rounds = append(h.Rounds, held(got, got+r.Int64N(14)-2))
		}
		wanted, total := everyPair(h)
		found := h.Overlaps()
		var names []string
		for _, o := range found {
			names = append(names, fmt.Sprint(min(o.A, o.B), max(o.A, o.B), o.From, o.To))
		}
		slices.Sort(names)
		slices.Sort(wanted)
		if !slices.Equal(names, wanted) {
			t.Fatalf("seed %d: %v, not %v", seed, names, wanted)
		}
		if found.Total() != total {
			t.Fatalf("seed %d: %v in all, not %v", seed, found.Total(), total)
		}
	}
}

// everyPair compares each round with each, and looks at each nanosecond.
func everyPair(h *History) (names []string, total time.Duration) {
	certain := func(r Round) bool { return r.Got > 0 && r.Alive >= r.Got }
	for i, a := range h.Rounds {
		for j, b := range h.Rounds[:i] {
			if certain(a) && certain(b) && max(a.Got, b.Got) <= min(a.Alive, b.Alive) && a.Got != b.Alive && b.Got != a.Alive {
				names = append(names, fmt.Sprint(j, i, max(a.Got, b.Got), min(a.Alive, b.Alive)))
			}
		}
	}
	for at := range int64(80) {
		alive := 0
		for _, r := range h.Rounds {
			if certain(r) && r.Got <= at && at < r.Alive {
				alive++
			}
		}
		if alive > 1 {
			total++
		}
	}
	return names, total
}

func TestOverlapsOfALongHistory(t *testing.T) {
	h := new(History)
	for i := range int64(100_000) {
		h.Rounds = append(h.Rounds, held(1+10*i, 10*i+12)) // each into the next, by a nanosecond
	}
	began := time.Now()
	found := h.Overlaps()
	if len(found) != 99_999 || found.Total() != 99_999 {
		t.Error(len(found), "overlaps,", found.Total())
	}
	if took := time.Since(began); took > 5*time.Second { // every pair would take longer by far
		t.Error("it took", took)
	}
}
