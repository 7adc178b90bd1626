package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/faulty"
)

// Calls of every kind, mixed on a few names, whose contexts end at every moment: in the middle of
// a round trip, just before an answer, after years. Force and From meet claims under way
// in the same Locker.

const (
	someMixed  = 24
	shortMixed = 6
)

func TestMixedCalls(t *testing.T) {
	first, n := uint64(1), uint64(someMixed)
	switch {
	case *seed != 0:
		first, n = *seed, 1
	case testing.Short():
		n = shortMixed
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			testPlan(t, drawMixed(seed), "TestMixedCalls")
		})
	}
}

// drawMixed draws a plan of calls of every kind.
func drawMixed(seed uint64) plan {
	p := drawPlan(seed)
	r := rand.New(rand.NewPCG(seed, 8))
	p.mixed, p.lawless, p.tidy, p.varied = true, true, false, false
	p.names = 1 + r.IntN(2)
	p.processes, p.workers = oneOf(r, 1, 1, 2, 3), 2+r.IntN(4)
	p.alone = p.processes == 1
	p.server.Latency = oneOf(r, 0, time.Millisecond, 5*time.Millisecond, 50*time.Millisecond)
	p.locker.KeyValidity = oneOf(r, 2*time.Second, 5*time.Second)
	p.locker.ExtendInterval, p.locker.TryNextAfter = 0, 0
	p.locker.NoLoopTracking = r.IntN(2) == 0
	p.length = 20 * p.locker.KeyValidity
	p.troubles, p.crashes = 5*p.locker.KeyValidity, 0
	p.stalls, p.lanes, p.opens = r.IntN(3) == 0, r.IntN(3) == 0, true
	if r.IntN(2) == 0 {
		p.faults = faulty.Config{}
	}
	if p.alone { // a forced claim that arrives once more takes the lock from whoever has it by then
		p.faults.Double, p.faults.DelayRequest = 0, 0
	}
	return p
}

// mix makes calls of every kind.
func (w *worker) mix() {
	for w.pause(w.moment()) {
		name, locker := nameOf(w.random.IntN(w.plan.names)), w.current()
		option := ctxlock.AcquireOption{Fencing: w.plan.fenced, NoExtend: w.random.IntN(4) == 0}
		dropIn := !w.plan.fenced && w.random.IntN(2) == 0
		switch what := w.random.IntN(10); {
		case what < 2 && dropIn:
			w.take("try", name, locker.TryWithContext, w.moment())
		case what < 5 && dropIn:
			w.take("force", name, locker.ForceWithContext, w.moment())
		case what < 2:
			option.Mode = ctxlock.Try
			w.take("acquire as try", name, w.acquire(locker, option), w.moment())
		case what < 5:
			option.Mode = ctxlock.Force
			w.take("acquire by force", name, w.acquire(locker, option), w.moment())
		case what < 7:
			option.Mode, option.From = oneOf(w.random, ctxlock.Wait, ctxlock.Try), w.checker.lastValue(name)
			w.take("acquire from", name, w.acquire(locker, option), w.moment())
		case what < 8:
			w.takeAll(w.moment())
		case dropIn:
			w.take("wait", name, locker.WithContext, w.moment())
		default:
			w.take("acquire", name, w.acquire(locker, option), w.moment())
		}
	}
}

// moment is a time of any order: that of a step of a round trip, of a few of them, or of a validity.
func (w *worker) moment() time.Duration {
	trip := 2*w.plan.server.Latency + time.Microsecond
	scale := oneOf(w.random, trip/2, trip, 4*trip, w.plan.locker.KeyValidity/4)
	return 1 + time.Duration(w.random.Float64()*2*float64(scale))
}

// acquire is a call of Acquire. What gives the lock back extends it first at times, and gives it
// back twice.
func (w *worker) acquire(locker ctxlock.Locker, option ctxlock.AcquireOption) call {
	extends, twice := w.random.IntN(3) == 0, w.random.IntN(2) == 0
	patience := w.moment()
	return func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
		held, lock, err := locker.Acquire(ctx, name, option)
		if err != nil {
			return held, func() {}, err
		}
		w.checker.value(name, lock.Value())
		return held, func() {
			if extends {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				w.trace.add(w.who, name, "extends: %v", lock.Extend(ctx, w.plan.locker.KeyValidity))
			}
			_ = lock.Release(context.Background())
			if twice {
				_ = lock.Release(context.Background())
			}
		}, nil
	}
}

// That two contexts of one Locker are alive is found out, also in a lawless history. No store brings
// that about: a Locker ends what it holds of a name when another grant of it is known.
func TestCheckerFindsTwoOfOneLocker(t *testing.T) {
	p := unsafePlan()
	p.lawless = true
	c := newChecker(p, nil, &trace{})
	for _, who := range []string{"1.1", "1.2"} {
		c.begin(who, nameOf(0), t.Context())
	}
	if found := strings.Join(c.failures, "\n"); !strings.Contains(found, "of one Locker") {
		t.Errorf("the checker did not find two of one Locker, but: %q", found)
	}
}
