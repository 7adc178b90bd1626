package ctxlock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// holdEnv has the test binary, when a spec starts it again, hold locks until it is killed: "address number".
const holdEnv = "CTXLOCK_TEST_HOLD"

// TestHoldUntilKilled is not a test but what such a process does; it has nothing to do in any other.
func TestHoldUntilKilled(t *testing.T) {
	address, number, found := strings.Cut(os.Getenv(holdEnv), " ")
	if !found {
		return
	}
	for i, m := range mixes {
		l, err := ctxlock.NewLocker(m.option(address))
		if err == nil {
			_, _, err = l.TryWithContext(context.Background(), crashed(number, i))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin) // ends with the process that started this one, at the latest
}

// crashed is the name of a lock whose holder will crash, one for each mix in each process.
func crashed(process string, i int) string { return fmt.Sprint("crashed/", process, "/", i) }

// holder starts a process that holds a lock for each mix, and returns once it does.
func holder(s *lab.Server, number string) *os.Process {
	GinkgoHelper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHoldUntilKilled$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), holdEnv+"="+s.Addr()+" "+number)
	_, err := cmd.StdinPipe()
	Expect(err).NotTo(HaveOccurred())
	out, err := cmd.StdoutPipe()
	Expect(err).NotTo(HaveOccurred())
	Expect(cmd.Start()).To(Succeed())
	DeferCleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed, and says so
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	Expect(err).NotTo(HaveOccurred())
	Expect(line).To(Equal("held\n"))
	return cmd.Process
}

// noticing is a context that tells when somebody waits for its end.
type noticing struct {
	context.Context
	waited chan struct{}
	once   sync.Once
}

func (n *noticing) Done() <-chan struct{} {
	n.once.Do(func() { close(n.waited) })
	return n.Context.Done()
}

// ending is a context that ends when it is asked for the nth time whether it has ended.
type ending struct {
	context.Context
	stop context.CancelFunc
	left atomic.Int32
}

func (e *ending) Err() error {
	if e.left.Add(-1) == 0 {
		e.stop()
	}
	return e.Context.Err()
}

// deleteKeys deletes a lock's keys behind everybody's back: all at once, since a holder sets single ones again.
func deleteKeys(s *lab.Server, name string, m mix) {
	GinkgoHelper()
	command := []string{"DEL"}
	for i := range 2*m.majority - 1 {
		command = append(command, fmt.Sprintf("valkeylock:%d:%s", i, name))
	}
	_, err := s.Do(command...)
	Expect(err).NotTo(HaveOccurred())
}

var _ = Describe("A holder that crashes", Label("control"), func() {
	It("keeps nobody beyond its key's end, even while 100,000 other keys are waiting for theirs", func() {
		s := server()
		const fill = `for i = 1, 100000 do redis.call("SET", "other:" .. i, "x", "PX", 3600000 + i) end`
		_, err := s.Do("EVAL", fill, "0")
		Expect(err).NotTo(HaveOccurred())
		// The crashes come at different times since the waiters have looked last, and since the holders have extended.
		together(upTo(4), func(n int) {
			number := fmt.Sprint(n)
			process := holder(s, number)
			var waiting sync.WaitGroup
			waiting.Add(len(mixes))
			killed := make(chan struct{})
			go func() {
				defer close(killed)
				waiting.Wait()
				_ = process.Kill()
			}()
			together(upTo(len(mixes)), func(i int) {
				name, m := crashed(number, i), mixes[i]
				key := firstKey(name)
				waiter := begin(bg(), locker(m.option(s.Addr())).WithContext, name, nil)
				Eventually(rises(s, key)).WithTimeout(soon).Should(BeTrue(), "it is extended")
				Consistently(waiter.done, time.Duration(n+3)*validity/8).ShouldNot(BeClosed())
				waiting.Done()
				<-killed
				expires := time.Now().Add(ttl(s, key))
				held := waiter.gets(validity + soon)
				GinkgoWriter.Printf("had %v after the key's end: %v\n", time.Since(expires), m)
				Expect(time.Now()).To(BeTemporally("<", expires.Add(promised+busy)), m.String())
				held.release()
				Expect(ttl(s, key)).To(BeNumerically("<", 0), m.String())
			})
		})
	})
})

