package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// The errors that a caller decides by. Find them with errors.Is, both in what the calls of a Locker return and in
// context.Cause of the context of a lock.
var (
	// ErrNotLocked tells that the lock is held by another: at least one of its keys was seen with an owner value that is not
	// ours. A server that could not be reached, or refused, is reported by its own error without ErrNotLocked.
	ErrNotLocked = errors.New("not locked")

	// ErrLockerClosed tells that the Locker was closed, before the call or during it. It is also the cause of the contexts
	// that Close ends.
	ErrLockerClosed = errors.New("locker closed")

	// ErrReleased is the cause of the context of a lock that was given back by its cancel function.
	ErrReleased = errors.New("lock released")

	// ErrLost is found in every *LostError.
	ErrLost = errors.New("lock lost")

	// ErrNoAnswer tells that a server has not answered in the time that it had, or before the
	// caller's context ended: in the errors of attempts and extensions (LostError.Err, too), of
	// Look, List, Lock.TTL and Lock.Release, and for single nodes in a *QuorumError. What was asked
	// for may have been done all the same. An attempt without an answer is cleaned up after.
	ErrNoAnswer = errors.New("no answer in time")
)

// IsPermanent tells whether err, from any call of this package, or one that it wraps, is permanent:
// neither waiting nor asking again mends it. WithContext and other waits return such errors at
// once. Permanent are:
//
//   - what the server's rules forbid (NOPERM), keys of another type (WRONGTYPE), and commands that the server does not know,
//     as far as there is no other way;
//   - a *MajorityError, and a *QuorumError if so many nodes have failed for good that the others
//     are no majority;
//   - names, options and contexts that are not allowed, and the errors of a ValueFunc;
//   - of NewLocker, that it has found servers on which no locks can be kept, such as a replica;
//   - ErrLockerClosed.
//
// Not permanent are ErrNotLocked, ErrNoAnswer, lost connections, servers that load, fail over, are
// read-only or out of memory, the end of the caller's context, and nil; nor are the other errors of
// connecting, a wrong password among them.
func IsPermanent(err error) bool { return store.IsPermanent(err) || errors.Is(err, ErrLockerClosed) }

// Reason tells how a lock was lost.
type Reason string

const (
	// Taken: the lock's keys were seen with another's owner value, as after ForceWithContext.
	Taken Reason = "taken"
	// Deleted: the lock's keys were seen gone before their time, as after FLUSHALL or when a server came back empty.
	Deleted Reason = "deleted"
	// Expired: the lock could not be extended in time, as when its server cannot be reached.
	Expired Reason = "expired"
)

// MajorityError tells that the lock, or one of its keys, is held by a Locker with another KeyMajority.
// Such Lockers would not exclude each other, so a claim that meets one fails for good, also where it
// got a majority of the keys itself, which it gives back. Give all Lockers that share names the same
// KeyMajority. errors.Is does not find ErrNotLocked in it: trying again later is no answer.
type MajorityError struct {
	// Name is the name of the lock.
	Name string
	// Ours is the KeyMajority of the Locker that returned this, and Theirs that of the other.
	Ours, Theirs int
	// Holder is the other's owner value.
	Holder string
}

// Error names both.
func (e *MajorityError) Error() string {
	return fmt.Sprintf("lock %s: KeyMajority is %d here, and %d where it is held (%s): all who share a lock need the same",
		quote(e.Name), e.Ours, e.Theirs, quote(e.Holder))
}

// Permanent tells that waiting does not mend it.
func (e *MajorityError) Permanent() bool { return true }

// ReleaseError tells that a lock was given up, its context has ended, but the servers could not be told, so that others may
// find it taken until its keys run out by themselves. The Locker goes on telling them in the background.
type ReleaseError struct {
	// Name is the name of the lock.
	Name string
	// Until is when the keys have run out at the latest, unless a request to extend them is still on its way.
	Until time.Time
	// Err is why the servers could not be told.
	Err error
}

// Error says which lock it is, why, and when it runs out.
func (e *ReleaseError) Error() string {
	return fmt.Sprintf("lock %s: release not confirmed, it runs out by %s: %v", quote(e.Name), e.Until.Format(time.RFC3339Nano), e.Err)
}

// Unwrap gives Err.
func (e *ReleaseError) Unwrap() error { return e.Err }

// ReplicaError tells that fewer replicas than asked for (AcquireOption.Replicas) have acknowledged a lock in time.
type ReplicaError struct{ Acknowledged, Wanted int }

// Error says how many have.
func (e *ReplicaError) Error() string {
	return fmt.Sprintf("acknowledged by %d of %d replicas in time", e.Acknowledged, e.Wanted)
}

// LostError is the cause of the context of a lock that ended without a release.
type LostError struct {
	// Name is the name of the lock.
	Name string
	// Reason is how it was lost.
	Reason Reason
	// Err is the last error that kept the lock from being extended, or that there was no answer; nil if nothing did.
	Err error
}

// Error says which lock was lost, and how.
func (e *LostError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("lock %s lost: %s: %v", quote(e.Name), e.Reason, e.Err)
	}
	return fmt.Sprintf("lock %s lost: %s", quote(e.Name), e.Reason)
}

// Unwrap gives ErrLost and Err.
func (e *LostError) Unwrap() []error {
	if e.Err != nil {
		return []error{ErrLost, e.Err}
	}
	return []error{ErrLost}
}

// clearer is the one of two errors of a request that says more: a reason says more than silence,
// and one for good more than one that may pass.
func clearer(a, b error) error {
	silent := func(err error) bool { return err == errNotYet || errors.Is(err, errNoAnswer) || isContextError(err) }
	switch {
	case a == nil, a == errNotYet, silent(a) && !silent(b), store.IsPermanent(b) && !store.IsPermanent(a):
		return b
	}
	return a
}

// isContextError tells errors that would be taken for those of the caller's own context.
func isContextError(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// quote shows a name in an error. Names may be 64 KiB of anything; an error is for people.
func quote(name string) string {
	const most = 64
	if len(name) > most {
		return fmt.Sprintf("%q... (%d bytes)", name[:most], len(name))
	}
	return fmt.Sprintf("%q", name)
}
