package history

import (
	"cmp"
	"slices"
	"time"
)

// Overlap is a time in which two rounds were both alive, for certain.
type Overlap struct {
	A, B     int // their places in History.Rounds; A had the lock first
	From, To int64
}

// Length is how long it lasted, at the least.
func (o Overlap) Length() time.Duration { return time.Duration(o.To - o.From) }

// Overlaps are the overlaps of a history, in order of From.
type Overlaps []Overlap

// Overlaps finds every pair of rounds that were alive together.
func (h *History) Overlaps() Overlaps {
	var found Overlaps
	var alive []int // those of the rounds so far that may reach into the next
	for _, b := range h.certain() {
		began := h.Rounds[b].Got
		alive = slices.DeleteFunc(alive, func(a int) bool { return h.Rounds[a].Alive <= began })
		for _, a := range alive {
			if together(h.Rounds[a], h.Rounds[b]) {
				found = append(found, Overlap{A: a, B: b, From: began, To: min(h.Rounds[a].Alive, h.Rounds[b].Alive)})
			}
		}
		alive = append(alive, b)
	}
	return found
}

// certain are the places of the rounds that have a certain time, in the order in which it began.
func (h *History) certain() []int {
	var places []int
	for i, r := range h.Rounds {
		if r.Held() && r.Alive >= r.Got {
			places = append(places, i)
		}
	}
	slices.SortStableFunc(places, func(a, b int) int { return cmp.Compare(h.Rounds[a].Got, h.Rounds[b].Got) })
	return places
}

// together tells whether two rounds overlap. If one ended in the nanosecond in which the other began, the clock does not tell which came
// first, so that is none. A round whose two times are the same overlaps all that began before it and ended after it.
func together(a, b Round) bool { return a.Got < b.Alive && b.Got < a.Alive }

// Total is for how long at least two were alive.
func (os Overlaps) Total() time.Duration {
	var total, until int64
	for i, o := range os {
		from := o.From
		if i > 0 {
			from = max(from, until)
		}
		if o.To > from {
			total += o.To - from
		}
		if i == 0 || o.To > until {
			until = o.To
		}
	}
	return time.Duration(total)
}

// Longest is the length of the longest, 0 if there are none.
func (os Overlaps) Longest() time.Duration {
	var longest time.Duration
	for _, o := range os {
		longest = max(longest, o.Length())
	}
	return longest
}
