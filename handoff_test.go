package ctxlock_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/memlock"
	"github.com/ctxlock/ctxlock/store"
)

// What may happen while a lock changes hands, in fake time, where a request can be held up to the moment that matters.

// wire is a store some of whose requests meet a fate of their own.
type wire struct {
	store.Store
	tell   func(store.Event)
	deaf   atomic.Bool                                    // no events any more
	lose   func(store.Event) bool                         // which events are lost; may be nil, as the others
	extend func(context.Context, []store.Op)              // called before they are sent
	claim  func(ctx context.Context, ops []store.Op) bool // true: it has answered in the store's place
	read   func([]store.Op)                               // called when they are answered
	leave  func()                                         // called before releases are sent
	freed  sync.Map                                       // owner values of which releases have found a key
}

func (w *wire) Subscribe(events func(store.Event)) {
	w.tell = events
	w.Store.Subscribe(func(event store.Event) {
		if !w.deaf.Load() && (w.lose == nil || !w.lose(event)) {
			events(event)
		}
	})
}

func (w *wire) Extend(ctx context.Context, ops []store.Op) {
	if w.extend != nil {
		w.extend(ctx, ops)
	}
	w.Store.Extend(ctx, ops)
}

func (w *wire) Claim(ctx context.Context, ops []store.Op) {
	if w.claim == nil || !w.claim(ctx, ops) {
		w.Store.Claim(ctx, ops)
	}
}

func (w *wire) Read(ctx context.Context, ops []store.Op) {
	w.Store.Read(ctx, ops)
	if w.read != nil {
		w.read(ops)
	}
}

func (w *wire) Release(ctx context.Context, ops []store.Op) {
	if w.leave != nil {
		w.leave()
	}
	w.Store.Release(ctx, ops)
	for i := range ops {
		if ops[i].Found {
			w.freed.Store(ops[i].Owner, true)
		}
	}
}

// unanswered is how a connection fails that was cut.
func unanswered(ops []store.Op) {
	for i := range ops {
		ops[i].Answer = store.Answer{Err: errors.New("cut"), Unknown: true}
	}
}

// onMemory makes a locker on a store, for as long as the test.
func onMemory(t *testing.T, s store.Store, option ctxlock.LockerOption) ctxlock.Locker {
	t.Helper()
	l, err := ctxlock.NewLockerOnStore(s, option)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// had is a lock that somebody has waited for.
type had struct {
	context.Context
	lock *ctxlock.Lock
	at   time.Time
}

// waits has somebody wait who stands in line, or in the queue, when it returns.
func waits(t *testing.T, l ctxlock.Locker, name string) <-chan had {
	got := make(chan had, 1)
	go func() {
		ctx, lock, err := l.Acquire(t.Context(), name, ctxlock.AcquireOption{})
		if err != nil {
			t.Error(err)
		}
		got <- had{ctx, lock, time.Now()}
	}()
	time.Sleep(time.Second)
	return got
}

// queuedHolder has a lock taken by one who knows of the queue, since it has come by it.
func queuedHolder(t *testing.T, from, to ctxlock.Locker, name string) *ctxlock.Lock {
	t.Helper()
	_, cancel, err := from.WithContext(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	next := waits(t, to, name)
	cancel()
	return (<-next).lock
}

// An extension by hand to a shorter life must not arrive after one that its successor in the process has sent.
func TestAnExtensionUnderWayDoesNotOutliveALocalHandoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		link := &wire{Store: server.Store()}
		var extensions atomic.Int64
		heldUp := make(chan struct{})
		link.extend = func(context.Context, []store.Op) {
			if extensions.Add(1) == 1 {
				<-heldUp
			}
		}
		here, there := onMemory(t, link, ctxlock.LockerOption{KeyMajority: 1}), onMemory(t, server.Store(), ctxlock.LockerOption{KeyMajority: 1})
		_, first, err := here.Acquire(t.Context(), "x", ctxlock.AcquireOption{})
		if err != nil {
			t.Fatal(err)
		}
		next := waits(t, here, "x")
		soonOver, stop := context.WithCancel(t.Context())
		for _, validity := range []time.Duration{2 * time.Second, 5 * time.Second} {
			go first.Extend(soonOver, validity)
			synctest.Wait()
		}
		stop()
		if err := first.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := <-next
		time.Sleep(100 * time.Millisecond) // in which it would have extended
		link.deaf.Store(true)
		close(heldUp)
		enough, end := context.WithTimeout(t.Context(), time.Minute)
		defer end()
		if _, cancel, err := there.WithContext(enough, "x"); err == nil {
			if second.Err() == nil {
				t.Error("two contexts are alive at once")
			}
			cancel()
		}
		link.deaf.Store(false)
	})
}

