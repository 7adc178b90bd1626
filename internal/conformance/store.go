package conformance

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// Connect returns a new connection to the one server of a test. The suite closes it.
type Connect func() store.Store

// RunStore runs what package store asks of every store, each test by a call of run, which gives it its server. In a bubble of
// testing/synctest run is synctest.Test around test.
func RunStore(t *testing.T, run func(t *testing.T, test func(t *testing.T, connect Connect))) {
	for _, test := range []struct {
		name string
		test func(*storeTest)
	}{
		{"Claim/free key", (*storeTest).claimFree},
		{"Claim/again by its owner", (*storeTest).claimAgain},
		{"Claim/held by another", (*storeTest).claimHeld},
		{"Claim/by force", (*storeTest).claimForced},
		{"Claim/key that ran out", (*storeTest).claimExpired},
		{"Claim/many at once", (*storeTest).claimContended},
		{"Claim/odd keys and owners", (*storeTest).claimOdd},
		{"Extend/own key", (*storeTest).extendOwn},
		{"Extend/another's key", (*storeTest).extendOther},
		{"Extend/no key", (*storeTest).extendGone},
		{"Release/own key", (*storeTest).releaseOwn},
		{"Release/another's key", (*storeTest).releaseOther},
		{"Release/no key", (*storeTest).releaseGone},
		{"Look", (*storeTest).look},
		{"Batch/each op has an answer of its own", (*storeTest).batch},
		{"Batch/nothing to do", (*storeTest).batchEmpty},
		{"Batch/old answers are overwritten", (*storeTest).batchReused},
		{"Lane/is the same each time", (*storeTest).lane},
		{"Context/ended before", (*storeTest).contextEnded},
		{"Close/requests fail", (*storeTest).closed},
		{"Watch/claimed key is released by its holder", (*storeTest).watchClaimed},
		{"Watch/own key is taken by force", (*storeTest).watchTaken},
		{"Watch/own key is deleted after an extension", (*storeTest).watchExtended},
		{"Watch/key looked at changes, and again after another look", (*storeTest).watchLooked},
		{"Watch/many connections", (*storeTest).watchMany},
		{"Watch/own changes where the store echoes", (*storeTest).watchEcho},
		{"Wake/is there and tells of the release", (*storeTest).wake},
		{"Wake/does not tell of extensions", (*storeTest).wakeQuiet},
	} {
		t.Run(test.name, func(t *testing.T) {
			run(t, func(t *testing.T, connect Connect) { test.test(newStoreTest(t, connect)) })
		})
	}
}

// storeTest is one test's server, seen through one connection and as many more as it asks for.
type storeTest struct {
	*testing.T
	connect Connect
	store   store.Store
	events  *events
	key     string
}

// long is a validity that no test lives to see the end of.
const long = time.Minute

func newStoreTest(t *testing.T, connect Connect) *storeTest {
	s := &storeTest{T: t, connect: connect, key: unique("conformance:0:")}
	s.store, s.events = s.another()
	return s
}

// another makes another connection, as from another process.
func (s *storeTest) another() (store.Store, *events) {
	other, heard := s.connect(), &events{}
	s.Cleanup(other.Close)
	other.Subscribe(heard.hear)
	return other, heard
}

// events are the events that a connection got.
type events struct {
	mu    sync.Mutex
	heard []store.Event
}

func (e *events) hear(event store.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, event)
}

// about counts the events that make one look at key.
func (e *events) about(key string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.heard {
		if event.All || event.Key == key {
			n++
		}
	}
	return n
}

// one sends a request of one op, which must be answered.
func one(s *storeTest, request func(context.Context, []store.Op), op store.Op) store.Op {
	s.Helper()
	if op.Key == "" {
		op.Key = s.key
	}
	ops := []store.Op{op}
	send(s, request, ops)
	if ops[0].Err != nil {
		s.Fatalf("%q: %v", op.Key, ops[0].Err)
	}
	return ops[0]
}

func send(s *storeTest, request func(context.Context, []store.Op), ops []store.Op) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request(ctx, ops)
}

func (s *storeTest) claim(owner string) store.Op {
	s.Helper()
	return one(s, s.store.Claim, store.Op{Owner: owner, Validity: long})
}

func (s *storeTest) release(owner string) store.Op {
	s.Helper()
	return one(s, s.store.Release, store.Op{Owner: owner})
}

