package main

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// history is what the events add up to.
type history struct {
	holds  []hold // by start
	waits  []span
	marks  []mark // what happened to a process
	scenes []mark
	added  int // how often a process added 1 to the balance
}

// hold is one holding of the lock.
type hold struct {
	by    string
	force bool          // taken by force
	since time.Duration // when it began to want the lock
	start time.Duration // when it was handed the context

	// The context was alive at the one moment, and had ended at the other.
	alive, end time.Duration

	how    ending
	reason string // that the context gives, if any
}

// span is a time that a process spent waiting.
type span struct {
	by       string
	from, to time.Duration
}

// mark is a moment.
type mark struct {
	at   time.Duration
	by   string
	what what
	text string
}

// newHistory makes sense of events. What has not ended ends with the last of them.
func newHistory(events []event) history {
	var (
		h       history
		wanting = make(map[string]event)
		holding = make(map[string]*hold)
	)
	events = slices.SortedStableFunc(slices.Values(events), byMoment)
	for _, e := range events {
		switch e.What {
		case waits:
			wanting[e.Process] = e
		case holds:
			want := wanting[e.Process]
			delete(wanting, e.Process)
			h.waits = append(h.waits, span{e.Process, want.At, e.At})
			holding[e.Process] = &hold{by: e.Process, force: want.Force, since: want.At, start: e.At}
		case added:
			h.added++
		case ended, killed:
			if open := holding[e.Process]; open != nil {
				open.alive, open.end, open.how, open.reason = e.Alive, e.At, e.How, e.Text
				h.holds = append(h.holds, *open)
				delete(holding, e.Process)
			}
			delete(wanting, e.Process)
			h.mark(e)
		case stalled:
			h.mark(e)
		case scene:
			title, _, _ := strings.Cut(e.Text, ":")
			h.scenes = append(h.scenes, mark{at: e.At, text: title})
		}
	}
	if len(events) > 0 {
		h.cutShort(events[len(events)-1].At, wanting, holding)
	}
	slices.SortFunc(h.holds, func(a, b hold) int { return cmp.Compare(a.start, b.start) })
	return h
}

// mark notes what a person should see on the timeline.
func (h *history) mark(e event) {
	if e.What == ended && e.How != byForce {
		return
	}
	h.marks = append(h.marks, mark{at: e.At, by: e.Process, what: e.What})
}

// cutShort ends what was still going on when something went wrong.
func (h *history) cutShort(at time.Duration, wanting map[string]event, holding map[string]*hold) {
	for by, e := range wanting {
		h.waits = append(h.waits, span{by, e.At, at})
	}
	for _, open := range holding {
		open.alive, open.end, open.how = open.start, at, odd
		h.holds = append(h.holds, *open)
	}
}

// change is a change of hands: somebody was waiting when the lock came free, or took it.
type change struct{ from, to hold }

// took is from the end of the one's context to the start of the other's; negative if the other's is known to have started before
// that end was noticed.
func (c change) took() time.Duration { return c.to.start - c.from.end }

// length writes down what it took. Where that is too close to call, it says what it was less than.
func (c change) length() string {
	switch took := c.took(); {
	case took >= 0:
		return length(took)
	case !c.byForce() && c.to.start >= c.from.alive:
		return "<" + length(c.to.start-c.from.alive)
	default:
		return "−" + length(-took)
	}
}

// changes finds the changes of hands. A holder that finds the lock free has it from nobody.
func changes(holds []hold) (all []change) {
	for i := 1; i < len(holds); i++ {
		from, to := holds[i-1], holds[i]
		if to.since < from.end || to.force {
			all = append(all, change{from, to})
		}
	}
	return all
}

// overlap is two holdings of which it is not certain that the one had ended when the other began.
type overlap struct {
	change // of hands that came too late
	// certain is how long both contexts were alive for all that is known, and atMost how long it can have been. A certain of
	// zero or less means that it is too close to call.
	certain, atMost time.Duration
}

// overlaps compares every holding with every other.
func overlaps(holds []hold) (all []overlap) {
	for i, a := range holds {
		for _, b := range holds[i+1:] {
			if b.start < a.start {
				a, b = b, a
			}
			o := overlap{change{a, b}, min(a.alive, b.alive) - b.start, min(a.end, b.end) - b.start}
			if o.atMost > 0 {
				all = append(all, o)
			}
		}
	}
	return all
}

// forceBound is how long a context may outlive a takeover by force: word of it has to arrive, and at the latest its next
// extension brings it.
const forceBound = time.Second

// byForce reports whether the one lost the lock because the other took it by force.
func (c change) byForce() bool { return c.from.how == byForce && c.to.force }

// violation reports whether this must not be.
func (o overlap) violation() bool {
	if o.byForce() {
		return o.certain > forceBound
	}
	return o.certain > 0
}
