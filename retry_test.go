package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// recorder is a policy that keeps what it was told. values counts attempts as servers see them, if it is used as ValueFunc.
type recorder struct {
	ctxlock.RetryPolicy
	mu       sync.Mutex
	attempts []ctxlock.Attempt
	values   int
}

func (r *recorder) Retry(a ctxlock.Attempt) ctxlock.Retry {
	r.mu.Lock()
	r.attempts = append(r.attempts, a)
	r.mu.Unlock()
	return r.RetryPolicy.Retry(a)
}

func (r *recorder) value() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.values++
	return fmt.Sprintf("%p/%d", r, r.values), nil
}

func (r *recorder) told() []ctxlock.Attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts
}

func (r *recorder) claims() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.values
}

// paced sees that the policy was asked about so many attempts, at least a pause apart, and that the last one's error came out.
func (r *recorder) paced(attempts int, pause time.Duration, err error) {
	GinkgoHelper()
	told := r.told()
	Expect(told).To(HaveLen(attempts))
	for i, a := range told {
		Expect(a.Number).To(Equal(i + 1))
		Expect(a.Random).To(And(BeNumerically(">=", 0), BeNumerically("<", 1)))
		Expect(a.Elapsed).To(BeNumerically(">=", time.Duration(i)*pause))
		Expect(a.Err).To(HaveOccurred())
	}
	Expect(err).To(MatchError(told[attempts-1].Err), "the last attempt's")
}

// on makes a taking of Acquire with a policy.
func on(l ctxlock.Locker, p ctxlock.RetryPolicy) taking {
	return acquiring(l, ctxlock.AcquireOption{Retry: p})
}

func acquiring(l ctxlock.Locker, option ctxlock.AcquireOption) taking {
	return func(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
		held, lock, err := l.Acquire(ctx, name, option)
		return held, func() { _ = lock.Release(ctx) }, err
	}
}

