package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// pictured are the runs whose pictures stand on the page, with what they show.
var pictured = []struct{ fault, library, text string }{
	{"stalled", valkeylockLibrary, "The holder's link stalls. valkeylock goes on to believe in the lock after its key has run out."},
	{"stalled", oursLibrary, "The same for ctxlock: the context ends before the key does, and the next one gets the lock when the key has run out."},
	{"stopped before writing", oursLibrary, "A process is stopped between its look at the context and its write. The plain register takes the late write, and an update is lost; the fenced one refuses it."},
}

// page is the table in the docs as it is being written.
type page struct {
	bytes.Buffer
	plan     *plan
	outcomes []*outcome
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// writePage writes the page and its pictures.
func writePage(path string, plan *plan, outcomes []*outcome, times []*spans, took time.Duration) error {
	p := &page{plan: plan, outcomes: outcomes}
	p.head(took)
	p.line("\n## What a lock should survive\n")
	p.table(func(f *fault) bool { return !f.Excluded })
	p.line("\n## What no lock can survive by itself\n")
	p.line("Here the servers lose data that they had acknowledged, or a process acts long after it looked. The [guarantee](../README.md#guarantee) excludes that. A [fencing token](fencing.md)")
	p.line("does not: the second register of the lab looks at tokens, and no update of it was lost unless the table says so.\n")
	p.table(func(f *fault) bool { return f.Excluded })
	p.liveness()
	p.times(times)
	p.configurations()
	if err := p.pictures(path); err != nil {
		return err
	}
	return os.WriteFile(path, p.Bytes(), 0o644)
}

func (p *page) head(took time.Duration) {
	p.line("# Faults: who keeps the promise\n")
	p.line("Written by `make faults`; do not edit. To repeat this run: `make faults SEED=%d` (%s), on %s, Go %s, %d cores, %s.\n",
		p.plan.seed, took.Round(time.Second), p.server(), strings.TrimPrefix(runtime.Version(), "go"), runtime.NumCPU(), time.Now().UTC().Format(time.DateOnly))
	p.line("Each cell is a run of its own: three processes with two workers each want one lock, whose validity is %s. Whoever has it reads a register, works, looks whether it still has the", validity)
	p.line("lock, and if so writes back what it read with an element added, as in Jepsen's test of etcd's locks. A fault strikes, mostly while somebody works for longer than the")
	p.line("validity. Afterwards all leave. Counted are: two holders at once (for how long both were *certainly* alive: from after the call that took the lock to before the last look that")
	p.line("found it alive), updates that were acknowledged and are gone, calls that do not end, and keys, connections and goroutines that are left once everybody has closed.")
	p.line("Rows about waiters and shares have larger fleets, of up to eight processes with a worker each, that hold the lock for milliseconds.\n")
	p.line("What is right and wrong is what [ctxlock promises](../README.md#guarantee); others promise less. Each kind of server is the simplest of its kind: etcd is one node, so it has no failover and")
	p.line("no partition here; the links between servers, and to those of Sentinel and Cluster, are never touched; clocks jump, and do not drift. One run is one try, several go on side by side on one")
	p.line("machine: a ✓ says that nothing was seen. \"nobody had it\" means for %s.\n", short(patience))
	p.line("✓: nothing of that. ✗: what was wrong. △: what the guarantee excludes, or the documentation of that library. –: cannot be tried. Then how long the holder that lost its lock went on to believe in it (\"noticed\"), and how long it took from then,")
	p.line("or from its crash, until somebody had it (\"next\"). Draws come from the seed; what the network and the machine do does not, so times differ from run to run, and a fault that strikes in a")
	p.line("window of milliseconds may miss it. `cd faults && go run . -only stalled -library valkeylock -seed N` makes one run alone; its history is in `faults/histories`, as JSON and as a picture.")
}

// server is what the servers of Redis' kind are.
func (p *page) server() string {
	for _, o := range p.outcomes {
		if o.Library != etcdLibrary {
			return o.Server
		}
	}
	return "no server"
}

// table is the rows of some faults.
func (p *page) table(wanted func(*fault) bool) {
	head, rule := "| fault |", "|---|"
	for _, who := range p.plan.contenders {
		head, rule = head+" "+who.Library+" |", rule+"---|"
	}
	p.line("%s\n%s", head, rule)
	for _, f := range p.plan.faults {
		if !wanted(f) {
			continue
		}
		row := fmt.Sprintf("| **%s**: %s |", f.Name, f.Text)
		for _, who := range p.plan.contenders {
			row += " " + p.cell(f, who) + " |"
		}
		p.line("%s", row)
	}
}

// outcome is that of one run; nil if there was none.
func (p *page) outcome(f *fault, who Contender) *outcome {
	i := slices.IndexFunc(p.outcomes, func(o *outcome) bool { return o.Fault == f.Name && o.Library == who.Library })
	if i < 0 {
		return nil
	}
	return p.outcomes[i]
}

// cell is one outcome in words.
func (p *page) cell(f *fault, who Contender) string {
	o := p.outcome(f, who)
	if o == nil {
		return "–"
	}
	var parts []string
	switch {
	case len(o.Wrong) > 0:
		parts = append(parts, "✗ **"+strings.Join(o.Wrong, ", ")+"**")
	case len(o.Beyond) > 0:
		parts = append(parts, "△")
	default:
		parts = append(parts, "✓")
	}
	parts[0] = strings.TrimSpace(parts[0] + " " + strings.Join(o.Beyond, ", "))
	if f.Excluded && o.Fenced.Written > 0 && o.Fenced.Lost == 0 {
		text := "with tokens none lost"
		if o.Refused > 0 {
			text += ", " + count(o.Refused, "write") + " refused"
		}
		parts = append(parts, text)
	}
	if o.Notice != nil {
		parts = append(parts, "noticed "+short(*o.Notice))
	}
	if o.Vacancy != nil {
		parts = append(parts, "next "+short(*o.Vacancy))
	}
	return strings.Join(parts, "<br>")
}

// times is the table of what was measured on many holdings at once.
func (p *page) times(times []*spans) {
	p.line("\n## Times\n")
	p.line("One client holds %d locks with a validity of %s, taken one after the other, so that they are extended at different times: least / median / greatest time until the holding says that it is over, or until another client that waits has the lock.\n", crowd, validity)
	p.line("| | the keys are deleted: noticed | the holder's link stalls: noticed | the holder is killed: next holder |\n|---|---|---|---|")
	for _, s := range times {
		p.line("| %s | %s | %s | %s |", s.Library, spread(s.Deleted), spread(s.Silent), spread(s.Crashed))
	}
	margin := validity/20 + 5*time.Millisecond
	p.line("| theory, for ctxlock | half a round trip | %s to %s: what is left of the validity since the last extension was sent, without the margin | %s to %s, and up to 150 ms for the look of whoever waits |",
		short(validity/2-margin), short(validity-margin), short(validity/2), short(validity))
	p.line("\n\"-\" was not noticed while the lab watched (%s), or cannot be tried.", short(3*validity))
}

func (p *page) configurations() {
	p.line("\n## Versions and configurations\n")
	for _, who := range p.plan.contenders {
		p.line("- **%s** (%s %s): %s", who.Library, who.Module, who.Version(), who.Note)
	}
	p.line("\nIn the rows of a cluster and of Sentinel, and of three nodes, clients connect to those. etcd is one server with its own defaults.")
}

// pictures draws those that stand on the page, beside it.
func (p *page) pictures(path string) error {
	folder := strings.TrimSuffix(path, filepath.Ext(path))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	p.line("\n## Pictures\n")
	for _, c := range pictured {
		for _, o := range p.outcomes {
			if o.Fault != c.fault || o.Library != c.library {
				continue
			}
			name := fileName(c.fault) + "-" + c.library + ".svg"
			if err := draw(o.history, filepath.Join(folder, name)); err != nil {
				return err
			}
			p.line("%s\n\n![%s, %s](%s/%s)\n", c.text, c.library, c.fault, filepath.Base(folder), name)
		}
	}
	p.line("Every run is kept that way in `faults/histories`; `go run . -draw FILE` draws one again. What the lab has caught so far stands on the page of its [track record](track-record.md).")
	return nil
}
