package main

import "time"

// protocol is what the search explores: states, and the moves between them. States are values, and equal states go on alike.
type protocol[S comparable] interface {
	// start is the state that all begins with.
	start() S
	// moves gives every move that is possible, with the state that it leads to.
	moves(s S, emit func(move, S))
	// tidy forgets what nothing depends on any more.
	tidy(s S) S
	// canonical picks one of the states that differ from a tidy one by the names of processes alone, and so go on alike.
	canonical(s S) S
	// breaks is the property that the state breaks, or none.
	breaks(s S) property
	// settled tells that nobody waits and nothing is left to be cleaned up.
	settled(s S) bool
	// says puts a move into words, and shows a state.
	says(from S, m move, to S) string
	shows(s S) string
}

// move is one step of the whole system.
type move struct {
	kind kind
	who  uint8 // process
	// with is the move's other party: a node, a process, or, for a tick, whose clocks drift, as a bit mask.
	with uint8
	// sure tells that the move comes about before time passes once faults have stopped: messages arrive, whoever is due acts, and holders
	// let go. A move that is not sure is a fault, or somebody's free choice.
	sure bool
}

// outcome is what a search has found.
type outcome struct {
	states, moves int
	depth         int
	kinds         [kinds]int // how many moves there were of each kind
	broken        property
	trace         []line
	// patience is how many ticks it takes at the most, from any state, until everybody who waits has had the lock, once faults have stopped.
	patience int
	took     time.Duration
}

// line is one line of a trace.
type line struct{ says, shows string }

// search explores all states, breadth first, so that the first broken property comes with a shortest trace.
type search[S comparable] struct {
	p    protocol[S]
	seen *table[S]
	out  outcome
	// watch is told of every move; nil unless a test counts more than kinds.
	watch func(from S, m move, to S)
}

// run explores until a property is broken or no state is new, and then looks whether there is progress from every state.
func run[S comparable](p protocol[S], watch func(S, move, S)) outcome {
	began := time.Now()
	s := &search[S]{p: p, seen: newTable[S](), watch: watch}
	if at, ok := s.explore(); !ok {
		s.out.trace = s.traceTo(at)
	} else if path, ok := s.progress(); !ok {
		s.out.broken = progress
		s.out.trace = s.traceAlong(path)
	}
	s.out.states = s.seen.len()
	s.out.took = time.Since(began)
	return s.out
}

// explore visits every state. If one breaks a property it stops there.
func (s *search[S]) explore() (at uint32, ok bool) {
	s.seen.add(s.canonical(s.p.start()), 0)
	level := 0 // where the next depth begins
	for at := 0; at < s.seen.len(); at++ {
		if at == level {
			level = s.seen.len()
			s.out.depth++
		}
		if found, broken := s.expand(uint32(at)); broken != none {
			s.out.broken = broken
			return found, false
		}
	}
	return 0, true
}

func (s *search[S]) canonical(state S) S { return s.p.canonical(s.p.tidy(state)) }

// expand adds what one state leads to.
func (s *search[S]) expand(at uint32) (found uint32, broken property) {
	from := s.seen.at(at)
	stuck := true
	s.p.moves(from, func(m move, next S) {
		s.out.moves++
		s.out.kinds[m.kind]++
		if s.watch != nil {
			s.watch(from, m, next)
		}
		to := s.canonical(next)
		if to == from {
			return
		}
		if m.sure || m.kind == tick {
			stuck = false
		}
		index, isNew := s.seen.add(to, at)
		if isNew && broken == none {
			if broken = s.p.breaks(to); broken != none {
				found = index
			}
		}
	})
	if broken == none && stuck && !s.p.settled(from) {
		return at, progress
	}
	return found, broken
}

// traceTo is the shortest way to a state.
func (s *search[S]) traceTo(at uint32) []line {
	return s.traceAlong(s.pathTo(at))
}

// pathTo is the states on the shortest way to one, that one included.
func (s *search[S]) pathTo(at uint32) []uint32 {
	var path []uint32
	for ; at != 0; at = s.seen.parent(at) {
		path = append(path, at)
	}
	for i, j := 0, len(path)-1; i < j; i, j = i+1, j-1 {
		path[i], path[j] = path[j], path[i]
	}
	return path
}

// traceAlong replays a path. The table knows states only up to the names of processes, so names are followed from the start.
func (s *search[S]) traceAlong(path []uint32) []line {
	now := s.p.start()
	lines := []line{{"Nothing has happened yet.", s.p.shows(now)}}
	for _, at := range path {
		wanted, from, done := s.seen.at(at), now, false
		s.p.moves(from, func(m move, next S) {
			next = s.p.tidy(next)
			if !done && s.p.canonical(next) == wanted {
				done, now = true, next
				lines = append(lines, line{s.p.says(from, m, next), s.p.shows(next)})
			}
		})
	}
	return lines
}
