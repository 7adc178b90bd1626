package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// foreignMixes are those in which the hand of another is felt in different ways. The specs here go through all of them at once,
// on one server, because most of their time is spent waiting.
var foreignMixes = []mix{{majority: 1}, {majority: 2}, {majority: 1, noLoop: true}, {majority: 1, polling: true},
	{majority: 2, polling: true}}

// keys are those of a lock.
func (m mix) keys(name string) (keys []string) {
	for i := range int(2*m.majority - 1) {
		keys = append(keys, key(i, name))
	}
	return keys
}

// theirs is a value as valkeylock makes them.
const theirs = "\x81\x07\xffv8\x00\x9d{f\xe2-\x01\x10\xb3\xc6~\x8f\x55\xd0\xa9\x33\x04\x62\x7a\x1c"

// interfere sends a command from the side.
func interfere(s *lab.Server, command ...string) {
	GinkgoHelper()
	_, err := s.Do(command...)
	Expect(err).NotTo(HaveOccurred())
}

// interfereEach sends a command about each of the keys.
func interfereEach(s *lab.Server, keys []string, verb string, args ...string) {
	GinkgoHelper()
	for _, key := range keys {
		interfere(s, append([]string{verb, key}, args...)...)
	}
}

// waiting starts a call of WithContext. Its error comes on the channel; what it got is let go.
func waiting(l ctxlock.Locker, name string) <-chan error {
	done := make(chan error, 1)
	ctx := bg()
	go func() {
		_, cancel, err := l.WithContext(ctx, name)
		cancel()
		done <- err
	}()
	return done
}

var _ = Describe("Foreign keys under the prefix", func() {
	prefix := "valkeylock"
	shapes := func(name string) []string {
		all := []string{
			prefix, prefix + ":", prefix + "::", prefix + ":::", prefix + ":0", prefix + ":0:", prefix + ":w", prefix + ":w:", prefix + ":W:",
			prefix + ":W:{}", prefix + ":W:{" + prefix + ":0:}", prefix + ":W:{" + prefix + ":0:", prefix + ":W:" + name,
			prefix + ":x", prefix + "0:" + name, prefix + name, strings.ToUpper(prefix) + ":0:" + name,
			prefix + ":0:\x00\xff\xfe\r\n", prefix + ":\xc3\x28:" + name,
			prefix + ":0:" + strings.Repeat("n", 1<<20), prefix + ":" + strings.Repeat("9", 1<<20) + ":" + name,
		}
		for _, mark := range []string{"99", "3", "-1", "-0", "+0", "00", "0x", "0x0", "1e0", " 0", "0 ", "٠", "", "w", "W", "ww",
			"9223372036854775807", "9223372036854775808", "99999999999999999999999999", "\x00", "\xff"} {
			all = append(all, prefix+":"+mark+":"+name)
		}
		return all
	}

	for _, m := range foreignMixes[:3] { // those that are told
		It("of any shape may come, change and go while locks are held and waited for ("+m.String()+")", func() {
			s, name := server(), unique()
			a, b := locker(m.option(s.Addr())), locker(m.option(s.Addr()))
			ctx, cancel, err := a.WithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			defer cancel()
			asked := s.Calls("set")
			in := waiting(b, name)
			Eventually(func() int64 { return s.Calls("set") }).Should(BeNumerically(">", asked), "it waits")

			for _, shape := range shapes(name) {
				for _, change := range [][]string{{"SET", "", "PX", "100000"}, {"DEL"}, {"HSET", "field", "value"}, {"PEXPIRE", "1"}} {
					for _, l := range []ctxlock.Locker{a, b} { // what a connection has read, it is told about
						Expect(l.Client().Do(bg(), l.Client().B().Type().Key(shape).Build()).Error()).NotTo(HaveOccurred())
					}
					interfereEach(s, []string{shape}, change[0], change[1:]...)
				}
			}
			Expect(ctx.Err()).NotTo(HaveOccurred())
			Expect(in).NotTo(Receive())
			cancel()
			Eventually(in, validity).Should(Receive(BeNil()))
		})
	}

	It("in the place of a wake key do not keep waiters from getting in, nor make them ask without end", func() {
		s := server()
		var start, finish []func()
		for _, change := range [][]string{
			{"SET", "value"}, {"SET", "value", "PX", "9223372036854"}, {"SET", "value", "PX", "700"}, {"HSET", "field", "value"},
		} {
			for _, crashes := range []bool{false, true} {
				name := unique()
				a, b := locker(plain.option(s.Addr())), locker(plain.option(s.Addr()))
				stay, stop := context.WithCancel(bg())
				ctx, cancel, err := a.WithContext(stay, name)
				Expect(err).NotTo(HaveOccurred())
				interfereEach(s, []string{prefix + ":W:{" + key(0, name) + "}"}, change[0], change[1:]...)
				in := waiting(b, name)
				start = append(start, func() {
					Expect(ctx.Err()).NotTo(HaveOccurred())
					Expect(in).NotTo(Receive())
					if crashes {
						stop() // the key stays, and runs out
					} else {
						cancel()
					}
				})
				finish = append(finish, func() {
					Eventually(in, 3*validity).Should(Receive(BeNil()), "%v, crashes %t", change, crashes)
					stop()
					cancel()
				})
			}
		}
		// Waiters rely on wake keys once they have seen the holder extend, which it does in half of a validity.
		before := s.Commands()
		Consistently(s.Commands, 3*validity/2).Should(BeNumerically("<", before+1000))
		for _, f := range append(start, finish...) {
			f()
		}
	})
})

