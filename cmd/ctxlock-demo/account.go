package main

import (
	"fmt"
	"strings"
	"time"
)

// account tells what happens, a line each. It gets the events in the order of their stamps.
type account struct {
	screen
	quiet bool
	start time.Duration // of the first scene: what the times count from; zero before

	wanted map[string]time.Duration // since when
	sums   map[string]int           // additions under the present lock
	total  int                      // the balance
	last   event                    // the last end of a holding
}

func newAccount(out screen, quiet bool) *account {
	return &account{screen: out, quiet: quiet, wanted: make(map[string]time.Duration), sums: make(map[string]int)}
}

// say writes a line that is not about an event.
func (a *account) say(format string, args ...any) {
	if !a.quiet {
		a.line(format, args...)
	}
}

func (a *account) tell(e event) {
	if e.What == scene && a.start == 0 {
		a.start = e.At
	}
	text, c := a.words(e)
	switch {
	case text == "":
	case a.start == 0:
		a.say("          %s  %s", a.paint(colourOf(e.Process), e.Process), a.paint(c, text))
	case e.What == scene:
		a.say("\n%s", a.paint(c, text))
	default:
		a.say("%s  %s  %s", a.paint(dim, seconds(e.moment()-a.start)), a.paint(colourOf(e.Process), e.Process), a.paint(c, text))
	}
}

// words says what an event means to a person; nothing if that is nothing.
func (a *account) words(e event) (string, colour) {
	switch e.What {
	case scene:
		title, story, _ := strings.Cut(e.Text, ":")
		return a.paint(bold, title) + ":" + story, plain
	case connected:
		return fmt.Sprintf("process %d has connected", e.PID), dim
	case waits:
		a.wanted[e.Process] = e.At
		if e.Force {
			return "takes the lock by force", red
		}
		return "waits for the lock", dim
	case holds:
		a.sums[e.Process] = 0
		return "holds the lock" + a.after(e), colourOf(e.Process)
	case added:
		a.sums[e.Process]++
		a.total = e.Balance
	case ended, killed:
		a.last = e
		return a.end(e)
	case stalled:
		return "its link stalls: nothing goes through any more", red
	case healed:
		return "its link works again", plain
	}
	return "", plain
}

// after says how long the lock was free while somebody waited for it.
func (a *account) after(e event) string {
	if a.last.moment() <= a.wanted[e.Process] { // it found the lock free, or took it by force and word of that has not arrived
		return ""
	}
	c := change{hold{alive: a.last.Alive, end: a.last.At, how: a.last.How}, hold{start: e.At}}
	return fmt.Sprintf(", %s after %s", c.length(), a.last.Process)
}

// end says how a holding ended and what it was used for.
func (a *account) end(e event) (string, colour) {
	sum := a.sums[e.Process]
	work := fmt.Sprintf("balance %d + %d = %d", a.total-sum, sum, a.total)
	switch e.How {
	case released:
		return "releases it; " + work, plain
	case byKill:
		return "is killed with -9; " + work, red
	}
	return "its context ends, reason: " + e.Text + "; " + work, red
}
