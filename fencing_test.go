package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/fence"
	"github.com/ctxlock/ctxlock/internal/lab"
	"github.com/ctxlock/ctxlock/store"
)

// fenced are the terms of locks with a token.
var fenced = ctxlock.AcquireOption{Fencing: true}

// takeToken takes a lock, gives it back at once, and gives the token that came with it.
func takeToken(l ctxlock.Locker, name string) int64 {
	GinkgoHelper()
	_, lock := handle(l, name, fenced)
	Expect(lock.Release(bg())).To(Succeed())
	return lock.Token()
}

// counterOf is where the tokens of key i of a lock are counted.
func counterOf(i int, name string) string {
	return fmt.Sprintf("valkeylock:T:{valkeylock:%d:%s}", i, name)
}

// counted reads the counters of a lock, 0 for one that is not there.
func counted(s *lab.Server, m mix, name string) (counters []int64) {
	GinkgoHelper()
	for i := range m.keys(name) {
		reply, err := s.Do("GET", counterOf(i, name))
		Expect(err).NotTo(HaveOccurred())
		text, _ := reply.(string)
		counter, _ := strconv.ParseInt(text, 10, 64)
		counters = append(counters, counter)
	}
	return counters
}

// setCounter is what a stranger does, or a node that has seen more than others.
func setCounter(s *lab.Server, i int, name string, to any) {
	GinkgoHelper()
	Expect(s.Do("SET", counterOf(i, name), fmt.Sprint(to))).To(Equal("OK"))
}

// locksLeft lists the keys of locks: all but the counters, which outlive them.
func locksLeft(s *lab.Server) []string {
	GinkgoHelper()
	return slices.DeleteFunc(keysOn(s), func(key string) bool { return len(key) > 12 && key[:12] == "valkeylock:T" })
}

// microseconds is how far a token is ahead that was given out so much later.
func microseconds(d time.Duration) int64 { return int64(d / time.Microsecond) }

// tokenLog checks that tokens rise in the order of the holdings of each name.
type tokenLog struct {
	mu sync.Mutex
	// Below mu.
	names    map[string]*namedTokens
	holdings int
	wrong    []string
}

type namedTokens struct {
	greatest int64
	breaches int // how often something has begun or ended that may give the lock to one while another believes in it
	under    int // how many such things are under way
}

// tokenCall is a call that is under way, with what was known when it began.
type tokenCall struct {
	name     string
	who      string
	greatest int64
	breaches int
}

func newTokenLog() *tokenLog { return &tokenLog{names: make(map[string]*namedTokens)} }

// of is under mu.
func (t *tokenLog) of(name string) *namedTokens {
	if t.names[name] == nil {
		t.names[name] = new(namedTokens)
	}
	return t.names[name]
}

// begin is to be called before a lock is asked for.
func (t *tokenLog) begin(name, who string) tokenCall {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.of(name)
	return tokenCall{name, who, n.greatest, n.breaches}
}

// breach tells that until over is called the locks may pass to somebody although their holders believe in them.
func (t *tokenLog) breach(names ...string) (over func()) {
	change := func(by int) {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, name := range names {
			n := t.of(name)
			n.breaches++
			n.under += by
		}
	}
	change(1)
	return func() { change(-1) }
}

// enter is to be called with each lock as soon as it was handed out. Whoever still holds his lock now, and nothing has gone wrong since he
// asked for it, comes after all that have entered. Of others it is certain only that they come after those who had entered before they asked.
func (t *tokenLog) enter(c tokenCall, lock *ctxlock.Lock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holdings++
	n, after := t.of(c.name), c.greatest
	if n.breaches == c.breaches && n.under == 0 && lock.Valid() {
		after = n.greatest
	}
	if token := lock.Token(); token <= after {
		t.wrong = append(t.wrong, fmt.Sprintf("%s: %s has the token %d after %d", c.name, c.who, token, after))
	}
	n.greatest = max(n.greatest, lock.Token())
}

func (t *tokenLog) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.holdings
}

