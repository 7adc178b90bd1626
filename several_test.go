package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

var try = ctxlock.AcquireOption{Mode: ctxlock.Try}

// all makes a taking of AcquireAll, which the name does not matter to.
func all(l ctxlock.Locker, option ctxlock.AcquireOption, names ...string) taking {
	return func(ctx context.Context, _ string) (context.Context, context.CancelFunc, error) {
		held, lock, err := l.AcquireAll(ctx, names, option)
		return held, func() { _ = lock.Release(ctx) }, err
	}
}

// several takes locks together that can be had.
func several(l ctxlock.Locker, option ctxlock.AcquireOption, names ...string) (context.Context, *ctxlock.Lock) {
	GinkgoHelper()
	ctx, lock, err := l.AcquireAll(bg(), names, option)
	Expect(err).NotTo(HaveOccurred())
	Expect(ctx.Err()).NotTo(HaveOccurred())
	Expect(lock.Valid()).To(BeTrue())
	return ctx, lock
}

// uniques are so many names, in order.
func uniques(n int) (all []string) {
	prefix := unique()
	for i := range n {
		all = append(all, fmt.Sprintf("%s/%04d", prefix, i))
	}
	return all
}

var _ = Describe("AcquireAll", func() {
	forEachMix("takes all, as one context, and gives all back with one release", func(m mix) {
		s, names := server(), uniques(3)
		a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
		given := []string{names[2], names[0], names[2], names[1], names[0]}
		ctx, lock := several(a, ctxlock.AcquireOption{Metadata: "why", Value: "host"}, given...)
		Expect(ctxlock.FromContext(ctx)).To(BeIdenticalTo(lock))
		Expect(lock.Name()).To(Equal(strings.Join([]string{names[2], names[0], names[1]}, ", ")))
		Expect(lock.Metadata()).To(Equal("why"))
		Expect(lock.Value()).To(BeEmpty())
		Expect(lock.Token()).To(BeZero())
		Expect(lock.Each()).To(HaveLen(3))
		for i, each := range lock.Each() {
			Expect(each.Name()).To(Equal([]string{names[2], names[0], names[1]}[i]))
			Expect(s.Do("GET", firstKey(each.Name()))).To(Equal(each.Value() + "\nwhy"))
			_, _, err := b.TryWithContext(bg(), each.Name())
			Expect(err).To(MatchError(ctxlock.ErrNotLocked))
		}
		Consistently(ctx.Done(), 3*validity/2).ShouldNot(BeClosed(), "extended in the background")

		Expect(lock.Release(bg())).To(Succeed())
		Expect(context.Cause(ctx)).To(MatchError(ctxlock.ErrReleased))
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrReleased))
		Expect(lock.Valid()).To(BeFalse())
		Expect(lock.Until()).To(BeZero())
		for _, name := range names {
			take(bg(), b.TryWithContext, name).release()
		}
		nothingLeft(s, soon)
	})

	It("takes all or nothing when one is held", func() {
		together(mixes, func(m mix) {
			s, names := server(), uniques(3)
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			for _, name := range names {
				held := take(bg(), a.WithContext, name)
				for option, within := range map[*ctxlock.AcquireOption]time.Duration{
					&try:                       soon,
					{Retry: ctxlock.NoRetry()}: soon,
					{Retry: ctxlock.LimitRetryTime(500*ms, ctxlock.RetryFixed(100*ms))}: 500*ms + soon,
				} {
					Expect(begin(bg(), all(b, *option, names...), "", nil).fails(within)).To(MatchError(ctxlock.ErrNotLocked))
					for _, other := range names {
						if other != name {
							take(bg(), a.TryWithContext, other).release()
						}
					}
				}
				waiter := begin(bg(), all(b, ctxlock.AcquireOption{}, names...), "", nil)
				Consistently(waiter.done, 300*ms).ShouldNot(BeClosed())
				held.release()
				waiter.gets(2*validity + soon).release()
			}
			nothingLeft(s, soon)
		})
	})

	It("takes all by force", func() {
		s, names := server(), uniques(3)
		a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
		first, second := take(bg(), a.WithContext, names[0]), take(bg(), b.WithContext, names[2])
		_, lock := several(a, ctxlock.AcquireOption{Mode: ctxlock.Force}, names...)
		Expect(end(first, soon)).To(beLost(names[0], ctxlock.Taken))
		Expect(end(second, soon)).To(beLost(names[2], ctxlock.Taken))
		first.release()
		second.release()
		Expect(lock.Valid()).To(BeTrue())
		Expect(lock.Release(bg())).To(Succeed())
		nothingLeft(s, soon)
	})

	It("by force, from many sides at once, never blames the caller's context", func() {
		s, names := server(), uniques(4)
		lockers := []ctxlock.Locker{locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))}
		together(upTo(8), func(i int) {
			for range 20 {
				_, lock, err := lockers[i%2].AcquireAll(context.Background(), names, ctxlock.AcquireOption{Mode: ctxlock.Force})
				Expect(errors.Is(err, context.Canceled)).To(BeFalse(), "%v", err)
				_ = lock.Release(context.Background())
			}
		})
		nothingLeft(s, soon)
	})

	for _, where := range []string{"here", "elsewhere"} {
		It("ends all when one of them is taken by force "+where, func() {
			s, names := server(), uniques(3)
			a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
			ctx, lock := several(a, ctxlock.AcquireOption{}, names...)
			if where == "here" {
				b = a
			}
			taken := take(bg(), b.ForceWithContext, names[1])
			cause := end(ctx, soon)
			Expect(cause).To(beLost(names[1], ctxlock.Taken))
			Expect(lock.Err()).To(BeIdenticalTo(cause))
			for _, each := range lock.Each() {
				Expect(each.Err()).To(MatchError(ctxlock.ErrLost))
			}
			Expect(keysOn(s)).To(ContainElements(firstKey(names[0]), firstKey(names[2])), "the end of the context is not a release")
			Expect(lock.Release(bg())).To(beLostIn(names[1]))
			Expect(keysOn(s)).NotTo(ContainElements(firstKey(names[0])))
			Expect(keysOn(s)).NotTo(ContainElements(firstKey(names[2])))
			Expect(taken.Err()).NotTo(HaveOccurred())
			taken.release()
			nothingLeft(s, soon)
		})
	}

	It("ends all when one of them is released, or the context above ends", func() {
		s, names := server(), uniques(3)
		a := locker(plain.option(s.Addr()))
		ctx, lock := several(a, ctxlock.AcquireOption{}, names...)
		Expect(lock.Each()[1].Release(bg())).To(Succeed())
		Expect(context.Cause(ctx)).To(MatchError(ctxlock.ErrReleased))
		Expect(lock.Each()[0].Valid()).To(BeFalse())
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrReleased))
		nothingLeft(s, soon)

		above, cancel := context.WithCancelCause(bg())
		ctx, lock, err := a.AcquireAll(above, names, ctxlock.AcquireOption{})
		Expect(err).NotTo(HaveOccurred())
		reason := errors.New("lunch")
		cancel(reason)
		Expect(end(ctx, soon)).To(BeIdenticalTo(reason))
		Expect(lock.Release(above)).To(Succeed())
		nothingLeft(s, soon)
	})

	It("gives fencing tokens, one for each", func() {
		s, names := server(), uniques(2)
		a := locker(mix{majority: 2}.option(s.Addr()))
		before := []int64{0, 0}
		for range 3 {
			_, lock := several(a, ctxlock.AcquireOption{Fencing: true}, names...)
			Expect(lock.Token()).To(BeZero())
			for i, each := range lock.Each() {
				Expect(each.Token()).To(BeNumerically(">", before[i]))
				before[i] = each.Token()
			}
			Expect(lock.Release(bg())).To(Succeed())
		}
	})

	It("extends all, and asks for the least TTL, in the time of about one round trip", Label("control"), func() {
		s, names := server(), uniques(20)
		p := proxy(s)
		_, lock := several(locker(plain.option(p.Addr())), ctxlock.AcquireOption{NoExtend: true, Validity: 10 * time.Second}, names...)
		Expect(lock.Extend(bg(), time.Minute)).To(Succeed())
		Expect(lock.Each()[7].Extend(bg(), 30*time.Second)).To(Succeed())
		Expect(lock.Until()).To(Equal(lock.Each()[7].Until()))
		Expect(ttl(s, firstKey(names[8]))).To(BeNumerically(">", 40*time.Second))
		p.Delay(100 * ms) // each way
		Expect(func() {
			Expect(lock.TTL(bg())).To(And(BeNumerically(">", 20*time.Second), BeNumerically("<=", 30*time.Second)))
		}).To(takeLessThan(2 * time.Second))
		Expect(func() { Expect(lock.Extend(bg(), 20*time.Second)).To(Succeed()) }).To(takeLessThan(2 * time.Second))
		Expect(lock.Until()).To(BeTemporally("<", time.Now().Add(20*time.Second)))
		p.Delay(0)
		interfere(s, "DEL", firstKey(names[3]))
		_, err := lock.TTL(bg())
		Expect(err).To(MatchError(ctxlock.ErrLost))
	})

	It("tells OnError of one thing at a time", Label("control"), func() {
		s, names := server(), uniques(10)
		p := proxy(s)
		var d diary
		ctx, lock := several(locker(plain.option(p.Addr())), ctxlock.AcquireOption{OnError: d.tell}, names...)
		p.Stall(lab.Both)
		Expect(end(ctx, validity+soon)).To(MatchError(ctxlock.ErrLost))
		Eventually(d.losses).WithTimeout(soon).Should(BeNumerically(">", 0))
		Consistently(func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.mixed }, 300*ms).Should(BeFalse())
		p.Heal()
		_ = lock.Release(bg())
	})

	It("reports bad input at once", func() {
		s, names := server(), uniques(1025)
		a := locker(plain.option(s.Addr()))
		before := s.Calls("set")
		ended, cancel := context.WithCancel(bg())
		cancel()
		fails := func(ctx context.Context, what string, option ctxlock.AcquireOption, names ...string) {
			GinkgoHelper()
			held, lock, err := a.AcquireAll(ctx, names, option)
			Expect(err).To(MatchError(ContainSubstring(what)))
			Expect(held.Err()).To(HaveOccurred())
			Expect(lock).To(BeNil())
			Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrReleased))
		}
		fails(bg(), "no names", try)
		fails(bg(), "1025 names", try, names...)
		fails(bg(), "empty name (name 2 of 3)", try, "a", "", "b")
		fails(bg(), "name of 70000 bytes", try, "a", strings.Repeat("x", 70000))
		fails(bg(), "Mode is 9", ctxlock.AcquireOption{Mode: 9}, "a")
		fails(nil, "nil context", try, "a")
		fails(ended, "canceled", try, "a", "b")
		Expect(s.Calls("set")).To(Equal(before))
		a.Close()
		_, _, err := a.AcquireAll(bg(), names[:3], ctxlock.AcquireOption{})
		Expect(err).To(MatchError(ctxlock.ErrLockerClosed))
	})

	It("takes 1,024 names, and counts one that is given twice once", func() {
		s, names := server(), uniques(1024)
		a := locker(plain.option(s.Addr()))
		_, lock := several(a, ctxlock.AcquireOption{Validity: 10 * time.Second}, names...)
		Expect(lock.Each()).To(HaveLen(1024))
		Expect(lock.Release(bg())).To(Succeed())
		_, lock = several(a, ctxlock.AcquireOption{Validity: 10 * time.Second}, append(names, names[0])...)
		Expect(lock.Each()).To(HaveLen(1024))
		Expect(lock.Release(bg())).To(Succeed())
		nothingLeft(s, soon)
	})
})

