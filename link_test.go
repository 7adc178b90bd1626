package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// soon is what a call may take that has nothing to wait for, on a machine that has much else to do.
const soon = 3 * time.Second

// moments are when a link fails, as seen from an extension.
var moments = []string{"just before it is sent", "while it is under way", "just after its answer", "when its answer was late"}

// stallAt stalls a link once, at a moment around the first extension of the lock that it sees from now on, and returns when that
// is done, or when the lock has ended.
func stallAt(s *lab.Server, p *lab.Proxy, held holding, name string, st stall) {
	GinkgoHelper()
	extended := rises(s, firstKey(name))
	var seen atomic.Int32
	p.OnCommand(func(args []string) lab.Action {
		if !extends(args) || !slices.Contains(args, firstKey(name)) {
			return lab.Pass
		}
		switch n := seen.Add(1); {
		case n == 1 && st.moment == moments[0], n == 2 && st.moment == moments[3]:
			p.Stall(st.d)
		case n == 1 && (st.moment == moments[1] || st.moment == moments[3]):
			return lab.StallAfter
		}
		return lab.Pass
	})
	eventually := func(what func() bool) {
		GinkgoHelper()
		done := func() bool { return what() || held.Err() != nil }
		Eventually(done).WithTimeout(validity + soon).WithPolling(time.Millisecond).Should(BeTrue())
	}
	eventually(func() bool { return seen.Load() > 0 })
	switch st.moment {
	case moments[1], moments[2]:
		eventually(extended)
		p.Stall(st.d)
	case moments[3]:
		Consistently(held.Done(), validity/4).ShouldNot(BeClosed())
		p.Heal()
		eventually(func() bool { return seen.Load() > 1 })
	}
}

// rises gives a function that tells whether a key was given more time since.
func rises(s *lab.Server, key string) func() bool {
	runsOut := func() time.Time { return time.Now().Add(ttl(s, key)) }
	before := runsOut()
	return func() bool { return runsOut().Sub(before) > validity/10 }
}

// extends tells whether a command is an extension, by SET IFEQ or by script.
func extends(args []string) bool {
	return slices.Contains(args, "IFEQ") && args[0] == "SET" ||
		slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "PEXPIRE") })
}

// claims tells whether a command sets a lock's key for the first time.
func claims(args []string) bool {
	if args[0] == "EVALSHA" {
		return args[1] == ctxlock.JoinScript
	}
	return args[0] == "SET" && !slices.Contains(args, "IFEQ") && strings.HasPrefix(args[1], "valkeylock:0:")
}

// cutAt has an action strike once, at command number n from now on. fired tells whether it has.
func cutAt(p *lab.Proxy, action lab.Action, n int) (fired *atomic.Bool) {
	fired = new(atomic.Bool)
	p.OnCommand(func([]string) lab.Action {
		if n--; n != -1 {
			return lab.Pass
		}
		fired.Store(true)
		return action
	})
	return fired
}

// cuts are the ways to lose a reply.
var cuts = map[lab.Action]string{lab.CutBefore: "before the server has it", lab.CutAfter: "in place of its reply"}

// directions are the ways to stall a link.
var directions = map[lab.Direction]string{lab.Up: "up", lab.Down: "down", lab.Both: "both ways"}

// stall is one way for a link to stall around an extension.
type stall struct {
	moment   string
	d        lab.Direction
	majority int32
}

// stalls is all of them.
func stalls() (all []stall) {
	for _, moment := range moments {
		for d := range directions {
			all = append(all, stall{moment, d, 1}, stall{moment, d, 2})
		}
	}
	return all
}

func (st stall) String() string {
	return fmt.Sprintf("%s, %s, majority %d", st.moment, directions[st.d], st.majority)
}

