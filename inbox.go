package ctxlock

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// inbox is where a store hears of what happens in the queues that its locker stands in, and of those who wait for what it holds. Words
// come as messages, by publish and subscribe, on the connection that everything else takes. In a cluster a message would go to
// every node, and some users may not publish; there, each waiter has a key in the queue's slot, which is touched to tell it, and
// which it hears of by tracking. It then has to look what happened, so that takes a round trip more.
type inbox struct {
	prefix   string // of keys
	channels string // what the channels of all inboxes begin with; empty in a cluster
	id       string // ends this one's
	messages atomic.Bool
	refused  atomic.Bool   // it may not subscribe, or not publish
	used     atomic.Bool   // there may be entries in queues by now
	turned   atomic.Bool   // messages has changed since
	heard    chan struct{} // of one: a word from itself, to itself, came
}

const (
	// channelMark stands between KeyPrefix and the locker's name in its channel: prefix:m:locker.
	channelMark = ":m:"
	// selfWord is what a store sends to its own inbox to see that words arrive.
	selfWord = "self"
	// leastResubscribe is the shortest pause before the inbox is subscribed to again: a server that ends each
	// subscription at once is asked a hundred times a second, and a waiter is deaf for no longer than that.
	leastResubscribe = 10 * time.Millisecond
)

// OpenQueue finds out whether there can be queues, and how waiters can be told. What has no answer in time is found
// out in the background.
func (s *valkeyStore) OpenQueue(id string, denied func(error)) {
	s.fallback.tell = denied
	s.inbox.id = strings.TrimSuffix(strings.TrimPrefix(id, ownerMark), "/") // what the scripts make of an owner value
	if !s.cluster {
		s.inbox.channels = s.inbox.prefix + channelMark
	}
	s.inbox.heard = make(chan struct{}, 1)
	opened := make(chan struct{})
	s.topology.work.Go(func() {
		select {
		case <-s.found:
		case <-s.tracker.life.Done():
			return
		}
		if reason := s.untracked.Load(); reason != nil {
			s.deny(*reason)
		} else {
			s.openQueue()
		}
		close(opened)
	})
	if !s.await(opened, probeTime) && s.tracker.life.Err() == nil {
		s.fallBack(s.noAnswer())
	}
}

// openQueue opens the inbox, unless this is a cluster, and returns when it is known whether there are queues, or the store
// is closed.
func (s *valkeyStore) openQueue() {
	if !s.cluster {
		s.await(s.openInbox(), probeTime/2) // there are queues without messages, too
	}
	s.inbox.used.Store(true)
	select {
	case <-s.find(s.findQueues):
	case <-s.tracker.life.Done():
	}
}

