package ctxlock_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

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

var _ = Describe("A server's clock", Label("control"), func() {
	for _, skew := range []time.Duration{time.Hour, -time.Hour, 2 * validity, -validity / 2} {
		It(fmt.Sprintf("that is off by %v from the start changes nothing", skew), func() {
			s := server(lab.Config{Clock: true, ClockSkew: skew})
			together(clocked, func(m mix) {
				name, p, check := unique(), proxy(s), new(checker)
				a, b := locker(m.option(p.Addr())), locker(m.option(s.Addr()))
				for range 3 { // keys are given their life in more than one way, as more is known of the clock
					first := take(bg(), a.WithContext, name)
					check.enter(first)
					Expect(ttl(s, firstKey(name))).To(And(BeNumerically(">", 0), BeNumerically("<=", validity+promised)), m.String())
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
					Expect(ttl(s, firstKey(name))).To(And(BeNumerically(">", 0), BeNumerically("<=", validity+promised)), "%v, %v", m, context.Cause(first))
				}
				p.Stall(lab.Both) // as good as a crash
				expires := time.Now().Add(ttl(s, firstKey(name)))
				waiter.gets(validity + soon).release()
				GinkgoWriter.Printf("had %v after the key's end: %v\n", time.Since(expires), m)
				Expect(time.Now()).To(BeTemporally("<", expires.Add(promised+busy)), m.String())
				check.exclusive()
				p.Heal()
				first.release()
			})
			nothingLeft(s, soon)
		})
	}

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
			go func() { // somebody asks without a pause
				defer GinkgoRecover()
				defer close(trying)
				for first.Err() == nil {
					held, release, err := c.TryWithContext(bg(), name)
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
			Expect(ttl(s, firstKey(name))).To(And(BeNumerically(">", 0), BeNumerically("<=", validity+promised)), m.String())
			first.release()
			second.release()
			take(bg(), a.WithContext, name).release()
			nothingLeft(s, soon)
		})
	})

	It("that jumps back by an hour leaves the lock held, and its key soon has its right life", func() {
		together(clocked, func(m mix) {
			s, name, check := server(lab.Config{Clock: true}), unique(), new(checker)
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			take(bg(), b.WithContext, unique()).release()
			first := take(bg(), a.WithContext, name)
			check.enter(first)
			waiter := begin(bg(), b.WithContext, name, check)
			Eventually(func() time.Duration { return ttl(s, firstKey(name)) }).Should(BeNumerically("<", validity*9/10))

			s.SetClock(-time.Hour)
			Eventually(func() time.Duration { return ttl(s, firstKey(name)) }).WithTimeout(validity/2+soon).
				Should(BeNumerically("<=", validity+promised), m.String())
			Consistently(first.Done(), 3*validity/2).ShouldNot(BeClosed(), m.String())
			Expect(ttl(s, firstKey(name))).To(And(BeNumerically(">", 0), BeNumerically("<=", validity+promised)), m.String())
			Expect(waiter.done).NotTo(BeClosed())
			first.release()
			second := waiter.gets(soon)
			check.exclusive()
			Expect(ttl(s, firstKey(name))).To(And(BeNumerically(">", 0), BeNumerically("<=", validity+promised)), m.String())
			second.release()
			nothingLeft(s, soon)
		})
	})

	It("that jumps to and fro under contention never gives a lock to two", func() {
		seed := uint64(GinkgoRandomSeed())
		together(clocked, func(m mix) {
			const lockers, workers, jumps = 3, 2, 16
			s, name, check := server(lab.Config{Clock: true}), unique(), new(checker)
			jumping, stop := context.WithCancel(bg())
			defer stop()
			var working sync.WaitGroup
			for range lockers {
				l := locker(m.option(s.Addr()))
				take(bg(), l.WithContext, unique()).release()
				for range workers {
					working.Go(func() {
						defer GinkgoRecover()
						for last := false; !last; {
							last = jumping.Err() != nil // once more when it is over: everybody is served again
							held := begin(bg(), l.WithContext, name, check).gets(20 * time.Second)
							select {
							case <-held.Done():
							case <-time.After(rand.N(validity / 10)):
							}
							held.release()
						}
					})
				}
			}
			random := rand.New(rand.NewPCG(seed, uint64(m.majority)))
			offsets := []time.Duration{0, time.Hour, -time.Hour, validity / 2, -validity / 2, 10 * time.Second, 2 * time.Hour}
			for range jumps {
				s.SetClock(offsets[random.IntN(len(offsets))])
				time.Sleep(time.Duration(random.Int64N(int64(validity)))) // a pace, not a wait
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

var _ = Describe("A claim that is held up on its way", Label("control"), func() {
	for _, state := range []string{"has just connected", "has been at work"} {
		It("by a locker that "+state+" plants no key once its sender is gone", func() {
			together([]mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}, {majority: 1, polling: true}}, func(m mix) {
				s := server()
				p := proxy(s)
				a := locker(m.option(p.Addr()))
				if state == "has been at work" {
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
				a.Close()
				Expect(time.Now()).NotTo(BeNil())
				over := time.After(3 * validity / 2)
				<-over
				p.Heal()
				Eventually(func() int64 { return s.Calls("set") }).WithTimeout(soon).WithPolling(time.Millisecond).
					Should(BeNumerically(">", before), "it arrives")
				Expect(keysOn(s)).To(BeEmpty(), m.String())
			})
		})
	}
})
