package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock"
)

// Run runs what every locker promises, for majorities of 1, 2 and 3 keys, each test by a call of run, which gives it its
// fleet. In a bubble of testing/synctest run is synctest.Test around test.
func Run(t *testing.T, run func(t *testing.T, test func(t *testing.T, fleet Fleet))) {
	for _, majority := range []int32{1, 2, 3} {
		t.Run(fmt.Sprintf("majority %d", majority), func(t *testing.T) { runAt(t, majority, run) })
	}
}

func runAt(t *testing.T, majority int32, run func(t *testing.T, test func(t *testing.T, fleet Fleet))) {
	for _, test := range append(dropInTests(), acquireTests()...) {
		t.Run(test.name, func(t *testing.T) {
			run(t, func(t *testing.T, fleet Fleet) {
				l := &lockerTest{T: t, Fleet: fleet, prefix: unique("conformance-"), majority: majority}
				defer l.leaveNothing() // also when the test fails: a bubble cannot be left with lockers in it
				test.test(l)
			})
		})
	}
}

// lockerTestOf is one promise and its test.
type lockerTestOf struct {
	name string
	test func(*lockerTest)
}

// dropInTests are about the calls that valkeylock has, too.
func dropInTests() []lockerTestOf {
	return []lockerTestOf{
		{"Acquire/free name", (*lockerTest).acquireFree},
		{"Acquire/by each call", (*lockerTest).acquireByEach},
		{"Acquire/values of the caller's context", (*lockerTest).acquireValues},
		{"Acquire/odd names", (*lockerTest).acquireOddNames},
		{"Acquire/names are not mixed up", (*lockerTest).acquireDistinct},
		{"Acquire/wrong calls", (*lockerTest).acquireWrong},
		{"Acquire/outlives its validity", (*lockerTest).acquireExtended},
		{"Try/held by another locker", (*lockerTest).tryHeld},
		{"Try/held by this locker", (*lockerTest).tryHeldHere},
		{"Try/free again after a release", (*lockerTest).tryReleased},
		{"Wait/handover from another locker", (*lockerTest).handover},
		{"Wait/handover within a locker", (*lockerTest).handoverHere},
		{"Wait/key deleted behind everybody's back", (*lockerTest).waitDeleted},
		{"Wait/key that nobody extends runs out", (*lockerTest).waitExpired},
		{"Wait/caller gives up", (*lockerTest).waitGivenUp},
		{"Wait/caller has given up before", (*lockerTest).waitGivenUpBefore},
		{"Wait/caller's deadline", (*lockerTest).waitDeadline},
		{"Wait/1,000 give up at once", (*lockerTest).waitThousand},
		{"Exclusion/many workers in many lockers", (*lockerTest).exclusion},
		{"Force/ends the holder in another locker", (*lockerTest).forceOther},
		{"Force/ends the holder in this locker", (*lockerTest).forceHere},
		{"Force/free name", (*lockerTest).forceFree},
		{"Force/old holder's cancel leaves the new one alone", (*lockerTest).forceThenCancel},
		{"End/cancel", (*lockerTest).endCancel},
		{"End/cancel many times at once", (*lockerTest).endCancelMany},
		{"End/keys deleted", (*lockerTest).endDeleted},
		{"End/minority of keys deleted", (*lockerTest).endMinority},
		{"End/link to the server stalled", (*lockerTest).endExpired},
		{"End/caller's context keeps the keys until cancel", (*lockerTest).endCaller},
		{"End/caller's deadline ends the context", (*lockerTest).endDeadline},
		{"Close/ends and releases what is held", (*lockerTest).closeHeld},
		{"Close/wakes those who wait", (*lockerTest).closeWaiting},
		{"Close/calls afterwards", (*lockerTest).closeThenCall},
		{"Close/many times at once", (*lockerTest).closeMany},
		{"Close/while everything goes on", (*lockerTest).closeBusy},
	}
}

// lockerTest is one test's fleet and what it has opened.
type lockerTest struct {
	*testing.T
	Fleet
	prefix   string
	majority int32
	lockers  []ctxlock.Locker
}

const (
	name = "the name"
	// validity is short enough to be waited for and long enough not to run out because the machine is busy.
	validity = 2 * time.Second
)

func (l *lockerTest) option() ctxlock.LockerOption {
	return ctxlock.LockerOption{KeyPrefix: l.prefix, KeyMajority: l.majority, KeyValidity: validity}
}