var _ = Describe("A holder's link that stalls", Label("control"), func() {
	It("around an extension ends the context before another has the lock, at whichever moment and in whichever direction", func() {
		s := server()
		together(stalls(), func(st stall) {
			m := mix{majority: st.majority}
			name, p, check := unique(), proxy(s), new(checker)
			a, b := locker(m.option(p.Addr())), locker(m.option(s.Addr()))
			first := take(bg(), a.WithContext, name)
			check.enter(first)
			waiter := begin(bg(), b.WithContext, name, check)
			stallAt(s, p, first, name, st)

			Expect(end(first, validity+soon)).To(beLost(name, ctxlock.Expired), st.String())
			second := waiter.gets(validity + soon)
			check.exclusive()

			p.Heal() // what was held up arrives, and finds another's value
			first.release()
			Consistently(second.Done(), validity/4).ShouldNot(BeClosed())
			_, _, err := a.TryWithContext(bg(), name)
			Expect(err).To(MatchError(ctxlock.ErrNotLocked))
			second.release()
			Expect(end(second, soon)).To(MatchError(ctxlock.ErrReleased))
		})
		nothingLeft(s, soon)
	})

	It("after a claim whose answer was late ends the context before another has the lock", func() {
		s := server()
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, setPX: true}, {majority: 1, polling: true}}, func(m mix) {
			name, p, check := unique(), proxy(s), new(checker)
			a, b := locker(m.option(p.Addr())), locker(m.option(s.Addr()))
			p.OnCommand(func(args []string) lab.Action {
				switch {
				case claims(args):
					return lab.StallAfter
				case extends(args):
					p.Stall(lab.Up)
				}
				return lab.Pass
			})
			claiming := begin(bg(), a.WithContext, name, check)
			Consistently(claiming.done, validity/2).ShouldNot(BeClosed())
			waiter := begin(bg(), b.WithContext, name, check)
			p.Heal()
			first := claiming.gets(soon)
			Expect(end(first, validity/2+busy)).To(beLost(name, ctxlock.Expired), m.String())
			waiter.gets(validity + soon).release()
			check.exclusive()
			p.Heal()
			first.release()
		})
		nothingLeft(s, soon)
	})

	It("and heals in time leaves the lock held", func() {
		s := server()
		together(stalls(), func(st stall) {
			option := mix{majority: st.majority}.option(s.Addr())
			name, p, b := unique(), proxy(s), locker(option)
			option.KeyValidity = 2 * validity // one that a busy machine can be in time for
			option.ExtendInterval = validity / 2
			option.ClientOption.InitAddress = []string{p.Addr()}
			first := take(bg(), locker(option).WithContext, name)
			stallAt(s, p, first, name, st)

			Consistently(first.Done(), validity/2).ShouldNot(BeClosed())
			p.Heal()
			Consistently(first.Done(), 5*validity/2).ShouldNot(BeClosed(), st.String())
			_, _, err := b.TryWithContext(bg(), name)
			Expect(err).To(MatchError(ctxlock.ErrNotLocked))
			first.release()
			Expect(end(first, soon)).To(MatchError(ctxlock.ErrReleased))
		})
		nothingLeft(s, soon)
	})

	It("because its server stands still for two validities ends the context, and a waiter is next", func() {
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, setPX: true}, {majority: 1, polling: true}}, func(m mix) {
			s, name, check := server(), unique(), new(checker)
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			first := take(bg(), a.WithContext, name)
			check.enter(first)
			waiter := begin(bg(), b.WithContext, name, check)
			Eventually(func() time.Duration { return ttl(s, firstKey(name)) }).Should(BeNumerically("<", validity*8/10))

			s.Freeze()
			thaw := time.Now().Add(2 * validity)
			Expect(end(first, validity+soon)).To(beLost(name, ctxlock.Expired), m.String())
			Consistently(waiter.done, time.Until(thaw)).ShouldNot(BeClosed())
			s.Thaw()
			second := waiter.gets(validity + soon)
			check.exclusive()
			first.release()
			Consistently(second.Done(), validity/4).ShouldNot(BeClosed())
			second.release()
			nothingLeft(s, soon)
		})
	})
})

