package main

// How a process holds the lock and gives it back: extend.go, release.go and leftover.go.

// holderMoves gives what a process may do that has the lock.
func (q queueLock) holderMoves(s queueState, p uint8, emit func(move, queueState)) {
	q.extendMoves(s, p, emit)
	if q.without == keyBeforeContext {
		q.releaseMoves(s, p, emit)
		return
	}
	next := s
	next.procs[p].phase, next.procs[p].free = cleaning, false
	emit(move{kind: contextEnds, who: p, sure: true}, next)
}

// extendMoves gives what may become of extensions. That the key was not the holder's is heard at once, or never. One that is on its
// way when the holding ends makes no difference: it comes before the release, or does nothing.
func (q queueLock) extendMoves(s queueState, p uint8, emit func(move, queueState)) {
	next := s
	w := &next.procs[p]
	switch w.extend {
	case noExtension:
		w.extend, w.extSent = extending, 0
		if q.without == trustUnanswered {
			w.left = q.window()
		}
		emit(move{kind: extendAsked, who: p}, next)
		return
	case extending:
		if s.owner == p {
			w.extend, next.ttl = extended, q.validity
			emit(move{kind: extendRuns, who: p, sure: true}, next)
		} else {
			w.extend, w.phase = noExtension, cleaning
			emit(move{kind: extendRefused, who: p, sure: true}, next)
		}
	case extended:
		w.extend, w.left = noExtension, q.renewed(w)
		w.phase = pick(w.left > 0, holding, cleaning)
		emit(move{kind: extendBooked, who: p, sure: true}, next)
	}
	lost := s
	lost.procs[p].extend = noExtension
	emit(move{kind: extendLost, who: p}, lost)
}

// renewed is how long a lock is trusted of which an extension was answered.
func (q queueLock) renewed(w *waiter) uint8 {
	if q.without == trustUnanswered {
		return w.left
	}
	return less(q.window(), w.extSent)
}

// releaseMoves gives what may become of the release of a process whose context has ended. Its request may come at any time from then on; if it is lost,
// or its confirmation is, there is another. While a claim may still come the process does not rest: the last time that it asks is after
// that (lateFor in leftover.go is longer than a request can be on its way).
func (q queueLock) releaseMoves(s queueState, p uint8, emit func(move, queueState)) {
	last := s.procs[p].strays == 0
	q.pass(s, p, func(to uint8, fault bool, next queueState) {
		m := move{kind: passKind(to, fault), who: p, with: to, sure: last && !fault}
		if next != s {
			emit(move{kind: confirmLost, who: p, with: to}, next)
		}
		if last {
			next.procs[p].phase = over
		}
		emit(m, next)
	})
	if q.without == releaseForgotten {
		s.procs[p].phase = over
		emit(move{kind: releaseLost, who: p}, s)
	}
}

func passKind(to uint8, fault bool) kind {
	switch {
	case fault:
		return passedOver
	case to == nobody:
		return leftFree
	}
	return passedOn
}
