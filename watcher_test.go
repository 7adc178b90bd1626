package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
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

// diary is an OnError that keeps what it is told, and sees that it is told one thing at a time.
type diary struct {
	calls atomic.Int32 // under way
	mu    sync.Mutex
	errs  []error
	mixed bool
}

func (d *diary) tell(err error) {
	if d.calls.Add(1) > 1 {
		d.mu.Lock()
		d.mixed = true
		d.mu.Unlock()
	}
	d.mu.Lock()
	d.errs = append(d.errs, err)
	d.mu.Unlock()
	time.Sleep(5 * ms) // for another call to come in between
	d.calls.Add(-1)
}

func (d *diary) told() []error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.errs
}

// losses is how many of the errors told are of a loss.
func (d *diary) losses() (n int) {
	for _, err := range d.told() {
		if errors.Is(err, ctxlock.ErrLost) {
			n++
		}
	}
	return n
}

// closes waits for the loss, and sees that it comes last, and once, and that what came before were failed extensions.
func (d *diary) closes(within time.Duration, loss types.GomegaMatcher) {
	GinkgoHelper()
	Eventually(d.losses).WithTimeout(within).Should(Equal(1))
	Consistently(d.losses, validity/2).Should(Equal(1))
	told := d.told()
	Expect(told[len(told)-1]).To(loss)
	for _, err := range told[:len(told)-1] {
		Expect(err).To(MatchError(ContainSubstring("not extended")))
		Expect(err).NotTo(MatchError(ctxlock.ErrLost))
	}
	Expect(d.mixed).To(BeFalse(), "told of two things at once")
}

// refuseExtensions has a relay refuse extensions, and counts how many.
func refuseExtensions(r *relay) *atomic.Int32 {
	refused := new(atomic.Int32)
	r.say(func(command []string) string {
		if verb := strings.ToUpper(command[0]); verb != "SET" && !strings.HasPrefix(verb, "EVAL") {
			return ""
		}
		refused.Add(1)
		return "-MISCONF errors writing to disk\r\n"
	})
	return refused
}

// losing is a way to lose a lock, and what comes of it.
type losing struct {
	what   string
	reason ctxlock.Reason
	do     func(s *lab.Server, p *lab.Proxy, own ctxlock.Locker, name string)
}

var ways = []losing{
	{"deleted", ctxlock.Deleted, func(s *lab.Server, _ *lab.Proxy, _ ctxlock.Locker, _ string) { interfere(s, "FLUSHALL") }},
	{"taken by force in its own process", ctxlock.Taken, func(_ *lab.Server, _ *lab.Proxy, own ctxlock.Locker, name string) {
		DeferCleanup(take(bg(), own.ForceWithContext, name).release)
	}},
	{"taken by force from elsewhere", ctxlock.Taken, func(s *lab.Server, _ *lab.Proxy, _ ctxlock.Locker, name string) {
		take(bg(), locker(plain.option(s.Addr())).ForceWithContext, name)
	}},
	{"out of reach", ctxlock.Expired, func(_ *lab.Server, p *lab.Proxy, _ ctxlock.Locker, _ string) { p.Stall(lab.Both) }},
	{"refused a connection", ctxlock.Expired, func(_ *lab.Server, p *lab.Proxy, _ ctxlock.Locker, _ string) { p.Refuse(true); p.Cut() }},
	{"on a server that stands still", ctxlock.Expired, func(s *lab.Server, _ *lab.Proxy, _ ctxlock.Locker, _ string) {
		s.Freeze()
		DeferCleanup(s.Thaw)
	}},
}