// point is where a connection is cut: at command number n.
type point struct {
	m      mix
	action lab.Action
	n      int
}

var _ = Describe("A reply that is lost", Label("control"), func() {
	calls := map[string]func(ctxlock.Locker) taking{
		"WithContext":      func(l ctxlock.Locker) taking { return l.WithContext },
		"TryWithContext":   func(l ctxlock.Locker) taking { return l.TryWithContext },
		"ForceWithContext": func(l ctxlock.Locker) taking { return l.ForceWithContext },
	}
	for action, cut := range cuts {
		for call, of := range calls {
			It(call+" acquires all the same, at whichever command the connection is cut "+cut, func() {
				s := server()
				together([]mix{{majority: 1}, {majority: 2}, {majority: 2, noLoop: true, setPX: true}, {majority: 1, polling: true}}, func(m mix) {
					p, option := proxy(s), m.option(s.Addr())
					option.ExtendInterval = validity / 10 // which is when a holder that polls learns that it was deposed
					b := locker(option)
					option.ClientOption.InitAddress = []string{p.Addr()}
					a := locker(option)
					for n, more := 0, true; more; n++ {
						name, ctx := unique(), bg()
						var before holding
						if call == "ForceWithContext" {
							before = take(ctx, b.WithContext, name)
						}
						fired := cutAt(p, action, n)
						held := begin(ctx, of(a), name, nil).gets(soon)
						if before.Context != nil {
							Expect(end(before, soon)).To(beLost(name, ctxlock.Taken))
							before.release()
						}
						_, _, err := b.TryWithContext(ctx, name)
						Expect(err).To(MatchError(ctxlock.ErrNotLocked), "cut at command %d", n)
						Expect(held.Err()).NotTo(HaveOccurred())

						if more = fired.Load(); !more {
							Expect(n).To(BeNumerically(">=", 2), "commands that were cut")
						}
						p.OnCommand(nil)
						held.release()
						Expect(context.Cause(held)).To(MatchError(ctxlock.ErrReleased))
						take(ctx, b.TryWithContext, name).release() // at once: nothing of it is left
					}
				})
				nothingLeft(s, soon)
			})
		}
	}

	It("to an extension does not end the lock, at whichever command the connection is cut", func() {
		s := server()
		var points []point
		for action := range cuts {
			for _, m := range []mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}} {
				for n := range int(4*m.majority - 2) {
					points = append(points, point{m, action, n})
				}
			}
		}
		together(points, func(at point) {
			name, p := unique(), proxy(s)
			a, b := locker(at.m.option(p.Addr())), locker(at.m.option(s.Addr()))
			held := take(bg(), a.WithContext, name)
			fired := cutAt(p, at.action, at.n)
			Eventually(fired.Load).WithTimeout(2*validity + soon).Should(BeTrue())
			Consistently(held.Done(), 3*validity/2).ShouldNot(BeClosed(), "%v", at)
			_, _, err := b.TryWithContext(bg(), name)
			Expect(err).To(MatchError(ctxlock.ErrNotLocked))
			held.release()
			Expect(context.Cause(held)).To(MatchError(ctxlock.ErrReleased))
		})
		nothingLeft(s, soon)
	})

	It("to a release does not keep the next one waiting, at whichever command the connection is cut", func() {
		s := server()
		var points []point
		for action := range cuts {
			for _, m := range []mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}, {majority: 1, polling: true}} {
				for n := range 3 {
					points = append(points, point{m, action, n})
				}
			}
		}
		together(points, func(at point) {
			name, p, check := unique(), proxy(s), new(checker)
			a, b := locker(at.m.option(p.Addr())), locker(at.m.option(s.Addr()))
			first := take(bg(), a.WithContext, name)
			check.enter(first)
			waiter := begin(bg(), b.WithContext, name, check)
			Eventually(rises(s, firstKey(name))).WithTimeout(soon).Should(BeTrue()) // from now on waiters rely on the wake key

			fired := cutAt(p, at.action, at.n)
			Expect(first.release).To(takeLessThan(soon))
			Expect(context.Cause(first)).To(MatchError(ctxlock.ErrReleased))
			waiter.gets(time.Second + busy).release()
			check.exclusive()
			Expect(at.n > 0 || fired.Load()).To(BeTrue(), "a release takes a command")
		})
		nothingLeft(s, soon)
	})
})

