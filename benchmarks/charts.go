package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// drawing is what all charts are drawn from.
type drawing struct {
	results results
	pings   map[time.Duration]time.Duration
	where   string
}

// charts draws all of which anything was measured, by file name.
func charts(c conditions, rs results, pings map[time.Duration]time.Duration) map[string][]byte {
	d := drawing{rs, pings, fmt.Sprintf("%s on %d cores (%s), %s", c.Server, c.Cores, c.CPU, c.Date)}
	files := make(map[string][]byte)
	for name, ch := range map[string]chart{
		"handoffs.svg":            d.handoffs("Many processes on one name: how often the lock changes hands", crowdScenarios(), near, simple),
		"handoffs-majority-2.svg": d.handoffs("Many processes on one name, 2 of 3 keys: how often the lock changes hands", crowdScenarios(), near, majorities),
		"goroutines.svg":          d.goroutines(),
		"uncontended.svg":         d.uncontended(),
		"tries.svg":               d.tries(),
		"hands.svg":               d.hands(),
		"fairness.svg":            d.fairness(),
	} {
		ch.notes = append(ch.notes, d.where)
		ch.groups = slices.DeleteFunc(ch.groups, func(g group) bool { return len(g.bars) == 0 })
		if len(ch.groups) > 0 {
			files[name] = ch.render()
		}
	}
	return files
}

func crowdScenarios() []string { return []string{lockers16, lockers128, lockers512} }

// simple are the contenders with one key, and etcd; majorities those with three.
func simple(r Result) bool { return !majorities(r) }

func majorities(r Result) bool {
	return r.Contender == ours2 || r.Contender == theirs2 || r.Contender == oursOnNodes().String() || r.Contender == onPools(serverCount).String()
}

// group makes a group of what was measured of a scenario.
func (d drawing) group(name, scenario string, trip time.Duration, wanted func(Result) bool, draw func(Result) bar) group {
	g := group{name: name}
	for _, r := range d.results {
		if r.Scenario != scenario || r.RoundTrip != trip || !wanted(r) {
			continue
		}
		b := draw(r)
		b.ours = r.Library == "ctxlock"
		if b.label == "" {
			b.label = r.Contender
		}
		if !math.IsNaN(b.value) {
			g.bars = append(g.bars, b)
		}
	}
	return g
}

func (d drawing) handoffs(title string, scenarios []string, trip time.Duration, wanted func(Result) bool) chart {
	ch := chart{title: title, scale: logarithmic, notes: []string{
		"Handoffs a second; paler: acquisitions a second, those included by which a locker got back what it had just released.",
		"Each locker is one process's worth, with a client of its own. The scale is logarithmic; longer is better.",
	}}
	for _, sc := range scenarios {
		ch.groups = append(ch.groups, d.group(capital(sc), sc, trip, wanted, drawHandoffs))
	}
	return ch
}

func drawHandoffs(r Result) bar {
	b := bar{value: r.Handoffs, pale: r.Rate, text: number(r.Handoffs)}
	if r.Rate > 1.05*r.Handoffs {
		b.text += fmt.Sprintf(" (%s acquired)", number(r.Rate))
	}
	return b
}

func (d drawing) goroutines() chart {
	ch := chart{title: "64 goroutines of one process on one name", scale: logarithmic, notes: []string{
		"Times a second that the lock goes to another goroutine; paler: all acquisitions. The scale is logarithmic; longer is better.",
	}}
	for _, trip := range everywhere {
		ch.groups = append(ch.groups, d.group(distance(trip), manyWaiters, trip, all, drawHandoffs))
	}
	return ch
}

func all(Result) bool { return true }

func distance(trip time.Duration) string {
	if trip == near {
		return "Loopback"
	}
	return fmt.Sprintf("Round trip of %v", trip)
}

func (d drawing) uncontended() chart {
	ch := chart{title: "Nobody else wants the lock", scale: linearEach, notes: []string{
		"Acquire and release, a second, on loopback. Each group has its own scale; longer is better.",
	}}
	for _, sc := range []string{oneWorker, manyWorkers} {
		ch.groups = append(ch.groups, d.group(capital(sc), sc, near, all, func(r Result) bar {
			return bar{value: r.Rate, text: fmt.Sprintf("%s (p50 %s, p99 %s)", number(r.Rate), short(r.P50), short(r.P99))}
		}))
	}
	return ch
}

func (d drawing) tries() chart {
	ch := chart{title: "Tries that fail, since another process holds the lock", scale: logarithmic, notes: []string{
		"Tries a second, on loopback. The scale is logarithmic; longer is better.",
	}}
	for _, sc := range []string{failingTries, failingTries2} {
		ch.groups = append(ch.groups, d.group(capital(sc), sc, near, all, func(r Result) bar {
			return bar{value: r.Rate, text: number(r.Rate)}
		}))
	}
	return ch
}

func (d drawing) hands() chart {
	ch := chart{title: "A change of hands, in round trips", scale: linear, most: 6, notes: []string{
		"From one process's release to the return of the other's waiting call: median, and paler the 99th percentile.",
		"In round trips as measured on that line. Shorter is better; bars end at 6.",
	}}
	for _, trip := range []time.Duration{far, lan} {
		unit := float64(d.pings[trip])
		if unit == 0 {
			continue
		}
		name := fmt.Sprintf("%s (measured: %s)", distance(trip), short(d.pings[trip]))
		ch.groups = append(ch.groups, d.group(name, hands, trip, all, func(r Result) bar {
			if r.P50 == 0 {
				return bar{value: math.NaN()}
			}
			return bar{value: float64(r.P50) / unit, pale: float64(r.P99) / unit, text: fmt.Sprintf("%.2f (p99 %.2f)", float64(r.P50)/unit, float64(r.P99)/unit)}
		}))
	}
	return ch
}

func (d drawing) fairness() chart {
	ch := chart{title: "Fairness: how many times as often the luckiest got the lock as the unluckiest", scale: logarithmic, notes: []string{
		"Lockers that all ask for one name again and again. 1 is perfect, ∞: somebody got nothing. The scale is logarithmic; shorter is better.",
	}}
	for _, sc := range crowdScenarios() {
		ch.groups = append(ch.groups, d.group(capital(sc), sc, near, all, func(r Result) bar {
			return bar{value: r.Spread, text: ratio(r.Spread)}
		}))
	}
	return ch
}
