package main

// majorityLock is the protocol of three keys on independent nodes, of which two make the lock. There is no queue: an attempt wins or fails,
// and whoever wants to goes on with another.
type majorityLock struct {
	terms
	without rule
	actors  uint8 // how many processes take part
	faults  uint8 // how many faults there may be, or unlimited
	// attempts is how many attempts there may be in all, or unlimited.
	attempts uint8
	// steady keeps clocks from drifting.
	steady bool
	// brief keeps holders from extending: what is held is released before, or runs out.
	brief bool
}

func (m majorityLock) start() majorityState {
	s := majorityState{faults: m.faults, attempts: m.attempts}
	for i := range s.nodes {
		s.nodes[i].owner = nobody
	}
	return s
}

func (m majorityLock) moves(s majorityState, each func(move, majorityState)) {
	emit := func(d move, next majorityState) {
		if faulty[d.kind] {
			if s.faults == 0 {
				return
			}
			if s.faults != unlimited {
				next.faults--
			}
		}
		each(d, next)
		if m.steady || d.kind == tick {
			return
		}
		if n := &next.nodes[d.with]; !s.nodes[d.with].timed() && n.timed() {
			n.fast = 1 // its clock may have got ahead before, and fall back now
			each(d, next)
		}
	}
	for p := range m.actors {
		m.processMoves(s, p, emit)
		for i := range uint8(nodes) {
			m.partMoves(s, p, i, emit)
		}
	}
	for i := range uint8(nodes) {
		if s.nodes[i].owner != nobody && s.nodes[(i+1)%nodes].mute+s.nodes[(i+2)%nodes].mute == 0 {
			next := s
			next.nodes[i] = node{owner: nobody, mute: m.mute(), fast: s.nodes[i].fast}
			emit(move{kind: nodeEmptied, with: i}, next)
		}
	}
	m.timeMoves(s, emit)
}

// mute is how long a node that lost its data is not counted on: until whoever trusted a key of it does so no more.
func (m majorityLock) mute() uint8 {
	if m.without == restartAtOnce {
		return 0
	}
	return m.validity
}

func (m majorityLock) processMoves(s majorityState, p uint8, emit func(move, majorityState)) {
	switch s.procs[p].phase {
	case idle:
		if s.attempts > 0 {
			emit(move{kind: claimFirst, who: p}, m.claimed(s, p))
		}
		return
	case waiting:
		next := s
		for i := range uint8(nodes) {
			if next.procs[p].parts[i].flow != noFlow {
				next = m.forgetting(next, p, i)
			}
		}
		next.procs[p].clean()
		emit(move{kind: giveUp, who: p}, next)
	case holding:
		m.holderMoves(s, p, emit)
	case crashed:
		return
	}
	next := s
	v := &next.procs[p]
	v.clean()
	for i := range v.parts {
		v.parts[i] = part{stray: v.parts[i].stray}
	}
	v.phase = crashed
	emit(move{kind: crash, who: p}, next)
}

func (m majorityLock) partMoves(s majorityState, p, i uint8, emit func(move, majorityState)) {
	t := &s.procs[p].parts[i]
	switch t.flow {
	case claims:
		m.claimMoves(s, p, i, emit)
	case extends:
		m.extendMoves(s, p, i, emit)
	case gives:
		m.answerMoves(s, p, i, emit)
	}
	if s.procs[p].phase == cleaning && t.owed {
		m.giveMoves(s, p, i, emit)
	}
	if t.stray {
		m.strayMoves(s, p, i, emit)
	}
}

func (m majorityLock) breaks(s majorityState) property {
	alive := 0
	for p := range s.procs {
		v := &s.procs[p]
		if v.phase == holding {
			alive++
		}
		for i := range s.nodes {
			if s.nodes[i].owner == uint8(p) && v.phase == over {
				return responsibility
			}
		}
	}
	if alive > 1 {
		return exclusion
	}
	return none
}

func (m majorityLock) settled(s majorityState) bool {
	for p := range s.procs {
		if phase := s.procs[p].phase; phase == waiting || phase == holding || phase == cleaning {
			return false
		}
	}
	return s.nodes[0].owner&s.nodes[1].owner&s.nodes[2].owner == nobody
}