var _ = Describe("A claim whose reply does not come", Label("control"), func() {
	// Each way to hold up a claim: told when the claim is on its way.
	ways := map[string]func(p *lab.Proxy) lab.Action{
		"the reply is held up": func(*lab.Proxy) lab.Action { return lab.StallAfter },
		"the claim is held up": func(p *lab.Proxy) lab.Action { p.Stall(lab.Up); return lab.Pass },
		"both ways are":        func(p *lab.Proxy) lab.Action { p.Stall(lab.Both); return lab.Pass },
	}
	for way, hold := range ways {
		It("lets its caller go when the caller's context ends, and leaves no key when the link has healed: "+way, func() {
			s, reason := server(), errors.New("lunch")
			together([]mix{{majority: 1}, {majority: 2}, {majority: 1, setPX: true}, {majority: 2, polling: true}}, func(m mix) {
				together(upTo(6), func(n int) {
					name, p := unique(), proxy(s)
					option := m.option(p.Addr())
					option.KeyValidity = 5 * time.Second // not the end of the keys that were planted, but their clean-up
					a := locker(option)
					how := []taking{a.WithContext, a.TryWithContext, a.ForceWithContext}[n/2]
					p.OnCommand(func(args []string) lab.Action {
						if claims(args) {
							return hold(p)
						}
						return lab.Pass
					})
					var ctx context.Context
					var wants error
					if n%2 == 0 {
						timed, stop := context.WithTimeout(bg(), 100*time.Millisecond)
						defer stop()
						ctx, wants = timed, context.DeadlineExceeded
					} else {
						causal, stop := context.WithCancelCause(bg())
						time.AfterFunc(100*time.Millisecond, func() { stop(reason) })
						ctx, wants = causal, reason
					}
					err := begin(ctx, how, name, nil).fails(time.Second)
					Expect(err).To(MatchError(ctx.Err()))
					Expect(err).To(MatchError(wants))
					Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))

					p.OnCommand(nil)
					p.Heal()
					begin(bg(), a.WithContext, name, nil).gets(soon).release() // its own remains do not stand in the way
					Eventually(func() time.Duration { return ttl(s, firstKey(name)) }).WithTimeout(soon).Should(BeNumerically("<", 0))
				})
			})
			nothingLeft(s, soon)
		})
	}

	It("in 3,000 calls at once lets them all go when their context ends, and leaves no key", func() {
		s := server()
		p := proxy(s)
		option := plain.option(p.Addr())
		option.KeyValidity = 20 * time.Second
		a := locker(option)
		take(bg(), a.WithContext, unique()).release()
		p.Stall(lab.Both)
		start := time.Now()
		ctx, stop := context.WithTimeout(bg(), 300*time.Millisecond)
		defer stop()
		calls := make([]*pending, 3000)
		for i := range calls {
			how := a.WithContext
			if i%2 == 0 {
				how = a.TryWithContext
			}
			calls[i] = begin(ctx, how, fmt.Sprint("thousands/", i), nil)
		}
		for _, call := range calls {
			Expect(call.fails(soon)).To(MatchError(context.DeadlineExceeded))
		}
		GinkgoWriter.Println("3,000 calls returned after", time.Since(start))
		Expect(time.Since(start)).To(BeNumerically("<", soon))
		p.Heal()
		take(bg(), a.WithContext, unique()).release() // the locker is of use again
		nothingLeft(s, 2*soon)
	})

	It("because the link fails again while it reconnects lets its caller go, and Close leaves no connection", func() {
		s := server()
		together(mixes, func(m mix) {
			p, name := proxy(s), unique()
			a := locker(m.option(p.Addr()))
			take(bg(), a.WithContext, name).release()
			p.Stall(lab.Both)
			p.Cut() // the new connection is accepted, and hears nothing
			together(upTo(20), func(n int) {
				ctx, stop := context.WithTimeout(bg(), 200*time.Millisecond)
				defer stop()
				how := []taking{a.WithContext, a.TryWithContext, a.ForceWithContext}[n%3]
				err := begin(ctx, how, name, nil).fails(soon)
				Expect(err).To(MatchError(context.DeadlineExceeded))
				Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))
			})
			Expect(a.Close).To(takeLessThan(2*soon), m.String())
			p.Heal()
			Eventually(p.Open).WithTimeout(soon).Should(BeZero(), "connections, %v", m)
		})
		nothingLeft(s, soon)
	})
})

