package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// noContext is what callers should not pass.
var noContext context.Context

// handle takes a lock on some terms, and sees that it is held.
func handle(l ctxlock.Locker, name string, option ctxlock.AcquireOption) (context.Context, *ctxlock.Lock) {
	GinkgoHelper()
	ctx, lock, err := l.Acquire(bg(), name, option)
	Expect(err).NotTo(HaveOccurred())
	Expect(ctx.Err()).NotTo(HaveOccurred())
	Expect(lock.Valid()).To(BeTrue())
	return ctx, lock
}

var _ = Describe("Acquire", func() {
	forEachMix("takes a lock like WithContext, and gives a handle", func(m mix) {
		s, name := server(), unique()
		a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
		ctx, lock := handle(a, name, ctxlock.AcquireOption{})
		Expect(lock.Name()).To(Equal(name))
		Expect(lock.Err()).NotTo(HaveOccurred())
		Expect(lock.Token()).To(BeZero())
		Expect(lock.Metadata()).To(BeEmpty())
		Expect(s.Do("GET", firstKey(name))).To(Equal(lock.Value()))
		Expect(lock.Until()).To(BeTemporally("~", time.Now().Add(validity*9/10), validity/5))
		Expect(lock.TTL(bg())).To(BeNumerically("~", validity*9/10, validity/5))
		Expect(ctxlock.FromContext(ctx)).To(BeIdenticalTo(lock))

		_, none, err := b.Acquire(bg(), name, ctxlock.AcquireOption{Mode: ctxlock.Try})
		Expect(err).To(MatchError(ctxlock.ErrNotLocked))
		Expect(none).To(BeNil())
		waiter := begin(bg(), b.WithContext, name, nil)
		Consistently(waiter.done, 3*validity/2).ShouldNot(BeClosed(), "extended in the background")

		Expect(lock.Release(bg())).To(Succeed())
		Expect(lock.Valid()).To(BeFalse())
		Expect(lock.Err()).To(MatchError(ctxlock.ErrReleased))
		Expect(lock.Until()).To(BeZero())
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrReleased))
		Expect(lock.Extend(bg(), 0)).To(MatchError(ctxlock.ErrReleased))
		_, err = lock.TTL(bg())
		Expect(err).To(MatchError(ctxlock.ErrReleased))

		next := waiter.gets(soon)
		_, forced, err := a.Acquire(bg(), name, ctxlock.AcquireOption{Mode: ctxlock.Force})
		Expect(err).NotTo(HaveOccurred())
		end(next, 2*validity)
		Expect(context.Cause(next)).To(beLost(name, ctxlock.Taken))
		next.release()
		Expect(forced.Release(bg())).To(Succeed())
		nothingLeft(s, soon)
	})

	It("keeps the holder's value and metadata on the server", func() {
		s, name := server(), unique()
		a := locker(plain.option(s.Addr()))
		_, lock := handle(a, name, ctxlock.AcquireOption{Value: "host 7/a", Metadata: "line 1\nline 2"})
		Expect(lock.Value()).To(HaveSuffix("/host 7/a"))
		Expect(lock.Metadata()).To(Equal("line 1\nline 2"))
		Expect(s.Do("GET", firstKey(name))).To(Equal(lock.Value() + "\nline 1\nline 2"))
		Consistently(lock.Valid, 2*validity).Should(BeTrue())
		Expect(lock.Release(bg())).To(Succeed())
		nothingLeft(s, soon)
	})

	It("keeps holders of the same value apart", func() {
		s, name := server(), unique()
		a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
		option := ctxlock.AcquireOption{Mode: ctxlock.Try, Value: "host"}
		handle(a, name, option)
		_, _, err := b.Acquire(bg(), name, option)
		Expect(err).To(MatchError(ctxlock.ErrNotLocked))
		_, _, err = a.Acquire(bg(), name, option)
		Expect(err).To(MatchError(ctxlock.ErrNotLocked))
	})

	It("takes owner values from a function, one for each attempt", func() {
		s, name := server(), unique()
		a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
		var calls atomic.Int64
		option := ctxlock.AcquireOption{ValueFunc: func() (string, error) { return fmt.Sprint("value ", calls.Add(1)), nil }}
		_, lock := handle(a, name, option)
		Expect(lock.Value()).To(Equal("value 1"))
		Expect(s.Do("GET", firstKey(name))).To(Equal("value 1"))
		waiter := make(chan *ctxlock.Lock)
		go func() {
			defer GinkgoRecover()
			_, lock, err := b.Acquire(bg(), name, option)
			Expect(err).NotTo(HaveOccurred())
			waiter <- lock
		}()
		Consistently(waiter, validity/2).ShouldNot(Receive())
		Expect(lock.Release(bg())).To(Succeed())
		var next *ctxlock.Lock
		Eventually(waiter).WithTimeout(soon).Should(Receive(&next))
		Expect(next.Value()).To(Equal(fmt.Sprint("value ", calls.Load())))

		broken := errors.New("no entropy")
		for _, f := range []func() (string, error){
			func() (string, error) { return "", broken },
			func() (string, error) { return "", nil },
			func() (string, error) { return "two\nlines", nil },
		} {
			_, _, err := b.Acquire(bg(), unique(), ctxlock.AcquireOption{ValueFunc: f})
			Expect(err).To(HaveOccurred())
		}
		_, _, err := b.Acquire(bg(), unique(), ctxlock.AcquireOption{ValueFunc: func() (string, error) { return "", broken }})
		Expect(err).To(MatchError(broken))
	})

	forEachMix("gives a lock a validity of its own", func(m mix) {
		s, name := server(), unique()
		option := m.option(s.Addr())
		option.KeyValidity = 5 * time.Second
		a := locker(option)
		_, short := handle(a, name, ctxlock.AcquireOption{Validity: 300 * time.Millisecond})
		_, long := handle(a, name+" long", ctxlock.AcquireOption{Validity: time.Minute})
		Expect(ttl(s, firstKey(name))).To(BeNumerically("<=", 310*time.Millisecond))
		Expect(ttl(s, firstKey(name+" long"))).To(BeNumerically(">", 50*time.Second))
		Consistently(short.Valid, time.Second).Should(BeTrue(), "it is extended in time")
		Expect(ttl(s, firstKey(name))).To(BeNumerically("<=", 310*time.Millisecond))
		Expect(long.Until()).To(BeTemporally(">", time.Now().Add(50*time.Second)))
	})

	forEachMix("leaves it to the caller to extend, if asked to", func(m mix) {
		s, name := server(), unique()
		a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
		_, lock := handle(a, name, ctxlock.AcquireOption{NoExtend: true})
		until := lock.Until()
		time.Sleep(validity / 2)
		Expect(lock.Until()).To(Equal(until))
		Expect(lock.Extend(bg(), 0)).To(Succeed())
		Expect(lock.Until()).To(BeTemporally(">", until))
		Expect(lock.Extend(bg(), 3*validity)).To(Succeed())
		Expect(lock.TTL(bg())).To(BeNumerically(">", 2*validity))
		Expect(lock.Extend(bg(), validity/4)).To(Succeed())
		Expect(lock.TTL(bg())).To(BeNumerically("<=", validity/4+10*time.Millisecond))
		Expect(lock.Until()).To(BeTemporally("<", time.Now().Add(validity/4)))
		ended := begin(bg(), b.WithContext, name, nil).gets(validity + soon)
		Expect(lock.Valid()).To(BeFalse())
		Expect(lock.Err()).To(beLost(name, ctxlock.Expired))
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrLost))
		Expect(ended.Err()).NotTo(HaveOccurred(), "the loser's release left it alone")
	})

	It("does not extend a lock that is to be extended by hand when its key is touched", func() {
		s, name := server(), unique()
		a := locker(plain.option(s.Addr()))
		_, lock := handle(a, name, ctxlock.AcquireOption{NoExtend: true})
		until := lock.Until()
		Expect(s.Do("PEXPIRE", firstKey(name), "300")).To(Equal(int64(1)))
		Eventually(lock.Until).WithTimeout(soon).Should(BeTemporally("<", until), "its life was cut")
		Eventually(lock.Valid).WithTimeout(validity).Should(BeFalse())
		Expect(lock.Err()).To(beLost(name, ctxlock.Expired))
	})

	It("reports bad input at once, and loses nothing", func() {
		s := server()
		a := locker(plain.option(s.Addr()))
		before := s.Calls("set")
		for what, option := range map[string]ctxlock.AcquireOption{
			"Mode":                {Mode: 7},
			"Retry goes with":     {Mode: ctxlock.Try, Retry: ctxlock.NoRetry()},
			"Value and ValueFunc": {Value: "x", ValueFunc: func() (string, error) { return "y", nil }},
			"line break":          {Value: "a\nb"},
			"Value of 5000 bytes": {Value: string(make([]byte, 5000))},
			"Metadata of":         {Metadata: string(make([]byte, 70000))},
			"Validity is 1ms":     {Validity: time.Millisecond},
			"Validity is -1s":     {Validity: -time.Second},
			"Validity is 30ns: did you mean 30*time.Second?":                 {Validity: 30},
			"Validity is 5µs: did you mean 5000*time.Millisecond?":           {Validity: 5000},
			"RetryFixed: pause is 500ns: did you mean 500*time.Millisecond?": {Retry: ctxlock.RetryFixed(500)},
			"Replicas is -1":               {Replicas: -1},
			"RetryFixed":                   {Retry: ctxlock.RetryFixed(0)},
			"RetryLinear":                  {Retry: ctxlock.RetryLinear(time.Second, -1)},
			"RetryExponential":             {Retry: ctxlock.RetryExponential(-1, time.Second)},
			"LimitRetries: -1":             {Retry: ctxlock.LimitRetries(-1, ctxlock.NoRetry())},
			"LimitRetries: nil":            {Retry: ctxlock.LimitRetries(1, nil)},
			"LimitRetryTime: most is -1ns": {Retry: ctxlock.LimitRetryTime(-1, ctxlock.NoRetry())},
			"SleepThrough: nil":            {Retry: ctxlock.SleepThrough(nil)},
			"nil RetryFunc":                {Retry: ctxlock.RetryFunc(nil)},
		} {
			ctx, lock, err := a.Acquire(bg(), unique(), option)
			Expect(err).To(MatchError(ContainSubstring(what)), what)
			Expect(ctx.Err()).To(HaveOccurred())
			Expect(lock).To(BeNil())
		}
		_, _, err := a.Acquire(noContext, "x", ctxlock.AcquireOption{})
		Expect(err).To(MatchError(ContainSubstring("nil context")))
		_, _, err = a.Acquire(bg(), "", ctxlock.AcquireOption{})
		Expect(err).To(MatchError(ContainSubstring("empty name")))
		Expect(s.Calls("set")).To(Equal(before))
		_, lock := handle(a, unique(), ctxlock.AcquireOption{})
		Expect(lock.Extend(bg(), time.Millisecond)).To(MatchError(ContainSubstring("the extension is 1ms")))
		Expect(lock.Extend(bg(), 30)).To(MatchError(ContainSubstring("the extension is 30ns: did you mean 30*time.Second?")))
		Expect(lock.Extend(bg(), -time.Second)).To(MatchError(ContainSubstring("the extension is -1s: it has to be from 25ms")))
		Expect(lock.Extend(noContext, 0)).To(MatchError(ContainSubstring("nil context")))
		Expect(lock.Valid()).To(BeTrue())
	})
})

