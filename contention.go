package ctxlock

import (
	"errors"
	"fmt"

	"github.com/ctxlock/ctxlock/store"
)

// Contention says how a Locker goes about names that several want at once. The zero value of each field is its default.
type Contention struct {
	// NoQueue does without queues on the servers: waiters are told of a release by tracking, as those of valkeylock are, and whoever comes
	// first gets the lock. Default: waiters of all processes stand in a queue, and a release hands the lock to the first of them.
	// In a cluster with KeyMajority above 1 the queue is on the node of the first key, and its first waiter claims the other keys
	// when it was given that one; while that node does not answer there is no queue.
	// There are none with independent nodes (NewRedlock), without tracking
	// (see NewLocker), and where the servers or the user's permissions do not allow what they need (see OnFallback).
	NoQueue bool
	// LocalHandoffs is how often in a row a lock may go from one holder to the next within this Locker, without a word to the server, before
	// the other processes get their turn; in any case only until the trust window ends that the first of them took it with. A holder
	// elsewhere waits for so many holdings at the most. At most 1048576; -1 means never, and leaves the lock free for a moment between any two. Only locks on the terms of the drop-in calls are handed on, and those by
	// Acquire with the same Validity and none of Value, ValueFunc, Metadata, From, NoExtend, Fencing and Replicas. Default: 128. Handing on takes 3 µs,
	// and asking the server some 100 µs even when it is near, so by then most of that is spared, and others wait for no longer than 128 holdings.
	LocalHandoffs int
	// TryFromMemory makes a try (TryWithContext, and Acquire with Mode Try) fail at once, without asking the server, for a name that this Locker
	// holds itself, or that a try of it has found to be held by others, until word comes that its keys have changed (by tracking), or its key should have run out. So
	// ErrNotLocked may be stale: by the time that word takes, which is half a round trip; and if the connection is stalled, by no more than the key
	// had left to live when it was looked at, or this Locker's KeyValidity (at least 1s) if that is less. It is for locks whose keys are all on one node: with NewRedlock, and KeyMajority above 1 in
	// a cluster, every try asks. Only ErrNotLocked comes from memory; a lock is always taken on the server. Default: every try asks.
	TryFromMemory bool
	// OnFallback is called, on a goroutine of its own (where a panic ends the program), with the reason why this
	// Locker does without a queue, which the error joins to what waiters do instead: they are told by tracking, as with NoQueue, or poll where there is
	// no tracking either. It is called once for a reason that stays: the servers or the user's permissions do not
	// allow what is needed, or ClientOption or ClientBuilder leave no tracking; mostly when the Locker is made, or
	// when permissions are taken away. And it is called once before that if the servers have not answered when the
	// Locker is made: then they are asked again until they do, there is a queue as soon as they allow it, and that
	// is not told. So there are two calls at most, one after the other. Default: not called.
	OnFallback func(error)
}

const (
	defaultLocalHandoffs = 128
	mostLocalHandoffs    = 1 << 20
)

// settled checks and fills in the defaults.
func (c Contention) settled() (Contention, error) {
	switch {
	case c.LocalHandoffs < -1 || c.LocalHandoffs > mostLocalHandoffs:
		return c, fmt.Errorf("ctxlock: Contention.LocalHandoffs is %d, not from -1 to %d", c.LocalHandoffs, mostLocalHandoffs)
	case c.LocalHandoffs == 0:
		c.LocalHandoffs = defaultLocalHandoffs
	}
	return c, nil
}

// Options is all that a Locker can be told: what valkeylock's can, and what is beyond that.
type Options struct {
	LockerOption
	Contention
}

// New is NewLocker with more options.
func New(options Options) (Locker, error) {
	option, err := options.LockerOption.settled()
	if err != nil {
		return nil, store.Permanent(err)
	}
	contention, err := options.Contention.settled()
	if err != nil {
		return nil, store.Permanent(err)
	}
	if err := checkAddresses("ClientOption", option.ClientOption, option.ClientBuilder != nil); err != nil {
		return nil, store.Permanent(err)
	}
	servers, err := openValkey(option, defaultDrift)
	if err != nil {
		return nil, connecting(option.ClientOption, err)
	}
	k := newLocker(servers, option, contention, defaultDrift)
	k.client = servers.client
	return k, nil
}

// NewOnStore is NewLockerOnStore with more options.
func NewOnStore(s store.Store, options Options) (Locker, error) {
	if s == nil {
		return nil, errors.New("ctxlock: nil store")
	}
	option, err := options.LockerOption.settled()
	if err != nil {
		return nil, store.Permanent(err)
	}
	contention, err := options.Contention.settled()
	if err != nil {
		return nil, store.Permanent(err)
	}
	return newLocker(s, option, contention, defaultDrift), nil
}