// beLostIn matches an error that has the loss of one lock in it.
func beLostIn(name string) types.GomegaMatcher {
	return WithTransform(func(err error) error {
		var lost *ctxlock.LostError
		Expect(errors.As(err, &lost)).To(BeTrue(), "%v", err)
		return lost
	}, beLost(name, ctxlock.Taken))
}

var _ = Describe("AcquireAll's retry policy", func() {
	// blocked is three names, of which the middle one is held by another.
	blocked := func() (s *lab.Server, names []string, b ctxlock.Locker, first holding) {
		s, names = server(), uniques(3)
		return s, names, locker(plain.option(s.Addr())), take(bg(), locker(plain.option(s.Addr())).WithContext, names[1])
	}

	It("paces all attempts of the call, and limits them", func() {
		_, names, b, _ := blocked()
		r := &recorder{RetryPolicy: ctxlock.LimitRetries(3, ctxlock.RetryFixed(300*ms))}
		err := begin(bg(), all(b, ctxlock.AcquireOption{Retry: r}, names...), "", nil).fails(900*ms + soon)
		Expect(err).To(MatchError(ctxlock.ErrNotLocked))
		r.paced(4, 300*ms, err)
	})

	It("is not asked again once it has given up", func() {
		s, names, b, first := blocked()
		for n := 1; n < 5; n++ {
			r := &recorder{RetryPolicy: ctxlock.RetryFunc(func(a ctxlock.Attempt) ctxlock.Retry {
				return ctxlock.Retry{Again: a.Number != n, After: 50 * ms}
			})}
			begin(bg(), all(b, ctxlock.AcquireOption{Retry: r}, names...), "", nil).fails(soon)
			Expect(r.told()).To(HaveLen(n))
		}
		first.release()
		nothingLeft(s, soon)
	})

	It("that panics leaves nothing behind", func() {
		s, names, b, first := blocked()
		for n := 1; n < 5; n++ {
			panicking := ctxlock.RetryFunc(func(a ctxlock.Attempt) ctxlock.Retry {
				if a.Number == n {
					panic("a bug")
				}
				return again(50 * ms)
			})
			Expect(func() { _, _, _ = b.AcquireAll(bg(), names, ctxlock.AcquireOption{Retry: panicking}) }).To(PanicWith("a bug"))
			begin(bg(), b.WithContext, names[0], nil).gets(soon).release()
		}
		first.release()
		begin(bg(), b.WithContext, names[1], nil).gets(soon).release()
		nothingLeft(s, soon)
	})
})

