package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/memlock"
	"github.com/ctxlock/ctxlock/store"
)

// The same on the store in memory, and where the answer that tells of it comes last.
func TestLockersWithDifferentMajorities(t *testing.T) {
	for _, lanes := range []int{1, 3} {
		for _, pair := range pairsOfMajorities {
			t.Run(fmt.Sprintf("%v, %d lanes", pair, lanes), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := memlock.NewServer(memlock.ServerOption{Lanes: lanes, Latency: time.Millisecond})
					holds := inMemory(t, server, pair[0])
					defer holds.Close()
					claims, link := linked(t, server, ctxlock.LockerOption{KeyMajority: pair[1]})
					defer claims.Close()
					if lanes > 1 { // the first key is asked last
						link.StallLane(link.Lane("valkeylock:0:wanted"), true)
						time.AfterFunc(100*time.Millisecond, func() { link.StallLane(link.Lane("valkeylock:0:wanted"), false) })
					}
					meetClash(t, holds, claims, pair)
				})
			})
		}
	}
}

// meetClash has a lock held by one and claimed by the other.
func meetClash(t *testing.T, holds, claims ctxlock.Locker, pair [2]int32) {
	held, release, err := holds.WithContext(t.Context(), "wanted")
	if err != nil {
		t.Fatal(err)
	}
	bound, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	for _, how := range []taking{claims.TryWithContext, claims.WithContext, claims.WithContext} {
		ctx, release, err := how(bound, "wanted")
		time.Sleep(time.Second)
		var clash *ctxlock.MajorityError
		if err == nil { // a key of the holder's was asked too late
			err = ctx.Err()
			if lost := causeOfLoss(ctx); lost != nil {
				err = lost
			}
		}
		if !errors.As(err, &clash) || clash.Ours != int(pair[1]) || clash.Theirs != int(pair[0]) {
			t.Errorf("%v", err)
		}
		release()
	}
	if held.Err() != nil {
		t.Error("the holder has lost it")
	}
	release()
}

// inMemory makes a locker with a majority.
func inMemory(t *testing.T, server *memlock.Server, majority int32) ctxlock.Locker {
	t.Helper()
	l, err := server.NewLocker(ctxlock.LockerOption{KeyMajority: majority})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A key of valkeylock's keeps others out where valkeylock would be kept out, and not for longer than it is there.
func TestValkeylockWithAnotherMajority(t *testing.T) {
	const value = "a value of 24 bytes ...."
	for i := range 3 {
		synctest.Test(t, func(t *testing.T) {
			server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
			l := inMemory(t, server, 2)
			defer l.Close()
			key := fmt.Sprintf("valkeylock:%d:wanted", i)
			server.Set(key, value, time.Minute)
			_, release, err := l.TryWithContext(t.Context(), "wanted")
			release()
			if refused := errors.Is(err, ctxlock.ErrNotLocked); refused != (i < 2) {
				t.Errorf("key %d: %v", i, err)
			}
			server.Set(key, value, time.Minute)
			began := time.Now()
			time.AfterFunc(3*time.Second, func() { server.Delete(key) })
			_, release, err = l.WithContext(t.Context(), "wanted")
			release()
			if waited := time.Since(began) > 2*time.Second; err != nil || waited != (i < 2) {
				t.Errorf("key %d: %v, after %v", i, err, time.Since(began))
			}
			// One that is just claiming fails at the next key, which is taken, and goes.
			server.Set(key, value, time.Minute)
			time.AfterFunc(4*time.Millisecond, func() { server.Delete(key) })
			_, release, err = l.TryWithContext(t.Context(), "wanted")
			release()
			if err != nil {
				t.Errorf("key %d: %v", i, err)
			}
		})
	}
}

// firstClaim is a store that does something when its first claim has been answered.
type firstClaim struct {
	store.Store
	then func()
}

func (f *firstClaim) Claim(ctx context.Context, ops []store.Op) {
	f.Store.Claim(ctx, ops)
	if then := f.then; then != nil {
		f.then = nil
		then()
	}
}

// valkeylock gives the first key back just after a claim has met it. Without that key no majority
// keeps out those whose only key it is.
func TestKeyThatValkeylockGivesBackMeanwhile(t *testing.T) {
	const first, value = "valkeylock:0:wanted", "a value of 24 bytes ...."
	older := owned(t, 1)
	for _, next := range []string{"", older} {
		synctest.Test(t, func(t *testing.T) {
			server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
			server.Set(first, value, time.Minute)
			claims := &firstClaim{Store: server.Store(), then: func() {
				if server.Delete(first); next != "" {
					server.Set(first, next, time.Minute)
				}
			}}
			l, err := ctxlock.NewLockerOnStore(claims, ctxlock.LockerOption{KeyMajority: 2})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			_, lock, err := l.Acquire(t.Context(), "wanted", ctxlock.AcquireOption{Mode: ctxlock.Try})
			if has, _ := server.Get(first); err == nil && has != lock.Value() {
				t.Errorf("the lock is held, and its first key has %q", has)
			}
			var clash *ctxlock.MajorityError
			if next == "" && err != nil || next != "" && !errors.As(err, &clash) {
				t.Errorf("the first key has %q: %v", next, err)
			}
			_ = lock.Release(t.Context())
			time.Sleep(time.Second)
			server.Delete(first)
			if keys := server.Keys(); len(keys) > 0 {
				t.Errorf("%q are left", keys)
			}
		})
	}
}

// owned is the value of a key that a locker with some majority has.
func owned(t *testing.T, majority int32) (value string) {
	t.Helper()
	server := memlock.NewServer(memlock.ServerOption{})
	l := inMemory(t, server, majority)
	defer l.Close()
	_, release, err := l.TryWithContext(t.Context(), "wanted")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	value, _ = server.Get("valkeylock:0:wanted")
	return value
}

// causeOfLoss is what ended a lock's context.
func causeOfLoss(ctx context.Context) error {
	var lost *ctxlock.LostError
	if errors.As(context.Cause(ctx), &lost) {
		return lost
	}
	return nil
}
