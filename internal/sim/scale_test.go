package sim

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/faulty"
	"github.com/ctxlock/ctxlock/memlock"
	"github.com/ctxlock/ctxlock/store"
)

// These tests hold docs/scaling.md to the engine: each works out a figure by the page's formula, looks whether crowds of lockers in fake time
// come to the same, and whether the page says so. What they call by letters is called so there.

// What the page takes from the engine, by the names that it has there.
const (
	scaleV     = 5 * time.Second // KeyValidity
	scaleE     = scaleV / 2      // ExtendInterval
	scaleLocal = 128             // Contention.LocalHandoffs

	rejoinAfter = 10 * time.Second
	noteAfter   = 250 * time.Millisecond
	noteAgain   = 15 * time.Second
	mostGather  = 50 * time.Millisecond
	batchSize   = 256
	slackTo     = 150 * time.Millisecond
)

var heldNames = flag.Int("names", 20_000, "how many names TestScaleHeldLocks holds")

// tally counts requests by kind.
type tally struct{ claims, extends, extendedKeys, releases, reads, looks, notes atomic.Int64 }

// count is what a tally has at one moment.
type count struct{ claims, extends, extendedKeys, releases, reads, looks, notes float64 }

func (t *tally) count() count {
	return count{
		float64(t.claims.Load()), float64(t.extends.Load()), float64(t.extendedKeys.Load()), float64(t.releases.Load()),
		float64(t.reads.Load()), float64(t.looks.Load()), float64(t.notes.Load()),
	}
}

// since is what came after an earlier count, divided by something.
func (c count) since(old count, by float64) count {
	return count{
		(c.claims - old.claims) / by, (c.extends - old.extends) / by, (c.extendedKeys - old.extendedKeys) / by, (c.releases - old.releases) / by,
		(c.reads - old.reads) / by, (c.looks - old.looks) / by, (c.notes - old.notes) / by,
	}
}

func (c count) requests() float64 {
	return c.claims + c.extends + c.releases + c.reads + c.looks + c.notes
}

func (c count) String() string {
	return fmt.Sprintf("%.2f claims, %.2f extensions (of %.2f keys), %.2f releases, %.2f reads, %.2f looks, %.2f notes",
		c.claims, c.extends, c.extendedKeys, c.releases, c.reads, c.looks, c.notes)
}

// tallied is a store whose requests are counted when they are sent.
type tallied struct {
	store.Store
	tally *tally
}

func (s tallied) Claim(ctx context.Context, ops []store.Op) {
	s.tally.claims.Add(1)
	s.Store.Claim(ctx, ops)
}

func (s tallied) Extend(ctx context.Context, ops []store.Op) {
	s.tally.extends.Add(1)
	s.tally.extendedKeys.Add(int64(len(ops)))
	s.Store.Extend(ctx, ops)
}

func (s tallied) Release(ctx context.Context, ops []store.Op) {
	s.tally.releases.Add(1)
	s.Store.Release(ctx, ops)
}

func (s tallied) Read(ctx context.Context, ops []store.Op) {
	s.tally.reads.Add(1)
	s.Store.Read(ctx, ops)
}

func (s tallied) Look(ctx context.Context, ops []store.Op) {
	s.tally.looks.Add(1)
	s.Store.Look(ctx, ops)
}

func (s tallied) Enlist(ctx context.Context, ops []store.Op) {
	s.tally.notes.Add(1)
	s.Store.Enlist(ctx, ops)
}

// crowd is many lockers on one server, each a process.
type crowd struct {
	t       *testing.T
	server  *memlock.Server
	tally   tally
	lockers []ctxlock.Locker

	life  context.Context
	stop  context.CancelFunc
	calls sync.WaitGroup

	handed atomic.Int64 // how often the lock was had
	mu     sync.Mutex
	turns  []int // by locker
}

// inCrowd runs a test in fake time with n lockers whose round trip takes that long.
func inCrowd(t *testing.T, n int, trip time.Duration, local int, test func(*crowd)) {
	if raced {
		t.Skip("without the race detector: scripts/test.sh runs these apart")
	}
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{t: t, server: memlock.NewServer(memlock.ServerOption{Latency: trip}), turns: make([]int, n)}
		c.life, c.stop = context.WithCancel(t.Context())
		for range n {
			c.lockers = append(c.lockers, c.open(c.server.Store(), local))
		}
		test(c)
		c.stop()
		c.calls.Wait()
		for _, l := range c.lockers {
			l.Close()
		}
	})
}