// locker returns another locker.
func (l *lockerTest) locker() ctxlock.Locker {
	locker := l.NewLocker(l.option())
	l.lockers = append(l.lockers, locker)
	return locker
}

// keys are the keys that there are of this test.
func (l *lockerTest) keys() []string {
	others := func(key string) bool { return !strings.HasPrefix(key, l.prefix+":") }
	return slices.DeleteFunc(l.Keys(), others)
}

// keysOf are all keys that a lock has.
func (l *lockerTest) keysOf(name string) []string {
	keys := make([]string, 2*l.majority-1)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s:%d:%s", l.prefix, i, name)
	}
	return keys
}

// standing counts the keys of a lock that exist.
func (l *lockerTest) standing(name string) (n int) {
	for _, key := range l.keysOf(name) {
		if l.TTL(key) > 0 {
			n++
		}
	}
	return n
}

// gone checks that a lock was given back: what is left of its keys, if anything, keeps nobody from taking it, and goes by itself.
func (l *lockerTest) gone(name string) {
	l.Helper()
	if n := l.standing(name); n >= int(l.majority) {
		l.Errorf("%d keys exist after cancel", n)
	}
	soon := time.Now().Add(validity / 2)
	eventually(l, "all keys are gone", func() bool { return l.standing(name) == 0 })
	if time.Now().After(soon) {
		l.Error("the keys were left to run out")
	}
}

// leaveNothing is how each test ends: all lockers are closed and no key is left.
func (l *lockerTest) leaveNothing() {
	l.Helper()
	for _, locker := range l.lockers {
		locker.Close()
	}
	runsOut := func(key string) bool { return l.isCounter(key) && l.TTL(key) < 2*time.Hour }
	if keys := slices.DeleteFunc(l.keys(), runsOut); len(keys) > 0 {
		l.Errorf("keys are left behind: %.200q", keys)
	}
}

// isCounter tells whether a key counts fencing tokens. Those outlive the locks.
func (l *lockerTest) isCounter(key string) bool {
	rest := strings.TrimPrefix(key, l.prefix)
	return strings.HasPrefix(rest, ":T:") || strings.HasPrefix(rest, ":t:")
}

// call is WithContext, TryWithContext or ForceWithContext of some locker.
type call func(context.Context, string) (context.Context, context.CancelFunc, error)

// holding is a lock that a test holds.
type holding struct {
	context.Context
	cancel context.CancelFunc
}

// must takes a lock that can be had.
func (l *lockerTest) must(take call, name string) holding {
	l.Helper()
	return l.mustIn(context.Background(), take, name)
}

func (l *lockerTest) mustIn(ctx context.Context, take call, name string) holding {
	l.Helper()
	lock, cancel, err := take(ctx, name)
	if err != nil {
		l.Fatalf("acquire: %v", err)
	}
	if lock.Err() != nil {
		l.Fatalf("acquired a context that has ended: %v", context.Cause(lock))
	}
	return holding{lock, cancel}
}

// mustNot checks what comes of a call that fails, whatever the reason: a context that has ended with the error as its cause, and
// a cancel function that can be called.
func (l *lockerTest) mustNot(take call, ctx context.Context, name string) error {
	l.Helper()
	lock, cancel, err := take(ctx, name)
	switch {
	case err == nil:
		l.Fatal("acquired what cannot be had")
	case cancel == nil:
		l.Fatal("cancel is nil")
	case lock == nil:
		l.Fatal("the context is nil")
	case lock.Err() == nil:
		l.Fatal("the context of a failed call has not ended")
	case context.Cause(lock) != err && ctx != nil && ctx.Err() == nil:
		l.Errorf("the context's cause is %v, the error %v", context.Cause(lock), err)
	}
	cancel()
	cancel()
	return err
}

// wants checks an error.
func (l *lockerTest) wants(err, target error) {
	l.Helper()
	if !errors.Is(err, target) {
		l.Fatalf("error is %v, want %v", err, target)
	}
}

// ends waits for the end of a lock and checks the cause.
func (l *lockerTest) ends(lock context.Context, cause error) {
	l.Helper()
	within(l, "the context ends", lock.Done())
	l.wants(context.Cause(lock), cause)
}