var _ = Describe("A server", Label("control"), func() {
	It("that kills all connections, again and again, takes no lock from anybody and lets waiters wake", func() {
		s := server()
		killing := make(chan struct{})
		var ready atomic.Int32
		go func() {
			defer GinkgoRecover()
			defer close(killing)
			Eventually(ready.Load).WithTimeout(soon).Should(BeEquivalentTo(len(mixes)))
			for range 10 {
				_, err := s.Do("CLIENT", "KILL", "TYPE", "normal")
				Expect(err).NotTo(HaveOccurred())
				time.Sleep(validity / 10) // a pace, not a wait
			}
		}()
		together(mixes, func(m mix) {
			name, check := unique(), new(checker)
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			first := take(bg(), a.WithContext, name)
			check.enter(first)
			waiter := begin(bg(), b.WithContext, name, check)
			ready.Add(1)
			Eventually(killing).WithTimeout(10 * validity).Should(BeClosed())
			Consistently(first.Done(), 3*validity/2).ShouldNot(BeClosed(), m.String())
			Expect(waiter.done).NotTo(BeClosed())
			first.release()
			waiter.gets(time.Second).release()
			check.exclusive()
		})
		nothingLeft(s, soon)
	})

	It("that forgets its scripts is told them again", func() {
		s := server()
		together(mixes, func(m mix) {
			option := m.option(s.Addr())
			option.ExtendInterval = validity / 8
			name, a, b := unique(), locker(option), locker(option)
			first := take(bg(), a.WithContext, name)
			for range 10 {
				_, err := s.Do("SCRIPT", "FLUSH")
				Expect(err).NotTo(HaveOccurred())
				Consistently(first.Done(), validity/5).ShouldNot(BeClosed(), m.String())
			}
			waiter := begin(bg(), b.WithContext, name, nil)
			_, err := s.Do("SCRIPT", "FLUSH")
			Expect(err).NotTo(HaveOccurred())
			first.release()
			waiter.gets(time.Second).release()
		})
		GinkgoWriter.Println(s.Binary, "was sent scripts whole:", s.Calls("eval"))
		nothingLeft(s, soon)
	})

	It("that is flushed ends the lock as deleted, and the waiter gets it", func() {
		together(mixes, func(m mix) {
			s, name := server(), unique()
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			first := take(bg(), a.WithContext, name)
			waiter := begin(bg(), b.WithContext, name, nil)
			Eventually(func() time.Duration { return ttl(s, firstKey(name)) }).Should(BeNumerically("<", validity*9/10))
			flushed := time.Now()
			_, err := s.Do("FLUSHALL")
			Expect(err).NotTo(HaveOccurred())
			within := validity/2 + busy // at the next extension, at the latest
			if !m.polling {
				within = busy // word of it
			}
			cause := end(first, within)
			GinkgoWriter.Printf("ended after %v, %v: %v\n", time.Since(flushed), cause, m)
			Expect(cause).To(Or(beLost(name, ctxlock.Deleted), beLost(name, ctxlock.Taken))) // the waiter may be there first
			waiter.gets(soon).release()
			first.release()
			nothingLeft(s, soon)
		})
	})

	It("that comes back empty ends the lock, and the waiter gets it", func() {
		together(mixes, func(m mix) {
			s, name := server(), unique()
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			first := take(bg(), a.WithContext, name)
			waiter := begin(bg(), b.WithContext, name, nil)
			Eventually(func() time.Duration { return ttl(s, firstKey(name)) }).Should(BeNumerically("<", validity*9/10))
			s.Kill()
			Expect(s.Restart()).To(Succeed())
			cause := end(first, validity+busy) // Expired where the restart took long
			GinkgoWriter.Printf("%v: %v\n", cause, m)
			Expect(cause).To(Or(beLost(name, ctxlock.Deleted), beLost(name, ctxlock.Taken), beLost(name, ctxlock.Expired)))
			waiter.gets(soon).release()
			first.release()
			nothingLeft(s, soon)
		})
	})

	for _, gone := range []string{"is gone for good", "stands still for good"} {
		It("that "+gone+" keeps nobody", func() {
			together([]mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}}, func(m mix) {
				s, reached := server(), Not(MatchError(syscall.ECONNREFUSED))
				a := locker(m.option(s.Addr()))
				name := unique()
				released, run := take(bg(), a.WithContext, unique()), take(bg(), a.WithContext, name)
				waiter := begin(bg(), a.WithContext, name, nil)
				if gone == "is gone for good" {
					s.Kill()
					reached = MatchError(syscall.ECONNREFUSED)
				} else {
					s.Freeze()
				}
				canceling := beginCall(released.release)
				Expect(end(released, busy)).To(MatchError(ctxlock.ErrReleased))
				try := begin(bg(), a.TryWithContext, unique(), nil)
				ctx, stop := context.WithTimeout(bg(), 300*time.Millisecond)
				defer stop()
				with := begin(ctx, a.WithContext, unique(), nil)

				Expect(end(run, validity+busy)).To(beLost(name, ctxlock.Expired))
				Expect(run.release).To(takeLessThan(soon), m.String())
				canceling.returns(soon)
				err := try.fails(soon)
				Expect(err).To(reached)
				Expect(err).NotTo(Or(MatchError(ctxlock.ErrNotLocked), MatchError(context.DeadlineExceeded)))
				err = with.fails(soon)
				Expect(err).To(And(MatchError(context.DeadlineExceeded), reached))
				Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))
				Expect(with.took).To(BeNumerically("<", 300*time.Millisecond+busy))
				Expect(waiter.done).NotTo(BeClosed())
				Expect(a.Close).To(takeLessThan(5*time.Second), m.String())
				Expect(waiter.fails(soon)).To(MatchError(ctxlock.ErrLockerClosed))
			})
		})
	}

	It("that is gone does not hold up the Close of what is held, and contexts end at once", func() {
		s := server()
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}}, func(m mix) {
			p := proxy(s)
			option := m.option(p.Addr())
			option.KeyValidity = 5 * time.Second
			a := locker(option)
			var held []holding
			ctx := bg()
			for range 50 {
				held = append(held, take(ctx, a.WithContext, unique()))
			}
			p.Stall(lab.Both)
			closing := beginCall(a.Close)
			for _, lock := range held {
				Expect(end(lock, time.Second)).To(MatchError(ctxlock.ErrLockerClosed))
				lock.release()
			}
			closing.returns(5 * time.Second)
			GinkgoWriter.Println("Close on a stalled link took", closing.took, m)
			p.Heal()
		})
		nothingLeft(s, 5*time.Second) // released or run out
	})
})