var _ = Describe("A nil Lock", func() {
	It("is safe", func() {
		var lock *ctxlock.Lock
		Expect(lock.Name()).To(BeEmpty())
		Expect(lock.Value()).To(BeEmpty())
		Expect(lock.Metadata()).To(BeEmpty())
		Expect(lock.Token()).To(BeZero())
		Expect(lock.Until()).To(BeZero())
		Expect(lock.Valid()).To(BeFalse())
		Expect(lock.Each()).To(BeEmpty())
		Expect(lock.Err()).To(MatchError(ctxlock.ErrReleased))
		Expect(lock.Extend(bg(), 0)).To(MatchError(ctxlock.ErrReleased))
		_, err := lock.TTL(bg())
		Expect(err).To(MatchError(ctxlock.ErrReleased))
		stop := lock.KeepExtended(func(error) { Fail("nothing to tell") })
		stop()
		stop()
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrReleased))
		Expect(lock.String()).NotTo(BeEmpty())
		Expect(ctxlock.FromContext(bg())).To(BeNil())
		Expect(ctxlock.FromContext(noContext)).To(BeNil())
	})
})

var _ = Describe("FromContext", func() {
	It("reaches the handle under the drop-in calls, and from contexts below", func() {
		s, name := server(), unique()
		a := locker(plain.option(s.Addr()))
		for _, how := range []taking{a.WithContext, a.TryWithContext, a.ForceWithContext} {
			ctx, cancel, err := how(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			below, stop := context.WithCancel(ctx)
			lock := ctxlock.FromContext(below)
			Expect(lock.Name()).To(Equal(name))
			Expect(lock.Extend(bg(), 5*validity)).To(Succeed())
			Expect(ttl(s, firstKey(name))).To(BeNumerically(">", 4*validity))
			inner, release, err := a.WithContext(ctx, name+" inner")
			Expect(err).NotTo(HaveOccurred())
			Expect(ctxlock.FromContext(inner).Name()).To(Equal(name + " inner"))
			release()
			stop()
			cancel()
			Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrReleased))
		}
	})
})

