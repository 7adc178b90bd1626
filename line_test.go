package ctxlock_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// Within a process, waiters stand in line, and a lock may pass from one to the next without the server.

// inLine begins a wait of a locker whose other calls hold the name, or stand in line already, and returns once it stands there, too.
func inLine(how taking, name string, check *checker) *pending {
	ctx := &noticing{Context: bg(), waited: make(chan struct{})}
	waiter := begin(ctx, how, name, check)
	<-ctx.waited
	return waiter
}

// asked counts the commands about keys that go through a proxy.
func asked(p *lab.Proxy) *atomic.Int64 {
	var n atomic.Int64
	p.OnCommand(func(args []string) lab.Action {
		if len(args) > 1 {
			n.Add(1)
		}
		return lab.Pass
	})
	return &n
}

var _ = Describe("A lock that goes from one to the next within a process", func() {
	It("asks the server nothing, keeps the order, and gives each a context and a cause of its own", func() {
		s := server()
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}, {majority: 1, polling: true}}, func(m mix) {
			const line = 20
			p, name, check := proxy(s), unique(), new(checker)
			option := m.option(p.Addr())
			option.KeyValidity = 20 * time.Second // no extension comes between
			l := locker(option)
			held := take(bg(), l.WithContext, name)
			check.enter(held)
			var waiters []*pending
			for range line {
				waiters = append(waiters, inLine(l.WithContext, name, check))
			}
			Eventually(func() error { // they are noted for Look, some time after they came
				status, err := l.Look(bg(), name)
				if err == nil && status.Waiting != line {
					err = fmt.Errorf("%d wait", status.Waiting)
				}
				return err
			}).WithTimeout(soon).Should(Succeed())
			before, err := s.Do("GET", firstKey(name))
			Expect(err).NotTo(HaveOccurred())
			var set atomic.Int64
			p.OnCommand(func(args []string) lab.Action {
				if concerns(args, firstKey(name)) {
					set.Add(1)
				}
				return lab.Pass
			})
			for i, waiter := range waiters {
				was := held
				was.release()
				held = waiter.gets(busy)
				Expect(context.Cause(was)).To(MatchError(ctxlock.ErrReleased), m.String())
				Expect(held.Err()).NotTo(HaveOccurred(), "number %d, %v", i, m)
				was.release() // a second time, and of no effect
				Expect(held.Err()).NotTo(HaveOccurred(), "number %d, %v", i, m)
			}
			Expect(set.Load()).To(BeZero(), "commands about the key, %v", m)
			Expect(s.Do("GET", firstKey(name))).To(Equal(before), "the same owner value")
			held.release()
			check.exclusive()
		})
		nothingLeft(s, soon)
	})

	It("stays held beyond the validity that the first had, and the last one extends it", func() {
		s := server()
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}}, func(m mix) {
			name, check := unique(), new(checker)
			l, other := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			first := take(bg(), l.WithContext, name)
			check.enter(first)
			next := inLine(l.WithContext, name, check)
			elsewhere := begin(bg(), other.WithContext, name, check)
			Consistently(first.Err, validity/4).Should(Succeed())
			first.release()
			held := next.gets(busy)
			Consistently(func() error { return context.Cause(held) }, 5*validity/2).Should(Succeed(), m.String())
			Expect(elsewhere.done).NotTo(BeClosed())
			held.release()
			elsewhere.gets(soon).release()
			check.exclusive()
		})
		nothingLeft(s, soon)
	})

	for _, reason := range []ctxlock.Reason{ctxlock.Taken, ctxlock.Deleted} {
		It(fmt.Sprintf("is lost like any other when it is %v by others", reason), func() {
			s := server()
			together([]mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}, {majority: 1, polling: true}}, func(m mix) {
				name, l, other := unique(), locker(m.option(s.Addr())), locker(m.option(s.Addr()))
				held := take(bg(), l.WithContext, name)
				for range 5 {
					next := inLine(l.WithContext, name, nil)
					held.release()
					held = next.gets(busy)
				}
				var forced holding
				if reason == ctxlock.Taken {
					forced = take(bg(), other.ForceWithContext, name)
				} else {
					deleteKeys(s, name, m)
				}
				within := busy
				if m.polling {
					within = validity/2 + busy // at the next extension
				}
				Expect(end(held, within)).To(beLost(name, reason), m.String())
				held.release()
				if reason == ctxlock.Taken {
					Expect(forced.Err()).NotTo(HaveOccurred())
					forced.release()
				}
			})
			nothingLeft(s, soon)
		})
	}

	It("is forced within the process as well, and goes on from there", func() {
		s := server()
		together([]mix{{majority: 1}, {majority: 2}}, func(m mix) {
			name, l, check := unique(), locker(m.option(s.Addr())), new(checker)
			first := take(bg(), l.WithContext, name)
			second := inLine(l.WithContext, name, nil)
			first.release()
			held := second.gets(busy)
			third := inLine(l.WithContext, name, check)
			forced := take(bg(), l.ForceWithContext, name)
			check.enter(forced)
			Expect(context.Cause(held)).To(beLost(name, ctxlock.Taken))
			held.release()
			Consistently(third.done, validity/2).ShouldNot(BeClosed())
			Expect(forced.Err()).NotTo(HaveOccurred())
			forced.release()
			third.gets(busy).release()
			check.exclusive()
		})
		nothingLeft(s, soon)
	})

	It("is lost when its connection stalls, no later than its key, however often it was handed on", Label("control"), func() {
		s := server()
		together([]mix{{majority: 1}, {majority: 2}}, func(m mix) {
			p, name, check := proxy(s), unique(), new(checker)
			option := m.option(p.Addr())
			l := contending(option, ctxlock.Contention{LocalHandoffs: 1 << 20})
			other := locker(m.option(s.Addr()))
			held := take(bg(), l.WithContext, name)
			check.enter(held)
			elsewhere := begin(bg(), other.WithContext, name, check)
			p.Stall(lab.Both)
			ctx, stop := context.WithTimeout(context.Background(), 3*validity)
			defer stop()
			var work sync.WaitGroup
			for range 3 { // they hand it to each other for as long as that may be
				work.Go(func() {
					for ctx.Err() == nil {
						held, release, err := l.WithContext(ctx, name)
						if err == nil {
							check.enter(held)
						}
						go release() // which waits for the server
					}
				})
			}
			held.release()
			elsewhere.gets(validity + promised + busy)
			Consistently(elsewhere.Err, validity/2).Should(Succeed())
			stop()
			p.Heal()
			work.Wait()
			elsewhere.release()
			check.exclusive()
		})
		nothingLeft(s, 2*soon)
	})

	It("goes to whoever is next if the first in line gives up in the same instant", func() {
		s := server()
		name, check, l := unique(), new(checker), locker(plain.option(s.Addr()))
		held := take(bg(), l.WithContext, name)
		check.enter(held)
		for n := range 200 {
			ctx, stop := context.WithCancel(bg())
			gone := &noticing{Context: ctx, waited: make(chan struct{})}
			first := begin(gone, l.WithContext, name, nil)
			<-gone.waited
			second := inLine(l.WithContext, name, check)
			released := beginCall(held.release)
			for start := time.Now(); n%4 > 0 && time.Since(start) < time.Duration(n)*time.Microsecond/2; { // a timer is not that exact
			}
			stop()
			first.returns(busy)
			first.release()
			held = second.gets(busy)
			released.returns(busy)
		}
		held.release()
		check.exclusive()
		nothingLeft(s, soon)
	})

	It("that is closed meanwhile lets all of them go, and leaves no key", func() {
		s := server()
		together(upTo(20), func(n int) {
			name, l := unique(), locker(plain.option(s.Addr()))
			held := take(bg(), l.WithContext, name)
			var waiters []*pending
			for range 10 {
				waiters = append(waiters, inLine(l.WithContext, name, nil))
			}
			released := beginCall(held.release)
			for start := time.Now(); time.Since(start) < time.Duration(n)*20*time.Microsecond; {
			}
			closing := beginCall(l.Close)
			for _, waiter := range waiters {
				waiter.returns(soon)
				if waiter.err != nil {
					Expect(waiter.err).To(MatchError(ctxlock.ErrLockerClosed))
				} else { // it came before Close
					Expect(end(waiter, soon)).To(MatchError(ctxlock.ErrLockerClosed))
				}
				waiter.release()
			}
			released.returns(soon)
			closing.returns(soon)
		})
		nothingLeft(s, soon)
	})
})

