package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
	"github.com/ctxlock/ctxlock/memlock"
)

// pttl is what a key has left to live, in milliseconds; -1 if it does not run out, -2 if there is none.
func pttl(s *lab.Server, key string) int64 {
	GinkgoHelper()
	ms, err := s.Do("PTTL", key)
	Expect(err).NotTo(HaveOccurred())
	return ms.(int64)
}

// key is the i-th key of a lock under the default prefix.
func key(i int, name string) string { return fmt.Sprintf("valkeylock:%d:%s", i, name) }

// expectFailed checks what a call gives beside an error: a context that has ended with it, and a cancel function that
// can be called.
func expectFailed(ctx context.Context, cancel context.CancelFunc, err error) {
	GinkgoHelper()
	Expect(err).To(HaveOccurred())
	Expect(ctx).NotTo(BeNil())
	Expect(ctx.Err()).To(HaveOccurred())
	Expect(context.Cause(ctx)).To(HaveOccurred())
	Expect(cancel).NotTo(BeNil())
	cancel()
	cancel()
}

// call is one of the three calls that take a lock.
type call struct {
	name string
	take func(ctxlock.Locker, context.Context, string) (context.Context, context.CancelFunc, error)
}

var calls = []call{
	{"WithContext", ctxlock.Locker.WithContext},
	{"TryWithContext", ctxlock.Locker.TryWithContext},
	{"ForceWithContext", ctxlock.Locker.ForceWithContext},
}

// forEachCall makes one spec for each call.
func forEachCall(text string, body func(call)) {
	GinkgoHelper()
	for _, c := range calls {
		It(text+" ("+c.name+")", func() { body(c) })
	}
}

