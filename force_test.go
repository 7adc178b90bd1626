package ctxlock_test

import (
	"context"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// What force does beside other calls of one Locker is tried with all sorts of calls in force_faults_test.go, in fake time. Here it is on servers.

var _ = Describe("A lock that is taken by force", func() {
	const rounds = 50
	for _, m := range []mix{{majority: 1}, {majority: 1, noLoop: true}, {majority: 1, polling: true}, {majority: 2, noLoop: true}} {
		It("has no other context alive in its Locker when the call returns, whatever was under way ("+m.String()+")", func() {
			s := server()
			together([]time.Duration{0, 2 * time.Millisecond}, func(delay time.Duration) {
				p := proxy(s)
				l := locker(m.option(p.Addr()))
				p.Delay(delay)
				for range rounds {
					name, check := unique(), new(checker)
					calls := []*pending{begin(bg(), l.TryWithContext, name, check), begin(bg(), l.ForceWithContext, name, check)}
					for _, call := range calls {
						if call.returns(soon); call.err != nil {
							Expect(call.err).To(MatchError(ctxlock.ErrNotLocked))
						}
					}
					check.exclusive()
					for _, call := range calls {
						call.release()
					}
				}
			})
			nothingLeft(s, soon)
		})
	}

	It("leaves its holder alone if the server refuses to give it", func() {
		s := server()
		together([]mix{{majority: 1}, {majority: 2, noLoop: true}}, func(m mix) {
			name, l := unique(), locker(m.option(s.Addr()))
			held := take(bg(), l.WithContext, name)
			ctx, stop := context.WithCancel(bg())
			stop()
			_, _, err := l.ForceWithContext(ctx, name)
			Expect(err).To(MatchError(context.Canceled))
			Expect(held.Err()).To(Succeed())
			held.release()
		})
		name, l := unique(), locker(plain.option(s.Addr()))
		held := take(bg(), l.WithContext, name)
		interfere(s, "CONFIG", "SET", "min-replicas-to-write", "1") // NOREPLICAS
		_, _, err := l.ForceWithContext(bg(), name)
		Expect(err).To(MatchError(ContainSubstring("NOREPLICAS")))
		Expect(held.Err()).To(Succeed())
		interfere(s, "CONFIG", "SET", "min-replicas-to-write", "0")
		Consistently(held.Err, validity).Should(Succeed())
		held.release()
	})

	It("ends its holder before another gets it that nobody could be told of, if the answer is lost", func() {
		s := server()
		together([]mix{{majority: 1, noLoop: true}, {majority: 1, polling: true}}, func(m mix) {
			p, name, check := proxy(s), unique(), new(checker)
			option := m.option(p.Addr())
			option.KeyValidity = 10 * time.Second // the next extension is far away
			l, other := locker(option), locker(m.option(s.Addr()))
			held := take(bg(), l.WithContext, name)
			check.enter(held)
			waiter := begin(bg(), other.WithContext, name, check)
			asked := false
			p.OnCommand(func(args []string) lab.Action {
				if args[0] == "SET" && args[1] == firstKey(name) && !asked {
					asked = true
					return lab.StallAfter
				}
				return lab.Pass
			})
			_, _, err := l.ForceWithContext(bg(), name)
			Expect(err).To(HaveOccurred())
			p.Heal()
			Expect(end(held, soon)).To(beLost(name, ctxlock.Taken))
			waiter.gets(soon).release()
			check.exclusive()
			held.release()
		})
		nothingLeft(s, soon)
	})
})