// openInbox subscribes to the store's own channel, and does without if that is not allowed. The channel is closed when that
// is known.
func (s *valkeyStore) openInbox() (known <-chan struct{}) {
	first := make(chan struct{}) // closed when it has subscribed, or may not
	var once sync.Once
	s.topology.work.Go(func() {
		s.listen(func(err error) {
			if err != nil {
				s.inbox.refused.Store(true)
				s.inbox.turn(false)
			}
			// Messages may have been lost while it was not subscribed; or none come any more.
			s.tracker.send(store.Event{All: true})
			once.Do(func() { close(first) })
		})
	})
	return s.find(func(ctx context.Context) error {
		select {
		case <-first:
			return s.hearMessages(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// hearMessages finds out whether a message to the inbox arrives there.
func (s *valkeyStore) hearMessages(ctx context.Context) error {
	if s.inbox.refused.Load() {
		return nil
	}
	b := s.client.B()
	publish := b.Publish().Channel(s.inbox.channels + s.inbox.id).Message(selfWord).Build()
	if err := s.client.Do(ctx, publish).Error(); err != nil {
		s.inbox.refused.Store(isAnswer(err))
		return err
	}
	if !within(hearingTime, s.inbox.heard) {
		return errUnheard
	}
	if s.inbox.turn(true) {
		s.tracker.send(store.Event{All: true}) // those who stand in queues are to stand there by messages
	}
	return nil
}

// errUnheard is for a message that was sent to the inbox and did not arrive: the subscription may just have been lost.
var errUnheard = errors.New("a message to the own channel did not arrive")

// turn has waiters told by messages from now on, or by touch. It tells whether some may stand in queues who are told in the
// other way.
func (b *inbox) turn(messages bool) bool {
	turns := b.used.Load() && b.messages.Load() != messages
	if turns {
		b.turned.Store(true) // before the first entry of the new kind
	}
	b.messages.Store(messages)
	return turns
}

// listen receives what comes to the inbox until the store is closed, or it turns out not to be allowed. It calls subscribed each time that it
// has subscribed, and with the error if it may not.
//
// A subscription that was confirmed and then lost is asked for again at once: while there is none, this Locker's
// waiters cannot be told. The back-off grows only while none is confirmed, and ends early when a command has
// connected.
func (s *valkeyStore) listen(subscribed func(error)) {
	pause := backoff{first: leastResubscribe, most: mostReconnect}
	var confirmed atomic.Bool
	ctx := valkey.WithOnSubscriptionHook(s.tracker.life, func(what valkey.PubSubSubscription) {
		if what.Kind == "subscribe" {
			confirmed.Store(true)
			subscribed(nil)
		}
	})
	for {
		err := s.client.Receive(ctx, s.client.B().Subscribe().Channel(s.inbox.channels+s.inbox.id).Build(), func(m valkey.PubSubMessage) {
			s.inbox.receive(m.Message, s.tracker.send)
		})
		if _, refused := valkey.IsValkeyErr(err); refused && !mendable(err.Error()) {
			subscribed(err)
			return
		}
		if confirmed.Swap(false) {
			pause.reset()
		}
		if !s.tracker.pause(pause.next()) {
			return
		}
	}
}

// rehearse runs the scripts on keys that nobody uses, so that the server knows them before they matter, and what it does not allow is found
// out: one holds, another waits and leaves, and the first lets go.
func (s *valkeyStore) rehearse(ctx context.Context) error {
	key := keyOf(s.inbox.prefix, 0, s.inbox.id) // the same each time: what a rehearsal without an answer left, the next clears
	ask := func(owner string) []store.Op {
		return []store.Op{{Key: key, Owner: owner, Validity: probeTime, Queue: queueKeyOf(s.inbox.prefix, key[len(s.inbox.prefix)+len(":0:"):]), Epoch: 1}}
	}
	life := s.lifetime(probeTime)
	holder, waiter := ask("a"), ask("b")
	for _, ops := range [][]store.Op{holder, waiter} {
		said, _ := s.joinOnce(ctx, ops, life, joining{whole: true})
		said.command = evalsha
		_, refused := said.join(ops)
		if err := errors.Join(refused, ops[0].Err); err != nil {
			return err
		}
	}
	batch, b, queue := newBatch(), s.client.B(), holder[0].Queue
	batch.add(s.pass(waiter, true), s.pass(holder, true))
	// What the scripts can do without, when it matters; but not for long.
	batch.add(b.Zrem().Key(queue).Member("x").Build(), b.Zrange().Key(queue).Min("0").Max("0").Build(),
		b.Zrank().Key(queue).Member("x").Build(), b.Zpopmin().Key(queue).Build())
	for _, result := range s.lane(key).do(ctx, key, batch) {
		if err := result.Error(); err != nil && !valkey.IsValkeyNil(err) {
			return err
		}
	}
	return nil
}

// receive takes a word. Words come from whoever may publish, so anything may be in them: what makes no sense is dropped.
func (b *inbox) receive(word string, send func(store.Event)) {
	kind, rest, _ := strings.Cut(word, " ")
	switch kind {
	case "pass":
		if event, ok := parsePassed(rest); ok {
			send(event)
		}
	case "look", "call":
		what := store.Look
		if kind == "call" {
			what = store.Called
		}
		after, key, _ := strings.Cut(rest, " ")
		ms, err := strconv.ParseInt(after, 10, 64)
		if err == nil && ms >= 0 && ms <= mostYield.Milliseconds() {
			send(store.Event{Key: key, Word: what, After: time.Duration(ms) * time.Millisecond})
		}
	case "wait":
		send(store.Event{Key: rest, Word: store.Awaited})
	case selfWord:
		select {
		case b.heard <- struct{}{}:
		default:
		}
	}
}

// parsePassed reads "epoch keys token passes remaining alone length key", and the owner value, which follows the key without a space.
func parsePassed(text string) (event store.Event, ok bool) {
	var numbers [7]int64
	for i := range numbers {
		field, rest, found := strings.Cut(text, " ")
		n, err := strconv.ParseInt(field, 10, 64)
		if !found || err != nil || n < 0 {
			return event, false
		}
		numbers[i], text = n, rest
	}
	if numbers[6] >= int64(len(text)) || numbers[0] > math.MaxInt32 || numbers[1] > mostMajority*2 || numbers[3] > mostPasses || max(numbers[4], numbers[5]) > longAlone.Microseconds() {
		return event, false
	}
	return store.Event{Key: text[:numbers[6]], Word: store.PassedOn, Passed: &store.Passed{
		Owner:  text[numbers[6]:],
		Epoch:  int32(numbers[0]),
		Keys:   int(numbers[1]),
		Token:  numbers[2],
		Passes: int32(numbers[3]),

		Remaining: time.Duration(numbers[4]) * time.Microsecond,
		Alone:     time.Duration(numbers[5]) * time.Microsecond,
	}}, true
}
