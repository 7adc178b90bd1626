package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock"
)

// acquireTests are about what Acquire and the handle add to the drop-in calls.
func acquireTests() []lockerTestOf {
	return []lockerTestOf{
		{"Handle/tells of its lock", (*lockerTest).handleTells},
		{"Handle/of a failed call", (*lockerTest).handleNone},
		{"Handle/release says what became of the lock", (*lockerTest).handleRelease},
		{"Handle/from a context", (*lockerTest).handleFromContext},
		{"Handle/TTL", (*lockerTest).handleTTL},
		{"Mode/each does what the drop-in call does", (*lockerTest).modes},
		{"Options/that make no sense", (*lockerTest).optionsWrong},
		{"Retry/gives up", (*lockerTest).retryGivesUp},
		{"Validity/of each lock", (*lockerTest).validityOwn},
		{"Validity/that is long", (*lockerTest).validityLong},
		{"Extend/by hand", (*lockerTest).extendByHand},
		{"Extend/not at all", (*lockerTest).extendNever},
		{"Extend/kept and no longer kept", (*lockerTest).extendKept},
		{"Extend/shorter cuts trust at once", (*lockerTest).extendShorter},
		{"Extend/of what is lost", (*lockerTest).extendLost},
		{"OnError/hears of the loss", (*lockerTest).onError},
		{"Metadata/is there for as long as the lock is", (*lockerTest).metadata},
		{"Value/of two that are the same", (*lockerTest).valueSame},
		{"Token/rises across lockers, and by force", (*lockerTest).tokenRises},
		{"Token/rises when everything is deleted", (*lockerTest).tokenDeleted},
		{"Token/is none unless asked for", (*lockerTest).tokenNone},
		{"Token/of several locks", (*lockerTest).tokenAll},
		{"Look/free and held", (*lockerTest).look},
		{"Look/who waits", (*lockerTest).lookWaiting},
		{"List/what is held", (*lockerTest).list},
		{"List/stops when told to", (*lockerTest).listStopped},
		{"All/or none", (*lockerTest).allOrNone},
		{"All/end together", (*lockerTest).allEnd},
		{"All/in opposite orders", (*lockerTest).allOpposite},
		{"All/against those who hold one and want another", (*lockerTest).allCircle},
	}
}

// acquired is a lock with its handle.
type acquired struct {
	context.Context
	*ctxlock.Lock
}

// Err is the context's.
func (a acquired) Err() error { return a.Context.Err() }

// Value is the handle's.
func (a acquired) Value() string { return a.Lock.Value() }

// acquire takes a lock that can be had.
func (l *lockerTest) acquire(from ctxlock.Locker, name string, option ctxlock.AcquireOption) acquired {
	l.Helper()
	ctx, lock, err := from.Acquire(context.Background(), name, option)
	if err != nil {
		l.Fatalf("acquire: %v", err)
	}
	if ctx.Err() != nil || !lock.Valid() {
		l.Fatalf("acquired what has ended: %v", context.Cause(ctx))
	}
	return acquired{ctx, lock}
}

// refuse checks what comes of a call that fails: a context that has ended with the error, and a nil handle.
func (l *lockerTest) refuse(from ctxlock.Locker, name string, option ctxlock.AcquireOption) error {
	l.Helper()
	ctx, lock, err := from.Acquire(context.Background(), name, option)
	if err == nil || lock != nil || ctx == nil || ctx.Err() == nil || context.Cause(ctx) != err {
		l.Fatalf("error %v, handle %v, context %v", err, lock, ctx)
	}
	return err
}

// release gives a lock back, which must be in order.
func (l *lockerTest) release(a acquired) {
	l.Helper()
	if err := a.Release(context.Background()); err != nil {
		l.Errorf("release: %v", err)
	}
}

// brief is the validity of locks whose end a test waits for.
const brief = validity / 2