var _ = Describe("A caller's context", func() {
	for _, how := range []string{"keeps the lock for work that is still unwinding, until cancel", "keeps the lock until it runs out when nobody calls cancel"} {
		It("that is cancelled ends the lock's context with its cause, and "+how, func() {
			s := server()
			together(mixes, func(m mix) {
				name, check, reason := unique(), new(checker), errors.New("lunch")
				a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
				ctx, stop := context.WithCancelCause(bg())
				first := take(ctx, a.WithContext, name)
				check.enter(first)
				waiter := begin(bg(), b.WithContext, name, check)
				Eventually(rises(s, firstKey(name))).WithTimeout(soon).Should(BeTrue(), "it is extended")

				stop(reason)
				Expect(end(first, busy)).To(Equal(reason))
				Expect(first.Err()).To(MatchError(context.Canceled))
				extended := rises(s, firstKey(name))
				expires := time.Now().Add(ttl(s, firstKey(name)))
				_, _, err := b.TryWithContext(bg(), name)
				Expect(err).To(MatchError(ctxlock.ErrNotLocked))
				if how == "keeps the lock for work that is still unwinding, until cancel" {
					Consistently(waiter.done, validity/4).ShouldNot(BeClosed())
					Expect(extended()).To(BeFalse())
					first.release()
					waiter.gets(soon).release()
				} else {
					// Asking makes the server notice the end at once, and tell the waiter before it would look by itself.
					Eventually(func() bool {
						left := ttl(s, firstKey(name))
						return left < 0 || left > time.Until(expires)+promised // or it is the next holder's
					}).WithTimeout(validity + soon).WithPolling(time.Millisecond).Should(BeTrue())
					second := waiter.gets(validity + soon)
					Expect(time.Now()).To(BeTemporally(">=", expires.Add(-50*time.Millisecond)), "not before the key's end")
					Expect(time.Now()).To(BeTemporally("<", expires.Add(promised+busy)), m.String())
					first.release() // late, and of no effect on the next holder
					Consistently(second.Done(), validity/4).ShouldNot(BeClosed())
					Expect(ttl(s, firstKey(name))).To(BeNumerically(">", 0))
					second.release()
				}
				check.exclusive()
				Expect(context.Cause(first)).To(Equal(reason), "the first cause stays")
			})
			nothingLeft(s, soon)
		})
	}

	It("is what a call reports that it has cut short, at whatever point it ends", func() {
		s := server()
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, polling: true}}, func(m mix) {
			a, b, taken := locker(m.option(s.Addr())), locker(m.option(s.Addr())), unique()
			others := take(bg(), a.WithContext, taken)
			together(upTo(20), func(n int) {
				for _, name := range []string{taken, unique()} {
					ctx := &ending{}
					ctx.Context, ctx.stop = context.WithCancel(bg())
					ctx.left.Store(int32(n + 1))
					time.AfterFunc(validity/4, ctx.stop)
					call := begin(ctx, b.WithContext, name, nil)
					call.returns(soon)
					if name == taken || call.err != nil {
						Expect(call.err).To(MatchError(context.Canceled), "ended when asked for the %dth time, %v", n+1, m)
						Expect(call.Context.Err()).To(HaveOccurred())
					}
					call.release()
				}
			})
			Expect(others.Err()).NotTo(HaveOccurred())
			others.release()
		})
		nothingLeft(s, soon)
	})

	It("whose deadline comes before the key's end ends the lock's context at the deadline, and not the key", func() {
		s := server()
		together(mixes, func(m mix) {
			option := m.option(s.Addr())
			option.KeyValidity = 3 * time.Second
			name, a, b := unique(), locker(option), locker(option)
			deadline := time.Now().Add(500 * time.Millisecond)
			ctx, stop := context.WithDeadline(bg(), deadline)
			defer stop()
			first := take(ctx, a.WithContext, name)
			at, ok := first.Deadline()
			Expect(ok).To(BeTrue())
			Expect(at).To(BeTemporally("<=", deadline))
			Expect(end(first, 500*time.Millisecond+busy)).To(MatchError(context.DeadlineExceeded))
			Expect(time.Now()).To(BeTemporally(">=", deadline))
			Expect(ttl(s, firstKey(name))).To(BeNumerically(">", 0))
			_, _, err := b.TryWithContext(bg(), name)
			Expect(err).To(MatchError(ctxlock.ErrNotLocked))
			first.release()
			take(bg(), b.TryWithContext, name).release()
		})
		nothingLeft(s, soon)
	})
})

