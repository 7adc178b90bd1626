package main

// How a process claims and waits: claim.go, wait.go and queue.go.

// waiterMoves gives what a process that waits may do, and what its claim may do.
func (q queueLock) waiterMoves(s queueState, p uint8, emit func(move, queueState)) {
	switch s.procs[p].claim {
	case noClaim:
		look := s.procs[p].look
		emit(move{kind: pick(look == 0, claimAgain, claimHinted), who: p, sure: look == 0}, q.claimed(s, p))
	case asked:
		kind, next := q.claimRun(s, p)
		emit(move{kind: kind, who: p, sure: true}, next)
		if s.procs[p].strays == 0 {
			emit(move{kind: claimUnheard, who: p}, q.unheard(s, p))
		}
	default:
		kind, next := q.answered(s, p)
		emit(move{kind: kind, who: p, sure: true}, next)
		emit(move{kind: answerLost, who: p}, q.unheard(s, p))
	}
	emit(move{kind: giveUp, who: p}, q.givenUp(s, p))
	if s.procs[p].claim == noClaim {
		emit(move{kind: wordForged, who: p}, q.heard(s, p, mostAgo))
	}
}

// claimed sends a claim. It is the next to be told apart once the one before it has been answered; else it goes as that one.
func (q queueLock) claimed(s queueState, p uint8) queueState {
	w := &s.procs[p]
	if w.phase == idle {
		*w = waiter{phase: waiting, slow: w.slow, epochs: [mostAgo]uint8{0, q.window()}}
	} else if w.answered {
		if q.without != epochReused {
			s.outdate(p)
		}
		w.epochs[0], w.answered = 0, false
	}
	w.claim, w.sent, w.look = asked, 0, 0
	return s
}

// claimRun has the server carry the claim out that is waited for. That another has the lock is heard at once, or never, as good news may also
// be heard late.
func (q queueLock) claimRun(s queueState, p uint8) (kind, queueState) {
	own := s.owner == p
	taken, called := q.join(&s, p, 0)
	w := &s.procs[p]
	w.ttl = s.ttl
	if taken {
		w.claim = pick(own, gotOwn, gotKey)
		return pick(called, claimCalls, claimTakes), s
	}
	q.rest(w)
	return claimQueues, s
}

// rest has a waiter wait until the key should have run out.
func (q queueLock) rest(w *waiter) {
	w.claim, w.answered = noClaim, true
	w.look = pick[uint8](q.without == noTimer, never, w.ttl)
}

// unheard is the end of waiting for an answer: the connection broke, or it takes too long. The request may still come.
func (q queueLock) unheard(s queueState, p uint8) queueState {
	w := &s.procs[p]
	w.stray()
	w.look = 0
	if q.without == claimForgotten {
		w.phase = over
	}
	return s
}

// stray is for a claim whose answer is not waited for any more. Its request may still come, unless there is another such: of two, one is lost.
func (w *waiter) stray() {
	if w.claim == asked && w.strays == 0 {
		w.strays |= 1
	}
	w.claim = noClaim
}

// answered books the good answer to a claim.
func (q queueLock) answered(s queueState, p uint8) (kind, queueState) {
	w := &s.procs[p]
	own := w.claim == gotOwn
	w.claim, w.answered = noClaim, true
	if own && q.without == ownNotKnown {
		w.lied = true
		return answerOwn, s
	}
	if left := q.trust(w.sent, w.ttl); left > 0 {
		w.hold(left)
		return pick(own, answerOwn, answerTaken), s
	}
	w.phase, w.free = cleaning, true
	return answerTooLate, s
}

// trust is how long a lock is trusted from now, of which a request was sent so long ago, and of whose key so much was left.
func (q queueLock) trust(sent, ttl uint8) uint8 {
	until, margin := min(q.validity, ttl), q.margin
	switch q.without {
	case trustFromAnswer:
		return q.window()
	case trustOutlastsClock:
		margin = 0
	}
	return less(until, sent+margin)
}

// hold makes a wait a lock.
func (w *waiter) hold(left uint8) {
	w.stray()
	w.phase, w.left = holding, left
}

// givenUp is the end of a wait: the caller's, or that of the patience with an answer. (The wait may go on from another place, which is another
// attempt.) What was passed on to it meanwhile is left free.
func (q queueLock) givenUp(s queueState, p uint8) queueState {
	w := &s.procs[p]
	w.stray()
	w.phase, w.free = cleaning, true
	return s
}

// wordMoves gives what may become of the words on their way to a process.
func (q queueLock) wordMoves(s queueState, p uint8, emit func(move, queueState)) {
	for ago := range uint8(mostAgo + 1) {
		if s.procs[p].words&(1<<ago) == 0 {
			continue
		}
		lost := s
		lost.procs[p].words &^= 1 << ago
		emit(move{kind: wordLost, who: p}, lost)
		emit(move{kind: q.hearing(&s, p, ago), who: p, sure: true}, q.heard(lost, p, ago))
	}
	if s.procs[p].told {
		s.procs[p].told = false
		emit(move{kind: lookLost, who: p}, s)
		s.procs[p].look = 0
		emit(move{kind: lookHeard, who: p, sure: true}, s)
	}
}

// hearing says what word will do.
func (q queueLock) hearing(s *queueState, p, ago uint8) kind {
	switch w := &s.procs[p]; {
	case w.phase == waiting && q.belief(w, ago) > 0:
		return wordTaken
	case w.phase == waiting:
		return wordRefused
	case w.phase == holding:
		return wordIdle
	}
	return wordToNobody
}

// heard takes word that the lock was passed on to the process, which names the claim so many back.
func (q queueLock) heard(s queueState, p, ago uint8) queueState {
	w := &s.procs[p]
	switch w.phase {
	case waiting:
		if left := q.belief(w, ago); left > 0 {
			w.hold(left)
		} else {
			w.look = 0
		}
	case over:
		w.phase, w.free = cleaning, false
	}
	return s
}

// belief is how long a process trusts a lock of which it was told.
func (q queueLock) belief(w *waiter, ago uint8) uint8 {
	if ago >= mostAgo {
		return pick(q.without == wordBelieved, q.window(), 0)
	}
	if q.without == trustFromWord {
		return q.window()
	}
	return less(q.window(), w.epochs[ago])
}

// strayMoves gives what may become of requests that are not waited for any more.
func (q queueLock) strayMoves(s queueState, p uint8, emit func(move, queueState)) {
	for ago := range uint8(mostAgo + 1) {
		if s.procs[p].strays&(1<<ago) == 0 {
			continue
		}
		lost := s
		lost.procs[p].strays &^= 1 << ago
		emit(move{kind: strayLost, who: p}, lost)
		comes := lost
		q.join(&comes, p, ago)
		emit(move{kind: strayRuns, who: p, sure: true}, comes)
	}
}

// less is the difference, or zero.
func less(a, b uint8) uint8 {
	if a < b {
		return 0
	}
	return a - b
}

// pick is one or the other.
func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}
