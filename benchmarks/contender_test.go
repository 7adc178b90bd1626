package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// siteAt is the servers at a distance.
func siteAt(t *testing.T, trip time.Duration) site {
	t.Helper()
	at, err := servers.site(trip)
	if err != nil {
		t.Fatal(err)
	}
	at.crowd = 2
	return at
}

func TestEveryContenderExcludes(t *testing.T) {
	at := siteAt(t, near)
	for _, who := range everybody() {
		t.Run(who.String(), func(t *testing.T) {
			t.Parallel()
			lockers, err := openAll(who, at, 2)
			if err != nil {
				t.Fatal(err)
			}
			defer closeAll(lockers)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			name := "excludes/" + who.String()
			unlock, err := lockers[0].TryLock(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := lockers[1].TryLock(ctx, name); !errors.Is(err, errHeld) {
				t.Error("another's try on a name that is held:", err)
			}
			if _, err := lockers[0].TryLock(ctx, name); !errors.Is(err, errHeld) {
				t.Error("the same locker's try on a name that it holds:", err)
			}
			waits(t, ctx, who, lockers[1], name, unlock)
		})
	}
}

// waits checks that a locker gets a lock when it is unlocked, and not before.
func waits(t *testing.T, ctx context.Context, who Contender, l Locker, name string, unlock func()) {
	if who.Library == bare().Library {
		unlock()
		return
	}
	got := make(chan received, 1)
	go func() {
		unlock, err := l.Lock(ctx, name)
		got <- received{unlock, time.Now(), err}
	}()
	select {
	case n := <-got:
		t.Error("did not wait:", n.err)
		return
	case <-time.After(50 * time.Millisecond):
	}
	unlock()
	n := <-got
	if n.err != nil {
		t.Fatal(n.err)
	}
	n.unlock()
}

func TestEveryContenderEndsWithItsContext(t *testing.T) {
	at := siteAt(t, near)
	for _, who := range waiting(near) {
		t.Run(who.String(), func(t *testing.T) {
			t.Parallel()
			name := "ends/" + who.String()
			release, err := holdElsewhere(who, at, name)
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			l, err := who.Open(at)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			if _, err := l.Lock(ctx, name); err == nil {
				t.Error("got a lock that is held")
			}
		})
	}
}

func TestEveryContenderHasVersionAndNote(t *testing.T) {
	for _, who := range everybody() {
		if who.Note == "" || who.Module == "" {
			t.Errorf("%v: note %q, module %q", who, who.Note, who.Module)
		}
	}
}

func TestSitesAreAtADistance(t *testing.T) {
	at := siteAt(t, 5*time.Millisecond)
	for _, address := range at.valkey {
		d, err := ping(address)
		if err != nil {
			t.Fatal(err)
		}
		if d < 5*time.Millisecond || d > 8*time.Millisecond {
			t.Error(address, "is", d, "away")
		}
	}
}

// A short run of everything that is measured at all, with the smallest crowds.
func TestScenariosMeasure(t *testing.T) {
	s := &suite{park: servers, progress: new(strings.Builder), rounds: 2, warm: 20 * time.Millisecond, length: 60 * time.Millisecond, tripOnly: near}
	duel := func(near time.Duration) []Contender { return []Contender{ours(1), bsm()} }
	list := []scenario{
		{name: "own names", run: crowd{lockers: 2, goroutines: 3, act: try}.run, trips: everywhere, field: duel, slot: always(1)},
		{name: "one name", run: crowd{lockers: 3, goroutines: 2, oneName: true}.run, trips: everywhere, field: duel, slot: always(1)},
		{name: "failing", run: crowd{lockers: 1, goroutines: 2, oneName: true, act: fail}.run, trips: everywhere, field: duel, slot: always(1)},
		{name: "hands", run: changeOfHands, trips: everywhere, field: duel, slot: always(1)},
	}
	for _, sc := range list {
		if err := s.run(sc); err != nil {
			t.Fatal(err)
		}
	}
	if want := 2 * len(list); len(s.results) != want {
		t.Fatalf("%d results, want %d", len(s.results), want)
	}
	for _, r := range s.results {
		if r.Ops == 0 || r.P50 == 0 || r.P99 < r.P50 || r.Violations+r.Failures+r.Stuck > 0 || !(r.Commands >= 0) {
			t.Errorf("%s: %s", r.Scenario, r.line())
		}
	}
}

// hanging is a peer that ignores its context.
type hanging struct{}

func (hanging) Lock(context.Context, string) (func(), error)    { select {} }
func (hanging) TryLock(context.Context, string) (func(), error) { select {} }
func (hanging) Close()                                          {}

// careless is a peer that lets everybody in.
type careless struct{ hanging }

func (careless) Lock(context.Context, string) (func(), error) {
	return func() {}, nil
}

func TestAPeerThatHangsIsLeftBehind(t *testing.T) {
	r := runFake(t, hanging{}, crowd{lockers: 1, goroutines: 2, oneName: true})
	if r.seen.stuck != 2 || sum(r.ops) != 0 {
		t.Errorf("%+v", r.seen)
	}
}

func TestTwoHoldersAreSeen(t *testing.T) {
	r := runFake(t, careless{}, crowd{lockers: 8, goroutines: 8, oneName: true})
	if r.seen.violations == 0 {
		t.Errorf("%+v after %d locks", r.seen, sum(r.ops))
	}
}

func runFake(t *testing.T, l Locker, c crowd) *round {
	t.Helper()
	who := Contender{Library: "fake", Open: func(site) (Locker, error) { return l, nil }}
	r, err := c.run(who, bench{meter: &meter{servers: servers.servers}, warm: time.Millisecond, length: 100 * time.Millisecond}, fmt.Sprintf("fake/%T", l))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
