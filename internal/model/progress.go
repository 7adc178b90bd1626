package main

// Progress is looked for in the calm graph: that of the moves that come about once faults have stopped. There, messages arrive and
// whoever is due acts before time passes, and time passes when there is nothing else to do. From every state that can be reached at all, with
// all faults, every way through the calm graph has to end, and to end where nobody waits. So there is no cycle, which is
// what fairness would be needed for otherwise, and the longest way tells how long a wait lasts at the most.

const (
	unknown = 0xff // what a state's longest way is, before it was looked at
	onWay   = 0xfe // and while it is
)

// calm is the search through the calm graph.
type calm[S comparable] struct {
	*search[S]
	ticks []uint8  // for each state, the longest way in ticks
	way   []uint32 // where the search is
}

// calmStep is one edge.
type calmStep struct {
	to    uint32
	ticks uint8
}

// progress gives a path to a state on a cycle, and along it, if there is one. (States where everything stops before all is settled are found by expand.)
func (s *search[S]) progress() (path []uint32, ok bool) {
	c := &calm[S]{search: s, ticks: make([]uint8, s.seen.len())}
	for i := range c.ticks {
		c.ticks[i] = unknown
	}
	for i := range c.ticks {
		if !c.visit(uint32(i)) {
			return append(s.pathTo(c.way[0]), c.way[1:]...), false
		}
		s.out.patience = max(s.out.patience, int(c.ticks[i]))
	}
	return nil, true
}

// visit works out one state's longest way. ok is false if it meets itself.
func (c *calm[S]) visit(at uint32) (ok bool) {
	if c.ticks[at] < onWay {
		return true
	}
	c.way = append(c.way, at)
	if c.ticks[at] == onWay {
		return false
	}
	c.ticks[at] = onWay
	var longest uint8
	for _, step := range c.steps(at) {
		if !c.visit(step.to) {
			return false
		}
		longest = max(longest, c.ticks[step.to]+step.ticks)
	}
	c.ticks[at] = longest
	c.way = c.way[:len(c.way)-1]
	return true
}

// steps are a state's edges in the calm graph.
func (c *calm[S]) steps(at uint32) []calmStep {
	from := c.seen.at(at)
	var sure, later []calmStep
	c.p.moves(from, func(m move, next S) {
		if !m.sure && m.kind != tick {
			return
		}
		to := c.canonical(next)
		switch {
		case to == from:
		case m.sure:
			sure = append(sure, calmStep{c.seen.find(to), 0})
		default:
			later = append(later, calmStep{c.seen.find(to), 1})
		}
	})
	if len(sure) > 0 {
		return sure
	}
	return later
}