// The claim of a third key that is still under way is its holder's, and must not be cleaned up after as if its successor's were.
func TestALockOfWhichAClaimIsUnderWayIsNotHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond, Lanes: 64})
		link := &wire{Store: server.Store()}
		var asked atomic.Int64
		answer := make(chan struct{})
		link.claim = func(ctx context.Context, ops []store.Op) bool {
			if ops[0].Key != "valkeylock:2:x" || ops[0].Restore {
				return false
			}
			if asked.Add(1) == 1 { // carried out, and not answered for long
				link.Store.Claim(ctx, ops)
				<-answer
			}
			unanswered(ops)
			return true
		}
		here := onMemory(t, link, ctxlock.LockerOption{KeyMajority: 2, TryNextAfter: 2 * time.Second})
		_, cancel, err := here.WithContext(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		next := waits(t, here, "x")
		cancel()
		second := <-next
		close(answer)
		for range 100 {
			if _, _, err := here.TryWithContext(t.Context(), "x"); !errors.Is(err, ctxlock.ErrNotLocked) {
				t.Fatalf("a try says %v", err)
			}
			time.Sleep(250 * time.Millisecond)
		}
		if _, freed := link.freed.Load(second.lock.Value()); freed || second.Err() != nil {
			t.Errorf("the successor: %v; its keys were released: %t", second.Err(), freed)
		}
	})
}

// Word that the lock was passed on comes before the answer to a claim that was sent before: the wait is over at once, and when that claim
// arrives, after the lock was given back, its key is not left to time out.
func TestAClaimUnderWayWhenTheLockIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		option := ctxlock.LockerOption{KeyMajority: 1, KeyValidity: 30 * time.Second, TryNextAfter: 4 * time.Second}
		link := &wire{Store: server.Store()}
		under := make(chan store.Op, 1)
		link.claim = func(ctx context.Context, ops []store.Op) bool {
			if ops[0].Epoch != 2 {
				return false
			}
			under <- ops[0]
			select {
			case <-ctx.Done():
			case <-time.After(3 * time.Second):
			}
			unanswered(ops)
			return true
		}
		here, there, third := onMemory(t, link, option), onMemory(t, server.Store(), option), onMemory(t, server.Store(), option)
		first := queuedHolder(t, third, there, "x")
		next := waits(t, here, "x")
		link.tell(store.Event{Key: "valkeylock:0:x", Word: store.Look}) // which has it claim again
		late := <-under
		released := time.Now()
		if err := first.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := <-next
		if took := second.at.Sub(released); took > 100*time.Millisecond {
			t.Errorf("the wait was over %v after the release", took)
		}
		if err := second.lock.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		link.Store.Claim(t.Context(), []store.Op{late}) // now it arrives
		arrived := time.Now()
		_, cancel, err := there.WithContext(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if took := time.Since(arrived); took > 10*time.Second {
			t.Errorf("the key of nobody stood in the way for %v", took)
		}
	})
}

// However long the validity, a place is looked after for as long as the wait lasts.
func TestAPlaceOutlivesTheQueuesLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		option := ctxlock.LockerOption{KeyMajority: 1, KeyValidity: 10 * time.Minute}
		a, b, c := onMemory(t, server.Store(), option), onMemory(t, server.Store(), option), onMemory(t, server.Store(), option)
		first := queuedHolder(t, a, b, "x")
		next := waits(t, c, "x")
		time.Sleep(5 * time.Minute)
		released := time.Now()
		if err := first.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := <-next
		if took := second.at.Sub(released); took > 100*time.Millisecond {
			t.Errorf("free, and had after %v", took)
		}
	})
}