// meddledLock is a lock of which somebody meddles with the keys.
type meddledLock struct {
	mix
	name   string
	keys   []string
	ctx    context.Context
	cancel context.CancelFunc
}

// meddled is the validity of such locks. Their next extension is half of it away, so what happens within a quarter of it
// was not found out by that.
const meddled = 1600 * time.Millisecond

// soon is when a holder has noticed: at once with tracking, at its next extension without.
func (h meddledLock) soon() time.Duration {
	if h.polling {
		return meddled
	}
	return meddled / 4
}

// meddledLocks takes a lock in each mix.
func meddledLocks() (*lab.Server, []meddledLock) {
	GinkgoHelper()
	s := server()
	var all []meddledLock
	var lockers []ctxlock.Locker
	for _, m := range foreignMixes {
		option := m.option(s.Addr())
		option.KeyValidity = meddled
		lockers = append(lockers, locker(option))
	}
	for i, m := range foreignMixes {
		h := meddledLock{mix: m, name: unique()}
		h.keys = m.keys(h.name)
		var err error
		h.ctx, h.cancel, err = lockers[i].WithContext(bg(), h.name)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(func() { h.cancel() })
		for _, key := range h.keys {
			Eventually(func() int64 { return pttl(s, key) }).Should(BeNumerically(">", 0))
		}
		all = append(all, h)
	}
	return s, all
}

// expectLost checks that the lock is lost soon, and how.
func (h meddledLock) expectLost(reason ctxlock.Reason) {
	GinkgoHelper()
	Eventually(h.ctx.Done(), h.soon()).Should(BeClosed(), h.String())
	var lost *ctxlock.LostError
	Expect(errors.As(context.Cause(h.ctx), &lost)).To(BeTrue(), "%v: %v", h, context.Cause(h.ctx))
	Expect(lost.Reason).To(Equal(reason), h.String())
	Expect(lost.Name).To(Equal(h.name))
	Expect(context.Cause(h.ctx)).To(MatchError(ctxlock.ErrLost))
}