var _ = Describe("Options", func() {
	It("have the defaults that they say", func() {
		s, name := server(), unique()
		l := locker(ctxlock.LockerOption{ClientOption: valkey.ClientOption{InitAddress: []string{s.Addr()}}})
		_, cancel, err := l.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		defer cancel()
		Eventually(func() []string { return keysOn(s) }).Should(ConsistOf(key(0, name), key(1, name), key(2, name)))
		Expect(pttl(s, key(0, name))).To(And(BeNumerically(">", 2500), BeNumerically("<=", 5100)))
	})

	It("that set nothing but the majority make that many keys", func() {
		s, name := server(), unique()
		l := locker(ctxlock.LockerOption{KeyMajority: 1, ClientOption: valkey.ClientOption{InitAddress: []string{s.Addr()}}})
		_, cancel, err := l.TryWithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		defer cancel()
		Expect(keysOn(s)).To(ConsistOf(key(0, name)))
	})

	It("with the largest majority make a lock", func() {
		s, name := server(), unique()
		option := mix{majority: 1024}.option(s.Addr())
		option.KeyValidity = 10 * time.Second
		l := locker(option)
		_, cancel, err := l.TryWithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		Expect(s.Do("DBSIZE")).To(BeEquivalentTo(2047))
		cancel()
		Expect(s.Do("DBSIZE")).To(BeEquivalentTo(0))
	})

	It("with another prefix make other locks", func() {
		s, name := server(), unique()
		option := plain.option(s.Addr())
		other := option
		other.KeyPrefix = "{else}:where"
		a, b := locker(option), locker(other)
		for _, l := range []ctxlock.Locker{a, b} {
			_, cancel, err := l.TryWithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			defer cancel()
		}
		Expect(keysOn(s)).To(ConsistOf(key(0, name), "{else}:where:0:"+name))
	})

	DescribeTable("that contradict themselves are refused at once, before anybody is connected to",
		func(spoil func(*ctxlock.LockerOption), says string) {
			option := ctxlock.LockerOption{ClientBuilder: func(valkey.ClientOption) (valkey.Client, error) {
				Fail("a client was built")
				return nil, nil
			}}
			spoil(&option)
			l, err := ctxlock.NewLocker(option)
			Expect(err).To(MatchError(ContainSubstring(says)))
			Expect(err).To(MatchError(HavePrefix("ctxlock: ")))
			Expect(l).To(BeNil())
		},
		Entry("KeyValidity negative", func(o *ctxlock.LockerOption) { o.KeyValidity = -1 }, "KeyValidity"),
		Entry("ExtendInterval negative", func(o *ctxlock.LockerOption) { o.ExtendInterval = -1 }, "ExtendInterval"),
		Entry("TryNextAfter negative", func(o *ctxlock.LockerOption) { o.TryNextAfter = -1 }, "TryNextAfter"),
		Entry("KeyMajority negative", func(o *ctxlock.LockerOption) { o.KeyMajority = -1 }, "KeyMajority"),
		Entry("KeyMajority too large", func(o *ctxlock.LockerOption) { o.KeyMajority = 1025 }, "KeyMajority"),
		Entry("KeyMajority so large that twice it overflows", func(o *ctxlock.LockerOption) { o.KeyMajority = 1 << 30 }, "KeyMajority"),
		Entry("KeyValidity too small", func(o *ctxlock.LockerOption) { o.KeyValidity = 24 * time.Millisecond }, "KeyValidity"),
		Entry("KeyValidity without its unit", func(o *ctxlock.LockerOption) { o.KeyValidity = 30 }, "KeyValidity is 30ns: did you mean 30*time.Second?"),
		Entry("KeyValidity without its unit, which is milliseconds", func(o *ctxlock.LockerOption) { o.KeyValidity = 5000 },
			"KeyValidity is 5µs: did you mean 5000*time.Millisecond?"),
		Entry("KeyValidity that rounding up would allow", func(o *ctxlock.LockerOption) { o.KeyValidity = 25*time.Millisecond - 1 }, "KeyValidity is 24.999999ms"),
		Entry("ExtendInterval without its unit", func(o *ctxlock.LockerOption) { o.ExtendInterval = 1 }, "ExtendInterval is 1ns: did you mean 1*time.Second?"),
		Entry("ExtendInterval without its unit, for a short validity", func(o *ctxlock.LockerOption) { o.KeyValidity, o.ExtendInterval = 100*time.Millisecond, 50 },
			"ExtendInterval is 50ns: did you mean 50*time.Millisecond?"),
		Entry("ExtendInterval that would be a load", func(o *ctxlock.LockerOption) { o.ExtendInterval = 10*time.Millisecond - 1 },
			"ExtendInterval is 9.999999ms: it has to be from 10ms to below 5s"),
		Entry("ExtendInterval that would be a load, for a short validity", func(o *ctxlock.LockerOption) {
			o.KeyValidity, o.ExtendInterval = 100*time.Millisecond, 5*time.Millisecond-1
		}, "it has to be from 5ms to below 100ms"),
		Entry("TryNextAfter without its unit", func(o *ctxlock.LockerOption) { o.TryNextAfter = 500 }, "TryNextAfter is 500ns: did you mean 500*time.Millisecond?"),
		Entry("TryNextAfter in which no server can answer", func(o *ctxlock.LockerOption) { o.TryNextAfter = time.Millisecond - 1 },
			"TryNextAfter is 999.999µs: it has to be from 1ms to 10 years"),
		Entry("a client's timeout without its unit", func(o *ctxlock.LockerOption) { o.ClientOption.Dialer.Timeout = 5 },
			"ClientOption.Dialer.Timeout is 5ns: did you mean 5*time.Second? It has to be at least 1ms"),
		Entry("TryNextAfter as large as can be", func(o *ctxlock.LockerOption) { o.TryNextAfter = 1<<63 - 1 }, "TryNextAfter"),
		Entry("KeyValidity of a nanosecond", func(o *ctxlock.LockerOption) { o.KeyValidity = 1 }, "KeyValidity"),
		Entry("KeyValidity too large", func(o *ctxlock.LockerOption) { o.KeyValidity = 3651 * 24 * time.Hour }, "KeyValidity"),
		Entry("KeyValidity as large as can be", func(o *ctxlock.LockerOption) { o.KeyValidity = 1<<63 - 1 }, "KeyValidity"),
		Entry("ExtendInterval as KeyValidity", func(o *ctxlock.LockerOption) {
			o.KeyValidity, o.ExtendInterval = time.Second, time.Second
		}, "ExtendInterval"),
		Entry("ExtendInterval above KeyValidity", func(o *ctxlock.LockerOption) {
			o.KeyValidity, o.ExtendInterval = time.Second, time.Minute
		}, "ExtendInterval"),
		Entry("ExtendInterval as the default of KeyValidity", func(o *ctxlock.LockerOption) {
			o.ExtendInterval = 5 * time.Second
		}, "ExtendInterval"),
		Entry("ReplicaOnly", func(o *ctxlock.LockerOption) { o.ClientOption.ReplicaOnly = true }, "ReplicaOnly"),
	)

	It("refuse on another store what they refuse on Valkey, and a store that is none", func() {
		_, err := ctxlock.NewLockerOnStore(nil, ctxlock.LockerOption{})
		Expect(err).To(MatchError(ContainSubstring("nil store")))
		_, err = memlock.New(ctxlock.LockerOption{KeyMajority: -1})
		Expect(err).To(MatchError(ContainSubstring("KeyMajority")))
		_, err = memlock.New(ctxlock.LockerOption{ExtendInterval: 5 * time.Second})
		Expect(err).To(MatchError(ContainSubstring("ExtendInterval")))
	})

	It("with the smallest validity still keep a lock, until its end is seen in time", func() {
		s, name := server(), unique()
		option := plain.option(s.Addr())
		option.KeyValidity = 25 * time.Millisecond
		l := locker(option)
		ctx, cancel, err := l.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		defer cancel()
		// A busy machine may well lose it. What counts is that it is never believed in while the key is gone.
		for range 200 {
			exists := pttl(s, key(0, name)) != -2
			if !exists {
				Expect(ctx.Err()).To(HaveOccurred(), "the key has run out and the context lives")
			}
		}
	})

	It("with the largest validity hold and release", func() {
		s, name := server(), unique()
		option := plain.option(s.Addr())
		option.KeyValidity = 10 * 365 * 24 * time.Hour
		l := locker(option)
		ctx, cancel, err := l.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		Expect(ctx.Err()).NotTo(HaveOccurred())
		Expect(pttl(s, key(0, name))).To(BeNumerically("~", option.KeyValidity.Milliseconds(), time.Minute.Milliseconds()))
		cancel()
		Expect(keysOn(s)).To(BeEmpty())
	})

	It("with a validity that is no whole number of milliseconds never give keys less", func() {
		s, name := server(), unique()
		option := plain.option(s.Addr())
		option.FallbackSETPX = true
		option.KeyValidity = 700*time.Millisecond + time.Nanosecond
		p := proxy(s)
		option.ClientOption.InitAddress = []string{p.Addr()}
		given := make(chan string, 100)
		p.OnCommand(func(args []string) lab.Action {
			if args[0] == "SET" && args[1] == key(0, name) {
				given <- strings.Join(args[3:5], " ")
			}
			return lab.Pass
		})
		_, cancel, err := locker(option).WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		defer cancel()
		Expect(given).To(Receive(Equal("PX 701")))
	})

	It("with an ExtendInterval just below KeyValidity still keep the lock", func() {
		s := server()
		var held []context.Context
		var rivals []func() error
		for _, m := range mixes { // all at once, because it takes its time
			name := unique()
			option := m.option(s.Addr())
			option.ExtendInterval = option.KeyValidity - 1
			ctx, cancel, err := locker(option).WithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			defer cancel()
			rival := locker(option)
			held = append(held, ctx)
			rivals = append(rivals, func() error {
				_, _, err := rival.TryWithContext(bg(), name)
				return err
			})
		}
		Consistently(func(g Gomega) {
			for i := range mixes {
				g.Expect(rivals[i]()).To(MatchError(ctxlock.ErrNotLocked), mixes[i].String())
				g.Expect(held[i].Err()).NotTo(HaveOccurred(), mixes[i].String())
			}
		}, 5*validity/2, 50*time.Millisecond).Should(Succeed())
	})

	It("of the caller are not written to", func() {
		s := server()
		tracking := []string{"OPTIN"}
		addresses := []string{s.Addr()}
		for i := range 20 { // shuffled, they would not all stay where they are
			addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", i+1))
		}
		mine := append([]string(nil), addresses...)
		option := ctxlock.LockerOption{
			ClientOption: valkey.ClientOption{InitAddress: mine, ShuffleInit: true, ClientTrackingOptions: tracking},
			ClientBuilder: func(o valkey.ClientOption) (valkey.Client, error) {
				o.ForceSingleClient = true
				client, err := valkey.NewClient(o) // shuffles
				Expect(o.InitAddress).NotTo(Equal(addresses), "the spec proves nothing")
				if err != nil { // the first address is one where nobody listens
					o.InitAddress, o.ShuffleInit = []string{s.Addr()}, false
					return valkey.NewClient(o)
				}
				return client, nil
			},
		}
		before := option.KeyValidity
		l, err := ctxlock.NewLocker(option)
		Expect(err).NotTo(HaveOccurred())
		l.Close()
		Expect(mine).To(Equal(addresses))
		Expect(tracking).To(Equal([]string{"OPTIN"}))
		Expect(option.KeyValidity).To(Equal(before))
		Expect(option.KeyPrefix).To(BeEmpty())
		Expect(option.ClientOption.OnInvalidations).To(BeNil())
		Expect(option.ClientOption.DialCtxFn).To(BeNil())
		Expect(option.ClientOption.PipelineMultiplex).To(BeZero())
	})

	It("with an OnInvalidations of the caller's call it, too", func() {
		s, name := server(), unique()
		option := plain.option(s.Addr())
		told := make(chan string, 100)
		option.ClientOption.OnInvalidations = func(messages []valkey.ValkeyMessage) {
			for _, m := range messages {
				text, _ := m.ToString()
				told <- text
			}
		}
		a, b := locker(option), locker(plain.option(s.Addr()))
		_, _, err := a.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		_, cancel, err := b.ForceWithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		defer cancel()
		Eventually(told).Should(Receive(Equal(key(0, name))))
	})

	Describe("of a client that cannot be had", func() {
		built := func(client valkey.Client, err error) ctxlock.LockerOption {
			return ctxlock.LockerOption{ClientBuilder: func(valkey.ClientOption) (valkey.Client, error) { return client, err }}
		}

		It("give the builder's error", func() {
			cause := errors.New("no client today")
			_, err := ctxlock.NewLocker(built(nil, cause))
			Expect(err).To(MatchError(cause))
		})

		It("give an error where the builder gives neither a client nor an error", func() {
			l, err := ctxlock.NewLocker(built(nil, nil))
			Expect(err).To(MatchError(ContainSubstring("ClientBuilder")))
			Expect(l).To(BeNil())
		})

		It("give the client's error where there is no address", func() {
			_, err := ctxlock.NewLocker(ctxlock.LockerOption{})
			Expect(err).To(MatchError(valkey.ErrNoAddr))
		})

		It("give the client's error where nobody listens", func() {
			_, err := ctxlock.NewLocker(ctxlock.LockerOption{ClientOption: valkey.ClientOption{InitAddress: []string{"127.0.0.1:1"}}})
			Expect(err).To(MatchError(ContainSubstring("refused")))
		})
	})
})