// The lock is passed on to a wait that has just given up, and given back at once. An attempt that meets it meanwhile finds nobody else.
func TestAPlaceThatWasLeftIsNotAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		link := &wire{Store: server.Store()}
		here, there := onMemory(t, server.Store(), ctxlock.LockerOption{KeyMajority: 1}), onMemory(t, link, ctxlock.LockerOption{KeyMajority: 1})
		first := queuedHolder(t, here, onMemory(t, server.Store(), ctxlock.LockerOption{KeyMajority: 1}), "x")
		sweep := make(chan struct{})
		link.leave = func() { <-sweep }
		policy := ctxlock.LimitRetries(1, ctxlock.RetryFixed(time.Millisecond))
		if _, _, err := there.Acquire(t.Context(), "x", ctxlock.AcquireOption{Retry: policy}); !errors.Is(err, ctxlock.ErrNotLocked) {
			t.Fatal(err)
		}
		if err := first.Release(t.Context()); err != nil { // which passes it on to the place that was left
			t.Fatal(err)
		}
		var once sync.Once
		link.claim = func(ctx context.Context, ops []store.Op) bool { // answered, but not heard of before the place is swept
			link.Store.Claim(ctx, ops)
			once.Do(func() { close(sweep) })
			time.Sleep(100 * time.Millisecond)
			return true
		}
		if _, _, err := there.TryWithContext(t.Context(), "x"); err != nil {
			t.Error(err)
		}
	})
}

// A claim that had no answer may arrive late, and then stands in the queue beside those that came after it. Whoever gives up sees to that, too: the
// lock would be passed on to it, and the word of that may be lost.
func TestAClaimThatArrivesLateLeavesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		option := ctxlock.LockerOption{KeyMajority: 1, KeyValidity: 30 * time.Second, TryNextAfter: time.Second}
		link := &wire{Store: server.Store()}
		under := make(chan store.Op, 1)
		var claims atomic.Int32
		link.claim = func(ctx context.Context, ops []store.Op) bool {
			claims.Add(1)
			if ops[0].Epoch != 1 {
				return false
			}
			under <- ops[0]
			unanswered(ops)
			return true
		}
		here, there, third := onMemory(t, link, option), onMemory(t, server.Store(), option), onMemory(t, server.Store(), option)
		first := queuedHolder(t, third, there, "x")
		wait, giveUp := context.WithCancel(t.Context())
		go here.WithContext(wait, "x")
		late := <-under
		for i := range int32(3) { // which are answered
			time.Sleep(time.Second)
			before := claims.Load()
			link.tell(store.Event{Key: "valkeylock:0:x", Word: store.Look})
			if time.Sleep(100 * time.Millisecond); claims.Load() == before {
				t.Fatalf("look %d led to no claim", i)
			}
		}
		giveUp()
		time.Sleep(time.Second)
		link.deaf.Store(true)
		link.Store.Claim(t.Context(), []store.Op{late}) // now it arrives
		time.Sleep(5 * time.Second)
		if err := first.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		released := time.Now()
		_, cancel, err := third.WithContext(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(released); took > time.Second {
			t.Errorf("it was free, and had %v later", took)
		}
		cancel()
		link.deaf.Store(false)
	})
}

// Who was not told that the lock was passed on to it, but hears that its keys have changed, reads them, and needs no more than that.
func TestAKeyThatIsReadAsTheWaitersOwnIsTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const trip = 10 * time.Millisecond
		server := memlock.NewServer(memlock.ServerOption{Latency: trip})
		option := ctxlock.LockerOption{KeyMajority: 2, KeyValidity: 10 * time.Second}
		here, link := onMemory(t, server.Store(), option), &wire{Store: server.Store()}
		link.lose = func(event store.Event) bool { return event.Word == store.PassedOn }
		var claims atomic.Int32
		link.claim = func(context.Context, []store.Op) bool { claims.Add(1); return false }
		there := onMemory(t, link, option)
		_, first, err := here.Acquire(t.Context(), "x", ctxlock.AcquireOption{})
		if err != nil {
			t.Fatal(err)
		}
		next := waits(t, there, "x")
		before, released := claims.Load(), time.Now()
		if err := first.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := <-next
		if took := second.at.Sub(released); took > 2*trip { // half of one there, half of one back, and one to read
			t.Errorf("had %v after the release", took)
		}
		if n := claims.Load() - before; n != 0 {
			t.Errorf("%d claims more", n)
		}
		if until := time.Until(second.lock.Until()); until < 9*time.Second || until > 10*time.Second-trip {
			t.Errorf("it trusts the lock for %v", until)
		}
		for range 100 { // and goes on to have it
			if time.Sleep(250 * time.Millisecond); second.Err() != nil {
				t.Fatal(context.Cause(second))
			}
		}
	})
}