var _ = Describe("Release", func() {
	It("survives a context that has ended", func() {
		s, name := server(), unique()
		a := locker(plain.option(s.Addr()))
		ctx, cancel := context.WithCancel(bg())
		_, lock, err := a.Acquire(ctx, name, ctxlock.AcquireOption{})
		Expect(err).NotTo(HaveOccurred())
		cancel()
		Expect(lock.Valid()).To(BeFalse())
		Expect(lock.Err()).To(MatchError(context.Canceled))
		Expect(keysOn(s)).NotTo(BeEmpty(), "the end of the caller's context is not a release")
		Expect(lock.Release(ctx)).To(Succeed())
		Expect(keysOn(s)).To(BeEmpty())
	})

	It("says when the lock was lost before, whether anybody knew or not", func() {
		s, name := server(), unique()
		for _, m := range []mix{plain, {majority: 2}, {majority: 1, polling: true}, {majority: 2, polling: true}} {
			a := locker(m.option(s.Addr()))
			_, lock := handle(a, name, ctxlock.AcquireOption{Validity: time.Minute})
			Expect(s.Do("FLUSHALL")).To(Equal("OK"))
			Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrLost), m.String())

			_, lock = handle(a, name, ctxlock.AcquireOption{Validity: time.Minute})
			for i := range 2*m.majority - 1 {
				Expect(s.Do("SET", fmt.Sprintf("valkeylock:%d:%s", i, name), "stranger")).To(Equal("OK"))
			}
			err := lock.Release(bg())
			var lost *ctxlock.LostError
			Expect(errors.As(err, &lost)).To(BeTrue(), m.String())
			Expect(lost.Reason).To(Equal(ctxlock.Taken), m.String())
			Expect(s.Do("GET", firstKey(name))).To(Equal("stranger"))
			Expect(s.Do("FLUSHALL")).To(Equal("OK"))
		}
	})

	It("says when the servers could not be told, in time, and by when the lock is over", Label("control"), func() {
		s, name := server(), unique()
		p := proxy(s)
		a := locker(plain.option(p.Addr()))
		_, lock := handle(a, name, ctxlock.AcquireOption{})
		p.Stall(lab.Up | lab.Down)
		var err error
		Expect(func() { err = lock.Release(bg()) }).To(takeLessThan(2*time.Second + busy))
		var untold *ctxlock.ReleaseError
		Expect(errors.As(err, &untold)).To(BeTrue())
		Expect(untold.Name).To(Equal(name))
		Expect(untold.Until).To(BeTemporally("~", time.Now(), 2*validity))
		Expect(lock.Valid()).To(BeFalse())
		p.Heal()
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrReleased))
		nothingLeft(s, 5*time.Second)
	})

	It("is safe from many goroutines, one of which releases", func() {
		s, name := server(), unique()
		a := locker(plain.option(s.Addr()))
		_, lock := handle(a, name, ctxlock.AcquireOption{})
		var released atomic.Int64
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				defer GinkgoRecover()
				if err := lock.Release(bg()); err == nil {
					released.Add(1)
				} else {
					Expect(err).To(MatchError(ctxlock.ErrReleased))
				}
			})
		}
		calls.Wait()
		Expect(released.Load()).To(Equal(int64(1)))
	})

	It("leaves it to Close once that has begun", func() {
		s, name := server(), unique()
		a := locker(plain.option(s.Addr()))
		_, lock := handle(a, name, ctxlock.AcquireOption{})
		a.Close()
		Expect(lock.Err()).To(MatchError(ctxlock.ErrLockerClosed))
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrLockerClosed))
		Expect(lock.Extend(bg(), 0)).To(MatchError(ctxlock.ErrLockerClosed))
		nothingLeft(s, soon)
	})
})