// concerns tells whether a command is about a key.
func concerns(args []string, key string) bool {
	for _, arg := range args {
		if arg == key {
			return true
		}
	}
	return false
}

var _ = Describe("The bound of local handoffs", func() {
	for _, handoffs := range []struct {
		set  int
		most int64 // holdings here between two elsewhere
	}{{-1, 1}, {1, 2}, {5, 6}, {0, 129}} {
		for _, m := range []mix{{majority: 1}, {majority: 2}} {
			It(fmt.Sprintf("gives another process its turn after %d, with LocalHandoffs %d, majority %d", handoffs.most, handoffs.set, m.majority), func() {
				s, name, check := server(), unique(), new(checker)
				option := m.option(s.Addr())
				option.KeyValidity = 20 * time.Second // not the trust window, but the number
				here, there := contending(option, ctxlock.Contention{LocalHandoffs: handoffs.set}), locker(option)
				var stop atomic.Bool
				var holdings atomic.Int64
				var work sync.WaitGroup
				ctx := bg()
				for range 10 {
					work.Go(func() {
						defer GinkgoRecover()
						for !stop.Load() {
							held, release, err := here.WithContext(ctx, name)
							Expect(err).NotTo(HaveOccurred())
							check.enter(held)
							holdings.Add(1)
							release()
						}
					})
				}
				Eventually(holdings.Load).WithTimeout(soon).Should(BeNumerically(">", 200))
				var worst int64
				for range 20 {
					waiter := begin(ctx, there.WithContext, name, check)
					standingWhile(s, name, waiter)
					before := holdings.Load()
					held := waiter.gets(soon)
					worst = max(worst, holdings.Load()-before)
					held.release()
				}
				stop.Store(true)
				work.Wait()
				check.exclusive()
				GinkgoWriter.Printf("at most %d holdings here while one there waited, of %d\n", worst, holdings.Load())
				Expect(worst).To(BeNumerically("<=", handoffs.most+1), "and one that begins while this is looked at")
				nothingLeft(s, soon)
			})
		}
	}

	It("is also the trust window: another process has its turn within it, however high the number", func() {
		s, name, check := server(), unique(), new(checker)
		here, there := contending(plain.option(s.Addr()), ctxlock.Contention{LocalHandoffs: 1 << 20}), locker(plain.option(s.Addr()))
		var stop atomic.Bool
		var work sync.WaitGroup
		ctx := bg()
		for range 5 {
			work.Go(func() {
				defer GinkgoRecover()
				for !stop.Load() {
					held, release, err := here.WithContext(ctx, name)
					Expect(err).NotTo(HaveOccurred())
					check.enter(held)
					release()
				}
			})
		}
		for range 5 {
			begin(ctx, there.WithContext, name, check).gets(2*validity + busy).release()
		}
		stop.Store(true)
		work.Wait()
		check.exclusive()
		nothingLeft(s, soon)
	})

	It("lets one speak for all: a thousand in line make no more commands than one", func() {
		s, name := server(), unique()
		p := proxy(s)
		option := plain.option(s.Addr())
		option.KeyValidity = 5 * time.Second
		first := take(bg(), locker(option).WithContext, name)
		option.ClientOption.InitAddress = []string{p.Addr()}
		l, ctx := locker(option), bg()
		waiters := []*pending{begin(ctx, l.WithContext, name, nil)}
		standing(s, name, 1)
		n := asked(p)
		for range 999 {
			waiters = append(waiters, begin(ctx, l.WithContext, name, nil))
		}
		Consistently(func() int64 { return queued(s, name) }, validity/2).Should(BeEquivalentTo(1), "one speaks for all")
		Expect(n.Load()).To(BeNumerically("<=", 10), "what is noted for Look")
		first.release()
		for _, waiter := range waiters {
			go func() { <-waiter.done; waiter.release() }()
		}
		for _, waiter := range waiters {
			waiter.gets(soon)
		}
		nothingLeft(s, soon)
	})
})

