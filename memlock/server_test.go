package memlock_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/memlock"
	"github.com/ctxlock/ctxlock/store"
)

// listener is a connection and the events that it got.
type listener struct {
	store.Store
	mu     sync.Mutex
	events []store.Event
}

func listen(t *testing.T, server *memlock.Server) *listener {
	l := &listener{Store: server.Store()}
	t.Cleanup(l.Close)
	l.Subscribe(func(e store.Event) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.events = append(l.events, e)
	})
	return l
}

// hears checks that the events so far are these.
func (l *listener) hears(t *testing.T, events ...store.Event) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.events, events) {
		t.Errorf("events %v, want %v", l.events, events)
	}
}

func about(key string) store.Event { return store.Event{Key: key} }

func look(t *testing.T, s store.Store, keys ...string) {
	t.Helper()
	ops := make([]store.Op, len(keys))
	for i, key := range keys {
		ops[i].Key = key
	}
	s.Look(t.Context(), ops)
	for i := range ops {
		if ops[i].Err != nil {
			t.Fatal(ops[i].Err)
		}
	}
}

func TestServerKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server memlock.Server
		server.Set("b", "1", time.Minute)
		server.Set("a", "2", 0)
		if keys := server.Keys(); !slices.Equal(keys, []string{"a", "b"}) {
			t.Errorf("keys %q", keys)
		}
		if value, found := server.Get("b"); value != "1" || !found {
			t.Errorf("value %q, %v", value, found)
		}
		if ttl := server.TTL("a"); ttl != store.Forever {
			t.Errorf("TTL %v, want forever", ttl)
		}
		time.Sleep(time.Minute - 1)
		if ttl := server.TTL("b"); ttl != 1 {
			t.Errorf("TTL %v, want 1ns", ttl)
		}
		time.Sleep(1 * time.Nanosecond)
		if ttl := server.TTL("b"); ttl != 0 {
			t.Errorf("TTL %v of a key that ran out", ttl)
		}
		if keys := server.Keys(); !slices.Equal(keys, []string{"a"}) {
			t.Errorf("keys %q", keys)
		}
		if _, found := server.Get("b"); found || server.Delete("b") || !server.Delete("a") || server.Delete("a") {
			t.Error("Delete does not tell what was there")
		}
	})
}

// A watch is good for one event, as CLIENT TRACKING's is.
func TestWatchIsUsedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server memlock.Server
		l := listen(t, &server)
		look(t, l, "key", "key")
		server.Set("key", "1", 0)
		server.Set("key", "2", 0)
		l.hears(t, about("key"))
		look(t, l, "key")
		server.Delete("key")
		l.hears(t, about("key"), about("key"))
	})
}

// Without echoes one's own change sends no event, and all the same it uses up the watch.
func TestOwnChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, echoes := range []bool{false, true} {
			server := memlock.NewServer(memlock.ServerOption{Echoes: echoes})
			l := listen(t, server)
			look(t, l, "key")
			op := store.Op{Key: "key", Owner: "me", Validity: time.Minute}
			l.Claim(t.Context(), []store.Op{op}) // changes, then watches
			l.Release(t.Context(), []store.Op{op})
			server.Set("key", "other", 0)
			if echoes {
				l.hears(t, about("key"), about("key"))
			} else {
				l.hears(t)
			}
		}
	})
}

// The event of a key that runs out comes when somebody comes by, and not before.
func TestExpiryIsToldLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server memlock.Server
		l := listen(t, &server)
		server.Set("swept 1", "1", time.Second)
		server.Set("swept 2", "1", time.Second)
		look(t, l, "swept 1", "swept 2")
		time.Sleep(time.Hour)
		l.hears(t)
		server.Get("another")
		l.hears(t, about("swept 1"), about("swept 2"))

		server.Set("touched", "1", time.Millisecond)
		look(t, l, "touched")
		time.Sleep(time.Millisecond) // no time for a sweep
		server.Get("another")
		l.hears(t, about("swept 1"), about("swept 2"))
		server.Get("touched")
		l.hears(t, about("swept 1"), about("swept 2"), about("touched"))
	})
}

