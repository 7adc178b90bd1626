package conformance

import (
	"context"
	"fmt"
	"slices"
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
		{"Token/rises with each holding", (*storeTest).tokenRises},
		{"Token/claim again by its owner", (*storeTest).tokenAgain},
		{"Token/held by another", (*storeTest).tokenHeld},
		{"Token/by force", (*storeTest).tokenForced},
		{"Token/is above the floor", (*storeTest).tokenFloor},
		{"Token/counter that is gone", (*storeTest).tokenGone},
		{"Token/counter runs out", (*storeTest).tokenEnds},
		{"Token/counter that is a stranger's", (*storeTest).tokenStrange},
		{"Token/counters of a batch", (*storeTest).tokenBatch},
		{"Token/many at once", (*storeTest).tokenContended},
		{"Token/extension raises the counter and never lowers it", (*storeTest).tokenExtend},
		{"Token/extension of what another has", (*storeTest).tokenExtendOther},
		{"Release/tells whether it deleted", (*storeTest).releaseFound},
		{"Read", (*storeTest).read},
		{"Watch/key that was read changes", (*storeTest).watchRead},
		{"List/sums up over owners", (*storeTest).listSum},
		{"List/an owner's note is replaced", (*storeTest).listReplaced},
		{"List/goes with the last", (*storeTest).listGone},
		{"List/runs out", (*storeTest).listExpired},
		{"Queue/first come, first served", (*storeTest).queueOrder},
		{"Queue/claiming again keeps the place", (*storeTest).queueAgain},
		{"Queue/who leaves is not served", (*storeTest).queueLeave},
		{"Queue/who comes back stands where it stood", (*storeTest).queueReturn},
		{"Queue/roll call", (*storeTest).queueRollCall},
		{"Queue/who is gone is passed over", (*storeTest).queueGone},
		{"Queue/left free for others", (*storeTest).queueFree},
		{"Queue/token", (*storeTest).queueToken},
		{"Scan/prefix", (*storeTest).scan},
		{"Scan/stops when told to", (*storeTest).scanStopped},
		{"Scan/context ended before", (*storeTest).scanEnded},
		{"Scan/after Close", (*storeTest).scanClosed},
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
	send(s, s.store.Read, nil)
	send(s, s.store.Enlist, nil)
	send(s, s.store.Waiting, nil)
}

func (s *storeTest) batchReused() {
	used := store.Op{Owner: "me", Validity: long,
		Answer: store.Answer{Holder: "somebody", TTL: time.Hour, WakeTTL: time.Hour, Token: 1, Waiting: 1, Found: true, Err: context.Canceled, Unknown: true}}
	op := one(s, s.store.Claim, used)
	if op.Unknown {
		s.Error("an answer is beside Unknown")
	}
	s.heldBy(op, "me")
	s.lives(op.TTL, long)
	if op.Token != 0 || op.Waiting != 0 || op.Found {
		s.Errorf("an old answer is left: %+v", op.Answer)
	}
	s.heldBy(one(s, s.store.Read, used), "me")
	s.heldBy(one(s, s.store.Release, used), "")
	s.heldBy(one(s, s.store.Look, used), "")
	s.heldBy(one(s, s.store.Read, used), "")
	if op := one(s, s.store.Release, used); op.Found {
		s.Error("Release found what is not there")
	}
	if op := one(s, s.store.Waiting, used); op.Waiting != 0 {
		s.Errorf("%d wait", op.Waiting)
	}
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
		"Claim": s.store.Claim, "Extend": s.store.Extend, "Release": s.store.Release, "Look": s.store.Look, "Read": s.store.Read,
		"Enlist": s.store.Enlist, "Waiting": s.store.Waiting,
	}
}