var _ = Describe("A holder whose keys somebody meddles with", func() {
	It("loses the lock when they are deleted, and says so", func() {
		s, all := meddledLocks()
		for _, h := range all {
			interfere(s, append([]string{"DEL"}, h.keys...)...)
		}
		for _, h := range all {
			h.expectLost(ctxlock.Deleted)
			h.cancel()
		}
		Eventually(func() []string { return keysOn(s) }).Should(BeEmpty())
	})

	It("loses the lock when the server is emptied, and says so", func() {
		s, all := meddledLocks()
		interfere(s, "FLUSHALL")
		for _, h := range all {
			h.expectLost(ctxlock.Deleted)
		}
	})

	for _, value := range []string{theirs, ""} {
		It(fmt.Sprintf("loses the lock when they are overwritten with %.4q, says so, and leaves them", value), func() {
			s, all := meddledLocks()
			var foreign []string
			for _, h := range all {
				command := []string{"MSET"}
				for _, key := range h.keys {
					command = append(command, key, value)
				}
				interfere(s, command...)
				foreign = append(foreign, h.keys...)
			}
			for _, h := range all {
				h.expectLost(ctxlock.Taken)
				h.cancel()
			}
			Eventually(func() []string { return keysOn(s) }).Should(ConsistOf(foreign))
			for _, key := range foreign {
				Expect(s.Do("GET", key)).To(Equal(value))
			}
		})
	}

	for _, change := range [][]string{{"PERSIST"}, {"PEXPIRE", "100000"}} {
		It("gives them back their expiry when it was changed by "+change[0], func() {
			s, all := meddledLocks()
			for _, h := range all {
				interfereEach(s, h.keys, change[0], change[1:]...)
			}
			for _, h := range all {
				for _, key := range h.keys {
					Eventually(func() int64 { return pttl(s, key) }, h.soon()).
						Should(And(BeNumerically(">", 0), BeNumerically("<=", (meddled+meddled/8).Milliseconds())), h.String())
				}
				Expect(h.ctx.Err()).NotTo(HaveOccurred())
			}
		})
	}

	It("keeps the lock when their time is cut short if it is told of that, and says how it lost it if not", func() {
		s, all := meddledLocks()
		for _, h := range all {
			if h.polling {
				interfereEach(s, h.keys, "PEXPIRE", "1")
			} else {
				interfereEach(s, h.keys, "PEXPIRE", "300")
			}
		}
		for _, h := range all {
			if h.polling {
				h.expectLost(ctxlock.Deleted)
				continue
			}
			for _, key := range h.keys {
				Expect(pttl(s, key)).To(BeNumerically(">", 0), h.String())
			}
		}
		for _, h := range all {
			if !h.polling {
				Expect(h.ctx.Err()).NotTo(HaveOccurred(), h.String())
			}
		}
	})

	It("keeps the lock while a majority is left, and sets the others again", func() {
		s, all := meddledLocks()
		for _, h := range all {
			if h.majority == 2 {
				interfere(s, "DEL", h.keys[1])
			}
		}
		for _, h := range all {
			if h.majority == 2 {
				Eventually(func() int64 { return pttl(s, h.keys[1]) }, h.soon()+time.Second).Should(BeNumerically(">", 0), h.String())
				interfere(s, "MSET", h.keys[2], theirs, h.keys[0], theirs)
			}
		}
		for _, h := range all {
			if h.majority == 1 {
				h.cancel()
				continue
			}
			h.expectLost(ctxlock.Taken)
		}
	})

	It("loses the lock when they become keys of another type, in time, and says what the server said", func() {
		s, all := meddledLocks()
		for _, h := range all {
			for _, key := range h.keys {
				interfere(s, "HSET", "foreign", "field", "value")
				interfere(s, "RENAME", "foreign", key)
			}
		}
		for _, h := range all {
			Eventually(h.ctx.Done(), meddled).Should(BeClosed(), h.String())
			Expect(context.Cause(h.ctx)).To(And(MatchError(ctxlock.ErrLost), MatchError(ContainSubstring("WRONGTYPE"))), h.String())
			expectServerError(context.Cause(h.ctx))
		}
	})

	It("leaves the one key that another has, and takes it when it is free", func() {
		s, all := meddledLocks()
		for _, h := range all {
			if h.majority == 2 {
				interfere(s, "SET", h.keys[0], theirs)
			}
		}
		Consistently(func(g Gomega) {
			for _, h := range all {
				g.Expect(h.ctx.Err()).NotTo(HaveOccurred(), h.String())
			}
		}, 3*meddled/4).Should(Succeed())
		for _, h := range all {
			if h.majority == 2 {
				Expect(s.Do("GET", h.keys[0])).To(Equal(theirs))
				interfere(s, "DEL", h.keys[0])
				Eventually(func() int64 { return pttl(s, h.keys[0]) }, h.soon()+time.Second).Should(BeNumerically(">", 0), h.String())
			}
			h.cancel()
		}
		Eventually(func() []string { return keysOn(s) }).Should(BeEmpty())
	})
})

