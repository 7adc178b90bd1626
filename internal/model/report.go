package main

import (
	"fmt"
	"io"
	"time"
)

// reportSound tells what became of a model that has to keep all promises, and whether it did.
func reportSound(w io.Writer, s scenario, o outcome) (asExpected bool) {
	fmt.Fprintf(w, "%s\n  bounds: %s\n", s.name, s.bounds)
	fmt.Fprintf(w, "  %d states, %d moves, depth %d, %v\n", o.states, o.moves, o.depth, o.took.Round(time.Millisecond))
	if o.broken != none {
		fmt.Fprintf(w, "  %s is BROKEN:\n", o.broken)
		printTrace(w, o)
		return false
	}
	fmt.Fprintf(w, "  no property is broken; once faults stop, all is over within %d ticks\n\n", o.patience)
	return true
}

// reportBroken tells what became of a model without one of the rules, and whether it broke the property that it had to. How is told if that is wanted.
func reportBroken(w io.Writer, b broken, o outcome, traces bool) (asExpected bool) {
	about := removals[b.rule]
	what := fmt.Sprintf("without rule %d", about.number)
	if about.number == 0 {
		what = "without what is assumed"
	}
	fmt.Fprintf(w, "%s (%s): %s\n", what, about.says, b.name)
	if o.broken != about.breaks {
		fmt.Fprintf(w, "  expected %q to be broken, found %q\n", about.breaks, o.broken)
		printTrace(w, o)
		return false
	}
	fmt.Fprintf(w, "  %s is broken in %d steps\n", o.broken, len(o.trace)-1)
	if traces {
		printTrace(w, o)
	}
	return true
}

func printTrace(w io.Writer, o outcome) {
	for i, l := range o.trace {
		if i > 0 {
			fmt.Fprintf(w, "  %3d. %s\n       [%s]\n", i, l.says, l.shows)
		}
	}
	fmt.Fprintln(w)
}