var _ = Describe("Names", func() {
	DescribeTable("of any kind can be locked, and exclude only themselves",
		func(name string) {
			s := server()
			for _, m := range []mix{{majority: 1}, {majority: 2}} {
				a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
				_, cancel, err := a.WithContext(bg(), name)
				Expect(err).NotTo(HaveOccurred())
				_, _, err = b.TryWithContext(bg(), name)
				Expect(err).To(MatchError(ctxlock.ErrNotLocked))
				_, other, err := b.TryWithContext(bg(), name[:len(name)-1]+"~")
				Expect(err).NotTo(HaveOccurred())
				other()
				waiting := make(chan error, 1)
				go func() {
					_, cancel, err := b.WithContext(bg(), name)
					cancel()
					waiting <- err
				}()
				Consistently(waiting, 50*time.Millisecond).ShouldNot(Receive())
				cancel()
				Eventually(waiting, validity/2).Should(Receive(BeNil()), "told of the release")
				Eventually(func() []string { return keysOn(s) }).Should(BeEmpty())
			}
		},
		Entry("a letter", "x"),
		Entry("colons", "a:b::c:"),
		Entry("only colons", "::"),
		Entry("braces", "{a}b"),
		Entry("empty braces", "{}"),
		Entry("a brace that is not closed", "a{b"),
		Entry("NULs", "\x00a\x00"),
		Entry("a line's end", "a\r\nb\r\n"),
		Entry("invalid UTF-8", "\xff\xfe\xc3("),
		Entry("percent signs", "%s%d%n"),
		Entry("a space", " "),
		Entry("64 KiB", strings.Repeat("n", 64<<10)),
		Entry("another lock's key", "valkeylock:0:x"),
		Entry("the rest of a key", "0:x"),
		Entry("the rest of a wake key", "w:x"),
	)

	It("that look like the keys of another are locks of their own", func() {
		s := server()
		l := locker(mix{majority: 2}.option(s.Addr()))
		for _, name := range []string{"x", "0:x", "1:x", "w:x", ":x", "x:", "valkeylock:0:x"} {
			_, cancel, err := l.TryWithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred(), name)
			defer cancel()
		}
	})

	forEachCall("that are empty or too long are refused at once", func(c call) {
		s := server()
		l := locker(plain.option(s.Addr()))
		commands := s.Commands()
		for _, name := range []string{"", strings.Repeat("n", 64<<10+1)} {
			ctx, cancel, err := c.take(l, bg(), name)
			expectFailed(ctx, cancel, err)
			Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))
			Expect(context.Cause(ctx)).To(MatchError(err))
			Expect(len(err.Error())).To(BeNumerically("<", 200))
		}
		Expect(s.Commands()-commands).To(BeNumerically("<=", 1), "nothing was asked but this")
	})
})