// loses waits for the loss of a lock and checks the reason.
func (l *lockerTest) loses(lock context.Context, name string, reason ctxlock.Reason) {
	l.Helper()
	l.ends(lock, ctxlock.ErrLost)
	var lost *ctxlock.LostError
	if !errors.As(context.Cause(lock), &lost) {
		l.Fatalf("cause is %v, not a LostError", context.Cause(lock))
	}
	if lost.Name != name || lost.Reason != reason {
		l.Errorf("lost %q because %s, want %q and %s", lost.Name, lost.Reason, name, reason)
	}
}

// pending is a call on its way.
type pending struct {
	holding
	err  error
	done chan struct{} // closed when the call has returned
}

func (l *lockerTest) start(ctx context.Context, take call, name string) *pending {
	p := &pending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.Context, p.cancel, p.err = take(ctx, name)
	}()
	return p
}

// waits checks that a call has not returned.
func (l *lockerTest) waits(p *pending) {
	l.Helper()
	l.Settle()
	select {
	case <-p.done:
		l.Fatalf("the call did not wait: %v", p.err)
	default:
	}
}

func (l *lockerTest) acquireFree() {
	here := l.locker()
	lock := l.must(here.WithContext, name)
	if n := l.standing(name); n < int(l.majority) {
		l.Errorf("%d keys exist, want %d or more", n, l.majority)
	}
	lock.cancel()
	l.ends(lock, ctxlock.ErrReleased)
	l.gone(name)
}

func (l *lockerTest) acquireByEach() {
	here := l.locker()
	for _, take := range []call{here.WithContext, here.TryWithContext, here.ForceWithContext} {
		for range 3 {
			lock := l.must(take, name)
			lock.cancel()
		}
	}
}

func (l *lockerTest) acquireValues() {
	type key struct{}
	here := l.locker()
	lock := l.mustIn(context.WithValue(context.Background(), key{}, "value"), here.WithContext, name)
	defer lock.cancel()
	if lock.Value(key{}) != "value" {
		l.Error("the lock's context does not have the values of the caller's")
	}
	child, cancel := context.WithCancel(lock)
	defer cancel()
	lock.cancel()
	l.ends(child, ctxlock.ErrReleased)
}

func (l *lockerTest) acquireOddNames() {
	here, there := l.locker(), l.locker()
	for _, odd := range oddNames() {
		lock := l.must(here.TryWithContext, odd)
		l.wants(l.mustNot(there.TryWithContext, context.Background(), odd), ctxlock.ErrNotLocked)
		lock.cancel()
		again := l.must(there.TryWithContext, odd)
		again.cancel()
	}
}

// Names that could be confused with each other, or with each other's keys, can all be held at once.
func (l *lockerTest) acquireDistinct() {
	here := l.locker()
	names := append(oddNames(), "a", "b", "0:a", "1:a", "w:a", ":a", "a:", "0", "1", "w")
	for _, name := range names {
		lock := l.must(here.TryWithContext, name)
		defer lock.cancel()
	}
}

func (l *lockerTest) acquireWrong() {
	here := l.locker()
	for _, take := range []call{here.WithContext, here.TryWithContext, here.ForceWithContext} {
		l.mustNot(take, nil, name)
		l.mustNot(take, context.Background(), "")
		l.mustNot(take, context.Background(), strings.Repeat("x", 64<<10+1))
	}
}

func (l *lockerTest) acquireExtended() {
	here, there := l.locker(), l.locker()
	lock := l.must(here.WithContext, name)
	defer lock.cancel()
	time.Sleep(2 * validity)
	if lock.Err() != nil {
		l.Fatalf("ended: %v", context.Cause(lock))
	}
	l.wants(l.mustNot(there.TryWithContext, context.Background(), name), ctxlock.ErrNotLocked)
}

func (l *lockerTest) tryHeld() {
	here, there := l.locker(), l.locker()
	lock := l.must(here.WithContext, name)
	defer lock.cancel()
	l.wants(l.mustNot(there.TryWithContext, context.Background(), name), ctxlock.ErrNotLocked)
	if lock.Err() != nil {
		l.Errorf("an attempt ended the holder: %v", context.Cause(lock))
	}
}

func (l *lockerTest) tryHeldHere() {
	here := l.locker()
	lock := l.must(here.WithContext, name)
	defer lock.cancel()
	l.wants(l.mustNot(here.TryWithContext, context.Background(), name), ctxlock.ErrNotLocked)
	if lock.Err() != nil {
		l.Errorf("an attempt ended the holder: %v", context.Cause(lock))
	}
}