// tokenRun is many lockers that take a few names from each other while a server goes through trouble.
type tokenRun struct {
	mix
	s     *lab.Server
	p     *lab.Proxy // in front of the first locker
	log   *tokenLog
	names []string
	goal  int
	// troubled is closed when there was enough trouble.
	troubled chan struct{}
}

const (
	// tokenValidity is short enough for locks to run out often.
	tokenValidity = 150 * time.Millisecond
	tokenLockers  = 4
	tokenWorkers  = 6
)

func newTokenRun(m mix, goal int) *tokenRun {
	GinkgoHelper()
	s := server(lab.Config{Clock: true})
	r := &tokenRun{mix: m, s: s, p: proxy(s), log: newTokenLog(), goal: goal, troubled: make(chan struct{})}
	for range 12 {
		r.names = append(r.names, unique())
	}
	return r
}

// run goes on until there were enough holdings and enough trouble.
func (r *tokenRun) run() {
	GinkgoHelper()
	start := time.Now()
	ctx, stop := context.WithTimeout(context.Background(), 90*time.Second)
	defer stop()
	var work sync.WaitGroup
	for i := range tokenLockers {
		address := r.s.Addr()
		if i == 0 {
			address = r.p.Addr()
		}
		option := r.option(address)
		option.KeyValidity, option.TryNextAfter = tokenValidity, tokenValidity
		option.ClientOption.Dialer.Timeout = 5 * time.Second
		l := locker(option)
		for j := range tokenWorkers {
			work.Go(func() { r.work(ctx, l, fmt.Sprint(i, ".", j)) })
		}
	}
	work.Go(func() {
		defer GinkgoRecover()
		defer close(r.troubled)
		r.trouble(ctx)
	})
	work.Wait()
	took := time.Since(start)
	report := fmt.Sprintf("%d holdings in %v, %.0f a second: %v", r.log.count(), took.Round(time.Millisecond), float64(r.log.count())/took.Seconds(), r.mix)
	GinkgoWriter.Println(report)
	AddReportEntry("fencing", report)
	Expect(r.log.wrong[:min(10, len(r.log.wrong))]).To(BeEmpty(), "%d of %d tokens do not rise: %v", len(r.log.wrong), r.log.count(), r.mix)
	Expect(r.log.count()).To(BeNumerically(">=", r.goal), r.String())
	Eventually(func() []string { return locksLeft(r.s) }).WithTimeout(2 * soon).Should(BeEmpty())
}

// over tells a worker to stop.
func (r *tokenRun) over(ctx context.Context) bool {
	select {
	case <-r.troubled:
		return r.log.count() >= r.goal || ctx.Err() != nil
	default:
		return ctx.Err() != nil
	}
}

// work takes locks in all ways, and gives them back in most.
func (r *tokenRun) work(ctx context.Context, l ctxlock.Locker, who string) {
	for !r.over(ctx) {
		name, option, over := r.names[rand.N(len(r.names))], fenced, func() {}
		switch n := rand.N(100); {
		case n < 3:
			option.Mode = ctxlock.Force
			over = r.log.breach(name)
		case n < 50:
			option.Mode = ctxlock.Try
		}
		call := r.log.begin(name, fmt.Sprintf("%s, mode %d", who, option.Mode))
		asked, stop := context.WithTimeout(ctx, 5*time.Second)
		held, lock, err := l.Acquire(asked, name, option)
		if err != nil {
			over()
			stop()
			continue
		}
		r.log.enter(call, lock)
		over()
		switch n := rand.N(2000); {
		case n < 2: // for longer than it lives without being extended
			select {
			case <-held.Done():
			case <-time.After(2 * tokenValidity):
			}
		case n < 4: // it is left to run out
			stop()
			time.Sleep(3 * tokenValidity / 2)
		}
		_ = lock.Release(ctx) // the troubles are such that this may fail
		stop()
	}
}

// counted waits until there are counters again: where they are gone and the clock is set back as well, only those lockers know better that have
// seen the last token themselves.
func (r *tokenRun) counted() {
	GinkgoHelper()
	for _, name := range r.names {
		for i := range 2*r.majority - 1 {
			Eventually(func() (any, error) { return r.s.Do("EXISTS", counterOf(int(i), name)) }).WithTimeout(10 * time.Second).Should(BeEquivalentTo(1))
		}
	}
}

