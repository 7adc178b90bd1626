package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/faulty"
	"github.com/ctxlock/ctxlock/memlock"
	"github.com/ctxlock/ctxlock/store"
)

// Force and From beside what else goes on in the same Locker, in fake time, on a link that delivers requests and answers in any order and no events:
// nothing but the engine keeps two contexts from being alive at once.

// struggle is one name that several calls of one Locker want at once, some of them by force.
type struggle struct {
	t           *testing.T
	here, there ctxlock.Locker
	name        string
	check       checker
	calls       sync.WaitGroup
	mu          sync.Mutex
	got         []context.CancelFunc
}

// call makes a call on a goroutine of its own. What it got is kept until the struggle is over.
func (s *struggle) call(how taking) {
	s.calls.Go(func() {
		ctx, release, err := how(s.t.Context(), s.name)
		if err == nil {
			s.check.enter(ctx)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.got = append(s.got, release)
		} else if !errors.Is(err, ctxlock.ErrNotLocked) {
			s.t.Errorf("%s: %v", s.name, err)
		}
	})
}

// over releases whatever was got, until nobody waits any more.
func (s *struggle) over() {
	for done := false; !done; {
		time.Sleep(20 * time.Millisecond)
		synctest.Wait()
		s.mu.Lock()
		got := s.got
		s.got = nil
		s.mu.Unlock()
		for _, release := range got {
			release()
		}
		done = len(got) == 0
	}
	s.calls.Wait()
}

// holds takes the lock before it begins.
func (s *struggle) holds(l ctxlock.Locker) *ctxlock.Lock {
	ctx, lock, err := l.Acquire(s.t.Context(), s.name, ctxlock.AcquireOption{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.check.enter(ctx)
	return lock
}

// waits has so many wait for it here before it begins.
func (s *struggle) waits(n int) {
	for range n {
		s.call(s.here.WithContext)
	}
	time.Sleep(50 * time.Millisecond)
}

// from is the call that takes a lock over from its holder.
func (s *struggle) from(lock *ctxlock.Lock) taking {
	return func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
		ctx, lock, err := s.here.Acquire(ctx, name, ctxlock.AcquireOption{Mode: ctxlock.Try, From: lock.Value()})
		return ctx, func() { _ = lock.Release(context.Background()) }, err
	}
}

var struggles = map[string]func(s *struggle){
	"a try and a force":  func(s *struggle) { s.call(s.here.TryWithContext); s.call(s.here.ForceWithContext) },
	"a wait and a force": func(s *struggle) { s.call(s.here.WithContext); s.call(s.here.ForceWithContext) },
	"three by force": func(s *struggle) {
		for range 3 {
			s.call(s.here.ForceWithContext)
		}
	},
	"a force and waiters in line behind a holder": func(s *struggle) {
		lock := s.holds(s.here)
		s.waits(3)
		s.call(s.here.ForceWithContext)
		_ = lock.Release(s.t.Context())
	},
	"a force and a lock that is handed over to a place in the queue": func(s *struggle) {
		lock := s.holds(s.there)
		s.waits(2)
		s.call(s.here.ForceWithContext)
		_ = lock.Release(s.t.Context())
	},
	"one that takes over, and waiters": func(s *struggle) {
		lock := s.holds(s.here)
		s.waits(2)
		s.call(s.from(lock))
	},
	"one that takes over what is being handed on, and a force": func(s *struggle) {
		lock := s.holds(s.here)
		s.waits(2)
		s.call(s.from(lock))
		s.call(s.here.ForceWithContext)
		_ = lock.Release(s.t.Context())
	},
}

func TestForceBesideClaimsUnderWay(t *testing.T) {
	for what, begin := range struggles {
		for _, shape := range []struct{ majority, lanes int }{{1, 1}, {2, 1}, {2, 3}} {
			t.Run(fmt.Sprintf("%s, majority %d, %d lanes", what, shape.majority, shape.lanes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := memlock.NewServer(memlock.ServerOption{Lanes: shape.lanes, Latency: time.Millisecond})
					option := ctxlock.LockerOption{KeyMajority: int32(shape.majority), KeyValidity: 20 * time.Second, TryNextAfter: time.Second}
					here, link := linked(t, server, option)
					defer here.Close()
					there, err := server.NewLocker(option)
					if err != nil {
						t.Fatal(err)
					}
					defer there.Close()
					overlaps, entered := 0, 0
					for round := range 200 {
						link.Set(faulty.Config{DelayRequest: 0.7, DelayReply: 0.7, LoseEvent: 1, MaxDelay: 5 * time.Millisecond})
						s := &struggle{t: t, here: here, there: there, name: fmt.Sprint("name ", round)}
						begin(s)
						s.over()
						n, over := s.check.result()
						entered, overlaps = entered+n, overlaps+over
					}
					t.Logf("%d contexts", entered)
					if overlaps > 0 {
						t.Errorf("%d contexts of %d were alive together with another", overlaps, entered)
					}
				})
			})
		}
	}
}

