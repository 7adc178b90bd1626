package ctxlock

import (
	"errors"
	"fmt"
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
)

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

// quote shows a name in an error. Names may be 64 KiB of anything; an error is for people.
func quote(name string) string {
	const most = 64
	if len(name) > most {
		return fmt.Sprintf("%q... (%d bytes)", name[:most], len(name))
	}
	return fmt.Sprintf("%q", name)
}
