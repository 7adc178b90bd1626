package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// conditions are what a reader must know to compare.
type conditions struct {
	Server  string
	Cores   int
	CPU     string
	Go      string
	Date    string
	Disk    string // what etcd's fsync goes to
	Rounds  int
	Took    string
	Pings   map[string]string // measured round trip by its name
	Program string
}

// line is the result in one line, for progress.
func (r Result) line() string {
	s := fmt.Sprintf("%-32s %10s/s  %7s handoffs  p50 %9s  p99 %9s  %7s cmds  spread %s", r.Contender, number(r.Rate), number(r.Handoffs), r.latency(r.P50), r.latency(r.P99), number(r.Commands), ratio(r.Spread))
	if n := r.remarks(); n != "" {
		s += "  " + n
	}
	return s
}

// latency is a quantile of the wait.
func (r Result) latency(d time.Duration) string {
	if r.Brief && d > 0 {
		return "≥ " + short(d)
	}
	return short(d)
}

// remarks are what there is to say beyond the figures.
func (r Result) remarks() string {
	var list []string
	if !math.IsNaN(r.Memory) {
		list = append(list, fmt.Sprintf("%.1f KB and %.2f goroutines a lock", r.Memory/1024, r.Goroutines))
	}
	if r.Violations > 0 {
		list = append(list, fmt.Sprintf("**%d violations**", r.Violations))
	}
	if r.Stuck > 0 {
		list = append(list, fmt.Sprintf("%d calls hang", r.Stuck))
	}
	if r.Failures > 0 {
		list = append(list, fmt.Sprintf("%d errors (%s)", r.Failures, firstWords(r.Error)))
	}
	return strings.Join(list, ", ")
}

// firstWords is enough of an error to know it by.
func firstWords(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	s = strings.ReplaceAll(s, "|", "/")
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return s
}

// writeTable writes everything as Markdown.
func writeTable(w io.Writer, c conditions, list []scenario, rs results, verdicts []verdict) {
	fmt.Fprintf(w, "# Benchmarks\n\n%s on %d cores (%s), %s, %s. Medians of %d alternating rounds; the whole took %s.\n", c.Server, c.Cores, c.CPU, c.Go, c.Date, c.Rounds, c.Took)
	fmt.Fprintf(w, "Machines are noisy: ratios within one run say something, figures of two runs compared do not.\n")
	writeVerdicts(w, verdicts)
	fmt.Fprintf(w, "\nLatency is that of acquiring (of the try, where tries fail). CPU, commands and allocations are an operation's, in microseconds of all\n"+
		"threads; commands inside scripts count. Spread is busiest to idlest, ∞ where somebody got nothing in a round. Handoffs are acquisitions before\n"+
		"which another had the lock. Where a round was too short for several turns of all, at ten milliseconds, waits are lower bounds (≥).\n")
	for _, sc := range list {
		for _, trip := range sc.trips {
			writeScenario(w, c, sc, trip, rs)
		}
	}
	writeNotes(w, c, rs)
}

func writeScenario(w io.Writer, c conditions, sc scenario, trip time.Duration, rs results) {
	started := false
	for _, r := range rs {
		if r.Scenario != sc.name || r.RoundTrip != trip {
			continue
		}
		if !started {
			started = true
			fmt.Fprintf(w, "\n## %s%s\n\nAn operation: %s.\n\n", capital(sc.name), at(c, trip), sc.what)
			fmt.Fprintln(w, "| | rate/s | handoffs/s | p50 | p99 | client CPU | server CPU | commands | spread | allocations | |")
			fmt.Fprintln(w, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|")
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", r.Contender, number(r.Rate), number(r.Handoffs), r.latency(r.P50), r.latency(r.P99),
			number(r.ClientCPU), number(r.ServerCPU), number(r.Commands), ratio(r.Spread), number(r.Allocs), r.remarks())
	}
}

// at says at what distance.
func at(c conditions, trip time.Duration) string {
	if trip == near {
		return ""
	}
	return fmt.Sprintf(", round trip %v (measured: %s)", trip, cmp.Or(c.Pings[trip.String()], "?"))
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// writeVerdicts writes what was to be reached.
func writeVerdicts(w io.Writer, verdicts []verdict) {
	fmt.Fprintf(w, "\n## Targets\n\n| | figure | target | |\n|---|--:|--:|---|\n")
	for _, v := range verdicts {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", v.what, v.figure, v.bound, v.word)
	}
}

// writeNotes writes how each was configured and what is missing.
func writeNotes(w io.Writer, c conditions, rs results) {
	fmt.Fprintf(w, "\n## Contenders\n\n")
	seen := make(map[string]bool)
	for _, r := range rs {
		if !seen[r.Contender] {
			seen[r.Contender] = true
			fmt.Fprintf(w, "- %s (%s): %s.\n", r.Contender, r.Version, noteOf(r.Contender))
		}
	}
	fmt.Fprintf(w, "\nThe comparison is unfair to etcd: it is a replicated store that has every write on disk before it answers (here one member, on %s), and\n"+
		"the others keep nothing. Its CPU is counted in steps of 10 ms, its commands not at all.\n", c.Disk)
	fmt.Fprintf(w, "\nLeft out:\n\n")
	for _, line := range leftOut {
		fmt.Fprintln(w, "-", line)
	}
}

// noteOf finds how a contender was configured.
func noteOf(contender string) string {
	for _, c := range everybody() {
		if c.String() == contender {
			return c.Note
		}
	}
	return ""
}

// number has three digits that count, at least.
func number(f float64) string {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return "-"
	case f >= 100:
		return thousands(int64(math.Round(f)))
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// ratio is a number of times.
func ratio(f float64) string {
	switch {
	case math.IsNaN(f):
		return "-"
	case math.IsInf(f, 0):
		return "∞"
	case f >= 100:
		return thousands(int64(f))
	}
	return fmt.Sprintf("%.2f", f)
}

// short is a duration with two or three digits.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < 10*time.Microsecond:
		return fmt.Sprintf("%.1f µs", float64(d)/1e3)
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", float64(d)/1e3)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// MarshalJSON has null for what cannot be had, and -1 for a spread without end: JSON knows neither.
func (r Result) MarshalJSON() ([]byte, error) {
	have := func(f float64) any {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil
		}
		return f
	}
	spread := have(r.Spread)
	if math.IsInf(r.Spread, 1) {
		spread = -1
	}
	return json.Marshal(map[string]any{
		"scenario": r.Scenario, "round_trip_ms": float64(r.RoundTrip) / 1e6, "contender": r.Contender, "library": r.Library, "version": r.Version,
		"rounds": r.Rounds, "ops": r.Ops, "rate": have(r.Rate), "handoffs": have(r.Handoffs), "rate_lowest": have(r.Lowest), "rate_highest": have(r.Highest),
		"p50_us": float64(r.P50) / 1e3, "p99_us": float64(r.P99) / 1e3, "client_cpu_us": have(r.ClientCPU), "server_cpu_us": have(r.ServerCPU),
		"commands": have(r.Commands), "allocs": have(r.Allocs), "spread": spread, "brief": r.Brief, "memory": have(r.Memory), "goroutines": have(r.Goroutines),
		"violations": r.Violations, "failures": r.Failures, "stuck": r.Stuck, "error": r.Error,
	})
}
