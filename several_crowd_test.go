package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

var _ = Describe("AcquireAll that comes to nothing", Label("control"), func() {
	It("because its context ends while it waits, tells why, and leaves nothing", func() {
		s, names := server(), uniques(5)
		a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
		reason := errors.New("lunch")
		for i, name := range names {
			held := take(bg(), a.WithContext, name)
			ctx, cancel := context.WithCancelCause(bg())
			waiter := begin(ctx, all(b, ctxlock.AcquireOption{}, names...), "", nil)
			Consistently(waiter.done, time.Duration(i+1)*200*ms).ShouldNot(BeClosed()) // while it waits with full hands, and with empty ones
			cancel(reason)
			Expect(waiter.fails(soon)).To(And(MatchError(context.Canceled), MatchError(reason), MatchError(ctxlock.ErrNotLocked)))
			held.release()
			nothingLeft(s, soon)
		}
	})

	It("because the locker is closed, while it waits or holds, leaves nothing", func() {
		s, names := server(), uniques(5)
		a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
		ctx, lock := several(a, ctxlock.AcquireOption{}, names[2:]...)
		waiters := []*pending{begin(bg(), all(a, ctxlock.AcquireOption{}, names[:3]...), "", nil), begin(bg(), all(b, ctxlock.AcquireOption{}, names[1:]...), "", nil)}
		for _, waiter := range waiters {
			Consistently(waiter.done, 200*ms).ShouldNot(BeClosed())
		}
		a.Close()
		Expect(waiters[0].fails(soon)).To(MatchError(ctxlock.ErrLockerClosed))
		Expect(context.Cause(ctx)).To(MatchError(ctxlock.ErrLockerClosed))
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrLockerClosed))
		waiters[1].gets(2*validity + soon).release()
		nothingLeft(s, soon)
	})

	It("because a name has a key of another type, ends at once, and leaves nothing", func() {
		s, names := server(), uniques(3)
		a := locker(plain.option(s.Addr()))
		for _, name := range names {
			interfere(s, "LPUSH", firstKey(name), "x")
			for _, option := range []ctxlock.AcquireOption{try, {}, {Retry: ctxlock.RetryFixed(20 * time.Second)}} {
				err := begin(bg(), all(a, option, names...), "", nil).fails(soon)
				Expect(err).To(MatchError(ContainSubstring("WRONGTYPE")))
				Expect(err).To(MatchError(ContainSubstring(name)))
				Eventually(func() []string { return keysOn(s) }).WithTimeout(soon).Should(ConsistOf(firstKey(name)))
			}
			interfere(s, "DEL", firstKey(name))
		}
	})

	// ways are what becomes of a claim in the middle.
	ways := map[string]func(*lab.Proxy) lab.Action{
		"its reply is held up":     func(*lab.Proxy) lab.Action { return lab.StallAfter },
		"it is held up":            func(p *lab.Proxy) lab.Action { p.Stall(lab.Up); return lab.Pass },
		"its reply is lost":        func(p *lab.Proxy) lab.Action { p.Refuse(true); return lab.CutAfter },
		"its connection is broken": func(p *lab.Proxy) lab.Action { p.Refuse(true); return lab.CutBefore },
	}
	for way, spoil := range ways {
		It("because the server fails in the middle of the claims, leaves nothing: "+way, func() {
			s := server()
			together(upTo(8), func(n int) {
				names, p := uniques(4), proxy(s)
				option := plain.option(p.Addr())
				option.KeyValidity = 10 * time.Second // not the end of the keys, but their clean-up
				a := locker(option)
				var seen atomic.Int32
				p.OnCommand(func(args []string) lab.Action {
					if claims(args) && seen.Add(1) == int32(n/2+1) {
						return spoil(p)
					}
					return lab.Pass
				})
				ctx, cancel := context.WithTimeout(bg(), time.Second)
				defer cancel()
				how := all(a, try, names...)
				if n%2 == 0 {
					how = all(a, ctxlock.AcquireOption{}, names...)
				}
				err := begin(ctx, how, "", nil).fails(1500*ms + soon)
				Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))
				p.OnCommand(nil)
				p.Refuse(false)
				p.Heal()
				for _, name := range names {
					begin(bg(), a.WithContext, name, nil).gets(soon).release()
				}
			})
			nothingLeft(s, 10*time.Second)
		})
	}

	It("does not, when a reply is lost and the connection comes back", func() {
		s, names := server(), uniques(4)
		p := proxy(s)
		a := locker(plain.option(p.Addr()))
		for action := range cuts {
			for n, more := 0, true; more; n++ {
				fired := cutAt(p, action, n)
				_, lock := several(a, try, names...)
				more = fired.Load()
				p.OnCommand(nil)
				Expect(lock.Release(bg())).To(Succeed())
			}
		}
		nothingLeft(s, soon)
	})
})

