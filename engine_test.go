package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/faulty"
	"github.com/ctxlock/ctxlock/memlock"
	"github.com/ctxlock/ctxlock/store"
)

// What the engine must stand on any store, in fake time. Each of these failed once.

// tapped is a store that a test can send events in the name of.
type tapped struct {
	store.Store
	send func(store.Event)
}

func (t *tapped) Subscribe(events func(store.Event)) {
	t.send = events
	t.Store.Subscribe(events)
}

// linked gives a locker in memory, and the link to its server.
func linked(t *testing.T, server *memlock.Server, option ctxlock.LockerOption) (ctxlock.Locker, *faulty.Store) {
	t.Helper()
	link := faulty.New(server.Store(), faulty.Config{})
	l, err := ctxlock.NewLockerOnStore(link, option)
	if err != nil {
		t.Fatal(err)
	}
	return l, link
}

// A lock may be taken under the context of another, and run out while the inner one is being claimed.
func TestLockUnderALockThatRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, link := linked(t, memlock.NewServer(memlock.ServerOption{}), ctxlock.LockerOption{KeyValidity: time.Second})
		defer l.Close()
		outer, cancel, err := l.WithContext(context.Background(), "outer")
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		link.Stall(true)
		_, _, err = l.TryWithContext(outer, "inner")
		if err == nil || errors.Is(err, ctxlock.ErrNotLocked) {
			t.Errorf("inner: %v, want an error of the link", err)
		}
		if _, _, err = l.WithContext(outer, "inner"); !errors.Is(err, ctxlock.ErrLost) {
			t.Errorf("inner, under a lost lock: %v, want ErrLost", err)
		}
		link.Stall(false)
	})
}

// Holders that call cancel as soon as their contexts end do so in the middle of Close.
func TestCancelInTheMiddleOfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		l, err := server.NewLocker(ctxlock.LockerOption{KeyMajority: 1})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			ctx, cancel, err := l.WithContext(context.Background(), fmt.Sprint("name ", i))
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				<-ctx.Done()
				cancel()
			}()
		}
		l.Close()
		if keys := server.Keys(); len(keys) > 0 {
			t.Errorf("%d keys are left after Close", len(keys))
		}
	})
}

// A minority of nodes that stalls must not use up the time that the majority has gained.
func TestMinorityThatStallsCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Lanes: 3, Latency: 100 * time.Millisecond})
		link := faulty.New(server.Store(), faulty.Config{})
		tap := &tapped{Store: link}
		l, err := ctxlock.NewLockerOnStore(tap, ctxlock.LockerOption{KeyMajority: 2, KeyValidity: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		lanes := server.Store()
		defer lanes.Close()
		var held []context.Context
		for i := 0; len(held) < 20; i++ {
			name := fmt.Sprint("name ", i)
			on := make(map[int]bool)
			for k := range 3 {
				on[lanes.Lane(fmt.Sprintf("valkeylock:%d:%s", k, name))] = true
			}
			if len(on) < 3 {
				continue // its keys share a lane
			}
			ctx, cancel, err := l.WithContext(context.Background(), name)
			if err != nil {
				t.Fatal(err)
			}
			defer cancel()
			held = append(held, ctx)
		}
		link.StallLane(0, true)
		tap.send(store.Event{All: true}) // has locks extended while their trust is fresh
		time.Sleep(10 * time.Second)
		link.StallLane(0, false)
		for i, ctx := range held {
			if ctx.Err() != nil {
				t.Errorf("lock %d: %v", i, context.Cause(ctx))
			}
		}
	})
}

// Close does not wait for what a waiter has just asked.
func TestCloseWhileAWaiterLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{})
		holder, err := server.NewLocker(ctxlock.LockerOption{KeyMajority: 1, KeyValidity: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer holder.Close()
		_, cancel, err := holder.WithContext(context.Background(), "name")
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
		l, link := linked(t, server, ctxlock.LockerOption{KeyMajority: 1, KeyValidity: time.Minute, TryNextAfter: 20 * time.Second})
		result := make(chan error, 1)
		go func() {
			_, _, err := l.WithContext(context.Background(), "name")
			result <- err
		}()
		synctest.Wait()
		link.Stall(true)
		time.Sleep(3 * time.Second) // the key should have run out: it looks
		began := time.Now()
		l.Close()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("Close took %v", took)
		}
		if err := <-result; !errors.Is(err, ctxlock.ErrLockerClosed) {
			t.Errorf("the waiter got %v, want ErrLockerClosed", err)
		}
	})
}

// nosy is an error whose Is asks a locker.
type nosy struct{ ask func() }

func (e *nosy) Error() string { return "nosy" }

func (e *nosy) Is(error) bool {
	e.ask()
	return false
}