var _ = Describe("A retry policy", func() {
	// taken is a lock that another holds, and a locker that wants it. The holder extends 10 times a second.
	taken := func(m mix) (name string, b ctxlock.Locker, first holding) {
		s := server()
		option := m.option(s.Addr())
		option.ExtendInterval = validity / 10
		name = unique()
		return name, locker(m.option(s.Addr())), take(bg(), locker(option).WithContext, name)
	}

	It("made of bad values is an error of the call at once", func() {
		a := locker(plain.option(server().Addr()))
		for what, p := range badPolicies() {
			_, _, err := a.Acquire(bg(), unique(), ctxlock.AcquireOption{Retry: p})
			Expect(err).To(MatchError(ContainSubstring(what)))
			_, _, err = a.AcquireAll(bg(), []string{unique()}, ctxlock.AcquireOption{Retry: p})
			Expect(err).To(MatchError(ContainSubstring(what)))
		}
	})

	It("that does not retry makes for one attempt", func() {
		together(mixes, func(m mix) {
			name, b, first := taken(m)
			r := &recorder{RetryPolicy: ctxlock.NoRetry()}
			err := begin(bg(), acquiring(b, ctxlock.AcquireOption{Retry: r, ValueFunc: r.value}), name, nil).fails(soon)
			Expect(err).To(MatchError(ctxlock.ErrNotLocked))
			r.paced(1, 0, err)
			Expect(r.claims()).To(Equal(1))
			first.release()
			begin(bg(), on(b, r), name, nil).gets(soon).release()
		})
	})

	It("with a limit gives up with the last attempt's error, and word that leads nowhere does not count", func() {
		together(mixes, func(m mix) {
			name, b, _ := taken(m)
			r := &recorder{RetryPolicy: ctxlock.LimitRetries(3, ctxlock.RetryFixed(300*ms))}
			err := begin(bg(), on(b, r), name, nil).fails(900*ms + soon)
			Expect(err).To(MatchError(ctxlock.ErrNotLocked))
			r.paced(4, 300*ms, err)
		})
	})

	It("with a time limit gives up rather than try too late", func() {
		name, b, _ := taken(plain)
		r := &recorder{RetryPolicy: ctxlock.LimitRetryTime(500*ms, ctxlock.RetryFixed(200*ms))}
		Expect(begin(bg(), on(b, r), name, nil).fails(500*ms + soon)).To(MatchError(ctxlock.ErrNotLocked))
		for i, a := range r.told() {
			Expect(a.Elapsed+200*ms > 500*ms).To(Equal(i == len(r.told())-1))
		}
	})

	It("is cut short by an early release", func() {
		together(mixes, func(m mix) {
			name, b, first := taken(m)
			r := &recorder{RetryPolicy: ctxlock.RetryFixed(25 * time.Second)}
			waiter := begin(bg(), on(b, r), name, nil)
			Eventually(r.told).WithTimeout(soon).Should(HaveLen(1))
			Consistently(waiter.done, 300*ms).ShouldNot(BeClosed())
			first.release()
			waiter.gets(soon).release()
			Expect(r.told()).To(HaveLen(1))
		})
	})

	It("that sleeps through is not", func() {
		together(mixes, func(m mix) {
			name, b, first := taken(m)
			r := &recorder{RetryPolicy: ctxlock.SleepThrough(ctxlock.RetryFixed(2 * time.Second))}
			waiter := begin(bg(), on(b, r), name, nil)
			Eventually(r.told).WithTimeout(soon).Should(HaveLen(1))
			Consistently(waiter.done, 300*ms).ShouldNot(BeClosed())
			first.release()
			waiter.gets(2*time.Second + soon).release()
			Expect(waiter.took).To(BeNumerically(">=", 2*time.Second))
		})
	})

	It("that sleeps through has no other attempts than its own", func() {
		together(mixes, func(m mix) {
			name, b, _ := taken(m)
			r := &recorder{RetryPolicy: ctxlock.LimitRetries(2, ctxlock.SleepThrough(ctxlock.RetryFixed(300*ms)))}
			err := begin(bg(), acquiring(b, ctxlock.AcquireOption{Retry: r, ValueFunc: r.value}), name, nil).fails(600*ms + soon)
			r.paced(3, 300*ms, err)
			Expect(r.claims()).To(Equal(3))
		})
	})

	It("makes those who are not in front give up in time, too", func() {
		name, b, first := taken(plain)
		front := begin(bg(), b.WithContext, name, nil)
		Consistently(front.done, 100*ms).ShouldNot(BeClosed())
		together(upTo(6), func(i int) {
			limited := ctxlock.LimitRetries(2, ctxlock.RetryFixed(300*ms))
			if i%2 == 0 {
				limited = ctxlock.LimitRetryTime(700*ms, ctxlock.SleepThrough(ctxlock.RetryLinear(ms, 300*ms)))
			}
			r := &recorder{RetryPolicy: limited}
			err := begin(bg(), on(b, r), name, nil).fails(700*ms + soon)
			Expect(err).To(MatchError(ctxlock.ErrNotLocked))
			Expect(err).To(MatchError(r.told()[len(r.told())-1].Err))
			if i%2 == 1 {
				r.paced(3, 300*ms, err)
			}
		})
		Expect(front.done).NotTo(BeClosed())
		first.release()
		front.gets(soon).release()
	})

	It("that sleeps through does not keep those behind it from a lock that is free", func() {
		name, b, first := taken(plain)
		ctx, cancel := context.WithCancel(bg())
		defer cancel()
		r := &recorder{RetryPolicy: ctxlock.SleepThrough(ctxlock.RetryFixed(20 * time.Second))}
		asleep := begin(ctx, on(b, r), name, nil)
		Eventually(r.told).WithTimeout(soon).Should(HaveLen(1))
		Consistently(asleep.done, 100*ms).ShouldNot(BeClosed())
		behind := begin(bg(), b.WithContext, name, nil)
		first.release()
		behind.gets(soon).release()
		cancel()
		Expect(asleep.fails(soon)).To(MatchError(context.Canceled))
	})

	It("that sleeps through does not wake because its turn in the line has come", func() {
		name, b, first := taken(plain)
		ctx, cancel := context.WithCancel(bg())
		defer cancel()
		sleeping := func(ctx context.Context, pause time.Duration) (*pending, *recorder) {
			r := &recorder{RetryPolicy: ctxlock.SleepThrough(ctxlock.RetryFixed(pause))}
			p := begin(ctx, on(b, r), name, nil)
			Eventually(r.told).WithTimeout(soon).Should(HaveLen(1))
			Consistently(p.done, 100*ms).ShouldNot(BeClosed())
			return p, r
		}
		front, _ := sleeping(ctx, 20*time.Second)
		second, _ := sleeping(bg(), 3*time.Second)
		first.release()
		cancel()
		front.fails(soon)
		second.gets(3*time.Second + soon).release()
		Expect(second.took).To(BeNumerically(">=", 3*time.Second))
	})

	DescribeTable("goes for attempts that servers fail, too, and the last error comes out", Label("control"), func(fail func(*lab.Proxy)) {
		s, name := server(), unique()
		p := proxy(s)
		option := plain.option(p.Addr())
		option.TryNextAfter = 200 * ms
		a := locker(option)
		take(bg(), a.WithContext, name).release()
		fail(p)
		r := &recorder{RetryPolicy: ctxlock.LimitRetries(2, ctxlock.RetryFixed(300*ms))}
		err := begin(bg(), on(a, r), name, nil).fails(1500*ms + soon)
		Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))
		Expect(err).NotTo(MatchError(context.DeadlineExceeded))
		r.paced(3, 300*ms, err)
		p.Refuse(false)
		p.Heal()
		begin(bg(), a.WithContext, name, nil).gets(soon).release()
		nothingLeft(s, soon)
	},
		Entry("a link that stalls", func(p *lab.Proxy) { p.Stall(lab.Both) }),
		Entry("connections that are refused", func(p *lab.Proxy) { p.Refuse(true); p.Cut() }),
	)

	DescribeTable("is not asked about errors that waiting cannot mend", func(spoil func(s *lab.Server, r *relay, name string)) {
		s, name := server(), unique()
		r := newRelay(s)
		b := queueless(plain.option(r.address())) // whom a lock is passed on to has nothing to ask
		p := &recorder{RetryPolicy: ctxlock.RetryFixed(20 * time.Second)}
		first := take(bg(), locker(plain.option(s.Addr())).WithContext, name)
		waiter := begin(bg(), on(b, p), name, nil)
		Eventually(p.told).WithTimeout(soon).Should(HaveLen(1))
		Consistently(waiter.done, 100*ms).ShouldNot(BeClosed())
		spoil(s, r, name)
		first.release() // which makes the waiter try
		Expect(waiter.fails(soon)).NotTo(MatchError(ctxlock.ErrNotLocked))
		Expect(p.told()).To(HaveLen(1))
		Expect(begin(bg(), on(b, p), name, nil).fails(soon)).NotTo(MatchError(ctxlock.ErrNotLocked))
		Expect(p.told()).To(HaveLen(1))
	},
		Entry("no permission", func(_ *lab.Server, r *relay, _ string) { refuse(r, "NOPERM no permissions to run this command") }),
		Entry("a key of another type", func(s *lab.Server, _ *relay, name string) {
			interfere(s, "EVAL", "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')", "1", firstKey(name))
		}),
	)

	DescribeTable("does not keep a call whose pause is cut off", func(pause ctxlock.RetryPolicy) {
		name, b, _ := taken(plain)
		reason := errors.New("lunch")
		ctx, cancel := context.WithCancelCause(bg())
		var policies []*recorder
		var calls []*pending
		for i := range 6 { // half of them are cancelled, and the first of all stays in front
			r := &recorder{RetryPolicy: pause}
			policies = append(policies, r)
			calls = append(calls, begin([]context.Context{bg(), ctx}[i%2], on(b, r), name, nil))
			Eventually(r.told).WithTimeout(soon).Should(HaveLen(1))
		}
		cancel(reason)
		for i := 1; i < len(calls); i += 2 {
			err := calls[i].fails(soon)
			Expect(err).To(And(MatchError(context.Canceled), MatchError(reason), MatchError(ctxlock.ErrNotLocked)))
		}
		Expect(calls[0].done).NotTo(BeClosed())
		b.Close()
		for i := 0; i < len(calls); i += 2 {
			Expect(calls[i].fails(soon)).To(MatchError(ctxlock.ErrLockerClosed))
			Expect(policies[i].told()).To(HaveLen(1))
		}
	},
		Entry("awake", ctxlock.RetryFixed(20*time.Second)),
		Entry("asleep", ctxlock.SleepThrough(ctxlock.RetryExponential(20*time.Second, time.Minute))),
	)

	It("that answers a negative pause asks no server without end, and is limited like any other", func() {
		name, b, _ := taken(plain)
		r := &recorder{RetryPolicy: ctxlock.LimitRetryTime(300*ms, after(math.MinInt64))}
		Expect(begin(bg(), on(b, r), name, nil).fails(300*ms + soon)).To(MatchError(ctxlock.ErrNotLocked))
		Expect(len(r.told())).To(And(BeNumerically(">", 1), BeNumerically("<=", 302)))
	})

	It("that pauses for ever waits no longer than for the lock", func() {
		name, b, first := taken(plain)
		r := &recorder{RetryPolicy: after(math.MaxInt64)}
		waiter := begin(bg(), on(b, r), name, nil)
		Eventually(r.told).WithTimeout(soon).Should(HaveLen(1))
		Consistently(waiter.done, 300*ms).ShouldNot(BeClosed())
		first.release()
		waiter.gets(soon).release()
	})

	for n := range 3 {
		It(fmt.Sprintf("that panics does no harm to others who wait in the process: when asked for time %d", n+1), func() {
			s, name := server(), unique()
			a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
			first := take(bg(), a.WithContext, name)
			panicking := ctxlock.RetryFunc(func(a ctxlock.Attempt) ctxlock.Retry {
				if a.Number > n {
					panic("a bug")
				}
				return again(50 * ms)
			})
			others := begin(bg(), b.WithContext, name, nil)
			Consistently(others.done, 100*ms).ShouldNot(BeClosed())
			Expect(func() { _, _, _ = b.Acquire(bg(), name, ctxlock.AcquireOption{Retry: panicking}) }).To(PanicWith("a bug"), "not in front")
			first.release()
			others.gets(soon).release()

			first = take(bg(), a.WithContext, name)
			Expect(func() { _, _, _ = b.Acquire(bg(), name, ctxlock.AcquireOption{Retry: panicking}) }).To(PanicWith("a bug"), "in front")
			others = begin(bg(), b.WithContext, name, nil)
			first.release()
			others.gets(soon).release()
		})
	}
})
