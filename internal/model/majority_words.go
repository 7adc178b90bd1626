package main

import (
	"fmt"
	"strings"
)

func (m majorityLock) says(from majorityState, d move, to majorityState) string {
	ends := endings(from.alive(), to.alive())
	if d.kind != tick {
		text := d.kind.tell(names[d.who:d.who+1], "")
		if perNode(d.kind) {
			text = fmt.Sprintf("node %d: %s", d.with, text)
		}
		return text + ends
	}
	text := "a tick passes"
	for i := range from.nodes {
		if d.with&(1<<i) != 0 {
			text += fmt.Sprintf(", %s for node %d", pick(from.nodes[i].fast == 0, "two", "none"), i)
		}
	}
	return text + ends
}

// perNode tells whether moves of a kind are about one key.
func perNode(k kind) bool {
	return k != claimFirst && k != giveUp && k != crash && k != extendAsked && k != contextEnds
}

// alive is the processes whose contexts are, as a bit mask.
func (s *majorityState) alive() (mask uint8) {
	for p := range s.procs {
		if s.procs[p].phase == holding {
			mask |= 1 << p
		}
	}
	return mask
}

func (m majorityLock) shows(s majorityState) string {
	parts := []string{"keys " + ownerShown(s.nodes[0].owner, s.nodes[0].ttl)}
	for _, n := range s.nodes[1:] {
		parts = append(parts, ownerShown(n.owner, n.ttl))
	}
	for p := range s.procs {
		if v := &s.procs[p]; v.phase == holding {
			parts = append(parts, fmt.Sprintf("%c ALIVE for %d", names[p], v.left()))
		}
	}
	return strings.Join(parts, ", ")
}
