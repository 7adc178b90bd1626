package main

import "context"

// dropIn is what valkeylock and rueidislock have in common.
type dropIn interface {
	WithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error)
	TryWithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error)
	ForceWithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error)
	Close()
}

type dropInLocker struct{ dropIn }

func (l dropInLocker) Lock(ctx context.Context, name string) (Holding, error) {
	return dropInHolds(l.WithContext(ctx, name))
}

func (l dropInLocker) Try(ctx context.Context, name string) (Holding, error) {
	return dropInHolds(l.TryWithContext(ctx, name))
}

func (l dropInLocker) Force(ctx context.Context, name string) (Holding, error) {
	return dropInHolds(l.ForceWithContext(ctx, name))
}

func dropInHolds(ctx context.Context, cancel context.CancelFunc, err error) (Holding, error) {
	if err != nil {
		return nil, err
	}
	return dropInHolding{ctx, cancel}, nil
}

type dropInHolding struct {
	ctx    context.Context
	cancel context.CancelFunc
}

func (h dropInHolding) Alive() bool { return h.ctx.Err() == nil }

// Cause does not tell of context.Canceled, with which the context ends whatever has happened, unless its caller's ended with another cause.
func (h dropInHolding) Cause() error {
	if cause := context.Cause(h.ctx); cause != context.Canceled {
		return cause
	}
	return nil
}

func (h dropInHolding) Token() int64 { return 0 }

// Release waits for the servers for a validity at most: the library's limit.
func (h dropInHolding) Release() error {
	h.cancel()
	return nil
}