var (
	try    = ctxlock.AcquireOption{Mode: ctxlock.Try}
	byHand = ctxlock.AcquireOption{Mode: ctxlock.Try, Validity: brief, NoExtend: true}
	fenced = ctxlock.AcquireOption{Fencing: true}
	forced = ctxlock.AcquireOption{Mode: ctxlock.Force, Fencing: true}
)

func (l *lockerTest) handleTells() {
	lock := l.acquire(l.locker(), name, ctxlock.AcquireOption{Value: "host", Metadata: "what for"})
	if lock.Name() != name || !strings.HasSuffix(lock.Value(), "host") || lock.Metadata() != "what for" || lock.Lock.Err() != nil {
		l.Errorf("%q, %q, %q, %v", lock.Name(), lock.Value(), lock.Metadata(), lock.Lock.Err())
	}
	if left := time.Until(lock.Until()); left <= 0 || left > validity {
		l.Errorf("it is believed in for %v", left)
	}
	if each := lock.Each(); len(each) != 1 || each[0] != lock.Lock {
		l.Errorf("Each gives %v", each)
	}
	l.release(lock)
	if lock.Valid() || !lock.Until().IsZero() || lock.Name() != name {
		l.Errorf("after its release it is %v valid, until %v, %q", lock.Valid(), lock.Until(), lock.Name())
	}
	l.wants(lock.Lock.Err(), ctxlock.ErrReleased)
	l.wants(lock.Extend(context.Background(), 0), ctxlock.ErrReleased)
	_, err := lock.TTL(context.Background())
	l.wants(err, ctxlock.ErrReleased)
}

// A nil handle is that of a lock which was never held.
func (l *lockerTest) handleNone() {
	here, there := l.locker(), l.locker()
	lock := l.acquire(here, name, ctxlock.AcquireOption{})
	l.wants(l.refuse(there, name, try), ctxlock.ErrNotLocked)
	l.refuse(there, "", try)
	l.refuse(there, strings.Repeat("x", 64<<10+1), try)
	l.release(lock)
	var none *ctxlock.Lock
	if none.Valid() || none.Name() != "" || none.Token() != 0 || !none.Until().IsZero() || len(none.Each()) != 0 {
		l.Error("a nil handle is not empty")
	}
	none.KeepExtended(nil)()
	for _, err := range []error{none.Err(), none.Extend(context.Background(), 0), none.Release(context.Background())} {
		l.wants(err, ctxlock.ErrReleased)
	}
}

func (l *lockerTest) handleRelease() {
	here, there := l.locker(), l.locker()
	lock := l.acquire(here, name, ctxlock.AcquireOption{})
	l.release(lock)
	l.wants(lock.Release(context.Background()), ctxlock.ErrReleased)

	lock = l.acquire(here, name, ctxlock.AcquireOption{})
	ended, end := context.WithCancel(context.Background())
	end()
	if err := lock.Release(ended); err != nil {
		l.Errorf("release with a context that has ended: %v", err)
	}
	l.gone(name)

	lock = l.acquire(here, name, ctxlock.AcquireOption{})
	thief := l.acquire(there, name, ctxlock.AcquireOption{Mode: ctxlock.Force})
	l.wants(lock.Release(context.Background()), ctxlock.ErrLost) // whether it has heard of it or not
	if !thief.Valid() {
		l.Errorf("the thief's ended: %v", thief.Lock.Err())
	}
	l.release(thief)

	lock = l.acquire(here, name, ctxlock.AcquireOption{})
	here.Close()
	l.wants(lock.Lock.Err(), ctxlock.ErrLockerClosed)
	l.wants(lock.Release(context.Background()), ctxlock.ErrLockerClosed)
}

