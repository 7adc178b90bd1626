package history

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"time"
)

// Liveness says how well the clients were served that could be served. A client cannot be served
// while a strike with Blocked keeps it from that.
type Liveness struct {
	// Free is the longest time in which nobody had the lock and a client waited that could be
	// served. Idle is all such times together, without those that a handoff explains.
	Free, Idle time.Duration
	// Wait is the longest wait of such a client. Late is the longest part of a wait that its turn
	// does not explain: the wait, less the time of those holdings of others that may go before it.
	Wait, Late time.Duration
	// Busiest and Idlest are how many holdings the busiest and the idlest of clients alike had.
	Busiest, Idlest int
}

// Handoff is a gap between two holdings that counts for nothing in Liveness.Idle: some hundred
// times what a handoff takes, so that a busy machine does not count either.
const Handoff = 100 * time.Millisecond

// Share is how much the busiest had for each that the idlest had. It is infinite if that had none.
func (l Liveness) Share() float64 {
	switch {
	case l.Busiest == 0:
		return 1
	case l.Idlest == 0:
		return math.Inf(1)
	}
	return float64(l.Busiest) / float64(l.Idlest)
}

// stretch is a time from one moment to another.
type stretch struct{ from, to int64 }

func (s stretch) length() time.Duration { return time.Duration(s.to - s.from) }

// want is a worker's wish for the lock, from its first call on. Calls that fail in between are part
// of it: a library that gives up and is called again leaves its user waiting all the same.
type want struct {
	stretch
	client, worker int
}

// holding is a time for which a round had the lock.
type holding struct {
	stretch
	client, worker int
}

// Liveness reads it out of the history. turns is how many holdings may go before a wait.
func (h *History) Liveness(turns int) (l Liveness) {
	holdings := h.times()
	var served []want
	for _, w := range h.wants() {
		for _, s := range h.servable(w) {
			served = append(served, want{s, w.client, w.worker})
		}
	}
	l.Free, l.Idle = vacancies(holdings, served)
	reach := reaches(holdings)
	for _, w := range served {
		l.Wait = max(l.Wait, w.length())
		l.Late = max(l.Late, w.length()-before(holdings, reach, w, turns))
	}
	l.Busiest, l.Idlest = h.extremes()
	return l
}

// times are the holdings, in the order in which they began. One that was lost counts up to the last
// look that found it alive: its process may have been stopped since.
func (h *History) times() (all []holding) {
	for _, r := range h.Rounds {
		if !r.Held() {
			continue
		}
		to := h.Ended
		switch {
		case r.Lost:
			to = r.Alive
		case r.Free != 0:
			to = r.Free
		case r.Over != 0:
			to = r.Over
		}
		all = append(all, holding{stretch{r.Got, max(r.Got, to)}, r.Client, r.Worker})
	}
	slices.SortStableFunc(all, func(a, b holding) int { return cmp.Compare(a.from, b.from) })
	return all
}

// wants are the waits.
func (h *History) wants() (all []want) {
	rounds := slices.Clone(h.Rounds)
	slices.SortStableFunc(rounds, func(a, b Round) int {
		return cmp.Or(
			cmp.Compare(a.Client, b.Client), cmp.Compare(a.Worker, b.Worker), cmp.Compare(a.Asked, b.Asked))
	})
	open := false // the last of all goes on
	for _, r := range rounds {
		last := len(all) - 1
		if !open || all[last].client != r.Client || all[last].worker != r.Worker {
			all = append(all, want{stretch{from: r.Asked}, r.Client, r.Worker})
			last++
		}
		open = !r.Held()
		switch {
		case r.Held():
			all[last].to = r.Got
		case r.Error != "":
			all[last].to = r.Over
		default:
			all[last].to = h.Ended
		}
	}
	return slices.DeleteFunc(all, func(w want) bool { return w.to <= w.from })
}

// servable is the parts of a wait in which its client could be served.
func (h *History) servable(w want) (parts []stretch) {
	parts = []stretch{w.stretch}
	for _, s := range h.Faults {
		if s.Blocked && (s.Client == nil || *s.Client == w.client) {
			parts = without(parts, s.stretch(h.Ended))
		}
	}
	return parts
}

