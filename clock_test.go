package ctxlock_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// clocked are mixes that tell servers of time in different ways.
var clocked = []mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}, {majority: 1, setPX: true}, {majority: 2, setPX: true, polling: true}}

// promised is how much later than its key's own end a lock whose holder crashed is to be had, by promise; busy is what a machine
// may add to that which has much else to do.
const (
	promised = 300 * time.Millisecond
	busy     = 500 * time.Millisecond
)

// haveRightLife matches the TTL of a key that has been given its validity.
func haveRightLife() types.GomegaMatcher {
	return And(BeNumerically(">", 0), BeNumerically("<=", validity+promised))
}

// unmoved sees that a server's clock is of no importance as long as it runs evenly.
func unmoved(s *lab.Server, m mix) {
	GinkgoHelper()
	name, p, check := unique(), proxy(s), new(checker)
	a, b := locker(m.option(p.Addr())), locker(m.option(s.Addr()))
	for range 3 { // keys are given their life in more than one way, as more is known of the clock
		first := take(bg(), a.WithContext, name)
		check.enter(first)
		Expect(ttl(s, firstKey(name))).To(haveRightLife(), m.String())
		_, _, err := b.TryWithContext(bg(), name)
		Expect(err).To(MatchError(ctxlock.ErrNotLocked), m.String())
		first.release()
		second := take(bg(), b.WithContext, name)
		check.enter(second)
		second.release()
	}

	first := take(bg(), a.WithContext, name)
	check.enter(first)
	waiter := begin(bg(), b.WithContext, name, check)
	for range 15 {
		Consistently(first.Done(), validity/10).ShouldNot(BeClosed())
		Expect(ttl(s, firstKey(name))).To(haveRightLife(), "%v, %v", m, context.Cause(first))
	}
	p.Stall(lab.Both) // as good as a crash
	expires := time.Now().Add(ttl(s, firstKey(name)))
	waiter.gets(validity + soon).release()
	GinkgoWriter.Printf("had %v after the key's end: %v\n", time.Since(expires), m)
	Expect(time.Now()).To(BeTemporally("<", expires.Add(promised+busy)), m.String())
	check.exclusive()
	p.Heal()
	first.release()
}