func (l *lockerTest) handleFromContext() {
	here := l.locker()
	if ctxlock.FromContext(context.Background()) != nil {
		l.Error("a handle from nowhere")
	}
	outer := l.acquire(here, "outer", ctxlock.AcquireOption{})
	ctx, inner, err := here.Acquire(outer.Context, name, ctxlock.AcquireOption{})
	if err != nil {
		l.Fatal(err)
	}
	child, cancel := context.WithCancel(ctx)
	defer cancel()
	if ctxlock.FromContext(outer.Context) != outer.Lock || ctxlock.FromContext(child) != inner {
		l.Error("the context gives another handle")
	}
	l.release(outer)
	l.wants(inner.Err(), ctxlock.ErrReleased)
	_ = inner.Release(context.Background())
	dropIn := l.must(here.WithContext, name)
	if lock := ctxlock.FromContext(dropIn.Context); lock.Name() != name || lock.Release(context.Background()) != nil {
		l.Errorf("the handle of a drop-in call is %v", lock)
	}
	l.ends(dropIn, ctxlock.ErrReleased)
	dropIn.cancel()
}

func (l *lockerTest) handleTTL() {
	lock := l.acquire(l.locker(), name, ctxlock.AcquireOption{Validity: 10 * validity})
	ttl, err := lock.TTL(context.Background())
	if err != nil || ttl <= 5*validity || ttl > 10*validity+100*time.Millisecond {
		l.Errorf("TTL is %v, error %v", ttl, err)
	}
	l.Delete(l.keysOf(name)...)
	if _, err := lock.TTL(context.Background()); err == nil {
		l.Error("the keys are gone, and TTL says nothing")
	} else {
		l.wants(err, ctxlock.ErrLost)
	}
	l.loses(lock.Context, name, ctxlock.Deleted)
	l.wants(lock.Release(context.Background()), ctxlock.ErrLost)
}

func (l *lockerTest) modes() {
	here, there := l.locker(), l.locker()
	lock := l.acquire(here, name, try)
	l.wants(l.refuse(there, name, try), ctxlock.ErrNotLocked)
	next := make(chan acquired)
	go func() { next <- l.acquireHere(there, name, ctxlock.AcquireOption{}) }()
	l.Settle()
	select {
	case <-next:
		l.Fatal("did not wait")
	default:
	}
	l.release(lock)
	second := <-next
	third := l.acquire(here, name, ctxlock.AcquireOption{Mode: ctxlock.Force})
	l.loses(second.Context, name, ctxlock.Taken)
	l.wants(second.Release(context.Background()), ctxlock.ErrLost)
	l.release(third)
}

// acquireHere is acquire for goroutines other than the test's own.
func (l *lockerTest) acquireHere(from ctxlock.Locker, name string, option ctxlock.AcquireOption) acquired {
	l.Helper()
	ctx, lock, err := from.Acquire(context.Background(), name, option)
	if err != nil {
		l.Errorf("acquire: %v", err)
	}
	return acquired{ctx, lock}
}

func (l *lockerTest) optionsWrong() {
	here := l.locker()
	for _, option := range []ctxlock.AcquireOption{
		{Mode: -1}, {Mode: 3}, {Mode: ctxlock.Try, Retry: ctxlock.NoRetry()}, {Retry: ctxlock.RetryFixed(0)}, {Replicas: -1},
		{Value: "a\nb"}, {Value: strings.Repeat("x", 4<<10+1)}, {Metadata: strings.Repeat("x", 64<<10+1)}, {Validity: 1}, {Validity: -time.Second},
		{Value: "a", ValueFunc: func() (string, error) { return "b", nil }},
		{ValueFunc: func() (string, error) { return "", nil }}, {ValueFunc: func() (string, error) { return "", errWhy }},
	} {
		l.refuse(here, name, option)
		if _, lock, err := here.AcquireAll(context.Background(), []string{name, "other"}, option); err == nil || lock != nil {
			l.Errorf("of several: handle %v, error %v", lock, err)
		}
	}
	for _, names := range [][]string{nil, {}, {name, ""}, {strings.Repeat("x", 64<<10+1)}, make([]string, 1025)} {
		if _, lock, err := here.AcquireAll(context.Background(), names, try); err == nil || lock != nil {
			l.Errorf("%d names: handle %v, error %v", len(names), lock, err)
		}
	}
	var none context.Context
	if _, _, err := here.Acquire(none, name, try); err == nil {
		l.Error("no error of a nil context")
	}
	if keys := l.keys(); len(keys) > 0 {
		l.Errorf("wrong calls have set %q", keys)
	}
}

