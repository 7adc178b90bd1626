package main

import (
	"cmp"
	"time"
)

// The parent and the three processes talk in lines of JSON: orders go to a process's stdin, events come from its stdout.

// order tells a process to take the lock once and to work under it.
type order struct {
	// Times is how often it adds 1 to the balance; endless is until the context of the lock ends.
	Times int `json:"times"`
	// Keep makes it hold on to the lock after that until the context ends, in place of releasing it.
	Keep bool `json:"keep,omitempty"`
	// Force makes it take the lock from whoever has it.
	Force bool `json:"force,omitempty"`
}

const endless = -1

// event is something that happened, stamped where it did.
type event struct {
	At      time.Duration `json:"at"` // as now counts
	Process string        `json:"process"`
	What    what          `json:"what"`

	PID     int    `json:"pid,omitempty"`     // connected
	Force   bool   `json:"force,omitempty"`   // waits
	Balance int    `json:"balance,omitempty"` // added: what it is now
	Text    string `json:"text,omitempty"`    // ended: the reason; exited: how; scene: its title and story

	// Alive is the last moment at which the context is known to have been alive (ended, killed). The truth about when it ended
	// lies between Alive and At.
	Alive time.Duration `json:"alive,omitempty"`
	How   ending        `json:"how,omitempty"` // ended, killed
}

// moment is when an event is told of. A release is told of when it began: what comes of it, the next holding, may be noticed
// before the end of the context is, on a busy machine.
func (e event) moment() time.Duration {
	if e.What == ended && e.How == released {
		return e.Alive
	}
	return e.At
}

// byMoment puts events in order.
func byMoment(a, b event) int { return cmp.Compare(a.moment(), b.moment()) }

type what string

const (
	connected what = "connected"
	waits     what = "waits"
	holds     what = "holds"
	added     what = "added"
	ended     what = "ended"

	// What the parent does, and sees from outside.
	scene   what = "scene"
	stalled what = "stalled"
	healed  what = "healed"
	killed  what = "killed"
	exited  what = "exited"
)

// ending is how a holding came to its end.
type ending string

const (
	released ending = "released"
	byKill   ending = "killed"
	linkLost ending = "link lost"
	byForce  ending = "by force"
	odd      ending = "unexpected" // none of the above; its event has the cause
)
