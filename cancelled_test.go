package ctxlock_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// impatient are callers who give up on every try long before it can be answered.
type impatient struct {
	end   context.CancelFunc
	work  sync.WaitGroup
	tries atomic.Int64
}

// giveUp has callers try names of their own again and again, each for a time, until they are stopped: half of
// them by a deadline, half of them by a cancellation.
func giveUp(l ctxlock.Locker, callers int, after time.Duration) *impatient {
	i := new(impatient)
	ctx, end := context.WithCancel(context.Background())
	i.end = end
	for n := range callers {
		name := unique()
		i.work.Go(func() {
			for ; ctx.Err() == nil; i.tries.Add(1) {
				one, cancel := context.WithTimeout(ctx, after)
				if n%2 == 0 {
					one, cancel = context.WithCancel(ctx)
					time.AfterFunc(after, cancel)
				}
				_, release, _ := l.TryWithContext(one, name)
				release()
				cancel()
			}
		})
	}
	return i
}

func (i *impatient) stop() {
	i.end()
	i.work.Wait()
}

// tried makes patient tries of names of its own until a time is over, and gives how many there were, the longest, and the errors.
func tried(l ctxlock.Locker, callers int, until time.Time, patience time.Duration) (n int, longest time.Duration, errs []error) {
	var mu sync.Mutex
	var work sync.WaitGroup
	for range callers {
		work.Go(func() {
			for time.Now().Before(until) {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				start := time.Now()
				_, release, err := l.TryWithContext(ctx, unique())
				took := time.Since(start)
				release()
				cancel()
				mu.Lock()
				n, longest = n+1, max(longest, took)
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	return n, longest, errs
}

// releases is how often a server was asked to delete keys.
func releases(s *lab.Server) (n int64) {
	for _, command := range []string{"evalsha", "eval", "delifeq", "delex"} {
		n += max(0, s.Calls(command))
	}
	return n
}

var _ = Describe("Callers who give up before the answer comes", Label("control"), func() {
	for _, m := range []mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}} {
		It("fail no other's try and cost no other its lock ("+m.String()+")", func() {
			s := server()
			p := proxy(s)
			option := m.option(p.Addr())
			option.KeyValidity = 2 * validity
			option.TryNextAfter = soon
			option.ClientOption.RingScaleEachConn = 5 // so that it takes few to have all places taken
			l := locker(option)
			var held []holding
			for range 20 {
				held = append(held, take(bg(), l.WithContext, unique()))
			}
			p.Delay(100 * time.Millisecond)
			storm := giveUp(l, 40, 20*time.Millisecond)
			n, longest, errs := tried(l, 4, time.Now().Add(5*validity/2), soon)
			storm.stop()
			GinkgoWriter.Println(storm.tries.Load(), "given up;", n, "patient tries, the longest", longest)
			Expect(errs).To(BeEmpty())
			p.Delay(0)
			for _, h := range held {
				Expect(context.Cause(h)).NotTo(HaveOccurred())
				h.release()
			}
			nothingLeft(s, soon)
		})
	}

	It("at a server that stands still for a while, which none of them notices after that", func() {
		s := server()
		option := plain.option(s.Addr())
		option.KeyValidity = 10 * time.Second // not the end of the keys, but their clean-up
		option.ClientOption.RingScaleEachConn = 5
		l := locker(option)
		held := take(bg(), l.WithContext, unique())
		before := runtime.NumGoroutine()
		s.Freeze()
		const callers = 40
		storm := giveUp(l, callers, 10*time.Millisecond)
		Eventually(storm.tries.Load).WithTimeout(2 * soon).Should(BeNumerically(">", 2000))
		// The client has one for each request that it still expects an answer to, which is at most a ring of them.
		Expect(runtime.NumGoroutine()).To(BeNumerically("<", before+3*callers+32))
		s.Thaw()
		n, _, errs := tried(l, 10, time.Now().Add(validity/2), soon)
		Expect(errs).To(BeEmpty(), "of %d", n)
		storm.stop()
		Eventually(runtime.NumGoroutine).WithTimeout(soon).Should(BeNumerically("<=", before+3))
		Expect(context.Cause(held)).NotTo(HaveOccurred())
		held.release()
		nothingLeft(s, soon)
	})

	It("have what came of it cleaned up once, as long as the connection lasts", func() {
		s := server()
		p := proxy(s)
		option := plain.option(p.Addr())
		option.KeyValidity = 10 * time.Second
		l := locker(option)
		name := unique()
		first := take(bg(), locker(plain.option(s.Addr())).WithContext, name)
		p.Stall(lab.Down)
		var gone []*pending
		for i := range 100 {
			ctx, cancel := context.WithTimeout(bg(), 50*time.Millisecond)
			defer cancel()
			if i%2 == 0 { // half of them wait for a lock, in line, and its first stands in the queue
				gone = append(gone, begin(ctx, l.WithContext, name, nil))
			} else {
				gone = append(gone, begin(ctx, l.TryWithContext, unique(), nil))
			}
		}
		for _, call := range gone {
			Expect(call.fails(soon)).To(MatchError(context.DeadlineExceeded))
		}
		p.Heal()
		first.release()
		nothingLeft(s, soon)
		before := releases(s)
		Consistently(func() int64 { return releases(s) }, validity).Should(Equal(before))
	})
})