// distant works on a link that is slow from the start.
func distant(s *lab.Server, delay time.Duration, majority int32) {
	GinkgoHelper()
	name, p, check := unique(), proxy(s), new(checker)
	p.Delay(delay)
	option := ctxlock.LockerOption{KeyMajority: majority, ExtendInterval: time.Second}
	option.ClientOption.InitAddress = []string{p.Addr()}
	lockers := make([]ctxlock.Locker, 2)
	together(upTo(2), func(i int) { lockers[i] = locker(option) })
	a, b := lockers[0], lockers[1]
	first := take(bg(), a.TryWithContext, name)
	check.enter(first)
	waiter := begin(bg(), b.WithContext, name, check)
	_, _, err := b.TryWithContext(bg(), name)
	Expect(err).To(MatchError(ctxlock.ErrNotLocked))
	Eventually(rises(s, firstKey(name))).WithTimeout(soon+4*delay).Should(BeTrue(), "it is extended")
	Expect(first.Err()).NotTo(HaveOccurred(), "%v, majority %d", delay, majority)
	Expect(first.release).To(takeLessThan(soon + 4*delay))
	waiter.gets(soon + 4*delay).release()
	check.exclusive()
	p.Delay(0) // Close need not be slow
}

// removed works on a link that becomes slow.
func removed(s *lab.Server, m mix) {
	GinkgoHelper()
	p, ctx := proxy(s), bg()
	option := m.option(p.Addr())
	option.KeyValidity = 0 // the default
	option.ExtendInterval = time.Second
	a := locker(option)
	for range 100 { // what it has learned is that answers come at once
		take(ctx, a.WithContext, unique()).release()
	}
	held := take(ctx, a.WithContext, unique())
	p.Delay(500 * time.Millisecond)
	together([]taking{a.WithContext, a.TryWithContext, a.ForceWithContext}, func(how taking) {
		lock := take(ctx, how, unique())
		Expect(lock.release).To(takeLessThan(soon))
	})
	Consistently(held.Done(), 2*time.Second).ShouldNot(BeClosed(), m.String())
	held.release()
	p.Delay(0)
}