var _ = Describe("AcquireAll on a cluster", Label("control"), func() {
	It("takes names on all nodes together, and gives them back", func() {
		c := startCluster()
		DeferCleanup(c.Stop)
		for _, m := range []mix{plain, {majority: 2}} {
			var names []string
			for _, node := range c.primaries {
				names = append(names, c.nameOn(m, node, 1))
			}
			a, b := locker(m.option(c.Addrs()...)), locker(m.option(c.Addrs()...))
			ctx, lock := several(a, ctxlock.AcquireOption{Fencing: true}, names...)
			for _, each := range lock.Each() {
				Expect(each.Token()).To(BeNumerically(">", 0))
			}
			Consistently(ctx.Done(), 3*validity/2).ShouldNot(BeClosed())
			begin(bg(), all(b, try, names[2], unique()), "", nil).fails(soon)
			waiter := begin(bg(), all(b, ctxlock.AcquireOption{}, names[2], names[0], unique()), "", nil)
			Consistently(waiter.done, 200*ms).ShouldNot(BeClosed())
			Expect(lock.Release(bg())).To(Succeed())
			waiter.gets(2*validity + soon).release()
			lost := take(bg(), b.WithContext, names[1])
			_, lock = several(a, ctxlock.AcquireOption{Mode: ctxlock.Force}, names...)
			Expect(end(lost, validity+soon)).To(beLost(names[1], ctxlock.Taken))
			lost.release()
			Expect(lock.Release(bg())).To(Succeed())
			held := func(keys []string) (locks []string) { // all but the fencing counters
				return slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, "valkeylock:0:") })
			}
			Eventually(func() []string { return held(c.left()) }).WithTimeout(soon).Should(BeEmpty())
		}
	})
})