// When cancel has returned, the lock is free for everybody.
func (l *lockerTest) tryReleased() {
	here, there := l.locker(), l.locker()
	for range 20 {
		lock := l.must(here.TryWithContext, name)
		lock.cancel()
		lock = l.must(there.TryWithContext, name)
		lock.cancel()
	}
}

func (l *lockerTest) handover() {
	here, there := l.locker(), l.locker()
	l.handOver(here, there)
	l.handOver(there, here)
}

func (l *lockerTest) handoverHere() {
	here := l.locker()
	l.handOver(here, here)
}

func (l *lockerTest) handOver(from, to ctxlock.Locker) {
	l.Helper()
	lock := l.must(from.WithContext, name)
	next := l.start(context.Background(), to.WithContext, name)
	l.waits(next)
	lock.cancel()
	l.follows(lock, next)
	next.cancel()
}

// follows waits until a waiter has the lock, and checks that its predecessor had ended.
func (l *lockerTest) follows(lock holding, next *pending) {
	l.Helper()
	within(l, "the waiter gets the lock", next.done)
	if next.err != nil {
		l.Fatalf("the waiter did not get the lock: %v", next.err)
	}
	if lock.Err() == nil {
		l.Error("the waiter has the lock, and the holder's context has not ended")
	}
}

func (l *lockerTest) waitDeleted() {
	here, there := l.locker(), l.locker()
	lock := l.must(here.WithContext, name)
	defer lock.cancel()
	next := l.start(context.Background(), there.WithContext, name)
	l.waits(next)
	l.Delete(l.keysOf(name)...)
	within(l, "the waiter gets the lock", next.done)
	if next.err != nil {
		l.Fatal(next.err)
	}
	l.ends(lock, ctxlock.ErrLost)
	next.cancel()
}

// The lock of a holder whose caller's context has ended, and who never calls cancel, falls to a waiter when it runs out.
func (l *lockerTest) waitExpired() {
	here, there := l.locker(), l.locker()
	ctx, cancel := context.WithCancel(context.Background())
	lock := l.mustIn(ctx, here.WithContext, name)
	next := l.start(context.Background(), there.WithContext, name)
	l.waits(next)
	cancel()
	l.follows(lock, next)
	lock.cancel()
	if next.Err() != nil {
		l.Errorf("a late cancel ended the new holder: %v", context.Cause(next))
	}
	next.cancel()
}

var errWhy = errors.New("the caller's reason")

func (l *lockerTest) waitGivenUp() {
	here, there := l.locker(), l.locker()
	lock := l.must(here.WithContext, name)
	ctx, cancel := context.WithCancelCause(context.Background())
	for _, locker := range []ctxlock.Locker{here, there} {
		next := l.start(ctx, locker.WithContext, name)
		l.waits(next)
		defer func() {
			within(l, "the waiter gives up", next.done)
			l.wants(next.err, context.Canceled)
			l.wants(next.err, errWhy)
		}()
	}
	cancel(errWhy)
	lock.cancel()
}

func (l *lockerTest) waitGivenUpBefore() {
	here := l.locker()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errWhy)
	for _, take := range []call{here.WithContext, here.TryWithContext, here.ForceWithContext} {
		err := l.mustNot(take, ctx, name)
		l.wants(err, context.Canceled)
		l.wants(err, errWhy)
	}
	if keys := l.keys(); len(keys) > 0 {
		l.Errorf("a call whose context had ended set keys: %q", keys)
	}
}

// A wait that ends for want of time says so, and why there was need to wait.
func (l *lockerTest) waitDeadline() {
	here, there := l.locker(), l.locker()
	lock := l.must(here.WithContext, name)
	defer lock.cancel()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	err := l.mustNot(there.WithContext, ctx, name)
	l.wants(err, context.DeadlineExceeded)
	l.wants(err, ctxlock.ErrNotLocked)
}

func (l *lockerTest) waitThousand() {
	here, there := l.locker(), l.locker()
	lock := l.must(here.WithContext, name)
	ctx, cancel := context.WithCancel(context.Background())
	waiters := make([]*pending, 1000)
	for i := range waiters {
		waiters[i] = l.start(ctx, there.WithContext, name)
	}
	l.waits(waiters[0])
	cancel()
	for _, next := range waiters {
		within(l, "a waiter gives up", next.done)
		l.wants(next.err, context.Canceled)
	}
	next := l.start(context.Background(), there.WithContext, name)
	l.waits(next)
	lock.cancel()
	l.follows(lock, next)
	next.cancel()
}

