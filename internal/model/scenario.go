package main

// scenario is one model with its bounds, small enough to be explored to the end.
type scenario struct {
	name   string
	bounds string
	// run explores it, with one rule left out.
	run func(rule) outcome
}

var (
	_ protocol[queueState]    = queueLock{}
	_ protocol[majorityState] = majorityLock{}
)

func queueOf(t terms, actors, faults uint8) func(rule) outcome {
	return func(r rule) outcome {
		return run[queueState](queueLock{terms: t, without: r, actors: actors, faults: faults}, nil)
	}
}

func majorityOf(m majorityLock) func(rule) outcome {
	return func(r rule) outcome {
		m.without = r
		return run[majorityState](m, nil)
	}
}

var (
	short = terms{validity: 2, margin: 1}
	long  = terms{validity: 3, margin: 1}
)

// sound are the models that have to keep all promises.
var sound = []scenario{
	{
		"three keys, majority 2, three processes",
		"keys live for 2 ticks and are trusted for 1; at most one fault; steady clocks; three attempts in all; no extensions",
		majorityOf(majorityLock{terms: short, actors: 3, faults: 1, attempts: 3, steady: true, brief: true}),
	},
	{
		"one key with its queue, two processes",
		"keys live for 2 ticks and are trusted for 1; any number of faults; drifting clocks",
		queueOf(short, 2, unlimited),
	},
	{
		"one key with its queue, three processes",
		"keys live for 2 ticks and are trusted for 1; at most one fault; drifting clocks",
		queueOf(short, 3, 1),
	},
	{
		"one key with its queue, three processes, longer",
		"keys live for 3 ticks and are trusted for 2; no faults; drifting clocks",
		queueOf(long, 3, 0),
	},
	{
		"three keys, majority 2, three processes, extending",
		"keys live for 2 ticks and are trusted for 1; no faults; steady clocks",
		majorityOf(majorityLock{terms: short, actors: 3, attempts: unlimited, steady: true}),
	},
	{
		"three keys, majority 2, two processes",
		"keys live for 2 ticks and are trusted for 1; any number of faults; steady clocks",
		majorityOf(majorityLock{terms: short, actors: 2, faults: unlimited, attempts: unlimited, steady: true}),
	},
	{
		"three keys, majority 2, two processes, clocks drifting",
		"keys live for 3 ticks and are trusted for 2; no faults; drifting clocks",
		majorityOf(majorityLock{terms: long, actors: 2, attempts: unlimited}),
	},
}

// broken is one model with one rule left out, which has to break a property.
type broken struct {
	scenario
	rule rule
	long bool // it takes seconds
}

// unsound are the rules left out, each where it matters, in the smallest model that shows it.
func unsound() (all []broken) {
	const queue, majority = "one key with its queue, two processes", "three keys, majority 2, two processes"
	for r := allRules + 1; r < restartAtOnce; r++ {
		run := queueOf(long, 2, 1)
		if r == oldEntries {
			run = queueOf(short, 2, unlimited)
		}
		all = append(all, broken{scenario: scenario{name: queue, run: run}, rule: r})
	}
	drifting := majorityOf(majorityLock{terms: long, actors: 2, attempts: unlimited})
	for _, r := range []rule{trustFromAnswer, trustUnanswered, trustOutlastsClock} {
		all = append(all, broken{scenario{name: majority, run: drifting}, r, true})
	}
	faulty := majorityOf(majorityLock{terms: long, actors: 2, faults: 1, attempts: unlimited, steady: true})
	for _, r := range []rule{claimForgotten, releaseForgotten, restartAtOnce} {
		all = append(all, broken{scenario: scenario{name: majority, run: faulty}, rule: r})
	}
	return all
}