func (c *crowd) open(s store.Store, local int) ctxlock.Locker {
	c.t.Helper()
	l, err := ctxlock.NewOnStore(tallied{s, &c.tally}, ctxlock.Options{
		LockerOption: ctxlock.LockerOption{KeyMajority: 1, KeyValidity: scaleV},
		Contention:   ctxlock.Contention{LocalHandoffs: local},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

// contend has so many goroutines of each locker take the lock, hold it, and give it back, again and again.
func (c *crowd) contend(each int, hold time.Duration) {
	for i, l := range c.lockers {
		for range each {
			c.calls.Go(func() {
				for c.life.Err() == nil {
					_, cancel, err := l.WithContext(c.life, "name")
					if err == nil {
						c.handed.Add(1)
						c.mu.Lock()
						c.turns[i]++
						c.mu.Unlock()
						time.Sleep(hold)
					}
					cancel()
				}
			})
		}
	}
}

// rate is how many handoffs a second there are from now on, what is asked for each, and how often the busiest of the lockers had the lock for
// each time that the idlest had.
func (c *crowd) rate(length time.Duration) (rate float64, each count, spread float64) {
	before, asked := c.handed.Load(), c.tally.count()
	c.mu.Lock()
	clear(c.turns)
	c.mu.Unlock()
	time.Sleep(length)
	handed := float64(c.handed.Load() - before)
	least, most := math.MaxInt, 0
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.turns {
		least, most = min(least, n), max(most, n)
	}
	return handed / length.Seconds(), c.tally.count().since(asked, handed), float64(most) / float64(least)
}

// near checks a figure against what it should be.
func near(t *testing.T, what string, got, want, percent float64) {
	t.Helper()
	t.Logf("%-70s %10.2f, by the formula %10.2f", what, got, want)
	if math.Abs(got-want) > want*percent/100 {
		t.Errorf("%s: %.3f, not within %v %% of %.3f", what, got, percent, want)
	}
}

// onPage checks that the page says something.
func onPage(t *testing.T, format string, args ...any) {
	t.Helper()
	text, err := os.ReadFile("../../docs/scaling.md")
	if err != nil {
		t.Fatal(err)
	}
	said := fmt.Sprintf(format, args...)
	t.Log(said)
	if !strings.Contains(string(text), said) {
		t.Errorf("docs/scaling.md does not say %q", said)
	}
}

// A lock goes from one process to the next every R + H, however many there are; with local handoffs, L + 1 holdings go by in between. A fiftieth
// of the time it may be left free.
func TestScaleRate(t *testing.T) {
	const r, h = time.Millisecond, 500 * time.Microsecond
	for _, n := range []int{2, 16, 128} {
		inCrowd(t, n, r, -1, func(c *crowd) {
			c.contend(1, h)
			time.Sleep(time.Second)
			rate, each, spread := c.rate(5 * time.Second)
			near(t, fmt.Sprintf("handoffs a second, %d lockers", n), rate, 1/(r+h).Seconds(), 4)
			t.Logf("for each: %v; the busiest had it %.3f times as often as the idlest", each, spread)
			if spread > 1.15 {
				t.Errorf("%d lockers: the busiest had the lock %.2f times as often as the idlest", n, spread)
			}
		})
	}
	for _, local := range []int{4, scaleLocal} {
		inCrowd(t, 4, r, local, func(c *crowd) {
			c.contend(8, h)
			time.Sleep(time.Second)
			rate, _, _ := c.rate(5 * time.Second)
			row := float64(local + 1)
			near(t, fmt.Sprintf("handoffs a second, 4 lockers of 8 goroutines, L = %d", local), rate, row/(r.Seconds()+row*h.Seconds()), 6)
		})
	}
	// One locker alone gives the lock back to the server after L + 1, and claims it again right behind that.
	inCrowd(t, 1, r, scaleLocal, func(c *crowd) {
		c.contend(8, h)
		time.Sleep(time.Second)
		rate, _, _ := c.rate(5 * time.Second)
		row := float64(scaleLocal + 1)
		near(t, "handoffs a second, one locker of 8 goroutines", rate, row/(r.Seconds()+row*h.Seconds()), 6)
	})
}

// A handoff takes two requests, a claim and a release, however many wait; those who wait for longer than noteAfter are noted, and struck out
// again.
func TestScaleRequestsPerHandoff(t *testing.T) {
	for _, test := range []struct {
		n    int
		r, h time.Duration
		more float64
	}{
		{16, 200 * time.Microsecond, 200 * time.Microsecond, 0},
		{512, 150 * time.Microsecond, 150 * time.Microsecond, 0}, // 512 of 0.3 ms are 154 ms
		{512, 500 * time.Microsecond, 500 * time.Microsecond, 2}, // 512 of 1 ms are 0.5 s
		{512, time.Millisecond, time.Millisecond, 2},             // 512 of 2 ms are 1.02 s
	} {
		inCrowd(t, test.n, test.r, -1, func(c *crowd) {
			c.contend(1, test.h)
			time.Sleep(3 * time.Second)
			_, each, _ := c.rate(4 * time.Second)
			t.Logf("%d lockers: %v", test.n, each)
			near(t, fmt.Sprintf("requests a handoff, %d lockers, each waits %v", test.n, time.Duration(test.n)*(test.r+test.h)), each.requests(), 2+test.more, 5)
		})
	}
}

// perWaiter is what the page says that a waiter with nothing to do asks, a second: once every validity it looks, or claims again if rejoinAfter has
// passed since it claimed last; and its notes.
func perWaiter(validity time.Duration) (asks, mostClaims, notes float64) {
	return 1 / validity.Seconds(), 1 / rejoinAfter.Seconds(), 1 / noteAgain.Seconds()
}

func TestScaleIdleWaiters(t *testing.T) {
	const n, length = 1000, 4 * time.Minute
	asks, mostClaims, notes := perWaiter(scaleV)
	inCrowd(t, n, time.Millisecond, 0, func(c *crowd) {
		holder := c.open(c.server.Store(), 0)
		_, cancel, err := holder.WithContext(c.life, "name")
		if err != nil {
			t.Fatal(err)
		}
		c.contend(1, 0)
		time.Sleep(time.Minute)
		before := c.tally.count()
		time.Sleep(length)
		each := c.tally.count().since(before, n*length.Minutes())
		t.Logf("a minute, for each waiter: %v", each)
		near(t, "looks and claims a minute, for each waiter", each.reads+each.claims, asks*60, 20)
		near(t, "notes a minute, for each waiter", each.notes, notes*60, 5)
		if each.claims > mostClaims*60 {
			t.Errorf("%.2f claims a minute, by the formula at most %.2f", each.claims, mostClaims*60)
		}
		if each.releases != 0 || each.looks*n > 60 || each.extends*n > 60 {
			t.Errorf("and what else? %v", each)
		}
		c.stop()
		c.calls.Wait()
		cancel()
		holder.Close()
	})
	onPage(t, "%.0f looks or claims, and %.0f notes, a minute", asks*60, notes*60)
	onPage(t, "| looks at the key, or claims again | %s |", thousands(10_000*asks))
	onPage(t, "| notes | %s |", thousands(10_000*notes))
}

// batches is the page's formula: groups of what falls due within mostGather, cut at batchSize, for each ExtendInterval.
func batches(names int, interval time.Duration) float64 {
	groups := float64(interval / min(mostGather, interval/16))
	return groups * math.Ceil(float64(names)/groups/batchSize)
}

func TestScaleHeldLocks(t *testing.T) {
	names := *heldNames
	inCrowd(t, 1, time.Millisecond, 0, func(c *crowd) {
		hands := names / int(scaleE/time.Millisecond) // at 1 ms each: all within an ExtendInterval
		for w := range hands {
			c.calls.Go(func() {
				for i := w; i < names; i += hands {
					if _, _, err := c.lockers[0].WithContext(c.life, fmt.Sprint(i)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		c.calls.Wait()
		time.Sleep(2 * scaleE)
		const turns = 2
		before := c.tally.count()
		time.Sleep(turns * scaleE)
		each := c.tally.count().since(before, turns)
		near(t, "keys extended in each ExtendInterval, for each name", each.extendedKeys/float64(names), 1, 100*float64(mostGather)/float64(scaleE)+1)
		most := batches(names, scaleE)
		t.Logf("requests in each ExtendInterval: %.0f, by the formula at most %.0f, of %.0f keys", each.extends, most*1.05, each.extendedKeys/each.extends)
		if each.extends > most*1.05 || each.extends < float64(names)/batchSize {
			t.Errorf("%.0f requests for %d names in each ExtendInterval, by the formula %.0f", each.extends, names, most)
		}
		if rest := each.requests() - each.extends; rest > 0 {
			t.Errorf("and what else? %v", each)
		}
	})
	for _, e := range []time.Duration{scaleE, 30 * time.Second} {
		onPage(t, "every %v: %s keys a second in %s requests", e, thousands(1e6/e.Seconds()), thousands(batches(1e6, e)/e.Seconds()))
	}
}

// latest is how long after its key has run out a lock is had at the latest, if anybody waits: by whoever claimed, or was told that the key had
// changed, just before that. The server of these tests tells that it has run out when somebody asks for anything, here for the waiter's note.
const latest = slackTo + 10*time.Millisecond

// After a crash each waiter looks, or claims, once, a few of them twice. The first of them takes the lock.
func TestScaleCrash(t *testing.T) {
	const n = 1000
	inCrowd(t, n, time.Millisecond, 0, func(c *crowd) {
		link := faulty.New(c.server.Store(), faulty.Config{})
		holder := c.open(link, 0)
		if _, _, err := holder.WithContext(c.life, "name"); err != nil {
			t.Fatal(err)
		}
		c.contend(1, time.Hour) // one of them gets it, and keeps it
		time.Sleep(time.Minute)
		link.Crash()
		crashed := time.Now()
		time.Sleep(c.server.TTL("valkeylock:0:name"))
		ranOut := time.Now()
		before := c.tally.count()
		for c.handed.Load() == 0 && time.Since(ranOut) < scaleV {
			time.Sleep(time.Millisecond / 4)
		}
		had := time.Since(ranOut)
		time.Sleep(scaleV - had)
		after := c.tally.count().since(before, n)
		t.Logf("the key ran out %v after the crash, and the next had the lock %v after that", ranOut.Sub(crashed), had)
		t.Logf("within a validity, for each waiter: %v", after)
		if had > latest {
			t.Errorf("the next had the lock only %v after the key ran out", had)
		}
		if asked := after.looks + after.claims; asked > 2 {
			t.Errorf("%.2f looks and claims for each waiter", asked)
		}
		holder.Close()
	})
}

// Whoever comes shortly before the key runs out is told when that is, and looks then.
func TestScaleCrashBeforeAnybodyLooked(t *testing.T) {
	inCrowd(t, 2, time.Millisecond, 0, func(c *crowd) {
		link := faulty.New(c.server.Store(), faulty.Config{})
		holder := c.open(link, 0)
		_, first, err := c.lockers[0].WithContext(c.life, "name")
		if err != nil {
			t.Fatal(err)
		}
		c.calls.Go(func() {
			if _, _, err := holder.WithContext(c.life, "name"); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		first() // and now the lock is with one who stood in the queue
		time.Sleep(10 * time.Second)
		link.Crash()
		time.Sleep(10 * time.Millisecond) // what was sent before has arrived
		time.Sleep(c.server.TTL("valkeylock:0:name") - 100*time.Millisecond)
		ranOut := time.Now().Add(100 * time.Millisecond)
		_, cancel, err := c.lockers[1].WithContext(c.life, "name")
		if err != nil {
			t.Fatal(err)
		}
		late := time.Since(ranOut)
		cancel()
		t.Logf("the lock was had %v after its key ran out, by the formula within %v", late, latest)
		if late > latest {
			t.Errorf("the lock was had %v after its key ran out, not within %v", late, latest)
		}
		holder.Close()
	})
}

// thousands writes a number the way the page does.
func thousands(x float64) string {
	s := fmt.Sprintf("%.0f", x)
	if len(s) > 3 {
		return thousands(math.Floor(math.Round(x)/1000)) + "," + s[len(s)-3:]
	}
	return s
}