func (l *lockerTest) exclusion() {
	const processes, workers, rounds = 3, 4, 10
	var (
		mu     sync.Mutex
		holder context.Context
		wg     sync.WaitGroup
	)
	for range processes {
		locker := l.locker()
		for range workers {
			wg.Go(func() {
				for range rounds {
					lock, cancel, err := locker.WithContext(context.Background(), name)
					if err != nil {
						l.Errorf("acquire: %v", err)
						return
					}
					mu.Lock()
					if holder != nil && holder.Err() == nil {
						l.Error("two hold the lock")
					}
					holder = lock
					mu.Unlock()
					cancel()
				}
			})
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	within(l, "all get their turns", done)
}

func (l *lockerTest) forceOther() {
	here, there := l.locker(), l.locker()
	lock := l.must(here.WithContext, name)
	defer lock.cancel()
	thief := l.must(there.ForceWithContext, name)
	defer thief.cancel()
	l.loses(lock, name, ctxlock.Taken)
	if thief.Err() != nil {
		l.Errorf("the new holder ended: %v", context.Cause(thief))
	}
}

func (l *lockerTest) forceHere() {
	here := l.locker()
	lock := l.must(here.WithContext, name)
	defer lock.cancel()
	thief := l.must(here.ForceWithContext, name)
	defer thief.cancel()
	if lock.Err() == nil {
		l.Error("two contexts of one locker are alive")
	}
	l.loses(lock, name, ctxlock.Taken)
}

func (l *lockerTest) forceFree() {
	here, there := l.locker(), l.locker()
	lock := l.must(here.ForceWithContext, name)
	l.wants(l.mustNot(there.TryWithContext, context.Background(), name), ctxlock.ErrNotLocked)
	lock.cancel()
	again := l.must(there.TryWithContext, name)
	again.cancel()
}

func (l *lockerTest) forceThenCancel() {
	here, there := l.locker(), l.locker()
	lock := l.must(here.WithContext, name)
	thief := l.must(there.ForceWithContext, name)
	defer thief.cancel()
	lock.cancel()
	if n := l.standing(name); n < int(l.majority) {
		l.Errorf("%d keys of the new holder are left", n)
	}
	l.Settle()
	if thief.Err() != nil {
		l.Errorf("the new holder ended: %v", context.Cause(thief))
	}
}

func (l *lockerTest) endCancel() {
	here := l.locker()
	lock := l.must(here.WithContext, name)
	lock.cancel()
	if lock.Err() == nil {
		l.Fatal("cancel has returned, and the context has not ended")
	}
	l.ends(lock, ctxlock.ErrReleased)
	again := l.must(here.WithContext, name)
	defer again.cancel()
	lock.cancel()
	if again.Err() != nil || l.standing(name) < int(l.majority) {
		l.Error("a second cancel released the next holding")
	}
}

func (l *lockerTest) endCancelMany() {
	here := l.locker()
	lock := l.must(here.WithContext, name)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			lock.cancel()
			if n := l.standing(name); n >= int(l.majority) {
				l.Errorf("cancel has returned, and %d keys exist", n)
			}
		})
	}
	wg.Wait()
	l.gone(name)
	l.ends(lock, ctxlock.ErrReleased)
}

func (l *lockerTest) endDeleted() {
	here := l.locker()
	lock := l.must(here.WithContext, name)
	defer lock.cancel()
	l.Delete(l.keysOf(name)...)
	l.loses(lock, name, ctxlock.Deleted)
	again := l.must(here.WithContext, name)
	again.cancel()
}

// A lock stands while a majority of its keys does, and what is missing comes back.
func (l *lockerTest) endMinority() {
	if l.majority == 1 {
		return
	}
	here := l.locker()
	lock := l.must(here.WithContext, name)
	defer lock.cancel()
	keys := l.keysOf(name)
	eventually(l, "all keys are set", func() bool { return l.standing(name) == len(keys) })
	for _, key := range keys[:l.majority-1] {
		l.Delete(key)
	}
	eventually(l, "all keys are set again", func() bool { return l.standing(name) == len(keys) })
	if lock.Err() != nil {
		l.Errorf("ended: %v", context.Cause(lock))
	}
}

