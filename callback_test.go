package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
)

// misbehaving is a callback that does not return.
type misbehaving struct {
	what string
	do   func()
	// seen checks that the call it was made in has ended as it did.
	seen func(call func())
}

var misbehaviours = []misbehaving{
	{"that panics", func() { panic("a bug") }, func(call func()) {
		GinkgoHelper()
		Expect(call).To(PanicWith("a bug"))
	}},
	{"that ends its goroutine", runtime.Goexit, func(call func()) {
		GinkgoHelper()
		returned, ended := false, make(chan struct{})
		go func() {
			defer close(ended)
			call()
			returned = true
		}()
		Eventually(ended).WithTimeout(2 * soon).Should(BeClosed())
		Expect(returned).To(BeFalse(), "the call returned")
	}},
}

// forEachMisbehaviour makes one spec for each.
func forEachMisbehaviour(text string, body func(misbehaving)) {
	GinkgoHelper()
	for _, m := range misbehaviours {
		It(fmt.Sprintf(text, m.what), func() { body(m) })
	}
}

// valuesUntil makes owner values, and does something else at the n-th.
func valuesUntil(n int32, do func()) func() (string, error) {
	var calls atomic.Int32
	id := unique()
	return func() (string, error) {
		if calls.Add(1) == n {
			do()
		}
		return fmt.Sprint(id, " value ", calls.Load()), nil
	}
}

