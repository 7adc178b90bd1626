package history

import (
	"slices"
	"sort"
	"time"
)

// Updates is what became of the writes to one register.
type Updates struct {
	Written int // those that were acknowledged, and not refused
	Lost    int // of them, those that are not in the last state
	Late    int // of the lost ones, those that a lock cannot prevent
	// Elements are the lost ones: first the violations in order of number, then the late ones.
	Elements []Element
}

// Violations are the lost ones that were not late.
func (u Updates) Violations() []Element { return u.Elements[:u.Lost-u.Late] }

// Margin is for how long ctxlock allows a process to be stopped between the look at its context and the write.
func (h *History) Margin() time.Duration { return h.Validity/20 + 5*time.Millisecond }

// LostUpdates looks for what was acknowledged and is not in the last state. With a lock that keeps its promise an update of the plain
// register is lost only if it, or the write that overwrote it, was carried out later than margin after the look at the holding: such are
// late. In the fenced register, to which only rounds that had a token count, nothing may be lost, so there none is called late. There is
// an error if the history contradicts itself.
func (h *History) LostUpdates(margin time.Duration) (plain, fenced Updates, err error) {
	p, err := h.plainRegister()
	if err != nil {
		return Updates{}, Updates{}, err
	}
	f, err := h.fencedRegister()
	if err != nil {
		return Updates{}, Updates{}, err
	}
	return p.updates(func(e Element) bool { return p.late(e, margin) }), f.updates(func(Element) bool { return false }), nil
}

// updates sorts the writes to a register.
func (r *register) updates(late func(Element) bool) Updates {
	var u Updates
	var excused []Element
	for e, s := range r.made {
		if !s.counts {
			continue
		}
		u.Written++
		switch {
		case r.final(e):
		case late(e):
			excused = append(excused, e)
		default:
			u.Elements = append(u.Elements, e)
		}
	}
	slices.Sort(u.Elements)
	slices.Sort(excused)
	u.Elements, u.Late = append(u.Elements, excused...), len(excused)
	u.Lost = len(u.Elements)
	return u
}

// late tells whether a lost element was carried out late, or what overwrote it. That is the first write of the final chain that was carried
// out after it: it was made of a state from before, for no state comes back. Where the times do not tell which was the first, any will do.
func (r *register) late(lost Element, margin time.Duration) bool {
	l := r.made[lost]
	if l.late(margin) {
		return true
	}
	over := r.chain[r.joint[lost]+1:]
	first := sort.Search(len(over), func(i int) bool { return r.made[over[i]].done > l.checked })
	for _, e := range over[first:] {
		if r.made[e].late(margin) {
			return true
		}
		if r.made[e].checked >= l.done {
			return false
		}
	}
	return false
}