func (l *lockerTest) endExpired() {
	breaker, ok := l.Fleet.(Breaker)
	if !ok {
		return
	}
	here, stall := breaker.NewBreakable(l.option())
	l.lockers = append(l.lockers, here)
	there := l.locker()
	lock := l.must(here.WithContext, name)
	stall(true)
	next := l.start(context.Background(), there.WithContext, name)
	l.loses(lock, name, ctxlock.Expired)
	l.follows(lock, next)
	stall(false)
	lock.cancel()
	l.Settle()
	if next.Err() != nil {
		l.Errorf("the old holder came back and ended the new one: %v", context.Cause(next))
	}
	next.cancel()
}

// The end of the caller's context is not a release: work may still be unwinding.
func (l *lockerTest) endCaller() {
	here, there := l.locker(), l.locker()
	ctx, end := context.WithCancelCause(context.Background())
	lock := l.mustIn(ctx, here.WithContext, name)
	end(errWhy)
	l.ends(lock, errWhy)
	if !errors.Is(lock.Err(), context.Canceled) {
		l.Errorf("Err is %v", lock.Err())
	}
	l.Settle()
	l.wants(l.mustNot(there.TryWithContext, context.Background(), name), ctxlock.ErrNotLocked)
	lock.cancel()
	again := l.must(there.TryWithContext, name)
	again.cancel()
}

func (l *lockerTest) endDeadline() {
	here, there := l.locker(), l.locker()
	ctx, cancel := context.WithTimeout(context.Background(), validity/4)
	defer cancel()
	lock := l.mustIn(ctx, here.WithContext, name)
	l.ends(lock, context.DeadlineExceeded)
	l.wants(l.mustNot(there.TryWithContext, context.Background(), name), ctxlock.ErrNotLocked)
	lock.cancel()
	again := l.must(there.TryWithContext, name)
	again.cancel()
}

func (l *lockerTest) closeHeld() {
	here, there := l.locker(), l.locker()
	var locks []holding
	for i := range 20 {
		locks = append(locks, l.must(here.WithContext, fmt.Sprint(name, i)))
	}
	here.Close()
	for i, lock := range locks {
		if lock.Err() == nil {
			l.Fatal("Close has returned, and a context has not ended")
		}
		l.ends(lock, ctxlock.ErrLockerClosed)
		again := l.must(there.TryWithContext, fmt.Sprint(name, i))
		lock.cancel()
		if again.Err() != nil || l.standing(fmt.Sprint(name, i)) < int(l.majority) {
			l.Error("a cancel after Close released the next holder's lock")
		}
		again.cancel()
	}
}

func (l *lockerTest) closeWaiting() {
	here, there := l.locker(), l.locker()
	lock := l.must(there.WithContext, name)
	defer lock.cancel()
	waiters := make([]*pending, 50)
	for i := range waiters {
		waiters[i] = l.start(context.Background(), here.WithContext, name)
	}
	l.waits(waiters[0])
	here.Close()
	for _, next := range waiters {
		within(l, "a waiter returns", next.done)
		l.wants(next.err, ctxlock.ErrLockerClosed)
	}
	if lock.Err() != nil {
		l.Errorf("the holder in another locker ended: %v", context.Cause(lock))
	}
}

func (l *lockerTest) closeThenCall() {
	here := l.locker()
	here.Close()
	for _, take := range []call{here.WithContext, here.TryWithContext, here.ForceWithContext} {
		l.wants(l.mustNot(take, context.Background(), name), ctxlock.ErrLockerClosed)
	}
}

func (l *lockerTest) closeMany() {
	here := l.locker()
	lock := l.must(here.WithContext, name)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			here.Close()
			if lock.Err() == nil || l.standing(name) != 0 {
				l.Error("Close has returned, and the lock is still held")
			}
		})
	}
	wg.Wait()
}

// Close comes while locks are being taken, waited for and released.
func (l *lockerTest) closeBusy() {
	here := l.locker()
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			for {
				lock, cancel, err := here.WithContext(context.Background(), fmt.Sprint(name, i%5))
				if err != nil {
					l.wantsHere(err, ctxlock.ErrLockerClosed)
					return
				}
				time.Sleep(time.Millisecond)
				if i%2 == 0 || lock.Err() != nil {
					cancel() // the others leave it to Close
				}
			}
		})
	}
	l.Settle()
	here.Close()
	wg.Wait()
}

// wantsHere is wants for goroutines other than the test's own.
func (l *lockerTest) wantsHere(err, target error) {
	l.Helper()
	if !errors.Is(err, target) {
		l.Errorf("error is %v, want %v", err, target)
	}
}
