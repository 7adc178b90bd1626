package memlock_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/conformance"
	"github.com/ctxlock/ctxlock/internal/faulty"
	"github.com/ctxlock/ctxlock/memlock"
)

// servers are the kinds of server that everything is tested on.
var servers = []memlock.ServerOption{
	{},
	{Echoes: true},
	{Lanes: 3},
	{Lanes: 3, Echoes: true},
	{Lanes: 3, Latency: time.Millisecond},
	{Latency: 100 * time.Millisecond, Echoes: true},
}

func describe(option memlock.ServerOption) string {
	return fmt.Sprintf("lanes %d, echoes %v, latency %v", max(option.Lanes, 1), option.Echoes, option.Latency)
}

// fleet is lockers on one server, in a bubble.
type fleet struct {
	*memlock.Server
	t *testing.T
}

func (f fleet) NewLocker(option ctxlock.LockerOption) ctxlock.Locker {
	locker, err := f.Server.NewLocker(option)
	if err != nil {
		f.t.Fatal(err)
	}
	return locker
}

func (f fleet) NewBreakable(option ctxlock.LockerOption) (ctxlock.Locker, func(bool)) {
	link := faulty.New(f.Store(), faulty.Config{})
	locker, err := ctxlock.NewLockerOnStore(link, option)
	if err != nil {
		f.t.Fatal(err)
	}
	return locker, link.Stall
}

func (f fleet) Delete(keys ...string) {
	for _, key := range keys {
		f.Server.Delete(key)
	}
}

func (f fleet) Settle() { synctest.Wait() }

func TestConformance(t *testing.T) {
	for _, option := range servers {
		t.Run(describe(option), func(t *testing.T) {
			conformance.Run(t, func(t *testing.T, test func(*testing.T, conformance.Fleet)) {
				synctest.Test(t, func(t *testing.T) { test(t, fleet{memlock.NewServer(option), t}) })
			})
		})
	}
}

func TestStoreConformance(t *testing.T) {
	for _, option := range servers {
		t.Run(describe(option), func(t *testing.T) {
			conformance.RunStore(t, func(t *testing.T, test func(*testing.T, conformance.Connect)) {
				synctest.Test(t, func(t *testing.T) { test(t, memlock.NewServer(option).Store) })
			})
		})
	}
}