// An error of a ValueFunc is somebody else's code, too, and may turn to the locker that looks at it, also while others stand in line.
func TestAnErrorThatAsksTheLocker(t *testing.T) {
	server := memlock.NewServer(memlock.ServerOption{})
	l, err := server.NewLocker(ctxlock.LockerOption{KeyMajority: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, release, err := l.WithContext(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	waiter := begin(t.Context(), l.WithContext, "x", nil)
	for status := (ctxlock.Status{}); status.Waiting == 0; {
		if status, err = l.Look(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	strange, calls := &nosy{ask: func() { _, _ = l.Look(t.Context(), "x") }}, 0
	asks := beginCall(func() {
		_, _, err = l.Acquire(t.Context(), "x", ctxlock.AcquireOption{
			Retry: ctxlock.SleepThrough(ctxlock.RetryFixed(time.Millisecond)),
			ValueFunc: func() (string, error) {
				if calls++; calls > 1 {
					return "", strange
				}
				return "mine", nil
			},
		})
	})
	select {
	case <-asks.done:
	case <-time.After(10 * time.Second):
		t.Fatal("it hangs")
	}
	if !errors.As(err, &strange) {
		t.Errorf("%v", err)
	}
	release()
	<-waiter.done
	waiter.release()
	l.Close()
}

// What one call alone fails with is not what those who stand in line for the name have met.
func TestErrorsOfOnesOwnAreNotThoseOfTheLine(t *testing.T) {
	calls := 0
	for what, option := range map[string]ctxlock.AcquireOption{
		"of a ValueFunc": {
			Retry: ctxlock.SleepThrough(ctxlock.RetryFixed(time.Second)),
			ValueFunc: func() (string, error) {
				if calls++; calls > 1 {
					return "", errors.New("out of values")
				}
				return "mine", nil
			},
		},
		"for want of replicas": {Replicas: 1},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := memlock.NewServer(memlock.ServerOption{})
				link := &wire{Store: server.Store()}
				link.claim = func(ctx context.Context, ops []store.Op) bool {
					if ops[0].Replicas > 0 {
						ops[0].Answer = store.Answer{Err: &ctxlock.ReplicaError{Wanted: 1}}
					}
					return ops[0].Replicas > 0
				}
				l, other := onMemory(t, link, ctxlock.LockerOption{KeyMajority: 1}), onMemory(t, server.Store(), ctxlock.LockerOption{KeyMajority: 1})
				_, release, err := other.WithContext(t.Context(), "x")
				if err != nil {
					t.Fatal(err)
				}
				defer release()
				bound, stop := context.WithTimeout(t.Context(), 7*time.Second)
				defer stop()
				waiter := begin(bound, l.WithContext, "x", nil)
				synctest.Wait()
				if _, _, err = l.Acquire(bound, "x", option); err == nil || errors.Is(err, ctxlock.ErrNotLocked) {
					t.Errorf("%v", err)
				}
				<-waiter.done
				if !errors.Is(waiter.err, ctxlock.ErrNotLocked) || ctxlock.IsPermanent(waiter.err) {
					t.Errorf("who stands in line: %v", waiter.err)
				}
			})
		})
	}
}

// A try meets what one caller of its Locker has left, and then what another has.
func TestTryMeetsRemainsAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		tap := &remaining{Store: server.Store(), left: 4}
		l, err := ctxlock.NewLockerOnStore(tap, ctxlock.LockerOption{KeyMajority: 1, KeyValidity: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		tap.giveUp = func() {
			ctx, stop := context.WithCancel(t.Context())
			tap.after = stop
			_, release, err := l.TryWithContext(ctx, "name")
			if release(); !errors.Is(err, context.Canceled) {
				t.Errorf("given up: %v", err)
			}
		}
		_, release, err := l.TryWithContext(t.Context(), "name")
		if err != nil {
			t.Error(err)
		}
		release()
	})
}

// remaining is a store on which, before a claim, another caller's is carried out and given up.
type remaining struct {
	store.Store
	left   int
	giveUp func()
	after  func() // ends the other caller's context
}

func (r *remaining) Claim(ctx context.Context, ops []store.Op) {
	switch after := r.after; {
	case after != nil:
		r.Store.Claim(ctx, ops)
		r.after = nil
		after()
		ops[0].Answer = store.Answer{Err: context.Canceled, Unknown: true}
		return
	case r.left > 0:
		r.left--
		r.giveUp()
	}
	r.Store.Claim(ctx, ops)
}

// A claim is granted, and before it knows, another call of its Locker takes the lock and gives it back.
func TestLockThatIsTakenByForceAndGivenBackMeanwhile(t *testing.T) {
	for _, mode := range []ctxlock.Mode{ctxlock.Try, ctxlock.Force} {
		synctest.Test(t, func(t *testing.T) {
			server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
			claims := &firstClaim{Store: server.Store()}
			l, err := ctxlock.NewLockerOnStore(claims, ctxlock.LockerOption{KeyMajority: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			claims.then = func() {
				_, release, err := l.ForceWithContext(t.Context(), "name")
				if release(); err != nil {
					t.Error(err)
				}
			}
			_, lock, err := l.Acquire(t.Context(), "name", ctxlock.AcquireOption{Mode: mode})
			if err != nil {
				t.Errorf("mode %d: %v", mode, err)
			}
			_ = lock.Release(t.Context())
		})
	}
}
