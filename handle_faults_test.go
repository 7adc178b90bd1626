package ctxlock_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
	"github.com/ctxlock/ctxlock/memlock"
	"github.com/ctxlock/ctxlock/store"
)

// What somebody found who set out to break handles, each as it was shown.

// intercepted is a store whose extensions may be answered by a test, and whose events may come of nothing.
type intercepted struct {
	store.Store
	extend func(ops []store.Op) (answered bool) // nil for the store's own answers
	send   func(store.Event)
}

func (t *intercepted) Extend(ctx context.Context, ops []store.Op) {
	if t.extend == nil || !t.extend(ops) {
		t.Store.Extend(ctx, ops)
	}
}

func (t *intercepted) Subscribe(events func(store.Event)) {
	t.send = events
	t.Store.Subscribe(events)
}

// intercept makes a locker in memory on a store of that kind.
func intercept(server *memlock.Server, option ctxlock.LockerOption) (ctxlock.Locker, *intercepted) {
	s := &intercepted{Store: server.Store()}
	l, err := ctxlock.NewLockerOnStore(s, option)
	if err != nil {
		panic(err)
	}
	return l, s
}

var single = ctxlock.LockerOption{KeyMajority: 1}

// A look that is due, because the lock was touched, is made although nobody keeps the lock extended any more.
func TestStopDoesNotDropALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{Latency: time.Millisecond})
		here, store := intercept(server, single)
		defer here.Close()
		there, _ := intercept(server, single)
		defer there.Close()
		ctx, lock, _ := here.Acquire(t.Context(), "a", ctxlock.AcquireOption{NoExtend: true, Validity: time.Minute})
		stop := lock.KeepExtended(nil)
		time.Sleep(5 * time.Millisecond)
		for range 12 { // somebody touches the key, so hints are answered ever more slowly
			store.send(about("valkeylock:0:a"))
			time.Sleep(3 * time.Millisecond)
		}
		_, release, err := there.ForceWithContext(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		time.Sleep(1500 * time.Microsecond) // word is there, and the look is still to come
		stop()
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
			t.Error("the holder is not told")
		}
	})
}

func about(key string) store.Event { return store.Event{Key: key} }

// Who begins to keep a lock extended while it is being looked at need not wait for the next regular turn, which may be too late.
func TestKeepExtendedBeginsAtOnceAlsoDuringALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, events := intercept(memlock.NewServer(memlock.ServerOption{Latency: 100 * time.Millisecond}), single)
		defer here.Close()
		ctx, lock, err := here.Acquire(t.Context(), "a", ctxlock.AcquireOption{NoExtend: true, Validity: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		events.send(store.Event{All: true})
		time.Sleep(50 * time.Millisecond)
		stop := lock.KeepExtended(nil)
		time.Sleep(3 * time.Second)
		if ctx.Err() != nil {
			t.Errorf("lost: %v", context.Cause(ctx))
		}
		stop()
		_ = lock.Release(t.Context())
	})
}

// A round of extensions that failed is told of, also when another look has begun before anybody asked.
func TestExtendTellsOfAFailureThatALookFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, broken := intercept(memlock.NewServer(memlock.ServerOption{}), single)
		defer here.Close()
		reset := errors.New("connection reset")
		broken.extend = func(ops []store.Op) bool {
			time.Sleep(150 * time.Millisecond)
			broken.send(store.Event{All: true})
			for i := range ops {
				ops[i].Answer = store.Answer{Err: reset, Unknown: true}
			}
			return true
		}
		_, lock, err := here.Acquire(t.Context(), "a", ctxlock.AcquireOption{NoExtend: true, Validity: 4 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := lock.Extend(t.Context(), 0); !errors.Is(err, reset) || time.Since(start) > time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		_ = lock.Release(t.Context())
	})
}

// OnError is for the lock that was handed out, not for an attempt that came before it.
func TestOnErrorIsNotToldOfAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, s := intercept(memlock.NewServer(memlock.ServerOption{}), ctxlock.LockerOption{KeyMajority: 2})
		defer here.Close()
		first := true
		s.extend = func(ops []store.Op) bool {
			if !first {
				return false
			}
			first = false
			for i := range ops { // the keys are gone, as after FLUSHALL
				ops[i].Answer = store.Answer{}
			}
			return true
		}
		told := make(chan error, 10)
		_, lock, err := here.Acquire(t.Context(), "a", ctxlock.AcquireOption{Fencing: true, OnError: func(err error) { told <- err }})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(told) > 0 {
			t.Errorf("told of %v", <-told)
		}
		_ = lock.Release(t.Context())
	})
}

// A lock under another of the same name, of another Locker, which is lost, was not lost itself.
func TestReleaseTellsWhoseLossItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := memlock.NewServer(memlock.ServerOption{})
		a, _ := intercept(server, ctxlock.LockerOption{KeyMajority: 1, KeyPrefix: "a"})
		defer a.Close()
		b, _ := intercept(server, ctxlock.LockerOption{KeyMajority: 1, KeyPrefix: "b"})
		defer b.Close()
		outer, cancel, _ := a.WithContext(t.Context(), "x")
		defer cancel()
		inner, lock, _ := b.Acquire(outer, "x", ctxlock.AcquireOption{})
		_, release, _ := a.ForceWithContext(t.Context(), "x")
		defer release()
		<-inner.Done()
		if err := lock.Release(t.Context()); err != nil {
			t.Errorf("it was given back: %v", err)
		}
	})
}

