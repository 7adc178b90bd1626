package main

import (
	"fmt"
	"strings"

	"github.com/ctxlock/ctxlock/faults/history"
)

// livenessText says what the table shows and how its bounds are worked out.
const livenessText = `
## Who is served, and when

The same runs, read for liveness. Each cell is **free · late · share**, in bold where the row's
bound is exceeded. For ctxlock that is a failure of ` + "`make faults`" + `; the others promise no such bounds.

- **free**: the longest time in which nobody had the lock though a client waited that could be
  served. A client cannot be served while it is stopped, or while its link stalls or is refused, and
  nobody can while the server is away. A lost lock counts as free from the last look that found it
  held. "In all" is the sum of all such times above %[1]s, which no handoff takes.
- **late**: the longest wait of a client that could be served, less its turn. The turn is the time of
  the longest holdings of others meanwhile, as many as may go before it: each worker twice (%[2]d
  holdings with the usual fleet). The first time is the line; the second is for a client that had to
  claim again and stands at the end. Calls that fail and are repeated are one wait.
- **share**: how many holdings the busiest client had for each of the idlest's, of those that no
  fault struck by itself.

The bounds are what theory allows, and stand at the rows in ` + "`faults/faults.go`" + `. A client that lost a
lock, or was given it and cannot use it, keeps it from others for one validity at most (%[3]s), however
many crashed, were stopped or lost their links. A waiter may look up to %[4]s later, so that not all
come at once. %[5]s are for round trips, new connections and a machine that is busy with other runs.
Together that is %[6]s. Where no key has to run out it is %[5]s. What a fault itself takes comes on
top, and stands in the row in brackets. A queue serves all alike: a share of %[7]s leaves room for
chance. In a fleet of two kinds the idlest client shall have a tenth of an equal share, which leaves
at most 1.9 of it for the busiest: %[8]s. There, 99 of 100 waits shall also take at most five times as
long as in a fleet of their own kind: one turn of all in a queue, and 4.6 turns (ln 100) where clients
race for the lock.
`

// liveness is the table of who was served, and when.
func (p *page) liveness() {
	p.line(livenessText, short(history.Handoff), turnsOf(clients, workersEach), short(validity),
		short(looking), short(busyMachine), short(oneValidity.free), ratio(evenly), ratio(tenth))
	head, rule := "| fault | bound |", "|---|---|"
	for _, who := range p.plan.contenders {
		head, rule = head+" "+who.Library+" |", rule+"---|"
	}
	p.line("%s\n%s", head, rule)
	for _, f := range p.plan.faults {
		row := fmt.Sprintf("| **%s** | %s |", f.Name, f.Bound)
		for _, who := range p.plan.contenders {
			row += " " + p.served(f, who) + " |"
		}
		p.line("%s", row)
	}
}

// served is how well clients were served in one run.
func (p *page) served(f *fault, who Contender) string {
	o := p.outcome(f, who)
	if o == nil {
		return "–"
	}
	cell := f.Bound.figures(o.Live)
	if len(o.Slow) > 0 {
		cell = "**" + cell + "**"
	}
	if more := f.also(o.history); len(more) > 0 {
		cell += "<br>" + strings.Join(more, ", ")
	}
	return cell
}