// heldBy checks who has the key. A store may leave another's name out, but must not confuse it.
func (s *storeTest) heldBy(op store.Op, owner string) {
	s.Helper()
	if op.Holder == owner || owner != "" && owner != op.Owner && op.Holder == store.Unnamed {
		return
	}
	s.Fatalf("holder is %q, want %q", op.Holder, owner)
}

// lives checks a TTL against what it can be at most. It takes time to ask, so it may be a little less; and a store that counts in
// another's time may round up.
func (s *storeTest) lives(ttl, most time.Duration) {
	s.Helper()
	const round = 50 * time.Millisecond
	if ttl <= 0 || ttl > most+round || most-ttl > patience {
		s.Fatalf("TTL is %v, want %v", ttl, most)
	}
}

func (s *storeTest) claimFree() {
	op := s.claim("me")
	s.heldBy(op, "me")
	s.lives(op.TTL, long)
}

// A reply that was lost must be safe to ask for again, and asking must not prolong what the asker does not know to hold.
func (s *storeTest) claimAgain() {
	s.claim("me")
	op := one(s, s.store.Claim, store.Op{Owner: "me", Validity: 2 * long})
	s.heldBy(op, "me")
	s.lives(op.TTL, long)
	op = one(s, s.store.Claim, store.Op{Owner: "me", Validity: 2 * long, Force: true})
	s.heldBy(op, "me")
}

func (s *storeTest) claimHeld() {
	s.claim("other")
	op := one(s, s.store.Claim, store.Op{Owner: "me", Validity: 2 * long})
	s.heldBy(op, "other")
	s.lives(op.TTL, long)
	s.heldBy(s.claim("other"), "other")
}

func (s *storeTest) claimForced() {
	s.claim("other")
	op := one(s, s.store.Claim, store.Op{Owner: "me", Validity: 2 * long, Force: true})
	s.heldBy(op, "me")
	s.lives(op.TTL, 2*long)
	s.heldBy(s.claim("other"), "me")
}

func (s *storeTest) claimExpired() {
	one(s, s.store.Claim, store.Op{Owner: "other", Validity: 100 * time.Millisecond})
	eventually(s.T, "the key runs out", func() bool { return s.claim("me").Holder == "me" })
}

func (s *storeTest) claimContended() {
	const claimants = 50
	holders := make([]string, claimants)
	var wg sync.WaitGroup
	for i := range claimants {
		wg.Go(func() {
			ops := []store.Op{{Key: s.key, Owner: fmt.Sprint("owner ", i), Validity: long}}
			send(s, s.store.Claim, ops)
			if ops[0].Err != nil {
				s.Errorf("%v", ops[0].Err)
			}
			holders[i] = ops[0].Holder
		})
	}
	wg.Wait()
	won := 0
	for i, holder := range holders {
		if holder == fmt.Sprint("owner ", i) {
			won++
		} else if holder == "" {
			s.Errorf("claimant %d was told that nobody has the key", i)
		}
	}
	if won != 1 {
		s.Errorf("%d claimants have the key", won)
	}
}

func (s *storeTest) claimOdd() {
	for _, odd := range oddNames() {
		key := s.key + odd
		owner := "owner" + odd
		op := one(s, s.store.Claim, store.Op{Key: key, Owner: owner, Validity: long})
		s.heldBy(op, owner)
		op = one(s, s.store.Extend, store.Op{Key: key, Owner: owner, Validity: long})
		s.heldBy(op, owner)
		op = one(s, s.store.Release, store.Op{Key: key, Owner: owner})
		s.heldBy(op, "")
	}
}

func (s *storeTest) extendOwn() {
	s.claim("me")
	op := one(s, s.store.Extend, store.Op{Owner: "me", Validity: 3 * long})
	s.heldBy(op, "me")
	s.lives(op.TTL, 3*long)
	s.lives(one(s, s.store.Look, store.Op{}).TTL, 3*long)
}

func (s *storeTest) extendOther() {
	s.claim("other")
	op := one(s, s.store.Extend, store.Op{Owner: "me", Validity: 3 * long})
	s.heldBy(op, "other")
	s.lives(one(s, s.store.Look, store.Op{}).TTL, long)
}

