package main

// queueLock is the protocol of one key with its queue, on which the lock is handed on directly.
type queueLock struct {
	terms
	without rule
	actors  uint8 // how many processes take part
	faults  uint8 // how many faults there may be, or unlimited
}

func (q queueLock) start() queueState {
	return queueState{owner: nobody, faults: q.faults}
}

func (q queueLock) moves(s queueState, each func(move, queueState)) {
	emit := func(m move, next queueState) {
		if faulty[m.kind] || m.kind == passedOn && !m.sure {
			if s.faults == 0 {
				return
			}
			if s.faults != unlimited {
				next.faults--
			}
		}
		each(m, next)
		if most := q.window(); !s.procs[m.who].timed(most) && next.procs[m.who].timed(most) {
			next.procs[m.who].slow = 1 // its clock may have fallen behind before, and catch up now
			each(m, next)
		}
	}
	for p := range q.actors {
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
		q.strayMoves(s, p, emit)
		q.wordMoves(s, p, emit)
		if s.procs[p].phase != idle && s.procs[p].phase != crashed {
			emit(move{kind: crash, who: p}, q.crashed(s, p))
		}
	}
	q.timeMoves(s, emit)
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
	if alive > 1 {
		return exclusion
	}
	return none
}

func (q queueLock) settled(s queueState) bool {
	for p := range s.procs {
		if phase := s.procs[p].phase; phase == waiting || phase == holding || phase == cleaning {
			return false
		}
	}
	return s.owner == nobody
}
