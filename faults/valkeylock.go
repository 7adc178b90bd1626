package main

import (
	"context"
	"time"

	"github.com/valkey-io/valkey-go/valkeylock"
)

func valkeylocks() Contender {
	return Contender{
		Library: valkeylockLibrary, Module: "github.com/valkey-io/valkey-go",
		Note: "KeyMajority 1 and NoLoopTracking, as its documentation advises for one deployment; defaults otherwise.",
		Own:  under("valkeylock:0:"), // a key for each name; what else has the prefix is ctxlock's
		Open: func(at Place) (Locker, error) {
			l, err := valkeylock.NewLocker(valkeylock.LockerOption{
				KeyMajority: 1, NoLoopTracking: true, KeyValidity: at.Validity, ClientOption: valkeyClient(at),
			})
			return dropInLocker{l}, err
		},
	}
}

// valkeylocksAsking is the same, but its waiters ask again now and then: they miss releases, even
// among themselves.
func valkeylocksAsking() Contender {
	c := valkeylocks()
	c.Library = askingLibrary
	open := c.Open
	c.Open = func(at Place) (Locker, error) {
		l, err := open(at)
		return askingLocker{l}, err
	}
	return c
}

type askingLocker struct{ Locker }

// askAgain is how long a waiter of valkeylock waits for word.
const askAgain = 100 * time.Millisecond

// Lock asks until ctx ends. What it got belongs to a context that ends with its release.
func (l askingLocker) Lock(ctx context.Context, name string) (Holding, error) {
	for {
		attempt, end := context.WithCancel(ctx)
		impatience := time.AfterFunc(askAgain, end)
		h, err := l.Locker.Lock(attempt, name)
		if impatience.Stop() && err == nil {
			return askedHolding{h, end}, nil
		}
		if err == nil {
			_ = h.Release()
		}
		gaveUp := attempt.Err() != nil
		switch end(); {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil && !gaveUp:
			return nil, err
		}
	}
}

type askedHolding struct {
	Holding
	end context.CancelFunc
}

func (h askedHolding) Release() error {
	defer h.end()
	return h.Holding.Release()
}