var _ = Describe("A server's clock", Label("control"), func() {
	It("that is off from the start changes nothing", func() {
		together([]time.Duration{time.Hour, -time.Hour, 2 * validity, -validity / 2}, func(skew time.Duration) {
			s := server(lab.Config{Clock: true, ClockSkew: skew})
			together(clocked, func(m mix) { unmoved(s, m) })
			nothingLeft(s, soon)
		})
	})

	It("that jumps ahead by an hour ends the lock, and nobody has it before", func() {
		together(clocked, func(m mix) {
			s, name, check := server(lab.Config{Clock: true}), unique(), new(checker)
			a, b, c := locker(m.option(s.Addr())), locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			for _, l := range []ctxlock.Locker{a, b, c} { // each has been at work before
				take(bg(), l.WithContext, unique()).release()
			}
			first := take(bg(), a.WithContext, name)
			check.enter(first)
			waiter := begin(bg(), b.WithContext, name, check)
			Eventually(rises(s, firstKey(name))).WithTimeout(soon).Should(BeTrue(), "it is extended")
			trying := make(chan struct{})
			ctx := bg()
			go func() { // somebody asks without a pause
				defer close(trying)
				for first.Err() == nil {
					held, release, err := c.TryWithContext(ctx, name)
					if err == nil {
						check.enter(held)
					}
					release()
				}
			}()

			s.SetClock(time.Hour)
			jumped := time.Now()
			Expect(end(first, validity+busy)).To(MatchError(ctxlock.ErrLost), m.String())
			GinkgoWriter.Printf("the context ended %v after the jump: %v, %v\n", time.Since(jumped), context.Cause(first), m)
			<-trying
			second := waiter.gets(2*validity + soon)
			GinkgoWriter.Printf("the next had it %v after the jump: %v\n", time.Since(jumped), m)
			check.exclusive()
			Consistently(second.Done(), 3*validity/2).ShouldNot(BeClosed(), m.String())
			Expect(ttl(s, firstKey(name))).To(haveRightLife(), m.String())
			first.release()
			second.release()
			take(bg(), a.WithContext, name).release()
			nothingLeft(s, soon)
		})
	})

	It("that jumps ahead spoils all claims that are under way, not only the first to be answered", func() {
		together(clocked, func(m mix) {
			s, checks := server(lab.Config{Clock: true}), make(map[string]*checker)
			p, q := proxy(s), proxy(s)
			a, b := locker(m.option(p.Addr())), locker(m.option(q.Addr()))
			take(bg(), b.WithContext, unique()).release()
			var held []holding
			for range 5 {
				name := unique()
				checks[name] = new(checker)
				first := take(bg(), a.WithContext, name)
				checks[name].enter(first)
				held = append(held, first)
			}
			p.Stall(lab.Both) // the holder hears nothing of the jump
			var asked atomic.Int32
			q.OnCommand(func(args []string) lab.Action {
				if claims(args) {
					asked.Add(1)
				}
				return lab.Pass
			})
			q.Stall(lab.Up)
			var trying []*pending
			for name, check := range checks {
				trying = append(trying, begin(bg(), b.TryWithContext, name, check))
			}
			Eventually(asked.Load).WithTimeout(soon).WithPolling(time.Millisecond).Should(BeEquivalentTo(len(checks)))
			s.SetClock(time.Hour)
			q.Heal()
			for _, try := range trying {
				try.returns(soon)
			}
			for _, check := range checks {
				check.exclusive()
			}
			p.Heal()
			for i := range trying {
				held[i].release()
				trying[i].release()
			}
			nothingLeft(s, soon)
		})
	})

	It("that jumps ahead by an hour is learned anew, however short the validity", func() {
		together([]time.Duration{50 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond}, func(life time.Duration) {
			s := server(lab.Config{Clock: true})
			option := plain.option(s.Addr())
			option.KeyValidity = life
			a := locker(option)
			take(bg(), a.WithContext, unique()).release()
			s.SetClock(time.Hour)
			begin(bg(), a.WithContext, unique(), nil).gets(2*life + soon).release()
			nothingLeft(s, soon)
		})
	})

	It("that jumps back by an hour leaves the lock held, and its key soon has its right life", func() {
		together(clocked, func(m mix) {
			s, name, check := server(lab.Config{Clock: true}), unique(), new(checker)
			a, b, c := locker(m.option(s.Addr())), locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			for _, l := range []ctxlock.Locker{a, b, c} { // each has been at work before
				take(bg(), l.WithContext, unique()).release()
			}
			first := take(bg(), a.WithContext, name)
			check.enter(first)
			waiter := begin(bg(), b.WithContext, name, check)
			Eventually(func() time.Duration { return ttl(s, firstKey(name)) }).Should(BeNumerically("<", validity*9/10))

			s.SetClock(-time.Hour)
			other := unique()
			another := take(bg(), c.TryWithContext, other)
			Expect(ttl(s, firstKey(other))).To(haveRightLife(), "of a lock that is taken just after the jump, %v", m)
			another.release()
			Eventually(func() time.Duration { return ttl(s, firstKey(name)) }).WithTimeout(validity/2+soon).
				Should(BeNumerically("<=", validity+promised), m.String())
			Consistently(first.Done(), 3*validity/2).ShouldNot(BeClosed(), m.String())
			Expect(ttl(s, firstKey(name))).To(haveRightLife(), m.String())
			Expect(waiter.done).NotTo(BeClosed())
			first.release()
			second := waiter.gets(soon)
			check.exclusive()
			Expect(ttl(s, firstKey(name))).To(haveRightLife(), m.String())
			second.release()
			nothingLeft(s, soon)
		})
	})

	It("that jumps back just when a waiter looks does not keep it waiting beyond the key's end", func() {
		together([]mix{{majority: 1}, {majority: 1, noLoop: true}, {majority: 1, setPX: true}}, func(m mix) {
			s, name, check := server(lab.Config{Clock: true}), unique(), new(checker)
			p, q, key := proxy(s), proxy(s), firstKey(name)
			a, b := locker(m.option(p.Addr())), locker(m.option(q.Addr()))
			first := take(bg(), a.WithContext, name)
			check.enter(first)
			waiter := begin(bg(), b.WithContext, name, check)
			jumped := make(chan struct{})
			q.OnCommand(func(args []string) lab.Action {
				// A look of one who stands in the queue: the key, the queue, and its entry. A claim says more.
				if strings.HasPrefix(args[0], "EVAL") && len(args) == 6 && args[3] == key {
					select {
					case <-jumped:
					default:
						s.SetClock(-time.Hour)
						close(jumped)
					}
				}
				return lab.Pass
			})
			Eventually(jumped).WithTimeout(3 * validity).Should(BeClosed())
			Eventually(func() time.Duration { return ttl(s, key) }).WithTimeout(validity).Should(BeNumerically("<=", validity+promised))
			Consistently(first.Done(), validity/4).ShouldNot(BeClosed())
			p.Stall(lab.Both) // as good as a crash
			expires := time.Now().Add(ttl(s, key))
			waiter.gets(validity + soon).release()
			GinkgoWriter.Printf("had %v after the key's end: %v\n", time.Since(expires), m)
			Expect(time.Now()).To(BeTemporally("<", expires.Add(promised+busy)), m.String())
			check.exclusive()
			p.Heal()
			first.release()
			nothingLeft(s, soon)
		})
	})

	// A jump that is taken back before anybody has looked at the clock cannot be noticed, so each lasts long enough for all to look.
	It("that has jumped back before a waiter gets the lock leaves its key with its right life", func() {
		together([]mix{{majority: 1}, {majority: 2}}, func(m mix) {
			s, name, check := server(lab.Config{Clock: true}), unique(), new(checker)
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			first := take(bg(), a.WithContext, name)
			waiter := stand(s, b.WithContext, name, 1, check)
			time.Sleep(5 * validity / 4) // a clock that was looked at just now is not asked for again
			s.SetClock(-time.Hour)
			interfereEach(s, m.keys(name), "DEL")
			second := waiter.gets(validity + soon)
			Eventually(func() time.Duration { return ttl(s, firstKey(name)) }).WithTimeout(validity/4).Should(haveRightLife(), "before the first extension")
			first.release()
			second.release()
			nothingLeft(s, soon)
		})
	})

	It("that jumps to and fro while the holder is cut off is noticed by whoever has looked meanwhile", func() {
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, setPX: true}}, func(m mix) {
			s, name, check := server(lab.Config{Clock: true}), unique(), new(checker)
			p, q := proxy(s), proxy(s)
			a, b := locker(m.option(p.Addr())), locker(m.option(q.Addr()))
			first := take(bg(), a.WithContext, name)
			check.enter(first)
			waiter := stand(s, b.WithContext, name, 1, check)
			s.SetClock(-time.Hour)
			Eventually(func() time.Duration { return ttl(s, firstKey(name)) }).WithTimeout(soon).Should(haveRightLife(), "it is extended by the new time")
			time.Sleep(5 * validity / 4) // a clock that was looked at just now is not asked for again
			before := s.Calls("zadd")
			q.Cut() // whose connection was cut looks again
			Eventually(func() int64 { return s.Calls("zadd") }).WithTimeout(soon).WithPolling(time.Millisecond).Should(BeNumerically(">", before))
			p.Stall(lab.Both)
			s.SetClock(0) // by which the key runs out
			q.Cut()
			second := waiter.gets(2*validity + soon)
			check.exclusive()
			p.Heal()
			first.release()
			second.release()
			nothingLeft(s, soon)
		})
	})

	It("that jumps to and fro under contention never gives a lock to two", func() {
		seed := uint64(GinkgoRandomSeed())
		together(upTo(len(clocked)), func(i int) {
			const lockers, workers, jumps, validity = 3, 2, 7, 300 * time.Millisecond
			m := clocked[i]
			s, name, check := server(lab.Config{Clock: true}), unique(), new(checker)
			option := m.option(s.Addr())
			option.KeyValidity = validity
			ctx := bg()
			jumping, stop := context.WithCancel(ctx)
			defer stop()
			var working sync.WaitGroup
			var all []ctxlock.Locker
			look := func() { // each locker has seen what time it is: one that sleeps through a jump to and fro cannot know of it
				for _, l := range all {
					take(ctx, l.WithContext, unique()).release()
				}
			}
			for range lockers {
				l := locker(option)
				all = append(all, l)
			}
			look()
			for _, l := range all {
				for range workers {
					working.Go(func() {
						defer GinkgoRecover()
						for last := false; !last; {
							last = jumping.Err() != nil // once more when it is over: everybody is served again
							held := begin(ctx, l.WithContext, name, check).gets(20 * time.Second)
							select {
							case <-held.Done():
							case <-time.After(rand.N(validity)):
							}
							held.release()
						}
					})
				}
			}
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			offsets := []time.Duration{0, time.Hour, -time.Hour, validity / 2, -validity / 2, 10 * time.Second, 2 * time.Hour}
			for range jumps {
				s.SetClock(offsets[random.IntN(len(offsets))])
				look()
				time.Sleep(2*validity + time.Duration(random.Int64N(int64(validity)))) // a pace, not a wait
			}
			stop()
			working.Wait()
			entered, overlaps := check.result()
			GinkgoWriter.Printf("%d holdings, %d overlaps: %v\n", entered, overlaps, m)
			Expect(overlaps).To(BeZero(), "contexts that were alive together with another, of %d; seed %d, %v", entered, seed, m)
			nothingLeft(s, soon)
		})
	})
})