var _ = Describe("Waiters", func() {
	const crowd = 1000
	for _, spread := range []string{"for one name", "each for a name of its own"} {
		It(fmt.Sprintf("%s, %d of them, return at once when their context ends", spread, crowd), func() {
			s := server()
			together([]mix{{majority: 1}, {majority: 1, polling: true}}, func(m mix) {
				option := m.option(s.Addr())
				option.KeyValidity = 5 * time.Second
				a, b := locker(option), locker(option)
				held := make(map[string]holding)
				all := bg()
				ctx, stop := context.WithCancel(all)
				defer stop()
				var names []string
				for i := range crowd {
					if i == 0 || spread == "each for a name of its own" {
						names = append(names, unique())
						held[names[i]] = take(all, a.WithContext, names[i])
					} else {
						names = append(names, names[0])
					}
				}
				waiters := make([]*pending, crowd)
				for i := range waiters {
					waited := &noticing{Context: ctx, waited: make(chan struct{})}
					waiters[i] = begin(waited, b.WithContext, names[i], nil)
					<-waited.waited
				}
				start := time.Now()
				stop()
				for _, waiter := range waiters {
					Expect(waiter.fails(soon)).To(MatchError(context.Canceled))
				}
				GinkgoWriter.Printf("%d waiters %s were gone after %v: %v\n", crowd, spread, time.Since(start), m)
				Expect(time.Since(start)).To(BeNumerically("<", time.Second+busy))
				for _, lock := range held {
					Expect(lock.Err()).NotTo(HaveOccurred())
				}
				together(names, func(name string) { held[name].release() })
			})
			nothingLeft(s, soon)
		})
	}

	It("of one process are served in the order in which they came", func() {
		s := server()
		together(mixes, func(m mix) {
			p, name := proxy(s), unique()
			a, b := locker(m.option(s.Addr())), locker(m.option(p.Addr()))
			var asked atomic.Int32
			p.OnCommand(func(args []string) lab.Action {
				if claims(args) {
					asked.Add(1)
				}
				return lab.Pass
			})
			first := take(bg(), a.WithContext, name)
			served, all := make(chan int, 50), bg()
			var waiting sync.WaitGroup
			for i := range cap(served) {
				ctx := &noticing{Context: all, waited: make(chan struct{})}
				waiting.Go(func() {
					defer GinkgoRecover()
					held := take(ctx, b.WithContext, name)
					served <- i
					held.release()
				})
				// It has joined the others when it waits for the end of its context; the first of all, when it has asked again.
				<-ctx.waited
				Eventually(asked.Load).Should(BeNumerically(">=", 2))
			}
			first.release()
			waiting.Wait()
			close(served)
			var order []int
			for i := range served {
				order = append(order, i)
			}
			Expect(order).To(Equal(upTo(cap(served))), m.String())
		})
		nothingLeft(s, soon)
	})

	It("wake promptly after a release, also when the holder extends four times a second", func() {
		s := server()
		watching := slices.DeleteFunc(slices.Clone(mixes), func(m mix) bool { return m.polling })
		together(watching, func(m mix) {
			option := m.option(s.Addr())
			option.ExtendInterval = validity / 4
			name, check := unique(), new(checker)
			a, b := locker(option), locker(option)
			var took []time.Duration
			for range 3 {
				first := take(bg(), a.WithContext, name)
				check.enter(first)
				waiter := begin(bg(), b.WithContext, name, check)
				extended := rises(s, firstKey(name))
				Eventually(extended).WithTimeout(soon).Should(BeTrue(), "it is extended")
				Consistently(waiter.done, validity/3).ShouldNot(BeClosed()) // and once more
				start := time.Now()
				first.release()
				second := waiter.gets(soon)
				took = append(took, time.Since(start))
				second.release()
			}
			check.exclusive()
			slices.Sort(took)
			GinkgoWriter.Printf("woke after %v: %v\n", took, m)
			Expect(took[len(took)/2]).To(BeNumerically("<", 100*time.Millisecond), m.String())
		})
		nothingLeft(s, soon)
	})

	It("that have nothing to do cost a server at most one command a second each, however often the holder extends", func() {
		together([]time.Duration{validity, 5 * validity}, func(life time.Duration) {
			const crowd, span = 50, 4 * time.Second
			s, name := server(), unique()
			p := proxy(s)
			option := plain.option(s.Addr())
			option.KeyValidity, option.ExtendInterval = life, 250*time.Millisecond
			first := take(bg(), locker(option).WithContext, name)
			option.ClientOption.InitAddress = []string{p.Addr()}
			var lookups, pings atomic.Int64 // what waiters sent, and what the client did to see whether the connection stands
			var waiters []*pending
			for range crowd {
				waiters = append(waiters, begin(bg(), locker(option).WithContext, name, nil))
			}
			Consistently(waiters[crowd-1].done, time.Second).ShouldNot(BeClosed()) // until they have settled
			p.OnCommand(func(args []string) lab.Action {
				if args[0] == "PING" {
					pings.Add(1)
				} else {
					lookups.Add(1)
				}
				return lab.Pass
			})
			before, start := s.Commands(), time.Now()
			Consistently(first.Done(), span).ShouldNot(BeClosed())
			all, seconds := s.Commands()-before, time.Since(start).Seconds()
			each, kept := float64(lookups.Load())/crowd/seconds, float64(pings.Load())/crowd/seconds
			GinkgoWriter.Printf("validity %v: %.3f commands a second for each waiter, %.3f of them PINGs; the server saw %.1f a second in all\n",
				life, each+kept, kept, float64(all)/seconds)
			Expect(each + kept).To(BeNumerically("<=", 1))
			first.release()
			together(waiters, func(waiter *pending) { waiter.gets(10 * time.Second).release() })
			nothingLeft(s, soon)
		})
	})

	for _, holder := range []string{"lives", "is cut off"} {
		It("get the lock within a bounded time when somebody deletes its key, and the holder "+holder, Label("control"), func() {
			s := server()
			together(mixes, func(m mix) {
				option := m.option(s.Addr())
				option.ExtendInterval = validity / 4
				p, name := proxy(s), unique()
				b := locker(option)
				option.ClientOption.InitAddress = []string{p.Addr()}
				a := locker(option)
				first := take(bg(), a.WithContext, name)
				waiter := begin(bg(), b.WithContext, name, nil)
				Eventually(rises(s, firstKey(name))).WithTimeout(soon).Should(BeTrue(), "it is extended")
				Consistently(waiter.done, validity/3).ShouldNot(BeClosed()) // and once more: the waiter is quiet
				if holder == "is cut off" {
					p.Stall(lab.Both)
				}
				deleteKeys(s, name, m)
				deleted := time.Now()
				second := waiter.gets(validity + soon)
				GinkgoWriter.Printf("had %v after the deletion: %v\n", time.Since(deleted), m)
				Expect(time.Since(deleted)).To(BeNumerically("<", validity+promised+busy), m.String())
				if holder == "lives" {
					Expect(end(first, soon)).To(Or(beLost(name, ctxlock.Deleted), beLost(name, ctxlock.Taken)))
				} else {
					Expect(end(first, validity+busy)).To(beLost(name, ctxlock.Expired))
				}
				p.Heal()
				first.release()
				Consistently(second.Done(), validity/4).ShouldNot(BeClosed())
				second.release()
			})
			nothingLeft(s, soon)
		})
	}
})

