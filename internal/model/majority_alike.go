package main

import (
	"cmp"
	"slices"
)

// Which states go on alike. None of this changes what is found: it only keeps the search from exploring the same twice.

func (m majorityLock) tidy(s majorityState) majorityState {
	for p := range s.procs {
		v := &s.procs[p]
		about := false
		for i := range v.parts {
			t := &v.parts[i]
			about = about || t.stray || s.nodes[i].owner == uint8(p)
			if v.phase != waiting && v.phase != holding {
				t.left, t.standing = 0, unheard
			}
			if t.standing != mine {
				t.left = 0
			}
			if t.flow != gives {
				t.given = 0
			}
		}
		if v.open() == 0 || v.phase != waiting && v.phase != holding {
			v.sent = 0
		}
		if (v.phase == over || v.phase == crashed) && !about {
			*v = voter{}
		}
	}
	for i := range s.nodes {
		if n := &s.nodes[i]; !n.timed() {
			n.fast = 0
		}
	}
	return s
}

// orders are the ways in which three nodes can be put in a row.
var orders = [6][nodes]uint8{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}

// canonical tries the nodes in every order, and puts the processes in order in each: nodes are alike, and so are processes.
func (m majorityLock) canonical(s majorityState) majorityState {
	var best [processes]uint64
	var first majorityState
	for i, order := range orders {
		turned := s
		for to, from := range order {
			turned.nodes[to] = s.nodes[from]
			for p := range s.procs {
				turned.procs[p].parts[to] = s.procs[p].parts[from]
			}
		}
		ranks := turned.sort()
		if i == 0 || slices.Compare(ranks[:], best[:]) > 0 {
			best, first = ranks, turned
		}
	}
	return first
}

// sort puts the processes in order, the busiest in front, and gives their ranks.
func (s *majorityState) sort() (ranks [processes]uint64) {
	order := [processes]uint8{0, 1, 2}
	var of [processes]uint64
	for p := range uint8(processes) {
		of[p] = s.rank(p)
	}
	slices.SortStableFunc(order[:], func(a, b uint8) int { return cmp.Compare(of[b], of[a]) })
	var name [processes]uint8
	old := s.procs
	for to, from := range order {
		name[from] = uint8(to)
		s.procs[to] = old[from]
		ranks[to] = of[from]
	}
	for i := range s.nodes {
		if n := &s.nodes[i]; n.owner != nobody {
			n.owner = name[n.owner]
		}
	}
	return ranks
}

// rank orders processes, by all that is known of them, nodes included.
func (s *majorityState) rank(p uint8) uint64 {
	v := &s.procs[p]
	r := uint64(v.phase)<<3 | uint64(v.sent)
	for i, n := range s.nodes {
		t := &v.parts[i]
		r = r<<2 | uint64(t.flow)
		r = r<<2 | uint64(t.standing)
		r = r<<2 | uint64(t.left)
		r = r<<2 | uint64(t.given)
		r = r<<3 | pick[uint64](t.owed, 1, 0) | pick[uint64](t.stray, 2, 0) | pick[uint64](n.owner == p, 4, 0)
		r = r<<7 | uint64(n.ttl)<<4 | uint64(n.mute)<<1 | uint64(n.fast)
	}
	return r
}
