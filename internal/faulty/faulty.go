// Package faulty makes a store as unreliable as a network can: requests and replies are lost, late, doubled and out of order, and
// events are missing, late, doubled and forged. What it does is drawn from a seed.
package faulty

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// What requests fail with. Those that are lost fail with the error of their context.
var (
	ErrRefused = errors.New("faulty: connection refused")
	ErrCut     = errors.New("faulty: connection cut")
	ErrClosed  = errors.New("faulty: store closed")
)

// Config says how often what goes wrong. All but Seed and MaxDelay are probabilities, from 0 to 1; the zero value is a
// store without faults.
type Config struct {
	// Seed decides everything that is drawn. Which request gets which draw depends on their order, and so on the scheduler
	// where several are under way.
	Seed uint64

	// Refuse: not sent, and the caller is told so at once.
	Refuse float64
	// LoseRequest: never carried out, and the caller hears nothing until its context ends.
	LoseRequest float64
	// CutRequest: never carried out, and the caller is told at once that nobody knows.
	CutRequest float64
	// LoseReply: carried out, and the caller hears nothing until its context ends.
	LoseReply float64
	// CutReply: carried out, and the caller is told at once that nobody knows.
	CutReply float64
	// DelayRequest: carried out late, whether anybody still waits for it or not. This is what reorders requests.
	DelayRequest float64
	// DelayReply: carried out at once and answered late.
	DelayReply float64
	// Double: carried out again later, unknown to the caller.
	Double float64
	// Split: a batch breaks in two, each half with a fate of its own.
	Split float64

	// LoseEvent, DelayEvent and DoubleEvent are about each event, ForgeEvent about each request: an event comes of nothing, for
	// some key that was used before, for one that nobody knows, or for all.
	LoseEvent, DelayEvent, DoubleEvent, ForgeEvent float64

	// MaxDelay is the longest that anything is delayed.
	MaxDelay time.Duration
}

// Store is a store with faults. It is a store.Store.
type Store struct {
	inner store.Store

	// life ends with Close, and with it all that the store has under way, which work counts.
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup

	subscriber func(store.Event) // set before any request

	mu sync.Mutex
	// Below mu.
	config Config
	random *rand.Rand
	// stalls has a channel for each lane whose link is stopped, which is closed when it goes on.
	stalls map[int]chan struct{}
	closed bool
	// known are the keys that were used last, for forged events.
	known [16]string
	used  int
}

