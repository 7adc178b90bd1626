// Package store is the seam between the lock engine and the place where the keys of locks live.
//
// The engine (package ctxlock) owns contexts, trust windows, waiters, quorums and clean-up. A Store owns commands,
// connections and notifications: it claims, extends, releases and looks at keys in batches and says what it found. It decides
// nothing: whether an answer makes a lock, and for how long, is worked out in one place, in the engine.
//
// Package ctxlock has the Valkey store; package memlock has one in memory, for tests. Stores in this repository
// are checked by internal/conformance, which cannot be imported from elsewhere; it is there to be copied.
package store

import (
	"context"
	"errors"
	"time"
)

// Forever is the TTL of a key that does not run out.
const Forever time.Duration = 1<<63 - 1

// WakeLife is how long a wake key (see Op) lives when nobody deletes it. Waiters ask for it again when it has run out.
const WakeLife = time.Minute

// Op is one key's part of a request: the engine fills in the upper half, and the store the Answer. Neither touches the other's
// half, and a store does not touch an Op once its method has returned.
type Op struct {
	// Key is the key that the request is about.
	Key string
	// Owner is the owner value that is to be set, or that the key must have for anything to happen to it.
	Owner string
	// Wake is another key, or empty. Waiters watch it in order to be told of a release without being told of every
	// extension. Claim makes sure that it exists and watches it; Release deletes it, which is what its watchers are told of.
	Wake string
	// Counter is the key of the counter of fencing tokens that belongs to Key, or empty. Claim takes the next token from it, in one
	// atomic step with setting Key, and Extend raises it to Floor. See Token.
	Counter string
	// Validity is how long the key is to live from now (Claim, Extend, Enlist).
	Validity time.Duration
	// Floor is a token that was given out before: those that follow are greater (Claim), and the counter is not less (Extend).
	Floor int64
	// From makes Claim take the key from the holder whose owner value this is: what its value has before the first line break.
	From string
	// Queue is the key of the queue of those who wait for the lock, or empty. Ops that follow each other and have the same Owner and the
	// same Queue are the keys of one lock, all of them, and are carried out as one atomic step: see OpenQueue.
	Queue string
	// Passes is how often the lock may still be passed on, and Remaining for how long, before others than those who stand in the queue are to
	// have a chance of it, and Alone how long ago one of these was last seen to have it (Release).
	Remaining, Alone time.Duration
	// Yield goes with Free, and is for those who do not stand in the queue: for that long, claims with Queue take no key that is free.
	Yield time.Duration
	// Return is the Rank that an earlier claim of this wait was answered, or zero: if its place is gone, it stands there again.
	Return int64
	// Call has the roll called by a Claim with Queue, but not within that time after it was called last: see OpenQueue. In a Release it is for how
	// long there is no roll call if the keys are left free though somebody stands in the queue, after Yield.
	Call time.Duration
	// Waiters is how many wait (Enlist).
	Waiters int32
	// Replicas is how many replicas must have acknowledged the claim before it counts.
	Replicas int32
	// Epoch counts the claims of one wait that stand in a queue, from 1. Whom the lock is passed on to hears the Epoch of the last that
	// was carried out, and so from when on it cannot have had the lock. Settled is the last that was answered before.
	Epoch, Settled int32
	Passes         int32
	// Fenced tells that whoever stands in the queue wants a fencing token with the lock: it does, if its claim has a Counter; what Counter is
	// in a Release is for whom the lock is passed on to.
	Fenced bool
	// Timed has a claim that stands in the queue told how long the key has left (TTL), which takes a command more.
	Timed bool
	// Renew has the queue live for its full life from this claim on, which takes a command more. A queue that was empty does in any case.
	Renew bool
	// Free makes Release leave the keys free, although others stand in the queue: the first is told to look, after Yield.
	Free bool
	// Force makes Claim take the key from whoever has it. In a Release it means nothing to a store.
	Force bool
	// Restore tells that the claim is for a lock that is held: a store that is wary of claims need not be of this one.
	Restore bool

	Answer
}

