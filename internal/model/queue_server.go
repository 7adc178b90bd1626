package main

// What the server does, each in one step, as the scripts of queuescript.go do.

// join is the claim of a process that names the claim so many back: it takes the key if that is free or its own, and stands in the queue otherwise.
// It tells whether the key is the process's then, and whether the roll was called.
func (q queueLock) join(s *queueState, p, ago uint8) (taken, called bool) {
	at := s.leaveQueue(p, ago, min(ago+1, mostAgo))
	switch s.owner {
	case nobody:
		called = s.line[0] != 0 && !s.marked && q.without != noRollCall
		if called {
			s.callRoll()
		}
		s.owner, s.ttl, s.marked = p, q.validity, false
	case p:
	default:
		s.insert(at, entryOf(p, ago))
		return false, false
	}
	return true, called
}

// callRoll removes all places, and has those whose they were look. A key has run out though they
// waited, so the one that it was passed on to was stopped or dead, and others may be. Those that
// live claim again, from which on they have a place with a younger epoch.
func (s *queueState) callRoll() {
	for s.line[0] != 0 {
		s.procs[s.line[0].process()].told = true
		s.remove(0)
	}
}

// leaveQueue takes the entries of a process out that are between so many and so many claims back, and tells where the first of them was.
func (s *queueState) leaveQueue(p, from, to uint8) (first int) {
	first = places
	for i := places - 1; i >= 0; i-- {
		e := s.line[i]
		if e != 0 && e.process() == p && from <= e.ago() && e.ago() <= to {
			s.remove(i)
			first = i
		}
	}
	return first
}

// pass is the release of a process: it gives the key to the first in the queue who can be told, or leaves it free. Who can be told is not for the
// server to choose, so every possible outcome is given, with whether it needs a fault: one who lives, and could not be told.
func (q queueLock) pass(s queueState, p uint8, emit func(to uint8, fault bool, next queueState)) {
	w := &s.procs[p]
	s.leaveQueue(p, 0, q.reach(w))
	if s.owner != p {
		emit(nobody, false, s)
		return
	}
	fault := false
	for !w.free && s.line[0] != 0 {
		e := s.line[0]
		s.remove(0)
		to := &s.procs[e.process()]
		given := s
		given.owner, given.ttl = e.process(), q.validity
		if to.phase != crashed {
			given.procs[e.process()].words |= 1 << e.ago()
		}
		emit(e.process(), fault, given)
		fault = fault || to.phase != crashed
	}
	s.owner, s.ttl, s.marked = nobody, 0, true
	emit(nobody, fault, s)
}

// reach is how many claims back a release takes the process's entries out of the queue: all, since the oldest may have come last.
func (q queueLock) reach(w *waiter) uint8 {
	if q.without == oldEntries {
		return pick[uint8](w.answered, 0, 1)
	}
	return mostAgo
}
