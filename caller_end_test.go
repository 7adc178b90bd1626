package ctxlock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/memlock"
)

// Waiters of one name stand behind each other in line, and say what those in front have met. How one
// caller's context ended concerns no other.
func TestErrorOfAWaitHasNoOtherCallersEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const name = "wanted"
		server := memlock.NewServer(memlock.ServerOption{Latency: 100 * time.Millisecond})
		l, link := linked(t, server, ctxlock.LockerOption{KeyValidity: 20 * time.Second})
		defer l.Close()
		_, release, err := l.WithContext(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		fenced := func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
			ctx, _, err := l.Acquire(ctx, name, ctxlock.AcquireOption{Fencing: true}) // not handed on
			return ctx, func() {}, err
		}
		var calls []*pending
		var stops []context.CancelFunc
		for _, how := range []taking{l.WithContext, fenced, fenced} {
			ctx, stop := context.WithCancel(t.Context())
			calls, stops = append(calls, begin(ctx, how, name, nil)), append(stops, stop)
			time.Sleep(20 * time.Millisecond)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		last := begin(ctx, l.WithContext, name, nil)
		time.Sleep(20 * time.Millisecond)
		stops[0]()
		<-calls[0].done
		release()
		time.Sleep(50 * time.Millisecond) // the second one's only attempt is under way
		link.Stall(true)
		stops[1]()
		<-calls[1].done
		<-last.done // and the third one's only attempt is under way
		stops[2]()
		link.Stall(false)
		<-calls[2].done
		if !errors.Is(last.err, context.DeadlineExceeded) || errors.Is(last.err, context.Canceled) {
			t.Errorf("its deadline is over, and it says: %v", last.err)
		}
	})
}