func (l *lockerTest) retryGivesUp() {
	here, there := l.locker(), l.locker()
	lock := l.acquire(here, name, ctxlock.AcquireOption{})
	asked := 0
	counting := ctxlock.RetryFunc(func(a ctxlock.Attempt) ctxlock.Retry {
		if asked++; a.Number != asked || !errors.Is(a.Err, ctxlock.ErrNotLocked) {
			l.Errorf("attempt %d is number %d: %v", asked, a.Number, a.Err)
		}
		return ctxlock.Retry{Again: a.Number < 4, After: 5 * time.Millisecond}
	})
	for _, policy := range []ctxlock.RetryPolicy{ctxlock.NoRetry(), ctxlock.LimitRetries(3, ctxlock.RetryFixed(5*time.Millisecond)), counting} {
		l.wants(l.refuse(there, name, ctxlock.AcquireOption{Retry: policy}), ctxlock.ErrNotLocked)
	}
	if asked != 4 {
		l.Errorf("asked %d times", asked)
	}
	l.release(lock)
	l.release(l.acquire(there, name, ctxlock.AcquireOption{Retry: ctxlock.NoRetry()}))
}

// A lock of short validity that nobody extends is over long before one of the locker's own.
func (l *lockerTest) validityOwn() {
	here, there := l.locker(), l.locker()
	lock := l.acquire(here, name, byHand)
	if left := time.Until(lock.Until()); left > brief {
		l.Errorf("it is believed in for %v, and lives for %v", left, brief)
	}
	start := time.Now()
	next := l.start(context.Background(), there.WithContext, name)
	l.loses(lock.Context, name, ctxlock.Expired)
	if took := time.Since(start); took > brief+validity/4 {
		l.Errorf("it was believed in for %v, and lives for %v", took, brief)
	}
	within(l, "the waiter gets the lock", next.done)
	next.cancel()
	l.wants(lock.Release(context.Background()), ctxlock.ErrLost)

	lock = l.acquire(here, name, ctxlock.AcquireOption{Validity: brief})
	time.Sleep(3 * brief / 2)
	if !lock.Valid() {
		l.Errorf("it was not extended: %v", lock.Lock.Err())
	}
	l.release(lock)
}

func (l *lockerTest) validityLong() {
	lock := l.acquire(l.locker(), name, ctxlock.AcquireOption{Validity: time.Hour, NoExtend: true})
	time.Sleep(5 * validity / 4) // longer than the locker's own
	if left := time.Until(lock.Until()); !lock.Valid() || left < 50*time.Minute {
		l.Errorf("valid: %v, for %v", lock.Valid(), left)
	}
	l.release(lock)
}

func (l *lockerTest) extendByHand() {
	here, there := l.locker(), l.locker()
	lock := l.acquire(here, name, byHand)
	for range 3 {
		time.Sleep(brief / 2)
		before := lock.Until()
		if err := lock.Extend(context.Background(), 0); err != nil {
			l.Fatalf("extend: %v", err)
		}
		if !lock.Until().After(before) {
			l.Error("it is believed in no longer than before")
		}
	}
	l.wants(l.refuse(there, name, try), ctxlock.ErrNotLocked)
	if err := lock.Extend(context.Background(), 10*validity); err != nil {
		l.Fatalf("extend: %v", err)
	}
	time.Sleep(3 * brief / 2)
	if !lock.Valid() {
		l.Errorf("ended: %v", lock.Lock.Err())
	}
	if err := lock.Extend(context.Background(), time.Millisecond); err == nil || !lock.Valid() {
		l.Errorf("by too little: %v, valid %v", err, lock.Valid())
	}
	ended, end := context.WithCancel(context.Background())
	end()
	l.wants(lock.Extend(ended, 0), context.Canceled)
	l.release(lock)
}

