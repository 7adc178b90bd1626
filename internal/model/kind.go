package main

import "strings"

// kind is what sort of move it is. Tests look whether each was made.
type kind uint8

const (
	tick kind = iota
	crash
	stop
	goOn
	giveUp
	claimFirst
	claimAgain
	claimHinted
	claimTakes
	claimCalls
	claimQueues
	claimMeets
	claimUnheard
	answerLost
	answerTaken
	answerOwn
	answerTooLate
	answerBooked
	strayRuns
	strayLost
	wordTaken
	wordRefused
	wordIdle
	wordToNobody
	wordForged
	wordLost
	lookHeard
	lookLost
	extendAsked
	extendRuns
	extendLost
	extendBooked
	extendRefused
	contextEnds
	passedOn
	passedOver
	leftFree
	releaseLost
	confirmLost
	nodeRefuses
	nodeEmptied
	kinds
)

// telling is how a move of each kind is told: WHO is the process, and WITH the other party.
var telling = [kinds]string{
	crash:         "WHO crashes",
	stop:          "WHO is stopped",
	goOn:          "WHO goes on",
	giveUp:        "WHO gives up, or its patience is over",
	claimFirst:    "WHO begins to want the lock, and sends its claim",
	claimAgain:    "WHO claims again, since it is time to look",
	claimHinted:   "WHO claims again, since something touched it",
	claimTakes:    "WHO's claim arrives, and the key is its own; the answer is on its way",
	claimCalls:    "WHO's claim arrives, and the key is its own, since it ran out; all places in the queue go, and whose they were is told to look",
	claimQueues:   "WHO's claim arrives, and is answered: another has the key, WHO stands in the queue",
	claimMeets:    "WHO's claim arrives, and is answered: another has the key",
	claimUnheard:  "WHO stops waiting for an answer to its claim, whose request may still come",
	answerLost:    "the answer to WHO is lost",
	answerTaken:   "WHO hears that the key is its own",
	answerOwn:     "WHO hears that the key was its own already",
	answerTooLate: "WHO hears that the key is its own, too late to be of use",
	answerBooked:  "WHO hears that the key is its own",
	strayRuns:     "WHO's old claim, that nobody waits for, arrives after all",
	strayLost:     "WHO's old claim, that nobody waits for, is lost",
	wordTaken:     "WHO hears that the lock was passed on to it, and believes it",
	wordRefused:   "WHO hears that the lock was passed on to it, by a claim too long ago to rely on, and looks",
	wordIdle:      "WHO hears that the lock was passed on to it, which it knows",
	wordToNobody:  "WHO hears that the lock was passed on to a wait that is over, and gives it back",
	wordForged:    "WHO hears from a stranger that the lock was passed on to it",
	wordLost:      "the word to WHO is lost",
	lookHeard:     "WHO hears that it is to look",
	lookLost:      "the message to WHO that it is to look is lost",
	extendAsked:   "WHO sends an extension",
	extendRuns:    "WHO's extension arrives; the answer is on its way",
	extendLost:    "WHO's extension, or the answer to it, is lost",
	extendBooked:  "WHO hears that the key was extended",
	extendRefused: "WHO's extension arrives, and is answered: the key is not its own",
	contextEnds:   "WHO ends its context, to release the lock",
	passedOn:      "WHO's release arrives, and passes the key on to WITH; word is on its way",
	passedOver:    "WHO's release arrives, and passes over who could not be told",
	leftFree:      "WHO's release arrives; what was its own is free",
	releaseLost:   "WHO's release is lost, and WHO takes it for done",
	confirmLost:   "WHO's release arrives, and the confirmation is lost",
	nodeRefuses:   "WHO does not count on a node that has just come back",
	nodeEmptied:   "a node loses its data and comes back",
}

// faulty are the kinds of moves that bounded faults are counted by: what goes wrong, who gives up, and what wakes somebody for nothing. That
// an abandoned request is lost is no fault of its own.
var faulty = [kinds]bool{
	crash: true, giveUp: true, claimHinted: true, claimUnheard: true, answerLost: true, wordForged: true, wordLost: true,
	lookLost: true, extendLost: true, passedOver: true, releaseLost: true, confirmLost: true, nodeEmptied: true,
}

const names = "ABC"

// tell puts a move into words.
func (k kind) tell(who, with string) string {
	return strings.NewReplacer("WHO", who, "WITH", with).Replace(telling[k])
}