// Answer is what a store says to an Op.
type Answer struct {
	// Holder is the owner value that the key has after the request; empty if there is no key. A store that knows only that it
	// is not Owner says Unnamed. Release need not tell.
	Holder string
	// TTL is how long the key had left to live when the store looked (Claim, Extend, Read, Look), Forever if it does not run out.
	TTL time.Duration
	// WakeTTL is the same for the key Wake (Claim).
	WakeTTL time.Duration
	// Token is the fencing token of the holding, where Claim with a Counter left the key with Owner. It is greater than any that was
	// given out for the counter before, and greater than Floor; or that same holding's own, if the claim is a repetition. Counters are
	// not kept for ever, and servers lose them, so it is no less than the server's time in microseconds unless the counter was ahead of that.
	Token int64
	// Rank is where Owner stands in the queue (Claim with Queue): behind all that have a lower one. Newcomers get a higher one than all who stand
	// there, whatever clocks say. Zero if it is not known.
	Rank int64
	// Err is why there is no answer. The rest means nothing beside it, but for Unknown.
	Err error
	// Waiting is how many wait (Waiting).
	Waiting int32
	// Unknown tells, beside Err, that the request may have been carried out, or may still be, although no answer came.
	Unknown bool
	// Stream is the same, and not zero, for requests that are carried out in the order in which they were made: what has no answer
	// (Unknown) cannot come any more once a later one of its Stream was answered. Zero where a store does not know.
	Stream int64
	// Found tells that the key had Owner before this request: it was deleted or passed on (Release), or
	// left as it is (Claim with Queue; a store need not tell).
	Found bool
	// Queued tells that Owner stands in the queue now (Claim with Queue; Read with Queue, by the claim of Epoch, in the first Op), also beside an Err, which then says why it did not take a lock that is
	// free. TTL is zero then if it was not asked for.
	Queued bool
	// Watched tells that the one who has the lock does not pass it on by itself, as far as is known, and that the keys are being watched
	// (Claim with Queue); Told, that it has been told to.
	Watched, Told bool
}

// Mine tells whether the key has the owner value of the Op.
func (o *Op) Mine() bool { return o.Err == nil && o.Holder == o.Owner }

// Unnamed is the Holder of a key that somebody has whose owner value the store did not read.
const Unnamed = "\x00unnamed"

// Event tells that a watched key may have changed since it was last looked at, or what else Word says. It is a hint, never a fact: it may
// come late, twice, or not at all. The one exception is PassedOn: that the lock was passed on is a fact, though it may be over.
type Event struct {
	// Key is the key, unless All; the first of the lock's keys, if it is about a queue.
	Key string
	// All tells that events may have been lost, so that everything should be looked at again.
	All bool
	// Word is what happened to the key.
	Word Word
	// After is how long to wait before looking, if Word is Called; and for how long others are to have a chance of the lock, if it is Look.
	After time.Duration
	// Passed is what was passed on; nil unless Word is PassedOn.
	Passed *Passed
}

// Word is what an event says of a key.
type Word int8

const (
	// Changed: it may have changed.
	Changed Word = iota
	// Look: whoever stands in the queue should look; the lock may be free.
	Look
	// Awaited: somebody stands in the queue. This is for the holder.
	Awaited
	// PassedOn: the holder before has passed the lock on.
	PassedOn
	// Called: the roll was called, so whoever stood in the queue does no longer, and should look.
	Called
)

// Passed is what somebody hears whom a lock was passed on to.
type Passed struct {
	// Owner is the owner value that the keys were given, with a full validity.
	Owner string
	// Keys is how many of them.
	Keys int
	// Epoch is that of the claim by which Owner stood in the queue.
	Epoch int32
	// Token is the fencing token, or zero.
	Token int64
	// Passes, Remaining and Alone are what the Release said.
	Passes           int32
	Remaining, Alone time.Duration
}

