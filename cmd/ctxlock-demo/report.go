package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// findings is all that the verdict rests on.
type findings struct {
	history
	balance int           // in the file
	left    []string      // keys on the server
	drift   time.Duration // how far the clock of the stamps has moved away from another one
}

// check is one line of the verdict.
type check struct {
	ok   bool
	text string
}

// verdict judges.
func (f findings) verdict() []check {
	checks := []check{f.exclusion(), f.takeover(), f.work(), f.remains(), f.endings()}
	if f.drift.Abs() > driftBound {
		checks = append(checks, check{false, "THE CLOCK WAS SET by " + length(f.drift.Abs()) + " meanwhile, so the times mean nothing"})
	}
	return checks
}

// driftBound is what the clock may be steered by in half a minute.
const driftBound = 30 * time.Millisecond

func passed(checks []check) bool {
	return !slices.ContainsFunc(checks, func(c check) bool { return !c.ok })
}

func (f findings) exclusion() check {
	unclear := 0
	for _, o := range overlaps(f.holds) {
		switch {
		case o.violation():
			return check{false, fmt.Sprintf("TWO HELD THE LOCK AT ONCE: %s and %s, for %s", o.from.by, o.to.by, length(o.certain))}
		case !o.byForce():
			unclear++
		}
	}
	text := fmt.Sprintf("no two bars overlap: %d holdings, %d changes of hands", len(f.holds), len(changes(f.holds)))
	if unclear > 0 {
		text += fmt.Sprintf(", %d too close to call", unclear)
	}
	return check{true, text}
}

// takeover tells how long word of the takeover took, which is the one time at which two contexts may be alive.
func (f findings) takeover() check {
	for _, c := range changes(f.holds) {
		switch late := -c.took(); {
		case !c.byForce():
		case late <= 0:
			return check{true, fmt.Sprintf("by force: %s's context ended %s before %s's began", c.from.by, length(-late), c.to.by)}
		default:
			return check{late <= forceBound, fmt.Sprintf("by force: two contexts were alive for %s, until word came (allowed: %v)", length(late), forceBound)}
		}
	}
	return check{false, "nobody lost the lock by force"}
}

func (f findings) work() check {
	if f.added != f.balance {
		return check{false, fmt.Sprintf("WORK WAS LOST: 1 was added %d times and the balance is %d", f.added, f.balance)}
	}
	return check{f.added > 0, fmt.Sprintf("no work was lost: 1 was added %d times and the balance is %d", f.added, f.balance)}
}

func (f findings) remains() check {
	if len(f.left) > 0 {
		return check{false, "LEFT ON THE SERVER: " + strings.Join(f.left, ", ")}
	}
	return check{true, "nothing is left on the server"}
}

// endings checks that the lock changed hands in every way that it was meant to, and in no other.
func (f findings) endings() check {
	seen := make(map[ending]int)
	for _, c := range changes(f.holds) {
		seen[c.from.how]++
	}
	for _, how := range []ending{released, byKill, linkLost, byForce} {
		if seen[how] == 0 {
			return check{false, "no change of hands of this kind: " + string(how)}
		}
	}
	for _, h := range f.holds {
		if h.how == odd {
			return check{false, fmt.Sprintf("%s lost the lock for another reason: %s", h.by, h.reason)}
		}
	}
	return check{true, "all four scenes happened"}
}

// printReport draws the timeline, lists the changes of hands and gives the verdict. It reports whether all is well.
func printReport(s screen, f findings, start, end time.Duration) bool {
	for _, line := range drawTimeline(f.history, start, end, s) {
		s.line("%s", line)
	}
	s.line("")
	for _, line := range tableOf(changes(f.holds), start, s) {
		s.line("%s", line)
	}
	s.line("")
	checks := f.verdict()
	for _, c := range checks {
		sign := s.paint(green, "✓")
		if !c.ok {
			sign = s.paint(red, "✗")
		}
		s.line("  %s  %s", sign, c.text)
	}
	took := length(end - start)
	if !passed(checks) {
		s.line("\n%s  in %s", s.paint(red, "FAILED"), took)
		return false
	}
	s.line("\n%s  one holder at a time, no work lost, nothing left behind, in %s", s.paint(green, "OK"), took)
	return true
}

// notes say what the time of a change of hands went into.
var notes = map[ending]string{
	byKill:   "its key had to run out",
	linkLost: "its context ended before its key did",
}

// tableOf lists changes of hands. What took a negative time was an overlap, as there may be in a takeover by force.
func tableOf(all []change, start time.Duration, s screen) []string {
	lines := []string{"  " + s.paint(bold, "Changes of hands, from the end of one context to the start of the next")}
	for _, c := range all {
		lines = append(lines, strings.TrimRight(fmt.Sprintf("  %s  %s → %s  %-10s  %9s   %s", seconds(c.to.start-start),
			s.paint(colourOf(c.from.by), c.from.by), s.paint(colourOf(c.to.by), c.to.by), c.from.how, c.length(), s.paint(dim, notes[c.from.how])), " "))
	}
	return lines
}
