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

func queueOf(q queueLock) func(rule) outcome {
	return func(r rule) outcome {
		q := q // several may run at once
		q.without = r
		return run[queueState](q, nil)
	}
}

func majorityOf(m majorityLock) func(rule) outcome {
	return func(r rule) outcome {
		m := m // several may run at once
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
		queueOf(queueLock{terms: short, actors: 2, faults: unlimited}),
	},
	{
		"one key with its queue, three processes",
		"keys live for 2 ticks and are trusted for 1; at most one fault; drifting clocks",
		queueOf(queueLock{terms: short, actors: 3, faults: 1}),
	},
	{
		"one key with its queue, two processes, stopped",
		"keys live for 2 ticks and are trusted for 1; any number of faults, and of stops; steady clocks",
		queueOf(queueLock{terms: short, actors: 2, faults: unlimited, stops: unlimited, steady: true}),
	},
	{
		"one key with its queue, three processes, stopped",
		"keys live for 2 ticks and are trusted for 1; any number of stops; no other faults; drifting clocks",
		queueOf(queueLock{terms: short, actors: 3, stops: unlimited}),
	},
	{
		"one key with its queue, three processes, stopped, longer",
		"keys live for 3 ticks and are trusted for 2; any number of stops; no other faults; steady clocks",
		queueOf(queueLock{terms: long, actors: 3, stops: unlimited, steady: true}),
	},
	{
		"one key with its queue, three processes, stopped once",
		"keys live for 2 ticks and are trusted for 1; at most one stop, and one other fault; steady clocks",
		queueOf(queueLock{terms: short, actors: 3, faults: 1, stops: 1, steady: true}),
	},
	{
		"one key with its queue, three processes, longer",
		"keys live for 3 ticks and are trusted for 2; no faults; drifting clocks",
		queueOf(queueLock{terms: long, actors: 3}),
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
	const (
		queue    = "one key with its queue, two processes"
		stopped  = "one key with its queue, two processes, stopped once"
		two      = "one key with its queue, three processes, stopped twice"
		majority = "three keys, majority 2, two processes"
	)
	for r := allRules + 1; r < noRollCall; r++ {
		run := queueOf(queueLock{terms: long, actors: 2, faults: 1})
		if r == oldEntries {
			run = queueOf(queueLock{terms: short, actors: 2, faults: unlimited})
		}
		all = append(all, broken{scenario: scenario{name: queue, run: run}, rule: r})
	}
	twice := queueOf(queueLock{terms: short, actors: 3, stops: 2, steady: true})
	all = append(all, broken{scenario: scenario{name: two, run: twice}, rule: noRollCall})
	once := queueOf(queueLock{terms: long, actors: 2, stops: 1, steady: true})
	for _, r := range []rule{trustFromAnswer, trustFromWord, epochReused, noTimer} {
		all = append(all, broken{scenario: scenario{name: stopped, run: once}, rule: r})
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
