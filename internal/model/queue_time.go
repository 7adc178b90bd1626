package main

// timeMoves gives what may happen while one tick passes on the server. Each process's clock is at most one tick behind the server's, and may fall behind
// or catch up at any time. So over no stretch of time, however long, does it lose or gain more than a tick, which is the margin; whether a
// timer was set while it was behind or not, both directions are possible for it.
func (q queueLock) timeMoves(s queueState, emit func(move, queueState)) {
	var may uint8
	for p := range s.procs {
		if !q.steady && s.procs[p].timed(q.window()) {
			may |= 1 << p
		}
	}
	for drifts := range uint8(1 << processes) {
		if drifts&^may == 0 {
			emit(move{kind: tick, with: drifts}, q.later(s, drifts))
		}
	}
}

// later is one tick later.
func (q queueLock) later(s queueState, drifts uint8) queueState {
	if s.ttl > 0 {
		s.ttl--
	}
	if s.ttl == 0 {
		s.runOut()
	}
	s.marked = false
	for p := range s.procs {
		w := &s.procs[p]
		passes := uint8(1)
		if drifts&(1<<p) != 0 {
			passes = 2 * w.slow
			w.slow = 1 - w.slow
		}
		w.pass(passes, q.window())
	}
	return s
}

// runOut is the end of a key that was not extended.
func (s *queueState) runOut() {
	if s.owner != nobody && s.procs[s.owner].gone() {
		for p := range s.procs {
			if s.procs[p].waits() {
				s.spent++
				break
			}
		}
	}
	s.owner = nobody
}

// pass lets time pass by a process's clock. When trust runs out the context ends by its timer, at once: a process that is stopped for longer
// than that is not covered by the guarantee.
func (w *waiter) pass(ticks, most uint8) {
	w.sent, w.extSent = min(w.sent+ticks, most), min(w.extSent+ticks, most)
	for i := range w.epochs {
		w.epochs[i] = min(w.epochs[i]+ticks, most)
	}
	if w.look != never {
		w.look = less(w.look, ticks)
	}
	w.left = less(w.left, ticks)
	if w.phase == holding && w.left == 0 {
		w.phase = cleaning
	}
}

// timed tells whether any timer of the process is running.
func (w *waiter) timed(most uint8) bool {
	if w.phase == holding {
		return true
	}
	return w.phase == waiting &&
		(w.claim != noClaim && w.sent < most || w.epochs[0] < most || w.epochs[1] < most || w.look != never && w.look > 0)
}
