package ctxlock_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// remembering makes a locker whose tries may fail from memory.
func remembering(option ctxlock.LockerOption) ctxlock.Locker {
	GinkgoHelper()
	return contending(option, ctxlock.Contention{TryFromMemory: true})
}

// memoryMixes are those with tracking, without which nothing is remembered.
var memoryMixes = []mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}, {majority: 2, noLoop: true}, {majority: 1, setPX: true}}

// refuses sees that a try fails as it should, and gives how long that took.
func refuses(l ctxlock.Locker, name string) time.Duration {
	GinkgoHelper()
	start := time.Now()
	ctx, cancel, err := l.TryWithContext(context.Background(), name) // many of bg() take their time to be cleaned up
	took := time.Since(start)
	Expect(err).To(MatchError(ctxlock.ErrNotLocked))
	expectFailed(ctx, cancel, err)
	Expect(context.Cause(ctx)).To(MatchError(ctxlock.ErrNotLocked))
	return took
}

var _ = Describe("A try from memory", func() {
	It("asks nothing while the lock is held, and the server as soon as it is not", func() {
		s := server()
		together(memoryMixes, func(m mix) {
			p, name := proxy(s), unique()
			option := m.option(p.Addr())
			option.KeyValidity = 20 * time.Second // not extended meanwhile
			l := remembering(option)
			option.ClientOption.InitAddress = []string{s.Addr()}
			other := locker(option)
			for range 3 {
				held := take(bg(), other.WithContext, name)
				Eventually(func() bool { // the first asks, and word of the taking itself may come after its answer
					n := asked(p)
					refuses(l, name)
					return n.Load() == 0
				}).WithTimeout(soon).Should(BeTrue(), m.String())
				n := asked(p)
				for range 1000 {
					refuses(l, name)
				}
				Expect(n.Load()).To(BeZero(), m.String())
				held.release()
				// By the time that word takes.
				Eventually(func() error {
					_, release, err := l.TryWithContext(bg(), name)
					release()
					return err
				}).WithTimeout(busy).WithPolling(time.Millisecond).Should(Succeed(), m.String())
			}
		})
		nothingLeft(s, soon)
	})

	It("gives the error and the context that one who asks would get, with the caller's values", func() {
		s, name := server(), unique()
		other, l, asks := locker(plain.option(s.Addr())), remembering(plain.option(s.Addr())), locker(plain.option(s.Addr()))
		held := take(bg(), other.WithContext, name)
		refuses(l, name)
		type key struct{}
		ctx := context.WithValue(bg(), key{}, "mine")
		ended, cancel, err := l.TryWithContext(ctx, name)
		expectFailed(ended, cancel, err)
		_, _, fromServer := asks.TryWithContext(bg(), name)
		Expect(err.Error()).To(Equal(fromServer.Error()))
		Expect(ended.Value(key{})).To(Equal("mine"))
		_, lock, err := l.Acquire(ctx, name, ctxlock.AcquireOption{Mode: ctxlock.Try})
		Expect(err).To(MatchError(ctxlock.ErrNotLocked))
		Expect(lock).To(BeNil())
		stopped, stop := context.WithCancel(ctx)
		stop()
		_, _, err = l.TryWithContext(stopped, name)
		Expect(err).To(MatchError(context.Canceled), "the caller's own end comes first")
		Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked))
		_, _, err = l.TryWithContext(ctx, "")
		Expect(err).NotTo(MatchError(ctxlock.ErrNotLocked), "and so does a bad name")
		held.release()
		l.Close()
		_, _, err = l.TryWithContext(ctx, name)
		Expect(err).To(MatchError(ctxlock.ErrLockerClosed))
		nothingLeft(s, soon)
	})

	It("is stale for no longer than the key had to live when it was looked at, if nothing arrives any more", Label("control"), func() {
		s := server()
		together(memoryMixes, func(m mix) {
			p, name := proxy(s), unique()
			other, l := locker(m.option(s.Addr())), remembering(m.option(p.Addr()))
			held := take(bg(), other.WithContext, name)
			refuses(l, name)
			p.Stall(lab.Down) // no word comes
			looked := time.Now()
			held.release()
			Expect(refuses(l, name)).To(BeNumerically("<", busy), "it is not true any more, and nobody knows here")
			// From then on it asks, and hears nothing.
			Eventually(func() error {
				short, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
				defer stop()
				_, release, err := l.TryWithContext(short, name)
				release()
				return err
			}).WithTimeout(validity + busy).ShouldNot(MatchError(ctxlock.ErrNotLocked))
			Expect(time.Since(looked)).To(BeNumerically("<", validity+busy), m.String())
			p.Heal()
			Eventually(func() error {
				_, release, err := l.TryWithContext(bg(), name)
				release()
				return err
			}).WithTimeout(soon).Should(Succeed())
		})
		nothingLeft(s, soon)
	})

	It("asks again when the key should have run out, also when the server tells of that late", Label("control"), func() {
		s := server()
		const fill = `for i = 1, 100000 do redis.call("SET", "other:" .. i, "x", "PX", 3600000 + i) end`
		interfere(s, "EVAL", fill, "0")
		together(memoryMixes, func(m mix) {
			name, l := unique(), remembering(m.option(s.Addr()))
			interfereEach(s, m.keys(name), "SET", theirs, "PX", "700")
			expires := time.Now().Add(700 * time.Millisecond)
			refuses(l, name)
			var got time.Time
			Eventually(func() error {
				_, release, err := l.TryWithContext(bg(), name)
				got = time.Now()
				release()
				return err
			}).WithTimeout(soon).WithPolling(5 * time.Millisecond).Should(Succeed())
			Expect(got).To(BeTemporally("<", expires.Add(busy)), m.String())
			Expect(got).To(BeTemporally(">=", expires.Add(-50*time.Millisecond)), m.String())
		})
	})

	It("forgets when its connection is lost, or the server is emptied", Label("control"), func() {
		s := server()
		for _, event := range []string{"cut", "killed", "flushed"} {
			for _, m := range memoryMixes {
				p, name := proxy(s), unique()
				option := m.option(p.Addr())
				option.KeyValidity = 20 * time.Second
				l := remembering(option)
				interfereEach(s, m.keys(name), "SET", theirs, "PX", "20000")
				refuses(l, name)
				interfereEach(s, m.keys(name), "PEXPIRE", "20000")
				refuses(l, name)
				switch event {
				case "cut":
					p.Stall(lab.Down)
					interfereEach(s, m.keys(name), "DEL") // word of this is lost
					p.Cut()
					p.Heal()
				case "killed":
					p.Stall(lab.Down)
					interfereEach(s, m.keys(name), "DEL")
					interfere(s, "CLIENT", "KILL", "TYPE", "normal")
					interfere(s, "CLIENT", "KILL", "TYPE", "pubsub")
					p.Heal()
				case "flushed":
					interfere(s, "FLUSHALL")
				}
				Eventually(func() error {
					_, release, err := l.TryWithContext(bg(), name)
					release()
					return err
				}).WithTimeout(soon).WithPolling(time.Millisecond).Should(Succeed(), "%s, %v", event, m)
				l.Close()
				p.Close()
			}
		}
		nothingLeft(s, soon)
	})

	It("is never about what this very locker has, or had just now", func() {
		s := server()
		together(append(memoryMixes, mix{majority: 1, polling: true}), func(m mix) {
			name, l := unique(), remembering(m.option(s.Addr()))
			values := func() (string, error) { return "own/" + unique(), nil }
			for n := range 100 {
				option := ctxlock.AcquireOption{Mode: ctxlock.Try}
				if n%2 > 0 {
					option.ValueFunc = values
				}
				_, lock, err := l.Acquire(bg(), name, option)
				Expect(err).NotTo(HaveOccurred(), "round %d, %v", n, m)
				refuses(l, name)
				refuses(l, name)
				Expect(lock.Release(bg())).To(Succeed())
			}
			take(bg(), l.TryWithContext, name).release()
			_, lock, err := l.Acquire(bg(), name, ctxlock.AcquireOption{Value: "x"})
			Expect(err).NotTo(HaveOccurred())
			refuses(l, name)
			_, taken, err := l.Acquire(bg(), name, ctxlock.AcquireOption{Mode: ctxlock.Try, From: lock.Value()})
			Expect(err).NotTo(HaveOccurred(), "a handover asks")
			Expect(taken.Release(bg())).To(Succeed())
			_ = lock.Release(bg())
		})
		nothingLeft(s, soon)
	})

	It("does not keep waits and takeovers from asking", func() {
		s := server()
		together(memoryMixes, func(m mix) {
			name, l, other := unique(), remembering(m.option(s.Addr())), locker(m.option(s.Addr()))
			held := take(bg(), other.WithContext, name)
			refuses(l, name)
			forced := take(bg(), l.ForceWithContext, name)
			Expect(end(held, busy)).To(beLost(name, ctxlock.Taken))
			held.release()
			forced.release()
			held = take(bg(), other.WithContext, name)
			refuses(l, name)
			waiter := begin(bg(), l.WithContext, name, nil)
			Consistently(waiter.done, validity/4).ShouldNot(BeClosed())
			held.release()
			waiter.gets(busy).release()
		})
		nothingLeft(s, soon)
	})

	It("is never wrong about success, nor about failure for longer than word takes, while many take and release", func() {
		s := server()
		together([]mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}}, func(m mix) {
			check, room, names := make(map[string]*checker), make(map[string]*room), []string{unique(), unique(), unique()}
			for _, name := range names {
				check[name], room[name] = new(checker), newRoom()
			}
			ctx, end := context.WithTimeout(context.Background(), 2*time.Second)
			defer end()
			var work sync.WaitGroup
			var got, refused [4]atomic.Int64
			for i := range got {
				l := remembering(m.option(s.Addr()))
				work.Go(func() {
					defer GinkgoRecover()
					for n := 0; ctx.Err() == nil; n++ {
						name := names[n%len(names)]
						held, release, err := l.TryWithContext(context.Background(), name)
						if err != nil {
							Expect(err).To(MatchError(ctxlock.ErrNotLocked))
							refused[i].Add(1)
							continue
						}
						check[name].enter(held)
						room[name].visit(held)
						got[i].Add(1)
						release()
					}
				})
			}
			work.Wait()
			for i := range got {
				GinkgoWriter.Println(got[i].Load(), "taken,", refused[i].Load(), "refused:", m)
				Expect(got[i].Load()).To(BeNumerically(">", 10), m.String())
			}
			for _, name := range names {
				check[name].exclusive()
				Expect(room[name].overlaps.Load()).To(BeZero())
				take(bg(), remembering(m.option(s.Addr())).TryWithContext, name).release() // nothing is remembered by one who is new
			}
		})
		nothingLeft(s, soon)
	})

	It("is off by default: every try asks", func() {
		s := server()
		p, name := proxy(s), unique()
		l, other := locker(plain.option(p.Addr())), locker(plain.option(s.Addr()))
		held := take(bg(), other.WithContext, name)
		n := asked(p)
		for range 100 {
			refuses(l, name)
		}
		Expect(n.Load()).To(BeNumerically(">=", 100))
		held.release()
		nothingLeft(s, soon)
	})

	It("remembers so many names and no more, and is right about all", func() {
		s := server()
		l := remembering(ctxlock.LockerOption{KeyMajority: 1, KeyPrefix: "valkeylock", ClientOption: plain.option(s.Addr()).ClientOption})
		const many = 6000 // more than are remembered
		for i := range many {
			interfere(s, "SET", firstKey(fmt.Sprint("many/", i)), theirs, "PX", "60000")
		}
		for range 2 {
			for i := range many {
				_, _, err := l.TryWithContext(context.Background(), fmt.Sprint("many/", i))
				Expect(err).To(MatchError(ctxlock.ErrNotLocked))
			}
		}
		interfere(s, "FLUSHALL")
		Eventually(func() error {
			for i := range many {
				_, release, err := l.TryWithContext(context.Background(), fmt.Sprint("many/", i))
				release()
				if err != nil {
					return err
				}
			}
			return nil
		}).WithTimeout(4 * soon).Should(Succeed())
		nothingLeft(s, soon)
	})
})

func newRoom() *room { return new(room) }
