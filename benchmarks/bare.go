package main

import (
	"context"

	"github.com/valkey-io/valkey-go"
)

// bare is the least that a lock could be: SET NX and DEL, with a client that is built like those of the lockers. It cannot wait.
func bare() Contender {
	return Contender{
		Library: "SET NX + DEL", Module: "github.com/valkey-io/valkey-go",
		Note: "no lock at all, the floor: two commands on a client like ctxlock's",
		Open: func(at site) (Locker, error) {
			option := client(at.valkey[0])
			option.PipelineMultiplex = -1
			option.ClientTrackingOptions = []string{"OPTOUT", "NOLOOP"}
			option.OnInvalidations = func([]valkey.ValkeyMessage) {}
			c, err := valkey.NewClient(option)
			return bareLocker{c}, err
		},
	}
}

type bareLocker struct{ client valkey.Client }

func (l bareLocker) Lock(ctx context.Context, name string) (func(), error) {
	return l.TryLock(ctx, name)
}

func (l bareLocker) TryLock(ctx context.Context, name string) (func(), error) {
	key := "bare:0:" + name
	err := l.client.Do(ctx, l.client.B().Set().Key(key).Value(owner).Nx().PxMilliseconds(5000).Build()).Error()
	if valkey.IsValkeyNil(err) {
		err = errHeld
	}
	return func() { _ = l.client.Do(background, l.client.B().Del().Key(key).Build()).Error() }, err
}

func (l bareLocker) Close() { l.client.Close() }
