package main

// How a process claims three keys and gives back what a failed attempt has left: claim.go and leftover.go.

// claimed sends an attempt's claims, to all nodes at once.
func (m majorityLock) claimed(s majorityState, p uint8) majorityState {
	if s.attempts != unlimited {
		s.attempts--
	}
	v := voter{phase: waiting}
	for i := range v.parts {
		v.parts[i] = part{flow: claims, owed: true}
	}
	s.procs[p] = v
	return s
}

// claimMoves gives what may become of a claim of one key.
func (m majorityLock) claimMoves(s majorityState, p, i uint8, emit func(move, majorityState)) {
	n := s.nodes[i]
	next := s
	to := &next.procs[p].parts[i]
	switch {
	case n.mute > 0: // it is not counted on (restart.go), so it is not asked
		to.flow, to.owed = noFlow, false
		emit(move{kind: nodeRefuses, who: p, with: i, sure: true}, m.judged(next, p))
	case n.owner == nobody:
		next.nodes[i].owner, next.nodes[i].ttl = p, m.validity
		to.flow, to.given = gives, m.validity
		emit(move{kind: claimTakes, who: p, with: i, sure: true}, next)
	case n.owner == p: // a claim that was not waited for has come before this one
		to.flow, to.given = gives, n.ttl
		emit(move{kind: claimTakes, who: p, with: i, sure: true}, next)
	default: // bad news is heard at once, or never
		*to = part{standing: taken}
		emit(move{kind: claimMeets, who: p, with: i, sure: true}, m.judged(next, p))
	}
	lost := s
	lost.procs[p].parts[i].abandon()
	emit(move{kind: claimUnheard, who: p, with: i}, m.judged(m.forgetting(lost, p, i), p))
}

// abandon is for a claim whose answer is not waited for any more. Its request may still come.
func (t *part) abandon() {
	t.stray = t.stray || t.flow == claims
	t.flow = noFlow
}

// forgetting is for a claim without an answer: it stays in the books, unless that rule is left out.
func (m majorityLock) forgetting(s majorityState, p, i uint8) majorityState {
	if m.without == claimForgotten {
		s.procs[p].parts[i].owed = false
	}
	return s
}

// judged decides what the answers so far decide.
func (m majorityLock) judged(s majorityState, p uint8) majorityState {
	v := &s.procs[p]
	switch {
	case v.phase == waiting && v.count(mine) >= most && v.left() > 0:
		v.phase = holding
	case v.phase == waiting && v.count(mine) >= most, // too late to be of use
		v.phase == waiting && v.count(mine)+v.open() < most,
		v.phase == holding && (v.count(mine) < most || v.left() == 0):
		v.clean()
	}
	return s
}

// clean is the end of an attempt, or of a lock: what may be there of it is given back.
func (v *voter) clean() {
	v.phase = cleaning
	for i := range v.parts {
		v.parts[i].abandon()
	}
	v.rest()
}

// rest ends the cleaning when nothing is owed any more.
func (v *voter) rest() {
	for i := range v.parts {
		if v.parts[i].owed {
			return
		}
	}
	v.phase = over
}

// giveMoves gives what may become of giving one key back. If its request or the confirmation is lost, there is another; and
// another one after a claim that may still come.
func (m majorityLock) giveMoves(s majorityState, p, i uint8, emit func(move, majorityState)) {
	given := s
	if s.nodes[i].owner == p {
		given.nodes[i].owner, given.nodes[i].ttl = nobody, 0
		emit(move{kind: confirmLost, who: p, with: i}, given)
	}
	stray := s.procs[p].parts[i].stray
	if !stray {
		given.procs[p].parts[i].owed = false
		given.procs[p].rest()
	}
	emit(move{kind: leftFree, who: p, with: i, sure: !stray}, given)
	if m.without == releaseForgotten {
		s.procs[p].parts[i].owed = false
		s.procs[p].rest()
		emit(move{kind: releaseLost, who: p, with: i}, s)
	}
}

// strayMoves gives what may become of a claim that is not waited for any more.
func (m majorityLock) strayMoves(s majorityState, p, i uint8, emit func(move, majorityState)) {
	s.procs[p].parts[i].stray = false
	emit(move{kind: strayLost, who: p, with: i}, s)
	n := &s.nodes[i]
	if n.owner == nobody && n.mute == 0 {
		n.owner, n.ttl = p, m.validity
	}
	emit(move{kind: strayRuns, who: p, with: i, sure: true}, s)
}
