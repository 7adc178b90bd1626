package ctxlock_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
)

// wrapper is a client of somebody who counts what goes through it.
type wrapper struct {
	valkey.Client
	calls atomic.Int64
}

func (w *wrapper) Do(ctx context.Context, command valkey.Completed) valkey.ValkeyResult {
	w.calls.Add(1)
	return w.Client.Do(ctx, command)
}

func (w *wrapper) DoMulti(ctx context.Context, commands ...valkey.Completed) []valkey.ValkeyResult {
	w.calls.Add(1)
	return w.Client.DoMulti(ctx, commands...)
}

// builder is a ClientBuilder for a server at an address.
type builder struct {
	what  string
	build func(address string) func(valkey.ClientOption) (valkey.Client, error)
}

// instead is one that builds from an option of its own.
func instead(what string, option valkey.ClientOption) builder {
	return builder{what, func(address string) func(valkey.ClientOption) (valkey.Client, error) {
		option := option
		option.InitAddress = []string{address}
		return func(valkey.ClientOption) (valkey.Client, error) { return valkey.NewClient(option) }
	}}
}

// from is one that builds from the option that it is given, with changes.
func from(what string, change func(*valkey.ClientOption)) builder {
	return builder{what, func(string) func(valkey.ClientOption) (valkey.Client, error) {
		return func(option valkey.ClientOption) (valkey.Client, error) {
			change(&option)
			return valkey.NewClient(option)
		}
	}}
}

// wrapped is one that wraps what another builds.
func wrapped(b builder) builder {
	return builder{b.what + ", wrapped", func(address string) func(valkey.ClientOption) (valkey.Client, error) {
		return func(option valkey.ClientOption) (valkey.Client, error) {
			client, err := b.build(address)(option)
			return &wrapper{Client: client}, err
		}
	}}
}

// handOvers has locks held for longer than their validity, with one waiting for each, and lets go of them one after the other. It
// gives how long each took to be taken over.
func (b builder) handOvers(address string) (took []time.Duration, err error) {
	ctx, end := context.WithTimeout(context.Background(), 20*time.Second)
	defer end()
	type pair struct {
		ctx    context.Context
		cancel context.CancelFunc
		in     chan time.Time
	}
	var pairs []pair
	var errs atomic.Pointer[error]
	for i := range 6 {
		option := mix{majority: int32(1 + i%2)}.option(address)
		option.ClientBuilder = b.build(address)
		holder, err := ctxlock.NewLocker(option)
		if err != nil {
			return nil, err
		}
		defer holder.Close()
		waiter, err := ctxlock.NewLocker(option)
		if err != nil {
			return nil, err
		}
		defer waiter.Close()
		name := fmt.Sprint(b.what, i)
		p := pair{in: make(chan time.Time, 1)}
		if p.ctx, p.cancel, err = holder.WithContext(ctx, name); err != nil {
			return nil, err
		}
		if _, _, err := waiter.TryWithContext(ctx, name); !errors.Is(err, ctxlock.ErrNotLocked) {
			return nil, fmt.Errorf("tried in vain to be refused: %w", err)
		}
		go func() {
			_, cancel, err := waiter.WithContext(ctx, name)
			p.in <- time.Now()
			cancel()
			if err != nil {
				errs.Store(&err)
			}
		}()
		pairs = append(pairs, p)
	}
	if err := lives(pairs[0].ctx, 3*validity/2); err != nil {
		return nil, err
	}
	for _, p := range pairs {
		if err := p.ctx.Err(); err != nil {
			return nil, err
		}
		start := time.Now()
		p.cancel()
		took = append(took, (<-p.in).Sub(start))
	}
	if err := errs.Load(); err != nil {
		return nil, *err
	}
	return took, nil
}

// handOversOf is that for many builders at once.
func handOversOf(builders ...builder) map[string][]time.Duration {
	GinkgoHelper()
	s := server()
	took := make(map[string][]time.Duration)
	var mu sync.Mutex
	var work sync.WaitGroup
	for _, b := range builders {
		work.Go(func() {
			defer GinkgoRecover()
			times, err := b.handOvers(s.Addr())
			Expect(err).NotTo(HaveOccurred(), b.what)
			mu.Lock()
			took[b.what] = times
			mu.Unlock()
		})
	}
	work.Wait()
	return took
}