func (l *lockerTest) extendNever() {
	here, there := l.locker(), l.locker()
	lock := l.acquire(here, name, byHand)
	next := l.start(context.Background(), there.WithContext, name)
	l.waits(next)
	l.loses(lock.Context, name, ctxlock.Expired)
	within(l, "the waiter gets the lock", next.done)
	l.wants(lock.Extend(context.Background(), 0), ctxlock.ErrLost)
	l.wants(lock.Release(context.Background()), ctxlock.ErrLost)
	if next.Err() != nil {
		l.Errorf("the next one's ended: %v", context.Cause(next))
	}
	next.cancel()
}

func (l *lockerTest) extendKept() {
	lock := l.acquire(l.locker(), name, byHand)
	stop := lock.KeepExtended(nil)
	time.Sleep(3 * brief / 2)
	if !lock.Valid() {
		l.Fatalf("it was not kept: %v", lock.Lock.Err())
	}
	stop()
	stop()
	l.loses(lock.Context, name, ctxlock.Expired)
	l.wants(lock.Release(context.Background()), ctxlock.ErrLost)
}

func (l *lockerTest) extendShorter() {
	lock := l.acquire(l.locker(), name, ctxlock.AcquireOption{Validity: time.Hour, NoExtend: true})
	if err := lock.Extend(context.Background(), brief); err != nil {
		l.Fatalf("extend: %v", err)
	}
	if left := time.Until(lock.Until()); left > brief {
		l.Errorf("it is believed in for %v", left)
	}
	l.loses(lock.Context, name, ctxlock.Expired)
	eventually(l, "the keys run out", func() bool { return l.standing(name) < int(l.majority) })
	l.wants(lock.Release(context.Background()), ctxlock.ErrLost)
}

func (l *lockerTest) extendLost() {
	here, there := l.locker(), l.locker()
	lock := l.acquire(here, name, byHand)
	thief := l.acquire(there, name, ctxlock.AcquireOption{Mode: ctxlock.Force})
	l.wants(lock.Extend(context.Background(), 0), ctxlock.ErrLost)
	l.ends(lock.Context, ctxlock.ErrLost)
	if err := thief.Extend(context.Background(), 0); err != nil {
		l.Errorf("extend: %v", err)
	}
	l.release(thief)
	l.wants(lock.Release(context.Background()), ctxlock.ErrLost)
}

func (l *lockerTest) onError() {
	here := l.locker()
	heard := make(chan error, 100)
	lock := l.acquire(here, name, ctxlock.AcquireOption{OnError: func(err error) { heard <- err }})
	l.Delete(l.keysOf(name)...)
	for err := error(nil); !errors.Is(err, ctxlock.ErrLost); {
		select {
		case err = <-heard:
		case <-time.After(patience):
			l.Fatal("nobody was told of the loss")
		}
	}
	l.wants(lock.Release(context.Background()), ctxlock.ErrLost)
}

func (l *lockerTest) metadata() {
	here, there := l.locker(), l.locker()
	for _, data := range []string{"data", "\n", "a\r\nb\n", "\x00\xff", strings.Repeat("x", 64<<10)} {
		lock := l.acquire(here, name, ctxlock.AcquireOption{Metadata: data, NoExtend: true, Validity: 10 * validity})
		if err := lock.Extend(context.Background(), 0); err != nil {
			l.Fatalf("extend: %v", err)
		}
		status, err := there.Look(context.Background(), name)
		if err != nil || status.Metadata != data || lock.Metadata() != data || status.Value != lock.Value() || strings.Contains(status.Value, "\n") {
			l.Errorf("%.20q: found %.20q of %q, error %v", data, status.Metadata, status.Value, err)
		}
		l.wants(l.refuse(there, name, try), ctxlock.ErrNotLocked)
		l.release(lock)
	}
}

func (l *lockerTest) valueSame() {
	here, there := l.locker(), l.locker()
	same := ctxlock.AcquireOption{Mode: ctxlock.Try, Value: "host", Metadata: "data"}
	lock := l.acquire(here, name, same)
	for _, from := range []ctxlock.Locker{here, there} {
		l.wants(l.refuse(from, name, same), ctxlock.ErrNotLocked)
	}
	l.release(lock)
}

