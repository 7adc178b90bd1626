package conformance

import (
	"fmt"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// stander is one who stands in the queue for the test's key, through a connection of its own.
type stander struct {
	s      *storeTest
	store  store.Store
	events *events
	owner  string
	keys   int
}

// queue is the key of the queue beside the test's key.
func (s *storeTest) queue() string { return s.key + ":queue" }

// standers makes so many, for a lock of so many keys. ok is false if the store keeps no queues for it, and there is nothing to test.
func (s *storeTest) standers(n, keys int) (all []*stander, ok bool) {
	for i := range n {
		connection, heard := s.another()
		id := unique(fmt.Sprintf("ctxlock/%d", i)) + ".1/"
		connection.OpenQueue(id, func(err error) { s.Errorf("no queue: %v", err) })
		all = append(all, &stander{s, connection, heard, id + "+1", keys})
	}
	return all, all[0].store.Queues() >= keys
}

// ops are for all the keys.
func (w *stander) ops(epoch, settled int32) (ops []store.Op) {
	for i := range w.keys {
		ops = append(ops, store.Op{
			Key: fmt.Sprint(w.s.key, i), Owner: w.owner, Validity: long, Queue: w.s.queue(), Epoch: epoch, Settled: settled, Timed: true,
		})
	}
	return ops
}

// claims sends a claim from the queue, which must be answered.
func (w *stander) claims(epoch, settled int32) store.Op {
	w.s.Helper()
	ops := w.ops(epoch, settled)
	send(w.s, w.store.Claim, ops)
	if ops[0].Err != nil {
		w.s.Fatal(ops[0].Err)
	}
	return ops[0]
}

// stands claims for the first time, in vain.
func (w *stander) stands() {
	w.s.Helper()
	if op := w.claims(1, 0); op.Mine() || !op.Queued {
		w.s.Fatalf("the claim is answered by %+v", op.Answer)
	}
}

// takes claims a lock that is free.
func (w *stander) takes() {
	w.s.Helper()
	if op := w.claims(1, 0); !op.Mine() {
		w.s.Fatalf("the claim is answered by %+v", op.Answer)
	}
}

// releases gives the keys back, changed in some way, and tells whether they were there.
func (w *stander) releases(change func(*store.Op)) bool {
	w.s.Helper()
	ops := w.ops(0, 0)
	for i := range ops {
		change(&ops[i])
	}
	send(w.s, w.store.Release, ops)
	if ops[0].Err != nil {
		w.s.Fatal(ops[0].Err)
	}
	return ops[0].Found
}

func unchanged(*store.Op) {}

// word waits for a word of that kind.
func (w *stander) word(word store.Word) (event store.Event) {
	w.s.Helper()
	eventually(w.s.T, fmt.Sprintf("%s hears word %d", w.owner, word), func() bool {
		w.events.mu.Lock()
		defer w.events.mu.Unlock()
		for _, heard := range w.events.heard {
			if heard.Word == word {
				event = heard
				return true
			}
		}
		return false
	})
	return event
}

// had waits until the lock is passed on to it.
func (w *stander) had() *store.Passed {
	w.s.Helper()
	passed := w.word(store.PassedOn).Passed
	if passed.Owner != w.owner || passed.Keys != w.keys {
		w.s.Fatalf("%s hears that %+v was passed on", w.owner, passed)
	}
	return passed
}

// nothingQueued checks that the keys are free and the queue is gone.
func (w *stander) nothingQueued() {
	w.s.Helper()
	for _, key := range []string{fmt.Sprint(w.s.key, 0), w.s.queue()} {
		if op := one(w.s, w.store.Look, store.Op{Key: key}); op.Holder != "" {
			w.s.Errorf("%s is still there", key)
		}
	}
}

func (s *storeTest) queueOrder() {
	for _, keys := range []int{1, 3} {
		s.key = unique("conformance:0:")
		all, ok := s.standers(5, keys)
		if !ok {
			continue
		}
		all[0].takes()
		for _, w := range all[1:] {
			w.stands()
		}
		for i, w := range all[1:] {
			if !all[i].releases(unchanged) {
				s.Errorf("the release of number %d found nothing", i)
			}
			if passed := w.had(); passed.Epoch != 1 {
				s.Errorf("epoch %d", passed.Epoch)
			}
			if op := one(s, w.store.Read, store.Op{Key: fmt.Sprint(s.key, keys-1), Owner: w.owner}); !op.Mine() {
				s.Errorf("the key is %q's", op.Holder)
			} else {
				s.lives(op.TTL, long)
			}
		}
		all[4].releases(unchanged)
		all[4].nothingQueued()
	}
}

func (s *storeTest) queueAgain() {
	all, ok := s.standers(3, 1)
	if !ok {
		return
	}
	all[0].takes()
	all[1].stands()
	all[2].stands()
	if op := all[1].claims(2, 1); !op.Queued || op.TTL <= 0 || op.TTL > long+time.Second {
		s.Errorf("claiming again is answered by %+v", op.Answer)
	}
	all[0].releases(unchanged)
	if passed := all[1].had(); passed.Epoch != 2 {
		s.Errorf("epoch %d, and the last claim was the second", passed.Epoch)
	}
	if op := all[1].claims(3, 2); !op.Mine() || op.Queued { // as who did not hear of it would
		s.Errorf("claiming what is one's own is answered by %+v", op.Answer)
	}
	all[1].releases(unchanged)
	all[2].had()
	all[2].releases(unchanged)
	all[2].nothingQueued()
}

func (s *storeTest) queueLeave() {
	all, ok := s.standers(3, 1)
	if !ok {
		return
	}
	all[0].takes()
	all[1].stands()
	all[2].stands()
	if all[1].releases(func(op *store.Op) { op.Epoch = 1 }) {
		s.Error("leaving the queue has found a key of its own")
	}
	all[0].releases(unchanged)
	all[2].had()
	if all[0].releases(unchanged) {
		s.Error("a second release has found something")
	}
	all[2].releases(unchanged)
	all[2].nothingQueued()
}

func (s *storeTest) queueReturn() {
	all, ok := s.standers(5, 1)
	if !ok {
		return
	}
	all[0].takes()
	var ranks []int64
	for _, w := range all[1:] {
		op := w.claims(1, 0)
		if ranks = append(ranks, op.Rank); op.Rank <= 0 || len(ranks) > 1 && op.Rank <= ranks[len(ranks)-2] {
			s.Fatalf("ranks %v", ranks)
		}
	}
	for _, w := range all[2:4] {
		w.releases(func(op *store.Op) { op.Epoch = 1 })
	}
	for _, i := range []int{3, 2} {
		ops := all[i].ops(2, 1)
		ops[0].Return = ranks[i-1]
		send(s, all[i].store.Claim, ops)
		if !ops[0].Queued || ops[0].Rank != ranks[i-1] {
			s.Errorf("number %d comes back to %d, and is answered %+v", i, ranks[i-1], ops[0].Answer)
		}
	}
	for i, w := range all[1:] {
		all[i].releases(unchanged)
		w.had()
	}
	all[4].releases(unchanged)
	all[4].nothingQueued()
}

func (s *storeTest) queueRollCall() {
	all, ok := s.standers(4, 1)
	if !ok {
		return
	}
	key := fmt.Sprint(s.key, 0)
	one(s, s.store.Claim, store.Op{Key: key, Owner: "ctxlock/x.1/+1", Validity: long})
	for _, w := range all[:3] {
		w.stands()
	}
	claim := func(w *stander, epoch int32, call time.Duration) store.Op {
		ops := w.ops(epoch, epoch-1)
		ops[0].Call = call
		send(s, w.store.Claim, ops)
		return ops[0]
	}
	standing := func(w *stander) bool {
		ops := w.ops(1, 0)
		send(s, w.store.Read, ops)
		return ops[0].Queued
	}
	if !standing(all[0]) || standing(all[3]) {
		s.Error("it is not told who stands in the queue")
	}
	one(s, s.store.Release, store.Op{Key: key, Owner: "ctxlock/x.1/+1"}) // as good as run out
	if op := claim(all[3], 1, long); !op.Mine() {
		s.Fatalf("the claim is answered by %+v", op.Answer)
	}
	for i, w := range all[:3] {
		w.word(store.Called)
		if standing(w) {
			s.Errorf("number %d still stands in the queue", i)
		}
	}
	if op := claim(all[2], 2, 0); !op.Queued {
		s.Errorf("who claims again is answered by %+v", op.Answer)
	}
	all[3].releases(unchanged)
	if passed := all[2].had(); passed.Epoch != 2 {
		s.Errorf("epoch %d", passed.Epoch)
	}
	all[2].releases(unchanged)
	all[2].nothingQueued()
}

func (s *storeTest) queueGone() {
	all, ok := s.standers(3, 1)
	if !ok {
		return
	}
	all[0].takes()
	all[1].stands()
	all[2].stands()
	all[1].store.Close()
	eventually(s.T, "the release passes over one who is gone", func() bool {
		op := one(s, all[2].store.Read, store.Op{Key: fmt.Sprint(s.key, 0), Owner: all[2].owner})
		return op.Mine() || !all[0].releases(unchanged)
	})
	if op := all[2].claims(2, 1); !op.Mine() {
		s.Errorf("the lock is %q's", op.Holder)
	}
}

func (s *storeTest) queueFree() {
	all, ok := s.standers(3, 1)
	if !ok {
		return
	}
	all[0].takes()
	all[1].stands()
	start := time.Now()
	all[0].releases(func(op *store.Op) { op.Free, op.Yield = true, 100*time.Millisecond })
	if event := all[1].word(store.Look); event.After != 100*time.Millisecond {
		s.Errorf("told to look after %v", event.After)
	}
	switch op := all[2].claims(1, 0); {
	case time.Since(start) >= 100*time.Millisecond: // its answer has taken too long
		all[2].releases(func(op *store.Op) { op.Epoch = 1 })
	case op.Mine() || !op.Queued:
		s.Errorf("who stands in the queue is to leave it to others, and was answered %+v", op.Answer)
	default:
		key := fmt.Sprint(s.key, 0)
		s.heldBy(one(s, s.store.Claim, store.Op{Key: key, Owner: "other", Validity: long}), "other")
		one(s, s.store.Release, store.Op{Key: key, Owner: "other"})
	}
	eventually(s.T, "they take it after that", func() bool {
		op := all[1].claims(2, 1)
		return op.Mine()
	})
}

func (s *storeTest) queueToken() {
	all, ok := s.standers(2, 1)
	if !ok {
		return
	}
	counter := s.key + ":counter"
	fenced := func(op *store.Op) { op.Counter, op.Fenced = counter, true }
	claim := func(w *stander) store.Op {
		ops := w.ops(1, 0)
		fenced(&ops[0])
		send(s, w.store.Claim, ops)
		return ops[0]
	}
	first := claim(all[0])
	if second := claim(all[1]); !first.Mine() || first.Token <= 0 || second.Mine() || second.Token != 0 {
		s.Fatalf("the claims are answered by %+v and %+v", first.Answer, second.Answer)
	}
	all[0].releases(fenced)
	if passed := all[1].had(); passed.Token <= first.Token {
		s.Errorf("token %d after %d", passed.Token, first.Token)
	}
}
