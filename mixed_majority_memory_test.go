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

// causeOfLoss is what ended a lock's context.
func causeOfLoss(ctx context.Context) error {
	var lost *ctxlock.LostError
	if errors.As(context.Cause(ctx), &lost) {
		return lost
	}
	return nil
}