// turning is how a lock went round among lockers.
type turning struct {
	visits  [8]atomic.Int64
	longest [8]time.Duration // that one waited; each is its own goroutine's
}

// turn has lockers take a lock in turn, without a pause, for as long as during takes.
func turn(option ctxlock.LockerOption, check *checker, during func()) *turning {
	GinkgoHelper()
	t, name := new(turning), unique()
	ctx, stop := context.WithCancel(bg())
	defer stop()
	var work sync.WaitGroup
	var lockers []ctxlock.Locker
	for range t.visits {
		lockers = append(lockers, locker(option))
	}
	for i, l := range lockers {
		work.Go(func() {
			for {
				began := time.Now()
				held, release, err := l.WithContext(ctx, name)
				if ctx.Err() != nil {
					release()
					return
				}
				t.longest[i] = max(t.longest[i], time.Since(began))
				if err == nil {
					check.enter(held)
					t.visits[i].Add(1)
				}
				release()
			}
		})
	}
	during()
	stop()
	work.Wait()
	return t
}

// shares gives how many holdings the one with the fewest had, and the one with the most, and the longest wait.
func (t *turning) shares() (least, most int64, longest time.Duration) {
	least = t.visits[0].Load()
	for i := range t.visits {
		n := t.visits[i].Load()
		least, most, longest = min(least, n), max(most, n), max(longest, t.longest[i])
	}
	return least, most, longest
}

