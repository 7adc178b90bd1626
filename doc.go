// Package ctxlock provides distributed locks on Valkey and Redis that are held as a context.
//
//	ctx, cancel, err := locker.WithContext(ctx, "invoice/4711")
//	if err != nil {
//		return err
//	}
//	defer cancel()
//	return pay(ctx) // ctx ends before another can hold "invoice/4711": see Guarantee
//
// The context that a lock is held as ends, with the reason as its cause, before another can hold the
// lock, but for what the Guarantee below excludes. It ends when cancel is called, when the lock is
// lost, when the Locker is closed, and when the caller's own context ends. While it lives, the lock
// is extended in the background.
//
// # Guarantee
//
// Unless a lock is taken by force, two contexts for one name are never alive at once, as long as
//
//   - a majority of the nodes that have the lock's keys keep their data (where there are several
//     nodes, one that lost its data must also not count for a validity: see
//     RedlockOption.DelayedRestart),
//   - all who share the lock have the same KeyPrefix and KeyMajority,
//   - monotonic clocks run at rates that differ by less than the margin, which is 5 % of KeyValidity
//     plus 5 ms, and
//   - no process is stopped for longer than the margin between checking its context and acting.
//
// README says what that excludes.
//
// Where that is not enough, because a process may be stopped or a server may lose what it has acknowledged, the resource that
// the lock guards has to check who writes to it, by the fencing token of the lock: see Lock.Token and package fence.
//
// # Beyond the drop-in calls
//
// Locker.Acquire takes a lock on terms of the caller's own and gives a handle, Lock, in place of the cancel function;
// Locker.AcquireAll takes several at once. NewRedlock makes a Locker on independent servers. Locker.Look and Locker.List say who holds what.
//
// # How it works
//
// A lock is a majority of 2N-1 keys with an expiry, as in Redlock (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).
// The keys go out at once and cost one round trip. Trust in an answer counts from before its request was sent, on the monotonic
// clock, and a timer ends the context when it runs out, whatever the network does. Servers tell waiters and holders of changes by
// client-side caching (CLIENT TRACKING); that is only ever a hint to look, and beside each hint there is a timer.
//
// # Moving from valkeylock
//
// The package is a drop-in for github.com/valkey-io/valkey-go/valkeylock: the calls, options and keys are the same, errors have
// the same names (find them with errors.Is), and a fleet may run both at once. With KeyPrefix "rueidislock" the same is true of rueidislock. README lists what is different on purpose.
package ctxlock