func (s Strike) stretch(ended int64) stretch {
	if s.Mended == 0 {
		return stretch{s.Struck, max(s.Struck, ended)}
	}
	return stretch{s.Struck, s.Mended}
}

// without takes a time out of others.
func without(parts []stretch, out stretch) (left []stretch) {
	for _, p := range parts {
		if out.to <= out.from || out.to <= p.from || p.to <= out.from {
			left = append(left, p)
			continue
		}
		if p.from < out.from {
			left = append(left, stretch{p.from, out.from})
		}
		if out.to < p.to {
			left = append(left, stretch{out.to, p.to})
		}
	}
	return left
}

// vacancies finds when nobody had the lock and one was there to be served.
func vacancies(holdings []holding, served []want) (longest, long time.Duration) {
	type change struct {
		at             int64
		holds, waiting int
	}
	var changes []change
	for _, s := range holdings {
		changes = append(changes, change{s.from, 1, 0}, change{s.to, -1, 0})
	}
	for _, s := range served {
		changes = append(changes, change{s.from, 0, 1}, change{s.to, 0, -1})
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	var holds, waiting int
	since, vacant := int64(0), false
	for i, c := range changes {
		holds, waiting = holds+c.holds, waiting+c.waiting
		if i+1 < len(changes) && changes[i+1].at == c.at {
			continue // all that happens at one moment happens before what comes after
		}
		now := holds == 0 && waiting > 0
		if vacant && !now {
			took := time.Duration(c.at - since)
			if longest = max(longest, took); took > Handoff {
				long += took
			}
		}
		if now && !vacant {
			since = c.at
		}
		vacant = now
	}
	return longest, long
}

// reaches tells, for each holding, how far it and all that began before it go.
func reaches(holdings []holding) []int64 {
	reach := make([]int64, len(holdings))
	for i, s := range holdings {
		if reach[i] = s.to; i > 0 {
			reach[i] = max(reach[i-1], s.to)
		}
	}
	return reach
}

// before is how long the holdings of others take that may go before a wait: the longest of them.
func before(holdings []holding, reach []int64, w want, turns int) (total time.Duration) {
	var lasted []time.Duration
	first := sort.Search(len(reach), func(i int) bool { return reach[i] > w.from })
	for _, s := range holdings[first:] {
		if s.from >= w.to {
			break
		}
		part := stretch{max(s.from, w.from), min(s.to, w.to)}
		if part.to > part.from && (s.client != w.client || s.worker != w.worker) {
			lasted = append(lasted, part.length())
		}
	}
	slices.SortFunc(lasted, func(a, b time.Duration) int { return cmp.Compare(b, a) })
	for _, d := range lasted[:min(turns, len(lasted))] {
		total += d
	}
	return total
}

// extremes counts holdings since Counted, of those clients that no fault struck alone since.
func (h *History) extremes() (busiest, idlest int) {
	counts := h.Counts()
	for _, s := range h.Faults {
		if s.Client != nil && s.stretch(h.Ended).to > h.Counted {
			delete(counts, *s.Client)
		}
	}
	first := true
	for _, n := range counts {
		if busiest = max(busiest, n); first || n < idlest {
			idlest = n
		}
		first = false
	}
	return busiest, idlest
}

// Counts is how many holdings each client had since Counted.
func (h *History) Counts() map[int]int {
	counts := make(map[int]int)
	for i := range h.Clients {
		counts[i] = 0
	}
	for _, r := range h.Rounds {
		if _, known := counts[r.Client]; !known {
			counts[r.Client] = 0
		}
		if r.Held() && r.Got >= h.Counted {
			counts[r.Client]++
		}
	}
	return counts
}

// Waits are the waits of one client that began since Counted, in order of length.
func (h *History) Waits(client int) (all []time.Duration) {
	for _, w := range h.wants() {
		if w.client == client && w.from >= h.Counted {
			all = append(all, w.length())
		}
	}
	slices.Sort(all)
	return all
}