func (l *lockerTest) tokenRises() {
	here, there := l.locker(), l.locker()
	var last int64
	for i := range 30 {
		option := fenced
		if i%3 == 0 {
			option = forced
		}
		lock := l.acquire([]ctxlock.Locker{here, there}[i%2], name, option)
		if lock.Token() <= last {
			l.Fatalf("the token is %d after %d", lock.Token(), last)
		}
		last = lock.Token()
		if i%5 == 0 {
			thief := l.acquire(there, name, forced)
			if thief.Token() <= last {
				l.Fatalf("the token is %d by force, after %d", thief.Token(), last)
			}
			last = thief.Token()
			l.release(thief)
			l.wants(lock.Release(context.Background()), ctxlock.ErrLost)
			continue
		}
		l.release(lock)
	}
	after := l.acquire(l.locker(), name, fenced)
	if after.Token() <= last {
		l.Errorf("the token is %d, in a locker that came later, after %d", after.Token(), last)
	}
	l.release(after)
}

func (l *lockerTest) tokenDeleted() {
	here, there := l.locker(), l.locker()
	var last int64
	for range 10 {
		lock := l.acquire(here, name, fenced)
		l.Delete(l.keys()...)
		time.Sleep(time.Millisecond) // for time to pass the token
		next := l.acquire(there, name, fenced)
		if lock.Token() <= last || next.Token() <= lock.Token() {
			l.Fatalf("the tokens are %d, %d and %d", last, lock.Token(), next.Token())
		}
		last = next.Token()
		l.wants(lock.Release(context.Background()), ctxlock.ErrLost)
		l.release(next)
	}
}

func (l *lockerTest) tokenNone() {
	lock := l.acquire(l.locker(), name, ctxlock.AcquireOption{})
	if lock.Token() != 0 {
		l.Errorf("the token is %d", lock.Token())
	}
	l.release(lock)
	if keys := l.keys(); slices.ContainsFunc(keys, l.isCounter) {
		l.Errorf("there are %q", keys)
	}
}

func (l *lockerTest) tokenAll() {
	here, there := l.locker(), l.locker()
	names, last := []string{"b", "a", "c"}, make(map[string]int64)
	for i := range 10 {
		_, all, err := []ctxlock.Locker{here, there}[i%2].AcquireAll(context.Background(), names, fenced)
		if err != nil {
			l.Fatal(err)
		}
		if all.Token() != 0 {
			l.Errorf("the token of several is %d", all.Token())
		}
		for j, each := range all.Each() {
			if each.Name() != names[j] || each.Token() <= last[each.Name()] {
				l.Fatalf("%q is in the place of %q and has the token %d after %d", each.Name(), names[j], each.Token(), last[each.Name()])
			}
			last[each.Name()] = each.Token()
		}
		if err := all.Release(context.Background()); err != nil {
			l.Errorf("release: %v", err)
		}
	}
}

func (l *lockerTest) look() {
	here, there := l.locker(), l.locker()
	if status, err := there.Look(context.Background(), name); err != nil || status != (ctxlock.Status{Name: name}) {
		l.Errorf("nobody has it: %+v, %v", status, err)
	}
	lock := l.acquire(here, name, ctxlock.AcquireOption{Metadata: "data"})
	for _, from := range []ctxlock.Locker{here, there} {
		status, err := from.Look(context.Background(), name)
		if err != nil || !status.Held || status.Name != name || status.Value != lock.Value() || status.Metadata != "data" {
			l.Errorf("%+v, %v", status, err)
		}
		if status.TTL <= 0 || status.TTL > validity+100*time.Millisecond || status.Since.IsZero() {
			l.Errorf("%+v", status)
		}
	}
	if !lock.Valid() {
		l.Errorf("a look ended it: %v", lock.Lock.Err())
	}
	l.release(lock)
	if status, err := there.Look(context.Background(), name); err != nil || status != (ctxlock.Status{Name: name}) {
		l.Errorf("it was released: %+v, %v", status, err)
	}
	for _, wrong := range []string{"", strings.Repeat("x", 64<<10+1)} {
		if _, err := there.Look(context.Background(), wrong); err == nil {
			l.Errorf("no error of a name of %d bytes", len(wrong))
		}
	}
	there.Close()
	_, err := there.Look(context.Background(), name)
	l.wants(err, ctxlock.ErrLockerClosed)
}