// trouble is everything that can come between.
func (r *tokenRun) trouble(ctx context.Context) {
	do := func(args ...string) {
		GinkgoHelper()
		_, err := r.s.Do(args...)
		Expect(err).NotTo(HaveOccurred(), "%q", args)
	}
	all := []func(){
		func() { do("SCRIPT", "FLUSH") },
		func() { do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") },
		func() {
			over := r.log.breach(r.names...)
			do("FLUSHALL")
			over()
			r.counted()
		},
		func() {
			r.p.Stall(lab.Both)
			time.Sleep(2 * tokenValidity)
			r.p.Heal()
		},
		func() { // the counters are there, and are all that keeps the order
			r.s.SetClock(-5 * time.Minute)
			time.Sleep(2 * tokenValidity)
			defer r.log.breach(r.names...)() // keys run out early
			r.s.SetClock(0)
		},
		func() { r.p.Cut() },
		func() {
			for _, name := range r.names {
				do("DEL", counterOf(0, name))
			}
		},
		func() {
			over := r.log.breach(r.names...)
			Expect(r.s.Restart()).To(Succeed())
			over()
			r.counted()
		},
	}
	for round := range 3 {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, cause := range all {
			cause()
			if round > 0 && ctx.Err() != nil {
				return
			}
			time.Sleep(rand.N(2 * tokenValidity)) // a pace, not a wait
		}
	}
}

var _ = Describe("A fencing token", func() {
	It("rises over a hundred thousand holdings, whatever the server and its clients go through", Label("control"), func() {
		together([]*tokenRun{newTokenRun(mix{majority: 1}, 85_000), newTokenRun(mix{majority: 2, noLoop: true}, 15_000)}, (*tokenRun).run)
	})

	forEachMix("rises from holding to holding, and is none where none was asked for", func(m mix) {
		s, name := server(), unique()
		a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
		var last int64
		for i := range 20 {
			l := []ctxlock.Locker{a, b}[i%2]
			token := takeToken(l, name)
			Expect(token).To(BeNumerically(">", last))
			last = token
		}
		_, lock := handle(a, name, ctxlock.AcquireOption{})
		Expect(lock.Token()).To(BeZero())
		_, forced := handle(b, name, ctxlock.AcquireOption{Mode: ctxlock.Force, Fencing: true})
		Expect(forced.Token()).To(BeNumerically(">", last))
		Expect(forced.Release(bg())).To(Succeed())
		Expect(lock.Release(bg())).To(MatchError(ctxlock.ErrLost))
		Eventually(func() []string { return locksLeft(s) }).Should(BeEmpty())
	})

	It("is the time in microseconds, so that nobody need remember it for ever", func() {
		s, name := server(), unique()
		before := time.Now().Add(-time.Second).UnixMicro()
		token := takeToken(locker(plain.option(s.Addr())), name)
		Expect(token).To(And(BeNumerically(">", before), BeNumerically("<", time.Now().Add(time.Second).UnixMicro())))
		Expect(ttl(s, counterOf(0, name))).To(And(BeNumerically(">", 59*time.Minute), BeNumerically("<=", time.Hour+time.Second)))
		setCounter(s, 0, name, token+microseconds(2*time.Hour))
		Expect(takeToken(locker(plain.option(s.Addr())), name)).To(BeNumerically(">", token+microseconds(2*time.Hour)))
		Expect(ttl(s, counterOf(0, name))).To(And(BeNumerically(">", 3*time.Hour-time.Minute), BeNumerically("<=", 3*time.Hour+time.Second)))
	})

	It("takes one round trip with one key, and two with several", func() {
		s := server()
		p := proxy(s)
		// Without NOLOOP, word of the own change may come late, and cost another look.
		for _, m := range []mix{{majority: 1}, {majority: 2, noLoop: true}} {
			option := m.option(p.Addr())
			option.KeyValidity = 10 * time.Second
			a := locker(option)
			takeToken(a, unique()) // the server knows the scripts from here on
			const trip = 400 * time.Millisecond
			p.Delay(trip / 2)
			calls := map[string]int64{"evalsha": int64(len(m.keys("")) * int(m.majority)), "eval": 0, "set": 0}
			before := make(map[string]int64)
			for command := range calls {
				before[command] = s.Calls(command)
			}
			start := time.Now()
			_, lock := handle(a, unique(), fenced)
			took := time.Since(start)
			for command, want := range calls {
				if command != "set" { // those within the script count, too
					Expect(s.Calls(command)-before[command]).To(Equal(want), "%s, %v", command, m)
				}
			}
			trips := time.Duration(m.majority)
			Expect(took).To(And(BeNumerically(">=", trips*trip), BeNumerically("<", (trips+1)*trip)), m.String())
			p.Delay(0)
			Expect(lock.Release(bg())).To(Succeed())
		}
	})

	It("of several keys is the greatest, and is on a majority of them before anybody has it", func() {
		m := mix{majority: 2}
		s := server()
		a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
		for i := range 30 {
			name := unique()
			token := takeToken(a, name)
			most := token + microseconds(time.Hour)
			setCounter(s, i%3, name, most) // one that is ahead of the others
			if i%2 == 0 {
				Expect(s.Do("DEL", counterOf((i+1)%3, name))).To(Equal(int64(1))) // and one that is behind
			}
			_, lock := handle(b, name, fenced)
			counters := counted(s, m, name)
			Expect(lock.Token()).To(BeNumerically(">", most))
			behind := slices.DeleteFunc(slices.Clone(counters), func(c int64) bool { return c >= lock.Token() })
			Expect(len(behind)).To(BeNumerically("<=", 1), "%d is on no majority of %d", lock.Token(), counters)
			Expect(lock.Release(bg())).To(Succeed())
			last := lock.Token()
			for range 3 { // whichever node forgets, the others do not
				Expect(s.Do("DEL", counterOf(rand.N(3), name))).To(BeNumerically("<=", int64(1)))
				for _, l := range []ctxlock.Locker{a, b, locker(m.option(s.Addr()))} {
					next := takeToken(l, name)
					Expect(next).To(BeNumerically(">", last))
					last = next
				}
			}
		}
	})

	Describe("of several keys that cannot be written back", Label("control"), func() {
		// cutOff is a locker whose link stalls when it begins to write a token back, and how long it waits for an answer.
		cutOff := func(s *lab.Server) (l ctxlock.Locker, p *lab.Proxy, patience time.Duration) {
			GinkgoHelper()
			p, patience = proxy(s), validity/2
			option := mix{majority: 2}.option(p.Addr())
			option.TryNextAfter = patience
			l = locker(option)
			takeToken(l, unique())
			p.OnCommand(func(args []string) lab.Action {
				if extends(args) && slices.Contains(args, counterOf(0, "name")) && !slices.Contains(args, "PX") && !slices.Contains(args, "PXAT") {
					p.Stall(lab.Both)
				}
				return lab.Pass
			})
			return l, p, patience
		}

		It("is an error that is not taken for the caller's own, in the time of an attempt", func() {
			s := server()
			a, p, patience := cutOff(s)
			var lock *ctxlock.Lock
			var err error
			Expect(func() {
				_, lock, err = a.Acquire(bg(), "name", ctxlock.AcquireOption{Mode: ctxlock.Try, Fencing: true})
			}).
				To(takeLessThan(2*patience + busy))
			Expect(err).To(MatchError(ContainSubstring("token")))
			Expect(err).NotTo(MatchError(context.DeadlineExceeded))
			Expect(err).NotTo(MatchError(ctxlock.ErrReleased))
			Expect(lock).To(BeNil())
			p.OnCommand(nil)
			p.Heal()
			Eventually(func() []string { return locksLeft(s) }).WithTimeout(validity + soon).Should(BeEmpty())
			takeToken(a, "name")
		})

		It("does not keep a caller whose context has ended", func() {
			s := server()
			a, p, patience := cutOff(s)
			ctx, cancel := context.WithTimeout(bg(), patience/2)
			defer cancel()
			var err error
			Expect(func() { _, _, err = a.Acquire(ctx, "name", fenced) }).To(takeLessThan(patience/2 + busy))
			Expect(err).To(MatchError(context.DeadlineExceeded))
			p.OnCommand(nil)
			p.Heal()
			Eventually(func() []string { return locksLeft(s) }).WithTimeout(validity + soon).Should(BeEmpty())
		})
	})

	It("rises when the server's clock is set back while the counters are there", Label("control"), func() {
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}, {majority: 1, setPX: true}, {majority: 2, polling: true}}, func(m mix) {
			s, name := server(lab.Config{Clock: true}), unique()
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			last := max(takeToken(a, name), takeToken(b, name))
			rises := func(l ctxlock.Locker, how ctxlock.AcquireOption, what string) {
				GinkgoHelper()
				_, lock := handle(l, name, how)
				Expect(lock.Token()).To(BeNumerically(">", last), "%s, %v", what, m)
				last = lock.Token()
				Expect(lock.Release(bg())).To(Succeed())
			}
			for _, back := range []time.Duration{time.Minute, 10 * time.Minute, 50 * time.Minute} {
				s.SetClock(-back)
				rises(a, fenced, fmt.Sprint("the first after it was set back by ", back))
				rises(b, ctxlock.AcquireOption{Mode: ctxlock.Force, Fencing: true}, fmt.Sprint("by force, by another, ", back))
				rises(locker(m.option(s.Addr())), fenced, fmt.Sprint("by one that came after, ", back))
				rises(a, fenced, fmt.Sprint("once more, ", back))
			}
		})
	})

	It("rises when the server is emptied and its clock set back, as long as the locker remembers", Label("control"), func() {
		together([]mix{{majority: 1}, {majority: 2}}, func(m mix) {
			s, name := server(lab.Config{Clock: true}), unique()
			a := locker(m.option(s.Addr()))
			last := takeToken(a, name)
			for _, back := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour} {
				s.SetClock(-back)
				Expect(s.Do("FLUSHALL")).To(Equal("OK"))
				for range 3 {
					token := takeToken(a, name)
					Expect(token).To(BeNumerically(">", last), "%v, %v", back, m)
					last = token
				}
			}
		})
	})

	It("is not pulled back by a failover that lost the last writes", Label("control"), func() {
		r, err := lab.StartReplicated(1, lab.Config{})
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(r.Stop)
		for _, m := range []mix{{majority: 1}, {majority: 2}} {
			name := unique()
			a := locker(m.option(r.Primary.Addr()))
			var last int64
			for i := range 10 {
				if i == 3 && m.majority == 2 {
					r.Link(0).Stall(lab.Down)
				}
				last = takeToken(a, name)
			}
			if m.majority == 1 {
				defer func() {
					token := takeToken(locker(m.option(r.Replicas[0].Addr())), name)
					Expect(token).To(BeNumerically(">", last), m.String())
				}()
				continue
			}
			Expect(r.Promote(0)).To(Succeed())
			behind := counted(r.Replicas[0], m, name)
			Expect(slices.Max(behind)).To(BeNumerically("<", last), "the replica has not heard of the last")
			Expect(takeToken(locker(m.option(r.Replicas[0].Addr())), name)).To(BeNumerically(">", last), m.String())
		}
	})

	Describe("whose counter a stranger has written to", func() {
		strange := map[string][]string{
			"text": {"SET", "garbage"}, "nothing": {"SET", ""}, "a negative number": {"SET", "-5"}, "no number": {"SET", "nan"},
			"infinity": {"SET", "inf"}, "a number beyond all others": {"SET", "9000000000000000000"}, "a list": {"LPUSH", "x"},
		}
		for what, write := range strange {
			It("("+what+") is a clear error at once, and leaves nothing behind", func() {
				for _, m := range []mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}} {
					s, name, other := server(), unique(), unique()
					a := locker(m.option(s.Addr()))
					last := takeToken(a, other)
					for i := range m.majority { // a majority has no use of the others
						_, err := s.Do(write[0], counterOf(int(i), name), write[1])
						Expect(err).NotTo(HaveOccurred())
					}
					before := withoutCounters(s, m, name)
					for _, mode := range []ctxlock.Mode{ctxlock.Wait, ctxlock.Try, ctxlock.Force} {
						var lock *ctxlock.Lock
						var err error
						Expect(func() { _, lock, err = a.Acquire(bg(), name, ctxlock.AcquireOption{Mode: mode, Fencing: true}) }).To(takeLessThan(soon))
						Expect(err).To(MatchError(Or(ContainSubstring("counter of fencing tokens"), ContainSubstring("WRONGTYPE"))), "mode %d, %v", mode, m)
						Expect(store.IsPermanent(err)).To(BeTrue())
						Expect(lock).To(BeNil())
						Eventually(func() []string { return withoutCounters(s, m, name) }).WithTimeout(validity/2).
							Should(ConsistOf(before), "mode %d, %v", mode, m)
					}
					Expect(takeToken(a, other)).To(BeNumerically(">", last), "other names are not affected")
					take(bg(), a.TryWithContext, name).release() // which needs no counter
				}
			})
		}

		It("(the greatest number that is taken for a token) is none of other names' business", func() {
			s, name, other := server(), unique(), unique()
			a := locker(plain.option(s.Addr()))
			for _, counter := range []int64{8_000_000_000_000_000, 9_000_000_000_000_000} {
				setCounter(s, 0, name, counter)
				_, lock, err := a.Acquire(bg(), name, fenced)
				if err == nil {
					Expect(lock.Token()).To(BeNumerically(">", counter))
					Expect(lock.Release(bg())).To(Succeed())
				}
				_, lock, err = a.Acquire(bg(), other, fenced)
				Expect(err).NotTo(HaveOccurred(), "after %d in the counter of another name", counter)
				Expect(lock.Release(bg())).To(Succeed())
				Expect(ttl(s, counterOf(0, other))).To(BeNumerically("<", 2*time.Hour), "after %d in the counter of another name", counter)
			}
		})
	})

	It("refuses the late write of a holder that was cut off", Label("control"), func() {
		together([]mix{{majority: 1}, {majority: 2}}, func(m mix) {
			s, name := server(), unique()
			p := proxy(s)
			a, b := locker(m.option(p.Addr())), locker(m.option(s.Addr()))
			client, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{s.Addr()}})
			Expect(err).NotTo(HaveOccurred())
			defer client.Close()
			resource := fence.Resource{Client: client, Key: "resource"}
			held, first := handle(a, name, fenced)
			_, err = resource.Do(bg(), first.Token(), "SET", "first")
			Expect(err).NotTo(HaveOccurred())
			p.Stall(lab.Both)
			_, second := handle(b, name, fenced)
			Expect(held.Err()).To(HaveOccurred())
			_, err = resource.Do(bg(), second.Token(), "SET", "second")
			Expect(err).NotTo(HaveOccurred())
			_, err = resource.Do(bg(), first.Token(), "SET", "late")
			var stale *fence.StaleError
			Expect(errors.As(err, &stale)).To(BeTrue(), "%v", err)
			Expect([]int64{stale.Token, stale.Seen}).To(Equal([]int64{first.Token(), second.Token()}))
			Expect(s.Do("GET", "resource")).To(Equal("second"))
			p.Heal()
			Expect(first.Release(bg())).To(MatchError(ctxlock.ErrLost))
			Expect(second.Release(bg())).To(Succeed())
		})
	})
})