var _ = Describe("Somebody else's code", func() {
	It("may close the locker, from wherever it is called", func() {
		server := memlock.NewServer(memlock.ServerOption{})
		holder, _ := intercept(server, single)
		DeferCleanup(holder.Close)
		_, release, err := holder.WithContext(bg(), "a")
		Expect(err).NotTo(HaveOccurred())
		defer release()

		lister, _ := intercept(server, single)
		Expect(func() {
			for range lister.List(bg()) {
				lister.Close()
			}
		}).To(takeLessThan(5 * time.Second))

		waiter, _ := intercept(server, single)
		Expect(func() {
			_, _, err = waiter.Acquire(bg(), "a", ctxlock.AcquireOption{Retry: ctxlock.RetryFunc(func(a ctxlock.Attempt) ctxlock.Retry {
				if a.Number == 2 {
					waiter.Close()
				}
				return ctxlock.Retry{Again: true, After: 10 * time.Millisecond}
			})})
		}).To(takeLessThan(5 * time.Second))
		Expect(err).To(MatchError(ctxlock.ErrLockerClosed))

		maker, _ := intercept(server, single)
		var calls atomic.Int64
		Expect(func() {
			_, _, err = maker.Acquire(bg(), "a", ctxlock.AcquireOption{ValueFunc: func() (string, error) {
				if calls.Add(1) == 2 {
					maker.Close()
				}
				return unique(), nil
			}})
		}).To(takeLessThan(5 * time.Second))
		Expect(err).To(MatchError(ctxlock.ErrLockerClosed))
	})
})

var _ = Describe("A lock that was extended far, and then shorter in vain", Label("control"), func() {
	It("is cleaned up for as long as its key may live, and says so", func() {
		s, name := server(), unique()
		p := proxy(s)
		a := locker(plain.option(p.Addr()))
		_, lock := handle(a, name, ctxlock.AcquireOption{})
		Expect(lock.Extend(bg(), 10*time.Minute)).To(Succeed())
		p.Refuse(true)
		p.Cut()
		ctx, cancel := context.WithTimeout(bg(), 300*time.Millisecond)
		defer cancel()
		Expect(lock.Extend(ctx, validity)).To(HaveOccurred())
		var untold *ctxlock.ReleaseError
		Expect(errors.As(lock.Release(bg()), &untold)).To(BeTrue())
		Expect(untold.Until).To(BeTemporally(">", time.Now().Add(9*time.Minute)))
		time.Sleep(2 * validity)
		p.Refuse(false)
		nothingLeft(s, 10*time.Second)
	})
})

var _ = Describe("A network that swallows connections", func() {
	It("is not blamed on the caller's context", func() {
		p := proxy(server())
		var slow atomic.Bool
		option := plain.option(p.Addr())
		option.ClientOption.DialCtxFn = func(ctx context.Context, address string, d *net.Dialer, _ *tls.Config) (net.Conn, error) {
			own := *d
			if slow.Load() {
				own.Timeout = time.Nanosecond
			}
			return own.DialContext(ctx, "tcp", address)
		}
		a := locker(option)
		slow.Store(true)
		p.Cut()
		Eventually(func() error { _, _, err := a.TryWithContext(bg(), unique()); return err }).Should(MatchError(ContainSubstring("i/o timeout")))
		_, _, err := a.TryWithContext(bg(), unique())
		Expect(err).NotTo(MatchError(context.DeadlineExceeded))
		cause := errors.New("the caller's cause")
		ctx, cancel := context.WithTimeoutCause(bg(), 300*time.Millisecond, cause)
		defer cancel()
		_, _, err = a.WithContext(ctx, unique())
		Expect(err).To(MatchError(cause))
		Expect(err).To(MatchError(context.DeadlineExceeded))
	})
})

var _ = Describe("List", func() {
	It("passes over what strangers keep under the prefix", func() {
		s := server()
		a := locker(plain.option(s.Addr()))
		handle(a, "mine", ctxlock.AcquireOption{})
		Expect(s.Do("HSET", "valkeylock:0:stray", "a", "b")).To(Equal(int64(1)))
		Expect(listed(a)).To(Equal([]string{"mine"}))
	})
})

var _ = Describe("A node that is emptied before its first claim", Label("control"), func() {
	It("is not counted on, by a locker that was connected", func() {
		var servers []*lab.Server
		var near, far []valkey.ClientOption
		var links []*lab.Proxy
		for range 3 {
			s := server()
			p := proxy(s)
			servers, links = append(servers, s), append(links, p)
			near = append(near, valkey.ClientOption{InitAddress: []string{s.Addr()}})
			far = append(far, valkey.ClientOption{InitAddress: []string{p.Addr()}})
		}
		time.Sleep(validity + 2*time.Second) // they have been up for longer than a validity
		open := func(nodes []valkey.ClientOption) ctxlock.Locker {
			l, err := ctxlock.NewRedlock(ctxlock.RedlockOption{Nodes: nodes, DelayedRestart: true, LockerOption: ctxlock.LockerOption{KeyValidity: validity}})
			Expect(err).NotTo(HaveOccurred())
			DeferCleanup(l.Close)
			return l
		}
		b, name := open(near), unique()
		links[2].Refuse(true)
		a := open(far)
		held := take(bg(), a.WithContext, name)
		links[1].Stall(lab.Both)
		Expect(servers[1].Do("FLUSHALL")).To(Equal("OK"))
		Eventually(func() error { _, _, err := b.TryWithContext(bg(), name); return err }).WithTimeout(validity / 4).Should(MatchError(ContainSubstring("lost its data")))
		Expect(held.Err()).NotTo(HaveOccurred())
		links[1].Heal()
	})
})