func (l *lockerTest) lookWaiting() {
	here, there := l.locker(), l.locker()
	lock := l.acquire(here, name, ctxlock.AcquireOption{})
	ctx, cancel := context.WithCancel(context.Background())
	var waiting []*pending
	for i := range 5 {
		waiting = append(waiting, l.start(ctx, []ctxlock.Locker{here, there}[i%2].WithContext, name))
	}
	count := func() int {
		status, err := there.Look(context.Background(), name)
		if err != nil {
			l.Fatal(err)
		}
		return status.Waiting
	}
	eventually(l, "five are seen to wait", func() bool { return count() == 5 })
	cancel()
	for _, next := range waiting {
		within(l, "a waiter gives up", next.done)
	}
	eventually(l, "nobody is seen to wait", func() bool { return count() == 0 })
	l.release(lock)
}

// listed collects what List finds.
func (l *lockerTest) listed(from ctxlock.Locker) map[string]ctxlock.Status {
	l.Helper()
	found := make(map[string]ctxlock.Status)
	for status, err := range from.List(context.Background()) {
		if err != nil {
			l.Fatalf("list: %v", err)
		}
		if _, again := found[status.Name]; again || !status.Held {
			l.Errorf("%q was found again: %v, held: %v", status.Name, again, status.Held)
		}
		found[status.Name] = status
	}
	return found
}

func (l *lockerTest) list() {
	here, there := l.locker(), l.locker()
	if found := l.listed(there); len(found) != 0 {
		l.Errorf("found %v", found)
	}
	held := make(map[string]acquired)
	for i, odd := range append(oddNames(), "0:a", "w:a", "t:0:a", "q:a", "a") {
		option := ctxlock.AcquireOption{Mode: ctxlock.Try, Validity: 10 * validity}
		if i%2 == 0 {
			option.Metadata = fmt.Sprint(i)
		}
		held[odd] = l.acquire(here, odd, option)
	}
	found := l.listed(there)
	if names := slices.Sorted(maps.Keys(held)); !slices.Equal(names, slices.Sorted(maps.Keys(found))) {
		l.Errorf("found %d names of %d", len(found), len(names))
	}
	for name, lock := range held {
		if status := found[name]; status.Value != lock.Value() || status.Metadata != lock.Metadata() {
			l.Errorf("%.40q: %q and %q", name, status.Value, status.Metadata)
		}
		l.release(lock)
	}
	if found := l.listed(there); len(found) != 0 {
		l.Errorf("all were released, and found %d", len(found))
	}
}