// Store keeps keys. Its methods are safe for use by many goroutines at once.
//
// Requests take Ops of one lane (see Lane), block until each has its answer and return at the latest when ctx ends; what has
// no answer by then has Err set, and Unknown where the request was sent. They never fail as a whole.
//
// A store that watches (see Watches) watches each key of a Claim, Extend, Read or Look from that request on and sends one Event
// when the key changes after it. It may also send one for a change that the request itself made.
type Store interface {
	// Lane tells which lane a key travels on. Requests on one lane share a connection, so they are worth batching; a lane that
	// stalls does not hold up the others.
	Lane(key string) int

	// Claim sets each key to its owner value with its validity, if the key does not exist, Force is set, or From has it.
	// A key that already has that owner value is left as it is and answered so, which makes a claim safe to repeat.
	Claim(ctx context.Context, ops []Op)

	// Extend gives each key its full validity again if it still has its owner value.
	Extend(ctx context.Context, ops []Op)

	// Release deletes each key that still has its owner value, and each Wake.
	Release(ctx context.Context, ops []Op)

	// Read reads the Holder, never Unnamed unless the value is empty, and the TTL of each key; and, if the first Op has a Queue, whether it is Queued.
	Read(ctx context.Context, ops []Op)

	// Look reads the TTL of each key; its Holder is Unnamed or empty.
	Look(ctx context.Context, ops []Op)

	// OpenQueue is called once, after Subscribe and before any other method, if there are to be queues. Owner values of this locker begin
	// with id. It calls denied, once and never while the call lasts, with a permanent error (see Permanent) if it turns out that there
	// will be no queues because the server, or its rules, do not allow them; the rest goes on without. Before that it may call it once
	// with another error, if that is not known yet; Queues tells when there are some.
	//
	// With Queue, a Claim of keys the majority of which is free, or has its Owner already, takes those, and the Owner is out of the queue;
	// a key that is its own already is left as it is. Otherwise it takes none, and stands in the queue from then on, in the place that it had
	// before if it had one, or else by Return, or behind all others: unless that is impossible, in which case it is a Claim without Queue that was made. A Release deletes
	// the keys that have its Owner, and leaves the queue if that was still in it; but if those are a majority and somebody stands in the
	// queue who can be told, the keys are given to the first of them, with its own validity and fencing token, and that one is told
	// (PassedOn), unless Free is set. If none of the keys has the Owner, the first in the queue is told to look.
	//
	// A lock that is free, though others stand in the queue and nobody has left it free of late, was given to one who let the keys run out: one who was
	// stopped, perhaps, and nobody knows who else is. So if a Claim with Call takes such a lock, the roll is called: all places are removed, and
	// each Owner is told (Called) to look, at once or within 100ms. Those who live claim again, by Return. The same goes for a Claim with Call of one
	// who stood in the queue before, and too far behind to watch a holder that does not pass the lock on; it stands in the queue then.
	OpenQueue(id string, denied func(error))

	// Queues is how many keys a lock may have at the most for which there are queues; zero if there are none.
	Queues() int

	// Enlist notes on the list Key that Owner stands for so many Waiters, for Validity; none if that is zero. The list goes with the last.
	Enlist(ctx context.Context, ops []Op)

	// Waiting reads how many wait by the list Key.
	Waiting(ctx context.Context, ops []Op)

	// Scan calls found with all keys that begin with prefix, some at a time, until it returns false. Keys that come or go meanwhile
	// may be missing, and any may be found twice. It blocks as long as that takes, or until ctx ends, and not for other requests.
	Scan(ctx context.Context, prefix string, found func(keys []string) bool) error

	// Watches tells whether events come at all. A locker on a store that does not watch polls.
	Watches() bool

	// Echoes tells whether a watched key sends an event for changes made through this very store, too.
	Echoes() bool

	// Subscribe sets the function that receives events. It is called once, before any other method. The function does
	// not block.
	Subscribe(func(Event))

	// Close ends what the store started, and gives up on what is still unanswered. It is bounded in time.
	Close()
}

// permanent marks an error that waiting cannot mend.
type permanent struct{ error }

func (p permanent) Unwrap() error   { return p.error }
func (p permanent) Permanent() bool { return true }

// Permanent marks err as one that waiting cannot mend, such as a missing permission, so that waiters get it at
// once. The error's text stays as it is, and errors.Is and errors.As see through the mark. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent tells whether err, or one that it wraps, was marked by Permanent. The first of them that has a method Permanent decides.
func IsPermanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}