var _ = Describe("Handing a lock over", func() {
	forEachMix("takes it from the one holder who is named, or if it is free", func(m mix) {
		s, name := server(), unique()
		a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
		from, lock := handle(a, name, ctxlock.AcquireOption{Metadata: "of the first", Fencing: true})
		_, _, err := b.Acquire(bg(), name, ctxlock.AcquireOption{Mode: ctxlock.Try, From: "ctxlock/somebody/else"})
		Expect(err).To(MatchError(ctxlock.ErrNotLocked))
		Expect(from.Err()).NotTo(HaveOccurred())

		_, next, err := b.Acquire(bg(), name, ctxlock.AcquireOption{Mode: ctxlock.Try, From: lock.Value(), Fencing: true})
		Expect(err).NotTo(HaveOccurred())
		Expect(end(from, 2*validity)).To(beLost(name, ctxlock.Taken))
		Expect(next.Token()).To(BeNumerically(">", lock.Token()))
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrLost))
		Expect(next.TTL(bg())).To(BeNumerically(">", 0), "what the first one cleaned up was not this one's")

		_, within, err := b.Acquire(bg(), name, ctxlock.AcquireOption{From: next.Value()})
		Expect(err).NotTo(HaveOccurred())
		Expect(next.Valid()).To(BeFalse(), "in the same process it is over before it is handed over")
		Expect(next.Err()).To(beLost(name, ctxlock.Taken))
		Expect(within.Release(bg())).To(Succeed())
		_, free, err := b.Acquire(bg(), name, ctxlock.AcquireOption{Mode: ctxlock.Try, From: next.Value()})
		Expect(err).NotTo(HaveOccurred())
		Expect(free.Release(bg())).To(Succeed())

		_, _, err = b.Acquire(bg(), name, ctxlock.AcquireOption{Mode: ctxlock.Force, From: "x"})
		Expect(err).To(MatchError(ContainSubstring("From")))
		_, _, err = b.Acquire(bg(), name, ctxlock.AcquireOption{From: "x\ny"})
		Expect(err).To(MatchError(ContainSubstring("line break")))
	})
})
