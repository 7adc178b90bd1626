package history

import (
	"fmt"
	"slices"
	"time"
)

// register is what is known of one register, plain or fenced.
type register struct {
	made map[Element]step
	// chain are the elements of the last state in the order in which they were added, from 0, the empty state.
	chain []Element
	// joint is, of each element, the place in chain up to which its state is the same as the last.
	joint map[Element]int
}

// step is one write. It was carried out between checked and done.
type step struct {
	read          Element
	checked, done int64
	counts        bool // as written
}

func (s step) late(margin time.Duration) bool { return time.Duration(s.done-s.checked) > margin }

func (h *History) plainRegister() (*register, error) {
	return h.register("plain", h.Final, func(r Round) (step, bool) {
		return step{read: r.Write.Read, counts: r.Write.Acked != 0}, true
	})
}

// fencedRegister leaves out what was refused. What was written without a token was not fenced: it may be in a state, but does not count.
func (h *History) fencedRegister() (*register, error) {
	return h.register("fenced", h.Fenced, func(r Round) (step, bool) {
		return step{read: r.Write.Fenced, counts: r.Write.Acked != 0 && r.Token != 0}, !r.Write.Refused
	})
}

func (h *History) register(name string, last Element, stepOf func(Round) (step, bool)) (*register, error) {
	r, end := &register{made: make(map[Element]step)}, h.end()
	for i, round := range h.Rounds {
		if round.Write == nil {
			continue
		}
		e := round.Write.Element
		s, ok := stepOf(round)
		if _, twice := r.made[e]; twice || e == 0 {
			return nil, fmt.Errorf("round %d: element %d is empty, or was written before", i, e)
		}
		if ok {
			s.checked, s.done = round.Write.Checked, round.Write.Acked
			if applied := round.Write.Applied; applied != 0 && (s.done == 0 || applied < s.done) {
				s.done = applied
			}
			if s.done == 0 {
				s.done = end // if it was carried out at all
			}
			r.made[e] = s
		}
	}
	r.tighten()
	if err := r.link(last); err != nil {
		return nil, fmt.Errorf("%s register: %w", name, err)
	}
	return r, nil
}

// tighten notes that a write had been carried out when another that was made of it was about to be made.
func (r *register) tighten() {
	for _, s := range r.made {
		if before, ok := r.made[s.read]; ok && s.checked < before.done {
			before.done = s.checked
			r.made[s.read] = before
		}
	}
}

// final tells whether an element is in the last state.
func (r *register) final(e Element) bool { return r.chain[r.joint[e]] == e }

// link finds the last state, and where the others leave it.
func (r *register) link(last Element) error {
	r.joint = map[Element]int{}
	chain, err := r.back(last, func(Element) bool { return false })
	if err != nil {
		return err
	}
	slices.Reverse(chain)
	r.chain = append([]Element{0}, chain...)
	for i, e := range r.chain {
		r.joint[e] = i
	}
	known := func(e Element) bool { _, ok := r.joint[e]; return ok }
	for e := range r.made {
		path, err := r.back(e, known)
		if err != nil {
			return err
		}
		joint := 0
		if len(path) > 0 {
			joint = r.joint[r.made[path[len(path)-1]].read]
		}
		for _, e := range path {
			r.joint[e] = joint
		}
	}
	return nil
}

// back is the way from an element to the empty state, or to one at which to stop, which is not in it.
func (r *register) back(e Element, stop func(Element) bool) ([]Element, error) {
	var path []Element
	for ; e != 0 && !stop(e); e = r.made[e].read {
		if _, ok := r.made[e]; !ok {
			return nil, fmt.Errorf("element %d is in a state, and nobody wrote it", e)
		}
		if path = append(path, e); len(path) > len(r.made) {
			return nil, fmt.Errorf("element %d was made of itself", e)
		}
	}
	return path, nil
}

// end is the last moment of the run that is known.
func (h *History) end() int64 {
	end := max(h.Began, h.Ended)
	for _, r := range h.Rounds {
		end = max(end, r.Asked, r.Got, r.Alive, r.Over, r.Free, r.Freed)
		if r.Write != nil {
			end = max(end, r.Write.Checked, r.Write.Acked)
		}
	}
	for _, s := range h.Faults {
		end = max(end, s.Struck, s.Mended)
	}
	return end
}