var _ = Describe("A round trip", Label("control"), func() {
	It("of up to a second is no obstacle under default options, neither from the start nor from the middle of a locker's life", func() {
		s := server()
		var lines []func()
		for _, delay := range []time.Duration{time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond} {
			for _, majority := range []int32{1, 2} {
				lines = append(lines, func() { distant(s, delay, majority) })
			}
		}
		for _, m := range []mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}, {majority: 1, setPX: true}} {
			lines = append(lines, func() { removed(s, m) })
		}
		together(lines, func(line func()) { line() })
		nothingLeft(s, 2*soon)
	})

	It("above a TryNextAfter that was set makes attempts fail in that time, and their late replies leave no key", func() {
		s := server()
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}, {majority: 1, setPX: true}}, func(m mix) {
			p := proxy(s)
			option := m.option(p.Addr())
			option.KeyValidity = 10 * time.Second
			option.TryNextAfter = 100 * time.Millisecond
			a := locker(option)
			p.Delay(150 * time.Millisecond)
			try := begin(bg(), a.TryWithContext, unique(), nil)
			err := try.fails(soon)
			Expect(err).NotTo(Or(MatchError(ctxlock.ErrNotLocked), MatchError(context.DeadlineExceeded)))
			Expect(try.took).To(BeNumerically(">=", 100*time.Millisecond))
			GinkgoWriter.Println("failed after", try.took, err)
			ctx, stop := context.WithTimeout(bg(), 400*time.Millisecond)
			defer stop()
			err = begin(ctx, a.WithContext, unique(), nil).fails(soon)
			Expect(err).To(MatchError(context.DeadlineExceeded))
			Expect(err.Error()).To(ContainSubstring("no answer in time"), "what became of the attempt before the one that was cut short")
			Expect(strings.Count(err.Error(), "deadline exceeded")).To(Equal(1), err.Error())
			p.Delay(0)
		})
		nothingLeft(s, soon)
	})
})
