package main

// queueLock is the protocol of one key with its queue, on which the lock is handed on directly.
type queueLock struct {
	terms
	without rule
	actors  uint8 // how many processes take part
	faults  uint8 // how many faults there may be, or unlimited
	stops   uint8 // and how often processes are stopped beside that, or unlimited
	steady  bool  // clocks do not drift
}

func (q queueLock) start() queueState {
	return queueState{owner: nobody, faults: q.faults, stops: q.stops}
}

func (q queueLock) moves(s queueState, each func(move, queueState)) {
	due := false // something comes about before time passes, unless it is late
	emit := func(m move, next queueState) {
		if !m.count(&next) {
			return
		}
		due = due || m.sure && !q.alike(s, next)
		if m.kind == tick && due {
			next.spent = 0
		}
		each(m, next)
		if most := q.window(); !q.steady && !s.procs[m.who].timed(most) &&
			next.procs[m.who].timed(most) {
			next.procs[m.who].slow = 1 // its clock may have fallen behind before, and catch up now
			each(m, next)
		}
	}
	for p := range q.actors {
		q.processMoves(s, p, emit)
	}
	q.timeMoves(s, emit)
}

// processMoves gives what a process may do, and what may become of what it has sent.
func (q queueLock) processMoves(s queueState, p uint8, emit func(move, queueState)) {
	q.strayMoves(s, p, emit)
	if s.procs[p].stopped {
		q.stoppedMoves(s, p, emit)
		return
	}
	switch s.procs[p].phase {
	case idle:
		emit(move{kind: claimFirst, who: p}, q.claimed(s, p))
	case waiting:
		q.waiterMoves(s, p, emit)
	case holding:
		q.holderMoves(s, p, emit)
	case cleaning:
		q.releaseMoves(s, p, emit)
	}
	q.wordMoves(s, p, emit)
	if s.procs[p].phase != idle && s.procs[p].phase != crashed {
		emit(move{kind: crash, who: p}, q.crashed(s, p))
		s.procs[p].stopped = true
		emit(move{kind: stop, who: p}, s)
	}
}

// stoppedMoves gives what may become of a process that is stopped: what it has sent arrives, and
// it may go on. (A release on its way is one that came before.)
func (q queueLock) stoppedMoves(s queueState, p uint8, emit func(move, queueState)) {
	switch w := &s.procs[p]; {
	case w.claim == asked:
		kind, next := q.claimRun(s, p)
		emit(move{kind: kind, who: p, sure: true}, next)
	case w.extend == extending:
		q.extendMoves(s, p, emit)
	}
	s.procs[p].stopped = false
	emit(move{kind: goOn, who: p}, s)
}

// count takes a move from what there may be of its kind, and notes that faults have not stopped
// yet. It reports false if there may be no more.
func (m move) count(next *queueState) bool {
	var left *uint8
	switch {
	case m.kind == stop:
		left = &next.stops
	case faulty[m.kind] || m.kind == passedOn && !m.sure:
		left = &next.faults
	default:
		return true
	}
	if *left == 0 {
		return false
	}
	if *left != unlimited {
		*left--
	}
	next.spent = 0
	return true
}

// crashed is the end of a process. A claim on its way may still arrive; nobody hears what comes back. (An extension or a release on its way is one
// that came before the crash.)
func (q queueLock) crashed(s queueState, p uint8) queueState {
	w := &s.procs[p]
	w.stray()
	s.procs[p] = waiter{phase: crashed, strays: w.strays}
	return s
}

func (q queueLock) breaks(s queueState) property {
	alive := 0
	for p := range s.procs {
		w := &s.procs[p]
		if w.phase == holding {
			alive++
		}
		if w.lied {
			return honesty
		}
		if s.owner == uint8(p) && w.phase == over && w.words == 0 {
			return responsibility
		}
	}
	switch {
	case alive > 1:
		return exclusion
	case s.spent > mostSpent:
		return liveness
	}
	return none
}

func (q queueLock) settled(s queueState) bool {
	for p := range s.procs {
		switch w := &s.procs[p]; {
		case w.stopped:
		case w.phase == waiting || w.phase == holding || w.phase == cleaning:
			return false
		}
	}
	return s.owner == nobody
}
