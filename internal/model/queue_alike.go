package main

import (
	"cmp"
	"slices"
)

// Which states go on alike. None of this changes what is found: it only keeps the search from exploring the same twice.

func (q queueLock) tidy(s queueState) queueState {
	s.marked = s.marked && s.line[0] != 0
	for p := range uint8(processes) {
		q.tidyProcess(&s, p)
	}
	return s
}

// tidyProcess sets what nothing depends on to one value.
func (q queueLock) tidyProcess(s *queueState, p uint8) {
	w := &s.procs[p]
	ago, any := s.trail(p)
	if w.phase != waiting {
		q.forgetEpochs(s, p)
		w.claim, w.look, w.epochs = noClaim, 0, [mostAgo]uint8{}
		w.answered = w.answered && w.phase == cleaning && q.without == oldEntries
	}
	if w.claim == noClaim {
		w.sent, w.ttl = 0, 0
	}
	if w.phase != holding {
		w.left, w.extend = 0, noExtension
	}
	if w.extend == noExtension {
		w.extSent = 0
	}
	w.free = w.free && w.phase == cleaning
	w.told = w.told && w.phase == waiting && w.claim == noClaim && w.look != 0
	switch {
	case w.phase == waiting:
		for i := range w.epochs {
			if !ago[i] && (i > 0 || w.claim != asked && w.answered) {
				w.epochs[i] = q.window()
			}
			if w.words&(1<<i) != 0 && w.epochs[i] == q.window() && q.agesForGood() { // it will be refused, as one from further back
				w.words = w.words&^(1<<i) | 1<<mostAgo
			}
		}
	case w.phase == crashed && w.words != 0:
		w.words = 0
	case (w.phase == over || w.phase == crashed) && !any:
		*w = waiter{}
	}
	if !w.timed(q.window()) {
		w.slow = 0
	}
}

// agesForGood tells that word which names too old a claim is refused whenever it comes.
func (q queueLock) agesForGood() bool {
	return q.without != trustFromWord && q.without != epochReused
}

// forgetEpochs is for a process that does not wait: by which claim it is told of the lock makes no difference.
func (q queueLock) forgetEpochs(s *queueState, p uint8) {
	if q.without == oldEntries {
		return
	}
	w := &s.procs[p]
	w.words, w.strays = min(w.words, 1), min(w.strays, 1)
	for i, e := range s.line {
		if e != 0 && e.process() == p {
			s.line[i] = entryOf(p, 0)
		}
	}
}

// alike tells whether two states go on alike, of which the first is tidy.
func (q queueLock) alike(a, b queueState) bool {
	return q.canonical(a) == q.canonical(q.tidy(b))
}

// canonical puts the processes in order. They are alike, so a state and one in which they have changed places go on alike.
func (q queueLock) canonical(s queueState) queueState {
	order := [processes]uint8{0, 1, 2}
	var keys [processes]uint64
	for p := range uint8(processes) {
		keys[p] = s.rank(p)
	}
	slices.SortStableFunc(order[:], func(a, b uint8) int { return cmp.Compare(keys[b], keys[a]) })
	return s.renamed(order)
}

// rank orders processes, by all that is known of them.
func (s *queueState) rank(p uint8) uint64 {
	w := &s.procs[p]
	r := uint64(pick(s.owner == p, 1, 0))
	for _, e := range s.line {
		r <<= 2
		if e != 0 && e.process() == p {
			r |= uint64(1 + e.ago())
		}
	}
	for _, part := range [...]uint8{
		uint8(w.phase), w.slow + w.flags(), uint8(w.claim), w.ttl, w.sent, w.epochs[0], w.epochs[1], pick[uint8](w.answered, 1, 0),
		w.strays, w.words, w.look & 7, w.left, uint8(w.extend), w.extSent, pick[uint8](w.free, 1, 0),
	} {
		r = r<<3 ^ uint64(part) ^ r>>61
	}
	return r
}

// flags are what is true or false of a process that others know of, as a bit mask above slow's.
func (w *waiter) flags() uint8 {
	return pick[uint8](w.stopped, 2, 0) + pick[uint8](w.told, 4, 0)
}

// renamed gives the processes new places: order tells whose is which.
func (s queueState) renamed(order [processes]uint8) queueState {
	next := s
	var name [processes]uint8
	for to, from := range order {
		name[from] = uint8(to)
		next.procs[to] = s.procs[from]
	}
	if s.owner != nobody {
		next.owner = name[s.owner]
	}
	for i, e := range s.line {
		if e != 0 {
			next.line[i] = entryOf(name[e.process()], e.ago())
		}
	}
	return next
}
