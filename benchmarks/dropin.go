package main

import (
	"context"
	"errors"
)

// dropIn is the interface that ctxlock, valkeylock and rueidislock have in common.
type dropIn interface {
	WithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error)
	TryWithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error)
	Close()
}

// dropInLocker makes a Locker of one. notLocked is the library's own word for errHeld.
type dropInLocker struct {
	dropIn
	notLocked error
}

func (l dropInLocker) Lock(ctx context.Context, name string) (func(), error) {
	_, cancel, err := l.WithContext(ctx, name)
	return cancel, err
}

func (l dropInLocker) TryLock(ctx context.Context, name string) (func(), error) {
	_, cancel, err := l.TryWithContext(ctx, name)
	if errors.Is(err, l.notLocked) {
		err = errHeld
	}
	return cancel, err
}