// isCounter tells whether a key is one of a lock's counters.
func isCounter(m mix, name, key string) bool {
	for i := range m.keys(name) {
		if key == counterOf(i, name) {
			return true
		}
	}
	return false
}

// withoutCounters lists the keys of a server but for a lock's counters.
func withoutCounters(s *lab.Server, m mix, name string) []string {
	GinkgoHelper()
	return slices.DeleteFunc(keysOn(s), func(key string) bool { return isCounter(m, name, key) })
}

var _ = Describe("A fencing token in a cluster", Ordered, ContinueOnFailure, Label("control"), func() {
	var c *inCluster
	BeforeAll(func() { c = startCluster() })
	AfterAll(func() { c.Stop() })

	It("rises whatever the name, or there is a clear error", func() {
		for _, m := range []mix{{majority: 1}, {majority: 2}} {
			a, b := locker(m.option(c.Addrs()...)), locker(m.option(c.Addrs()...))
			for _, name := range []string{"a", "{", "{a}", "a{b}c", "a{b", "{a}{b}", "{{a}}", "a{b}c}", "名前", "\x00", " ", "%s", "a:b"} {
				name = name + unique()
				var last int64
				for i := range 6 {
					token := takeToken([]ctxlock.Locker{a, b}[i%2], name)
					Expect(token).To(BeNumerically(">", last), "%q", name)
					last = token
				}
			}
			for _, name := range []string{"}", "a}b", "}{", "{}", "{}x", "x{}y{z}"} {
				name = unique() + name
				for _, mode := range []ctxlock.Mode{ctxlock.Wait, ctxlock.Try, ctxlock.Force} {
					_, lock, err := a.Acquire(bg(), name, ctxlock.AcquireOption{Mode: mode, Fencing: true})
					Expect(err).To(MatchError(ContainSubstring("brace")), "%q", name)
					Expect(store.IsPermanent(err)).To(BeTrue())
					Expect(lock).To(BeNil())
				}
				take(bg(), a.TryWithContext, name).release()
			}
		}
	})

	It("is not changed by an answer that comes late, and the next is above that, too", func() {
		m := mix{majority: 2}
		for _, node := range c.primaries {
			name := c.nameOn(m, node, 1)
			where := c.where(m, name)
			slow := slices.Index(where, node)
			a, b := locker(m.option(c.Addrs()...)), locker(m.option(c.Addrs()...))
			last := max(takeToken(a, name), takeToken(b, name))
			most := last + microseconds(time.Hour)
			setCounter(node, slow, name, most)
			node.Freeze()
			_, lock := handle(a, name, fenced)
			token := lock.Token()
			Expect(token).To(And(BeNumerically(">", last), BeNumerically("<", most)))
			node.Thaw()
			key := m.keys(name)[slow]
			Eventually(func() (any, error) { return node.Do("GET", key) }).WithTimeout(soon).Should(Equal(lock.Value()))
			Consistently(lock.Token, validity/2).Should(Equal(token))
			Expect(lock.Valid()).To(BeTrue())
			Expect(lock.Release(bg())).To(Succeed())
			next := takeToken(b, name)
			Expect(next).To(BeNumerically(">", token))
			Eventually(func() int64 { return takeToken(b, name) }).WithTimeout(soon).Should(BeNumerically(">", most), "all nodes answer again")
		}
	})

	It("rises among many who want the same names, while nodes stop and go on", func() {
		m, log := mix{majority: 2}, newTokenLog()
		var names []string
		for range 3 {
			names = append(names, unique())
		}
		ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
		defer stop()
		var work sync.WaitGroup
		var failed atomic.Int64
		for range 3 {
			l := locker(m.option(c.Addrs()...))
			for range 3 {
				work.Go(func() {
					defer GinkgoRecover()
					for ctx.Err() == nil {
						name := names[rand.N(len(names))]
						call := log.begin(name, "somebody")
						_, lock, err := l.Acquire(ctx, name, fenced)
						if err != nil {
							failed.Add(1)
							continue
						}
						log.enter(call, lock)
						_ = lock.Release(ctx)
					}
				})
			}
		}
		for i := range 6 {
			node := c.primaries[i%len(c.primaries)]
			node.Freeze()
			time.Sleep(300 * time.Millisecond) // a pace, not a wait
			node.Thaw()
			time.Sleep(300 * time.Millisecond)
		}
		work.Wait()
		GinkgoWriter.Printf("%d holdings, %d failures\n", log.count(), failed.Load())
		Expect(log.wrong).To(BeEmpty(), "of %d", log.count())
		Expect(log.count()).To(BeNumerically(">", 50))
	})
})