var _ = Describe("A ClientBuilder", func() {
	// expectTold checks that waiters were told, and did not poll: then they would look after 250 ms at the least.
	expectTold := func(took map[string][]time.Duration) {
		GinkgoHelper()
		for what, times := range took {
			slices.Sort(times)
			Expect(times[len(times)-2]).To(BeNumerically("<", 50*time.Millisecond), what) // one may be late on a busy machine
		}
	}

	It("that builds from what it is given keeps tracking", func() {
		given := from("as it is", func(*valkey.ClientOption) {})
		expectTold(handOversOf(given, wrapped(given), from("with a name and a database", func(option *valkey.ClientOption) {
			option.ClientName, option.SelectDB, option.ConnWriteTimeout = "mine", 3, 3*time.Second
		})))
	})

	It("that builds from what it is given and dials in a way of its own keeps tracking", func() {
		expectTold(handOversOf(from("own dialer", func(option *valkey.ClientOption) {
			option.DialCtxFn = func(ctx context.Context, address string, dialer *net.Dialer, _ *tls.Config) (net.Conn, error) {
				return dialer.DialContext(ctx, "tcp", address)
			}
		})))
	})

	It("is given what makes one connection to each node that tracks all", func() {
		s := server()
		option := plain.option(s.Addr())
		option.NoLoopTracking = true
		option.ClientOption.PipelineMultiplex = 4
		option.ClientBuilder = func(given valkey.ClientOption) (valkey.Client, error) {
			Expect(given.PipelineMultiplex).To(Equal(-1))
			Expect(given.ClientTrackingOptions).To(Equal([]string{"OPTOUT", "NOLOOP"}))
			Expect(given.OnInvalidations).NotTo(BeNil())
			return valkey.NewClient(given)
		}
		l := locker(option)
		Expect(l.Client()).NotTo(BeNil())
	})

	Describe("that gives a client of another's making", func() {
		It("has holders keep locks and waiters get in within a second", func() {
			deaf := func([]valkey.ValkeyMessage) {}
			took := handOversOf(
				instead("by default", valkey.ClientOption{}),
				wrapped(instead("by default", valkey.ClientOption{})),
				instead("with DisableCache", valkey.ClientOption{DisableCache: true}),
				instead("in RESP2", valkey.ClientOption{DisableCache: true, AlwaysRESP2: true}),
				instead("that broadcasts", valkey.ClientOption{ClientTrackingOptions: []string{"BCAST"}, OnInvalidations: deaf}),
				instead("that tells somebody else", valkey.ClientOption{ClientTrackingOptions: []string{"OPTOUT"}, OnInvalidations: deaf}),
				instead("with several connections", valkey.ClientOption{PipelineMultiplex: 2}),
				instead("without automatic pipelining", valkey.ClientOption{DisableAutoPipelining: true}),
			)
			for what, times := range took {
				Expect(slices.Max(times)).To(BeNumerically("<", 1500*time.Millisecond), what)
			}
		})

		It("and shares it between two lockers has holders keep locks and waiters get in, until it is closed", func() {
			s, name := server(), unique()
			var shared valkey.Client
			option := plain.option(s.Addr())
			option.ClientBuilder = func(given valkey.ClientOption) (valkey.Client, error) {
				var err error
				if shared == nil {
					shared, err = valkey.NewClient(given)
				}
				return shared, err
			}
			a, b := locker(option), locker(option)
			for _, from := range []ctxlock.Locker{a, b} {
				to := a
				if from == a {
					to = b
				}
				ctx, cancel, err := from.WithContext(bg(), name)
				Expect(err).NotTo(HaveOccurred())
				in := waiting(to, name)
				Consistently(in, 100*time.Millisecond).ShouldNot(Receive())
				Expect(ctx.Err()).NotTo(HaveOccurred())
				cancel()
				Eventually(in, time.Second).Should(Receive(BeNil()))
			}
			held, _, err := b.WithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			a.Close() // closes the client
			in := waiting(b, unique())
			Eventually(in, time.Second).Should(Receive(MatchError(valkey.ErrClosing)))
			Eventually(held.Done(), 2*validity).Should(BeClosed())
			Expect(context.Cause(held)).To(MatchError(ctxlock.ErrLost))
		})

		It("which tells somebody else of what it was asked to tell the locker has waiters get in when keys run out, at the latest", func() {
			s, name := server(), unique()
			option := plain.option(s.Addr())
			option.ClientBuilder = func(given valkey.ClientOption) (valkey.Client, error) {
				given.OnInvalidations = func([]valkey.ValkeyMessage) {}
				return valkey.NewClient(given)
			}
			a, b := locker(option), locker(option)
			_, cancel, err := a.WithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			in := waiting(b, name)
			Consistently(in, 100*time.Millisecond).ShouldNot(Receive())
			cancel()
			Eventually(in, 2*validity).Should(Receive(BeNil()))
		})
	})
})