var _ = Describe("cancel", func() {
	It("may be called many times, from anywhere, before, during and after Close", func() {
		s := server()
		together(mixes, func(m mix) {
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			name := unique()
			first := take(bg(), a.WithContext, name)
			first.release()
			Expect(context.Cause(first)).To(MatchError(ctxlock.ErrReleased))
			first.release()

			first = take(bg(), a.WithContext, name)
			together(upTo(100), func(int) { first.release() })
			second := take(bg(), b.TryWithContext, name) // given back, and once only:
			first.release()
			Consistently(second.Done(), validity/10).ShouldNot(BeClosed())
			second.release()

			var all []holding
			ctx := bg()
			for range 100 {
				all = append(all, take(ctx, a.WithContext, unique()))
			}
			start := make(chan struct{})
			var ending sync.WaitGroup
			ending.Go(func() {
				<-start
				a.Close()
			})
			for _, held := range all {
				for range 2 {
					ending.Go(func() {
						<-start
						held.release()
					})
				}
			}
			close(start)
			ending.Wait()
			for _, held := range all {
				Expect(context.Cause(held)).To(Or(MatchError(ctxlock.ErrReleased), MatchError(ctxlock.ErrLockerClosed)))
				Expect(held.release).To(takeLessThan(busy))
			}
		})
		nothingLeft(s, soon)
	})
})