var _ = Describe("A server's clock that is set while a queue turns", Label("control"), func() {
	for _, jump := range []struct {
		by, validity, every, total time.Duration
	}{
		{-50 * time.Millisecond, 5 * time.Second, 4 * time.Second, 4 * time.Second},
		{100 * time.Millisecond, 5 * time.Second, 4 * time.Second, 4 * time.Second},
		{time.Hour, 500 * time.Millisecond, 1500 * time.Millisecond, 6 * time.Second},
	} {
		It("to and fro by "+jump.by.String()+" changes nothing about who gets how much", func() {
			s, check := server(lab.Config{Clock: true}), new(checker)
			option := plain.option(s.Addr())
			option.KeyValidity = jump.validity
			t := turn(option, check, func() {
				time.Sleep(time.Second) // a pace, not a wait
				for start, to := time.Now(), jump.by; time.Since(start) < jump.total; to = -to {
					s.SetClock(to)
					time.Sleep(jump.every)
				}
			})
			least, most, longest := t.shares()
			GinkgoWriter.Printf("from %d to %d holdings, longest wait %v\n", least, most, longest)
			Expect(most).To(BeNumerically("<", 3*least))
			// Keys that run out early are seen to within a look, and a clock that has jumped ahead is not trusted for a validity.
			Expect(longest).To(BeNumerically("<", 2*min(jump.validity, 500*time.Millisecond)+soon))
			check.exclusive()
			nothingLeft(s, soon)
		})
	}

	It("ahead has a waiter that notices it by the key that it takes leave that key free, and wait", func() {
		s, name := server(lab.Config{Clock: true}), unique()
		option := plain.option(s.Addr())
		option.KeyValidity = 10 * time.Second
		a, b := locker(option), locker(option)
		handedTo(s, b, a, name, new(checker)).release() // so that it goes to the queue at once
		s.SetClock(time.Second)
		ctx, stop := context.WithCancel(bg())
		defer stop()
		waiter := stand(s, func(_ context.Context, name string) (context.Context, context.CancelFunc, error) {
			return a.WithContext(ctx, name)
		}, name, 1, nil)
		Expect(s.Do("EXISTS", firstKey(name))).To(BeEquivalentTo(0))
		stop()
		Expect(waiter.fails(soon)).To(MatchError(ContainSubstring("clock jumped ahead")))
		nothingLeft(s, soon)
	})

	It("ahead keeps a lock from nobody that it is passed on to, whatever the terms", func() {
		s, name, check := server(lab.Config{Clock: true}), unique(), new(checker)
		option := plain.option(s.Addr())
		option.KeyValidity = 10 * time.Second
		a, b := locker(option), locker(option)
		for _, l := range []ctxlock.Locker{a, b} { // which then know the clock
			take(bg(), l.WithContext, unique()).release()
		}
		first := take(bg(), a.WithContext, name)
		check.enter(first)
		waiter := stand(s, func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
			held, lock, err := b.Acquire(ctx, name, ctxlock.AcquireOption{NoExtend: true}) // it has to claim when it is told
			return held, func() { _ = lock.Release(bg()) }, err
		}, name, 1, check)
		s.SetClock(time.Second)
		Eventually(func() error {
			_, release, err := b.TryWithContext(bg(), unique())
			release()
			return err
		}).WithTimeout(soon).Should(MatchError(ContainSubstring("clock jumped ahead")))
		first.release()
		waiter.gets(soon).release()
		check.exclusive()
		nothingLeft(s, soon)
	})
})