var _ = Describe("A lock that somebody holds who is not of ctxlock", func() {
	// held has all keys of a name hold a value, with an expiry or without, and starts to wait for it.
	type held struct {
		mix
		l    ctxlock.Locker
		name string
		keys []string
		in   <-chan error
	}
	hold := func(s *lab.Server, m mix, value string, expiry ...string) *held {
		GinkgoHelper()
		h := &held{mix: m, l: locker(m.option(s.Addr())), name: unique()}
		h.keys = m.keys(h.name)
		interfereEach(s, h.keys, "SET", append([]string{value}, expiry...)...)
		_, _, err := h.l.TryWithContext(bg(), h.name)
		Expect(err).To(MatchError(ctxlock.ErrNotLocked), m.String())
		h.in = waiting(h.l, h.name)
		return h
	}
	let := func(s *lab.Server, all []*held) {
		GinkgoHelper()
		for _, h := range all {
			interfere(s, append([]string{"DEL"}, h.keys...)...)
		}
		for _, h := range all {
			Eventually(h.in, 2*time.Second).Should(Receive(BeNil()), h.String())
		}
		Eventually(func() []string { return keysOn(s) }).Should(BeEmpty())
	}
	stillWaiting := func(all []*held, d time.Duration) {
		GinkgoHelper()
		Consistently(func(g Gomega) {
			for _, h := range all {
				g.Expect(h.in).NotTo(Receive(), h.String())
			}
		}, d).Should(Succeed())
	}

	for _, by := range []struct {
		what string
		set  []string
	}{
		{"a value as valkeylock's", []string{theirs, "PX", "60000"}}, {"an empty value", []string{"", "PX", "60000"}},
		{"a value without expiry", []string{theirs}}, {"an empty value without expiry", []string{""}},
	} {
		It("by "+by.what+" is held by another, and waited for until it is let go", func() {
			s := server()
			var all []*held
			for _, m := range foreignMixes {
				all = append(all, hold(s, m, by.set[0], by.set[1:]...))
			}
			stillWaiting(all, 100*time.Millisecond)
			for _, h := range all {
				Expect(s.Do("GET", h.keys[0])).To(Equal(by.set[0]))
			}
			let(s, all)
		})
	}

	It("may be forced from them", func() {
		s := server()
		var held []context.Context
		for _, m := range foreignMixes {
			name := unique()
			interfereEach(s, m.keys(name), "SET", "")
			ctx, cancel, err := locker(m.option(s.Addr())).ForceWithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			defer cancel()
			held = append(held, ctx)
		}
		Consistently(func(g Gomega) {
			for _, ctx := range held {
				g.Expect(ctx.Err()).NotTo(HaveOccurred())
			}
		}, 11*validity/10).Should(Succeed())
	})

	It("is waited for through whatever they do with it, and without asking more than now and then", func() {
		s := server()
		var all []*held
		for _, m := range foreignMixes {
			all = append(all, hold(s, m, theirs, "PX", "60000"))
		}
		for _, change := range [][]string{
			{"PERSIST"}, {"SET", "another's"}, {"PEXPIRE", "60000"}, {"SET", ""}, {"APPEND", "x"}, {"PEXPIRE", "9223372036854"},
		} {
			for _, h := range all {
				interfereEach(s, h.keys, change[0], change[1:]...)
			}
			stillWaiting(all, 20*time.Millisecond)
		}
		before := s.Commands()
		stillWaiting(all, validity)
		Expect(s.Commands() - before).To(BeNumerically("<", 500))
		for _, h := range all {
			interfereEach(s, h.keys, "PEXPIRE", "50")
		}
		let(s, all)
	})

	It("is looked for when it should have run out, or every few seconds, if nobody is told of its end", func() {
		s := server()
		var all []*held
		for _, expiry := range [][]string{{"PX", "1500"}, nil} {
			asked := s.Calls("pttl")
			h := hold(s, plain, theirs, expiry...)
			Eventually(func() int64 { return s.Calls("pttl") }).Should(BeNumerically(">=", asked+2), "it has tried, and waits")
			client := h.l.Client()
			Expect(client.Do(bg(), client.B().Arbitrary("CLIENT", "TRACKING", "OFF").Build()).Error()).NotTo(HaveOccurred())
			all = append(all, h)
		}
		interfere(s, "DEL", all[1].keys[0])
		Eventually(all[0].in, 3*time.Second).Should(Receive(BeNil()))
		Eventually(all[1].in, 8*time.Second).Should(Receive(BeNil()))
	})
})