var _ = Describe("Close", func() {
	It("ends what is held and who waits, leaves no key, and may be called again and at the same time", func() {
		s := server()
		together(mixes, func(m mix) {
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			var held []holding
			var names []string
			var waiters []*pending
			ctx := bg()
			for range 50 {
				names = append(names, unique())
				lock := take(ctx, a.WithContext, names[len(names)-1])
				held = append(held, lock)
				waiters = append(waiters, begin(ctx, a.WithContext, names[len(names)-1], nil))
			}
			drained, stop := context.WithCancelCause(bg())
			draining := take(drained, a.WithContext, unique())
			reason := errors.New("lunch")
			stop(reason)
			others := take(bg(), b.WithContext, unique())

			together(upTo(10), func(int) { Expect(a.Close).To(takeLessThan(soon)) })
			for i, lock := range held {
				Expect(lock.Err()).To(HaveOccurred())
				Expect(context.Cause(lock)).To(MatchError(ctxlock.ErrLockerClosed))
				Expect(waiters[i].fails(busy)).To(MatchError(ctxlock.ErrLockerClosed))
				Expect(ttl(s, firstKey(names[i]))).To(BeNumerically("<", 0), "released before Close returned")
				lock.release()
			}
			Expect(context.Cause(draining)).To(Equal(reason))
			draining.release()
			Expect(a.Close).To(takeLessThan(busy))
			for _, how := range []taking{a.WithContext, a.TryWithContext, a.ForceWithContext} {
				Expect(begin(bg(), how, names[0], nil).fails(busy)).To(MatchError(ctxlock.ErrLockerClosed))
			}
			Expect(others.Err()).NotTo(HaveOccurred(), "another locker's lock")
			take(bg(), b.TryWithContext, names[0]).release()
			others.release()
		})
		Expect(keysOn(s)).To(BeEmpty())
	})

	It("does not leave those to wait who wait in another process", func() {
		s := server()
		together(mixes, func(m mix) {
			name, check := unique(), new(checker)
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			check.enter(take(bg(), a.WithContext, name))
			waiter := begin(bg(), b.WithContext, name, check)
			Eventually(rises(s, firstKey(name))).WithTimeout(soon).Should(BeTrue(), "it is extended")
			a.Close()
			waiter.gets(time.Second + busy).release()
			check.exclusive()
		})
		Expect(keysOn(s)).To(BeEmpty())
	})
})

var _ = Describe("The cause of a lock's end", func() {
	It("says what ended it", func() { together(mixes, causes) })
})

// causes goes through the ways in which a lock can end, save for running out.
func causes(m mix) {
	s := server()
	a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
	causeOf := func(ends func(held holding, name string)) (string, error) {
		GinkgoHelper()
		name := unique()
		held := take(bg(), a.WithContext, name)
		Expect(context.Cause(held)).NotTo(HaveOccurred())
		ends(held, name)
		cause := end(held, validity+soon)
		Expect(held.Err()).To(MatchError(context.Canceled))
		held.release()
		Expect(context.Cause(held)).To(Equal(cause), "the first cause stays")
		return name, cause
	}
	_, cause := causeOf(func(held holding, _ string) { held.release() })
	Expect(cause).To(Equal(ctxlock.ErrReleased))

	name, cause := causeOf(func(_ holding, name string) { DeferCleanup(take(bg(), b.ForceWithContext, name).release) })
	Expect(cause).To(beLost(name, ctxlock.Taken))
	name, cause = causeOf(func(_ holding, name string) { DeferCleanup(take(bg(), a.ForceWithContext, name).release) })
	Expect(cause).To(beLost(name, ctxlock.Taken))
	Expect(cause.Error()).To(And(ContainSubstring(name), ContainSubstring("taken")))

	name, cause = causeOf(func(_ holding, name string) { deleteKeys(s, name, m) })
	Expect(cause).To(beLost(name, ctxlock.Deleted))
	Expect(cause).To(MatchError(ctxlock.ErrLost))

	reason := errors.New("lunch")
	ctx, stop := context.WithCancelCause(bg())
	held := take(ctx, a.WithContext, unique())
	stop(reason)
	Expect(end(held, soon)).To(Equal(reason))
	held.release()

	_, cause = causeOf(func(holding, string) { a.Close() })
	Expect(cause).To(Equal(ctxlock.ErrLockerClosed))
}
