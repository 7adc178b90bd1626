package ctxlock_test

import (
	"strings"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/conformance"
	"github.com/ctxlock/ctxlock/internal/lab"
	"github.com/ctxlock/ctxlock/store"
)

// fleet is lockers on one server, in real time. The same suite runs on memory, in fake time: see memlock.
type fleet struct {
	*lab.Server
	t *testing.T
	m mix
}

func (f fleet) NewLocker(option ctxlock.LockerOption) ctxlock.Locker {
	f.t.Helper()
	return f.dial(option, f.Addr())
}

func (f fleet) NewBreakable(option ctxlock.LockerOption) (ctxlock.Locker, func(bool)) {
	f.t.Helper()
	link, err := lab.NewProxy(f.Addr())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(link.Close)
	return f.dial(option, link.Addr()), func(on bool) {
		if on {
			link.Stall(lab.Both)
		} else {
			link.Heal()
		}
	}
}

func (f fleet) dial(option ctxlock.LockerOption, address string) ctxlock.Locker {
	f.t.Helper()
	base := f.m.option(address)
	option.ClientOption, option.NoLoopTracking, option.FallbackSETPX = base.ClientOption, base.NoLoopTracking, base.FallbackSETPX
	l, err := ctxlock.NewLocker(option)
	if err != nil {
		f.t.Fatal(err)
	}
	return l
}

func (f fleet) Keys() (keys []string) {
	reply, err := f.Do("KEYS", "*")
	if err != nil {
		f.t.Error(err)
		return nil
	}
	for _, key := range reply.([]any) {
		keys = append(keys, key.(string))
	}
	return keys
}

func (f fleet) Delete(keys ...string) {
	if _, err := f.Do(append([]string{"DEL"}, keys...)...); err != nil {
		f.t.Error(err)
	}
}

func (f fleet) TTL(key string) time.Duration {
	ms, err := f.Do("PTTL", key)
	if err != nil {
		f.t.Error(err)
		return 0
	}
	return time.Duration(max(0, ms.(int64))) * time.Millisecond
}

// Settle gives hints the time that they take on a machine that is not idle.
func (f fleet) Settle() { time.Sleep(20 * time.Millisecond) }

// conformanceMixes are the ways in which the store works differently.
var conformanceMixes = []mix{{}, {noLoop: true, setPX: true}}

func conformanceServer(t *testing.T) *lab.Server {
	t.Helper()
	s, err := lab.Start(lab.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func TestConformance(t *testing.T) {
	for _, m := range conformanceMixes {
		t.Run(strings.ReplaceAll(m.String(), " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := conformanceServer(t)
			conformance.Run(t, func(t *testing.T, test func(*testing.T, conformance.Fleet)) { test(t, fleet{s, t, m}) })
		})
	}
}

func TestStoreConformance(t *testing.T) {
	for _, m := range conformanceMixes {
		t.Run(strings.ReplaceAll(m.String(), " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := conformanceServer(t)
			conformance.RunStore(t, func(t *testing.T, test func(*testing.T, conformance.Connect)) {
				test(t, func() store.Store {
					opened, err := ctxlock.OpenStore(m.option(s.Addr()))
					if err != nil {
						t.Fatal(err)
					}
					return opened
				})
			})
		})
	}
}
