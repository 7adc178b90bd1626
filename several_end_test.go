package ctxlock_test

import (
	"context"
	"errors"
	"testing"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/memlock"
)

// The error of AcquireAll tells that the caller's context ended, also if that happens between two
// attempts.
func TestAcquireAllSaysThatItsContextEnded(t *testing.T) {
	locker, err := memlock.New(ctxlock.LockerOption{})
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close()
	_, release, err := locker.TryWithContext(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, _, err = locker.AcquireAll(ctx, []string{"a", "b"}, ctxlock.AcquireOption{
		Retry: ctxlock.RetryFunc(func(ctxlock.Attempt) ctxlock.Retry {
			cancel()
			return ctxlock.Retry{}
		}),
	})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ctxlock.ErrNotLocked) {
		t.Fatalf("%v: not both of the context and of the lock", err)
	}
}