// thiefsLink is a store on which claims that take a lock from its holder have a fate of their own, and of which no event comes.
type thiefsLink struct {
	*faulty.Store
	inner store.Store
	fate  func(l *thiefsLink, ctx context.Context, ops []store.Op)
}

func (l *thiefsLink) Claim(ctx context.Context, ops []store.Op) {
	if ops[0].Force || ops[0].From != "" {
		l.fate(l, ctx, ops)
		return
	}
	l.Store.Claim(ctx, ops)
}

// inVain waits in vain.
func inVain(ctx context.Context, ops []store.Op) {
	<-ctx.Done()
	for i := range ops {
		ops[i].Answer = store.Answer{Err: ctx.Err(), Unknown: true}
	}
}

var errReadOnly = store.Permanent(errors.New("READONLY"))

// failures are what may become of a claim by force that fails, and whether the one who held the lock keeps it.
var failures = []struct {
	what  string
	keeps bool
	fate  func(l *thiefsLink, ctx context.Context, ops []store.Op)
}{
	{"refused", true, func(l *thiefsLink, ctx context.Context, ops []store.Op) {
		for i := range ops {
			ops[i].Answer = store.Answer{Err: errReadOnly}
		}
	}},
	{"lost on its way", true, func(l *thiefsLink, ctx context.Context, ops []store.Op) { inVain(ctx, ops) }},
	{"carried out, and the answer lost", false, func(l *thiefsLink, ctx context.Context, ops []store.Op) {
		l.inner.Claim(l.life(), slices.Clone(ops))
		inVain(ctx, ops)
	}},
	{"carried out long after it was given up", false, func(l *thiefsLink, ctx context.Context, ops []store.Op) {
		late := slices.Clone(ops)
		time.AfterFunc(3*time.Second, func() { l.inner.Claim(l.life(), late) })
		inVain(ctx, ops)
	}},
	{"carried out, and then nothing is answered", false, func(l *thiefsLink, ctx context.Context, ops []store.Op) {
		l.inner.Claim(l.life(), slices.Clone(ops))
		l.Stall(true)
		inVain(ctx, ops)
	}},
	{"carried out on one node alone", true, func(l *thiefsLink, ctx context.Context, ops []store.Op) {
		for i := range ops {
			if ops[i].Key == "valkeylock:0:wanted" {
				l.inner.Claim(ctx, ops[i:i+1])
			} else {
				ops[i].Answer = store.Answer{Err: faulty.ErrCut, Unknown: true}
			}
		}
	}},
}

// life is a context for what is carried out whether anybody waits for it or not.
func (l *thiefsLink) life() context.Context { return context.Background() }

func TestForceThatFails(t *testing.T) {
	for _, f := range failures {
		for _, validity := range []time.Duration{0, time.Second} {
			t.Run(fmt.Sprintf("%s, validity %v", f.what, validity), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := memlock.NewServer(memlock.ServerOption{Lanes: 3, Latency: time.Millisecond})
					option := ctxlock.LockerOption{KeyMajority: 2, KeyValidity: 20 * time.Second, TryNextAfter: 100 * time.Millisecond}
					connection := server.Store()
					link := &thiefsLink{Store: faulty.New(connection, faulty.Config{LoseEvent: 1}), inner: connection, fate: f.fate}
					here, err := ctxlock.NewLockerOnStore(link, option)
					if err != nil {
						t.Fatal(err)
					}
					defer here.Close()
					there, err := server.NewLocker(option)
					if err != nil {
						t.Fatal(err)
					}
					defer there.Close()
					failedForce(t, here, there, ctxlock.AcquireOption{Mode: ctxlock.Force, Validity: validity}, f.keeps)
					link.Stall(false)
				})
			})
		}
	}
}

// failedForce has a lock taken by force in vain while it is held here and waited for there.
func failedForce(t *testing.T, here, there ctxlock.Locker, option ctxlock.AcquireOption, keeps bool) {
	const name = "wanted"
	var check checker
	held, release, err := here.WithContext(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	check.enter(held)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	waiter := begin(ctx, there.WithContext, name, &check)
	if _, _, err = here.Acquire(t.Context(), name, option); err == nil {
		t.Error("it was to fail")
	}
	if held.Err() != nil && keeps {
		t.Errorf("the holder has ended: %v", context.Cause(held))
	}
	time.Sleep(30 * time.Second) // a validity and a half, with all that is swept
	if alive := held.Err() == nil; alive != keeps {
		t.Errorf("the holder: %v", context.Cause(held))
	}
	release()
	if <-waiter.done; waiter.err != nil {
		t.Errorf("the waiter: %v", waiter.err)
	}
	waiter.release()
	if _, overlaps := check.result(); overlaps > 0 {
		t.Error("two contexts were alive at once")
	}
}
