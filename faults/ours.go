package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
)

// oursWith is ctxlock, with majority of 2*majority-1 keys on one deployment. On independent nodes, which has to be 1 here, their number
// makes the majority.
func oursWith(majority int32) Contender {
	c := Contender{
		Library: oursLibrary, Module: "github.com/ctxlock/ctxlock", Fences: true,
		Note: "NoLoopTracking and fencing tokens, defaults otherwise; on independent nodes by NewRedlock with DelayedRestart, as for all servers that do not keep their data.",
		Own:  ownOfOurs,
		Open: func(at Place) (Locker, error) { return openOurs(at, majority) },
	}
	if majority > 1 {
		c.Library = fmt.Sprintf("%s, majority %d", oursLibrary, majority)
	}
	return c
}

// ownOfOurs leaves out the counters of fencing tokens, which outlive the locks: prefix:t:… and prefix:T:…
func ownOfOurs(key string) bool {
	rest, ok := strings.CutPrefix(key, prefixOfOurs)
	return ok && !strings.HasPrefix(rest, "t:") && !strings.HasPrefix(rest, "T:")
}

// prefixOfOurs is the default, and valkeylock's: a fleet may have both.
const prefixOfOurs = "valkeylock:"

func openOurs(at Place, majority int32) (Locker, error) {
	option := ctxlock.LockerOption{NoLoopTracking: true, KeyValidity: at.Validity}
	if at.Kind == Nodes {
		l, err := ctxlock.NewRedlock(ctxlock.RedlockOption{LockerOption: option, Nodes: valkeyNodes(at), DelayedRestart: true})
		return ourLocker{l}, err
	}
	option.KeyMajority, option.ClientOption = majority, valkeyClient(at)
	l, err := ctxlock.New(ctxlock.Options{LockerOption: option})
	return ourLocker{l}, err
}

// valkeyClient is for one deployment.
func valkeyClient(at Place) valkey.ClientOption {
	option := valkey.ClientOption{InitAddress: at.Servers}
	if at.Kind == Sentinel {
		option.Sentinel = valkey.SentinelOption{MasterSet: at.Primary}
	}
	return option
}

func valkeyNodes(at Place) []valkey.ClientOption {
	var nodes []valkey.ClientOption
	for _, address := range at.Servers {
		nodes = append(nodes, valkey.ClientOption{InitAddress: []string{address}})
	}
	return nodes
}

type ourLocker struct{ ctxlock.Locker }

func (l ourLocker) Lock(ctx context.Context, name string) (Holding, error) {
	return l.take(ctx, name, ctxlock.AcquireOption{Fencing: true})
}

func (l ourLocker) Try(ctx context.Context, name string) (Holding, error) {
	return l.take(ctx, name, ctxlock.AcquireOption{Mode: ctxlock.Try})
}

func (l ourLocker) Force(ctx context.Context, name string) (Holding, error) {
	return l.take(ctx, name, ctxlock.AcquireOption{Mode: ctxlock.Force})
}

func (l ourLocker) take(ctx context.Context, name string, option ctxlock.AcquireOption) (Holding, error) {
	ctx, lock, err := l.Acquire(ctx, name, option)
	if err != nil {
		return nil, err
	}
	return &ourHolding{ctx: ctx, token: lock.Token(), release: sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), releasing)
		defer cancel()
		return lock.Release(ctx)
	})}, nil
}

type ourHolding struct {
	ctx     context.Context
	token   int64
	release func() error
}

func (h *ourHolding) Alive() bool    { return h.ctx.Err() == nil }
func (h *ourHolding) Cause() error   { return context.Cause(h.ctx) }
func (h *ourHolding) Token() int64   { return h.token }
func (h *ourHolding) Release() error { return h.release() }