var _ = Describe("A server that answers nonsense", func() {
	It("ends what is held in time, lets nobody in, and is got on with again when it comes to its senses", func() {
		s := server()
		var work sync.WaitGroup
		for _, nonsense := range []string{
			"+OK", "+", "-", "-X", "-ERR", "-MOVED", "-ASK 1", "-REDIRECT", "$-1", "$0\r\n", "$2\r\n-1", "$3\r\n\x00\xff\n",
			"_", "*-1", "*0", "*2\r\n+a\r\n:1", "%0", "~0",
			"%1\r\n+a\r\n*1\r\n*1\r\n_", "#t", "#f", ",1.5", ",nan", "(12345678901234567890123456789", "=7\r\ntxt:abc", "!5\r\nERR x", "!0\r\n",
			":0", ":-1", ":-2", ":-3", ":1", ":9223372036854775807", ":-9223372036854775808",
		} {
			name := unique()
			r := newRelay(s)
			l := locker(plain.option(r.address()))
			ctx, cancel, err := l.WithContext(bg(), name)
			Expect(err).NotTo(HaveOccurred())
			defer cancel()
			wait := bg()
			r.say(func(command []string) string {
				switch strings.ToUpper(command[0]) {
				case "HELLO", "CLIENT", "CLUSTER": // connections stay possible
					return ""
				}
				return nonsense + "\r\n"
			})
			work.Go(func() {
				defer GinkgoRecover()
				short, end := context.WithTimeout(wait, 300*time.Millisecond)
				defer end()
				_, release, err := l.WithContext(short, name)
				release()
				Expect(err).To(HaveOccurred(), nonsense)
				_, release, err = l.TryWithContext(wait, name)
				release()
				Expect(err).To(HaveOccurred(), nonsense)
				_, release, _ = l.ForceWithContext(wait, name+"forced") // a server that says yes to all has said yes
				release()
				Eventually(ctx.Done(), 2*validity).Should(BeClosed(), nonsense)
				r.passOn()
				Eventually(func() error {
					_, release, err := l.TryWithContext(wait, name+"again")
					release()
					return err
				}, 5*time.Second).Should(Succeed(), nonsense)
			})
		}
		work.Wait()
	})
})
