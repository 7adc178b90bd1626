package main

// property is what is to hold in every state, or from it on.
type property string

const (
	none property = ""
	// exclusion: no two contexts are alive at once.
	exclusion property = "exclusion"
	// progress: once faults stop, everybody who waits gets the lock within a bounded time, and all is cleaned up.
	progress property = "progress"
	// responsibility: a key that has a living process's owner value is somebody's there: held, waited for, or being given back. Else it would be left to
	// time out though its process lives and could reach the server.
	responsibility property = "responsibility"
	// liveness: once faults have stopped, at most one key runs out in all, however long it goes on,
	// that a process has which is stopped or dead, while one waits that could have the lock. So what
	// all of them cost together is one validity, however many of them stand in the queue.
	liveness property = "liveness"
	// honesty: "held by others" is said only if another's value was seen.
	honesty property = "honesty"
)

// mostSpent is how many keys may run out so: see liveness.
const mostSpent = 1

// rule is one of the design's rules, or a part of one, that can be left out.
type rule uint8

const (
	allRules rule = iota
	// Rule 1: trust is counted from before the request was sent.
	trustFromAnswer    // it is counted from when the answer to a claim came
	trustUnanswered    // an extension counts as soon as it was sent
	trustFromWord      // it is counted from when word came that the lock was passed on
	trustOutlastsClock // it ends with the key by the own clock: there is no margin
	epochReused        // a claim that is made again counts as the one before, sent later
	// Rule 2: the context ends before the key is let go.
	keyBeforeContext // it ends when the release was confirmed
	// Rule 3: a notification is only a hint.
	noTimer      // a waiter relies on being told
	wordBelieved // word is believed whatever claim it names
	// Rule 4: a reply can be lost.
	claimForgotten   // a claim without an answer is taken for one that failed
	releaseForgotten // a release without an answer is taken for done
	oldEntries       // a release leaves entries of claims in the queue that came late
	ownNotKnown      // an own owner value is taken for another's
	// Rule 10: liveness has a bound.
	noRollCall // a claim that takes a key which ran out leaves the places in the queue alone
	// Beyond the rules: what is assumed of servers.
	restartAtOnce // a server that has lost its data is counted on at once
	rules
)

// removal says which rule is left out, and how.
type removal struct {
	number int    // in the design document
	says   string // what is done instead
	breaks property
}

var removals = [rules]removal{
	trustFromAnswer:    {1, "trust counts from when the answer came", exclusion},
	trustUnanswered:    {1, "an extension counts before it is answered", exclusion},
	trustFromWord:      {1, "trust counts from when word came that the lock was passed on", exclusion},
	trustOutlastsClock: {1, "trust has no margin", exclusion},
	epochReused:        {1, "a claim that is made again names the epoch of the one before", exclusion},
	keyBeforeContext:   {2, "the key is let go before the context ends", exclusion},
	noTimer:            {3, "a waiter relies on being told, and has no timer", progress},
	wordBelieved:       {3, "word is believed whatever claim it names", exclusion},
	claimForgotten:     {4, "a claim without an answer is taken for one that failed, and not cleaned up", responsibility},
	releaseForgotten:   {4, "a release without an answer is taken for done", responsibility},
	oldEntries:         {4, "a release leaves entries in the queue that claims have made which came late", responsibility},
	ownNotKnown:        {4, "an own owner value is taken for another's", honesty},
	noRollCall:         {10, "a key that ran out leaves all places in the queue", liveness},
	restartAtOnce:      {0, "a server that has lost its data is counted on at once", exclusion},
}