var _ = Describe("OnError", Label("control"), func() {
	for _, way := range ways {
		It("is told of the loss, once and last, by option and by handle, when the lock is "+way.what, func() {
			s, name := server(), unique()
			p := proxy(s)
			a := locker(plain.option(p.Addr()))
			var option, kept, late diary
			ctx, lock := handle(a, name, ctxlock.AcquireOption{OnError: option.tell})
			stop := lock.KeepExtended(kept.tell)
			way.do(s, p, a, name)
			Expect(end(ctx, validity+soon)).To(beLost(name, way.reason))
			loss := BeIdenticalTo(lock.Err())
			option.closes(soon, loss)
			kept.closes(soon, loss)
			stopLate := lock.KeepExtended(late.tell)
			late.closes(soon, loss)
			Expect(late.told()).To(HaveLen(1))
			stop()
			stopLate()
		})
	}

	It("is told of each failed extension, once, and not of those that succeed", func() {
		s, name := server(), unique()
		r := newRelay(s)
		option := plain.option(r.address())
		option.KeyValidity, option.ExtendInterval = 4*time.Second, 500*ms
		var d, kept diary
		_, lock := handle(locker(option), name, ctxlock.AcquireOption{OnError: d.tell})
		defer lock.KeepExtended(kept.tell)()
		extended := rises(s, firstKey(name))
		Eventually(extended).WithTimeout(soon).Should(BeTrue())
		Expect(d.told()).To(BeEmpty())
		refused := refuseExtensions(r)
		Eventually(d.told).WithTimeout(4 * time.Second).Should(HaveLen(2))
		r.passOn()
		Eventually(rises(s, firstKey(name))).WithTimeout(soon).Should(BeTrue())
		times := HaveLen(int(refused.Load())) // of three, if one was on its way
		Eventually(d.told).WithTimeout(soon).Should(times)
		Eventually(kept.told).WithTimeout(soon).Should(times)
		for _, err := range d.told() {
			Expect(err).To(And(MatchError(ContainSubstring(name)), MatchError(ContainSubstring("not extended")), MatchError(ContainSubstring("MISCONF"))))
		}
		Consistently(d.told, time.Second).Should(times)
		Expect(lock.Release(bg())).To(Succeed())
		Expect(d.mixed).To(BeFalse())
	})

	It("is not told of a release, nor of the locker's end", func() {
		a := locker(plain.option(server().Addr()))
		var d diary
		_, first := handle(a, unique(), ctxlock.AcquireOption{OnError: d.tell})
		_, second := handle(a, unique(), ctxlock.AcquireOption{OnError: d.tell})
		defer first.KeepExtended(d.tell)()
		defer second.KeepExtended(d.tell)()
		Expect(first.Release(bg())).To(Succeed())
		a.Close()
		Expect(second.Err()).To(MatchError(ctxlock.ErrLockerClosed))
		Consistently(d.told, 3*validity/2).Should(BeEmpty())
	})

	It("may call whatever there is to call, even Release and Close", func() {
		s, name := server(), unique()
		a := locker(plain.option(s.Addr()))
		handles := make(chan *ctxlock.Lock, 1)
		done := make(chan struct{})
		_, lock := handle(a, name, ctxlock.AcquireOption{OnError: func(error) {
			defer GinkgoRecover()
			defer close(done)
			lock := <-handles
			Expect(lock.Valid()).To(BeFalse())
			Expect(lock.Until()).To(BeZero())
			_, err := lock.TTL(bg())
			Expect(err).To(MatchError(ctxlock.ErrLost))
			Expect(lock.Extend(bg(), 0)).To(MatchError(ctxlock.ErrLost))
			lock.KeepExtended(nil)()
			lock.KeepExtended(func(error) {})()
			_, err = a.Look(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			_, _, err = a.TryWithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			_, other, err := a.AcquireAll(bg(), []string{unique(), unique()}, ctxlock.AcquireOption{})
			Expect(err).NotTo(HaveOccurred())
			Expect(other.Release(bg())).To(Succeed())
			Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrLost))
			a.Close()
		}})
		handles <- lock
		interfere(s, "FLUSHALL")
		Eventually(done).WithTimeout(3 * soon).Should(BeClosed())
		nothingLeft(s, soon)
	})

	It("holds up nothing while it blocks", func() {
		s, name, free := server(), unique(), make(chan struct{})
		r := newRelay(s)
		option := plain.option(r.address())
		option.KeyValidity, option.ExtendInterval = 3*time.Second, 200*ms
		a := locker(option)
		var calls atomic.Int32
		blocks := func(error) { calls.Add(1); <-free }
		ctx, lock := handle(a, name, ctxlock.AcquireOption{OnError: blocks})
		_, other := handle(a, unique(), ctxlock.AcquireOption{})
		lock.KeepExtended(blocks) // its stop waits for blocks
		refuseExtensions(r)
		Eventually(calls.Load).WithTimeout(soon).Should(Equal(int32(2)))
		r.passOn()
		Consistently(ctx.Done(), 4*time.Second).ShouldNot(BeClosed(), "extended all the same")
		interfere(s, "DEL", firstKey(name))
		Expect(end(ctx, soon)).To(beLost(name, ctxlock.Deleted))
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrLost))
		Expect(other.Valid()).To(BeTrue())
		Expect(a.Close).To(takeLessThan(soon))
		Expect(calls.Load()).To(Equal(int32(2)))
		close(free)
	})
})

