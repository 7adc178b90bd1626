package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/faulty"
	"github.com/ctxlock/ctxlock/memlock"
	"github.com/ctxlock/ctxlock/store"
)

// liveness measures for how long nobody held a lock though somebody waited who could have had it.
type liveness struct {
	trips time.Duration // what a handoff may take, which does not count

	mu sync.Mutex
	// Below mu.
	waiting, holding int
	since            time.Time     // when nobody began to hold it while somebody waited, or zero
	idle             time.Duration // for how long that was the case in all
	longest          time.Duration // and at a time
}

// waits is called when somebody begins to wait, with 1, or stops, with -1; holds likewise.
func (l *liveness) waits(n int) { l.change(n, 0) }
func (l *liveness) holds(n int) { l.change(0, n) }

func (l *liveness) change(waiting, holding int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting += waiting
	l.holding += holding
	wanted := l.waiting > 0 && l.holding == 0
	switch {
	case wanted && l.since.IsZero():
		l.since = time.Now()
	case !wanted && !l.since.IsZero():
		gap := time.Since(l.since)
		l.since = time.Time{}
		l.longest = max(l.longest, gap)
		l.idle += max(0, gap-l.trips)
	}
}

// standstill is a history of a queue in which processes are stopped, and how it went.
type standstill struct {
	validity, latency time.Duration
	stopped, live     int
	goOn              bool // those that were stopped go on in the end
	wrap              func(store.Store) store.Store

	server  *memlock.Server
	checker *checker
	liveness
	taken int
}

// most is for how long nobody may have held the lock: one validity, and until a waiter looks.
func (s *standstill) most() time.Duration { return s.validity + 150*time.Millisecond + s.trips }

func drawStandstill(seed uint64) *standstill {
	r := rand.New(rand.NewPCG(seed, 9))
	return &standstill{
		validity: oneOf(r, time.Second, 2*time.Second, 5*time.Second),
		latency:  oneOf(r, 0, time.Millisecond, 10*time.Millisecond),
		stopped:  1 + r.IntN(20),
		live:     1 + r.IntN(4),
		goOn:     r.IntN(2) == 0,
	}
}

const someStandstills = 16

// Waiters that are stopped are handed the lock like others, and do nothing with it. All of them
// together cost one validity, however many there are: see internal/model.
func TestStoppedWaiters(t *testing.T) {
	first, n := uint64(1), uint64(someStandstills)
	if *seed != 0 {
		first, n = *seed, 1
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			s := drawStandstill(seed)
			synctest.Test(t, s.run)
			t.Logf("%d stopped, %d live, validity %v, latency %v: %d locks taken, nobody had it for %v, at most %v at a time",
				s.stopped, s.live, s.validity, s.latency, s.taken, s.idle, s.longest)
			if s.idle > s.most() {
				t.Errorf("nobody held the lock for %v though somebody waited, which is more than %v", s.idle, s.most())
			}
			if len(s.checker.failures) > 0 {
				t.Error(strings.Join(s.checker.failures, "\n"))
			}
		})
	}
}

// The measure would be worth nothing if it found nothing: each of these stores has waiters wait for
// keys to run out again and again.
func TestLivenessFindsIdleStores(t *testing.T) {
	for _, test := range []struct {
		name string
		wrap func(store.Store) store.Store
	}{
		{"forgets to release", func(s store.Store) store.Store { return stingy{s} }},
		{"tells nobody", func(s store.Store) store.Store { return &mute{Store: s} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &standstill{validity: time.Second, stopped: 1, live: 3, wrap: test.wrap}
			synctest.Test(t, s.run)
			if s.idle <= s.most() {
				t.Errorf("nobody held the lock for %v, and that is within %v", s.idle, s.most())
			}
		})
	}
}

// mute keeps all events to itself.
type mute struct{ store.Store }

func (s *mute) Subscribe(func(store.Event)) { s.Store.Subscribe(func(store.Event) {}) }

// open makes a locker, and its link.
func (s *standstill) open(t *testing.T) (ctxlock.Locker, *faulty.Store) {
	connection := store.Store(s.server.Store())
	if s.wrap != nil {
		connection = s.wrap(connection)
	}
	link := faulty.New(connection, faulty.Config{})
	l, err := ctxlock.NewOnStore(link, ctxlock.Options{
		LockerOption: ctxlock.LockerOption{KeyPrefix: "sim", KeyMajority: 1, KeyValidity: s.validity},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l, link
}

func (s *standstill) run(t *testing.T) {
	s.server = memlock.NewServer(memlock.ServerOption{Lanes: 1, Latency: s.latency})
	s.trips = 50*time.Millisecond + 8*s.latency
	p := plan{names: 1, locker: ctxlock.LockerOption{KeyMajority: 1, KeyValidity: s.validity}}
	s.checker = newChecker(p, s.server, &trace{start: time.Now()})
	first, _ := s.open(t)
	held, release, err := first.WithContext(t.Context(), nameOf(0))
	if err != nil {
		t.Fatal(err)
	}
	s.checker.begin("first", nameOf(0), held)
	s.holds(1)

	ctx, end := context.WithCancel(t.Context())
	var work sync.WaitGroup
	links := s.stop(t, ctx, &work)
	over, stop := context.WithTimeout(ctx, 4*s.validity) // room for three that cost one each
	defer stop()
	for i := range s.live {
		l, _ := s.open(t)
		work.Go(func() { s.takeTurns(over, l, fmt.Sprintf("live%d", i)) })
	}
	time.Sleep(s.validity / 4)
	s.holds(-1)
	release()
	<-over.Done()
	if s.goOn {
		for _, link := range links {
			link.Stall(false)
		}
		time.Sleep(s.validity)
	}
	end()
	work.Wait()
}

// stop has processes wait, and stops them.
func (s *standstill) stop(t *testing.T, ctx context.Context, work *sync.WaitGroup) (links []*faulty.Store) {
	for i := range s.stopped {
		l, link := s.open(t)
		links = append(links, link)
		work.Go(func() {
			held, cancel, err := l.WithContext(ctx, nameOf(0))
			if err == nil {
				s.checker.begin(fmt.Sprintf("stopped%d", i), nameOf(0), held)
			}
			cancel()
		})
		time.Sleep(20*time.Millisecond + 4*s.latency)
	}
	for _, link := range links {
		link.Stall(true)
	}
	return links
}

// takeTurns takes the lock again and again.
func (s *standstill) takeTurns(ctx context.Context, l ctxlock.Locker, who string) {
	for ctx.Err() == nil {
		s.waits(1)
		held, cancel, err := l.WithContext(ctx, nameOf(0))
		if err == nil {
			s.holds(1)
		}
		s.waits(-1)
		if err != nil {
			cancel()
			return
		}
		s.checker.begin(who, nameOf(0), held)
		s.mu.Lock()
		s.taken++
		s.mu.Unlock()
		time.Sleep(15 * time.Millisecond)
		s.holds(-1)
		cancel()
	}
}
