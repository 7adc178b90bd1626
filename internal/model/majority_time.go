package main

// timeMoves gives what may happen while one tick passes for the processes. Here it is the nodes' clocks that drift: each is at most one tick ahead of the
// processes', and may get ahead or fall back at any time. So between any process and any node both directions are possible; only two
// processes' clocks do not drift apart, and they never compare them.
func (m majorityLock) timeMoves(s majorityState, emit func(move, majorityState)) {
	for drifts := range uint8(1 << nodes) {
		if next, ok := m.later(s, drifts); ok && (drifts == 0 || !m.steady) {
			emit(move{kind: tick, with: drifts}, next)
		}
	}
}

// later is one tick later. ok is false if there is a clock to drift that times nothing.
func (m majorityLock) later(s majorityState, drifts uint8) (next majorityState, ok bool) {
	for i := range s.nodes {
		n := &s.nodes[i]
		passes := uint8(1)
		if drifts&(1<<i) != 0 {
			if !n.timed() {
				return s, false
			}
			passes = 2 - 2*n.fast
			n.fast = 1 - n.fast
		}
		n.ttl, n.mute = less(n.ttl, passes), less(n.mute, passes)
		if n.ttl == 0 {
			n.owner = nobody
		}
	}
	for p := range s.procs {
		v := &s.procs[p]
		v.sent = min(v.sent+1, m.window())
		for i := range v.parts {
			v.parts[i].left = less(v.parts[i].left, 1)
		}
		if v.phase == holding && v.left() == 0 {
			v.clean()
		}
	}
	return s, true
}
