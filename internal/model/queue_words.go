package main

import (
	"fmt"
	"strings"
)

func (q queueLock) says(from queueState, m move, to queueState) string {
	if m.kind != tick {
		with := "nobody"
		if m.with < processes {
			with = names[m.with : m.with+1]
		}
		return m.kind.tell(names[m.who:m.who+1], with) + endings(from.alive(), to.alive())
	}
	text := "a tick passes"
	for p := range from.procs {
		if m.with&(1<<p) != 0 {
			text += fmt.Sprintf(", two for %c", names[p])
			if from.procs[p].slow == 0 {
				text = strings.TrimSuffix(text, fmt.Sprintf("two for %c", names[p])) + fmt.Sprintf("none for %c", names[p])
			}
		}
	}
	return text + endings(from.alive(), to.alive())
}

// alive is the processes whose contexts are, as a bit mask.
func (s *queueState) alive() (mask uint8) {
	for p := range s.procs {
		if s.procs[p].phase == holding {
			mask |= 1 << p
		}
	}
	return mask
}

// endings tells whose context begins and ends.
func endings(from, to uint8) string {
	text := ""
	for p := range processes {
		if to&^from&(1<<p) != 0 {
			text += fmt.Sprintf("; %c's context begins", names[p])
		}
		if from&^to&(1<<p) != 0 {
			text += fmt.Sprintf("; %c's context ends", names[p])
		}
	}
	return text
}

func (q queueLock) shows(s queueState) string {
	parts := []string{"key " + ownerShown(s.owner, s.ttl)}
	if s.line[0] != 0 {
		queue := "queue"
		for _, e := range s.line {
			if e != 0 {
				queue += " " + names[e.process():e.process()+1]
			}
		}
		parts = append(parts, queue)
	}
	for p := range s.procs {
		if s.procs[p].stopped {
			parts = append(parts, fmt.Sprintf("%c stopped", names[p]))
		}
		if s.procs[p].phase == holding {
			parts = append(parts, fmt.Sprintf("%c ALIVE for %d", names[p], s.procs[p].left))
		}
	}
	return strings.Join(parts, ", ")
}

func ownerShown(owner, ttl uint8) string {
	if owner == nobody {
		return "free"
	}
	return fmt.Sprintf("%c for %d", names[owner], ttl)
}