var _ = Describe("A callback", Label("control"), func() {
	forEachMisbehaviour("%s in ValueFunc under AcquireAll does that in the caller's goroutine, and leaves nothing", func(m misbehaving) {
		s := server()
		names := []string{unique(), unique(), unique()}
		a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
		for _, mode := range []ctxlock.Mode{ctxlock.Try, ctxlock.Wait, ctxlock.Force} {
			for n := int32(1); n <= 3; n++ {
				m.seen(func() {
					_, _, _ = b.AcquireAll(bg(), names, ctxlock.AcquireOption{Mode: mode, ValueFunc: valuesUntil(n, m.do)})
				})
				nothingLeft(s, soon)
			}
		}
		first := take(bg(), a.WithContext, names[1])
		for n := int32(4); n <= 7; n++ { // while it waits, first for one of them, and with others in hand
			m.seen(func() {
				_, _, _ = b.AcquireAll(bg(), names, ctxlock.AcquireOption{
					ValueFunc: valuesUntil(n, m.do), Retry: ctxlock.RetryFixed(20 * ms)})
			})
			begin(bg(), b.WithContext, names[0], nil).gets(soon).release()
			begin(bg(), b.WithContext, names[2], nil).gets(soon).release()
		}
		first.release()
		nothingLeft(s, soon)
	})

	forEachMisbehaviour("%s in ValueFunc or RetryPolicy under Acquire does no harm to others who wait in the process", func(m misbehaving) {
		s, name := server(), unique()
		a, b := locker(plain.option(s.Addr())), queueless(plain.option(s.Addr())) // a place in the queue keeps its value
		for n := range 3 {
			values := ctxlock.AcquireOption{ValueFunc: valuesUntil(int32(n+1), m.do), Retry: ctxlock.RetryFixed(20 * ms)}
			policy := ctxlock.AcquireOption{Retry: ctxlock.RetryFunc(func(a ctxlock.Attempt) ctxlock.Retry {
				if a.Number > n {
					m.do()
				}
				return again(20 * ms)
			})}
			for _, option := range []ctxlock.AcquireOption{values, policy} {
				first := take(bg(), a.WithContext, name)
				m.seen(func() { _, _, _ = b.Acquire(bg(), name, option) })
				waiter := begin(bg(), b.WithContext, name, nil)
				Consistently(waiter.done, 30*ms).ShouldNot(BeClosed())
				m.seen(func() { _, _, _ = b.Acquire(bg(), name, policy) }) // behind another
				first.release()
				waiter.gets(soon).release()
			}
		}
		nothingLeft(s, soon)
	})

	forEachMisbehaviour("%s in ClientBuilder does that in the caller's goroutine, and leaves nothing", func(m misbehaving) {
		option := plain.option(server().Addr())
		option.ClientBuilder = func(valkey.ClientOption) (valkey.Client, error) {
			m.do()
			return nil, nil
		}
		m.seen(func() { _, _ = ctxlock.NewLocker(option) })
	})

	forEachMisbehaviour("%s in ClientBuilder of independent nodes does that in the caller's goroutine, and leaves nothing", func(m misbehaving) {
		d := independent(3)
		for bad := range 3 {
			option := d.direct()
			option.ClientBuilder = func(o valkey.ClientOption) (valkey.Client, error) {
				if o.InitAddress[0] == d.servers[bad].Addr() {
					m.do()
				}
				return valkey.NewClient(o)
			}
			m.seen(func() { _, _ = ctxlock.NewRedlock(option) })
		}
	})

	It("that ends its goroutine in ClientBuilder when a node is connected to again has the node tried again", func() {
		d := independent(3)
		d.links[2].Refuse(true)
		option := d.option()
		var calls atomic.Int32
		option.ClientBuilder = func(o valkey.ClientOption) (valkey.Client, error) {
			if o.InitAddress[0] == d.links[2].Addr() && calls.Add(1) == 3 {
				runtime.Goexit()
			}
			return valkey.NewClient(o)
		}
		l := redlock(option)
		Eventually(calls.Load).WithTimeout(4 * soon).Should(BeNumerically(">", 3))
		d.links[2].Refuse(false)
		Eventually(func(g Gomega) {
			ctx, lock, err := l.Acquire(bg(), unique(), ctxlock.AcquireOption{Mode: ctxlock.Try})
			g.Expect(err).NotTo(HaveOccurred())
			name := lock.Name()
			defer lock.Release(bg())
			g.Expect(ctx.Err()).NotTo(HaveOccurred())
			g.Expect(d.value(2, name)).NotTo(BeEmpty())
		}).WithTimeout(10 * time.Second).WithPolling(50 * ms).Should(Succeed())
	})

	It("that ends its goroutine in OnError is told of what comes next, and does not hold up those who stop it", func() {
		s, name := server(), unique()
		r := newRelay(s)
		option := plain.option(r.address())
		option.KeyValidity, option.ExtendInterval = 3*time.Second, 200*ms
		var told atomic.Int32
		var last atomic.Pointer[error]
		ctx, lock := handle(locker(option), name, ctxlock.AcquireOption{OnError: func(err error) {
			told.Add(1)
			last.Store(&err)
			runtime.Goexit()
		}})
		stop := lock.KeepExtended(func(error) { runtime.Goexit() })
		refuseExtensions(r)
		Eventually(told.Load).WithTimeout(soon).Should(BeNumerically(">", 1))
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			stop()
		}()
		Eventually(stopped).WithTimeout(soon).Should(BeClosed())
		Expect(end(ctx, 3*time.Second+soon)).To(beLost(name, ctxlock.Expired))
		Eventually(func() bool { return errors.Is(*last.Load(), ctxlock.ErrLost) }).WithTimeout(soon).Should(BeTrue())
	})

	forEachMisbehaviour("%s in a loop over List does that in the caller's goroutine, and leaves nothing", func(m misbehaving) {
		s := server()
		l := locker(plain.option(s.Addr()))
		first := take(bg(), l.WithContext, unique())
		m.seen(func() {
			for range l.List(bg()) {
				m.do()
			}
		})
		var found int
		for _, err := range l.List(bg()) {
			Expect(err).NotTo(HaveOccurred())
			found++
		}
		Expect(found).To(Equal(1))
		first.release()
		closed := make(chan struct{})
		go func() { defer close(closed); l.Close() }()
		Eventually(closed).WithTimeout(soon).Should(BeClosed())
	})

	It("that panics in one call under AcquireAll leaves the same names to others who call at the same time", func() {
		s := server()
		names := []string{unique(), unique()}
		b := locker(plain.option(s.Addr()))
		ctx, stop := context.WithTimeout(bg(), 2*time.Second)
		defer stop()
		var calls sync.WaitGroup
		var got, panicked atomic.Int32
		for i := range 4 {
			calls.Go(func() {
				defer GinkgoRecover()
				for range 10 {
					if i == 0 {
						func() {
							defer func() {
								if recover() != nil {
									panicked.Add(1)
								}
							}()
							_, _, _ = b.AcquireAll(ctx, names, ctxlock.AcquireOption{ValueFunc: valuesUntil(2, func() { panic("a bug") })})
						}()
						continue
					}
					_, lock, err := b.AcquireAll(ctx, names, ctxlock.AcquireOption{})
					Expect(err).NotTo(HaveOccurred())
					got.Add(1)
					Expect(lock.Release(bg())).To(Succeed())
				}
			})
		}
		calls.Wait()
		Expect(got.Load()).To(Equal(int32(30)))
		Expect(panicked.Load()).To(Equal(int32(10)))
		nothingLeft(s, soon)
	})
})