// New wraps inner, which it owns from now on.
func New(inner store.Store, config Config) *Store {
	s := &Store{
		inner:  inner,
		config: config,
		random: rand.New(rand.NewPCG(config.Seed, 0x6661756c7479)),
		stalls: make(map[int]chan struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Set has other faults from now on; what Seed says is not used. What is late already is still late, and a stalled link stays stalled.
func (s *Store) Set(config Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = config
}

// Heal ends all faults, as Set does.
func (s *Store) Heal() { s.Set(Config{}) }

// Crash cuts the link for ever: from now on nothing passes, in either direction. What is late already still comes.
func (s *Store) Crash() { s.Set(Config{LoseRequest: 1, LoseEvent: 1}) }

// everyLane stands for all lanes.
const everyLane = -1

// Stall stops the link, or lets it go on. While it is stopped, requests are not carried out, replies and events do not
// arrive, and nobody is told. All of that happens when it goes on, whether somebody still waits for it or not.
func (s *Store) Stall(on bool) { s.StallLane(everyLane, on) }

// StallLane is Stall for one lane, as when one of several nodes cannot be reached.
func (s *Store) StallLane(lane int, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stall, stalled := s.stalls[lane]
	switch {
	case on && !stalled:
		s.stalls[lane] = make(chan struct{})
	case !on && stalled:
		close(stall)
		delete(s.stalls, lane)
	}
}

// stall returns what to wait for before anything passes on a lane; nil if nothing. Under mu.
func (s *Store) stall(lane int) chan struct{} {
	if stall := s.stalls[lane]; stall != nil {
		return stall
	}
	return s.stalls[everyLane]
}

func (s *Store) Lane(key string) int { return s.inner.Lane(key) }
func (s *Store) Watches() bool       { return s.inner.Watches() }
func (s *Store) Echoes() bool        { return s.inner.Echoes() }

func (s *Store) Claim(ctx context.Context, ops []store.Op)  { s.request(ctx, ops, store.Store.Claim) }
func (s *Store) Extend(ctx context.Context, ops []store.Op) { s.request(ctx, ops, store.Store.Extend) }
func (s *Store) Release(ctx context.Context, ops []store.Op) {
	s.request(ctx, ops, store.Store.Release)
}
func (s *Store) Read(ctx context.Context, ops []store.Op)   { s.request(ctx, ops, store.Store.Read) }
func (s *Store) Look(ctx context.Context, ops []store.Op)   { s.request(ctx, ops, store.Store.Look) }
func (s *Store) Enlist(ctx context.Context, ops []store.Op) { s.request(ctx, ops, store.Store.Enlist) }
func (s *Store) Waiting(ctx context.Context, ops []store.Op) {
	s.request(ctx, ops, store.Store.Waiting)
}

func (s *Store) OpenQueue(id string, denied func(error)) { s.inner.OpenQueue(id, denied) }
func (s *Store) Queues() int                             { return s.inner.Queues() }

// Scan passes, or is refused.
func (s *Store) Scan(ctx context.Context, prefix string, found func(keys []string) bool) error {
	if s.fate(everyLane).refused {
		return ErrRefused
	}
	return s.inner.Scan(ctx, prefix, found)
}

// Subscribe passes on what the faults leave of the events.
func (s *Store) Subscribe(subscriber func(store.Event)) {
	s.subscriber = subscriber
	s.inner.Subscribe(s.hear)
}

// Close drops all that is under way.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.work.Wait()
	s.inner.Close()
}

// command is a method of store.Store.
type command func(store.Store, context.Context, []store.Op)

// request lets a batch meet its fate.
func (s *Store) request(ctx context.Context, ops []store.Op, do command) {
	if len(ops) == 0 {
		return
	}
	s.learn(ops)
	if len(ops) > 1 && ops[0].Queue == "" && s.splits() { // the keys of one lock in a queue are one request
		s.split(ctx, ops, do)
		return
	}
	f := s.fate(s.Lane(ops[0].Key))
	s.forge(f)
	switch {
	case ctx.Err() != nil:
		fail(ops, ctx.Err(), false)
	case f.refused:
		fail(ops, ErrRefused, false)
	case f.clean():
		do(s.inner, ctx, ops)
	case f.lost && !f.cut && f.again == 0:
		s.hang(ctx, ops)
	default:
		s.send(ctx, ops, f, do)
	}
}

// hang waits for an answer that will not come.
func (s *Store) hang(ctx context.Context, ops []store.Op) {
	select {
	case <-ctx.Done():
		fail(ops, ctx.Err(), true)
	case <-s.life.Done():
		fail(ops, ErrClosed, true)
	}
}

// split sends each half of a batch on its own and waits for both.
func (s *Store) split(ctx context.Context, ops []store.Op, do command) {
	var halves sync.WaitGroup
	half := len(ops) / 2
	halves.Go(func() { s.request(ctx, ops[:half], do) })
	s.request(ctx, ops[half:], do)
	halves.Wait()
}

// reply is what comes back of a request, if anything does.
type reply struct {
	ops []store.Op
	err error
}

// send has a copy of the ops carried out on a goroutine of its own, which may outlive the caller's patience.
func (s *Store) send(ctx context.Context, ops []store.Op, f fate, do command) {
	replies := make(chan reply, 1)
	sent := slices.Clone(ops)
	if !s.spawn(func() { s.carry(sent, f, do, replies) }) {
		fail(ops, ErrClosed, false)
		return
	}
	select {
	case r := <-replies:
		if r.err != nil {
			fail(ops, r.err, true)
			return
		}
		for i := range ops {
			answer(&ops[i], r.ops[i])
		}
	case <-ctx.Done():
		fail(ops, ctx.Err(), true)
	case <-s.life.Done():
		fail(ops, ErrClosed, true)
	}
}

// carry is the way of a request to the server and of its reply back.
func (s *Store) carry(ops []store.Op, f fate, do command, replies chan<- reply) {
	double := slices.Clone(ops)
	if !s.pass(f.lane, f.before) {
		return
	}
	if !f.lost {
		do(s.inner, s.life, ops)
	}
	if f.cut {
		replies <- reply{err: ErrCut}
	} else if !f.lost && !f.mute && s.pass(f.lane, f.after) {
		replies <- reply{ops: ops}
	}
	if f.again > 0 && s.pass(f.lane, f.again) {
		do(s.inner, s.life, double)
	}
}

// pass takes as long as the delay, and then as the lane is stalled. It reports false when the store was closed meanwhile.
func (s *Store) pass(lane int, delay time.Duration) bool {
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.life.Done():
			return false
		}
	}
	for {
		s.mu.Lock()
		stall := s.stall(lane)
		s.mu.Unlock()
		if stall == nil {
			return s.life.Err() == nil
		}
		select {
		case <-stall:
		case <-s.life.Done():
			return false
		}
	}
}

// hear gets the events of the inner store.
func (s *Store) hear(event store.Event) {
	f := s.eventFate()
	if f.lost {
		return
	}
	s.deliver(event, f.before)
	if f.again > 0 {
		s.deliver(event, f.again)
	}
}

// deliver passes one event on, at once if it can. An event about everything is of every lane.
func (s *Store) deliver(event store.Event, delay time.Duration) {
	lane := everyLane
	if !event.All {
		lane = s.Lane(event.Key)
	}
	if delay == 0 && !s.isStalled(lane) {
		s.subscriber(event)
		return
	}
	s.spawn(func() {
		if s.pass(lane, delay) {
			s.subscriber(event)
		}
	})
}

func (s *Store) isStalled(lane int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stall(lane) != nil
}

// spawn runs f on a goroutine that Close waits for. It reports false, and runs nothing, once the store is closed.
func (s *Store) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Go(f)
	return true
}

// answer copies the store's half of an Op and leaves the engine's half alone.
func answer(op *store.Op, from store.Op) { op.Answer = from.Answer }

func fail(ops []store.Op, err error, unknown bool) {
	for i := range ops {
		ops[i].Answer = store.Answer{Err: err, Unknown: unknown}
	}
}