// standingWhile waits until somebody stands in the queue, or has the lock already.
func standingWhile(s *lab.Server, name string, waiter *pending) {
	for queued(s, name) < 1 {
		select {
		case <-waiter.done:
			return
		default:
		}
	}
}

var _ = Describe("Fencing tokens within a process", func() {
	for _, m := range []mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}} {
		It(fmt.Sprintf("rise with each holding, of those in line and of those elsewhere (%v)", m), func() {
			s, log, name, check := server(), newTokenLog(), unique(), new(checker)
			ctx, end := context.WithTimeout(context.Background(), 60*time.Second)
			defer end()
			goal := 10_000
			if m.polling {
				goal = 1000
			}
			var work sync.WaitGroup
			var plainly atomic.Int64
			for i, workers := range []int{12, 1} {
				l := locker(m.option(s.Addr()))
				for j := range workers {
					work.Go(func() {
						defer GinkgoRecover()
						for log.count() < goal {
							if j%4 == 3 { // some without a token come between
								held, release, err := l.WithContext(ctx, name)
								Expect(err).NotTo(HaveOccurred())
								check.enter(held)
								plainly.Add(1)
								release()
								continue
							}
							call := log.begin(name, fmt.Sprint(i, ".", j))
							held, lock, err := l.Acquire(ctx, name, fenced)
							Expect(err).NotTo(HaveOccurred())
							check.enter(held)
							log.enter(call, lock)
							Expect(lock.Token()).To(BeNumerically(">", 0))
							Expect(lock.Release(ctx)).To(Succeed())
						}
					})
				}
			}
			work.Wait()
			Expect(log.wrong).To(BeEmpty())
			Expect(plainly.Load()).To(BeNumerically(">", 0))
			check.exclusive()
			Eventually(func() []string { return locksLeft(s) }).WithTimeout(soon).Should(BeEmpty())
		})
	}
})