// A key that is gone stays gone: somebody else may be about to take it.
func (s *storeTest) extendGone() {
	op := one(s, s.store.Extend, store.Op{Owner: "me", Validity: long})
	s.heldBy(op, "")
	s.heldBy(s.claim("other"), "other")
}

func (s *storeTest) releaseOwn() {
	s.claim("me")
	s.heldBy(s.release("me"), "")
	s.heldBy(s.claim("other"), "other")
}

func (s *storeTest) releaseOther() {
	s.claim("other")
	s.release("me")
	s.heldBy(s.claim("me"), "other")
}

func (s *storeTest) releaseGone() {
	s.heldBy(s.release("me"), "")
}

func (s *storeTest) look() {
	op := one(s, s.store.Look, store.Op{})
	s.heldBy(op, "")
	s.claim("other")
	op = one(s, s.store.Look, store.Op{})
	if op.Holder == "" {
		s.Fatal("there is a key, but Look says that nobody has it")
	}
	s.lives(op.TTL, long)
}

// keys returns n keys of one lane.
func (s *storeTest) keys(n int) []string {
	var keys []string
	for i := 0; len(keys) < n; i++ {
		key := fmt.Sprint(s.key, i)
		if s.store.Lane(key) == s.store.Lane(s.key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (s *storeTest) batch() {
	keys := s.keys(300)
	ops := make([]store.Op, len(keys))
	for i, key := range keys {
		if i%3 == 0 {
			one(s, s.store.Claim, store.Op{Key: key, Owner: "other", Validity: long})
		}
		ops[i] = store.Op{Key: key, Owner: fmt.Sprint("me ", i), Validity: long}
	}
	s.batchOf(s.store.Claim, ops, "other", "me")
	s.batchOf(s.store.Extend, ops, "other", "me")
	send(s, s.store.Release, ops)
	s.batchOf(s.store.Look, ops, "other", "")
}

// batchOf sends the ops and checks that each third one is held by one and the others by another.
func (s *storeTest) batchOf(request func(context.Context, []store.Op), ops []store.Op, third, rest string) {
	s.Helper()
	send(s, request, ops)
	for i := range ops {
		want := rest
		switch {
		case i%3 == 0:
			want = third
		case rest != "":
			want = ops[i].Owner
		}
		if ops[i].Err != nil {
			s.Fatalf("op %d: %v", i, ops[i].Err)
		}
		s.heldBy(ops[i], want)
	}
}

func (s *storeTest) batchEmpty() {
	send(s, s.store.Claim, nil)
	send(s, s.store.Extend, nil)
	send(s, s.store.Release, nil)
	send(s, s.store.Look, nil)
}

func (s *storeTest) batchReused() {
	used := store.Op{Owner: "me", Validity: long, Holder: "somebody", TTL: time.Hour, WakeTTL: time.Hour, Err: context.Canceled, Unknown: true}
	op := one(s, s.store.Claim, used)
	if op.Unknown {
		s.Error("an answer is beside Unknown")
	}
	s.heldBy(op, "me")
	s.lives(op.TTL, long)
	s.heldBy(one(s, s.store.Release, used), "")
	s.heldBy(one(s, s.store.Look, used), "")
}

func (s *storeTest) lane() {
	other, _ := s.another()
	for i := range 100 {
		key := fmt.Sprint(s.key, i)
		first := s.store.Lane(key)
		if again := s.store.Lane(key); again != first || other.Lane(key) != first {
			s.Fatalf("%q changes lanes", key)
		}
	}
}

func (s *storeTest) contextEnded() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, request := range s.requests() {
		ops := []store.Op{{Key: s.key, Owner: "me", Validity: long}}
		request(ctx, ops)
		if ops[0].Err == nil && ops[0].Holder == "" && name == "Claim" {
			s.Errorf("%s: neither an answer nor an error", name)
		}
	}
}

func (s *storeTest) requests() map[string]func(context.Context, []store.Op) {
	return map[string]func(context.Context, []store.Op){
		"Claim": s.store.Claim, "Extend": s.store.Extend, "Release": s.store.Release, "Look": s.store.Look,
	}
}

func (s *storeTest) closed() {
	s.claim("me")
	s.store.Close()
	s.store.Close()
	for name, request := range s.requests() {
		ops := []store.Op{{Key: s.key, Owner: "me", Validity: long}}
		send(s, request, ops)
		if ops[0].Err == nil {
			s.Errorf("%s after Close: no error", name)
		}
	}
}

// watching says whether the store has events, and so whether there is something to test.
func (s *storeTest) watching() bool { return s.store.Watches() }

// hears waits for an event about key beyond those counted before.
func (s *storeTest) hears(e *events, key string, before int) {
	s.Helper()
	eventually(s.T, "an event comes", func() bool { return e.about(key) > before })
}

func (s *storeTest) watchClaimed() {
	if !s.watching() {
		return
	}
	holder, _ := s.another()
	one(s, holder.Claim, store.Op{Owner: "other", Validity: long})
	s.heldBy(s.claim("me"), "other")
	before := s.events.about(s.key)
	one(s, holder.Release, store.Op{Owner: "other"})
	s.hears(s.events, s.key, before)
}

func (s *storeTest) watchTaken() {
	if !s.watching() {
		return
	}
	thief, _ := s.another()
	s.claim("me")
	before := s.events.about(s.key)
	one(s, thief.Claim, store.Op{Owner: "other", Validity: long, Force: true})
	s.hears(s.events, s.key, before)
}

func (s *storeTest) watchExtended() {
	if !s.watching() {
		return
	}
	other, _ := s.another()
	s.claim("me")
	for range 3 {
		one(s, s.store.Extend, store.Op{Owner: "me", Validity: long})
	}
	before := s.events.about(s.key)
	one(s, other.Release, store.Op{Owner: "me"})
	s.hears(s.events, s.key, before)
}

func (s *storeTest) watchLooked() {
	if !s.watching() {
		return
	}
	other, _ := s.another()
	one(s, s.store.Look, store.Op{})
	one(s, other.Claim, store.Op{Owner: "other", Validity: long})
	s.hears(s.events, s.key, 0)
	for range 3 {
		one(s, s.store.Look, store.Op{})
		before := s.events.about(s.key)
		one(s, other.Extend, store.Op{Owner: "other", Validity: long})
		s.hears(s.events, s.key, before)
	}
}

func (s *storeTest) watchMany() {
	if !s.watching() {
		return
	}
	var all []*events
	for range 5 {
		other, heard := s.another()
		one(s, other.Look, store.Op{})
		all = append(all, heard)
	}
	s.claim("me")
	for _, heard := range all {
		s.hears(heard, s.key, 0)
	}
}

func (s *storeTest) watchEcho() {
	if !s.watching() || !s.store.Echoes() {
		return
	}
	s.claim("me")
	before := s.events.about(s.key)
	s.release("me")
	s.hears(s.events, s.key, before)
}

// waiting claims the key for a waiter, which finds it taken, and returns the wake key that it watches.
func (s *storeTest) waiting() (wake string) {
	s.Helper()
	wake = s.key + ":wake"
	op := one(s, s.store.Claim, store.Op{Owner: "me", Validity: long, Wake: wake})
	s.heldBy(op, "other")
	s.lives(op.WakeTTL, store.WakeLife)
	return wake
}

func (s *storeTest) wake() {
	holder, _ := s.another()
	one(s, holder.Claim, store.Op{Owner: "other", Validity: long})
	wake := s.waiting()
	if one(s, holder.Look, store.Op{Key: wake}).Holder == "" {
		s.Fatal("there is no wake key")
	}
	before := s.events.about(wake)
	one(s, holder.Release, store.Op{Owner: "other", Wake: wake})
	if s.watching() {
		s.hears(s.events, wake, before)
	}
	s.heldBy(one(s, holder.Look, store.Op{Key: wake}), "")
}

// A wake key that exists is left as it is by others who come to wait, and by the holder's extensions. This is what
// it is for: neither may wake those who wait already.
func (s *storeTest) wakeQuiet() {
	if !s.watching() || s.store.Echoes() {
		return
	}
	holder, _ := s.another()
	one(s, holder.Claim, store.Op{Owner: "other", Validity: long})
	wake := s.waiting()
	another, _ := s.another()
	before := s.events.about(wake)
	one(s, another.Claim, store.Op{Owner: "third", Validity: long, Wake: wake})
	one(s, holder.Extend, store.Op{Owner: "other", Validity: long})
	if n := s.events.about(wake) - before; n != 0 {
		s.Errorf("%d events", n)
	}
}