func (s *storeTest) closed() {
	s.claim("me")
	s.store.Close()
	s.store.Close()
	for name, request := range s.requests() {
		ops := []store.Op{{Key: s.key, Owner: "me", Validity: long, Waiters: 1}}
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

// counter is the key of the counter that belongs to a key, in the same slot of a cluster.
func counter(key string) string { return "counter:{" + key + "}" }

// fenced claims the key with a counter.
func (s *storeTest) fenced(owner string, floor int64) store.Op {
	s.Helper()
	return one(s, s.store.Claim, store.Op{Owner: owner, Validity: long, Counter: counter(s.key), Floor: floor})
}

// above claims the key for an owner who gets it, and checks that the token is greater than what is given. It returns the token.
func (s *storeTest) above(owner string, last int64) int64 {
	s.Helper()
	op := s.fenced(owner, 0)
	s.heldBy(op, owner)
	if op.Token <= last || op.Token <= 0 {
		s.Fatalf("the token is %d, after %d", op.Token, last)
	}
	return op.Token
}

func (s *storeTest) tokenRises() {
	var last int64
	for i := range 100 {
		owner := fmt.Sprint("owner ", i)
		last = s.above(owner, last)
		s.release(owner)
	}
	one(s, s.store.Claim, store.Op{Owner: "short", Validity: 50 * time.Millisecond, Counter: counter(s.key)})
	var op store.Op
	eventually(s.T, "the key runs out", func() bool { op = s.fenced("after it", 0); return op.Mine() })
	if op.Token <= last+1 {
		s.Errorf("the token is %d, after %d and another", op.Token, last)
	}
	if op := s.claim("after it"); op.Token != 0 {
		s.Errorf("a claim without a counter has the token %d", op.Token)
	}
}

// A reply that was lost must be safe to ask for again: it is the same holding.
func (s *storeTest) tokenAgain() {
	token := s.above("me", 0)
	for _, floor := range []int64{0, token - 1} {
		if op := s.fenced("me", floor); !op.Mine() || op.Token != token {
			s.Errorf("again with floor %d: holder %q, token %d, want %d", floor, op.Holder, op.Token, token)
		}
	}
	op := one(s, s.store.Claim, store.Op{Owner: "me", Validity: long, Counter: counter(s.key), Force: true})
	if !op.Mine() || op.Token != token {
		s.Errorf("again by force: holder %q, token %d, want %d", op.Holder, op.Token, token)
	}
	s.release("me")
	s.above("other", token)
}

// Those who fail get no token, and use none up.
func (s *storeTest) tokenHeld() {
	token := s.above("other", 0)
	for range 10 {
		op := s.fenced("me", token+1000000000)
		s.heldBy(op, "other")
		if op.Token != 0 {
			s.Fatalf("a claim that failed has the token %d", op.Token)
		}
	}
	if op := s.fenced("other", 0); op.Token != token {
		s.Errorf("the counter is %d, want %d", op.Token, token)
	}
}

func (s *storeTest) tokenForced() {
	token := s.above("other", 0)
	for _, owner := range []string{"me", "third", "other"} {
		op := one(s, s.store.Claim, store.Op{Owner: owner, Validity: long, Counter: counter(s.key), Force: true})
		s.heldBy(op, owner)
		if op.Token <= token {
			s.Fatalf("the token is %d by force, after %d", op.Token, token)
		}
		token = op.Token
	}
}

// ahead is more than tokens can rise by themselves while a test runs: they go by the time in microseconds.
const ahead = int64(time.Hour / time.Microsecond)

func (s *storeTest) tokenFloor() {
	floor := s.above("me", 0) + ahead
	if op := s.fenced("me", floor); op.Token <= floor {
		s.Errorf("again: the token is %d, the floor %d", op.Token, floor)
	}
	s.release("me")
	token := s.above("other", floor)
	s.release("other")
	op := s.fenced("me", token-ahead)
	if op.Token <= token {
		s.Errorf("the token is %d with a floor below the last, %d", op.Token, token)
	}
}

// Where a counter is lost, time takes its place.
func (s *storeTest) tokenGone() {
	var last int64
	for i := range 20 {
		owner := fmt.Sprint("owner ", i)
		last = s.above(owner, last)
		value := fmt.Sprint(last)
		if op := one(s, s.store.Release, store.Op{Key: counter(s.key), Owner: value}); !op.Found {
			s.Fatalf("the counter is not %s", value)
		}
		time.Sleep(time.Millisecond) // two holdings within a microsecond are none that time could tell apart
		if i%2 == 0 {
			last = s.again(owner, last)
		}
		s.release(owner)
	}
}

// again claims for the owner who has the key, when the counter is gone that had the token: it may be another, but no smaller one.
func (s *storeTest) again(owner string, last int64) int64 {
	s.Helper()
	op := s.fenced(owner, 0)
	if !op.Mine() || op.Token < last {
		s.Fatalf("again: holder %q, token %d, after %d", op.Holder, op.Token, last)
	}
	return op.Token
}

// A counter is not kept for ever, but until time has passed it for good.
func (s *storeTest) tokenEnds() {
	token := s.above("me", 0)
	lives := func() time.Duration { return one(s, s.store.Look, store.Op{Key: counter(s.key)}).TTL }
	if ttl := lives(); ttl < 50*time.Minute || ttl > 70*time.Minute {
		s.Errorf("the counter lives for %v", ttl)
	}
	if op := s.fenced("me", token+3*ahead); op.Token <= token+3*ahead {
		s.Fatalf("the token is %d, the floor %d", op.Token, token+3*ahead)
	}
	if ttl := lives(); ttl < 3*time.Hour+50*time.Minute || ttl > 4*time.Hour+10*time.Minute {
		s.Errorf("the counter is three hours ahead and lives for %v", ttl)
	}
}

// Whatever a counter has that is none is an error at once, and the key stays free.
func (s *storeTest) tokenStrange() {
	for _, value := range []string{"garbage", "12x", "-5", "nan", "-nan", "inf", "-inf", "9000000000000000000", "9223372036854775807", "1e300", "9999999999999999999999"} {
		one(s, s.store.Claim, store.Op{Key: counter(s.key), Owner: value, Validity: long})
		s.refused(value)
		one(s, s.store.Release, store.Op{Key: counter(s.key), Owner: value})
	}
	one(s, s.store.Enlist, store.Op{Key: counter(s.key), Owner: "me", Waiters: 1, Validity: long}) // a key of another type, where there are such
	s.refused("a list")
	one(s, s.store.Enlist, store.Op{Key: counter(s.key), Owner: "me"})
	s.above("me", 0)
}

// refused checks what comes of claims, by force too, while the counter is of no use.
func (s *storeTest) refused(what string) {
	s.Helper()
	for _, force := range []bool{false, true} {
		ops := []store.Op{{Key: s.key, Owner: "me", Validity: long, Counter: counter(s.key), Force: force}}
		send(s, s.store.Claim, ops)
		if !store.IsPermanent(ops[0].Err) {
			s.Errorf("the counter is %q: holder %q, token %d, error %v", what, ops[0].Holder, ops[0].Token, ops[0].Err)
		}
		if op := one(s, s.store.Read, store.Op{}); op.Holder != "" {
			s.Errorf("the counter is %q, and the key was set to %q", what, op.Holder)
			s.release(op.Holder)
		}
	}
}

// Each key of a batch has a counter of its own, or none.
func (s *storeTest) tokenBatch() {
	keys := s.keys(60)
	ops := make([]store.Op, len(keys))
	for i, key := range keys {
		ops[i] = store.Op{Key: key, Owner: fmt.Sprint("me ", i), Validity: long, Counter: counter(key), Floor: int64(i%2) * 8e15}
		if i%3 == 0 {
			one(s, s.store.Claim, store.Op{Key: key, Owner: "other", Validity: long})
		}
	}
	send(s, s.store.Claim, ops)
	for i := range ops {
		switch op := &ops[i]; {
		case op.Err != nil:
			s.Fatalf("op %d: %v", i, op.Err)
		case i%3 == 0 && (op.Mine() || op.Token != 0), i%3 != 0 && (!op.Mine() || op.Token <= op.Floor || op.Token > 8e15+1):
			s.Errorf("op %d with floor %d: holder %q, token %d", i, op.Floor, op.Holder, op.Token)
		}
	}
}

// The order of tokens is that of holdings, also where many want the key by force and at once.
func (s *storeTest) tokenContended() {
	const claimants, rounds = 8, 20
	var mu sync.Mutex
	seen := make(map[int64]string)
	var wg sync.WaitGroup
	for i := range claimants {
		wg.Go(func() {
			for j := range rounds {
				owner := fmt.Sprint("owner ", i, " ", j)
				ops := []store.Op{{Key: s.key, Owner: owner, Validity: long, Counter: counter(s.key), Force: true}}
				send(s, s.store.Claim, ops)
				mu.Lock()
				if ops[0].Err != nil || !ops[0].Mine() || seen[ops[0].Token] != "" {
					s.Errorf("%s: %+v, and the token of %q", owner, ops[0].Answer, seen[ops[0].Token])
				}
				seen[ops[0].Token] = owner
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	var greatest int64
	for token := range seen {
		greatest = max(greatest, token)
	}
	if last := one(s, s.store.Read, store.Op{}); last.Holder != seen[greatest] {
		s.Errorf("the last holder is %q, and %q has the greatest token", last.Holder, seen[greatest])
	}
}

// extendTo extends the key and gives what the counter is then, as its holder's own claim finds it.
func (s *storeTest) extendTo(owner string, floor int64) int64 {
	s.Helper()
	op := one(s, s.store.Extend, store.Op{Owner: owner, Validity: 3 * long, Counter: counter(s.key), Floor: floor})
	s.heldBy(op, owner)
	s.lives(op.TTL, 3*long)
	return s.fenced(owner, 0).Token
}

func (s *storeTest) tokenExtend() {
	token := s.above("me", 0)
	for _, step := range []struct{ floor, want int64 }{
		{0, token}, {token, token}, {token - ahead, token}, {token + ahead, token + ahead}, {token, token + ahead}, {token + 2*ahead, token + 2*ahead},
	} {
		if got := s.extendTo("me", step.floor); got != step.want {
			s.Errorf("extended with the floor %d: the counter is %d, want %d", step.floor, got, step.want)
		}
	}
	s.release("me")
	token = s.above("other", token+2*ahead)

	one(s, s.store.Release, store.Op{Key: counter(s.key), Owner: fmt.Sprint(token)})
	if got := s.extendTo("other", token+ahead); got != token+ahead {
		s.Errorf("the counter was gone: it is %d, want %d", got, token+ahead)
	}
	if ttl := one(s, s.store.Look, store.Op{Key: counter(s.key)}).TTL; ttl < time.Hour || ttl == store.Forever {
		s.Errorf("the counter lives for %v", ttl)
	}
}

func (s *storeTest) tokenExtendOther() {
	token := s.above("other", 0)
	op := one(s, s.store.Extend, store.Op{Owner: "me", Validity: 3 * long, Counter: counter(s.key), Floor: token + ahead})
	s.heldBy(op, "other")
	if op := s.fenced("other", 0); op.Token != token {
		s.Errorf("the counter is %d, want %d", op.Token, token)
	}
	s.release("other")
	one(s, s.store.Extend, store.Op{Owner: "me", Validity: long, Counter: counter(s.key), Floor: token + ahead})
	if op := s.fenced("third", 0); op.Token <= token || op.Token > token+ahead {
		s.Errorf("the token is %d, after %d", op.Token, token)
	}
}

func (s *storeTest) releaseFound() {
	if s.release("me").Found {
		s.Error("found what was not there")
	}
	s.claim("other")
	if s.release("me").Found {
		s.Error("found what is another's")
	}
	if !s.release("other").Found {
		s.Error("did not find what was there")
	}
	if s.release("other").Found {
		s.Error("found what had been released")
	}
}

func (s *storeTest) read() {
	if op := one(s, s.store.Read, store.Op{}); op.Holder != "" || op.TTL != 0 {
		s.Errorf("there is no key, and its holder is %q, its TTL %v", op.Holder, op.TTL)
	}
	for _, odd := range oddNames() {
		key, owner := s.key+odd, "other"+odd
		one(s, s.store.Claim, store.Op{Key: key, Owner: owner, Validity: long})
		op := one(s, s.store.Read, store.Op{Key: key, Owner: "me"})
		if op.Holder != owner {
			s.Errorf("holder is %q, want %q", op.Holder, owner)
		}
		s.lives(op.TTL, long)
	}
}

func (s *storeTest) watchRead() {
	if !s.watching() {
		return
	}
	other, _ := s.another()
	one(s, s.store.Read, store.Op{}) // of a key that does not exist yet
	one(s, other.Claim, store.Op{Owner: "other", Validity: long})
	s.hears(s.events, s.key, 0)
	for range 3 {
		one(s, s.store.Read, store.Op{})
		before := s.events.about(s.key)
		one(s, other.Extend, store.Op{Owner: "other", Validity: long})
		s.hears(s.events, s.key, before)
	}
	one(s, s.store.Read, store.Op{})
	before := s.events.about(s.key)
	one(s, other.Release, store.Op{Owner: "other"})
	s.hears(s.events, s.key, before)
}

func (s *storeTest) enlist(owner string, waiters int, validity time.Duration) {
	s.Helper()
	one(s, s.store.Enlist, store.Op{Owner: owner, Waiters: int32(waiters), Validity: validity})
}

// wait checks how many wait, as another sees it.
func (s *storeTest) wait(want int) {
	s.Helper()
	other, _ := s.another()
	for _, from := range []store.Store{s.store, other} {
		if n := one(s, from.Waiting, store.Op{}).Waiting; int(n) != want {
			s.Errorf("%d wait, want %d", n, want)
		}
	}
}

func (s *storeTest) listSum() {
	s.wait(0)
	s.enlist("me", 3, long)
	s.enlist("other", 4, long)
	s.enlist("third "+oddNames()[0], 1, long)
	s.wait(8)
	s.enlist("other", 0, long)
	s.wait(4)
}

func (s *storeTest) listReplaced() {
	s.enlist("other", 1, long)
	for _, n := range []int{3, 5, 2, 2} {
		s.enlist("me", n, long)
		s.wait(n + 1)
	}
}

func (s *storeTest) listGone() {
	s.enlist("me", 0, long) // takes back what was never there
	s.exists(false)
	s.enlist("me", 3, long)
	s.enlist("other", 3, long)
	s.enlist("me", 0, long)
	s.exists(true)
	s.enlist("other", 0, 0)
	s.exists(false)
	s.wait(0)
}

func (s *storeTest) exists(want bool) {
	s.Helper()
	if op := one(s, s.store.Look, store.Op{}); (op.Holder != "") != want {
		s.Errorf("there is a list: %v", !want)
	}
}

func (s *storeTest) listExpired() {
	s.enlist("other", 2, long)
	s.enlist("me", 3, 100*time.Millisecond)
	eventually(s.T, "a note runs out", func() bool { return one(s, s.store.Waiting, store.Op{}).Waiting <= 2 })
	time.Sleep(20 * time.Millisecond)
	s.wait(2) // one whose time is over takes nobody else along
	s.enlist("third", 1, long)
	s.wait(3)
	s.enlist("other", 0, long)
	s.enlist("third", 1, 100*time.Millisecond)
	eventually(s.T, "the list runs out", func() bool { return one(s, s.store.Look, store.Op{}).Holder == "" })
	s.wait(0)
}

// scanned collects what a scan finds, in order and each once.
func (s *storeTest) scanned(prefix string) (all []string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.store.Scan(ctx, prefix, func(keys []string) bool {
		all = append(all, keys...)
		return true
	}); err != nil {
		s.Fatalf("Scan: %v", err)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// globs are texts that patterns take for something else.
var globs = []string{"*", "?", "[a-z]", "[^a]", "\\", "\\*", "[", "]", "a]b[c", "x"}

func (s *storeTest) scan() {
	for _, glob := range globs {
		for _, key := range []string{s.key + glob, s.key + glob + ":a", s.key + glob + ":b\n"} {
			one(s, s.store.Claim, store.Op{Key: key, Owner: "me", Validity: long})
		}
	}
	if all := s.scanned(s.key); len(all) != 3*len(globs) {
		s.Errorf("%d keys found, want %d: %q", len(all), 3*len(globs), all)
	}
	for _, glob := range globs {
		if found := s.scanned(s.key + glob + ":"); !slices.Equal(found, []string{s.key + glob + ":a", s.key + glob + ":b\n"}) {
			s.Errorf("%q: found %q", glob, found)
		}
	}
	if found := s.scanned(s.key + "nobody"); len(found) != 0 {
		s.Errorf("found %q", found)
	}
}

func (s *storeTest) scanStopped() {
	for _, key := range s.keys(50) {
		one(s, s.store.Claim, store.Op{Key: key, Owner: "me", Validity: long})
	}
	calls := 0
	err := s.store.Scan(context.Background(), s.key, func(keys []string) bool {
		if len(keys) == 0 {
			s.Error("found nothing, and said so")
		}
		calls++
		s.claim("me") // other requests get through meanwhile
		return false
	})
	if err != nil || calls != 1 {
		s.Errorf("%d calls, error %v", calls, err)
	}
}

func (s *storeTest) scanEnded() {
	s.claim("me")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.store.Scan(ctx, s.key, func([]string) bool { s.Error("found something"); return true }); err == nil {
		s.Error("no error")
	}
}

func (s *storeTest) scanClosed() {
	s.claim("me")
	s.store.Close()
	if err := s.store.Scan(context.Background(), s.key, func([]string) bool { s.Error("found something"); return true }); err == nil {
		s.Error("no error")
	}
}