func (l *lockerTest) listStopped() {
	here := l.locker()
	for i := range 20 {
		l.acquire(here, fmt.Sprint(name, i), ctxlock.AcquireOption{})
	}
	n := 0
	for range here.List(context.Background()) {
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		l.Errorf("found %d", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for status, err := range here.List(ctx) {
		if err == nil || status.Held {
			l.Errorf("the context had ended, and %q was found", status.Name)
		}
	}
	here.Close()
	for _, err := range here.List(context.Background()) {
		l.wants(err, ctxlock.ErrLockerClosed)
	}
}

func (l *lockerTest) allOrNone() {
	here, there := l.locker(), l.locker()
	lock := l.acquire(here, "b", ctxlock.AcquireOption{})
	_, none, err := there.AcquireAll(context.Background(), []string{"a", "b", "c"}, try)
	l.wants(err, ctxlock.ErrNotLocked)
	if none != nil {
		l.Error("a handle beside an error")
	}
	for _, free := range []string{"a", "c"} {
		l.release(l.acquire(here, free, try))
	}
	if !lock.Valid() {
		l.Errorf("an attempt ended the holder: %v", lock.Lock.Err())
	}
	l.release(lock)
	ctx, all, err := there.AcquireAll(context.Background(), []string{"c", "a", "b", "a"}, try)
	if err != nil {
		l.Fatal(err)
	}
	if len(all.Each()) != 3 || !all.Valid() || ctxlock.FromContext(ctx) != all {
		l.Errorf("%v: %d locks", all, len(all.Each()))
	}
	for _, name := range []string{"a", "b", "c"} {
		l.wants(l.refuse(here, name, try), ctxlock.ErrNotLocked)
	}
	if err := all.Release(context.Background()); err != nil {
		l.Errorf("release: %v", err)
	}
	l.wants(all.Release(context.Background()), ctxlock.ErrReleased)
	for _, name := range []string{"a", "b", "c"} {
		l.gone(name)
	}
}

func (l *lockerTest) allEnd() {
	here, there := l.locker(), l.locker()
	for _, end := range []func(*ctxlock.Lock){
		func(all *ctxlock.Lock) { _ = all.Each()[1].Release(context.Background()) },
		func(*ctxlock.Lock) { l.Delete(l.keysOf("c")...) },
		func(*ctxlock.Lock) {
			l.release(l.acquire(there, "a", ctxlock.AcquireOption{Mode: ctxlock.Force}))
		},
	} {
		ctx, all, err := here.AcquireAll(context.Background(), []string{"a", "b", "c"}, ctxlock.AcquireOption{})
		if err != nil {
			l.Fatal(err)
		}
		end(all)
		within(l, "the context of all ends", ctx.Done())
		for _, each := range all.Each() {
			eventually(l, each.Name()+" is no longer held", func() bool { return !each.Valid() })
		}
		if err := all.Release(context.Background()); err == nil {
			l.Error("released what had ended")
		}
		for _, name := range []string{"a", "b", "c"} {
			l.release(l.acquire(there, name, try))
		}
	}
}

// Those who name the same locks in different orders all get on.
func (l *lockerTest) allOpposite() {
	const rounds = 5
	orders := [][]string{{"a", "b", "c"}, {"c", "b", "a"}, {"b", "c", "a"}, {"c", "a"}}
	var mu sync.Mutex
	holders := make(map[string]context.Context)
	var wg sync.WaitGroup
	for _, names := range orders {
		locker := l.locker()
		wg.Go(func() {
			for range rounds {
				ctx, all, err := locker.AcquireAll(context.Background(), names, ctxlock.AcquireOption{})
				if err != nil {
					l.Errorf("acquire %q: %v", names, err)
					return
				}
				mu.Lock()
				for _, name := range names {
					if before := holders[name]; before != nil && before.Err() == nil {
						l.Errorf("two hold %q", name)
					}
					holders[name] = ctx
				}
				mu.Unlock()
				if err := all.Release(context.Background()); err != nil {
					l.Errorf("release: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		wg.Wait()
	}()
	within(l, "all get their turns", done)
}

// Somebody who holds one lock and waits for the other does not know of the order that several are taken in.
func (l *lockerTest) allCircle() {
	here, there := l.locker(), l.locker()
	last := l.acquire(here, "b", ctxlock.AcquireOption{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, all, err := there.AcquireAll(context.Background(), []string{"a", "b"}, ctxlock.AcquireOption{})
		if err != nil {
			l.Errorf("acquire: %v", err)
			return
		}
		_ = all.Release(context.Background())
	}()
	l.Settle()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, first, err := here.Acquire(ctx, "a", ctxlock.AcquireOption{})
	if err != nil {
		l.Fatalf("the one who waits for both does not let go of the other: %v", err)
	}
	for _, lock := range []*ctxlock.Lock{first, last.Lock} {
		if err := lock.Release(context.Background()); err != nil {
			l.Errorf("release: %v", err)
		}
	}
	within(l, "the one who waited has both", done)
}