var _ = Describe("A claim that is held up on its way", Label("control"), func() {
	It("plants no key once its sender is gone, whether the locker has been at work or has just connected", func() {
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}, {majority: 1, polling: true}}, func(m mix) {
			together([]bool{false, true}, func(worked bool) {
				s := server()
				p := proxy(s)
				a := locker(m.option(p.Addr()))
				if worked {
					take(bg(), a.WithContext, unique()).release()
				}
				sent := make(chan struct{})
				p.OnCommand(func(args []string) lab.Action {
					switch {
					case claims(args):
						p.Stall(lab.Up)
						close(sent)
					case args[0] == "PTTL" || args[0] == "SET" || args[0] == "TIME": // the rest of the claim
					default:
						return lab.CutBefore // the sender crashed before it could clean up
					}
					return lab.Pass
				})
				before := s.Calls("set")
				ctx, stop := context.WithTimeout(bg(), validity/10)
				defer stop()
				Expect(begin(ctx, a.TryWithContext, unique(), nil).fails(soon)).To(MatchError(context.DeadlineExceeded))
				Expect(sent).To(BeClosed())
				over := time.After(3 * validity / 2) // the key would have run out
				a.Close()
				<-over
				p.Heal()
				Eventually(func() int64 { return s.Calls("set") }).WithTimeout(soon).WithPolling(time.Millisecond).
					Should(BeNumerically(">", before), "it arrives")
				Expect(keysOn(s)).To(BeEmpty(), "worked before: %t, %v", worked, m)
			})
		})
	})
})