func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server memlock.Server
		watching, idle := listen(t, &server), listen(t, &server)
		server.Set("key", "1", 0)
		look(t, watching, "key")
		server.Flush()
		if keys := server.Keys(); len(keys) != 0 {
			t.Errorf("keys %q", keys)
		}
		watching.hears(t, store.Event{All: true})
		idle.hears(t, store.Event{All: true})
	})
}

// A stranger's key without a value is a key all the same.
func TestEmptyValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server memlock.Server
		l := listen(t, &server)
		server.Set("key", "", 0)
		ops := []store.Op{{Key: "key", Owner: "me", Validity: time.Minute}}
		l.Claim(t.Context(), ops)
		if ops[0].Holder != store.Unnamed || ops[0].TTL != store.Forever {
			t.Errorf("holder %q, TTL %v", ops[0].Holder, ops[0].TTL)
		}
	})
}

func TestValidityMustBePositive(t *testing.T) {
	var server memlock.Server
	l := listen(t, &server)
	ops := []store.Op{{Key: "key", Owner: "me"}}
	l.Claim(t.Context(), ops)
	if !store.IsPermanent(ops[0].Err) {
		t.Errorf("claim: %v", ops[0].Err)
	}
	l.Extend(t.Context(), ops)
	if !store.IsPermanent(ops[0].Err) {
		t.Errorf("extend: %v", ops[0].Err)
	}
}

func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Second})
		l := listen(t, server)
		start := time.Now()
		look(t, l, "key")
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v", took)
		}
		server.Set("key", "1", 0)
		synctest.Wait()
		l.hears(t)
		time.Sleep(time.Second)
		synctest.Wait()
		l.hears(t, about("key"))
	})
}

// A request that was sent is carried out, whether its sender waits for that or not, and before those that were sent later.
func TestLatencyKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Second})
		l := listen(t, server)
		ops := []store.Op{{Key: "key", Owner: "me", Validity: time.Minute}}
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				synctest.Wait()
				cancel()
			}()
			l.Claim(ctx, ops)
			if !ops[0].Unknown {
				t.Fatalf("claim: %+v", ops[0])
			}
			l.Release(t.Context(), ops)
			if keys := server.Keys(); len(keys) != 0 {
				t.Fatal("the release has overtaken the claim")
			}
		}
	})
}

// A closed connection hears nothing more, and leaves the others' watches alone.
func TestCloseForgetsWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var server memlock.Server
		one, other := listen(t, &server), listen(t, &server)
		look(t, one, "key", "key too")
		look(t, other, "key")
		one.Close()
		server.Set("key", "1", 0)
		server.Set("key too", "1", 0)
		server.Flush()
		one.hears(t)
		other.hears(t, about("key"), store.Event{All: true})
	})
}

func TestLanes(t *testing.T) {
	l := listen(t, memlock.NewServer(memlock.ServerOption{Lanes: 3}))
	lanes := map[int]int{}
	for i := range 300 {
		lanes[l.Lane(fmt.Sprint("key ", i))]++
	}
	for lane := range 3 {
		if lanes[lane] < 50 {
			t.Errorf("lane %d has %d of 300 keys", lane, lanes[lane])
		}
	}
	if len(lanes) != 3 {
		t.Errorf("lanes %v", lanes)
	}
}

func TestNewLocker(t *testing.T) {
	locker, err := memlock.New(ctxlock.LockerOption{})
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close()
	if locker.Client() != nil {
		t.Error("there is a client")
	}
	lock, cancel, err := locker.WithContext(t.Context(), "name")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if cause := context.Cause(lock); cause != ctxlock.ErrReleased {
		t.Errorf("cause is %v", cause)
	}

	if locker, err := memlock.New(ctxlock.LockerOption{KeyValidity: -1}); err == nil || locker != nil {
		t.Errorf("locker %v, error %v", locker, err)
	}
}