// visitors are those who come and go while a spec lasts. Each has to get on.
type visitors struct {
	ctx    context.Context // when they stop coming
	checks map[string]*checker
	work   sync.WaitGroup
	names  []string
}

func invite(names []string, d time.Duration) *visitors {
	v := &visitors{names: names, checks: make(map[string]*checker)}
	var cancel context.CancelFunc
	v.ctx, cancel = context.WithTimeout(context.Background(), d)
	DeferCleanup(cancel)
	for _, name := range names {
		v.checks[name] = new(checker)
	}
	return v
}

// comes has one visitor visit again and again, and sees that it got in so many times.
func (v *visitors) comes(who string, least int, visit func() error) {
	v.work.Go(func() {
		defer GinkgoRecover()
		visits := 0
		for v.ctx.Err() == nil {
			if err := visit(); err != nil {
				Expect(v.ctx.Err()).To(HaveOccurred(), "%s: %v", who, err)
				break
			}
			visits++
		}
		GinkgoWriter.Println(who, "got in", visits, "times")
		Expect(visits).To(BeNumerically(">=", least), who)
	})
}

// takesAll visits some of the names together.
func (v *visitors) takesAll(l ctxlock.Locker, names []string) error {
	ctx, lock, err := l.AcquireAll(v.ctx, names, ctxlock.AcquireOption{})
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release(context.Background()) }()
	for _, name := range names {
		v.checks[name].enter(ctx)
	}
	return ctx.Err()
}

// takesTwo visits one name, and with that in hand another.
func (v *visitors) takesTwo(l ctxlock.Locker, first, second string) error {
	outer, release, err := l.WithContext(v.ctx, first)
	if err != nil {
		return err
	}
	defer release()
	v.checks[first].enter(outer)
	inner, release, err := l.WithContext(outer, second)
	if err != nil {
		return err
	}
	defer release()
	v.checks[second].enter(inner)
	return inner.Err()
}

func (v *visitors) leave() {
	GinkgoHelper()
	v.work.Wait()
	for _, check := range v.checks {
		check.exclusive()
	}
}

var _ = Describe("Callers of AcquireAll", func() {
	It("who name the locks in opposite orders get on", func() {
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}}, func(m mix) {
			s := server()
			v := invite(uniques(2), 5*time.Second)
			for i := range 2 {
				l, names := locker(m.option(s.Addr())), slices.Clone(v.names)
				if i == 1 {
					slices.Reverse(names)
				}
				v.comes(fmt.Sprintf("%v, caller %d", m, i), 3, func() error { return v.takesAll(l, names) })
			}
			v.leave()
			nothingLeft(s, soon)
		})
	})

	// some is any of five names, in any order.
	some := func(names []string) []string {
		some := slices.Clone(names)
		rand.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		return some[:1+rand.IntN(len(some))]
	}

	It("who want any of five, from three lockers, get on", func() {
		s := server()
		v := invite(uniques(5), 5*time.Second)
		for i := range 3 {
			l := locker(plain.option(s.Addr()))
			for j := range 4 {
				v.comes(fmt.Sprintf("caller %d/%d", i, j), 20, func() error { return v.takesAll(l, some(v.names)) })
			}
		}
		v.leave()
		nothingLeft(s, soon)
	})

	It("get on among those who hold one and wait for another", func() {
		s := server()
		option := plain.option(s.Addr())
		option.KeyValidity = validity / 2 // which is what it takes to dissolve a circle
		v := invite(uniques(5), 15*time.Second)
		for i := range 3 {
			l := locker(option)
			v.comes(fmt.Sprintf("caller %d of several", i), 3, func() error { return v.takesAll(l, some(v.names)) })
			v.comes(fmt.Sprintf("caller %d of two", i), 3, func() error { // among themselves they close no circle
				n := rand.IntN(4)
				return v.takesTwo(l, v.names[n+1], v.names[n])
			})
		}
		v.leave()
		nothingLeft(s, soon)
	})

	It("dissolve a circle with one who holds one and waits for another", func() {
		s := server()
		a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
		together([]ctxlock.Locker{a, b}, func(l ctxlock.Locker) { // from elsewhere, and in one process
			names := uniques(2)
			outer := take(bg(), a.WithContext, names[1])
			caller := begin(bg(), all(l, ctxlock.AcquireOption{}, names...), "", nil)
			Eventually(func() []string { return keysOn(s) }).WithTimeout(soon).Should(ContainElement(firstKey(names[0])), "it holds the first")
			inner := begin(outer, a.WithContext, names[0], nil).gets(2*validity + soon)
			Expect(caller.done).NotTo(BeClosed())
			Expect(outer.Err()).NotTo(HaveOccurred())
			inner.release()
			outer.release()
			caller.gets(2*validity + soon).release()
		})
		nothingLeft(s, soon)
	})
})
