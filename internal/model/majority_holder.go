package main

// How a process holds a majority of the keys: extend.go and release.go.

// holderMoves gives what a process may do that has the lock.
func (m majorityLock) holderMoves(s majorityState, p uint8, emit func(move, majorityState)) {
	if s.procs[p].open() == 0 && !m.brief {
		emit(move{kind: extendAsked, who: p}, m.asksAgain(s, p))
	}
	if m.without == keyBeforeContext {
		for i := range uint8(nodes) {
			if s.procs[p].parts[i].owed {
				m.giveMoves(s, p, i, emit)
			}
		}
		return
	}
	s.procs[p].clean()
	emit(move{kind: contextEnds, who: p, sure: true}, s)
}

// asksAgain sends a round of extensions. A key that was found to be gone is claimed again, while the others stand.
func (m majorityLock) asksAgain(s majorityState, p uint8) majorityState {
	v := &s.procs[p]
	v.sent = 0
	for i := range v.parts {
		t := &v.parts[i]
		t.flow = extends
		if t.standing == gone && !t.stray {
			t.flow, t.standing, t.owed = claims, unheard, true
		}
		if t.standing == mine && m.without == trustUnanswered {
			t.left = m.window()
		}
	}
	return s
}

// extendMoves gives what may become of the extension of one key.
func (m majorityLock) extendMoves(s majorityState, p, i uint8, emit func(move, majorityState)) {
	lost := s
	lost.procs[p].parts[i].flow = noFlow
	emit(move{kind: extendLost, who: p, with: i}, lost)
	n, t := &s.nodes[i], &s.procs[p].parts[i]
	if n.owner == p {
		n.ttl, t.flow, t.given = m.validity, gives, m.validity
		emit(move{kind: extendRuns, who: p, with: i, sure: true}, s)
		return
	}
	t.flow, t.left = noFlow, 0
	t.standing = pick(n.owner == nobody, gone, taken)
	emit(move{kind: extendRefused, who: p, with: i, sure: true}, m.judged(s, p))
}

// answerMoves gives what may become of good news of one key.
func (m majorityLock) answerMoves(s majorityState, p, i uint8, emit func(move, majorityState)) {
	lost := s
	lost.procs[p].parts[i].abandon()
	if lost.procs[p].parts[i].standing != mine {
		lost = m.forgetting(lost, p, i)
	}
	emit(move{kind: answerLost, who: p, with: i}, m.judged(lost, p))
	v := &s.procs[p]
	t := &v.parts[i]
	t.flow, t.standing, t.owed = noFlow, mine, true
	if m.without != trustUnanswered || v.phase == waiting {
		t.left = m.trust(v.sent, t.given)
	}
	emit(move{kind: answerBooked, who: p, with: i, sure: true}, m.judged(s, p))
}

// trust is how long a key is trusted from now that was asked for so long ago, and of which so much was left.
func (m majorityLock) trust(sent, given uint8) uint8 {
	switch m.without {
	case trustFromAnswer:
		return m.window()
	case trustOutlastsClock:
		return less(given, sent)
	}
	return less(given, sent+m.margin)
}
