package ctxlock_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/faulty"
	"github.com/ctxlock/ctxlock/memlock"
)

// alone has one caller take a lock that nobody else wants, again and again, on a link that has
// faults of its own; some calls are cancelled at some moment of theirs. It gives the errors of calls
// that were not.
func alone(t *testing.T, takings func(ctxlock.Locker) []taking, config faulty.Config) (failures []error) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		l, link := linked(t, server, ctxlock.LockerOption{KeyMajority: 2, KeyValidity: 20 * time.Second})
		defer l.Close()
		random := rand.New(rand.NewPCG(config.Seed, 0))
		link.Set(config)
		for range 500 {
			all := takings(l)
			how := all[random.IntN(len(all))]
			ctx, stop := context.WithCancel(t.Context())
			if random.IntN(2) == 0 {
				time.AfterFunc(time.Duration(random.Int64N(int64(8*time.Millisecond))), stop)
			}
			held, release, err := how(ctx, "alone")
			if err != nil && ctx.Err() == nil {
				failures = append(failures, err)
			}
			if lost := new(ctxlock.LostError); errors.As(context.Cause(held), &lost) && ctx.Err() == nil {
				failures = append(failures, lost)
			}
			release()
			stop()
		}
	})
	return failures
}

// tokened is a try with a fencing token, which takes two round trips where there are several keys.
func tokened(l ctxlock.Locker) taking {
	return func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
		ctx, lock, err := l.Acquire(ctx, name, ctxlock.AcquireOption{Mode: ctxlock.Try, Fencing: true})
		return ctx, func() { _ = lock.Release(context.Background()) }, err
	}
}

func TestTryMeetsNobodyButWhatItCancelled(t *testing.T) {
	tries := func(l ctxlock.Locker) []taking {
		return []taking{l.TryWithContext, l.WithContext, tokened(l)}
	}
	for seed := range uint64(4) {
		for _, err := range alone(t, tries, faulty.Config{
			Seed: seed, DelayRequest: 0.5, DelayReply: 0.5, MaxDelay: 3 * time.Millisecond,
		}) {
			if errors.Is(err, ctxlock.ErrNotLocked) { // a request that comes late is told of by another
				t.Errorf("seed %d: %v", seed, err)
			}
		}
	}
}

func TestNothingIsLostToAForceThatWasCancelled(t *testing.T) {
	forces := func(l ctxlock.Locker) []taking {
		return []taking{l.TryWithContext, l.ForceWithContext, tokened(l)}
	}
	for seed := range uint64(4) {
		for _, err := range alone(t, forces, faulty.Config{Seed: seed, DelayReply: 0.3, MaxDelay: 20 * time.Millisecond}) {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}