// One whose request has no answer in time stands where it stood when it asks again.
func TestAClaimWithoutAnAnswerCostsNoRank(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		option := ctxlock.LockerOption{KeyMajority: 1, KeyValidity: 30 * time.Second, TryNextAfter: time.Second}
		var silent, asked atomic.Bool
		link := &wire{Store: server.Store()}
		link.claim = func(ctx context.Context, ops []store.Op) bool {
			if !silent.Load() {
				return false
			}
			asked.Store(true)
			<-ctx.Done()
			unanswered(ops)
			return true
		}
		here, there, third := onMemory(t, link, option), onMemory(t, server.Store(), option), onMemory(t, server.Store(), option)
		_, release, err := third.WithContext(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		first, second := waits(t, here, "x"), waits(t, there, "x")
		silent.Store(true)
		link.tell(store.Event{Key: "valkeylock:0:x", Word: store.Look})
		time.Sleep(1500 * time.Millisecond)
		silent.Store(false)
		if time.Sleep(3 * time.Second); !asked.Load() {
			t.Fatal("it proves nothing")
		}
		release()
		select {
		case one := <-first:
			_ = one.lock.Release(t.Context())
			_ = (<-second).lock.Release(t.Context())
		case other := <-second:
			t.Error("the second was served first")
			_ = other.lock.Release(t.Context())
			_ = (<-first).lock.Release(t.Context())
		}
	})
}

// Whoever hears that the roll is called looks when it was told to, lest all do at once; and whoever hears that others are to have their turn, at
// once, since it has to see when that is over.
func TestThoseWhomTheRollCallsLookWhenTheyWereToldTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const after = 80 * time.Millisecond
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		link, claimed := &wire{Store: server.Store()}, make(chan time.Time, 100)
		link.claim = func(context.Context, []store.Op) bool { claimed <- time.Now(); return false }
		here, there := onMemory(t, link, ctxlock.LockerOption{KeyMajority: 1}), onMemory(t, server.Store(), ctxlock.LockerOption{KeyMajority: 1})
		_, release, err := there.WithContext(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		next := waits(t, here, "x")
		for word, least := range map[store.Word]time.Duration{store.Called: after, store.Look: 0} {
			for len(claimed) > 0 {
				<-claimed
			}
			told := time.Now()
			link.tell(store.Event{Key: "valkeylock:0:x", Word: word, After: after})
			if took := (<-claimed).Sub(told); took < least || took > least+after/2 {
				t.Errorf("word %d led to a claim after %v, want %v", word, took, least)
			}
			time.Sleep(time.Second)
		}
		release()
		_ = (<-next).lock.Release(t.Context())
	})
}

// Those who look when a lock was let run out call the roll, also if their first claim of it has no answer: processes that were stopped cost one
// validity together.
func TestTheRollIsCalledByAClaimThatIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const validity = 5 * time.Second
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		option := ctxlock.LockerOption{KeyMajority: 1, KeyValidity: validity}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		goOn := make(chan struct{})
		defer close(goOn)
		open := func() (l ctxlock.Locker, link *wire) {
			link = &wire{Store: server.Store()}
			return onMemory(t, link, option), link
		}
		holder, _ := open()
		_, release, err := holder.WithContext(ctx, "x")
		if err != nil {
			t.Fatal(err)
		}
		var stopped, cut atomic.Bool
		for range 3 { // who are stopped when they stand in the queue
			l, link := open()
			link.lose = func(store.Event) bool { return stopped.Load() }
			link.read = func([]store.Op) {
				if stopped.Load() {
					<-goOn
				}
			}
			link.claim = func(context.Context, []store.Op) bool { link.read(nil); return false }
			begin(ctx, l.WithContext, "x", nil)
			time.Sleep(10 * time.Millisecond)
		}
		var live []*pending
		for range 2 { // whose links are cut when they look
			l, link := open()
			var once sync.Once
			link.claim = func(_ context.Context, ops []store.Op) (cuts bool) {
				if cut.Load() && ops[0].Call > 0 {
					once.Do(func() { unanswered(ops); cuts = true })
				}
				return cuts
			}
			live = append(live, begin(ctx, l.WithContext, "x", nil))
			time.Sleep(10 * time.Millisecond)
		}
		stopped.Store(true)
		cut.Store(true)
		start := time.Now()
		release()
		var served sync.WaitGroup
		for _, waiter := range live {
			served.Go(func() { <-waiter.done; waiter.release() })
		}
		served.Wait()
		if took := time.Since(start); took > validity+time.Second {
			t.Errorf("all who live have had it after %v, want one validity of %v", took, validity)
		}
	})
}
