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
	// Waiters is how many wait (Enlist).
	Waiters int32
	// Replicas is how many replicas must have acknowledged the claim before it counts.
	Replicas int32
	// From makes Claim take the key from the holder whose owner value this is: what its value has before the first line break.
	From string
	// Force makes Claim take the key from whoever has it.
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
	// Err is why there is no answer. The rest means nothing beside it, but for Unknown.
	Err error
	// Waiting is how many wait (Waiting).
	Waiting int32
	// Unknown tells, beside Err, that the request may have been carried out, or may still be, although no answer came.
	Unknown bool
	// Found tells that the key had Owner, and was deleted by this request (Release).
	Found bool
}

// Mine tells whether the key has the owner value of the Op.
func (o *Op) Mine() bool { return o.Err == nil && o.Holder == o.Owner }

// Unnamed is the Holder of a key that somebody has whose owner value the store did not read.
const Unnamed = "\x00unnamed"

// Event tells that a watched key may have changed since it was last looked at. It is a hint, never a fact: it may come late,
// twice, or not at all.
type Event struct {
	// Key is the key, unless All.
	Key string
	// All tells that events may have been lost, so that everything should be looked at again.
	All bool
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

	// Read reads the Holder, never Unnamed unless the value is empty, and the TTL of each key.
	Read(ctx context.Context, ops []Op)

	// Look reads the TTL of each key; its Holder is Unnamed or empty.
	Look(ctx context.Context, ops []Op)

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
