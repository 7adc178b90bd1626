package main

import (
	"math"
	"slices"
	"time"
)

// Result is what one contender did in one scenario at one distance: medians over the rounds of what is a rate or a ratio, everything else
// over all rounds together. Figures that cannot be had are NaN, and null in JSON.
type Result struct {
	Scenario  string
	RoundTrip time.Duration
	Contender string
	Library   string
	Version   string

	Rounds   int
	Ops      int
	Rate     float64 // operations a second
	Handoffs float64 // those of them before which another had the lock, a second
	Lowest   float64 // rate of any round
	Highest  float64
	P50, P99 time.Duration // of acquiring, or of failing to

	ClientCPU float64 // microseconds an operation
	ServerCPU float64
	Commands  float64 // of the servers, an operation
	Allocs    float64 // of the client, an operation
	Brief     bool    // rounds were too short for all to have several turns: waits lasted at least so long, and Spread says nothing
	Spread    float64 // busiest to idlest goroutine; +Inf if one got nothing; NaN where there is only one

	Memory     float64 // bytes for each of many held locks
	Goroutines float64

	Violations int
	Failures   int
	Stuck      int
	Error      string // one of the failures
}

// pool makes a result of rounds.
func pool(s scenario, trip time.Duration, who Contender, rounds []*round) Result {
	r := Result{
		Scenario: s.name, RoundTrip: trip, Contender: who.String(), Library: who.Library, Version: who.Version(),
		Rounds: len(rounds), Memory: math.NaN(), Goroutines: math.NaN(), Lowest: math.NaN(), Highest: math.NaN(),
	}
	var (
		used          usage
		waits         histogram
		rates, spread []float64
		handoffs      []float64
	)
	for _, one := range rounds {
		ops := sum(one.ops)
		r.Ops += ops
		used.add(one.usage)
		waits.merge(&one.waits)
		if !one.noRate && one.usage.time > 0 {
			rates = append(rates, float64(ops)/one.usage.time.Seconds())
			if one.handoffs >= 0 {
				handoffs = append(handoffs, float64(one.handoffs)/one.usage.time.Seconds())
			}
		}
		if len(one.ops) > 1 && !one.brief {
			spread = append(spread, busiestToIdlest(one.ops))
		}
		if one.memory > 0 {
			r.Memory, r.Goroutines = one.memory, one.goroutines
		}
		r.Brief = r.Brief || one.brief
		r.note(one.seen)
	}
	r.Rate, r.Handoffs, r.Spread = median(rates), median(handoffs), median(spread)
	if len(rates) > 0 {
		r.Lowest, r.Highest = slices.Min(rates), slices.Max(rates)
	}
	r.P50, r.P99 = waits.quantile(0.5), waits.quantile(0.99)
	n := float64(r.Ops) // NaN and Inf become "-" in the table
	r.ClientCPU, r.ServerCPU = float64(used.client)/1e3/n, float64(used.server)/1e3/n
	r.Commands, r.Allocs = used.commands/n, used.mallocs/n
	return r
}

func (r *Result) note(t trouble) {
	r.Violations += t.violations
	r.Failures += t.failures
	r.Stuck += t.stuck
	if t.err != nil {
		r.Error = t.err.Error()
	}
}

func sum(values []int) (total int) {
	for _, v := range values {
		total += v
	}
	return total
}

// busiestToIdlest is how many times as often the one got the lock as the other. 0 ops altogether say nothing.
func busiestToIdlest(ops []int) float64 {
	most := slices.Max(ops)
	if most == 0 {
		return math.NaN()
	}
	return float64(most) / float64(slices.Min(ops))
}

// results can be searched.
type results []Result

// find returns a result; nil: it was not measured.
func (rs results) find(scenario string, trip time.Duration, contender string) *Result {
	for i := range rs {
		if r := &rs[i]; r.Scenario == scenario && r.RoundTrip == trip && r.Contender == contender {
			return r
		}
	}
	return nil
}