var _ = Describe("KeepExtended", Label("control"), func() {
	// runsOut sees that nobody extends the lock any more.
	runsOut := func(ctx context.Context, name string) {
		GinkgoHelper()
		Expect(end(ctx, validity+soon)).To(beLost(name, ctxlock.Expired))
	}

	It("keeps a lock that nobody else extends, until it is stopped", func() {
		together(mixes, func(m mix) {
			name, a := unique(), locker(m.option(server().Addr()))
			var d diary
			ctx, lock := handle(a, name, ctxlock.AcquireOption{NoExtend: true})
			stop := lock.KeepExtended(d.tell)
			Consistently(ctx.Done(), 2*validity).ShouldNot(BeClosed())
			stop()
			until := lock.Until()
			runsOut(ctx, name)
			Expect(time.Now()).To(BeTemporally("~", until, busy))
			Expect(d.told()).To(BeEmpty(), "it was stopped before")
			Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrLost))
		})
	})

	It("keeps it as long as any of two goes on, and does not matter to a lock that is extended anyway", func() {
		a := locker(plain.option(server().Addr()))
		together([]bool{true, false}, func(by bool) {
			name := unique()
			ctx, lock := handle(a, name, ctxlock.AcquireOption{NoExtend: by})
			first, second := lock.KeepExtended(nil), lock.KeepExtended(nil)
			first()
			first()
			Consistently(ctx.Done(), 2*validity).ShouldNot(BeClosed())
			second()
			if by {
				runsOut(ctx, name)
				return
			}
			Consistently(ctx.Done(), 2*validity).ShouldNot(BeClosed())
		})
	})

	It("can be stopped and begun again, and keeps all of several locks", func() {
		s, names := server(), []string{unique(), unique(), unique()}
		a := locker(plain.option(s.Addr()))
		ctx, lock, err := a.AcquireAll(bg(), names, ctxlock.AcquireOption{NoExtend: true})
		Expect(err).NotTo(HaveOccurred())
		for range 20 {
			lock.KeepExtended(nil)()
		}
		stop := lock.KeepExtended(nil)
		Consistently(ctx.Done(), 2*validity).ShouldNot(BeClosed())
		stop()
		Expect(end(ctx, validity+soon)).To(MatchError(ctxlock.ErrLost))
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrLost))
		nothingLeft(s, soon)
	})

	It("is stopped only when the call under way is over, by any number of calls, and tells nothing after that", func() {
		s, name, free := server(), unique(), make(chan struct{})
		r := newRelay(s)
		option := plain.option(r.address())
		option.KeyValidity, option.ExtendInterval = 10*time.Second, 200*ms
		var begun, over atomic.Int32
		_, lock := handle(locker(option), name, ctxlock.AcquireOption{NoExtend: true})
		stop := lock.KeepExtended(func(error) { begun.Add(1); <-free; over.Add(1) })
		refuseExtensions(r)
		Eventually(begun.Load).WithTimeout(10 * time.Second).Should(Equal(int32(1)))
		var stops []*pending
		for range 5 {
			stops = append(stops, beginCall(func() {
				stop()
				begun.Add(over.Load() << 16) // shows that over came before
			}))
		}
		for _, call := range stops {
			Consistently(call.done, 100*ms).ShouldNot(BeClosed())
		}
		close(free)
		for _, call := range stops {
			call.returns(soon)
		}
		Consistently(begun.Load, validity).Should(Equal(int32(5<<16 + 1)))
		Expect(lock.Valid()).To(BeTrue())
	})

	for _, healed := range []bool{true, false} {
		It(fmt.Sprintf("is stopped only when it is decided what came of the extension under way (answered: %t), but no later than the lock", healed), func() {
			s, name := server(), unique()
			p := proxy(s)
			ctx, lock := handle(locker(plain.option(p.Addr())), name, ctxlock.AcquireOption{NoExtend: true})
			var d diary
			stop := lock.KeepExtended(d.tell)
			seen := make(chan struct{})
			var first sync.Once
			p.OnCommand(func(args []string) lab.Action {
				if extends(args) {
					first.Do(func() { close(seen) })
					return lab.StallAfter
				}
				return lab.Pass
			})
			Eventually(seen).WithTimeout(soon).Should(BeClosed())
			stopping := beginCall(stop)
			Consistently(stopping.done, 100*ms).ShouldNot(BeClosed())
			if healed {
				p.Heal()
			}
			stopping.returns(validity + soon)
			runsOut(ctx, name)
			Consistently(d.losses, validity/4).Should(BeZero(), "it was stopped before")
		})
	}

	It("does nothing on a lock that was released, and tells of the loss of one that was lost", func() {
		s, name := server(), unique()
		a := locker(plain.option(s.Addr()))
		var d diary
		_, lock := handle(a, name, ctxlock.AcquireOption{})
		Expect(lock.Release(bg())).To(Succeed())
		stop := lock.KeepExtended(d.tell)
		Consistently(d.told, 100*ms).Should(BeEmpty())
		stop()
		nothingLeft(s, soon)

		ctx, lock := handle(a, name, ctxlock.AcquireOption{})
		interfere(s, "FLUSHALL")
		Expect(end(ctx, soon)).To(beLost(name, ctxlock.Deleted))
		stop = lock.KeepExtended(d.tell)
		d.closes(soon, BeIdenticalTo(lock.Err()))
		stop()
	})

	It("may be begun and stopped from many goroutines while the lock is extended and lost", func() {
		s, name := server(), unique()
		option := plain.option(s.Addr())
		option.ExtendInterval = 10 * ms
		ctx, lock := handle(locker(option), name, ctxlock.AcquireOption{NoExtend: true})
		keep := lock.KeepExtended(nil)
		var work sync.WaitGroup
		for range 8 {
			work.Go(func() {
				for lock.Valid() {
					stop := lock.KeepExtended(func(error) { lock.Valid() })
					_ = lock.Extend(context.Background(), 0)
					stop()
				}
			})
		}
		Consistently(ctx.Done(), validity/2).ShouldNot(BeClosed())
		interfere(s, "FLUSHALL")
		work.Wait()
		keep()
		Expect(lock.Err()).To(beLost(name, ctxlock.Deleted))
	})
})