var _ = Describe("A call", func() {
	forEachCall("with a nil context is refused at once", func(c call) {
		l := locker(plain.option(server().Addr()))
		ctx, cancel, err := c.take(l, nil, unique()) //nolint:staticcheck // that is the point
		expectFailed(ctx, cancel, err)
		Expect(err).To(MatchError(ContainSubstring("nil context")))
	})

	forEachCall("with a context that has ended says so, with its cause, and takes nothing", func(c call) {
		s, name := server(), unique()
		l := locker(plain.option(s.Addr()))
		cause := errors.New("shift is over")
		ended, end := context.WithCancelCause(context.Background())
		end(cause)
		ctx, cancel, err := c.take(l, ended, name)
		expectFailed(ctx, cancel, err)
		Expect(err).To(And(MatchError(context.Canceled), MatchError(cause), Not(MatchError(ctxlock.ErrNotLocked))))
		Expect(keysOn(s)).To(BeEmpty())

		late, end2 := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
		defer end2()
		ctx, cancel, err = c.take(l, late, name)
		expectFailed(ctx, cancel, err)
		Expect(err).To(MatchError(context.DeadlineExceeded))
		Expect(keysOn(s)).To(BeEmpty())
	})

	It("that fails gives a context that has ended, with the error as its cause, and a cancel that can be called", func() {
		s, name := server(), unique()
		a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
		held, release, err := a.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		defer release()

		ctx, cancel, err := b.TryWithContext(bg(), name)
		expectFailed(ctx, cancel, err)
		Expect(err).To(MatchError(ctxlock.ErrNotLocked))
		Expect(context.Cause(ctx)).To(Equal(err))

		short, end := context.WithTimeout(bg(), 50*time.Millisecond)
		defer end()
		ctx, cancel, err = b.WithContext(short, name)
		expectFailed(ctx, cancel, err)
		Expect(err).To(And(MatchError(context.DeadlineExceeded), MatchError(ctxlock.ErrNotLocked)), "the last attempt's reason is told, too")
		Expect(held.Err()).NotTo(HaveOccurred())
		Expect(pttl(s, key(0, name))).To(BeNumerically(">", 0), "the cancel of a call that failed releases nothing")
	})

	It("passes on the values of the caller's context", func() {
		type mine struct{}
		l := locker(plain.option(server().Addr()))
		ctx, cancel, err := l.WithContext(context.WithValue(bg(), mine{}, "value"), unique())
		Expect(err).NotTo(HaveOccurred())
		defer cancel()
		Expect(ctx.Value(mine{})).To(Equal("value"))
	})

	forEachCall("after Close says that the locker is closed", func(c call) {
		s, name := server(), unique()
		l := locker(plain.option(s.Addr()))
		held, release, err := l.WithContext(bg(), unique())
		Expect(err).NotTo(HaveOccurred())
		l.Close()
		Expect(context.Cause(held)).To(MatchError(ctxlock.ErrLockerClosed))
		ctx, cancel, err := c.take(l, bg(), name)
		expectFailed(ctx, cancel, err)
		Expect(err).To(MatchError(ctxlock.ErrLockerClosed))
		Expect(context.Cause(ctx)).To(MatchError(ctxlock.ErrLockerClosed))
		release()
		l.Close()
		Expect(keysOn(s)).To(BeEmpty())
	})

	It("that waits when the locker is closed says that it is", func() {
		s, name := server(), unique()
		a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
		_, release, err := a.WithContext(bg(), name)
		Expect(err).NotTo(HaveOccurred())
		defer release()
		errs := make(chan error, 3)
		for range cap(errs) {
			go func() {
				_, cancel, err := b.WithContext(bg(), name)
				cancel()
				errs <- err
			}()
		}
		Consistently(errs, 50*time.Millisecond).ShouldNot(Receive())
		b.Close()
		for range cap(errs) {
			Eventually(errs).Should(Receive(MatchError(ctxlock.ErrLockerClosed)))
		}
	})
})
