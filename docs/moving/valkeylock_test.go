package moving

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
	"github.com/valkey-io/valkey-go"
	"github.com/valkey-io/valkey-go/valkeylock"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

func makeValkeylock(address string) (valkeylock.Locker, error) {
	return valkeylock.NewLocker(valkeylock.LockerOption{
		ClientOption:   valkey.ClientOption{InitAddress: []string{address}},
		KeyMajority:    1,
		NoLoopTracking: true,
	})
}

func makeFromValkeylock(address string) (ctxlock.Locker, error) {
	return ctxlock.NewLocker(ctxlock.LockerOption{
		ClientOption:   valkey.ClientOption{InitAddress: []string{address}},
		KeyMajority:    1,
		NoLoopTracking: true,
	})
}

func makeRueidislock(address string) (rueidislock.Locker, error) {
	return rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption: rueidis.ClientOption{InitAddress: []string{address}},
		KeyMajority:  1,
	})
}

func makeFromRueidislock(address string) (ctxlock.Locker, error) {
	return ctxlock.NewLocker(ctxlock.LockerOption{
		KeyPrefix:    "rueidislock",
		ClientOption: valkey.ClientOption{InitAddress: []string{address}},
		KeyMajority:  1,
	})
}

func convert(option valkeylock.LockerOption) (ctxlock.Locker, error) {
	return ctxlock.NewLocker(ctxlock.LockerOption(option))
}

func valkeylockUse(ctx context.Context, locker valkeylock.Locker) error {
	ctx, cancel, err := locker.WithContext(ctx, "invoice/4711")
	if err != nil {
		return err // cancel is nil here
	}
	defer cancel()
	return work(ctx)
}

func ctxlockUse(ctx context.Context, locker ctxlock.Locker) error {
	ctx, cancel, err := locker.WithContext(ctx, "invoice/4711")
	defer cancel() // never nil
	if err != nil {
		return err
	}
	if err := work(ctx); err != nil {
		return errors.Join(err, context.Cause(ctx)) // a *ctxlock.LostError says how it was lost
	}
	return nil
}

// What the table shows is compiled only.
var _ = valkeylockTable

func valkeylockTable(ctx context.Context, l ctxlock.Locker) error {
	_, _, _ = l.WithContext(ctx, name)
	_, _, _ = l.TryWithContext(ctx, name)
	_, _, _ = l.ForceWithContext(ctx, name)
	_ = l.Client()
	defer l.Close()
	if errors.Is(valkeylock.ErrNotLocked, ctxlock.ErrNotLocked) || errors.Is(valkeylock.ErrLockerClosed, ctxlock.ErrLockerClosed) {
		return nil
	}
	_, lock, err := l.Acquire(ctx, name, ctxlock.AcquireOption{})
	if err != nil {
		return err
	}
	return lock.Release(ctx)
}

func TestValkeylockPagesCodeRuns(t *testing.T) {
	s := server(t)
	ctx := t.Context()
	theirs, err := makeValkeylock(s.Addr())
	ok(t, err)
	defer theirs.Close()
	rueidis, err := makeRueidislock(s.Addr())
	ok(t, err)
	defer rueidis.Close()
	ok(t, valkeylockUse(ctx, theirs))
	option := valkeylock.LockerOption{ClientOption: valkey.ClientOption{InitAddress: []string{s.Addr()}}, KeyMajority: 1}
	for _, make := range []func(string) (ctxlock.Locker, error){makeFromValkeylock, makeFromRueidislock, func(string) (ctxlock.Locker, error) { return convert(option) }} {
		ours, err := make(s.Addr())
		ok(t, err)
		defer ours.Close()
		ok(t, ctxlockUse(ctx, ours))
	}
}

// ttlOf is what the key of a lock has left; the server says -2 if there is none.
func ttlOf(t *testing.T, s *lab.Server, name string) int64 {
	t.Helper()
	left, err := s.Do("PTTL", "valkeylock:0:"+name)
	ok(t, err)
	return left.(int64)
}

func TestWhatThePageSaysOfTheContextsEnd(t *testing.T) {
	s := server(t)
	theirs, err := makeValkeylock(s.Addr())
	ok(t, err)
	defer theirs.Close()
	ours := locker(t, s)

	soon, end := context.WithTimeout(t.Context(), 2*time.Second) // which is less than KeyValidity
	defer end()
	until, stop := context.WithCancel(t.Context())
	defer stop()
	for _, ctx := range []context.Context{soon, until} {
		_, giveBack, err := theirs.WithContext(ctx, fmt.Sprint("theirs ", ctx == soon))
		ok(t, err)
		defer giveBack()
		_, cancel, err := ours.WithContext(ctx, fmt.Sprint("ours ", ctx == soon))
		ok(t, err)
		defer cancel()
	}
	if left := ttlOf(t, s, "theirs true"); left > 2000 {
		t.Errorf("valkeylock's key has %d ms left, which is more than the deadline", left)
	}
	if left := ttlOf(t, s, "ours true"); left <= 2000 {
		t.Errorf("our key has %d ms left", left)
	}
	stop()
	for start := time.Now(); ttlOf(t, s, "theirs false") >= 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > 2*time.Second {
			t.Fatal("valkeylock's key is still there")
		}
	}
	if left := ttlOf(t, s, "ours false"); left < 0 {
		t.Error("our key is gone")
	}
	ended, none, err := theirs.WithContext(until, "theirs, in vain")
	if ended != nil || none != nil || err != context.Canceled {
		t.Error(ended, none == nil, err)
	}
	ended, none, err = ours.WithContext(until, "ours, in vain")
	if ended.Err() == nil || none == nil || err == context.Canceled || !errors.Is(err, context.Canceled) {
		t.Error(ended, none == nil, err)
	}
}
