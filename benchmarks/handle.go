package main

import (
	"fmt"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// handles compares Acquire and what it offers with the drop-in call, on one locker.
func handles(server *lab.Server) error {
	l, err := openCtxlock(ctxlock.LockerOption{KeyMajority: 1, NoLoopTracking: true, KeyPrefix: "ours", ClientOption: client(server.Addr())}, ctxlock.Contention{})
	if err != nil {
		return err
	}
	defer l.Close()
	with := func(what string, option ctxlock.AcquireOption) pair {
		option.Mode = ctxlock.Try
		return pair{what, func(name string) error {
			_, lock, err := l.Acquire(background, name, option)
			if err != nil {
				return err
			}
			return lock.Release(background)
		}}
	}
	pairs := []pair{
		{"TryWithContext", pairOf(l)},
		with("Acquire", ctxlock.AcquireOption{}),
		with("Acquire, Value, Metadata, Validity", ctxlock.AcquireOption{Value: "host", Metadata: "some metadata", Validity: 7 * time.Second}),
		with("Acquire, Fencing", ctxlock.AcquireOption{Fencing: true}),
		{"AcquireAll of three names", func(name string) error {
			_, all, err := l.AcquireAll(background, []string{name, name + "/b", name + "/c"}, ctxlock.AcquireOption{Mode: ctxlock.Try})
			if err != nil {
				return err
			}
			return all.Release(background)
		}},
	}
	rates, err := race(1, pairs...)
	if err != nil {
		return err
	}
	for i, c := range pairs {
		fmt.Printf("  %-36s %9.0f/s  %8.1f us\n", c.name, rates[i], 1e6/rates[i])
	}
	compareTo("time of Acquire to TryWithContext", rates[0]/rates[1], "at most 1.1")
	compareTo("time of Acquire, Fencing, to TryWithContext", rates[0]/rates[3], "no further round trip: well below 2")
	return nil
}

func pairOf(l dropIn) func(string) error {
	return func(name string) error {
		_, release, err := l.TryWithContext(background, name)
		if err == nil {
			release()
		}
		return err
	}
}
