package sim

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock/internal/faulty"
	"github.com/ctxlock/ctxlock/internal/jitter"
	"github.com/ctxlock/ctxlock/store"
)

var (
	seed    = flag.Uint64("seed", 0, "run the history of this seed only")
	seconds = flag.Int("seconds", 0, "run as many histories as fit into so many seconds, from -seed on, or a random one")
)

// How many histories there are without a flag. They take a tenth of a second each, and five times that with the race detector.
const (
	someHistories  = 60
	shortHistories = 10
)

func TestHistory(t *testing.T) {
	switch {
	case *seconds != 0:
		first := *seed
		if first == 0 {
			first = rand.Uint64N(1 << 40)
		}
		testSeedsUntil(t, first, time.Now().Add(time.Duration(*seconds)*time.Second))
	case *seed != 0:
		jitter.Seed(*seed)
		defer jitter.Seed(0)
		testSeed(t, *seed)
	case testing.Short():
		testSeeds(t, 1, shortHistories)
	default:
		testSeeds(t, 1, someHistories)
	}
}

func testSeedsUntil(t *testing.T, first uint64, end time.Time) {
	for seed := first; time.Now().Before(end) && !t.Failed(); seed += shortHistories {
		t.Run(fmt.Sprintf("from %d on", seed), func(t *testing.T) { testSeeds(t, seed, shortHistories) })
	}
}

// testSeeds runs histories side by side.
func testSeeds(t *testing.T, first, n uint64) {
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			testSeed(t, seed)
		})
	}
}

func testSeed(t *testing.T, seed uint64) {
	testPlan(t, drawPlan(seed), "TestHistory")
}

func testPlan(t *testing.T, p plan, test string) {
	start := time.Now()
	c := runInBubble(t, p, nil)
	t.Logf("%v\n%d locks taken in %v, which took %v", p, c.acquired, c.lasted.Round(time.Second), time.Since(start).Round(time.Millisecond))
	if len(c.failures) > 0 {
		t.Errorf("%s\nTo repeat this:\n\tgo test ./internal/sim -run %s -seed=%d -v", strings.Join(c.failures, "\n"), test, p.seed)
	}
}

func runInBubble(t *testing.T, p plan, wrap func(store.Store) store.Store) (c *checker) {
	synctest.Test(t, func(t *testing.T) { c = run(t, p, wrap) })
	return c
}

// The checker would be worth nothing if it found nothing. Each of these stores breaks the contract in one way that costs
// exclusion, and the checker must find that out.
func TestCheckerFindsUnsafeStores(t *testing.T) {
	for _, test := range []struct {
		name string
		wrap func(store.Store) store.Store
		want string
	}{
		{"claims for everybody", func(s store.Store) store.Store { return generous{s} }, "both hold"},
		{"extends what is not there", func(s store.Store) store.Store { return forgetful{s} }, "nobody has a majority"},
		{"releases whoever asks", func(s store.Store) store.Store { return careless{s} }, "both hold"},
		{"forgets to release", func(s store.Store) store.Store { return stingy{s} }, "keys are left"},
		{"forgets tokens", func(s store.Store) store.Store { return new(amnesiac).on(s) }, "with the token"},
		{"gives tokens twice", func(s store.Store) store.Store { return repetitive{s} }, "with the token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := unsafePlan()
			p.fenced = strings.Contains(test.name, "tokens") // a token is written back, which finds out some of the others
			c := runInBubble(t, p, test.wrap)
			if found := strings.Join(c.failures, "\n"); !strings.Contains(found, test.want) {
				t.Errorf("the checker did not find %q, but: %q", test.want, found)
			}
		})
	}
}

// unsafePlan is a plain history, in which nothing but the store can be at fault.
func unsafePlan() plan {
	p := drawPlan(1)
	p.length = time.Minute
	p.processes, p.workers, p.names = 3, 2, 1
	p.locker.KeyMajority = 2
	p.locker.KeyValidity, p.locker.ExtendInterval = 2*time.Second, 0
	p.server.Latency = 0
	p.troubles, p.lawless, p.fenced, p.varied = 0, false, false, false
	p.faults = faulty.Config{}
	return p
}

// generous says that a key is whose it is claimed for.
type generous struct{ store.Store }

func (s generous) Claim(ctx context.Context, ops []store.Op) {
	s.Store.Claim(ctx, ops)
	for i := range ops {
		if ops[i].Err == nil {
			ops[i].Holder, ops[i].TTL = ops[i].Owner, ops[i].Validity
		}
	}
}

// forgetful says that keys are extended, and does not extend them.
type forgetful struct{ store.Store }

func (s forgetful) Extend(_ context.Context, ops []store.Op) {
	for i := range ops {
		ops[i].Holder, ops[i].TTL = ops[i].Owner, ops[i].Validity
	}
}

// careless releases what is another's: it asks who has the key and releases it for him.
type careless struct{ store.Store }

func (s careless) Claim(ctx context.Context, ops []store.Op) {
	s.Store.Claim(ctx, ops)
	for _, op := range ops {
		if op.Err == nil && op.Holder != op.Owner {
			s.Store.Release(ctx, []store.Op{{Key: op.Key, Owner: op.Holder}})
		}
	}
}

// stingy says that keys are released, and does not release them.
type stingy struct{ store.Store }

func (s stingy) Release(_ context.Context, ops []store.Op) {
	for i := range ops {
		ops[i].Holder, ops[i].Err = "", nil
	}
}

// amnesiac counts the tokens that it gives out itself, so that each process has tokens of its own.
type amnesiac struct {
	store.Store
	given atomic.Int64
}

func (s *amnesiac) on(inner store.Store) *amnesiac {
	s.Store = inner
	return s
}

func (s *amnesiac) Claim(ctx context.Context, ops []store.Op) {
	s.Store.Claim(ctx, ops)
	for i := range ops {
		if ops[i].Token != 0 {
			ops[i].Token = s.given.Add(1)
		}
	}
}

// repetitive gives out a counter that has not been raised.
type repetitive struct{ store.Store }

func (s repetitive) Claim(ctx context.Context, ops []store.Op) {
	s.Store.Claim(ctx, ops)
	for i := range ops {
		ops[i].Token -= ops[i].Token % 1000000
	}
}
