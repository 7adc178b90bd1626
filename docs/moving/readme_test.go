package moving

import (
	"context"
	"testing"
	"time"

	"github.com/bsm/redislock"

	"github.com/ctxlock/ctxlock"
)

// both is the step between.
func both(ctx context.Context, locks *redislock.Client, locker ctxlock.Locker) error {
	old, err := locks.Obtain(ctx, "invoice/4711", time.Minute, nil) // always the old one first
	if err != nil {
		return err
	}
	defer old.Release(context.Background())
	ctx, cancel, err := locker.TryWithContext(ctx, "invoice/4711")
	if err != nil {
		return err
	}
	defer cancel()
	return work(ctx) // within the minute, or extend the old one as before
}

func TestReadmesCodeRuns(t *testing.T) {
	s := server(t)
	ok(t, both(t.Context(), redislock.New(client(t, s)), locker(t, s)))
}
